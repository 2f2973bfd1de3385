//! BitGo's traps, transformations and errors.

use registrar_core::{ErrorKind as K, ExposeSecret as _, Outcome, Target};
use registrar_model::{
    LossKind, Policy, Severity,
    account::{account, effective},
};
use serde_json::{Value, json};

mod errors;
mod laws;
mod strict;

use super::{VENDOR, fake};
use crate::harness::{configure, loss, now, over_answers, over_fake, portal, settings, spec};

const CREATED: &str = include_str!("fixtures/created.json");

fn target() -> Target {
    Target {
        client_id: "pfx-1".parse().unwrap(),
        vendor_ref: "pfx-1".to_owned(),
        management: None,
        auth_method: None,
        scope: None,
    }
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
fn trap_02_created_with_200_and_not_with_202() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CREATED), (201, CREATED), (202, CREATED)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!((created.client_id.as_str(), created.secret.unwrap().value.expose_secret()), ("pfx-1", "s"));
    // no page has 201, and a client with its secret is one
    assert!(now(adapter.create(&portal())).unwrap().value.secret.is_some());
    let later = now(adapter.create(&portal())).unwrap_err();
    assert_eq!(later.outcome(), Outcome::Unknown);
    assert_eq!(later.client().unwrap().client_id.as_str(), "pfx-1", "the evidence has what could be read");
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
        assert_eq!(read.spec.metadata.scope.unwrap().tokens().next(), Some("openid"), "{scope}");
    }
    let (adapter, wire) = faked(json!({ "scope_wire": "string" }));
    now(adapter.create(&portal())).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["scope"], "openid profile");
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
fn t1_another_prefix_cannot_be_had_later() {
    let (adapter, wire) = faked(json!({}));
    let with = |prefix: &str| {
        spec(
            json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "vendor": { "bitgo": { "clientIdPrefix": prefix } } }),
        )
    };
    let created = now(adapter.create(&with("acme"))).unwrap();
    let (target, shown) = (created.value.target(), created.value.spec.clone());
    let losses = account(&with("acme"), &shown, created.losses);
    let record = effective(&with("acme"), &shown, &losses).unwrap().into_owned();
    assert_eq!(record.vendor["bitgo"]["clientIdPrefix"], "acme");
    // by the record; by the id, where the record does not know; and a shorter one that the id begins with as well
    for (current, wanted) in [(&record, "other"), (&shown, "other"), (&record, "ac")] {
        for error in [
            now(adapter.update(&target, current, &with(wanted))).unwrap_err(),
            adapter.preview_update(&target, current, &with(wanted)).unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.issues()[0].pointer.as_str()),
                (K::UnsupportedByBackend, "#/vendor/bitgo/clientIdPrefix"),
                "{wanted}"
            );
        }
    }
    assert_eq!(wire.sent.lock().unwrap().len(), 1, "nothing but the creation was sent");
    for same in [&record, &shown] {
        assert!(adapter.preview_update(&target, same, &with("acme")).unwrap().value.is_empty());
    }
}

#[test]
fn t3_a_missing_secret_is_allowed_by_the_page() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, &CREATED.replace(r#""clientSecret":"s","#, ""))]);
    assert!(now(adapter.create(&portal())).unwrap().value.secret.is_none());
}

#[test]
fn trap_29_t11_unknown_scopes_are_narrowed_or_mapped() {
    let mail = spec(
        json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "openid email offline_access" } }),
    );
    let (adapter, wire) = faked(json!({}));
    let created = now(adapter.create(&mail)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["scope"], json!(["openid"]));
    let narrowed = loss(&created.losses, "metadata.scope");
    assert_eq!((narrowed.kind, narrowed.severity), (LossKind::Narrowed, Severity::Functional));
    assert!(narrowed.reason.contains("`email`, `offline_access`"), "{}", narrowed.reason);
    let none = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "email phone" } }));
    let error = adapter.preview(&none).unwrap_err();
    assert_eq!((error.kind(), error.issues()[0].pointer.as_str()), (K::UnsupportedValue, "#/metadata/scope"));
    assert!(error.detail().contains("`email`, `phone`") && !error.detail().contains("scope_map"), "{error}");
    let (adapter, wire) = faked(json!({ "scope_map": { "email": "profile", "offline_access": "" } }));
    let created = now(adapter.create(&mail)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["scope"], json!(["openid", "profile"]));
    assert_eq!(loss(&created.losses, "metadata.scope").kind, LossKind::Substituted);
    let (adapter, _) = faked(json!({ "scope_map": { "email": "", "offline_access": "" } }));
    let losses = adapter.preview(&mail).unwrap().losses;
    let narrowed = loss(&losses, "metadata.scope");
    assert_eq!(
        (narrowed.kind, narrowed.severity, &narrowed.got),
        (LossKind::Narrowed, Severity::Functional, &Some(json!("openid")))
    );
    let only = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "email" } }));
    assert_eq!(
        adapter.preview(&only).unwrap_err().kind(),
        K::UnsupportedValue,
        "nothing is left, and nothing is invented"
    );
}

#[test]
fn t11_an_error_names_a_few_unknown_scopes_and_counts_the_rest() {
    let many: Vec<String> = (0..500).map(|n| format!("made_up_{n}")).collect();
    let asked = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": many.join(" ") } }));
    let error = faked(json!({})).0.preview(&asked).unwrap_err();
    assert!(
        error.detail().contains("`made_up_0`") && error.detail().contains("and 492 more") && error.detail().len() < 400
    );
}

#[test]
fn t10_a_scope_with_a_space_is_not_joined_in() {
    let (adapter, _) =
        over_answers(&VENDOR, &[(200, &CREATED.replace(r#"["openid","profile"]"#, r#"["openid profile"]"#))]);
    let read = now(adapter.read(&target())).unwrap();
    assert_eq!((read.spec.metadata.scope, &*read.unread[0].field), (None, "metadata.scope"));
}

#[test]
fn the_scopes_are_those_of_the_page() {
    let page: Vec<&str> = include_str!("fixtures/scopes.txt").split_ascii_whitespace().collect();
    assert_eq!(page, super::SCOPES);
}

#[test]
fn trap_21_what_the_caller_removes_is_cleared_explicitly() {
    let (adapter, wire) = faked(json!({}));
    let full = spec(json!({
        "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" },
        "policy": { "enabled": false, "redirect_domains": ["a.example"], "tenant": "e1", "organizations": ["o1"] },
        "vendor": { "bitgo": { "clientType": "dApp" } }
    }));
    let bare = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" } }));
    let created = now(adapter.create(&full)).unwrap().value;
    let updated = now(adapter.update(&created.target(), &created.spec, &bare)).unwrap();
    let (method, path, body) = wire.sent.lock().unwrap()[1].clone();
    assert_eq!((method.as_str(), path), ("PUT", format!("/api/v2/admin/oauth/client/{}", created.client_id)));
    assert_eq!(
        body,
        json!({ "redirectDomain": [], "enterprise": "", "clientOrganizations": [] }),
        "and nothing that stays"
    );
    assert_eq!(
        updated.value.spec.policy,
        Policy { enabled: Some(false), ..Policy::default() },
        "an absent switch keeps the state"
    );
    let kept = loss(&updated.losses, "vendor.bitgo.clientType");
    assert_eq!(
        (kept.kind, kept.severity, &kept.wanted, &kept.got),
        (LossKind::Substituted, Severity::Functional, &None, &Some(json!("dApp")))
    );
    assert_eq!(updated.value.spec.vendor["bitgo"]["clientType"], "dApp");
}

#[test]
fn trap_21_an_enterprise_that_stays_is_reported() {
    let kept = r#"{"clientId":"pfx-1","redirectUri":["https://a.example/cb"],"scope":["openid"],"enterprise":"e1","clientOrganizations":[]}"#;
    let (adapter, wire) = over_answers(&VENDOR, &[(200, kept), (200, kept)]);
    let current = now(adapter.read(&target())).unwrap().spec;
    let mut bare = current.clone();
    bare.policy.tenant = None;
    let updated = now(adapter.update(&target(), &current, &bare)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[1].2, json!({ "enterprise": "" }));
    let losses = account(&bare, &updated.value.spec, updated.losses);
    assert_eq!(loss(&losses, "policy.tenant").got, Some(json!("e1")));
}

#[test]
fn trap_24_disabling_is_not_deleting() {
    let (adapter, wire) = faked(json!({}));
    let created = now(adapter.create(&portal())).unwrap().value;
    for (enabled, body) in [(false, json!({ "isActive": false })), (true, json!({ "isActive": true }))] {
        assert_eq!(now(adapter.set_enabled(&created.target(), enabled)).unwrap().spec.policy.enabled, Some(enabled));
        assert_eq!(wire.sent.lock().unwrap().last().unwrap().2, body);
        assert_eq!(now(adapter.read(&created.target())).unwrap().spec.policy.enabled, Some(enabled), "still readable");
    }
    let calls = wire.sent.lock().unwrap().len();
    for error in [
        now(adapter.delete(&created.target())).unwrap_err(),
        now(adapter.rotate_secret(&created.target())).unwrap_err(),
        now(adapter.list(None)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), K::UnsupportedByBackend);
    }
    assert_eq!(wire.sent.lock().unwrap().len(), calls, "an undocumented operation sends nothing");
    // a vendor that says yes and does nothing
    let (adapter, _) = over_answers(&VENDOR, &[(200, CREATED)]);
    assert_eq!(now(adapter.set_enabled(&target(), false)).unwrap_err().kind(), K::UpstreamRejected);
}

#[test]
fn trap_31_t8_absent_grants_are_not_all_grants() {
    let (adapter, _) = faked(json!({}));
    let losses = |grants: Value| {
        adapter
            .preview(&spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "grant_types": grants } })))
            .unwrap()
            .losses
    };
    let absent = losses(Value::Null);
    assert_eq!(
        (loss(&absent, "metadata.grant_types").kind, &loss(&absent, "metadata.grant_types").got),
        (LossKind::Defaulted, &Some(json!(["authorization_code", "refresh_token"])))
    );
    let code = losses(json!(["authorization_code"]));
    assert_eq!(
        (loss(&code, "metadata.grant_types").kind, loss(&code, "metadata.grant_types").severity),
        (LossKind::Widened, Severity::Functional)
    );
    assert_eq!(loss(&losses(json!(["client_credentials"])), "metadata.grant_types").severity, Severity::Security);
    assert!(losses(json!(["refresh_token", "authorization_code"])).iter().all(|l| l.field != "metadata.grant_types"));
}

#[test]
fn trap_32_there_is_never_a_date() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CREATED)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(
        (created.client_id_issued_at, created.secret.unwrap().expires_at),
        (None, Some(0)),
        "0 is: never expires"
    );
}

#[test]
fn trap_33_every_member_has_its_documented_spelling() {
    let request: Value = serde_json::from_str(include_str!("fixtures/request.json")).unwrap();
    let full = spec(json!({
        "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" },
        "policy": { "enabled": true, "redirect_domains": ["a.example"], "tenant": "59cd72485007a239fb00282ed480da1f", "organizations": ["org-1"] },
        "vendor": { "bitgo": { "clientIdPrefix": "pfx", "clientType": "dApp" } }
    }));
    let (adapter, wire) = faked(json!({}));
    now(adapter.create(&full)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0], ("POST".to_owned(), "/api/v2/admin/oauth/client".to_owned(), request));
}

#[test]
fn trap_34_unknown_members_survive_and_nothing_is_no_member() {
    let answer = CREATED.replace(r#""isActive":true"#, r#""isActive":true,"clientType":"","organizationConfig":{"a":1},"later":{"x":[1]},"gone":null,"blank":"","none":[]"#);
    let (adapter, wire) = over_answers(&VENDOR, &[(200, &answer), (200, &answer)]);
    let shown = now(adapter.read(&target())).unwrap().spec;
    assert_eq!(
        Value::Object(shown.vendor["bitgo"].clone()),
        json!({ "organizationConfig": { "a": 1 }, "later": { "x": [1] } })
    );
    // what a read gave may be sent back: it is not refused, not sent and no loss
    let mut issues = registrar_model::Issues::new();
    adapter.validate_vendor(&shown, &mut issues);
    assert!(issues.is_empty());
    let plan = adapter.preview_update(&target(), &shown, &shown).unwrap();
    assert!(plan.value.is_empty() && plan.losses.is_empty(), "{plan:?}");
    let mut changed = shown.clone();
    changed.vendor.get_mut("bitgo").unwrap().insert("organizationConfig".to_owned(), json!({ "a": 2 }));
    changed.vendor.get_mut("bitgo").unwrap().insert("newer".to_owned(), json!(1));
    let updated = now(adapter.update(&target(), &shown, &changed)).unwrap();
    assert_eq!(wire.sent.lock().unwrap().last().unwrap().0, "GET", "there is nothing to send");
    let read_only = loss(&updated.losses, "vendor.bitgo.organizationConfig");
    assert_eq!((read_only.kind, read_only.severity), (LossKind::Substituted, Severity::Functional));
    assert_eq!(loss(&updated.losses, "vendor.bitgo.newer").kind, LossKind::Dropped);
}

#[test]
fn trap_43_order_is_no_difference() {
    let two = r#"{"clientId":"pfx-1","redirectUri":["https://a.example/1","https://a.example/2"],"scope":["openid","profile"],"redirectDomain":["a","b"],"clientOrganizations":["o1","o2"]}"#;
    let (adapter, _) = over_answers(&VENDOR, &[(200, two)]);
    let shown = now(adapter.read(&target())).unwrap().spec;
    let mut turned = shown.clone();
    turned.metadata.scope = registrar_model::Scope::from_tokens(["profile", "openid"]);
    turned.policy.redirect_domains.as_mut().unwrap().reverse();
    turned.policy.organizations.as_mut().unwrap().reverse();
    turned.metadata.redirect_uris.as_mut().unwrap().reverse();
    assert!(adapter.preview_update(&target(), &shown, &turned).unwrap().value.is_empty());
    // what is sent stands in the caller's order
    turned
        .metadata
        .redirect_uris
        .as_mut()
        .unwrap()
        .push(registrar_model::RedirectUri::from_unchecked("https://a.example/0"));
    let plan = adapter.preview_update(&target(), &shown, &turned).unwrap();
    let sent = json!({ "redirectUri": ["https://a.example/2", "https://a.example/1", "https://a.example/0"] });
    assert_eq!(plan.value[0].body(), Some(sent));
}

#[test]
fn an_answer_about_another_client_is_not_used() {
    let (adapter, _) =
        over_answers(&VENDOR, &[(200, &CREATED.replace("pfx-1", "pfx-2")), (200, &CREATED.replace("pfx-1", "pfx-2"))]);
    assert_eq!(now(adapter.read(&target())).unwrap_err().kind(), K::UpstreamMalformed);
    assert_eq!(now(adapter.set_enabled(&target(), false)).unwrap_err().outcome(), Outcome::Unknown);
}

#[test]
fn vendor_members_are_checked() {
    let adapter = faked(json!({})).0;
    let pointers = |members: Value| {
        let mut issues = registrar_model::Issues::new();
        adapter.validate_vendor(
            &spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "vendor": { "bitgo": members } })),
            &mut issues,
        );
        issues.into_vec().into_iter().map(|i| i.pointer.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert!(pointers(json!({ "clientType": "scim", "clientIdPrefix": "acme-1", "unknown": 1 })).is_empty());
    for bad in [json!("confidential"), json!("dapp"), json!(1)] {
        assert_eq!(pointers(json!({ "clientType": bad })), ["#/vendor/bitgo/clientType"]);
    }
    for bad in [json!("a b"), json!(".."), json!("a/b"), json!(["a"]), json!("x".repeat(65))] {
        assert_eq!(pointers(json!({ "clientIdPrefix": bad })), ["#/vendor/bitgo/clientIdPrefix"]);
    }
}

#[test]
fn settings_are_checked() {
    let issues = |key: &str, value: Value| {
        let mut all = settings();
        all[key] = value;
        configure(&VENDOR, &all, std::sync::Arc::new(NoWay)).err().map(|i| i[0].path.join("."))
    };
    assert_eq!(issues("scope_wire", json!("string")), None);
    assert_eq!(issues("scopes", json!(["openid", "scope_of_next_year"])), None);
    for (key, value) in [
        ("scope_wire", json!("list")),
        ("default_scopes", json!([])),
        ("default_scopes", json!(["email"])),
        ("scopes", json!(["openid", "a b"])),
        ("scope_map", json!({ "email": "mail" })),
        ("nonsense", json!(1)),
    ] {
        assert_eq!(issues(key, value).as_deref(), Some(key));
    }
}

#[test]
fn a_token_endpoint_method_is_always_the_secret_in_the_body() {
    let adapter = faked(json!({})).0;
    for (method, expected) in [
        ("client_secret_post", None),
        ("client_secret_basic", Some(Severity::Functional)),
        ("tls_client_auth", Some(Severity::Security)),
    ] {
        let mut asked = json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": method });
        if method == "tls_client_auth" {
            asked["tls_client_auth_subject_dn"] = json!("CN=a");
        }
        let losses = adapter.preview(&spec(json!({ "metadata": asked }))).unwrap().losses;
        let found = losses.iter().find(|l| l.field == "metadata.token_endpoint_auth_method").map(|l| l.severity);
        assert_eq!(found, expected, "{method}");
    }
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
