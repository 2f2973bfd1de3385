//! The traps, transformations and errors of authms.

use registrar_core::{ErrorKind as K, ExposeSecret as _, Outcome, SecretString, Settings, Target};
use registrar_model::{AuthMethod, LossKind, Severity};
use serde_json::{Value, json};

use super::{VENDOR, fake};
use crate::harness::{loss, now, over_answers, over_fake, portal, settings, spec};

const CREATED: &str = include_str!("fixtures/created.json");

fn target() -> Target {
    Target {
        client_id: "app-123".parse().unwrap(),
        vendor_ref: "app-123".to_owned(),
        management: None,
        auth_method: None,
        scope: None,
    }
}

fn faked(more: Value) -> (std::sync::Arc<dyn registrar_core::Adapter>, std::sync::Arc<crate::harness::Wire>) {
    over_fake(&VENDOR, fake::FakeVendor::default(), fake::TOKEN, more)
}

#[test]
fn the_documented_answer_is_read() {
    let (adapter, _) = over_answers(&VENDOR, &[(201, CREATED)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    let shown = created.spec.flatten();
    for (field, value) in [
        ("metadata.client_name", json!("My Application")),
        ("metadata.logo_uri", json!("https://app.example.com/logo.png")),
        ("metadata.client_uri", json!("https://app.example.com")),
        ("metadata.policy_uri", json!("https://app.example.com/privacy")),
        ("metadata.tos_uri", json!("https://app.example.com/terms")),
        ("metadata.scope", json!("openid profile email")),
        ("metadata.jwks_uri", json!("https://client.example.com/.well-known/jwks.json")),
        ("policy.security_profile", json!("fapi1")),
        ("policy.enabled", json!(true)),
        ("policy.allowed_cors_origins", json!(["https://app.example.com"])),
        ("metadata.response_types", json!(["code"])),
    ] {
        assert_eq!(shown.get(field), Some(&value), "{field}");
    }
    assert_eq!(created.secret.unwrap().value.expose_secret(), "secret_abc123");
}

#[test]
fn trap_03_t7_methods_go_in_as_a_list_and_come_back_as_a_text() {
    let (adapter, wire) = faked(json!({}));
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(wire.sent.lock().unwrap()[0].2["client_auth_methods"], json!(["client_secret_basic"]));
    assert_eq!(created.spec.metadata.token_endpoint_auth_method, Some(AuthMethod::ClientSecretBasic));
    for (wire, method, kept) in [
        (r#""[\"client_secret_basic\",\"private_key_jwt\"]""#, Some(AuthMethod::ClientSecretBasic), true),
        (r#"["client_secret_post"]"#, Some(AuthMethod::ClientSecretPost), false),
        (r#""client_secret_post""#, Some(AuthMethod::ClientSecretPost), false),
        (r#""""#, None, false),
        ("null", None, false),
        (r#""[]""#, None, false),
        ("7", Some(AuthMethod::Other("7".to_owned())), false),
        // odd, and no reason to lose the client: the secret and what was asked say which method is in force
        (r#"{"a":1}"#, None, false),
        ("[[1]]", None, false),
    ] {
        let body = CREATED.replace(r#""[\"client_secret_basic\",\"private_key_jwt\"]""#, wire);
        let (adapter, _) = over_answers(&VENDOR, &[(201, &body)]);
        let created = now(adapter.create(&portal())).unwrap().value;
        assert!(created.secret.is_some(), "{wire}");
        let spec = created.spec;
        assert_eq!(spec.metadata.token_endpoint_auth_method, method, "{wire}");
        assert_eq!(spec.vendor_members("authms").contains_key("client_auth_methods"), kept, "{wire}");
    }
}

#[test]
fn trap_04_lists_have_their_items_at_the_top() {
    let page = r#"{"code":0,"message":"success","timestamp":"t","items":[{"client_id":"app-1","name":"A","redirect_uris":["https://a.example/cb"],"status":"active"}],"total":1,"pagination":{"page":1,"page_size":20,"total":1,"total_pages":1,"has_next":false,"has_prev":false}}"#;
    let (adapter, _) = over_answers(&VENDOR, &[(200, page), (200, r#"{"code":0,"data":{"items":[]}}"#)]);
    assert_eq!(now(adapter.list(None)).unwrap().items.len(), 1);
    assert_eq!(now(adapter.list(None)).unwrap_err().kind(), K::UpstreamMalformed);
}

#[test]
fn trap_05_the_rotated_secret_has_another_name() {
    let rotated = r#"{"code":0,"data":{"client_id":"app-123","new_secret":"s2","rotated_at":"2026-01-01T00:00:00Z"}}"#;
    let (adapter, _) = over_answers(
        &VENDOR,
        &[(200, rotated), (200, r#"{"code":0,"data":{"client_id":"app-123","client_secret":"s2"}}"#)],
    );
    let secret = now(adapter.rotate_secret(&target())).unwrap();
    assert_eq!(
        (secret.value.expose_secret(), secret.previous_valid_until),
        ("s2", Some(1_767_225_600 + 14_400)),
        "trap_26: four hours of grace"
    );
    assert_eq!(
        now(adapter.rotate_secret(&target())).unwrap_err().outcome(),
        Outcome::Unknown,
        "never a success without a secret"
    );
}

#[test]
fn trap_06_a_code_in_the_envelope_overrules_the_status() {
    for body in [r#"{"code":40000001,"message":"no"}"#, r#"{"code":"40100001","message":"no"}"#] {
        let (adapter, _) = over_answers(&VENDOR, &[(200, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamRejected, Outcome::NotPerformed));
        assert!(error.vendor().unwrap().code.is_some());
    }
    let (adapter, _) = over_answers(
        &VENDOR,
        &[(201, &CREATED.replace("\"code\":0", "\"code\":\"0\"")), (201, &CREATED.replace("\"code\":0,", ""))],
    );
    assert!(now(adapter.create(&portal())).is_ok() && now(adapter.create(&portal())).is_ok());
}

#[test]
fn trap_07_paths_take_the_client_id() {
    let (adapter, wire) = faked(json!({}));
    let created = now(adapter.create(&portal())).unwrap().value;
    now(adapter.read(&created.target())).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[1].1, "/api/v1/admin/oauth/clients/app-1");
}

#[test]
fn trap_22_t13_keys_are_a_text_that_reads_never_show() {
    let (adapter, wire) = faked(json!({}));
    let keys = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "jwks": { "keys": [{ "kty": "EC", "crv": "P-256", "x": "x", "y": "y" }] } } }),
    );
    let created = now(adapter.create(&keys)).unwrap();
    assert!(wire.sent.lock().unwrap()[0].2["jwks"].as_str().unwrap().contains("\"kty\":\"EC\""));
    let held = loss(&created.losses, "metadata.jwks");
    assert_eq!((held.kind, held.severity), (LossKind::LocalOnly, Severity::Info));
    let without = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] } }));
    now(adapter.update(&created.value.target(), &keys, &without)).unwrap();
    let put = wire.sent.lock().unwrap().last().unwrap().2.clone();
    assert_eq!(put["jwks"], "", "removed keys are cleared at the vendor too");
    let swapped = CREATED.replace(r#""jwks":"""#, r#""jwks":"{\"keys\":[]}""#);
    let (adapter, _) = over_answers(&VENDOR, &[(201, &swapped)]);
    let created = now(adapter.create(&keys)).unwrap();
    assert_eq!(loss(&created.losses, "metadata.jwks").severity, Severity::Security, "other keys came back");
}

#[test]
fn trap_23_confidentiality_is_always_sent_and_the_echo_believed() {
    let (adapter, wire) = faked(json!({}));
    now(adapter.create(&portal())).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["is_confidential"], json!(true));
    let public = CREATED.replace("\"is_confidential\":true", "\"is_confidential\":false").replace("secret_abc123", "");
    let (adapter, _) = over_answers(&VENDOR, &[(201, &public)]);
    assert_eq!(
        now(adapter.create(&portal())).unwrap().value.spec.metadata.token_endpoint_auth_method,
        Some(AuthMethod::None)
    );
}

#[test]
fn trap_36_errors_of_three_shapes_by_status() {
    use Outcome::{NotPerformed as No, Unknown};
    for (status, body, kind, outcome, message) in [
        (
            400,
            r#"{"code":40000001,"message":"name is required","timestamp":"t"}"#,
            K::Validation,
            No,
            "name is required",
        ),
        (
            400,
            r#"{"code":400001,"message":"redirect_uris invalid"}"#,
            K::InvalidRedirectUri,
            No,
            "redirect_uris invalid",
        ),
        (401, r#"{"code":"40100001","message":"Unauthenticated"}"#, K::UpstreamAuthentication, No, "Unauthenticated"),
        (
            403,
            r#"{"code":403001,"message":"administrator role required"}"#,
            K::UpstreamAuthorization,
            No,
            "administrator role required",
        ),
        (404, r#"{"code":61001641,"message":"Client not found"}"#, K::UpstreamRejected, No, "Client not found"),
        (
            409,
            r#"{"title":"Conflict","status":409,"detail":"max 2","request_id":"r"}"#,
            K::AlreadyExists,
            No,
            "Conflict: max 2",
        ),
        (
            429,
            r#"{"error":"rate_limit_exceeded","error_description":"slow down","retry_after":9}"#,
            K::UpstreamRateLimited,
            No,
            "slow down",
        ),
        (
            500,
            "{\"code\":500,\"message\":\"\u{5185}\u{90e8}\u{9519}\u{8bef}\"}",
            K::UpstreamError,
            Unknown,
            "\u{5185}\u{90e8}\u{9519}\u{8bef}",
        ),
    ] {
        let (adapter, _) = over_answers(&VENDOR, &[(status, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.vendor().unwrap().message.as_deref()),
            (kind, outcome, Some(message)),
            "{status}"
        );
        if status == 429 {
            assert_eq!(error.retry_after().map(|w| w.as_secs()), Some(9));
        }
    }
}

#[test]
fn trap_39_the_prefix_is_configured() {
    for (prefix, wanted) in [("/oauth/api/v1", "/oauth/api/v1/admin/oauth/clients"), ("/", "/admin/oauth/clients")] {
        let (adapter, _) = faked(json!({ "path_prefix": prefix }));
        let url = adapter.preview(&portal()).unwrap().value[0].url.to_string();
        assert_eq!(url, format!("https://vendor.example{wanted}"));
    }
    for prefix in ["/a/../b", "/a b", &"a".repeat(256)] {
        let mut all = settings();
        all["path_prefix"] = json!(prefix);
        let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
        let mut cursor = Settings::new(all.as_object().unwrap(), &literal);
        assert!((VENDOR.configure)(&mut cursor).is_none());
        let issues = cursor.finish();
        assert_eq!(issues.iter().map(|issue| &*issue.path).collect::<Vec<_>>(), [["path_prefix"]], "{prefix}");
    }
}

#[test]
fn trap_45_paging_ends_at_an_empty_page_and_skips_the_deleted() {
    let page = |n: u64, items: &str, more: bool| {
        format!(
            r#"{{"code":0,"items":[{items}],"pagination":{{"page":{n},"page_size":100,"total":999,"total_pages":9,"has_next":{more},"has_prev":false}}}}"#
        )
    };
    let deleted =
        r#"{"client_id":"app-1","name":"A","deleted_at":"2026-01-01T00:00:00Z"},{"client_id":"app-2","name":"B"}"#;
    let (adapter, _) =
        over_answers(&VENDOR, &[(200, &page(1, deleted, true)), (200, &page(2, "", true)), (200, &page(7, "", false))]);
    let first = now(adapter.list(None)).unwrap();
    assert_eq!(first.items.iter().map(|c| c.client_id.as_str()).collect::<Vec<_>>(), ["app-2"]);
    assert!(now(adapter.list(first.next.clone())).unwrap().next.is_none());
    assert!(now(adapter.list(first.next)).is_err(), "another page than the one asked for");
}

#[test]
fn t19_a_suspended_client_is_not_activated_unnoticed() {
    let (adapter, wire) = faked(json!({}));
    let created = now(adapter.create(&portal())).unwrap().value;
    let mut suspended = created.spec.clone();
    suspended.policy.enabled = Some(false);
    suspended.vendor.insert("authms".to_owned(), [("status".to_owned(), json!("suspended"))].into_iter().collect());
    let shown = now(adapter.update(&created.target(), &created.spec, &suspended)).unwrap().value.spec;
    assert_eq!((shown.policy.enabled, &shown.vendor["authms"]["status"]), (Some(false), &json!("suspended")));
    let mut enabled = shown.clone();
    enabled.policy.enabled = Some(true);
    let calls = wire.sent.lock().unwrap().len();
    let error = now(adapter.update(&created.target(), &shown, &enabled)).unwrap_err();
    assert_eq!((error.kind(), error.issues()[0].pointer.as_str()), (K::UnsupportedByBackend, "#/policy/enabled"));
    assert_eq!(wire.sent.lock().unwrap().len(), calls);
    enabled.vendor.insert("authms".to_owned(), [("status".to_owned(), json!("active"))].into_iter().collect());
    let lifted = now(adapter.update(&created.target(), &shown, &enabled)).unwrap().value.spec;
    assert_eq!(lifted.policy.enabled, Some(true));
}

/// A deletion revokes the client's tokens as well, which nobody asked for who only wants it switched off.
#[test]
fn trap_25_switching_off_never_deletes() {
    let (adapter, wire) = faked(json!({}));
    let created = now(adapter.create(&portal())).unwrap().value;
    let off = now(adapter.set_enabled(&created.target(), false)).unwrap();
    assert_eq!(off.spec.policy.enabled, Some(false));
    let methods: Vec<String> = wire.sent.lock().unwrap().iter().map(|sent| sent.0.to_string()).collect();
    assert!(!methods.iter().any(|m| m == "DELETE"), "{methods:?}");
    assert_eq!(now(adapter.read(&created.target())).unwrap().spec.policy.enabled, Some(false), "it is still there");
    now(adapter.delete(&created.target())).unwrap();
    assert_eq!(now(adapter.read(&created.target())).unwrap_err().kind(), K::NotFound);
}

#[test]
fn an_update_sends_only_what_changes_and_clears_with_an_empty_text() {
    let (adapter, wire) = faked(json!({}));
    let full = spec(
        json!({ "metadata": { "client_name": "A", "redirect_uris": ["https://a.example/cb"], "scope": "openid", "logo_uri": "https://a.example/l.png" } }),
    );
    let created = now(adapter.create(&full)).unwrap().value;
    let bare = spec(json!({ "metadata": { "client_name": "A", "redirect_uris": ["https://a.example/cb"] } }));
    now(adapter.update(&created.target(), &created.spec, &bare)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[1].2, json!({ "logo_url": "", "scopes": [] }));
}

#[test]
fn a_token_without_an_administrators_role_is_the_operators_problem() {
    let (adapter, _) = over_fake(&VENDOR, fake::FakeVendor::default(), fake::USER_TOKEN, json!({}));
    assert_eq!(now(adapter.create(&portal())).unwrap_err().kind(), K::UpstreamAuthorization);
}

#[test]
fn trap_24_a_secret_goes_only_to_who_can_use_it() {
    let public = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" } }),
    );
    let body = CREATED.replace("\"is_confidential\":true", "\"is_confidential\":false");
    let (adapter, _) = over_answers(&VENDOR, &[(201, &body)]);
    assert!(now(adapter.create(&public)).unwrap().value.secret.is_none());
    let without = CREATED.replace("secret_abc123", "");
    let (adapter, _) = over_answers(&VENDOR, &[(201, &without), (201, &without)]);
    // the vendor names a method of secrets and tells none: the client exists all the same
    let created = now(adapter.create(&portal())).unwrap();
    assert!(created.value.secret.is_none());
    assert_eq!(loss(&created.losses, "client_secret").severity, Severity::Functional);
    let keyed = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks" } }),
    );
    assert!(now(adapter.create(&keyed)).unwrap().value.secret.is_none());
}
