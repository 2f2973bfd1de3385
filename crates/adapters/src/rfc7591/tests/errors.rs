//! Refusals (RFC 7591 §3.2.2, RFC 7592 §2, RFC 6750 §3.1) and what servers make of them.

use registrar_core::{ErrorKind as K, Outcome};
use serde_json::json;

use super::support::{answered, faked, metadata, target};
use crate::{
    harness::{now, over_fake, portal},
    rfc7591::{VENDOR, fake::FakeVendor},
};

#[test]
fn refused_registrations_by_code() {
    for (preset, status, body, kind, code) in [
        // RFC 7591 §3.2.2
        (
            "standard",
            400,
            r#"{"error":"invalid_redirect_uri","error_description":"The redirection URI http://sketchy.example.com is not allowed by this server."}"#,
            K::InvalidRedirectUri,
            "invalid_redirect_uri",
        ),
        (
            "standard",
            400,
            r#"{"error":"invalid_client_metadata","error_description":"The grant type 'authorization_code' must be registered along with the response type 'code' but found only 'implicit' instead."}"#,
            K::Validation,
            "invalid_client_metadata",
        ),
        ("standard", 400, r#"{"error":"invalid_software_statement"}"#, K::Validation, "invalid_software_statement"),
        (
            "standard",
            400,
            r#"{"error":"unapproved_software_statement"}"#,
            K::Validation,
            "unapproved_software_statement",
        ),
        // measured: oidc-provider, django-oauth-toolkit, canaille
        (
            "oidc-provider",
            400,
            r#"{"error":"invalid_redirect_uri","error_description":"redirect_uris must not contain fragments"}"#,
            K::InvalidRedirectUri,
            "invalid_redirect_uri",
        ),
        (
            "oidc-provider",
            400,
            r#"{"error":"invalid_request","error_description":"client registration request must be a JSON object"}"#,
            K::Validation,
            "invalid_request",
        ),
        (
            "oidc-provider",
            401,
            r#"{"error":"invalid_token","error_description":"invalid token provided"}"#,
            K::UpstreamAuthentication,
            "invalid_token",
        ),
        (
            "django-oauth-toolkit",
            400,
            r#"{"error":"invalid_client_metadata","error_description":"redirect_uris: redirect uri URI validation error. fragment not allowed: https://a.example/cb#f"}"#,
            K::InvalidRedirectUri,
            "invalid_client_metadata",
        ),
        (
            "django-oauth-toolkit",
            401,
            r#"{"error":"access_denied","error_description":"Authentication required to register a client"}"#,
            K::UpstreamAuthentication,
            "access_denied",
        ),
        ("django-oauth-toolkit", 404, r#"{"error":"not_found"}"#, K::UpstreamRejected, "not_found"),
        (
            "canaille",
            400,
            r#"{"error":"access_denied","error_description":"The resource owner or authorization server denied the request"}"#,
            K::UpstreamAuthentication,
            "access_denied",
        ),
        (
            "canaille",
            400,
            r#"{"error":"invalid_client_metadata","error_description":"Invalid claim: 'jwks'"}"#,
            K::Validation,
            "invalid_client_metadata",
        ),
        // idpyoidc
        (
            "standard",
            400,
            r#"{"error":"invalid_configuration_parameter"}"#,
            K::Validation,
            "invalid_configuration_parameter",
        ),
        (
            "hydra",
            403,
            r#"{"error":{"code":403,"status":"Forbidden","message":"The requested action was forbidden"}}"#,
            K::UpstreamAuthorization,
            "Forbidden",
        ),
        (
            "autional",
            400,
            r#"{"code":40000001,"message":"redirect_uris is required"}"#,
            K::InvalidRedirectUri,
            "40000001",
        ),
    ] {
        let (adapter, _) = answered(preset, &[(status, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotPerformed), "{preset} {status} {body}");
        assert_eq!(error.vendor().and_then(|v| v.code.as_deref()), Some(code), "{body}");
    }
}

#[test]
fn a_refused_software_statement_is_pointed_at() {
    let (adapter, _) = faked("standard");
    let stated = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "software_statement": "e30.e30.x" }));
    let error = now(adapter.create(&stated)).unwrap_err();
    assert_eq!(error.issues()[0].pointer.as_str(), "#/metadata/software_statement");
}

#[test]
fn refused_management_by_status() {
    use Outcome::{NotPerformed as No, Unknown};
    for (preset, status, body, kind, outcome) in [
        // RFC 7592 §2.1 has 401 for clients that are gone; canaille answers 400 access_denied (measured)
        ("standard", 401, r#"{"error":"invalid_token"}"#, K::NotFound, No),
        ("standard", 401, "", K::NotFound, No),
        ("canaille", 400, r#"{"error":"access_denied"}"#, K::NotFound, No),
        ("canaille", 401, r#"{"error":"invalid_client"}"#, K::NotFound, No),
        ("standard", 404, "Not Found", K::NotFound, No),
        ("standard", 410, "", K::NotFound, No),
        // measured: the realm was renamed, registration was switched off; both have 401 for a client that is gone
        ("keycloak", 404, r#"{"error":"Realm does not exist"}"#, K::UpstreamRejected, No),
        ("keycloak", 401, r#"{"error":"invalid_token"}"#, K::NotFound, No),
        ("hydra", 404, r#"{"error":"The requested resource could not be found"}"#, K::UpstreamRejected, No),
        ("hydra", 410, "", K::UpstreamRejected, No),
        ("standard", 403, r#"{"error":"unauthorized_client"}"#, K::UpstreamAuthorization, No),
        ("standard", 405, "<!doctype html>", K::UnsupportedByBackend, No),
        ("standard", 400, r#"{"error":"invalid_request"}"#, K::Validation, No),
        ("standard", 400, "<html><title>Bad Request</title>", K::Validation, No),
        ("standard", 500, "<html>", K::UpstreamError, Unknown),
        ("standard", 503, "", K::UpstreamUnavailable, Unknown),
    ] {
        let answers = [(status, body), (status, body)];
        let (adapter, _) = answered(preset, &answers);
        let renamed = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "Renamed" }));
        let error = now(adapter.update(&target(), &portal(), &renamed)).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {body}");
        assert_eq!(now(adapter.delete(&target())).unwrap_err().kind(), kind, "{status} {body}");
    }
}

#[test]
fn an_error_with_a_success_status_is_an_error() {
    for (preset, body) in [
        ("standard", r#"{"error":"invalid_client_metadata","error_description":"no"}"#),
        ("autional", r#"{"code":40000001,"message":"no","data":null}"#),
    ] {
        let (adapter, _) = answered(preset, &[(200, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamRejected, Outcome::NotPerformed), "{body}");
    }
    let (adapter, _) = answered("autional", &[(200, r#"{"code":0,"data":{}}"#)]);
    assert_eq!(now(adapter.create(&portal())).unwrap_err().outcome(), Outcome::Unknown);
}

#[test]
fn a_server_that_wants_an_initial_access_token_says_which_setting() {
    let (open, _) = answered("standard", &[(401, r#"{"error":"invalid_token"}"#)]);
    let error = now(open.create(&portal())).unwrap_err();
    assert!(error.advice().unwrap().contains("set the backend's `token`"), "{error}");
    assert!(!error.detail().contains("backend"), "{error}");
    let (adapter, _) =
        over_fake(&VENDOR, FakeVendor::default(), "wrong", json!({ "registration_path": "/connect/clients" }));
    let error = now(adapter.create(&portal())).unwrap_err();
    assert_eq!(error.kind(), K::UpstreamAuthentication);
    assert!(error.advice().unwrap().contains("check the backend's `token`"), "{error}");
}

#[test]
fn an_open_server_registers_without_a_token() {
    let fake = FakeVendor::open();
    let settings = json!({ "registration_path": "/connect/clients" });
    let (adapter, _) = over_fake(&VENDOR, fake, "", settings);
    assert!(now(adapter.create(&portal())).is_ok());
}

#[test]
fn the_check_reads_the_servers_metadata() {
    let (adapter, wire) =
        answered("django-oauth-toolkit", &[(200, r#"{"issuer":"x"}"#), (400, ""), (404, ""), (200, "<html>")]);
    assert!(now(adapter.check()).is_ok());
    assert_eq!(wire.sent.lock().unwrap()[0].1, "/.well-known/oauth-authorization-server");
    let error = now(adapter.check()).unwrap_err();
    assert_eq!(error.kind(), K::UpstreamRejected);
    assert!(error.advice().unwrap().contains("`discovery_path`"), "{error}");
    assert_eq!(now(adapter.check()).unwrap_err().kind(), K::UpstreamMalformed);
}
