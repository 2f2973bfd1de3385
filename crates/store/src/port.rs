//! The port: what the gateway needs of a store, whatever the engine.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use registrar_model::{BackendName, OperationId, Registration, RegistrationId};

use crate::{ApiKey, Operation, OperationState, OperationUpdate, StoreError};

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
    /// Records the intent of one write. Nothing may be sent to a vendor before this returned `Ok`.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when there is an operation with this id; [`StoreError::Unavailable`];
    /// [`StoreError::Closed`].
    async fn begin(&self, operation: Operation) -> Result<(), StoreError>;

    /// Records, in one transaction, what became of an operation and what that does to the registry. Only an operation
    /// that is not final can be finished; `state` may be [`OperationState::Unknown`], to be finished again later.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] (the operation, or the registration to update), [`StoreError::AlreadyFinished`],
    /// [`StoreError::VersionConflict`], [`StoreError::AlreadyExists`] (another registration has this id, or this
    /// `client_id` at this backend): then neither was recorded. [`StoreError::Unavailable`]; [`StoreError::Closed`].
    async fn finish(&self, update: OperationUpdate, change: Option<RegistrationChange>) -> Result<(), StoreError>;

    /// One registration.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Unavailable`], [`StoreError::Closed`]; so for every read.
    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError>;

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

    /// Whether the store accepts writes, for readiness; writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Closed`] when it does not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Carries out the writes that were started, then lets go of the store. Later calls fail with
    /// [`StoreError::Closed`]; closing again does nothing.
    async fn close(&self);
}

/// What an operation does to the registry.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistrationChange {
    /// Adds a registration. Shared, because the caller shows what the store keeps.
    Insert(Arc<Registration>),
    /// Replaces the registration with the same id, if it is still at the expected version.
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
        // at most 200: fits
        usize::try_from(self.limit.clamp(1, MAX_PAGE)).unwrap_or(1)
    }
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
