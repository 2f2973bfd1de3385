//! The end of a client: deleting it, and switching it off where the vendor can do that.

use std::sync::Arc;

use registrar_core::{Error, Outcome};
use registrar_model::{OperationId, Registration, RegistrationId, State};
use registrar_store::{Action, OperationState, RegistrationChange};
use serde_json::Value;

use crate::{
    backend::Backend,
    engine::{Caller, Engine, Failure, Written, store_error},
    gone::{Presence, Refused},
    journal::{Start, Success, Wish},
    writes::{ExpectedVersion, Subject, changed, check_version, replacement, supported},
};

/// A deletion that has led to the end of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deleted {
    pub(crate) operation: OperationId,
    /// It was gone before, as far as anybody knew.
    pub(crate) was_gone: bool,
}

impl Engine {
    /// Deletes a client at the vendor and here.
    ///
    /// # Errors
    /// `unsupported-by-backend` where the vendor documents no deletion and shows the client.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        expected: ExpectedVersion,
    ) -> Result<OperationId, Failure> {
        self.delete_when(caller, id, |current| check_version(current, expected)).await.map(|done| done.operation)
    }

    /// Deletes a client if `check`, which is asked when nobody else writes to it, has nothing against that.
    pub(crate) async fn delete_when(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        check: impl FnOnce(&Registration) -> Result<(), Error> + Send,
    ) -> Result<Deleted, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            return Ok(Deleted { operation: done.id, was_gone: false });
        }
        let Subject { current, backend, turn } = self.subject(id, check).await?;
        let is_gone = self.is_gone_already(&backend, &current).await?;
        backend.admits_writes()?;
        let (current, reach) = self.tried(current, &turn).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let wish = Wish::about(operation_id, Action::Delete, id, &backend, turn);
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => return Ok(Deleted { operation: earlier.id, was_gone: false }),
                };
                let had_open_writes = current.state == State::Unknown;
                let mut done = Deleted { operation: operation_id, was_gone: is_gone && !had_open_writes };
                let deleted = match is_gone {
                    true => Ok(()),
                    false => reach.call(|target| backend.adapter.delete(target)).await.0,
                };
                if let Err(error) = deleted {
                    match engine.refused(&backend, &current, &reach, error).await {
                        // an earlier deletion did it and its answer was lost, or somebody else did
                        Refused::Gone(_) => done.was_gone = !had_open_writes,
                        Refused::Told(error, change) => {
                            let is_open = error.outcome() == Outcome::Unknown;
                            let failure = engine.failed(&operation, &backend, change, error).await;
                            if is_open && had_open_writes {
                                // one question for the reconciler or a person, however often it is asked
                                engine.supersede(&operation, &[Action::Delete]).await;
                            }
                            return Err(failure);
                        }
                    }
                }
                let summary = if done.was_gone { "was gone already: client" } else { "deleted client" };
                let success = Success {
                    summary: format!("{summary} {}", current.client_id).into(),
                    losses: &Vec::new().into(),
                    change: Some(RegistrationChange::Remove { id: current.id }),
                    secret: None,
                    steps: None,
                };
                engine.succeeded(&caller, &operation, &backend, success).await?;
                if had_open_writes {
                    engine.supersede(&operation, &[Action::Update, Action::Delete, Action::Rotate]).await;
                }
                Ok(done)
            }),
        )
        .await
    }

    /// Whether a read proves that the client is gone, where that is to be known before a deletion: the vendor documents
    /// none, or an earlier one is open.
    ///
    /// # Errors
    /// `unsupported-by-backend`; while a deletion is open, what keeps the vendor from saying what it has.
    async fn is_gone_already(&self, backend: &Backend, current: &Registration) -> Result<bool, Failure> {
        let can_delete = backend.adapter.descriptor().operations.delete.is_supported();
        let open = if current.state == State::Unknown { self.open_deletion(current.id).await? } else { None };
        if can_delete && open.is_none() {
            return Ok(false);
        }
        let reach = self.reach(current).await?;
        match self.presence(backend, &reach).await {
            Presence::Gone(_) => Ok(true),
            Presence::Shown(..) | Presence::Lost(_) | Presence::Unclear(_) if !can_delete => {
                Err(no_deletion(backend).into())
            }
            Presence::Shown(..) => Ok(false),
            // another deletion would only be another open question
            Presence::Lost(error) | Presence::Unclear(error) => Err(Failure { error, operation: open }),
        }
    }

    /// A deletion of the client whose outcome is unknown.
    async fn open_deletion(&self, id: RegistrationId) -> Result<Option<OperationId>, Error> {
        let mut open = None;
        let each = self.each_in(OperationState::Unknown, |o| {
            if o.action == Action::Delete && o.registration == Some(id) {
                open = Some(o.id);
            }
        });
        each.await.map_err(store_error)?;
        Ok(open)
    }

    /// Switches a client off where the vendor can do that.
    ///
    /// # Errors
    /// `unsupported-by-backend`, before any call, where the vendor documents no way to.
    pub async fn disable(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        expected: ExpectedVersion,
    ) -> Result<Written, Failure> {
        self.disable_when(caller, id, |current| check_version(current, expected)).await
    }

    /// Switches a client off if `check`, which is asked when nobody else writes to it, has nothing against that.
    pub(crate) async fn disable_when(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        check: impl FnOnce(&Registration) -> Result<(), Error> + Send,
    ) -> Result<Written, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            return self.written_again(caller, done).await;
        }
        let Subject { current, backend, turn } = self.subject(id, check).await?;
        supported(backend.adapter.descriptor().operations.disable, &backend, "switching a client off")?;
        backend.admits_writes()?;
        let (current, reach) = self.tried(current, &turn).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let mut wanted = current.clone();
                Arc::make_mut(&mut wanted.spec).policy.enabled = Some(false);
                let desired = Some(Value::Object(wanted.writable()).to_string());
                let wish = Wish { desired, ..Wish::about(operation_id, Action::Update, id, &backend, turn) };
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => return engine.written_again(&caller, earlier).await,
                };
                let (client, by) = reach.call(|target| backend.adapter.set_enabled(target, false)).await;
                let client = match client {
                    Ok(client) => client,
                    Err(error) => return Err(engine.ended(&operation, &backend, &current, &reach, error).await),
                };
                let labels = current.labels.clone();
                let management = engine.credentials_after(id, &reach, by, client.management.as_ref()).await;
                let registration = Arc::new(Registration {
                    state: State::Disabled,
                    ..changed(current, Some(Arc::unwrap_or_clone(wanted.spec)), client.spec, labels, management)
                });
                let success = Success {
                    summary: "switched off".into(),
                    losses: &Vec::new().into(),
                    change: Some(replacement(&registration)),
                    secret: None,
                    steps: None,
                };
                engine.succeeded(&caller, &operation, &backend, success).await?;
                Ok(Written::new(registration, None, Vec::new().into(), operation_id))
            }),
        )
        .await
    }
}

fn no_deletion(backend: &Backend) -> Error {
    let hint = if backend.adapter.descriptor().operations.disable.is_supported() {
        "it can be switched off instead: DELETE with ?mode=disable"
    } else {
        "nor does it document switching one off; remove it in the vendor's own console"
    };
    let detail = format!("vendor kind `{}` documents no deletion of clients; {hint}", backend.kind());
    Error::unsupported(detail).with_backend(backend.name.as_str())
}
