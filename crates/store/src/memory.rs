//! Everything in memory: for tests, trying out and benchmarks. Nothing survives the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use registrar_model::{OperationId, Registration, RegistrationId};

use crate::{
    ApiKey, Operation, OperationState, OperationUpdate, PageOf, PageRequest, RegistrationChange, RegistrationFilter, Store,
    StoreError, cursor, types::search_text,
};

/// The store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    registrations: BTreeMap<RegistrationId, Registration>,
    /// `(backend, client_id)` of every registration.
    clients: std::collections::HashSet<(String, String)>,
    operations: BTreeMap<OperationId, Operation>,
    keys: BTreeMap<String, ApiKey>,
    closed: bool,
}

impl MemoryStore {
    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(StoreError::Closed) } else { Ok(state) }
    }
}

fn client_key(r: &Registration) -> (String, String) {
    (r.backend.to_string(), r.client_id.to_string())
}

#[async_trait]
impl Store for MemoryStore {
    async fn begin(&self, operation: Operation) -> Result<(), StoreError> {
        let mut state = self.open()?;
        if state.operations.contains_key(&operation.id) {
            return Err(StoreError::AlreadyExists);
        }
        state.operations.insert(operation.id, operation);
        Ok(())
    }

    async fn finish(&self, update: OperationUpdate, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        let mut state = self.open()?;
        match change {
            None => {}
            Some(RegistrationChange::Insert(registration)) => {
                if state.registrations.contains_key(&registration.id) || !state.clients.insert(client_key(&registration)) {
                    return Err(StoreError::AlreadyExists);
                }
                state.registrations.insert(registration.id, registration);
            }
            Some(RegistrationChange::Update { registration, expected_version }) => {
                match state.registrations.get_mut(&registration.id) {
                    Some(current) if current.version == expected_version => *current = registration,
                    _ => return Err(StoreError::VersionConflict),
                }
            }
            Some(RegistrationChange::Remove { id }) => {
                if let Some(gone) = state.registrations.remove(&id) {
                    state.clients.remove(&client_key(&gone));
                }
            }
        }
        if let Some(operation) = state.operations.get_mut(&update.id) {
            operation.state = update.state;
            operation.outcome = update.outcome;
            operation.summary = update.summary;
            operation.updated_at = update.updated_at;
            operation.attempts = update.attempts;
            operation.evidence = update.evidence;
        }
        Ok(())
    }

    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        Ok(self.open()?.registrations.get(&id).cloned())
    }

    async fn registrations(&self, filter: &RegistrationFilter, page: PageRequest) -> Result<PageOf<Registration>, StoreError> {
        let after = cursor::read::<RegistrationId>(page.after.as_deref())?;
        let q = filter.q.as_ref().map(|q| q.to_lowercase());
        let state = self.open()?;
        let matching = state.registrations.values().filter(|r| {
            after.is_none_or(|after| r.id > after)
                && filter.backend.as_ref().is_none_or(|b| *b == r.backend)
                && filter.labels.iter().all(|(k, v)| r.labels.get(k) == Some(v))
                && q.as_ref().is_none_or(|q| search_text(r).contains(q.as_str()))
        });
        Ok(take(matching, page.limit, |r| r.id.to_string()))
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        Ok(self.open()?.operations.get(&id).cloned())
    }

    async fn operations(&self, state: Option<OperationState>, page: PageRequest) -> Result<PageOf<Operation>, StoreError> {
        let after = cursor::read::<OperationId>(page.after.as_deref())?;
        let stored = self.open()?;
        let matching = stored
            .operations
            .values()
            .filter(|o| after.is_none_or(|after| o.id > after) && state.is_none_or(|state| o.state == state));
        Ok(take(matching, page.limit, |o| o.id.to_string()))
    }

    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError> {
        let mut state = self.open()?;
        if state.keys.contains_key(&key.name) {
            return Err(StoreError::AlreadyExists);
        }
        state.keys.insert(key.name.clone(), key);
        Ok(())
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.open()?.keys.values().find(|k| k.id == id).cloned())
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        Ok(self.open()?.keys.values().cloned().collect())
    }

    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.open()?.keys.remove(name).is_some())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.open().map(|_| ())
    }

    async fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }
}

/// The first `limit` items and the cursor after them, when there are more.
fn take<'a, T: Clone + 'a>(items: impl Iterator<Item = &'a T>, limit: u32, id: impl Fn(&T) -> String) -> PageOf<T> {
    let limit = usize::try_from(limit.clamp(1, 200)).unwrap_or(200);
    let mut items: Vec<T> = items.take(limit + 1).cloned().collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| cursor::after(&id(last)));
    PageOf { items, next }
}
