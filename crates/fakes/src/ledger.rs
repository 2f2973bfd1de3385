//! What reached the vendors, in order: the truth that checkers compare with.

use serde::Serialize;
use serde_json::Value;

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerEntry {
    /// From 1 since the last reset, over all vendors, in the order in which the vendors did the work.
    pub seq: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The vendor kind.
    pub kind: String,
    /// The verb.
    pub method: String,
    /// The raw path below the vendor's base URL, with its query.
    pub path: String,
    /// The JSON body, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<Value>,
    /// Whether the vendor's state machine saw it.
    pub committed: bool,
    /// The vendor's own status, before any fault; absent when it did not see the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The fault that was played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The fault found nothing to spoil (no member at its pointer, no earlier answer), so that the answer went out as it
    /// was: a test that meant to break something broke nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
}
