//! What the vendor did and the gateway could not record: whoever asked for it gets it all the same, secret first, and is
//! told; afterwards the record is made, or the operation is found out about.

use serde_json::{Value, json};

use crate::{
    disk::{FULL, Failing, fail},
    exactly_once::{is_final, settled},
    gate::{Gate, Way},
    http::{Answer, JSON, MERGE_PATCH},
    running::Gateway,
    store_faults::start,
};

/// A call that the vendor carries out before the disk is full.
fn unrecorded(
    gateway: &Gateway,
    gate: &Gate,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &Value,
) -> Option<(Answer, Failing)> {
    gate.shut(Way::Back);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| gateway.call(method, path, headers, body));
        gate.wait_for(1);
        let full = fail(gateway, FULL);
        gate.open();
        let answer = caller.join().unwrap();
        full.map(|full| (answer, full))
    })
}

pub(crate) fn known_to_the_vendor(gateway: &Gateway, kind: &str, secret: &str) -> bool {
    gateway.fakes.fake(kind).unwrap().clients().iter().any(|c| c.to_string().contains(secret))
}

fn registered(gateway: &Gateway, kind: &str, method: &str) -> String {
    let metadata = json!({ "client_name": kind, "redirect_uris": ["https://a.example/cb"], "scope": "openid",
        "token_endpoint_auth_method": method });
    let created = gateway.post("/v1/clients", &json!({ "backend": kind, "metadata": metadata }));
    assert_eq!(created.status, 201, "{}", created.json());
    format!("/v1/clients/{}", created.text("/id"))
}

fn operation(gateway: &Gateway, answer: &Answer) -> Value {
    settled(gateway, &answer.text("/operation"), |o| is_final(o) || o["evidence"]["needs"] == json!("a person"))
}

#[test]
fn a_rotated_secret_is_delivered_and_the_next_rotation_settles_the_open_one() {
    let (mut gateway, gate, _) = start();
    for kind in ["authms", "loop", "loginradius"] {
        let path = format!("{}/secret", registered(&gateway, kind, "client_secret_basic"));
        let Some((rotated, full)) = unrecorded(&gateway, &gate, ("POST", &path), &[], &Value::Null) else { return };
        assert_eq!((rotated.status, rotated.text("/warning").as_str()), (200, "not_recorded"), "{}", rotated.json());
        assert!(known_to_the_vendor(&gateway, kind, &rotated.text("/client_secret")), "{kind}");
        assert!(full.failed() > 0);
        gateway.kill();
        drop(full);
        gateway.restart(None);
        let open = operation(&gateway, &rotated);
        assert_eq!((&open["state"], &open["outcome"]), (&json!("unknown"), &json!("unknown")), "{open}");
        let next = gateway.call("POST", &path, &[], &Value::Null);
        assert_eq!((next.status, next.json().get("warning")), (200, None), "{}", next.json());
        assert_eq!(operation(&gateway, &rotated)["evidence"]["superseded_by"], next.json()["operation"]);
    }
}

#[test]
fn a_rotated_secret_is_recorded_when_there_is_space() {
    let (gateway, gate, _) = start();
    let path = format!("{}/secret", registered(&gateway, "loop", "client_secret_basic"));
    let key = [("idempotency-key", "rotate")];
    let Some((rotated, full)) = unrecorded(&gateway, &gate, ("POST", &path), &key, &Value::Null) else { return };
    assert_eq!((rotated.status, rotated.text("/warning").as_str()), (200, "not_recorded"));
    drop(full);
    assert_eq!(operation(&gateway, &rotated)["state"], json!("succeeded"));
    let again = gateway.call("POST", &path, &key, &Value::Null);
    assert_eq!((again.status, again.text("/client_secret")), (200, rotated.text("/client_secret")));
}

/// RFC 7592: a `PUT` that makes a public client confidential is answered with its first secret, and with another token to
/// manage it by, which nothing but the record keeps.
#[test]
fn a_secret_that_a_change_issued_is_delivered() {
    for space in [true, false] {
        let (mut gateway, gate, _) = start();
        let path = registered(&gateway, "rfc7591", "none");
        let change = json!({ "metadata": { "token_endpoint_auth_method": "client_secret_basic" } });
        let key = [MERGE_PATCH, ("idempotency-key", "confide")];
        let Some((changed, full)) = unrecorded(&gateway, &gate, ("PATCH", &path), &key, &change) else { return };
        assert_eq!((changed.status, changed.text("/warning").as_str()), (200, "not_recorded"), "{}", changed.json());
        assert!(known_to_the_vendor(&gateway, "rfc7591", &changed.text("/client_secret")));
        assert!(full.failed() > 0);
        if space {
            drop(full);
            assert_eq!(operation(&gateway, &changed)["state"], json!("succeeded"));
            let live = gateway.get(&format!("{path}?source=vendor"));
            assert_eq!((live.status, &live.json()["drift"]), (200, &json!([])), "{}", live.json());
            let again = gateway.call("PATCH", &path, &key, &change);
            assert_eq!((again.status, again.text("/client_secret")), (200, changed.text("/client_secret")));
        } else {
            // the token to manage the client by is lost with the process: that nobody pretends otherwise is what can be had
            gateway.kill();
            drop(full);
            gateway.restart(None);
            let open = operation(&gateway, &changed);
            assert_eq!((&open["state"], &open["outcome"]), (&json!("unknown"), &json!("unknown")), "{open}");
        }
    }
}

#[test]
fn a_change_or_deletion_that_could_not_be_recorded_says_that_it_was_done() {
    let (mut gateway, gate, _) = start();
    let path = registered(&gateway, "authms", "client_secret_basic");
    let change = json!({ "metadata": { "client_uri": "https://new.example" } });
    for (method, headers, body) in [("PATCH", [MERGE_PATCH], &change), ("DELETE", [JSON], &Value::Null)] {
        let Some((done, full)) = unrecorded(&gateway, &gate, (method, &path), &headers, body) else { return };
        let told = (done.status, done.text("/code"), done.text("/outcome"));
        assert_eq!(told, (500, "partial-failure".to_owned(), "performed".to_owned()), "{}", done.json());
        assert!(full.failed() > 0);
        gateway.kill();
        drop(full);
        gateway.restart(None);
        let found = operation(&gateway, &done);
        assert_eq!((&found["state"], &found["outcome"]), (&json!("succeeded"), &json!("performed")), "{found}");
        let now = gateway.get(&path);
        match method {
            "PATCH" => assert_eq!(now.json()["metadata"]["client_uri"], json!("https://new.example")),
            _ => assert_eq!(now.status, 404),
        }
    }
}

/// The standards face: a client that registers itself has its secret, too, and can manage itself once that is recorded.
#[test]
fn a_client_that_registered_itself_has_its_secret_and_its_token() {
    let (mut gateway, gate, _) = start();
    gateway.kill();
    gateway.reconfigure("name = \"named\"", "name = \"named\"\nregistration = \"open\"");
    gateway.restart(None);
    let body = json!({ "client_name": "Own", "redirect_uris": ["https://a.example/own"], "scope": "openid" });
    let call = ("POST", "/named/register");
    let Some((own, full)) = unrecorded(&gateway, &gate, call, &[JSON], &body) else { return };
    assert_eq!(own.status, 201, "{}", own.json());
    let warning = own.text("/registrar_warnings/0");
    assert!(warning.starts_with("not_recorded: ") && warning.contains("op_"), "{warning}");
    assert!(known_to_the_vendor(&gateway, "loop", &own.text("/client_secret")));
    assert!(full.failed() > 0);
    drop(full);
    let uri = own.text("/registration_client_uri");
    let path = &uri[uri.find("/register/").unwrap()..];
    let bearer = format!("Bearer {}", own.text("/registration_access_token"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let shown = gateway.call("GET", path, &[("authorization", &bearer)], &Value::Null);
        if shown.status == 200 {
            assert_eq!(shown.text("/client_id"), own.text("/client_id"));
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{}", shown.json());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
