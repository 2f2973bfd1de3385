//! What is sent and what is read (RFC 7591 §2, §3.2.1).

use registrar_core::{ErrorKind as K, ExposeSecret as _, Outcome};
use registrar_model::{AuthMethod, LossKind, Severity, account::account};
use serde_json::{Map, Value, json};

use super::support::{MANAGED, REGISTERED, UPDATE, answer, answered, faked, last, metadata, target};
use crate::harness::{loss, now, portal, spec};

#[test]
fn the_example_of_rfc_7591_is_read() {
    let (adapter, _) = answered("standard", &[(201, REGISTERED)]);
    let created = now(adapter.create(&portal())).unwrap();
    let client = created.value;
    assert_eq!((client.client_id.as_str(), client.client_id_issued_at), ("s6BhdRkqt3", Some(2_893_256_800)));
    let secret = client.secret.unwrap();
    assert_eq!(
        (secret.value.expose_secret(), secret.expires_at),
        ("cf136dc3c1fc93f31185e5885805d", Some(2_893_276_800))
    );
    let shown = client.spec.flatten();
    for (field, value) in [
        (
            "metadata.redirect_uris",
            json!(["https://client.example.org/callback", "https://client.example.org/callback2"]),
        ),
        ("metadata.grant_types", json!(["authorization_code", "refresh_token"])),
        ("metadata.client_name", json!("My Example Client")),
        ("metadata.client_name#ja-Jpan-JP", json!("\u{30af}\u{30e9}\u{30a4}\u{30a2}\u{30f3}\u{30c8}\u{540d}")),
        ("metadata.token_endpoint_auth_method", json!("client_secret_basic")),
        ("metadata.logo_uri", json!("https://client.example.org/logo.png")),
        ("metadata.jwks_uri", json!("https://client.example.org/my_public_keys.jwks")),
        ("vendor.rfc7591.example_extension_parameter", json!("example_value")),
    ] {
        assert_eq!(shown.get(field), Some(&value), "{field}");
    }
    assert_eq!(shown.len(), 8, "nothing else is part of the client: {shown:?}");
}

#[test]
fn the_example_of_rfc_7592_is_read_and_manages_its_client() {
    let (adapter, wire) = answered("standard", &[(200, MANAGED)]);
    let client = now(adapter.read(&target())).unwrap();
    assert!(client.secret.is_none(), "a read repeats the secret, and it goes no further");
    let management = client.management.unwrap();
    assert_eq!(management.uri.as_str(), "https://server.example.com/register/s6BhdRkqt3");
    assert_eq!(last(&wire).0, "GET");
    assert_eq!(wire.tokens.lock().unwrap()[0].as_deref(), Some("reg-23410913-abewfq.123483"));
}

#[test]
fn adp_06_an_update_is_the_whole_client_without_what_only_the_server_says() {
    let example: Value = serde_json::from_str(UPDATE).unwrap();
    let mut members = example.clone();
    for assigned in ["client_id", "client_secret"] {
        members.as_object_mut().unwrap().remove(assigned);
    }
    let (adapter, wire) = answered("standard", &[(200, &answer(members.clone()))]);
    let current =
        metadata(json!({ "redirect_uris": ["https://client.example.org/callback"], "contacts": ["a@b.example"] }));
    let updated = now(adapter.update(&target(), &current, &metadata(members))).unwrap();
    let (method, path, body) = last(&wire);
    assert_eq!((method.as_str(), path.as_str()), ("PUT", "/register/s6BhdRkqt3"));
    let mut wanted = example;
    // the gateway does not know the secret, and RFC 7592 §2.2 leaves it out as well
    wanted.as_object_mut().unwrap().remove("client_secret");
    assert_eq!(body, wanted);
    assert!(updated.value.secret.is_none(), "the secret in the answer is the old one");
}

#[test]
fn nothing_is_renamed_and_empty_members_are_not_sent() {
    let sent = spec(json!({
        "metadata": {
            "redirect_uris": ["https://a.example/cb"], "client_name": "A", "client_name#fr": "Un", "contacts": [],
            "jwks": { "keys": [{ "kty": "EC", "crv": "P-256", "x": "x", "y": "y" }] }, "default_max_age": 0,
            "require_auth_time": false, "scope": "openid profile", "vp_formats_supported": { "jwt_vp": {} }
        },
        "policy": { "owner": "o" },
        "vendor": { "rfc7591": { "example_extension_parameter": { "deep": [1, null] } } }
    }));
    let (adapter, _) = faked("standard");
    let plan = adapter.preview(&sent).unwrap();
    assert_eq!(
        plan.value[0].body().unwrap(),
        json!({
            "redirect_uris": ["https://a.example/cb"], "client_name": "A", "client_name#fr": "Un",
            "jwks": { "keys": [{ "kty": "EC", "crv": "P-256", "x": "x", "y": "y" }] }, "default_max_age": 0,
            "require_auth_time": false, "scope": "openid profile", "vp_formats_supported": { "jwt_vp": {} },
            "example_extension_parameter": { "deep": [1, null] }
        })
    );
    assert_eq!(loss(&plan.losses, "policy.owner").kind, LossKind::Dropped);
}

#[test]
fn clients_without_redirect_grants_are_sent_no_response_types() {
    let machine = metadata(json!({ "grant_types": ["client_credentials"], "redirect_uris": [] }));
    let (adapter, wire) = faked("standard");
    let created = now(adapter.create(&machine)).unwrap();
    // measured: without it, oidc-provider demands redirect URIs
    assert_eq!(last(&wire).2, json!({ "grant_types": ["client_credentials"] }));
    assert!(created.value.spec.metadata.response_types.is_none());
}

#[test]
fn adp_13_what_the_server_answers_is_the_truth() {
    let asked =
        metadata(json!({ "redirect_uris": ["https://a.example/cb"], "scope": "openid profile", "software_id": "s" }));
    let shown = answer(json!({
        "redirect_uris": ["https://a.example/cb"], "scope": "openid", "token_endpoint_auth_method": "client_secret_post"
    }));
    let (adapter, _) = answered("standard", &[(201, &shown)]);
    let created = now(adapter.create(&asked)).unwrap();
    let losses = account(&asked, &created.value.spec, created.losses);
    assert_eq!(loss(&losses, "metadata.scope").kind, LossKind::Narrowed);
    assert_eq!(loss(&losses, "metadata.software_id").kind, LossKind::LocalOnly);
    let method = loss(&losses, "metadata.token_endpoint_auth_method");
    assert_eq!(
        (method.kind, method.severity, &method.got),
        (LossKind::Defaulted, Severity::Info, &Some(json!("client_secret_post")))
    );
}

#[test]
fn adp_01_02_03_lenient_reading() {
    let lenient = r#"{"client_id":"c","client_secret":"s","client_id_issued_at":"17","client_name":"","contacts":null,
        "grant_types":[],"scope":["openid","email"],"jwks":"{\"keys\":[]}","redirect_uris":["https://a.example/cb"]}"#;
    let (adapter, _) = answered("standard", &[(200, lenient)]);
    let client = now(adapter.create(&portal())).unwrap().value;
    let secret = client.secret.unwrap();
    assert_eq!((secret.expires_at, client.client_id_issued_at), (Some(0), Some(17)));
    let shown = client.spec.flatten();
    assert_eq!(shown["metadata.scope"], json!("openid email"));
    assert_eq!(shown.len(), 2, "{shown:?}");
}

#[test]
fn an_odd_member_costs_itself_and_not_the_client() {
    for (odd, field) in [
        (json!({ "redirect_uris": { "CANARY": 1 } }), "metadata.redirect_uris"),
        (json!({ "scope": ["CANARY b", 1] }), "metadata.scope"),
        (json!({ "jwks": "CANARY" }), "metadata.jwks"),
        (json!({ "default_max_age": "CANARY" }), "metadata.default_max_age"),
        (json!({ "require_auth_time": "CANARY" }), "metadata.require_auth_time"),
        (json!({ "client_name": ["CANARY", "b"] }), "metadata.client_name"),
        (json!({ "client_id_issued_at": "CANARY" }), "client_id_issued_at"),
        (json!({ "client_secret_expires_at": "CANARY" }), "client_secret_expires_at"),
    ] {
        let (adapter, _) = answered("standard", &[(201, &answer(odd.clone())), (200, &answer(odd.clone()))]);
        let created = now(adapter.create(&portal())).unwrap().value;
        assert!(created.secret.is_some() && created.management.is_some(), "{odd}");
        assert_eq!(created.unread.iter().map(|l| &*l.field).collect::<Vec<_>>(), [field], "{odd}");
        assert!(!format!("{created:?}").contains("CANARY"), "{created:?}");
        let read = now(adapter.read(&target())).unwrap();
        assert_eq!(read.unread.len(), 1, "{odd}");
    }
    let (adapter, _) = answered("standard", &[(201, &answer(json!({ "client_id": "" })))]);
    let error = now(adapter.create(&portal())).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (K::UpstreamMalformed, Outcome::Unknown));
}

#[test]
fn what_can_be_understood_is_understood() {
    let odd = json!({
        "client_id": 7, "client_secret": "s3cr3t-s3cr3t", "contacts": "ops@a.example", "default_max_age": "3600",
        "client_name": ["A"], "require_auth_time": "true", "token_endpoint_auth_method": ["client_secret_post"],
        "grant_types": "authorization_code refresh_token", "response_types": "code id_token",
        "client_secret_expires_at": 1.8e9, "client_id_issued_at": "2026-11-29T00:00:00Z"
    });
    let body = format!("\u{feff}{}<!-- served by a proxy -->", odd);
    let (adapter, _) = answered("standard", &[(201, &body)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!((created.client_id.as_str(), created.unread.len()), ("7", 0));
    assert_eq!(created.secret.unwrap().expires_at, Some(1_800_000_000));
    assert_eq!(created.client_id_issued_at, Some(1_795_910_400));
    let shown = created.spec.flatten();
    for (field, value) in [
        ("metadata.contacts", json!(["ops@a.example"])),
        ("metadata.default_max_age", json!(3600)),
        ("metadata.client_name", json!("A")),
        ("metadata.require_auth_time", json!(true)),
        ("metadata.token_endpoint_auth_method", json!("client_secret_post")),
        ("metadata.grant_types", json!(["authorization_code", "refresh_token"])),
        ("metadata.response_types", json!(["code id_token"])),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
}

#[test]
fn what_is_no_json_inside_of_an_answer_costs_its_member() {
    let deep = format!("{}1{}", "[".repeat(9_000), "]".repeat(9_000));
    let body = format!(
        r#"{{"client_id":"c","client_secret":"s","a":{deep},"client_name":"\ud800","default_max_age":1e999,"tier":"gold"}}"#
    );
    let (adapter, _) = answered("standard", &[(201, &body)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!((created.client_id.as_str(), created.secret.is_some()), ("c", true));
    let unread: Vec<&str> = created.unread.iter().map(|l| &*l.field).collect();
    assert_eq!(unread, ["metadata.client_name", "metadata.default_max_age", "vendor.rfc7591.a"]);
    assert_eq!(created.spec.vendor["rfc7591"]["tier"], "gold");
}

#[test]
fn a_cut_answer_names_its_client_and_how_to_manage_it() {
    let whole = answer(json!({}));
    let (adapter, _) = answered("standard", &[(201, &whole[..whole.len() - 1]), (500, &whole), (202, &whole)]);
    for _ in 0..3 {
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        let client = error.client().unwrap();
        assert_eq!((client.client_id.as_str(), client.management.is_some()), ("s6BhdRkqt3", true));
    }
}

#[test]
fn unknown_members_are_bounded() {
    let names: Map<String, Value> = (0..4_000).map(|i| (format!("m{i}"), json!(i))).collect();
    let mut more = Value::Object(names);
    more["x".repeat(20_000)] = json!(1);
    let (adapter, _) = answered("standard", &[(201, &answer(more))]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(created.spec.vendor["rfc7591"].len(), 200);
    assert_eq!((created.unread.len(), &*created.unread[0].field), (1, "vendor.rfc7591"));
    assert!(created.unread[0].reason.contains("3801"), "{:?}", created.unread[0]);
}

#[test]
fn no_secret_of_the_call_is_kept_under_another_name() {
    let echo = json!({ "client_secret": "s3cr3t-s3cr3t", "debug": { "q": "https://v.example/?s=s3cr3t-s3cr3t" } });
    let (adapter, _) = answered("standard", &[(201, &answer(echo))]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(created.secret.as_ref().unwrap().value.expose_secret(), "s3cr3t-s3cr3t");
    assert_eq!(created.spec.vendor["rfc7591"]["debug"], json!({ "q": "https://v.example/?s=[redacted]" }));
}

#[test]
fn unknown_members_are_kept_except_what_could_be_a_secret() {
    let more = json!({ "tier": "gold", "x_client_secret_hash": "h", "refresh_token": "t", "apiPassword": "p", "client_name#": "x" });
    let (adapter, _) = answered("standard", &[(201, &answer(more))]);
    let spec = now(adapter.create(&portal())).unwrap().value.spec;
    let kept: Vec<&str> = spec.vendor["rfc7591"].keys().map(String::as_str).collect();
    assert_eq!(kept, ["tier"]);
}

#[test]
fn vendor_members_are_for_what_no_standard_has() {
    let (adapter, wire) = faked("standard");
    for (member, word) in [
        ("client_id", "server"),
        ("registration_access_token", "server"),
        ("scope", "metadata.scope"),
        ("client_name#fr", "metadata.client_name#fr"),
        ("vp_formats_supported", "metadata"),
        ("my_password", "secret"),
    ] {
        let spec = spec(
            json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "vendor": { "rfc7591": { member: "x" } } }),
        );
        let error = now(adapter.create(&spec)).unwrap_err();
        assert_eq!(error.kind(), K::Validation, "{member}");
        assert_eq!(error.issues()[0].pointer.as_str(), format!("#/vendor/rfc7591/{member}"));
        assert!(error.issues()[0].detail.contains(word), "{error:?}");
    }
    assert!(wire.sent.lock().unwrap().is_empty());
}

#[test]
fn a_secret_goes_only_to_who_can_use_it() {
    let public = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" }));
    let none = answer(json!({ "token_endpoint_auth_method": "none" }));
    // adp_08: canaille issues one all the same
    let (adapter, _) = answered("canaille", &[(201, &none)]);
    let created = now(adapter.create(&public)).unwrap();
    assert!(created.value.secret.is_none());
    let flag = loss(&created.losses, "client_secret");
    assert_eq!((flag.kind, flag.severity), (LossKind::Dropped, Severity::Info));
    let settled = account(&public, &created.value.spec, created.losses);
    assert!(settled.iter().any(|l| l.field == "client_secret"), "the flag survives the accounting");

    // the method is left out with the secret: there is none
    let without = answer(json!({ "client_secret": null }));
    let (adapter, _) = answered("standard", &[(201, &without)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    assert!(created.secret.is_none() && created.spec.metadata.is_public());
    // the server names the method and tells no secret
    let named = answer(json!({ "client_secret": null, "token_endpoint_auth_method": "client_secret_post" }));
    let (adapter, _) = answered("standard", &[(201, &named)]);
    let created = now(adapter.create(&portal())).unwrap();
    assert!(created.value.secret.is_none());
    assert_eq!(loss(&created.losses, "client_secret").severity, Severity::Functional);
    // a secret without a method, for a client that asked for neither
    let (adapter, _) = answered("standard", &[(201, &answer(json!({})))]);
    let created = now(adapter.create(&public)).unwrap();
    assert!(created.value.secret.is_some());
    let settled = account(&public, &created.value.spec, created.losses);
    let method = loss(&settled, "metadata.token_endpoint_auth_method");
    assert_eq!((method.kind, method.severity), (LossKind::Substituted, Severity::Security));
    assert_eq!(method.got, Some(json!("client_secret_basic")));
    let keyed = metadata(
        json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks" }),
    );
    let (adapter, _) = answered("standard", &[(201, &without)]);
    assert!(now(adapter.create(&keyed)).unwrap().value.secret.is_none());
}

#[test]
fn a_client_that_becomes_confidential_gets_its_secret_from_the_update() {
    let (adapter, _) = faked("standard");
    let public = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" }));
    let created = now(adapter.create(&public)).unwrap().value;
    assert!(created.secret.is_none());
    let confidential = metadata(
        json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "client_secret_post" }),
    );
    let updated = now(adapter.update(&created.target(), &created.spec, &confidential)).unwrap().value;
    assert_eq!(updated.spec.metadata.token_endpoint_auth_method, Some(AuthMethod::ClientSecretPost));
    assert!(updated.secret.is_some());
    let again = metadata(
        json!({ "redirect_uris": ["https://a.example/cb2"], "token_endpoint_auth_method": "client_secret_post" }),
    );
    let again = now(adapter.update(&updated.target(), &updated.spec, &again)).unwrap().value;
    assert!(again.secret.is_none(), "the same secret is no news");
}

#[test]
fn an_update_that_changes_nothing_reads_instead() {
    let (adapter, wire) = faked("standard");
    let created = now(adapter.create(&portal())).unwrap().value;
    now(adapter.update(&created.target(), &created.spec, &created.spec)).unwrap();
    assert_eq!(last(&wire).0, "GET");
}
