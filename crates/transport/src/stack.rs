//! The layers between an adapter and its vendor.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::HeaderValue;
use registrar_core::{Effect, Error, Http, Request, Response, Result};
use reqwest::Client;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};

use crate::{
    BackendHandle, BackendOptions, TransportSetupError,
    auth::{self, Auth},
    backoff::Backoff,
    breaker::{self, Breaker},
    health::Health,
    limit::{self, Limit},
    lockout::Lockout,
    meters::Meters,
    observe::{self, Observer},
    retry::{self, Retry},
    send::Sender,
};

/// A request that was admitted.
#[derive(Clone)]
pub(crate) struct Call {
    /// Shared by the attempts.
    pub(crate) request: Arc<Request>,
    /// By when everything about it must have ended.
    pub(crate) deadline: Instant,
    /// Who waits before sending, waits until then at most.
    pub(crate) start_by: Instant,
}

/// A call with its credential; only this can be sent.
pub(crate) struct Authorised {
    pub(crate) call: Call,
    /// Marked as sensitive; absent for an open API.
    pub(crate) authorization: Option<HeaderValue>,
}

pub(crate) fn build(client: &Client, options: BackendOptions) -> Result<BackendHandle, TransportSetupError> {
    let name: Arc<str> = Arc::from(options.name.as_str());
    let (timeout, attempt_timeout, max_in_flight) = (options.timeout, options.attempt_timeout, options.max_in_flight);
    let meters = Arc::new(Meters::new(Arc::clone(&name)));
    let backoff = Arc::new(Backoff::new(options.jitter_seed));
    let breaker = Arc::new(Breaker::new(Arc::clone(&meters)));
    let lockout = Arc::new(Lockout::default());
    let limit = Arc::new(Limit::new(options.rate_limit, Arc::clone(&backoff), Arc::clone(&meters)));
    let health =
        Health::new(Arc::clone(&name), Arc::clone(&breaker), Arc::clone(&lockout), Arc::clone(&limit), timeout);
    let health = Arc::new(health);
    let observer = Arc::new(Observer::new(Arc::clone(&name), Arc::clone(&health), max_in_flight));
    let auth = Arc::new(Auth::new(client, &options)?);
    let sender = Arc::new(Sender::new(client, &options));
    let retry = Arc::new(Retry::new(options.not_processed, backoff, Arc::clone(&limit), meters));

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
        // performed"; after it, "unknown" for a write. All layers below keep to it, and so must any that is added.
        .map_request(move |request| admit(request, timeout))
        // The only place that sends again: within the deadline and the bulkhead, so that retries add no load beyond
        // them, and from a budget, so that an outage does not get more requests than usual.
        .layer(layer_fn(move |inner| retry::layer(Arc::clone(&retry), inner)))
        // The circuit breaker: inside retry, so that it counts what the vendor really got; around auth, so that an
        // open circuit asks for no tokens.
        .layer(layer_fn(move |inner| breaker::layer(Arc::clone(&breaker), inner)))
        // The credential, as late as possible: no layer above holds it. A 401 is answered here, once, with a new
        // token; a credential that stays refused rests.
        .layer(layer_fn(move |inner| auth::layer(Arc::clone(&auth), Arc::clone(&lockout), inner)))
        // The pace, and the pause that a 429 asks for: as near to the vendor as possible, so that it sees everything
        // that is sent, the second request after a 401 included.
        .layer(layer_fn(move |inner| limit::layer(Arc::clone(&limit), inner)))
        // The attempt timeout, so that a read that hangs leaves time for another. It starts here and not further out,
        // because waiting for a turn is no attempt; from here on it is the deadline.
        .map_request(move |authorised| attempt(authorised, timeout, attempt_timeout))
        // The last step: the check of the origin, reqwest, and reading the body under its cap.
        .service(service_fn(move |authorised| {
            let sender = Arc::clone(&sender);
            async move { sender.send(authorised).await }
        }));

    Ok(BackendHandle { http: Arc::new(Backend { name, stack }), health })
}

fn admit(request: Request, timeout: Duration) -> Call {
    let now = Instant::now();
    Call { request: Arc::new(request), deadline: now + timeout, start_by: now + longest_wait(timeout) }
}

/// A write that starts in the last moment ends as unknown, and that only because of our own waiting. The fifth that is
/// left is by default the limit for connecting, so that a write that cannot connect is still known to be not performed.
pub(crate) fn longest_wait(timeout: Duration) -> Duration {
    timeout - timeout / 5
}

/// A write may take all the time there is: cut short, it would be unknown and could not be sent again.
fn attempt(mut authorised: Authorised, timeout: Duration, attempt_timeout: Option<Duration>) -> Authorised {
    let call = &mut authorised.call;
    let most = if call.request.effect == Effect::Read { timeout / 2 } else { timeout };
    call.deadline = call.deadline.min(Instant::now() + attempt_timeout.unwrap_or(most).min(most));
    authorised
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
