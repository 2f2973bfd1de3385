//! What schemathesis found: where the server and its document said different things.

use serde_json::{Value, json};

use crate::{
    http::{JSON, call},
    running::Gateway,
};

/// Sent twice with different bodies.
const KEY: (&str, &str) = ("idempotency-key", "one");
const OPERATION: &str = "/v1/operations/op_0198c0de-0000-7000-8000-00000000abcd";
const CLIENT: &str = "/v1/clients/reg_0198c0de-0000-7000-8000-00000000abcd";

#[test]
fn allow_names_the_methods_of_this_very_path() {
    let gateway = Gateway::start();
    for (path, allowed, wrong) in [
        (OPERATION.to_owned(), "GET,HEAD", ["POST", "PUT", "OPTIONS"]),
        (format!("{OPERATION}:acknowledge"), "POST", ["GET", "PUT", "OPTIONS"]),
        (format!("{OPERATION}:resolve"), "POST", ["GET", "DELETE", "OPTIONS"]),
        (CLIENT.to_owned(), "GET,HEAD,PUT,PATCH,DELETE", ["POST", "TRACE", "OPTIONS"]),
        (format!("{CLIENT}:used"), "POST", ["GET", "DELETE", "OPTIONS"]),
        (format!("{CLIENT}:used"), "POST", ["PUT", "PATCH", "TRACE"]),
    ] {
        for method in wrong {
            let answer = call(gateway.address, method, &path, &[JSON], b"{}");
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {path}");
            assert_eq!(answer.text("/code"), "method-not-allowed");
        }
    }
}

#[test]
fn a_look_refuses_the_key_that_the_write_would_refuse() {
    let gateway = Gateway::start();
    let body = json!({ "backend": "loop", "metadata": { "redirect_uris": ["https://a.example/cb"] } });
    for path in ["/v1/clients", "/v1/clients?dry_run=true"] {
        let answer = gateway.call("POST", path, &[JSON, ("idempotency-key", "\"\"")], &body);
        assert_eq!((answer.status, answer.text("/code").as_str()), (400, "invalid-request"), "{path}");
    }
    assert_eq!(gateway.vendor_writes(), 0);
}

#[test]
fn a_control_character_in_the_query_is_named() {
    let gateway = Gateway::start();
    let answer = gateway.get("/v1/clients?q=a%7Fb");
    assert_eq!(answer.status, 400);
    assert!(answer.text("/detail").contains("control character"), "{}", answer.json());
}

/// The header fields that the document promises for an answer.
fn promised(document: &Value, path: &str, method: &str, status: u16) -> Vec<String> {
    let answer = &document["paths"][path][method]["responses"][status.to_string()];
    let headers = answer["headers"].as_object().unwrap_or_else(|| panic!("{method} {path} {status} is not documented"));
    let is_required = |name: &&String| document["components"]["headers"][name.as_str()]["required"] == true;
    headers.keys().filter(is_required).map(|name| name.to_ascii_lowercase()).collect()
}

#[test]
fn every_answer_has_the_header_fields_that_its_document_promises() {
    let gateway = crate::dcr::open();
    let document = gateway.get("/openapi.json").json();
    let created = gateway.post("/v1/clients", &json!({ "backend": "loop", "metadata": crate::dcr::metadata() }));
    let client = format!("/v1/clients/{}", created.text("/id"));
    let large = format!("{{\"client_name\":\"{}\"}}", "x".repeat(70_000));
    let form = ("content-type", "text/plain");
    for (method, path, template, headers, body) in [
        ("POST", "/v1/clients", "/v1/clients", [JSON].as_slice(), "{}"),
        ("GET", client.as_str(), "/v1/clients/{id}", &[], ""),
        ("GET", &client, "/v1/clients/{id}", &[("if-none-match", "*")], ""),
        ("PATCH", &client, "/v1/clients/{id}", &[JSON], "{}"),
        ("POST", "/v1/initial-access-tokens", "/v1/initial-access-tokens", &[JSON], "{}"),
        ("POST", "/register", "/register", &[JSON], r#"{"client_name":"A","redirect_uris":["https://a.example/cb"]}"#),
        ("POST", "/register", "/register", &[form], "{}"),
        ("POST", "/register", "/register", &[JSON], &large),
        (
            "POST",
            "/register",
            "/register",
            &[JSON, KEY],
            r#"{"client_name":"A","redirect_uris":["https://a.example/cb"]}"#,
        ),
        (
            "POST",
            "/register",
            "/register",
            &[JSON, KEY],
            r#"{"client_name":"B","redirect_uris":["https://a.example/cb"]}"#,
        ),
        ("GET", "/register/reg_x", "/register/{id}", &[], ""),
        ("GET", "/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server", &[], ""),
    ] {
        let answer = call(gateway.address, method, path, headers, body.as_bytes());
        let promised = promised(&document, template, &method.to_ascii_lowercase(), answer.status);
        assert!(promised.len() > 1, "{method} {template} {}", answer.status);
        for name in promised {
            assert!(answer.header(&name).is_some(), "{method} {template} {}: no {name}", answer.status);
        }
    }
}
