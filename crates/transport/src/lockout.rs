//! The credential circuit: a credential that the vendor refuses is not sent again and again, which looks like an attack
//! and may lock the account (reliability F37).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use registrar_core::{Error, ErrorKind};
use tokio::time::Instant;

use crate::fault::{Cause, Fault};

/// How long nothing is sent. A change of the configuration makes a new stack and so ends it early.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);

/// The refusals of one backend's credential.
#[derive(Debug, Default)]
pub(crate) struct Lockout(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when every answer has been a refusal.
    refused: Option<Instant>,
    until: Option<Instant>,
}

impl Lockout {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// While the credential is not used.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Fault> {
        let Some(until) = self.state().until.filter(|until| now < *until) else {
            return Ok(());
        };
        let error = Error::new(
            ErrorKind::UpstreamAuthentication,
            "the vendor refused the gateway's credential twice in a row, so that it is not used for a minute; nothing \
             was sent",
        )
        .with_advice("check the backend's `token`");
        Err(Fault::new(Cause::Refused("credential"), error.with_retry_after(Some(until - now))))
    }

    /// The vendor took the credential.
    pub(crate) fn accepted(&self) {
        *self.state() = State::default();
    }

    /// The vendor refused it at the end of a call that began at `began`. A single refusal may be the whim of a firewall
    /// and meet many calls at once, so the second one only counts if its call began after the first was known.
    pub(crate) fn refused(&self, began: Instant, now: Instant) {
        let mut state = self.state();
        match state.refused {
            Some(first) if began >= first => state.until = Some(now + PAUSE),
            Some(_) => {}
            None => state.refused = Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(lockout: &Lockout, now: Instant) -> bool {
        lockout.check(now).is_err()
    }

    #[test]
    fn two_refusals_in_a_row_block_for_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let lockout = Lockout::default();
        lockout.refused(start, after(1));
        assert!(!open(&lockout, after(1)), "one is a whim");
        lockout.accepted();
        lockout.refused(after(2), after(3));
        assert!(!open(&lockout, after(3)), "they must follow each other");
        lockout.refused(after(2), after(4));
        assert!(!open(&lockout, after(4)), "under way with the first");
        lockout.refused(after(4), after(5));
        assert!(open(&lockout, after(5)) && open(&lockout, after(64)));
        assert_eq!(lockout.check(after(35)).unwrap_err().error.retry_after(), Some(Duration::from_secs(30)));
        assert!(!open(&lockout, after(65)));
        lockout.refused(after(65), after(66));
        assert!(open(&lockout, after(66)), "still the same credential");
    }
}
