//! Recording what became of a write while the store does not work.

use std::{ops::Deref, sync::Arc, time::Duration};

use registrar_core::{ErrorKind, Outcome};
use registrar_store::{Operation, OperationState, OperationUpdate, RegistrationChange, StoreError, Trouble};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    clock::now_ms,
    dcr::{Kept, Place},
    engine::{Engine, Turn},
    late::Late,
};

/// The waits of [`Engine::record_later`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// An intent that is not there after this time never will be: a server has given up its commit long before.
const COMMIT_LIMIT: Duration = Duration::from_secs(20);
/// How many intents that may have become durable are looked for at once.
pub(crate) const CLOSING: usize = 64;

/// Whether the same write may succeed a little later. After a failure of the disk it may not: what it kept is unknown.
pub(crate) fn may_pass(error: &StoreError) -> bool {
    use Trouble::{Busy, Crowded, Full, Locked, NotConnected, Slow, Unreachable};
    matches!(error, StoreError::Unavailable(Full | Locked | Unreachable | NotConnected | Busy | Crowded | Slow))
}

/// Whether a write that failed so may have been recorded by a server that went on without us.
pub(crate) fn may_be_durable(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(Trouble::Unreachable | Trouble::Slow))
}

/// An operation that this process works on.
#[derive(Clone, Debug)]
pub(crate) struct Ongoing {
    pub(crate) operation: Arc<Operation>,
    /// Held until the result is recorded, so that no other change to the client comes between the two.
    #[expect(dead_code, reason = "held, never read")]
    pub(crate) turn: Option<Turn>,
    /// The same, so that nobody counts one client less meanwhile.
    #[expect(dead_code, reason = "held, never read")]
    pub(crate) place: Option<Arc<Place>>,
}

impl Deref for Ongoing {
    type Target = Operation;

    fn deref(&self) -> &Operation {
        &self.operation
    }
}

impl Engine {
    /// Closes an intent that may have become durable although the store failed: only this process knows that nothing was
    /// sent, and where a vendor cannot be asked, a person would have to look for nothing.
    pub(crate) fn never_sent(self: &Arc<Self>, operation: Arc<Operation>) {
        let Ok(permit) = Arc::clone(&self.closing).try_acquire_owned() else {
            tracing::warn!(operation = %operation.id, "its intent may be durable, and nothing was sent; it will be looked into");
            return;
        };
        let summary = "nothing was sent: the store failed while the intent was recorded";
        let (state, outcome) = (OperationState::Failed, Outcome::NotPerformed);
        let update = Arc::new(OperationUpdate {
            evidence: json!({ "code": ErrorKind::StoreUnavailable.slug() }).into(),
            release_key: true,
            refund: Kept::paid_by(&operation),
            ..OperationUpdate::of(&operation, state, outcome, summary, now_ms())
        });
        let engine = Arc::clone(self);
        self.writes.spawn(async move {
            let _permit = permit;
            let began = Instant::now();
            let mut waits = Waits::of(&operation);
            while waits.next().await {
                match engine.try_to_record(&operation, &update, None).await {
                    Ok(_) => {
                        tracing::info!(operation = %operation.id, "closed: nothing was sent for it");
                        return;
                    }
                    // the server may still be at the commit
                    Err(StoreError::NotFound(_)) if began.elapsed() < COMMIT_LIMIT => {}
                    Err(StoreError::NotFound(_)) => return,
                    Err(error) if may_pass(&error) => {}
                    Err(error) => {
                        tracing::warn!(operation = %operation.id, %error, "not closed; it will be looked into");
                        return;
                    }
                }
            }
            tracing::warn!(operation = %operation.id, "not closed in time; it will be looked into");
        });
    }

    /// Records what the vendor has done, trying a few times while the store is not available: the caller waits for it.
    /// [`StoreError::AlreadyFinished`] may be the success of an own try that seemed to fail, or what another process has
    /// concluded meanwhile: [`Engine::came_late`] tells them apart.
    pub(crate) async fn insist(
        &self,
        update: &Arc<OperationUpdate>,
        change: Option<&RegistrationChange>,
    ) -> Result<(), StoreError> {
        for wait in [Duration::from_millis(50), Duration::from_millis(500)] {
            match self.store.finish(Arc::clone(update), change.cloned()).await {
                Err(error) if may_pass(&error) => sleep(wait).await,
                done => return done,
            }
        }
        self.store.finish(Arc::clone(update), change.cloned()).await
    }

    /// Goes on trying to record a result for as long as the operation is this process's own. The caller has the answer
    /// already; what is at stake is what no look at the vendor brings back: the sealed secret, the vendor's credentials
    /// for the client, and the result itself where a vendor cannot be asked.
    pub(crate) fn record_later(
        self: &Arc<Self>,
        ongoing: &Ongoing,
        update: Arc<OperationUpdate>,
        change: Option<RegistrationChange>,
    ) {
        let (engine, ongoing) = (Arc::clone(self), ongoing.clone());
        self.writes.spawn(async move {
            let id = ongoing.id;
            let mut waits = Waits::of(&ongoing);
            while waits.next().await {
                match engine.try_to_record(&ongoing, &update, change.as_ref()).await {
                    Ok(Late::Recorded) => {
                        tracing::info!(operation = %id, "recorded, later than it was done");
                        return;
                    }
                    Ok(Late::Open(_) | Late::Dropped) => {
                        tracing::warn!(operation = %id, "another process has concluded otherwise meanwhile");
                        return;
                    }
                    Err(error) if may_pass(&error) => {}
                    Err(error) => {
                        tracing::warn!(operation = %id, %error, "not recorded; it will be looked into");
                        return;
                    }
                }
            }
            tracing::error!(operation = %id, "not recorded as long as it was this process's own; it will be looked into");
        });
    }

    async fn try_to_record(
        &self,
        operation: &Operation,
        update: &Arc<OperationUpdate>,
        change: Option<&RegistrationChange>,
    ) -> Result<Late, StoreError> {
        match self.store.finish(Arc::clone(update), change.cloned()).await {
            Ok(()) => Ok(Late::Recorded),
            Err(StoreError::AlreadyFinished | StoreError::Superseded) => {
                Box::pin(self.came_late(operation, update, change)).await
            }
            Err(error) => Err(error),
        }
    }
}

/// Longer and longer waits, until an operation is not this process's own any more.
struct Waits {
    next: Duration,
    until: Instant,
}

impl Waits {
    fn of(operation: &Operation) -> Self {
        let left = u64::try_from(operation.lease.until.saturating_sub(now_ms())).unwrap_or(0);
        Self { next: FIRST_WAIT, until: Instant::now() + Duration::from_millis(left) }
    }

    /// False, at once, when the time does not suffice for the next.
    async fn next(&mut self) -> bool {
        let wait = self.next;
        if Instant::now() + wait >= self.until {
            return false;
        }
        sleep(wait).await;
        self.next = wait.saturating_mul(2).min(LONGEST_WAIT);
        true
    }
}
