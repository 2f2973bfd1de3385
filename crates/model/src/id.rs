//! Identifiers: gateway-owned (`reg_…`, `op_…`), configured (`BackendName`), and the vendor's (`ClientId`).

use std::{
    borrow::Borrow,
    fmt,
    str::{self, FromStr},
    sync::Arc,
};

use serde::{Deserialize, Serialize, Serializer};
use uuid::{Uuid, fmt::Hyphenated};

/// Why a string is not an identifier of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    what: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}", self.what)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered by time (UUIDv7, RFC 9562).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // in one piece, so that a `String` that it goes to is allocated once
                let mut text = [0; $prefix.len() + Hyphenated::LENGTH];
                let (prefix, uuid) = text.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                self.0.hyphenated().encode_lower(uuid);
                f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let uuid = text.strip_prefix($prefix).and_then(|hex| {
                    let uuid = Uuid::try_parse(hex).ok()?;
                    // one spelling only: what Display prints
                    (uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == hex).then_some(uuid)
                });
                uuid.map(Self).ok_or(InvalidId { what: $what })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

prefixed_id!(
    /// The gateway's record of one client: `reg_` and a UUIDv7 (RFC 9562, hyphenated).
    RegistrationId, "reg_", "a registration id (reg_ and a UUID)"
);
prefixed_id!(
    /// One journalled write: `op_` and a UUIDv7 (RFC 9562, hyphenated).
    OperationId, "op_", "an operation id (op_ and a UUID)"
);

/// The name of a configured backend: 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.`, starting with a letter or digit. Shared,
/// because everything that concerns a backend carries its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct BackendName(Arc<str>);

impl BackendName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackendName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=63).contains(&text.len())
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || matches!(b, b'-' | b'_' | b'.'));
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId { what: "a name (1 to 63 of a-z, 0-9, '-', '_', '.', starting with a letter or digit)" })
        }
    }
}

impl TryFrom<String> for BackendName {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl Serialize for BackendName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A name is looked up by its text.
impl Borrow<str> for BackendName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `client_id` as the vendor issued it: non-empty, VSCHAR only (RFC 6749 Appendix A.1), at most 512 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientId(String);

impl ClientId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ok = (1..=512).contains(&text.len()) && text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if ok { Ok(Self(text.to_owned())) } else { Err(InvalidId { what: "a client_id (1 to 512 VSCHAR)" }) }
    }
}

impl TryFrom<String> for ClientId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = RegistrationId::generate();
        assert_eq!(id.to_string().parse::<RegistrationId>(), Ok(id));
        let upper = id.to_string().to_uppercase().replace("REG_", "reg_");
        if upper != id.to_string() {
            assert!(upper.parse::<RegistrationId>().is_err());
        }
        for other in [
            format!("reg_{}", id.0.simple()),
            format!("reg_{}", id.0.braced()),
            format!("reg_{}", id.0.urn()),
            format!("op_{}", id.0),
        ] {
            assert!(other.parse::<RegistrationId>().is_err(), "{other}");
        }
        assert!("op_0".parse::<OperationId>().is_err());
        assert!(id.to_string().parse::<OperationId>().is_err());
    }

    #[test]
    fn backend_names_are_plain() {
        assert!("loop-eu".parse::<BackendName>().is_ok());
        for bad in ["", "-a", "A", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<BackendName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn client_ids_are_vschar() {
        assert!("app-123".parse::<ClientId>().is_ok());
        for bad in ["", "a\n", "é", "a\u{7f}"] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad:?}");
        }
    }
}
