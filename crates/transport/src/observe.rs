//! The outermost layer: what every call looked like from here.

use std::sync::Arc;

use metrics::{Counter, Histogram, Unit};
use registrar_core::{Error, ErrorKind, Request, Response};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt, load_shed::error::Overloaded, service_fn};
use tracing::Level;

use crate::{
    fault::{self, Cause, Fault},
    health::Health,
    meters::Slots,
};

const REQUESTS: &str = "registrar_vendor_requests_total";
const DURATION: &str = "registrar_vendor_request_duration_seconds";

/// How a call that was refused by the bulkhead, or dropped by its caller, is counted.
const SHED: &str = "shed";
const CANCELLED: &str = "cancelled";

pub(crate) fn describe_metrics() {
    metrics::describe_counter!(REQUESTS, Unit::Count, "Calls to vendors, by how they ended");
    metrics::describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time from the call to the end of the vendor's answer, retries included"
    );
}

/// The observations of one backend.
pub(crate) struct Observer {
    backend: Arc<str>,
    health: Arc<Health>,
    max_in_flight: usize,
    operations: Slots<Arc<Operation>, 16>,
}

struct Operation {
    duration: Histogram,
    requests: Slots<Counter, 16>,
}

impl Observer {
    pub(crate) fn new(backend: Arc<str>, health: Arc<Health>, max_in_flight: usize) -> Self {
        Self { backend, health, max_in_flight, operations: Slots::default() }
    }

    fn count(&self, operation: &'static str, outcome: &'static str, seconds: Option<f64>) {
        let backend = &self.backend;
        let handles = self.operations.get(operation, || {
            let duration = metrics::histogram!(DURATION, "backend" => Arc::clone(backend), "operation" => operation);
            Arc::new(Operation { duration, requests: Slots::default() })
        });
        let requests = handles.requests.get(outcome, || {
            metrics::counter!(
                REQUESTS, "backend" => Arc::clone(backend), "operation" => operation, "outcome" => outcome
            )
        });
        requests.increment(1);
        if let Some(seconds) = seconds {
            handles.duration.record(seconds);
        }
    }
}

/// One call, counted as cancelled if it is dropped before its end.
struct Observation {
    observer: Arc<Observer>,
    operation: &'static str,
    /// Whether the call brings a token of its own.
    own_token: bool,
    /// For the log line; only where somebody reads it. Never the query, which may hold a secret.
    line: Option<(http::Method, String)>,
    started: Instant,
    ended: bool,
}

impl Observation {
    fn begin(observer: Arc<Observer>, request: &Request) -> Self {
        observer.health.begin();
        let line = tracing::enabled!(Level::DEBUG).then(|| (request.method.clone(), request.url.path().to_owned()));
        Self {
            observer,
            operation: request.operation,
            own_token: request.bearer.is_some(),
            line,
            started: Instant::now(),
            ended: false,
        }
    }

    fn answered(mut self, response: Response) -> Response {
        self.observer.health.answered(response.status, self.own_token);
        self.observer.health.learn_skew(&response.headers);
        self.end(class(response.status), Some(response.status));
        response
    }

    fn failed(mut self, error: BoxError) -> Error {
        let error = match error.downcast::<Fault>() {
            Ok(fault) => {
                let Fault { error, cause } = *fault;
                match cause {
                    Cause::Refused(by) => self.refused(by),
                    _ => {
                        self.observer.health.failed(error.kind());
                        self.end(error.kind().slug(), None);
                    }
                }
                error
            }
            Err(other) if other.is::<Overloaded>() => {
                self.refused(SHED);
                fault::shed(self.observer.max_in_flight)
            }
            // no layer has an error of its own but the bulkhead; one that is added needs its arm here
            Err(_) => {
                self.end(ErrorKind::Internal.slug(), None);
                Error::new(ErrorKind::Internal, "a layer of the transport failed in an unknown way")
            }
        };
        error.with_backend(&*self.observer.backend)
    }

    /// The gateway itself did not send it. Its duration would make the vendor look fast.
    fn refused(&mut self, by: &'static str) {
        self.finish(by, None, false);
    }

    fn end(&mut self, outcome: &'static str, status: Option<u16>) {
        self.finish(outcome, status, true);
    }

    /// An event and no span: it lands in the span of the gateway's own request, which has the request id.
    fn finish(&mut self, outcome: &'static str, status: Option<u16>, timed: bool) {
        self.ended = true;
        let elapsed = self.started.elapsed();
        let seconds = timed.then_some(elapsed.as_secs_f64());
        self.observer.count(self.operation, outcome, seconds);
        let backend = &*self.observer.backend;
        let (operation, elapsed_ms) = (self.operation, elapsed.as_millis());
        if status.is_none() {
            tracing::info!(backend, operation, outcome, elapsed_ms, "vendor call without an answer");
        }
        if let Some((method, path)) = &self.line {
            tracing::debug!(backend, operation, %method, path, status, outcome, elapsed_ms, "vendor call");
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            self.end(CANCELLED, None);
        }
        self.observer.health.end();
    }
}

fn class(status: u16) -> &'static str {
    match status {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

/// Observes every call of `inner`, the bulkhead, and gives its refusals the gateway's error type.
pub(crate) fn layer<S>(
    observer: Arc<Observer>,
    inner: S,
) -> impl Service<Request, Response = Response, Error = Error, Future: Send> + Clone + Send + Sync
where
    S: Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + Sync,
{
    service_fn(move |request: Request| {
        let inner = inner.clone();
        let observation = Observation::begin(Arc::clone(&observer), &request);
        async move {
            match inner.oneshot(request).await {
                Ok(response) => Ok(observation.answered(response)),
                Err(error) => Err(observation.failed(error)),
            }
        }
    })
}
