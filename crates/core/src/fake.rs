//! A simulated vendor: a state machine that answers requests as the vendor's pages say, strictly. Whoever hosts it
//! adds sockets, bearer tokens for tests, the ledger and scripted faults.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

/// A request as a fake sees it.
#[derive(Clone, Debug)]
pub struct FakeRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Percent-decoded path segments below the fake's base URL.
    pub path: Vec<String>,
    /// Decoded query parameters.
    pub query: BTreeMap<String, String>,
    /// Header fields by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The raw body.
    pub body: Bytes,
}

impl FakeRequest {
    /// The path as `&str`s, for matching.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The bearer token, if one was sent.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.headers.get("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A fake's answer.
#[derive(Clone, Debug)]
pub struct FakeResponse {
    /// The status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl FakeResponse {
    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Bytes::from(body.to_string()),
        }
    }

    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }
}

/// A simulated vendor. Calls come from one thread at a time or from many: implementations lock their own state.
pub trait Fake: Send + Sync {
    /// The vendor kind that it simulates.
    fn kind(&self) -> &'static str;

    /// Answers one request, changing its state as the vendor would. Bearer tokens are checked here.
    fn handle(&self, request: &FakeRequest) -> FakeResponse;

    /// The `settings` of a backend that talks to this fake at `base_url`, as a TOML-compatible object; secrets as
    /// plain values, because they are the fake's own.
    fn settings(&self, base_url: &str) -> Value;

    /// Everything that exists at this vendor now, as wire objects, secrets included: the truth for checkers.
    fn clients(&self) -> Vec<Value>;

    /// Forgets everything.
    fn reset(&self);
}
