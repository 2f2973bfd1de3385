//! The journal's side of a write: the intent before it, the result after it, and the answer to its repetition.

use std::{borrow::Cow, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use registrar_core::{Error, ErrorKind, Outcome, Result, SecretString, VendorDetail};
use registrar_model::{Loss, OperationId, Registration, RegistrationId, State};
use registrar_store::{
    Action, Begun, Evidence, Intent, KeyUse, Lease, Operation, OperationState, OperationUpdate, RegistrationChange,
    Sealed, Spending, StoreError,
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};

use crate::{
    backend::Backend,
    clock::now_ms,
    dcr::{self, Kept},
    engine::{Caller, Engine, Failure, NewSecret, SecretState, Turn, Written, store_error},
    idempotency::Idempotency,
    late::Late,
    record::{Ongoing, may_be_durable, may_pass},
    reported::Reported,
};

/// How long after a call's own deadline its operation still belongs to whoever began it.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// What became of the wish to begin a write.
pub(crate) enum Start {
    /// The intent is durable; the vendor may be called.
    Now(Ongoing),
    /// The same request was carried out before.
    Done(Operation),
}

/// What [`Engine::begin`] needs to know of a write.
pub(crate) struct Wish<'a> {
    pub(crate) id: OperationId,
    pub(crate) action: Action,
    pub(crate) backend: &'a Backend,
    pub(crate) registration: RegistrationId,
    /// What is asked for, to compare the vendor with if the answer is lost: the text of a JSON object.
    pub(crate) desired: Option<String>,
    /// The initial access token that a create costs a use of.
    pub(crate) spend: Option<&'a str>,
    /// The right to write to the client, unless it is a new one.
    pub(crate) turn: Option<Turn>,
}

impl<'a> Wish<'a> {
    /// The wish to write to a client that is registered, as this operation.
    pub(crate) fn about(
        id: OperationId,
        action: Action,
        registration: RegistrationId,
        backend: &'a Backend,
        turn: Turn,
    ) -> Self {
        Self { id, action, backend, registration, desired: None, spend: None, turn: Some(turn) }
    }
}

/// A result to be recorded.
pub(crate) struct Success<'a> {
    pub(crate) summary: Cow<'static, str>,
    pub(crate) losses: &'a Reported,
    pub(crate) change: Option<RegistrationChange>,
    pub(crate) secret: Option<&'a NewSecret>,
    /// What the operation did one after the other, where that was more than one call.
    pub(crate) steps: Option<Value>,
}

/// The evidence of a success.
struct Account<'l> {
    losses: &'l Reported,
    /// Whether a repetition of the request gets its answer.
    repeatable: bool,
    secret: Option<&'static str>,
    steps: Option<Value>,
}

impl Serialize for Account<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        if self.repeatable {
            out.serialize_entry("losses", self.losses)?;
        } else {
            out.serialize_entry("losses", &Each(|| self.losses.told()))?;
            out.serialize_entry("defaulted", &Each(|| self.losses.defaulted()))?;
        }
        if let Some(secret) = self.secret {
            out.serialize_entry(SECRET, secret)?;
        }
        if let Some(steps) = &self.steps {
            out.serialize_entry("steps", steps)?;
        }
        out.end()
    }
}

/// A list that is not made before it is written.
struct Each<F>(F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// In the evidence of a change: what became of the secret that it issued. Most changes issue none.
pub(crate) const SECRET: &str = "secret";
pub(crate) const DELIVERED: &str = "delivered";
pub(crate) const UNDELIVERED: &str = "undelivered";

/// A one-time secret in its sealed form.
#[derive(Serialize, Deserialize)]
struct SealedSecret {
    value: String,
    expires_at: Option<i64>,
    previous_valid_until: Option<i64>,
}

impl Engine {
    /// The finished operation of an earlier request with the caller's idempotency key, if there is one.
    ///
    /// # Errors
    /// What a repetition is to be told when the first request is not finished, failed, or was another request.
    pub(crate) async fn earlier(&self, caller: &Caller) -> Result<Option<Operation>, Failure> {
        let Some(key) = &caller.idempotency else { return Ok(None) };
        let claim = key.claim(now_ms());
        match self.store.key_use(&claim.key, claim.since).await.map_err(store_error)? {
            Some(used) => self.repeated(key, used).await.map(Some),
            None => Ok(None),
        }
    }

    async fn repeated(&self, key: &Idempotency, used: KeyUse) -> Result<Operation, Failure> {
        let told = |error: Error| Failure { error, operation: Some(used.operation) };
        if used.fingerprint != *key.fingerprint() {
            let detail = "this Idempotency-Key was used for another request; use a new key for a new request";
            return Err(Error::new(ErrorKind::IdempotencyKeyReused, detail).into());
        }
        let found = self.store.operation(used.operation).await.map_err(store_error)?;
        let operation = found.ok_or_else(|| Error::new(ErrorKind::Internal, "the operation of a key is missing"))?;
        match operation.state {
            OperationState::Succeeded => Ok(operation),
            OperationState::Pending => {
                let detail = format!("the first request with this key is being worked on: operation {}", operation.id);
                let wait = Some(Duration::from_secs(1));
                // the key stands for one write: it would be wrong to say that this was not performed
                let error = Error::new(ErrorKind::IdempotencyInProgress, detail).with_outcome(Outcome::Unknown);
                Err(told(error.with_retry_after(wait)))
            }
            OperationState::Unknown => {
                let detail = format!(
                    "it is not yet known what the vendor did with the first request; operation {} is being looked into",
                    operation.id
                );
                let error = Error::new(ErrorKind::OutcomeUnknown, detail).with_outcome(Outcome::Unknown);
                Err(told(error.with_backend(operation.backend.clone())))
            }
            OperationState::Failed => Err(told(failure_of(&operation))),
        }
    }

    /// Makes the intent durable. Nothing has been sent before this returns.
    pub(crate) async fn begin(self: &Arc<Self>, caller: &Caller, wish: Wish<'_>) -> Result<Start, Failure> {
        let now = now_ms();
        let lease = wish.backend.timeout + LEASE_MARGIN;
        let operation = Arc::new(Operation {
            id: wish.id,
            action: wish.action,
            backend: wish.backend.name.as_str().to_owned(),
            registration: Some(wish.registration),
            state: OperationState::Pending,
            outcome: Outcome::Unknown,
            summary: Cow::Borrowed("in progress"),
            created_at: now,
            updated_at: now,
            attempts: 1,
            evidence: json!({}),
            request_id: Arc::clone(&caller.request_id),
            principal: Arc::clone(&caller.principal),
            desired: wish.desired,
            lease: Lease { owner: Arc::clone(&self.instance), until: now.saturating_add(millis(lease)), fence: 1 },
        });
        if crate::failpoint::naive_writes() {
            return Ok(Start::Now(Ongoing { operation, turn: wish.turn, place: None }));
        }
        let key = caller.idempotency.as_ref().map(|key| key.claim(now));
        let spend = wish.spend.map(|token| Spending { token: token.to_owned(), now });
        let intent = Intent { operation: Arc::clone(&operation), key, spend };
        let begun = match self.store.begin(intent).await {
            Ok(begun) => begun,
            Err(error) => {
                if may_be_durable(&error) {
                    self.never_sent(operation);
                }
                return Err(store_error(error).into());
            }
        };
        match begun {
            Begun::New => {
                crate::failpoint::reach("intent");
                Ok(Start::Now(Ongoing { operation, turn: wish.turn, place: None }))
            }
            Begun::Used(used) => match &caller.idempotency {
                Some(key) => self.repeated(key, used).await.map(Start::Done),
                None => Err(Error::new(ErrorKind::Internal, "a key was used that nobody sent").into()),
            },
            Begun::Spent => Err(dcr::no_use_left().into()),
        }
    }

    /// Runs a write to its end whatever becomes of the caller.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        operation: OperationId,
        // boxed where it is made: it is large, and handed on several times
        write: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>,
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

    /// Records a success. When that fails, the vendor has done it all the same, and the caller is told so.
    pub(crate) async fn succeeded(
        self: &Arc<Self>,
        caller: &Caller,
        operation: &Ongoing,
        backend: &Backend,
        success: Success<'_>,
    ) -> Result<(), Failure> {
        crate::failpoint::reach("answered");
        if crate::failpoint::naive_writes() {
            let intent = Intent { operation: Arc::clone(&operation.operation), key: None, spend: None };
            self.store.begin(intent).await.map_err(store_error)?;
        }
        backend.count(operation.action, Outcome::Performed);
        let sealed = match (success.secret, &caller.idempotency) {
            (Some(secret), Some(key)) => self.seal(operation.id, key, secret).await,
            _ => None,
        };
        let (state, outcome) = (OperationState::Succeeded, Outcome::Performed);
        let update = Arc::new(OperationUpdate {
            evidence: Evidence::of(&Account {
                losses: success.losses,
                repeatable: caller.idempotency.is_some(),
                secret: (operation.action == Action::Update && success.secret.is_some()).then_some(DELIVERED),
                steps: success.steps,
            }),
            sealed,
            ..OperationUpdate::of(operation, state, outcome, success.summary, now_ms())
        });
        let recorded = match self.insist(&update, success.change.as_ref()).await {
            Ok(()) => Ok(Late::Recorded),
            Err(StoreError::Superseded | StoreError::AlreadyFinished) => {
                Box::pin(self.came_late(operation, &update, success.change.as_ref())).await
            }
            Err(error) => Err(error),
        };
        let open = match &recorded {
            Ok(Late::Recorded) => None,
            Ok(Late::Open(again)) => Some(*again),
            Ok(Late::Dropped) | Err(_) => Some(operation.id),
        };
        if let Some(open) = open {
            if let Err(error) = recorded {
                tracing::error!(operation = %operation.id, backend = %backend.name, %error, "done at the vendor but not recorded");
                if may_pass(&error) {
                    self.record_later(operation, Arc::clone(&update), success.change);
                }
            }
            let detail =
                format!("{} at the vendor, but the gateway could not record it; see operation {open}", update.summary);
            return Err(Failure {
                error: Error::new(ErrorKind::PartialFailure, detail)
                    .with_outcome(Outcome::Performed)
                    .with_backend(backend.name.as_str()),
                operation: Some(open),
            });
        }
        crate::failpoint::reach("recorded");
        Ok(())
    }

    /// Records a failure, and what it changes in the record of the client.
    pub(crate) async fn failed(
        self: &Arc<Self>,
        operation: &Ongoing,
        backend: &Backend,
        change: Option<RegistrationChange>,
        error: Error,
    ) -> Failure {
        let outcome = error.outcome();
        backend.count(operation.action, outcome);
        // without it, nobody can manage the client that the answer names
        let management = error.client().and_then(|client| client.management.as_ref());
        let management = match operation.registration {
            Some(id) => self.kept(id, management).await.map(|sealed| URL_SAFE_NO_PAD.encode(sealed)),
            None => None,
        };
        let now = now_ms();
        let state = if outcome == Outcome::Unknown { OperationState::Unknown } else { OperationState::Failed };
        let update = Arc::new(OperationUpdate {
            evidence: of_failure(&error, management).into(),
            // nothing was done, and it may work next time: the same key may try again
            release_key: outcome == Outcome::NotPerformed && error.is_retryable(),
            refund: if outcome == Outcome::NotPerformed { Kept::paid_by(operation) } else { None },
            retry_at: now,
            ..OperationUpdate::of(operation, state, outcome, error.detail().to_owned(), now)
        });
        let recorded = match self.store.finish(Arc::clone(&update), change.clone()).await {
            Err(StoreError::Superseded | StoreError::AlreadyFinished) => {
                Box::pin(self.came_late(operation, &update, change.as_ref())).await.map(drop)
            }
            done => done,
        };
        if let Err(store) = recorded {
            tracing::error!(operation = %operation.id, backend = %backend.name, error = %store, "a failure could not be recorded");
            if may_pass(&store) {
                self.record_later(operation, update, change);
            }
        }
        Failure { error: error.with_backend(backend.name.as_str()), operation: Some(operation.id) }
    }

    /// The answer to the repetition of a create, update or disable.
    pub(crate) async fn written_again(&self, caller: &Caller, operation: Operation) -> Result<Written, Failure> {
        let gone = || {
            let detail = "the client that the first request with this key wrote was deleted since";
            Failure {
                error: Error::new(ErrorKind::NotFound, detail).with_outcome(Outcome::Performed),
                operation: Some(operation.id),
            }
        };
        let id = operation.registration.ok_or_else(gone)?;
        let registration = self.store.registration(id).await.map_err(store_error)?.ok_or_else(gone)?;
        let secret = self.unseal(caller, operation.id).await?;
        let losses: Vec<Loss> = match operation.evidence.get("losses") {
            None => Vec::new(),
            // losses that cannot be read are not the same as none
            Some(recorded) => serde_json::from_value(recorded.clone()).map_err(|_| Failure {
                error: store_error(StoreError::Corrupt(format!(
                    "the losses of operation {} cannot be read",
                    operation.id
                )))
                .with_outcome(Outcome::Performed),
                operation: Some(operation.id),
            })?,
        };
        let issues_secrets = match operation.action {
            Action::Create => !registration.spec.metadata.is_public(),
            _ => operation.evidence.get(SECRET).is_some(),
        };
        Ok(Written {
            secret_state: (issues_secrets && secret.is_none()).then(|| secret_state(&operation)),
            registration: Arc::new(registration),
            secret,
            losses: losses.into(),
            operation: operation.id,
            replayed: true,
            recorded: true,
        })
    }

    /// The answer to the repetition of a rotation: the secret, or what became of it.
    pub(crate) async fn issued_again(
        &self,
        caller: &Caller,
        operation: &Operation,
    ) -> Result<std::result::Result<NewSecret, SecretState>, Failure> {
        Ok(self.unseal(caller, operation.id).await?.ok_or_else(|| secret_state(operation)))
    }

    async fn seal(&self, operation: OperationId, key: &Idempotency, secret: &NewSecret) -> Option<Sealed> {
        use registrar_core::ExposeSecret as _;
        let plain = SealedSecret {
            value: secret.value.expose_secret().to_owned(),
            expires_at: secret.expires_at,
            previous_valid_until: secret.previous_valid_until,
        };
        let sealed = match self.vault().await {
            Ok(vault) => {
                serde_json::to_vec(&plain).ok().and_then(|p| vault.seal(&operation.to_string(), key.text(), &p).ok())
            }
            Err(_) => None,
        };
        if sealed.is_none() {
            tracing::warn!(%operation, "the secret could not be sealed: a repetition of the request will not show it");
        }
        sealed.map(|bytes| Sealed { bytes, until: now_ms().saturating_add(millis(self.options.secret_window)) })
    }

    async fn unseal(&self, caller: &Caller, operation: OperationId) -> Result<Option<NewSecret>, Failure> {
        let Some(key) = &caller.idempotency else { return Ok(None) };
        let sealed = self.store.sealed(operation, now_ms()).await.map_err(store_error)?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = self.vault().await?.open(&operation.to_string(), key.text(), &sealed.bytes);
        let secret: Option<SealedSecret> = plain.and_then(|p| serde_json::from_slice(&p).ok());
        Ok(secret.map(|s| NewSecret {
            value: SecretString::from(s.value),
            expires_at: s.expires_at,
            previous_valid_until: s.previous_valid_until,
        }))
    }

    /// Destroys the sealed secret of an operation: the caller has it.
    ///
    /// # Errors
    /// [`ErrorKind::OperationNotFound`].
    pub async fn acknowledge(&self, id: OperationId) -> Result<()> {
        let known = self.store.operation(id).await.map_err(store_error)?;
        known.ok_or_else(|| Error::new(ErrorKind::OperationNotFound, "there is no operation with this id"))?;
        self.store.destroy_sealed(id).await.map(drop).map_err(store_error)
    }
}

/// Why a secret that was issued once is not shown again.
fn secret_state(operation: &Operation) -> SecretState {
    let evidence = |name: &str| operation.evidence.get(name);
    let lost = evidence("adopted").is_some() || evidence(SECRET).is_some_and(|state| state == UNDELIVERED);
    // found at the vendor, and no answer came after that
    if lost && evidence(DELIVERED).is_none() { SecretState::Undelivered } else { SecretState::Expired }
}

/// The evidence of a failure; `management` is what the answer gave to manage the client that it names, sealed.
fn of_failure(error: &Error, management: Option<String>) -> Value {
    let mut evidence = json!({
        "code": error.kind().slug(),
        "vendor": error.vendor(),
        "errors": (!error.issues().is_empty()).then(|| error.issues()),
    });
    let more = [
        ("advice", error.advice().map(|advice| json!(advice))),
        ("client_id", error.client().map(|client| json!(client.client_id))),
        ("management", management.map(Value::String)),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            evidence[name] = value;
        }
    }
    evidence
}

/// The recorded failure of an operation, as it was told to the first caller.
fn failure_of(operation: &Operation) -> Error {
    let evidence = |name: &str| operation.evidence.get(name).filter(|v| !v.is_null());
    let kind = evidence("code").and_then(Value::as_str).and_then(ErrorKind::from_slug);
    let mut error = Error::new(kind.unwrap_or(ErrorKind::UpstreamError), operation.summary.clone())
        .with_outcome(operation.outcome)
        .with_backend(operation.backend.clone());
    if let Some(vendor) = evidence("vendor").and_then(|v| serde_json::from_value::<VendorDetail>(v.clone()).ok()) {
        error = error.with_vendor(vendor);
    }
    if let Some(advice) = evidence("advice").and_then(Value::as_str) {
        error = error.with_advice(advice.to_owned());
    }
    if let Some(issues) = evidence("errors").and_then(|v| serde_json::from_value(v.clone()).ok()) {
        error = error.with_issues(issues);
    }
    error
}

/// The change that only marks a client.
pub(crate) fn with_state(current: Registration, state: State) -> RegistrationChange {
    let expected_version = current.version;
    let registration = Registration { state, updated_at: now_ms(), version: current.version + 1, ..current };
    RegistrationChange::Update { registration: Arc::new(registration), expected_version }
}

/// Evidence with one more member.
pub(crate) fn merged(evidence: &Value, name: &str, value: Value) -> Value {
    let mut object = evidence.as_object().cloned().unwrap_or_default();
    object.insert(name.to_owned(), value);
    Value::Object(object)
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
