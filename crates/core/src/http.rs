//! The injected way to a vendor. Adapters build a [`Request`] and read a [`Response`]; credentials, timeouts, limits
//! and retries belong to whoever implements [`Http`].

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use crate::error::{Error, ErrorKind, Outcome, Result, VendorDetail};

/// Room for the text of a usual registration, so that it does not grow while it is written.
const USUAL_BODY: usize = 512;

/// What sending the request again would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Changes nothing: may be repeated.
    Read,
    /// Sets a complete state: repeating it changes nothing more, but its outcome matters.
    Idempotent,
    /// Makes something new each time (create, rotate): never repeated unless proved unprocessed.
    Once,
}

impl Effect {
    /// What an unanswered request of this kind leaves behind.
    #[must_use]
    pub fn outcome_if_unanswered(self) -> Outcome {
        match self {
            Self::Read => Outcome::NotPerformed,
            Self::Idempotent | Self::Once => Outcome::Unknown,
        }
    }
}

/// A request to a vendor, without the backend's credential.
#[derive(Clone)]
pub struct Request {
    /// The verb.
    pub method: Method,
    /// Made by [`crate::endpoint`], never by formatting.
    pub url: Url,
    /// JSON text, already serialised.
    pub body: Option<Bytes>,
    /// What repeating it would do.
    pub effect: Effect,
    /// The adapter's word for the call (`create`, `list`), for logs and metrics.
    pub operation: &'static str,
    /// A token that is sent instead of the backend's credential; a vendor that refuses it says nothing about the backend.
    pub bearer: Option<SecretString>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, url: Url, effect: Effect, operation: &'static str) -> Self {
        Self { method, url, body: None, effect, operation, bearer: None }
    }

    /// The same request with a JSON body.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for what has no JSON text; every [`Value`] has one.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let mut text = Vec::with_capacity(USUAL_BODY);
        serde_json::to_writer(&mut text, body)
            .map_err(|_| Error::new(ErrorKind::Internal, "the request cannot be written as JSON"))?;
        self.body = Some(Bytes::from(text));
        Ok(self)
    }

    /// The same request with a token of its own.
    #[must_use]
    pub fn with_bearer(mut self, token: SecretString) -> Self {
        self.bearer = Some(token);
        self
    }
}

/// Neither the token, the body nor the query is shown: all may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.url.path())
            .field("operation", &self.operation)
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}

/// A vendor's answer, read completely and within the size limit.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// What the request that led here would do if repeated.
    pub effect: Effect,
}

/// The body is not shown: it may hold a secret.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("length", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// True for 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header field as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// Reads the body as JSON of a known shape. Unknown members are the type's business (keep them).
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamMalformed`] naming the member at fault and never its value; after a write the outcome is
    /// unknown, because the vendor may well have done it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        // the path of a fault costs time, so it is looked for only when there is one
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        let mut de = serde_json::Deserializer::from_slice(&self.body);
        let decoded = serde_path_to_error::deserialize(&mut de);
        match decoded {
            Ok(value) => match de.end() {
                Ok(()) => Ok(value),
                Err(_) => Err(self.malformed("something follows the JSON document")),
            },
            Err(error) => {
                let path = error.path().to_string();
                let what = match error.inner().classify() {
                    serde_json::error::Category::Eof => "it ends too early".to_owned(),
                    serde_json::error::Category::Data if path != "." => {
                        format!("member `{}` is missing or of an unexpected type", crate::error::sanitise(&path, 128))
                    }
                    serde_json::error::Category::Data => "it has not the documented shape".to_owned(),
                    _ => "it is not JSON".to_owned(),
                };
                Err(self.malformed(&what))
            }
        }
    }

    /// The body as any JSON; `None` when it is not JSON.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// An answer that cannot be understood.
    #[must_use]
    pub fn malformed(&self, what: &str) -> Error {
        let form = if self.body.trim_ascii().is_empty() {
            " (the body is empty)"
        } else if self.body.trim_ascii_start().starts_with(b"<") {
            " (the body is HTML or XML)"
        } else {
            ""
        };
        Error::new(ErrorKind::UpstreamMalformed, format!("the vendor's answer cannot be understood: {what}{form}"))
            .with_outcome(self.effect.outcome_if_unanswered())
            .with_vendor(VendorDetail { status: Some(self.status), ..VendorDetail::default() })
    }

    /// `Retry-After` in seconds, if it is a whole number; dates are the transport's business.
    #[must_use]
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        self.header("retry-after").and_then(|v| v.trim().parse::<u64>().ok()).map(std::time::Duration::from_secs)
    }

    /// The error that the status alone says, for adapters to refine by the vendor's own code. A 4xx means that nothing
    /// was done; a 5xx proves nothing about a write.
    #[must_use]
    pub fn error_by_status(&self, detail: VendorDetail) -> Error {
        let unanswered = self.effect.outcome_if_unanswered();
        let (kind, text, outcome) = match self.status {
            300..400 => (
                ErrorKind::UpstreamMalformed,
                "the vendor answered with a redirect, which is never followed",
                unanswered,
            ),
            400 | 422 => (ErrorKind::Validation, "the vendor refused the registration", Outcome::NotPerformed),
            401 => (
                ErrorKind::UpstreamAuthentication,
                "the vendor does not accept the gateway's credential; check the backend's token",
                Outcome::NotPerformed,
            ),
            403 => (
                ErrorKind::UpstreamAuthorization,
                "the gateway's credential lacks a right at the vendor",
                Outcome::NotPerformed,
            ),
            404 => (ErrorKind::NotFound, "the vendor does not know this client", Outcome::NotPerformed),
            408 => (ErrorKind::OutcomeUnknown, "the vendor gave up waiting for the request", unanswered),
            409 => (ErrorKind::AlreadyExists, "the vendor reports a conflict", Outcome::NotPerformed),
            413 => (ErrorKind::UpstreamRejected, "the vendor refused the size of the request", Outcome::NotPerformed),
            429 => (ErrorKind::UpstreamRateLimited, "the vendor limits the rate of requests", Outcome::NotPerformed),
            400..500 => (ErrorKind::UpstreamRejected, "the vendor refused the request", Outcome::NotPerformed),
            503 => (ErrorKind::UpstreamUnavailable, "the vendor is not available", unanswered),
            500..600 => (ErrorKind::UpstreamError, "the vendor failed", unanswered),
            _ => (ErrorKind::UpstreamMalformed, "the vendor answered with an unexpected status", unanswered),
        };
        let kind = if kind == ErrorKind::OutcomeUnknown && outcome == Outcome::NotPerformed {
            ErrorKind::UpstreamTimeout
        } else {
            kind
        };
        Error::new(kind, text)
            .with_outcome(outcome)
            .with_retry_after(self.retry_after())
            .with_vendor(VendorDetail { status: Some(self.status), ..detail })
    }
}

/// The way to one backend.
#[async_trait]
pub trait Http: fmt::Debug + Send + Sync {
    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Only when there is no answer, or none that may be read: not connected, timed out, cut off, too large. The
    /// error's outcome says whether the vendor may have acted.
    async fn send(&self, request: Request) -> Result<Response>;
}
