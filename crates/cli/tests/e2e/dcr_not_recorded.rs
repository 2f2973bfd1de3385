//! The standards face where a result cannot be recorded, or where whoever asked for it has left: what the vendor did, the
//! software statement, the secret and the tokens stay together.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, Own, gateway, register, with},
    dcr_statements::Directory,
    disk::{FULL, Failing, fail},
    exactly_once::{is_final, settled},
    gate::{Gate, Way},
    http::Answer,
    not_recorded::known_to_the_vendor,
    running::Gateway,
    store_faults::behind_a_gate,
};

/// No space for the three tries while the caller waits; afterwards there is.
const FULL_FOR_A_MOMENT: &str = "pwrite64:error=ENOSPC:when=1..3";

/// An update that the vendor carries out before the disk is full.
fn unrecorded(gateway: &Gateway, gate: &Gate, own: &Own, body: &Value, how: &str) -> Option<(Answer, Failing)> {
    gate.shut_for("PUT", Way::Back);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| own.call(gateway, "PUT", body));
        gate.wait_for(1);
        let full = fail(gateway, how);
        gate.open();
        let answer = caller.join().unwrap();
        full.map(|full| (answer, full))
    })
}

/// An update that the vendor carries out, and whose caller leaves before the answer.
fn left(gateway: &Gateway, gate: &Gate, own: &Own, body: &Value) {
    gate.shut_for("PUT", Way::Back);
    let body = body.to_string();
    let mut caller = TcpStream::connect(gateway.address).unwrap();
    write!(
        caller,
        "PUT {} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        own.path,
        own.token,
        body.len()
    )
    .unwrap();
    gate.wait_for(1);
    drop(caller);
    // the gateway notices; if it should not yet, nothing that is asserted below changes
    std::thread::sleep(Duration::from_millis(200));
}

/// Until what is shown to the client is this.
fn shows(gateway: &Gateway, own: &Own, member: &str, value: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let shown = own.get(gateway);
        if shown.status == 200 && shown.json()[member] == value {
            return shown.json();
        }
        assert!(Instant::now() < deadline, "{}", shown.json());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The operation that an answer says is not recorded.
fn not_recorded(answer: &Answer) -> String {
    let warnings = answer.json()["registrar_warnings"].clone();
    let all = warnings.as_array().cloned().unwrap_or_default();
    let text = all.iter().filter_map(Value::as_str).find(|text| text.starts_with("not_recorded: "));
    let text = text.unwrap_or_else(|| panic!("no warning in {}", answer.json()));
    text.split(' ').find(|word| word.starts_with("op_")).unwrap().to_owned()
}

fn public(statement: Option<&String>) -> Value {
    with(json!({ "token_endpoint_auth_method": "none", "software_statement": statement }))
}

fn confidential(own: &Own, statement: Option<&String>) -> Value {
    own.update(json!({ "token_endpoint_auth_method": "client_secret_basic", "software_statement": statement }))
}

/// A public client becomes confidential, and somebody else vouches for it: the secret is shown once, and the vendor's new
/// token to manage it by is kept nowhere but in the record.
#[test]
fn an_update_with_another_statement_is_answered_and_recorded_as_a_whole() {
    let directory = Directory::new();
    let (gateway, gate) = behind_a_gate(directory.gateway_with(""));
    let older = directory.sign(json!({"client_name": "Older"}));
    let newer = directory.sign(json!({"client_name": "Newer"}));
    let own = register(&gateway, "rfc7591", &public(Some(&older)));
    let change = confidential(&own, Some(&newer));
    let Some((changed, full)) = unrecorded(&gateway, &gate, &own, &change, FULL) else { return };
    assert_eq!(changed.status, 200, "{}", changed.json());
    assert!(known_to_the_vendor(&gateway, "rfc7591", &changed.text("/client_secret")));
    assert_eq!(
        (changed.text("/client_name"), changed.text("/software_statement")),
        ("Newer".to_owned(), newer.clone())
    );
    assert!(full.failed() > 0);
    let operation = not_recorded(&changed);
    drop(full);
    assert_eq!(settled(&gateway, &operation, is_final)["state"], "succeeded");
    // this asks the vendor, too
    let shown = own.get(&gateway);
    assert_eq!((shown.status, shown.text("/client_name")), (200, "Newer".to_owned()), "{}", shown.json());
    assert_eq!(shown.text("/software_statement"), newer);
    // and the secret is known: an update may show it (RFC 7592 section 2.2)
    let mut again = confidential(&own, None);
    again["client_secret"] = changed.json()["client_secret"].clone();
    let again = own.call(&gateway, "PUT", &again);
    assert_eq!((again.status, again.json().get("registrar_warnings")), (200, None), "{}", again.json());
}

/// One version of the record: with a second change on its heels, the first could not be recorded later.
#[test]
fn an_update_is_one_version_of_the_record() {
    let directory = Directory::new();
    let gateway = directory.gateway_with("");
    let own = register(&gateway, "rfc7591", &with(json!({})));
    let version = || gateway.get(&format!("/v1/clients/{}", own.id())).json()["version"].as_u64().unwrap();
    let before = version();
    let statement = directory.sign(json!({"client_name": "Vouched"}));
    let changed = own.call(&gateway, "PUT", &own.update(json!({ "software_statement": statement })));
    assert_eq!((changed.status, changed.text("/software_statement")), (200, statement));
    assert_eq!(version(), before + 1);
}

#[test]
fn a_caller_who_leaves_does_not_part_the_claims_from_their_statement() {
    let directory = Directory::new();
    let (gateway, gate) = behind_a_gate(directory.gateway_with(""));
    let older = directory.sign(json!({"client_name": "Older"}));
    let newer = directory.sign(json!({"client_name": "Newer"}));
    let own = register(&gateway, "rfc7591", &with(json!({ "software_statement": older })));
    left(&gateway, &gate, &own, &own.update(json!({ "software_statement": newer })));
    gate.open();
    assert_eq!(shows(&gateway, &own, "client_name", "Newer")["software_statement"], newer.as_str());
}

/// While an update is at the vendor that makes a client this software, nobody else becomes it, whether its caller waits
/// or not.
#[test]
fn a_caller_who_leaves_does_not_let_a_second_instance_in() {
    let (gateway, gate) = behind_a_gate(gateway(&format!("{OPEN}\nsingle_instance = true"), ""));
    let software = |version: &str| json!({ "software_id": "a", "software_version": version });
    let own = register(&gateway, "rfc7591", &with(software("1")));
    left(&gateway, &gate, &own, &own.update(software("2")));
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let (body, gateway) = (with(software("2")), &gateway);
        scope.spawn(move || tell.send(gateway.post("/rfc7591/register", &body)).unwrap());
        let early = told.recv_timeout(Duration::from_secs(1)).ok();
        gate.open();
        let second = early.unwrap_or_else(|| told.recv().unwrap());
        assert_eq!((second.status, second.text("/error")), (400, "invalid_client_metadata".to_owned()));
    });
    shows(&gateway, &own, "software_version", "2");
}

/// A new token would take the version that the update is to have when it is recorded.
#[test]
fn a_token_is_not_renewed_before_the_update_is_recorded() {
    let registration = format!("{OPEN}\nrotate_access_tokens = true");
    let (gateway, gate) = behind_a_gate(gateway(&registration, ""));
    let own = register(&gateway, "rfc7591", &public(None));
    let change = confidential(&own, None);
    let Some((changed, full)) = unrecorded(&gateway, &gate, &own, &change, FULL_FOR_A_MOMENT) else { return };
    assert_eq!(changed.status, 200, "{}", changed.json());
    assert_eq!(full.failed(), 3, "{:?}", full.calls());
    drop(full);
    let own = Own { token: changed.text("/registration_access_token"), ..own };
    let shown = shows(&gateway, &own, "token_endpoint_auth_method", "client_secret_basic");
    assert_eq!(shown["client_id"], changed.json()["client_id"]);
    assert_eq!(settled(&gateway, &not_recorded(&changed), is_final)["state"], "succeeded");
    // and what is recorded brings the next token as always
    let again = own.call(&gateway, "PUT", &confidential(&own, None));
    assert_eq!(again.status, 200, "{}", again.json());
    assert_ne!(again.text("/registration_access_token"), own.token);
}

/// The same for a secret that an administrator rotates, when the client shows the token before its current one.
#[test]
fn a_token_is_not_renewed_before_a_rotation_is_recorded() {
    let registration = format!("{OPEN}\nrotate_access_tokens = true");
    let (gateway, gate) = behind_a_gate(gateway(&registration, ""));
    let own = register(&gateway, "loop", &with(json!({})));
    let changed = own.call(&gateway, "PUT", &own.update(json!({ "client_name": "Changed" })));
    assert_eq!(changed.status, 200, "{}", changed.json());
    assert_ne!(changed.text("/registration_access_token"), own.token);
    gate.shut(Way::Back);
    let (rotated, full) = std::thread::scope(|scope| {
        let path = format!("/v1/clients/{}/secret", own.id());
        let gateway = &gateway;
        let caller = scope.spawn(move || gateway.call("POST", &path, &[], &Value::Null));
        gate.wait_for(1);
        let full = fail(gateway, FULL_FOR_A_MOMENT);
        gate.open();
        (caller.join().unwrap(), full)
    });
    let Some(full) = full else { return };
    assert_eq!((rotated.status, rotated.text("/warning").as_str()), (200, "not_recorded"), "{}", rotated.json());
    // before the next try, which is a second later
    let shown = own.get(&gateway);
    assert_eq!((shown.status, shown.text("/registration_access_token")), (200, own.token.clone()), "{}", shown.json());
    assert_eq!(full.failed(), 3, "{:?}", full.calls());
    drop(full);
    assert_eq!(settled(&gateway, &rotated.text("/operation"), is_final)["state"], "succeeded");
    let shown = own.get(&gateway);
    assert_eq!(shown.status, 200, "{}", shown.json());
    assert_ne!(shown.text("/registration_access_token"), own.token);
}
