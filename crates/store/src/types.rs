//! What is stored.

use std::fmt;

use registrar_core::Outcome;
use registrar_model::{BackendName, OperationId, Registration, RegistrationId};
use serde::{Serialize, Serializer};
use serde_json::Value;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word in JSON and in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value with this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// What an operation does.
    Action {
        /// Registers a client.
        Create = "create",
        /// Changes one.
        Update = "update",
        /// Deletes one.
        Delete = "delete",
        /// Issues a new secret.
        Rotate = "rotate",
    }
}

words! {
    /// Where an operation stands.
    OperationState {
        /// The intent is recorded; the vendor may be working on it.
        Pending = "pending",
        /// The vendor confirmed it.
        Succeeded = "succeeded",
        /// It was not done.
        Failed = "failed",
        /// Nobody knows whether it was done.
        Unknown = "unknown",
    }
}

/// One journalled write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub action: Action,
    /// The backend's name.
    pub backend: String,
    /// The registration that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationId>,
    /// Where it stands.
    pub state: OperationState,
    /// Whether the vendor was changed.
    pub outcome: Outcome,
    /// A sentence.
    pub summary: String,
    /// Unix milliseconds; RFC 3339 text in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: i64,
    /// Unix milliseconds; RFC 3339 text in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: i64,
    /// How often the vendor was called.
    pub attempts: u32,
    /// What is known, as an object; never a secret.
    pub evidence: Value,
    /// The request that asked for it.
    pub request_id: String,
    /// Who asked.
    pub principal: String,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationUpdate {
    /// Which.
    pub id: OperationId,
    /// The new state.
    pub state: OperationState,
    /// Whether the vendor was changed.
    pub outcome: Outcome,
    /// A sentence.
    pub summary: String,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// How often the vendor was called.
    pub attempts: u32,
    /// What is known, as an object; never a secret.
    pub evidence: Value,
}

/// What an operation does to its registration.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistrationChange {
    /// A new one.
    Insert(Registration),
    /// A new version.
    Update {
        /// The new content.
        registration: Registration,
        /// The version that it replaces.
        expected_version: u64,
    },
    /// It is gone; its operations stay.
    Remove {
        /// Which.
        id: RegistrationId,
    },
}

/// Which registrations to list; all when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationFilter {
    /// At this backend.
    pub backend: Option<BackendName>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// With this text in the client's name or id, in any case.
    pub q: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many, 1 to 200.
    pub limit: u32,
    /// The cursor of the page before.
    pub after: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct PageOf<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; absent at the end.
    pub next: Option<String>,
}

/// A named API key, without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part.
    pub id: String,
    /// Its name; unique.
    pub name: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: Vec<String>,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// The hash is not shown.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

fn rfc3339<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::from_millisecond(*ms) {
        Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
        Err(_) => serializer.serialize_i64(*ms),
    }
}

/// What a search for a text looks at, in lower case.
pub(crate) fn search_text(registration: &Registration) -> String {
    let name = registration.spec.metadata.client_name.as_deref().unwrap_or_default();
    format!("{}\n{}", name.to_lowercase(), registration.client_id.as_str().to_lowercase())
}
