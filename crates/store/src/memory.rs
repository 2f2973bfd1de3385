//! The store in memory: nothing survives the process.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use registrar_model::{BackendName, ClientId, OperationId, Registration, RegistrationId, State};

use crate::{
    ApiKey, Begun, InitialAccessToken, Intent, KeyUse, Lease, Operation, OperationState, OperationUpdate, PageOf,
    PageRequest, RegistrationChange, RegistrationFilter, Sealed, Spending, Store, StoreError, Unused, Usage, cursor,
    error::Trouble, port::page_size, search,
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
    /// With the time of the use.
    keys: HashMap<[u8; 32], (KeyUse, i64)>,
    sealed: HashMap<OperationId, Sealed>,
    gateway: HashMap<&'static str, Vec<u8>>,
    initial_access_tokens: BTreeMap<String, InitialAccessToken>,
}

impl Tables {
    fn key_use(&self, key: &[u8; 32], since: i64) -> Option<KeyUse> {
        self.keys.get(key).filter(|(_, at)| *at >= since).map(|(used, _)| *used)
    }

    /// Records what became of an operation whose state is fit for it.
    fn record(
        &mut self,
        update: Arc<OperationUpdate>,
        change: Option<RegistrationChange>,
        fit: impl Fn(OperationState) -> bool,
    ) -> Result<(), StoreError> {
        let tables = self;
        let operation = tables.operations.get_mut(&update.id).ok_or(StoreError::NotFound("operation"))?;
        if !fit(operation.state) && operation.state.is_final() {
            return Err(StoreError::AlreadyFinished);
        }
        if !fit(operation.state) || operation.lease.fence != update.fence {
            return Err(StoreError::Superseded);
        }
        if let Some(change) = &change {
            tables.registry.check(change)?;
        }
        let OperationUpdate {
            id,
            state,
            outcome,
            summary,
            updated_at,
            attempts,
            evidence,
            fence: _,
            sealed,
            release_key,
            refund,
            retry_at,
        } = Arc::unwrap_or_clone(update);
        operation.state = state;
        operation.outcome = outcome;
        operation.updated_at = updated_at;
        operation.summary = summary;
        operation.attempts = attempts;
        operation.evidence = evidence.value();
        operation.lease.until = retry_at;
        if state.is_final() {
            operation.desired = None;
            operation.lease.owner = Arc::default();
        }
        if let Some(sealed) = sealed {
            tables.sealed.insert(id, sealed);
        }
        if release_key {
            tables.keys.retain(|_, (used, _)| used.operation != id);
        }
        if let Some(token) = refund.and_then(|id| tables.initial_access_tokens.get_mut(&id)) {
            token.uses_left = token.uses_left.map(|left| left.saturating_add(1));
        }
        if let Some(change) = change {
            tables.registry.apply(change);
        }
        Ok(())
    }
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
                let mut registration = Arc::unwrap_or_clone(registration);
                if let Some(old) = self.registrations.get(&id) {
                    self.clients.remove(&client_key(old));
                    registration.hidden.unused_until = registration.hidden.unused_until.and(old.hidden.unused_until);
                }
                self.registrations.insert(id, registration);
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
    async fn begin(&self, intent: Intent) -> Result<Begun, StoreError> {
        let mut tables = self.tables()?;
        let tables = &mut *tables;
        let Intent { operation, key, spend } = intent;
        if tables.operations.contains_key(&operation.id) {
            return Err(StoreError::AlreadyExists);
        }
        if let Some(taken) = key.and_then(|claim| tables.key_use(&claim.key, claim.since)) {
            return Ok(Begun::Used(taken));
        }
        if let Some(Spending { token, now }) = spend {
            let usable = tables.initial_access_tokens.get_mut(&token).filter(|token| token.is_usable(now));
            let Some(token) = usable else { return Ok(Begun::Spent) };
            token.uses_left = token.uses_left.map(|left| left.saturating_sub(1));
        }
        if let Some(claim) = key {
            let used = KeyUse { operation: operation.id, fingerprint: claim.fingerprint };
            tables.keys.insert(claim.key, (used, operation.created_at));
        }
        tables.operations.insert(operation.id, Arc::unwrap_or_clone(operation));
        Ok(Begun::New)
    }

    async fn finish(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        self.tables()?.record(update, change, |state| !state.is_final())
    }

    async fn amend(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        self.tables()?.record(update, change, |state| state == OperationState::Succeeded)
    }

    async fn key_use(&self, key: &[u8; 32], since: i64) -> Result<Option<KeyUse>, StoreError> {
        Ok(self.tables()?.key_use(key, since))
    }

    async fn claim(&self, owner: &str, now: i64, until: i64, limit: u32) -> Result<Vec<Operation>, StoreError> {
        let mut tables = self.tables()?;
        let mut due: Vec<&mut Operation> =
            tables.operations.values_mut().filter(|o| !o.state.is_final() && o.lease.until <= now).collect();
        due.sort_by_key(|o| (o.lease.until, o.id));
        let claimed = due.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).map(|operation| {
            operation.state = OperationState::Unknown;
            operation.lease = Lease { owner: owner.into(), until, fence: operation.lease.fence + 1 };
            operation.clone()
        });
        Ok(claimed.collect())
    }

    async fn sealed(&self, id: OperationId, now: i64) -> Result<Option<Sealed>, StoreError> {
        Ok(self.tables()?.sealed.get(&id).filter(|sealed| sealed.until > now).cloned())
    }

    async fn destroy_sealed(&self, id: OperationId) -> Result<bool, StoreError> {
        Ok(self.tables()?.sealed.remove(&id).is_some())
    }

    async fn purge(&self, now: i64, keys_before: i64) -> Result<(), StoreError> {
        let mut tables = self.tables()?;
        let Tables { sealed, keys, operations, .. } = &mut *tables;
        sealed.retain(|_, sealed| sealed.until > now);
        let open = |id: &OperationId| operations.get(id).is_some_and(|o| !o.state.is_final());
        keys.retain(|_, (used, at)| *at >= keys_before || open(&used.operation));
        Ok(())
    }

    async fn once(&self, name: &'static str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        Ok(self.tables()?.gateway.entry(name).or_insert(proposed).clone())
    }

    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        Ok(self.tables()?.registry.registrations.get(&id).cloned())
    }

    async fn registered(
        &self,
        backend: &BackendName,
        client_id: &ClientId,
    ) -> Result<Option<RegistrationId>, StoreError> {
        Ok(self.tables()?.registry.clients.get(&(backend.clone(), client_id.clone())).copied())
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

    async fn open_clients(&self, route: &str) -> Result<u64, StoreError> {
        let lives = |row: &&Registration| matches!(row.state, State::Active | State::Unknown);
        let tables = self.tables()?;
        let rows = tables.registry.registrations.values().filter(|row| row.hidden.open_route.as_deref() == Some(route));
        Ok(rows.filter(lives).fold(0, |count, _| count + 1))
    }

    async fn used(&self, id: RegistrationId, now: i64) -> Result<Usage, StoreError> {
        let mut tables = self.tables()?;
        let Some(row) = tables.registry.registrations.get_mut(&id) else { return Ok(Usage::Missing) };
        if row.hidden.unused_until.is_some_and(|until| until <= now) {
            return Ok(Usage::Expired);
        }
        row.hidden.unused_until = None;
        Ok(Usage::Noted)
    }

    async fn unused(&self, until: i64, after: Option<Unused>, limit: u32) -> Result<Vec<Unused>, StoreError> {
        let tables = self.tables()?;
        let rows = tables.registry.registrations.values().filter(|row| row.state == State::Active);
        let mut found: Vec<Unused> = rows
            .filter_map(|row| Some(Unused { until: row.hidden.unused_until?, id: row.id }))
            .filter(|row| row.until <= until && after.is_none_or(|after| *row > after))
            .collect();
        found.sort_unstable();
        found.truncate(page_size(limit));
        Ok(found)
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

    async fn put_initial_access_token(&self, token: InitialAccessToken) -> Result<(), StoreError> {
        let mut tables = self.tables()?;
        if tables.initial_access_tokens.contains_key(&token.id) {
            return Err(StoreError::AlreadyExists);
        }
        tables.initial_access_tokens.insert(token.id.clone(), token);
        Ok(())
    }

    async fn initial_access_token(&self, id: &str) -> Result<Option<InitialAccessToken>, StoreError> {
        Ok(self.tables()?.initial_access_tokens.get(id).cloned())
    }

    async fn initial_access_tokens(&self) -> Result<Vec<InitialAccessToken>, StoreError> {
        let mut tokens: Vec<InitialAccessToken> = self.tables()?.initial_access_tokens.values().cloned().collect();
        tokens.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(tokens)
    }

    async fn delete_initial_access_token(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.tables()?.initial_access_tokens.remove(id).is_some())
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
