//! The gateway's own tokens of the standards face. Only their SHA-256 is stored.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use registrar_core::{Error, ErrorKind, ExposeSecret as _, Result, SecretString};
use registrar_store::{InitialAccessToken, Store};

use super::Terms;
use crate::{
    clock::now_ms,
    engine::store_error,
    keys::{hash, random_hex},
};

/// Registration access tokens (RFC 7592 §3): `rat_`, 256 random bits, 32 bits of checksum, in hexadecimal.
const MANAGEMENT: &str = "rat_";
/// Initial access tokens (RFC 7591 §3): `iat_<id>_<secret>`.
const INITIAL: &str = "iat_";

/// A new registration access token and the hash that is stored of it.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn new_access_token() -> Result<(SecretString, [u8; 32])> {
    let body = format!("{MANAGEMENT}{}", random_hex::<32>()?);
    let token = format!("{body}{}", checksum(&body));
    let stored = hash(&token);
    Ok((SecretString::from(token), stored))
}

/// The hash of a presented registration access token; `None` when it cannot be one (a typo, a token of another kind).
#[must_use]
pub(crate) fn access_token_hash(token: &str) -> Option<[u8; 32]> {
    let (body, sum) = token.split_at_checked(MANAGEMENT.len() + 64)?;
    (body.starts_with(MANAGEMENT) && body.is_ascii() && checksum(body) == sum).then(|| hash(token))
}

/// Compares in constant time.
#[must_use]
pub(crate) fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// Enough to recognise typos, and for secret scanners to be sure.
fn checksum(text: &str) -> String {
    hash(text).iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// An initial access token as just made; the token is shown once.
#[derive(Debug)]
pub struct NewInitialAccessToken {
    /// What is recorded of it.
    pub record: InitialAccessToken,
    /// The whole token.
    pub token: SecretString,
}

/// What an initial access token is to allow.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// What it is for, for people.
    pub name: String,
    /// How many registrations; any number when absent.
    pub uses: Option<u32>,
    /// Unix milliseconds; it does not end when absent.
    pub expires_at: Option<i64>,
    /// What it may be used for.
    pub terms: Terms,
}

impl Grant {
    /// A grant that ends after so many seconds.
    #[must_use]
    pub fn for_seconds(name: String, uses: Option<u32>, seconds: Option<u64>, terms: Terms) -> Self {
        let millis = |s: u64| i64::try_from(s.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self { name, uses, expires_at: seconds.map(|s| now_ms().saturating_add(millis(s))), terms }
    }
}

/// Makes an initial access token and records its hash.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] for a name that is empty or longer than 255 bytes, no uses, or an end in the past.
pub async fn create(store: &dyn Store, grant: Grant) -> Result<NewInitialAccessToken> {
    let invalid = |detail: &'static str| Err(Error::new(ErrorKind::InvalidRequest, detail));
    let now = now_ms();
    if !(1..=255).contains(&grant.name.len()) || grant.name.chars().any(char::is_control) {
        return invalid("`name` is 1 to 255 bytes without control characters");
    }
    if grant.uses == Some(0) {
        return invalid("`uses` is at least 1");
    }
    if grant.expires_at.is_some_and(|end| end <= now) {
        return invalid("the token would end before it begins");
    }
    let id = random_hex::<8>()?;
    let token = SecretString::from(format!("{INITIAL}{id}_{}", random_hex::<32>()?));
    let terms = serde_json::to_value(&grant.terms)
        .map_err(|_| Error::new(ErrorKind::Internal, "the terms cannot be written"))?;
    let record = InitialAccessToken {
        id,
        name: grant.name,
        hash: hash(token.expose_secret()),
        created_at: now,
        expires_at: grant.expires_at,
        uses_left: grant.uses,
        terms,
    };
    store.put_initial_access_token(record.clone()).await.map_err(store_error)?;
    Ok(NewInitialAccessToken { record, token })
}

/// The record of a presented initial access token that has not ended. Nothing is spent yet; one that is used up may
/// still ask for the answer to its last use, and is refused when it is to be spent.
///
/// # Errors
/// [`ErrorKind::InvalidToken`], the same for unknown, wrong and ended tokens.
pub(crate) async fn verify(store: &dyn Store, token: &str) -> Result<InitialAccessToken> {
    let id = token.strip_prefix(INITIAL).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
    let id = id.filter(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(refused)?;
    let found = store.initial_access_token(id).await.map_err(store_error)?;
    // an unknown id costs the same comparison as a wrong secret
    let stored = found.as_ref().map_or([0; 32], |t| t.hash);
    let equal = is_same(&hash(token), &stored);
    let now = now_ms();
    found.filter(|t| equal && t.expires_at.is_none_or(|end| now < end)).ok_or_else(refused)
}

/// What every unusable initial access token is told.
pub(crate) fn refused() -> Error {
    Error::new(ErrorKind::InvalidToken, "the initial access token is not valid, or is used up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_tokens_are_long_different_and_checked() {
        let (a, hash_a) = new_access_token().unwrap();
        let (b, hash_b) = new_access_token().unwrap();
        assert_ne!(hash_a, hash_b);
        assert_eq!(a.expose_secret().len(), 4 + 64 + 8);
        assert_eq!(access_token_hash(a.expose_secret()), Some(hash_a));
        let typo = a.expose_secret().replacen(['0', '1', '2'], "f", 1);
        for bad in ["", "rat_", &typo, "rk_x", &"\u{e9}".repeat(40), &b.expose_secret()[..75]] {
            assert_eq!(access_token_hash(bad), None, "{bad}");
        }
    }
}
