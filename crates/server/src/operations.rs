//! `/v1/operations`: the journal.

use axum::{
    Extension,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
use registrar_core::{Error, ErrorKind, Result};
use registrar_engine::{Resolution, Scope, store_error};
use registrar_model::{IssueCode, Issues, OperationId, Pointer};
use registrar_store::{OperationState, PageRequest};
use serde_json::{Map, Value, json};

use crate::{
    App,
    auth::Principal,
    body::{self, JSON},
    clients::Id,
    problem::Context,
    query::Query,
    render,
};

/// `GET /v1/operations`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
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
    principal: Principal,
    id: Id,
    uri: Uri,
) -> Response {
    let segment = id.map(|Path(text)| text).unwrap_or_default();
    if is_verb(&segment) {
        return not_allowed(&context, &segment);
    }
    let answer = async {
        principal.require(Scope::OpsRead)?;
        Query::read(&uri, &[])?;
        let id = segment.parse().map_err(|_| missing())?;
        let found = app.engine().store().operation(id).await.map_err(store_error)?;
        Ok::<_, Error>(render::json(StatusCode::OK, &json!(found.ok_or_else(missing)?)))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `POST /v1/operations/{id}:acknowledge` and `POST /v1/operations/{id}:resolve`
///
/// One route for both, because a path segment is either a parameter or a word for the router.
pub(crate) async fn act(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    request: Request,
) -> Response {
    let segment = id.map(|Path(text)| text).unwrap_or_default();
    if !segment.contains(':') {
        return not_allowed(&context, &segment);
    }
    let answer = async {
        principal.require(Scope::ClientsWrite)?;
        Query::read(request.uri(), &[])?;
        let (id, verb) = segment.split_once(':').unwrap_or((&segment, ""));
        let id = id.parse::<OperationId>().map_err(|_| missing());
        match verb {
            "acknowledge" => {
                app.engine().acknowledge(id?).await?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            "resolve" => {
                let (_, body) = body::read(request, JSON).await?;
                let how = resolution(&body)?;
                let operation = app.engine().resolve(&principal.name, id?, how).await?;
                Ok(render::json(StatusCode::OK, &operation))
            }
            _ => Err(Error::new(
                ErrorKind::RouteNotFound,
                "an operation takes POST only as ID:acknowledge and ID:resolve",
            )),
        }
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// A method that neither an operation nor what can be done with it has.
pub(crate) async fn method_not_allowed(Extension(context): Extension<Context>, _anyone: Principal, id: Id) -> Response {
    not_allowed(&context, &id.map(|Path(text)| text).unwrap_or_default())
}

fn is_verb(segment: &str) -> bool {
    segment.ends_with(":acknowledge") || segment.ends_with(":resolve")
}

/// 405 with the methods of this very path: the router takes `ID` and `ID:resolve` for one.
fn not_allowed(context: &Context, segment: &str) -> Response {
    let detail = "this path does not have this method; `Allow` lists those that it has";
    let mut response = context.error(&Error::new(ErrorKind::MethodNotAllowed, detail));
    let methods = if is_verb(segment) { "POST" } else { "GET,HEAD" };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn missing() -> Error {
    Error::new(ErrorKind::OperationNotFound, "there is no operation with this id")
}

/// `{"adopt": {"client_id": ..., "vendor_ref"?: ...}, "force"?: true}`, `{"absent": true}` or `{"gone": true}`
fn resolution(body: &Value) -> Result<Resolution> {
    let mut issues = Issues::new();
    let at = Pointer::root();
    let example = "send {\"adopt\": {\"client_id\": \"...\"}}, {\"absent\": true} or {\"gone\": true}";
    let members: Vec<(&str, &Value)> = body.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v)).collect();
    let how = match members.as_slice() {
        [("absent", Value::Bool(true))] => Some(Resolution::Absent),
        [("gone", Value::Bool(true))] => Some(Resolution::Gone),
        [("adopt", Value::Object(client))] | [("adopt", Value::Object(client)), ("force", Value::Bool(_))] => {
            let force = [body.get("force"), client.get("force")].contains(&Some(&Value::Bool(true)));
            let here = at.child("adopt");
            for name in client.keys().filter(|n| !matches!(n.as_str(), "client_id" | "vendor_ref" | "force")) {
                let detail = "`adopt` has client_id, vendor_ref and force";
                issues.push(here.child(name), IssueCode::UnknownMember, detail);
            }
            let vendor_ref = match client.get("vendor_ref") {
                None => None,
                Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
                Some(_) => {
                    issues.push(here.child("vendor_ref"), IssueCode::WrongType, "expected a text that is not empty");
                    None
                }
            };
            let client_id = client.get("client_id").and_then(Value::as_str).and_then(|text| text.parse().ok());
            if client_id.is_none() {
                issues.push(here.child("client_id"), IssueCode::Required, "the client's id at the vendor");
            }
            if client.get("force").is_some_and(|force| !force.is_boolean()) {
                issues.push(here.child("force"), IssueCode::WrongType, "expected true or false");
            }
            client_id.map(|client_id| Resolution::Adopt { client_id, vendor_ref, force })
        }
        _ => {
            issues.push(&at, IssueCode::InvalidValue, example);
            None
        }
    };
    let how = issues.into_result(how).map_err(Error::validation)?;
    how.ok_or_else(|| Error::new(ErrorKind::Validation, example))
}
