//! `registrar check`

use registrar_adapters::VENDORS;
use registrar_engine::{Config, Environment, config::resolve_secret};
use serde_json::json;

use crate::{
    args::{ConfigArgs, Format},
    failure::{Failure, LOCAL},
    output,
};

/// The vendor kinds and the secrets of the environment.
pub(crate) fn environment() -> Environment<'static> {
    Environment { vendors: VENDORS, secrets: &resolve_secret }
}

pub(crate) fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    Config::load(&args.config, environment()).map_err(|d| Failure { code: LOCAL, text: d.to_string() })
}

pub(crate) fn run(args: &ConfigArgs, format: Format) -> Result<(), Failure> {
    match Config::load(&args.config, environment()) {
        Ok(config) => {
            let (backends, routes) = (config.backends.len(), config.routes.len());
            if format == Format::Table {
                for warning in &config.warnings {
                    output::note(&format!("warning: {}{warning}", args.config.display()));
                }
            }
            match format {
                Format::Json => output::json(
                    &json!({ "ok": true, "backends": backends, "routes": routes, "errors": [], "warnings": config.warnings }),
                ),
                Format::Table => {
                    let (backends, routes) = (output::counted(backends, "backend"), output::counted(routes, "route"));
                    output::data(&format!("{}: ok, {backends}, {routes}", args.config.display()))
                }
            }
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
