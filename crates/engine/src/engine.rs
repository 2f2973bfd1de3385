//! The gateway's core: everything that the API and the command line can ask for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use registrar_core::{Error, ErrorKind, Naming, PlannedRequest, Result, SecretString, Vendor};
use registrar_model::{
    BackendName, ClientSpec, Issue, IssueCode, Issues, Loss, LossKind, Mapped, Member as _, NewRegistration, Pointer,
    Position, Reach, Registration, RegistrationId, Scope, Severity, loss, validate,
};
use registrar_store::{PageOf, PageRequest, RegistrationFilter, Store};
use serde::Serialize;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::{
    backend::{Backend, Connect, Runtime},
    config::{BackendConfig, OnLoss, RouteConfig},
    dcr,
    idempotency::{self, Idempotency},
    loss_policy,
    management::Proved,
    record,
    reported::Reported,
    routing::{self, Evaluation},
    seal::Vault,
    sightings::Sightings,
};

/// Who is asking, for the journal.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of the API key; `anonymous` without authentication.
    pub principal: Arc<str>,
    /// The id of the request.
    pub request_id: Arc<str>,
    /// The idempotency key of the request.
    pub idempotency: Option<Idempotency>,
}

/// How an engine treats what callers get only once.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How long an issued secret is kept, sealed, for a repetition of its request.
    pub secret_window: Duration,
    /// Makes equal requests without a key within this time one request.
    pub implicit_window: Option<Duration>,
    /// What the gateway's half of the sealing key is made of; one in the store when absent.
    pub seal_key: Option<SecretString>,
    /// Who may register at the standards face, where the route does not say.
    pub registration: dcr::RegistrationConfig,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            secret_window: idempotency::SECRET_WINDOW,
            implicit_window: None,
            seal_key: None,
            registration: dcr::RegistrationConfig::default(),
        }
    }
}

/// The answer to a write: the client as it is now, and what that cost.
#[derive(Debug)]
pub struct Written {
    /// The record.
    pub registration: Arc<Registration>,
    /// The secret, where one was issued: shown here and nowhere else.
    pub secret: Option<NewSecret>,
    /// What did not survive.
    pub losses: Reported,
    /// The journal entry.
    pub operation: registrar_model::OperationId,
    /// Why a secret that was issued is not shown (any more).
    pub secret_state: Option<SecretState>,
    /// True when an earlier request with the same idempotency key did it.
    pub replayed: bool,
    /// False when the vendor did it and the gateway could not record it: the operation stays open and is found out about
    /// later, but the secret must not be lost with it.
    pub recorded: bool,
}

impl Written {
    /// A write that was just done.
    pub(crate) fn new(
        registration: Arc<Registration>,
        secret: Option<NewSecret>,
        losses: Reported,
        operation: registrar_model::OperationId,
    ) -> Self {
        Self { registration, secret, losses, operation, secret_state: None, replayed: false, recorded: true }
    }
}

/// Why a secret that was issued once is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretState {
    /// Its window has ended, or it was acknowledged.
    Expired,
    /// The vendor's answer was lost, so that nobody ever had it.
    Undelivered,
}

/// A secret to be shown once.
#[derive(Debug)]
pub struct NewSecret {
    /// The secret.
    pub value: SecretString,
    /// Unix seconds; 0 means never. `None` where the vendor shows a time that cannot be read.
    pub expires_at: Option<i64>,
    /// Unix seconds until which the one before still works, where the vendor documents it.
    pub previous_valid_until: Option<i64>,
}

/// A failed write.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: Error,
    /// The journal entry, when it came that far.
    pub operation: Option<registrar_model::OperationId>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, operation: None }
    }
}

/// What a create would do.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// Where it would go.
    pub backend: BackendName,
    /// The route that chose it; absent when the request names the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What would be sent.
    pub requests: Vec<PlannedRequest>,
    /// What would be lost.
    pub losses: Vec<Loss>,
    /// `create` or `refuse`.
    pub would: &'static str,
    /// Why it would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The gateway.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) runtime: ArcSwap<Runtime>,
    pub(crate) vendors: &'static [Vendor],
    /// Writes in progress: they outlive the request that asked for them.
    pub(crate) writes: TaskTracker,
    /// This process, as the owner of leases.
    pub(crate) instance: Arc<str>,
    pub(crate) options: EngineOptions,
    pub(crate) limiter: dcr::Limiter,
    /// Requests for registration that were refused for what is in them.
    pub(crate) refusals: dcr::Limiter,
    pub(crate) places: dcr::Places,
    pub(crate) retries: dcr::Retries,
    pub(crate) proved: Proved,
    pub(crate) renewals: dcr::Renewals,
    pub(crate) sightings: Sightings,
    vault: tokio::sync::OnceCell<Vault>,
    /// For closing intents that may have become durable.
    pub(crate) closing: Arc<tokio::sync::Semaphore>,
    locks: Mutex<HashMap<RegistrationId, Weak<tokio::sync::Mutex<()>>>>,
}

/// The right to write to a client, held until the last copy is dropped.
pub(crate) type Turn = Arc<tokio::sync::OwnedMutexGuard<()>>;

impl Engine {
    /// A gateway over a store, with its backends connected.
    ///
    /// # Errors
    /// When the way to a backend cannot be opened.
    pub fn new(
        store: Arc<dyn Store>,
        vendors: &'static [Vendor],
        backends: Vec<BackendConfig>,
        routes: Vec<RouteConfig>,
        connect: &dyn Connect,
    ) -> std::result::Result<Self, String> {
        Ok(Self {
            store,
            runtime: ArcSwap::from_pointee(Runtime::build(backends, routes, connect)?),
            vendors,
            writes: TaskTracker::new(),
            instance: uuid::Uuid::now_v7().to_string().into(),
            options: EngineOptions::default(),
            limiter: dcr::Limiter::default(),
            refusals: dcr::Limiter::default(),
            places: dcr::Places::default(),
            retries: dcr::Retries::default(),
            proved: Proved::default(),
            renewals: dcr::Renewals::default(),
            sightings: Sightings::default(),
            vault: tokio::sync::OnceCell::new(),
            closing: Arc::new(tokio::sync::Semaphore::new(record::CLOSING)),
            locks: Mutex::new(HashMap::new()),
        })
    }

    /// The same gateway with other options.
    #[must_use]
    pub fn with_options(self, options: EngineOptions) -> Self {
        Self { options, ..self }
    }

    /// The options in effect.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    pub(crate) async fn vault(&self) -> Result<&Vault> {
        self.vault
            .get_or_try_init(|| async {
                let proposed = match &self.options.seal_key {
                    Some(key) => return Ok(Vault::new(idempotency::stretched(key))),
                    None => Vault::fresh()?,
                };
                let kept = self.store.once("seal_key", proposed.to_vec()).await.map_err(store_error)?;
                let kept = <[u8; 32]>::try_from(kept.as_slice());
                kept.map(Vault::new).map_err(|_| Error::new(ErrorKind::Internal, "the store's sealing key is damaged"))
            })
            .await
    }

    /// Swaps backends and routes; requests in progress keep what they started with.
    ///
    /// # Errors
    /// When the way to a backend cannot be opened; then nothing has changed.
    pub fn reload(
        &self,
        backends: Vec<BackendConfig>,
        routes: Vec<RouteConfig>,
        connect: &dyn Connect,
    ) -> std::result::Result<(), String> {
        self.runtime.store(Arc::new(Runtime::build(backends, routes, connect)?));
        Ok(())
    }

    /// Waits for the writes in progress and closes the store. New writes must have stopped before.
    pub async fn shutdown(&self) {
        self.writes.close();
        self.writes.wait().await;
        self.store.close().await;
    }

    /// The store, for the parts of the API that only read it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// One write to a client at a time, in this process.
    pub(crate) async fn lock(&self, id: RegistrationId) -> Turn {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            match locks.get(&id).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    locks.retain(|_, lock| lock.strong_count() > 0);
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(id, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        Arc::new(lock.lock_owned().await)
    }

    /// Where a registration would go, and why.
    #[must_use]
    pub fn evaluate(&self, request: &NewRegistration) -> Evaluation {
        routing::evaluate(&self.runtime.load().routes, request)
    }

    /// What a create would send and lose. Nothing is sent.
    ///
    /// # Errors
    /// When the request cannot be represented at the backend at all.
    pub fn dry_run(&self, request: &NewRegistration) -> Result<DryRun> {
        let mut request = request.clone();
        let admission = self.admit(&mut request, Way::default())?;
        let refusal = admission.refusal(&request, None);
        let mut losses = admission.plan.losses;
        loss::join(&mut losses, admission.own);
        Ok(DryRun {
            backend: admission.backend.name.clone(),
            route: admission.route,
            requests: admission.plan.value,
            losses,
            would: if refusal.is_some() { "refuse" } else { "create" },
            reason: refusal.map(|e| e.detail().to_owned()),
        })
    }

    /// Chooses the backend of a create and finds out what it would lose.
    pub(crate) fn admit(&self, request: &mut NewRegistration, way: Way<'_>) -> Result<Admission> {
        let runtime = self.runtime.load();
        let (backend, route, policy) = runtime.choose(request)?;
        self.check_vendor_members(&backend, &request.spec)?;
        check_hosts(&backend, &request.spec)?;
        let mut own = request.own_losses();
        let scopes = runtime.default_scopes(&backend, way.route.or(route.as_deref()));
        own.extend(complete(&mut request.spec, scopes));
        let plan = backend.adapter.preview_as(&request.spec, way.naming);
        let mut plan = plan.map_err(|e| e.with_backend(backend.name.as_str()))?;
        loss_policy::weigh(&backend, &mut plan.losses);
        Ok(Admission { backend, route, policy, plan, own })
    }

    /// Refuses `vendor` members of kinds that do not exist, and lets the adapter check its own.
    pub(crate) fn check_vendor_members(&self, backend: &Backend, spec: &ClientSpec) -> Result<()> {
        let mut issues = Issues::new();
        for kind in spec.vendor.keys().filter(|k| !self.vendors.iter().any(|v| v.descriptor.kind == k.as_str())) {
            let known: Vec<&str> = self.vendors.iter().map(|v| v.descriptor.kind).collect();
            let detail = format!("there is no vendor kind `{kind}`; there are {}", known.join(", "));
            issues.push(Pointer::root().child("vendor").child(kind), IssueCode::UnknownMember, detail);
        }
        backend.adapter.validate_vendor(spec, &mut issues);
        issues.into_result(()).map_err(Error::validation)
    }

    /// The record of a client.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn registration(&self, id: RegistrationId) -> Result<Registration> {
        let found = self.store.registration(id).await.map_err(store_error)?;
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no client `{id}`")))
    }

    /// The recorded clients.
    ///
    /// # Errors
    /// A bad cursor, or a store that does not work.
    pub async fn registrations(&self, filter: &RegistrationFilter, page: PageRequest) -> Result<PageOf<Registration>> {
        self.store.registrations(filter, page).await.map_err(store_error)
    }

    /// Every backend, by name.
    #[must_use]
    pub fn backends(&self) -> Vec<Value> {
        self.runtime.load().backends.values().map(|b| b.view()).collect()
    }

    /// One backend.
    ///
    /// # Errors
    /// [`ErrorKind::BackendNotFound`].
    pub fn backend(&self, name: &str) -> Result<Arc<Backend>> {
        let known = self.runtime.load().backends.get(name).cloned();
        known.ok_or_else(|| Error::new(ErrorKind::BackendNotFound, "there is no backend with this name"))
    }

    /// The capability matrix.
    #[must_use]
    pub fn vendors(&self) -> Vec<Value> {
        crate::matrix::vendors(self.vendors)
    }
}

/// What is known of a create beside the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way<'w> {
    /// How the client is to be called.
    pub(crate) naming: Naming<'w>,
    /// The route of the standards face.
    pub(crate) route: Option<&'w str>,
}

/// Refuses URLs with private hosts that the backend's operator does not allow.
pub(crate) fn check_hosts(backend: &Backend, spec: &ClientSpec) -> Result<()> {
    let (root, mut issues) = (Position::root(), Issues::new());
    validate::hosts(&spec.metadata, Reach::Allowed(&backend.private_hosts), &root.child("metadata"), &mut issues);
    issues.into_result(()).map_err(Error::validation)
}

/// Gives a registration that asks for no scope the default ones, and says so.
pub(crate) fn complete(spec: &mut ClientSpec, scopes: Option<&Scope>) -> Option<Loss> {
    if spec.metadata.scope.as_ref().is_some_and(|scope| !scope.is_empty()) {
        return None;
    }
    let scopes = scopes?;
    spec.metadata.scope = Some(scopes.clone());
    Some(Loss {
        field: "metadata.scope".into(),
        kind: LossKind::Defaulted,
        severity: Severity::Functional,
        reason: "not sent; these are the `default_scopes` of the backend or route".into(),
        wanted: None,
        got: Some(scopes.encode()),
    })
}

/// A create that may go ahead as far as the backend is concerned.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) backend: Arc<Backend>,
    pub(crate) route: Option<String>,
    pub(crate) policy: OnLoss,
    /// What would be sent, and what the mapping loses.
    pub(crate) plan: Mapped<Vec<PlannedRequest>>,
    /// What no adapter sees.
    pub(crate) own: Vec<Loss>,
}

impl Admission {
    /// Why the loss policy refuses the request, if it does.
    /// `policy` replaces that of the route or backend.
    pub(crate) fn refusal(&self, request: &NewRegistration, policy: Option<OnLoss>) -> Option<Error> {
        let policy = policy.unwrap_or(self.policy);
        let refused = if self.own.is_empty() {
            loss_policy::admit(policy, &request.allow_loss, &self.plan.losses)
        } else {
            let mut losses = self.plan.losses.clone();
            loss::join(&mut losses, self.own.clone());
            loss_policy::admit(policy, &request.allow_loss, &losses)
        };
        refused.err().map(|e| e.with_backend(self.backend.name.as_str()))
    }
}

/// An issue with the backend member of a body.
pub(crate) fn moving(registration: &Registration) -> Error {
    Error::validation(vec![Issue {
        pointer: Pointer::root().child("backend"),
        code: IssueCode::Conflict,
        detail: format!("the client lives at `{}`; an update cannot move it", registration.backend),
    }])
}

/// A store error for callers.
#[must_use]
pub fn store_error(error: registrar_store::StoreError) -> Error {
    use registrar_store::StoreError as S;
    match error {
        S::BadCursor => Error::new(ErrorKind::InvalidRequest, "the cursor is not one that this server gave out"),
        S::VersionConflict => {
            Error::new(ErrorKind::PreconditionFailed, "the client was changed by somebody else in the meantime")
        }
        S::AlreadyExists => Error::new(ErrorKind::AlreadyExists, "it is recorded already"),
        other => {
            tracing::error!(error = %other, "store failed");
            Error::new(ErrorKind::StoreUnavailable, "the gateway's store does not work; its log says why")
        }
    }
}
