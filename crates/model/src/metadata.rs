//! `metadata`: the client metadata of RFC 7591, OpenID Connect Registration and the IANA registry, by their exact names.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::LazyLock,
};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

use crate::{
    issue::{IssueCode, Issues, Position},
    loss::Severity::{Functional, Info, Security},
    member::{AuthMethod, GrantType, Jwks, Member, ResponseType, Scope},
    spec::{Differences, is_empty},
    text,
    uri::RedirectUri,
};

/// Declares a layer: the struct, its rows in the field table, and the JSON decoding and encoding, from one list, so
/// that they cannot disagree.
macro_rules! layer {
    (
        $(#[$doc:meta])*
        $name:ident, $prefix:literal, also { $($(#[$adoc:meta])* $also:ident : $aty:ty),* $(,)? };
        $($member:ident : $ty:ty, $severity:ident, $compare:ident, $default:expr, $l10n:literal, $source:literal, $text:literal;)+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = $text] #[doc = concat!("Source: ", $source, ".")] pub $member: Option<$ty>,)+
            $($(#[$adoc])* pub $also: $aty,)*
        }

        /// The rows of this layer's members by name.
        pub mod rows {
            use super::*;
            $(
                #[doc = $text]
                #[must_use]
                pub fn $member() -> &'static $crate::field::FieldInfo {
                    static ROW: $crate::field::FieldInfo = $crate::field::FieldInfo {
                        path: concat!($prefix, ".", stringify!($member)),
                        name: stringify!($member),
                        severity: $severity,
                        compare: $crate::field::Compare::$compare,
                        default: $default,
                        json: <$ty as $crate::member::Member>::JSON,
                        localised: $l10n,
                        source: $source,
                        doc: $text,
                    };
                    &ROW
                }
            )+
        }

        /// The rows of this layer in canonical order.
        pub static FIELDS: std::sync::LazyLock<Vec<&'static $crate::field::FieldInfo>> =
            std::sync::LazyLock::new(|| vec![$(rows::$member()),+]);

        impl $name {
            /// Reads one typed member; false when the name is not in the table.
            fn decode_typed(
                &mut self,
                name: &str,
                value: &serde_json::Value,
                at: &$crate::issue::Position<'_>,
                issues: &mut $crate::issue::Issues,
            ) -> bool {
                match name {
                    $(stringify!($member) => {
                        self.$member = <$ty as $crate::member::Member>::decode(value, &at.child(name), issues);
                    })+
                    _ => return false,
                }
                true
            }

            /// One typed member as JSON; `None` when it is absent or no member of the table.
            fn get_typed(&self, name: &str) -> Option<serde_json::Value> {
                match name {
                    $(stringify!($member) => self.$member.as_ref().map($crate::member::Member::encode),)+
                    _ => None,
                }
            }

            /// The typed members in which two values of this layer differ. Members are compared before they are
            /// encoded: most are equal.
            fn typed_differences(&self, other: &Self, found: &mut $crate::spec::Differences<'_>) {
                $(if self.$member != other.$member {
                    let (a, b) = (&self.$member, &other.$member);
                    found.typed(rows::$member(), a.as_ref().map($crate::member::Member::encode), b.as_ref().map($crate::member::Member::encode));
                })+
            }

            /// Writes the typed members that are present, in canonical order.
            fn serialize_typed<M: serde::ser::SerializeMap>(&self, out: &mut M) -> Result<(), M::Error> {
                $(if let Some(value) = &self.$member {
                    out.serialize_entry(stringify!($member), value)?;
                })+
                Ok(())
            }

            /// As [`Serialize`](serde::Serialize), as a tree.
            fn encode_typed(&self, object: &mut serde_json::Map<String, serde_json::Value>) {
                $(if let Some(value) = &self.$member {
                    object.insert(stringify!($member).to_owned(), $crate::member::Member::encode(value));
                })+
            }
        }
    };
}
pub(crate) use layer;

const FALSE: Option<&str> = Some("false");
const RS256: Option<&str> = Some("\"RS256\"");
const PUBLIC: Option<&str> = Some("\"public\"");

layer! {
    /// Client metadata. Every member is optional: an absent member is `None`, and its default is a method, so that
    /// absent and default stay distinguishable.
    ClientMetadata, "metadata", also {
        /// Localised human-readable members (RFC 7591 §2.2): `client_name#fr` → value, tags in canonical case.
        localized: BTreeMap<String, Value>,
        /// Names of the IANA registry that this struct does not type (`nfv_*`, `vp_formats_supported`, ...).
        extra: BTreeMap<String, Value>,
    };
    redirect_uris: Vec<RedirectUri>, Security, Set, None, false, "RFC 7591 §2", "Redirection URIs, kept byte for byte.";
    token_endpoint_auth_method: AuthMethod, Security, Exact, Some("\"client_secret_basic\""), false, "RFC 7591 §2", "How the client authenticates at the token endpoint; `none` makes it public.";
    token_endpoint_auth_signing_alg: String, Security, Exact, None, false, "OIDC Registration §2", "The JWS algorithm of the client's assertions.";
    grant_types: Vec<GrantType>, Security, Set, Some("[\"authorization_code\"]"), false, "RFC 7591 §2", "Grants that the client may use.";
    response_types: Vec<ResponseType>, Security, Words, Some("[\"code\"]"), false, "RFC 7591 §2", "Response types that the client may use.";
    application_type: String, Functional, Exact, Some("\"web\""), false, "OIDC Registration §2", "`web` or `native`.";
    client_name: String, Info, Exact, None, true, "RFC 7591 §2", "The name shown to people.";
    client_uri: String, Info, Exact, None, true, "RFC 7591 §2", "The client's home page.";
    logo_uri: String, Info, Exact, None, true, "RFC 7591 §2", "The client's logo.";
    scope: Scope, Security, Set, None, false, "RFC 7591 §2", "Space-separated scopes that the client may request.";
    contacts: Vec<String>, Info, Set, None, false, "RFC 7591 §2", "How to reach the people behind the client.";
    tos_uri: String, Info, Exact, None, true, "RFC 7591 §2", "Terms of service.";
    policy_uri: String, Info, Exact, None, true, "RFC 7591 §2", "Privacy policy.";
    jwks_uri: String, Security, Exact, None, false, "RFC 7591 §2", "Where the client's public keys are; excludes `jwks`.";
    jwks: Jwks, Security, Keys, None, false, "RFC 7591 §2", "The client's public keys; excludes `jwks_uri`.";
    software_id: String, Info, Exact, None, false, "RFC 7591 §2", "The same for all instances of one software.";
    software_version: String, Info, Exact, None, false, "RFC 7591 §2", "The version of that software.";
    software_statement: String, Security, Exact, None, false, "RFC 7591 §2.3", "A signed JWT that asserts metadata.";
    sector_identifier_uri: String, Security, Exact, None, false, "OIDC Registration §5", "Groups redirect hosts for pairwise subjects.";
    subject_type: String, Security, Exact, PUBLIC, false, "OIDC Registration §2", "`public` or `pairwise`.";
    id_token_signed_response_alg: String, Security, Exact, RS256, false, "OIDC Registration §2", "JWS algorithm of ID Tokens.";
    id_token_encrypted_response_alg: String, Security, Exact, None, false, "OIDC Registration §2", "JWE key algorithm of ID Tokens.";
    id_token_encrypted_response_enc: String, Security, Exact, None, false, "OIDC Registration §2", "JWE content algorithm of ID Tokens.";
    userinfo_signed_response_alg: String, Security, Exact, None, false, "OIDC Registration §2", "JWS algorithm of UserInfo responses.";
    userinfo_encrypted_response_alg: String, Security, Exact, None, false, "OIDC Registration §2", "JWE key algorithm of UserInfo responses.";
    userinfo_encrypted_response_enc: String, Security, Exact, None, false, "OIDC Registration §2", "JWE content algorithm of UserInfo responses.";
    request_object_signing_alg: String, Security, Exact, None, false, "OIDC Registration §2", "JWS algorithm of request objects.";
    request_object_encryption_alg: String, Security, Exact, None, false, "OIDC Registration §2", "JWE key algorithm of request objects.";
    request_object_encryption_enc: String, Security, Exact, None, false, "OIDC Registration §2", "JWE content algorithm of request objects.";
    introspection_signed_response_alg: String, Security, Exact, RS256, false, "RFC 9701 §6", "JWS algorithm of introspection responses.";
    introspection_encrypted_response_alg: String, Security, Exact, None, false, "RFC 9701 §6", "JWE key algorithm of introspection responses.";
    introspection_encrypted_response_enc: String, Security, Exact, None, false, "RFC 9701 §6", "JWE content algorithm of introspection responses.";
    authorization_signed_response_alg: String, Security, Exact, RS256, false, "JARM §3", "JWS algorithm of authorization responses.";
    authorization_encrypted_response_alg: String, Security, Exact, None, false, "JARM §3", "JWE key algorithm of authorization responses.";
    authorization_encrypted_response_enc: String, Security, Exact, None, false, "JARM §3", "JWE content algorithm of authorization responses.";
    default_max_age: u64, Security, Exact, None, false, "OIDC Registration §2", "Seconds after which the user must authenticate again.";
    require_auth_time: bool, Security, Exact, FALSE, false, "OIDC Registration §2", "ID Tokens must carry `auth_time`.";
    default_acr_values: Vec<String>, Security, Exact, None, false, "OIDC Registration §2", "Authentication context classes, best first.";
    initiate_login_uri: String, Functional, Exact, None, false, "OIDC Registration §2", "Where a third party can start a login.";
    request_uris: Vec<String>, Functional, Set, None, false, "OIDC Registration §2", "Pre-registered request object URIs.";
    post_logout_redirect_uris: Vec<String>, Functional, Set, None, false, "OIDC RP-Initiated Logout §3.1", "Where users may return after logout.";
    backchannel_logout_uri: String, Functional, Exact, None, false, "OIDC Back-Channel Logout §2.2", "Where logout tokens are sent.";
    backchannel_logout_session_required: bool, Functional, Exact, FALSE, false, "OIDC Back-Channel Logout §2.2", "Logout tokens must carry `sid`.";
    frontchannel_logout_uri: String, Functional, Exact, None, false, "OIDC Front-Channel Logout §2", "Rendered in a frame at logout.";
    frontchannel_logout_session_required: bool, Functional, Exact, FALSE, false, "OIDC Front-Channel Logout §2", "`iss` and `sid` are added to it.";
    require_pushed_authorization_requests: bool, Security, Exact, FALSE, false, "RFC 9126 §6", "Only pushed authorization requests are accepted.";
    require_signed_request_object: bool, Security, Exact, FALSE, false, "RFC 9101 §10.5", "Only signed request objects are accepted.";
    dpop_bound_access_tokens: bool, Security, Exact, FALSE, false, "RFC 9449 §5.2", "Access tokens are bound to a DPoP key.";
    tls_client_certificate_bound_access_tokens: bool, Security, Exact, FALSE, false, "RFC 8705 §3.4", "Access tokens are bound to a certificate.";
    use_mtls_endpoint_aliases: bool, Functional, Exact, FALSE, false, "FAPI 2.0 §5.2.2.1.1", "The client uses the mTLS endpoint aliases.";
    tls_client_auth_subject_dn: String, Security, Exact, None, false, "RFC 8705 §2.1.2", "The certificate's subject.";
    tls_client_auth_san_dns: String, Security, Exact, None, false, "RFC 8705 §2.1.2", "The certificate's DNS name.";
    tls_client_auth_san_uri: String, Security, Exact, None, false, "RFC 8705 §2.1.2", "The certificate's URI.";
    tls_client_auth_san_ip: String, Security, Exact, None, false, "RFC 8705 §2.1.2", "The certificate's IP address.";
    tls_client_auth_san_email: String, Security, Exact, None, false, "RFC 8705 §2.1.2", "The certificate's e-mail address.";
    authorization_details_types: Vec<String>, Security, Set, None, false, "RFC 9396 §10", "Types of authorization details that the client uses.";
    backchannel_token_delivery_mode: String, Functional, Exact, None, false, "OIDC CIBA §4", "`poll`, `ping` or `push`.";
    backchannel_client_notification_endpoint: String, Functional, Exact, None, false, "OIDC CIBA §4", "Where CIBA notifications go.";
    backchannel_authentication_request_signing_alg: String, Security, Exact, None, false, "OIDC CIBA §4", "JWS algorithm of CIBA requests.";
    backchannel_user_code_parameter: bool, Functional, Exact, FALSE, false, "OIDC CIBA §4", "The client supports user codes.";
    client_registration_types: Vec<String>, Functional, Set, None, false, "OpenID Federation §5.1.2", "`automatic`, `explicit`.";
    signed_jwks_uri: String, Security, Exact, None, false, "OpenID Federation §5.2", "Where the signed key set is.";
    organization_name: String, Info, Exact, None, true, "OpenID Federation §5.2", "The organisation behind the client.";
    organization_uri: String, Info, Exact, None, true, "OpenID Federation §5.2", "The organisation's page.";
    description: String, Info, Exact, None, true, "OpenID Federation §5.2", "What the client is for.";
    keywords: Vec<String>, Info, Set, None, true, "OpenID Federation §5.2", "Words to find it by.";
    information_uri: String, Info, Exact, None, true, "OpenID Federation §5.2", "A page about the client.";
    claims_redirect_uris: Vec<String>, Functional, Set, None, false, "UMA 2.0 §2", "Where claims gathering returns.";
    response_modes: Vec<String>, Functional, Set, None, false, "node-oidc-provider", "Response modes that the client may use.";
    resources: Vec<String>, Security, Set, None, false, "RFC 8707", "Resource servers that the client may name.";
}

/// Registered names that are kept without a type of their own.
pub const REGISTERED_UNTYPED: [&str; 5] = [
    "nfv_token_signed_response_alg",
    "nfv_token_encrypted_response_alg",
    "nfv_token_encrypted_response_enc",
    "encrypted_response_enc_values_supported",
    "vp_formats_supported",
];

/// Members that only a server may set (RFC 7591 §3.2.1, RFC 7592 §3); a caller's value is never adopted.
pub const SERVER_ASSIGNED: [&str; 6] = [
    "client_id",
    "client_secret",
    "client_id_issued_at",
    "client_secret_expires_at",
    "registration_access_token",
    "registration_client_uri",
];

impl Serialize for ClientMetadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        self.serialize_typed(&mut out)?;
        for (name, value) in self.localized.iter().chain(&self.extra) {
            out.serialize_entry(name, value)?;
        }
        out.end()
    }
}

impl ClientMetadata {
    /// Reads a metadata object. Names that no registry knows come back in the list: they are ignored
    /// (RFC 7591 §2) and must be reported as dropped.
    #[must_use]
    pub fn decode(object: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) -> (Self, Vec<(String, Value)>) {
        let mut out = Self::default();
        let unknown = out.decode_into(object, at, issues);
        (out, unknown)
    }

    /// As [`ClientMetadata::decode`], into a value without members: where it is to stay, because it is large.
    pub(crate) fn decode_into(
        &mut self,
        object: &Map<String, Value>,
        at: &Position<'_>,
        issues: &mut Issues,
    ) -> Vec<(String, Value)> {
        let mut unknown = Vec::new();
        // `null` counts as absent, and so does what is empty where the name is known (RFC 7592 §2.2)
        for (name, value) in object.iter().filter(|(_, v)| !v.is_null()) {
            if says_nothing(name, value) || self.decode_typed(name, value, at, issues) {
                continue;
            }
            if let Some((base, tag)) = name.split_once('#') {
                let localised = FIELDS.iter().find(|f| f.name == base && f.localised);
                let Some(tag) = localised.and_then(|_| canonical_tag(tag)) else {
                    unknown.push((name.clone(), value.clone()));
                    continue;
                };
                let decoded = if base == "keywords" {
                    Vec::<String>::decode(value, &at.child(name), issues).map(|v| v.encode())
                } else {
                    String::decode(value, &at.child(name), issues).map(|v| v.encode())
                };
                let Some(value) = decoded else { continue };
                match self.localized.entry(format!("{base}#{tag}")) {
                    Entry::Vacant(free) => _ = free.insert(value),
                    Entry::Occupied(taken) if *taken.get() == value => {}
                    // tags compare without case (RFC 7591 §2.2): which of the two is meant?
                    Entry::Occupied(_) => {
                        let detail = "another member has the same language tag in another case, and another value";
                        if !issues.is_lenient() {
                            issues.push(at.child(name), IssueCode::Conflict, detail);
                        }
                    }
                }
            } else if REGISTERED_UNTYPED.contains(&name.as_str()) {
                self.extra.insert(name.clone(), value.clone());
            } else {
                unknown.push((name.clone(), value.clone()));
            }
        }
        // also of keys that are not kept: which of the two is meant?
        if self.jwks_uri.is_some() && !issues.is_lenient() && object.get("jwks").is_some_and(|jwks| !is_empty(jwks)) {
            issues.push(at.child("jwks"), IssueCode::Conflict, BOTH_KEYS);
        }
        unknown
    }

    /// The metadata as a JSON object: absent members are absent, never `null`.
    #[must_use]
    pub fn encode(&self) -> Map<String, Value> {
        let mut object = Map::new();
        self.encode_typed(&mut object);
        object.extend(self.localized.iter().map(|(k, v)| (k.clone(), v.clone())));
        object.extend(self.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        object
    }

    /// One member as JSON, by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        self.get_typed(name).or_else(|| self.localized.get(name).or_else(|| self.extra.get(name)).cloned())
    }

    pub(crate) fn differences(&self, other: &Self, found: &mut Differences<'_>) {
        self.typed_differences(other, found);
        found.untyped("metadata", &self.localized, &other.localized);
        found.untyped("metadata", &self.extra, &other.extra);
    }

    /// The authentication method in effect: `client_secret_basic` when absent (RFC 7591 §2).
    #[must_use]
    pub fn auth_method(&self) -> AuthMethod {
        self.token_endpoint_auth_method.clone().unwrap_or(AuthMethod::ClientSecretBasic)
    }

    /// True when the client has no credentials (RFC 6749 §2.1).
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.token_endpoint_auth_method == Some(AuthMethod::None)
    }

    /// The grant types in effect: `authorization_code` when absent (RFC 7591 §2).
    #[must_use]
    pub fn effective_grant_types(&self) -> &[GrantType] {
        self.grant_types.as_deref().unwrap_or(&[GrantType::AuthorizationCode])
    }

    /// The response types in effect: `code` when absent, none when no grant uses the authorization endpoint.
    #[must_use]
    pub fn effective_response_types(&self) -> &[ResponseType] {
        match &self.response_types {
            Some(types) => types,
            None if self.effective_grant_types().iter().any(GrantType::uses_redirect) => &[ResponseType::CODE],
            None => &[],
        }
    }
}

/// The member that a name which no registry knows was probably meant to be: a spelling without underscores, another
/// ending, a letter or two.
#[must_use]
pub fn meant_by(name: &str) -> Option<&'static str> {
    let base = name.split('#').next().unwrap_or(name);
    // lists of choices (RP Metadata Choices §2) are called much like the members that they are for
    if base.len() > MAX_MEMBER || base.ends_with("_supported") {
        return None;
    }
    let written = plain(base);
    let slips = |meant: &str| match meant.len() {
        ..=6 => 1,
        7..=20 => 2,
        _ => 3,
    };
    // what differs by more letters than that in length needs no closer look
    let near = |(name, plain): &&(&'static str, String)| {
        written.len().abs_diff(plain.len()) <= slips(name) && strsim::osa_distance(&written, plain) <= slips(name)
    };
    let likeness = |(_, plain): &&(&'static str, String)| strsim::jaro_winkler(&written, plain);
    let found = PLAIN.iter().filter(near).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    found.map(|(name, _)| *name)
}

/// A name without what people get wrong first.
fn plain(name: &str) -> String {
    name.replace(['_', '-'], "").to_ascii_lowercase()
}

/// The names of the registries, each with its [`plain`] form.
static PLAIN: LazyLock<Vec<(&'static str, String)>> =
    LazyLock::new(|| FIELDS.iter().map(|f| f.name).chain(REGISTERED_UNTYPED).map(|name| (name, plain(name))).collect());

/// Whether a known member is there and says nothing: an empty text, or what is empty of its own type. Key sets are empty
/// in every way that servers write them.
fn says_nothing(name: &str, value: &Value) -> bool {
    if !is_empty(value) {
        return false;
    }
    let base = name.split('#').next().unwrap_or(name);
    match FIELDS.iter().find(|f| f.name == base) {
        Some(field) => (field.localised || base == name) && field.json.takes_empty(value),
        None => REGISTERED_UNTYPED.contains(&name),
    }
}

/// Why keys and a place of keys are refused together.
pub(crate) const BOTH_KEYS: &str = "`jwks` and `jwks_uri` must not both be present (RFC 7591 §2)";

/// Longer than any name that could be meant, in bytes.
const MAX_MEMBER: usize = 64;

/// A BCP 47 tag in its recommended case (RFC 5646 §2.1.1); `None` when it is not a tag.
fn canonical_tag(tag: &str) -> Option<String> {
    let subtags: Vec<&str> = tag.split('-').collect();
    let ok = tag.len() <= 64
        && subtags.iter().all(|s| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric()))
        && subtags.first().is_some_and(|s| s.bytes().all(|b| b.is_ascii_alphabetic()));
    if !ok {
        return None;
    }
    let mut after_singleton = false;
    let parts: Vec<String> = subtags
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let lower = s.to_ascii_lowercase();
            let out = match s.len() {
                _ if i == 0 || after_singleton => lower,
                2 => s.to_ascii_uppercase(),
                4 if s.bytes().all(|b| b.is_ascii_alphabetic()) => {
                    let (head, tail) = lower.split_at(1);
                    format!("{}{tail}", head.to_ascii_uppercase())
                }
                _ => lower,
            };
            after_singleton |= s.len() == 1;
            out
        })
        .collect();
    Some(parts.join("-"))
}

/// Checks free text of untyped members; typed ones are checked while decoding.
pub(crate) fn check_untyped(value: &Value, at: &Position<'_>, issues: &mut Issues) {
    match value {
        Value::String(s) => {
            text::check(s, at, issues);
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| check_untyped(v, &at.child(i), issues)),
        Value::Object(map) => map.iter().for_each(|(k, v)| check_untyped(v, &at.child(k), issues)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> (ClientMetadata, Vec<(String, Value)>, Vec<crate::Issue>) {
        let mut issues = Issues::new();
        let object = value.as_object().cloned().unwrap_or_default();
        let (m, unknown) = ClientMetadata::decode(&object, &Position::root(), &mut issues);
        (m, unknown, issues.into_vec())
    }

    #[test]
    fn absent_null_and_default_stay_apart() {
        let (absent, ..) = read(json!({}));
        let (null, ..) = read(json!({"grant_types": null}));
        let (default, ..) = read(json!({"grant_types": ["authorization_code"]}));
        assert_eq!(absent.grant_types, None);
        assert_eq!(null.grant_types, None);
        assert!(default.grant_types.is_some());
        assert_eq!(absent.effective_grant_types(), default.effective_grant_types());
        assert_eq!(absent.encode().len(), 0);
    }

    #[test]
    fn localised_members_survive_with_canonical_tags() {
        let (m, unknown, issues) = read(json!({
            "client_name": "A", "client_name#FR": "Un", "client_name#ja-jpan-jp": "\u{30af}",
            "client_name#": "x", "scope#fr": "y", "redirect_uris#de": ["z"]
        }));
        assert!(issues.is_empty());
        let tags: Vec<&str> = m.localized.keys().map(String::as_str).collect();
        assert_eq!(tags, ["client_name#fr", "client_name#ja-Jpan-JP"]);
        assert_eq!(unknown.len(), 3);
    }

    #[test]
    fn registered_untyped_names_survive_and_unknown_ones_are_listed() {
        let (m, unknown, _) = read(json!({"vp_formats_supported": {"a": 1}, "color": "red", "client_id": "x"}));
        assert_eq!(m.encode()["vp_formats_supported"], json!({"a": 1}));
        let names: Vec<&str> = unknown.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["client_id", "color"]);
    }

    #[test]
    fn every_issue_is_reported() {
        let (_, _, issues) =
            read(json!({"redirect_uris": "x", "scope": ["a"], "require_auth_time": "true", "jwks": "{}",
            "default_max_age": -1, "contacts": [1, "ok", "ok"]}));
        let at: Vec<&str> = issues.iter().map(|i| i.pointer.as_str()).collect();
        for wanted in
            ["#/redirect_uris", "#/scope", "#/require_auth_time", "#/jwks", "#/default_max_age", "#/contacts/0"]
        {
            assert!(at.contains(&wanted), "{wanted} missing in {at:?}");
        }
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (written, meant) in [
            ("token_endpoint_auth_metod", "token_endpoint_auth_method"),
            ("tls_client_certificate_bound_access_token", "tls_client_certificate_bound_access_tokens"),
            ("require_pushed_authorization_request", "require_pushed_authorization_requests"),
            ("redirectUris", "redirect_uris"),
            ("redirect_uri", "redirect_uris"),
            ("scopes", "scope"),
            ("clientName", "client_name"),
            ("client-name#fr", "client_name"),
            ("logo_url", "logo_uri"),
            ("dpop_bound_acess_token", "dpop_bound_access_tokens"),
        ] {
            assert_eq!(meant_by(written), Some(meant), "{written}");
        }
        for other in
            ["color", "client_id", "client_secret", "client_type", "x", "", "token_endpoint_auth_methods_supported"]
        {
            assert_eq!(meant_by(other), None, "{other}");
        }
    }

    #[test]
    fn language_tags_compare_without_case() {
        for (first, second) in [("client_name#EN", "client_name#en"), ("tos_uri#de-CH", "tos_uri#de-ch")] {
            let (m, _, issues) = read(json!({(first): "https://a.example", (second): "https://b.example"}));
            assert_eq!((issues.len(), issues[0].code), (1, IssueCode::Conflict), "{issues:?}");
            assert_eq!(m.localized.len(), 1);
            let (_, _, issues) = read(json!({(first): "https://a.example", (second): "https://a.example"}));
            assert!(issues.is_empty());
            let (m, _, issues) = read(json!({(first): "", (second): "https://a.example"}));
            assert!(issues.is_empty() && m.localized.len() == 1);
        }
    }

    #[test]
    fn what_is_empty_is_absent_whatever_the_member() {
        for field in FIELDS.iter() {
            for empty in [json!(null), json!(""), json!([]), json!({})] {
                let (m, unknown, issues) = read(json!({(field.name): empty}));
                assert!(unknown.is_empty() && m.encode().is_empty(), "{}: {empty}", field.name);
                // an empty list is no text
                assert_eq!(
                    issues.is_empty(),
                    empty.is_null() || field.json.takes_empty(&empty),
                    "{}: {empty}",
                    field.name
                );
            }
        }
        let (m, unknown, issues) =
            read(json!({"client_name#fr": "", "vp_formats_supported": {}, "jwks": {"keys": []}}));
        assert!(issues.is_empty() && unknown.is_empty() && m.encode().is_empty());
    }

    #[test]
    fn private_keys_are_refused() {
        let (m, _, issues) = read(json!({"jwks": {"keys": [{"kty": "RSA", "n": "a", "e": "AQAB", "d": "CANARY"}]}}));
        assert!(m.jwks.is_none());
        assert_eq!(issues[0].pointer.as_str(), "#/jwks/keys/0/d");
        assert!(!issues[0].detail.contains("CANARY"));
    }
}
