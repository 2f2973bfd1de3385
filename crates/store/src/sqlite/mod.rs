//! SQLite: WAL, `synchronous=FULL`, one writer thread that commits what has queued up together, readers of their own.

mod migrate;
mod read;
mod rows;
mod writer;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use registrar_model::{OperationId, Registration, RegistrationId};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use self::{
    read::Readers,
    writer::{Job, Writer},
};
use crate::{
    ApiKey, Operation, OperationState, OperationUpdate, PageOf, PageRequest, RegistrationChange, RegistrationFilter, Store,
    StoreError,
};

/// The store.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens or makes the database file.
    ///
    /// # Errors
    /// When the folder is missing, the file is damaged, of another program or of a newer version, or not writable.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(StoreError::Unavailable(format!("the folder {} does not exist; create it", folder.display())));
        }
        create_private(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        check(&connection, path)?;
        migrate::run(&mut connection, path)?;
        let readers = Readers::open(path)?;
        Ok(Self { path: path.to_owned(), writer: Writer::start(connection)?, readers })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The file holds hashes of keys and who may register what: for its owner only.
#[cfg(unix)]
fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    made.map(|_| ()).map_err(|e| StoreError::Unavailable(format!("{} cannot be opened for writing: {e}", path.display())))
}

#[cfg(not(unix))]
fn create_private(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(error)?;
    // a second process (`registrar keys create`) may hold the lock for a moment
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(error)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection
        .execute_batch("PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF;")
        .map_err(error)?;
    Ok(connection)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(error)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StoreError::Unavailable(format!("{} cannot use a write-ahead log (mode is {mode})", path.display())));
    }
    connection.execute_batch("PRAGMA synchronous = FULL;").map_err(error)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(error)?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Corrupt(path.display().to_string())) }
}

/// A database error in words, without SQL or content.
fn error(error: rusqlite::Error) -> StoreError {
    let code = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure),
        _ => None,
    };
    let words = match code.map(|c| c.code) {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "the file is read-only",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process holds its lock",
        Some(ErrorCode::SystemIoFailure) => "reading or writing failed",
        Some(ErrorCode::CannotOpen) => "the file cannot be opened",
        Some(ErrorCode::NotADatabase) => return StoreError::Corrupt("the file is not an SQLite database".to_owned()),
        Some(ErrorCode::DatabaseCorrupt) => return StoreError::Corrupt("the database file".to_owned()),
        Some(ErrorCode::ConstraintViolation) => return StoreError::AlreadyExists,
        _ => "an unexpected database error",
    };
    let number = code.map(|c| format!(" (SQLite code {})", c.extended_code)).unwrap_or_default();
    StoreError::Unavailable(format!("{words}{number}"))
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self, operation: Operation) -> Result<(), StoreError> {
        self.writer.run(Job::Begin(Box::new(operation))).await.map(|_| ())
    }

    async fn finish(&self, update: OperationUpdate, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        self.writer.run(Job::Finish(Box::new((update, change)))).await.map(|_| ())
    }

    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        self.readers.run(move |connection| read::registration(connection, id)).await
    }

    async fn registrations(&self, filter: &RegistrationFilter, page: PageRequest) -> Result<PageOf<Registration>, StoreError> {
        let filter = filter.clone();
        self.readers.run(move |connection| read::registrations(connection, &filter, &page)).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        self.readers.run(move |connection| read::operation(connection, id)).await
    }

    async fn operations(&self, state: Option<OperationState>, page: PageRequest) -> Result<PageOf<Operation>, StoreError> {
        self.readers.run(move |connection| read::operations(connection, state, &page)).await
    }

    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError> {
        self.writer.run(Job::PutKey(Box::new(key))).await.map(|_| ())
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let id = id.to_owned();
        self.readers.run(move |connection| read::api_key(connection, &id)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.readers.run(read::api_keys).await
    }

    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError> {
        self.writer.run(Job::DeleteKey(name.to_owned())).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writer.run(Job::Ping).await.map(|_| ())
    }

    async fn close(&self) {
        self.writer.close().await;
        self.readers.close();
    }
}
