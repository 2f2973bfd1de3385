//! Around every request: an id, a line in the log, metrics, the headers that every answer has, and an answer for panics.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use metrics::{Counter, Histogram};
use uuid::Uuid;

use crate::{App, problem::Context, register, system};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Takes over the caller's request id when it is plain, makes one otherwise, and observes the request.
pub(crate) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|v| v.to_str().ok())
        .filter(|id| is_plain(id))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let method = request.method().clone();
    let mut path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    if route.as_ref().is_some_and(|r| r.as_str() == register::TICKET) {
        // its last segment is a token
        register::TICKET.clone_into(&mut path);
    }
    request
        .extensions_mut()
        .insert(Context { public_url: Arc::clone(app.public_url()), request_id: request_id.clone() });

    let mut response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| panicked());

    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    app.inner.observations.record(route, method_label(&method), status, elapsed.as_secs_f64());
    // never the query, the headers or a body: they may hold secrets
    tracing::info!(
        request_id,
        method = %method,
        path,
        status,
        elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    response
}

/// The answer of a handler that panicked. The payload may hold anything: it is neither logged nor sent.
fn panicked() -> Response {
    tracing::error!("a handler panicked");
    let mut response = (StatusCode::INTERNAL_SERVER_ERROR, system::panicked().to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// The handles of the metrics: registering one takes several allocations and a lock, so it is done once and not once a
/// request. Routes, methods and statuses are few.
#[derive(Default)]
pub(crate) struct Observations(RwLock<HashMap<String, Route>>);

struct Route {
    duration: Histogram,
    requests: HashMap<(&'static str, u16), Counter>,
}

impl Observations {
    fn record(&self, route: &str, method: &'static str, status: u16, seconds: f64) {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(route)
            && let Some(requests) = known.requests.get(&(method, status))
        {
            requests.increment(1);
            known.duration.record(seconds);
            return;
        }
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = routes.entry(route.to_owned()).or_insert_with(|| Route {
            duration: metrics::histogram!("registrar_http_request_duration_seconds", "route" => route.to_owned()),
            requests: HashMap::new(),
        });
        let requests = known.requests.entry((method, status)).or_insert_with(|| {
            metrics::counter!(
                "registrar_http_requests_total",
                "method" => method, "route" => route.to_owned(), "status" => status.to_string()
            )
        });
        requests.increment(1);
        known.duration.record(seconds);
    }
}

/// A caller's request id is repeated in logs and answers: letters, digits and `._-` only.
fn is_plain(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Methods are an open set; labels must not be.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
