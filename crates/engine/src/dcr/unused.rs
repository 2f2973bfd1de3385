//! Clients that registered openly and are never used expire.
//!
//! The gateway does not see the vendor's token endpoint. A use is what it does see: the client's own token at
//! `/register/{id}`, an administrator's write, or a report by somebody who sees more.
//!
//! At and after its time a client is expired for good, whatever the clocks of other gateways say: no use is noted any more,
//! and its token opens nothing. Only an administrator's write keeps it. What remains is to tell the vendor, and that comes a
//! little later.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use registrar_core::{Error, ErrorKind, Result};
use registrar_model::{BackendName, OperationId, Registration, RegistrationId, State};
use registrar_store::{MAX_PAGE, OperationState, Unused, Usage};

use super::{Holder, manage::refused};
use crate::{
    clock::now_ms,
    engine::{Caller, Engine, Failure, store_error},
    idempotency::Idempotency,
    journal::millis,
};

/// How much later a client is deleted than it expires: the clocks of gateways on one store may differ by this much.
const GRACE: Duration = Duration::from_secs(60);
/// How many clients one round deletes at most.
const ROUND: usize = 50;
/// The first wait after a deletion that failed; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_mins(2);
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The name in the journal.
const PRINCIPAL: &str = "expiry";

/// When clients that registered openly and are never used are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// So long after their registration.
    After(Duration),
}

impl Expiry {
    /// When a client that is registered at `now` expires, in Unix milliseconds.
    pub(super) fn from(self, now: i64) -> Option<i64> {
        match self {
            Self::Never => None,
            Self::After(time) => Some(now.saturating_add(millis(time))),
        }
    }
}

/// Whether a client has expired by `now`, in Unix milliseconds.
pub(super) fn has_expired(registration: &Registration, now: i64) -> bool {
    registration.hidden.unused_until.is_some_and(|until| until <= now)
}

/// What one round of [`Engine::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many clients the vendors have deleted or, where they cannot, switched off.
    pub ended: usize,
    /// How many could not be; they are tried again.
    pub failed: usize,
}

/// Clients whose deletion failed: when it may be tried again, and after which wait.
#[derive(Debug, Default)]
pub(crate) struct Retries(Mutex<HashMap<RegistrationId, (i64, Duration)>>);

impl Retries {
    /// Forgets what was due long ago: of clients that are there no more, or used.
    fn tidy(&self, now: i64) {
        let mut retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retries.retain(|_, (at, _)| *at > now.saturating_sub(millis(LONGEST_WAIT)));
    }

    fn is_due(&self, id: RegistrationId, now: i64) -> bool {
        let retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retries.get(&id).is_none_or(|(at, _)| *at <= now)
    }

    fn failed(&self, id: RegistrationId, now: i64) {
        let mut retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = retries.get(&id).map_or(FIRST_WAIT, |(_, wait)| wait.saturating_mul(2).min(LONGEST_WAIT));
        retries.insert(id, (now.saturating_add(millis(wait)), wait));
    }
}

impl Engine {
    /// Notes that the client itself has come.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidToken`] when it has expired meanwhile. A store that does not work: a use that is not recorded
    /// must not look like one.
    pub async fn is_used_by(&self, holder: &mut Holder) -> Result<()> {
        if holder.registration.hidden.unused_until.is_none() {
            return Ok(());
        }
        match self.store.used(holder.registration.id, now_ms()).await.map_err(store_error)? {
            Usage::Noted => {
                holder.registration.hidden.unused_until = None;
                Ok(())
            }
            Usage::Expired | Usage::Missing => Err(refused()),
        }
    }

    /// Notes that somebody has seen the client at work: from now on it does not expire. Nothing else changes, and doing it
    /// again does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], also when the client has expired already.
    pub async fn report_use(&self, id: RegistrationId) -> Result<()> {
        match self.store.used(id, now_ms()).await.map_err(store_error)? {
            Usage::Noted => Ok(()),
            Usage::Missing => Err(Error::new(ErrorKind::NotFound, format!("there is no client `{id}`"))),
            Usage::Expired => {
                let detail = format!(
                    "client `{id}` has expired and is about to be deleted: it was not used in time; until it is deleted, a \
                     write (PUT, PATCH) keeps it"
                );
                Err(Error::new(ErrorKind::NotFound, detail))
            }
        }
    }

    /// One round of [`Self::expire_by`], now.
    ///
    /// # Errors
    /// A store that does not work.
    pub async fn expire(self: &Arc<Self>) -> Result<Expired> {
        self.expire_by(now_ms()).await
    }

    /// Deletes clients that expired a minute before `now`, in Unix milliseconds, or earlier, at their vendors; where a vendor
    /// cannot delete, they are switched off. There is to be one round at a time in a process.
    ///
    /// # Errors
    /// A store that does not work.
    pub async fn expire_by(self: &Arc<Self>, now: i64) -> Result<Expired> {
        self.retries.tidy(now);
        let before = now.saturating_sub(millis(GRACE));
        let mut done = Expired::default();
        let mut after = None;
        let mut resting = HashSet::new();
        let mut open = None;
        loop {
            let page = self.store.unused(before, after, MAX_PAGE).await.map_err(store_error)?;
            after = page.last().copied();
            for Unused { id, .. } in page.into_iter().filter(|unused| self.retries.is_due(unused.id, now)) {
                // asked for once, and mostly not at all
                let open = match &open {
                    Some(open) => open,
                    None => open.insert(self.clients_being_written().await?),
                };
                if open.contains(&id) {
                    continue;
                }
                let Some(registration) = self.store.registration(id).await.map_err(store_error)? else { continue };
                if resting.contains(&registration.backend) {
                    self.retries.failed(id, now);
                    continue;
                }
                match self.end(&registration, before, now).await {
                    Ok(Some(operation)) => {
                        done.ended += 1;
                        tracing::info!(
                            registration = %id, client_id = %registration.client_id, backend = %registration.backend,
                            route = registration.hidden.open_route.as_deref(), %operation,
                            "a client that was never used has expired"
                        );
                        count(&registration.backend, "ended");
                    }
                    Ok(None) => {}
                    Err(failure) => {
                        done.failed += 1;
                        self.retries.failed(id, now);
                        if failure.operation.is_none() {
                            // nothing was begun: as for this one, so for the others there
                            resting.insert(registration.backend.clone());
                        }
                        tracing::warn!(
                            registration = %id, client_id = %registration.client_id, backend = %registration.backend,
                            operation = failure.operation.map(tracing::field::display),
                            code = failure.error.kind().slug(), detail = failure.error.detail(),
                            "a client that has expired could not be deleted; it is tried again"
                        );
                        count(&registration.backend, "failed");
                    }
                }
                if done.ended + done.failed >= ROUND {
                    return Ok(done);
                }
            }
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    /// The clients with a write that is in progress, or whose outcome is unknown.
    async fn clients_being_written(&self) -> Result<HashSet<RegistrationId>> {
        let mut open = HashSet::new();
        for state in [OperationState::Pending, OperationState::Unknown] {
            self.each_in(state, |o| open.extend(o.registration)).await.map_err(store_error)?;
        }
        Ok(open)
    }

    /// Ends one client; `None` when there is nothing to end any more.
    async fn end(
        self: &Arc<Self>,
        registration: &Registration,
        before: i64,
        now: i64,
    ) -> Result<Option<OperationId>, Failure> {
        let id = registration.id;
        let caller = Caller {
            principal: PRINCIPAL.into(),
            request_id: uuid::Uuid::now_v7().to_string().into(),
            // of several gateways that find the same client, one deletes it
            idempotency: Some(Idempotency::of_expiry(id, now)),
        };
        // under the client's lock: somebody may have written to it since
        let still = |current: &Registration| {
            if current.state == State::Active && has_expired(current, before) {
                return Ok(());
            }
            Err(Error::new(ErrorKind::PreconditionFailed, "the client does not expire any more"))
        };
        let operations = self.runtime.load().backend(&registration.backend)?.adapter.descriptor().operations;
        let ended = if operations.delete.is_supported() || !operations.disable.is_supported() {
            self.delete_when(&caller, id, still).await.map(|done| done.operation)
        } else {
            self.disable_when(&caller, id, still).await.map(|written| written.operation)
        };
        match ended {
            Ok(operation) => {
                let found = self.store.operation(operation).await.map_err(store_error)?;
                // or another gateway was faster
                Ok(found.filter(|o| o.request_id == caller.request_id).map(|o| o.id))
            }
            Err(failure) if matches!(failure.error.kind(), ErrorKind::PreconditionFailed | ErrorKind::NotFound) => {
                // used since, or gone; but a vendor may also not find what it has
                let current = self.store.registration(id).await.map_err(store_error)?;
                if current.is_some_and(|current| still(&current).is_ok()) { Err(failure) } else { Ok(None) }
            }
            // another gateway is at it
            Err(failure) if failure.error.kind() == ErrorKind::IdempotencyInProgress => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

fn count(backend: &BackendName, outcome: &'static str) {
    let backend = backend.to_string();
    metrics::counter!("registrar_unused_clients_total", "backend" => backend, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_forgotten() {
        let (retries, id) = (Retries::default(), RegistrationId::generate());
        let minute = 60_000;
        let mut now = 0;
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            assert!(retries.is_due(id, now));
            retries.failed(id, now);
            assert!(!retries.is_due(id, now + minutes * minute - 1));
            now += minutes * minute;
        }
        retries.tidy(now + 59 * minute);
        retries.failed(id, now + 59 * minute);
        assert!(!retries.is_due(id, now + 118 * minute), "not forgotten yet");
        now += 119 * minute;
        retries.tidy(now + 60 * minute);
        retries.failed(id, now + 60 * minute);
        assert!(retries.is_due(id, now + 62 * minute));
    }
}
