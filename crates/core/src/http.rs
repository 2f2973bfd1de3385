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

use crate::{
    error::{Error, ErrorKind, Outcome, Result, VendorDetail},
    secrets::Secrets,
};

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

/// The subject of a call. The same status means something else for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A client that does not exist yet: nothing can be missing but the endpoint.
    NewClient,
    /// One client that is known.
    Client,
    /// The vendor's API as a whole: a list, a check.
    Service,
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

    /// The subject of the call.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self.operation {
            "create" => Subject::NewClient,
            "list" | "check" => Subject::Service,
            _ => Subject::Client,
        }
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
    /// The subject of the request that led here.
    pub subject: Subject,
    /// The credential that was sent: it must not be repeated from anything that the answer says.
    pub secrets: Secrets,
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
    /// An answer about one client, to a request without a credential.
    #[must_use]
    pub fn new(status: u16, headers: HeaderMap, body: Bytes, effect: Effect) -> Self {
        Self { status, headers, body, effect, subject: Subject::Client, secrets: Secrets::default() }
    }

    /// The same answer to a call about something else.
    #[must_use]
    pub fn about(self, subject: Subject) -> Self {
        Self { subject, ..self }
    }

    /// The same answer to a request that sent these secrets.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// The body without a byte order mark (RFC 8259 §8.1 allows to ignore one).
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body)
    }

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
        if let Ok(value) = serde_json::from_slice(self.text()) {
            return Ok(value);
        }
        let mut de = serde_json::Deserializer::from_slice(self.text());
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

    /// The body as any JSON, without the secrets of the call; `None` when it is not JSON.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        let mut value = serde_json::from_slice(self.text()).ok()?;
        self.secrets.hide_in(&mut value);
        Some(value)
    }

    /// An answer that cannot be understood.
    #[must_use]
    pub fn malformed(&self, what: &str) -> Error {
        let form = if self.text().trim_ascii().is_empty() {
            " (the body is empty)"
        } else if self.text().trim_ascii_start().starts_with(b"<") {
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

    /// The error that the status says for a call of this subject, for adapters to refine by the vendor's own code. A 4xx
    /// means that nothing was done; a 5xx proves nothing about a write.
    #[must_use]
    pub fn error_by_status(&self, detail: VendorDetail) -> Error {
        let unanswered = self.effect.outcome_if_unanswered();
        let nothing = Outcome::NotPerformed;
        let (kind, text, outcome) = match self.status {
            300..400 => (
                ErrorKind::UpstreamMalformed,
                "the vendor answered with a redirect, which is never followed",
                unanswered,
            ),
            400 | 422 => (ErrorKind::Validation, "the vendor refused the registration", nothing),
            401 => (ErrorKind::UpstreamAuthentication, "the vendor does not accept the gateway's credential", nothing),
            403 => (ErrorKind::UpstreamAuthorization, "the gateway's credential lacks a right at the vendor", nothing),
            // only a client that is known can be missing; everything else is at a wrong address or switched off
            404 | 405 | 410 | 501 if self.subject != Subject::Client => return self.no_endpoint(detail),
            404 => (ErrorKind::NotFound, "the vendor does not know this client", nothing),
            408 => (ErrorKind::OutcomeUnknown, "the vendor gave up waiting for the request", unanswered),
            409 => (ErrorKind::AlreadyExists, "the vendor reports a conflict", nothing),
            413 => (ErrorKind::UpstreamRejected, "the vendor refused the size of the request", nothing),
            429 => (ErrorKind::UpstreamRateLimited, "the vendor limits the rate of requests", nothing),
            400..500 => (ErrorKind::UpstreamRejected, "the vendor refused the request", nothing),
            503 => (ErrorKind::UpstreamUnavailable, "the vendor is not available", unanswered),
            500..600 => (ErrorKind::UpstreamError, "the vendor failed", unanswered),
            _ => (ErrorKind::UpstreamMalformed, "the vendor answered with an unexpected status", unanswered),
        };
        let kind =
            if kind == ErrorKind::OutcomeUnknown && outcome == nothing { ErrorKind::UpstreamTimeout } else { kind };
        let error = Error::new(kind, text)
            .with_outcome(outcome)
            .with_retry_after(self.retry_after())
            .with_vendor(self.repeatable(detail));
        if self.status == 401 { error.with_advice("check the backend's `token`") } else { error }
    }

    /// There is nothing at the address of the vendor's clients, or it does not take this call: the operator's problem.
    fn no_endpoint(&self, detail: VendorDetail) -> Error {
        let status = self.status;
        let text = match self.subject {
            Subject::NewClient => format!("the vendor takes no registrations at this address (status {status})"),
            Subject::Client | Subject::Service => {
                format!("the vendor offers nothing at this address (status {status})")
            }
        };
        Error::new(ErrorKind::UpstreamRejected, text)
            .with_advice(
                "check the backend's `base_url` and the path settings of its kind, and whether the vendor has registration \
                 switched on",
            )
            .with_vendor(self.repeatable(detail))
    }

    /// What the vendor said, without the secrets of the call.
    fn repeatable(&self, detail: VendorDetail) -> VendorDetail {
        let hide = |text: Option<String>| text.map(|text| self.secrets.hide(&text).into_owned());
        VendorDetail {
            status: Some(self.status),
            code: hide(detail.code),
            message: hide(detail.message),
            request_id: hide(detail.request_id),
        }
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
