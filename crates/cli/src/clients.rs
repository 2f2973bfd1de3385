//! `registrar clients`: a running gateway's clients.

use registrar_model::Loss;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    api::{self, Api, Write},
    args::{ClientsArgs, ClientsCommand, Format},
    failure::{Failure, LOST},
    offline::{envelope, read_json},
    output,
};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

pub(crate) fn run(args: ClientsArgs, format: Format) -> Result<(), Failure> {
    let api = args.gateway.api()?;
    api::block_on(command(&api, args.command, args.idempotency_key.as_deref(), format))
}

async fn command(api: &Api, command: ClientsCommand, key: Option<&str>, format: Format) -> Result<(), Failure> {
    match command {
        ClientsCommand::Create { file, backend, allow_loss, labels, dry_run } => {
            let mut body = envelope(read_json(&file)?);
            if let Some(object) = body.as_object_mut() {
                if let Some(backend) = backend {
                    object.insert("backend".to_owned(), json!(backend));
                }
                extend(object, "allow_loss", allow_loss.into_iter().map(Value::String).collect());
                for (key, value) in pairs(&labels)? {
                    let slot = object.entry("labels").or_insert_with(|| json!({}));
                    if let Some(slot) = slot.as_object_mut() {
                        slot.insert(key, json!(value));
                    }
                }
            }
            let query: &[(&str, &str)] = if dry_run { &[("dry_run", "true")] } else { &[] };
            let (segments, body) = (&["v1", "clients"], Some((JSON, &body)));
            let answer = if dry_run {
                api.expect(Method::POST, segments, query, body, &[]).await?
            } else {
                api.write(Write { method: Method::POST, segments, query, body, headers: Vec::new(), key }).await?
            };
            written(&answer, format)?;
            recorded(&answer)
        }
        ClientsCommand::List { backend, labels, q, limit } => list(api, backend, &labels, q, limit, format).await,
        ClientsCommand::Get { id, live } => {
            let query: &[(&str, &str)] = if live { &[("source", "vendor")] } else { &[] };
            let answer = api.expect(Method::GET, &["v1", "clients", &id], query, None, &[]).await?;
            written(&answer, format)
        }
        ClientsCommand::Update { id, file, replace, if_version } => {
            let document = read_json(&file)?;
            let (method, media_type, body) =
                if replace { (Method::PUT, JSON, envelope(document)) } else { (Method::PATCH, MERGE_PATCH, document) };
            let (segments, headers) = (&["v1", "clients", &id], if_match(if_version));
            let body = Some((media_type, &body));
            let answer = api.write(Write { method, segments, query: &[], body, headers, key }).await?;
            written(&answer, format)?;
            recorded(&answer)
        }
        ClientsCommand::Used { ids } => used(api, &ids).await,
        ClientsCommand::Delete { id, disable, if_version } => {
            let query: &[(&str, &str)] = if disable { &[("mode", "disable")] } else { &[] };
            let (segments, headers) = (&["v1", "clients", &id], if_match(if_version));
            let answer = api.write(Write { method: Method::DELETE, segments, query, body: None, headers, key }).await?;
            if answer.is_null() {
                output::note(&format!("deleted {id} at its vendor"));
                return Ok(());
            }
            written(&answer, format)?;
            recorded(&answer)
        }
        ClientsCommand::RotateSecret { id } => {
            let segments = &["v1", "clients", &id, "secret"];
            let headers = Vec::new();
            let write = Write { method: Method::POST, segments, query: &[], body: None, headers, key };
            let answer = api.write(write).await?;
            match format {
                Format::Json => output::json(&answer)?,
                Format::Table => {
                    output::note("the new secret is shown once:");
                    output::data(answer.get("client_secret").and_then(Value::as_str).unwrap_or(""))?;
                }
            }
            recorded(&answer)
        }
    }
}

/// Says, in words and by the exit code, that the gateway has yet to record what the vendor did.
fn recorded(answer: &Value) -> Result<(), Failure> {
    if answer.get("warning").and_then(Value::as_str) != Some("not_recorded") {
        return Ok(());
    }
    let operation = answer.get("operation").and_then(Value::as_str).unwrap_or_default();
    let text = format!(
        "warning: the vendor did it, and the gateway could not record it yet. Keep what is shown above, do not repeat the \
         command, and look at `registrar operations get {operation}`: it tells when it is recorded"
    );
    Err(Failure { code: LOST, text })
}

/// All of them, also after one that was refused; that one is the result then.
async fn used(api: &Api, ids: &[String]) -> Result<(), Failure> {
    let mut refused = None;
    for id in ids {
        match api.expect(Method::POST, &["v1", "clients", &format!("{id}:used")], &[], None, &[]).await {
            Ok(_) => output::note(&format!("{id} does not expire")),
            Err(failure) => {
                // the last one is told by whoever prints the result
                if let Some(other) = refused.replace(failure) {
                    output::note(&other.text);
                }
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

fn if_match(version: Option<u64>) -> Vec<(&'static str, String)> {
    version.map(|v| ("if-match", format!("\"{v}\""))).into_iter().collect()
}

fn extend(object: &mut Map<String, Value>, name: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    if let Some(list) = object.entry(name).or_insert_with(|| json!([])).as_array_mut() {
        list.extend(more);
    }
}

fn pairs(labels: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let split = |label: &String| label.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    labels.iter().map(|l| split(l).ok_or_else(|| Failure::local(format!("`{l}` is not KEY=VALUE")))).collect()
}

async fn list(
    api: &Api,
    backend: Option<String>,
    labels: &[String],
    q: Option<String>,
    limit: usize,
    format: Format,
) -> Result<(), Failure> {
    let mut filter: Vec<(&str, String)> = Vec::new();
    filter.extend(backend.map(|b| ("backend", b)));
    filter.extend(q.map(|q| ("q", q)));
    filter.extend(pairs(labels)?.into_iter().map(|(k, v)| ("label", format!("{k}:{v}"))));
    let (items, more) = api.items(&["v1", "clients"], &filter, limit).await?;
    match format {
        Format::Json => output::json(&items)?,
        Format::Table => {
            let mut table = output::table(&["id", "name", "backend", "client_id", "state", "updated"]);
            for item in &items {
                let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
                table.add_row([
                    text("/id"),
                    text("/metadata/client_name"),
                    text("/backend"),
                    text("/client_id"),
                    text("/state"),
                    text("/updated_at"),
                ]);
            }
            output::data(&table.to_string())?;
        }
    }
    if more {
        output::note(&format!("there are more; only the first {limit} are shown (--limit)"));
    }
    Ok(())
}

/// One client, with its losses or drift.
fn written(answer: &Value, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(answer);
    }
    let mut table = output::table(&["member", "value"]);
    for (name, value) in answer.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("losses" | "drift" | "requests", _) => {}
            (_, Value::Object(inner)) => {
                for (member, value) in inner {
                    table.add_row([format!("{name}.{member}"), output::short(value)]);
                }
            }
            // the whole secret, whatever its length
            ("client_secret", Value::String(secret)) => {
                table.add_row([name.clone(), secret.clone()]);
            }
            _ => {
                table.add_row([name.clone(), output::short(value)]);
            }
        }
    }
    output::data(&table.to_string())?;
    for request in answer.get("requests").and_then(Value::as_array).into_iter().flatten() {
        output::data(&serde_json::to_string_pretty(request).unwrap_or_default())?;
    }
    if let Some(losses) = answer.get("losses").and_then(|l| serde_json::from_value::<Vec<Loss>>(l.clone()).ok()) {
        if losses.is_empty() {
            output::note("nothing was lost");
        } else {
            output::data(&output::losses(&losses))?;
        }
    }
    if let Some(drift) = answer.get("drift").and_then(Value::as_array) {
        if drift.is_empty() {
            output::note("no drift: the vendor shows what was recorded");
        }
        for item in drift {
            output::data(&format!("drift: {item}"))?;
        }
    }
    Ok(())
}
