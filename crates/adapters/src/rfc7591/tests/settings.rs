//! `settings`.

use std::sync::Arc;

use registrar_core::{Credential, SecretString, Settings, TokenForm, TokenLife};
use serde_json::{Value, json};

use crate::{
    harness::{now, over_answers_with, portal},
    rfc7591::{VENDOR, preset::PRESETS},
};

fn issues(settings: &Value) -> Vec<String> {
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let mut cursor = Settings::new(settings.as_object().unwrap(), &literal);
    let blueprint = (VENDOR.configure)(&mut cursor);
    let issues: Vec<String> = cursor.finish().iter().map(|issue| issue.path.join(".")).collect();
    assert_eq!(blueprint.is_none(), !issues.is_empty());
    issues
}

fn registers_at(settings: &Value) -> String {
    let (adapter, _) = over_answers_with(&VENDOR, &[], settings);
    adapter.preview(&portal()).unwrap().value[0].url.to_string()
}

#[test]
fn registration_is_where_the_preset_or_the_setting_says() {
    for (settings, wanted) in [
        (json!({ "base_url": "https://v.example" }), "https://v.example/register"),
        (json!({ "base_url": "https://v.example/", "preset": "oidc-provider" }), "https://v.example/reg"),
        (
            json!({ "base_url": "https://v.example/o", "preset": "django-oauth-toolkit" }),
            "https://v.example/o/register/",
        ),
        (
            json!({ "base_url": "https://v.example/realms/r", "preset": "keycloak" }),
            "https://v.example/realms/r/clients-registrations/openid-connect",
        ),
        (json!({ "base_url": "https://v.example/p", "registration_path": "/a/b" }), "https://v.example/p/a/b"),
        (
            json!({ "base_url": "https://v.example/p", "registration_path": "https://v.example/p/a/b/" }),
            "https://v.example/p/a/b/",
        ),
    ] {
        assert_eq!(registers_at(&settings), wanted, "{settings}");
    }
    for bad in [
        "register",
        "",
        "/",
        "//evil.example/x",
        "https://evil.example/register",
        "https://v.example.evil.example/x",
        "/a/../b",
        "/a//b",
        "/a?b",
        "/a#b",
        "/%2e%2e/b",
        "/a\\b",
    ] {
        assert_eq!(
            issues(&json!({ "base_url": "https://v.example", "registration_path": bad })),
            ["registration_path"],
            "{bad}"
        );
        assert_eq!(
            issues(&json!({ "base_url": "https://v.example", "discovery_path": bad })),
            ["discovery_path"],
            "{bad}"
        );
    }
}

#[test]
fn the_token_is_optional_and_everything_else_is_checked() {
    assert!(issues(&json!({ "base_url": "https://v.example" })).is_empty());
    assert!(issues(&json!({ "base_url": "https://v.example", "token": "t" })).is_empty());
    assert_eq!(
        issues(&json!({ "base_url": "http://v.example", "preset": "standrad", "tokn": "t" })),
        ["base_url", "preset", "tokn"]
    );
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let open = json!({ "base_url": "https://v.example" });
    let mut cursor = Settings::new(open.as_object().unwrap(), &literal);
    assert!(matches!((VENDOR.configure)(&mut cursor).unwrap().credential, Credential::None));
}

#[test]
fn a_client_instead_of_a_token_and_not_both() {
    let client = || json!({ "token_url": "https://v.example/token", "client_id": "gateway", "client_secret": "s", "scope": "client.create" });
    let credential = |settings: Value| {
        let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
        let mut cursor = Settings::new(settings.as_object().unwrap(), &literal);
        (VENDOR.configure)(&mut cursor).unwrap().credential
    };
    for (preset, life) in [
        ("standard", TokenLife::Reusable),
        ("keycloak", TokenLife::Reusable),
        ("spring", TokenLife::OneUse),
        ("spring-oidc", TokenLife::OneUse),
    ] {
        let found = credential(json!({ "base_url": "https://v.example", "preset": preset, "client": client() }));
        let Credential::ClientCredentials(found) = found else { panic!("client credentials") };
        assert_eq!((found.life, found.form), (life, TokenForm::Standard), "{preset}");
        assert_eq!((found.client_id.as_str(), found.scope.as_deref()), ("gateway", Some("client.create")));
        assert!(found.audience.is_none());
    }
    let unscoped = json!({ "token_url": "https://v.example/token", "client_id": "gateway", "client_secret": "s" });
    for (preset, scope) in
        [("standard", None), ("spring", Some("client.create")), ("spring-oidc", Some("client.create"))]
    {
        let found = credential(json!({ "base_url": "https://v.example", "preset": preset, "client": unscoped }));
        let Credential::ClientCredentials(found) = found else { panic!("client credentials") };
        assert_eq!(found.scope.as_deref(), scope, "{preset}");
    }
    assert_eq!(issues(&json!({ "base_url": "https://v.example", "token": "t", "client": client() })), ["token"]);
    assert_eq!(
        issues(
            &json!({ "base_url": "https://v.example", "client": { "token_url": "http://v.example/token", "sope": "x" } })
        ),
        ["client.token_url", "client.client_id", "client.client_secret", "client.sope"]
    );
    assert_eq!(issues(&json!({ "base_url": "https://v.example", "client": "x" })), ["client"]);
}

#[test]
fn presets_have_names_of_their_own_and_can_be_configured() {
    for preset in PRESETS {
        assert!(
            issues(&json!({ "base_url": "https://v.example", "preset": preset.name })).is_empty(),
            "{}",
            preset.name
        );
        assert_eq!(PRESETS.iter().filter(|other| other.name == preset.name).count(), 1);
        let described =
            VENDOR.descriptor.settings.iter().any(|(key, text)| *key == "preset" && text.contains(preset.name));
        assert!(described, "{} is not in the descriptor", preset.name);
        assert!(include_str!("../docs.md").contains(preset.name), "{} is not in docs.md", preset.name);
        for name in preset.keeps.unwrap_or_default().iter().chain(preset.unshown).chain(preset.fixed) {
            assert!(registrar_model::field::lookup(&format!("metadata.{name}")).is_some(), "{}: {name}", preset.name);
        }
    }
}

#[test]
fn no_token_shows_in_the_adapters_debug_text() {
    let settings = json!({ "base_url": "https://v.example", "token": "CANARY" });
    let (adapter, _) = over_answers_with(&VENDOR, &[(500, "")], &settings);
    let error = now(adapter.create(&portal())).unwrap_err();
    assert!(!format!("{:?} {error:?}", Arc::clone(&adapter)).contains("CANARY"));
}
