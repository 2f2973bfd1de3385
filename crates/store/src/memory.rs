//! The store in memory: nothing survives the process.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use registrar_model::{BackendName, ClientId, OperationId, Registration, RegistrationId};

use crate::{
    ApiKey, Operation, OperationState, OperationUpdate, PageOf, PageRequest, RegistrationChange, RegistrationFilter,
    Store, StoreError, cursor, error::Trouble, search,
};

/// A store for tests, demonstrations and benchmarks.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    closed: bool,
    registry: Registry,
    operations: BTreeMap<OperationId, Operation>,
    api_keys: BTreeMap<String, ApiKey>,
}

#[derive(Debug, Default)]
struct Registry {
    registrations: BTreeMap<RegistrationId, Registration>,
    /// `client_id` is unique within a backend.
    clients: HashMap<(BackendName, ClientId), RegistrationId>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        let tables = self.tables.lock().map_err(|_: PoisonError<_>| StoreError::Unavailable(Trouble::Stopped))?;
        if tables.closed { Err(StoreError::Closed) } else { Ok(tables) }
    }
}

impl Registry {
    /// Refuses a change that cannot be made, before anything is touched: the transaction of this store.
    fn check(&self, change: &RegistrationChange) -> Result<(), StoreError> {
        let registration = match change {
            RegistrationChange::Insert(new) if self.registrations.contains_key(&new.id) => {
                return Err(StoreError::AlreadyExists);
            }
            RegistrationChange::Insert(new) => new,
            RegistrationChange::Update { registration, expected_version } => {
                let found =
                    self.registrations.get(&registration.id).ok_or(StoreError::NotFound("registration"))?.version;
                if found != *expected_version {
                    return Err(StoreError::VersionConflict);
                }
                registration
            }
            RegistrationChange::Remove { .. } => return Ok(()),
        };
        match self.clients.get(&client_key(registration)) {
            Some(owner) if *owner != registration.id => Err(StoreError::AlreadyExists),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, change: RegistrationChange) {
        match change {
            RegistrationChange::Insert(registration) | RegistrationChange::Update { registration, .. } => {
                let key = client_key(&registration);
                let id = registration.id;
                if let Some(old) = self.registrations.insert(id, Arc::unwrap_or_clone(registration)) {
                    self.clients.remove(&client_key(&old));
                }
                self.clients.insert(key, id);
            }
            RegistrationChange::Remove { id } => {
                if let Some(old) = self.registrations.remove(&id) {
                    self.clients.remove(&client_key(&old));
                }
            }
        }
    }
}

fn client_key(registration: &Registration) -> (BackendName, ClientId) {
    (registration.backend.clone(), registration.client_id.clone())
}

/// The page of a table's rows that match.
fn page_of<I: cursor::Keyed + Ord, T: Clone>(
    table: &BTreeMap<I, T>,
    page: &PageRequest,
    matches: impl Fn(&T) -> bool,
    id: impl Fn(&T) -> I,
) -> Result<PageOf<T>, StoreError> {
    let start = cursor::after::<I>(page)?.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = table.range((start, Bound::Unbounded)).map(|(_, row)| row).filter(|row| matches(row));
    let items = rows.take(page.size() + 1).cloned().collect();
    Ok(PageOf::from_excess(items, page.size(), |last| cursor::encode(&id(last))))
}

#[async_trait]
impl Store for MemoryStore {
    async fn begin(&self, operation: Operation) -> Result<(), StoreError> {
        let mut tables = self.tables()?;
        if tables.operations.contains_key(&operation.id) {
            return Err(StoreError::AlreadyExists);
        }
        tables.operations.insert(operation.id, operation);
        Ok(())
    }

    async fn finish(&self, update: OperationUpdate, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        let mut tables = self.tables()?;
        let tables = &mut *tables;
        let operation = tables.operations.get_mut(&update.id).ok_or(StoreError::NotFound("operation"))?;
        if operation.state.is_final() {
            return Err(StoreError::AlreadyFinished);
        }
        if let Some(change) = &change {
            tables.registry.check(change)?;
        }
        let OperationUpdate { id: _, state, outcome, summary, updated_at, attempts, evidence } = update;
        operation.state = state;
        operation.outcome = outcome;
        operation.updated_at = updated_at;
        operation.summary = summary;
        operation.attempts = attempts;
        operation.evidence = evidence;
        if let Some(change) = change {
            tables.registry.apply(change);
        }
        Ok(())
    }

    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        Ok(self.tables()?.registry.registrations.get(&id).cloned())
    }

    async fn registrations(
        &self,
        filter: &RegistrationFilter,
        page: PageRequest,
    ) -> Result<PageOf<Registration>, StoreError> {
        let q = filter.q.as_deref().filter(|q| !q.is_empty()).map(search::fold);
        let matches = |row: &Registration| {
            filter.backend.as_ref().is_none_or(|backend| *backend == row.backend)
                && filter.labels.iter().all(|(key, value)| row.labels.get(key) == Some(value))
                && q.as_ref().is_none_or(|q| search::haystack(row).contains(q))
        };
        page_of(&self.tables()?.registry.registrations, &page, matches, |row| row.id)
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        Ok(self.tables()?.operations.get(&id).cloned())
    }

    async fn operations(
        &self,
        state: Option<OperationState>,
        page: PageRequest,
    ) -> Result<PageOf<Operation>, StoreError> {
        let matches = |row: &Operation| state.is_none_or(|state| state == row.state);
        page_of(&self.tables()?.operations, &page, matches, |row| row.id)
    }

    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError> {
        let mut tables = self.tables()?;
        if tables.api_keys.values().any(|other| other.id == key.id || other.name == key.name) {
            return Err(StoreError::AlreadyExists);
        }
        tables.api_keys.insert(key.id.clone(), key);
        Ok(())
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.tables()?.api_keys.get(id).cloned())
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let mut keys: Vec<ApiKey> = self.tables()?.api_keys.values().cloned().collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError> {
        let mut tables = self.tables()?;
        let before = tables.api_keys.len();
        tables.api_keys.retain(|_, key| key.name != name);
        Ok(tables.api_keys.len() < before)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.tables().map(|_| ())
    }

    async fn close(&self) {
        if let Ok(mut tables) = self.tables() {
            tables.closed = true;
        }
    }
}
