//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same request with the same key is one write,
//! however often it is sent.

use std::{fmt, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use registrar_core::{Error, ErrorKind, ExposeSecret, Result, SecretString};
use registrar_model::RegistrationId;
use registrar_store::KeyClaim;

/// How long a key is remembered after its first use.
pub const KEY_LIFETIME: Duration = Duration::from_hours(24);

/// How long an issued secret is kept, sealed, for a repetition of its request.
pub const SECRET_WINDOW: Duration = Duration::from_mins(10);

/// How many random bits make a key that nobody guesses.
const LEAST_BITS: u64 = 128;
/// Random text of that length has at least as many different characters: with fewer it is a repetition.
const LEAST_DISTINCT: usize = 7;

/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// The idempotency key of a request.
#[derive(Clone)]
pub struct Idempotency {
    /// Opens the sealed secret; never stored.
    text: SecretString,
    hash: [u8; 32],
    fingerprint: [u8; 32],
    lifetime: Duration,
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idempotency")
    }
}

impl Idempotency {
    /// The key that a caller sent. `request` is everything that makes the request what it is: verb, path and body in one
    /// canonical form. Keys of different principals are different keys.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] when it is empty, longer than 255 bytes, or not visible ASCII.
    pub fn sent(principal: &str, key: &str, request: &[u8]) -> Result<Self> {
        // an sf-string (RFC 8941) as the draft has it, or the bare text that most clients send
        let text = key.trim();
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        if text.is_empty() || text.len() > MAX_KEY || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            let detail = format!("Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters, for example a UUID");
            return Err(Error::new(ErrorKind::InvalidRequest, detail));
        }
        Ok(Self::of("sent", principal, text, request, KEY_LIFETIME))
    }

    /// The key of a caller that sent none, where the configuration makes one: equal requests within `window` are one.
    #[must_use]
    pub fn implicit(principal: &str, request: &[u8], window: Duration) -> Self {
        let text = hex(&sha256(&[request]));
        Self::of("implicit", principal, &text, request, window)
    }

    /// The key under which a client that was never used is deleted. An hour after a failure that asking again does not mend,
    /// it is another one.
    pub(crate) fn of_expiry(id: RegistrationId, now: i64) -> Self {
        let text = format!("{id} {}", now.div_euclid(60 * 60 * 1000));
        Self::of("expiry", "", &text, b"", KEY_LIFETIME)
    }

    fn of(origin: &str, principal: &str, text: &str, request: &[u8], lifetime: Duration) -> Self {
        let hash = sha256(&[origin.as_bytes(), principal.as_bytes(), text.as_bytes()]);
        Self { text: SecretString::from(text.to_owned()), hash, fingerprint: sha256(&[request]), lifetime }
    }

    pub(crate) fn claim(&self, now: i64) -> KeyClaim {
        let lifetime = i64::try_from(self.lifetime.as_millis()).unwrap_or(i64::MAX);
        KeyClaim { key: self.hash, fingerprint: self.fingerprint, since: now.saturating_sub(lifetime) }
    }

    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whether the key cannot be guessed: a random UUID (version 4), or as long as 128 random bits are in its alphabet. A
    /// long key may be predictable all the same; that is for its maker to know.
    pub(crate) fn is_unguessable(&self) -> bool {
        let text = self.text();
        if let (36, Ok(uuid)) = (text.len(), uuid::Uuid::try_parse(text)) {
            return uuid.get_version_num() == 4;
        }
        let has = |class: fn(&u8) -> bool| text.bytes().any(|b| class(&b));
        let kinds = [
            (has(u8::is_ascii_digit), 10),
            (has(u8::is_ascii_lowercase), 26),
            (has(u8::is_ascii_uppercase), 26),
            // a separator adds little
            (has(|b| !b.is_ascii_alphanumeric()), 2),
        ];
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit()) && kinds[1].0 != kinds[2].0;
        let letters: u64 = if is_hex { 16 } else { kinds.iter().filter(|(there, _)| *there).map(|(_, n)| n).sum() };
        let mut distinct: Vec<u8> = text.bytes().collect();
        distinct.sort_unstable();
        distinct.dedup();
        // whole bits of eight characters at once: those of one are a fraction
        let bits = u64::from(letters.pow(8).ilog2()) * text.len() as u64 / 8;
        distinct.len() >= LEAST_DISTINCT && bits >= LEAST_BITS
    }

    /// What the caller's half of the sealing key is made of.
    pub(crate) fn text(&self) -> &str {
        self.text.expose_secret()
    }
}

/// 32 bytes of a key of any length.
pub(crate) fn stretched(key: &SecretString) -> [u8; 32] {
    sha256(&[b"registrar seal key", key.expose_secret().as_bytes()])
}

/// Each part with its length before it, so that no two lists of parts are alike.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_its_principal_and_request() {
        let key = Idempotency::sent("ci", "k1", b"a").unwrap();
        assert_eq!(key.hash, Idempotency::sent("ci", " \"k1\" ", b"b").unwrap().hash, "both spellings");
        for other in [Idempotency::sent("cj", "k1", b"a").unwrap(), Idempotency::sent("ci", "k2", b"a").unwrap()] {
            assert_ne!(key.hash, other.hash);
        }
        assert_ne!(key.fingerprint, Idempotency::sent("ci", "k1", b"b").unwrap().fingerprint);
        // no caller can name an implicit key
        let implicit = Idempotency::implicit("ci", b"a", Duration::from_secs(60));
        assert_ne!(implicit.hash, Idempotency::sent("ci", implicit.text(), b"a").unwrap().hash);
        assert_eq!(implicit.claim(70_000).since, 10_000);
    }

    #[test]
    fn what_is_unguessable_is_long_for_its_alphabet() {
        let is = |key: &str| Idempotency::sent("open", key, b"").unwrap().is_unguessable();
        for strong in [
            "8e03978e-40d5-43e8-bc93-6894a57f9324",
            "8E03978E-40D5-43E8-BC93-6894A57F9324",
            "8e03978e40d543e8bc936894a57f9324",
            "dGhpcyBpcyByYW5kb20_Zm-9",
            "Vqz7Wm1pLx0dTt9KfR2bYs",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVXX",
            "3141592653589793238462643383279502884197",
        ] {
            assert!(is(strong), "{strong}");
        }
        for weak in [
            "1",
            "k1",
            "registration-1",
            "01890b2e-7bd1-7000-8000-000000000001",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "8e03978e40d543e8bc936894a57f932",
            "31415926535897932384626433832795",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "00000000000000000000000000000000000000000000000001",
        ] {
            assert!(!is(weak), "{weak}");
        }
    }

    #[test]
    fn unusable_keys_are_refused() {
        for bad in ["", " ", "\"\"", "caf\u{e9}", "a\u{7}b", &"x".repeat(256)] {
            assert_eq!(Idempotency::sent("ci", bad, b"").unwrap_err().kind(), ErrorKind::InvalidRequest, "{bad:?}");
        }
    }
}
