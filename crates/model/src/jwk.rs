//! JSON Web Keys (RFC 7517): which members a registration may hold, and where a private key hides.
//!
//! A list of private names ages with every new key type, so that the public members are the closed list: what is not
//! on it is neither kept nor sent. Private names are refused by name on top, because the caller has to learn that the
//! key is no longer secret.

use serde_json::{Map, Value};

use crate::{
    issue::{IssueCode, Issues, Position},
    loss::{Loss, LossKind, Severity},
};

/// The members that only private or symmetric keys of a registered type have (RFC 7518 §6.2.2, §6.3.2, §6.4.1;
/// RFC 8037 §2; RFC 9964 for `priv`).
pub const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// The one finding about any private key.
const PRIVATE: &str = "a private or symmetric key must never be registered: send the public key, and replace this one (OIDC Registration §2)";

/// The JSON type of a public member.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Texts,
    Time,
    Flag,
}

/// Public members of every key type (RFC 7517 §4, IANA registry "JSON Web Key Parameters").
const COMMON: [(&str, Shape); 13] = [
    ("kty", Shape::Text),
    ("use", Shape::Text),
    ("key_ops", Shape::Texts),
    ("alg", Shape::Text),
    ("kid", Shape::Text),
    ("x5u", Shape::Text),
    ("x5c", Shape::Texts),
    ("x5t", Shape::Text),
    ("x5t#S256", Shape::Text),
    ("ext", Shape::Flag),
    ("iat", Shape::Time),
    ("nbf", Shape::Time),
    ("exp", Shape::Time),
];

/// The registered key types that have a public half (IANA, JSON Web Key Types).
pub const PUBLIC_KEY_TYPES: [&str; 4] = ["RSA", "EC", "OKP", "AKP"];

/// The public members of a key type beside [`COMMON`]; `None` for types that the registry does not have. All are texts.
/// `oct` has no public half.
fn public_members(kty: &str) -> Option<&'static [&'static str]> {
    match kty {
        "RSA" => Some(&["n", "e"]),
        "EC" => Some(&["crv", "x", "y"]),
        "OKP" => Some(&["crv", "x"]),
        "AKP" => Some(&["pub"]),
        _ => None,
    }
}

fn is_private(member: &str) -> bool {
    PRIVATE_MEMBERS.iter().any(|private| private.eq_ignore_ascii_case(member))
}

fn has_shape(value: &Value, shape: Shape) -> bool {
    match shape {
        Shape::Text => value.is_string(),
        Shape::Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        Shape::Time => value.is_number(),
        Shape::Flag => value.is_boolean(),
    }
}

/// What of a key set may be kept.
#[derive(Debug, Default)]
pub(crate) struct Public {
    /// The keys of known types, with their public members only.
    pub(crate) keys: Vec<Value>,
    /// How many keys are of a type that the registry does not have, or of one without a public half.
    pub(crate) foreign: usize,
    /// Whether members were left out that are no public member of their key's type.
    pub(crate) trimmed: bool,
}

impl Public {
    /// Reads a JWK Set. Whatever is no public key is left out.
    pub(crate) fn of(set: &Map<String, Value>) -> Self {
        let mut out = Self { trimmed: set.keys().any(|member| member != "keys"), ..Self::default() };
        for key in set.get("keys").and_then(Value::as_array).into_iter().flatten() {
            let Some(key) = key.as_object() else { continue };
            let own = key.get("kty").and_then(Value::as_str).and_then(public_members);
            let Some(own) = own else {
                out.foreign += 1;
                continue;
            };
            let is_public = |member: &str, value: &Value| {
                own.contains(&member) && value.is_string()
                    || COMMON.iter().any(|(name, shape)| *name == member && has_shape(value, *shape))
            };
            let kept: Map<String, Value> =
                key.iter().filter(|(m, v)| is_public(m, v)).map(|(m, v)| (m.clone(), v.clone())).collect();
            out.trimmed |= kept.len() < key.len();
            out.keys.push(Value::Object(kept));
        }
        out
    }
}

/// What is lost of the `jwks` that a caller sent, before any vendor is asked.
pub(crate) fn set_aside(jwks: &Value) -> Option<Loss> {
    let Public { keys, foreign, trimmed } = Public::of(jwks.as_object()?);
    let (kind, severity, reason) = if foreign > 0 {
        let kind = if keys.is_empty() { LossKind::Dropped } else { LossKind::Narrowed };
        let reason = "a key is of a type that the registry does not have, so that it cannot be told what of it is \
                      public: it is neither sent nor kept";
        (kind, Severity::Security, reason)
    } else if trimmed {
        let reason = "members that are no public members of their key's type are neither sent nor kept";
        (LossKind::Narrowed, Severity::Info, reason)
    } else {
        return None;
    };
    // never the value: it may be a private key of a type to come
    Some(Loss { field: "metadata.jwks".into(), kind, severity, reason: reason.into(), wanted: None, got: None })
}

/// Whether a value holds a private key anywhere: a JWK with private members, the text of one, or PEM.
#[must_use]
pub fn holds_private_key(value: &Value) -> bool {
    let mut issues = Issues::new();
    refuse_private_keys(value, &Position::root(), &mut issues);
    !issues.is_empty()
}

/// Finds private keys anywhere in a document.
pub fn refuse_private_keys(value: &Value, at: &Position<'_>, issues: &mut Issues) {
    match value {
        Value::Object(members) => {
            let kty = members.iter().find(|(m, v)| m.eq_ignore_ascii_case("kty") && v.is_string());
            if let Some((name, kty)) = kty {
                if kty.as_str().is_some_and(|kty| kty.eq_ignore_ascii_case("oct")) {
                    issues.push(at.child(name), IssueCode::PrivateKey, PRIVATE);
                }
                for member in members.keys().filter(|member| is_private(member)) {
                    issues.push(at.child(member), IssueCode::PrivateKey, PRIVATE);
                }
            }
            members.iter().for_each(|(member, value)| refuse_private_keys(value, &at.child(member), issues));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| refuse_private_keys(item, &at.child(i), issues));
        }
        Value::String(text) if is_private_text(text) => issues.push(at, IssueCode::PrivateKey, PRIVATE),
        _ => {}
    }
}

fn is_private_text(text: &str) -> bool {
    is_private_pem(text) || written_out(text).is_some_and(|inner| holds_private_key(&inner))
}

/// A PEM label ends in `PRIVATE KEY` for every kind of private key (RFC 7468 §10, §11; PKCS#1, SEC 1, OpenSSH).
fn is_private_pem(text: &str) -> bool {
    let mut after = text.split("-----BEGIN ").skip(1);
    after.any(|rest| rest.split("-----").next().is_some_and(|label| label.contains("PRIVATE KEY")))
}

/// JSON that is written into a text, where it could be a key, and the claims of a JWT.
fn written_out(text: &str) -> Option<Value> {
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '[']) && text.to_ascii_lowercase().contains("kty") {
        return serde_json::from_str(text).ok();
    }
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    if !header.starts_with("ey") || !claims.starts_with("ey") {
        return None;
    }
    serde_json::from_slice(&base64url(claims)?).ok()
}

/// The octets of base64url without padding (RFC 4648 §5); `None` for another alphabet.
#[must_use]
pub fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
        bits &= 0xffff;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(value: &Value) -> Vec<String> {
        let mut issues = Issues::new();
        refuse_private_keys(value, &Position::root(), &mut issues);
        issues.into_vec().into_iter().map(|i| i.pointer.as_str().to_owned()).collect()
    }

    #[test]
    fn every_public_key_type_has_public_members() {
        assert!(PUBLIC_KEY_TYPES.iter().all(|kty| public_members(kty).is_some()));
        assert!(["oct", "rsa", "X"].iter().all(|kty| public_members(kty).is_none()));
    }

    #[test]
    fn private_members_of_every_registered_type_are_found_wherever_they_are() {
        for member in PRIVATE_MEMBERS {
            for name in [member.to_owned(), member.to_ascii_uppercase()] {
                let key = json!({"kty": "NEW", "pub": "AAAA", (name.clone()): "CANARY"});
                assert_eq!(found(&json!({"a": [key]})), [format!("#/a/0/{name}")]);
                assert_eq!(found(&json!({"a": key.to_string()})), ["#/a"], "as a text");
            }
        }
        assert_eq!(found(&json!({"kty": "oct"})), ["#/kty"]);
        assert_eq!(found(&json!({"Kty": "OCT"})), ["#/Kty"]);
        // the names mean nothing elsewhere
        assert!(found(&json!({"d": "x", "k": "y", "labels": {"q": "z"}})).is_empty());
        assert!(found(&json!({"kty": "EC", "crv": "P-256", "x": "a", "y": "b"})).is_empty());
    }

    #[test]
    fn private_keys_in_texts_are_found() {
        for label in
            ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"]
        {
            assert_eq!(found(&json!({"a": format!("x -----BEGIN {label}-----\\nMIIB")})), ["#/a"], "{label}");
        }
        assert!(found(&json!({"a": "-----BEGIN PUBLIC KEY-----", "b": "my PRIVATE KEY"})).is_empty());
        // {"jwks":{"keys":[{"kty":"OKP","d":"x"}]}}
        let claims = "eyJqd2tzIjp7ImtleXMiOlt7Imt0eSI6Ik9LUCIsImQiOiJ4In1dfX0";
        assert_eq!(found(&json!({"s": format!("eyJhbGciOiJub25lIn0.{claims}.AA")})), ["#/s"]);
    }

    #[test]
    fn only_public_members_of_known_types_are_kept() {
        let set = json!({"keys": [
            {"kty": "AKP", "alg": "ML-DSA-65", "kid": "a", "pub": "AAAA", "seed": "CANARY", "x5c": "CANARY"},
            {"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "n": "CANARY", "kid": {"d": "CANARY"}},
            {"kty": "NEW", "secret": "CANARY"}, {"kty": "oct", "k": "CANARY"}, {"kty": "rsa", "n": "CANARY"}, 7
        ], "more": "CANARY"});
        let public = Public::of(set.as_object().unwrap());
        assert_eq!(
            json!(public.keys),
            json!([{"kty": "AKP", "alg": "ML-DSA-65", "kid": "a", "pub": "AAAA"},
                   {"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}])
        );
        assert_eq!((public.foreign, public.trimmed), (3, true));
    }
}
