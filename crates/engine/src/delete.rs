//! The end of a client: deleting it, and switching it off where the vendor can do that.

use std::sync::Arc;

use registrar_core::Error;
use registrar_model::{OperationId, Registration, RegistrationId, State};
use registrar_store::{Action, RegistrationChange};
use serde_json::Value;

use crate::{
    engine::{Caller, Engine, Failure, Written},
    journal::{Start, Success, Wish},
    management::is_gone,
    writes::{ExpectedVersion, Subject, changed, check_version, replacement, supported},
};

impl Engine {
    /// Deletes a client at the vendor and here.
    ///
    /// # Errors
    /// `unsupported-by-backend`, before any call, where the vendor documents no deletion.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        expected: ExpectedVersion,
    ) -> Result<OperationId, Failure> {
        self.delete_when(caller, id, |current| check_version(current, expected)).await
    }

    /// Deletes a client if `check`, which is asked when nobody else writes to it, has nothing against that.
    pub(crate) async fn delete_when(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        check: impl FnOnce(&Registration) -> Result<(), Error> + Send,
    ) -> Result<OperationId, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            return Ok(done.id);
        }
        let Subject { current, backend, turn } = self.subject(id, check).await?;
        let operations = &backend.adapter.descriptor().operations;
        if !operations.delete.is_supported() {
            let hint = if operations.disable.is_supported() {
                "it can be switched off instead: DELETE with ?mode=disable"
            } else {
                "nor does it document switching one off; remove it in the vendor's own console"
            };
            let detail = format!("vendor kind `{}` documents no deletion of clients; {hint}", backend.kind());
            return Err(Error::unsupported(detail).with_backend(backend.name.as_str()).into());
        }
        backend.admits_writes()?;
        let target = self.target(&current).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let wish = Wish::about(operation_id, Action::Delete, id, &backend, turn);
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => return Ok(earlier.id),
                };
                let had_open_writes = current.state == State::Unknown;
                match backend.adapter.delete(&target).await {
                    Ok(()) => {}
                    // an earlier deletion did it, and its answer was lost
                    Err(error) if had_open_writes && is_gone(&current, &error) => {}
                    Err(error) => return Err(engine.failed(&operation, &backend, Some(current), error).await),
                }
                let success = Success {
                    summary: format!("deleted client {}", current.client_id).into(),
                    losses: &Vec::new().into(),
                    change: Some(RegistrationChange::Remove { id: current.id }),
                    secret: None,
                };
                engine.succeeded(&caller, &operation, &backend, success).await?;
                if had_open_writes {
                    engine.supersede(&operation, &[Action::Update, Action::Delete, Action::Rotate]).await;
                }
                Ok(operation_id)
            }),
        )
        .await
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
        let target = self.target(&current).await?;
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
                let client = match backend.adapter.set_enabled(&target, false).await {
                    Ok(client) => client,
                    Err(error) => return Err(engine.failed(&operation, &backend, Some(current), error).await),
                };
                let labels = current.labels.clone();
                let management = engine.kept(id, client.management.as_ref()).await;
                let registration = Arc::new(Registration {
                    state: State::Disabled,
                    ..changed(current, Some(Arc::unwrap_or_clone(wanted.spec)), client.spec, labels, management)
                });
                let success = Success {
                    summary: "switched off".into(),
                    losses: &Vec::new().into(),
                    change: Some(replacement(&registration)),
                    secret: None,
                };
                engine.succeeded(&caller, &operation, &backend, success).await?;
                Ok(Written::new(registration, None, Vec::new().into(), operation_id))
            }),
        )
        .await
    }
}
