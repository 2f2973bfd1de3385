//! Everything that can go wrong on the way, and what is said about it: kind and outcome.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use registrar_core::{
    Effect, Error, ErrorKind as K,
    Outcome::{self, NotPerformed, Unknown},
    Request,
};
use registrar_transport::{BackendOptions, Transport};
use tokio::{net::TcpListener, sync::Semaphore};
use url::Url;

use crate::support::{CANARY, Reply, Server, answer, bearer, closed_port, get, open, options, pass, post};

const EFFECTS: [Effect; 3] = [Effect::Read, Effect::Idempotent, Effect::Once];

fn request(url: Url, effect: Effect) -> Request {
    if effect == Effect::Read { get(url) } else { post(url, effect) }
}

async fn fail(options: BackendOptions, request: Request) -> Error {
    let error = open(options).http.send(request).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    assert_eq!(error.backend(), Some("vendor-eu"));
    error
}

fn said(error: &Error) -> (K, Outcome) {
    (error.kind(), error.outcome())
}

/// The same fault for every effect: what is said of a read, and of a write.
async fn every_effect(server: &Server, read: (K, Outcome), write: (K, Outcome), change: fn(&mut BackendOptions)) {
    for effect in EFFECTS {
        let mut options = options(&server.url, bearer());
        change(&mut options);
        let error = fail(options, request(server.at("/"), effect)).await;
        assert_eq!(said(&error), if effect == Effect::Read { read } else { write }, "{effect:?}: {error}");
    }
}

fn small(options: &mut BackendOptions) {
    options.max_body = 10_000;
}

fn plain(_: &mut BackendOptions) {}

/// The vendor stops after `reply`, and the deadline of 30 s passes.
async fn every_effect_hangs(reply: String, read: (K, Outcome), write: (K, Outcome)) {
    let server = Server::start(move |_| Reply::Hang(reply.clone())).await;
    let mut patient = options(&server.url, bearer());
    patient.max_body = 64 << 20;
    let http = open(patient).http;
    for effect in EFFECTS {
        let (http, request) = (Arc::clone(&http), request(server.at("/"), effect));
        let call = tokio::spawn(async move { http.send(request).await });
        server.wait_for(1).await;
        pass(15).await;
        match effect {
            // half of the time is over, and it is asked again
            Effect::Read => server.wait_for(1).await,
            Effect::Idempotent | Effect::Once => assert!(!call.is_finished(), "too early"),
        }
        pass(16).await;
        // a deadline that is not kept fails the test instead of hanging it
        let error = tokio::time::timeout(Duration::from_secs(20), call).await.unwrap().unwrap().unwrap_err();
        assert_eq!(said(&error), if effect == Effect::Read { read } else { write }, "{effect:?}: {error}");
    }
    assert_eq!(server.seen().len(), EFFECTS.len() + 1, "no write is sent again");
}

#[tokio::test]
async fn a_vendor_that_hangs() {
    let (late, unknown) = ((K::UpstreamTimeout, NotPerformed), (K::OutcomeUnknown, Unknown));
    every_effect_hangs(String::new(), late, unknown).await;
    // more than all buffers between the two hold: once it is written, the status has been read
    let half = |status| format!("HTTP/1.1 {status} X\r\ncontent-length: 50000000\r\n\r\n{}", "x".repeat(40_000_000));
    every_effect_hangs(half(201), late, unknown).await;
    every_effect_hangs(half(409), late, late).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_without_an_answer() {
    let server = Server::start(|_| Reply::Close(String::new())).await;
    every_effect(&server, (K::UpstreamUnavailable, NotPerformed), (K::OutcomeUnknown, Unknown), plain).await;
    assert_eq!(server.seen().len(), EFFECTS.len() + 2, "only the read is sent again");

    let cut_head = Server::start(|_| Reply::Close("HTTP/1.1 201 Cre".to_owned())).await;
    every_effect(&cut_head, (K::UpstreamUnavailable, NotPerformed), (K::OutcomeUnknown, Unknown), plain).await;

    let not_http = Server::start(|_| Reply::Close("SSH-2.0-server\r\n".to_owned())).await;
    every_effect(&not_http, (K::UpstreamUnavailable, NotPerformed), (K::OutcomeUnknown, Unknown), plain).await;
}

/// reliability E8: a write on a used connection that the vendor closes after reading it must not be sent again.
#[tokio::test]
async fn a_kept_connection_that_is_closed_resends_nothing() {
    let server = Server::start(|seen| {
        if seen.head.starts_with("GET") { Reply::Keep(answer(200, "", "{}")) } else { Reply::Close(String::new()) }
    })
    .await;
    let http = open(options(&server.url, bearer())).http;
    http.send(get(server.at("/"))).await.unwrap();
    let error = http.send(post(server.at("/"), Effect::Once)).await.unwrap_err();
    assert_eq!(said(&error), (K::OutcomeUnknown, Unknown));
    assert_eq!((server.seen().len(), server.connections.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn a_vendor_that_cannot_be_reached() {
    let (_held, url) = closed_port();
    for effect in EFFECTS {
        let error = fail(options(&url, bearer()), request(url.clone(), effect)).await;
        assert_eq!(said(&error), (K::UpstreamUnavailable, NotPerformed));
        assert_eq!(error.detail(), "cannot connect to the vendor; nothing was sent");
    }
}

#[tokio::test]
async fn a_vendor_without_tls() {
    // whatever is read, the answer is not a TLS record
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for effect in EFFECTS {
        let error = fail(options(&url, bearer()), request(url.clone(), effect)).await;
        assert_eq!(said(&error), (K::UpstreamUnavailable, NotPerformed));
        assert!(error.detail().contains("certificate or TLS problem"), "{error}");
        assert!(!error.is_retryable(), "another try does not mend it");
    }
    assert_eq!(connections.load(Ordering::SeqCst), EFFECTS.len(), "and none is made");
}

#[tokio::test]
async fn a_handshake_that_hangs_is_not_a_write_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let transport = Transport::with_connect_timeout(Duration::from_millis(150)).unwrap();
    let http = transport.backend(options(&url, bearer())).unwrap().http;
    let error = http.send(post(url, Effect::Once)).await.unwrap_err();
    assert_eq!(said(&error), (K::UpstreamUnavailable, NotPerformed));
    assert!(error.detail().contains("no connection within the time allowed"), "{error}");
    drop(listener);
}

#[tokio::test]
async fn a_body_that_is_cut_off() {
    let malformed = ((K::UpstreamMalformed, NotPerformed), (K::UpstreamMalformed, Unknown));
    let short = "HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"client_id\":";
    let unfinished = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n";
    for text in [short, unfinished] {
        let server = Server::start(|_| Reply::Close(text.to_owned())).await;
        every_effect(&server, malformed.0, malformed.1, plain).await;
    }
    let server = Server::start(|_| Reply::Close(short.to_owned())).await;
    let error = fail(options(&server.url, bearer()), post(server.at("/"), Effect::Once)).await;
    assert_eq!(error.vendor().and_then(|vendor| vendor.status), Some(201));
}

#[tokio::test]
async fn a_body_that_is_too_large() {
    let malformed = ((K::UpstreamMalformed, NotPerformed), (K::UpstreamMalformed, Unknown));
    // only the claim arrives, so that the refusal cannot wait for the bytes
    let claim =
        Server::start(|_| Reply::Hang("HTTP/1.1 200 OK\r\ncontent-length: 4000000000\r\n\r\n".to_owned())).await;
    every_effect(&claim, malformed.0, malformed.1, small).await;

    let by_one = Server::start(|_| Reply::Keep(answer(200, "", &"x".repeat(10_001)))).await;
    every_effect(&by_one, malformed.0, malformed.1, small).await;

    let endless = Server::start(|_| Reply::Endless).await;
    every_effect(&endless, malformed.0, malformed.1, small).await;
    // what the buffers of the sockets hold is taken as well, and no more
    let written = endless.written.load(Ordering::SeqCst);
    assert!(written < EFFECTS.len() * (32 << 20), "{written} bytes");
}

#[tokio::test]
async fn a_body_within_its_limit_is_whole() {
    let text: String = (0..10_000u32).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let sent = text.clone();
    let server = Server::start(move |seen| {
        let chunked = seen.head.contains("/chunked");
        let chunks: String = sent.as_bytes().chunks(777).fold(String::new(), |all, chunk| {
            format!("{all}{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))
        });
        Reply::Keep(if chunked {
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
        } else {
            answer(200, "", &sent)
        })
    })
    .await;
    let mut exact = options(&server.url, bearer());
    exact.max_body = text.len();
    exact.max_list_body = text.len() - 1;
    let http = open(exact).http;
    for path in ["/chunked", "/plain"] {
        assert_eq!(http.send(get(server.at(path))).await.unwrap().body, text, "{path}");
        let list = Request::new(Method::GET, server.at(path), Effect::Read, "list");
        let error = http.send(list).await.unwrap_err();
        assert_eq!(said(&error), (K::UpstreamMalformed, NotPerformed), "lists have their own limit");
    }
}

#[tokio::test]
async fn a_full_bulkhead_refuses_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let server = Server::start(move |_| Reply::When(Arc::clone(&held), answer(200, "", "{}"))).await;
    let mut two = options(&server.url, bearer());
    two.max_in_flight = 2;
    let backend = open(two);
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let (http, request) = (Arc::clone(&backend.http), post(server.at("/"), Effect::Once));
            tokio::spawn(async move { http.send(request).await })
        })
        .collect();
    server.wait_for(2).await;
    assert_eq!(backend.health.snapshot().in_flight, 2);

    let error = backend.http.send(post(server.at("/"), Effect::Once)).await.unwrap_err();
    assert_eq!(said(&error), (K::UpstreamUnavailable, NotPerformed));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert!(error.detail().starts_with("2 requests to this backend are in flight already"), "{error}");
    assert_eq!(server.seen().len(), 2, "nothing was sent");
    assert_eq!(backend.health.snapshot().consecutive_failures, 0, "the vendor is not to blame");

    gate.add_permits(3);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    assert_eq!(backend.http.send(get(server.at("/"))).await.unwrap().status, 200, "the places are free again");
    assert_eq!(backend.health.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_its_place() {
    let server = Server::start(|seen| {
        if seen.head.starts_with("POST") { Reply::Hang(String::new()) } else { Reply::Keep(answer(200, "", "{}")) }
    })
    .await;
    let mut one = options(&server.url, bearer());
    one.max_in_flight = 1;
    let backend = open(one);
    let (http, request) = (Arc::clone(&backend.http), post(server.at("/"), Effect::Once));
    let call = tokio::spawn(async move { http.send(request).await });
    server.wait_for(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(backend.http.send(get(server.at("/"))).await.unwrap().status, 200);
    assert_eq!(backend.health.snapshot().in_flight, 0);
}
