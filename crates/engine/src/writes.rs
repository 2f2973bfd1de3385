//! Writes: intent (durable) → vendor call → result (durable) → answer, all in a detached, tracked task.
//!
//! A caller who disconnects changes nothing: the task goes on, and shutdown waits for it.

use std::sync::Arc;

use registrar_core::{Error, ErrorKind, IssuedSecret, OpSupport, Outcome};
use registrar_model::{
    ClientSpec, Hidden, Loss, NewRegistration, OperationId, Registration, RegistrationId, State,
    account::{account, effective},
    loss, patch,
};
use registrar_store::{Action, RegistrationChange};
use serde_json::Value;

use crate::{
    backend::Backend,
    clock::now_ms,
    dcr::{self, CreateOptions, UpdateOptions},
    engine::{Admission, Caller, Engine, Failure, NewSecret, SecretState, Turn, Written, moving, own_losses},
    journal::{Start, Success, Wish},
    loss_policy,
    management::is_gone,
    record::Ongoing,
    reported::Reported,
};

/// What a caller expects the version of a client to be (`If-Match`).
pub type ExpectedVersion = Option<u64>;

/// The answer to a rotation.
#[derive(Debug)]
pub struct Rotated {
    /// The secret, or, to a repetition, what became of it.
    pub secret: Result<NewSecret, SecretState>,
    /// The journal entry.
    pub operation: OperationId,
    /// As [`Written::recorded`].
    pub recorded: bool,
}

impl Engine {
    /// Registers a client.
    ///
    /// # Errors
    /// [`Failure`]; its error says whether the vendor did anything.
    pub async fn create(self: &Arc<Self>, caller: &Caller, request: NewRegistration) -> Result<Written, Failure> {
        self.create_with(caller, request, CreateOptions::default()).await
    }

    /// Registers a client, with what the standards face brings along.
    pub(crate) async fn create_with(
        self: &Arc<Self>,
        caller: &Caller,
        request: NewRegistration,
        options: CreateOptions,
    ) -> Result<Written, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            // boxed, as failures are below: what is rare must not make the future of every create large
            return Box::pin(self.written_again(caller, done)).await;
        }
        let admission = self.admit(&request)?;
        if let Some(refusal) = admission.refusal(&request, options.on_loss) {
            return Err(refusal.into());
        }
        admission.backend.admits_writes()?;
        let (engine, caller, id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            id,
            Box::pin(async move {
                engine.spend(options.spend.as_deref()).await?;
                let result = engine.created(&caller, admission, id, request, &options).await;
                engine.settle_spending(options.spend.as_deref(), id, &result).await;
                result
            }),
        )
        .await
    }

    async fn created(
        self: &Arc<Self>,
        caller: &Caller,
        admission: Admission,
        id: OperationId,
        request: NewRegistration,
        options: &CreateOptions,
    ) -> Result<Written, Failure> {
        let Admission { backend, plan, own, .. } = admission;
        let registration = RegistrationId::generate();
        let desired = Some(options.kept.beside(request.to_json()));
        let wish = Wish { id, action: Action::Create, backend: &backend, registration, desired, turn: None };
        let operation = match self.begin(caller, wish).await? {
            Start::Now(operation) => Ongoing { place: options.place.clone(), ..operation },
            Start::Done(earlier) => return Box::pin(self.written_again(caller, earlier)).await,
        };
        let NewRegistration { spec, labels, .. } = request;
        let created = match backend.adapter.create_as_planned(&spec, plan).await {
            Ok(created) => created,
            Err(error) => return Err(Box::pin(self.failed(&operation, &backend, None, error)).await),
        };
        let mut client = created.value;
        if let Some(error) = self.is_another(&backend, &spec, &client).await {
            return Err(Box::pin(self.failed(&operation, &backend, None, error)).await);
        }
        let secret = client.secret.take().map(issued);
        let (losses, shown) = settle(&spec, &client.spec, created.losses, own);
        let management = self.kept(registration, client.management.as_ref()).await;
        let hidden = options.hidden(management, secret.as_ref());
        let registration = Arc::new(registered(registration, &backend, client, shown, labels, hidden));
        let success = Success {
            summary: format!("registered client {}", registration.client_id),
            losses: &losses,
            change: Some(RegistrationChange::Insert(Arc::clone(&registration))),
            secret: secret.as_ref(),
        };
        let recording = match &options.place {
            Some(place) => Some(place.recording().await),
            None => None,
        };
        let (recorded, id) = match self.succeeded(caller, &operation, &backend, success).await {
            Ok(()) => (true, id),
            // the caller gets the only copy of the secret all the same (reliability F31)
            Err(Failure { operation, .. }) if secret.is_some() => (false, operation.unwrap_or(id)),
            Err(failure) => return Err(failure),
        };
        if let Some(place) = options.place.as_ref().filter(|_| recorded) {
            place.give_back();
        }
        drop(recording);
        Ok(Written { recorded, ..Written::new(registration, secret, losses, id) })
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
        self.replace_with(caller, id, request, expected, UpdateOptions::default()).await
    }

    /// Makes a client be exactly what the request says, with what the standards face brings along.
    pub(crate) async fn replace_with(
        self: &Arc<Self>,
        caller: &Caller,
        id: RegistrationId,
        request: NewRegistration,
        expected: ExpectedVersion,
        options: UpdateOptions,
    ) -> Result<Written, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            return self.written_again(caller, done).await;
        }
        let turn = self.lock(id).await;
        let current = self.registration(id).await?;
        check_version(&current, expected)?;
        self.update(caller, current, request, options, turn).await
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
        if let Some(done) = self.earlier(caller).await? {
            return self.written_again(caller, done).await;
        }
        let turn = self.lock(id).await;
        let current = self.registration(id).await?;
        check_version(&current, expected)?;
        let merged = patch::merge(Value::Object(current.writable()), change);
        let request = NewRegistration::decode(&merged).map_err(Error::validation)?;
        self.update(caller, current, request, UpdateOptions::default(), turn).await
    }

    async fn update(
        self: &Arc<Self>,
        caller: &Caller,
        current: Registration,
        request: NewRegistration,
        mut options: UpdateOptions,
        turn: Turn,
    ) -> Result<Written, Failure> {
        if request.backend.as_ref().is_some_and(|b| *b != current.backend) {
            return Err(moving(&current).into());
        }
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.update, &backend, "updating a client")?;
        self.check_vendor_members(&backend, &request.spec)?;
        let target = self.target(&current).await?;
        let mapped = backend
            .adapter
            .preview_update(&target, &current.spec, &request.spec)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;
        let mut losses = mapped.losses;
        losses.extend(own_losses(&request));
        loss::sort(&mut losses);
        loss_policy::admit(backend.on_loss, &request.allow_loss, &losses)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;
        backend.admits_writes()?;

        let (engine, caller, id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            id,
            Box::pin(async move {
                // over when the update has ended, not when its caller leaves
                let _instance = options.turn.take();
                let desired = Some(request.to_json());
                let wish = Wish {
                    id,
                    action: Action::Update,
                    backend: &backend,
                    registration: current.id,
                    desired,
                    turn: Some(turn),
                };
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => return engine.written_again(&caller, earlier).await,
                };
                let own = own_losses(&request);
                let NewRegistration { spec, labels, .. } = request;
                let updated = match backend.adapter.update(&target, &current.spec, &spec).await {
                    Ok(updated) => updated,
                    Err(error) => return Err(engine.failed(&operation, &backend, Some(current), error).await),
                };
                let mut client = updated.value;
                // some vendors issue a new secret with a change, as when a public client becomes confidential
                let secret = client.secret.take().map(issued);
                let (losses, shown) = settle(&spec, &client.spec, updated.losses, own);
                let had_open_writes = current.state == State::Unknown;
                let management = engine.kept(current.id, client.management.as_ref()).await;
                let mut registration = changed(current, shown, client.spec, labels, management);
                options.keep(&mut registration.hidden);
                dcr::note_secret(&mut registration.hidden, secret.as_ref());
                let registration = Arc::new(registration);
                let success = Success {
                    summary: "updated".to_owned(),
                    losses: &losses,
                    change: Some(replacement(&registration)),
                    secret: secret.as_ref(),
                };
                let (recorded, id) = match engine.succeeded(&caller, &operation, &backend, success).await {
                    Ok(()) => (true, id),
                    // as in a create: the secret before it may be dead already
                    Err(Failure { operation, .. }) if secret.is_some() => (false, operation.unwrap_or(id)),
                    Err(failure) => return Err(failure),
                };
                if recorded && had_open_writes {
                    engine.supersede(&operation, &[Action::Update, Action::Delete]).await;
                }
                Ok(Written { recorded, ..Written::new(registration, secret, losses, id) })
            }),
        )
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
        let turn = self.lock(id).await;
        let current = self.registration(id).await?;
        check(&current)?;
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
        backend.admits_writes()?;
        let target = self.target(&current).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let wish = Wish {
                    id: operation_id,
                    action: Action::Delete,
                    backend: &backend,
                    registration: id,
                    desired: None,
                    turn: Some(turn),
                };
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
                    summary: format!("deleted client {}", current.client_id),
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
    /// [`ErrorKind::UnsupportedByBackend`], before any call, where the vendor documents no way to.
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
        let turn = self.lock(id).await;
        let current = self.registration(id).await?;
        check(&current)?;
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.disable, &backend, "switching a client off")?;
        backend.admits_writes()?;
        let target = self.target(&current).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let mut spec = current.spec.clone();
                spec.policy.enabled = Some(false);
                let wanted = Registration { spec: spec.clone(), ..current.clone() };
                let desired = Some(Value::Object(wanted.writable()).to_string());
                let wish = Wish {
                    id: operation_id,
                    action: Action::Update,
                    backend: &backend,
                    registration: id,
                    desired,
                    turn: Some(turn),
                };
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
                    ..changed(current, spec, client.spec, labels, management)
                });
                let success = Success {
                    summary: "switched off".to_owned(),
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

    /// Issues a new secret.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedByBackend`], before any call, for public clients and vendors without rotation.
    pub async fn rotate_secret(self: &Arc<Self>, caller: &Caller, id: RegistrationId) -> Result<Rotated, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            let secret = self.issued_again(caller, &done).await?;
            return Ok(Rotated { secret, operation: done.id, recorded: true });
        }
        let turn = self.lock(id).await;
        let current = self.registration(id).await?;
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.rotate_secret, &backend, "rotating a secret")?;
        if current.spec.metadata.is_public() {
            let detail = "a public client (token_endpoint_auth_method none) has no secret to rotate";
            return Err(Error::unsupported(detail).with_backend(backend.name.as_str()).into());
        }
        backend.admits_writes()?;
        let target = self.target(&current).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let wish = Wish {
                    id: operation_id,
                    action: Action::Rotate,
                    backend: &backend,
                    registration: id,
                    desired: None,
                    turn: Some(turn),
                };
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => {
                        let secret = engine.issued_again(&caller, &earlier).await?;
                        return Ok(Rotated { secret, operation: earlier.id, recorded: true });
                    }
                };
                let secret = match backend.adapter.rotate_secret(&target).await {
                    Ok(secret) => issued(secret),
                    Err(error) => return Err(engine.failed(&operation, &backend, Some(current), error).await),
                };
                let had_open_writes = current.state == State::Unknown;
                // nothing that a look at the vendor can find out is open besides: then it is as it was seen last
                let settled =
                    had_open_writes && !engine.others_are_open(&operation, &[Action::Rotate]).await.unwrap_or(true);
                let state = if settled { state_of(&current.observed) } else { current.state };
                // clients of the standards face may show their secret later: it is recognised by its hash
                let expires = current.hidden.unused_until.is_some();
                let change = (current.hidden.dcr.is_some() || expires || state != current.state).then(|| {
                    let (version, updated_at) = (current.version + 1, now_ms());
                    let mut next = Registration { state, version, updated_at, ..current.clone() };
                    next.hidden.unused_until = None;
                    dcr::note_secret(&mut next.hidden, Some(&secret));
                    replacement(&Arc::new(next))
                });
                let losses = Vec::new().into();
                let success = Success {
                    summary: "issued a new secret".to_owned(),
                    losses: &losses,
                    change,
                    secret: Some(&secret),
                };
                // the caller gets the only copy of the secret even if it is not recorded (reliability F31)
                let unrecorded = engine.succeeded(&caller, &operation, &backend, success).await.err();
                let recorded = unrecorded.is_none();
                if recorded && had_open_writes {
                    engine.supersede(&operation, &[Action::Rotate]).await;
                }
                let operation = unrecorded.and_then(|failure| failure.operation).unwrap_or(operation_id);
                Ok(Rotated { secret: Ok(secret), operation, recorded })
            }),
        )
        .await
    }

    /// Whether a vendor answered a create with a client that it did not make just now: one that is registered already,
    /// or one with none of the redirect URIs that were asked for. Its secret goes no further.
    async fn is_another(
        &self,
        backend: &Backend,
        asked: &ClientSpec,
        client: &registrar_core::VendorClient,
    ) -> Option<Error> {
        let uris = |spec: &ClientSpec| spec.metadata.redirect_uris.clone().unwrap_or_default();
        let (wanted, got) = (uris(asked), uris(&client.spec));
        let foreign = !wanted.is_empty() && !got.is_empty() && !wanted.iter().any(|uri| got.contains(uri));
        // asking the registry costs a read, so only where the answer proves nothing by itself: without the secret that
        // only a new client has
        // a store that cannot tell will not record the client either
        let known = client.secret.is_none() && self.is_registered(backend, client).await.unwrap_or(false);
        let detail = "the vendor answered with another client than the one that was asked for";
        (foreign || known).then(|| Error::new(ErrorKind::UpstreamMalformed, detail).with_outcome(Outcome::Unknown))
    }

    fn usable(&self, registration: &Registration) -> Result<Arc<Backend>, Error> {
        let backend = self.runtime.load().backend(&registration.backend)?;
        backend.usable()?;
        Ok(backend)
    }
}

fn issued(secret: IssuedSecret) -> NewSecret {
    let IssuedSecret { value, expires_at, previous_valid_until } = secret;
    NewSecret { value, expires_at, previous_valid_until }
}

/// The record of a client as the vendor has just shown it.
pub(crate) fn registered(
    id: RegistrationId,
    backend: &Backend,
    client: registrar_core::VendorClient,
    spec: ClientSpec,
    labels: std::collections::BTreeMap<String, String>,
    hidden: Hidden,
) -> Registration {
    let now = now_ms();
    Registration {
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
        spec,
        observed: client.spec,
        labels,
        hidden,
    }
}

/// The record after a change, which is a use; `management` when the vendor has replaced its credentials for the client.
pub(crate) fn changed(
    current: Registration,
    spec: ClientSpec,
    observed: ClientSpec,
    labels: std::collections::BTreeMap<String, String>,
    management: Option<Vec<u8>>,
) -> Registration {
    let management = management.or(current.hidden.management);
    let hidden = Hidden { management, unused_until: None, ..current.hidden };
    Registration {
        version: current.version + 1,
        updated_at: now_ms(),
        state: state_of(&observed),
        spec,
        observed,
        labels,
        hidden,
        ..current
    }
}

/// The change that replaces the version before.
pub(crate) fn replacement(registration: &Arc<Registration>) -> RegistrationChange {
    RegistrationChange::Update { expected_version: registration.version - 1, registration: Arc::clone(registration) }
}

/// Settles the account of a write: all losses, and what the record shows.
pub(crate) fn settle(
    sent: &ClientSpec,
    shown: &ClientSpec,
    predicted: Vec<Loss>,
    own: Vec<Loss>,
) -> (Reported, ClientSpec) {
    let mut losses = account(sent, shown, predicted);
    // a value that cannot be kept beside the vendor's would be a defect; the vendor's view is the truth then
    let record = effective(sent, shown, &losses).unwrap_or_else(|_| shown.clone());
    if !own.is_empty() {
        losses.extend(own);
        loss::sort(&mut losses);
    }
    (losses.into(), record)
}

pub(crate) fn state_of(spec: &ClientSpec) -> State {
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
