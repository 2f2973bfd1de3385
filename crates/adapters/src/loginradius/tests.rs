//! LoginRadius's traps, transformations and errors.

use registrar_core::{ErrorKind as K, ExposeSecret as _, Outcome, Target};
use registrar_model::{AuthMethod, LossKind, Severity, account::account};
use serde_json::{Value, json};

use super::{VENDOR, fake};
use crate::harness::{configure, loss, now, over_answers, over_fake, portal, settings, spec};

const CLIENT: &str = include_str!("fixtures/client.json");

fn target() -> Target {
    Target { client_id: "123e4567-e89b-12d3-a456-426614174000".parse().unwrap(), vendor_ref: "MyApp".to_owned() }
}

fn faked() -> (std::sync::Arc<dyn registrar_core::Adapter>, std::sync::Arc<crate::harness::Wire>) {
    over_fake(&VENDOR, fake::FakeVendor::default(), fake::TOKEN, json!({}))
}

#[test]
fn the_documented_answer_is_read() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CLIENT)]);
    let read = now(adapter.read(&target())).unwrap();
    let shown = read.spec.flatten();
    for (field, value) in [
        ("metadata.client_name", json!("MyApp")), ("metadata.redirect_uris", json!(["https://example.com/login"])), ("metadata.post_logout_redirect_uris", json!(["https://example.com/logout"])),
        ("metadata.initiate_login_uri", json!("https://example.com/login")), ("metadata.backchannel_logout_uri", json!("https://example.com/logout")), ("metadata.default_max_age", json!(0)),
        ("metadata.userinfo_signed_response_alg", json!("RS256")), ("metadata.id_token_signed_response_alg", json!("RS256")), ("metadata.application_type", json!("web")),
        ("policy.access_token_lifetime", json!(3600)), ("policy.audiences", json!(["example-audience"])), ("policy.allowed_web_origins", json!(["https://example.com"])),
        ("vendor.loginradius.GlobalClient", json!(true)), ("vendor.loginradius.Metadata", json!({ "key1": "value1", "key2": "value2" })),
    ] {
        assert_eq!(shown.get(field), Some(&value), "{field}");
    }
    assert_eq!(read.client_id_issued_at, Some(1_696_161_600));
}

#[test]
fn trap_05_trap_42_both_secrets_stay_inside() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, CLIENT), (200, CLIENT), (200, r#"{"ClientId":"123e4567-e89b-12d3-a456-426614174000","ClientSecret":"new"}"#)]);
    let read = now(adapter.read(&target())).unwrap();
    assert!(read.secret.is_none() && !format!("{read:?}").contains("exampleSecret"));
    assert_eq!(now(adapter.create(&portal())).unwrap().value.secret.unwrap().value.expose_secret(), "exampleSecret");
    let rotated = now(adapter.rotate_secret(&target())).unwrap();
    assert_eq!((rotated.value.expose_secret(), rotated.previous_valid_until), ("new", None), "trap_26: no grace");
}

#[test]
fn trap_07_trap_08_the_key_is_the_name_and_the_id_is_client_id() {
    let (adapter, wire) = faked();
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!((created.client_id.as_str(), created.vendor_ref.as_str()), ("123e4567-e89b-12d3-a456-000000000001", "Portal"));
    now(adapter.read(&created.target())).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[1].1, "/v2/manage/oauth-clients/Portal");
    for (name, slug) in [("Acme Portal", "Acme-Portal"), ("a/b?c#d", "a-b-c-d"), ("credentials", "a.example"), ("\u{65e5}\u{672c}", "a.example"), ("..", "a.example"), (" x ", "x")] {
        let named = spec(json!({ "metadata": { "client_name": name, "redirect_uris": ["https://a.example/cb"] } }));
        let plan = adapter.preview(&named).unwrap();
        assert_eq!(plan.value[0].body().unwrap()["AppName"], slug, "{name}");
        if name != slug {
            assert_eq!((loss(&plan.losses, "metadata.client_name").kind, loss(&plan.losses, "metadata.client_name").got.clone()), (LossKind::LocalOnly, Some(json!(slug))));
        }
    }
}

#[test]
fn trap_08_a_new_name_does_not_rename_the_live_client() {
    let (adapter, wire) = faked();
    let created = now(adapter.create(&portal())).unwrap().value;
    let mut renamed = created.spec.clone();
    renamed.metadata.client_name = Some("Portal Two".to_owned());
    let updated = now(adapter.update(&created.target(), &created.spec, &renamed)).unwrap();
    assert_eq!(updated.value.vendor_ref, "Portal");
    assert!(wire.sent.lock().unwrap().iter().skip(1).all(|(method, ..)| method == "GET"), "nothing is written");
    let losses = account(&renamed, &updated.value.spec, updated.losses);
    assert_eq!(loss(&losses, "metadata.client_name").kind, LossKind::LocalOnly);
    renamed.vendor.insert("loginradius".to_owned(), [("AppName".to_owned(), json!("Other"))].into_iter().collect());
    assert_eq!(now(adapter.update(&created.target(), &created.spec, &renamed)).unwrap_err().kind(), K::UnsupportedByBackend);
}

#[test]
fn trap_09_exact_match_is_always_sent_and_an_empty_list_never() {
    let (adapter, wire) = faked();
    now(adapter.create(&portal())).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["RedirectURIExactMatch"], json!(true));
    let machine = spec(json!({ "metadata": { "grant_types": ["client_credentials"] } }));
    let error = now(adapter.create(&machine)).unwrap_err();
    assert_eq!((error.kind(), error.issues()[0].pointer.as_str()), (K::UnsupportedByBackend, "#/metadata/redirect_uris"));
    let loose = CLIENT.replace("\"RedirectURIExactMatch\":true", "\"RedirectURIExactMatch\":false");
    let (adapter, _) = over_answers(&VENDOR, &[(200, &loose)]);
    assert_eq!(now(adapter.read(&target())).unwrap().spec.vendor["loginradius"]["RedirectURIExactMatch"], json!(false));
}

#[test]
fn trap_10_nothing_of_ours_goes_into_metadata() {
    let (adapter, wire) = faked();
    let rich = spec(json!({ "metadata": { "client_name": "Rich", "redirect_uris": ["https://a.example/cb"], "contacts": ["x@a.example"], "software_id": "s" } }));
    now(adapter.create(&rich)).unwrap();
    assert!(wire.sent.lock().unwrap()[0].2.get("Metadata").is_none());
}

#[test]
fn trap_11_the_spelling_of_the_protocol_is_no_difference() {
    let (adapter, wire) = faked();
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(wire.sent.lock().unwrap()[0].2["Protocol"], "OAuth 2.0");
    assert!(adapter.preview_update(&created.target(), &created.spec, &created.spec).unwrap().value.is_empty());
}

#[test]
fn trap_12_the_misspelt_initiators_survive_both_ways() {
    let (adapter, wire) = faked();
    let logout = json!({ "LogoutInitiator": { "Mode": "RPInitiated", "Intiators": { "RPLogout": true } }, "LogoutTokenTTL": 60 });
    let sent = spec(json!({ "metadata": { "client_name": "Out", "redirect_uris": ["https://a.example/cb"], "backchannel_logout_uri": "https://a.example/out" }, "vendor": { "loginradius": { "BackChannelLogout": logout } } }));
    let created = now(adapter.create(&sent)).unwrap();
    assert_eq!(wire.sent.lock().unwrap()[0].2["BackChannelLogout"]["LogoutInitiator"]["Intiators"], json!({ "RPLogout": true }));
    assert_eq!(created.value.spec.vendor["loginradius"]["BackChannelLogout"], logout);
    assert_eq!(created.value.spec.metadata.backchannel_logout_uri.as_deref(), Some("https://a.example/out"), "t17");
}

#[test]
fn trap_13_the_token_comes_from_token_or_m2m_but_not_both() {
    #[derive(Debug)]
    struct NoWay;
    #[async_trait::async_trait]
    impl registrar_core::Http for NoWay {
        async fn send(&self, _: registrar_core::Request) -> registrar_core::Result<registrar_core::Response> {
            panic!("nothing is to be sent")
        }
    }
    let m2m = json!({ "token_url": "https://t.example/service/oauth/token", "client_id": "i", "client_secret": "s" });
    let paths = |all: Value| configure(&VENDOR, &all, std::sync::Arc::new(NoWay)).err().map(|i| i.iter().map(|i| i.path.join(".")).collect::<Vec<_>>());
    assert_eq!(paths(json!({ "base_url": "https://v.example", "m2m": m2m })), None);
    assert_eq!(paths(settings()), None);
    assert_eq!(paths(json!({ "base_url": "https://v.example" })), Some(vec!["token".to_owned()]));
    assert_eq!(paths(json!({ "base_url": "https://v.example", "token": "t", "m2m": m2m })), Some(vec!["token".to_owned()]));
    assert_eq!(paths(json!({ "base_url": "https://v.example", "m2m": { "token_url": "http://t.example" } })), Some(vec!["m2m.token_url".to_owned(), "m2m.client_id".to_owned(), "m2m.client_secret".to_owned()]));
}

#[test]
fn trap_24_a_public_client_gets_no_secret_although_the_object_has_one() {
    let (adapter, _) = faked();
    let public = spec(json!({ "metadata": { "client_name": "Spa", "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" } }));
    let created = now(adapter.create(&public)).unwrap().value;
    assert!(created.secret.is_none());
    assert_eq!(created.spec.metadata.token_endpoint_auth_method, Some(AuthMethod::None));
}

#[test]
fn trap_27_a_global_client_cannot_rotate() {
    let (adapter, _) = faked();
    let global = spec(json!({ "metadata": { "client_name": "Global", "redirect_uris": ["https://a.example/cb"] }, "vendor": { "loginradius": { "GlobalClient": true } } }));
    let created = now(adapter.create(&global)).unwrap().value;
    let error = now(adapter.rotate_secret(&created.target())).unwrap_err();
    assert_eq!((error.kind(), error.vendor().unwrap().code.as_deref()), (K::UnsupportedByBackend, Some("8014")));
}

#[test]
fn trap_33_every_name_is_written_as_the_vendor_writes_it() {
    let (adapter, _) = faked();
    let everything = spec(json!({
        "metadata": { "client_name": "All", "redirect_uris": ["https://a.example/cb"], "scope": "openid", "grant_types": ["authorization_code"], "application_type": "native",
            "post_logout_redirect_uris": ["https://a.example/o"], "initiate_login_uri": "https://a.example/l", "backchannel_logout_uri": "https://a.example/b", "default_max_age": 0,
            "id_token_signed_response_alg": "RS256", "userinfo_signed_response_alg": "RS256" },
        "policy": { "allowed_cors_origins": ["https://a.example"], "allowed_web_origins": ["https://a.example"], "access_token_lifetime": 60, "id_token_lifetime": 61, "refresh_token_lifetime": 62, "audiences": ["x"] }
    }));
    let body = adapter.preview(&everything).unwrap().value[0].body().unwrap();
    let documented: Value = serde_json::from_str(CLIENT).unwrap();
    for name in body.as_object().unwrap().keys() {
        assert!(documented.get(name).is_some(), "{name} is not in the documented example");
    }
    assert_eq!(body["JwtTokenConfig"], json!({ "Algorithm": "RS256", "TokenTTL": 60, "IdTokenTTL": 61 }));
    assert_eq!((&body["EnableCorsOrigin"], &body["ApplicationType"]), (&json!(true), &json!("Native")), "t18, t14");
    assert_eq!(body.as_object().unwrap().len(), 19);
}

#[test]
fn t15_t16_what_cannot_be_expressed_is_a_security_loss() {
    let (adapter, _) = faked();
    let odd = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "default_max_age": 300, "id_token_signed_response_alg": "ES256", "userinfo_signed_response_alg": "PS256", "token_endpoint_auth_method": "client_secret_jwt" } }));
    let losses = adapter.preview(&odd).unwrap().losses;
    for field in ["default_max_age", "id_token_signed_response_alg", "userinfo_signed_response_alg", "token_endpoint_auth_method"] {
        assert_eq!(loss(&losses, &format!("metadata.{field}")).severity, Severity::Security, "{field}");
    }
}

#[test]
fn every_documented_error_has_its_kind_by_code_first() {
    use Outcome::{NotPerformed as No, Unknown};
    let documented: Vec<Value> = serde_json::from_str(include_str!("fixtures/errors.json")).unwrap();
    let kinds = [K::Validation, K::UpstreamAuthentication, K::AlreadyExists, K::UpstreamError];
    for (body, kind) in documented.iter().zip(kinds) {
        // the page prints no statuses: the code decides under any
        for status in [400, 401, 409, 500] {
            let (adapter, _) = over_answers(&VENDOR, &[(status, &body.to_string())]);
            let error = now(adapter.create(&portal())).unwrap_err();
            let outcome = if kind == K::UpstreamError { Unknown } else { No };
            assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {body}");
        }
    }
    for (code, kind) in [("908", K::Validation), ("901", K::UpstreamAuthentication), ("902", K::UpstreamAuthentication), ("7981", K::NotFound), ("8014", K::UnsupportedByBackend)] {
        let body = json!({ "ErrorCode": code, "Message": "m" }).to_string();
        let (adapter, _) = over_answers(&VENDOR, &[(400, &body)]);
        assert_eq!(now(adapter.create(&portal())).unwrap_err().kind(), kind, "a code in a text: {code}");
    }
}

#[test]
fn a_paging_member_in_the_list_is_an_error_not_a_shorter_list() {
    let (adapter, _) = over_answers(&VENDOR, &[(200, &format!("{{\"Data\":[{CLIENT}]}}")), (200, r#"{"Data":[],"TotalCount":5}"#)]);
    assert_eq!(now(adapter.list(None)).unwrap().items.len(), 1);
    assert_eq!(now(adapter.list(None)).unwrap_err().kind(), K::UpstreamMalformed);
}

#[test]
fn vendor_members_travel_both_ways_and_are_checked() {
    let (adapter, _) = faked();
    let documented: Value = serde_json::from_str(CLIENT).unwrap();
    let names = ["Connections", "DeviceCodeConfig", "AudienceScopes", "Mapping", "Metadata", "AccessTokenMappingTemplate", "IdTokenMappingTemplate", "GlobalClient", "TokenWebOriginMatch"];
    let members: serde_json::Map<String, Value> = names.iter().map(|n| ((*n).to_owned(), documented[*n].clone())).collect();
    let sent = spec(json!({ "metadata": { "client_name": "Both", "redirect_uris": ["https://a.example/cb"] }, "vendor": { "loginradius": members } }));
    let created = now(adapter.create(&sent)).unwrap().value;
    assert_eq!(created.spec.vendor["loginradius"], members);
    for (name, bad) in [("Connections", json!(1)), ("GlobalClient", json!("yes")), ("AppName", json!("a/b")), ("AppName", json!("credentials")), ("Metadata", json!({ "a": 1 })), ("ClientSecret", json!("x"))] {
        let mut issues = registrar_model::Issues::new();
        let bad = spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "vendor": { "loginradius": { name: bad } } }));
        adapter.validate_vendor(&bad, &mut issues);
        assert!(!issues.is_empty(), "{name}");
    }
}
