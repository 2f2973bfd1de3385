//! BitGo's traps, transformations and errors.

use registrar_core::{ErrorKind as K, ExposeSecret as _, Outcome, Target};
use registrar_model::{LossKind, Severity};
use serde_json::json;

use super::{VENDOR, fake};
use crate::harness::{configure, loss, now, over_answers, over_fake, portal, settings, spec};

const CREATED: &str = include_str!("fixtures/created.json");

fn target() -> Target {
    Target { client_id: "pfx-1".parse().unwrap(), vendor_ref: "pfx-1".to_owned() }
}

fn faked(
    more: serde_json::Value,
) -> (std::sync::Arc<dyn registrar_core::Adapter>, std::sync::Arc<crate::harness::Wire>) {
    over_fake(&VENDOR, fake::FakeVendor::default(), fake::TOKEN, more)
}

#[test]
fn trap_01_redirect_uri_is_a_list_under_a_singular_name() {
    let (adapter, wire) = faked(json!({}));
    now(adapter.create(&portal())).unwrap();
    assert_eq!(
        wire.sent.lock().unwrap()[0].2,
        json!({ "redirectUri": ["https://a.example/cb"], "scope": ["openid", "profile"] })
    );
}

#[test]
fn trap_02_created_with_200_and_only_200() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CREATED), (201, CREATED), (202, CREATED)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!((created.client_id.as_str(), created.secret.unwrap().value.expose_secret()), ("pfx-1", "s"));
    for _ in 0..2 {
        assert_eq!(now(adapter.create(&portal())).unwrap_err().outcome(), Outcome::Unknown);
    }
}

#[test]
fn trap_14_client_type_is_another_axis_and_all_is_no_wildcard() {
    let (adapter, wire) = faked(json!({}));
    let typed = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "all" }, "vendor": { "bitgo": { "clientType": "dApp" } } }),
    );
    let created = now(adapter.create(&typed)).unwrap().value;
    let body = wire.sent.lock().unwrap()[0].2.clone();
    assert_eq!((body["clientType"].as_str(), &body["scope"]), (Some("dApp"), &json!(["all"])));
    assert_eq!(created.spec.vendor["bitgo"]["clientType"], "dApp");
    let domains = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "policy": { "allowed_cors_origins": ["https://a.example"], "redirect_domains": ["a.example"] } }),
    );
    let plan = adapter.preview(&domains).unwrap();
    assert_eq!(plan.value[0].body().unwrap()["redirectDomain"], json!(["a.example"]));
    assert_eq!(loss(&plan.losses, "policy.allowed_cors_origins").kind, LossKind::Dropped);
    for widening in ["all", "wallet_view_all"] {
        let mut all = settings();
        all["scope_map"] = json!({ "email": widening });
        let issues = configure(&VENDOR, &all, std::sync::Arc::new(NoWay)).unwrap_err();
        assert_eq!(issues[0].path, ["scope_map"]);
    }
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
fn trap_15_scope_comes_as_list_or_text_and_new_names_are_read() {
    for scope in [r#"["openid","profile"]"#, r#""openid profile""#, r#""openid""#, r#"["openid","scope_of_next_year"]"#]
    {
        let body = CREATED.replace(r#"["openid","profile"]"#, scope);
        let (adapter, _) = over_answers(&VENDOR, &[(200, &body)]);
        let read = now(adapter.read(&target())).unwrap();
        assert_eq!(read.spec.metadata.scope.unwrap().tokens()[0], "openid", "{scope}");
    }
    let (adapter, wire) = faked(json!({ "scope_wire": "string" }));
    now(adapter.create(&portal())).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["scope"], "openid profile");
}

#[test]
fn trap_16_error_bodies_of_every_shape() {
    use Outcome::{NotPerformed as No, Unknown};
    for (status, body, kind, outcome, code) in [
        (
            400,
            r#"{"name":"InvalidScope","context":{},"error":"bad scope","requestId":"cjo7"}"#,
            K::Validation,
            No,
            Some("InvalidScope"),
        ),
        (400, r#"{"error":"bad","requestId":"cjo7"}"#, K::Validation, No, None),
        (400, r#"["Invalid value undefined supplied to : redirectUri"]"#, K::InvalidRedirectUri, No, None),
        (
            401,
            r#"{"name":"Unauthorized","error":"unauthorized","context":{},"requestId":"x"}"#,
            K::UpstreamAuthentication,
            No,
            Some("Unauthorized"),
        ),
        (401, r#"{"error":"needs OTP","needsOTP":true,"requestId":"x"}"#, K::UpstreamAuthorization, No, None),
        (403, r#"{"needsOTP":true}"#, K::UpstreamAuthorization, No, None),
        (404, r#"{"name":"NotFound","context":{},"error":"no","requestId":"x"}"#, K::NotFound, No, Some("NotFound")),
        (
            429,
            r#"{"name":"TooManyRequests","error":"Too many requests, slow down!"}"#,
            K::UpstreamRateLimited,
            No,
            Some("TooManyRequests"),
        ),
        (500, "{}", K::UpstreamError, Unknown, None),
        (502, "<html>Bad Gateway</html>", K::UpstreamError, Unknown, None),
        (400, "", K::Validation, No, None),
    ] {
        let (adapter, _) = over_answers(&VENDOR, &[(status, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.vendor().unwrap().code.as_deref()),
            (kind, outcome, code),
            "{status} {body}"
        );
    }
}

#[test]
fn trap_17_a_read_never_gives_the_secret() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CREATED)]);
    let read = now(adapter.read(&target())).unwrap();
    assert!(read.secret.is_none() && !format!("{:?}", read.spec).contains("clientSecret"));
}

#[test]
fn trap_30_a_public_client_is_a_security_loss() {
    let (adapter, _) = faked(json!({}));
    let public = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" } }),
    );
    let losses = adapter.preview(&public).unwrap().losses;
    assert_eq!(loss(&losses, "metadata.token_endpoint_auth_method").severity, Severity::Security);
}

#[test]
fn trap_44_an_answer_without_a_client_id_is_no_success() {
    for body in [CREATED.replace(r#""clientId":"pfx-1","#, ""), CREATED.replace("pfx-1", ""), "[]".to_owned()] {
        let (adapter, _) = over_answers(&VENDOR, &[(200, &body)]);
        assert_eq!(now(adapter.create(&portal())).unwrap_err().outcome(), Outcome::Unknown, "{body}");
    }
}

#[test]
fn t1_the_prefix_is_sent_once_and_kept_in_the_record() {
    let (adapter, wire) = faked(json!({}));
    let prefixed = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "vendor": { "bitgo": { "clientIdPrefix": "acme" } } }),
    );
    let created = now(adapter.create(&prefixed)).unwrap();
    assert!(created.value.client_id.as_str().starts_with("acme-"));
    assert_eq!(loss(&created.losses, "vendor.bitgo.clientIdPrefix").kind, LossKind::LocalOnly);
    let mut changed = prefixed.clone();
    changed.policy.enabled = Some(false);
    now(adapter.update(&created.value.target(), &created.value.spec, &changed)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[1].2, json!({ "isActive": false }), "the prefix is not part of an update");
}

#[test]
fn t3_a_missing_secret_is_allowed_by_the_page() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, &CREATED.replace(r#""clientSecret":"s","#, ""))]);
    assert!(now(adapter.create(&portal())).unwrap().value.secret.is_none());
}

#[test]
fn t11_unknown_scopes_are_refused_by_name_unless_mapped() {
    let mail = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "openid email offline_access" } }),
    );
    let (adapter, wire) = faked(json!({}));
    let error = now(adapter.create(&mail)).unwrap_err();
    assert_eq!((error.kind(), error.issues()[0].pointer.as_str()), (K::UnsupportedValue, "#/metadata/scope"));
    assert!(error.detail().contains("`email`, `offline_access`") && wire.sent.lock().unwrap().is_empty());
    let (adapter, wire) = faked(json!({ "scope_map": { "email": "profile", "offline_access": "" } }));
    let created = now(adapter.create(&mail)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["scope"], json!(["openid", "profile"]));
    assert_eq!(loss(&created.losses, "metadata.scope").kind, LossKind::Substituted);
}

#[test]
fn enabled_is_settable_on_creation() {
    let (adapter, _) = faked(json!({}));
    let off = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "policy": { "enabled": false, "tenant": "59cd72485007a239fb00282ed480da1f", "organizations": ["o1"] } }),
    );
    let created = now(adapter.create(&off)).unwrap().value;
    assert_eq!(created.spec.policy, off.policy);
}
