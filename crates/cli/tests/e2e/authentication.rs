//! API keys.

use serde_json::{Value, json};

use crate::running::{Gateway, binary};

fn key(gateway: &Gateway, name: &str, scopes: &str) -> String {
    let out =
        binary().args(["keys", "create", name, "--scope", scopes, "--config"]).arg(gateway.config()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn keys_open_what_their_scopes_say() {
    let gateway = Gateway::start_with("keys");
    let (reader, writer, operator) = (
        key(&gateway, "reader", "clients:read"),
        key(&gateway, "writer", "clients:write"),
        key(&gateway, "operator", "ops:read"),
    );
    let body = json!({ "backend": "loop", "metadata": { "redirect_uris": ["https://a.example/cb"] } });
    let status = |token: &str, method: &str, path: &str, body: &Value| {
        gateway.call(method, path, &[crate::http::JSON, ("authorization", &format!("Bearer {token}"))], body).status
    };
    assert_eq!(status(&reader, "GET", "/v1/clients", &Value::Null), 200);
    assert_eq!(status(&reader, "POST", "/v1/clients", &body), 403);
    assert_eq!(status(&reader, "GET", "/v1/operations", &Value::Null), 403);
    assert_eq!(status(&writer, "POST", "/v1/clients", &body), 201);
    assert_eq!(status(&writer, "GET", "/v1/clients", &Value::Null), 200);
    assert_eq!(status(&operator, "GET", "/v1/operations", &Value::Null), 200);
    assert_eq!(status(&operator, "GET", "/metrics", &Value::Null), 200);
    assert_eq!(status(&operator, "GET", "/v1/clients", &Value::Null), 403);
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
}

#[test]
fn every_protected_path_refuses_missing_and_wrong_keys() {
    let gateway = Gateway::start_with("keys");
    let good = key(&gateway, "good", "clients:write");
    let truncated = &good[..good.len() - 1];
    let longer = format!("{good}0");
    let other = format!("{}{}", &good[..20], "0".repeat(good.len() - 20));
    for (method, path) in [
        ("POST", "/v1/clients"),
        ("GET", "/v1/clients"),
        ("GET", "/v1/clients/x"),
        ("PUT", "/v1/clients/x"),
        ("PATCH", "/v1/clients/x"),
        ("DELETE", "/v1/clients/x"),
        ("POST", "/v1/clients/x/secret"),
        ("GET", "/v1/operations"),
        ("GET", "/v1/operations/x"),
        ("PUT", "/v1/operations/x"),
        ("DELETE", "/v1/clients"),
        ("GET", "/v1/backends"),
        ("GET", "/v1/backends/x"),
        ("GET", "/v1/vendors"),
        ("POST", "/v1/routes:evaluate"),
        ("GET", "/metrics"),
    ] {
        let missing = gateway.call(method, path, &[], &Value::Null);
        assert_eq!(missing.status, 401, "{method} {path}");
        assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"registrar\""));
        for token in [truncated, &longer, &other, "rk_0000000000000000_00", "", "x"] {
            let wrong = gateway.call(method, path, &[("authorization", &format!("Bearer {token}"))], &Value::Null);
            assert_eq!((wrong.status, wrong.text("/code")), (401, "invalid-token".to_owned()), "{method} {path}");
            assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"));
        }
        let in_query = gateway.get(&format!("{path}?access_token={good}"));
        assert_eq!(in_query.status, 401);
    }
    let log = gateway.log();
    assert!(!log.contains(&good[20..]), "a key is in the log");
}

#[test]
fn keys_are_listed_without_tokens_and_can_be_forgotten() {
    let gateway = Gateway::start_with("keys");
    let token = key(&gateway, "short-lived", "clients:read");
    let header = format!("Bearer {token}");
    let works = || gateway.call("GET", "/v1/clients", &[("authorization", &header)], &Value::Null).status;
    assert_eq!(works(), 200);
    let again = binary().args(["keys", "create", "short-lived", "--config"]).arg(gateway.config()).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", String::from_utf8_lossy(&again.stderr));
    let listed = binary().args(["keys", "list", "-o", "json", "--config"]).arg(gateway.config()).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains("short-lived") && !text.contains(&token[20..]));
    let database = std::fs::read(gateway.folder.path().join("registrar.db")).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains(&token[20..]), "the token is in the database");
    assert!(
        binary().args(["keys", "delete", "short-lived", "--config"]).arg(gateway.config()).status().unwrap().success()
    );
    assert_eq!(works(), 401);
}

#[test]
fn without_authentication_only_local_names_are_served() {
    let gateway = Gateway::start();
    let rebound = crate::http::raw(
        gateway.address,
        b"GET /v1/clients HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    assert_eq!(rebound.status, 403);
    let local = crate::http::raw(
        gateway.address,
        b"GET /v1/clients HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    assert_eq!(local.status, 200);
}

/// Without authentication the browser of whoever works on this machine must not ask for another site's page.
#[test]
fn redteam_q9_pages_of_other_origins_are_refused_without_authentication() {
    let gateway = Gateway::start();
    let own = format!("http://{}", gateway.address);
    let named = format!("http://localhost:{}", gateway.address.port());
    let status = |headers: &[(&str, &str)]| gateway.call("POST", "/v1/clients", headers, &serde_json::json!({})).status;
    let json = ("content-type", "application/json");
    for good in [
        vec![],
        vec![("origin", own.as_str())],
        vec![("sec-fetch-site", "same-origin"), ("origin", own.as_str())],
        vec![("sec-fetch-site", "none")],
    ] {
        assert_eq!(status(&[&good[..], &[json]].concat()), 422, "{good:?}");
    }
    for bad in [
        vec![("sec-fetch-site", "cross-site")],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![("origin", "http://127.0.0.1:1")],
        vec![("origin", named.as_str())],
        vec![("origin", own.as_str()), ("origin", "https://evil.example")],
        vec![("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(status(&[&bad[..], &[json]].concat()), 403, "{bad:?}");
    }
    // the standards face is for every page
    let page = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(gateway.call("GET", "/register/x", &page, &serde_json::Value::Null).status, 401);
}
