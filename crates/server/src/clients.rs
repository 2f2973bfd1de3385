//! `/v1/clients`.

use axum::{
    Extension,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use registrar_core::{Error, ErrorKind, Result};
use registrar_engine::{Failure, Scope, writes::ExpectedVersion};
use registrar_model::{BackendName, ClientMetadata, Issues, NewRegistration, Position, Registration, RegistrationId};
use registrar_store::{PageOf, PageRequest, RegistrationFilter};
use serde_json::{Value, json};

use crate::{
    App,
    auth::{Principal, Write},
    body::{self, JSON, MERGE_PATCH},
    problem::Context,
    query::{Query, escape},
    render::{self, View},
    used,
};

/// How many labels a list may be filtered by: each is a subquery.
pub(crate) const MAX_LABEL_FILTERS: usize = 16;

/// How long a page may be, in bytes; a single client is shown whole.
const MAX_PAGE: usize = 1 << 20;

pub(crate) type Id = std::result::Result<Path<String>, PathRejection>;

/// `POST /v1/clients`, `?dry_run=true`
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    request: Request,
) -> Response {
    let answer = async {
        let query = Query::read(request.uri(), &["dry_run", "strict"])?;
        let (dry_run, strict) = (query.flag("dry_run")?, query.flag("strict")?);
        principal.require(if dry_run { Scope::ClientsRead } else { Scope::ClientsWrite })?;
        let (registration, caller) = {
            let (head, body) = body::read(request, JSON).await?;
            let registration = decode(&body, strict)?;
            // also of a look, because it refuses the header that the write would refuse
            (registration, principal.caller(&app, &context, write(&head, &body))?)
        };
        if dry_run {
            let plan = app.engine().dry_run(&registration)?;
            return Ok(render::json(StatusCode::OK, &plan));
        }
        let written = app.engine().create(&caller, registration).await?;
        let mut response = render::written(StatusCode::CREATED, &written);
        let location = [app.public_url(), "/v1/clients/", &written.registration.id.to_string()].concat();
        if let Ok(value) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, value);
        }
        Ok::<_, Failure>(response)
    };
    answer.await.unwrap_or_else(|failure| context.failure(&failure))
}

/// `GET /v1/clients`
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    uri: Uri,
) -> Response {
    let answer = async {
        principal.require(Scope::ClientsRead)?;
        let query = Query::read(&uri, &["backend", "label", "q", "limit", "cursor"])?;
        let filter = filter(&query)?;
        let page = PageRequest { limit: query.limit()?, after: query.get("cursor").map(str::to_owned) };
        let limit = page.limit;
        let mut found = app.engine().registrations(&filter, page).await?;
        let mut text = page_text(&mut found)?;
        let mut link = None;
        if let Some(cursor) = &found.next {
            text.extend_from_slice(format!(",\"next_cursor\":{}", json!(cursor)).as_bytes());
            link = Some(next_link(&app, &query, limit, cursor));
        }
        text.push(b'}');
        let mut response = render::written_json(StatusCode::OK, text);
        if let Some(value) = link.and_then(|l| HeaderValue::from_str(&l).ok()) {
            response.headers_mut().insert(header::LINK, value);
        }
        Ok::<_, Error>(response)
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// The beginning of a page's JSON, with as many items as fit into [`MAX_PAGE`]; the page ends there.
fn page_text(page: &mut PageOf<Registration>) -> Result<Vec<u8>> {
    let mut text = b"{\"items\":[".to_vec();
    let mut written = 0;
    for item in &page.items {
        let before = text.len();
        if written > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &View::record(item))
            .map_err(|_| Error::new(ErrorKind::Internal, "a client could not be written"))?;
        if text.len() > MAX_PAGE && written > 0 {
            text.truncate(before);
            break;
        }
        written += 1;
    }
    page.end_after(written);
    text.push(b']');
    Ok(text)
}

fn filter(query: &Query) -> Result<RegistrationFilter> {
    let invalid = |detail: &'static str| Error::new(ErrorKind::InvalidRequest, detail);
    let mut filter = RegistrationFilter::default();
    if let Some(name) = query.get("backend") {
        let name = name.parse::<BackendName>().map_err(|_| invalid("`backend` is not the name of a backend"))?;
        filter.backend = Some(name);
    }
    for label in query.all("label") {
        let (key, value) = label.split_once(':').ok_or_else(|| invalid("`label` must be KEY:VALUE"))?;
        let label = (key.to_owned(), value.to_owned());
        if !filter.labels.contains(&label) {
            if filter.labels.len() == MAX_LABEL_FILTERS {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    format!("`label` may be given {MAX_LABEL_FILTERS} times; equal ones count once"),
                ));
            }
            filter.labels.push(label);
        }
    }
    filter.q = query.get("q").filter(|q| !q.is_empty()).map(str::to_owned);
    Ok(filter)
}

fn next_link(app: &App, query: &Query, limit: u32, cursor: &str) -> String {
    let mut link = format!("<{}/v1/clients?limit={limit}&cursor={}", app.public_url(), escape(cursor));
    for name in ["backend", "q"] {
        if let Some(value) = query.get(name) {
            link.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    for label in query.all("label") {
        link.push_str(&format!("&label={}", escape(label)));
    }
    link.push_str(">; rel=\"next\"");
    link
}

/// `GET /v1/clients/{id}`, `?source=vendor`
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = used::refused(&context, &id) {
        return refusal;
    }
    let answer = async {
        principal.require(Scope::ClientsRead)?;
        let query = Query::read(&uri, &["source"])?;
        let id = parse(id)?;
        if query.word("source", &["registry", "vendor"])? == Some("vendor") {
            let (live, drift) = app.engine().live(id).await?;
            let mut response = render::json(StatusCode::OK, &View::live(&live, &drift));
            render::etag(&mut response, &live);
            return Ok(response);
        }
        let registration = app.engine().registration(id).await?;
        if matches_etag(&headers, &header::IF_NONE_MATCH, registration.version) == Some(true) {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            render::etag(&mut response, &registration);
            return Ok(response);
        }
        let mut response = render::json(StatusCode::OK, &View::record(&registration));
        render::etag(&mut response, &registration);
        Ok::<_, Error>(response)
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// `PUT /v1/clients/{id}`
pub(crate) async fn replace(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    request: Request,
) -> Response {
    if let Some(refusal) = used::refused(&context, &id) {
        return refusal;
    }
    let answer = async {
        principal.require(Scope::ClientsWrite)?;
        let strict = Query::read(request.uri(), &["strict"])?.flag("strict")?;
        let id = parse(id)?;
        let expected = expected_version(&app, request.headers())?;
        let (head, body) = body::read(request, JSON).await?;
        let caller = principal.caller(&app, &context, write(&head, &body))?;
        let registration = decode(&without_identity(body), strict)?;
        let written = app.engine().replace(&caller, id, registration, expected).await?;
        Ok::<_, Failure>(render::written(StatusCode::OK, &written))
    };
    answer.await.unwrap_or_else(|failure| context.failure(&failure))
}

/// `PATCH /v1/clients/{id}`
pub(crate) async fn patch(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    request: Request,
) -> Response {
    if let Some(refusal) = used::refused(&context, &id) {
        return refusal;
    }
    let answer = async {
        principal.require(Scope::ClientsWrite)?;
        let strict = Query::read(request.uri(), &["strict"])?.flag("strict")?;
        let id = parse(id)?;
        let expected = expected_version(&app, request.headers())?;
        let (head, change) = body::read(request, MERGE_PATCH).await?;
        if !change.is_object() {
            return Err(Error::new(ErrorKind::MalformedBody, "a merge patch of a client is a JSON object").into());
        }
        let caller = principal.caller(&app, &context, write(&head, &change))?;
        if strict && let Some(Value::Object(metadata)) = change.get("metadata") {
            let (_, unknown) = ClientMetadata::decode(metadata, &Position::root(), &mut Issues::lenient());
            let named = NewRegistration { unknown, ..NewRegistration::default() };
            named.demand_known_names().map_err(Error::validation)?;
        }
        let written = app.engine().patch(&caller, id, change, expected).await?;
        Ok::<_, Failure>(render::written(StatusCode::OK, &written))
    };
    let mut response = answer.await.unwrap_or_else(|failure| context.failure(&failure));
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        // RFC 5789 §2.2
        response.headers_mut().insert("accept-patch", HeaderValue::from_static(MERGE_PATCH));
    }
    response
}

/// `DELETE /v1/clients/{id}`, `?mode=disable`
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = used::refused(&context, &id) {
        return refusal;
    }
    let answer = async {
        principal.require(Scope::ClientsWrite)?;
        let query = Query::read(&uri, &["mode"])?;
        let id = parse(id)?;
        let expected = expected_version(&app, &headers)?;
        let write = Write { headers: &headers, method: Method::DELETE, uri: &uri, body: &Value::Null };
        let caller = principal.caller(&app, &context, write)?;
        if query.word("mode", &["delete", "disable"])? == Some("disable") {
            let written = app.engine().disable(&caller, id, expected).await?;
            return Ok(render::written(StatusCode::OK, &written));
        }
        app.engine().delete(&caller, id, expected).await?;
        Ok::<_, Failure>(StatusCode::NO_CONTENT.into_response())
    };
    answer.await.unwrap_or_else(|failure| context.failure(&failure))
}

/// `POST /v1/clients/{id}/secret`
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        principal.require(Scope::ClientsWrite)?;
        Query::read(&uri, &[])?;
        let write = Write { headers: &headers, method: Method::POST, uri: &uri, body: &Value::Null };
        let caller = principal.caller(&app, &context, write)?;
        let rotated = app.engine().rotate_secret(&caller, parse(id)?).await?;
        Ok::<_, Failure>(render::json(StatusCode::OK, &render::Issued(&rotated)))
    };
    answer.await.unwrap_or_else(|failure| context.failure(&failure))
}

fn write<'r>(head: &'r Parts, body: &'r Value) -> Write<'r> {
    Write { headers: &head.headers, method: head.method.clone(), uri: &head.uri, body }
}

/// Reads an envelope; `strict` refuses metadata names that no registry knows.
fn decode(body: &Value, strict: bool) -> Result<NewRegistration> {
    let registration = NewRegistration::decode(body).map_err(Error::validation)?;
    if strict {
        registration.demand_known_names().map_err(Error::validation)?;
    }
    Ok(registration)
}

/// A path segment that is no registration id is simply an unknown client.
pub(crate) fn parse(id: Id) -> Result<RegistrationId> {
    id.ok()
        .and_then(|Path(text)| text.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no client with this id"))
}

/// The gateway-owned members that PUT ignores. `backend` is not among them: it is compared.
/// `source` and `drift` stand in the answer of `?source=vendor`.
pub(crate) const IDENTITY: [&str; 12] = [
    "id",
    "kind",
    "client_id",
    "client_id_issued_at",
    "version",
    "state",
    "management",
    "created_at",
    "updated_at",
    "unused_until",
    "source",
    "drift",
];

/// What a GET showed may be sent back by PUT: the gateway-owned members are left out, they cannot be changed.
fn without_identity(body: Value) -> Value {
    let Value::Object(mut object) = body else { return body };
    for name in IDENTITY {
        object.remove(name);
    }
    Value::Object(object)
}

/// The version that `If-Match` names; `*` and an absent field, where it may be absent, expect nothing.
fn expected_version(app: &App, headers: &HeaderMap) -> Result<ExpectedVersion> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        if !app.requires_if_match() {
            return Ok(None);
        }
        // RFC 6585 §3
        let detail = "this call needs If-Match with the ETag of the client, as GET returns it (`require_if_match`)";
        return Err(Error::new(ErrorKind::PreconditionRequired, detail));
    };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse::<u64>().ok());
    // an entity tag that we never gave out matches no version (RFC 9110 §13.1.1)
    version.map(Some).ok_or_else(|| {
        let detail = "If-Match is not an ETag of this client (a single strong one, as GET returned it)";
        Error::new(ErrorKind::PreconditionFailed, detail)
    })
}

fn matches_etag(headers: &HeaderMap, name: &header::HeaderName, version: u64) -> Option<bool> {
    let tag = render::tag(version);
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.split(',').map(str::trim).any(|t| t == "*" || t.trim_start_matches("W/") == tag))
}
