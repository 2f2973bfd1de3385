//! Loop's traps, transformations and errors.

use registrar_core::{ErrorKind as K, ExposeSecret as _, Outcome, Target};
use registrar_model::{LossKind, Severity, account::account};
use serde_json::json;

use super::{VENDOR, fake};
use crate::harness::{configure, loss, now, over_answers, over_fake, portal, settings, spec};

const CREATED: &str = include_str!("fixtures/created.json");

fn target() -> Target {
    Target {
        client_id: "loop_abc".parse().unwrap(),
        vendor_ref: "loop_abc".to_owned(),
        management: None,
        auth_method: None,
        scope: None,
    }
}

fn faked() -> (std::sync::Arc<dyn registrar_core::Adapter>, std::sync::Arc<crate::harness::Wire>) {
    over_fake(&VENDOR, fake::FakeVendor::default(), fake::TOKEN, json!({}))
}

#[test]
fn the_documented_answer_is_read() {
    let (adapter, _) = over_answers(&VENDOR, &[(201, CREATED)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(created.client_id_issued_at, Some(1_767_225_600), "t4: ISO time to Unix seconds");
    assert_eq!(created.spec.policy.tenant.as_deref(), Some("loop"));
    assert!(created.spec.metadata.client_uri.is_none());
}

#[test]
fn trap_05_the_secret_is_a_sibling_of_the_client() {
    let (adapter, _) = over_answers(&VENDOR, &[(201, CREATED), (200, CREATED)]);
    assert_eq!(now(adapter.create(&portal())).unwrap().value.secret.unwrap().value.expose_secret(), "s");
    assert_eq!(now(adapter.rotate_secret(&target())).unwrap().value.expose_secret(), "s");
}

#[test]
fn trap_07_id_is_not_the_client_id() {
    let (adapter, _) = over_answers(&VENDOR, &[(201, CREATED)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!((created.client_id.as_str(), created.vendor_ref.as_str()), ("loop_abc", "loop_abc"));
    let mut by_id = settings();
    by_id["path_id"] = json!("id");
    let (answers, wire) = over_answers(&VENDOR, &[]);
    drop(answers);
    assert!(configure(&VENDOR, &by_id, std::sync::Arc::new(NoWay)).is_ok() && wire.sent.lock().unwrap().is_empty());
}

#[derive(Debug)]
struct NoWay;

#[async_trait::async_trait]
impl registrar_core::Http for NoWay {
    async fn send(&self, _: registrar_core::Request) -> registrar_core::Result<registrar_core::Response> {
        panic!("nothing is to be sent")
    }
}

#[test]
fn trap_18_no_null_in_post_and_enabled_only_in_patch() {
    let (adapter, wire) = faked();
    let created = now(adapter.create(&portal())).unwrap().value;
    let body = wire.sent.lock().unwrap()[0].2.clone();
    assert_eq!(
        body,
        json!({ "client_name": "Portal", "client_type": "confidential", "redirect_uris": ["https://a.example/cb"], "allowed_scopes": ["openid", "profile"] })
    );
    now(adapter.set_enabled(&created.target(), false)).unwrap();
    let (method, path, body) = wire.sent.lock().unwrap()[1].clone();
    assert_eq!(
        (method.as_str(), path.as_str(), body),
        ("PATCH", "/v1/admin/oauth-clients/loop_00000001", json!({ "enabled": false }))
    );
    let off =
        spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "policy": { "enabled": false } }));
    let losses = adapter.preview(&off).unwrap().losses;
    assert_eq!(
        (loss(&losses, "policy.enabled").kind, loss(&losses, "policy.enabled").severity),
        (LossKind::Widened, Severity::Security)
    );
}

#[test]
fn trap_19_not_in_the_list_is_not_found_among_our_own() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, r#"{"clients":[]}"#)]);
    let error = now(adapter.read(&target())).unwrap_err();
    assert_eq!(error.kind(), K::NotFound);
    assert!(error.detail().contains("own clients"));
}

#[test]
fn trap_20_a_redirect_uri_with_a_query_is_left_out_and_the_rest_registered() {
    let (adapter, wire) = faked();
    let queried =
        spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb", "https://a.example/cb?x=1"] } }));
    let created = now(adapter.create(&queried)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["redirect_uris"], json!(["https://a.example/cb"]));
    let lost = loss(&created.losses, "metadata.redirect_uris");
    assert_eq!((lost.kind, lost.severity), (LossKind::Narrowed, Severity::Functional));
    let only = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb?x=1"] } }));
    let error = now(adapter.create(&only)).unwrap_err();
    assert_eq!(
        (error.kind(), error.issues()[0].pointer.as_str()),
        (K::InvalidRedirectUri, "#/metadata/redirect_uris/0")
    );
    assert_eq!(wire.sent.lock().unwrap().len(), 1);
}

#[test]
fn trap_21_t12_a_removed_uri_becomes_null_and_the_rest_is_not_sent() {
    let (adapter, wire) = faked();
    let full = spec(
        json!({ "metadata": { "client_name": "Portal", "redirect_uris": ["https://a.example/cb"], "scope": "openid", "client_uri": "https://a.example" }, "policy": { "allowed_cors_origins": ["https://a.example"] } }),
    );
    let created = now(adapter.create(&full)).unwrap().value;
    let bare = spec(
        json!({ "metadata": { "client_name": "Portal", "redirect_uris": ["https://a.example/cb"], "scope": "openid" } }),
    );
    let updated = now(adapter.update(&created.target(), &created.spec, &bare)).unwrap().value;
    assert_eq!(wire.sent.lock().unwrap()[1].2, json!({ "client_uri": null, "allowed_origins": [] }));
    assert!(updated.spec.metadata.client_uri.is_none() && updated.spec.policy.allowed_cors_origins.is_none());
}

#[test]
fn trap_26_the_old_secret_works_a_day_longer() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CREATED)]);
    let before = jiff::Timestamp::now().as_second();
    let until = now(adapter.rotate_secret(&target())).unwrap().previous_valid_until.unwrap();
    assert!((86_400..86_410).contains(&(until - before)));
}

#[test]
fn trap_27_rotating_a_public_client_is_not_supported() {
    let (adapter, _) = faked();
    let public = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" } }),
    );
    let created = now(adapter.create(&public)).unwrap().value;
    assert!(created.secret.is_none());
    assert_eq!(now(adapter.rotate_secret(&created.target())).unwrap_err().kind(), K::UnsupportedByBackend);
}

#[test]
fn trap_31_t8_refresh_token_is_granted_to_everyone() {
    let (adapter, _) = faked();
    let code = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "grant_types": ["authorization_code"] } }),
    );
    let losses = adapter.preview(&code).unwrap().losses;
    assert_eq!(
        (loss(&losses, "metadata.grant_types").kind, loss(&losses, "metadata.grant_types").severity),
        (LossKind::Widened, Severity::Functional)
    );
    let machine = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "grant_types": ["client_credentials"] } }),
    );
    assert_eq!(loss(&adapter.preview(&machine).unwrap().losses, "metadata.grant_types").severity, Severity::Security);
}

#[test]
fn trap_35_all_three_error_envelopes_are_read() {
    for (body, code, message) in [
        (
            r#"{"error":"validation_error","message":"client_name is required"}"#,
            "validation_error",
            "client_name is required",
        ),
        (r#"{"error":"validation_error","error_description":"no","error_uri":"https://x"}"#, "validation_error", "no"),
        (
            r#"{"success":false,"error":{"code":"validation_error","message":"no"},"meta":{"requestId":"r-1"}}"#,
            "validation_error",
            "no",
        ),
    ] {
        let (adapter, _) = over_answers(&VENDOR, &[(400, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        let vendor = error.vendor().unwrap();
        assert_eq!(
            (vendor.status, vendor.code.as_deref(), vendor.message.as_deref()),
            (Some(400), Some(code), Some(message))
        );
    }
}

#[test]
fn every_documented_error_has_its_kind() {
    use Outcome::{NotPerformed as No, Unknown};
    for (status, code, kind, outcome) in [
        (400, "validation_error", K::Validation, No),
        (401, "unauthenticated", K::UpstreamAuthentication, No),
        (401, "invalid_token", K::UpstreamAuthentication, No),
        (401, "insufficient_scope", K::UpstreamAuthorization, No),
        (403, "insufficient_scope", K::UpstreamAuthorization, No),
        (403, "forbidden", K::UpstreamAuthorization, No),
        (404, "not_found", K::UpstreamRejected, No),
        (409, "conflict", K::AlreadyExists, No),
        (422, "unprocessable_entity", K::Validation, No),
        (400, "invalid_scope", K::UnsupportedValue, No),
        (429, "rate_limited", K::UpstreamRateLimited, No),
        (500, "server_error", K::UpstreamError, Unknown),
        (503, "temporarily_unavailable", K::UpstreamUnavailable, Unknown),
    ] {
        let body = json!({ "error": code, "message": "text" }).to_string();
        let (adapter, _) = over_answers(&VENDOR, &[(status, &body), (status, &body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {code}");
        assert_eq!(now(adapter.list(None)).unwrap_err().outcome(), No, "a read changes nothing");
    }
    let (adapter, _) =
        over_answers(&VENDOR, &[(400, r#"{"error":"validation_error","message":"redirect_uris[0] is invalid"}"#)]);
    assert_eq!(now(adapter.create(&portal())).unwrap_err().kind(), K::InvalidRedirectUri);
}

#[test]
fn trap_43_the_order_of_scopes_is_no_difference() {
    let (adapter, _) = faked();
    let created = now(adapter.create(&portal())).unwrap().value;
    let mut turned = created.spec.clone();
    turned.metadata.scope = registrar_model::Scope::from_tokens(["profile", "openid"]);
    assert!(adapter.preview_update(&created.target(), &created.spec, &turned).unwrap().value.is_empty());
}

#[test]
fn trap_44_an_answer_without_a_usable_client_id_is_no_success() {
    for body in [
        CREATED.replace("\"client_id\":\"loop_abc\",", ""),
        CREATED.replace("loop_abc", ""),
        "{}".to_owned(),
        CREATED[..CREATED.len() - 20].to_owned(),
    ] {
        let (adapter, _) = over_answers(&VENDOR, &[(201, &body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamMalformed, Outcome::Unknown), "{body}");
    }
}

#[test]
fn t6_the_client_type_cannot_be_changed() {
    let (adapter, wire) = faked();
    let created = now(adapter.create(&portal())).unwrap().value;
    let mut public = created.spec.clone();
    public.metadata.token_endpoint_auth_method = Some(registrar_model::AuthMethod::None);
    let error = now(adapter.update(&created.target(), &created.spec, &public)).unwrap_err();
    assert_eq!(
        (error.kind(), error.issues()[0].pointer.as_str()),
        (K::UnsupportedByBackend, "#/metadata/token_endpoint_auth_method")
    );
    assert_eq!(wire.sent.lock().unwrap().len(), 1);
}

#[test]
fn a_paging_member_in_the_list_is_an_error_not_a_shorter_list() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, r#"{"clients":[],"next_cursor":"x"}"#)]);
    assert_eq!(now(adapter.list(None)).unwrap_err().kind(), K::UpstreamMalformed);
}

#[test]
fn the_fake_refuses_what_the_schema_refuses() {
    use registrar_core::{Fake as _, FakeRequest};
    let fake = fake::FakeVendor::default();
    let post = |body: serde_json::Value| {
        let path = ["v1", "admin", "oauth-clients"].map(str::to_owned).to_vec();
        let headers =
            std::collections::BTreeMap::from([("authorization".to_owned(), format!("Bearer {}", fake::TOKEN))]);
        fake.handle(&FakeRequest {
            method: "POST".to_owned(),
            path,
            query: std::collections::BTreeMap::new(),
            headers,
            body: body.to_string().into(),
        })
        .status
    };
    let good = json!({ "client_name": "A", "redirect_uris": ["https://a.example/cb"], "allowed_scopes": ["openid"] });
    assert_eq!(post(good.clone()), 201);
    for (name, value) in [
        ("client_uri", json!(null)),
        ("enabled", json!(true)),
        ("client_type", json!("x")),
        ("redirect_uris", json!([])),
        ("allowed_scopes", json!([])),
        ("client_name", json!("")),
        ("redirect_uris", json!(["https://a.example/?x"])),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert_eq!(post(bad), 400, "{name}");
    }
}

#[test]
fn settings_are_checked() {
    let issues = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut all = settings();
        change(&mut all);
        configure(&VENDOR, &all, std::sync::Arc::new(NoWay)).err().map(|i| i[0].path.join("."))
    };
    assert_eq!(issues(&|_| {}), None);
    assert_eq!(issues(&|s| s["base_url"] = json!("http://vendor.example")).as_deref(), Some("base_url"));
    assert_eq!(issues(&|s| s["path_id"] = json!("name")).as_deref(), Some("path_id"));
    assert_eq!(issues(&|s| s["default_scopes"] = json!([])).as_deref(), Some("default_scopes"));
    assert_eq!(issues(&|s| s["nonsense"] = json!(1)).as_deref(), Some("nonsense"));
}

#[test]
fn echoes_that_differ_are_reported() {
    let widened = CREATED.replace("[\"openid\"]", "[\"openid\",\"profile\",\"admin:all\"]");
    let (adapter, _) = over_answers(&VENDOR, &[(201, &widened)]);
    let sent = portal();
    let created = now(adapter.create(&sent)).unwrap();
    let losses = account(&sent, &created.value.spec, created.losses);
    assert_eq!(
        (loss(&losses, "metadata.scope").kind, loss(&losses, "metadata.scope").severity),
        (LossKind::Widened, Severity::Security)
    );
    assert_eq!(loss(&losses, "metadata.client_name").kind, LossKind::Substituted);
}
