//! Keys for callers of the gateway's own API.

use std::fmt;

/// A key of the gateway's own API, without the key itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part of the key; finds the row.
    pub id: String,
    /// A unique name for people.
    pub name: String,
    /// SHA-256 of the secret part, which has 256 random bits and so needs no slow hash.
    pub hash: [u8; 32],
    /// What the key may do.
    pub scopes: Vec<String>,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_print_the_hash() {
        let key = ApiKey {
            id: "k1".to_owned(),
            name: "ci".to_owned(),
            hash: [171; 32],
            scopes: vec!["clients:read".to_owned()],
            created_at: 1,
        };
        let text = format!("{key:?}");
        assert!(text.contains("ci") && text.contains("clients:read"), "{text}");
        assert!(!text.contains("171") && !text.contains("hash"), "{text}");
    }
}
