//! `registrar check`

use std::sync::Arc;

use registrar_adapters::VENDORS;
use registrar_engine::{Config, Environment, Secrets, config::resolve_secret};
use registrar_store::{Store, StoreError};
use serde_json::json;

use crate::{
    args::{CheckArgs, ConfigArgs, Format},
    failure::{Failure, LOCAL},
    output,
};

/// The vendor kinds and the secrets of the environment.
pub(crate) fn environment() -> Environment<'static> {
    Environment { vendors: VENDORS, secrets: &resolve_secret }
}

pub(crate) fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    load_with(args, Secrets::All)
}

pub(crate) fn load_with(args: &ConfigArgs, secrets: Secrets) -> Result<Config, Failure> {
    Config::load_with(&args.config, environment(), secrets).map_err(|d| Failure { code: LOCAL, text: d.to_string() })
}

/// The URL of the store, for a command that works on it beside the gateway: no other secret is needed. Says where it is.
pub(crate) fn store(args: &ConfigArgs) -> Result<String, Failure> {
    let url = load_with(args, Secrets::OfStore)?.store.url;
    output::note(&format!("store: {}", registrar_store::redacted(&url)));
    Ok(url)
}

/// Opens a store that is there already.
pub(crate) async fn open(url: &str) -> Result<Arc<dyn Store>, Failure> {
    // a database URL may hold a password
    registrar_store::open_existing(url).await.map_err(|error| unusable(url, &error))
}

/// An error of a store; a database URL may hold a password.
pub(crate) fn unusable(url: &str, error: &StoreError) -> Failure {
    let mut text = format!("store {}: {error}", registrar_store::redacted(url));
    if *error == StoreError::Missing && url.starts_with("sqlite:") {
        text.push_str("\nA relative path counts from the folder of the configuration file.");
    }
    Failure::local(text)
}

pub(crate) fn run(args: &CheckArgs, format: Format) -> Result<(), Failure> {
    let secrets = if args.no_secrets { Secrets::None } else { Secrets::All };
    let (strict, args) = (args.strict, &args.config);
    match Config::load_with(&args.config, environment(), secrets) {
        Ok(config) => {
            let (backends, routes) = (config.backends.len(), config.routes.len());
            if format == Format::Table {
                for warning in &config.warnings {
                    output::note(&format!("warning: {}{warning}", args.config.display()));
                }
            }
            let refused = strict && !config.warnings.is_empty();
            match format {
                Format::Json => output::json(
                    &json!({ "ok": !refused, "backends": backends, "routes": routes, "errors": [], "warnings": config.warnings }),
                )?,
                Format::Table if refused => {}
                Format::Table => {
                    let (backends, routes) = (output::counted(backends, "backend"), output::counted(routes, "route"));
                    output::data(&format!("{}: ok, {backends}, {routes}", args.config.display()))?;
                }
            }
            if refused {
                let text = format!("{} refused by --strict", output::counted(config.warnings.len(), "warning"));
                return Err(Failure { code: LOCAL, text });
            }
            Ok(())
        }
        Err(found) => {
            if format == Format::Json {
                output::json(&json!({ "ok": false, "file": found.file, "errors": found.errors }))?;
            }
            let text = format!("{found}\n{}", output::counted(found.errors.len(), "error"));
            Err(Failure { code: LOCAL, text })
        }
    }
}
