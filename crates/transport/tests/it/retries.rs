//! What is sent again, and what is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use registrar_core::{Effect, ErrorKind, Outcome};
use registrar_transport::Transport;

use crate::support::{
    Reply, Server, answer, bearer, begin, closed_port, get, measured, open, options, pass, post, until,
};

/// A vendor that answers its requests in this order, and the last one for ever.
async fn in_turn(replies: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Arc<Server> {
    let count = AtomicUsize::new(0);
    Server::start(move |_| replies(count.fetch_add(1, Ordering::SeqCst))).await
}

fn ok() -> Reply {
    Reply::Keep(answer(200, "", "{}"))
}

#[tokio::test]
async fn a_write_answered_503_is_sent_exactly_once() {
    for effect in [Effect::Idempotent, Effect::Once] {
        let server = Server::start(|_| Reply::Keep(answer(503, "retry-after: 0\r\n", ""))).await;
        let response = open(options(&server.url, bearer())).http.send(post(server.at("/"), effect)).await.unwrap();
        assert_eq!((response.status, server.seen().len()), (503, 1), "{effect:?}");
    }
}

#[tokio::test]
async fn a_write_is_sent_again_after_a_status_that_proves_that_nothing_was_done() {
    let server = in_turn(|n| if n == 0 { Reply::Keep(answer(503, "", "")) } else { ok() }).await;
    let mut proving = options(&server.url, bearer());
    proving.not_processed = vec![503];
    let response = open(proving).http.send(post(server.at("/"), Effect::Once)).await.unwrap();
    assert_eq!((response.status, server.seen().len()), (200, 2));
    assert_eq!(server.seen()[0].body, server.seen()[1].body);
}

#[tokio::test]
async fn a_read_is_asked_three_times_and_the_last_answer_counts() {
    for status in [502, 503, 504] {
        let server = in_turn(move |n| Reply::Keep(answer(status, "", &n.to_string()))).await;
        let response = open(options(&server.url, bearer())).http.send(get(server.at("/"))).await.unwrap();
        assert_eq!((response.status, &*response.body, server.seen().len()), (status, &b"2"[..], 3));
    }
    let mended = in_turn(|n| if n == 0 { Reply::Close(String::new()) } else { ok() }).await;
    let response = open(options(&mended.url, bearer())).http.send(get(mended.at("/"))).await.unwrap();
    assert_eq!((response.status, mended.seen().len()), (200, 2));
}

#[test]
fn a_create_that_is_refused_a_connection_is_tried_again_and_not_performed() {
    let metrics = measured(async {
        let (_held, url) = closed_port();
        let error = open(options(&url, bearer())).http.send(post(url, Effect::Once)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamUnavailable, Outcome::NotPerformed));
        assert!(error.is_retryable());
    });
    let line = r#"registrar_vendor_retries_total{backend="vendor-eu",reason="connect"} 2"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_create_answered_429_is_sent_again_after_the_pause() {
    let metrics = measured(async {
        let limited = |n| if n == 0 { Reply::Keep(answer(429, "retry-after: 20\r\n", "")) } else { ok() };
        let server = in_turn(limited).await;
        let backend = open(options(&server.url, bearer()));
        let call = begin(&backend, post(server.at("/"), Effect::Once));
        until(|| backend.health.snapshot().paused_until.is_some()).await;
        assert!(backend.admits_writes().is_ok(), "a write can wait for that long");
        pass(15).await;
        assert_eq!(server.seen().len(), 1, "not before");
        pass(5).await;
        assert_eq!(call.await.unwrap().unwrap().status, 200);
        assert_eq!(server.seen().len(), 2);
        assert_eq!(backend.health.snapshot().paused_until, None);
    });
    for line in [
        r#"registrar_vendor_retries_total{backend="vendor-eu",reason="429"} 1"#,
        r#"registrar_vendor_pauses_total{backend="vendor-eu"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn a_read_that_hangs_leaves_time_for_another() {
    let server = in_turn(|n| if n == 0 { Reply::Hang(String::new()) } else { ok() }).await;
    let backend = open(options(&server.url, bearer()));
    let call = begin(&backend, get(server.at("/")));
    server.wait_for(1).await;
    pass(15).await;
    assert_eq!(call.await.unwrap().unwrap().status, 200);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_write_that_outlasts_its_attempt_is_unknown_and_not_sent_again() {
    let server = Server::start(|_| Reply::Hang(String::new())).await;
    let mut short = options(&server.url, bearer());
    short.attempt_timeout = Some(Duration::from_secs(10));
    let backend = open(short);
    let call = begin(&backend, post(server.at("/"), Effect::Once));
    server.wait_for(1).await;
    pass(10).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::OutcomeUnknown, Outcome::Unknown));
    assert_eq!(server.seen().len(), 1);
}

/// Reliability F39: what 1000 reads cost a vendor that is down.
#[tokio::test]
async fn an_outage_gets_no_more_than_a_fifth_more_requests() {
    let server = Server::start(|_| Reply::Keep(answer(503, "", ""))).await;
    let backend = open(options(&server.url, bearer()));
    for _ in 0..20 {
        let calls: Vec<_> = (0..50).map(|_| begin(&backend, get(server.at("/")))).collect();
        for call in calls {
            let refused_or_503 = call.await.unwrap().map(|response| response.status);
            assert!(matches!(refused_or_503, Ok(503) | Err(_)));
        }
    }
    // one round was under way when the circuit opened, and one retry for each is the most
    assert!(server.seen().len() <= 100, "{} requests", server.seen().len());
}

#[tokio::test]
async fn a_backend_that_hangs_does_not_delay_another() {
    let hanging = Server::start(|_| Reply::Hang(String::new())).await;
    let healthy = Server::start(|_| ok()).await;
    let transport = Transport::new().unwrap();
    let mut few = options(&hanging.url, bearer());
    few.max_in_flight = 4;
    let stuck = transport.backend(few).unwrap();
    let free = transport.backend(options(&healthy.url, bearer())).unwrap();

    let calls: Vec<_> = (0..4).map(|_| begin(&stuck, post(hanging.at("/"), Effect::Once))).collect();
    hanging.wait_for(4).await;
    assert!(stuck.http.send(get(hanging.at("/"))).await.is_err(), "no queue");
    for _ in 0..100 {
        assert_eq!(free.http.send(get(healthy.at("/"))).await.unwrap().status, 200);
    }
    // the clock has not been moved: all of that happened while the others wait
    assert_eq!(stuck.health.snapshot().in_flight, 4);
    assert_eq!(free.health.snapshot().consecutive_failures, 0);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}
