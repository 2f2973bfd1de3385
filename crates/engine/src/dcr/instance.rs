//! One instance of a software: the same `software_id` and `software_version` twice is suspect (RFC 7591 §5).

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use registrar_core::{Error, ErrorKind, Result};
use registrar_model::{ClientMetadata, Issue, IssueCode, Pointer, RegistrationId, State};
use registrar_store::{MAX_PAGE, Operation, OperationState, PageRequest, RegistrationFilter};
use serde::Deserialize;

use crate::engine::{Engine, store_error};

/// A `software_id` and the `software_version` with it. Versions are compared as strings (RFC 7591 §2); two that are left
/// out are equal, or leaving it out would be a way around.
type Software = (String, Option<String>);

/// Held from the look into the registry until the registration is in it: in this process no two clients of one software
/// are registered at once.
pub(crate) type Turn = Arc<tokio::sync::OwnedMutexGuard<()>>;

static TURNS: LazyLock<Mutex<HashMap<Software, Weak<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);

fn turn(software: &Software) -> Arc<tokio::sync::Mutex<()>> {
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(turn) = turns.get(software).and_then(Weak::upgrade) {
        return turn;
    }
    turns.retain(|_, turn| turn.strong_count() > 0);
    let turn = Arc::default();
    turns.insert(software.clone(), Arc::downgrade(&turn));
    turn
}

fn software(metadata: &ClientMetadata) -> Option<Software> {
    Some((metadata.software_id.clone()?, metadata.software_version.clone()))
}

/// Whether an update leaves the software what it is.
pub(super) fn is_same_software(a: &ClientMetadata, b: &ClientMetadata) -> bool {
    software(a) == software(b)
}

impl Engine {
    /// Makes sure that no client of the registry is this version of this software, and none may turn out to be. The whole
    /// registry is read: the policy is for gateways with few registrations. `own` is the client that is to become it.
    ///
    /// # Errors
    /// [`ErrorKind::Validation`] when there is one; a store that does not work.
    pub(super) async fn only_instance(
        &self,
        metadata: &ClientMetadata,
        own: Option<RegistrationId>,
    ) -> Result<Option<Turn>> {
        let Some(wanted) = software(metadata) else { return Ok(None) };
        let turn = Arc::new(turn(&wanted).lock_owned().await);
        // before the registry: what is settled in between is in the registry then
        if self.may_become(&wanted, own).await? {
            return Err(unsettled());
        }
        let mut after = None;
        loop {
            let page = PageRequest { limit: MAX_PAGE, after };
            let page = self.store.registrations(&RegistrationFilter::default(), page).await.map_err(store_error)?;
            let is_same = |r: &registrar_model::Registration| {
                r.state != State::Gone && software(&r.spec.metadata).as_ref() == Some(&wanted)
            };
            if page.items.iter().any(is_same) {
                return Err(duplicate());
            }
            after = page.next;
            if after.is_none() {
                return Ok(Some(turn));
            }
        }
    }

    /// Whether a write that is not settled asks for this software: of another process, of an administrator, or one whose
    /// answer was lost or not recorded. If the vendor has done it, its result is recorded later.
    async fn may_become(&self, wanted: &Software, own: Option<RegistrationId>) -> Result<bool> {
        let is_it = |o: &Operation| (own.is_none() || o.registration != own) && asked(o).as_ref() == Some(wanted);
        // pending first: what becomes unknown in between is seen there
        Ok(self.any_operation(OperationState::Pending, is_it).await?
            || self.any_operation(OperationState::Unknown, is_it).await?)
    }

    /// Whether an operation in this state is such a one. Operations that are not settled are few.
    pub(crate) async fn any_operation(
        &self,
        state: OperationState,
        is_it: impl Fn(&Operation) -> bool + Send,
    ) -> Result<bool> {
        let mut after = None;
        loop {
            let page = PageRequest { limit: MAX_PAGE, after };
            let page = self.store.operations(Some(state), page).await.map_err(store_error)?;
            if page.items.iter().any(&is_it) {
                return Ok(true);
            }
            after = page.next;
            if after.is_none() {
                return Ok(false);
            }
        }
    }
}

/// The software that an operation is to make a client of.
fn asked(operation: &Operation) -> Option<Software> {
    #[derive(Deserialize)]
    struct Asked {
        metadata: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        software_id: Option<String>,
        software_version: Option<String>,
    }
    let Asked { metadata } = serde_json::from_str(operation.desired.as_deref()?).ok()?;
    Some((metadata.software_id?, metadata.software_version))
}

fn duplicate() -> Error {
    refusal(
        "this version of this software is registered already, and one instance of it is allowed (RFC 7591 section 5)",
    )
}

fn unsettled() -> Error {
    refusal(
        "a registration of this version of this software is not settled yet, and one instance of it is allowed (RFC 7591 \
         section 5); ask again later",
    )
}

fn refusal(detail: &'static str) -> Error {
    Error::new(ErrorKind::Validation, detail).with_issues(vec![Issue {
        pointer: Pointer::root().child("metadata").child("software_id"),
        code: IssueCode::Conflict,
        detail: detail.to_owned(),
    }])
}
