//! Secrets that are replaced while the gateway runs, tokens for one request, and the standard token request.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use registrar_core::{ClientCredentials, Credential, Effect, ErrorKind, Secret, SecretString, TokenForm, TokenLife};
use url::Url;

use crate::support::{CANARY, Reply, Seen, Server, answer, get, open, options, post};

/// A file with a secret, deleted at the end.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("registrar-{}-{name}", std::process::id())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    fn secret(&self) -> Secret {
        let text = std::fs::read_to_string(&self.0).unwrap();
        Secret::from_file(SecretString::from(text.trim().to_owned()), &self.0)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn client(token_url: Url, client_secret: Secret, life: TokenLife) -> Credential {
    Credential::ClientCredentials(ClientCredentials {
        token_url,
        client_id: "gate:way".to_owned(),
        client_secret,
        audience: None,
        scope: Some("client.create client.read".to_owned()),
        form: TokenForm::Standard,
        life,
    })
}

fn used(server: &Server) -> Vec<String> {
    let calls = server.seen().into_iter().filter(|seen| !seen.head.starts_with("POST /token "));
    calls.filter_map(|seen| seen.header("authorization").map(str::to_owned)).collect()
}

fn is_token(seen: &Seen) -> bool {
    seen.head.starts_with("POST /token ")
}

#[tokio::test]
async fn a_refused_token_is_read_again_and_the_call_repeated_once() {
    let file = SecretFile::new("bearer", "canary-5ecret-old");
    let server = Server::start(|seen| {
        let new = seen.header("authorization") == Some("Bearer canary-5ecret-new");
        Reply::Keep(answer(if new { 201 } else { 401 }, "", "{}"))
    })
    .await;
    let http = open(options(&server.url, Credential::Bearer(file.secret()))).http;
    let create = || post(server.at("/v1"), Effect::Once);
    assert_eq!(http.send(create()).await.unwrap().status, 401);
    assert_eq!(used(&server).len(), 1, "the same token is not sent twice");
    file.write("canary-5ecret-new\n");
    assert_eq!(http.send(create()).await.unwrap().status, 201);
    assert_eq!(used(&server).len(), 3);
    assert_eq!(http.send(create()).await.unwrap().status, 201);
    assert_eq!(used(&server).len(), 4, "the new one is kept");
    // what cannot be a token changes nothing
    for bad in ["", "  ", "a\nb"] {
        file.write(bad);
        assert_eq!(http.send(create()).await.unwrap().status, 201, "{bad:?}");
    }
}

#[tokio::test]
async fn a_credential_that_rests_is_used_again_once_its_file_has_changed() {
    let file = SecretFile::new("rests", "canary-5ecret-old");
    let server = Server::start(|seen| {
        let new = seen.header("authorization") == Some("Bearer canary-5ecret-new");
        Reply::Keep(answer(if new { 201 } else { 401 }, "", "{}"))
    })
    .await;
    let http = open(options(&server.url, Credential::Bearer(file.secret()))).http;
    for _ in 0..2 {
        assert_eq!(http.send(post(server.at("/v1"), Effect::Once)).await.unwrap().status, 401);
    }
    let resting = http.send(post(server.at("/v1"), Effect::Once)).await.unwrap_err();
    assert_eq!((resting.kind(), used(&server).len()), (ErrorKind::UpstreamAuthentication, 2));
    file.write("canary-5ecret-new");
    assert_eq!(http.send(post(server.at("/v1"), Effect::Once)).await.unwrap().status, 201);
    assert_eq!(used(&server).len(), 3);
}

#[tokio::test]
async fn the_standard_token_request_is_form_encoded_with_basic() {
    let server = Server::start(|seen| {
        let body =
            if is_token(seen) { r#"{"access_token":"t-1","expires_in":300,"token_type":"Bearer"}"# } else { "{}" };
        Reply::Keep(answer(200, "", body))
    })
    .await;
    let secret = Secret::from(SecretString::from("s +/%"));
    let http = open(options(&server.url, client(server.at("/token"), secret, TokenLife::Reusable))).http;
    for _ in 0..3 {
        http.send(get(server.at("/v1"))).await.unwrap();
    }
    let tokens: Vec<_> = server.seen().into_iter().filter(is_token).collect();
    assert_eq!(tokens.len(), 1, "kept until it ends");
    assert_eq!(tokens[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    // gate%3Away:s+%2B%2F%25
    assert_eq!(tokens[0].header("authorization"), Some("Basic Z2F0ZSUzQXdheTpzKyUyQiUyRiUyNQ=="));
    assert_eq!(tokens[0].body, "grant_type=client_credentials&scope=client.create+client.read");
    assert_eq!(used(&server), ["Bearer t-1"; 3]);
}

#[tokio::test]
async fn a_server_that_refuses_basic_gets_the_secret_in_the_body_from_then_on() {
    let server = Server::start(|seen| {
        if !is_token(seen) {
            return Reply::Keep(answer(200, "", "{}"));
        }
        let posted = seen.body.contains("client_id=gate%3Away&client_secret=canary-5ecret");
        let (status, body) =
            if posted { (200, r#"{"access_token":"t"}"#) } else { (401, r#"{"error":"invalid_client"}"#) };
        Reply::Keep(answer(status, "", body))
    })
    .await;
    let secret = Secret::from(SecretString::from(CANARY));
    let http = open(options(&server.url, client(server.at("/token"), secret, TokenLife::OneUse))).http;
    for _ in 0..2 {
        assert_eq!(http.send(get(server.at("/v1"))).await.unwrap().status, 200);
    }
    let basic: Vec<_> =
        server.seen().iter().filter(|seen| is_token(seen)).map(|s| s.header("authorization").is_some()).collect();
    assert_eq!(basic, [true, false, false]);
}

#[tokio::test]
async fn a_token_for_one_request_is_fetched_for_each() {
    let issued = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        if !is_token(seen) {
            return Reply::Keep(answer(201, "", "{}"));
        }
        let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::Keep(answer(200, "", &format!(r#"{{"access_token":"t-{number}","expires_in":300}}"#)))
    })
    .await;
    let secret = Secret::from(SecretString::from(CANARY));
    let http = open(options(&server.url, client(server.at("/token"), secret, TokenLife::OneUse))).http;
    for _ in 0..3 {
        assert_eq!(http.send(post(server.at("/v1"), Effect::Once)).await.unwrap().status, 201);
    }
    http.send(get(server.at("/c/1")).with_bearer(SecretString::from("own"))).await.unwrap();
    assert_eq!(used(&server), ["Bearer t-1", "Bearer t-2", "Bearer t-3", "Bearer own"]);
}

#[tokio::test]
async fn refused_client_credentials_are_read_again_and_told_in_the_servers_words() {
    let file = SecretFile::new("client", "canary-5ecret-old");
    let server = Server::start(|seen| {
        if !is_token(seen) {
            return Reply::Keep(answer(201, "", "{}"));
        }
        // gate%3Away:canary-5ecret-new
        let new = seen.header("authorization") == Some("Basic Z2F0ZSUzQXdheTpjYW5hcnktNWVjcmV0LW5ldw==");
        let refusal = r#"{"error":"invalid_client","error_description":"Bad client credentials canary-5ecret-old"}"#;
        let (status, body) = if new { (200, r#"{"access_token":"t"}"#) } else { (401, refusal) };
        Reply::Keep(answer(status, "", body))
    })
    .await;
    let http = open(options(&server.url, client(server.at("/token"), file.secret(), TokenLife::OneUse))).http;
    let error = http.send(post(server.at("/v1"), Effect::Once)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UpstreamAuthentication);
    let vendor = error.vendor().unwrap();
    assert_eq!(vendor.code.as_deref(), Some("invalid_client"));
    assert_eq!(vendor.message.as_deref(), Some("Bad client credentials [redacted]"));
    assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    file.write("canary-5ecret-new");
    assert_eq!(http.send(post(server.at("/v1"), Effect::Once)).await.unwrap().status, 201);
}
