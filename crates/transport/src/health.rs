//! How a backend is doing, as its requests show it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use registrar_core::ErrorKind;
use serde::Serialize;

/// What the requests of one backend have met so far. Refusals by the gateway itself (its limit of requests in flight,
/// its own defects) and calls that nobody waited for say nothing about the vendor and are not counted.
#[derive(Debug, Default)]
pub struct Health {
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
}

impl Health {
    /// The present state.
    #[must_use]
    pub fn snapshot(&self) -> HealthSnapshot {
        let last_success = self.last_success.load(Ordering::Relaxed);
        HealthSnapshot {
            last_success: (last_success != 0).then_some(last_success),
            last_failure: *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner),
            consecutive_failures: self.consecutive_failures.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
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
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_until_a_success() {
        let health = Health::default();
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
        let json = serde_json::to_string(&Health::default().snapshot()).unwrap();
        assert_eq!(json, r#"{"consecutive_failures":0,"in_flight":0}"#);
    }
}
