//! A configured backend at work.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::Counter;
use registrar_core::{Adapter, Credential, Error, ErrorKind, Http, Outcome};
use registrar_model::{BackendName, PrivateHosts, Scope};
use registrar_store::Action;
use serde_json::{Value, json};
use url::Url;

use crate::{
    config::{BackendConfig, OnLoss, RouteConfig},
    routing,
};

/// What opening the way to a backend needs.
#[derive(Debug)]
pub struct ConnectOptions {
    /// The backend's name, for logs and metrics.
    pub name: String,
    /// Where the vendor is.
    pub base_url: Url,
    /// How to authenticate.
    pub credential: Credential,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// Calls in flight at once.
    pub max_in_flight: usize,
    /// Requests a second.
    pub rate_limit: Option<u32>,
    /// Statuses that prove that the vendor did not process a request.
    pub not_processed: Vec<u16>,
}

/// A way to a backend, with a view of how it fares.
pub struct Connection {
    /// The way.
    pub http: Arc<dyn Http>,
    /// How it fares, as a JSON object.
    pub health: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Whether it is worth asking.
    pub gate: Arc<dyn Gate>,
}

/// What the way to a backend knows before anything is sent.
pub trait Gate: Send + Sync {
    /// Refuses writes while the vendor is known not to work, so that not even their intent is recorded.
    ///
    /// # Errors
    /// Why, and how long to wait; nothing was done.
    fn admits_writes(&self) -> Result<(), Error>;

    /// True when a read is due that finds out whether the vendor works again.
    fn wants_probe(&self) -> bool;

    /// How far this machine's clock is ahead of the vendor's, in milliseconds; `None` before the vendor has shown its clock.
    fn skew(&self) -> Option<i64>;
}

/// A way that knows nothing, and so refuses nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysOpen;

impl Gate for AlwaysOpen {
    fn admits_writes(&self) -> Result<(), Error> {
        Ok(())
    }

    fn wants_probe(&self) -> bool {
        false
    }

    fn skew(&self) -> Option<i64> {
        None
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("http", &self.http).finish_non_exhaustive()
    }
}

/// Opens ways to backends; the transport implements it.
pub trait Connect: Send + Sync {
    /// Opens one. Nothing is sent yet.
    ///
    /// # Errors
    /// A sentence for the operator; never a secret.
    fn connect(&self, options: ConnectOptions) -> Result<Connection, String>;
}

/// A configured backend.
pub struct Backend {
    /// Its name.
    pub name: BackendName,
    /// Whether it may be used.
    pub enabled: bool,
    /// Its loss policy.
    pub on_loss: OnLoss,
    /// Whether the loss of scopes counts as one of security.
    pub strict_scopes: bool,
    /// The scopes of registrations that ask for none.
    pub default_scopes: Option<Scope>,
    /// The private hosts that administrators may name in URLs.
    pub private_hosts: PrivateHosts,
    /// The vendor behind it.
    pub adapter: Arc<dyn Adapter>,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// How long "there is no such client" may be untrue after a create.
    pub visibility_grace: Duration,
    pub(crate) gate: Arc<dyn Gate>,
    health: Arc<dyn Fn() -> Value + Send + Sync>,
    counters: Counters,
}

/// The handles of the metric of writes, by action: looking one up takes several allocations and a lock.
type Counters = [ByOutcome; Action::ALL.len()];

/// Handles for one action. None is made before it counts something, so that the metrics show only what there was.
#[derive(Default)]
struct ByOutcome {
    not_performed: OnceLock<Counter>,
    performed: OnceLock<Counter>,
    unknown: OnceLock<Counter>,
}

impl ByOutcome {
    fn of(&self, outcome: Outcome) -> &OnceLock<Counter> {
        match outcome {
            Outcome::NotPerformed => &self.not_performed,
            Outcome::Performed => &self.performed,
            Outcome::Unknown => &self.unknown,
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).field("adapter", &self.adapter).finish_non_exhaustive()
    }
}

impl Backend {
    /// The vendor kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.adapter.descriptor().kind
    }

    /// The backend for people and machines: health, policy, capabilities.
    #[must_use]
    pub fn view(&self) -> Value {
        let descriptor = self.adapter.descriptor();
        json!({
            "name": self.name,
            "kind": descriptor.kind,
            "title": descriptor.title,
            "enabled": self.enabled,
            "on_loss": self.on_loss,
            "health": (self.health)(),
            "capabilities": crate::matrix::vendor(descriptor),
        })
    }

    /// Refuses a write that the way to the vendor would refuse anyway.
    pub(crate) fn admits_writes(&self) -> Result<(), Error> {
        self.gate.admits_writes().map_err(|e| e.with_backend(self.name.as_str()))
    }

    /// Counts a write.
    pub(crate) fn count(&self, action: Action, outcome: Outcome) {
        let counter = self.counters[action as usize].of(outcome).get_or_init(|| {
            metrics::counter!(
                "registrar_operations_total",
                "action" => action.as_str(),
                "backend" => self.name.to_string(),
                "outcome" => outcome.as_str()
            )
        });
        counter.increment(1);
    }

    /// Refuses a backend that is switched off.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        if self.enabled {
            return Ok(());
        }
        Err(Error::new(ErrorKind::BackendDisabled, format!("backend `{}` is disabled in the configuration", self.name)))
    }
}

/// Everything that a reload swaps at once.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) backends: BTreeMap<BackendName, Arc<Backend>>,
    pub(crate) routes: Vec<RouteConfig>,
}

impl Runtime {
    pub(crate) fn build(
        backends: Vec<BackendConfig>,
        routes: Vec<RouteConfig>,
        connect: &dyn Connect,
    ) -> Result<Self, String> {
        let mut built = BTreeMap::new();
        for config in backends {
            let connection = connect.connect(ConnectOptions {
                name: config.name.to_string(),
                base_url: config.blueprint.base_url,
                credential: config.blueprint.credential,
                timeout: config.timeout,
                max_in_flight: config.max_in_flight,
                rate_limit: config.rate_limit,
                not_processed: config.not_processed,
            })?;
            let backend = Backend {
                name: config.name.clone(),
                enabled: config.enabled,
                on_loss: config.on_loss,
                strict_scopes: config.strict_scopes,
                default_scopes: config.default_scopes,
                private_hosts: config.private_hosts,
                adapter: (config.blueprint.build)(connection.http),
                timeout: config.timeout,
                visibility_grace: config.visibility_grace,
                gate: connection.gate,
                health: connection.health,
                counters: Counters::default(),
            };
            built.insert(config.name, Arc::new(backend));
        }
        Ok(Self { backends: built, routes })
    }

    /// The backend of a new registration, the route that chose it, and the loss policy in force.
    pub(crate) fn choose(
        &self,
        request: &registrar_model::NewRegistration,
    ) -> Result<(Arc<Backend>, Option<String>, OnLoss), Error> {
        let chosen = routing::evaluate(&self.routes, request);
        let Some(name) = chosen.backend else {
            let looked: Vec<String> = chosen.considered.iter().map(|c| format!("{}: {}", c.route, c.reason)).collect();
            let why = if looked.is_empty() { "no routes are configured".to_owned() } else { looked.join("; ") };
            let detail = format!("no route matches and the request names no backend ({why})");
            return Err(Error::new(ErrorKind::NoRoute, detail));
        };
        let backend = self
            .backends
            .get(&name)
            .ok_or_else(|| if request.backend.is_some() { self.unknown_in_body(&name) } else { unknown(&name) })?;
        backend.usable()?;
        Ok((Arc::clone(backend), chosen.route, chosen.on_loss.unwrap_or(backend.on_loss)))
    }

    fn unknown_in_body(&self, name: &BackendName) -> Error {
        let known: Vec<&str> = self.backends.keys().map(BackendName::as_str).collect();
        Error::validation(vec![registrar_model::Issue {
            pointer: registrar_model::Pointer::root().child("backend"),
            code: registrar_model::IssueCode::InvalidValue,
            detail: format!("there is no backend `{name}`; there are {}", known.join(", ")),
        }])
    }

    /// The scopes of a registration that asks for none: a route's come first.
    pub(crate) fn default_scopes<'r>(&'r self, backend: &'r Backend, route: Option<&str>) -> Option<&'r Scope> {
        let own = route.and_then(|name| self.routes.iter().find(|r| r.name == name));
        own.and_then(|route| route.default_scopes.as_ref()).or(backend.default_scopes.as_ref())
    }

    /// The backend of an existing registration.
    pub(crate) fn backend(&self, name: &BackendName) -> Result<Arc<Backend>, Error> {
        self.backends.get(name).cloned().ok_or_else(|| {
            let detail = format!("the client lives at backend `{name}`, which is not in the configuration any more");
            Error::new(ErrorKind::BackendDisabled, detail)
        })
    }
}

fn unknown(name: &BackendName) -> Error {
    Error::new(ErrorKind::BackendNotFound, format!("there is no backend `{name}`"))
}
