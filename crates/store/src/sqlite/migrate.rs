//! Schema versions: plain SQL files, applied in one transaction each.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::error;
use crate::StoreError;

/// "RgSt": marks the file as ours.
const APPLICATION_ID: i64 = 0x5267_5374;

const MIGRATIONS: &[&str] = &[include_str!("../../migrations/0001_registry_and_journal.sql")];

pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let number = |connection: &Connection, pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).map_err(error)
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(error)?;
    let application = number(connection, "application_id")?;
    if application != APPLICATION_ID && (application != 0 || tables > 0) {
        let message = format!("{} is the database of another program; choose another file", path.display());
        return Err(StoreError::Incompatible(message));
    }
    let version = usize::try_from(number(connection, "user_version")?).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        let message = format!(
            "{} has schema version {version}, this program knows {}; use a newer program or a backup",
            path.display(),
            MIGRATIONS.len()
        );
        return Err(StoreError::Incompatible(message));
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(error)?;
        // two processes may start at once: the second finds the work done
        if number(&transaction, "user_version")? == i64::try_from(index).unwrap_or(i64::MAX) {
            transaction.execute_batch(sql).map_err(error)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(error)?;
            transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX)).map_err(error)?;
        }
        transaction.commit().map_err(error)?;
    }
    Ok(())
}
