//! `/v1/initial-access-tokens`

use axum::{
    Extension,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, Uri};
use registrar_core::{Error, ErrorKind, ExposeSecret as _, Result};
use registrar_engine::{Scope, dcr, store_error};
use registrar_model::{Issue, IssueCode, Issues, Pointer};
use registrar_store::InitialAccessToken;
use serde_json::{Map, Value, json};

use crate::{
    App,
    auth::Principal,
    body::{self, JSON},
    clients::Id,
    problem::Context,
    query::Query,
    render::{self, Time},
};

/// The longest life, in seconds: ten years.
pub(crate) const MAX_LIFE: u64 = 10 * 365 * 24 * 60 * 60;

/// `POST /v1/initial-access-tokens`
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    request: Request,
) -> Response {
    let answer = async {
        principal.require(Scope::TokensWrite)?;
        Query::read(request.uri(), &[])?;
        let (_, body) = body::read(request, JSON).await?;
        let made = dcr::create_initial_access_token(app.engine().store().as_ref(), grant(&body)?).await?;
        let mut view = view(&made.record);
        view.insert("token".to_owned(), json!(made.token.expose_secret()));
        Ok::<_, Error>(render::json(StatusCode::CREATED, &Value::Object(view)))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `GET /v1/initial-access-tokens`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    uri: Uri,
) -> Response {
    let answer = async {
        principal.require(Scope::TokensWrite)?;
        Query::read(&uri, &[])?;
        let found = app.engine().store().initial_access_tokens().await.map_err(store_error)?;
        let items: Vec<Value> = found.iter().map(|t| Value::Object(view(t))).collect();
        Ok::<_, Error>(render::json(StatusCode::OK, &json!({ "items": items })))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `DELETE /v1/initial-access-tokens/{id}`
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    uri: Uri,
) -> Response {
    let answer = async {
        principal.require(Scope::TokensWrite)?;
        Query::read(&uri, &[])?;
        let id = id.map(|Path(id)| id).unwrap_or_default();
        if app.engine().store().delete_initial_access_token(&id).await.map_err(store_error)? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Err(Error::new(ErrorKind::TokenNotFound, "there is no initial access token with this id"))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// A token for people; never its secret, nor the hash of it.
fn view(token: &InitialAccessToken) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("id".to_owned(), json!(token.id));
    out.insert("name".to_owned(), json!(token.name));
    out.insert("created_at".to_owned(), json!(Time(token.created_at)));
    if let Some(end) = token.expires_at {
        out.insert("expires_at".to_owned(), json!(Time(end)));
    }
    if let Some(uses) = token.uses_left {
        out.insert("uses_left".to_owned(), json!(uses));
    }
    out.extend(token.terms.as_object().cloned().unwrap_or_default());
    out
}

fn grant(body: &Value) -> Result<dcr::Grant> {
    let mut issues = Issues::new();
    let at = Pointer::root();
    let Value::Object(object) = body else {
        return Err(Error::new(ErrorKind::MalformedBody, "an initial access token is described by one JSON object"));
    };
    let known = ["name", "uses", "expires_in", "routes", "scopes", "redirect_hosts"];
    for name in object.keys().filter(|n| !known.contains(&n.as_str())) {
        let detail = format!("there is no such member; there are {}", known.join(", "));
        issues.push(at.child(name), IssueCode::UnknownMember, detail);
    }
    let mut number = |name: &str, most: u64| {
        let value = object.get(name).filter(|v| !v.is_null())?;
        let number = value.as_u64().filter(|n| (1..=most).contains(n));
        if number.is_none() {
            issues.push(at.child(name), IssueCode::InvalidValue, format!("must be a whole number from 1 to {most}"));
        }
        number
    };
    let uses = number("uses", u64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok());
    let life = number("expires_in", MAX_LIFE);
    let terms = ["routes", "scopes", "redirect_hosts"].into_iter().filter_map(|n| Some((n.to_owned(), object.get(n)?)));
    let terms: Map<String, Value> = terms.map(|(name, list)| (name, list.clone())).collect();
    let terms = serde_json::from_value(Value::Object(terms)).unwrap_or_else(|_| {
        issues.push(&at, IssueCode::WrongType, "`routes`, `scopes` and `redirect_hosts` are lists of strings");
        dcr::Terms::default()
    });
    let name = match object.get("name") {
        None => "unnamed".to_owned(),
        Some(Value::String(name)) => name.clone(),
        Some(_) => {
            issues.push(at.child("name"), IssueCode::WrongType, "expected a string");
            String::new()
        }
    };
    let found: Vec<Issue> = issues.into_vec();
    if !found.is_empty() {
        return Err(Error::validation(found));
    }
    Ok(dcr::Grant::for_seconds(name, uses, life, terms))
}
