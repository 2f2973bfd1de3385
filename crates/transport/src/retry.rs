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
/// One retry a second, saved up for ten, and one for every ten calls that were sent.
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
    fn next(&self, earlier: u32, result: &Result<Response, Fault>, start_by: Instant) -> Option<Instant> {
        let now = Instant::now();
        let asked = result.as_ref().ok().and_then(Response::retry_after).unwrap_or_default().min(retry_after::MAX);
        let wait = self.backoff.wait(earlier).max(asked).max(self.limit.pause_left(now));
        (now + wait <= start_by && self.budget.withdraw()).then_some(now + wait)
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
            let mut result = inner.clone().oneshot(call.clone()).await;
            if !result.as_ref().is_err_and(Fault::is_refusal) {
                retry.budget.deposit();
            }
            for earlier in 0..ATTEMPTS - 1 {
                let Some(reason) = retry.reason(call.request.effect, &result) else { break };
                let Some(at) = retry.next(earlier, &result, call.start_by) else { break };
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{HeaderMap, HeaderValue, Method};
    use registrar_core::{Error, ErrorKind, Request};
    use tokio::task::JoinSet;

    use super::*;

    const EFFECTS: [Effect; 3] = [Effect::Read, Effect::Idempotent, Effect::Once];

    fn retry(seed: u64) -> Arc<Retry> {
        let backoff = Arc::new(Backoff::new(Some(seed)));
        let meters = Arc::new(Meters::new(Arc::from("v")));
        let limit = Arc::new(Limit::new(None, Arc::clone(&backoff), Arc::clone(&meters)));
        Arc::new(Retry::new(vec![429, 425], backoff, limit, meters))
    }

    fn call(effect: Effect, seconds: u64) -> Call {
        let request = Request::new(Method::GET, "https://v.example/".parse().unwrap(), effect, "x");
        let deadline = Instant::now() + Duration::from_secs(seconds);
        Call { request: Arc::new(request), deadline, start_by: deadline - Duration::from_secs(3) }
    }

    fn answer(status: u16, retry_after: Option<&'static str>) -> Result<Response, Fault> {
        let headers = retry_after.map(|value| ("retry-after".parse().unwrap(), HeaderValue::from_static(value)));
        let headers = HeaderMap::from_iter(headers);
        Ok(Response::new(status, headers, bytes::Bytes::new(), Effect::Read))
    }

    fn fault(cause: Cause) -> Result<Response, Fault> {
        Err(Fault::new(cause, Error::new(ErrorKind::UpstreamUnavailable, "x")))
    }

    /// Sends through the layer to a vendor that always does the same; says how often it was asked, and when last.
    async fn asked(
        retry: Arc<Retry>,
        call: Call,
        vendor: impl Fn() -> Result<Response, Fault> + Clone + Send + Sync + 'static,
    ) -> (usize, Duration, Result<Response, Fault>) {
        let (count, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let counter = Arc::clone(&count);
        let inner = service_fn(move |_: Call| {
            counter.fetch_add(1, Ordering::Relaxed);
            std::future::ready(vendor())
        });
        let result = layer(retry, inner).oneshot(call).await;
        (count.load(Ordering::Relaxed), start.elapsed(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_sent_again_only_after_proof_and_a_read_after_every_passing_failure() {
        for effect in EFFECTS {
            let reads = if effect == Effect::Read { 3 } else { 1 };
            for (cause, attempts) in [
                (Cause::Connect, 3),
                (Cause::Timeout, reads),
                (Cause::Lost, reads),
                (Cause::Tls, 1),
                (Cause::TooLarge, 1),
                (Cause::Token, 1),
                (Cause::Refused("circuit"), 1),
                (Cause::Defect, 1),
            ] {
                let (count, _, result) = asked(retry(1), call(effect, 30), move || fault(cause)).await;
                assert_eq!((count, result.unwrap_err().cause), (attempts, cause), "{effect:?}");
            }
            for (status, attempts) in [
                (200, 1),
                (302, 1),
                (400, 1),
                (401, 1),
                (408, 1),
                (425, 3),
                (429, 3),
                (500, 1),
                (501, 1),
                (502, reads),
                (503, reads),
                (504, reads),
            ] {
                let (count, _, result) = asked(retry(1), call(effect, 30), move || answer(status, None)).await;
                assert_eq!((count, result.unwrap().status), (attempts, status), "{effect:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_word_of_the_vendor_the_waits_are_short_and_decided_by_the_seed() {
        let wait = async |seed| asked(retry(seed), call(Effect::Read, 30), || answer(503, None)).await.1;
        let first = wait(1).await;
        assert!(first > Duration::ZERO && first <= Duration::from_millis(200 + 400), "{first:?}");
        // a timer of tokio is as fine as a millisecond
        assert_eq!(first.as_millis(), wait(1).await.as_millis());
        assert_ne!(first.as_millis(), wait(2).await.as_millis());
    }

    #[tokio::test(start_paused = true)]
    async fn the_vendors_wait_is_kept_up_to_five_minutes() {
        for (value, seconds) in [("7", 14), ("1000000000", 600)] {
            let (count, took, _) = asked(retry(1), call(Effect::Read, 3_600), move || answer(503, Some(value))).await;
            assert_eq!((count, took.as_secs()), (3, seconds), "{value}");
        }
        for value in ["-5", "soon"] {
            let (count, took, _) = asked(retry(1), call(Effect::Read, 3_600), move || answer(503, Some(value))).await;
            assert!(count == 3 && took < Duration::from_secs(1), "{value}: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_leaves_no_time_is_no_wait() {
        let (count, took, result) = asked(retry(1), call(Effect::Once, 30), || answer(429, Some("28"))).await;
        assert_eq!((count, took), (1, Duration::ZERO));
        assert_eq!(result.unwrap().retry_after(), Some(Duration::from_secs(28)));
        let (count, took, _) = asked(retry(1), call(Effect::Once, 30), || answer(429, Some("27"))).await;
        assert_eq!((count, took.as_secs()), (2, 27));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_by_the_circuit_does_not_hide_the_vendors_answer() {
        let count = Arc::new(AtomicUsize::new(0));
        let first_only = move || match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(503, None),
            _ => fault(Cause::Refused("circuit")),
        };
        let (count, _, result) = asked(retry(1), call(Effect::Read, 30), first_only).await;
        assert_eq!((count, result.unwrap().status), (2, 503));
    }

    /// Reliability F39, without the circuit breaker, which would stop nearly all of it.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_callers_in_an_outage_send_at_most_a_fifth_more() {
        let retry = retry(1);
        let mut calls = JoinSet::new();
        for _ in 0..1_000 {
            calls.spawn(asked(Arc::clone(&retry), call(Effect::Read, 30), || answer(503, None)));
        }
        let sent: usize = calls.join_all().await.iter().map(|(count, ..)| count).sum();
        assert!((1_050..=1_200).contains(&sent), "{sent}");
    }
}
