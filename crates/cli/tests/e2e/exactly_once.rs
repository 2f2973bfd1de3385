//! Never lost, never doubled: idempotency keys, lost answers, and a process that dies at the worst moments.

use std::time::{Duration, Instant};

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    http::{Answer, JSON, call},
    running::{Gateway, binary},
};

/// Vendors at which a lost create can be found again.
const SEARCHABLE: [&str; 3] = ["authms", "loop", "loginradius"];

fn registration(backend: &str, name: &str) -> Value {
    json!({ "backend": backend, "metadata": { "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" } })
}

fn keyed(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    gateway.call("POST", "/v1/clients", &[JSON, ("idempotency-key", key)], body)
}

fn fault(kind: &str, method: &str, when: When, fault: Fault) -> ScriptedFault {
    ScriptedFault {
        kind: Some(kind.to_owned()),
        method: Some(method.to_owned()),
        // not the token endpoint
        path_contains: Some("client".to_owned()),
        skip: 0,
        times: 1,
        when,
        fault,
    }
}

/// Waits until the operation is what it is to be.
pub(crate) fn settled(gateway: &Gateway, operation: &str, expected: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = gateway.get(&format!("/v1/operations/{operation}")).json();
        if expected(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "it stayed {found}\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn is_final(operation: &Value) -> bool {
    matches!(operation["state"].as_str(), Some("succeeded" | "failed"))
}

fn clients_at(gateway: &Gateway, kind: &str) -> usize {
    gateway.fakes.fake(kind).unwrap().clients().len()
}

fn creates_at(gateway: &Gateway, kind: &str) -> usize {
    let is_create = |path: &str| !path.contains("/token") && !path.contains("secret");
    gateway.fakes.ledger(Some(kind)).iter().filter(|e| e.method == "POST" && is_create(&e.path)).count()
}

#[test]
fn the_same_key_and_payload_get_the_same_answer_with_the_secret() {
    let mut gateway = Gateway::start();
    let first = keyed(&gateway, "k-1", &registration("loop", "Once"));
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None), "{}", first.json());
    let again = keyed(&gateway, "k-1", &registration("loop", "Once"));
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.json(), first.json(), "secret and all");
    assert_eq!((again.header("location"), again.header("etag")), (first.header("location"), first.header("etag")));
    // members in another order are the same payload
    let mut reordered: serde_json::Map<String, Value> = serde_json::Map::new();
    for (name, value) in registration("loop", "Once").as_object().unwrap().iter().rev() {
        reordered.insert(name.clone(), value.clone());
    }
    assert_eq!(keyed(&gateway, "\"k-1\"", &Value::Object(reordered)).json(), first.json());
    // it survives a kill, because it is sealed in the store
    gateway.kill_and_restart();
    assert_eq!(keyed(&gateway, "k-1", &registration("loop", "Once")).json(), first.json());

    let other = keyed(&gateway, "k-1", &registration("loop", "Other"));
    assert_eq!((other.status, other.text("/code").as_str()), (422, "idempotency-key-reused"));
    assert_eq!(keyed(&gateway, "k-2", &registration("loop", "Once")).status, 201, "another key, another client");
    assert_eq!(creates_at(&gateway, "loop"), 2);
    for bad in ["", "\"\"", &"x".repeat(300)] {
        let refused = keyed(&gateway, bad, &registration("loop", "Once"));
        assert_eq!((refused.status, refused.text("/code").as_str()), (400, "invalid-request"), "{bad:?}");
    }
}

#[test]
fn an_acknowledged_secret_is_destroyed() {
    let gateway = Gateway::start();
    let first = keyed(&gateway, "k", &registration("authms", "Ack"));
    let operation = first.text("/operation");
    let path = format!("/v1/operations/{operation}:acknowledge");
    assert_eq!(gateway.call("POST", &path, &[], &Value::Null).status, 204);
    let again = keyed(&gateway, "k", &registration("authms", "Ack"));
    assert_eq!((again.status, again.json().get("client_secret")), (201, None));
    assert_eq!((again.text("/secret_state").as_str(), again.text("/id")), ("expired", first.text("/id")));
    assert_eq!(again.json()["losses"], first.json()["losses"]);
    assert_eq!(gateway.call("POST", &path, &[], &Value::Null).status, 204, "again, as after a lost answer");
    let nobody = "/v1/operations/op_0198c0de-0000-7000-8000-00000000abcd:acknowledge";
    assert_eq!(gateway.call("POST", nobody, &[], &Value::Null).text("/code"), "operation-not-found");
    let verb = format!("/v1/operations/{operation}:explode");
    assert_eq!(gateway.call("POST", &verb, &[], &Value::Null).status, 404);
}

#[test]
fn sixty_four_equal_requests_at_once_make_one_client() {
    let gateway = Gateway::start();
    gateway.fakes.script(fault("loop", "POST", When::After, Fault::Delay { ms: 200 }));
    let body = registration("loop", "Storm").to_string();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    call(gateway.address, "POST", "/v1/clients", &[JSON, ("idempotency-key", "storm")], body.as_bytes())
                })
            })
            .collect();
        calls.into_iter().map(|c| c.join().unwrap()).collect()
    });
    assert_eq!(creates_at(&gateway, "loop"), 1);
    let done: Vec<&Answer> = answers.iter().filter(|a| a.status == 201).collect();
    assert!(!done.is_empty());
    assert!(done.iter().all(|a| a.json() == done[0].json()), "all the same");
    for waiting in answers.iter().filter(|a| a.status != 201) {
        assert_eq!((waiting.status, waiting.text("/code").as_str()), (409, "idempotency-in-progress"));
        assert_eq!(waiting.text("/outcome"), "unknown", "the write of this key is under way");
        assert_eq!(waiting.header("retry-after"), Some("1"));
        assert_eq!(waiting.text("/operation"), done[0].text("/operation"));
    }
}

#[test]
fn a_key_is_free_again_after_a_failure_that_may_pass_and_kept_after_one_that_will_not() {
    let gateway = Gateway::start();
    let unavailable = Fault::TooMany { retry_after: Some("60".to_owned()) };
    gateway.fakes.script(fault("loop", "POST", When::Before, unavailable));
    let refused = keyed(&gateway, "k", &registration("loop", "Later"));
    assert_eq!((refused.status, refused.text("/outcome").as_str()), (503, "not_performed"), "{}", refused.json());
    let final_refusal =
        Fault::Status { status: 400, body: Some(json!({ "message": "no" })), headers: serde_json::Map::new() };
    gateway.fakes.script(fault("authms", "POST", When::Before, final_refusal));
    let rejected = keyed(&gateway, "k2", &registration("authms", "Never"));
    let again = keyed(&gateway, "k2", &registration("authms", "Never"));
    assert!(rejected.status >= 400, "{}", rejected.json());
    for member in ["/code", "/outcome", "/detail", "/operation"] {
        assert_eq!(again.text(member), rejected.text(member), "the same refusal, from the journal");
    }
    assert_eq!(creates_at(&gateway, "authms"), 1);
}

#[test]
fn rotations_changes_and_deletions_honour_keys_too() {
    let gateway = Gateway::start();
    let created = gateway.post("/v1/clients", &registration("authms", "Keys"));
    let path = format!("/v1/clients/{}", created.text("/id"));
    let key = |k: &'static str| [JSON, ("idempotency-key", k)];
    let rotate = || gateway.call("POST", &format!("{path}/secret"), &[("idempotency-key", "r")], &Value::Null);
    let (first, again) = (rotate(), rotate());
    assert_eq!((first.status, again.json()), (200, first.json()));
    assert_ne!(first.text("/client_secret"), created.text("/client_secret"));

    let merge = [("content-type", "application/merge-patch+json"), ("idempotency-key", "p"), ("if-match", "\"1\"")];
    let patch = || gateway.call("PATCH", &path, &merge, &json!({ "labels": { "team": "x" } }));
    let (first, again) = (patch(), patch());
    assert_eq!((first.status, again.status), (200, 200), "the version that If-Match names is gone, and rightly so");
    assert_eq!(again.json(), first.json());
    // the same key for another call is another request
    let reused = gateway.call("DELETE", &path, &key("p"), &Value::Null);
    assert_eq!((reused.status, reused.text("/code").as_str()), (422, "idempotency-key-reused"));
    let delete = || gateway.call("DELETE", &path, &[("idempotency-key", "d")], &Value::Null).status;
    assert_eq!((delete(), delete()), (204, 204));
}

#[test]
fn a_create_that_was_done_but_not_answered_is_found_and_adopted() {
    for kind in SEARCHABLE {
        for lost in [Fault::Reset {}, Fault::FinMidBody {}, Fault::Html { status: 502 }, Fault::Empty { status: 201 }] {
            let gateway = Gateway::start();
            gateway.fakes.script(fault(kind, "POST", When::After, lost.clone()));
            let unsure = keyed(&gateway, "k", &registration(kind, "Lost"));
            assert_eq!(unsure.text("/outcome"), "unknown", "{kind} {lost:?}: {}", unsure.json());
            let operation = settled(&gateway, &unsure.text("/operation"), is_final);
            assert_eq!(
                (operation["state"].as_str(), operation["outcome"].as_str(), &operation["evidence"]["adopted"]),
                (Some("succeeded"), Some("performed"), &json!(true)),
                "{kind} {lost:?}"
            );
            let listed = gateway.get("/v1/clients").json();
            assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{kind}");
            assert_eq!((clients_at(&gateway, kind), creates_at(&gateway, kind)), (1, 1), "{kind}");
            // the caller asks again, and is told that the secret was never delivered
            let again = keyed(&gateway, "k", &registration(kind, "Lost"));
            assert_eq!((again.status, again.text("/secret_state").as_str()), (201, "undelivered"), "{kind}");
            assert_eq!(again.text("/id"), listed["items"][0]["id"]);
            let path = format!("/v1/clients/{}", again.text("/id"));
            assert_eq!(gateway.get(&format!("{path}?source=vendor")).json()["drift"], json!([]), "{kind}");
            let rotated = gateway.call("POST", &format!("{path}/secret"), &[], &Value::Null);
            assert_eq!(rotated.status, 200, "{kind}: {}", rotated.json());
        }
    }
}

#[test]
fn a_create_that_was_not_done_is_found_out_and_may_be_sent_again() {
    for kind in SEARCHABLE {
        let gateway = Gateway::start();
        gateway.fakes.script(fault(kind, "POST", When::Before, Fault::Reset {}));
        let unsure = keyed(&gateway, "k", &registration(kind, "Never"));
        assert_eq!(unsure.text("/outcome"), "unknown", "{kind}: {}", unsure.json());
        let meanwhile = keyed(&gateway, "k", &registration(kind, "Never"));
        assert_eq!(meanwhile.text("/operation"), unsure.text("/operation"), "{kind}: not sent again while unknown");
        let operation = settled(&gateway, &unsure.text("/operation"), is_final);
        assert_eq!(
            (operation["state"].as_str(), operation["outcome"].as_str()),
            (Some("failed"), Some("not_performed")),
            "{kind}"
        );
        assert_eq!(clients_at(&gateway, kind), 0);
        let again = keyed(&gateway, "k", &registration(kind, "Never"));
        assert_eq!((again.status, clients_at(&gateway, kind)), (201, 1), "{kind}: {}", again.json());
        assert!(again.json()["client_secret"].is_string());
    }
}

/// What looks alike but was there before, or is somebody else's, is left alone.
#[test]
fn only_what_is_provably_ours_is_adopted() {
    let gateway = Gateway::start();
    let ours = gateway.post("/v1/clients", &registration("loop", "Twin"));
    gateway.fakes.script(fault("loop", "POST", When::Before, Fault::Reset {}));
    let unsure = keyed(&gateway, "k", &registration("loop", "Twin"));
    let operation = settled(&gateway, &unsure.text("/operation"), is_final);
    assert_eq!(operation["outcome"], json!("not_performed"), "the registered twin is not it");
    assert_eq!(gateway.get(&format!("/v1/clients/{}", ours.text("/id"))).json()["version"], json!(1));
}

#[test]
fn where_nothing_can_be_found_out_a_person_decides() {
    let gateway = Gateway::start();
    gateway.fakes.script(fault("bitgo", "POST", When::After, Fault::Reset {}));
    let unsure = keyed(&gateway, "k", &registration("bitgo", "Custody"));
    let id = unsure.text("/operation");
    let parked = settled(&gateway, &id, |o| o["evidence"]["needs"] == json!("a person"));
    assert_eq!(parked["state"], json!("unknown"));
    assert_eq!(parked["evidence"]["look_for"]["client_name"], json!("Custody"));

    let path = format!("/v1/operations/{id}:resolve");
    for (bad, code) in [
        (json!({}), "validation-error"),
        (json!({ "absent": false }), "validation-error"),
        (json!({ "adopt": { "client": "x" } }), "validation-error"),
        (json!({ "adopt": { "client_id": "no-such-client" } }), "client-not-found"),
    ] {
        assert_eq!(gateway.post(&path, &bad).text("/code"), code, "{bad}");
    }
    let shown = gateway.fakes.fake("bitgo").unwrap().clients();
    let client_id = shown[0]["clientId"].as_str().unwrap();
    let url = format!("http://{}", gateway.address);
    let output = binary()
        .args(["operations", "resolve", &id, "--adopt", client_id, "--vendor-ref", client_id, "--url", &url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let operation = gateway.get(&format!("/v1/operations/{id}")).json();
    assert_eq!((operation["state"].as_str(), operation["outcome"].as_str()), (Some("succeeded"), Some("performed")));
    assert_eq!(gateway.get("/v1/clients").json()["items"][0]["client_id"], json!(client_id));

    gateway.fakes.script(fault("bitgo", "POST", When::Before, Fault::Reset {}));
    let unsure = keyed(&gateway, "k2", &registration("bitgo", "Custody 2"));
    let id = unsure.text("/operation");
    let absent = binary().args(["operations", "resolve", &id, "--absent", "--url", &url]).output().unwrap();
    assert!(absent.status.success(), "{}", String::from_utf8_lossy(&absent.stderr));
    assert_eq!(keyed(&gateway, "k2", &registration("bitgo", "Custody 2")).status, 201, "the key is free again");
    let late = binary().args(["operations", "resolve", &id, "--absent", "--url", &url]).output().unwrap();
    assert_eq!(late.status.code(), Some(1), "resolved already");
}

#[test]
fn updates_and_deletions_whose_answers_are_lost_are_read_back() {
    let gateway = Gateway::start();
    for when in [When::Before, When::After] {
        let created = gateway.post("/v1/clients", &registration("authms", &format!("Back {when:?}")));
        let path = format!("/v1/clients/{}", created.text("/id"));
        gateway.fakes.script(fault("authms", "PUT", when, Fault::Reset {}));
        let merge = [("content-type", "application/merge-patch+json")];
        let change = json!({ "metadata": { "client_uri": "https://new.example" } });
        let unsure = gateway.call("PATCH", &path, &merge, &change);
        assert_eq!(unsure.text("/outcome"), "unknown", "{}", unsure.json());
        assert_eq!(gateway.get(&path).json()["state"], json!("unknown"));
        let operation = settled(&gateway, &unsure.text("/operation"), is_final);
        let shown = gateway.get(&path).json();
        let expected = if when == When::After { "performed" } else { "not_performed" };
        assert_eq!((operation["outcome"].as_str(), shown["state"].as_str()), (Some(expected), Some("active")));
        assert_eq!(shown["metadata"]["client_uri"].is_string(), when == When::After, "{shown}");
        assert_eq!(gateway.get(&format!("{path}?source=vendor")).json()["drift"], json!([]));

        gateway.fakes.script(fault("authms", "DELETE", when, Fault::Reset {}));
        let unsure = gateway.call("DELETE", &path, &[], &Value::Null);
        assert_eq!(unsure.text("/outcome"), "unknown", "{}", unsure.json());
        let operation = settled(&gateway, &unsure.text("/operation"), is_final);
        assert_eq!(operation["outcome"], json!(expected));
        assert_eq!(gateway.get(&path).status, if when == When::After { 404 } else { 200 });
    }
}

#[test]
fn a_rotation_whose_answer_is_lost_is_settled_by_the_next() {
    let gateway = Gateway::start();
    let created = gateway.post("/v1/clients", &registration("authms", "Rotate"));
    let path = format!("/v1/clients/{}/secret", created.text("/id"));
    gateway.fakes.script(fault("authms", "POST", When::After, Fault::Reset {}));
    let unsure = gateway.call("POST", &path, &[], &Value::Null);
    assert_eq!(unsure.text("/outcome"), "unknown", "{}", unsure.json());
    settled(&gateway, &unsure.text("/operation"), |o| o["evidence"]["needs"] == json!("a person"));
    let next = gateway.call("POST", &path, &[], &Value::Null);
    assert_eq!(next.status, 200, "{}", next.json());
    let closed = gateway.get(&format!("/v1/operations/{}", unsure.text("/operation"))).json();
    assert_eq!((closed["state"].as_str(), closed["outcome"].as_str()), (Some("failed"), Some("unknown")));
    assert_eq!(closed["evidence"]["superseded_by"], next.json()["operation"]);
}

/// The process dies between any two steps of a create; afterwards nothing is lost, doubled or orphaned.
#[test]
fn a_death_at_every_failpoint_loses_and_doubles_nothing() {
    for kind in ["authms", "bitgo", "loop", "loginradius"] {
        for failpoint in ["intent", "answered", "recorded"] {
            let mut gateway = Gateway::start();
            gateway.kill();
            gateway.restart(Some(failpoint));
            let body = registration(kind, "Mortal").to_string();
            let headers = format!(
                "POST /v1/clients HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n{body}",
                gateway.address,
                body.len()
            );
            assert!(crate::http::raw(gateway.address, headers.as_bytes()).is_none(), "{kind} {failpoint}: it answered");
            gateway.wait();
            gateway.restart(None);
            let again = || keyed(&gateway, "k", &registration(kind, "Mortal"));
            let first = again();
            if first.status != 201 {
                assert_eq!(first.text("/code"), "outcome-unknown", "{kind} {failpoint}: {}", first.json());
                let id = first.text("/operation");
                if kind == "bitgo" {
                    let parked = settled(&gateway, &id, |o| o["evidence"]["needs"] == json!("a person"));
                    assert_eq!(parked["state"], json!("unknown"), "listed, never guessed");
                    assert_eq!(clients_at(&gateway, kind), usize::from(failpoint != "intent"));
                    continue;
                }
                settled(&gateway, &id, is_final);
            }
            let last = again();
            assert_eq!(last.status, 201, "{kind} {failpoint}: {}", last.json());
            assert_eq!(clients_at(&gateway, kind), 1, "{kind} {failpoint}: one at the vendor");
            let listed = gateway.get("/v1/clients").json();
            assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{kind} {failpoint}: one in the registry");
            // the secret is there unless the answer that held it was lost with the process
            let expected = if failpoint == "answered" { None } else { Some("client_secret") };
            assert_eq!(
                expected.is_some(),
                last.json().get("client_secret").is_some(),
                "{kind} {failpoint}: {}",
                last.json()
            );
        }
    }
}
