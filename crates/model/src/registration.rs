//! The gateway's record of one client.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

use crate::{
    id::{BackendName, ClientId, RegistrationId},
    spec::ClientSpec,
};

/// Where a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Usable.
    Active,
    /// Exists at the vendor, switched off.
    Disabled,
    /// A write to it ended without a known outcome.
    Unknown,
    /// No longer at the vendor.
    Gone,
}

impl State {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
        }
    }
}

/// One registered client. Never holds its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The gateway's id.
    pub id: RegistrationId,
    /// Where it lives.
    pub backend: BackendName,
    /// The vendor kind of that backend when the client was registered.
    pub kind: String,
    /// As issued by the vendor; unique within a backend only.
    pub client_id: ClientId,
    /// What the vendor's paths address the client by; never shown.
    pub vendor_ref: String,
    /// Unix seconds (RFC 7591 §3.2.1).
    pub client_id_issued_at: Option<i64>,
    /// Counts writes; the `ETag`.
    pub version: u64,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// Where it stands.
    pub state: State,
    /// What the record shows: the vendor's values plus what only the gateway keeps.
    pub spec: Arc<ClientSpec>,
    /// What the vendor showed after the last write; drift is measured against it. Mostly the very value of `spec`, which
    /// is why both are shared.
    pub observed: Arc<ClientSpec>,
    /// The gateway's own labels.
    pub labels: BTreeMap<String, String>,
    /// What is kept and never shown.
    pub hidden: Hidden,
}

/// What the gateway keeps to manage a client or to recognise it, and shows to nobody.
#[derive(Clone, Default, PartialEq)]
pub struct Hidden {
    /// The vendor's own RFC 7592 URI and token, sealed.
    pub management: Option<Vec<u8>>,
    /// SHA-256 of the registration access token that the gateway gave out (RFC 7592 §3).
    pub access_token: Option<[u8; 32]>,
    /// The hash of the token before it, and until when that still works, in Unix milliseconds.
    pub previous_access_token: Option<([u8; 32], i64)>,
    /// What the standards face knows of a client that was registered there, as an object; the engine's business.
    pub dcr: Option<Value>,
    /// The route at which it was registered by somebody without a token; clients of an open route are counted.
    pub open_route: Option<String>,
    /// When such a client is deleted if it is not used before, in Unix milliseconds; the one of these that is shown. A
    /// change of the registration can clear it and never set it.
    pub unused_until: Option<i64>,
    /// What the gateway has noticed of the client. Whether its management is lost is shown.
    pub notes: Notes,
}

/// What the gateway has noticed of a client and no vendor shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// The server no longer takes the token that the gateway has for this client (RFC 7592 §2). That proves nothing
    /// about the client.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub management_lost: bool,
    /// Fields that nobody asked for and the vendor has filled in: leaving one out of an update removes nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub defaulted: Vec<String>,
}

impl Notes {
    /// True when there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.management_lost && self.defaulted.is_empty()
    }
}

/// Only what there is, not what it is.
impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden")
            .field("management", &self.management.is_some())
            .field("access_token", &self.access_token.is_some())
            .finish_non_exhaustive()
    }
}

impl Registration {
    /// The writable part, as a `PUT` would send it: `metadata`, `policy`, `vendor`, `labels`.
    #[must_use]
    pub fn writable(&self) -> Map<String, Value> {
        let mut out = self.spec.encode();
        if !self.labels.is_empty() {
            out.insert("labels".to_owned(), json!(self.labels));
        }
        out
    }
}

/// What a `PUT` would send, written without a tree.
#[derive(Clone, Copy, Debug)]
pub struct Writable<'r> {
    /// The three layers.
    pub spec: &'r ClientSpec,
    /// The gateway's own labels.
    pub labels: &'r BTreeMap<String, String>,
}

impl Writable<'_> {
    /// Writes the members `metadata`, `policy`, `vendor` and `labels` into a map that is being written; the last three
    /// only when they hold something.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize_members<M: SerializeMap>(&self, out: &mut M) -> Result<(), M::Error> {
        self.spec.serialize_members(out)?;
        if !self.labels.is_empty() {
            out.serialize_entry("labels", self.labels)?;
        }
        Ok(())
    }
}

impl Serialize for Writable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        self.serialize_members(&mut out)?;
        out.end()
    }
}
