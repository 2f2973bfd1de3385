//! What is sent, where to, and what comes back.

use std::sync::atomic::Ordering;

use axum::{Router, http::HeaderMap, response::IntoResponse, routing::post as on_post};
use registrar_core::{Credential, Effect, ErrorKind, Outcome, SecretString};
use registrar_transport::{BackendOptions, Transport, TransportSetupError};
use url::Url;

use crate::support::{CANARY, Reply, Server, answer, bearer, get, open, options, post};

#[tokio::test]
async fn the_credential_and_the_media_types_are_sent_and_little_else() {
    let server = Server::start(|_| Reply::Keep(answer(200, "x-request-id: r1\r\n", "{}"))).await;
    let http = open(options(&server.url, bearer())).http;
    let response = http.send(post(server.at("/v1/a%2Fb"), Effect::Once)).await.unwrap();
    assert_eq!((response.status, response.header("x-request-id"), response.effect), (200, Some("r1"), Effect::Once));
    assert_eq!(response.body, "{}");
    http.send(get(server.at("/v1/c"))).await.unwrap();

    let seen = server.seen();
    assert!(seen[0].head.starts_with("POST /v1/a%2Fb HTTP/1.1\r\n"), "{}", seen[0].head);
    assert_eq!(seen[0].body, format!(r#"{{"client_secret":"{CANARY}-body"}}"#));
    for one in &seen {
        assert_eq!(one.header("authorization"), Some("Bearer canary-5ecret-token"));
        assert_eq!(one.header("accept"), Some("application/json"));
        assert_eq!(one.header("user-agent"), Some(concat!("registrar/", env!("CARGO_PKG_VERSION"))));
        for absent in ["accept-encoding", "referer", "cookie", "request-id"] {
            assert_eq!(one.header(absent), None, "{absent}");
        }
    }
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[1].header("content-type"), None);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "the connection is used again");
}

#[tokio::test]
async fn a_real_server_gets_the_body_and_the_header() {
    async fn echo(headers: HeaderMap, body: String) -> impl IntoResponse {
        let held = headers.get("authorization").and_then(|v| v.to_str().ok()) == Some("Bearer canary-5ecret-token");
        (axum::http::StatusCode::CREATED, format!("{held} {body}"))
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", on_post(echo))).await });
    let response = open(options(&base, bearer())).http.send(post(base, Effect::Once)).await.unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(response.body, format!(r#"true {{"client_secret":"{CANARY}-body"}}"#));
}

#[tokio::test]
async fn redirects_are_answers() {
    let elsewhere = Server::start(|_| Reply::Keep(answer(200, "", "{}"))).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", elsewhere.url);
        let server = Server::start(move |_| Reply::Keep(answer(status, &location, ""))).await;
        let http = open(options(&server.url, bearer())).http;
        let response = http.send(post(server.at("/"), Effect::Once)).await.unwrap();
        assert_eq!(response.status, status);
        assert_eq!(server.seen().len(), 1);
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn another_origin_is_refused_without_a_call() {
    let own = Server::start(|_| Reply::Keep(answer(200, "", "{}"))).await;
    let other = Server::start(|_| Reply::Keep(answer(200, "", "{}"))).await;
    let http = open(options(&own.url, bearer())).http;
    let mut with_user = own.at("/");
    with_user.set_username("someone").unwrap();
    for url in [other.at("/"), with_user] {
        let error = http.send(post(url, Effect::Once)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Internal, Outcome::NotPerformed));
        assert_eq!(error.backend(), Some("vendor-eu"));
    }
    assert_eq!(own.connections.load(Ordering::SeqCst) + other.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_retry_date_arrives_as_seconds() {
    let dates = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\n";
    for status in [429, 503] {
        let server = Server::start(move |_| Reply::Keep(answer(status, dates, "{}"))).await;
        let response = open(options(&server.url, bearer())).http.send(get(server.at("/"))).await.unwrap();
        assert_eq!(response.retry_after().map(|wait| wait.as_secs()), Some(30));
    }
}

#[test]
fn what_could_never_work_is_refused_at_setup() {
    let transport = Transport::new().unwrap();
    let url = Url::parse("https://v.example/").unwrap();
    let token = Credential::Bearer(SecretString::from(format!("{CANARY}\n")).into());
    let refused = transport.backend(BackendOptions::new("a", url.clone(), token)).unwrap_err();
    assert!(matches!(&refused, TransportSetupError::Token { backend } if backend == "a"));
    assert!(!format!("{refused} {refused:?}").contains(CANARY));

    let none = BackendOptions { max_in_flight: 0, ..BackendOptions::new("a", url.clone(), bearer()) };
    assert!(matches!(transport.backend(none), Err(TransportSetupError::NothingInFlight { .. })));

    let boundless = BackendOptions {
        max_in_flight: usize::MAX,
        timeout: std::time::Duration::MAX,
        ..BackendOptions::new("a", url, bearer())
    };
    assert!(transport.backend(boundless).is_ok());
}
