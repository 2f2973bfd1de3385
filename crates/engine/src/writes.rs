//! Writes: intent (durable) → vendor call → result (durable) → answer, all in a detached, tracked task.
//!
//! A caller who disconnects changes nothing: the task goes on, and shutdown waits for it.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use registrar_core::{Error, ErrorKind, IssuedSecret, Naming, OpSupport, Outcome};
use registrar_model::{
    ClientSpec, Hidden, Loss, NewRegistration, OperationId, RedirectUri, Registration, RegistrationId, State,
    account::{account, effective},
    loss, patch,
};
use registrar_store::{Action, RegistrationChange};
use serde_json::{Value, json};

use crate::{
    answer_losses,
    backend::Backend,
    clock::now_ms,
    dcr::{self, CreateOptions, UpdateOptions},
    engine::{Admission, Caller, Engine, Failure, NewSecret, Turn, Way, Written, check_hosts, complete, moving},
    journal::{Start, Success, Wish},
    loss_policy,
    management::Reach,
    naming,
    record::Ongoing,
    removal,
    reported::Reported,
    secret_needed,
    unread::with_unread,
};

pub use crate::rotate::Rotated;

/// What a caller expects the version of a client to be (`If-Match`).
pub type ExpectedVersion = Option<u64>;

impl Engine {
    /// Registers a client.
    ///
    /// # Errors
    /// [`Failure`]; its error says whether the vendor did anything.
    pub fn create(
        self: &Arc<Self>,
        caller: &Caller,
        request: NewRegistration,
    ) -> impl Future<Output = Result<Written, Failure>> + Send {
        self.create_with(caller, request, CreateOptions::default())
    }

    /// Registers a client, with what the standards face brings along.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function keeps what it is given twice, and a request is large"
    )]
    pub(crate) fn create_with(
        self: &Arc<Self>,
        caller: &Caller,
        mut request: NewRegistration,
        options: CreateOptions,
    ) -> impl Future<Output = Result<Written, Failure>> + Send {
        async move {
            if let Some(done) = self.earlier(caller).await? {
                // boxed, as failures are below: what is rare must not make the future of every create large
                return Box::pin(self.written_again(caller, done)).await;
            }
            let id = OperationId::generate();
            // strangers' clients have the names that people gave their software: any number have the same
            let mark = options.record.as_ref().map(|_| naming::mark(id));
            let way = Way {
                naming: mark.as_deref().map_or(Naming::Plain, Naming::Distinct),
                route: options.record.as_ref().and_then(|r| r.route.as_deref()),
            };
            let admission = self.admit(&mut request, way)?;
            if let Some(refusal) = admission.refusal(&request, options.on_loss) {
                return Err(refusal.into());
            }
            admission.backend.admits_writes()?;
            let write = Arc::clone(self).created(caller.clone(), admission, id, request, options);
            self.detached(id, Box::pin(write)).await
        }
    }

    #[expect(clippy::manual_async_fn, reason = "as Self::create_with")]
    fn created(
        self: Arc<Self>,
        caller: Caller,
        admission: Admission,
        id: OperationId,
        mut request: NewRegistration,
        options: CreateOptions,
    ) -> impl Future<Output = Result<Written, Failure>> + Send {
        async move {
            let Admission { backend, plan, own, policy, .. } = admission;
            let registration = RegistrationId::generate();
            let mut desired = request.to_json();
            options.kept().join(&mut desired);
            let (desired, spend) = (Some(desired), options.spend.as_deref());
            let wish = Wish { id, action: Action::Create, backend: &backend, registration, desired, spend, turn: None };
            let operation = match self.begin(&caller, wish).await? {
                Start::Now(operation) => Ongoing { place: options.place.clone(), ..operation },
                Start::Done(earlier) => return Box::pin(self.written_again(&caller, earlier)).await,
            };
            let mut created = match backend.adapter.create_as_planned(&request.spec, plan).await {
                Ok(created) => created,
                Err(error) => return Err(Box::pin(self.failed(&operation, &backend, None, error)).await),
            };
            if let Some(error) = self.is_another(&backend, &request.spec, &created.value).await {
                return Err(Box::pin(self.failed(&operation, &backend, None, error)).await);
            }
            let predicted = with_unread(&request.spec, &created.value, created.losses);
            let secret = created.value.secret.take().map(issued);
            let (mut losses, mut shown) = settle(&request.spec, &created.value.spec, predicted, own);
            let policy = options.on_loss.unwrap_or(policy);
            if answer_losses::refusal(policy, &request, &created.value, &losses).is_some() {
                // boxed, as failures are: it is rare
                let again = self.looked_at_again(&backend, &request, &mut created.value, &losses);
                if let Some(judged) = Box::pin(again).await {
                    (losses, shown) = (judged.losses, judged.shown);
                }
                if let Some(refusal) = answer_losses::refusal(policy, &request, &created.value, &losses)
                    && let Some(error) = Box::pin(self.unmade(&backend, &created.value, refusal)).await
                {
                    return Err(Box::pin(self.failed(&operation, &backend, None, error)).await);
                }
            }
            let management = self.kept(registration, created.value.management.as_ref()).await;
            let mut hidden = options.hidden(management, secret.as_ref());
            if hidden.management.is_some() {
                // elsewhere the mapping foretells it
                hidden.notes.defaulted = removal::filled_in(&losses);
            }
            let labels = std::mem::take(&mut request.labels);
            let registration = Arc::new(registered(registration, &backend, created.value, shown, labels, hidden));
            let success = Success {
                summary: format!("registered client {}", registration.client_id).into(),
                losses: &losses,
                change: Some(RegistrationChange::Insert(Arc::clone(&registration))),
                secret: secret.as_ref(),
                steps: None,
            };
            let recording = match &options.place {
                Some(place) => Some(place.recording().await),
                None => None,
            };
            let (recorded, id) = match self.succeeded(&caller, &operation, &backend, success).await {
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
        request.validate_change(&current.spec, true).map_err(Error::validation)?;
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
        let request = NewRegistration::decode_unvalidated(&merged).map_err(Error::validation)?;
        request.validate_change(&current.spec, true).map_err(Error::validation)?;
        self.update(caller, current, request, UpdateOptions::default(), turn).await
    }

    /// Changes a client in its turn.
    pub(crate) async fn update(
        self: &Arc<Self>,
        caller: &Caller,
        current: Registration,
        mut request: NewRegistration,
        mut options: UpdateOptions,
        turn: Turn,
    ) -> Result<Written, Failure> {
        if request.backend.as_ref().is_some_and(|b| *b != current.backend) {
            return Err(moving(&current).into());
        }
        let backend = self.usable(&current)?;
        supported(backend.adapter.descriptor().operations.update, &backend, "updating a client")?;
        self.check_vendor_members(&backend, &request.spec)?;
        check_hosts(&backend, &request.spec)?;
        let route = dcr::Record::of(&current.hidden).and_then(|record| record.route);
        let completed = complete(&mut request.spec, self.runtime.load().default_scopes(&backend, route.as_deref()));
        let (current, reach) = self.tried(current, &turn).await?;
        let mut mapped = backend
            .adapter
            .preview_update(reach.newest(), &current.spec, &request.spec)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;
        loss_policy::weigh(&backend, &mut mapped.losses);
        let mut losses = mapped.losses;
        let mut own = request.own_losses();
        own.extend(completed);
        loss::join(&mut losses, own.clone());
        loss_policy::admit(backend.on_loss, &request.allow_loss, &losses)
            .map_err(|e| e.with_backend(backend.name.as_str()))?;
        secret_needed::admit(&backend, &current.spec, &request.spec, &losses)?;
        backend.admits_writes()?;

        let (engine, caller, id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            id,
            Box::pin(async move {
                // over when the update has ended, not when its caller leaves
                let _instance = options.turn.take();
                let mut desired = request.to_json();
                options.kept().join(&mut desired);
                let wish =
                    Wish { desired: Some(desired), ..Wish::about(id, Action::Update, current.id, &backend, turn) };
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => return engine.written_again(&caller, earlier).await,
                };
                let NewRegistration { spec, labels, .. } = request;
                let (updated, by) = reach.call(|target| backend.adapter.update(target, &current.spec, &spec)).await;
                let updated = match updated {
                    Ok(updated) => updated,
                    Err(error) => return Err(engine.ended(&operation, &backend, &current, &reach, error).await),
                };
                let mut client = updated.value;
                // some vendors issue a new secret with a change, as when a public client becomes confidential
                let predicted = with_unread(&spec, &client, updated.losses);
                let mut secret = client.secret.take().map(issued);
                let (mut losses, defaulted) = removal::settle(&current, &spec, &client.spec, predicted);
                let mut steps = None;
                let recorded = record_of(&spec, &client.spec, &losses);
                if secret.is_none()
                    && secret_needed::is_needed(&current.spec, recorded.as_ref().unwrap_or(&client.spec))
                {
                    (secret, steps) = engine.rotated_after(&backend, &reach).await;
                    if secret.is_none() && !secret_needed::is_told(&losses) {
                        losses.push(secret_needed::missing());
                    }
                }
                loss::join(&mut losses, own);
                let losses = Reported::from(losses);
                let had_open_writes = current.state == State::Unknown;
                let management = engine.credentials_after(current.id, &reach, by, client.management.as_ref()).await;
                let mut registration = changed(current, recorded, client.spec, labels, management);
                registration.hidden.notes.defaulted = defaulted;
                options.keep(&mut registration.hidden);
                dcr::note_secret(&mut registration.hidden, secret.as_ref());
                let registration = Arc::new(registration);
                let success = Success {
                    summary: "updated".into(),
                    losses: &losses,
                    change: Some(replacement(&registration)),
                    secret: secret.as_ref(),
                    steps,
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

    /// Issues the secret that a client needs since it was updated: the second step of the same operation. What became of
    /// it is for the evidence.
    async fn rotated_after(&self, backend: &Backend, reach: &Reach) -> (Option<NewSecret>, Option<Value>) {
        if !backend.adapter.descriptor().operations.rotate_secret.is_supported() {
            return (None, None);
        }
        let (rotated, _) = reach.call(|target| backend.adapter.rotate_secret(target)).await;
        let step = |step: &str, outcome: Outcome| json!({ "step": step, "outcome": outcome });
        let done = step("update", Outcome::Performed);
        match rotated {
            Ok(secret) => (Some(issued(secret)), Some(json!([done, step("rotate", Outcome::Performed)]))),
            Err(error) => {
                let mut failed = step("rotate", error.outcome());
                failed["code"] = json!(error.kind().slug());
                failed["vendor"] = json!(error.vendor());
                (None, Some(json!([done, failed])))
            }
        }
    }

    /// The client as it is now, in this caller's turn.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; what `check` has against it; a backend that cannot be used.
    pub(crate) async fn subject(
        &self,
        id: RegistrationId,
        check: impl FnOnce(&Registration) -> Result<(), Error> + Send,
    ) -> Result<Subject, Error> {
        let turn = self.lock(id).await;
        let current = self.registration(id).await?;
        check(&current)?;
        let backend = self.usable(&current)?;
        Ok(Subject { current, backend, turn })
    }

    /// Reports a create that a vendor answered with a client that it did not make just now: one that is registered here
    /// already. Its secret goes no further. Vendors normalise and replace redirect URIs (RFC 7591 §3.2.1), so that they
    /// prove nothing by themselves.
    async fn is_another(
        &self,
        backend: &Backend,
        asked: &ClientSpec,
        client: &registrar_core::VendorClient,
    ) -> Option<Error> {
        let [wanted, got] =
            [asked, &client.spec].map(|spec| spec.metadata.redirect_uris.as_deref().unwrap_or_default());
        let alike = wanted.is_empty() || {
            let got: HashSet<&RedirectUri> = got.iter().collect();
            wanted.iter().any(|uri| got.contains(uri))
        };
        // the registry is asked only where the answer proves nothing by itself: a secret and our own redirect URI do
        if client.secret.is_some() && alike {
            return None;
        }
        // a store that cannot tell will not record the client either
        let known = self.is_registered(backend, client).await.unwrap_or(false);
        let detail = "the vendor answered with another client than the one that was asked for";
        let error = || Error::new(ErrorKind::UpstreamMalformed, detail).with_outcome(Outcome::Unknown);
        known.then(|| error().with_client(client.client_id.clone(), None))
    }

    fn usable(&self, registration: &Registration) -> Result<Arc<Backend>, Error> {
        let backend = self.runtime.load().backend(&registration.backend)?;
        backend.usable()?;
        Ok(backend)
    }
}

/// A client that is to be written to, and the right to do so.
pub(crate) struct Subject {
    pub(crate) current: Registration,
    pub(crate) backend: Arc<Backend>,
    pub(crate) turn: Turn,
}

pub(crate) fn issued(secret: IssuedSecret) -> NewSecret {
    let IssuedSecret { value, expires_at, previous_valid_until } = secret;
    NewSecret { value, expires_at, previous_valid_until }
}

/// The record of a client as the vendor has just shown it; `spec` where the record is to show something else.
pub(crate) fn registered(
    id: RegistrationId,
    backend: &Backend,
    client: registrar_core::VendorClient,
    spec: Option<ClientSpec>,
    labels: std::collections::BTreeMap<String, String>,
    hidden: Hidden,
) -> Registration {
    let now = now_ms();
    let state = state_of(&client.spec);
    let observed = Arc::new(client.spec);
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
        state,
        spec: spec.map_or_else(|| Arc::clone(&observed), Arc::new),
        observed,
        labels,
        hidden,
    }
}

/// The record after a change, which is a use; `spec` where the record is to show something else than the vendor,
/// `management` when the vendor has replaced its credentials for the client.
pub(crate) fn changed(
    current: Registration,
    spec: Option<ClientSpec>,
    observed: ClientSpec,
    labels: std::collections::BTreeMap<String, String>,
    management: Option<Vec<u8>>,
) -> Registration {
    let management = management.or(current.hidden.management);
    let mut hidden = Hidden { management, unused_until: None, ..current.hidden };
    hidden.notes.management_lost = false;
    let state = state_of(&observed);
    let observed = Arc::new(observed);
    Registration {
        version: current.version + 1,
        updated_at: now_ms(),
        state,
        spec: spec.map_or_else(|| Arc::clone(&observed), Arc::new),
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

/// Settles the account of a write: all losses, and what the record shows where that is not just what the vendor shows.
pub(crate) fn settle(
    sent: &ClientSpec,
    shown: &ClientSpec,
    predicted: Vec<Loss>,
    own: Vec<Loss>,
) -> (Reported, Option<ClientSpec>) {
    let mut losses = account(sent, shown, predicted);
    let record = record_of(sent, shown, &losses);
    if !own.is_empty() {
        loss::join(&mut losses, own);
    }
    (losses.into(), record)
}

/// What the record shows where that is not just what the vendor shows.
fn record_of(sent: &ClientSpec, shown: &ClientSpec, losses: &[Loss]) -> Option<ClientSpec> {
    match effective(sent, shown, losses) {
        Ok(Cow::Owned(record)) => Some(record),
        // a value that cannot be kept beside the vendor's would be a defect; the vendor's view is the truth then
        Ok(Cow::Borrowed(_)) | Err(_) => None,
    }
}

pub(crate) fn state_of(spec: &ClientSpec) -> State {
    if spec.policy.enabled == Some(false) { State::Disabled } else { State::Active }
}

pub(crate) fn check_version(current: &Registration, expected: ExpectedVersion) -> Result<(), Error> {
    match expected {
        Some(version) if version != current.version => {
            let detail = "the client has changed since the version that If-Match names; read it again";
            Err(Error::new(ErrorKind::PreconditionFailed, detail))
        }
        _ => Ok(()),
    }
}

pub(crate) fn supported(support: OpSupport, backend: &Backend, what: &str) -> Result<(), Error> {
    if support.is_supported() {
        return Ok(());
    }
    let detail = format!("{what} is not documented by vendor kind `{}`; nothing was sent", backend.kind());
    Err(Error::unsupported(detail).with_backend(backend.name.as_str()))
}
