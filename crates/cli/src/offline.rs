//! `registrar preview` and `registrar routes explain`: the same pure functions as the gateway's, without a network.

use std::{io::Read as _, path::Path, sync::Arc};

use async_trait::async_trait;
use registrar_adapters::VENDORS;
use registrar_core::{Error, ErrorKind, Http, Request, Response, SecretString};
use registrar_engine::{AlwaysOpen, Config, Connect, ConnectOptions, Connection, DryRun, Engine, Environment, Secrets};
use registrar_model::NewRegistration;
use registrar_store::MemoryStore;
use serde_json::{Value, json};

use crate::{
    args::{ExplainArgs, Format, PreviewArgs},
    failure::{Failure, LOCAL, REFUSED},
    output,
};

/// A way that leads nowhere.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Http for Nowhere {
    async fn send(&self, _request: Request) -> registrar_core::Result<Response> {
        Err(Error::new(ErrorKind::Internal, "nothing is sent here"))
    }
}

impl Connect for Nowhere {
    fn connect(&self, _options: ConnectOptions) -> Result<Connection, String> {
        Ok(Connection { http: Arc::new(Self), health: Arc::new(|| json!({})), gate: Arc::new(AlwaysOpen) })
    }
}

/// Reads a JSON document; `-` is standard input.
pub(crate) fn read_json(path: &Path) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map_err(|e| Failure::local(format!("standard input: {e}")))?;
    } else {
        bytes = std::fs::read(path).map_err(|e| Failure::local(format!("{}: {e}", path.display())))?;
    }
    // RFC 8259 §8.1 lets a reader ignore a byte order mark
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(Failure::local(format!("{} is in UTF-16; save it as UTF-8", path.display())));
    }
    registrar_model::json::parse(text).map_err(|error| match error {
        registrar_model::json::JsonError::Malformed(text) => Failure::local(format!("{}: {text}", path.display())),
        registrar_model::json::JsonError::Refused(issues) => Failure::of(&Error::validation(issues)),
    })
}

/// A registration; client metadata alone is taken as one.
pub(crate) fn envelope(document: Value) -> Value {
    match document {
        Value::Object(object) if !object.contains_key("metadata") && object.contains_key("redirect_uris") => {
            json!({ "metadata": object })
        }
        other => other,
    }
}

fn registration(path: &Path, backend: Option<&str>) -> Result<NewRegistration, Failure> {
    let mut body = envelope(read_json(path)?);
    if let (Some(backend), Some(body)) = (backend, body.as_object_mut()) {
        body.insert("backend".to_owned(), json!(backend));
    }
    NewRegistration::decode(&body).map_err(|issues| Failure::of(&Error::validation(issues)))
}

fn engine(config: Option<&Path>) -> Result<Engine, Failure> {
    // secrets are not needed to see what would be sent
    let any = |_: &str| Ok(SecretString::from("not needed").into());
    let environment = Environment { vendors: VENDORS, secrets: &any };
    let parsed = match config {
        Some(path) => Config::load_with(path, environment, Secrets::None),
        None => Config::parse(&every_kind(), Path::new("built in"), environment),
    };
    let config = parsed.map_err(|d| Failure { code: LOCAL, text: d.to_string() })?;
    Engine::new(Arc::new(MemoryStore::default()), VENDORS, config.backends, config.routes, &Nowhere)
        .map_err(Failure::local)
}

/// One backend of each kind, named after it.
fn every_kind() -> String {
    let backend = |kind: &str| {
        format!(
            "[[backends]]\nname = \"{kind}\"\nkind = \"{kind}\"\nsettings = {{ base_url = \"https://{kind}.example\", token = \"env:X\" }}\n"
        )
    };
    VENDORS.iter().map(|v| backend(v.descriptor.kind)).collect()
}

pub(crate) fn preview(args: &PreviewArgs, format: Format) -> Result<(), Failure> {
    let engine = engine(args.config.as_deref())?;
    let wanted: Vec<Option<String>> = match (&args.backend, &args.config) {
        (Some(backend), _) => vec![Some(backend.clone())],
        (None, Some(_)) => vec![None],
        (None, None) => VENDORS.iter().map(|v| Some(v.descriptor.kind.to_owned())).collect(),
    };
    let single = wanted.len() == 1;
    let mut refused = false;
    let mut documents = Vec::new();
    for backend in wanted {
        let request = registration(&args.file, backend.as_deref())?;
        match engine.dry_run(&request) {
            Ok(plan) => {
                refused |= plan.would == "refuse";
                match format {
                    Format::Json => documents.push(json!(plan)),
                    Format::Table => show(&plan)?,
                }
            }
            Err(error) if single => return Err(Failure::of(&error)),
            Err(error) => match format {
                Format::Json => documents.push(json!({ "backend": backend, "would": "refuse", "reason": error.detail(), "errors": error.issues() })),
                Format::Table => output::data(&format!("== {}: refused: {}\n", backend.unwrap_or_default(), error.detail()))?,
            },
        }
    }
    if format == Format::Json {
        match documents.as_slice() {
            [one] if single => output::json(one)?,
            many => output::json(&many)?,
        }
    }
    if single && refused {
        return Err(Failure {
            code: REFUSED,
            text: "refused: something would be lost; see above, and allow_loss".to_owned(),
        });
    }
    Ok(())
}

fn show(plan: &DryRun) -> Result<(), Failure> {
    let route = plan.route.as_ref().map(|r| format!(" (route `{r}`)")).unwrap_or_default();
    let mut text = format!("== {}{route}: would {}\n", plan.backend, plan.would);
    if let Some(reason) = &plan.reason {
        text.push_str(&format!("   {reason}\n"));
    }
    for request in &plan.requests {
        let body = request.body().as_ref().and_then(|b| serde_json::to_string_pretty(b).ok()).unwrap_or_default();
        text.push_str(&format!("\n{} {}\n{body}\n", request.method, request.url));
    }
    if plan.losses.is_empty() {
        text.push_str("\nnothing is lost\n");
    } else {
        text.push_str(&format!("\n{}\n", output::losses(&plan.losses)));
    }
    output::data(&text)
}

pub(crate) fn explain(args: &ExplainArgs, format: Format) -> Result<(), Failure> {
    let engine = engine(Some(&args.config.config))?;
    let evaluation = engine.evaluate(&registration(&args.file, None)?);
    match format {
        Format::Json => output::json(&evaluation)?,
        Format::Table => {
            let mut table = output::table(&["route", "matched", "reason"]);
            for considered in &evaluation.considered {
                table.add_row([considered.route.clone(), considered.matched.to_string(), considered.reason.clone()]);
            }
            let verdict = match (&evaluation.backend, &evaluation.route) {
                (Some(backend), Some(route)) => format!("-> backend `{backend}`, by route `{route}`"),
                (Some(backend), None) => format!("-> backend `{backend}`, named by the registration"),
                (None, _) => "-> no route matches".to_owned(),
            };
            output::data(&format!("{table}\n{verdict}"))?;
        }
    }
    if evaluation.backend.is_none() {
        return Err(Failure { code: REFUSED, text: "no route matches".to_owned() });
    }
    Ok(())
}
