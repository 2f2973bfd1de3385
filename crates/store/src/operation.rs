//! The journal: one operation per write to a vendor.

use std::{borrow::Cow, sync::Arc};

use registrar_core::Outcome;
use registrar_model::{OperationId, RegistrationId, json::text};
use serde::{Serialize, Serializer};
use serde_json::Value;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in JSON and in the store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of a word, exactly as [`as_str`](Self::as_str) spells it.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.as_str() == word)
            }
        }
    };
}

words! {
    /// What an operation does.
    Action {
        /// Registers a client.
        Create = "create",
        /// Replaces a client's registration.
        Update = "update",
        /// Deletes or disables a client.
        Delete = "delete",
        /// Replaces a client's secret.
        Rotate = "rotate",
    }
}

words! {
    /// How far an operation is.
    OperationState {
        /// The intent is durable; the vendor may have been called.
        Pending = "pending",
        /// The vendor confirmed it.
        Succeeded = "succeeded",
        /// The vendor refused it, or it was never done.
        Failed = "failed",
        /// Nobody knows whether the vendor did it.
        Unknown = "unknown",
    }
}

impl OperationState {
    /// Whether the result is known and final.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// One journalled write. Its JSON is the answer of `GET /v1/operations/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// The id.
    pub id: OperationId,
    /// What it does.
    pub action: Action,
    /// The backend's name.
    pub backend: String,
    /// Which registration, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationId>,
    /// How far it is.
    pub state: OperationState,
    /// Whether the vendor was changed; [`Outcome::Unknown`] as long as it is pending.
    pub outcome: Outcome,
    /// A sentence for people; never holds a secret.
    pub summary: Cow<'static, str>,
    /// Unix milliseconds; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: i64,
    /// Unix milliseconds; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: i64,
    /// How many times the vendor was, or may have been, called.
    pub attempts: u32,
    /// What is known about it, as an object; never holds a secret.
    pub evidence: Value,
    /// The request that caused it; for correlation with the log, not shown.
    #[serde(skip)]
    pub request_id: Arc<str>,
    /// Who asked for it; not shown.
    #[serde(skip)]
    pub principal: Arc<str>,
    /// What was asked for, as the text of a JSON object, to compare the vendor with; not shown, never holds a secret, and
    /// gone once the operation is final.
    #[serde(skip)]
    pub desired: Option<String>,
    /// Who works on it, while it is not final; not shown.
    #[serde(skip)]
    pub lease: Lease,
}

/// The right to work on an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The process that has it.
    pub owner: Arc<str>,
    /// Unix milliseconds; afterwards another process may take it.
    pub until: i64,
    /// Grows with every owner.
    pub fence: u64,
}

/// A one-time secret that only who knows the idempotency key of its request can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
    /// Unix milliseconds; afterwards it is destroyed.
    pub until: i64,
}

/// What is known about an operation: the text of a JSON object. It is written into the store as it is, so that no tree of
/// values is built for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence(Cow<'static, str>);

impl Evidence {
    /// No evidence.
    pub const NONE: Self = Self(Cow::Borrowed("{}"));

    /// The evidence with the members of a value, which must be an object and must hold no secret.
    pub fn of(members: &impl Serialize) -> Self {
        // only a map whose keys are not text has no JSON, and no evidence is one
        text(members, 256).map_or(Self::NONE, |text| Self(Cow::Owned(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<Value> for Evidence {
    fn from(value: Value) -> Self {
        Self(Cow::Owned(value.to_string()))
    }
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationUpdate {
    /// Which operation.
    pub id: OperationId,
    /// How far it is now.
    pub state: OperationState,
    /// Whether the vendor was changed.
    pub outcome: Outcome,
    /// A sentence for people; never holds a secret.
    pub summary: Cow<'static, str>,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// How many times the vendor was, or may have been, called.
    pub attempts: u32,
    /// What is known about it; never holds a secret.
    pub evidence: Evidence,
    /// The fence of the lease under which this was found out.
    pub fence: u64,
    /// The secret that was issued, for the caller's repetition of the request.
    pub sealed: Option<Sealed>,
    /// Forgets the idempotency key: the same request may be tried anew.
    pub release_key: bool,
    /// The id of the initial access token that gets its use back, because the use led to nothing.
    pub refund: Option<String>,
    /// For an operation that is not final: Unix milliseconds, when it may be claimed to be looked into again.
    pub retry_at: i64,
}

impl OperationUpdate {
    /// What became of an operation, found out under its lease at `now` (Unix milliseconds), and nothing besides: no
    /// evidence, no secret, and the idempotency key stays.
    #[must_use]
    pub fn of(
        operation: &Operation,
        state: OperationState,
        outcome: Outcome,
        summary: impl Into<Cow<'static, str>>,
        now: i64,
    ) -> Self {
        Self {
            id: operation.id,
            state,
            outcome,
            summary: summary.into(),
            updated_at: now,
            attempts: operation.attempts,
            evidence: Evidence::NONE,
            fence: operation.lease.fence,
            sealed: None,
            release_key: false,
            refund: None,
            retry_at: 0,
        }
    }
}

fn rfc3339<S: Serializer>(milliseconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let time = jiff::Timestamp::from_millisecond(*milliseconds).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn intent() -> Operation {
        Operation {
            id: OperationId::generate(),
            action: Action::Create,
            backend: "prod-eu".to_owned(),
            registration: None,
            state: OperationState::Pending,
            outcome: Outcome::Unknown,
            summary: "create a client".into(),
            created_at: 1_767_225_600_000,
            updated_at: 1_767_225_600_042,
            attempts: 1,
            evidence: json!({"sent": true}),
            request_id: "hidden-request".into(),
            principal: "hidden-principal".into(),
            desired: Some(r#"{"hidden": "desired"}"#.to_owned()),
            lease: Lease { owner: "hidden-owner".into(), until: 7, fence: 1 },
        }
    }

    #[test]
    fn json_is_the_contract() {
        let id = RegistrationId::generate();
        let operation = Operation { registration: Some(id), ..intent() };
        let expected = json!({
            "id": operation.id.to_string(), "action": "create", "backend": "prod-eu",
            "registration": id.to_string(), "state": "pending", "outcome": "unknown", "summary": "create a client",
            "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.042Z",
            "attempts": 1, "evidence": {"sent": true},
        });
        assert_eq!(serde_json::to_value(&operation).unwrap(), expected);
    }

    #[test]
    fn an_absent_registration_is_absent() {
        let value = serde_json::to_value(intent()).unwrap();
        assert!(value.get("registration").is_none(), "{value}");
    }

    #[test]
    fn words_round_trip() {
        for state in OperationState::ALL {
            assert_eq!(OperationState::from_word(state.as_str()), Some(*state));
            assert_eq!(serde_json::to_value(state).unwrap(), json!(state.as_str()));
        }
        for action in Action::ALL {
            assert_eq!(Action::from_word(action.as_str()), Some(*action));
        }
        assert_eq!(Action::from_word("Create"), None);
    }
}
