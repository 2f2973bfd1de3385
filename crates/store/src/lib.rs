//! The registry and the journal of Registrar, behind one port: [`Store`].
//!
//! * the **registry** holds the gateway's record of every client ([`registrar_model::Registration`]), never a secret;
//! * the **journal** holds one [`Operation`] per write: its intent is durable before the vendor is called, its result
//!   and what it does to the registry are recorded in one transaction.
//!
//! Three implementations: [`SqliteStore`] (one file, write-ahead log, one writer thread with group commit),
//! [`PostgresStore`] (a database that several gateways share) and [`MemoryStore`] (tests, demonstrations, benchmarks).
//! [`open`] picks one by URL. All pass the same suite.

mod api_key;
mod cursor;
mod error;
mod initial_access_token;
mod inspect;
mod location;
mod lock;
mod memory;
mod operation;
mod port;
mod postgres;
mod row;
mod search;
mod sqlite;

use std::sync::Arc;

pub use api_key::ApiKey;
pub use error::{StoreError, Trouble};
pub use initial_access_token::InitialAccessToken;
pub use inspect::{Count, Inspection, backup, file, inspect};
pub use location::{absolute, check_url, redacted};
pub use lock::{Exclusive, exclusive};
pub use memory::MemoryStore;
pub use operation::{Action, Evidence, Lease, Operation, OperationState, OperationUpdate, Sealed};
pub use port::{
    Begun, Intent, KeyClaim, KeyUse, MAX_PAGE, PageOf, PageRequest, RegistrationChange, RegistrationFilter, Spending,
    Store, Unused, Usage,
};
pub use postgres::PostgresStore;
pub use sqlite::{Judge, Merged, Orphan, Rebuild, SqliteStore, Started, TableReport};

use location::Location;

/// Opens the store of `store.url`: `sqlite:PATH` (created when it does not exist; its folder must),
/// `postgres://USER:PASSWORD@HOST/DATABASE` (which must exist) or `memory:`.
///
/// # Errors
/// [`StoreError::Url`], or any error of [`SqliteStore::open`] and [`PostgresStore::open`].
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match Location::parse(url)? {
        Location::Memory => Arc::new(MemoryStore::new()),
        Location::Sqlite(path) => Arc::new(SqliteStore::open(&path)?),
        Location::Postgres(address) => Arc::new(PostgresStore::connect(*address).await?),
    })
}

/// The same, of a store that is there already: a command beside the gateway makes none.
///
/// # Errors
/// As [`open`]; [`StoreError::Missing`] where there is none, and [`StoreError::Open`] where a gateway serves from the file
/// under another name. Nothing is created then.
pub async fn open_existing(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match Location::parse(url)? {
        Location::Memory => return Err(StoreError::Url(UNREACHABLE.to_owned())),
        Location::Sqlite(path) => {
            lock::check_name(&path)?;
            Arc::new(SqliteStore::open_existing(&path)?)
        }
        Location::Postgres(address) => Arc::new(PostgresStore::connect_existing(*address).await?),
    })
}

/// The reason that a command cannot work on `memory:`.
const UNREACHABLE: &str =
    "the store is `memory:`, which no other process can reach; use \"sqlite:PATH\" or \"postgres://...\"";

/// The same for a gateway, which serves from it: a SQLite file gets a ballast of so many bytes, see
/// [`SqliteStore::open_with_ballast`]. Where the store is no file, nothing is kept.
///
/// # Errors
/// As [`open`].
pub async fn open_with_ballast(url: &str, bytes: u64) -> Result<Arc<dyn Store>, StoreError> {
    match Location::parse(url)? {
        Location::Sqlite(path) => Ok(Arc::new(SqliteStore::open_with_ballast(&path, bytes)?)),
        Location::Memory | Location::Postgres(_) => open(url).await,
    }
}
