//! `registrar initial-access-tokens`: in the store that the configuration names. Works while the gateway runs.

use std::collections::BTreeSet;

use registrar_core::ExposeSecret;
use registrar_engine::dcr::{self, Grant, Terms};
use serde_json::json;

use crate::{
    api,
    args::{Format, InitialAccessTokensCommand as Tokens},
    check,
    failure::Failure,
    output,
};

pub(crate) fn run(command: Tokens, format: Format) -> Result<(), Failure> {
    let config = match &command {
        Tokens::Create { config, .. } | Tokens::List { config } | Tokens::Delete { config, .. } => config,
    };
    let url = check::store(config)?;
    api::block_on(async {
        let store = check::open(&url).await?;
        let done = match command {
            Tokens::Create { name, uses, expires_in, routes, scopes, redirect_hosts, .. } => {
                let some = |list: Vec<String>| -> Option<BTreeSet<String>> {
                    (!list.is_empty()).then(|| list.into_iter().collect())
                };
                let terms = Terms { routes: some(routes), scopes: some(scopes), redirect_hosts: some(redirect_hosts) };
                let grant = Grant::for_seconds(name, uses, expires_in, terms);
                let made = dcr::create_initial_access_token(store.as_ref(), grant).await;
                let made = made.map_err(|e| Failure::of(&e))?;
                match format {
                    Format::Json => output::json(
                        &json!({ "id": made.record.id, "name": made.record.name, "token": made.token.expose_secret() }),
                    ),
                    Format::Table => {
                        output::note(&format!("token `{}` made; it is shown once:", made.record.id));
                        output::data(made.token.expose_secret())
                    }
                }
            }
            Tokens::List { .. } => {
                let found = store.initial_access_tokens().await.map_err(|e| Failure::local(e.to_string()))?;
                match format {
                    Format::Json => {
                        let items: Vec<_> = found
                            .iter()
                            .map(|t| json!({ "id": t.id, "name": t.name, "uses_left": t.uses_left, "terms": t.terms }))
                            .collect();
                        output::json(&items)
                    }
                    Format::Table => {
                        let mut table = output::table(&["id", "name", "uses left", "terms"]);
                        for token in &found {
                            let uses = token.uses_left.map_or_else(|| "any".to_owned(), |n| n.to_string());
                            table.add_row([token.id.clone(), token.name.clone(), uses, token.terms.to_string()]);
                        }
                        output::data(&table.to_string())
                    }
                }
            }
            Tokens::Delete { id, .. } => match store.delete_initial_access_token(&id).await {
                Ok(true) => {
                    output::note(&format!("token `{id}` forgotten; it stops working now"));
                    Ok(())
                }
                Ok(false) => Err(Failure::local(format!("there is no initial access token `{id}`"))),
                Err(error) => Err(Failure::local(error.to_string())),
            },
        };
        store.close().await;
        done
    })
}
