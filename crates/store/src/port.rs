//! The port: what the gateway needs of a store, whatever the engine.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use registrar_model::{BackendName, ClientId, OperationId, Registration, RegistrationId};

use crate::{ApiKey, InitialAccessToken, Operation, OperationState, OperationUpdate, Sealed, StoreError};

/// The largest page of a list.
pub const MAX_PAGE: u32 = 200;

/// The registry and the journal.
///
/// A write that returned `Ok` survives a crash of the process and of the machine (except in [`MemoryStore`], which
/// survives neither), and every later read sees it. A write that failed with [`StoreError::Unavailable`], or whose
/// future was dropped, may still be recorded, if need be after a restart; one that failed with any other error was not.
///
/// [`MemoryStore`]: crate::MemoryStore
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Records, in one transaction, the intent of one write, the idempotency key that it is the first to use, and the use
    /// of an initial access token that it spends. However many ask at once, no more uses are given than there are; a key
    /// that was used before counts first, and spends nothing. Nothing may be sent to a vendor before this returned
    /// [`Begun::New`].
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when there is an operation with this id; [`StoreError::Unavailable`];
    /// [`StoreError::Closed`].
    async fn begin(&self, intent: Intent) -> Result<Begun, StoreError>;

    /// Records, in one transaction, what became of an operation, what that does to the registry, and the use that an
    /// initial access token gets back. Only an operation
    /// that is not final can be finished; `state` may be [`OperationState::Unknown`], to be finished again later. The update
    /// is shared, because the caller tries again with it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] (the operation, or the registration to update), [`StoreError::AlreadyFinished`],
    /// [`StoreError::Superseded`], [`StoreError::VersionConflict`], [`StoreError::AlreadyExists`] (another registration has this id, or this
    /// `client_id` at this backend): then neither was recorded. [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn finish(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError>;

    /// Adds to an operation that has succeeded what only a later answer told: evidence, the secret that it issued, and what
    /// that does to the registry, in one transaction.
    ///
    /// # Errors
    /// As [`Self::finish`]; [`StoreError::AlreadyFinished`] and [`StoreError::Superseded`] when it has not succeeded, or
    /// has another fence.
    async fn amend(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError>;

    /// The use of an idempotency key that is not older than `since` (Unix milliseconds).
    ///
    /// # Errors
    /// As every read.
    async fn key_use(&self, key: &[u8; 32], since: i64) -> Result<Option<KeyUse>, StoreError>;

    /// Takes over operations that are not final and whose lease has ended by `now`, those that have waited longest
    /// first. They are `unknown` from now on, owned by `owner` until `until`, and have a new fence: results of earlier
    /// owners are refused. Times are Unix milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`]; [`StoreError::Corrupt`].
    async fn claim(&self, owner: &str, now: i64, until: i64, limit: u32) -> Result<Vec<Operation>, StoreError>;

    /// The sealed secret of an operation, if its window has not ended by `now`.
    ///
    /// # Errors
    /// As every read.
    async fn sealed(&self, id: OperationId, now: i64) -> Result<Option<Sealed>, StoreError>;

    /// Destroys the sealed secret of an operation; false when there was none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn destroy_sealed(&self, id: OperationId) -> Result<bool, StoreError>;

    /// Destroys sealed secrets whose window has ended by `now`, and forgets keys of final operations used before
    /// `keys_before`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn purge(&self, now: i64, keys_before: i64) -> Result<(), StoreError>;

    /// A value of the gateway as a whole: `proposed` the first time that `name` is asked for, and the same ever after.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn once(&self, name: &'static str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError>;

    /// True when other processes may work on the same store at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// One registration.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Unavailable`], [`StoreError::Closed`]; so for every read.
    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError>;

    /// The registration that has this `client_id` at this backend.
    ///
    /// # Errors
    /// As every read.
    async fn registered(
        &self,
        backend: &BackendName,
        client_id: &ClientId,
    ) -> Result<Option<RegistrationId>, StoreError>;

    /// The registrations that match a filter, oldest id first. Following `next` visits each registration that exists
    /// throughout exactly once, whatever is inserted and removed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] when `page.after` is not a cursor of this list.
    async fn registrations(
        &self,
        filter: &RegistrationFilter,
        page: PageRequest,
    ) -> Result<PageOf<Registration>, StoreError>;

    /// How many clients that were registered openly at a route there are; those that are `disabled` or `gone` are not
    /// counted.
    ///
    /// # Errors
    /// As every read.
    async fn open_clients(&self, route: &str) -> Result<u64, StoreError>;

    /// Notes that a client is used, if it has not expired by `now` (Unix milliseconds): from now on it does not. Its
    /// version and its times stay as they are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn used(&self, id: RegistrationId, now: i64) -> Result<Usage, StoreError>;

    /// The active clients whose `unused_until` is not later than `until` (Unix milliseconds), earliest first, after that
    /// one; at most `limit`, which is brought into 1 to [`MAX_PAGE`].
    ///
    /// # Errors
    /// As every read.
    async fn unused(&self, until: i64, after: Option<Unused>, limit: u32) -> Result<Vec<Unused>, StoreError>;

    /// One operation.
    ///
    /// # Errors
    /// As every read.
    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError>;

    /// The operations in a state, or all, oldest id first.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] when `page.after` is not a cursor of this list.
    async fn operations(
        &self,
        state: Option<OperationState>,
        page: PageRequest,
    ) -> Result<PageOf<Operation>, StoreError>;

    /// Adds an API key.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when its id or its name is taken.
    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError>;

    /// The API key with this id.
    ///
    /// # Errors
    /// As every read.
    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError>;

    /// All API keys, by name.
    ///
    /// # Errors
    /// As every read.
    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Removes the API key of this name; false when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError>;

    /// Adds an initial access token.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when its id is taken.
    async fn put_initial_access_token(&self, token: InitialAccessToken) -> Result<(), StoreError>;

    /// The initial access token with this id.
    ///
    /// # Errors
    /// As every read.
    async fn initial_access_token(&self, id: &str) -> Result<Option<InitialAccessToken>, StoreError>;

    /// All initial access tokens, oldest first.
    ///
    /// # Errors
    /// As every read.
    async fn initial_access_tokens(&self) -> Result<Vec<InitialAccessToken>, StoreError>;

    /// Removes an initial access token; false when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn delete_initial_access_token(&self, id: &str) -> Result<bool, StoreError>;

    /// Whether the store accepts writes, for readiness; writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Closed`] when it does not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Carries out the writes that were started, then lets go of the store. Later calls fail with
    /// [`StoreError::Closed`]; closing again does nothing.
    async fn close(&self);
}

/// What [`Store::begin`] records.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// The operation, pending. Shared, because the caller goes on with it.
    pub operation: Arc<Operation>,
    /// The idempotency key of the request, if it has one.
    pub key: Option<KeyClaim>,
    /// The use of an initial access token that the operation spends, if it spends one.
    pub spend: Option<Spending>,
}

/// One use of an initial access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spending {
    /// The id of the token.
    pub token: String,
    /// Unix milliseconds; a token that has ended by this time is not spent.
    pub now: i64,
}

/// The use of an idempotency key by a new operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyClaim {
    /// A hash of the key and of whose it is.
    pub key: [u8; 32],
    /// A hash of the request.
    pub fingerprint: [u8; 32],
    /// Unix milliseconds; a use of the key before this time counts no more.
    pub since: i64,
}

/// An earlier use of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The operation that used it first.
    pub operation: OperationId,
    /// The hash of that request.
    pub fingerprint: [u8; 32],
}

/// What became of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is durable.
    New,
    /// Nothing was recorded: the key was used before.
    Used(KeyUse),
    /// Nothing was recorded: the initial access token has no use left, has ended, or does not exist.
    Spent,
}

/// What became of the note that a client is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It does not expire, now or anyway.
    Noted,
    /// Too late.
    Expired,
    /// There is no such client.
    Missing,
}

/// A client that expires unless it is used; ordered by when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unused {
    /// When, in Unix milliseconds.
    pub until: i64,
    /// Which.
    pub id: RegistrationId,
}

/// What an operation does to the registry.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistrationChange {
    /// Adds a registration. Shared, because the caller shows what the store keeps.
    Insert(Arc<Registration>),
    /// Replaces the registration with the same id, if it is still at the expected version. Of `unused_until` only the
    /// absence is taken over: a use that was noted meanwhile, which changes no version, must not be undone.
    Update {
        /// The new content, written as it is; its `version` is to be larger than the expected one.
        registration: Arc<Registration>,
        /// The version that the change was made from.
        expected_version: u64,
    },
    /// Removes a registration; the operation remains as the record of it. Removing one that is gone is not an error.
    Remove {
        /// Which.
        id: RegistrationId,
    },
}

/// Which registrations a list shows. The default shows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationFilter {
    /// Only of this backend.
    pub backend: Option<BackendName>,
    /// Only with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only where `client_name` or `client_id` contains this text, in whatever case.
    pub q: Option<String>,
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many items at most; brought into 1 to [`MAX_PAGE`].
    pub limit: u32,
    /// The `next` of the page before; the first page when absent.
    pub after: Option<String>,
}

impl PageRequest {
    /// The limit in effect.
    pub(crate) fn size(&self) -> usize {
        page_size(self.limit)
    }
}

/// A limit in effect.
pub(crate) fn page_size(limit: u32) -> usize {
    // at most 200: fits
    usize::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or(1)
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts, if there is one: an opaque, URL-safe token.
    pub next: Option<String>,
}

impl<T> PageOf<T> {
    /// A page from up to one item more than it may have.
    pub(crate) fn from_excess(mut items: Vec<T>, size: usize, cursor: impl FnOnce(&T) -> String) -> Self {
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

impl PageOf<Registration> {
    /// Ends the page after so many items, at least one; the next page begins with the first that is left out.
    pub fn end_after(&mut self, count: usize) {
        if count.max(1) < self.items.len() {
            self.items.truncate(count.max(1));
            self.next = self.items.last().map(|last| crate::cursor::encode(&last.id));
        }
    }
}
