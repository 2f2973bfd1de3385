//! Looking at a store, and copying it, without serving from it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{StoreError, location::Location, lock, postgres, sqlite};

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The step that its schema is at; absent when it cannot be read, or nothing was ever stored.
    pub schema_version: Option<i64>,
    /// Registrations by backend and state.
    pub registrations: Vec<Count>,
    /// Operations that are not final, by backend and state.
    pub open_operations: Vec<Count>,
    /// What is damaged; nothing when the store is sound, or has no check of its own.
    pub problems: Vec<String>,
    /// Whether anything was ever recorded: a client, an operation, a key or a token.
    #[serde(skip)]
    pub in_use: bool,
}

impl Inspection {
    /// Whether nothing was ever recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.in_use
    }
}

/// Whether anything was ever recorded, in tables that every schema has.
pub(crate) const USED: &str = "SELECT EXISTS (SELECT 1 FROM registrations) OR EXISTS (SELECT 1 FROM operations) \
                               OR EXISTS (SELECT 1 FROM api_keys)";

/// How many rows there are of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The backend's name.
    pub backend: String,
    /// The state, as in JSON.
    pub state: String,
    /// How many.
    pub count: i64,
}

/// The file of a store in SQLite; nothing for stores elsewhere.
///
/// # Errors
/// [`StoreError::Url`].
pub fn file(url: &str) -> Result<Option<PathBuf>, StoreError> {
    Ok(match Location::parse(url)? {
        Location::Sqlite(path) => Some(path),
        Location::Memory | Location::Postgres(_) => None,
    })
}

/// What is in a store, and whether it is sound. Changes nothing, and works while a gateway serves from it. A PostgreSQL
/// server checks its own pages: there, only the schema and the counts are told.
///
/// # Errors
/// When it cannot be opened. Damage is not an error: the answer has it.
pub async fn inspect(url: &str) -> Result<Inspection, StoreError> {
    match Location::parse(url)? {
        Location::Memory => {
            Err(StoreError::Url("the store is `memory:`, which no other process can look at".to_owned()))
        }
        Location::Sqlite(path) => {
            lock::check_name(&path)?;
            sqlite::inspect(&lock::canonical(&path))
        }
        Location::Postgres(address) => postgres::inspect(&address).await,
    }
}

/// Copies a store in SQLite into a new file (mode 0600) as it is at one moment, while a gateway may serve from it; returns
/// what is in the copy when that is on the disk and has passed its check.
///
/// # Errors
/// [`StoreError::Url`] for stores elsewhere; [`StoreError::Open`] when there is no store, or the file exists already;
/// [`StoreError::Corrupt`] when the copy does not pass its check, because the store would not; it is removed then.
pub fn backup(url: &str, to: &Path) -> Result<Inspection, StoreError> {
    let fail = |why: &str| Err(StoreError::Url(why.to_owned()));
    match Location::parse(url)? {
        Location::Sqlite(path) => {
            lock::check_name(&path)?;
            sqlite::backup(&lock::canonical(&path), to)
        }
        Location::Memory => fail("the store is `memory:`, which no other process can copy"),
        Location::Postgres(_) => fail(
            "the store is in PostgreSQL, which has its own tool: `pg_dump --format=custom --file=FILE DATABASE`, \
             restored by `pg_restore`",
        ),
    }
}
