//! The client credentials grant.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use registrar_core::{Credential, Effect, ErrorKind, Http, Outcome, SecretString};
use tokio::sync::Semaphore;

use crate::support::{CANARY, Reply, Seen, Server, answer, closed_port, get, m2m, open, options, pass, post};

/// A vendor whose tokens are numbered and live an hour; `api` answers everything but `/token`.
async fn vendor(api: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Arc<Server> {
    let issued = AtomicUsize::new(0);
    Server::start(move |seen| {
        if seen.head.starts_with("POST /token ") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            let token = format!(
                r#"{{"access_token":"{CANARY}-{number}","token_type":"bearer","expire_in":"3600","scope":"x"}}"#
            );
            Reply::Keep(answer(200, "", &token))
        } else {
            api(seen)
        }
    })
    .await
}

fn http(server: &Server) -> Arc<dyn Http> {
    open(options(&server.url, m2m(server.at("/token")))).http
}

fn used(server: &Server) -> Vec<String> {
    let calls = server.seen().into_iter().filter(|seen| !seen.head.starts_with("POST /token "));
    calls.filter_map(|seen| seen.header("authorization").map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_token_request_is_the_documented_one() {
    let server = vendor(|_| Reply::Keep(answer(200, "", "{}"))).await;
    http(&server).send(get(server.at("/v1"))).await.unwrap();
    let seen = server.seen();
    let body: serde_json::Value = serde_json::from_str(&seen[0].body).unwrap();
    let wanted = serde_json::json!({
        "grant_type": "client_credentials",
        "audience": "https://api.example",
        "client_id": "gateway",
        "client_secret": format!("{CANARY}-secret"),
    });
    assert_eq!(body, wanted);
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(used(&server), [format!("Bearer {CANARY}-1")]);
}

#[tokio::test]
async fn a_call_with_its_own_token_leaves_the_backends_alone() {
    let server = vendor(|seen| {
        let own = seen.header("authorization") == Some("Bearer one-clients");
        Reply::Keep(answer(if own { 401 } else { 200 }, "", "{}"))
    })
    .await;
    let backend = open(options(&server.url, m2m(server.at("/token"))));
    let own = || get(server.at("/v1/client")).with_bearer(SecretString::from("one-clients"));
    assert_eq!(backend.http.send(own()).await.unwrap().status, 401);
    assert_eq!(server.count("/token"), 0, "no token of the backend was needed");
    backend.http.send(get(server.at("/v1"))).await.unwrap();
    assert_eq!(backend.http.send(own()).await.unwrap().status, 401);
    backend.http.send(get(server.at("/v1"))).await.unwrap();
    assert_eq!(server.count("/token"), 1, "the refusal did not evict the backend's");
    assert_eq!(used(&server).iter().filter(|value| *value == "Bearer one-clients").count(), 2, "never sent again");
    for _ in 0..4 {
        assert_eq!(backend.http.send(own()).await.unwrap().status, 401, "the backend's credential does not rest");
    }
    backend.http.send(get(server.at("/v1"))).await.unwrap();
    assert_eq!(backend.health.snapshot().consecutive_failures, 0);
    assert!(!format!("{:?}", own()).contains("one-clients"));
    let unsendable = get(server.at("/v1")).with_bearer(SecretString::from("a\r\nX-Admin: 1"));
    let error = backend.http.send(unsendable).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Internal, Outcome::NotPerformed));
}

#[tokio::test]
async fn an_open_api_gets_no_credential() {
    let server = Server::start(|_| Reply::Keep(answer(201, "", "{}"))).await;
    let http = open(options(&server.url, Credential::None)).http;
    http.send(post(server.at("/register"), Effect::Once)).await.unwrap();
    http.send(get(server.at("/register/1")).with_bearer(SecretString::from("one-clients"))).await.unwrap();
    let seen: Vec<_> = server.seen().iter().map(|s| s.header("authorization").map(str::to_owned)).collect();
    assert_eq!(seen, [None, Some("Bearer one-clients".to_owned())]);
}

#[tokio::test]
async fn many_callers_make_one_token_request() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let server = Server::start(move |seen| {
        if seen.head.starts_with("POST /token ") {
            let token = format!(r#"{{"access_token":"{CANARY}","expires_in":3600}}"#);
            Reply::When(Arc::clone(&held), answer(200, "", &token))
        } else {
            Reply::Keep(answer(200, "", "{}"))
        }
    })
    .await;
    let backend = open(options(&server.url, m2m(server.at("/token"))));
    let calls: Vec<_> = (0..32)
        .map(|_| {
            let (http, request) = (Arc::clone(&backend.http), get(server.at("/v1")));
            tokio::spawn(async move { http.send(request).await })
        })
        .collect();
    // one has asked, and on this single thread all others have run until they wait for it
    server.wait_for(1).await;
    assert_eq!(backend.health.snapshot().in_flight, 32);
    gate.add_permits(1);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    assert_eq!((server.count("/token"), server.count("/v1")), (1, 32));
}

#[tokio::test]
async fn callers_who_waited_share_a_failure() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let server = Server::start(move |_| Reply::When(Arc::clone(&held), answer(401, "", CANARY))).await;
    let backend = open(options(&server.url, m2m(server.at("/token"))));
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (http, request) = (Arc::clone(&backend.http), post(server.at("/v1"), Effect::Once));
            tokio::spawn(async move { http.send(request).await })
        })
        .collect();
    server.wait_for(1).await;
    assert_eq!(backend.health.snapshot().in_flight, 16);
    gate.add_permits(1);
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamAuthentication, Outcome::NotPerformed));
        assert_eq!(error.vendor().and_then(|vendor| vendor.status), Some(401));
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
    assert_eq!((server.count("/token"), server.count("/v1")), (1, 0));

    // it is not remembered for those who come later
    gate.add_permits(1);
    backend.http.send(get(server.at("/v1"))).await.unwrap_err();
    assert_eq!(server.count("/token"), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_request_sent_again() {
    let server = vendor(|seen| {
        let stale = seen.header("authorization").is_some_and(|value| value.ends_with("-1"));
        Reply::Keep(if stale { answer(401, "", "{}") } else { answer(201, "", "{}") })
    })
    .await;
    let http = http(&server);
    let response = http.send(post(server.at("/v1"), Effect::Once)).await.unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(used(&server), [1, 2].map(|n| format!("Bearer {CANARY}-{n}")));
    let bodies: Vec<_> = server.seen().into_iter().filter(|s| s.head.contains("/v1 ")).map(|s| s.body).collect();
    assert!(bodies[0] == bodies[1] && !bodies[0].is_empty(), "the same request twice");

    http.send(get(server.at("/v1"))).await.unwrap();
    assert_eq!(server.count("/token"), 2, "the new token is kept");
}

#[tokio::test]
async fn a_second_401_is_an_answer() {
    let server = vendor(|_| Reply::Keep(answer(401, "", "{}"))).await;
    let response = http(&server).send(post(server.at("/v1"), Effect::Once)).await.unwrap();
    assert_eq!(response.status, 401);
    assert_eq!((server.count("/v1"), server.count("/token")), (2, 2));
}

#[tokio::test]
async fn a_fixed_token_that_is_refused_is_sent_once() {
    let server = Server::start(|_| Reply::Keep(answer(401, "", "{}"))).await;
    let backend = open(options(&server.url, crate::support::bearer()));
    let response = backend.http.send(post(server.at("/"), Effect::Once)).await.unwrap();
    assert_eq!((response.status, server.seen().len()), (401, 1));
    assert_eq!(backend.health.snapshot().last_failure.map(|f| f.code), Some("upstream-authentication"));
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_means_not_performed() {
    let server = Server::start(|_| Reply::Hang(String::new())).await;
    let (http, request) = (http(&server), post(server.at("/v1"), Effect::Once));
    let call = tokio::spawn(async move { http.send(request).await });
    server.wait_for(1).await;
    pass(60).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamTimeout, Outcome::NotPerformed));
    assert!(error.detail().contains("token endpoint"), "{error}");
    assert_eq!((server.count("/token"), server.count("/v1")), (1, 0));
}

#[tokio::test]
async fn a_token_endpoint_that_cannot_be_reached_means_not_performed() {
    let server = vendor(|_| Reply::Keep(answer(200, "", "{}"))).await;
    let (_held, token_url) = closed_port();
    let error = open(options(&server.url, m2m(token_url))).http.send(post(server.at("/v1"), Effect::Once)).await;
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamUnavailable, Outcome::NotPerformed));
    assert_eq!(server.count("/v1"), 0);
}

#[tokio::test]
async fn a_token_is_renewed_at_four_fifths_of_its_life() {
    let server = vendor(|_| Reply::Keep(answer(200, "", "{}"))).await;
    let http = http(&server);
    let call = async || http.send(get(server.at("/v1"))).await.unwrap().status;

    assert_eq!(call().await, 200);
    server.wait_for(2).await;
    pass(2_800).await;
    assert_eq!(call().await, 200);
    server.wait_for(1).await;
    assert_eq!(server.count("/token"), 1, "3600 s are not over by four fifths");

    pass(100).await;
    assert_eq!(call().await, 200);
    // the call itself with the first token, and the renewal in the background
    server.wait_for(2).await;
    assert_eq!(server.count("/token"), 2);
    assert_eq!(used(&server), vec![format!("Bearer {CANARY}-1"); 3]);

    // long over: nobody is sent with an expired token
    pass(10_000).await;
    assert_eq!(call().await, 200);
    assert_eq!(used(&server).last(), Some(&format!("Bearer {CANARY}-3")));
}
