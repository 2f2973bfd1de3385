//! Answers, taken apart: what RFC 7591 §3.2.1 and RFC 7592 §3 let only the server say, and the metadata.

use registrar_core::{Error, ErrorKind, Outcome, Response, Result, SecretString};
use registrar_model::{
    ClientMetadata, Issues, Loss, Position,
    field::lookup,
    metadata::{REGISTERED_UNTYPED, SERVER_ASSIGNED},
};
use serde_json::{Map, Value, json};

use super::{KIND, error, preset::Preset};
use crate::shared::{
    KEPT_NAME,
    answer::{Members, in_type, is_plain},
    says_nothing,
};

/// The names of the members that are not metadata.
pub(super) mod name {
    pub(crate) const CLIENT_ID: &str = "client_id";
    pub(crate) const CLIENT_SECRET: &str = "client_secret";
    pub(crate) const ISSUED_AT: &str = "client_id_issued_at";
    pub(crate) const EXPIRES_AT: &str = "client_secret_expires_at";
    pub(crate) const MANAGEMENT_TOKEN: &str = "registration_access_token";
    pub(crate) const MANAGEMENT_URI: &str = "registration_client_uri";
}

/// Members of answers in which servers wrap a client although no standard says so.
const ENVELOPES: [&str; 4] = ["client", "data", "registration", "result"];

/// A client information response. Not `Debug`: it holds secrets.
pub(super) struct Client {
    pub id: String,
    pub secret: Option<SecretString>,
    /// Unix seconds.
    pub issued_at: Option<i64>,
    /// Unix seconds; 0, never, also where the server leaves out what it must say, and `None` where it says something that
    /// cannot be read.
    pub secret_expires_at: Option<i64>,
    pub management_uri: Option<String>,
    pub management_token: Option<SecretString>,
    /// Registered metadata, by the standard's names and in the standard's types.
    pub metadata: Map<String, Value>,
    /// Members that no standard has.
    pub rest: Map<String, Value>,
    /// What cannot be read.
    pub unread: Vec<Loss>,
}

/// Reads a client information response. `null`, empty texts, lists and objects count as absent (standards ADP-03).
///
/// # Errors
/// [`ErrorKind::UpstreamMalformed`] without a usable client; [`ErrorKind::UpstreamRejected`] when it is an error in spite of
/// its status.
pub(super) fn read(response: &Response, preset: &Preset) -> Result<Client> {
    let mut members = Members::of(response)?;
    if !members.contains(name::CLIENT_ID) {
        let mut envelopes = preset.envelope.into_iter().chain(ENVELOPES);
        let inner = envelopes.find(|envelope| members.holds(envelope, name::CLIENT_ID));
        members = match inner.and_then(|envelope| members.inner(envelope, name::CLIENT_ID)) {
            Some(members) => members,
            None => return Err(no_client(response, preset)),
        };
    }
    for (theirs, standard) in preset.renamed {
        members.rename(theirs, standard);
    }
    // the URI with them: it may hold the token
    let secrets = [name::CLIENT_SECRET, name::MANAGEMENT_TOKEN, name::MANAGEMENT_URI];
    let [secret, management_token, management_uri] = members.secrets(secrets);
    let Some(id) = members.text(name::CLIENT_ID) else {
        return Err(response.malformed("member `client_id` is neither a text nor a whole number"));
    };
    let issued_at = members.time(name::ISSUED_AT);
    let secret_expires_at = match members.time(name::EXPIRES_AT) {
        None if !members.is_unread(name::EXPIRES_AT) => Some(0),
        time => time,
    };
    members.ignore(&SERVER_ASSIGNED);
    let mut metadata = metadata(&mut members);
    metadata.retain(|name, value| !preset.empty.iter().any(|(empty, word)| name == empty && *value == json!(word)));
    let (rest, unread) = members.rest(KIND, FIELDS);
    Ok(Client {
        id,
        secret: secret.map(SecretString::from),
        issued_at,
        secret_expires_at,
        management_uri,
        management_token: management_token.map(SecretString::from),
        metadata,
        rest,
        unread,
    })
}

/// The fields of what only the server says.
const FIELDS: &[(&str, &str)] = &[
    (name::CLIENT_SECRET, "client_secret"),
    (name::EXPIRES_AT, "client_secret_expires_at"),
    (name::ISSUED_AT, "client_id_issued_at"),
];

/// Lists whose elements are words: a server may write them as one text.
const WORDS: [&str; 6] =
    ["redirect_uris", "grant_types", "contacts", "request_uris", "post_logout_redirect_uris", "claims_redirect_uris"];

/// The members that the standards know, in the types that they have there.
fn metadata(members: &mut Members) -> Map<String, Value> {
    let mut out = Map::new();
    let names: Vec<String> = members.as_map().keys().filter(|name| is_registered(name)).cloned().collect();
    for name in names {
        let Some(value) = members.value(&name).filter(|value| !says_nothing(value)) else { continue };
        let understood = match lookup(&format!("metadata.{name}")) {
            // the one list that travels as a text
            Some(field) if field.name == "scope" => match value {
                Value::Array(words) => {
                    words.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|w| json!(w.join(" ")))
                }
                text => in_type(text, field.json, false),
            },
            Some(field) => in_type(value, field.json, WORDS.contains(&field.name)),
            None => Some(value).filter(is_plain),
        };
        let sound = understood.filter(|value| is_sound(&name, value));
        match sound {
            Some(value) => {
                out.insert(name, value);
            }
            None => members.not_understood_as(format!("metadata.{name}")),
        }
    }
    out
}

fn is_registered(name: &str) -> bool {
    name.len() <= KEPT_NAME && (lookup(&format!("metadata.{name}")).is_some() || REGISTERED_UNTYPED.contains(&name))
}

/// Whether the canonical model takes a value.
fn is_sound(name: &str, value: &Value) -> bool {
    let one = Map::from_iter([(name.to_owned(), value.clone())]);
    let mut issues = Issues::lenient();
    let _ = ClientMetadata::decode(&one, &Position::root(), &mut issues);
    issues.is_empty()
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

/// Names under which a server may show a secret of its own making. They are kept nowhere.
pub(super) fn is_secret(member: &str) -> bool {
    let lower = member.to_ascii_lowercase().replace(['_', '-'], "");
    ["secret", "password", "privatekey"].iter().any(|word| lower.contains(word)) || lower.ends_with("token")
}
