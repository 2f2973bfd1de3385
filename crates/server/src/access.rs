//! Around every request: an id, a line in the log, metrics, the headers that every answer has, and an answer for panics.

use std::{
    borrow::Cow,
    collections::HashMap,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Poll, ready},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use metrics::{Counter, Histogram};
use tower::Service;
use uuid::Uuid;

use crate::{App, host, problem::Context, register, serve::Peer, system};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How the gateway's own tokens begin: initial access tokens, registration access tokens, API keys.
const TOKENS: [&str; 3] = ["iat_", "rat_", "rk_"];

/// A route whose requests are observed. Not `axum::middleware::from_fn`, which boxes the rest of the way, and the future
/// of every request once more.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    app: App,
    route: S,
}

impl<S> Observed<S> {
    pub(crate) fn new(app: App, route: S) -> Self {
        Self { app, route }
    }
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Observing<S::Future>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Observing<S::Future> {
        let visit = Visit::begin(self.app.clone(), &mut request);
        let answer = match visit.refused(&request) {
            Some(refusal) => Answer::Refused(Some(refusal)),
            None => Answer::Routed(self.route.call(request)),
        };
        Observing { visit, answer }
    }
}

/// An answer in the making.
pub(crate) struct Observing<F> {
    visit: Visit,
    answer: Answer<F>,
}

enum Answer<F> {
    /// Given at once.
    Refused(Option<Response>),
    Routed(F),
}

impl<F> Future for Observing<F>
where
    F: Future<Output = Result<Response, Infallible>> + Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let Self { visit, answer } = self.get_mut();
        let mut response = match answer {
            Answer::Refused(refusal) => refusal.take().unwrap_or_else(panicked),
            Answer::Routed(answer) => match catch_unwind(AssertUnwindSafe(|| Pin::new(answer).poll(cx))) {
                Ok(answer) => ready!(answer)?,
                Err(_) => panicked(),
            },
        };
        visit.end(&mut response);
        Poll::Ready(Ok(response))
    }
}

/// What is known of a request when its answer is there.
struct Visit {
    app: App,
    started: Instant,
    request_id: Arc<str>,
    method: Method,
    uri: Uri,
    route: Option<MatchedPath>,
}

impl Visit {
    /// Takes over the caller's request id when it is plain, makes one otherwise.
    fn begin(app: App, request: &mut Request) -> Self {
        let started = Instant::now();
        let sent = request.headers().get(&REQUEST_ID).and_then(|v| v.to_str().ok()).filter(|id| is_plain(id));
        let request_id: Arc<str> = match sent {
            Some(id) => id.into(),
            None => Arc::from(&*Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer())),
        };
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let extensions = request.extensions_mut();
        let route = extensions.get::<MatchedPath>().cloned();
        let peer = extensions.remove::<Peer>();
        let (public_url, id) = (Arc::clone(app.public_url()), Arc::clone(&request_id));
        extensions.insert(Context { public_url, request_id: id, peer });
        Self { app, started, request_id, method, uri, route }
    }

    /// The answer to a request that came by a socket and does not say for whom it is.
    fn refused(&self, request: &Request) -> Option<Response> {
        let context = request.extensions().get::<Context>().filter(|context| context.peer.is_some())?;
        let fault = host::fault(request.version(), request.uri(), request.headers())?;
        let standard = self.route.as_ref().is_some_and(|route| register::is_standard(route.as_str()));
        Some(if standard { register::refusal(context, fault) } else { context.error(&fault) })
    }

    fn end(&self, response: &mut Response) {
        let elapsed = self.started.elapsed();
        let status = response.status().as_u16();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        self.app.inner.observations.record(route, method_label(&self.method), status, elapsed.as_secs_f64());
        // the last segment of that one is a token
        let path = if register::TICKETS.contains(&route) { Cow::Borrowed(route) } else { masked(self.uri.path()) };
        // never the query, the headers or a body: they may hold secrets
        tracing::info!(
            request_id = &*self.request_id,
            method = %self.method,
            path = &*path,
            status,
            elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "request"
        );
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&self.request_id) {
            headers.insert(REQUEST_ID.clone(), value);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
        headers.entry(header::X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
        headers
            .entry(header::CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    }
}

/// A path without the tokens in it, wherever somebody has put them and however they are escaped: the segment that has one
/// is left out.
fn masked(path: &str) -> Cow<'_, str> {
    if !path.split('/').any(has_token) {
        return Cow::Borrowed(path);
    }
    let segments: Vec<&str> = path.split('/').map(|s| if has_token(s) { "***" } else { s }).collect();
    Cow::Owned(segments.join("/"))
}

fn has_token(segment: &str) -> bool {
    // every token has an underscore in it, and it may be escaped
    if !segment.contains(['_', '%']) {
        return false;
    }
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8_lossy().to_ascii_lowercase();
    let begins = |at: usize| !decoded[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    TOKENS.iter().any(|token| decoded.match_indices(token).any(|(at, _)| begins(at)))
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
fn method_label(method: &Method) -> &'static str {
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

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use registrar_engine::{AuthMode, Connect, ConnectOptions, Connection, Engine};
    use registrar_store::MemoryStore;
    use tower::{ServiceExt as _, layer::layer_fn};

    use super::*;

    struct Nowhere;

    impl Connect for Nowhere {
        fn connect(&self, _: ConnectOptions) -> Result<Connection, String> {
            Err("there is no way".to_owned())
        }
    }

    async fn fails(request: Request) -> String {
        panic!("canary {}", request.uri());
    }

    #[test]
    fn no_path_that_is_logged_has_a_token() {
        for path in ["/v1/clients", "/", "", "/v1/clients/reg_1", "/park_it", "/%zz"] {
            assert!(matches!(masked(path), Cow::Borrowed(same) if same == path), "{path}");
        }
        for (path, shown) in [
            ("/loop/register/iat_abc/", "/loop/register/***/"),
            ("/iat_abc", "/***"),
            ("/register/rat_abc", "/register/***"),
            ("/v1/x/rk_abc/y", "/v1/x/***/y"),
            ("/x;token=rk_abc", "/***"),
            ("/%69at_abc/%72k%5fabc", "/***/***"),
            ("/RAT_abc", "/***"),
        ] {
            assert_eq!(masked(path), shown);
        }
    }

    #[test]
    fn a_panic_is_answered_without_its_payload() {
        let engine = Engine::new(Arc::new(MemoryStore::new()), &[], Vec::new(), Vec::new(), &Nowhere).unwrap();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let app = App::new(Arc::new(engine), AuthMode::None, "http://localhost", metrics);
        let router =
            Router::new().route("/", get(fails)).layer(layer_fn(move |route| Observed::new(app.clone(), route)));
        let request = Request::get("/").header(&REQUEST_ID, "mine").body(Body::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (head, body) = runtime.block_on(router.oneshot(request)).unwrap().into_parts();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes();
        assert_eq!(
            (head.status, &*body),
            (StatusCode::INTERNAL_SERVER_ERROR, system::panicked().to_string().as_bytes())
        );
        for (name, value) in [("content-type", "application/problem+json"), ("x-request-id", "mine")] {
            assert_eq!(head.headers[name], value);
        }
    }
}
