//! The configuration file: TOML, read with the place of every value, so that all errors are reported at once.

mod diagnostic;
mod front;
mod place;
mod reach;
mod read;
mod registration;
mod section;
mod statement;

use std::{fmt, net::SocketAddr, path::Path, time::Duration};

use registrar_core::{Secret, SecretString, Vendor};
use registrar_model::{BackendName, PrivateHosts, Scope};
use serde_json::{Map, Value};
use url::Url;

pub use crate::dcr::{RegistrationConfig, RouteRegistration};
pub use diagnostic::{Diagnostic, Diagnostics};

/// Everything in the file, checked.
#[derive(Debug)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[auth]`
    pub auth: AuthMode,
    /// `[idempotency]`
    pub idempotency: IdempotencyConfig,
    /// `[registration]`
    pub registration: RegistrationConfig,
    /// `[[backends]]` in their order.
    pub backends: Vec<BackendConfig>,
    /// `[[routes]]` in their order: the first that matches wins.
    pub routes: Vec<RouteConfig>,
    /// What is probably not meant, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How clients reach the gateway; the base of problem types and locations.
    pub public_url: Url,
    /// Threads that serve requests; 1 uses a single-threaded runtime. Default: one a core.
    pub workers: Option<usize>,
    /// Whether `PUT`, `PATCH` and `DELETE` of a client need `If-Match`; otherwise they are refused with
    /// `precondition-required` (RFC 6585 §3).
    pub require_if_match: bool,
}

/// `[store]`
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:PATH`, `postgres://USER:PASSWORD@HOST/DATABASE` or `memory:`.
    pub url: String,
    /// How much space is kept beside a SQLite file for the results that a full disk would keep from being recorded, in
    /// bytes; 0 for none. Default: 64 MiB, and none where the store is no file.
    pub ballast: u64,
}

/// Without the password.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &registrar_store::redacted(&self.url))
            .field("ballast", &self.ballast)
            .finish()
    }
}

/// `[idempotency]`
#[derive(Clone, Debug)]
pub struct IdempotencyConfig {
    /// How long an issued secret is kept, sealed, for a repetition of its request. Default: 10 minutes; 0 keeps none.
    pub secret_window: Duration,
    /// Makes equal requests without a key within this time one request. Default: off.
    pub implicit_window: Option<Duration>,
    /// What the gateway's half of the sealing key is made of. Default: a random one in the store.
    pub seal_key: Option<SecretString>,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self { secret_window: crate::idempotency::SECRET_WINDOW, implicit_window: None, seal_key: None }
    }
}

/// `auth.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Everyone on this machine is an administrator; only on loopback.
    None,
    /// Named API keys.
    Keys,
}

/// What happens to a write that loses something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// Security losses are refused unless the request allows that very field.
    #[default]
    RefuseSecurity,
    /// Every loss of something that was sent is refused unless allowed.
    RefuseAny,
    /// Everything is accepted and reported.
    Report,
}

/// `[[backends]]`
pub struct BackendConfig {
    /// Its name.
    pub name: BackendName,
    /// The vendor kind.
    pub vendor: &'static Vendor,
    /// `false` refuses writes and reads with `backend-disabled`.
    pub enabled: bool,
    /// The loss policy.
    pub on_loss: OnLoss,
    /// Whether the loss of scopes counts as one of security.
    pub strict_scopes: bool,
    /// The scopes of registrations that ask for none; the vendor kind decides when absent.
    pub default_scopes: Option<Scope>,
    /// The private hosts that administrators may name in URLs.
    pub private_hosts: PrivateHosts,
    /// The longest that one call to the vendor may take.
    pub timeout: Duration,
    /// Calls in flight at once.
    pub max_in_flight: usize,
    /// Requests a second, where the vendor allows only so many.
    pub rate_limit: Option<u32>,
    /// Statuses that prove that the vendor did not process a request.
    pub not_processed: Vec<u16>,
    /// How long "there is no such client" may be untrue after a create.
    pub visibility_grace: Duration,
    /// What the vendor kind made of `settings`.
    pub blueprint: registrar_core::Blueprint,
}

impl std::fmt::Debug for BackendConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendConfig").field("name", &self.name).field("vendor", &self.vendor).finish_non_exhaustive()
    }
}

/// `[[routes]]`
#[derive(Debug)]
pub struct RouteConfig {
    /// Its name.
    pub name: String,
    /// The rule; a route without one always matches.
    pub when: Option<crate::routing::Rule>,
    /// Where it leads.
    pub backend: BackendName,
    /// Overrides the backend's loss policy.
    pub on_loss: Option<OnLoss>,
    /// Overrides the backend's default scopes.
    pub default_scopes: Option<Scope>,
    /// What the standards face does with it.
    pub registration: RouteRegistration,
}

/// What reading a configuration needs from outside.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The vendor kinds that exist.
    pub vendors: &'static [Vendor],
    /// Resolves `env:NAME` and `file:PATH`.
    pub secrets: &'a dyn Fn(&str) -> Result<Secret, String>,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// Which references in a file are resolved. In the place of the others stands a value that nothing may be sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// All of them: to serve.
    All,
    /// That of `store.url`: to work on the store.
    OfStore,
    /// None: to check what is written, or to show what would be sent.
    None,
}

impl Config {
    /// Reads a configuration text; `file` is its name in messages, and its folder is what relative paths count from.
    ///
    /// # Errors
    /// Every finding, each with its line, column and a hint.
    pub fn parse(text: &str, file: &Path, environment: Environment<'_>) -> Result<Self, Diagnostics> {
        read::config(text, file, environment, Secrets::All)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// As [`Self::parse`]; also when the file cannot be read.
    pub fn load(file: &Path, environment: Environment<'_>) -> Result<Self, Diagnostics> {
        Self::load_with(file, environment, Secrets::All)
    }

    /// Reads a configuration file, and resolves only some of its references.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(file: &Path, environment: Environment<'_>, secrets: Secrets) -> Result<Self, Diagnostics> {
        match std::fs::read_to_string(file) {
            Ok(text) => read::config(&text, file, environment, secrets),
            Err(error) => Err(Diagnostics::unreadable(file, &error)),
        }
    }
}

/// Resolves `env:NAME` and `file:PATH`, the only forms in which a configuration file holds secrets.
///
/// # Errors
/// A sentence that says what is missing; never a secret.
pub fn resolve_secret(reference: &str) -> Result<Secret, String> {
    if let Some(name) = reference.strip_prefix("env:") {
        return match std::env::var(name) {
            Ok(value) if !value.trim().is_empty() => Ok(SecretString::from(value.trim().to_owned()).into()),
            Ok(_) => Err(format!("the environment variable {name} is empty")),
            Err(_) => Err(format!("the environment variable {name} is not set")),
        };
    }
    if let Some(path) = reference.strip_prefix("file:") {
        return match std::fs::read_to_string(path) {
            Ok(value) if !value.trim().is_empty() => {
                Ok(Secret::from_file(SecretString::from(value.trim().to_owned()), path))
            }
            Ok(_) => Err(format!("the file {path} is empty")),
            Err(error) => Err(format!("the file {path} cannot be read: {error}")),
        };
    }
    Err("secrets are given by reference only: \"env:NAME\" or \"file:PATH\"".to_owned())
}

/// A TOML value as JSON; times become text.
fn to_json(value: &toml::de::DeValue<'_>) -> Value {
    use toml::de::DeValue;
    match value {
        DeValue::String(s) => Value::String(s.to_string()),
        DeValue::Integer(i) => {
            let digits = i.as_str().replace('_', "");
            i64::from_str_radix(&digits, i.radix()).map_or_else(|_| Value::String(digits), Value::from)
        }
        DeValue::Float(f) => f
            .as_str()
            .replace('_', "")
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or(Value::Null, Value::Number),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Datetime(d) => Value::String(d.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|v| to_json(v.get_ref())).collect()),
        DeValue::Table(table) => Value::Object(to_json_table(table)),
    }
}

fn to_json_table(table: &toml::de::DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(k, v)| (k.get_ref().to_string(), to_json(v.get_ref()))).collect()
}
