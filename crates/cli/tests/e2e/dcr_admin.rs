//! Checklist G: the administrators' API.

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Map, Value, json};

use crate::{
    http::{JSON, MERGE_PATCH, call},
    running::{Gateway, binary},
};

fn client(name: &str) -> Value {
    json!({ "backend": "loop", "metadata": { "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid" } })
}

#[test]
fn adm_01_02_errors_are_problem_documents_with_a_page() {
    let gateway = Gateway::start();
    for (method, path, body) in [
        ("POST", "/v1/clients", json!({})),
        ("POST", "/v1/clients", json!([])),
        ("GET", "/v1/clients/x", Value::Null),
        ("GET", "/v1/nowhere", Value::Null),
        ("PUT", "/v1/clients", Value::Null),
        ("GET", "/v1/clients?limit=0", Value::Null),
    ] {
        let answer = gateway.call(method, path, &[JSON], &body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        assert_eq!(answer.json()["status"], json!(answer.status));
        let kind = answer.text("/type");
        let (_, slug) = kind.split_once("/problems/").unwrap();
        assert!(kind.starts_with("http://"));
        let page = gateway.get(&format!("/problems/{slug}"));
        assert_eq!(page.status, 200);
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        assert!(String::from_utf8_lossy(&page.body).contains(&answer.text("/title")));
    }
}

#[test]
fn adm_03_every_fault_has_a_pointer_that_works() {
    let gateway = Gateway::start();
    let mut body = client("x");
    body["metadata"]["redirect_uris"] = json!(["https://a.example/cb", "javascript:x"]);
    body["metadata"]["subject_type"] = json!("secret");
    body["policy"] = json!({"allowed_cors_origins": ["https://a.example/path"]});
    let answer = gateway.post("/v1/clients", &body);
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert!(errors.len() >= 3, "{errors:?}");
    for error in errors {
        let pointer = error["pointer"].as_str().unwrap().trim_start_matches('#').to_owned();
        assert!(body.pointer(&pointer).is_some(), "{pointer}");
    }
}

#[test]
fn adm_10_12_versions() {
    let gateway = Gateway::start();
    let created = gateway.post("/v1/clients", &client("x"));
    let path = format!("/v1/clients/{}", created.text("/id"));
    let tag = created.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"'));
    let same = call(gateway.address, "GET", &path, &[("if-none-match", &tag)], b"");
    assert_eq!((same.status, same.body.len()), (304, 0));
    let writes = gateway.vendor_writes();
    let change = json!({"metadata": {"client_name": "y"}});
    let stale = gateway.call("PATCH", &path, &[MERGE_PATCH, ("if-match", "\"7\"")], &change);
    assert_eq!((stale.status, gateway.vendor_writes()), (412, writes));
    assert_eq!(gateway.call("PATCH", &path, &[MERGE_PATCH, ("if-match", &tag)], &change).status, 200);
    assert_eq!(call(gateway.address, "GET", &path, &[("if-none-match", &tag)], b"").status, 200);
}

#[test]
fn adm_11_a_change_must_say_what_it_changes_where_the_configuration_says_so() {
    let strict =
        Gateway::start_edited("none", |text| text.replacen("[server]\n", "[server]\nrequire_if_match = true\n", 1));
    // a vendor that deletes
    let client = |name: &str| {
        let mut client = client(name);
        client["backend"] = json!("rfc7591");
        client
    };
    let made = strict.post("/v1/clients", &client("A"));
    assert_eq!(made.status, 201, "a create changes nothing");
    let path = format!("/v1/clients/{}", made.text("/id"));
    let body = |name: &str| {
        let mut body = client(name);
        body.as_object_mut().unwrap().remove("backend");
        body
    };
    let patch = json!({"metadata": {"client_name": "P"}});
    let disable = format!("{path}?mode=disable");
    let before = strict.fakes.ledger(None).len();
    for (method, path, kind, body) in [
        ("PUT", &path, JSON, &body("B")),
        ("PATCH", &path, MERGE_PATCH, &patch),
        ("DELETE", &path, JSON, &Value::Null),
        ("DELETE", &disable, JSON, &Value::Null),
    ] {
        let answer = strict.call(method, path, &[kind], body);
        assert_eq!((answer.status, answer.text("/code")), (428, "precondition-required".to_owned()), "{method}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.text("/outcome"), "not_performed");
        assert!(answer.text("/detail").contains("If-Match"), "{}", answer.json());
    }
    assert_eq!(strict.fakes.ledger(None).len(), before, "a vendor was asked");
    assert_eq!(strict.get("/problems/precondition-required").status, 200);
    // with one, as everywhere: the current version, and `*` for whichever there is
    let tag = strict.get(&path).header("etag").unwrap().to_owned();
    let replaced = strict.call("PUT", &path, &[JSON, ("if-match", &tag)], &body("B"));
    assert_eq!(replaced.status, 200, "{}", replaced.json());
    assert_eq!(strict.call("PATCH", &path, &[MERGE_PATCH, ("if-match", &tag)], &patch).status, 412);
    assert_eq!(strict.call("PATCH", &path, &[MERGE_PATCH, ("if-match", "*")], &patch).status, 200);
    // and from the command line
    let (id, version) = (made.text("/id"), strict.get(&path).json()["version"].to_string());
    let delete = |more: &[&str]| {
        let url = format!("http://{}", strict.address);
        binary().args(["clients", "--url", &url, "delete", &id]).args(more).output().unwrap()
    };
    assert_eq!(delete(&[]).status.code(), Some(2));
    let deleted = delete(&["--if-version", &version]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));

    // without the policy nobody needs one
    let gateway = Gateway::start();
    let path = format!("/v1/clients/{}", gateway.post("/v1/clients", &client("A")).text("/id"));
    assert_eq!(gateway.call("PUT", &path, &[JSON], &body("B")).status, 200);
    assert_eq!(gateway.call("DELETE", &path, &[], &Value::Null).status, 204);
}

#[test]
fn adm_15_18_types_and_methods_that_are_not_there() {
    let gateway = Gateway::start();
    let created = gateway.post("/v1/clients", &client("x"));
    let path = format!("/v1/clients/{}", created.text("/id"));
    let patch = gateway.call("PATCH", &path, &[("content-type", "application/json-patch+json")], &json!([]));
    assert_eq!((patch.status, patch.header("accept-patch")), (415, Some("application/merge-patch+json")));
    for path in ["/v1/clients", path.as_str(), "/v1/backends", "/healthz", "/v1/initial-access-tokens"] {
        let answer = gateway.call("TRACE", path, &[], &Value::Null);
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.header("allow").is_some(), "{path}");
    }
}

#[test]
fn adm_19_who_must_wait_is_told_how_long() {
    let gateway = Gateway::start();
    gateway.fakes.script(ScriptedFault {
        kind: Some("loop".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 8,
        when: When::Before,
        fault: Fault::Status {
            status: 429,
            body: None,
            headers: Map::from_iter([("retry-after".to_owned(), json!("7"))]),
        },
    });
    let answer = gateway.post("/v1/clients", &client("x"));
    assert_eq!((answer.status, answer.text("/code")), (503, "upstream-rate-limited".to_owned()));
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
}

#[test]
fn adm_21_a_dry_run_writes_nothing_and_lists_every_loss() {
    let gateway = Gateway::start();
    let mut body = client("x");
    body["metadata"]["contacts"] = json!(["x@a.example"]);
    body["metadata"]["jwks_uri"] = json!("https://a.example/jwks");
    let dry = gateway.post("/v1/clients?dry_run=true", &body).json();
    let fields: Vec<&Value> = dry["losses"].as_array().unwrap().iter().map(|l| &l["field"]).collect();
    assert!(fields.contains(&&json!("metadata.contacts")) && fields.contains(&&json!("metadata.jwks_uri")), "{dry}");
    assert_eq!(gateway.vendor_writes(), 0);
}

#[test]
fn adp_05_the_vendors_next_token_outlives_the_process() {
    let mut gateway = Gateway::start();
    let mut body = client("x");
    body["backend"] = json!("rfc7591");
    let path = format!("/v1/clients/{}", gateway.post("/v1/clients", &body).text("/id"));
    for name in ["a", "b", "c"] {
        // this vendor gives another token with each of its answers
        let change = json!({ "metadata": { "client_name": name } });
        let answer = gateway.call("PATCH", &path, &[MERGE_PATCH], &change);
        assert_eq!(answer.status, 200, "{}", answer.json());
        gateway.kill_and_restart();
    }
    assert_eq!(gateway.get(&format!("{path}?source=vendor")).json()["metadata"]["client_name"], "c");
}

#[test]
fn adp_12_a_lost_answer_is_not_asked_for_again() {
    let gateway = crate::dcr::open();
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Reset {},
    });
    let answer = gateway.post("/register", &crate::dcr::metadata());
    assert_eq!((answer.status, answer.text("/error")), (504, "server_error".to_owned()), "{}", answer.json());
    let operation = gateway.get(&format!("/v1/operations/{}", answer.text("/operation")));
    assert_eq!(operation.json()["outcome"], "unknown");
    assert_eq!(gateway.vendor_writes(), 1);
}
