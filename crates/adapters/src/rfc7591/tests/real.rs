//! What was measured at real servers (field/real-servers.md R1, R3, J1, J5 to J7).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use registrar_core::{ErrorKind as K, Target};
use registrar_model::{LossKind, Severity, account::account};
use serde_json::{Value, json};

use super::support::{answer, answered, faked, last, metadata, target};
use crate::harness::{loss, now};

fn web(members: Value) -> registrar_model::ClientSpec {
    let mut all = json!({ "redirect_uris": ["https://a.example/cb"] });
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    metadata(all)
}

#[test]
fn r1_openid_is_never_sent_to_keycloak_and_is_shown_where_it_was_asked() {
    for (asked, sent) in [
        ("openid", json!("")),
        ("openid profile", json!("profile")),
        ("profile openid email", json!("profile email")),
        ("profile", json!("profile")),
    ] {
        let (adapter, wire) = faked("keycloak");
        let spec = web(json!({ "scope": asked }));
        let created = now(adapter.create(&spec)).unwrap();
        assert_eq!(last(&wire).2["scope"], sent, "{asked}");
        let losses = account(&spec, &created.value.spec, created.losses);
        assert!(losses.iter().all(|loss| loss.field != "metadata.scope"), "{asked}: {losses:?}");
        let read = now(adapter.read(&created.value.target())).unwrap();
        assert_eq!(read.spec, created.value.spec, "{asked}: no drift");
        let more = web(json!({ "scope": asked, "client_name": "B" }));
        let updated = now(adapter.update(&created.value.target(), &created.value.spec, &more)).unwrap();
        assert_eq!(last(&wire).2["scope"], sent, "{asked}");
        assert_eq!(updated.value.spec.metadata.scope, created.value.spec.metadata.scope, "{asked}");
    }
    let (adapter, wire) = faked("keycloak");
    now(adapter.create(&web(json!({})))).unwrap();
    assert!(last(&wire).2.get("scope").is_none(), "who asks for nothing gets the server's default");
}

/// Keycloak keeps the scope that a PUT leaves out.
#[test]
fn r1_a_scope_that_goes_is_sent_as_an_empty_one() {
    for (preset, sent) in [("keycloak", Some(json!(""))), ("standard", None)] {
        let (adapter, wire) = faked(preset);
        let created = now(adapter.create(&web(json!({ "scope": "profile" })))).unwrap().value;
        now(adapter.update(&created.target(), &created.spec, &web(json!({})))).unwrap();
        assert_eq!(last(&wire).2.get("scope").cloned(), sent, "{preset}");
    }
}

#[test]
fn r1_openid_is_sent_elsewhere() {
    let (adapter, wire) = faked("standard");
    now(adapter.create(&web(json!({ "scope": "openid" })))).unwrap();
    assert_eq!(last(&wire).2["scope"], "openid");
}

#[test]
fn r3_keycloak_is_not_sent_members_that_it_refuses() {
    let (adapter, wire) = faked("keycloak");
    let spec = web(json!({ "client_name": "A", "client_name#de": "Ah", "software_statement": "a.b.c" }));
    let plan = adapter.preview(&spec).unwrap();
    loss(&plan.losses, "metadata.client_name#de");
    loss(&plan.losses, "metadata.software_statement");
    now(adapter.create(&spec)).unwrap();
    let body = last(&wire).2;
    assert!(body.get("client_name#de").is_none() && body.get("software_statement").is_none(), "{body}");
}

#[test]
fn j6_what_was_not_sent_is_not_sent_as_an_empty_list() {
    let machine = metadata(json!({ "grant_types": ["client_credentials"] }));
    for preset in ["standard", "spring", "spring-oidc", "keycloak", "hydra"] {
        let (adapter, wire) = faked(preset);
        now(adapter.create(&machine)).unwrap();
        assert!(last(&wire).2.get("response_types").is_none(), "{preset}");
    }
    let (adapter, wire) = faked("oidc-provider");
    now(adapter.create(&machine)).unwrap();
    assert_eq!(last(&wire).2["response_types"], json!([]), "it assumes code otherwise, and refuses that");
}

#[test]
fn j1_spring_oidc_shows_and_neither_changes_nor_deletes() {
    let (adapter, wire) = faked("spring-oidc");
    let spec = web(json!({ "client_name": "A" }));
    let created = now(adapter.create(&spec)).unwrap();
    let said = loss(&created.losses, "management");
    assert_eq!((said.kind, said.severity), (LossKind::Dropped, Severity::Functional));
    let target = created.value.target();
    now(adapter.read(&target)).unwrap();
    let before = wire.sent.lock().unwrap().len();
    let renamed = web(json!({ "client_name": "B" }));
    assert_eq!(
        now(adapter.update(&target, &created.value.spec, &renamed)).unwrap_err().kind(),
        K::UnsupportedByBackend
    );
    assert_eq!(now(adapter.delete(&target)).unwrap_err().kind(), K::UnsupportedByBackend);
    assert_eq!(wire.sent.lock().unwrap().len(), before, "nothing was sent");
}

#[test]
fn j7_a_token_that_ends_is_told_at_creation() {
    let token = |claims: Value| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()));
    for (token, ends) in [
        (token(json!({ "iat": 1000, "exp": 1300 })), true),
        (token(json!({ "iat": 1000.5, "exp": 1300 })), true),
        (token(json!({ "iat": 1000 })), false),
        (token(json!({ "iat": 1000, "exp": 0 })), false),
        (token(json!({ "exp": 1300 })), false),
        (token(json!([])), false),
        ("opaque.token".to_owned(), false),
        ("a.!!!.b".to_owned(), false),
    ] {
        let (adapter, _) = answered("standard", &[(201, &answer(json!({ "registration_access_token": token })))]);
        let created = now(adapter.create(&web(json!({})))).unwrap();
        assert!(created.value.management.is_some());
        let told: Vec<_> = created.losses.iter().filter(|loss| loss.field == "management").collect();
        assert_eq!(told.len(), usize::from(ends), "{token}");
        assert!(
            told.iter().all(|loss| loss.reason.contains("300 s")
                || loss.reason.contains("299 s")
                || loss.reason.contains("299")),
            "{told:?}"
        );
    }
}

#[test]
fn relative_registration_client_uris_count_from_the_registration_endpoint() {
    let base = super::support::BASE;
    for (given, wanted) in [
        ("/register/c1", Some(format!("{base}/register/c1"))),
        ("register/c1", Some(format!("{base}/register/c1"))),
        ("?client_id=c1", Some(format!("{base}/register?client_id=c1"))),
        ("//evil.example/c1", None),
        ("\\\\evil.example/c1", None),
        ("http:/register/c1", None),
        ("#c1", None),
        (".", Some(format!("{base}/"))),
        ("/register", None),
        ("javascript:alert(1)", None),
        ("//user:pass@server.example.com/c1", None),
    ] {
        let (adapter, _) = answered("standard", &[(201, &answer(json!({ "registration_client_uri": given })))]);
        let created = now(adapter.create(&web(json!({})))).unwrap();
        let uri = created.value.management.map(|management| management.uri.to_string());
        assert_eq!(uri, wanted, "{given}");
    }
}

#[test]
fn j5_r9_a_check_tries_the_token_and_the_endpoint_and_registers_nothing() {
    let found = (200, r#"{"issuer":"https://server.example.com"}"#);
    for (preset, status, body, wanted) in [
        ("standard", 400, r#"{"error":"invalid_client_metadata"}"#, None),
        ("keycloak", 400, r#"{"error":"invalid_redirect_uri","error_description":"no fragment"}"#, None),
        ("standard", 500, "Internal Server Error", None),
        ("standard", 401, r#"{"error":"invalid_token"}"#, Some(K::UpstreamAuthentication)),
        ("canaille", 400, r#"{"error":"access_denied"}"#, Some(K::UpstreamAuthentication)),
        ("spring", 401, "", Some(K::UpstreamAuthentication)),
        ("standard", 404, "", Some(K::UpstreamRejected)),
        ("standard", 405, "", Some(K::UpstreamRejected)),
        ("standard", 503, "", Some(K::UpstreamUnavailable)),
    ] {
        let (adapter, wire) = answered(preset, &[found, (status, body)]);
        let error = now(adapter.check()).err();
        assert_eq!(error.map(|error| error.kind()), wanted, "{preset} {status} {body}");
        assert_eq!(wire.sent.lock().unwrap().len(), 2);
    }
    for preset in crate::rfc7591::preset::PRESETS {
        let (adapter, _) = faked(preset.name);
        now(adapter.check()).unwrap();
        let first = now(adapter.create(&web(json!({ "scope": "profile" })))).unwrap().value;
        assert_eq!(first.client_id.as_str(), "c-000001", "{}: nothing was registered before", preset.name);
    }
}

#[test]
fn a_hash_that_is_shown_as_the_secret_is_kept_nowhere() {
    let shown = answer(json!({ "client_secret": "{bcrypt}$2a$10$CANARY" }));
    let (adapter, _) = answered("spring-oidc", &[(200, &shown)]);
    let read = now(adapter.read(&target())).unwrap();
    assert!(read.secret.is_none());
    assert!(!format!("{read:?}{:?}", read.spec.flatten()).contains("CANARY"));
}

#[test]
fn s13_13_hydra_gives_no_secret_to_a_client_that_becomes_confidential() {
    let public = web(json!({ "token_endpoint_auth_method": "none" }));
    let confidential = web(json!({ "token_endpoint_auth_method": "client_secret_post" }));
    let keys = json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks" });
    let (adapter, wire) = faked("hydra");
    let created = now(adapter.create(&public)).unwrap().value;
    for desired in [&confidential, &web(json!({}))] {
        let error = now(adapter.update(&created.target(), &created.spec, desired)).unwrap_err();
        assert_eq!(error.kind(), K::UnsupportedValue);
        assert_eq!(error.issues()[0].pointer.as_str(), "#/metadata/token_endpoint_auth_method");
    }
    assert_eq!(wire.sent.lock().unwrap().len(), 1, "nothing was sent");
    now(adapter.update(&created.target(), &created.spec, &web(keys))).unwrap();
    let (adapter, _) = faked("keycloak");
    let created = now(adapter.create(&public)).unwrap().value;
    let updated = now(adapter.update(&created.target(), &created.spec, &confidential)).unwrap();
    assert!(updated.value.secret.is_some());
}

#[test]
fn hydras_word_for_no_signing_is_none() {
    let shown = answer(json!({ "userinfo_signed_response_alg": "none", "jwks": {} }));
    let (adapter, _) = answered("hydra", &[(201, &shown)]);
    let created = now(adapter.create(&web(json!({})))).unwrap().value;
    let members = created.spec.flatten();
    assert!(!members.contains_key("metadata.userinfo_signed_response_alg") && !members.contains_key("metadata.jwks"));
}

#[test]
fn a_target_without_a_recorded_scope_shows_what_the_server_shows() {
    let (adapter, _) = answered("keycloak", &[(200, &answer(json!({ "scope": "profile" })))]);
    let read = now(adapter.read(&Target { scope: None, ..target() })).unwrap();
    assert_eq!(read.spec.flatten()["metadata.scope"], json!("profile"));
}
