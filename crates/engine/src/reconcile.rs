//! Finding out what became of writes whose answer was lost (reliability §1.2, §1.3).
//!
//! What is changed here is only ever the gateway's own record: nothing is sent to a vendor but reads. A client is
//! adopted when a complete read shows exactly one group of clients that are not ours otherwise, look like what was asked
//! for, and were made when we asked; a write counts as not done when two complete reads, the later one after the
//! vendor's visibility grace, do not show it. Everything else is left to a person, with what is known.

use std::{sync::Arc, time::Duration};

use registrar_core::{Outcome, Result};
use registrar_model::State;
use registrar_store::{Action, Operation, OperationState, OperationUpdate, RegistrationChange, StoreError};
use serde_json::{Map, Value, json};

use crate::{
    backend::Backend,
    clock::now_ms,
    dcr::Kept,
    engine::{Engine, store_error},
    idempotency::KEY_LIFETIME,
    journal::{merged, millis, with_state},
    look::Round,
    management::OWN_RECORD,
};

/// How long one process has an operation to itself while it looks.
const LEASE: Duration = Duration::from_mins(2);
/// How many operations one round looks into.
const ROUND: u32 = 20;
/// The first wait after a look that failed; doubled up to [`LONGEST_WAIT`].
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
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
        evidence: Vec<(&'static str, Value)>,
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

impl Finding {
    /// The same, with one more piece of evidence.
    pub(crate) fn noting(mut self, member: (&'static str, Value)) -> Self {
        let (Self::Performed { evidence, .. }
        | Self::NotPerformed { evidence, .. }
        | Self::Later { evidence, .. }
        | Self::Person { evidence, .. }) = &mut self;
        evidence.push(member);
        self
    }
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
            "interrupted: the gateway ended before the vendor's answer was recorded".into()
        } else {
            operation.summary.clone()
        };
        let update = OperationUpdate {
            evidence: merged(&operation.evidence, "interrupted", json!(true)).into(),
            summary,
            ..unknown(&operation, now_ms())
        };
        let change = current.map(|current| with_state(current, State::Unknown));
        match self.store.finish(Arc::new(update), change).await {
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
        let mut claimed = self.store.claim(&self.instance, now, until, ROUND).await.map_err(store_error)?;
        claimed.sort_by(|a, b| a.backend.cmp(&b.backend));
        let (mut settled, mut round) = (0, Round::default());
        for operation in claimed {
            let finding = match self.look_into(&operation, &mut round).await {
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

    async fn look_into(&self, operation: &Operation, round: &mut Round) -> Result<Finding> {
        if is_own_record(operation) {
            // whoever began it cannot end it any more: it has another fence
            let summary = "interrupted: the record was not changed".to_owned();
            return Ok(Finding::NotPerformed { summary, change: None, evidence: Vec::new() });
        }
        let found = self.runtime.load().backends.get(operation.backend.as_str()).cloned();
        let Some(backend) = found else {
            return Ok(Finding::Later {
                why: "its backend is not in the configuration".to_owned(),
                at: now_ms().saturating_add(millis(LONGEST_WAIT)),
                evidence: Vec::new(),
            });
        };
        match operation.action {
            Action::Create => self.look_for_created(operation, &backend, round).await,
            Action::Update => self.look_at_updated(operation, &backend).await,
            Action::Delete => self.look_for_deleted(operation, &backend).await,
            Action::Rotate => Ok(Finding::Person {
                why: "no vendor shows which secret is valid; issue a new one, which settles this".to_owned(),
                evidence: Vec::new(),
            }),
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
                let summary = summary.into();
                (OperationUpdate { state, outcome: Outcome::Performed, summary, ..unknown(operation, now) }, change)
            }
            Finding::NotPerformed { summary, change, evidence } => {
                add(evidence);
                let state = OperationState::Failed;
                let update = OperationUpdate {
                    state,
                    outcome: Outcome::NotPerformed,
                    summary: summary.into(),
                    release_key: true,
                    refund: Kept::paid_by(operation),
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
        match self.store.finish(Arc::new(update), change).await {
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
                self.store.finish(Arc::new(again), None).await.map(|()| false).map_err(store_error)
            }
            Err(error) => Err(store_error(error)),
        }
    }
}

fn is_own_record(operation: &Operation) -> bool {
    operation.evidence.get(OWN_RECORD).is_some()
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
    let (state, outcome) = (OperationState::Unknown, Outcome::Unknown);
    OperationUpdate {
        evidence: operation.evidence.clone().into(),
        retry_at,
        ..OperationUpdate::of(operation, state, outcome, operation.summary.clone(), now_ms())
    }
}
