//! `[[registration.software_statements]]`: whose software statements are believed.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use registrar_core::{ExposeSecret as _, settings::closest};
use registrar_model::jwk::PRIVATE_MEMBERS;
use serde_json::Value;

use super::{Environment, diagnostic::Collector, read::duration, registration::words, section::Section};
use crate::dcr::{StatementIssuer, StatementKey};

/// What may be configured: everything with a public key, so that nobody who can verify a statement can make one.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
];

/// What issuers sign with that do not say; RFC 7591 §2.3 recommends RS256.
const DEFAULT: [Algorithm; 4] = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::PS256, Algorithm::RS256];

pub(super) fn issuers(
    registration: &mut Section<'_, '_>,
    environment: Environment<'_>,
    is_complete: bool,
    out: &mut Collector<'_>,
) -> Vec<StatementIssuer> {
    let mut issuers: Vec<StatementIssuer> = Vec::new();
    for mut s in registration.sections("software_statements", out) {
        let issuer = s.required("issuer", out, "\"https://directory.example.com\"");
        if issuer.as_ref().is_some_and(|name| issuers.iter().any(|i| i.issuer == *name)) {
            s.error("issuer", out, "this issuer has a table already", Some("one file may hold many keys".to_owned()));
        }
        let keys = keys(&mut s, environment, is_complete, out);
        let algorithms = algorithms(&mut s, out);
        let audience = s.text("audience", out);
        let century = Duration::from_hours(24 * 365 * 100);
        let max_age = duration(&mut s, "max_age", Duration::from_secs(1)..=century, out).flatten();
        if let (Some(issuer), Some(keys)) = (issuer, keys) {
            issuers.push(StatementIssuer { issuer, keys, algorithms, audience, max_age });
        }
        s.finish(out);
    }
    issuers
}

fn algorithms(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Vec<Algorithm> {
    let Some(names) = words(s, "algorithms", out) else { return DEFAULT.to_vec() };
    let known = ALGORITHMS.map(|(name, _)| name);
    if let Some(name) = names.iter().find(|n| !known.contains(&n.as_str())) {
        let hint = match name.as_str() {
            "none" | "HS256" | "HS384" | "HS512" => Some("asymmetric algorithms only, such as \"ES256\"".to_owned()),
            other => closest(other, known).map(|w| format!("did you mean `{w}`?")),
        };
        s.error("algorithms", out, format!("must be of {}", known.join(", ")), hint);
    } else if names.is_empty() {
        s.error("algorithms", out, "allows nothing", Some("leave it out for the default".to_owned()));
    }
    ALGORITHMS.iter().filter(|(name, _)| names.contains(*name)).map(|(_, algorithm)| *algorithm).collect()
}

/// No keys where references are not resolved.
fn keys(
    s: &mut Section<'_, '_>,
    environment: Environment<'_>,
    is_complete: bool,
    out: &mut Collector<'_>,
) -> Option<Vec<StatementKey>> {
    let reference = s.required("jwks", out, "\"file:/etc/registrar/directory.jwks.json\"")?;
    if !is_complete {
        return Some(Vec::new());
    }
    let read = (environment.secrets)(&reference).and_then(|text| parse(text.expose_secret()));
    match read {
        Ok(keys) => Some(keys),
        Err(problem) => {
            let hint = "a reference, \"file:PATH\" or \"env:NAME\", to the JWK Set of the issuer's public keys";
            s.error("jwks", out, problem, Some(hint.to_owned()));
            None
        }
    }
}

/// The keys for signatures of a JWK Set (RFC 7517 §5).
fn parse(text: &str) -> Result<Vec<StatementKey>, String> {
    let set: Value = serde_json::from_str(text).map_err(|_| "is not JSON".to_owned())?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("is not a JWK Set: it has no list `keys`")?;
    let mut usable = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        if PRIVATE_MEMBERS.iter().any(|member| key.get(member).is_some()) {
            return Err(format!("key {i} is private or symmetric; only public keys belong here"));
        }
        // RFC 7517 §5: types of keys that are not understood are ignored
        if key.get("kty").and_then(Value::as_str).is_some_and(|kty| !["EC", "OKP", "RSA"].contains(&kty)) {
            continue;
        }
        if !verifies(key) {
            continue;
        }
        let algorithm = match key.get("alg").and_then(Value::as_str) {
            // nor is a key for an algorithm that is not understood, or not for signatures (§4.4): issuers add them
            // before everybody can use them
            Some(alg) => match ALGORITHMS.iter().find(|(name, _)| *name == alg) {
                Some((_, algorithm)) => Some(*algorithm),
                None => continue,
            },
            None => None,
        };
        let key: Jwk =
            serde_json::from_value(key.clone()).map_err(|_| format!("key {i} is not a JWK that is known"))?;
        let decoding = DecodingKey::from_jwk(&key).map_err(|_| format!("key {i} cannot be used"))?;
        usable.push(StatementKey { id: key.common.key_id, algorithm, key: decoding });
    }
    if usable.is_empty() { Err("has no key for signatures".to_owned()) } else { Ok(usable) }
}

/// Whether a key may be used to verify signatures, as far as it says what it is for (RFC 7517 §4.2, §4.3).
fn verifies(key: &Value) -> bool {
    let for_signatures = key.get("use").is_none_or(|word| word == "sig");
    let may_verify = |operations: &Value| operations.as_array().is_some_and(|all| all.iter().any(|o| o == "verify"));
    for_signatures && key.get("key_ops").is_none_or(may_verify)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A key of RFC 7515 appendix A.3, with members beside it.
    fn key(members: Value) -> Value {
        let mut key = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        key.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        key
    }

    fn read(keys: &[Value]) -> Result<Vec<String>, String> {
        let keys = parse(&json!({ "keys": keys }).to_string())?;
        Ok(keys.into_iter().map(|key| key.id.unwrap_or_default()).collect())
    }

    #[test]
    fn keys_that_are_not_for_verifying_are_passed_over() {
        let good = [
            json!({}),
            json!({"use": "sig"}),
            json!({"key_ops": ["verify"]}),
            json!({"key_ops": ["other", "verify"], "use": "sig"}),
            json!({"alg": "ES256"}),
        ];
        for members in good {
            assert_eq!(read(&[key(members.clone())]).map(|keys| keys.len()), Ok(1), "{members}");
        }
        let others = [
            json!({"use": "enc"}),
            json!({"use": "tls"}),
            json!({"use": "SIG"}),
            json!({"use": null}),
            json!({"key_ops": []}),
            json!({"key_ops": ["encrypt", "wrapKey"]}),
            json!({"key_ops": "verify"}),
            json!({"use": "sig", "key_ops": ["deriveKey"]}),
            json!({"alg": "ECDH-ES"}),
            json!({"alg": "RSA-OAEP-256"}),
            json!({"alg": "ES256K"}),
            json!({"alg": "HS256"}),
            json!({"alg": "ML-DSA-65"}),
            json!({"kty": "AKP", "alg": "ML-DSA-65"}),
        ];
        for members in others {
            let beside = [key(members.clone()), key(json!({ "kid": "good" }))];
            assert_eq!(read(&beside), Ok(vec!["good".to_owned()]), "{members}");
            assert_eq!(read(&beside[..1]), Err("has no key for signatures".to_owned()), "{members}");
        }
    }

    #[test]
    fn keys_that_are_broken_or_secret_are_faults() {
        for members in [json!({"x": "?"}), json!({"crv": 256}), json!({"kty": 1}), json!({"alg": 1}), json!({"d": "x"})]
        {
            assert!(read(&[key(members.clone()), key(json!({}))]).is_err(), "{members}");
        }
        assert!(read(&[]).is_err());
    }
}
