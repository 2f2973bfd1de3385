//! What each fault looks like from the other end, and whether the vendor did the work.

use std::time::Duration;

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Map, Value, json};
use tokio::{io::AsyncReadExt as _, time::Instant};

use crate::support::{End, Got, add, call, host, open, request, script, things};

/// What a POST meets with this fault, once where the vendor sees nothing and once where it does the work.
async fn both(fault: Fault) -> [Got; 2] {
    let host = host().await;
    let mut out = Vec::new();
    for (when, done) in [(When::Before, 0), (When::After, 1)] {
        host.script(ScriptedFault {
            kind: Some("counter".to_owned()),
            method: Some("POST".to_owned()),
            path_contains: Some("thing".to_owned()),
            skip: 0,
            times: 1,
            when,
            fault: fault.clone(),
        });
        out.push(add(&host).await);
        assert_eq!(things(&host), done, "{fault:?}");
        let entry = host.ledger(None).pop().unwrap();
        assert_eq!((entry.committed, entry.status), (done == 1, (done == 1).then_some(201)));
        assert!(entry.fault.is_some() && !entry.missed);
    }
    // it was played once each time, and leaves nothing behind
    assert_eq!(add(&host).await.json(), json!({ "n": 2, "sent": { "a": 1 } }));
    out.try_into().unwrap()
}

/// What a POST answers after this fault, and whether the fault missed.
async fn after(fault: Value) -> (Got, bool) {
    let host = host().await;
    script(&host, json!({ "when": "after", "fault": fault }));
    let got = add(&host).await;
    assert_eq!(things(&host), 1);
    (got, host.ledger(None)[0].missed)
}

const THING: &str = r#"{"n":1,"sent":{"a":1}}"#;

#[tokio::test]
async fn reset() {
    for got in both(Fault::Reset {}).await {
        assert_eq!((got.raw.as_str(), got.end), ("", End::Reset));
    }
}

#[tokio::test]
async fn fin_mid_headers() {
    for got in both(Fault::FinMidHeaders {}).await {
        assert_eq!((got.raw.as_str(), got.end), ("HTTP/1.1 201 Created\r\ncontent-ty", End::Fin));
    }
}

#[tokio::test]
async fn fin_mid_body() {
    let [before, after] = both(Fault::FinMidBody {}).await;
    assert!(before.head().contains("content-length: 2") && before.body() == "{", "{before:?}");
    assert!(after.head().contains(&format!("content-length: {}", THING.len())), "{after:?}");
    assert_eq!((after.status(), after.body().as_str(), after.end), (201, &THING[..THING.len() / 2], End::Fin));
    let host = host().await;
    for method in ["DELETE", "HEAD"] {
        script(&host, json!({ "when": "after", "fault": { "type": "fin_mid_body" } }));
        let bodyless = call(&host, method, "/counter/things", "").await;
        assert!(bodyless.raw.starts_with("HTTP/1.1 20") && !bodyless.raw.contains("\r\n\r\n"), "{bodyless:?}");
        assert_eq!(bodyless.end, End::Fin);
    }
}

#[tokio::test]
async fn truncate() {
    let [_, after] = both(Fault::Truncate { bytes: 5 }).await;
    assert!(after.head().contains(&format!("content-length: {}", THING.len())), "{after:?}");
    assert_eq!((after.body().as_str(), after.end), (&THING[..5], End::Fin));
    let [_, all] = both(Fault::Truncate { bytes: 5000 }).await;
    assert!(all.head().contains(&format!("content-length: {}", THING.len() + 1)), "{all:?}");
    assert_eq!(all.body(), THING);
}

#[tokio::test]
async fn status() {
    let mut headers = Map::new();
    headers.insert("X-Vendor".to_owned(), json!("1"));
    headers.insert("Content-Type".to_owned(), json!("application/problem+json"));
    for got in both(Fault::Status { status: 418, body: Some(json!({ "tea": true })), headers }).await {
        assert_eq!((got.status(), got.json()), (418, json!({ "tea": true })));
        assert!(got.head().contains("x-vendor: 1"), "{}", got.head());
        let types: Vec<&str> = got.head().lines().filter(|l| l.starts_with("content-type")).collect();
        assert_eq!(types, ["content-type: application/problem+json"]);
    }
    for got in both(Fault::Status { status: 500, body: Some(json!("oh no")), headers: Map::new() }).await {
        assert_eq!((got.status(), got.body().as_str()), (500, "oh no"));
        assert!(got.head().contains("content-type: text/plain"));
    }
    for got in both(Fault::Status { status: 42, body: None, headers: Map::new() }).await {
        assert_eq!(got.status(), 500);
        assert!(got.body().contains("the status 42"), "{}", got.body());
    }
}

#[tokio::test]
async fn answers_of_somebody_in_between() {
    for got in both(Fault::Html { status: 403 }).await {
        assert!(got.status() == 403 && got.head().contains("content-type: text/html"));
        assert!(got.body().starts_with("<!doctype html>"));
    }
    for got in both(Fault::Empty { status: 201 }).await {
        assert_eq!((got.status(), got.body().as_str()), (201, ""));
    }
    for got in both(Fault::Redirect { location: "http://127.0.0.1:9/x".to_owned() }).await {
        assert!(got.status() == 307 && got.head().contains("location: http://127.0.0.1:9/x"));
    }
    for got in both(Fault::Unauthorized {}).await {
        assert_eq!(got.status(), 401);
    }
    for (retry_after, shown) in [(Some("soon".to_owned()), true), (None, false)] {
        for got in both(Fault::TooMany { retry_after }).await {
            assert_eq!((got.status(), got.head().contains("retry-after: soon")), (429, shown));
        }
    }
}

#[tokio::test]
async fn oversize() {
    let bytes = 3 << 20;
    let [before, after] = both(Fault::Oversize { bytes }).await;
    assert!(!after.head().contains("content-length"), "{}", after.head());
    let thing = after.json();
    assert_eq!((&thing["n"], thing["x_filler"].as_str().unwrap().len()), (&json!(1), bytes));
    assert_eq!(before.json()["x_filler"].as_str().unwrap().len(), bytes);
}

/// More than any memory: nothing of it is made before it is sent.
#[tokio::test]
async fn oversize_is_streamed() {
    let host = host().await;
    script(&host, json!({ "fault": { "type": "oversize", "bytes": u64::MAX } }));
    let mut stream = open(&host, &request("POST", "/counter/things", "{}")).await;
    let mut start = vec![0; 1 << 20];
    stream.read_exact(&mut start).await.unwrap();
    assert!(start.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn changed_members() {
    for (fault, expected) in [
        (json!({ "type": "wrong_type", "pointer": "/sent/a" }), json!({ "n": 1, "sent": { "a": [7] } })),
        (json!({ "type": "rename", "pointer": "/n", "to": "m" }), json!({ "m": 1, "sent": { "a": 1 } })),
        (json!({ "type": "remove", "pointer": "/sent" }), json!({ "n": 1 })),
    ] {
        let (got, missed) = after(fault).await;
        assert_eq!((got.status(), got.json(), missed), (201, expected, false));
        assert!(got.head().contains("content-type: application/json"));
    }
    let (got, missed) = after(json!({ "type": "remove", "pointer": "/nothing" })).await;
    assert_eq!((got.body().as_str(), missed), (THING, true));
}

#[tokio::test]
async fn added_members() {
    let (extra, missed) = after(json!({ "type": "extra_member" })).await;
    let extra = extra.json();
    assert!(extra["x_future_member"].is_string() && extra["sent"]["x_future_member"].is_string() && !missed);
    let (twice, _) = after(json!({ "type": "duplicate_key" })).await;
    assert_eq!(twice.body(), r#"{"n":1,"n":1,"sent":{"a":1}}"#);
    let (twice, _) = after(json!({ "type": "duplicate_key", "pointer": "/sent/a" })).await;
    assert_eq!(twice.body(), r#"{"n":1,"sent":{"a":1,"a":1}}"#);
}

#[tokio::test]
async fn other_client() {
    let host = host().await;
    script(&host, json!({ "fault": { "type": "other_client" } }));
    assert_eq!(add(&host).await.json(), json!({}));
    assert!(host.ledger(None)[0].missed);
    add(&host).await;
    // the other vendor's success is not this vendor's
    call(&host, "POST", "/other/things", "0").await;
    script(&host, json!({ "when": "after", "fault": { "type": "other_client" } }));
    assert_eq!(add(&host).await.json(), json!({ "n": 1, "sent": { "a": 1 } }));
    assert_eq!((things(&host), host.ledger(None).pop().unwrap().missed), (2, false));
}

/// In paused time, waiting costs nothing, and what waits is measured exactly.
#[tokio::test(start_paused = true)]
async fn slow_answers() {
    let hour = Duration::from_secs(3600);
    let host = host().await;
    let mut started = Instant::now();
    script(&host, json!({ "fault": { "type": "delay", "ms": 3_600_000 } }));
    assert_eq!(add(&host).await.body(), THING);
    assert!(started.elapsed() >= hour && things(&host) == 1);

    started = Instant::now();
    script(&host, json!({ "fault": { "type": "slow_bytes", "ms": 3_600_000 } }));
    let slow = add(&host).await;
    assert_eq!(slow.json()["n"], 2);
    assert!(started.elapsed() >= hour * u32::try_from(slow.body().len()).unwrap());
    // every byte is on the wire alone
    assert_eq!(slow.raw.matches("\r\n1\r\n").count(), slow.body().len());

    started = Instant::now();
    script(&host, json!({ "fault": { "type": "hang_up", "ms": 3_600_000 } }));
    let got = add(&host).await;
    assert_eq!((got.raw.as_str(), got.end), ("", End::Fin));
    assert!(started.elapsed() >= hour && things(&host) == 2);
}

#[tokio::test]
async fn scripts_play_for_the_requests_that_they_name() {
    let host = host().await;
    let hit = json!({ "type": "empty", "status": 599 });
    script(
        &host,
        json!({ "kind": "counter", "method": "post", "path_contains": "/thi", "skip": 1, "times": 2, "fault": hit }),
    );
    let mut statuses = Vec::new();
    for (method, path) in [
        ("POST", "/other/things"),
        ("GET", "/counter/things"),
        ("POST", "/counter/echo"),
        ("POST", "/counter/things"),
        ("POST", "/counter/things"),
        ("GET", "/counter/things"),
        ("POST", "/counter/things"),
        ("POST", "/counter/things"),
    ] {
        statuses.push(call(&host, method, path, "{}").await.status());
    }
    assert_eq!(statuses, [201, 200, 200, 201, 599, 200, 599, 201]);
    assert!(host.faults().is_empty());
}

#[tokio::test]
async fn scripts_play_one_after_the_other() {
    let host = host().await;
    for (status, skip) in [(501, 0), (502, 1), (503, 0)] {
        script(&host, json!({ "skip": skip, "fault": { "type": "empty", "status": status } }));
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(add(&host).await.status());
    }
    // 502 lets one through, which 503 meets
    assert_eq!(statuses, [501, 503, 502, 201]);
}

#[tokio::test]
async fn faults_are_forgotten_and_none_is_none() {
    let host = host().await;
    let hang = ScriptedFault {
        kind: None,
        method: None,
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::Before,
        fault: Fault::Hang {},
    };
    host.script(ScriptedFault { times: 0, ..hang.clone() });
    host.script(hang.clone());
    assert_eq!(host.faults(), [hang]);
    host.clear_faults();
    assert_eq!(add(&host).await.status(), 201);
}
