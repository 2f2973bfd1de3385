//! Sending again: at most twice, and a write only if the vendor provably did nothing.

use std::{fmt, sync::Arc, time::Duration};

use registrar_core::{Effect, Response};
use tokio::time::{Instant, sleep_until};
use tower::{
    Service, ServiceExt,
    retry::budget::{Budget, TpsBudget},
    service_fn,
};

use crate::{
    backoff::Backoff,
    fault::{Cause, Fault},
    limit::Limit,
    meters::Meters,
    retry_after,
    stack::Call,
};

/// Of one call, the first included. This and the next: reliability §1.5.
const ATTEMPTS: u32 = 3;
/// One retry a second, saved up for ten, and one for every ten calls.
const SAVED_FOR: Duration = Duration::from_secs(10);
const PER_SECOND: u32 = 1;
const SHARE: f32 = 0.1;

/// When to send again, for one backend.
pub(crate) struct Retry {
    not_processed: Vec<u16>,
    budget: TpsBudget,
    backoff: Arc<Backoff>,
    limit: Arc<Limit>,
    meters: Arc<Meters>,
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("not_processed", &self.not_processed).finish_non_exhaustive()
    }
}

impl Retry {
    pub(crate) fn new(not_processed: Vec<u16>, backoff: Arc<Backoff>, limit: Arc<Limit>, meters: Arc<Meters>) -> Self {
        Self { not_processed, budget: TpsBudget::new(SAVED_FOR, PER_SECOND, SHARE), backoff, limit, meters }
    }

    /// Why it may be sent again; `None` if it must not.
    fn reason(&self, effect: Effect, result: &Result<Response, Fault>) -> Option<&'static str> {
        let (proved, reason) = match result {
            Ok(response) => (
                self.not_processed.contains(&response.status),
                match response.status {
                    429 => "429",
                    502 => "502",
                    503 => "503",
                    504 => "504",
                    other if self.not_processed.contains(&other) => "not_processed",
                    _ => return None,
                },
            ),
            Err(fault) => match fault.cause {
                Cause::Connect => (true, "connect"),
                Cause::Timeout => (false, "timeout"),
                Cause::Lost => (false, "lost"),
                // the same again, or the business of the layer that failed
                Cause::Tls | Cause::TooLarge | Cause::Token | Cause::Refused(_) | Cause::Defect => return None,
            },
        };
        (proved || effect == Effect::Read).then_some(reason)
    }

    /// When to send again; `None` if that would be too late or the budget is spent.
    fn next(&self, earlier: u32, result: &Result<Response, Fault>, deadline: Instant) -> Option<Instant> {
        let now = Instant::now();
        let asked = result.as_ref().ok().and_then(Response::retry_after).unwrap_or_default().min(retry_after::MAX);
        let wait = self.backoff.wait(earlier).max(asked).max(self.limit.pause_left(now));
        (now + wait < deadline && self.budget.withdraw()).then_some(now + wait)
    }
}

/// Sends again what may be sent again. The last answer is the caller's, also when the circuit or a pause stops the next
/// attempt: it says more than their refusal.
pub(crate) fn layer<S>(
    retry: Arc<Retry>,
    inner: S,
) -> impl Service<Call, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync
where
    S: Service<Call, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync,
{
    service_fn(move |call: Call| {
        let (retry, inner) = (Arc::clone(&retry), inner.clone());
        async move {
            retry.budget.deposit();
            let mut result = inner.clone().oneshot(call.clone()).await;
            for earlier in 0..ATTEMPTS - 1 {
                let Some(reason) = retry.reason(call.request.effect, &result) else { break };
                let Some(at) = retry.next(earlier, &result, call.deadline) else { break };
                retry.meters.retried(reason);
                sleep_until(at).await;
                let again = inner.clone().oneshot(call.clone()).await;
                if again.as_ref().is_err_and(Fault::is_refusal) {
                    break;
                }
                result = again;
            }
            result
        }
    })
}
