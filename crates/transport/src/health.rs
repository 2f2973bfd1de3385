//! How a backend is doing, as its requests show it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use registrar_core::{Effect, ErrorKind, Result};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    breaker::{Breaker, Circuit},
    limit::Limit,
    lockout::Lockout,
    skew::Skew,
    stack::longest_wait,
};

/// What the requests of one backend have met so far. Refusals by the gateway itself (its limit of requests in flight,
/// an open circuit, a pause, its own defects) and calls that nobody waited for say nothing about the vendor and are not
/// counted.
#[derive(Debug)]
pub struct Health {
    backend: Arc<str>,
    breaker: Arc<Breaker>,
    lockout: Arc<Lockout>,
    limit: Arc<Limit>,
    skew: Skew,
    /// Of a whole call.
    timeout: Duration,
    /// 0: none yet.
    last_success: AtomicI64,
    last_failure: Mutex<Option<LastFailure>>,
    consecutive_failures: AtomicU32,
    in_flight: AtomicUsize,
}

/// The most recent failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastFailure {
    /// Unix milliseconds.
    pub at: i64,
    /// The slug of its [`ErrorKind`].
    pub code: &'static str,
}

/// Whether the circuit breaker lets calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// All of them.
    Closed,
    /// None.
    Open,
    /// One read at a time, until one has an answer.
    HalfOpen,
}

/// The circuit breaker at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CircuitSnapshot {
    /// What it does with calls.
    pub state: CircuitState,
    /// Unix milliseconds of the end of [`CircuitState::Open`]; absent in the other states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<i64>,
}

/// A moment of [`Health`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HealthSnapshot {
    /// Unix milliseconds of the last answer that was not a failure; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<i64>,
    /// Absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Requests that wait for the vendor now.
    pub in_flight: usize,
    /// The circuit breaker.
    pub circuit: CircuitSnapshot,
    /// Unix milliseconds of the end of the pause that the vendor asked for, with a 429 or with the fields that say that no
    /// request is left; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<i64>,
}

impl Health {
    pub(crate) fn new(
        backend: Arc<str>,
        breaker: Arc<Breaker>,
        lockout: Arc<Lockout>,
        limit: Arc<Limit>,
        timeout: Duration,
    ) -> Self {
        Self {
            backend,
            breaker,
            lockout,
            limit,
            skew: Skew::default(),
            timeout,
            last_success: AtomicI64::new(0),
            last_failure: Mutex::new(None),
            consecutive_failures: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Whether a write that is sent now would be let through, to be asked before its intent is recorded. Changes
    /// nothing and costs three short locks; a moment later the answer may be another one.
    ///
    /// # Errors
    /// What the write itself would get, with nothing performed: [`ErrorKind::UpstreamUnavailable`] while the circuit is
    /// not closed, [`ErrorKind::UpstreamAuthentication`] while a refused credential rests,
    /// [`ErrorKind::UpstreamRateLimited`] during a pause that leaves no call the time for its request.
    pub fn admits_writes(&self) -> Result<()> {
        let now = Instant::now();
        self.breaker
            .check(Effect::Once, now)
            .and_then(|()| self.lockout.check(now))
            .and_then(|()| self.limit.check(now, now + longest_wait(self.timeout)))
            .map_err(|fault| fault.error.with_backend(&*self.backend))
    }

    /// True while the circuit is half open and nobody probes. Only a read may, so that where none comes by itself the
    /// circuit would stay so for ever: whoever sees `true` should make a cheap one (`Adapter::check`). When several do,
    /// one is sent and the others are refused.
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.breaker.circuit(Instant::now()) == Circuit::HalfOpen { probing: false }
    }

    /// The present state of the circuit breaker.
    #[must_use]
    pub fn circuit(&self) -> CircuitSnapshot {
        let now = Instant::now();
        let (state, retry_at) = match self.breaker.circuit(now) {
            Circuit::Closed => (CircuitState::Closed, None),
            Circuit::Open { until } => (CircuitState::Open, Some(unix_millis_in(until - now))),
            Circuit::HalfOpen { .. } => (CircuitState::HalfOpen, None),
        };
        CircuitSnapshot { state, retry_at }
    }

    /// How far this machine's clock is ahead of the vendor's, in milliseconds, at most 300 000 either way; `None` before an
    /// answer that no cache gave had a `Date`.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        self.skew.learnt()
    }

    pub(crate) fn learn_skew(&self, headers: &http::HeaderMap) {
        self.skew.learn(headers);
    }

    /// The present state.
    #[must_use]
    pub fn snapshot(&self) -> HealthSnapshot {
        let pause = self.limit.pause_left(Instant::now());
        let last_success = self.last_success.load(Ordering::Relaxed);
        HealthSnapshot {
            last_success: (last_success != 0).then_some(last_success),
            last_failure: *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner),
            consecutive_failures: self.consecutive_failures.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            circuit: self.circuit(),
            paused_until: (!pause.is_zero()).then(|| unix_millis_in(pause)),
        }
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The refusal of a call's own token is one of many ordinary answers: the backend's credential was not asked.
    pub(crate) fn answered(&self, status: u16, own_token: bool) {
        let refusal =
            |kind: &ErrorKind| matches!(kind, ErrorKind::UpstreamAuthentication | ErrorKind::UpstreamAuthorization);
        match failure(status).filter(|kind| !(own_token && refusal(kind))) {
            Some(kind) => self.failed(kind),
            None => {
                self.last_success.store(unix_millis(), Ordering::Relaxed);
                self.consecutive_failures.store(0, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        if kind == ErrorKind::Internal {
            return;
        }
        let failure = LastFailure { at: unix_millis(), code: kind.slug() };
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        self.consecutive_failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// The statuses that say that the backend does not work, as opposed to a request that was refused.
fn failure(status: u16) -> Option<ErrorKind> {
    match status {
        401 => Some(ErrorKind::UpstreamAuthentication),
        403 => Some(ErrorKind::UpstreamAuthorization),
        429 => Some(ErrorKind::UpstreamRateLimited),
        503 => Some(ErrorKind::UpstreamUnavailable),
        500..=599 => Some(ErrorKind::UpstreamError),
        300..=399 => Some(ErrorKind::UpstreamMalformed),
        _ => None,
    }
}

/// For people only; nothing is decided by it.
fn unix_millis() -> i64 {
    unix_millis_in(Duration::ZERO)
}

fn unix_millis_in(wait: Duration) -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + wait;
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backoff::Backoff, meters::Meters};

    fn health() -> Health {
        let backend: Arc<str> = Arc::from("v");
        let meters = Arc::new(Meters::new(Arc::clone(&backend)));
        let breaker = Arc::new(Breaker::new(Arc::clone(&meters)));
        let limit = Arc::new(Limit::new(None, Arc::new(Backoff::new(None)), meters));
        Health::new(backend, breaker, Arc::default(), limit, Duration::from_secs(15))
    }

    #[test]
    fn failures_count_until_a_success() {
        let health = health();
        for status in [500, 503, 401, 429] {
            health.answered(status, false);
        }
        health.failed(ErrorKind::UpstreamTimeout);
        health.failed(ErrorKind::Internal);
        let bad = health.snapshot();
        assert_eq!((bad.consecutive_failures, bad.last_success), (5, None));
        assert_eq!(bad.last_failure.map(|f| f.code), Some("upstream-timeout"));

        health.answered(404, false);
        let good = health.snapshot();
        assert_eq!(good.consecutive_failures, 0);
        health.answered(401, true);
        health.answered(403, true);
        assert_eq!(health.snapshot().consecutive_failures, 0, "the token of one client was refused");
        health.answered(500, true);
        assert_eq!(health.snapshot().consecutive_failures, 1);
        assert!(good.last_success > Some(1_600_000_000_000));
        assert_eq!(good.last_failure, bad.last_failure, "it stays to be looked at");
    }

    #[test]
    fn absent_members_are_not_null() {
        let json = serde_json::to_string(&health().snapshot()).unwrap();
        assert_eq!(json, r#"{"consecutive_failures":0,"in_flight":0,"circuit":{"state":"closed"}}"#);
    }
}
