//! Routing, decoding, the ledger, starting and stopping.

use std::{net::SocketAddr, time::Duration};

use registrar_fakes::FakeHost;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Counter, End, add, call, host, open, read, request, script, things};

#[tokio::test]
async fn each_vendor_answers_below_its_kind() {
    let host = host().await;
    assert_eq!(host.kinds().collect::<Vec<_>>(), ["counter", "other"]);
    assert_eq!(host.base_url("counter"), format!("http://{}/counter", host.addr()));
    let added = add(&host).await;
    assert_eq!((added.status(), added.json()), (201, json!({ "n": 1, "sent": { "a": 1 } })));
    assert_eq!(call(&host, "GET", "/counter/things", "").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(call(&host, "GET", "/other/things", "").await.json(), json!({ "items": [] }));
    let emptied = call(&host, "DELETE", "/counter/things/", "").await;
    assert_eq!((emptied.status(), emptied.body().as_str(), things(&host)), (204, "", 0));
    for path in ["/nobody/things", "/", "/counterx"] {
        let lost = call(&host, "GET", path, "").await;
        assert_eq!((lost.status(), &lost.json()["vendors"]), (404, &json!(["counter", "other"])), "{path}");
    }
    assert_eq!(call(&host, "GET", "/counter", "").await.json(), json!({ "message": "no such page" }));
}

#[tokio::test]
async fn a_vendor_sees_the_request_decoded_and_is_heard_exactly() {
    let host = host().await;
    let head = "host: v\r\nconnection: close\r\nX-Two: 1\r\nx-two: 2";
    let text = format!("PUT /counter/echo/a%2Fb//%C3%A9?q=x+y%26z HTTP/1.1\r\n{head}\r\n\r\n");
    let got = read(&mut open(&host, &text).await).await;
    let seen = got.json();
    assert_eq!(seen["path"], json!(["echo", "a/b", "", "\u{e9}"]));
    assert_eq!((&seen["query"], &seen["headers"]["x-two"]), (&json!({ "q": "x y&z" }), &json!("1, 2")));
    assert!(got.head().contains("set-cookie: a=1") && got.head().contains("set-cookie: b=2"), "{}", got.head());
    for path in ["/counter/echo/%ff", "/counter/echo/%4", "/counter/echo?q=%ff"] {
        assert_eq!(call(&host, "GET", path, "").await.status(), 400, "{path}");
    }
    assert_eq!(host.ledger(None).len(), 1);
    let broken = call(&host, "GET", "/counter/broken", "").await;
    assert_eq!(broken.status(), 500);
    assert!(broken.body().contains("header field `a`"), "{}", broken.body());
}

#[tokio::test]
async fn bodies_have_a_limit_and_half_a_request_is_none() {
    let host = host().await;
    let whole = call(&host, "POST", "/counter/echo", &"x".repeat(1 << 20)).await;
    assert_eq!((whole.status(), &whole.json()["length"]), (200, &json!(1 << 20)));
    let large = call(&host, "POST", "/counter/echo", &"x".repeat((1 << 20) + 1)).await;
    assert_eq!(large.status(), 413);
    let text = request("POST", "/counter/things", r#"{"a":1}"#);
    let mut half = open(&host, &text[..text.len() - 1]).await;
    half.shutdown().await.unwrap();
    read(&mut half).await;
    assert_eq!((things(&host), host.ledger(None).len()), (0, 1));
}

#[tokio::test]
async fn connections_are_kept() {
    let host = host().await;
    let text = "DELETE /counter/things HTTP/1.1\r\nhost: v\r\n\r\n";
    let mut stream = open(&host, text).await;
    for n in 1..=3 {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 204"));
        assert_eq!(host.ledger(None).len(), n);
        stream.write_all(text.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn the_ledger_tells_what_reached_whom() {
    let host = host().await;
    add(&host).await;
    call(&host, "GET", "/other/things?page=1%262", "no json").await;
    for (fault, when) in [
        (json!({ "type": "empty", "status": 503 }), "before"),
        (json!({ "type": "empty", "status": 503 }), "after"),
        (json!({ "type": "remove", "pointer": "/nothing" }), "after"),
    ] {
        script(&host, json!({ "fault": fault, "when": when }));
        add(&host).await;
    }
    let all = host.ledger(None);
    assert!(all.iter().all(|e| e.at > 1_700_000_000_000 && e.at < 100_000_000_000_000), "milliseconds: {all:?}");
    let shown: Vec<Value> = all
        .iter()
        .map(|entry| {
            let mut entry = serde_json::to_value(entry).unwrap();
            entry.as_object_mut().unwrap().remove("at");
            entry
        })
        .collect();
    let post = |seq: u64, more: Value| {
        let mut entry =
            json!({ "seq": seq, "kind": "counter", "method": "POST", "path": "/things", "request_body": { "a": 1 } });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let get = json!({
        "seq": 2, "kind": "other", "method": "GET", "path": "/things?page=1%262", "committed": true, "status": 200
    });
    assert_eq!(
        shown,
        [
            post(1, json!({ "committed": true, "status": 201 })),
            get,
            post(3, json!({ "committed": false, "fault": "empty" })),
            post(4, json!({ "committed": true, "status": 201, "fault": "empty" })),
            post(5, json!({ "committed": true, "status": 201, "fault": "remove", "missed": true })),
        ]
    );
    assert_eq!(host.ledger(Some("other")).iter().map(|e| e.seq).collect::<Vec<_>>(), [2]);
    host.without_ledger();
    add(&host).await;
    assert_eq!((host.ledger(None).len(), things(&host)), (5, 4));
}

/// The vendor numbers its things and the ledger its entries: under concurrency, both orders are one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ledger_has_the_order_of_the_vendor() {
    let host = host().await;
    let calls: Vec<_> = (0..256)
        .map(|n| (host.addr(), request("POST", "/counter/things", &n.to_string())))
        .map(|(addr, text)| {
            tokio::spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
                stream.write_all(text.as_bytes()).await.unwrap();
                read(&mut stream).await.status()
            })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 201);
    }
    let sent: Vec<Value> = host.fake("counter").unwrap().clients().iter().map(|c| c["sent"].clone()).collect();
    let told: Vec<Value> = host.ledger(None).into_iter().filter_map(|e| e.request_body).collect();
    assert_eq!((sent.len(), &sent), (256, &told));
}

#[tokio::test]
async fn reset_forgets_everything() {
    let host = host().await;
    add(&host).await;
    script(&host, json!({ "fault": { "type": "reset" } }));
    host.reset();
    assert_eq!((things(&host), host.ledger(None).len(), host.faults().len()), (0, 0, 0));
    let first = add(&host).await;
    assert_eq!((first.status(), &first.json()["n"], host.ledger(None)[0].seq), (201, &json!(1), 1));
}

#[tokio::test]
async fn it_starts_on_loopback_and_with_one_fake_of_a_kind() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    for (listen, fakes, why) in [
        (everywhere, vec![], "loopback"),
        (loopback, vec![Counter::fake("counter"), Counter::fake("counter")], "`counter` is taken"),
        (loopback, vec![Counter::fake("_control")], "`_control` is taken"),
    ] {
        let refused = FakeHost::start(listen, fakes).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[tokio::test]
async fn stopping_ends_a_hanging_connection_and_frees_the_address() {
    let host = host().await;
    let addr = host.addr();
    script(&host, json!({ "fault": { "type": "hang" }, "when": "after" }));
    let mut hanging = open(&host, &request("POST", "/counter/things", "{}")).await;
    let idle = open(&host, "").await;
    while host.ledger(None).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(things(&host), 1);
    tokio::time::timeout(Duration::from_secs(10), host.stop()).await.unwrap();
    let got = read(&mut hanging).await;
    assert_eq!((got.raw.as_str(), got.end), ("", End::Fin));
    drop(idle);
    FakeHost::start(addr, vec![]).await.unwrap();
}

#[tokio::test]
async fn dropping_stops_it_too() {
    let host = host().await;
    script(&host, json!({ "fault": { "type": "hang" } }));
    let mut hanging = open(&host, &request("POST", "/counter/things", "{}")).await;
    while host.ledger(None).is_empty() {
        tokio::task::yield_now().await;
    }
    drop(host);
    let got = tokio::time::timeout(Duration::from_secs(10), read(&mut hanging)).await.unwrap();
    assert_eq!((got.raw.as_str(), got.end), ("", End::Fin));
}
