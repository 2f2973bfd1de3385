//! The fake itself: it takes what the page shows and refuses what the vendor refuses.

use registrar_core::Fake as _;
use serde_json::{Value, json};

use super::{
    super::fake::{FakeVendor, M2M_CLIENT_ID, M2M_CLIENT_SECRET, TOKEN},
    support::{CLIENT, ask, json_of},
};

const CLIENTS: [&str; 3] = ["v2", "manage", "oauth-clients"];
const REQUEST: &str = include_str!("../fixtures/create_request.json");

fn post(fake: &FakeVendor, body: &Value) -> (u16, Value) {
    let answer = ask(fake, "POST", &CLIENTS, Some(TOKEN), &body.to_string());
    (answer.status, json_of(&answer))
}

fn put(fake: &FakeVendor, name: &str, body: &Value) -> (u16, Value) {
    let answer = ask(fake, "PUT", &["v2", "manage", "oauth-clients", name], Some(TOKEN), &body.to_string());
    (answer.status, json_of(&answer))
}

#[test]
fn the_documented_request_is_taken_and_answered_with_the_documented_members() {
    let fake = FakeVendor::default();
    let answer = ask(&fake, "POST", &CLIENTS, Some(TOKEN), REQUEST);
    assert_eq!(answer.status, 201);
    let (got, documented) = (json_of(&answer), serde_json::from_str::<Value>(CLIENT).unwrap());
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&got), names(&documented));
    assert_eq!((&got["AppName"], &got["Protocol"]), (&json!("string"), &json!("OAuth2")));
    // that is the trap: no redirect URI at all, and loose matching
    assert_eq!((&got["LoginRedirectUri"], &got["RedirectURIExactMatch"]), (&json!([]), &json!(false)));
    assert!(got["Secret"].is_string() && got["ClientSecret"].is_string() && got["Secret"] != got["ClientSecret"]);
}

#[test]
fn everything_that_the_documented_client_shows_can_be_asked_for() {
    let fake = FakeVendor::default();
    let mut body: Value = serde_json::from_str(CLIENT).unwrap();
    let members = body.as_object_mut().unwrap();
    for assigned in ["AppId", "ClientId", "ClientSecret", "CreatedDate", "LastModifiedDate", "Secret"] {
        let value = members.remove(assigned).unwrap();
        let (status, _) = post(&fake, &json!({ "AppName": "X", "Protocol": "OAuth2", assigned: value }));
        assert_eq!(status, 400, "{assigned} is the vendor's");
    }
    let (status, got) = post(&fake, &body);
    assert_eq!(status, 201);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&got[name], value, "{name}");
    }
}

#[test]
fn what_the_page_does_not_show_is_refused() {
    let fake = FakeVendor::default();
    let base = json!({ "AppName": "A", "Protocol": "OAuth 2.0" });
    for bad in [
        json!({ "AppName": "" }),
        json!({ "AppName": null }),
        json!({ "Protocol": "SAML" }),
        json!({ "Color": "red" }),
        json!({ "LoginRedirectUri": "https://a.example/cb" }),
        json!({ "GrantTypes": ["magic"] }),
        json!({ "TokenAuthMethod": "private_key_jwt" }),
        json!({ "RefreshTokenTTL": "1" }),
        json!({ "RefreshTokenTTL": -1 }),
        json!({ "JwtTokenConfig": { "Algorithm": "ES256" } }),
        json!({ "JwtTokenConfig": { "TTL": 1 } }),
        json!({ "Metadata": { "a": 1 } }),
        json!({ "BackChannelLogout": { "LogoutInitiator": { "Initiators": {} } } }),
        json!({ "RedirectUriExactMatch": true }),
        json!({ "GlobalClient": "true" }),
    ] {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        let (status, error) = post(&fake, &body);
        let documented: Value = serde_json::from_str(include_str!("../fixtures/error_7914.json")).unwrap();
        assert_eq!((status, error), (400, documented), "{bad}");
    }
    for body in ["", "[]", "{", "AppName=A"] {
        assert_eq!(ask(&fake, "POST", &CLIENTS, Some(TOKEN), body).status, 400);
    }
    assert!(fake.clients().is_empty());
}

#[test]
fn names_are_unique_keys() {
    let fake = FakeVendor::default();
    let (_, first) = post(&fake, &json!({ "AppName": "A", "Protocol": "OAuth2" }));
    let (status, error) = post(&fake, &json!({ "AppName": "A", "Protocol": "OAuth2" }));
    assert_eq!((status, &error["ErrorCode"]), (409, &json!(7982)));
    let (_, second) = post(&fake, &json!({ "AppName": "B", "Protocol": "OAuth2" }));
    assert_ne!(first["ClientId"], second["ClientId"]);
    let by_name = ask(&fake, "GET", &["v2", "manage", "oauth-clients", "A"], Some(TOKEN), "");
    assert_eq!(json_of(&by_name), first);
    let by_id =
        ask(&fake, "GET", &["v2", "manage", "oauth-clients", first["ClientId"].as_str().unwrap()], Some(TOKEN), "");
    assert_eq!((by_id.status, &json_of(&by_id)["ErrorCode"]), (404, &json!(7981)));
    let list = ask(&fake, "GET", &CLIENTS, Some(TOKEN), "");
    assert_eq!(json_of(&list), json!({ "Data": [first, second] }));
    for method in ["DELETE", "PATCH"] {
        assert_eq!(ask(&fake, method, &["v2", "manage", "oauth-clients", "A"], Some(TOKEN), "{}").status, 404);
    }
    fake.reset();
    assert!(fake.clients().is_empty());
}

#[test]
fn a_put_merges_at_the_top_and_replaces_objects() {
    let fake = FakeVendor::default();
    let (_, before) = post(
        &fake,
        &json!({ "AppName": "A", "Protocol": "OAuth2", "AllowedScopes": ["a"], "JwtTokenConfig": { "TokenTTL": 5, "IdTokenTTL": 6 } }),
    );
    // the documented sample body
    let (status, same) = put(&fake, "A", &json!({}));
    assert_eq!((status, &same["AllowedScopes"]), (200, &before["AllowedScopes"]));
    assert_ne!(same["LastModifiedDate"], before["LastModifiedDate"]);
    let (_, after) = put(&fake, "A", &json!({ "AllowedScopes": [], "JwtTokenConfig": { "TokenTTL": 7 } }));
    assert_eq!(after["AllowedScopes"], json!([]));
    assert_eq!(after["JwtTokenConfig"], json!({ "Algorithm": "RS256", "TokenTTL": 7, "IdTokenTTL": 3600 }));
    assert_eq!(after["ClientSecret"], before["ClientSecret"]);
    assert_eq!(put(&fake, "A", &json!({ "AppName": "B" })).0, 400);
    assert_eq!(put(&fake, "B", &json!({})).0, 404);
}

#[test]
fn a_reset_replaces_the_secret_but_not_of_a_global_client() {
    let fake = FakeVendor::default();
    let reset =
        |name: &str| ask(&fake, "PUT", &["v2", "manage", "oauth-clients", "credentials", name], Some(TOKEN), "");
    let (_, client) = post(&fake, &json!({ "AppName": "A", "Protocol": "OAuth2" }));
    let answer = json_of(&reset("A"));
    assert_eq!(answer["ClientId"], client["ClientId"]);
    assert_ne!(answer["ClientSecret"], client["ClientSecret"]);
    assert_eq!(answer["ClientSecret"], fake.clients()[0]["ClientSecret"]);
    put(&fake, "A", &json!({ "GlobalClient": true }));
    assert_eq!((reset("A").status, &json_of(&reset("A"))["ErrorCode"]), (400, &json!(8014)));
    assert_eq!(json_of(&reset("B"))["ErrorCode"], 7981);
}

#[test]
fn trap_13_tokens_come_with_expire_in_as_a_text_and_are_needed() {
    let fake = FakeVendor::default();
    for token in [None, Some("wrong"), Some("fake-loginradius-m2m-token-1")] {
        let refused = ask(&fake, "GET", &CLIENTS, token, "");
        let documented: Value = serde_json::from_str(include_str!("../fixtures/error_6002.json")).unwrap();
        assert_eq!((refused.status, json_of(&refused)), (401, documented));
    }
    let token = |change: Value| {
        let mut body = json!({
            "grant_type": "client_credentials", "audience": "https://api.loginradius.com/identity/v2/manage",
            "client_id": M2M_CLIENT_ID, "client_secret": M2M_CLIENT_SECRET
        });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = ask(&fake, "POST", &["service", "oauth", "token"], None, &body.to_string());
        (answer.status, json_of(&answer))
    };
    let (status, issued) = token(json!({}));
    assert_eq!((status, &issued["expire_in"], issued.get("expires_in")), (200, &json!("3600"), None));
    assert_eq!(ask(&fake, "GET", &CLIENTS, issued["access_token"].as_str(), "").status, 200);
    for (change, error) in [
        (json!({ "grant_type": "password" }), "unsupported_grant_type"),
        (json!({ "audience": null }), "invalid_request"),
        (json!({ "client_id": "x" }), "invalid_client"),
        (json!({ "client_secret": "x" }), "unauthorized_client"),
    ] {
        let (status, answer) = token(change);
        assert!((400..500).contains(&status));
        assert_eq!(answer["error"], error);
    }
    let form = ask(&fake, "POST", &["service", "oauth", "token"], None, "grant_type=client_credentials");
    assert_eq!(json_of(&form)["error"], "invalid_request");
}
