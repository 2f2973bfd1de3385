//! A vendor that fails, and a credential that is refused, are left alone for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use registrar_core::{Effect, Error, ErrorKind as K, Outcome};
use registrar_transport::{BackendHandle, CircuitState};

use crate::support::{
    CANARY, Reply, Server, answer, bearer, begin, get, m2m, measured, open, options, pass, post, until,
};

/// A vendor that answers 500 until it is mended.
async fn broken() -> (Arc<Server>, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&mended);
    let status = move || if works.load(Ordering::SeqCst) { 200 } else { 500 };
    (Server::start(move |_| Reply::Keep(answer(status(), "", "{}"))).await, mended)
}

async fn fail_often(backend: &BackendHandle, server: &Server) {
    for _ in 0..20 {
        assert_eq!(backend.http.send(post(server.at("/"), Effect::Once)).await.unwrap().status, 500);
    }
}

fn unavailable(error: &Error) -> bool {
    error.kind() == K::UpstreamUnavailable
        && error.outcome() == Outcome::NotPerformed
        && error.is_retryable()
        && error.backend() == Some("vendor-eu")
        && error.detail().contains("the circuit is open")
}

#[test]
fn it_opens_refuses_writes_is_probed_by_a_read_and_closes() {
    let metrics = measured(async {
        let (server, mended) = broken().await;
        let backend = open(options(&server.url, bearer()));
        assert_eq!(backend.health.circuit().state, CircuitState::Closed);
        fail_often(&backend, &server).await;

        let json = serde_json::to_value(backend.health.snapshot()).unwrap();
        assert_eq!(json["circuit"]["state"], "open");
        assert!(json["circuit"]["retry_at"].as_i64() > json["last_failure"]["at"].as_i64(), "{json}");
        let (refused, asked) = (backend.http.send(post(server.at("/"), Effect::Once)).await, backend.admits_writes());
        for error in [refused.unwrap_err(), asked.unwrap_err()] {
            assert!(unavailable(&error), "{error}");
            assert!(error.retry_after() > Some(Duration::from_secs(5)), "{error:?}");
        }
        assert!(unavailable(&backend.http.send(get(server.at("/"))).await.unwrap_err()));
        assert!(!backend.wants_probe(), "not yet");
        assert_eq!(backend.health.snapshot().consecutive_failures, 20, "refusals are not the vendor's");

        mended.store(true, Ordering::SeqCst);
        pass(10).await;
        assert_eq!(serde_json::json!(backend.health.circuit()), serde_json::json!({ "state": "half_open" }));
        assert!(backend.wants_probe());
        for effect in [Effect::Idempotent, Effect::Once] {
            assert!(unavailable(&backend.http.send(post(server.at("/"), effect)).await.unwrap_err()), "{effect:?}");
        }
        assert!(unavailable(&backend.admits_writes().unwrap_err()));
        assert_eq!(server.seen().len(), 20, "nothing was sent");

        assert_eq!(backend.http.send(get(server.at("/"))).await.unwrap().status, 200);
        assert_eq!(backend.health.circuit().state, CircuitState::Closed);
        assert!(backend.admits_writes().is_ok() && !backend.wants_probe());
        assert_eq!(backend.http.send(post(server.at("/"), Effect::Once)).await.unwrap().status, 200);
    });
    for line in [
        r#"registrar_vendor_circuit_state{backend="vendor-eu"} 0"#,
        r#"registrar_vendor_requests_total{backend="vendor-eu",operation="create",outcome="circuit"} 3"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(!metrics.contains("retries_total"), "{metrics}");
}

#[test]
fn an_open_circuit_is_seen_in_the_metrics() {
    let metrics = measured(async {
        let (server, _) = broken().await;
        fail_often(&open(options(&server.url, bearer())), &server).await;
    });
    assert!(metrics.contains(r#"registrar_vendor_circuit_state{backend="vendor-eu"} 2"#), "{metrics}");
}

#[tokio::test]
async fn a_probe_whose_caller_goes_away_is_left_to_another() {
    let server = Server::start(|seen| {
        if seen.head.starts_with("GET") { Reply::Hang(String::new()) } else { Reply::Keep(answer(500, "", "")) }
    })
    .await;
    let backend = open(options(&server.url, bearer()));
    fail_often(&backend, &server).await;
    server.wait_for(20).await;
    pass(10).await;
    let probe = begin(&backend, get(server.at("/")));
    server.wait_for(1).await;
    assert!(!backend.wants_probe(), "one is enough");
    assert!(unavailable(&backend.http.send(get(server.at("/"))).await.unwrap_err()));
    probe.abort();
    until(|| backend.wants_probe()).await;
}

async fn credential_rests(backend: &BackendHandle, server: &Server) {
    let before = server.seen().len();
    let read = backend.http.send(get(server.at("/v1"))).await.unwrap_err();
    let write = backend.http.send(post(server.at("/v1"), Effect::Once)).await.unwrap_err();
    for error in [read, write, backend.admits_writes().unwrap_err()] {
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamAuthentication, Outcome::NotPerformed));
        assert!(error.retry_after().is_some_and(|wait| wait.as_secs() <= 60), "{error:?}");
        assert_eq!(error.backend(), Some("vendor-eu"));
    }
    assert_eq!(server.seen().len(), before, "nothing was sent");
}

#[tokio::test]
async fn a_token_refused_twice_rests_for_a_minute() {
    let server = Server::start(|_| Reply::Keep(answer(401, "", ""))).await;
    let backend = open(options(&server.url, bearer()));
    let call = async |backend: &BackendHandle| backend.http.send(get(server.at("/v1"))).await.unwrap().status;
    assert_eq!(call(&backend).await, 401);
    assert!(backend.admits_writes().is_ok(), "one refusal may be a whim");
    assert_eq!(call(&backend).await, 401);
    credential_rests(&backend, &server).await;
    pass(50).await;
    credential_rests(&backend, &server).await;
    assert_eq!(call(&open(options(&server.url, bearer()))).await, 401, "a reload asks anew");
    pass(11).await;
    assert_eq!(call(&backend).await, 401);
    credential_rests(&backend, &server).await;
}

#[tokio::test]
async fn an_odd_401_between_answers_blocks_nothing() {
    let server =
        Server::start(|seen| Reply::Keep(answer(if seen.head.contains("/odd") { 401 } else { 404 }, "", ""))).await;
    let backend = open(options(&server.url, bearer()));
    for path in ["/odd", "/", "/odd", "/", "/odd"] {
        backend.http.send(get(server.at(path))).await.unwrap();
    }
    assert!(backend.admits_writes().is_ok());
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn many_calls_that_meet_one_refusal_block_nothing() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let server = Server::start(move |_| Reply::When(Arc::clone(&held), answer(401, "", ""))).await;
    let backend = open(options(&server.url, bearer()));
    let calls: Vec<_> = (0..8).map(|_| begin(&backend, get(server.at("/")))).collect();
    server.wait_for(8).await;
    gate.add_permits(8);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 401);
    }
    assert!(backend.admits_writes().is_ok());
}

#[tokio::test]
async fn a_token_refused_in_spite_of_its_renewal_rests_as_well() {
    let server = Server::start(|seen| {
        let token = format!(r#"{{"access_token":"{CANARY}","expires_in":3600}}"#);
        Reply::Keep(if seen.head.contains("/token") { answer(200, "", &token) } else { answer(401, "", "") })
    })
    .await;
    let backend = open(options(&server.url, m2m(server.at("/token"))));
    for _ in 0..2 {
        assert_eq!(backend.http.send(get(server.at("/v1"))).await.unwrap().status, 401);
    }
    credential_rests(&backend, &server).await;
    assert_eq!((server.count("/v1"), server.count("/token")), (4, 3));
}

#[tokio::test]
async fn client_credentials_refused_twice_rest_as_well() {
    let server = Server::start(|_| Reply::Keep(answer(401, "", ""))).await;
    let backend = open(options(&server.url, m2m(server.at("/token"))));
    for _ in 0..2 {
        backend.http.send(get(server.at("/v1"))).await.unwrap_err();
    }
    credential_rests(&backend, &server).await;
    assert_eq!((server.count("/v1"), server.count("/token")), (0, 2));
}
