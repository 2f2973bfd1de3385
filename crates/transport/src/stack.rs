//! The layers between an adapter and its vendor.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::HeaderValue;
use registrar_core::{Error, Http, Request, Response, Result};
use reqwest::Client;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};

use crate::{
    BackendHandle, BackendOptions, TransportSetupError,
    auth::{self, Auth},
    health::Health,
    observe::{self, Observer},
    send::Sender,
};

/// A request that was admitted.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) request: Request,
    /// By when everything about it must have ended.
    pub(crate) deadline: Instant,
}

/// A call with its credential; only this can be sent.
pub(crate) struct Authorised {
    pub(crate) call: Call,
    /// Marked as sensitive; absent for an open API.
    pub(crate) authorization: Option<HeaderValue>,
}

pub(crate) fn build(client: &Client, options: BackendOptions) -> Result<BackendHandle, TransportSetupError> {
    let name: Arc<str> = Arc::from(options.name.as_str());
    let health = Arc::new(Health::default());
    let timeout = options.timeout;
    let max_in_flight = options.max_in_flight;
    let observer = Arc::new(Observer::new(Arc::clone(&name), Arc::clone(&health), max_in_flight));
    let auth = Arc::new(Auth::new(client, &options)?);
    let sender = Arc::new(Sender::new(client, &options));

    let stack = ServiceBuilder::new()
        // First, so that it sees every call however it ends: health, metrics, one log line, and the backend's name in
        // errors.
        .layer(layer_fn(move |inner| observe::layer(Arc::clone(&observer), inner)))
        // The bulkhead, in two layers: a vendor that hangs holds `max_in_flight` requests and no more; the next one is
        // refused at once instead of waiting behind them, because a queue would only hide the outage.
        .load_shed()
        .concurrency_limit(max_in_flight)
        // The total timeout. It travels with the call as a deadline instead of cutting the future from outside,
        // because only the layer that is waiting knows whether the request had been sent: before that, "not
        // performed"; after it, "unknown" for a write. Both layers below keep to it, and so must any that is added.
        .map_request(move |request| admit(request, timeout))
        // The place of retry and, inside it, the circuit breaker (their own change): within the deadline and the
        // bulkhead, so that retries add no load; around auth, so that an open circuit asks for no tokens.
        //
        // The credential, as late as possible: no layer above holds it. A 401 is answered here, once, with a new token.
        .layer(layer_fn(move |inner| auth::layer(Arc::clone(&auth), inner)))
        // The last step: the check of the origin, reqwest, and reading the body under its cap.
        .service(service_fn(move |authorised| {
            let sender = Arc::clone(&sender);
            async move { sender.send(authorised).await }
        }));

    Ok(BackendHandle { http: Arc::new(Backend { name, stack }), health })
}

fn admit(request: Request, timeout: Duration) -> Call {
    Call { request, deadline: Instant::now() + timeout }
}

/// The stack behind the handle. It is generic instead of a boxed service, so that the handle's own future is the only
/// box on the way.
struct Backend<S> {
    name: Arc<str>,
    stack: S,
}

impl<S> fmt::Debug for Backend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl<S> Http for Backend<S>
where
    S: Service<Request, Response = Response, Error = Error, Future: Send> + Clone + Send + Sync,
{
    async fn send(&self, request: Request) -> Result<Response> {
        self.stack.clone().oneshot(request).await
    }
}
