//! Reasons in every common shape, and what they point at.

use http::HeaderMap;
use registrar_core::{ErrorKind as K, Secrets};
use serde_json::json;

use super::*;

const SHAPE: Shape = Shape {
    codes: &["/error"],
    sentences: &[],
    request_ids: &[],
    fields: &[("LoginRedirectUri", "metadata.redirect_uris")],
    ids: &["client_id"],
};

fn refused(status: u16, body: &str) -> Error {
    let response = Response::new(status, HeaderMap::new(), body.to_owned().into(), Effect::Once);
    let response = response.about(Subject::NewClient).with_secrets(Secrets::of("the-initial-token"));
    classify(&response, &SHAPE)
}

fn told(error: &Error) -> (Option<&str>, Option<&str>, Option<&str>) {
    let vendor = error.vendor().unwrap();
    let pointer = error.issues().first().map(|issue| issue.pointer.as_str());
    (vendor.code.as_deref(), vendor.message.as_deref(), pointer)
}

#[test]
fn every_common_shape_of_a_reason_is_read() {
    let (name, uris, contact) = ("#/metadata/client_name", "#/metadata/redirect_uris", "#/metadata/contacts/0");
    for (body, code, message, pointer) in [
        (
            json!({ "error": "e", "error_description": "client_name is bad" }),
            Some("e"),
            "client_name is bad",
            Some(name),
        ),
        (json!({ "message": "no" }), None, "no", None),
        (json!({ "message": ["a must be b", "c must be d"] }), None, "a must be b: c must be d", None),
        (
            json!({ "errorCode": "E1", "errorSummary": "Api failed", "errorCauses": [{ "errorSummary": "client_name: long" }] }),
            Some("E1"),
            "Api failed: client_name: long",
            Some(name),
        ),
        (
            json!({ "errors": { "client_name": ["too long", "odd"] } }),
            None,
            "client_name: too long; client_name: odd",
            Some(name),
        ),
        (json!({ "errors": [{ "field": "clientName", "message": "no" }] }), None, "clientName: no", Some(name)),
        (json!({ "errors": [{ "path": ["contacts", 0], "detail": "no" }] }), None, "contacts.0: no", Some(contact)),
        (
            json!({ "errors": [{ "source": { "pointer": "/data/attributes/contacts/0" }, "title": "no" }] }),
            None,
            "/data/attributes/contacts/0: no",
            Some(contact),
        ),
        (json!({ "errors": ["one", "two"] }), None, "one: two", None),
        (json!({ "detail": "plain" }), None, "plain", None),
        (
            json!({ "detail": [{ "loc": ["body", "client_name"], "msg": "long" }] }),
            None,
            "client_name: long",
            Some(name),
        ),
        (json!({ "client_name": ["This is required."] }), None, "client_name: This is required.", Some(name)),
        (json!({ "title": "Bad", "detail": "client_name is odd" }), None, "Bad: client_name is odd", Some(name)),
        (
            json!({ "invalid-params": [{ "name": "client_name", "reason": "odd" }] }),
            None,
            "client_name: odd",
            Some(name),
        ),
        (
            json!({ "violations": [{ "propertyPath": "clientName", "message": "odd" }] }),
            None,
            "clientName: odd",
            Some(name),
        ),
        (json!({ "ErrorCode": 9, "Message": "No", "Description": "odd" }), Some("9"), "No: odd", None),
        (
            json!({ "Errors": [{ "FieldName": "LoginRedirectUri", "ErrorMessage": "odd" }] }),
            None,
            "LoginRedirectUri: odd",
            Some(uris),
        ),
        (json!({ "error": { "code": "c", "message": "inner", "reason": "why" } }), Some("c"), "why: inner", None),
        (
            json!({ "error": "Unrecognized field \"client_name#de\" (class C)" }),
            None,
            "Unrecognized field \"client_name#de\" (class C)",
            Some("#/metadata/client_name#de"),
        ),
        (json!({ "reason": "because" }), None, "because", None),
        (json!("a text"), None, "a text", None),
        (json!(["a list", "of texts"]), None, "a list: of texts", None),
    ] {
        let error = refused(400, &body.to_string());
        assert_eq!(told(&error), (code, Some(message), pointer), "{body}");
        let kind = if pointer == Some(uris) { K::InvalidRedirectUri } else { K::Validation };
        assert_eq!(error.kind(), kind, "{body}");
    }
    assert_eq!(told(&refused(400, "words of a server")), (None, Some("words of a server"), None));
    for nothing in ["", "<html>no</html>", "{\"error\":\"cut", "  ", "\u{fffd}", "7"] {
        assert_eq!(told(&refused(400, nothing)), (None, None, None), "{nothing}");
    }
}

#[test]
fn post_logout_redirect_uris_are_no_redirect_uris() {
    let error = refused(400, r#"{"message":"post_logout_redirect_uris must be https"}"#);
    assert_eq!((error.kind(), told(&error).2), (K::Validation, Some("#/metadata/post_logout_redirect_uris")));
    let error = refused(400, r#"{"message":"the redirect URI is not absolute"}"#);
    assert_eq!((error.kind(), told(&error).2), (K::InvalidRedirectUri, Some("#/metadata/redirect_uris")));
}

#[test]
fn a_policy_refuses_the_request_and_not_the_credential() {
    let policy = |name: &str, details: &str| {
        let text = format!("Policy '{name}' rejected request to client-registration service. Details: {details}");
        refused(403, &json!({ "error": "insufficient_scope", "error_description": text }).to_string())
    };
    let scopes = policy("Allowed Client Scopes", "Not permitted to use specified clientScope");
    assert_eq!((scopes.kind(), told(&scopes).2, scopes.is_passing()), (K::Validation, Some("#/metadata/scope"), false));
    let full = policy("Max Clients Limit", "It's allowed to have max 200 clients per realm");
    assert_eq!((full.kind(), full.outcome(), full.is_passing()), (K::UpstreamRejected, Outcome::NotPerformed, true));
    let code = refused(403, r#"{"error":"invalid_redirect_uri","error_description":"host"}"#);
    assert_eq!(code.kind(), K::InvalidRedirectUri);
    assert_eq!(refused(403, r#"{"error":"forbidden"}"#).kind(), K::UpstreamAuthorization);
    assert_eq!(refused(401, r#"{"error":"invalid_client_metadata"}"#).kind(), K::UpstreamAuthentication);
}

#[test]
fn nothing_repeats_the_credential_that_was_sent() {
    let error =
        refused(400, r#"{"error":"the-initial-token","message":"Bearer the-initial-token; the%2Dinitial%2Dtoken"}"#);
    assert!(!format!("{error:?}").contains("initial"), "{error:?}");
    let error = refused(400, &format!("{}the-initial-token", "long words ".repeat(46)));
    assert!(!format!("{error:?}").contains("the-init"), "cutting leaves no half of it: {error:?}");
}

#[test]
fn a_failure_names_the_client_that_its_body_has() {
    for (status, body) in [
        (500, r#"{"client_id":"c-1","redirect_uris":["https://a.example/cb"]}"#),
        (503, r#"{"data":{"client_id":"c-1"}}"#),
        (500, r#"{"client_id":"c-1","client_secr"#),
    ] {
        let error = refused(status, body);
        assert_eq!(error.client().map(|client| client.client_id.as_str()), Some("c-1"), "{body}");
        assert_eq!(error.vendor().unwrap().message, None, "{body}");
    }
    let other = Response::new(500, HeaderMap::new(), r#"{"client_id":"c-1"}"#.into(), Effect::Idempotent);
    assert!(classify(&other, &SHAPE).client().is_none(), "only a creation makes a client");
}
