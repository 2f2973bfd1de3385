//! The transport, as the engine asks for it.

use std::sync::Arc;

use registrar_core::Error;
use registrar_engine::{Connect, ConnectOptions, Connection, Gate};
use registrar_transport::{BackendOptions, Health, Transport};
use serde_json::json;

/// Opens real ways to backends; clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Network(Transport);

impl Network {
    pub(crate) fn new() -> Result<Self, String> {
        Transport::new().map(Self).map_err(|e| e.to_string())
    }
}

/// The circuit of a backend.
struct Circuit(Arc<Health>);

impl Gate for Circuit {
    fn admits_writes(&self) -> Result<(), Error> {
        self.0.admits_writes()
    }

    fn wants_probe(&self) -> bool {
        self.0.wants_probe()
    }

    fn skew(&self) -> Option<i64> {
        self.0.skew()
    }
}

impl Connect for Network {
    fn connect(&self, options: ConnectOptions) -> Result<Connection, String> {
        let mut backend = BackendOptions::new(options.name, options.base_url, options.credential);
        backend.timeout = options.timeout;
        backend.max_in_flight = options.max_in_flight;
        backend.rate_limit = options.rate_limit;
        backend.not_processed = options.not_processed;
        let handle = self.0.backend(backend).map_err(|e| e.to_string())?;
        let health = handle.health;
        let gate = Arc::new(Circuit(Arc::clone(&health)));
        let view = move || {
            let snapshot = health.snapshot();
            let status = match (snapshot.consecutive_failures, snapshot.last_success) {
                (0, Some(_)) => "ok",
                (0, None) => "unknown",
                (_, _) => "failing",
            };
            let mut view = json!(snapshot);
            if let Some(view) = view.as_object_mut() {
                view.insert("status".to_owned(), json!(status));
            }
            view
        };
        Ok(Connection { http: handle.http, health: Arc::new(view), gate })
    }
}
