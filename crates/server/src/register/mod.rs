//! The standards face: dynamic client registration (RFC 7591), its management (RFC 7592) and its discovery (RFC 8414).

mod address;
mod answer;
mod discovery;
pub(crate) mod elsewhere;
pub(crate) mod tokens;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use registrar_core::{Error, ErrorKind, Offers, Result, SecretString};
use registrar_engine::{Caller, Failure, Written, dcr};
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

/// The paths that hold a token: they are never logged.
pub(crate) const TICKETS: [&str; 2] = ["/{route}/register/{ticket}", "/{route}/register/{ticket}/"];

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
    let mut router = Router::new();
    // clients join URLs in their own ways: a slash at the end changes nothing
    for end in ["", "/"] {
        router = router
            .route(&format!("/register{end}"), post(register))
            .route(&format!("/register/{{id}}{end}"), get(read).put(update).delete(delete))
            .route(&format!("/{{route}}/register{end}"), post(register_at))
            .route(&format!("{}{end}", TICKETS[0]), post(register_with));
        for (document, root, route) in [
            ("oauth-authorization-server", get(discovery::root), get(discovery::route)),
            ("openid-configuration", get(discovery::openid_root), get(discovery::openid_route)),
        ] {
            router = router
                .route(&format!("/.well-known/{document}{end}"), root)
                .route(&format!("/.well-known/{document}/{{route}}{end}"), route.clone())
                .route(&format!("/{{route}}/.well-known/{document}{end}"), route);
        }
    }
    router.method_not_allowed_fallback(method_not_allowed).layer(middleware::from_fn(shared))
}

/// What all answers of this face have: any web page may ask (OIDC Registration §3), nothing is kept.
async fn shared(request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let mut response = next.run(request).await;
    open_to_pages(&mut response);
    response
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    open_to_pages(&mut response);
    response
}

fn open_to_pages(response: &mut Response) {
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
    if route.is_none() && app.engine().access(None) == Some(dcr::Access::Closed) {
        return Err(no_root(app).into());
    }
    let asker = address::of(context, request.headers(), proxies);
    let token = token.as_ref().map(registrar_core::ExposeSecret::expose_secret);
    let visitor = app.engine().visitor(route.as_deref(), token, asker).await?;
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
        let offers = app.engine().offers(&holder).await?;
        if !offers.update {
            return Err(not_offered("changed", offers));
        }
        app.engine().is_used_by(&mut holder).await?;
        let (_, mut body) = object(request).await?;
        holder.check_update(&body)?;
        let statement = app.engine().take_statement(&mut body, dcr::statement_of(&holder.registration))?;
        let caller = caller(&context, holder.principal(), None)?;
        let written = app.engine().replace_own(&caller, &holder, decode(body)?, statement).await.map_err(of_write)?;
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
        let offers = app.engine().offers(&holder).await?;
        if !offers.delete {
            return Err(not_offered("deleted", offers));
        }
        let caller = caller(&context, holder.principal(), None)?;
        app.engine().delete_own(&caller, &holder).await.map_err(of_write)?;
        Ok::<_, Refusal>(StatusCode::NO_CONTENT.into_response())
    };
    answer.await.unwrap_or_else(|refusal| refusal.answer(&context))
}

/// A server that turns out not to have the method of a write still shows the client.
fn of_write(failure: Failure) -> Refusal {
    let refused = failure.error.kind() == ErrorKind::MethodNotAllowed;
    let refusal = Refusal::from(failure);
    if refused { refusal.with_allow("GET") } else { refusal }
}

/// The refusal of what the server that holds a client does not do (RFC 7592 §2.2, §2.3).
fn not_offered(what: &str, offers: Offers) -> Refusal {
    let detail = format!("a client cannot be {what} here: the server that holds it does not offer that");
    let methods = if offers.update { "GET, PUT" } else { "GET" };
    Refusal::from(Error::new(ErrorKind::MethodNotAllowed, detail)).with_allow(methods)
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

/// The refusal of the endpoint without a name where it is off: it names the routes at which a client may register.
fn no_root(app: &App) -> Error {
    let routes = app.engine().registering();
    if routes.is_empty() {
        return Error::new(
            ErrorKind::Forbidden,
            "registration is closed here; the operator of this gateway can open it",
        );
    }
    let named: Vec<String> = routes.iter().take(NAMED).map(|name| endpoint(app, Some(name))).collect();
    let more = if routes.len() > NAMED { " and others" } else { "" };
    let detail = format!("nothing can be registered at this endpoint; register at {}{more}", named.join(", "));
    Error::new(ErrorKind::Forbidden, detail)
}

/// How many routes a refusal names.
const NAMED: usize = 8;

/// The issuer of a route, or of the endpoint without a name: the name is unescaped as far as a path may have it.
fn issuer(app: &App, route: Option<&str>) -> String {
    let base = app.public_url();
    route.map_or_else(|| base.to_string(), |name| format!("{base}/{}", registrar_core::path::segment(name)))
}

/// Where a client registers.
fn endpoint(app: &App, route: Option<&str>) -> String {
    format!("{}/register", issuer(app, route))
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
        // each of several proxies may have written its own
        Some(schemes) => {
            schemes.as_bytes().split(|b| *b == b',').all(|s| s.trim_ascii().eq_ignore_ascii_case(b"https"))
        }
        None => public.starts_with("https://") || loopback(),
    };
    if secure {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidRequest, "registration needs TLS (RFC 7591 section 3): use https"))
}
