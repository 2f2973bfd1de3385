//! The circuit of one backend: when most calls fail, the vendor is left alone for a while and then asked by one read.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use registrar_core::{Effect, Error, ErrorKind, Response};
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};

use crate::{
    fault::{Cause, Fault},
    meters::Meters,
    stack::Call,
    window::Window,
};

/// Fewer calls than this say nothing (this and the next: reliability §1.5).
const ENOUGH: u32 = 20;
/// How long it stays open the first time, and at most; each probe that fails doubles it.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// For those who are refused while the answer to a probe is awaited.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// What the circuit does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// Sends it.
    Closed,
    /// Refuses it until then.
    Open { until: Instant },
    /// Sends one read, and refuses everything else until that is answered.
    HalfOpen { probing: bool },
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    /// Counts the changes of `circuit`: a call that was admitted before the last one has no say any more.
    generation: u64,
    rest: Duration,
    window: Window,
}

impl State {
    /// Opening ends by itself; nobody is there to be told when it does.
    fn at(&self, now: Instant) -> Circuit {
        match self.circuit {
            Circuit::Open { until } if now >= until => Circuit::HalfOpen { probing: false },
            circuit => circuit,
        }
    }
}

/// The circuit breaker of one backend.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<State>,
    meters: Arc<Meters>,
}

impl Breaker {
    pub(crate) fn new(meters: Arc<Meters>) -> Self {
        let window = Window::new(Instant::now());
        let state = State { circuit: Circuit::Closed, generation: 0, rest: FIRST_REST, window };
        Self { state: Mutex::new(state), meters }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        self.state().at(now)
    }

    /// # Errors
    /// When a call of this effect would be refused now.
    pub(crate) fn check(&self, effect: Effect, now: Instant) -> Result<(), Fault> {
        decide(self.circuit(now), effect, now)
    }

    fn admit(self: &Arc<Self>, effect: Effect, now: Instant) -> Result<Ticket, Fault> {
        let mut state = self.state();
        let circuit = state.at(now);
        decide(circuit, effect, now)?;
        if circuit != Circuit::Closed {
            self.change(&mut state, Circuit::HalfOpen { probing: true });
        }
        // so that the metric is there before anything happens
        self.meters.circuit();
        Ok(Ticket { breaker: Arc::clone(self), generation: state.generation, judged: false })
    }

    fn change(&self, state: &mut State, circuit: Circuit) {
        state.circuit = circuit;
        state.generation += 1;
        self.meters.circuit().set(match circuit {
            Circuit::Closed => 0.0,
            Circuit::HalfOpen { .. } => 1.0,
            Circuit::Open { .. } => 2.0,
        });
    }

    /// `None`: nothing was learnt.
    fn ended(&self, generation: u64, failed: Option<bool>) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        let now = Instant::now();
        match (state.circuit, failed) {
            (Circuit::Closed, Some(failed)) => {
                state.window.record(now, failed);
                let (calls, failures) = state.window.sums();
                if failed && calls >= ENOUGH && failures * 2 >= calls {
                    state.rest = FIRST_REST;
                    self.open(&mut state, now);
                }
            }
            (Circuit::HalfOpen { .. }, Some(true)) => {
                state.rest = (state.rest * 2).min(LONGEST_REST);
                self.open(&mut state, now);
            }
            (Circuit::HalfOpen { .. }, Some(false)) => {
                state.window = Window::new(now);
                self.change(&mut state, Circuit::Closed);
                tracing::info!(backend = &*self.meters.backend, "the vendor works again: circuit closed");
            }
            (Circuit::HalfOpen { .. }, None) => self.change(&mut state, Circuit::HalfOpen { probing: false }),
            (Circuit::Closed, None) | (Circuit::Open { .. }, _) => {}
        }
    }

    fn open(&self, state: &mut State, now: Instant) {
        let until = now + state.rest;
        self.change(state, Circuit::Open { until });
        tracing::warn!(
            backend = &*self.meters.backend,
            seconds = state.rest.as_secs(),
            "the vendor fails: circuit open"
        );
    }
}

/// A write is never the probe: if the vendor still fails, its outcome would be unknown (reliability F27).
fn decide(circuit: Circuit, effect: Effect, now: Instant) -> Result<(), Fault> {
    let left = match circuit {
        Circuit::Closed => return Ok(()),
        Circuit::HalfOpen { probing: false } if effect == Effect::Read => return Ok(()),
        Circuit::HalfOpen { .. } => PROBE_TIME,
        Circuit::Open { until } => until - now,
    };
    let detail = "the circuit is open, because most of the latest calls to the vendor failed; nothing was sent";
    let error = Error::new(ErrorKind::UpstreamUnavailable, detail).with_retry_after(Some(left));
    Err(Fault::new(Cause::Refused("circuit"), error))
}

/// A call that was let through. Dropped without a word (the caller went away), it leaves the probe to another.
struct Ticket {
    breaker: Arc<Breaker>,
    generation: u64,
    judged: bool,
}

impl Ticket {
    /// Connect failures, time-outs, broken answers and 5xx count; a refusal shows a vendor that works.
    fn judge(&mut self, result: &Result<Response, Fault>) {
        let failed = match result {
            Ok(response) => Some((500..600).contains(&response.status)),
            Err(fault) => fault.is_outage().then_some(true),
        };
        self.judged = failed.is_some();
        if self.judged {
            self.breaker.ended(self.generation, failed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.judged {
            self.breaker.ended(self.generation, None);
        }
    }
}

/// Lets calls through, or not, and learns from how they end.
pub(crate) fn layer<S>(
    breaker: Arc<Breaker>,
    inner: S,
) -> impl Service<Call, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync
where
    S: Service<Call, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync,
{
    service_fn(move |call: Call| {
        let inner = inner.clone();
        let admitted = breaker.admit(call.request.effect, Instant::now());
        async move {
            let mut ticket = admitted?;
            let result = inner.oneshot(call).await;
            ticket.judge(&result);
            result
        }
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use registrar_core::{Outcome, Request};
    use tokio::time::advance;

    use super::*;

    struct Rig(Arc<Breaker>);

    impl Rig {
        fn new() -> Self {
            Self(Arc::new(Breaker::new(Arc::new(Meters::new(Arc::from("v"))))))
        }

        async fn send(&self, effect: Effect, vendor: Result<u16, Cause>) -> Result<Response, Fault> {
            let request = Request::new(Method::GET, "https://v.example/".parse().unwrap(), effect, "x");
            let deadline = Instant::now() + Duration::from_secs(15);
            let inner = service_fn(move |_: Call| {
                let answer = |status| Response::new(status, HeaderMap::new(), bytes::Bytes::new(), effect);
                let error = |cause| Fault::new(cause, Error::new(ErrorKind::UpstreamUnavailable, "x"));
                std::future::ready(vendor.map(answer).map_err(error))
            });
            layer(Arc::clone(&self.0), inner)
                .oneshot(Call { request: Arc::new(request), deadline, start_by: deadline })
                .await
        }

        async fn sends(&self, count: u32, vendor: Result<u16, Cause>) {
            for _ in 0..count {
                let refused = self.send(Effect::Once, vendor).await.is_err_and(|fault| fault.is_refusal());
                assert!(!refused || vendor == Err(Cause::Refused("paused")));
            }
        }

        fn circuit(&self) -> Circuit {
            self.0.circuit(Instant::now())
        }

        fn is_open_for(&self, seconds: u64) -> bool {
            self.circuit() == Circuit::Open { until: Instant::now() + Duration::from_secs(seconds) }
        }
    }

    async fn pass(seconds: u64) {
        advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_twenty_calls_open_it() {
        for bad in [
            Ok(500),
            Ok(503),
            Ok(599),
            Err(Cause::Connect),
            Err(Cause::Tls),
            Err(Cause::Timeout),
            Err(Cause::Lost),
            Err(Cause::Token),
        ] {
            let rig = Rig::new();
            rig.sends(10, Ok(200)).await;
            rig.sends(9, bad).await;
            assert_eq!(rig.circuit(), Circuit::Closed, "{bad:?}");
            rig.sends(1, bad).await;
            assert!(rig.is_open_for(10), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_too_old_or_a_minority_do_not() {
        let rig = Rig::new();
        rig.sends(19, Ok(500)).await;
        pass(31).await;
        rig.sends(19, Ok(500)).await;
        pass(31).await;
        rig.sends(11, Ok(200)).await;
        rig.sends(10, Ok(500)).await;
        assert_eq!(rig.circuit(), Circuit::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_and_what_was_not_sent_are_no_outage() {
        for harmless in [
            Ok(400),
            Ok(401),
            Ok(404),
            Ok(429),
            Ok(302),
            Err(Cause::TooLarge),
            Err(Cause::Defect),
            Err(Cause::Refused("paused")),
        ] {
            let rig = Rig::new();
            rig.sends(20, harmless).await;
            assert_eq!(rig.circuit(), Circuit::Closed, "{harmless:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_is_open_every_call_is_refused_with_the_time_left() {
        let rig = Rig::new();
        rig.sends(20, Ok(503)).await;
        pass(4).await;
        for effect in [Effect::Read, Effect::Idempotent, Effect::Once] {
            let fault = rig.send(effect, Ok(200)).await.unwrap_err();
            let error = fault.error;
            assert_eq!(
                (error.kind(), error.outcome(), error.is_retryable(), error.retry_after()),
                (ErrorKind::UpstreamUnavailable, Outcome::NotPerformed, true, Some(Duration::from_secs(6)))
            );
            assert!(error.detail().starts_with("the circuit is open"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_doubles_the_rest_up_to_a_minute_and_one_that_works_closes() {
        let rig = Rig::new();
        rig.sends(20, Ok(503)).await;
        for (rest, next) in [(10, 20), (20, 40), (40, 60), (60, 60)] {
            assert!(rig.is_open_for(rest));
            pass(rest).await;
            assert_eq!(rig.circuit(), Circuit::HalfOpen { probing: false });
            assert!(rig.send(Effect::Once, Ok(200)).await.is_err_and(|fault| fault.is_refusal()), "no write probes");
            assert!(rig.send(Effect::Read, Ok(503)).await.is_ok());
            assert!(rig.is_open_for(next));
        }
        pass(60).await;
        assert!(rig.send(Effect::Read, Ok(404)).await.is_ok());
        assert_eq!(rig.circuit(), Circuit::Closed);
        rig.sends(19, Ok(503)).await;
        assert_eq!(rig.circuit(), Circuit::Closed, "what was before is forgotten");
        rig.sends(1, Ok(503)).await;
        assert!(rig.is_open_for(10), "and so are the longer rests");
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_one_probe_and_it_is_given_back() {
        let rig = Rig::new();
        rig.sends(20, Ok(503)).await;
        pass(10).await;
        let probe = rig.0.admit(Effect::Read, Instant::now()).unwrap();
        assert_eq!(rig.circuit(), Circuit::HalfOpen { probing: true });
        assert!(rig.send(Effect::Read, Ok(200)).await.is_err_and(|fault| fault.is_refusal()));
        drop(probe);
        assert_eq!(rig.circuit(), Circuit::HalfOpen { probing: false }, "its caller went away");
        assert!(rig.send(Effect::Read, Err(Cause::Refused("paused"))).await.is_err());
        assert_eq!(rig.circuit(), Circuit::HalfOpen { probing: false }, "it was not sent");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_has_no_say() {
        let rig = Rig::new();
        let mut late = rig.0.admit(Effect::Read, Instant::now()).unwrap();
        rig.sends(20, Ok(503)).await;
        pass(10).await;
        let mut probe = rig.0.admit(Effect::Read, Instant::now()).unwrap();
        let lost = || Err(Fault::new(Cause::Lost, Error::new(ErrorKind::UpstreamUnavailable, "x")));
        late.judge(&lost());
        drop(late);
        assert_eq!(rig.circuit(), Circuit::HalfOpen { probing: true });
        probe.judge(&lost());
        assert!(rig.is_open_for(20));
    }
}
