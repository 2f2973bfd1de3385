//! `/v1/operations`: the journal.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use http::{StatusCode, Uri};
use registrar_core::{Error, ErrorKind};
use registrar_engine::{Scope, store_error};
use registrar_store::{OperationState, PageRequest};
use serde_json::{Map, Value, json};

use crate::{App, auth::Principal, clients::Id, problem::Context, query::Query, render};

/// `GET /v1/operations`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
) -> Response {
    let answer = async {
        principal.require(Scope::OpsRead)?;
        let query = Query::read(&uri, &["state", "limit", "cursor"])?;
        let state = match query.word("state", &["pending", "succeeded", "failed", "unknown"])? {
            None => None,
            Some("pending") => Some(OperationState::Pending),
            Some("succeeded") => Some(OperationState::Succeeded),
            Some("failed") => Some(OperationState::Failed),
            Some(_) => Some(OperationState::Unknown),
        };
        let page = PageRequest { limit: query.limit()?, after: query.get("cursor").map(str::to_owned) };
        let found = app.engine().store().operations(state, page).await.map_err(store_error)?;
        let mut body = Map::new();
        body.insert("items".to_owned(), json!(found.items));
        if let Some(cursor) = &found.next {
            body.insert("next_cursor".to_owned(), json!(cursor));
        }
        Ok::<_, Error>(render::json(StatusCode::OK, &Value::Object(body)))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `GET /v1/operations/{id}`
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    Extension(principal): Extension<Principal>,
    id: Id,
    uri: Uri,
) -> Response {
    let answer = async {
        principal.require(Scope::OpsRead)?;
        Query::read(&uri, &[])?;
        let unknown = || Error::new(ErrorKind::OperationNotFound, "there is no operation with this id");
        let id = id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(unknown)?;
        let found = app.engine().store().operation(id).await.map_err(store_error)?;
        Ok::<_, Error>(render::json(StatusCode::OK, &json!(found.ok_or_else(unknown)?)))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}
