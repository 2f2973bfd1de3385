//! What a discovery document must have before clients can use it, and what it may promise.

use serde_json::{Map, Value};

/// What RFC 8414 §2 requires where the code grant is served, beside the members that the gateway has itself.
const OAUTH: [&str; 2] = ["authorization_endpoint", "token_endpoint"];
/// What OpenID Connect Discovery §3 requires beside that.
const OPENID: [&str; 3] = ["jwks_uri", "subject_types_supported", "id_token_signing_alg_values_supported"];

/// Lists the members that an authorization server's document lacks for the code grant.
#[must_use]
pub fn missing_for_oauth(members: &Map<String, Value>) -> Vec<&'static str> {
    OAUTH.into_iter().filter(|name| !has(members, name)).collect()
}

/// Lists the members that a document lacks as one of an OpenID provider.
#[must_use]
pub fn missing_for_openid(members: &Map<String, Value>) -> Vec<&'static str> {
    OAUTH.into_iter().chain(OPENID).filter(|name| !has(members, name)).collect()
}

/// Keeps the grants whose endpoints a document names: a client registers for what it reads there.
#[must_use]
pub fn servable(grants: Vec<&'static str>, members: &Map<String, Value>) -> Vec<&'static str> {
    let served = |grant: &&str| unserved(grant, members).is_empty();
    let mut kept: Vec<&'static str> = grants.into_iter().filter(served).collect();
    // it is a by-product of a grant that a user consents to
    if !kept.iter().any(|grant| matches!(*grant, "authorization_code" | DEVICE | CIBA)) {
        kept.retain(|grant| *grant != "refresh_token");
    }
    kept
}

/// Lists the endpoints that a document lacks for a grant.
pub(crate) fn unserved(grant: &str, members: &Map<String, Value>) -> Vec<&'static str> {
    needs(grant).iter().copied().filter(|name| !has(members, name)).collect()
}

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const CIBA: &str = "urn:openid:params:grant-type:ciba";

/// The endpoints without which a grant cannot be served.
fn needs(grant: &str) -> &'static [&'static str] {
    match grant {
        "authorization_code" => &OAUTH,
        "implicit" => &["authorization_endpoint"],
        DEVICE => &["token_endpoint", "device_authorization_endpoint"],
        CIBA => &["token_endpoint", "backchannel_authentication_endpoint"],
        _ => &["token_endpoint"],
    }
}

fn has(members: &Map<String, Value>, name: &str) -> bool {
    match members.get(name) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_grant_needs_its_endpoints() {
        let all = || vec!["authorization_code", "refresh_token", "client_credentials", "implicit", DEVICE];
        let token = json!("https://v.example/token");
        for (value, kept) in [
            (json!({}), vec![]),
            (json!({ "token_endpoint": token }), vec!["client_credentials"]),
            (json!({ "authorization_endpoint": token }), vec!["implicit"]),
            (
                json!({ "token_endpoint": token, "device_authorization_endpoint": token }),
                vec!["refresh_token", "client_credentials", DEVICE],
            ),
            (
                json!({ "token_endpoint": token, "authorization_endpoint": token }),
                vec!["authorization_code", "refresh_token", "client_credentials", "implicit"],
            ),
            (json!({ "token_endpoint": "", "authorization_endpoint": 1 }), vec![]),
        ] {
            assert_eq!(servable(all(), &members(value.clone())), kept, "{value}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let half = members(json!({ "token_endpoint": "https://v.example/t", "subject_types_supported": [] }));
        assert_eq!(missing_for_oauth(&half), ["authorization_endpoint"]);
        let rest = ["jwks_uri", "subject_types_supported", "id_token_signing_alg_values_supported"];
        assert_eq!(missing_for_openid(&half), [["authorization_endpoint"].as_slice(), rest.as_slice()].concat());
    }
}
