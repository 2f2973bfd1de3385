//! The standards face: dynamic client registration (RFC 7591), its management (RFC 7592) and its discovery (RFC 8414).

mod answer;
mod discovery;
pub(crate) mod tokens;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use registrar_core::{Error, ErrorKind, Result, SecretString};
use registrar_engine::{Caller, Written, dcr};
use registrar_model::{NewRegistration, OperationId};
use serde_json::{Map, Value, json};

use crate::{
    App,
    auth::{self, Write},
    body::{self, JSON},
    clients::Id,
    problem::Context,
};
use answer::{Information, Refusal};

/// The path whose last segment is a token: it is never logged.
pub(crate) const TICKET: &str = "/{route}/register/{ticket}";

/// Whether a route is one of this face.
pub(crate) fn is_standard(route: &str) -> bool {
    route.contains("/register") || route.contains("/.well-known/")
}

/// An error as this face tells it.
pub(crate) fn refusal(context: &Context, error: Error) -> Response {
    Refusal::from(error).answer(context)
}

/// The paths of the standards face.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/register", post(register))
        .route("/register/{id}", get(read).put(update).delete(delete))
        .route("/{route}/register", post(register_at))
        .route(TICKET, post(register_with))
        .route("/.well-known/oauth-authorization-server", get(discovery::root))
        .route("/.well-known/oauth-authorization-server/{route}", get(discovery::route))
        .route("/.well-known/openid-configuration", get(discovery::root))
        .route("/.well-known/openid-configuration/{route}", get(discovery::route))
        .route("/{route}/.well-known/openid-configuration", get(discovery::route))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(shared))
}

/// What all answers of this face have: any web page may ask (OIDC Registration §3), nothing is kept.
async fn shared(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in [
        (header::PRAGMA, "no-cache"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, Idempotency-Key, MCP-Protocol-Version"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "WWW-Authenticate, Location, Retry-After, X-Request-Id"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn method_not_allowed(Extension(context): Extension<Context>) -> Response {
    let detail = "this path does not have this method; `Allow` lists those that it has";
    Refusal::from(Error::new(ErrorKind::MethodNotAllowed, detail)).answer(&context)
}

/// `POST /register`
async fn register(State(app): State<App>, Extension(context): Extension<Context>, request: Request) -> Response {
    registered(&app, &context, None, None, request).await.unwrap_or_else(|refusal| refusal.answer(&context))
}

/// `POST /{route}/register`
async fn register_at(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    route: Id,
    request: Request,
) -> Response {
    let route = route.map(|Path(name)| name).unwrap_or_default();
    registered(&app, &context, Some(route), None, request).await.unwrap_or_else(|refusal| refusal.answer(&context))
}

/// `POST /{route}/register/{ticket}`: for clients that cannot send the initial access token in a field.
async fn register_with(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    path: std::result::Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Response {
    let (route, ticket) = path.map(|Path(both)| both).unwrap_or_default();
    let ticket = Some(SecretString::from(ticket));
    registered(&app, &context, Some(route), ticket, request).await.unwrap_or_else(|refusal| refusal.answer(&context))
}

async fn registered(
    app: &App,
    context: &Context,
    route: Option<String>,
    ticket: Option<SecretString>,
    request: Request,
) -> std::result::Result<Response, Refusal> {
    let proxies = app.engine().options().registration.proxies;
    check_transport(app, request.headers(), proxies)?;
    let token = match ticket {
        Some(ticket) => Some(ticket),
        None => bearer(request.headers())?,
    };
    let address = address(context, request.headers(), proxies);
    let token = token.as_ref().map(registrar_core::ExposeSecret::expose_secret);
    let visitor = app.engine().visitor(route.as_deref(), token, address).await?;
    app.engine().check_rate(&visitor)?;
    let done = create(app, context, &visitor, request).await.inspect_err(|refusal| {
        if refusal.is_for_content() {
            app.engine().count_refusal(&visitor);
        }
    })?;
    let information = Information {
        registration: &done.written.registration,
        metadata: &done.written.registration.spec.metadata,
        secret: done.written.secret.as_ref(),
        access_token: &done.access_token,
        losses: &done.written.losses,
        not_recorded: unrecorded(&done.written),
    };
    Ok(information.answer(app, StatusCode::CREATED))
}

async fn create(
    app: &App,
    context: &Context,
    visitor: &dcr::Visitor,
    request: Request,
) -> std::result::Result<dcr::Registered, Refusal> {
    let (head, mut body) = object(request).await?;
    let caller = caller(context, visitor.principal(), Some((&head, &body)))?;
    let statement = app.engine().take_statement(&mut body, None)?;
    let asked = decode(body)?;
    Ok(app.engine().register(visitor, &caller, asked, statement).await?)
}

/// `GET /register/{id}`
async fn read(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    id: Id,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let (mut holder, token) = holder(&app, id, &headers).await?;
        permit(app.engine().options().registration.manage.read, "read")?;
        app.engine().is_used_by(&mut holder).await?;
        let metadata = app.engine().own(&mut holder).await?;
        let caller = caller(&context, holder.principal(), None)?;
        let after = if method == Method::HEAD { dcr::After::Head } else { dcr::After::Read };
        let token = app.engine().renewed(&caller, &holder, after).await?.unwrap_or(token);
        let information = Information {
            registration: &holder.registration,
            metadata: &metadata,
            secret: None,
            access_token: &token,
            losses: &[],
            not_recorded: None,
        };
        Ok::<_, Refusal>(information.answer(&app, StatusCode::OK))
    };
    answer.await.unwrap_or_else(|refusal| refusal.answer(&context))
}

/// `PUT /register/{id}`
async fn update(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    id: Id,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let answer = async {
        let (mut holder, token) = holder(&app, id, &headers).await?;
        permit(app.engine().options().registration.manage.update, "change")?;
        app.engine().is_used_by(&mut holder).await?;
        let (_, mut body) = object(request).await?;
        holder.check_update(&body)?;
        let statement = app.engine().take_statement(&mut body, dcr::statement_of(&holder.registration))?;
        let caller = caller(&context, holder.principal(), None)?;
        let written = app.engine().replace_own(&caller, &holder, decode(body)?, statement).await?;
        // the change is made: a token that could not be renewed now is renewed another time. It must not be before the
        // change is recorded: it would take the version that the change is to be recorded as
        let renewed = if written.recorded {
            app.engine().renewed(&caller, &holder, dcr::After::Update).await.ok().flatten()
        } else {
            None
        };
        let information = Information {
            registration: &written.registration,
            metadata: &written.registration.spec.metadata,
            secret: written.secret.as_ref(),
            access_token: &renewed.unwrap_or(token),
            losses: &written.losses,
            not_recorded: unrecorded(&written),
        };
        Ok::<_, Refusal>(information.answer(&app, StatusCode::OK))
    };
    answer.await.unwrap_or_else(|refusal| refusal.answer(&context))
}

/// `DELETE /register/{id}`
async fn delete(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    id: Id,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let (holder, _) = holder(&app, id, &headers).await?;
        permit(app.engine().options().registration.manage.delete, "delete")?;
        let caller = caller(&context, holder.principal(), None)?;
        app.engine().delete_own(&caller, &holder).await?;
        Ok::<_, Refusal>(StatusCode::NO_CONTENT.into_response())
    };
    let mut response = answer.await.unwrap_or_else(|refusal| refusal.answer(&context));
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && !response.headers().contains_key(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, PUT"));
    }
    response
}

/// The operation of a write that the vendor did and the gateway could not record.
fn unrecorded(written: &Written) -> Option<OperationId> {
    (!written.recorded).then_some(written.operation)
}

/// Who has shown the token of a client, and that token.
async fn holder(app: &App, id: Id, headers: &HeaderMap) -> std::result::Result<(dcr::Holder, SecretString), Refusal> {
    check_transport(app, headers, app.engine().options().registration.proxies)?;
    let token = bearer(headers)?.ok_or_else(|| {
        let detail = "send the registration access token: Authorization: Bearer rat_...";
        Error::new(ErrorKind::Unauthenticated, detail)
    })?;
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let holder = app.engine().holder(&id, registrar_core::ExposeSecret::expose_secret(&token)).await?;
    Ok((holder, token))
}

fn permit(allowed: bool, what: &str) -> Result<()> {
    if allowed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Forbidden, format!("clients may not {what} their registration here")))
}

/// The one bearer token; `None` when there is no `Authorization` field at all.
fn bearer(headers: &HeaderMap) -> Result<Option<SecretString>> {
    match auth::bearer(headers) {
        Ok(token) => Ok(token.map(SecretString::from)),
        Err(()) => Err(Error::new(ErrorKind::InvalidToken, "the token is not valid")),
    }
}

async fn object(request: Request) -> Result<(Parts, Map<String, Value>)> {
    match body::read(request, JSON).await? {
        (head, Value::Object(object)) => Ok((head, object)),
        _ => Err(Error::new(ErrorKind::MalformedBody, "client metadata is one JSON object")),
    }
}

/// Client metadata as a registration: nothing but metadata can be asked for here. The engine validates it when it has
/// chosen from the lists of choices.
fn decode(body: Map<String, Value>) -> Result<NewRegistration> {
    let asked = NewRegistration::decode_unvalidated(&json!({ "metadata": body })).map_err(Error::validation)?;
    // nothing can be allowed here
    asked.demand_known_keys().map_err(Error::validation)?;
    Ok(asked)
}

/// The caller for the journal. Only a key that was sent counts: two strangers behind one address may well ask for the
/// same, and are not one.
fn caller(context: &Context, principal: String, body: Option<(&Parts, &Map<String, Value>)>) -> Result<Caller> {
    let idempotency = match body {
        Some((head, body)) => {
            let body = Value::Object(body.clone());
            let write = Write { headers: &head.headers, method: head.method.clone(), uri: &head.uri, body: &body };
            auth::idempotency(&principal, &write)?
        }
        None => None,
    };
    Ok(Caller { principal: principal.into(), request_id: Arc::clone(&context.request_id), idempotency })
}

/// Who is asking: the peer, or what the outermost of our proxies saw.
fn address(context: &Context, headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let peer = context.peer.map(|p| p.0.ip());
    let Some(hops) = proxies.checked_sub(1) else { return peer };
    let fields = headers.get_all(HeaderName::from_static("x-forwarded-for"));
    let all: Vec<&str> = fields.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).collect();
    all.into_iter().rev().nth(hops).and_then(|a| a.trim().parse().ok()).or(peer)
}

/// Tokens and secrets need TLS (RFC 7591 §3): in front of the gateway, or not at all on one machine.
fn check_transport(app: &App, headers: &HeaderMap, proxies: usize) -> Result<()> {
    let public = app.public_url();
    let loopback = || {
        let url = public.parse::<http::Uri>().ok();
        url.as_ref().and_then(http::Uri::host).is_some_and(|host| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    };
    let through = headers.get("x-forwarded-proto").filter(|_| proxies > 0);
    let secure = match through {
        Some(scheme) => scheme.as_bytes().eq_ignore_ascii_case(b"https"),
        None => public.starts_with("https://") || loopback(),
    };
    if secure {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidRequest, "registration needs TLS (RFC 7591 section 3): use https"))
}
