//! Every fault × before and after the vendor's work × create, change and deletion × vendor: the word that the caller is
//! told is true at that moment, and stays true when everything is settled.

use std::time::{Duration, Instant};

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Map, Value, json};

use crate::{
    http::{Answer, JSON},
    running::Gateway,
};

const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

fn faults() -> Vec<(When, Fault)> {
    let status = |status, body: Value| Fault::Status { status, body: Some(body), headers: Map::new() };
    let mut out = Vec::new();
    for when in [When::Before, When::After] {
        for fault in [
            Fault::Reset {},
            Fault::HangUp { ms: 20 },
            Fault::FinMidHeaders {},
            Fault::FinMidBody {},
            status(500, json!({ "message": "failed" })),
            status(503, json!("busy")),
            status(504, json!({})),
            Fault::Html { status: 200 },
            Fault::Html { status: 502 },
            Fault::Empty { status: 200 },
            Fault::Empty { status: 202 },
            Fault::Truncate { bytes: 30 },
            Fault::Redirect { location: "https://elsewhere.example/".to_owned() },
            Fault::GzipBomb { bytes: 4 << 20 },
            Fault::OtherClient {},
        ] {
            out.push((when, fault));
        }
    }
    out.push((When::Before, Fault::TooMany { retry_after: Some("0".to_owned()) }));
    out.push((When::Before, Fault::Unauthorized {}));
    for fault in [
        Fault::Oversize { bytes: 2 << 20 },
        Fault::SlowBytes { ms: 20 },
        Fault::Delay { ms: 100 },
        Fault::ExtraMember {},
        Fault::DuplicateKey { pointer: None },
        Fault::WrongType { pointer: "/client_id".to_owned() },
    ] {
        out.push((When::After, fault));
    }
    out
}

/// A gateway that does not wait long for its vendors.
fn impatient() -> Gateway {
    let mut gateway = Gateway::start();
    gateway.kill();
    gateway.reconfigure("timeout = \"2s\"", "timeout = \"700ms\"");
    gateway.restart(None);
    gateway
}

fn clients_named(gateway: &Gateway, kind: &str, mark: &str) -> usize {
    let clients = gateway.fakes.fake(kind).unwrap().clients();
    clients.iter().filter(|c| c.to_string().contains(mark)).count()
}

/// Waits until the operation is final or waits for a person.
fn settled(gateway: &Gateway, operation: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = gateway.get(&format!("/v1/operations/{operation}")).json();
        let open = matches!(found["state"].as_str(), Some("pending" | "unknown"));
        if !open || found["evidence"]["needs"] == json!("a person") {
            return found;
        }
        assert!(Instant::now() < deadline, "it stayed {found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the caller was told: `performed` for a success.
fn word(answer: &Answer) -> String {
    if answer.status < 300 { "performed".to_owned() } else { answer.text("/outcome") }
}

fn one_vendor(kind: &str) -> usize {
    let gateway = impatient();
    let registration = |mark: &str| {
        json!({ "backend": kind, "metadata": {
            "client_name": mark, "redirect_uris": [format!("https://a.example/{mark}/cb")], "scope": "openid profile",
        } })
    };
    // reads that succeed keep the circuit closed
    let calm = gateway.post("/v1/clients", &registration("calm"));
    assert_eq!(calm.status, 201, "{}", calm.json());
    let steady = || {
        for _ in 0..3 {
            let read = gateway.get(&format!("/v1/clients/{}?source=vendor", calm.text("/id")));
            assert_eq!(read.status, 200, "{}", read.json());
        }
    };
    let mut cases = 0;
    let mut open = Vec::new();
    for (n, (when, fault)) in faults().into_iter().enumerate() {
        let script = |method: &str| {
            gateway.fakes.script(ScriptedFault {
                kind: Some(kind.to_owned()),
                method: Some(method.to_owned()),
                path_contains: Some("client".to_owned()),
                skip: 0,
                times: 1,
                when,
                fault: fault.clone(),
            });
        };
        let what = format!("{kind} {when:?} {fault:?}");
        let mark = format!("m{n}x");
        script("POST");
        let key = ("idempotency-key", mark.as_str());
        let created = gateway.call("POST", "/v1/clients", &[JSON, key], &registration(&mark));
        gateway.fakes.clear_faults();
        let exists = clients_named(&gateway, kind, &format!("/{mark}/"));
        match word(&created).as_str() {
            "performed" => assert_eq!(exists, 1, "{what}"),
            "not_performed" => assert_eq!(exists, 0, "{what}: {}", created.json()),
            unknown => assert_eq!(unknown, "unknown", "{what}"),
        }
        if word(&created) == "unknown" {
            open.push((mark.clone(), created.text("/operation"), exists, what.clone()));
        }
        cases += 1;
        steady();
    }
    for (mark, operation, exists, what) in open {
        let found = settled(&gateway, &operation);
        let listed = gateway.get(&format!("/v1/clients?q={mark}")).json()["items"].as_array().unwrap().len();
        match found["outcome"].as_str().unwrap() {
            "performed" => assert_eq!((exists, listed), (1, 1), "{what}: {found}"),
            "not_performed" => assert_eq!((exists, listed), (0, 0), "{what}: {found}"),
            _ => assert_eq!(kind, "bitgo", "{what}: only there nobody can know: {found}"),
        }
    }
    cases
}

#[test]
fn the_word_about_a_create_is_true_whatever_the_vendor_does() {
    let cases: usize = std::thread::scope(|scope| {
        let vendors = ["authms", "bitgo", "loop", "loginradius"].map(|kind| scope.spawn(move || one_vendor(kind)));
        vendors.into_iter().map(|v| v.join().unwrap()).sum()
    });
    println!("{cases} faults at creation, 0 wrong words");
}

#[test]
fn the_word_about_a_change_and_a_deletion_is_true_whatever_the_vendor_does() {
    let all = faults();
    // a gateway for each part: most of the time is waiting
    let cases: usize = std::thread::scope(|scope| {
        let parts: Vec<_> = all.chunks(7).map(|part| scope.spawn(|| changes_and_deletions(part))).collect();
        parts.into_iter().map(|p| p.join().unwrap()).sum()
    });
    println!("{cases} faults at changes and deletions, 0 wrong words");
}

fn changes_and_deletions(faults: &[(When, Fault)]) -> usize {
    let gateway = impatient();
    let calm = json!({ "backend": "authms", "metadata": { "client_name": "calm", "redirect_uris": ["https://a.example/cb"], "scope": "openid" } });
    let calm = format!("/v1/clients/{}?source=vendor", gateway.post("/v1/clients", &calm).text("/id"));
    let mut cases = 0;
    for (n, (when, fault)) in faults.iter().enumerate() {
        let when = *when;
        let what = format!("{when:?} {fault:?}");
        let created = gateway.post(
            "/v1/clients",
            &json!({ "backend": "authms", "metadata": { "client_name": format!("change {n}"), "redirect_uris": ["https://a.example/cb"], "scope": "openid" } }),
        );
        assert_eq!(created.status, 201, "{what}: {}", created.json());
        let path = format!("/v1/clients/{}", created.text("/id"));
        let client_id = created.text("/client_id");
        for (method, body) in [
            ("PATCH", json!({ "metadata": { "client_uri": format!("https://{n}.example") } })),
            ("DELETE", Value::Null),
        ] {
            gateway.fakes.script(ScriptedFault {
                kind: Some("authms".to_owned()),
                method: Some(if method == "PATCH" { "PUT" } else { method }.to_owned()),
                path_contains: None,
                skip: 0,
                times: 1,
                when,
                fault: fault.clone(),
            });
            let answer = gateway.call(method, &path, &[MERGE], &body);
            gateway.fakes.clear_faults();
            let truth = || {
                let clients = gateway.fakes.fake("authms").unwrap().clients();
                let shown = clients.iter().find(|c| c["client_id"] == json!(client_id) && c["deleted_at"].is_null());
                match method {
                    "PATCH" => shown.is_some_and(|c| c.to_string().contains(&format!("https://{n}.example"))),
                    _ => shown.is_none(),
                }
            };
            let told = word(&answer);
            match told.as_str() {
                "performed" => assert!(truth(), "{method} {what}"),
                "not_performed" => assert!(!truth(), "{method} {what}: {}", answer.json()),
                _ => {
                    let found = settled(&gateway, &answer.text("/operation"));
                    let expected = if truth() { "performed" } else { "not_performed" };
                    assert_eq!(found["outcome"], json!(expected), "{method} {what}: {found}");
                }
            }
            cases += 1;
            for _ in 0..3 {
                assert_eq!(gateway.get(&calm).status, 200, "{what}");
            }
        }
    }
    cases
}
