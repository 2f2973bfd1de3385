//! The registry and the journal, behind one port: SQLite for one process, memory for trying things out.
//!
//! Every write is durable when its future completes (SQLite: WAL, `synchronous=FULL`). The port is engine-neutral, so
//! that another database can be put behind it.

mod cursor;
mod memory;
mod sqlite;
mod types;

use std::{fmt::Debug, path::Path, sync::Arc};

use async_trait::async_trait;
use registrar_model::{OperationId, Registration, RegistrationId};

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use types::{
    Action, ApiKey, Operation, OperationState, OperationUpdate, PageOf, PageRequest, RegistrationChange,
    RegistrationFilter,
};

/// Why the store could not do something. Never holds stored content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now: full, read-only, locked, input or output error.
    #[error("the database cannot be used: {0}")]
    Unavailable(String),
    /// The registration is not at the expected version any more.
    #[error("the registration was changed in the meantime")]
    VersionConflict,
    /// It is there already.
    #[error("it exists already")]
    AlreadyExists,
    /// The database is damaged.
    #[error("the database is damaged: {0}; restore it from a backup")]
    Corrupt(String),
    /// The file is not ours or of a newer version.
    #[error("{0}")]
    Incompatible(String),
    /// The page cursor is not one that the store gave out.
    #[error("the cursor is not valid")]
    BadCursor,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// The port.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Records the intent of a write. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: then nothing may be sent to a vendor.
    async fn begin(&self, operation: Operation) -> Result<(), StoreError>;

    /// Records the result of an operation and what it does to its registration, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`], [`StoreError::AlreadyExists`]: then neither is recorded.
    async fn finish(&self, update: OperationUpdate, change: Option<RegistrationChange>) -> Result<(), StoreError>;

    /// A registration.
    ///
    /// # Errors
    /// A database that does not work.
    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError>;

    /// Registrations, oldest first: following the cursor visits each exactly once, also while others are added.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    async fn registrations(&self, filter: &RegistrationFilter, page: PageRequest) -> Result<PageOf<Registration>, StoreError>;

    /// An operation.
    ///
    /// # Errors
    /// A database that does not work.
    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError>;

    /// Operations, oldest first.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    async fn operations(&self, state: Option<OperationState>, page: PageRequest) -> Result<PageOf<Operation>, StoreError>;

    /// Records an API key.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when the name is taken.
    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError>;

    /// The key with this public id.
    ///
    /// # Errors
    /// A database that does not work.
    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError>;

    /// Every key, by name.
    ///
    /// # Errors
    /// A database that does not work.
    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Forgets a key; true when there was one of this name.
    ///
    /// # Errors
    /// A database that does not work.
    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError>;

    /// Whether writes are possible.
    ///
    /// # Errors
    /// Why not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Finishes what was begun and closes the files. Later calls fail with [`StoreError::Closed`].
    async fn close(&self);
}

/// Opens `sqlite:PATH` or `memory:`.
///
/// # Errors
/// A sentence for the operator: what is wrong with the file and what to do.
pub fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if url == "memory:" {
        return Ok(Arc::new(MemoryStore::default()));
    }
    match url.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(Arc::new(SqliteStore::open(Path::new(path))?)),
        _ => Err(StoreError::Incompatible(
            "the store URL must be \"sqlite:PATH\" or \"memory:\" in this version".to_owned(),
        )),
    }
}
