//! The store in one SQLite file: write-ahead log with `synchronous=FULL`, one writer thread with group commit, and a
//! small pool of read connections, which a write never blocks.

mod backup;
mod ballast;
mod identity;
mod mend;
mod open;
mod place;
mod read;
mod rebuild;
mod row;
mod salvage;
mod write;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use registrar_model::{BackendName, ClientId, OperationId, Registration, RegistrationId};
use rusqlite::{Connection, ffi};

use crate::{
    ApiKey, Begun, InitialAccessToken, Intent, KeyUse, Operation, OperationState, OperationUpdate, PageOf, PageRequest,
    RegistrationChange, RegistrationFilter, Sealed, Store, StoreError, Unused, Usage, cursor,
    error::Trouble,
    lock::canonical,
    row::{ApiKeyRow, ChangeRow, OperationRow, UpdateRow},
};
pub(crate) use backup::{backup, inspect};
use ballast::Ballast;
use identity::Place;
pub(crate) use open::{check_place, create};
pub(crate) use place::is_unfinished;
pub use place::{Rebuild, Started};
use read::{Readers, RegistrationQuery};
pub use rebuild::{Judge, Merged, Orphan, TableReport};
use write::{Claim, Reply, Write};
use writer::Writer;

/// How long a connection waits for another process (the command line, a backup) to let go of the file.
const BUSY: Duration = Duration::from_secs(5);
/// How many reads run at once.
const READERS: usize = 2;

/// The registry and the journal in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens the file, or creates it (mode 0600) in a folder that must exist; checks it, and brings an older schema up
    /// to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] (no such folder, no permission), [`StoreError::Corrupt`] (`integrity_check` failed, or not a
    /// database at all), [`StoreError::Incompatible`] (of a newer version or another program; left as it was),
    /// [`StoreError::Unavailable`] (locked, full, read-only).
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::start(open::writer(&canonical(path), BUSY)?, path, Ballast::none())
    }

    /// The same, of a store that is there already.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::Missing`] where there is none: nothing is created then.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Self::start(open::writer_of_existing(&canonical(path), BUSY)?, path, Ballast::none())
    }

    /// The same for the one process that serves from the file, with a ballast of so many bytes beside it (none if 0):
    /// `PATH-ballast` is made if it is not there, and given up when a result cannot be recorded because the disk is full.
    /// Everything that begins something new, and [`Store::ping`], is then answered with [`Trouble::Full`] until there is
    /// space for it again. That it cannot be made is a warning and no error.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_ballast(path: &Path, bytes: u64) -> Result<Self, StoreError> {
        let file = &canonical(path);
        let mut ballast = Ballast::beside(file, bytes);
        let connection = match open::writer(file, BUSY) {
            // what an earlier process recorded last may not fit into the file otherwise
            Err(StoreError::Unavailable(Trouble::Full)) if ballast.give_up(Instant::now()) => open::writer(file, BUSY),
            opened => opened,
        }?;
        // after what the store itself needs
        ballast.restore(Instant::now());
        Self::start(connection, path, ballast)
    }

    /// `name` is as configured: it may be a symbolic link, which may be made to lead elsewhere.
    fn start(connection: Connection, name: &Path, ballast: Ballast) -> Result<Self, StoreError> {
        let path = &canonical(name);
        let readers = (0..READERS).map(|_| open::reader(path, BUSY)).collect::<Result<Vec<_>, _>>()?;
        let writer = Writer::start(connection, ballast, Place::of(name, path)).map_err(|error| StoreError::Open {
            path: path.to_owned(),
            problem: format!("its thread cannot be started ({})", error.kind()),
        })?;
        Ok(Self { path: path.to_owned(), writer, readers: Readers::new(readers) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self, intent: Intent) -> Result<Begun, StoreError> {
        // rows are made here, not on the writer's thread, which everybody waits for
        let write = Write::Begin(OperationRow::new(intent.operation)?, intent.key, intent.spend.map(Box::new));
        Ok(match self.writer.submit(write).await? {
            Reply::Used(used) => Begun::Used(used),
            Reply::Spent => Begun::Spent,
            _ => Begun::New,
        })
    }

    async fn finish(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        let change = change.map(ChangeRow::new).transpose()?;
        self.writer.submit(Write::Finish(UpdateRow::new(update), change)).await.map(drop)
    }

    async fn amend(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        let change = change.map(ChangeRow::new).transpose()?;
        self.writer.submit(Write::Amend(UpdateRow::new(update), change)).await.map(drop)
    }

    async fn key_use(&self, key: &[u8; 32], since: i64) -> Result<Option<KeyUse>, StoreError> {
        let key = *key;
        self.readers.run(move |connection| read::key_use(connection, &key, since)).await
    }

    async fn claim(&self, owner: &str, now: i64, until: i64, limit: u32) -> Result<Vec<Operation>, StoreError> {
        let claim = Claim { owner: owner.to_owned(), now, until, limit };
        Ok(match self.writer.submit(Write::Claim(claim)).await? {
            Reply::Claimed(operations) => operations,
            _ => Vec::new(),
        })
    }

    async fn sealed(&self, id: OperationId, now: i64) -> Result<Option<Sealed>, StoreError> {
        self.readers.run(move |connection| read::sealed(connection, id, now)).await
    }

    async fn destroy_sealed(&self, id: OperationId) -> Result<bool, StoreError> {
        Ok(self.writer.submit(Write::DestroySealed(id.to_string())).await? != Reply::Nothing)
    }

    async fn purge(&self, now: i64, keys_before: i64) -> Result<(), StoreError> {
        self.writer.submit(Write::Purge { now, keys_before }).await.map(drop)
    }

    async fn once(&self, name: &'static str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        Ok(match self.writer.submit(Write::Once(name, proposed)).await? {
            Reply::Value(value) => value,
            _ => Vec::new(),
        })
    }

    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        self.readers.run(move |connection| read::registration(connection, id)).await
    }

    async fn registered(
        &self,
        backend: &BackendName,
        client_id: &ClientId,
    ) -> Result<Option<RegistrationId>, StoreError> {
        let (backend, client_id) = (backend.to_string(), client_id.to_string());
        self.readers.run(move |connection| read::registered(connection, &backend, &client_id)).await
    }

    async fn registrations(
        &self,
        filter: &RegistrationFilter,
        page: PageRequest,
    ) -> Result<PageOf<Registration>, StoreError> {
        let query = RegistrationQuery::new(filter, cursor::after(&page)?, page.size());
        self.readers.run(move |connection| query.run(connection)).await
    }

    async fn open_clients(&self, route: &str) -> Result<u64, StoreError> {
        let route = route.to_owned();
        self.readers.run(move |connection| read::open_clients(connection, &route)).await
    }

    async fn used(&self, id: RegistrationId, now: i64) -> Result<Usage, StoreError> {
        Ok(match self.writer.submit(Write::Used(id.to_string(), now)).await? {
            Reply::Usage(usage) => usage,
            _ => Usage::Missing,
        })
    }

    async fn unused(&self, until: i64, after: Option<Unused>, limit: u32) -> Result<Vec<Unused>, StoreError> {
        self.readers.run(move |connection| read::unused(connection, until, after, limit)).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        self.readers.run(move |connection| read::operation(connection, id)).await
    }

    async fn operations(
        &self,
        state: Option<OperationState>,
        page: PageRequest,
    ) -> Result<PageOf<Operation>, StoreError> {
        let (after, size) = (cursor::after(&page)?, page.size());
        self.readers.run(move |connection| read::operations(connection, state, after, size)).await
    }

    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError> {
        self.writer.submit(Write::PutApiKey(ApiKeyRow::new(key)?)).await.map(drop)
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let id = id.to_owned();
        self.readers.run(move |connection| read::api_key(connection, &id)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.readers.run(read::api_keys).await
    }

    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.writer.submit(Write::DeleteApiKey(name.to_owned())).await? != Reply::Nothing)
    }

    async fn put_initial_access_token(&self, token: InitialAccessToken) -> Result<(), StoreError> {
        self.writer.submit(Write::PutInitialAccessToken(token)).await.map(drop)
    }

    async fn initial_access_token(&self, id: &str) -> Result<Option<InitialAccessToken>, StoreError> {
        let id = id.to_owned();
        self.readers.run(move |connection| read::initial_access_token(connection, &id)).await
    }

    async fn initial_access_tokens(&self) -> Result<Vec<InitialAccessToken>, StoreError> {
        self.readers.run(read::initial_access_tokens).await
    }

    async fn delete_initial_access_token(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.writer.submit(Write::DeleteInitialAccessToken(id.to_owned())).await? != Reply::Nothing)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writer.submit(Write::Ping).await.map(drop)
    }

    async fn close(&self) {
        // readers first: the last connection to close should be the one that can checkpoint
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// An error of SQLite, without its text: that may quote what was asked of it.
fn store_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as Code;

    let Some(sqlite) = error.sqlite_error() else {
        // a column without the type that the schema gives it
        return StoreError::Corrupt("a row does not have the form of its table".to_owned());
    };
    let code = sqlite.extended_code;
    match sqlite.code {
        // the index of the log could not grow, which SQLite writes to only to learn in time that the disk is full
        Code::SystemIoFailure if code == ffi::SQLITE_IOERR_SHMSIZE => StoreError::Unavailable(Trouble::Full),
        Code::DiskFull => StoreError::Unavailable(Trouble::Full),
        Code::SystemIoFailure => StoreError::Unavailable(Trouble::Io { code }),
        Code::ReadOnly => StoreError::Unavailable(Trouble::ReadOnly),
        Code::DatabaseBusy | Code::DatabaseLocked => StoreError::Unavailable(Trouble::Locked),
        Code::DatabaseCorrupt => StoreError::Corrupt(format!("SQLite found the file malformed (code {code})")),
        Code::NotADatabase => {
            StoreError::Corrupt("it is not a SQLite database, or its first page is damaged".to_owned())
        }
        _ => StoreError::Unavailable(Trouble::Other { code }),
    }
}
