//! Recording what became of a write when that is not simple: while the store does not work, and when another process has
//! taken the operation over in the meantime.

use std::{sync::Arc, time::Duration};

use registrar_core::{ErrorKind, Outcome};
use registrar_model::OperationId;
use registrar_store::{
    Action, Intent, Lease, Operation, OperationState, OperationUpdate, RegistrationChange, StoreError, Trouble,
};
use serde_json::{Value, json};

use crate::{clock::now_ms, engine::Engine, journal::millis};

/// The waits of [`Engine::record_later`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Whether the same write may succeed a little later. After a failure of the disk it may not: what it kept is unknown.
pub(crate) fn may_pass(error: &StoreError) -> bool {
    use Trouble::{Crowded, Full, Locked, Slow, Unreachable};
    matches!(error, StoreError::Unavailable(Full | Locked | Unreachable | Crowded | Slow))
}

/// Whether a write that failed so may have been recorded by a server that went on without us.
pub(crate) fn may_be_durable(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(Trouble::Unreachable | Trouble::Slow))
}

impl Engine {
    /// Closes an intent that may have become durable although the store failed: only this process knows that nothing was
    /// sent, and where a vendor cannot be asked, a person would have to look for nothing.
    pub(crate) fn never_sent(&self, operation: &Operation) {
        let update = OperationUpdate {
            id: operation.id,
            state: OperationState::Failed,
            outcome: Outcome::NotPerformed,
            summary: "nothing was sent: the store failed while the intent was recorded".to_owned(),
            updated_at: now_ms(),
            attempts: operation.attempts,
            evidence: json!({ "code": ErrorKind::StoreUnavailable.slug() }).into(),
            fence: operation.lease.fence,
            sealed: None,
            release_key: true,
            retry_at: 0,
        };
        self.record_later(operation, update, None);
    }

    /// Records what the vendor has done, trying a few times while the store is not available: the caller waits for it.
    pub(crate) async fn insist(
        &self,
        update: &OperationUpdate,
        change: Option<&RegistrationChange>,
    ) -> Result<(), StoreError> {
        let mut tried = false;
        for wait in [Duration::from_millis(50), Duration::from_millis(500)] {
            match self.store.finish(update.clone(), change.cloned()).await {
                Err(error) if may_pass(&error) => {
                    tried = true;
                    tokio::time::sleep(wait).await;
                }
                // a try that failed may have been recorded all the same
                Err(StoreError::AlreadyFinished) if tried => return Ok(()),
                done => return done,
            }
        }
        match self.store.finish(update.clone(), change.cloned()).await {
            Err(StoreError::AlreadyFinished) => Ok(()),
            done => done,
        }
    }

    /// Goes on trying to record a result for as long as the operation is this process's own. The caller has the answer
    /// already; what is at stake is what no look at the vendor brings back: the sealed secret, the vendor's credentials
    /// for the client, and the result itself where a vendor cannot be asked.
    pub(crate) fn record_later(
        &self,
        operation: &Operation,
        update: OperationUpdate,
        change: Option<RegistrationChange>,
    ) {
        let (store, id, until) = (Arc::clone(&self.store), operation.id, operation.lease.until);
        self.writes.spawn(async move {
            let mut wait = FIRST_WAIT;
            while now_ms().saturating_add(millis(wait)) < until {
                tokio::time::sleep(wait).await;
                match store.finish(update.clone(), change.clone()).await {
                    Ok(()) | Err(StoreError::AlreadyFinished) => {
                        tracing::info!(operation = %id, "recorded, later than it was done");
                        return;
                    }
                    // a server may still be at the commit of an intent whose connection broke
                    Err(error) if may_pass(&error) || matches!(error, StoreError::NotFound(_)) => {
                        wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                    }
                    Err(error) => {
                        tracing::warn!(operation = %id, %error, "not recorded; it will be looked into");
                        return;
                    }
                }
            }
        });
    }

    /// What to do with a result that arrives after another process has taken the operation over. Returns whether the
    /// journal says now what the vendor did.
    ///
    /// A result is never put in the place of another. While the other process has found nothing out, the vendor's own
    /// answer is better than any look, and it is recorded, under the fence of now. Where the other has concluded that
    /// nothing was done, and it was (or may have been: the call was late too), a new operation says so, for the
    /// reconciler or a person: otherwise nobody would ever look for what the vendor has.
    pub(crate) async fn came_late(
        &self,
        operation: &Operation,
        update: &OperationUpdate,
        change: Option<&RegistrationChange>,
    ) -> bool {
        // a client that is changed was marked by whoever took over: its version is another one
        let stands_alone = change.is_none() || matches!(operation.action, Action::Create);
        for _ in 0..3 {
            let current = match self.store.operation(operation.id).await {
                Ok(Some(current)) => current,
                Ok(None) => return false,
                Err(error) => {
                    tracing::error!(operation = %operation.id, %error, "a late result was not recorded");
                    return false;
                }
            };
            match current.state {
                OperationState::Succeeded => return true,
                OperationState::Failed if update.outcome == Outcome::NotPerformed => return true,
                OperationState::Failed => {
                    self.look_again(operation, change).await;
                    return false;
                }
                OperationState::Pending | OperationState::Unknown
                    if stands_alone && update.outcome != Outcome::Unknown =>
                {
                    let update = OperationUpdate { fence: current.lease.fence, ..update.clone() };
                    match self.store.finish(update, change.cloned()).await {
                        Ok(()) => {
                            tracing::info!(operation = %operation.id, "a late result is recorded: nobody had found one");
                            return true;
                        }
                        // somebody has just concluded, or taken over again
                        Err(StoreError::AlreadyFinished | StoreError::Superseded) => {}
                        Err(error) => {
                            tracing::error!(operation = %operation.id, %error, "a late result was not recorded");
                            return false;
                        }
                    }
                }
                // whoever took over looks at the vendor, and sees it
                OperationState::Pending | OperationState::Unknown => return false,
            }
        }
        false
    }

    /// Opens an operation for a write that was declared not done, and then the vendor answered after all.
    async fn look_again(&self, operation: &Operation, change: Option<&RegistrationChange>) {
        let now = now_ms();
        let mut evidence = json!({ "late_result_of": operation.id });
        if let Some(RegistrationChange::Insert(made)) = change {
            evidence["client_id"] = Value::String(made.client_id.to_string());
            evidence["vendor_ref"] = Value::String(made.vendor_ref.clone());
        }
        let again = Operation {
            id: OperationId::generate(),
            state: OperationState::Pending,
            outcome: Outcome::Unknown,
            summary: format!("{} was declared not done, and the vendor's answer came after that", operation.id),
            updated_at: now,
            evidence,
            // nobody works on it: the next round looks into it
            lease: Lease { owner: self.instance.clone(), until: now, fence: 1 },
            ..operation.clone()
        };
        let id = again.id;
        match self.store.begin(Intent { operation: again, key: None }).await {
            Ok(_) => {
                tracing::error!(operation = %operation.id, again = %id, "done at the vendor after it was declared not done")
            }
            Err(error) => {
                tracing::error!(operation = %operation.id, %error, "done at the vendor after it was declared not done, and not recorded");
            }
        }
    }
}
