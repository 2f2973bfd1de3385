//! Tokens that allow a dynamic registration (RFC 7591 §3).

use std::fmt;

use serde_json::Value;

/// An initial access token. The token itself is not stored.
#[derive(Clone, PartialEq)]
pub struct InitialAccessToken {
    /// The public part.
    pub id: String,
    /// What it is for, for people.
    pub name: String,
    /// SHA-256 of the secret part.
    pub hash: [u8; 32],
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; afterwards it allows nothing.
    pub expires_at: Option<i64>,
    /// How many registrations it still allows; any number when absent.
    pub uses_left: Option<u32>,
    /// What it may be used for, as an object; the engine's business.
    pub terms: Value,
}

/// The hash is not shown.
impl fmt::Debug for InitialAccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitialAccessToken").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl InitialAccessToken {
    /// Whether it allows a registration at this time (Unix milliseconds).
    #[must_use]
    pub fn is_usable(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|end| now < end) && self.uses_left != Some(0)
    }
}
