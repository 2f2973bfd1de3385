//! Finding out what became of writes whose answer was lost (reliability §1.2, §1.3).
//!
//! What is changed here is only ever the gateway's own record: nothing is sent to a vendor but reads. A client is
//! adopted when a complete read shows exactly one group of clients that are not ours otherwise, look like what was asked
//! for, and were made when we asked; a write counts as not done when two complete reads, the later one after the
//! vendor's visibility grace, do not show it. Everything else is left to a person, with what is known.

use std::{sync::Arc, time::Duration};

use registrar_core::{Error, ErrorKind, IdempotencyClass, Outcome, Result, VendorClient};
use registrar_model::{ClientSpec, Hidden, Issues, Loss, Pointer, State, account};
use registrar_store::{Action, Operation, OperationState, OperationUpdate, RegistrationChange, StoreError};
use serde_json::{Map, Value, json};

use crate::{
    backend::Backend,
    clock::now_ms,
    dcr::Kept,
    engine::{Engine, store_error},
    idempotency::KEY_LIFETIME,
    journal::{SECRET, UNDELIVERED, merged, millis, with_state},
    management::{OWN_RECORD, is_gone},
    writes::{changed, registered, replacement, settle, state_of},
};

/// How long one process has an operation to itself while it looks.
const LEASE: Duration = Duration::from_mins(2);
/// How many operations one round looks into.
const ROUND: u32 = 20;
/// The first wait after a look that failed; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Clocks of vendors may differ by this much, in seconds.
const SKEW: i64 = 300;
/// No vendor has more pages than this; a listing that does not end is no complete read.
const MAX_PAGES: usize = 10_000;
/// Never looked into again by itself.
pub(crate) const PARKED: i64 = i64::MAX;

/// What a look found.
pub(crate) enum Finding {
    Performed {
        summary: String,
        change: Option<RegistrationChange>,
        evidence: Vec<(&'static str, Value)>,
    },
    NotPerformed {
        summary: String,
        change: Option<RegistrationChange>,
    },
    /// Not yet; look again then.
    Later {
        why: String,
        at: i64,
        evidence: Vec<(&'static str, Value)>,
    },
    /// Only a person can tell.
    Person {
        why: String,
        evidence: Vec<(&'static str, Value)>,
    },
}

impl Engine {
    /// Takes over the writes that earlier processes began and did not end: they are unknown until they are looked into.
    /// Returns how many there are. To be called before the first request.
    ///
    /// # Errors
    /// A store that does not work.
    pub async fn recover(&self) -> Result<usize> {
        let now = now_ms();
        // nobody else works on a store that is not shared: every lease in it is a dead process's
        let ended_by = if self.store.is_shared() { now } else { PARKED - 1 };
        let until = now.saturating_add(millis(LEASE));
        let left = self.store.claim(&self.instance, ended_by, until, u32::MAX).await.map_err(store_error)?;
        let found = left.len();
        for operation in left {
            self.interrupted(operation).await?;
        }
        Ok(found)
    }

    /// Marks an operation whose process died, and the client that it was about.
    async fn interrupted(&self, operation: Operation) -> Result<()> {
        let began = operation.evidence.as_object().is_some_and(Map::is_empty);
        let current = match operation.registration {
            Some(id) if operation.action != Action::Create && !is_own_record(&operation) => {
                self.store.registration(id).await.map_err(store_error)?.filter(|r| r.state != State::Unknown)
            }
            _ => None,
        };
        let summary = if began {
            "interrupted: the gateway ended before the vendor's answer was recorded".to_owned()
        } else {
            operation.summary.clone()
        };
        let update = OperationUpdate {
            evidence: merged(&operation.evidence, "interrupted", json!(true)).into(),
            summary,
            ..unknown(&operation, now_ms())
        };
        let change = current.map(|current| with_state(current, State::Unknown));
        match self.store.finish(update, change).await {
            // another process was faster, or somebody has changed the client since
            Ok(()) | Err(StoreError::AlreadyFinished | StoreError::Superseded | StoreError::VersionConflict) => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Looks once into every operation whose outcome is unknown and whose time has come, and destroys what is kept for a
    /// while only. Returns how many were settled.
    ///
    /// # Errors
    /// A store that does not work.
    pub async fn reconcile(&self) -> Result<usize> {
        let now = now_ms();
        self.store.purge(now, now.saturating_sub(millis(KEY_LIFETIME))).await.map_err(store_error)?;
        let until = now.saturating_add(millis(LEASE));
        let claimed = self.store.claim(&self.instance, now, until, ROUND).await.map_err(store_error)?;
        let mut settled = 0;
        for operation in claimed {
            let finding = match self.look_into(&operation).await {
                Ok(finding) => finding,
                Err(error) => Finding::Later {
                    why: format!("it could not be looked into: {}", error.detail()),
                    at: now_ms().saturating_add(millis(wait_after(&operation))),
                    evidence: Vec::new(),
                },
            };
            settled += usize::from(self.conclude(&operation, finding).await?);
        }
        Ok(settled)
    }

    /// Asks backends whose circuit wants to know whether the vendor works again.
    pub async fn probe(&self) {
        let due: Vec<Arc<Backend>> =
            self.runtime.load().backends.values().filter(|b| b.enabled && b.gate.wants_probe()).cloned().collect();
        for backend in due {
            if let Err(error) = backend.adapter.check().await {
                tracing::info!(backend = %backend.name, code = error.kind().slug(), "the vendor still does not work");
            }
        }
    }

    async fn look_into(&self, operation: &Operation) -> Result<Finding> {
        if is_own_record(operation) {
            // whoever began it cannot end it any more: it has another fence
            let summary = "interrupted: the record was not changed".to_owned();
            return Ok(Finding::NotPerformed { summary, change: None });
        }
        let name = operation.backend.parse();
        let found = name.ok().and_then(|name| self.runtime.load().backends.get(&name).cloned());
        let Some(backend) = found else {
            return Ok(Finding::Later {
                why: "its backend is not in the configuration".to_owned(),
                at: now_ms().saturating_add(millis(LONGEST_WAIT)),
                evidence: Vec::new(),
            });
        };
        match operation.action {
            Action::Create => self.look_for_created(operation, &backend).await,
            Action::Update => self.look_at_updated(operation, &backend).await,
            Action::Delete => self.look_for_deleted(operation, &backend).await,
            Action::Rotate => Ok(Finding::Person {
                why: "no vendor shows which secret is valid; issue a new one, which settles this".to_owned(),
                evidence: Vec::new(),
            }),
        }
    }

    async fn look_for_created(&self, operation: &Operation, backend: &Backend) -> Result<Finding> {
        let Some(asked) = desired(operation) else { return Ok(nothing_to_compare()) };
        let descriptor = backend.adapter.descriptor();
        if descriptor.idempotency == IdempotencyClass::D || !descriptor.operations.list.is_supported() {
            return Ok(Finding::Person {
                why: format!(
                    "{} offers no way to find out; look for the client in its console, then \
                     `registrar operations resolve` says what you found",
                    descriptor.title
                ),
                evidence: vec![("class", json!(descriptor.idempotency)), ("look_for", look_for(&asked.spec))],
            });
        }
        let siblings = self.siblings(operation).await?;
        if siblings.pending > 0 {
            return Ok(Finding::Later {
                why: "an equal registration is in progress; both would look alike".to_owned(),
                at: now_ms().saturating_add(millis(FIRST_WAIT)),
                evidence: Vec::new(),
            });
        }
        let predicted = backend.adapter.preview(&asked.spec)?.losses;
        let mut matching = Vec::new();
        for client in complete_list(backend).await? {
            if looks_like(&asked.spec, &client.spec, &predicted) && !self.is_registered(backend, &client).await? {
                matching.push(client);
            }
        }
        let undated = matching.iter().any(|c| c.client_id_issued_at.is_none());
        matching.retain(|client| made_since(client, operation));
        matching.sort_by_key(|c| c.client_id_issued_at);
        let ids: Vec<String> = matching.iter().map(|c| c.client_id.to_string()).collect();
        // unknown creates of the same content are alike: which of them made which client makes no difference
        if ids.len() > siblings.unknown + 1 || (undated && !ids.is_empty()) {
            return Ok(Finding::Person {
                why:
                    "more clients than we tried to make look like it, or the vendor does not say when they were made; \
                      adopt the right one with `registrar operations resolve`"
                        .to_owned(),
                evidence: vec![("candidates", json!(ids))],
            });
        }
        match matching.into_iter().next() {
            Some(client) => Ok(self.adoption(operation, backend, asked, predicted, client)),
            None => Ok(absent(operation, backend)),
        }
    }

    /// The client becomes the registration that was asked for. Nobody has its secret.
    pub(crate) fn adoption(
        &self,
        operation: &Operation,
        backend: &Backend,
        asked: Asked,
        predicted: Vec<Loss>,
        client: VendorClient,
    ) -> Finding {
        let (losses, shown) = settle(&asked.spec, &client.spec, predicted, Vec::new());
        let id = operation.registration.unwrap_or_else(registrar_model::RegistrationId::generate);
        let client = VendorClient { secret: None, ..client };
        let Kept { open_route, unused_until } = asked.kept;
        let hidden = Hidden { open_route, unused_until, ..Hidden::default() };
        let registration = registered(id, backend, client, shown, asked.labels, hidden);
        let summary =
            format!("registered client {}, found at the vendor after its answer was lost", registration.client_id);
        Finding::Performed {
            summary,
            change: Some(RegistrationChange::Insert(Arc::new(registration))),
            evidence: vec![("adopted", json!(true)), ("losses", json!(losses))],
        }
    }

    async fn look_at_updated(&self, operation: &Operation, backend: &Backend) -> Result<Finding> {
        let Some(asked) = desired(operation) else { return Ok(nothing_to_compare()) };
        let current = match operation.registration {
            Some(id) => self.store.registration(id).await.map_err(store_error)?,
            None => None,
        };
        let Some(current) = current else {
            let summary = "the client was removed since".to_owned();
            return Ok(Finding::NotPerformed { summary, change: None });
        };
        let target = self.target(&current).await?;
        let shown = match backend.adapter.read(&target).await {
            Ok(client) => client.spec,
            // such a server has one answer for clients that are gone and for tokens that are not theirs, and a change is
            // when it replaces the token (RFC 7592 §3)
            Err(error) if error.kind() == ErrorKind::NotFound && !is_gone(&current, &error) => {
                return Ok(Finding::Person {
                    why: "the vendor no longer accepts the token for managing this client: the change was done and replaced \
                          the token, or the client is gone; look for it at the vendor"
                        .to_owned(),
                    evidence: vec![("look_for", look_for(&asked.spec))],
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let summary = "the vendor does not know the client any more".to_owned();
                return Ok(Finding::NotPerformed { summary, change: Some(with_state(current, State::Gone)) });
            }
            Err(error) => return Err(error),
        };
        let plan = backend.adapter.preview_update(&target, &current.spec, &asked.spec)?;
        let predicted = plan.losses;
        if looks_like(&asked.spec, &shown, &predicted) {
            let issued =
                !plan.value.is_empty() && backend.adapter.update_issued_secret(&current.spec, &asked.spec, &shown);
            let (losses, record) = settle(&asked.spec, &shown, predicted, Vec::new());
            let registration = Arc::new(changed(current, record, shown, asked.labels, None));
            return Ok(Finding::Performed {
                summary: "updated, as the vendor shows".to_owned(),
                change: Some(replacement(&registration)),
                // the answer that held it was lost
                evidence: [("losses", json!(losses))]
                    .into_iter()
                    .chain(issued.then(|| (SECRET, json!(UNDELIVERED))))
                    .collect(),
            });
        }
        let drift = account::drift(&current.observed, &shown);
        if drift.is_empty() {
            let state = state_of(&current.observed);
            let summary = "the vendor shows the client as it was before".to_owned();
            return Ok(twice(operation, backend, summary, Some(with_state(current, state))));
        }
        Ok(Finding::Person {
            why: "the client is neither as it was before nor as was asked; read it with ?source=vendor and update it again"
                .to_owned(),
            evidence: vec![("drift", json!(drift))],
        })
    }

    async fn look_for_deleted(&self, operation: &Operation, backend: &Backend) -> Result<Finding> {
        let current = match operation.registration {
            Some(id) => self.store.registration(id).await.map_err(store_error)?,
            None => None,
        };
        let Some(current) = current else {
            let summary = "the client is gone".to_owned();
            return Ok(Finding::Performed { summary, change: None, evidence: Vec::new() });
        };
        match backend.adapter.read(&self.target(&current).await?).await {
            Ok(_) => {
                let state = state_of(&current.observed);
                let summary = "the vendor still has the client".to_owned();
                Ok(twice(operation, backend, summary, Some(with_state(current, state))))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !is_gone(&current, &error) => Ok(Finding::Person {
                why: "the vendor does not accept the token for managing this client: the client is gone, or the token was \
                      replaced before; look for it at the vendor, then `registrar operations resolve` says what you found"
                    .to_owned(),
                evidence: vec![("client_id", json!(current.client_id)), ("look_for", look_for(&current.spec))],
            }),
            Err(error) if is_gone(&current, &error) => Ok(Finding::Performed {
                summary: format!("deleted client {}, as the vendor shows", current.client_id),
                change: Some(RegistrationChange::Remove { id: current.id }),
                evidence: Vec::new(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Records a finding; true when the operation is final now.
    pub(crate) async fn conclude(&self, operation: &Operation, finding: Finding) -> Result<bool> {
        let now = now_ms();
        let looks = looks(operation) + 1;
        let mut evidence = merged(&operation.evidence, "looks", json!(looks));
        let mut add = |members: Vec<(&'static str, Value)>| {
            for (name, value) in members {
                evidence = merged(&evidence, name, value);
            }
        };
        let (update, change) = match finding {
            Finding::Performed { summary, change, evidence } => {
                add(evidence);
                let state = OperationState::Succeeded;
                (OperationUpdate { state, outcome: Outcome::Performed, summary, ..unknown(operation, now) }, change)
            }
            Finding::NotPerformed { summary, change } => {
                let state = OperationState::Failed;
                let update = OperationUpdate {
                    state,
                    outcome: Outcome::NotPerformed,
                    summary,
                    release_key: true,
                    ..unknown(operation, now)
                };
                (update, change)
            }
            Finding::Later { why, at, evidence } => {
                add(evidence);
                add(vec![("finding", json!(why))]);
                (OperationUpdate { retry_at: at, ..unknown(operation, now) }, None)
            }
            Finding::Person { why, evidence } => {
                add(evidence);
                add(vec![("finding", json!(why)), ("needs", json!("a person"))]);
                tracing::warn!(operation = %operation.id, backend = operation.backend, why, "a write waits for a person");
                (OperationUpdate { retry_at: PARKED, ..unknown(operation, now) }, None)
            }
        };
        let update = OperationUpdate { evidence: evidence.into(), ..update };
        let (state, outcome) = (update.state, update.outcome);
        match self.store.finish(update, change).await {
            Ok(()) if state.is_final() => {
                tracing::info!(operation = %operation.id, backend = operation.backend, outcome = outcome.as_str(), "settled");
                metrics::counter!("registrar_operations_settled_total", "outcome" => outcome.as_str()).increment(1);
                Ok(true)
            }
            Ok(()) => Ok(false),
            // somebody else was faster, or has changed the client: look again with fresh eyes
            Err(StoreError::AlreadyFinished | StoreError::Superseded) => Ok(false),
            Err(StoreError::VersionConflict | StoreError::AlreadyExists) => {
                let again = unknown(operation, now.saturating_add(millis(FIRST_WAIT)));
                self.store.finish(again, None).await.map(|()| false).map_err(store_error)
            }
            Err(error) => Err(store_error(error)),
        }
    }

    async fn siblings(&self, operation: &Operation) -> Result<Siblings> {
        let mut out = Siblings::default();
        let own = content(operation);
        for state in [OperationState::Pending, OperationState::Unknown] {
            let count = if state == OperationState::Pending { &mut out.pending } else { &mut out.unknown };
            let each = self.each_in(state, |o| {
                let is_other = o.id != operation.id && o.action == Action::Create && o.backend == operation.backend;
                // equal requests mostly have equal texts
                *count += usize::from(is_other && (o.desired == operation.desired || content(&o) == own));
            });
            each.await.map_err(store_error)?;
        }
        Ok(out)
    }

    pub(crate) async fn is_registered(&self, backend: &Backend, client: &VendorClient) -> Result<bool> {
        let found = self.store.registered(&backend.name, &client.client_id).await;
        found.map(|id| id.is_some()).map_err(store_error)
    }
}

/// Other creates of the same content whose outcome is open.
#[derive(Default)]
struct Siblings {
    pending: usize,
    unknown: usize,
}

/// What an operation asked for.
pub(crate) struct Asked {
    pub(crate) spec: ClientSpec,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// How it was asked for.
    pub(crate) kept: Kept,
}

/// What it asked for, and how.
fn wish(operation: &Operation) -> Option<(Map<String, Value>, Kept)> {
    let mut asked = serde_json::from_str(operation.desired.as_deref()?).ok()?;
    let kept = Kept::taken_from(&mut asked);
    Some((asked, kept))
}

/// What makes it equal to others.
fn content(operation: &Operation) -> Option<Map<String, Value>> {
    wish(operation).map(|(asked, _)| asked)
}

pub(crate) fn desired(operation: &Operation) -> Option<Asked> {
    let (object, kept) = &wish(operation)?;
    let mut issues = Issues::lenient();
    let (spec, _) = ClientSpec::decode(object, &Pointer::root(), &mut issues);
    let labels = object.get("labels").cloned().map(serde_json::from_value).transpose().ok()?.unwrap_or_default();
    issues.is_empty().then(|| Asked { spec, labels, kept: kept.clone() })
}

fn is_own_record(operation: &Operation) -> bool {
    operation.evidence.get(OWN_RECORD).is_some()
}

fn nothing_to_compare() -> Finding {
    Finding::Person {
        why: "what was asked for is not recorded, so that the vendor cannot be compared with it".to_owned(),
        evidence: Vec::new(),
    }
}

/// The members by which a person recognises the client.
fn look_for(spec: &ClientSpec) -> Value {
    json!({
        "client_name": spec.metadata.client_name,
        "redirect_uris": spec.metadata.redirect_uris.as_ref().map(|uris| {
            uris.iter().map(registrar_model::RedirectUri::as_str).collect::<Vec<_>>()
        }),
    })
}

/// Every client of the vendor.
///
/// # Errors
/// Whatever keeps the list from being complete: absence can only be seen in a complete one.
pub(crate) async fn complete_list(backend: &Backend) -> Result<Vec<VendorClient>> {
    let mut out = Vec::new();
    let mut page = None;
    for _ in 0..MAX_PAGES {
        let found = backend.adapter.list(page.take()).await?;
        out.extend(found.items);
        match found.next {
            Some(next) => page = Some(next),
            None => return Ok(out),
        }
    }
    Err(Error::new(ErrorKind::UpstreamMalformed, "the vendor's list does not end"))
}

/// Whether what the vendor shows is what a write of `asked` would have led to: every field that was asked for is as it
/// was asked or as the mapping foretold. Values of the vendor's own, for fields that were not asked for, may differ.
pub(crate) fn looks_like(asked: &ClientSpec, shown: &ClientSpec, predicted: &[Loss]) -> bool {
    account::diff(asked, shown).iter().all(|path| {
        let got = shown.field(path);
        match predicted.iter().find(|loss| loss.field == *path) {
            Some(loss) => match (&loss.got, &got) {
                (Some(foretold), Some(got)) => registrar_model::spec::same_value(path, foretold, got),
                (foretold, got) => foretold.is_none() == got.is_none(),
            },
            None => asked.field(path).is_none(),
        }
    })
}

/// Whether a client was made after we asked for it, clocks being what they are.
fn made_since(client: &VendorClient, operation: &Operation) -> bool {
    client.client_id_issued_at.is_none_or(|at| at >= operation.created_at / 1000 - SKEW)
}

fn absent(operation: &Operation, backend: &Backend) -> Finding {
    twice(operation, backend, "the vendor never made the client".to_owned(), None)
}

/// "Not done" is believed when it was seen before, and again after the vendor's visibility grace.
fn twice(operation: &Operation, backend: &Backend, summary: String, change: Option<RegistrationChange>) -> Finding {
    let now = now_ms();
    let since = operation.evidence.get("unseen_since").and_then(Value::as_i64);
    let grace = millis(backend.visibility_grace);
    match since {
        Some(since) if now.saturating_sub(since) >= grace => Finding::NotPerformed { summary, change },
        since => {
            let since = since.unwrap_or(now);
            Finding::Later {
                why: format!("{summary}, so far; it is looked at again when the vendor had time to show it"),
                at: since.saturating_add(grace),
                evidence: vec![("unseen_since", json!(since))],
            }
        }
    }
}

fn looks(operation: &Operation) -> u64 {
    operation.evidence.get("looks").and_then(Value::as_u64).unwrap_or(0)
}

fn wait_after(operation: &Operation) -> Duration {
    let doublings = u32::try_from(looks(operation).min(10)).unwrap_or(10);
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT)
}

/// The update that leaves an operation as unknown as it is.
fn unknown(operation: &Operation, retry_at: i64) -> OperationUpdate {
    OperationUpdate {
        id: operation.id,
        state: OperationState::Unknown,
        outcome: Outcome::Unknown,
        summary: operation.summary.clone(),
        updated_at: now_ms(),
        attempts: operation.attempts,
        evidence: operation.evidence.clone().into(),
        fence: operation.lease.fence,
        sealed: None,
        release_key: false,
        retry_at,
    }
}
