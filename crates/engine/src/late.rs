//! Results that arrive after another process has taken the operation over.
//!
//! A result is never put in the place of another. While the other process has found nothing out, the vendor's own answer is
//! better than any look, and it is recorded, under the fence of now. Where the other has found the client, it could not
//! find what the vendor says only once: the answer adds that. Where the other has concluded that nothing was done, and it
//! was (or may have been: the call was late too), or has taken another client for the one that was made, a new operation
//! says so, for the reconciler or a person: otherwise nobody would ever look for what the vendor has.

use std::{sync::Arc, time::Duration};

use registrar_core::Outcome;
use registrar_model::{Hidden, OperationId, Registration, RegistrationId, State};
use registrar_store::{
    Action, Begun, Intent, Lease, Operation, OperationState, OperationUpdate, RegistrationChange, Spending, StoreError,
};
use serde_json::{Value, json};

use crate::{
    clock::now_ms,
    dcr::{self, Kept},
    engine::Engine,
    journal::{DELIVERED, SECRET, merged, millis, with_state},
    record::may_pass,
    writes::{replacement, state_of},
};

/// The waits between the tries of [`Engine::look_again`].
const WAITS: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(2)];

/// What became of a late result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// The journal says now what the vendor did, and the registry what it gave.
    Recorded,
    /// This operation looks for what the vendor did.
    Open(OperationId),
    /// Neither; what another process has found, or will find, stands.
    Dropped,
}

impl Engine {
    /// What to do with a result that cannot be recorded because the operation is not this process's own any more, or is
    /// final: by an own try that seemed to fail, or by another process.
    ///
    /// # Errors
    /// A store that does not work; it may be tried again.
    pub(crate) async fn came_late(
        &self,
        operation: &Operation,
        update: &OperationUpdate,
        change: Option<&RegistrationChange>,
    ) -> Result<Late, StoreError> {
        for _ in 0..3 {
            let Some(current) = self.store.operation(operation.id).await? else { return Ok(Late::Dropped) };
            let recorded = match current.state {
                OperationState::Succeeded if update.outcome != Outcome::Performed || is_own(&current, update) => {
                    return Ok(Late::Recorded);
                }
                OperationState::Succeeded => match (operation.action, change) {
                    (Action::Create, Some(RegistrationChange::Insert(made))) => {
                        match self.store.registration(made.id).await? {
                            Some(found) if found.client_id == made.client_id => {
                                self.complete(&current, update, self.with_what_was_given(found, made)).await
                            }
                            _ => return self.taken_for_another(operation, made, change).await,
                        }
                    }
                    (_, change) => {
                        let change = match change {
                            Some(RegistrationChange::Update { registration: made, .. }) => {
                                self.with_token(made).await?
                            }
                            _ => None,
                        };
                        self.complete(&current, update, change).await
                    }
                },
                OperationState::Failed if update.outcome == Outcome::NotPerformed => return Ok(Late::Recorded),
                OperationState::Failed => return self.look_again(operation, operation.registration, change).await,
                // whoever took over looks at the vendor
                OperationState::Pending | OperationState::Unknown if update.outcome == Outcome::Unknown => {
                    return Ok(Late::Dropped);
                }
                OperationState::Pending | OperationState::Unknown => {
                    let Some(change) = self.rebased(operation, change).await? else { return Ok(Late::Dropped) };
                    let update = OperationUpdate { fence: current.lease.fence, ..update.clone() };
                    self.store.finish(Arc::new(update), change).await
                }
            };
            match recorded {
                Ok(()) => {
                    tracing::info!(operation = %operation.id, "a late result is recorded");
                    return Ok(Late::Recorded);
                }
                // somebody has just concluded, taken over again, or changed the client
                Err(StoreError::AlreadyFinished | StoreError::Superseded | StoreError::VersionConflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Late::Dropped)
    }

    /// Adds to what another process has found what only the answer says.
    async fn complete(
        &self,
        found: &Operation,
        update: &OperationUpdate,
        change: Option<RegistrationChange>,
    ) -> Result<(), StoreError> {
        let says_lost = ["adopted", SECRET].iter().any(|name| found.evidence.get(name).is_some());
        if change.is_none() && update.sealed.is_none() && !says_lost {
            return Ok(());
        }
        // what was found stays; that nobody has the secret is not true any more
        let update = OperationUpdate {
            summary: found.summary.clone(),
            evidence: merged(&found.evidence, DELIVERED, json!(true)).into(),
            fence: found.lease.fence,
            ..update.clone()
        };
        self.store.amend(Arc::new(update), change).await
    }

    /// An adopted client with what its registration gave besides: whatever was given since stays.
    fn with_what_was_given(&self, found: Registration, made: &Registration) -> Option<RegistrationChange> {
        let (old, given) = (&found.hidden, &made.hidden);
        let grace = now_ms().saturating_add(millis(self.options.registration.rotation_grace));
        let (access_token, previous_access_token) = match (old.access_token, given.access_token) {
            // another token was issued since; the caller holds this one
            (Some(newer), Some(own)) => (Some(newer), old.previous_access_token.or(Some((own, grace)))),
            (newer, own) => (newer.or(own), old.previous_access_token),
        };
        let hidden = Hidden {
            management: old.management.clone().or_else(|| given.management.clone()),
            access_token,
            previous_access_token,
            dcr: dcr::completed(old, given),
            open_route: old.open_route.clone().or_else(|| given.open_route.clone()),
            unused_until: old.unused_until,
            notes: old.notes.clone(),
        };
        (hidden != found.hidden).then(|| {
            let next = Registration { hidden, version: found.version + 1, updated_at: now_ms(), ..found };
            replacement(&Arc::new(next))
        })
    }

    /// A changed client with the vendor's new credentials for it, which a look at the vendor does not show; unless
    /// somebody has changed it again since.
    async fn with_token(&self, made: &Registration) -> Result<Option<RegistrationChange>, StoreError> {
        let found = self.store.registration(made.id).await?;
        // one version is the mark of whoever took over, the next what it found
        let found = found.filter(|f| f.version <= made.version + 1 && f.hidden.management != made.hidden.management);
        Ok(found.map(|found| {
            let hidden = Hidden { management: made.hidden.management.clone(), ..found.hidden };
            replacement(&Arc::new(Registration { hidden, version: found.version + 1, updated_at: now_ms(), ..found }))
        }))
    }

    /// Another process has taken another client for the one that was made.
    async fn taken_for_another(
        &self,
        operation: &Operation,
        made: &Registration,
        change: Option<&RegistrationChange>,
    ) -> Result<Late, StoreError> {
        tracing::error!(
            operation = %operation.id, client_id = %made.client_id,
            "the vendor answered after another client had been taken for the one that it made"
        );
        if self.store.registered(&made.backend, &made.client_id).await?.is_some() {
            return Ok(Late::Dropped);
        }
        // the registration that was begun is the other client's
        self.look_again(operation, None, change).await
    }

    /// The change as it is to be made now that somebody may have marked the client; `None` when it cannot be made.
    async fn rebased(
        &self,
        operation: &Operation,
        change: Option<&RegistrationChange>,
    ) -> Result<Option<Option<RegistrationChange>>, StoreError> {
        let Some(id) = operation.registration.filter(|_| operation.action != Action::Create) else {
            return Ok(Some(change.cloned()));
        };
        if let Some(RegistrationChange::Remove { .. }) = change {
            return Ok(Some(change.cloned()));
        }
        let Some(found) = self.store.registration(id).await? else {
            return Ok(change.is_none().then_some(None));
        };
        let state = match found.state {
            State::Unknown if self.others_are_open(operation, &[]).await? => State::Unknown,
            State::Unknown => state_of(&found.observed),
            known => known,
        };
        Ok(match change {
            None => Some((state != found.state).then(|| with_state(found, state))),
            Some(RegistrationChange::Update { expected_version, .. }) if found.version == *expected_version => {
                Some(change.cloned())
            }
            // nothing but the hash of the secret, and that it is a use
            Some(RegistrationChange::Update { registration: made, .. }) if operation.action == Action::Rotate => {
                let (dcr, unused_until) = (made.hidden.dcr.clone(), made.hidden.unused_until);
                let hidden = Hidden { dcr, unused_until, ..found.hidden };
                let version = found.version + 1;
                let next = Registration { hidden, state, version, updated_at: now_ms(), ..found };
                Some(Some(replacement(&Arc::new(next))))
            }
            // a mark is all that has happened to it
            Some(RegistrationChange::Update { registration: made, expected_version })
                if found.version == expected_version + 1 && found.state == State::Unknown =>
            {
                let (management, dcr) = (made.hidden.management.clone(), made.hidden.dcr.clone());
                let next = Registration {
                    hidden: Hidden { management, dcr, unused_until: made.hidden.unused_until, ..found.hidden },
                    state: if state == State::Unknown && made.state != State::Gone { state } else { made.state },
                    version: found.version + 1,
                    updated_at: now_ms(),
                    ..Registration::clone(made)
                };
                Some(Some(replacement(&Arc::new(next))))
            }
            Some(_) => None,
        })
    }

    /// Opens an operation for a write that was declared not done, and then the vendor answered after all.
    async fn look_again(
        &self,
        operation: &Operation,
        registration: Option<RegistrationId>,
        change: Option<&RegistrationChange>,
    ) -> Result<Late, StoreError> {
        let now = now_ms();
        let mut evidence = json!({ "late_result_of": operation.id });
        if let Some(RegistrationChange::Insert(made)) = change {
            evidence["client_id"] = Value::String(made.client_id.to_string());
            evidence["vendor_ref"] = Value::String(made.vendor_ref.clone());
        }
        // a create that was concluded not done has got its use back, and costs one after all, if there still is one; where
        // another client was taken for the one that was made, the use has paid for that
        let paid = registration.and_then(|_| Kept::paid_by(operation));
        let mut spend = paid.map(|token| Spending { token, now });
        let unpaid = || operation.desired.as_deref().and_then(Kept::unpaid);
        let mut again = Operation {
            id: OperationId::generate(),
            registration,
            state: OperationState::Pending,
            outcome: Outcome::Unknown,
            summary: format!("{} was concluded otherwise, and the vendor's answer came after that", operation.id)
                .into(),
            updated_at: now,
            evidence,
            // nobody works on it: the next round looks into it
            lease: Lease { owner: Arc::clone(&self.instance), until: now, fence: 1 },
            desired: if spend.is_some() { operation.desired.clone() } else { unpaid() },
            ..operation.clone()
        };
        let id = again.id;
        let mut waits = WAITS.into_iter();
        let mut tried = false;
        loop {
            let intent = Intent { operation: Arc::new(again.clone()), key: None, spend: spend.clone() };
            let error = match self.store.begin(intent).await {
                Ok(Begun::Spent) => {
                    (spend, again.desired) = (None, unpaid());
                    continue;
                }
                Ok(Begun::New | Begun::Used(_)) => break,
                // a try that failed was recorded all the same
                Err(StoreError::AlreadyExists) if tried => break,
                Err(error) => error,
            };
            tried = true;
            match waits.next().filter(|_| may_pass(&error)) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => {
                    tracing::error!(operation = %operation.id, %error, "done at the vendor after it was concluded otherwise, and not recorded");
                    return Err(error);
                }
            }
        }
        tracing::error!(operation = %operation.id, again = %id, "done at the vendor after it was concluded otherwise");
        Ok(Late::Open(id))
    }
}

/// Whether it was this very result that was recorded.
fn is_own(current: &Operation, update: &OperationUpdate) -> bool {
    current.summary == update.summary && current.evidence == update.evidence.value()
}
