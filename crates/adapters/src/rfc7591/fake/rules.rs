//! Which metadata the simulated server takes, and what it makes of it (RFC 7591 §2, §2.1, §5; OIDC Registration §2).

use serde_json::{Map, Value, json};

use crate::rfc7591::preset::Preset;

/// `error` and `error_description`.
pub(super) type Refusal = (&'static str, String);

/// Human-readable members, which may have a language tag.
const TAGGED: [&str; 5] = ["client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"];

const TEXTS: [&str; 32] = [
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "application_type",
    "client_name",
    "client_uri",
    "logo_uri",
    "scope",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "software_id",
    "software_version",
    "sector_identifier_uri",
    "subject_type",
    "id_token_signed_response_alg",
    "id_token_encrypted_response_alg",
    "id_token_encrypted_response_enc",
    "userinfo_signed_response_alg",
    "userinfo_encrypted_response_alg",
    "userinfo_encrypted_response_enc",
    "request_object_signing_alg",
    "request_object_encryption_alg",
    "request_object_encryption_enc",
    "initiate_login_uri",
    "backchannel_logout_uri",
    "frontchannel_logout_uri",
    "tls_client_auth_subject_dn",
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
    "example_extension_parameter",
];

const LISTS: [&str; 8] = [
    "redirect_uris",
    "grant_types",
    "response_types",
    "contacts",
    "default_acr_values",
    "request_uris",
    "post_logout_redirect_uris",
    "authorization_details_types",
];

const FLAGS: [&str; 7] = [
    "require_auth_time",
    "backchannel_logout_session_required",
    "frontchannel_logout_session_required",
    "require_pushed_authorization_requests",
    "require_signed_request_object",
    "dpop_bound_access_tokens",
    "tls_client_certificate_bound_access_tokens",
];

const METHODS: [&str; 7] = [
    "none",
    "client_secret_post",
    "client_secret_basic",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
];

const GRANTS: [&str; 7] = [
    "authorization_code",
    "implicit",
    "client_credentials",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];

/// The registered metadata: what is known, with defaults. What is not known is ignored (RFC 7591 §2); `null` and empty
/// texts count as absent (RFC 7592 §2.2).
pub(super) fn accept(body: Map<String, Value>, habits: &Preset) -> Result<Map<String, Value>, Refusal> {
    let mut out = Map::new();
    if let Some(word) =
        body.get("scope").and_then(Value::as_str).and_then(|scope| scope.split(' ').find(|w| habits.always.contains(w)))
    {
        return Err(("invalid_client_metadata", format!("there is no client scope {word}")));
    }
    for (name, value) in body {
        let said = !value.is_null() && value != json!("");
        if said && is_known(&name, habits) {
            let value = typed(&name, value, habits)?;
            out.insert(name, value);
        }
    }
    provision(&mut out, habits);
    relations(&out)?;
    if habits.one_grant {
        one_grant(&mut out)?;
    }
    if let Some(method) = habits.secret_method.filter(|_| out.get("token_endpoint_auth_method") != Some(&json!("none")))
    {
        out.insert("token_endpoint_auth_method".to_owned(), json!(method));
    }
    out.retain(|name, value| {
        let kept = habits.keeps.is_none_or(|kept| kept.contains(&name.as_str()) || name.contains('#'));
        kept && value != &json!([])
    });
    Ok(out)
}

/// Whether a client gets a secret.
pub(super) fn needs_secret(metadata: &Map<String, Value>) -> bool {
    let method = metadata.get("token_endpoint_auth_method").and_then(Value::as_str).unwrap_or("client_secret_basic");
    method.starts_with("client_secret_")
}

fn is_known(name: &str, habits: &Preset) -> bool {
    if let Some((base, _)) = name.split_once('#') {
        return habits.localized && TAGGED.contains(&base);
    }
    let other = matches!(name, "jwks" | "default_max_age" | "software_statement");
    TEXTS.contains(&name) || LISTS.contains(&name) || FLAGS.contains(&name) || other
}

fn typed(name: &str, value: Value, habits: &Preset) -> Result<Value, Refusal> {
    let strings = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let ok = match name {
        "jwks" if habits.jwks_text => {
            value.as_str().is_some_and(|t| serde_json::from_str::<Map<String, Value>>(t).is_ok())
        }
        "jwks" => value.get("keys").is_some_and(Value::is_array),
        "default_max_age" => value.is_u64(),
        "software_statement" => {
            return Err(("unapproved_software_statement", "statements of this issuer are not trusted".to_owned()));
        }
        _ if FLAGS.contains(&name) => value.is_boolean(),
        _ if LISTS.contains(&name) => strings(&value),
        _ => value.is_string(),
    };
    if ok { Ok(value) } else { Err(("invalid_client_metadata", format!("{name} is not of its type"))) }
}

/// Defaults of RFC 7591 §2 and OIDC Registration §2.
fn provision(out: &mut Map<String, Value>, habits: &Preset) {
    for (name, default) in [
        ("token_endpoint_auth_method", json!("client_secret_basic")),
        ("grant_types", json!(["authorization_code"])),
        ("application_type", json!("web")),
    ] {
        out.entry(name).or_insert(default);
    }
    // the default, code, contradicts clients without an authorization endpoint; not every server minds that (§2.1)
    let code =
        out.get("grant_types").and_then(Value::as_array).is_some_and(|all| all.contains(&json!("authorization_code")));
    if code || habits.empty_response_types {
        out.entry("response_types").or_insert(json!(["code"]));
    }
}

fn relations(out: &Map<String, Value>) -> Result<(), Refusal> {
    let invalid = |text: &str| Err(("invalid_client_metadata", text.to_owned()));
    let list = |name: &str| -> Vec<&str> {
        out.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let (grants, redirects) = (list("grant_types"), list("redirect_uris"));
    if grants.is_empty() || !grants.iter().all(|grant| GRANTS.contains(grant)) {
        return invalid("grant_types has a value that is not supported");
    }
    for response in list("response_types") {
        let needs = |word: &str, grant: &str| !response.split(' ').any(|w| w == word) || grants.contains(&grant);
        if !(needs("code", "authorization_code") && needs("token", "implicit") && needs("id_token", "implicit")) {
            return invalid("response_types and grant_types contradict each other");
        }
    }
    if redirects.is_empty() && grants.iter().any(|grant| matches!(*grant, "authorization_code" | "implicit")) {
        return Err(("invalid_redirect_uri", "redirect_uris is required for these grants".to_owned()));
    }
    if let Some(uri) = redirects.iter().find(|uri| !is_redirect(uri)) {
        return Err(("invalid_redirect_uri", format!("{uri} is not a redirection URI")));
    }
    let method = out.get("token_endpoint_auth_method").and_then(Value::as_str).unwrap_or("");
    let keys = (out.contains_key("jwks"), out.contains_key("jwks_uri"));
    if !METHODS.contains(&method) {
        return invalid("token_endpoint_auth_method is not supported");
    }
    if keys == (true, true) {
        return invalid("jwks and jwks_uri must not both be present");
    }
    if matches!(method, "private_key_jwt" | "self_signed_tls_client_auth") && keys == (false, false) {
        return invalid("this token_endpoint_auth_method needs jwks or jwks_uri");
    }
    if method == "none" && grants.contains(&"client_credentials") {
        return invalid("a public client has no credentials for client_credentials");
    }
    Ok(())
}

/// RFC 7591 §5: https, http on this machine, or a scheme of an application; never with a fragment.
fn is_redirect(text: &str) -> bool {
    let Ok(uri) = url::Url::parse(text) else { return false };
    let local = matches!(uri.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let scheme = match uri.scheme() {
        "https" => true,
        "http" => local,
        "javascript" | "data" | "file" => false,
        _ => true,
    };
    scheme && uri.fragment().is_none()
}

fn one_grant(out: &mut Map<String, Value>) -> Result<(), Refusal> {
    let grants = out.get("grant_types").and_then(Value::as_array).cloned().unwrap_or_default();
    let own: Vec<Value> = grants.into_iter().filter(|grant| *grant != json!("refresh_token")).collect();
    let [grant] = own.as_slice() else {
        return Err(("invalid_client_metadata", "only one grant type per application is supported".to_owned()));
    };
    let refresh = (*grant == json!("authorization_code")).then(|| json!("refresh_token"));
    let all: Vec<Value> = [grant.clone()].into_iter().chain(refresh).collect();
    out.insert("grant_types".to_owned(), Value::Array(all));
    Ok(())
}
