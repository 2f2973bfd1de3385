//! Which new clients their vendor has shown already: from then on it does not need time to show them.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use registrar_model::RegistrationId;

/// A cap: what is forgotten is given its time again, which is a matter of seconds.
const ROOM: usize = 65_536;

/// Clients that a read has shown since this process began.
#[derive(Debug, Default)]
pub(crate) struct Sightings(Mutex<HashSet<RegistrationId>>);

impl Sightings {
    pub(crate) fn note(&self, id: RegistrationId) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= ROOM {
            seen.clear();
        }
        seen.insert(id);
    }

    pub(crate) fn has(&self, id: RegistrationId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}
