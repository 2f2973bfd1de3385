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
