//! What the tests of the whole share: a simulated vendor behind the real transport, and generated registrations.

pub mod generate;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use registrar_adapters::VENDORS;
use registrar_core::{Adapter, Blueprint, ExposeSecret as _, SecretString, Settings, Vendor};
use registrar_engine::{AlwaysOpen, Connect, ConnectOptions, Connection};
use registrar_fakes::FakeHost;
use registrar_transport::{BackendOptions, Transport};
use serde_json::Value;

/// An adapter that talks to its fake through the real transport.
#[derive(Debug)]
pub struct Rig {
    /// The adapter.
    pub adapter: Arc<dyn Adapter>,
    /// The simulated vendor.
    pub host: FakeHost,
    /// Its kind.
    pub kind: &'static str,
}

/// Settings whose secrets stand in them: the fakes' secrets are none.
fn blueprint(vendor: &Vendor, settings: &Value) -> Result<Blueprint, String> {
    let object = settings.as_object().ok_or("settings are a table")?;
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let mut cursor = Settings::new(object, &literal);
    let blueprint = (vendor.configure)(&mut cursor);
    let issues = cursor.finish();
    blueprint.filter(|_| issues.is_empty()).ok_or_else(|| format!("{issues:?}"))
}

/// An adapter with these settings over the real transport; secrets stand in the settings.
///
/// # Errors
/// When the settings are not acceptable.
pub fn adapter(vendor: &Vendor, settings: &Value, timeout: Duration) -> Result<Arc<dyn Adapter>, String> {
    let blueprint = blueprint(vendor, settings)?;
    let mut options = BackendOptions::new(vendor.descriptor.kind, blueprint.base_url, blueprint.credential);
    options.timeout = timeout;
    let handle = Transport::new().and_then(|t| t.backend(options)).map_err(|e| e.to_string())?;
    Ok((blueprint.build)(handle.http))
}

impl Rig {
    /// A fresh fake of a kind and an adapter with its settings, changed by `adjust`.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn with(kind: &str, adjust: impl FnOnce(&mut Value)) -> Result<Self, String> {
        let vendor = VENDORS.iter().find(|v| v.descriptor.kind == kind).ok_or("no such kind")?;
        let fakes = registrar_adapters::fakes().into_iter().filter(|f| f.kind() == kind).collect();
        let host = FakeHost::start(SocketAddr::from(([127, 0, 0, 1], 0)), fakes).await.map_err(|e| e.to_string())?;
        let mut settings = host.fake(kind).map(|f| f.settings(&host.base_url(kind))).unwrap_or_default();
        adjust(&mut settings);
        // long enough for a busy machine; the scripted hangs are shorter than any person's patience
        let adapter = adapter(vendor, &settings, Duration::from_millis(1500))?;
        Ok(Self { adapter, host, kind: vendor.descriptor.kind })
    }

    /// A fresh fake of a kind and an adapter with its settings.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn new(kind: &str) -> Result<Self, String> {
        Self::with(kind, |_| {}).await
    }

    /// How many requests reached the vendor's API (not its token endpoint).
    #[must_use]
    pub fn calls(&self) -> usize {
        self.host.ledger(None).iter().filter(|e| !e.path.ends_with("/oauth/token")).count()
    }
}

/// Backends over the real transport, without the circuit breaker's say in what is begun.
#[derive(Debug)]
pub struct Network(Transport);

impl Network {
    /// A network of its own: its connections are nobody else's.
    ///
    /// # Errors
    /// When the platform's certificates cannot be read.
    pub fn new() -> Result<Self, String> {
        Transport::new().map(Self).map_err(|e| e.to_string())
    }
}

impl Connect for Network {
    fn connect(&self, options: ConnectOptions) -> Result<Connection, String> {
        let mut backend = BackendOptions::new(options.name, options.base_url, options.credential);
        backend.max_in_flight = options.max_in_flight;
        let handle = self.0.backend(backend).map_err(|e| e.to_string())?;
        Ok(Connection { http: handle.http, health: Arc::new(|| Value::Null), gate: Arc::new(AlwaysOpen) })
    }
}

/// A secret as text, for comparing.
#[must_use]
pub fn reveal(secret: &SecretString) -> &str {
    secret.expose_secret()
}
