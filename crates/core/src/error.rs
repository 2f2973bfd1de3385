//! One error type for the whole gateway: what happened, whether anything was done, and what may be told to a caller.

use std::{borrow::Cow, fmt, time::Duration};

use registrar_model::{ClientId, Issue, Loss};
use serde::{Deserialize, Serialize};

use crate::adapter::Management;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether the vendor was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was changed.
    NotPerformed,
    /// The change was made.
    Performed,
    /// Nobody knows yet.
    Unknown,
}

impl Outcome {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPerformed => "not_performed",
            Self::Performed => "performed",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $slug:literal, $title:literal;)+) => {
        /// What kind of error it is: the taxonomy of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorKind {
            $($(#[$doc])* #[doc = concat!("\n\n`", $slug, "`")] $variant,)+
        }

        impl ErrorKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The `code` in answers and the last part of the problem `type`.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)+ }
            }

            /// The title, constant for each kind (RFC 9457 §3.1.3).
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// The kind with this slug.
            #[must_use]
            pub fn from_slug(slug: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|k| k.slug() == slug)
            }
        }
    };
}

kinds! {
    /// Not JSON, or not an object.
    MalformedBody = "malformed-body", "The body is not acceptable JSON";
    /// Not the media type that this call takes.
    UnsupportedMediaType = "unsupported-media-type", "This media type is not accepted here";
    /// Larger than the limit.
    PayloadTooLarge = "payload-too-large", "The body is too large";
    /// A query parameter or header that cannot be used.
    InvalidRequest = "invalid-request", "A parameter of the request is not valid";
    /// Members with problems; see `errors`.
    Validation = "validation-error", "The registration is not valid";
    /// A redirect URI that must not be registered.
    InvalidRedirectUri = "invalid-redirect-uri", "A redirect URI is not acceptable";
    /// A value that the vendor does not know.
    UnsupportedValue = "unsupported-value", "The backend does not know a value";
    /// Something that the chosen backend cannot do or hold.
    UnsupportedByBackend = "unsupported-by-backend", "The backend cannot do this";
    /// No credentials were sent.
    Unauthenticated = "unauthenticated", "Authentication is required";
    /// Credentials that are not valid.
    InvalidToken = "invalid-token", "The credentials are not valid";
    /// Credentials without the needed scope.
    Forbidden = "forbidden", "The credentials do not allow this";
    /// No such thing.
    NotFound = "client-not-found", "There is no such client";
    /// No such operation.
    OperationNotFound = "operation-not-found", "There is no such operation";
    /// No such initial access token.
    TokenNotFound = "token-not-found", "There is no such token";
    /// No such backend.
    BackendNotFound = "backend-not-found", "There is no such backend";
    /// No such path.
    RouteNotFound = "not-found", "There is nothing at this path";
    /// A path that exists, with a method that does not.
    MethodNotAllowed = "method-not-allowed", "This method is not allowed here";
    /// The vendor has one with this name or id already.
    AlreadyExists = "already-exists", "The vendor already has such a client";
    /// `If-Match` does not match.
    PreconditionFailed = "precondition-failed", "The client has changed in the meantime";
    /// `If-Match` is missing where the configuration requires it.
    PreconditionRequired = "precondition-required", "This call needs If-Match";
    /// The same idempotency key is being worked on.
    IdempotencyInProgress = "idempotency-in-progress", "A request with this key is in progress";
    /// The same idempotency key with another payload.
    IdempotencyKeyReused = "idempotency-key-reused", "This key was used with another payload";
    /// Too many requests to the gateway.
    RateLimited = "rate-limited", "Too many requests";
    /// The vendor says that we ask too often.
    UpstreamRateLimited = "upstream-rate-limited", "The vendor limits the rate of requests";
    /// The vendor refuses the gateway's own credential.
    UpstreamAuthentication = "upstream-authentication", "The vendor refuses the gateway's credential";
    /// The gateway's credential lacks a right at the vendor.
    UpstreamAuthorization = "upstream-authorization", "The gateway's credential lacks a right at the vendor";
    /// A refusal by the vendor that fits nothing else.
    UpstreamRejected = "upstream-rejected", "The vendor refused the request";
    /// An answer that cannot be understood.
    UpstreamMalformed = "upstream-malformed", "The vendor's answer cannot be understood";
    /// The vendor failed.
    UpstreamError = "upstream-error", "The vendor failed";
    /// The vendor cannot be reached, or was failing so much that it is not asked.
    UpstreamUnavailable = "upstream-unavailable", "The vendor is not available";
    /// The vendor did not answer a read in time.
    UpstreamTimeout = "upstream-timeout", "The vendor did not answer in time";
    /// A write was sent and its answer did not arrive.
    OutcomeUnknown = "outcome-unknown", "It is not known whether the vendor did it";
    /// Done at the vendor, not recorded here.
    PartialFailure = "partial-failure", "Done at the vendor, but not recorded";
    /// No route matches.
    NoRoute = "no-route", "No route matches the request";
    /// The backend is switched off in the configuration.
    BackendDisabled = "backend-disabled", "The backend is disabled";
    /// The gateway's own store does not work.
    StoreUnavailable = "store-unavailable", "The gateway's store is not available";
    /// A defect of the gateway.
    Internal = "internal", "Internal error";
}

/// What the vendor said, made safe to repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorDetail {
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The vendor's own code, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The vendor's own sentence, capped, control-free and scrubbed (see [`sanitise`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The vendor's id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    detail: Cow<'static, str>,
    advice: Option<Cow<'static, str>>,
    issues: Vec<Issue>,
    losses: Vec<Loss>,
    vendor: Option<VendorDetail>,
    client: Option<NamedClient>,
    backend: Option<String>,
    retry_after: Option<Duration>,
    hopeless: bool,
    management_lost: bool,
    passing: bool,
}

/// The client that a vendor's answer names although the call failed: it may exist.
#[derive(Clone, Debug)]
pub struct NamedClient {
    /// Its `client_id`.
    pub client_id: ClientId,
    /// How it can be managed, where the answer says so.
    pub management: Option<Management>,
}

/// An error. Its texts are safe for callers: no secret, no part of a vendor's raw answer.
#[derive(Debug)]
pub struct Error(Box<Inner>);

impl Error {
    /// An error of this kind; nothing was performed.
    #[must_use]
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            outcome: Outcome::NotPerformed,
            detail: detail.into(),
            advice: None,
            issues: Vec::new(),
            losses: Vec::new(),
            vendor: None,
            client: None,
            backend: None,
            retry_after: None,
            hopeless: false,
            management_lost: false,
            passing: false,
        }))
    }

    /// A validation error with its issues; [`ErrorKind::InvalidRedirectUri`] when only redirect URIs are at fault.
    #[must_use]
    pub fn validation(issues: Vec<Issue>) -> Self {
        let redirects = |i: &Issue| i.code == registrar_model::IssueCode::InvalidRedirectUri;
        let kind = if !issues.is_empty() && issues.iter().all(redirects) {
            ErrorKind::InvalidRedirectUri
        } else {
            ErrorKind::Validation
        };
        let detail = match issues.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.detail),
            many if many.len() >= registrar_model::issue::MAX_FINDINGS => {
                format!("{} problems or more; `errors` has the first", many.len())
            }
            many => format!("{} members have problems; see `errors`", many.len()),
        };
        Self::new(kind, detail).with_issues(issues)
    }

    /// An operation that the vendor does not document.
    #[must_use]
    pub fn unsupported(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::UnsupportedByBackend, detail)
    }

    /// The same error with another word for what was done.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// The same error as another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error with what an administrator or operator can do about it: settings, requests to `/v1`. It is told
    /// on `/v1` and in the log, and never at `/register`.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// The same error with the client that the vendor's answer names.
    #[must_use]
    pub fn with_client(mut self, client_id: ClientId, management: Option<Management>) -> Self {
        self.0.client = Some(NamedClient { client_id, management });
        self
    }

    /// The same error as a condition that is not the caller's and that passes or is mended: at `/register` it is
    /// `temporarily_unavailable`, whatever its kind.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.0.passing = true;
        self
    }

    /// The same error with issues.
    #[must_use]
    pub fn with_issues(mut self, issues: Vec<Issue>) -> Self {
        self.0.issues = issues;
        self
    }

    /// The same error with the losses that led to it.
    #[must_use]
    pub fn with_losses(mut self, losses: Vec<Loss>) -> Self {
        self.0.losses = losses;
        self
    }

    /// The same error with what the vendor said; texts are sanitised here.
    #[must_use]
    pub fn with_vendor(mut self, vendor: VendorDetail) -> Self {
        self.0.vendor = Some(VendorDetail {
            status: vendor.status,
            code: vendor.code.map(|c| sanitise(&c, 64)),
            message: vendor.message.map(|m| sanitise(&m, 512)),
            request_id: vendor.request_id.map(|r| sanitise(&r, 128)),
        });
        self
    }

    /// The same error with the backend it came from.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<String>) -> Self {
        self.0.backend = Some(backend.into());
        self
    }

    /// The same error with how long to wait before trying again, at most five minutes.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait.map(|w| w.min(Duration::from_secs(300)));
        self
    }

    /// The same error as one that sending again cannot cure, whatever its kind: a certificate that is not valid.
    #[must_use]
    pub fn never_retryable(mut self) -> Self {
        self.0.hopeless = true;
        self
    }

    /// The same error as one about the token that a server gave the gateway for one client, and not about the backend's
    /// credential.
    #[must_use]
    pub fn with_management_lost(mut self) -> Self {
        self.0.management_lost = true;
        self
    }

    /// Whether the server no longer takes the gateway's token for one client.
    #[must_use]
    pub fn is_management_lost(&self) -> bool {
        self.0.management_lost
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the vendor was changed.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The sentence for this occurrence, for everybody.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What an administrator or operator can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// The sentence and the advice, for `/v1` and the log.
    #[must_use]
    pub fn detail_with_advice(&self) -> Cow<'_, str> {
        match &self.0.advice {
            None => Cow::Borrowed(&self.0.detail),
            Some(advice) => Cow::Owned(format!("{}; {advice}", self.0.detail)),
        }
    }

    /// The client that the vendor's answer names.
    #[must_use]
    pub fn client(&self) -> Option<&NamedClient> {
        self.0.client.as_ref()
    }

    /// Whether it is a condition that passes; see [`Error::passing`].
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.0.passing
    }

    /// The members at fault.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.0.issues
    }

    /// The losses that were refused.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.0.losses
    }

    /// What the vendor said.
    #[must_use]
    pub fn vendor(&self) -> Option<&VendorDetail> {
        self.0.vendor.as_ref()
    }

    /// The backend it came from.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// How long to wait before trying again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may be sent again with a hope to succeed: only when nothing was performed, or when it is
    /// known by its idempotency key and so cannot be performed twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ErrorKind as K;
        (self.0.outcome == Outcome::NotPerformed || self.0.kind == K::IdempotencyInProgress)
            && !self.0.hopeless
            && match self.0.kind {
                K::IdempotencyInProgress
                | K::RateLimited
                | K::UpstreamRateLimited
                | K::UpstreamError
                | K::UpstreamUnavailable
                | K::UpstreamTimeout
                | K::UpstreamMalformed
                | K::BackendDisabled
                | K::StoreUnavailable => true,
                K::MalformedBody
                | K::UnsupportedMediaType
                | K::PayloadTooLarge
                | K::InvalidRequest
                | K::Validation
                | K::InvalidRedirectUri
                | K::UnsupportedValue
                | K::UnsupportedByBackend
                | K::Unauthenticated
                | K::InvalidToken
                | K::Forbidden
                | K::NotFound
                | K::OperationNotFound
                | K::TokenNotFound
                | K::BackendNotFound
                | K::RouteNotFound
                | K::MethodNotAllowed
                | K::AlreadyExists
                | K::PreconditionFailed
                | K::PreconditionRequired
                | K::IdempotencyKeyReused
                | K::UpstreamAuthentication
                | K::UpstreamAuthorization
                | K::UpstreamRejected
                | K::OutcomeUnknown
                | K::PartialFailure
                | K::NoRoute
                | K::Internal => false,
            }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.slug(), self.detail_with_advice())
    }
}

impl std::error::Error for Error {}

/// Makes a vendor's text safe to repeat: at most `max` characters, no control or bidirectional characters, and nothing
/// that looks like a credential (reliability T16).
#[must_use]
pub fn sanitise(text: &str, max: usize) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') { ' ' } else { c })
        .take(max.saturating_mul(4))
        .collect();
    let mut words: Vec<Cow<'_, str>> = Vec::new();
    let mut hide_next = false;
    for word in plain.split_whitespace() {
        let lower = word.to_ascii_lowercase();
        let bare = lower.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if hide_next || looks_secret(word) {
            words.push(Cow::Borrowed("[redacted]"));
        } else {
            words.push(Cow::Borrowed(word));
        }
        hide_next =
            matches!(bare, "bearer" | "basic" | "secret" | "password" | "client_secret" | "token" | "authorization")
                && !lower.ends_with('.');
        if hide_next && bare == "authorization" {
            hide_next = lower.ends_with(':') || lower.ends_with('=');
        }
        if hide_next && matches!(bare, "token" | "secret" | "password" | "client_secret") {
            hide_next = lower.ends_with([':', '=', '"']) || lower.ends_with("\":");
        }
    }
    let mut out: String = words.join(" ");
    if out.chars().count() > max {
        out = out.chars().take(max.saturating_sub(1)).collect();
        out.push('…');
    }
    out
}

/// A long run of characters without white space that mixes digits and letters, or follows `secret=` and the like.
fn looks_secret(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let assigns = ["secret", "token", "password", "apikey", "api_key", "authorization"].iter().any(|w| {
        lower.find(w).is_some_and(|i| {
            lower[i..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len() > 3
                && lower[i..].contains(['=', ':'])
        })
    });
    let is_url = lower.contains("://");
    // RFC 3986 §3.2.1: user information
    let authority = lower.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    if authority.contains('@') {
        return true;
    }
    let opaque = word.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+'))).any(|run| {
        run.len() >= 24 && run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic())
    });
    assigns || (opaque && !is_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_text_is_made_safe() {
        assert_eq!(sanitise("Post body is invalid", 512), "Post body is invalid");
        assert_eq!(sanitise("a\r\nb\u{1b}[31mc", 512), "a b [31mc");
        assert_eq!(sanitise("invalid token", 512), "invalid token");
        assert_eq!(
            sanitise("header Authorization: Bearer abc was refused", 512),
            "header Authorization: [redacted] [redacted] was refused"
        );
        assert!(!sanitise("got client_secret=s3cr3t-value here", 512).contains("s3cr3t"));
        assert_eq!(sanitise("at http://user:pw@host/x, and ops@a.example", 512), "at [redacted] and ops@a.example");
        assert!(!sanitise("got sk_live_0123456789abcdefABCDEF here", 512).contains("0123456789"));
        assert_eq!(sanitise(&"x ".repeat(2000), 16).chars().count(), 16);
        assert_eq!(sanitise("\u{5e73}\u{53f0}\u{9519}\u{8bef}", 512), "\u{5e73}\u{53f0}\u{9519}\u{8bef}");
    }

    #[test]
    fn only_what_cannot_be_done_twice_may_be_sent_again() {
        let error = |kind, outcome| Error::new(kind, "x").with_outcome(outcome);
        assert!(error(ErrorKind::UpstreamUnavailable, Outcome::NotPerformed).is_retryable());
        assert!(!error(ErrorKind::UpstreamUnavailable, Outcome::Unknown).is_retryable());
        // the first request may succeed; its key makes the second one a repetition
        assert!(error(ErrorKind::IdempotencyInProgress, Outcome::Unknown).is_retryable());
    }

    #[test]
    fn slugs_are_unique() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_slug(kind.slug()), Some(*kind));
        }
    }
}
