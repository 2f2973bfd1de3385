//! `registrar operations`: the journal of a running gateway.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{self, Api},
    args::{Format, OperationsArgs, OperationsCommand},
    failure::Failure,
    output,
};

const JSON: &str = "application/json";

pub(crate) fn run(args: OperationsArgs, format: Format) -> Result<(), Failure> {
    let api = args.gateway.api()?;
    api::block_on(command(&api, args.command, format))
}

async fn command(api: &Api, command: OperationsCommand, format: Format) -> Result<(), Failure> {
    match command {
        OperationsCommand::List { state, limit } => list(api, state.as_deref(), limit, format).await,
        OperationsCommand::Get { id } => {
            let answer = api.expect(Method::GET, &["v1", "operations", &id], &[], None, &[]).await?;
            shown(&answer, format)
        }
        OperationsCommand::Resolve { id, adopt, vendor_ref, force, absent: _, gone } => {
            let body = match adopt {
                Some(client_id) => {
                    let mut client = json!({ "client_id": client_id });
                    if let (Some(vendor_ref), Some(client)) = (vendor_ref, client.as_object_mut()) {
                        client.insert("vendor_ref".to_owned(), json!(vendor_ref));
                    }
                    if force { json!({ "adopt": client, "force": true }) } else { json!({ "adopt": client }) }
                }
                None if gone => json!({ "gone": true }),
                None => json!({ "absent": true }),
            };
            let segment = format!("{id}:resolve");
            let answer =
                api.expect(Method::POST, &["v1", "operations", &segment], &[], Some((JSON, &body)), &[]).await?;
            shown(&answer, format)
        }
        OperationsCommand::Acknowledge { id } => {
            let segment = format!("{id}:acknowledge");
            api.expect(Method::POST, &["v1", "operations", &segment], &[], None, &[]).await?;
            output::note("the sealed secret of this operation is destroyed");
            Ok(())
        }
    }
}

async fn list(api: &Api, state: Option<&str>, limit: usize, format: Format) -> Result<(), Failure> {
    let filter: Vec<(&str, String)> = state.map(|s| ("state", s.to_owned())).into_iter().collect();
    let (items, more) = api.items(&["v1", "operations"], &filter, limit).await?;
    match format {
        Format::Json => output::json(&items)?,
        Format::Table => {
            let mut table = output::table(&["id", "action", "backend", "state", "outcome", "summary"]);
            for item in &items {
                let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
                table.add_row(["id", "action", "backend", "state", "outcome", "summary"].map(text));
            }
            output::data(&table.to_string())?;
        }
    }
    if more {
        output::note(&format!("there are more; only the first {limit} are shown (--limit)"));
    }
    Ok(())
}

fn shown(answer: &Value, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(answer);
    }
    let mut table = output::table(&["member", "value"]);
    for (name, value) in answer.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => {
                for (member, value) in inner {
                    table.add_row([format!("{name}.{member}"), output::short(value)]);
                }
            }
            _ => {
                table.add_row([name.clone(), output::short(value)]);
            }
        }
    }
    output::data(&table.to_string())
}
