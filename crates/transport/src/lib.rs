//! The way to the vendors: reqwest behind [`registrar_core::Http`], one tower stack per backend.
//!
//! What adapters may rely on, whatever the vendor does:
//! - a request goes to the backend's own origin or nowhere, with the backend's credential or a token of its own.
//!   Redirects are not followed (a 3xx is an answer), proxies of the environment are not used, nothing is decompressed;
//! - a write is sent once. It is sent again, at most twice, only if the vendor provably did nothing: there was no
//!   connection, its token was refused, or the answer is one of [`BackendOptions::not_processed`]. A read is sent again
//!   after other failures of the vendor as well;
//! - a vendor that fails is left alone for a while, and so is one that refuses the credential or asks for a pause; what
//!   is refused meanwhile was not sent;
//! - every call ends by its deadline, with an answer read completely and within the size limit, or with an error
//!   whose outcome says whether the vendor may have acted;
//! - no error, log line or `Debug` text holds a credential, a header field or a body.
//!
//! Metrics (the recorder must be installed before the first request, because handles are kept):
//! - `registrar_vendor_requests_total{backend, operation, outcome}`: `outcome` is `2xx` to `5xx`, the slug of an
//!   error, `cancelled` (the caller went away), or what refused it here: `shed` (the limit of requests in flight),
//!   `circuit` (the breaker), `credential` (it rests), `paused` (no turn in time) or `late` (no time left
//!   to send it);
//! - `registrar_vendor_request_duration_seconds{backend, operation}`: everything that was not refused here;
//! - `registrar_vendor_retries_total{backend, reason}`: `connect`, `timeout`, `lost`, `429`, `502`, `503`, `504` or
//!   `not_processed`;
//! - `registrar_vendor_pauses_total{backend}`: pauses after a 429, and before one where the vendor says
//!   that no request is left;
//! - `registrar_vendor_circuit_state{backend}`: 0 closed, 1 half open and probed, 2 open, until the first probe.

mod auth;
mod backoff;
mod breaker;
mod fault;
mod health;
mod limit;
mod lockout;
mod meters;
mod observe;
mod rate_headers;
mod retry;
mod retry_after;
mod send;
mod skew;
mod stack;
mod token;
mod window;

use std::{fmt, sync::Arc, time::Duration};

use registrar_core::{Credential, Http, Result};
use reqwest::{Client, redirect};
use tokio::sync::Semaphore;
use url::Url;

pub use health::{CircuitSnapshot, CircuitState, Health, HealthSnapshot, LastFailure};
pub use retry_after::parse_retry_after;

/// Why there is no transport, or none for this backend. No text holds a URL or a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportSetupError {
    /// The HTTP client could not be made; in practice, the system's root certificates could not be read.
    #[error("the HTTP client cannot be set up; are the system's root certificates (ca-certificates) installed?")]
    Client(#[source] reqwest::Error),
    /// The bearer token cannot be sent in a header field.
    #[error("the token of backend `{backend}` has characters that a header field cannot hold (a line break?)")]
    Token {
        /// The backend.
        backend: String,
    },
    /// A limit that would refuse every request.
    #[error("backend `{backend}` allows no request in flight; `max_in_flight` must be at least 1")]
    NothingInFlight {
        /// The backend.
        backend: String,
    },
    /// A pace that would refuse every request.
    #[error("backend `{backend}` allows no request in a second; `rate_limit` must be at least 1")]
    NoRate {
        /// The backend.
        backend: String,
    },
}

/// What a backend's stack needs to know.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// The configured name, for logs, metrics and errors.
    pub name: String,
    /// Where the vendor is. Requests to any other origin are refused.
    pub base_url: Url,
    /// How to authenticate.
    pub credential: Credential,
    /// From the moment a call is admitted to the last byte of the answer, getting a token included; at most one hour.
    pub timeout: Duration,
    /// From the moment a request is sent to the last byte of its answer. `None`: half of `timeout` for a read, so that
    /// another attempt fits, and all that is left for a write, because it would be unknown and not be sent again. A read
    /// never gets more than that half.
    pub attempt_timeout: Option<Duration>,
    /// Statuses by which this vendor proves that it did nothing, so that even a create may be sent again.
    pub not_processed: Vec<u16>,
    /// Requests a second, at an even pace; calls wait for their turn, and are refused when it is beyond their time.
    pub rate_limit: Option<u32>,
    /// Of the random part of waits, for tests; `None` for another one in every process.
    pub jitter_seed: Option<u64>,
    /// Requests in flight at once; one more is refused at once, never queued.
    pub max_in_flight: usize,
    /// Bytes of an answer.
    pub max_body: usize,
    /// Bytes of an answer to the operation `list`.
    pub max_list_body: usize,
}

impl BackendOptions {
    /// The defaults: 15 s, only 429 proves that nothing was done, no limit of the rate, 64 in flight, answers of 1 MiB
    /// and lists of 16 MiB.
    #[must_use]
    pub fn new(name: impl Into<String>, base_url: Url, credential: Credential) -> Self {
        Self {
            name: name.into(),
            base_url,
            credential,
            timeout: Duration::from_secs(15),
            attempt_timeout: None,
            not_processed: vec![429],
            rate_limit: None,
            jitter_seed: None,
            max_in_flight: 64,
            max_body: 1 << 20,
            max_list_body: 16 << 20,
        }
    }
}

/// One way to one vendor.
#[derive(Clone)]
pub struct BackendHandle {
    /// For the adapter.
    pub http: Arc<dyn Http>,
    /// How it is doing, as seen from here.
    pub health: Arc<Health>,
}

impl BackendHandle {
    /// [`Health::admits_writes`].
    ///
    /// # Errors
    /// The same.
    pub fn admits_writes(&self) -> Result<()> {
        self.health.admits_writes()
    }

    /// [`Health::wants_probe`].
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.health.wants_probe()
    }
}

impl fmt::Debug for BackendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendHandle").field("http", &self.http).field("health", &self.health.snapshot()).finish()
    }
}

/// The HTTP client that all backends share, with its pool of connections. Cheap to clone; a reload of the
/// configuration should keep it, so that connections survive.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client,
}

impl Transport {
    /// A client that gives up connecting (name resolution and TLS included) after 3 s.
    ///
    /// # Errors
    /// [`TransportSetupError::Client`].
    pub fn new() -> Result<Self, TransportSetupError> {
        Self::with_connect_timeout(Duration::from_secs(3))
    }

    /// [`Transport::new`] with another limit for connecting. Keep it below every backend's `timeout`: a write that
    /// runs out of `timeout` while it connects is reported as unknown, one that cannot connect as not performed.
    ///
    /// # Errors
    /// [`TransportSetupError::Client`].
    pub fn with_connect_timeout(connect_timeout: Duration) -> Result<Self, TransportSetupError> {
        observe::describe_metrics();
        meters::describe_metrics();
        let client = Client::builder()
            .user_agent(concat!("registrar/", env!("CARGO_PKG_VERSION")))
            // the default follows ten, and on 307/308 takes the body to the other host (reliability E3)
            .redirect(redirect::Policy::none())
            .referer(false)
            // HTTP_PROXY in the environment would see every credential
            .no_proxy()
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            // shorter than the idle limits of common load balancers (60 s and more): a write on a connection that the
            // other side is just closing ends as unknown
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(30))
            // notices a dead HTTP/2 connection before every request on it runs into its deadline
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            // reqwest's own retry stays at its default: only what HTTP/2 itself declares unprocessed (REFUSED_STREAM,
            // streams above a GOAWAY, RFC 9113 §8.7) is sent again, so that a write cannot be doubled
            .build()
            .map_err(|error| TransportSetupError::Client(error.without_url()))?;
        Ok(Self { client })
    }

    /// The stack of one backend. Nothing is sent yet.
    ///
    /// # Errors
    /// When the credential cannot be sent or the limits admit nothing.
    pub fn backend(&self, options: BackendOptions) -> Result<BackendHandle, TransportSetupError> {
        if options.max_in_flight == 0 {
            return Err(TransportSetupError::NothingInFlight { backend: options.name });
        }
        if options.rate_limit == Some(0) {
            return Err(TransportSetupError::NoRate { backend: options.name });
        }
        let options = BackendOptions {
            max_in_flight: options.max_in_flight.min(Semaphore::MAX_PERMITS),
            timeout: options.timeout.min(Duration::from_secs(3600)),
            ..options
        };
        stack::build(&self.client, options)
    }
}
