//! Answers, taken apart: what RFC 7591 §3.2.1 and RFC 7592 §3 let only the server say, and the metadata.

use registrar_core::{Error, ErrorKind, Outcome, Response, Result, SecretString};
use registrar_model::metadata::SERVER_ASSIGNED;
use serde_json::{Map, Value};

use super::{error, preset::Preset};

/// The names of the members that are not metadata.
pub(super) mod name {
    pub(crate) const CLIENT_ID: &str = "client_id";
    pub(crate) const CLIENT_SECRET: &str = "client_secret";
    pub(crate) const ISSUED_AT: &str = "client_id_issued_at";
    pub(crate) const EXPIRES_AT: &str = "client_secret_expires_at";
    pub(crate) const MANAGEMENT_TOKEN: &str = "registration_access_token";
    pub(crate) const MANAGEMENT_URI: &str = "registration_client_uri";
}

/// A client information response. Not `Debug`: it holds secrets.
pub(super) struct Client {
    pub id: String,
    pub secret: Option<SecretString>,
    /// Unix seconds.
    pub issued_at: Option<i64>,
    /// Unix seconds; 0, never, also where the server leaves out what it must say.
    pub secret_expires_at: i64,
    pub management_uri: Option<String>,
    pub management_token: Option<SecretString>,
    /// Everything else that says something, by the standard's names.
    pub members: Map<String, Value>,
}

/// Reads a client information response. `null`, empty texts and empty lists count as absent (standards ADP-03).
///
/// # Errors
/// [`ErrorKind::UpstreamMalformed`] without a usable client; [`ErrorKind::UpstreamRejected`] when it is an error in spite of
/// its status.
pub(super) fn read(response: &Response, preset: &Preset) -> Result<Client> {
    let body: Map<String, Value> = response.decode()?;
    let mut members = match preset.envelope.and_then(|envelope| body.get(envelope)) {
        Some(Value::Object(inner)) if !body.contains_key(name::CLIENT_ID) => inner.clone(),
        _ => body,
    };
    for (theirs, standard) in preset.renamed {
        if let Some(value) = members.remove(*theirs) {
            members.entry(*standard).or_insert(value);
        }
    }
    members.retain(|_, value| !says_nothing(value));
    let Some(id) = members.remove(name::CLIENT_ID) else {
        return Err(no_client(response, preset));
    };
    let Value::String(id) = id else {
        return Err(response.malformed("member `client_id` is not a string"));
    };
    let mut text = |member: &str| match members.remove(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(response.malformed(&format!("member `{member}` is not a string"))),
    };
    let secret = text(name::CLIENT_SECRET)?.map(SecretString::from);
    let management_uri = text(name::MANAGEMENT_URI)?;
    let management_token = text(name::MANAGEMENT_TOKEN)?.map(SecretString::from);
    let issued_at = members.get(name::ISSUED_AT).and_then(seconds);
    let secret_expires_at = members.get(name::EXPIRES_AT).and_then(seconds).unwrap_or(0);
    members.retain(|member, _| !SERVER_ASSIGNED.contains(&member.as_str()));
    unpack(&mut members, response)?;
    Ok(Client { id, secret, issued_at, secret_expires_at, management_uri, management_token, members })
}

/// A success without a client: an error that somebody sent with the wrong status, or nothing that can be understood.
fn no_client(response: &Response, preset: &Preset) -> Error {
    let detail = error::detail(response, preset);
    if detail.code.as_deref().is_none_or(|code| code == "0") {
        return response.malformed("member `client_id` is missing");
    }
    Error::new(ErrorKind::UpstreamRejected, "the server answered with success and an error instead of a client")
        .with_outcome(Outcome::NotPerformed)
        .with_vendor(detail)
}

/// A JWK Set in a text, and a scope as a list, in the standard's form.
fn unpack(members: &mut Map<String, Value>, response: &Response) -> Result<()> {
    if let Some(jwks @ Value::String(_)) = members.get_mut("jwks") {
        let set = jwks.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        *jwks = set.map(Value::Object).ok_or_else(|| response.malformed("`jwks` is not a JWK Set in a text"))?;
    }
    if let Some(scope @ Value::Array(_)) = members.get_mut("scope") {
        let words = scope.as_array().map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        let words = words.flatten().filter(|words| words.iter().all(|word| !word.contains(' ')));
        let words = words.ok_or_else(|| response.malformed("`scope` is neither a text nor a list of scope tokens"))?;
        *scope = Value::String(words.join(" "));
    }
    Ok(())
}

/// Whole seconds, also where a server writes them as a text.
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// Whether a member is as good as absent.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// Names under which a server may show a secret of its own making. They are kept nowhere.
pub(super) fn is_secret(member: &str) -> bool {
    let lower = member.to_ascii_lowercase().replace(['_', '-'], "");
    ["secret", "password", "privatekey"].iter().any(|word| lower.contains(word)) || lower.ends_with("token")
}
