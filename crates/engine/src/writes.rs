//! Writes: intent (durable) → vendor call in a detached, tracked task → result (durable) → answer.
//!
//! A caller who disconnects changes nothing: the task goes on, and shutdown waits for it.

use std::{future::Future, sync::Arc};

use registrar_core::{Error, ErrorKind, OpSupport, Outcome};
use registrar_model::{
    ClientSpec, Loss, NewRegistration, OperationId, Registration, RegistrationId, State,
    account::{account, effective},
    loss, patch,
};
use registrar_store::{Action, Operation, OperationState, OperationUpdate, RegistrationChange};
use serde_json::{Value, json};

use crate::{
    backend::Backend,
    engine::{Caller, Engine, Failure, NewSecret, Written, moving, own_losses, store_error, target},
    loss_policy,
};

/// What a caller expects the version of a client to be (`If-Match`).
pub type ExpectedVersion = Option<u64>;

impl Engine {
    /// Registers a client.
    ///
    /// # Errors
    /// [`Failure`]; its error says whether the vendor did anything.
    pub async fn create(self: &Arc<Self>, caller: &Caller, request: NewRegistration) -> Result<Written, Failure> {
        let admission = self.admit(&request)?;
        let backend = admission.backend;
        loss_policy::admit(admission.policy, &request.allow_loss, &admission.losses)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;
        let id = RegistrationId::generate();
        let operation = self.begin(caller, Action::Create, &backend, Some(id)).await?;
        let engine = Arc::clone(self);
        self.detached(operation.id, async move {
            let own = own_losses(&request);
            let NewRegistration { spec, labels, .. } = request;
            let created = match backend.adapter.create(&spec).await {
                Ok(created) => created,
                Err(error) => return Err(engine.failed(operation, &backend, None, error).await),
            };
            let client = created.value;
            let (losses, shown) = settle(&spec, &client.spec, created.losses, own);
            let now = now_ms();
            let registration = Arc::new(Registration {
                id,
                backend: backend.name.clone(),
                kind: backend.kind().to_owned(),
                client_id: client.client_id,
                vendor_ref: client.vendor_ref,
                client_id_issued_at: client.client_id_issued_at.or(Some(now / 1000)),
                version: 1,
                created_at: now,
                updated_at: now,
                state: state_of(&client.spec),
                spec: shown,
                observed: client.spec,
                labels,
            });
            let summary = format!("registered client {}", registration.client_id);
            let id = operation.id;
            let change = RegistrationChange::Insert(Arc::clone(&registration));
            engine.succeeded(operation, &backend, summary, &losses, Some(change)).await?;
            let secret = client.secret.map(|s| NewSecret {
                value: s.value,
                expires_at: s.expires_at,
                previous_valid_until: s.previous_valid_until,
            });
            Ok(Written { registration, secret, losses, operation: id })
        })
        .await
    }

    /// Makes a client be exactly what the request says.
    ///
    /// # Errors
    /// As [`Self::create`]; [`ErrorKind::PreconditionFailed`] when it is not the expected version.
    pub async fn replace(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        request: NewRegistration,
        expected: ExpectedVersion,
    ) -> Result<Written, Failure> {
        let guard = self.lock(id).await;
        let current = self.registration(id).await?;
        check_version(&current, expected)?;
        self.update(caller, current, request, guard).await
    }

    /// Applies a merge patch (RFC 7396) to a client's `metadata`, `policy`, `vendor` and `labels`.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        change: Value,
        expected: ExpectedVersion,
    ) -> Result<Written, Failure> {
        let guard = self.lock(id).await;
        let current = self.registration(id).await?;
        check_version(&current, expected)?;
        let merged = patch::merge(Value::Object(current.writable()), change);
        let request = NewRegistration::decode(&merged).map_err(Error::validation)?;
        self.update(caller, current, request, guard).await
    }

    async fn update(
        self: &Arc<Self>,
        caller: &Caller,
        current: Registration,
        request: NewRegistration,
        guard: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<Written, Failure> {
        if request.backend.as_ref().is_some_and(|b| *b != current.backend) {
            return Err(moving(&current).into());
        }
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.update, &backend, "updating a client")?;
        self.check_vendor_members(&backend, &request.spec)?;
        let mapped = backend
            .adapter
            .preview_update(&target(&current), &current.spec, &request.spec)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;
        let mut losses = mapped.losses;
        losses.extend(own_losses(&request));
        loss::sort(&mut losses);
        loss_policy::admit(backend.on_loss, &request.allow_loss, &losses)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;

        let operation = self.begin(caller, Action::Update, &backend, Some(current.id)).await?;
        let engine = Arc::clone(self);
        self.detached(operation.id, async move {
            let _one_at_a_time = guard;
            let own = own_losses(&request);
            let NewRegistration { spec, labels, .. } = request;
            let updated = match backend.adapter.update(&target(&current), &current.spec, &spec).await {
                Ok(updated) => updated,
                Err(error) => return Err(engine.failed(operation, &backend, Some(current), error).await),
            };
            let client = updated.value;
            let (losses, shown) = settle(&spec, &client.spec, updated.losses, own);
            let registration = Arc::new(Registration {
                version: current.version + 1,
                updated_at: now_ms(),
                state: state_of(&client.spec),
                spec: shown,
                observed: client.spec,
                labels,
                ..current
            });
            let expected_version = registration.version - 1;
            let change = RegistrationChange::Update { registration: Arc::clone(&registration), expected_version };
            let id = operation.id;
            engine.succeeded(operation, &backend, "updated".to_owned(), &losses, Some(change)).await?;
            Ok(Written { registration, secret: None, losses, operation: id })
        })
        .await
    }

    /// Deletes a client at the vendor and here.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedByBackend`], before any call, where the vendor documents no deletion.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        expected: ExpectedVersion,
    ) -> Result<OperationId, Failure> {
        let guard = self.lock(id).await;
        let current = self.registration(id).await?;
        check_version(&current, expected)?;
        let backend = self.usable(&current)?;
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
        let operation = self.begin(caller, Action::Delete, &backend, Some(id)).await?;
        let engine = Arc::clone(self);
        self.detached(operation.id, async move {
            let _one_at_a_time = guard;
            if let Err(error) = backend.adapter.delete(&target(&current)).await {
                return Err(engine.failed(operation, &backend, Some(current), error).await);
            }
            let id = operation.id;
            let change = RegistrationChange::Remove { id: current.id };
            engine
                .succeeded(operation, &backend, format!("deleted client {}", current.client_id), &[], Some(change))
                .await?;
            Ok(id)
        })
        .await
    }

    /// Switches a client off where the vendor can do that.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedByBackend`], before any call, where the vendor documents no way to.
    pub async fn disable(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        expected: ExpectedVersion,
    ) -> Result<Written, Failure> {
        let guard = self.lock(id).await;
        let current = self.registration(id).await?;
        check_version(&current, expected)?;
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.disable, &backend, "switching a client off")?;
        let operation = self.begin(caller, Action::Update, &backend, Some(id)).await?;
        let engine = Arc::clone(self);
        self.detached(operation.id, async move {
            let _one_at_a_time = guard;
            let client = match backend.adapter.set_enabled(&target(&current), false).await {
                Ok(client) => client,
                Err(error) => return Err(engine.failed(operation, &backend, Some(current), error).await),
            };
            let mut spec = current.spec.clone();
            spec.policy.enabled = Some(false);
            let registration = Arc::new(Registration {
                version: current.version + 1,
                updated_at: now_ms(),
                state: State::Disabled,
                spec,
                observed: client.spec,
                ..current
            });
            let expected_version = registration.version - 1;
            let change = RegistrationChange::Update { registration: Arc::clone(&registration), expected_version };
            let id = operation.id;
            engine.succeeded(operation, &backend, "switched off".to_owned(), &[], Some(change)).await?;
            Ok(Written { registration, secret: None, losses: Vec::new(), operation: id })
        })
        .await
    }

    /// Issues a new secret.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedByBackend`], before any call, for public clients and vendors without rotation.
    pub async fn rotate_secret(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
    ) -> Result<(NewSecret, OperationId), Failure> {
        let guard = self.lock(id).await;
        let current = self.registration(id).await?;
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.rotate_secret, &backend, "rotating a secret")?;
        if current.spec.metadata.is_public() {
            let detail = "a public client (token_endpoint_auth_method none) has no secret to rotate";
            return Err(Error::unsupported(detail).with_backend(backend.name.as_str()).into());
        }
        let operation = self.begin(caller, Action::Rotate, &backend, Some(id)).await?;
        let engine = Arc::clone(self);
        self.detached(operation.id, async move {
            let _one_at_a_time = guard;
            let secret = match backend.adapter.rotate_secret(&target(&current)).await {
                Ok(secret) => secret,
                Err(error) => return Err(engine.failed(operation, &backend, Some(current), error).await),
            };
            let id = operation.id;
            engine.succeeded(operation, &backend, "issued a new secret".to_owned(), &[], None).await?;
            let secret = NewSecret {
                value: secret.value,
                expires_at: secret.expires_at,
                previous_valid_until: secret.previous_valid_until,
            };
            Ok((secret, id))
        })
        .await
    }

    /// Runs a write to its end whatever becomes of the caller.
    async fn detached<T: Send + 'static>(
        &self,
        operation: OperationId,
        write: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        match self.writes.spawn(write).await {
            Ok(result) => result,
            // a panic, or the runtime is going away: the intent stays in the journal
            Err(_) => Err(Failure {
                error: Error::new(ErrorKind::Internal, "the write ended abnormally").with_outcome(Outcome::Unknown),
                operation: Some(operation),
            }),
        }
    }

    fn usable(&self, registration: &Registration) -> Result<Arc<Backend>, Error> {
        let backend = self.runtime.load().backend(&registration.backend)?;
        backend.usable()?;
        Ok(backend)
    }

    /// Makes the intent durable. Nothing has been sent before this returns.
    async fn begin(
        &self,
        caller: &Caller,
        action: Action,
        backend: &Backend,
        registration: Option<RegistrationId>,
    ) -> Result<Operation, Error> {
        let now = now_ms();
        let operation = Operation {
            id: OperationId::generate(),
            action,
            backend: backend.name.to_string(),
            registration,
            state: OperationState::Pending,
            outcome: Outcome::Unknown,
            summary: "in progress".to_owned(),
            created_at: now,
            updated_at: now,
            attempts: 1,
            evidence: json!({}),
            request_id: caller.request_id.clone(),
            principal: caller.principal.clone(),
        };
        self.store.begin(operation.clone()).await.map_err(store_error)?;
        Ok(operation)
    }

    /// Records a success. When that fails, the vendor has done it all the same, and the caller is told so.
    async fn succeeded(
        &self,
        operation: Operation,
        backend: &Backend,
        summary: String,
        losses: &[Loss],
        change: Option<RegistrationChange>,
    ) -> Result<(), Failure> {
        count(&operation, backend, "performed");
        let evidence = json!({ "losses": losses });
        let update = OperationUpdate {
            id: operation.id,
            state: OperationState::Succeeded,
            outcome: Outcome::Performed,
            summary: summary.clone(),
            updated_at: now_ms(),
            attempts: operation.attempts,
            evidence,
        };
        if let Err(error) = self.store.finish(update, change).await {
            tracing::error!(operation = %operation.id, backend = %backend.name, error = %error, "done at the vendor but not recorded");
            let detail = format!(
                "{summary} at the vendor, but the gateway could not record it; operation {} stays open",
                operation.id
            );
            return Err(Failure {
                error: Error::new(ErrorKind::PartialFailure, detail)
                    .with_outcome(Outcome::Performed)
                    .with_backend(backend.name.as_str()),
                operation: Some(operation.id),
            });
        }
        Ok(())
    }

    /// Records a failure; a client whose write ended without a known outcome is marked.
    async fn failed(
        &self,
        operation: Operation,
        backend: &Backend,
        registration: Option<Registration>,
        error: Error,
    ) -> Failure {
        let outcome = error.outcome();
        count(&operation, backend, outcome.as_str());
        let change = registration.and_then(|current| {
            let state = match (outcome, error.kind()) {
                (Outcome::Unknown, _) => State::Unknown,
                (_, ErrorKind::NotFound) => State::Gone,
                _ => return None,
            };
            let expected_version = current.version;
            let registration = Registration { state, updated_at: now_ms(), version: current.version + 1, ..current };
            Some(RegistrationChange::Update { registration: Arc::new(registration), expected_version })
        });
        let update = OperationUpdate {
            id: operation.id,
            state: if outcome == Outcome::Unknown { OperationState::Unknown } else { OperationState::Failed },
            outcome,
            summary: error.detail().to_owned(),
            updated_at: now_ms(),
            attempts: operation.attempts,
            evidence: json!({ "code": error.kind().slug(), "vendor": error.vendor() }),
        };
        if let Err(store) = self.store.finish(update, change).await {
            tracing::error!(operation = %operation.id, backend = %backend.name, error = %store, "a failure could not be recorded");
        }
        Failure { error: error.with_backend(backend.name.as_str()), operation: Some(operation.id) }
    }
}

/// Settles the account of a write: all losses, and what the record shows.
fn settle(sent: &ClientSpec, shown: &ClientSpec, predicted: Vec<Loss>, own: Vec<Loss>) -> (Vec<Loss>, ClientSpec) {
    let mut losses = account(sent, shown, predicted);
    // a value that cannot be kept beside the vendor's would be a defect; the vendor's view is the truth then
    let record = effective(sent, shown, &losses).unwrap_or_else(|_| shown.clone());
    losses.extend(own);
    loss::sort(&mut losses);
    (losses, record)
}

fn state_of(spec: &ClientSpec) -> State {
    if spec.policy.enabled == Some(false) { State::Disabled } else { State::Active }
}

fn check_version(current: &Registration, expected: ExpectedVersion) -> Result<(), Error> {
    match expected {
        Some(version) if version != current.version => {
            let detail = "the client has changed since the version that If-Match names; read it again";
            Err(Error::new(ErrorKind::PreconditionFailed, detail))
        }
        _ => Ok(()),
    }
}

fn supported(support: OpSupport, backend: &Backend, what: &str) -> Result<(), Error> {
    if support.is_supported() {
        return Ok(());
    }
    let detail = format!("{what} is not documented by vendor kind `{}`; nothing was sent", backend.kind());
    Err(Error::unsupported(detail).with_backend(backend.name.as_str()))
}

fn count(operation: &Operation, backend: &Backend, outcome: &'static str) {
    metrics::counter!(
        "registrar_operations_total",
        "action" => operation.action.as_str(),
        "backend" => backend.name.to_string(),
        "outcome" => outcome
    )
    .increment(1);
}

/// The wall clock, for records only.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
