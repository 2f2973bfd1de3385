//! Checklists B and C: errors (RFC 7591 §3.2.2) and redirect URIs (§5, RFC 8252, RFC 9700).

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Map, Value, json};

use crate::{
    dcr::{open, refused, register, with},
    http::{Answer, JSON, call},
    running::Gateway,
};

fn raw(gateway: &Gateway, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    call(gateway.address, "POST", "/register", headers, body)
}

/// A plain RFC 7591 error, whatever the caller would like.
fn is_plain(answer: &Answer, status: u16, error: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["error"].as_str()), (status, Some(error)), "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(body["error_description"].as_str().is_some_and(|d| d.is_ascii() && !d.is_empty()), "{body}");
}

#[test]
fn err_01_02_a_bad_member_is_named_in_ascii() {
    let gateway = open();
    let told = refused(&gateway, &with(json!({"subject_type": "\u{fc}ber \"x\\"})), "invalid_client_metadata");
    assert!(told.is_ascii() && told.contains("subject_type") && !told.contains(['"', '\\']), "{told}");
    let told =
        refused(&gateway, &with(json!({"redirect_uris": ["https://b\u{fc}cher.example/"]})), "invalid_redirect_uri");
    assert!(told.starts_with("redirect_uris/0"), "{told}");
}

#[test]
fn err_03_12_bodies_that_are_not_one_object_are_400() {
    let gateway = open();
    for body in ["", "{", "[]", "\"x\"", "null", "7", "{\"a\":1,\"a\":2}", "{\"client_name\":\"\u{0}\"}", "<html>"] {
        is_plain(&raw(&gateway, &[JSON], body.as_bytes()), 400, "invalid_client_metadata");
    }
    is_plain(&raw(&gateway, &[JSON], b"\xff\xfe"), 400, "invalid_client_metadata");
    assert_eq!(gateway.vendor_writes(), 0);
}

#[test]
fn err_04_05_other_media_types_and_no_problem_documents() {
    let gateway = open();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/problem+json", ""] {
        is_plain(&raw(&gateway, &[("content-type", kind)], b"{}"), 415, "invalid_request");
    }
    let asks = ("accept", "application/problem+json");
    is_plain(&raw(&gateway, &[JSON, asks], b"{}"), 400, "invalid_redirect_uri");
    is_plain(&call(gateway.address, "GET", "/register", &[asks], b""), 405, "invalid_request");
    is_plain(&call(gateway.address, "GET", "/register/x", &[asks], b""), 401, "invalid_token");
}

#[test]
fn err_06_an_error_is_a_code_a_sentence_and_an_id() {
    let gateway = open();
    let answer = gateway.post("/register", &json!({}));
    let names: Vec<String> = answer.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["error", "error_description", "request_id"]);
}

#[test]
fn err_07_08_ext_21_software_statements_are_never_ignored() {
    let gateway = open();
    let jwt = |header: &str, claims: &str, signature: &str| format!("{header}.{claims}.{signature}");
    // {"alg":"none"}, {"alg":"RS256"}, {"iss":"https://a.example"}, {}
    let (none, signed, iss, empty) =
        ("eyJhbGciOiJub25lIn0", "eyJhbGciOiJSUzI1NiJ9", "eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSJ9", "e30");
    for bad in
        ["x".to_owned(), "a.b.c".to_owned(), jwt(none, iss, "c2ln"), jwt(signed, empty, "c2ln"), jwt(signed, iss, "")]
    {
        refused(&gateway, &with(json!({"software_statement": bad})), "invalid_software_statement");
    }
    refused(&gateway, &with(json!({"software_statement": 7})), "invalid_software_statement");
    refused(&gateway, &with(json!({"software_statement": jwt(signed, iss, "c2ln")})), "unapproved_software_statement");
}

#[test]
fn ext_21_statements_must_be_signed_and_have_an_issuer() {
    let gateway = open();
    refused(&gateway, &with(json!({"software_statement": "eyJhbGciOiJub25lIn0.e30."})), "invalid_software_statement");
}

#[test]
fn err_09_10_the_vendors_trouble_with_us_is_not_the_callers() {
    let gateway = open();
    for (status, told, code) in
        [(401, 502, "server_error"), (403, 502, "server_error"), (500, 502, "server_error"), (418, 502, "server_error")]
    {
        gateway.fakes.script(ScriptedFault {
            kind: Some("loop".to_owned()),
            method: Some("POST".to_owned()),
            path_contains: None,
            skip: 0,
            times: 1,
            when: When::Before,
            fault: Fault::Status {
                status,
                body: Some(json!({"error": "fake-loop-admin-token at http://user:pw@host/ panicked at src/x.rs:1"})),
                headers: Map::new(),
            },
        });
        let answer = gateway.post("/loop/register", &with(json!({})));
        is_plain(&answer, told, code);
        let body = answer.json().to_string();
        assert!(!body.contains("fake-loop-admin-token") && !body.contains("pw@") && !body.contains("src/"), "{body}");
        assert!(answer.header("www-authenticate").is_none());
    }
}

#[test]
fn err_09_management_does_not_blame_the_caller_either() {
    for status in [401, 403, 500, 503] {
        let gateway = open();
        let own = register(&gateway, "loop", &with(json!({})));
        gateway.fakes.script(ScriptedFault {
            kind: Some("loop".to_owned()),
            method: None,
            path_contains: None,
            skip: 0,
            times: 50,
            when: When::Before,
            fault: Fault::Empty { status },
        });
        for method in ["GET", "PUT"] {
            let answer = own.call(&gateway, method, &own.update(json!({"redirect_uris": ["https://a.example/2"]})));
            assert!(matches!(answer.status, 502..=504), "{method} {status}: {}", answer.json());
            assert!(matches!(answer.text("/error").as_str(), "server_error" | "temporarily_unavailable"));
        }
        gateway.fakes.clear_faults();
        assert_eq!(
            gateway.get(&format!("/v1/clients/{}", own.id())).json()["metadata"]["redirect_uris"],
            own.json["redirect_uris"]
        );
    }
}

#[test]
fn err_11_deep_and_large_bodies_are_refused() {
    let gateway = open();
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    is_plain(&raw(&gateway, &[JSON], deep.as_bytes()), 400, "invalid_client_metadata");
    let large = format!("{{\"client_name\":\"{}\"}}", "x".repeat(65 * 1024));
    is_plain(&raw(&gateway, &[JSON], large.as_bytes()), 413, "invalid_request");
}

fn redirects(list: &[&str]) -> Value {
    with(json!({ "redirect_uris": list }))
}

#[test]
fn red_01_02_03_12_what_no_server_should_redirect_to() {
    let gateway = open();
    for bad in [
        "https://a.example/cb#x",
        "https://a.example/cb#",
        "/cb",
        "a.example/cb",
        "//a.example/cb",
        "http://remote.example/cb",
        "https://user@a.example/cb",
        "https://*.a.example/cb",
        "https://a.example/../cb",
    ] {
        refused(&gateway, &redirects(&[bad]), "invalid_redirect_uri");
    }
}

#[test]
fn red_04_06_07_native_clients() {
    let gateway = open();
    for good in [
        "http://127.0.0.1/cb",
        "http://[::1]:5000/cb",
        "http://localhost:3000/cb",
        "https://app.example/cb",
        "com.example.app:/cb",
    ] {
        let body = with(json!({"application_type": "native", "redirect_uris": [good]}));
        assert_eq!(register(&gateway, "rfc7591", &body).json["redirect_uris"], json!([good]));
    }
    let body = with(json!({"application_type": "native", "redirect_uris": ["http://remote.example/cb"]}));
    refused(&gateway, &body, "invalid_redirect_uri");
}

#[test]
fn red_05_web_clients_with_the_implicit_grant_need_https() {
    let gateway = open();
    for uri in ["http://localhost/cb", "http://127.0.0.1:8080/cb"] {
        let body = with(json!({"grant_types": ["implicit"], "response_types": ["token"], "redirect_uris": [uri]}));
        refused(&gateway, &body, "invalid_redirect_uri");
    }
}

#[test]
fn red_08_schemes_that_run_code_in_any_case() {
    let gateway = open();
    for bad in [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "DATA:text/html,x",
        "vbscript:x",
        "File:///etc/passwd",
        "blob:https://a/x",
        "about:blank",
    ] {
        refused(&gateway, &redirects(&[bad]), "invalid_redirect_uri");
    }
}

#[test]
fn red_09_a_scheme_that_anybody_may_claim() {
    let body = with(json!({"application_type": "native", "redirect_uris": ["cursor://anysphere.cursor/oauth"]}));
    let lenient = register(&open(), "rfc7591", &body).json;
    assert!(lenient["registrar_warnings"][0].as_str().unwrap().starts_with("cursor://"), "{lenient}");
    let strict = crate::dcr::gateway(&format!("{}\nstrict_schemes = true", crate::dcr::OPEN), "");
    refused(&strict, &body, "invalid_redirect_uri");
    let dotted =
        with(json!({"application_type": "native", "redirect_uris": ["com.example.app:/cb", "http://localhost/cb"]}));
    assert!(register(&strict, "rfc7591", &dotted).json.get("registrar_warnings").is_none());
}

#[test]
fn red_10_11_13_uris_stay_as_they_were_written() {
    let gateway = open();
    let uris = json!(["https://A.Example:443/CB?x=%7e&y=", "https://a.example", "https://a.example/"]);
    let own = register(&gateway, "rfc7591", &with(json!({"redirect_uris": uris})));
    assert_eq!(own.json["redirect_uris"], uris);
    assert_eq!(own.get(&gateway).json()["redirect_uris"], uris);
    let sent = gateway.fakes.ledger(Some("rfc7591")).into_iter().find(|e| e.method == "POST").unwrap();
    assert_eq!(sent.request_body.unwrap()["redirect_uris"], uris);
}

#[test]
fn red_14_a_uri_twice() {
    let gateway = open();
    let answer =
        gateway.post("/register", &redirects(&["https://a.example/1", "https://a.example/2", "https://a.example/1"]));
    match answer.status {
        201 => assert_eq!(answer.json()["redirect_uris"], json!(["https://a.example/1", "https://a.example/2"])),
        status => assert_eq!((status, answer.text("/error")), (400, "invalid_client_metadata".to_owned())),
    }
}

#[test]
fn red_15_no_uri_is_lost_on_the_way() {
    let gateway = open();
    let many: Vec<String> = (0..20).map(|n| format!("https://a.example/cb/{n}")).collect();
    for route in crate::dcr::ROUTES {
        let answer = gateway.post(&format!("/{route}/register"), &with(json!({"redirect_uris": many})));
        if answer.status == 201 {
            assert_eq!(answer.json()["redirect_uris"], json!(many), "{route}");
        } else {
            assert_eq!(answer.status, 400, "{route}: {}", answer.json());
        }
    }
    // a vendor that cannot hold one as it is: refused, not altered
    let answer = gateway.post("/loop/register", &redirects(&["https://a.example/cb?x=1"]));
    assert_eq!(answer.status, 400, "{}", answer.json());
}

/// Sizes are limited where strangers come; an administrator's lists end where the vendor's do.
#[test]
fn a_client_registers_up_to_100_redirect_uris_by_itself() {
    let gateway = open();
    let many = |n: usize| -> Vec<String> { (0..n).map(|i| format!("https://a.example/{i}")).collect() };
    assert_eq!(gateway.post("/loop/register", &json!({ "redirect_uris": many(100) })).status, 201);
    let refused = gateway.post("/loop/register", &json!({ "redirect_uris": many(101) }));
    assert_eq!(refused.status, 400);
    let told = refused.text("/error_description");
    assert!(told.contains("101 elements") && told.contains("up to 100"), "{told}");
    let metadata = json!({ "client_name": "Many", "redirect_uris": many(256) });
    assert_eq!(gateway.post("/v1/clients", &json!({ "backend": "loop", "metadata": metadata })).status, 201);
}
