use registrar_core::{Credential, ExposeSecret as _, Fake as _};
use serde_json::{Value, json};

use super::{
    super::fake::FakeVendor,
    support::{body_of, configure, portal, with_settings},
};

fn issues(settings: Value) -> Vec<String> {
    configure(&settings).err().into_iter().flatten().map(|issue| issue.path.join(".")).collect()
}

fn m2m() -> Value {
    json!({ "token_url": "https://acme.hub.loginradius.com/service/oauth/token", "client_id": "gateway", "client_secret": "s" })
}

#[test]
fn a_token_or_an_m2m_application_and_not_both() {
    let base = "https://api.loginradius.com";
    assert!(issues(json!({ "base_url": base, "token": "t" })).is_empty());
    assert!(issues(json!({ "base_url": base, "m2m": m2m() })).is_empty());
    assert_eq!(issues(json!({ "base_url": base })), ["token"]);
    assert_eq!(issues(json!({ "base_url": base, "token": "t", "m2m": m2m() })), ["token"]);
    assert_eq!(issues(json!({ "token": "t" })), ["base_url"]);
}

#[test]
fn trap_13_m2m_becomes_client_credentials_with_the_documented_audience() {
    let credential =
        |m2m: Value| configure(&json!({ "base_url": "https://api.loginradius.com", "m2m": m2m })).unwrap().credential;
    let Credential::ClientCredentials(found) = credential(m2m()) else { panic!("client credentials") };
    assert_eq!(found.token_url.as_str(), "https://acme.hub.loginradius.com/service/oauth/token");
    assert_eq!((found.client_id.as_str(), found.client_secret.expose_secret()), ("gateway", "s"));
    assert_eq!(found.audience.as_deref(), Some("https://api.loginradius.com/identity/v2/manage"));
    let mut other = m2m();
    other["audience"] = json!("https://other.example");
    let Credential::ClientCredentials(found) = credential(other) else { panic!("client credentials") };
    assert_eq!(found.audience.as_deref(), Some("https://other.example"));
}

#[test]
fn every_mistake_is_found_at_once() {
    let wrong = json!({
        "base_url": "http://api.loginradius.com", "m2m": { "token_url": "ftp://x", "clientid": "x" },
        "protocol": "", "application_types": { "web": "W", "machine": "M" }, "aplication_types": {}
    });
    let expected = [
        "base_url",
        "m2m.token_url",
        "m2m.client_id",
        "m2m.client_secret",
        "m2m.clientid",
        "protocol",
        "application_types",
        "aplication_types",
    ];
    assert_eq!(issues(wrong), expected);
    for types in [
        json!({ "web": "" }),
        json!({ "web": "X", "native": "X" }),
        json!({ "spa": "Web" }),
        json!({ "web": 1 }),
        json!("Web"),
    ] {
        let settings = json!({ "base_url": "https://a.example", "token": "t", "application_types": types });
        assert_eq!(issues(settings), ["application_types"], "{types}");
    }
}

#[test]
fn the_spelling_of_the_protocol_is_a_setting() {
    let (adapter, _) = with_settings(json!({ "protocol": "OAuth2" }));
    assert_eq!(body_of(&*adapter, &portal())["Protocol"], "OAuth2");
}

#[test]
fn the_fakes_settings_make_a_backend() {
    assert!(issues(FakeVendor::default().settings("http://127.0.0.1:9/loginradius")).is_empty());
}
