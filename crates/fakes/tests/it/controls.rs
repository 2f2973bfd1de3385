//! `/_control/`, as curl sees it.

use serde_json::json;

use crate::support::{End, add, call, host, things};

#[tokio::test]
async fn help_says_what_there_is_and_its_examples_work() {
    let host = host().await;
    for path in ["/_control/", "/_control"] {
        let help = call(&host, "GET", path, "").await;
        assert_eq!(help.status(), 200);
        let help = help.json();
        assert_eq!(help["vendors"], json!(["counter", "other"]));
        assert!(help["examples"][0].as_str().unwrap().contains("http://vendor/_control/ledger?kind=counter"));
        for (name, fault) in help["faults"].as_object().unwrap() {
            let scripted = call(&host, "POST", "/_control/faults", &json!({ "fault": fault }).to_string()).await;
            assert_eq!(scripted.status(), 201, "{name}: {}", scripted.body());
        }
        let example = help["examples"][1].as_str().unwrap().split('\'').nth(1).unwrap();
        assert_eq!(call(&host, "POST", "/_control/faults", example).await.status(), 201);
        host.clear_faults();
    }
}

#[tokio::test]
async fn a_fault_is_scripted_listed_played_and_forgotten() {
    let host = host().await;
    let lost = json!({ "kind": "counter", "method": "POST", "when": "after", "fault": { "type": "reset" } });
    let scripted = call(&host, "POST", "/_control/faults", &lost.to_string()).await;
    let full = json!({ "items": [{
        "kind": "counter", "method": "POST", "skip": 0, "times": 1, "when": "after", "fault": { "type": "reset" }
    }] });
    assert_eq!((scripted.status(), scripted.json()), (201, full.clone()));
    assert_eq!(call(&host, "GET", "/_control/faults", "").await.json(), full);
    assert_eq!((add(&host).await.end, things(&host)), (End::Reset, 1));
    assert_eq!(call(&host, "GET", "/_control/faults", "").await.json(), json!({ "items": [] }));

    call(&host, "POST", "/_control/faults", &lost.to_string()).await;
    assert_eq!(call(&host, "DELETE", "/_control/faults", "").await.status(), 204);
    assert_eq!(add(&host).await.status(), 201);
}

#[tokio::test]
async fn ledger_and_clients_are_shown_and_reset() {
    let host = host().await;
    add(&host).await;
    call(&host, "POST", "/other/things", "2").await;
    let count = async |path: &str| call(&host, "GET", path, "").await.json()["items"].as_array().unwrap().len();
    assert_eq!((count("/_control/ledger").await, count("/_control/ledger?kind=other").await), (2, 1));
    assert_eq!(count("/_control/clients").await, 2);
    let clients = call(&host, "GET", "/_control/clients?kind=counter", "").await.json();
    assert_eq!(clients, json!({ "items": [{ "kind": "counter", "client": { "n": 1, "sent": { "a": 1 } } }] }));
    let ledger = call(&host, "GET", "/_control/ledger?kind=other", "").await.json();
    assert_eq!((&ledger["items"][0]["kind"], &ledger["items"][0]["request_body"]), (&json!("other"), &json!(2)));
    assert_eq!(call(&host, "POST", "/_control/reset", "").await.status(), 204);
    assert_eq!((count("/_control/ledger").await, count("/_control/clients").await), (0, 0));
}

#[tokio::test]
async fn mistakes_are_answered_with_what_is_wrong_and_change_nothing() {
    let host = host().await;
    add(&host).await;
    for (method, path, body, status, why) in [
        ("GET", "/_control/ledger?kind=nobody", "", 404, "`nobody`"),
        ("GET", "/_control/nothing", "", 404, "GET /_control/nothing"),
        ("PUT", "/_control/faults", "{}", 404, "PUT /_control/faults"),
        ("GET", "/_control/reset", "", 404, "GET /_control/reset"),
        ("POST", "/_control/reset?kind=other", "", 400, "`kind`"),
        ("GET", "/_control/ledger?knid=other", "", 400, "`knid`"),
        ("POST", "/_control/faults", "{", 400, "EOF"),
        ("POST", "/_control/faults", "{}", 400, "missing field `fault`"),
        ("POST", "/_control/faults", r#"{"fault":{"type":"explode"}}"#, 400, "`explode`, expected one of `hang`"),
        ("POST", "/_control/faults", r#"{"fault":{"type":"delay"}}"#, 400, "missing field `ms`"),
        ("POST", "/_control/faults", r#"{"fault":{"type":"hang"},"time":1}"#, 400, "unknown field `time`"),
        ("POST", "/_control/faults", r#"{"fault":{"type":"hang"},"times":0}"#, 400, "at least 1"),
        ("POST", "/_control/faults", r#"{"fault":{"type":"hang"},"when":"now"}"#, 400, "`now`"),
        ("POST", "/_control/faults", r#"{"fault":{"type":"hang"},"kind":"nobody"}"#, 400, "counter, other"),
        (
            "POST",
            "/_control/faults",
            r#"{"fault":{"type":"extra_member"},"when":"before"}"#,
            400,
            "`when` can only be `after`",
        ),
    ] {
        let refused = call(&host, method, path, body).await;
        let problem = refused.json();
        assert_eq!(refused.status(), status, "{method} {path} {body}");
        assert!(problem["error"].as_str().unwrap().contains(why), "{method} {path} {body}: {problem}");
        assert_eq!(status == 404, problem["vendors"] == json!(["counter", "other"]), "{problem}");
    }
    assert_eq!((things(&host), host.ledger(None).len(), host.faults().len()), (1, 1, 0));
}
