//! The gateway's HTTP face: `/v1`, health, metrics, the API document and its page.

#![recursion_limit = "256"]

mod access;
mod auth;
mod body;
mod clients;
mod host;
pub mod openapi;
mod operations;
mod problem;
mod query;
mod register;
mod render;
mod routes;
pub mod serve;
mod system;
mod upkeep;
mod used;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use registrar_engine::{AuthMode, Engine};

pub use routes::router;
pub use upkeep::upkeep;

/// What every handler sees.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
    /// Whether changes to a client must say of which version.
    if_match: bool,
}

struct Inner {
    engine: Arc<Engine>,
    auth: AuthMode,
    /// The name of everybody, without authentication.
    anonymous: Arc<str>,
    /// Without a slash at its end.
    public_url: Arc<str>,
    metrics: PrometheusHandle,
    draining: AtomicBool,
    observations: access::Observations,
    /// Made when somebody asks for it: its making takes some megabytes.
    openapi: OnceLock<Bytes>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("public_url", &self.inner.public_url).finish_non_exhaustive()
    }
}

impl App {
    /// An application over an engine; `public_url` is how clients reach it.
    #[must_use]
    pub fn new(engine: Arc<Engine>, auth: AuthMode, public_url: &str, metrics: PrometheusHandle) -> Self {
        let public_url: Arc<str> = Arc::from(public_url.trim_end_matches('/'));
        Self {
            inner: Arc::new(Inner {
                engine,
                auth,
                anonymous: Arc::from("anonymous"),
                public_url,
                metrics,
                draining: AtomicBool::new(false),
                observations: access::Observations::default(),
                openapi: OnceLock::new(),
            }),
            if_match: false,
        }
    }

    /// The same application, which refuses `PUT`, `PATCH` and `DELETE` of a client without `If-Match` (RFC 6585 §3) if
    /// this is true.
    #[must_use]
    pub fn with_if_match_required(self, if_match: bool) -> Self {
        Self { if_match, ..self }
    }

    fn requires_if_match(&self) -> bool {
        self.if_match
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }

    fn public_url(&self) -> &Arc<str> {
        &self.inner.public_url
    }

    /// All answers share it.
    fn openapi(&self) -> Bytes {
        self.inner.openapi.get_or_init(|| openapi::document(&self.inner.public_url).to_string().into()).clone()
    }

    /// From now on `/readyz` says no, so that load balancers look elsewhere.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }
}
