//! Sealing one-time secrets for the caller's own repetition of a request (reliability §2.6).
//!
//! The key is derived from the gateway's key and from the idempotency key, which the gateway does not keep: whoever has
//! the database alone cannot open what is sealed in it.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand,
};
use registrar_core::{Error, ErrorKind, Result};

/// The gateway's part of the key, 32 bytes.
pub(crate) struct Vault([u8; 32]);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

struct Aes256;

impl KeyType for Aes256 {
    fn len(&self) -> usize {
        32
    }
}

impl Vault {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Random bytes for a new vault.
    pub(crate) fn fresh() -> Result<[u8; 32]> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| failed())?;
        Ok(key)
    }

    fn key(&self, context: &str, caller: &str) -> Result<LessSafeKey> {
        let info = [b"registrar sealed secret 1".as_slice(), context.as_bytes()];
        let mut key = [0; 32];
        let derived = Salt::new(HKDF_SHA256, &self.0).extract(caller.as_bytes());
        derived.expand(&info, Aes256).and_then(|okm| okm.fill(&mut key)).map_err(|_| failed())?;
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(|_| failed())?))
    }

    /// Nonce, ciphertext and tag. `context` says what it belongs to (an operation, a registration); `caller` is the key
    /// that only the caller has, or empty for what the gateway opens by itself.
    pub(crate) fn seal(&self, context: &str, caller: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = plain.to_vec();
        self.key(context, caller)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(|_| failed())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed in this context under this caller's key; `None` for anything else.
    pub(crate) fn open(&self, context: &str, caller: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key(context, caller).ok()?.open_in_place(nonce, Aad::empty(), &mut plain).ok()?;
        Some(opened.to_vec())
    }
}

fn failed() -> Error {
    Error::new(ErrorKind::Internal, "the cryptographic library failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_operation_key_and_gateway_open_it() {
        let vault = Vault::new([1; 32]);
        let (one, other) = ("op_1", "op_2");
        let sealed = vault.seal(one, "key", b"s3cret").unwrap();
        assert_eq!(vault.open(one, "key", &sealed).as_deref(), Some(b"s3cret".as_slice()));
        assert_eq!(vault.open(one, "kex", &sealed), None);
        assert_eq!(vault.open(other, "key", &sealed), None);
        assert_eq!(Vault::new([2; 32]).open(one, "key", &sealed), None);
        assert_ne!(vault.seal(one, "key", b"s3cret").unwrap(), sealed, "never the same twice");
        assert!(!sealed.windows(6).any(|w| w == b"s3cret"));
    }

    #[test]
    fn what_was_touched_does_not_open() {
        let vault = Vault::new([1; 32]);
        let id = "op_1";
        let sealed = vault.seal(id, "key", b"s3cret").unwrap();
        for i in 0..sealed.len() {
            let mut touched = sealed.clone();
            touched[i] ^= 1;
            assert_eq!(vault.open(id, "key", &touched), None, "byte {i}");
            assert_eq!(vault.open(id, "key", &sealed[..i]), None, "{i} bytes");
        }
    }
}
