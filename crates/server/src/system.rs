//! Backends, vendors, routes, health, metrics, documents.

use axum::{
    Extension,
    extract::{Path, Request, State},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
use registrar_core::{Error, ErrorKind};
use registrar_engine::Scope;
use registrar_model::NewRegistration;
use registrar_store::{StoreError, Trouble};
use serde_json::{Value, json};

use crate::{
    App,
    auth::Principal,
    body::{self, JSON},
    clients::Id,
    problem::{self, Context},
    query::Query,
    render,
};

/// `GET /v1/backends`
pub(crate) async fn backends(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    uri: Uri,
) -> Response {
    let answer = principal
        .require(Scope::OpsRead)
        .and_then(|()| Query::read(&uri, &[]))
        .map(|_| render::json(StatusCode::OK, &json!({ "items": app.engine().backends() })));
    answer.unwrap_or_else(|error| context.error(&error))
}

/// `GET /v1/backends/{name}`, `?check=true`
pub(crate) async fn backend(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    name: Id,
    uri: Uri,
) -> Response {
    let answer = async {
        principal.require(Scope::OpsRead)?;
        let query = Query::read(&uri, &["check"])?;
        let unknown = || Error::new(ErrorKind::BackendNotFound, "there is no backend with this name");
        let Path(name) = name.map_err(|_| unknown())?;
        let backend = app.engine().backend(&name)?;
        let checked = if query.flag("check")? { Some(backend.adapter.check().await) } else { None };
        let mut view = backend.view();
        if let (Some(result), Some(view)) = (checked, view.as_object_mut()) {
            let check = match result {
                Ok(()) => json!({ "ok": true }),
                Err(error) => {
                    json!({ "ok": false, "code": error.kind().slug(), "detail": error.detail(), "vendor": error.vendor() })
                }
            };
            view.insert("check".to_owned(), check);
        }
        Ok::<_, Error>(render::json(StatusCode::OK, &view))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `GET /v1/vendors`
pub(crate) async fn vendors(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    _anyone: Principal,
    uri: Uri,
) -> Response {
    let answer =
        Query::read(&uri, &[]).map(|_| render::json(StatusCode::OK, &json!({ "items": app.engine().vendors() })));
    answer.unwrap_or_else(|error| context.error(&error))
}

/// `POST /v1/routes:evaluate`
pub(crate) async fn evaluate(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    _anyone: Principal,
    request: Request,
) -> Response {
    let answer = async {
        Query::read(request.uri(), &[])?;
        let (_, body) = body::read(request, JSON).await?;
        let registration = NewRegistration::decode(&body).map_err(Error::validation)?;
        Ok::<_, Error>(render::json(StatusCode::OK, &json!(app.engine().evaluate(&registration))))
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Response {
    render::json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// `GET /readyz`: the store works and the process is not about to stop. Vendors do not count: one that is down must
/// not take the gateway out of service for the others.
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let not = |reason: &str| {
        render::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": reason }))
    };
    if app.is_draining() {
        return not("shutting down");
    }
    match app.engine().store().ping().await {
        Ok(()) => render::json(StatusCode::OK, &json!({ "status": "ready" })),
        // the store has said so in the log once
        Err(StoreError::Unavailable(Trouble::Full)) => {
            not("the disk is full: nothing new is begun; results are still recorded")
        }
        Err(error) => {
            tracing::error!(%error, "the store does not answer");
            not("the store does not work")
        }
    }
}

/// `GET /metrics`: the Prometheus text format.
pub(crate) async fn metrics(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
) -> Response {
    if let Err(error) = principal.require(Scope::OpsRead) {
        return context.error(&error);
    }
    let mut response = app.inner.metrics.render().into_response();
    let value = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// `GET /openapi.json`
pub(crate) async fn openapi(State(app): State<App>) -> Response {
    let mut response = app.openapi().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What the page at `/docs` may do: run its own scripts, and ask this gateway under the names that it has.
pub(crate) async fn page(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    // a source with a path would stand for that very path
    let origin: String = app.public_url().split_inclusive('/').take(3).collect();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self' {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        origin.trim_end_matches('/')
    );
    if let Ok(value) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, value);
    }
    response
}

/// `GET /problems/{code}`: what an error means, for people (RFC 9457 §3.1.1).
pub(crate) async fn problem(Extension(context): Extension<Context>, code: Id) -> Response {
    let kind = code.ok().and_then(|Path(code)| ErrorKind::from_slug(&code));
    let Some(kind) = kind else {
        return context.error(&Error::new(ErrorKind::RouteNotFound, "there is no problem type with this name"));
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    // every part is our own constant text
    let page = Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>body{{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}</style><h1>{title}</h1><p><code>{code}</code>, HTTP status {status}</p><p>{advice}</p>",
        title = kind.title(),
        code = kind.slug(),
        status = problem::status(kind).as_u16(),
        advice = problem::advice(kind).replace('<', "&lt;"),
    ));
    ([(header::CONTENT_SECURITY_POLICY, policy)], page).into_response()
}

/// Any path that does not exist.
pub(crate) async fn not_found(Extension(context): Extension<Context>) -> Response {
    context.error(&Error::new(
        ErrorKind::RouteNotFound,
        "there is nothing at this path; GET /openapi.json lists what there is",
    ))
}

/// A path that exists, with a method that does not; axum adds `Allow`.
pub(crate) async fn method_not_allowed(Extension(context): Extension<Context>) -> Response {
    context.error(&Error::new(
        ErrorKind::MethodNotAllowed,
        "this path does not have this method; `Allow` lists those that it has",
    ))
}

/// The same, for callers that are known only.
pub(crate) async fn method_not_allowed_here(context: Extension<Context>, _anyone: Principal) -> Response {
    method_not_allowed(context).await
}

/// The answer to a panic in a handler: a defect, but not a closed connection.
pub(crate) fn panicked() -> Value {
    json!({ "title": ErrorKind::Internal.title(), "status": 500, "code": ErrorKind::Internal.slug(), "outcome": "unknown", "retryable": false })
}
