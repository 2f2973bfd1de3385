//! How much a change of a field matters: what kind of loss it is, and how severe.
//!
//! Security is lost where more parties or weaker proof are let in. To hold less than was asked is none, and neither is
//! to lose a protection that nothing in the registration uses.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{FieldInfo, as_set, lookup},
    loss::{LossKind, Severity},
    member::{AuthMethod, GrantType},
    metadata::ClientMetadata,
};

/// Which protections a registration uses, so that the members which serve them mean something.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    /// Something verifies a signature of the client, or encrypts to it.
    keys: bool,
    /// The client proves itself with a JWT.
    assertions: bool,
    /// The client must or may send request objects.
    request_objects: bool,
    /// The client starts logins on other devices (CIBA).
    backchannel: bool,
    /// Subjects differ by client.
    pairwise: bool,
}

impl Default for Uses {
    /// Everything is used.
    fn default() -> Self {
        Self { keys: true, assertions: true, request_objects: true, backchannel: true, pairwise: true }
    }
}

impl Uses {
    /// What a registration uses.
    #[must_use]
    pub fn of(metadata: &ClientMetadata) -> Self {
        let method = metadata.auth_method();
        let request_objects = metadata.require_signed_request_object == Some(true)
            || metadata.request_uris.as_ref().is_some_and(|uris| !uris.is_empty());
        let backchannel = metadata.effective_grant_types().contains(&GrantType::Ciba);
        let encrypts = [
            &metadata.id_token_encrypted_response_alg,
            &metadata.userinfo_encrypted_response_alg,
            &metadata.introspection_encrypted_response_alg,
            &metadata.authorization_encrypted_response_alg,
        ]
        .into_iter()
        .any(Option::is_some);
        let by_key = matches!(method, AuthMethod::PrivateKeyJwt | AuthMethod::SelfSignedTlsClientAuth);
        let signs_backchannel = backchannel && metadata.backchannel_authentication_request_signing_alg.is_some();
        Self {
            // another method may be proved with keys, too
            keys: by_key || matches!(method, AuthMethod::Other(_)) || encrypts || request_objects || signs_backchannel,
            assertions: matches!(
                method,
                AuthMethod::PrivateKeyJwt | AuthMethod::ClientSecretJwt | AuthMethod::Other(_)
            ),
            request_objects,
            backchannel,
            pairwise: metadata.subject_type.as_deref() == Some("pairwise"),
        }
    }

    /// Whether anything in the registration uses a member.
    fn has_use(self, member: &str) -> bool {
        match member {
            "jwks" | "jwks_uri" | "signed_jwks_uri" => self.keys,
            "token_endpoint_auth_signing_alg" => self.assertions,
            "request_object_signing_alg" | "request_object_encryption_alg" | "request_object_encryption_enc" => {
                self.request_objects
            }
            "backchannel_authentication_request_signing_alg" => self.backchannel,
            "sector_identifier_uri" => self.pairwise,
            _ => true,
        }
    }

    /// How much it matters that a vendor holds nothing of a member.
    #[must_use]
    pub fn dropping(self, field: &FieldInfo, wanted: &Value) -> Severity {
        if field.severity == Severity::Info || is_weakest(field, wanted) {
            Severity::Info
        } else if !self.has_use(field.name) || field.name == "scope" {
            // a vendor that holds no scopes governs them elsewhere: it may grant more, and less
            Severity::Functional.min(field.severity)
        } else {
            field.severity
        }
    }

    /// What kind of loss another value is, and how much it matters.
    #[must_use]
    pub fn changing(self, field: Option<&FieldInfo>, wanted: &Value, got: &Value) -> (LossKind, Severity) {
        let full = field.map_or(Severity::Functional, |f| f.severity);
        let name = field.map_or("", |f| f.name);
        let as_sets = field.is_some_and(|f| f.compare.is_set()) || (wanted.is_array() && got.is_array());
        if let Some((wanted, got)) = as_sets.then(|| as_set(wanted).zip(as_set(got))).flatten() {
            return sets(name, full, &wanted, &got);
        }
        let weaker = match (wanted, got) {
            (Value::Bool(_), Value::Bool(got)) => match name {
                "enabled" | "first_party" => *got,
                _ => !*got,
            },
            // what lives shorter, or is proved more often, is no weaker
            (Value::Number(wanted), Value::Number(got)) => got.as_f64() > wanted.as_f64(),
            (Value::String(wanted), Value::String(got)) => match name {
                "token_endpoint_auth_method" => !(is_plain_secret(wanted) && is_plain_secret(got)),
                "subject_type" => got == "public",
                _ => field.is_none_or(|f| !is_weakest(f, &Value::String(wanted.clone()))) && self.has_use(name),
            },
            _ => self.has_use(name),
        };
        (LossKind::Substituted, if weaker { full } else { Severity::Functional.min(full) })
    }
}

/// Two ways to present the same secret.
fn is_plain_secret(method: &str) -> bool {
    matches!(method, "client_secret_basic" | "client_secret_post")
}

/// Whether a value asks for no protection at all: the standard's default, `false`, and `none` for an algorithm.
fn is_weakest(field: &FieldInfo, wanted: &Value) -> bool {
    let none = field.name.ends_with("_alg") && *wanted == "none";
    none || *wanted == Value::Bool(false) && field.name != "enabled" || field.is_default(wanted)
}

/// Lists without an order: what was added and what is missing decide.
fn sets(name: &str, full: Severity, wanted: &[&str], got: &[&str]) -> (LossKind, Severity) {
    let words = |response: &str| response.split_ascii_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    // the words of a response type have no order either
    let text = |item: &&str| match name {
        "response_types" => words(item).into_iter().collect::<Vec<_>>().join(" "),
        _ => (*item).to_owned(),
    };
    let (wanted, got): (BTreeSet<String>, BTreeSet<String>) =
        (wanted.iter().map(text).collect(), got.iter().map(text).collect());
    let added: Vec<&String> = got.difference(&wanted).collect();
    let missing = wanted.difference(&got).next().is_some();
    let less = Severity::Functional.min(full);
    if added.is_empty() {
        return (LossKind::Narrowed, less);
    }
    let severity = match name {
        "grant_types" if added.iter().all(|grant| *grant == "refresh_token") => less,
        // RFC 6749 §3.1.1, OAuth 2.0 Multiple Response Types §4: `none` gives nothing out
        "response_types" if added.iter().all(|response| *response == "none") && !missing => Severity::Info,
        // what comes with another response type was given out already
        "response_types"
            if added
                .iter()
                .all(|more| *more == "none" || wanted.iter().any(|asked| words(more).is_subset(&words(asked)))) =>
        {
            less
        }
        _ => full,
    };
    (if missing { LossKind::Substituted } else { LossKind::Widened }, severity)
}

/// Whether a value that nobody asked for is as good as none: it is the standard's own default, or switches nothing on.
#[must_use]
pub fn is_standard(field: Option<&FieldInfo>, got: &Value) -> bool {
    // `none` opens nothing beside another response type
    let without_none = || {
        let types = got.as_array().filter(|_| field.is_some_and(|f| f.name == "response_types"))?;
        Some(Value::Array(types.iter().filter(|one| *one != "none").cloned().collect()))
    };
    *got == Value::Bool(false) && field.is_none_or(|f| f.name != "enabled")
        || field.is_some_and(|f| f.is_default(got) || without_none().is_some_and(|types| f.is_default(&types)))
}

/// How much a value matters that nobody asked for and that is not the standard's own.
#[must_use]
pub fn defaulting(path: &str, got: &Value) -> Severity {
    let widens = match lookup(path).map(|f| f.name) {
        Some(
            "redirect_uris"
            | "grant_types"
            | "response_types"
            | "scope"
            | "post_logout_redirect_uris"
            | "first_party"
            | "resources"
            | "authorization_details_types",
        ) => true,
        Some("token_endpoint_auth_method") => *got == "none",
        _ => false,
    };
    if widens { Severity::Functional } else { Severity::Info }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Issues, Position};

    fn uses(metadata: &Value) -> Uses {
        let object = metadata.as_object().cloned().unwrap_or_default();
        Uses::of(&ClientMetadata::decode(&object, &Position::root(), &mut Issues::lenient()).0)
    }

    fn dropping(metadata: &Value, name: &str) -> Severity {
        uses(metadata).dropping(lookup(&format!("metadata.{name}")).unwrap(), &metadata[name])
    }

    #[test]
    fn none_beside_code_is_the_standards_default() {
        let field = lookup("metadata.response_types");
        assert!(is_standard(field, &json!(["code", "none"])) && is_standard(field, &json!(["code"])));
        assert!(!is_standard(field, &json!(["none"])) && !is_standard(field, &json!(["code", "none", "token"])));
        assert!(!is_standard(lookup("metadata.grant_types"), &json!(["authorization_code", "none"])));
    }

    #[test]
    fn what_nothing_uses_protects_nothing() {
        use Severity::{Functional, Info, Security};
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}]});
        for (metadata, name, severity) in [
            (json!({"jwks": keys}), "jwks", Functional),
            (json!({"jwks_uri": "u", "token_endpoint_auth_method": "client_secret_basic"}), "jwks_uri", Functional),
            (json!({"jwks_uri": "u", "request_object_signing_alg": "RS256"}), "jwks_uri", Functional),
            (json!({"jwks": keys, "token_endpoint_auth_method": "private_key_jwt"}), "jwks", Security),
            (json!({"jwks": keys, "token_endpoint_auth_method": "self_signed_tls_client_auth"}), "jwks", Security),
            (json!({"jwks_uri": "u", "userinfo_encrypted_response_alg": "RSA-OAEP"}), "jwks_uri", Security),
            (json!({"jwks_uri": "u", "require_signed_request_object": true}), "jwks_uri", Security),
            (json!({"request_object_signing_alg": "RS256"}), "request_object_signing_alg", Functional),
            (
                json!({"request_object_signing_alg": "ES256", "request_uris": ["u"]}),
                "request_object_signing_alg",
                Security,
            ),
            (json!({"token_endpoint_auth_signing_alg": "RS256"}), "token_endpoint_auth_signing_alg", Functional),
            (
                json!({"token_endpoint_auth_signing_alg": "HS512", "token_endpoint_auth_method": "client_secret_jwt"}),
                "token_endpoint_auth_signing_alg",
                Security,
            ),
            (json!({"sector_identifier_uri": "u"}), "sector_identifier_uri", Functional),
            (json!({"sector_identifier_uri": "u", "subject_type": "pairwise"}), "sector_identifier_uri", Security),
            (json!({"subject_type": "public"}), "subject_type", Info),
            (json!({"subject_type": "pairwise"}), "subject_type", Security),
            (json!({"require_auth_time": false}), "require_auth_time", Info),
            (json!({"require_auth_time": true}), "require_auth_time", Security),
            (json!({"userinfo_signed_response_alg": "none"}), "userinfo_signed_response_alg", Info),
            (json!({"userinfo_signed_response_alg": "RS256"}), "userinfo_signed_response_alg", Security),
            (json!({"id_token_signed_response_alg": "RS256"}), "id_token_signed_response_alg", Info),
            (json!({"id_token_signed_response_alg": "ES256"}), "id_token_signed_response_alg", Security),
            (json!({"default_max_age": 86400}), "default_max_age", Security),
            (json!({"scope": "openid"}), "scope", Functional),
        ] {
            assert_eq!(dropping(&metadata, name), severity, "{name} of {metadata}");
        }
    }

    #[test]
    fn only_what_is_let_in_weakens() {
        use LossKind::{Narrowed, Substituted, Widened};
        use Severity::{Functional, Info, Security};
        for (name, wanted, got, kind, severity) in [
            ("metadata.grant_types", json!(["a", "b"]), json!(["b"]), Narrowed, Functional),
            ("metadata.grant_types", json!(["a"]), json!(["refresh_token", "a"]), Widened, Functional),
            ("metadata.grant_types", json!(["a", "b"]), json!(["refresh_token", "a"]), Substituted, Functional),
            ("metadata.grant_types", json!(["a"]), json!(["b"]), Substituted, Security),
            ("metadata.response_types", json!(["code"]), json!(["code", "none"]), Widened, Info),
            (
                "metadata.response_types",
                json!(["id_token token"]),
                json!(["token id_token", "id_token"]),
                Widened,
                Functional,
            ),
            ("metadata.response_types", json!(["code", "id_token"]), json!(["code"]), Narrowed, Functional),
            ("metadata.response_types", json!(["code"]), json!(["code", "token"]), Widened, Security),
            ("metadata.scope", json!("a b"), json!("b"), Narrowed, Functional),
            ("metadata.scope", json!("a"), json!("a b"), Widened, Security),
            ("metadata.redirect_uris", json!(["x", "y"]), json!(["y"]), Narrowed, Functional),
            ("metadata.redirect_uris", json!(["x"]), json!(["x", "y"]), Widened, Security),
            ("metadata.contacts", json!(["x"]), json!(["x", "y"]), Widened, Info),
            ("metadata.require_auth_time", json!(true), json!(false), Substituted, Security),
            ("metadata.require_auth_time", json!(false), json!(true), Substituted, Functional),
            ("policy.enabled", json!(false), json!(true), Substituted, Security),
            ("policy.enabled", json!(true), json!(false), Substituted, Functional),
            ("policy.first_party", json!(true), json!(false), Substituted, Functional),
            ("policy.access_token_lifetime", json!(60), json!(30), Substituted, Functional),
            ("policy.access_token_lifetime", json!(60), json!(90), Substituted, Security),
            (
                "metadata.token_endpoint_auth_method",
                json!("client_secret_basic"),
                json!("client_secret_post"),
                Substituted,
                Functional,
            ),
            ("metadata.token_endpoint_auth_method", json!("private_key_jwt"), json!("none"), Substituted, Security),
            ("metadata.subject_type", json!("public"), json!("pairwise"), Substituted, Functional),
            ("metadata.subject_type", json!("pairwise"), json!("public"), Substituted, Security),
            ("metadata.client_name", json!("a"), json!("b"), Substituted, Info),
        ] {
            let found = Uses::default().changing(lookup(name), &wanted, &got);
            assert_eq!(found, (kind, severity), "{name}: {wanted} became {got}");
        }
    }
}
