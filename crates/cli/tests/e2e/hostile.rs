//! Hostile requests: always a typed error with a pointer or a code, never a 500, nothing sent to a vendor.

use serde_json::{Value, json};

use crate::{
    http::{JSON, MERGE_PATCH, call, raw},
    running::Gateway,
};

/// Member values of every wrong type.
fn wrong_values() -> Vec<Value> {
    vec![
        json!(1),
        json!(-1.5),
        json!(true),
        json!({}),
        json!([]),
        json!([1]),
        json!([null]),
        json!([[]]),
        json!("\u{0}"),
        json!("a\u{7}b"),
        json!("\u{202e}x"),
    ]
}

/// Bodies of a creation, each with something wrong.
pub(crate) fn bodies() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let text = [
        "",
        " ",
        "{",
        "}",
        "[",
        "[]",
        "null",
        "true",
        "1",
        "\"x\"",
        "{}",
        "{]",
        "nul",
        "{\"metadata\"}",
        "{\"metadata\":}",
        "{\"metadata\":{},}",
        "{'metadata':{}}",
        "{\"metadata\":{}} trailing",
        "{\"metadata\":{}}{}",
        "\u{feff}{}",
        "{\"a\":1e400}",
        "{\"metadata\":\"\\ud800\"}",
        "{\"metadata\":{\"client_name\":\"\\u0000\"}}",
        "{\"metadata\":{\"redirect_uris\":[\"https://a.example/\"],\"redirect_uris\":[\"https://b.example/\"]}}",
        "{\"metadata\":{},\"metadata\":{}}",
        "{\"metadata\":{\"x\":{\"a\":1,\"a\":2}}}",
        "/* c */ {}",
        "{\"metadata\": NaN}",
        "{\"metadata\": Infinity}",
        "\u{0}",
        "<xml/>",
        "a=b",
    ];
    out.extend(text.map(|t| t.as_bytes().to_vec()));
    out.push(b"\xff\xfe\x00".to_vec());
    out.push(b"{\"metadata\":{\"client_name\":\"\xc3\x28\"}}".to_vec());
    out.push(format!("{}{}", "[".repeat(60_000), "]".repeat(5_000)).into_bytes());
    out.push(format!("{{\"metadata\":{}1{}}}", "{\"a\":".repeat(40), "}".repeat(40)).into_bytes());
    let good = || json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "x", "scope": "openid" });
    // the envelope
    for name in ["unknown", "Metadata", "client_id", "id", "__proto__", "a/b~c", "\u{e9}"] {
        let mut body = json!({ "metadata": good() });
        body[name] = json!(1);
        out.push(body.to_string().into_bytes());
    }
    for (name, values) in [
        ("backend", vec![json!(1), json!("A B"), json!("../x"), json!(["a"]), json!(""), json!("x".repeat(64))]),
        (
            "policy",
            vec![
                json!(1),
                json!([]),
                json!({ "nonsense": 1 }),
                json!({ "enabled": "true" }),
                json!({ "allowed_cors_origins": ["*"] }),
                json!({ "allowed_cors_origins": ["https://a.example/path"] }),
                json!({ "access_token_lifetime": -1 }),
                json!({ "redirect_domains": ["https://a"] }),
            ],
        ),
        (
            "vendor",
            vec![
                json!(1),
                json!({ "nobody": {} }),
                json!({ "loop": 1 }),
                json!({ "bitgo": { "clientType": "confidential" } }),
            ],
        ),
        (
            "labels",
            vec![
                json!(1),
                json!({ "a": 1 }),
                json!({ "": "x" }),
                json!({ "a b": "x" }),
                json!({ "a": "x".repeat(300) }),
                json!({ "a": "\u{7}" }),
            ],
        ),
        (
            "allow_loss",
            vec![json!("metadata.scope"), json!([1]), json!(["scope"]), json!(["metadata."]), json!(["policy.x"])],
        ),
        ("metadata", vec![json!(1), json!([]), json!("x"), Value::Null]),
    ] {
        for value in values {
            let mut body = json!({ "backend": "bitgo", "metadata": good() });
            body[name] = value;
            out.push(body.to_string().into_bytes());
        }
    }
    // wrong types of members
    for name in [
        "redirect_uris",
        "client_name",
        "scope",
        "grant_types",
        "token_endpoint_auth_method",
        "contacts",
        "jwks",
        "jwks_uri",
        "require_auth_time",
        "default_max_age",
        "logo_uri",
    ] {
        for value in wrong_values() {
            let fits = match name {
                "require_auth_time" => value.is_boolean(),
                "default_max_age" => value == json!(1),
                "contacts" => value == json!([]) || value == "",
                // as if they were left out
                "grant_types" => value == json!([]) || value == "",
                "jwks" => [json!([]), json!({}), json!("")].contains(&value),
                _ => false,
            };
            if !fits {
                let mut body = good();
                body[name] = value;
                out.push(json!({ "backend": "loop", "metadata": body }).to_string().into_bytes());
            }
        }
    }
    // redirect URIs and URLs
    for uri in [
        "",
        "/cb",
        "a",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:x",
        "about:blank",
        "http://a.example/cb",
        "https://a.example/cb#f",
        "https://a.example/#",
        "https://u:p@a.example/",
        "https://*.example/",
        "https://a.example/../x",
        "https://a.example/%2e%2e/x",
        "https://a.example\\@b/",
        "https://a.example/ x",
        " https://a.example",
        "https://a.example/\u{e9}",
        "https://0x7f.1/",
        "http://127.0.0.1.evil.example/",
        "https://",
        "https:///x",
        "x:",
        "https://a.example/%zz",
    ] {
        let mut body = good();
        body["redirect_uris"] = json!([uri]);
        out.push(json!({ "metadata": body }).to_string().into_bytes());
    }
    for (name, uri) in [
        ("jwks_uri", "http://a.example/jwks"),
        ("jwks_uri", "https://127.0.0.1/jwks"),
        ("jwks_uri", "https://169.254.169.254/"),
        ("jwks_uri", "https://localhost/"),
        ("logo_uri", "javascript:alert(1)"),
        ("client_uri", "ftp://a.example"),
        ("tos_uri", "x"),
        ("policy_uri", "https://u@a.example/"),
        ("initiate_login_uri", "http://a.example/"),
        ("backchannel_logout_uri", "https://a.example/#x"),
        ("sector_identifier_uri", "http://a.example/"),
    ] {
        let mut body = good();
        body[name] = json!(uri);
        out.push(json!({ "metadata": body }).to_string().into_bytes());
    }
    // contradictions
    for (name, value) in [
        ("grant_types", json!(["password"])),
        ("response_types", json!(["token"])),
        ("response_types", json!(["nonsense"])),
        ("application_type", json!("desktop")),
        ("subject_type", json!("x")),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("token_endpoint_auth_method", json!("nonsense")),
        ("token_endpoint_auth_method", json!("tls_client_auth")),
        ("token_endpoint_auth_signing_alg", json!("none")),
        ("id_token_encrypted_response_enc", json!("A128GCM")),
        ("tls_client_auth_san_ip", json!("x")),
        ("scope", json!("a \"b")),
        ("client_name", json!("x".repeat(256))),
        ("contacts", json!([""])),
        ("jwks", json!({ "keys": [{ "kty": "RSA", "d": "x" }] })),
        ("jwks", json!({ "keys": "x" })),
        ("default_max_age", json!(1e300)),
    ] {
        let mut body = good();
        body[name] = value;
        out.push(json!({ "metadata": body }).to_string().into_bytes());
    }
    out
}

#[test]
fn bad_bodies_are_refused_with_a_typed_error() {
    let gateway = Gateway::start();
    let bodies = bodies();
    assert!(bodies.len() >= 200, "only {} bodies", bodies.len());
    for body in &bodies {
        for path in ["/v1/clients", "/v1/clients?dry_run=true"] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            let answer = call(gateway.address, "POST", path, &[JSON], body);
            assert!(matches!(answer.status, 400 | 413 | 422), "{} for {shown}", answer.status);
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
            let problem = answer.json();
            assert_eq!(
                (problem["outcome"].as_str(), problem["status"].as_u64()),
                (Some("not_performed"), Some(u64::from(answer.status))),
                "{shown}"
            );
            if answer.status == 422 {
                assert!(
                    problem["errors"][0]["pointer"].as_str().is_some_and(|p| p.starts_with('#')),
                    "{shown}: {problem}"
                );
            }
        }
    }
    assert_eq!(gateway.vendor_writes(), 0);
    assert_eq!(
        gateway.get("/v1/operations").json()["items"],
        json!([]),
        "an intent was recorded for a refused request"
    );
    assert!(!gateway.log().contains("panicked"));
}

#[test]
fn bad_methods_paths_types_and_framing_are_refused() {
    let gateway = Gateway::start();
    let good = json!({ "backend": "loop", "metadata": { "redirect_uris": ["https://a.example/cb"] } }).to_string();
    for media_type in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json; charset=latin1",
        "application/merge-patch+json",
        "",
    ] {
        let answer = call(gateway.address, "POST", "/v1/clients", &[("content-type", media_type)], good.as_bytes());
        assert_eq!((answer.status, answer.text("/code")), (415, "unsupported-media-type".to_owned()), "{media_type}");
    }
    let created = call(
        gateway.address,
        "POST",
        "/v1/clients",
        &[("content-type", "application/json; charset=UTF-8")],
        good.as_bytes(),
    );
    assert_eq!(created.status, 201);
    let path = format!("/v1/clients/{}", created.text("/id"));
    for media_type in ["application/json", "application/json-patch+json", "text/plain"] {
        let answer = call(gateway.address, "PATCH", &path, &[("content-type", media_type)], b"{}");
        assert_eq!(
            (answer.status, answer.header("accept-patch")),
            (415, Some("application/merge-patch+json")),
            "{media_type}"
        );
    }
    for body in ["[]", "1", "null", "\"x\""] {
        assert_eq!(call(gateway.address, "PATCH", &path, &[MERGE_PATCH], body.as_bytes()).status, 400, "{body}");
    }
    for tag in ["1", "\"x\"", "W/\"1\"", "\"1\", \"2\"", "\"18446744073709551616\""] {
        let answer = call(gateway.address, "PATCH", &path, &[MERGE_PATCH, ("if-match", tag)], b"{}");
        assert_eq!((answer.status, answer.text("/code")), (412, "precondition-failed".to_owned()), "{tag}");
    }
    for (method, path) in [
        ("PUT", "/v1/clients"),
        ("DELETE", "/v1/clients"),
        ("POST", &path),
        ("TRACE", "/v1/clients"),
        ("FOO", "/v1/clients"),
        ("GET", "/v1/routes:evaluate"),
        ("POST", "/healthz"),
        ("DELETE", "/v1/operations"),
    ] {
        let answer = call(gateway.address, method, path, &[], b"");
        assert_eq!((answer.status, answer.text("/code")), (405, "method-not-allowed".to_owned()), "{method} {path}");
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
    for id in [
        "x",
        "..",
        "%2e%2e",
        "..%2f..%2fadmin",
        "reg_",
        "reg_0",
        "%00",
        "%ff",
        "reg_01a1fcaa-f4f2-7260-bc3b-8e4f0968ec5c%20",
        "REG_01a1fcaa-f4f2-7260-bc3b-8e4f0968ec5c",
        "a%0d%0ab",
        &"x".repeat(5000),
    ] {
        for suffix in ["", "/secret"] {
            let method = if suffix.is_empty() { "GET" } else { "POST" };
            let answer = call(gateway.address, method, &format!("/v1/clients/{id}{suffix}"), &[], b"");
            assert_eq!(answer.status, 404, "{id}{suffix}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{id}{suffix}");
        }
    }
    for path in ["/v2/clients", "/v1", "/v1/", "/v1/clients/", "//v1/clients", "/v1/nothing"] {
        let answer = call(gateway.address, "GET", path, &[], b"");
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/problem+json")), "{path}");
    }
    for query in ["dryrun=true", "dry_run=yes", "dry_run=true&dry_run=false", "dry_run=%ff"] {
        let writes = gateway.vendor_writes();
        let answer = call(gateway.address, "POST", &format!("/v1/clients?{query}"), &[JSON], good.as_bytes());
        assert_eq!((answer.status, answer.text("/code")), (400, "invalid-request".to_owned()), "{query}");
        assert_eq!(gateway.vendor_writes(), writes, "{query} was a write");
    }
    let huge = vec![b' '; 70_000];
    let answer = call(gateway.address, "POST", "/v1/clients", &[JSON], &huge);
    assert_eq!((answer.status, answer.text("/code")), (413, "payload-too-large".to_owned()));
    // framing that proxies and servers read differently
    for request in [
        "POST /v1/clients HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /v1/clients HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n",
        "GET /v1/clients HTTP/9.9\r\nhost: localhost\r\n\r\n",
        "GET /v1/clients\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        if let Some(answer) = raw(gateway.address, request.as_bytes()) {
            assert!((400..500).contains(&answer.status), "{} for {request:?}", answer.status);
        }
    }
    assert_eq!(gateway.get("/healthz").status, 200);
    assert!(!gateway.log().contains("panicked"));
}

#[test]
fn unknown_metadata_is_ignored_and_reported() {
    let gateway = Gateway::start();
    let body = json!({ "backend": "loop", "metadata": { "redirect_uris": ["https://a.example/cb"], "colour": "red", "client_id": "mine", "client_secret": "CANARY" } });
    let created = gateway.post("/v1/clients", &body);
    assert_eq!(created.status, 201, "{}", created.json());
    let losses = created.json()["losses"].clone();
    for (field, wanted) in
        [("metadata.colour", Some("red")), ("metadata.client_id", None), ("metadata.client_secret", None)]
    {
        let loss = losses
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["field"] == field)
            .unwrap_or_else(|| panic!("{field} is not in {losses}"));
        assert_eq!((loss["kind"].as_str(), loss["wanted"].as_str()), (Some("dropped"), wanted), "{field}");
    }
    assert_ne!(created.text("/client_id"), "mine");
    assert!(!created.json().to_string().contains("CANARY"));
}

#[test]
fn request_ids_are_taken_over_when_plain() {
    let gateway = Gateway::start();
    let echoed = |id: &str| {
        call(gateway.address, "GET", "/healthz", &[("x-request-id", id)], b"")
            .header("x-request-id")
            .unwrap()
            .to_owned()
    };
    assert_eq!(echoed("abc-123"), "abc-123");
    for bad in ["a b", "x\u{e9}", &"y".repeat(200), "<script>"] {
        assert_ne!(echoed(bad), bad);
    }
}
