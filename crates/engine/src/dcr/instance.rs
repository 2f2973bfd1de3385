//! One instance of a software: the same `software_id` and `software_version` twice is suspect (RFC 7591 §5).

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use registrar_core::{Error, ErrorKind, Result};
use registrar_model::{ClientMetadata, Issue, IssueCode, Pointer, State};
use registrar_store::{MAX_PAGE, PageRequest, RegistrationFilter};

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
    /// Makes sure that no client of the registry is this version of this software. The whole registry is read: the policy
    /// is for gateways with few registrations.
    ///
    /// # Errors
    /// [`ErrorKind::Validation`] when there is one; a store that does not work.
    pub(super) async fn only_instance(&self, metadata: &ClientMetadata) -> Result<Option<Turn>> {
        let Some(wanted) = software(metadata) else { return Ok(None) };
        let turn = Arc::new(turn(&wanted).lock_owned().await);
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
}

fn duplicate() -> Error {
    let detail =
        "this version of this software is registered already, and one instance of it is allowed (RFC 7591 section 5)";
    Error::new(ErrorKind::Validation, detail).with_issues(vec![Issue {
        pointer: Pointer::root().child("metadata").child("software_id"),
        code: IssueCode::Conflict,
        detail: detail.to_owned(),
    }])
}
