//! `registrar keys`: API keys, in the store that the configuration names. Works while the gateway runs.

use registrar_core::ExposeSecret;
use registrar_engine::{Scope, keys};
use serde_json::json;

use crate::{
    api,
    args::{Format, KeysCommand},
    check,
    failure::Failure,
    output,
};

pub(crate) fn run(command: KeysCommand, format: Format) -> Result<(), Failure> {
    let config = match &command {
        KeysCommand::Create { config, .. } | KeysCommand::List { config } | KeysCommand::Delete { config, .. } => {
            config
        }
    };
    let init = matches!(&command, KeysCommand::Create { init: true, .. });
    let url = check::store(config)?;
    api::block_on(async {
        let store = match init && url != "memory:" {
            true => registrar_store::open(&url).await.map_err(|error| check::unusable(&url, &error))?,
            false => check::open(&url).await?,
        };
        let done = match command {
            KeysCommand::Create { name, scopes, .. } => {
                let scopes = parse(&scopes)?;
                let key = keys::create(store.as_ref(), &name, &scopes).await.map_err(|e| Failure::of(&e))?;
                match format {
                    Format::Json => output::json(
                        &json!({ "id": key.id, "name": key.name, "scopes": key.scopes, "token": key.token.expose_secret() }),
                    ),
                    Format::Table => {
                        output::note(&format!("key `{name}` made; its token is shown once:"));
                        output::data(key.token.expose_secret())
                    }
                }
            }
            KeysCommand::List { .. } => {
                let found = store.api_keys().await.map_err(|e| Failure::local(e.to_string()))?;
                match format {
                    Format::Json => {
                        let items: Vec<_> =
                            found.iter().map(|k| json!({ "id": k.id, "name": k.name, "scopes": k.scopes })).collect();
                        output::json(&items)
                    }
                    Format::Table => {
                        let mut table = output::table(&["name", "id", "scopes"]);
                        for key in &found {
                            table.add_row([key.name.clone(), key.id.clone(), key.scopes.join(" ")]);
                        }
                        output::data(&table.to_string())
                    }
                }
            }
            KeysCommand::Delete { name, .. } => match store.delete_api_key(&name).await {
                Ok(true) => {
                    output::note(&format!("key `{name}` forgotten; it stops working now"));
                    Ok(())
                }
                Ok(false) => Err(Failure::local(format!("there is no key called `{name}`"))),
                Err(error) => Err(Failure::local(error.to_string())),
            },
        };
        store.close().await;
        done
    })
}

fn parse(words: &[String]) -> Result<Vec<Scope>, Failure> {
    if words.is_empty() {
        return Ok(Scope::ALL.to_vec());
    }
    let known = Scope::ALL.map(Scope::as_str).join(", ");
    words
        .iter()
        .map(|w| {
            Scope::from_word(w.trim())
                .ok_or_else(|| Failure::local(format!("there is no scope `{w}`; there are {known}")))
        })
        .collect()
}
