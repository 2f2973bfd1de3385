//! Operations that are not final, as a whole: what is open at a client, and what a newer success closes.

use std::sync::Arc;

use registrar_core::Outcome;
use registrar_store::{Action, Operation, OperationState, OperationUpdate, PageRequest, StoreError};
use serde_json::json;

use crate::{clock::now_ms, engine::Engine, journal::merged};

impl Engine {
    /// Shows every operation in a state, a page at a time.
    pub(crate) async fn each_in(
        &self,
        state: OperationState,
        mut show: impl FnMut(Operation) + Send,
    ) -> Result<(), StoreError> {
        let mut page = PageRequest { limit: registrar_store::MAX_PAGE, after: None };
        loop {
            let found = self.store.operations(Some(state), page.clone()).await?;
            found.items.into_iter().for_each(&mut show);
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Whether anything else at the client of an operation is open, but for actions of these kinds.
    pub(crate) async fn others_are_open(&self, operation: &Operation, but: &[Action]) -> Result<bool, StoreError> {
        let mut any = false;
        for state in [OperationState::Pending, OperationState::Unknown] {
            self.each_in(state, |o| {
                any |= o.id != operation.id && o.registration == operation.registration && !but.contains(&o.action);
            })
            .await?;
        }
        Ok(any)
    }

    /// Earlier writes to the same client whose outcome is unknown, and which a newer success has made irrelevant.
    pub(crate) async fn supersede(&self, newer: &Operation, actions: &[Action]) {
        let mut open = Vec::new();
        let found = self.each_in(OperationState::Unknown, |o| {
            if o.registration == newer.registration && o.id != newer.id && actions.contains(&o.action) {
                open.push(o);
            }
        });
        if let Err(error) = found.await {
            tracing::warn!(operation = %newer.id, %error, "earlier unknown writes to the client stay open");
        }
        for old in open {
            let summary = format!("its outcome was never found out; {} has replaced whatever it left", newer.id);
            let update = OperationUpdate {
                evidence: merged(&old.evidence, "superseded_by", json!(newer.id)).into(),
                ..OperationUpdate::of(&old, OperationState::Failed, Outcome::Unknown, summary, now_ms())
            };
            match self.store.finish(Arc::new(update), None).await {
                Ok(()) | Err(StoreError::AlreadyFinished | StoreError::Superseded) => {}
                Err(error) => tracing::warn!(operation = %old.id, %error, "not closed"),
            }
        }
    }
}
