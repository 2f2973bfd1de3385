//! The types of members, and how each is read from and written as JSON.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub use crate::scope::Scope;
use crate::{
    field::JsonType,
    issue::{IssueCode, Issues, Position, type_name},
    jwk::{Public, refuse_private_keys},
    text,
    uri::RedirectUri,
};

/// A member type: decoding collects every issue instead of stopping at the first. [`Serialize`] writes the same JSON as
/// [`Member::encode`], without the tree.
pub trait Member: Sized + Serialize {
    /// The JSON type, for documents.
    const JSON: JsonType;

    /// Reads the member; `None` when anything was wrong, which is then in `issues`.
    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self>;

    /// Writes the member.
    fn encode(&self) -> Value;
}

pub(crate) fn wrong_type(value: &Value, wanted: &str, at: &Position<'_>, issues: &mut Issues) {
    issues.push(at, IssueCode::WrongType, format!("expected {wanted}, found {}", type_name(value)));
}

/// The text of a string member that has nothing wrong with it.
pub(crate) fn sound_text<'v>(value: &'v Value, at: &Position<'_>, issues: &mut Issues) -> Option<&'v str> {
    let Value::String(s) = value else {
        wrong_type(value, "a string", at, issues);
        return None;
    };
    text::check(s, at, issues).then_some(s)
}

impl Member for String {
    const JSON: JsonType = JsonType::String;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        sound_text(value, at, issues).map(str::to_owned)
    }

    fn encode(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Member for bool {
    const JSON: JsonType = JsonType::Boolean;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        if value.is_boolean() {
            return value.as_bool();
        }
        wrong_type(value, "true or false", at, issues);
        None
    }

    fn encode(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Member for u64 {
    const JSON: JsonType = JsonType::Integer;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        let Value::Number(n) = value else {
            wrong_type(value, "a whole number", at, issues);
            return None;
        };
        // beyond 2^53 - 1 JSON readers disagree about the value (RFC 8259 §6)
        let n = n.as_u64().filter(|n| *n <= 9_007_199_254_740_991);
        if n.is_none() {
            issues.push(at, IssueCode::InvalidValue, "expected a whole number from 0 to 2^53 - 1");
        }
        n
    }

    fn encode(&self) -> Value {
        Value::Number((*self).into())
    }
}

impl<T: StringMember> Member for Vec<T> {
    const JSON: JsonType = JsonType::Strings;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        let Value::Array(items) = value else {
            wrong_type(value, "an array of strings", at, issues);
            return None;
        };
        let mut out: Vec<T> = Vec::with_capacity(items.len());
        let mut seen: HashSet<&str> = HashSet::with_capacity(items.len());
        let mut complete = true;
        for (i, item) in items.iter().enumerate() {
            let at = at.child(i);
            match item {
                // a value that is there twice says no more than once
                Value::String(s) if T::check(s, &at, issues) => {
                    if seen.insert(s) {
                        out.push(T::read(s));
                    }
                }
                Value::String(_) => complete = false,
                other => {
                    wrong_type(other, "a string", &at, issues);
                    complete = false;
                }
            }
        }
        complete.then_some(out)
    }

    fn encode(&self) -> Value {
        Value::Array(self.iter().map(|i| Value::String(i.text().to_owned())).collect())
    }
}

/// A type that is a string in JSON and may be an element of an array member.
pub trait StringMember: Clone + Serialize {
    /// Reads it; unknown words become an `Other`, never an error (vendors and registries grow).
    fn read(text: &str) -> Self;
    /// The exact text.
    fn text(&self) -> &str;
    /// Checks a text before it is read; true when it is acceptable.
    fn check(text: &str, at: &Position<'_>, issues: &mut Issues) -> bool {
        text::check(text, at, issues)
    }
}

impl StringMember for String {
    fn read(text: &str) -> Self {
        text.to_owned()
    }

    fn text(&self) -> &str {
        self
    }
}

impl StringMember for RedirectUri {
    fn read(text: &str) -> Self {
        Self::from_unchecked(text)
    }

    fn text(&self) -> &str {
        self.as_str()
    }

    /// Whatever is wrong with one is told once, as an invalid redirect URI (RFC 7591 §3.2.2): by
    /// [`crate::uri::check_redirect`], which refuses more than control characters and great length.
    fn check(_: &str, _: &Position<'_>, _: &mut Issues) -> bool {
        true
    }
}

/// Writes a string member as its text.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text())
            }
        }
    };
}

as_text!(RedirectUri);

macro_rules! word {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A value that this table does not know, kept as it is.
            Other(String),
        }

        impl StringMember for $name {
            fn read(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }

            fn text(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(other) => other,
                }
            }
        }

        as_text!($name);

        impl Member for $name {
            const JSON: JsonType = JsonType::String;

            fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
                sound_text(value, at, issues).map(Self::read)
            }

            fn encode(&self) -> Value {
                Value::String(self.text().to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

word! {
    /// `token_endpoint_auth_method` (RFC 7591 §2; IANA registry "OAuth Token Endpoint Authentication Methods").
    AuthMethod {
        /// A public client.
        None = "none",
        /// The secret in the form body.
        ClientSecretPost = "client_secret_post",
        /// The secret in the `Authorization` header; the default.
        ClientSecretBasic = "client_secret_basic",
        /// A JWT made with the secret.
        ClientSecretJwt = "client_secret_jwt",
        /// A JWT made with a private key.
        PrivateKeyJwt = "private_key_jwt",
        /// Mutual TLS with a PKI certificate (RFC 8705 §2.1).
        TlsClientAuth = "tls_client_auth",
        /// Mutual TLS with a self-signed certificate (RFC 8705 §2.2).
        SelfSignedTlsClientAuth = "self_signed_tls_client_auth",
    }
}

word! {
    /// A grant type (RFC 7591 §2).
    GrantType {
        /// RFC 6749 §4.1.
        AuthorizationCode = "authorization_code",
        /// RFC 6749 §4.2.
        Implicit = "implicit",
        /// RFC 6749 §4.3; RFC 9700 §2.4 forbids its use.
        Password = "password",
        /// RFC 6749 §4.4.
        ClientCredentials = "client_credentials",
        /// RFC 6749 §6.
        RefreshToken = "refresh_token",
        /// RFC 7523.
        JwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer",
        /// RFC 7522.
        Saml2Bearer = "urn:ietf:params:oauth:grant-type:saml2-bearer",
        /// RFC 8628.
        DeviceCode = "urn:ietf:params:oauth:grant-type:device_code",
        /// OpenID CIBA §4.
        Ciba = "urn:openid:params:grant-type:ciba",
        /// RFC 8693.
        TokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange",
    }
}

impl GrantType {
    /// True for grants that pass through the authorization endpoint, and so need redirect URIs.
    #[must_use]
    pub fn uses_redirect(&self) -> bool {
        matches!(self, Self::AuthorizationCode | Self::Implicit)
    }
}

/// A response type: a set of words, kept as written (`code`, `id_token token`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseType(Cow<'static, str>);

impl ResponseType {
    /// `code`: the default of RFC 7591 §2.
    pub(crate) const CODE: Self = Self(Cow::Borrowed("code"));

    /// True when the word is one of the set.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.0.split(' ').any(|w| w == word)
    }
}

impl StringMember for ResponseType {
    fn read(text: &str) -> Self {
        // what nearly every client has
        if text == Self::CODE.text() { Self::CODE } else { Self(Cow::Owned(text.to_owned())) }
    }

    fn text(&self) -> &str {
        &self.0
    }
}

as_text!(ResponseType);

/// `jwks`: a JWK Set (RFC 7517 §5) of public keys; private members, and keys of unknown types, are never part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Jwks(Map<String, Value>);

impl Jwks {
    /// The JWK Set as an object.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl Member for Jwks {
    const JSON: JsonType = JsonType::Object;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        let Value::Object(set) = value else {
            wrong_type(value, "a JWK Set object", at, issues);
            return None;
        };
        let before = issues.as_slice().len();
        if !issues.is_lenient() {
            check_keys(set, at, issues);
        }
        let keys = Public::of(set).keys;
        // a set without keys says nothing
        if keys.is_empty() || issues.as_slice().len() > before {
            return None;
        }
        Some(Self(Map::from_iter([("keys".to_owned(), Value::Array(keys))])))
    }

    fn encode(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// Checks the form of a JWK Set.
fn check_keys(set: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) {
    refuse_private_keys(&Value::Object(set.clone()), at, issues);
    let keys_at = at.child("keys");
    match set.get("keys") {
        Some(Value::Array(keys)) => {
            for (i, key) in keys.iter().enumerate() {
                let at = keys_at.child(i);
                let Value::Object(key) = key else {
                    wrong_type(key, "a JWK object", &at, issues);
                    continue;
                };
                if !key.get("kty").is_some_and(Value::is_string) {
                    issues.push(at.child("kty"), IssueCode::Required, "a JWK needs `kty` (RFC 7517 §4.1)");
                }
            }
        }
        Some(other) => wrong_type(other, "an array of JWKs", &keys_at, issues),
        None => issues.push(keys_at, IssueCode::Required, "a JWK Set needs `keys` (RFC 7517 §5.1)"),
    }
}

/// A free object (`audience_scopes` and the like).
impl Member for BTreeMap<String, String> {
    const JSON: JsonType = JsonType::Object;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        let Value::Object(map) = value else {
            wrong_type(value, "an object of strings", at, issues);
            return None;
        };
        let before = issues.as_slice().len();
        let out =
            map.iter().filter_map(|(k, v)| String::decode(v, &at.child(k), issues).map(|v| (k.clone(), v))).collect();
        (issues.as_slice().len() == before).then_some(out)
    }

    fn encode(&self) -> Value {
        Value::Object(self.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect())
    }
}
