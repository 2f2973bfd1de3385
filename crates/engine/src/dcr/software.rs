//! Software statements (RFC 7591 §2.3): metadata that somebody else vouches for. The claims of a statement by an issuer whom
//! the operator trusts outrank the metadata beside it; any other statement is refused, never ignored.
//!
//! The gateway is who decides about the statement. It keeps it and shows it; the vendor gets what the claims say.

use std::{fmt, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use registrar_core::{Error, ErrorKind};
use registrar_model::{Issue, IssueCode, Pointer, Registration, json, metadata::SERVER_ASSIGNED};
use serde_json::{Map, Value};

use super::{Record, choices};
use crate::{clock::now_ms, engine::Engine};

/// How long a statement may be, in bytes.
const MAX_STATEMENT: usize = 16 * 1024;

/// How far the clocks of issuers may be off.
const LEEWAY: Duration = Duration::from_mins(1);

/// The claims that are about the statement and not about the client (RFC 7519 §4.1).
const ABOUT_THE_STATEMENT: [&str; 8] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "software_statement"];

/// What is wrong with a software statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It is no signed JWT with an issuer, or not one that its issuer has signed for us and for now.
    Invalid,
    /// Its issuer is not approved.
    Unapproved,
}

/// Whose software statements are believed.
#[derive(Clone)]
pub struct StatementIssuer {
    /// The `iss` claim.
    pub issuer: String,
    /// Its keys.
    pub keys: Vec<StatementKey>,
    /// What it signs with; asymmetric algorithms only.
    pub algorithms: Vec<Algorithm>,
    /// Who statements have to be for; without it, one that is for somebody in particular is refused (RFC 7519 §4.1.3).
    pub audience: Option<String>,
    /// How long ago a statement may have been issued.
    pub max_age: Option<Duration>,
}

impl fmt::Debug for StatementIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementIssuer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A public key of an issuer.
#[derive(Clone)]
pub struct StatementKey {
    /// Its name, if it has one.
    pub id: Option<String>,
    /// The one algorithm that it is for, if it says so (RFC 7517 §4.4).
    pub algorithm: Option<Algorithm>,
    /// The key.
    pub key: DecodingKey,
}

impl fmt::Debug for StatementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The statement that a client was registered with.
#[must_use]
pub fn statement_of(registration: &Registration) -> Option<String> {
    Record::of(&registration.hidden)?.statement
}

impl Engine {
    /// Takes the software statement out of a request and puts its claims over the members beside it. `recorded` is the
    /// statement of the client that is updated: it stays in force when none is sent, and outlives its expiry.
    ///
    /// # Errors
    /// What is wrong with it, and an error with an issue that says so.
    pub fn take_statement(
        &self,
        body: &mut Map<String, Value>,
        recorded: Option<String>,
    ) -> Result<Option<String>, (Statement, Error)> {
        let statement = match body.remove("software_statement") {
            None | Some(Value::Null) => match recorded.clone() {
                Some(recorded) => recorded,
                None => return Ok(None),
            },
            Some(Value::String(statement)) => statement,
            Some(_) => return Err(refusal(Statement::Invalid, "it is not a string")),
        };
        let issuers = &self.options.registration.software_statements;
        let known = recorded.as_ref() == Some(&statement);
        let claims = verify(&statement, issuers, known).map_err(|(what, detail)| refusal(what, detail))?;
        outrank(body, claims);
        Ok(Some(statement))
    }
}

fn refusal(what: Statement, detail: &'static str) -> (Statement, Error) {
    let pointer = Pointer::root().child("metadata").child("software_statement");
    let issue = Issue { pointer, code: IssueCode::InvalidValue, detail: detail.to_owned() };
    (what, Error::new(ErrorKind::Validation, detail).with_issues(vec![issue]))
}

/// What is wrong with a statement, and a sentence for people that quotes nothing of it.
type Fault = (Statement, &'static str);

/// The claims of a statement that its issuer has signed for us and for now; `known` when it was verified before and may
/// have expired since.
fn verify(statement: &str, issuers: &[StatementIssuer], known: bool) -> Result<Map<String, Value>, Fault> {
    let invalid = |detail| (Statement::Invalid, detail);
    if statement.len() > MAX_STATEMENT {
        return Err(invalid("the software statement is longer than 16 KiB"));
    }
    let malformed = invalid("not a signed JWT with an `iss` claim (RFC 7591 section 2.3)");
    let (header, claims) = parts(statement).ok_or(malformed)?;
    let issuer = claims.get("iss").and_then(Value::as_str).filter(|iss| !iss.is_empty()).ok_or(malformed)?;
    let Some(issuer) = issuers.iter().find(|i| i.issuer == issuer) else {
        return Err((Statement::Unapproved, "the issuer of this software statement is not approved here"));
    };
    let word = |name: &str| header.get(name).and_then(Value::as_str);
    let algorithm = word("alg").and_then(|alg| alg.parse::<Algorithm>().ok());
    let Some(algorithm) = algorithm.filter(|a| issuer.algorithms.contains(a)) else {
        return Err(invalid("its issuer does not sign software statements with this algorithm"));
    };
    // a token of the same issuer for something else is no statement (RFC 8725 §3.11)
    if header.contains_key("typ") && !word("typ").is_some_and(|typ| typ.eq_ignore_ascii_case("JWT")) {
        return Err(invalid("its `typ` says that it is something other than a software statement"));
    }
    if header.contains_key("crit") {
        return Err(invalid("it has header parameters that must be understood and are not (RFC 7515 section 4.1.11)"));
    }
    let rules = rules(issuer, algorithm, known);
    let named = |key: &StatementKey| {
        header.get("kid").is_none_or(|kid| kid.as_str().is_some_and(|kid| key.id.as_deref() == Some(kid)))
    };
    let fits = |key: &&StatementKey| key.algorithm.is_none_or(|a| a == algorithm) && named(key);
    // the claims are those read above, of the same bytes: what counts here is whether it is good
    let mut verified = issuer.keys.iter().filter(fits);
    if !verified.any(|key| jsonwebtoken::decode::<Map<String, Value>>(statement, &key.key, &rules).is_ok()) {
        return Err(invalid("its signature, its audience or its time is not valid"));
    }
    issued(&claims, issuer, known).map_err(invalid)?;
    Ok(claims)
}

fn rules(issuer: &StatementIssuer, algorithm: Algorithm, known: bool) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.leeway = LEEWAY.as_secs();
    rules.validate_nbf = true;
    // RFC 7591 does not ask for an expiry; a claim of a wrong type is refused all the same
    rules.validate_exp = !known;
    rules.set_issuer(&[&issuer.issuer]);
    let mut required = vec!["iss"];
    if let Some(audience) = &issuer.audience {
        rules.set_audience(&[audience]);
        required.push("aud");
    }
    rules.set_required_spec_claims(&required);
    rules
}

/// Whether a statement was issued in the past, and not too long ago.
fn issued(claims: &Map<String, Value>, issuer: &StatementIssuer, known: bool) -> Result<(), &'static str> {
    let at = match claims.get("iat") {
        None if issuer.max_age.is_none() => return Ok(()),
        None => return Err("it does not say when it was issued"),
        // a NumericDate may have a fraction (RFC 7519 §2)
        Some(at) => Duration::try_from_secs_f64(at.as_f64().ok_or("its time of issue is not a number")?),
    };
    let at = at.map_err(|_| "its time of issue is no time")?;
    let now = Duration::from_millis(u64::try_from(now_ms()).unwrap_or(0));
    if at > now + LEEWAY {
        return Err("it was issued in the future");
    }
    if !known && issuer.max_age.is_some_and(|age| now.saturating_sub(at) > age + LEEWAY) {
        return Err("it was issued too long ago");
    }
    Ok(())
}

/// Puts claims over members. Members that the claims decide in another way go: the same name under a language tag, in
/// whatever case (RFC 7591 §2.2), which people would be shown instead, and lists of choices for a member that was
/// chosen.
fn outrank(body: &mut Map<String, Value>, mut claims: Map<String, Value>) {
    claims.retain(|name, value| {
        let about = ABOUT_THE_STATEMENT.contains(&name.as_str()) || SERVER_ASSIGNED.contains(&name.as_str());
        !about && !value.is_null()
    });
    let said = |name: &str| claims.keys().any(|claim| claim.eq_ignore_ascii_case(name));
    body.retain(|member, _| {
        let name = member.split_once('#').map_or(member.as_str(), |(name, _)| name);
        !said(member) && !said(name) && !choices::member_of(member).is_some_and(said)
    });
    body.append(&mut claims);
}

/// The header and the claims of a JWS in compact form that has a signature; JSON as strict as everywhere.
fn parts(statement: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let parts: Vec<&str> = statement.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return None };
    let object = |part: &str| match json::parse(&decode(part)?) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    };
    let (header, claims) = (object(header)?, object(claims)?);
    let algorithm = header.get("alg").and_then(Value::as_str)?;
    let signed = !algorithm.is_empty() && !algorithm.eq_ignore_ascii_case("none");
    (signed && decode(signature).is_some_and(|s| !s.is_empty())).then_some((header, claims))
}
/// Base64url without padding (RFC 7515 §2).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held).to_be_bytes()[3]);
        }
    }
    (text.len() % 4 != 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        hmac,
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://directory.example.com";

    fn encode(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digit = |group: &[u8], i: usize| {
            let bits = group.iter().chain([0, 0].iter()).take(3).fold(0_u32, |bits, b| bits << 8 | u32::from(*b));
            char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63])
        };
        bytes.chunks(3).flat_map(|group| (0..=group.len()).map(move |i| digit(group, i))).collect()
    }

    /// An issuer as configured, and a way to sign as it.
    struct Directory {
        pair: EcdsaKeyPair,
        issuer: StatementIssuer,
    }

    impl Directory {
        fn new(key: Value) -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let point = pair.public_key().as_ref();
            let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])});
            jwk.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
            let key = DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
            let text = |name: &str| jwk[name].as_str().map(str::to_owned);
            let key = StatementKey { id: text("kid"), algorithm: text("alg").map(|alg| alg.parse().unwrap()), key };
            let issuer = StatementIssuer {
                issuer: ISSUER.to_owned(),
                keys: vec![key],
                algorithms: vec![Algorithm::ES256],
                audience: None,
                max_age: None,
            };
            Self { pair, issuer }
        }

        fn sign(&self, header: &Value, claims: &str) -> String {
            let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.as_bytes()));
            let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", encode(signature.as_ref()))
        }

        fn verdict(&self, header: Value, members: Value) -> Result<(), Statement> {
            let mut claims = json!({"iss": ISSUER, "client_name": "C"});
            claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            self.verify(&self.sign(&header, &claims.to_string()), false)
        }

        fn verify(&self, statement: &str, known: bool) -> Result<(), Statement> {
            verify(statement, std::slice::from_ref(&self.issuer), known).map(drop).map_err(|(what, _)| what)
        }
    }

    fn now() -> i64 {
        now_ms() / 1000
    }

    const INVALID: Result<(), Statement> = Err(Statement::Invalid);

    #[test]
    fn what_an_issuer_signed_is_good_and_nothing_else() {
        let directory = Directory::new(json!({}));
        let header = json!({"alg": "ES256"});
        assert_eq!(directory.verdict(header.clone(), json!({})), Ok(()));
        let other = json!({"iss": "https://other.example"});
        assert_eq!(directory.verdict(header.clone(), other), Err(Statement::Unapproved));
        // somebody else's signature, another text under it, and a public key taken for a shared secret
        let good = directory.sign(&header, &json!({"iss": ISSUER}).to_string());
        assert_eq!(Directory::new(json!({})).verify(&good, false), INVALID);
        let (text, signature) = good.rsplit_once('.').unwrap();
        let claims = encode(json!({"iss": ISSUER, "scope": "admin"}).to_string().as_bytes());
        let head = text.split('.').next().unwrap();
        assert_eq!(directory.verify(&format!("{head}.{claims}.{signature}"), false), INVALID);
        let forged = format!("{}.{claims}", encode(br#"{"alg":"HS256"}"#));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, directory.pair.public_key().as_ref());
        let tag = hmac::sign(&secret, forged.as_bytes());
        assert_eq!(directory.verify(&format!("{forged}.{}", encode(tag.as_ref())), false), INVALID);
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "ES384"}),
            json!({"alg": "RS256"}),
            json!({"alg": "es256"}),
            json!({"alg": "ES256", "typ": "at+jwt"}),
            json!({"alg": "ES256", "typ": 1}),
            json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
            json!({"alg": "ES256", "kid": "another"}),
            json!({"alg": "ES256", "kid": null}),
            json!({}),
        ] {
            assert_eq!(directory.verdict(header.clone(), json!({})), INVALID, "{header}");
        }
        assert_eq!(directory.verdict(json!({"alg": "ES256", "typ": "jwt"}), json!({})), Ok(()));
        // the first of two claims of one name would count for some, the second for others
        let twice = format!(r#"{{"iss":"{ISSUER}","scope":"a","scope":"b"}}"#);
        assert_eq!(directory.verify(&directory.sign(&header, &twice), false), INVALID);
        let long = json!({"iss": ISSUER, "client_name": "x".repeat(MAX_STATEMENT)}).to_string();
        assert_eq!(directory.verify(&directory.sign(&header, &long), false), INVALID);
    }

    #[test]
    fn times_are_held() {
        let mut directory = Directory::new(json!({}));
        let header = json!({"alg": "ES256"});
        let leeway = i64::try_from(LEEWAY.as_secs()).unwrap();
        for (good, members) in [
            (true, json!({"exp": now() + 600, "nbf": now() - 600, "iat": now() - 600})),
            (true, json!({"iat": 1.5})),
            (false, json!({"exp": now() - leeway - 5})),
            (false, json!({"exp": "4000000000"})),
            (false, json!({"nbf": now() + leeway + 60})),
            (false, json!({"nbf": "0"})),
            (false, json!({"iat": now() + leeway + 60})),
            (false, json!({"iat": "0"})),
            (false, json!({"iat": -1})),
            (false, json!({"iat": 1e300})),
        ] {
            let wanted = if good { Ok(()) } else { INVALID };
            assert_eq!(directory.verdict(header.clone(), members.clone()), wanted, "{members}");
        }
        directory.issuer.max_age = Some(Duration::from_hours(1));
        assert_eq!(directory.verdict(header.clone(), json!({"iat": now() - 1800})), Ok(()));
        assert_eq!(directory.verdict(header.clone(), json!({"iat": now() - 7200})), INVALID);
        assert_eq!(directory.verdict(header.clone(), json!({})), INVALID);
        // what was good once may be sent again in an update, but by nobody else and not under another key
        let old = json!({"iss": ISSUER, "iat": now() - 7200, "exp": now() - 7200}).to_string();
        let old = directory.sign(&header, &old);
        assert_eq!((directory.verify(&old, false), directory.verify(&old, true)), (INVALID, Ok(())));
        assert_eq!(Directory::new(json!({})).verify(&old, true), INVALID);
        assert_eq!(verify(&old, &[], true).map_err(|(what, _)| what).map(drop), Err(Statement::Unapproved));
    }

    #[test]
    fn audiences_and_keys_are_held() {
        let mut directory = Directory::new(json!({"kid": "k1", "alg": "ES256"}));
        let header = json!({"alg": "ES256", "kid": "k1"});
        assert_eq!(directory.verdict(json!({"alg": "ES256", "kid": "k2"}), json!({})), INVALID);
        assert_eq!(directory.verdict(json!({"alg": "ES256"}), json!({})), Ok(()), "the only key");
        let me = "https://registrar.example.com";
        assert_eq!(directory.verdict(header.clone(), json!({"aud": me})), INVALID, "nobody here is called that");
        directory.issuer.audience = Some(me.to_owned());
        for (good, aud) in [
            (true, json!(me)),
            (true, json!(["https://b.example", me])),
            (false, json!("https://b.example")),
            (false, json!([])),
            (false, json!(null)),
            (false, json!({"a": me})),
        ] {
            let wanted = if good { Ok(()) } else { INVALID };
            assert_eq!(directory.verdict(header.clone(), json!({ "aud": aud })), wanted, "{aud}");
        }
        assert_eq!(directory.verdict(header, json!({})), INVALID);
        // a key that is for another algorithm
        let directory = Directory::new(json!({"alg": "ES384"}));
        assert_eq!(directory.verdict(json!({"alg": "ES256"}), json!({})), INVALID);
    }

    #[test]
    fn claims_go_over_members() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let mut body = object(json!({
            "client_name": "mine", "client_name#FR": "le mien", "scope": "a b", "contacts": ["c"],
            "id_token_signing_alg_values_supported": ["ES256"], "userinfo_signing_alg_values_supported": ["ES256"],
        }));
        outrank(
            &mut body,
            object(json!({
                "iss": ISSUER, "aud": "x", "exp": 1, "client_id": "chosen", "client_secret": "chosen", "scope": "a",
                "client_name#fr": "le v\u{f4}tre", "contacts": null, "id_token_signed_response_alg": "RS256",
            })),
        );
        let wanted = json!({
            "client_name": "mine", "client_name#fr": "le v\u{f4}tre", "scope": "a", "contacts": ["c"],
            "id_token_signed_response_alg": "RS256", "userinfo_signing_alg_values_supported": ["ES256"],
        });
        assert_eq!(Value::Object(body), wanted);
    }

    #[test]
    fn a_name_that_is_vouched_for_has_no_other_in_any_language() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let mut body = object(json!({
            "client_name": "mine", "client_name#en": "Your Bank", "CLIENT_NAME#de": "Ihre Bank", "client_name#fr": "x",
            "logo_uri#en": "https://a.example/logo", "client_name_of_nobody#en": "stays",
        }));
        outrank(&mut body, object(json!({ "client_name": "Acme", "client_name#FR": "Acm\u{e9}" })));
        let wanted = json!({
            "client_name": "Acme", "client_name#FR": "Acm\u{e9}", "logo_uri#en": "https://a.example/logo",
            "client_name_of_nobody#en": "stays",
        });
        assert_eq!(Value::Object(body), wanted);
    }
}
