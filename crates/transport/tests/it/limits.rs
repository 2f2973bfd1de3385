//! The pace of a backend: its own limit, and the pauses that its vendor asks for.

use std::{sync::Arc, time::Duration};

use registrar_core::{Effect, ErrorKind, Outcome};
use registrar_transport::{BackendOptions, Transport, TransportSetupError};

use crate::support::{Reply, Server, answer, bearer, begin, get, measured, open, options, pass, post};

#[tokio::test]
async fn calls_wait_for_their_turn_and_are_refused_when_it_is_too_late() {
    let server = Server::start(|_| Reply::Keep(answer(200, "", "{}"))).await;
    let mut slow = options(&server.url, bearer());
    slow.rate_limit = Some(1);
    let backend = open(slow);
    // a turn each second, and 24 of the 30 s for waiting
    let calls: Vec<_> = (0..25).map(|_| begin(&backend, post(server.at("/"), Effect::Once))).collect();
    server.wait_for(1).await;
    let error = backend.http.send(post(server.at("/"), Effect::Once)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamRateLimited, Outcome::NotPerformed));
    assert!(error.is_retryable() && error.detail().contains("rate_limit"), "{error}");
    assert!(error.retry_after() > Some(Duration::from_secs(20)), "{error:?}");
    assert!(server.seen().len() < 10);
    pass(15).await;
    server.wait_for(15).await;
    assert!(server.seen().len() < 25, "the others still wait");
    pass(9).await;
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    assert_eq!(server.seen().len(), 25);
}

#[test]
fn a_pause_beyond_the_deadline_refuses_every_call_at_once() {
    let metrics = measured(async {
        let server = Server::start(|_| Reply::Keep(answer(429, "retry-after: 100\r\n", ""))).await;
        let backend = open(options(&server.url, bearer()));
        let response = backend.http.send(post(server.at("/"), Effect::Once)).await.unwrap();
        assert_eq!((response.status, response.retry_after()), (429, Some(Duration::from_secs(100))));
        let (read, write) = (get(server.at("/")), post(server.at("/"), Effect::Once));
        let (read, write) = (backend.http.send(read).await, backend.http.send(write).await);
        for error in [read.unwrap_err(), write.unwrap_err(), backend.admits_writes().unwrap_err()] {
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamRateLimited, Outcome::NotPerformed));
            assert!(error.is_retryable());
            let wait = error.retry_after().unwrap().as_secs();
            assert!((60..=100).contains(&wait), "{wait}");
        }
        assert_eq!(server.seen().len(), 1, "nothing was sent");
    });
    let line = r#"registrar_vendor_requests_total{backend="vendor-eu",operation="read",outcome="paused"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn others_wait_for_the_end_of_a_pause() {
    let server = Server::start(|seen| {
        let limited = seen.head.contains("/limited");
        Reply::Keep(if limited { answer(429, "retry-after: 20\r\n", "") } else { answer(200, "", "{}") })
    })
    .await;
    let mut impatient = options(&server.url, bearer());
    impatient.not_processed.clear();
    let backend = open(impatient);
    assert_eq!(backend.http.send(post(server.at("/limited"), Effect::Once)).await.unwrap().status, 429);
    let calls: Vec<_> = (0..8).map(|_| begin(&backend, get(server.at("/")))).collect();
    pass(15).await;
    assert_eq!(server.seen().len(), 1, "the pause is for all");
    pass(5).await;
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
}

/// Reliability F25.
#[tokio::test]
async fn every_form_of_retry_after_is_understood_or_ignored() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (value, seconds) in [
        ("60", Some(60)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("1000000000", Some(300)),
        ("99999999999999999999999999", Some(300)),
        ("0", None),
        ("Sun, 06 Nov 1994 08:49:00 GMT", None),
        ("-5", None),
        ("soon", None),
        ("", None),
    ] {
        let fields = format!("{date}retry-after: {value}\r\n");
        let server = Server::start(move |_| Reply::Keep(answer(429, &fields, ""))).await;
        let backend = open(options(&server.url, bearer()));
        let send = async || backend.http.send(post(server.at("/"), Effect::Once)).await;
        assert_eq!(send().await.unwrap().status, 429);
        match seconds {
            Some(seconds) => {
                let wait = send().await.unwrap_err().retry_after().unwrap();
                let most = Duration::from_secs(seconds);
                assert!(wait <= most && wait + Duration::from_secs(30) > most, "{value}: {wait:?}");
                assert_eq!(server.seen().len(), 1, "{value}");
            }
            None => assert_eq!(server.seen().len(), 3, "{value:?}: short waits of our own"),
        }
    }
}

#[tokio::test]
async fn a_pause_is_one_backends_own() {
    let limited = Server::start(|_| Reply::Keep(answer(429, "retry-after: 100\r\n", ""))).await;
    let other = Server::start(|_| Reply::Keep(answer(200, "", "{}"))).await;
    let transport = Transport::new().unwrap();
    let paused = transport.backend(options(&limited.url, bearer())).unwrap();
    let free = transport.backend(options(&other.url, bearer())).unwrap();
    paused.http.send(get(limited.at("/"))).await.unwrap();
    assert!(Arc::clone(&paused.http).send(get(limited.at("/"))).await.is_err());
    assert_eq!(free.http.send(get(other.at("/"))).await.unwrap().status, 200);
}

#[test]
fn a_pace_of_nothing_is_refused_at_setup() {
    let url = "https://v.example/".parse().unwrap();
    let none = BackendOptions { rate_limit: Some(0), ..BackendOptions::new("a", url, bearer()) };
    let refused = Transport::new().unwrap().backend(none).unwrap_err();
    assert!(matches!(refused, TransportSetupError::NoRate { backend } if backend == "a"));
}
