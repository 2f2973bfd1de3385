//! Opening: the file, its identity, its health, its schema.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::store_error;
use crate::{StoreError, error::Trouble};

/// `application_id` in the header of the file: "RGST".
const APPLICATION_ID: i32 = 0x5247_5354;

/// Between two tries to switch to the write-ahead log.
const PAUSE: Duration = Duration::from_millis(5);

/// The schema, one file per step, each with the `user_version` that it leads to.
const MIGRATIONS: [(i32, &str); 8] = [
    (1, include_str!("../migrations/0001_initial.sql")),
    (2, include_str!("../migrations/0002_exactly_once.sql")),
    (3, include_str!("../migrations/0003_standards_front.sql")),
    (4, include_str!("../migrations/0004_dcr.sql")),
    (5, include_str!("../migrations/0005_cheaper_checks.sql")),
    (6, include_str!("../migrations/0006_leaner.sql")),
    (7, include_str!("../migrations/0007_unused.sql")),
    (8, include_str!("../migrations/0008_notes.sql")),
];

/// The step that this program's schema is at.
const LATEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The connection that writes. Makes or updates the schema; touches nothing that is not ours.
pub(super) fn writer(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    create(path)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
    let version = identify(&connection)?;
    prepare(connection, version, path, busy)
}

/// The same, of a store that is there already; makes none.
pub(super) fn writer_of_existing(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    check_place(path)?;
    if !path.exists() {
        return Err(StoreError::Missing);
    }
    warn_if_readable_by_others(path);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
    match identify(&connection)? {
        // an empty file
        0 => Err(StoreError::Missing),
        version => prepare(connection, version, path, busy),
    }
}

fn prepare(mut connection: Connection, version: i32, path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    if version > 0 {
        check(&connection)?;
    }
    configure(&connection).map_err(store_error)?;
    let mode = use_log(&connection, busy)?;
    if mode != "wal" {
        return Err(StoreError::Open {
            path: path.to_owned(),
            problem: "this file system cannot hold a write-ahead log; use a local disk".to_owned(),
        });
    }
    migrate(&mut connection)?;
    if version > 0 {
        settle_log(&connection)?;
    }
    Ok(connection)
}

/// Moves what an earlier process left in the log into the file. After an `fsync` that failed, the log may be whole in
/// memory only: whatever is appended to it would, after a power failure, stand behind a hole, where nobody reads on.
/// Readers are not waited for: beside a gateway that works, there is nothing to settle.
fn settle_log(connection: &Connection) -> Result<(), StoreError> {
    let frames = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (logged, moved) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], frames).map_err(store_error)?;
    if moved < logged {
        tracing::warn!(logged, moved, "somebody reads the store: its log could not be moved into the file completely");
    }
    Ok(())
}

/// A connection that only reads.
pub(super) fn reader(path: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(store_error)?;
    Ok(connection)
}

/// Refuses a path that cannot be one of a database.
pub(crate) fn check_place(path: &Path) -> Result<(), StoreError> {
    let fail = |problem: String| Err(StoreError::Open { path: path.to_owned(), problem });
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return fail(format!("the folder `{}` does not exist; create it or change store.url", folder.display()));
    }
    if path.is_dir() {
        return fail("it is a folder; store.url names a file".to_owned());
    }
    Ok(())
}

/// Makes the file if there is none, for the owner only; SQLite gives its log the same mode.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    check_place(path)?;
    let fail = |problem: String| Err(StoreError::Open { path: path.to_owned(), problem });
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn_if_readable_by_others(path);
            Ok(())
        }
        Err(error) => fail(format!("it cannot be created ({error}); the folder must be writable")),
    }
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "other users can read the store; `chmod 600` it");
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_path: &Path) {}

fn connect(path: &Path, access: OpenFlags, busy: Duration) -> Result<Connection, StoreError> {
    // no URI flag: the path is a path
    let opened = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = opened.map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::PermissionDenied) => StoreError::Open {
            path: path.to_owned(),
            problem: "the file, and its folder, must be readable and writable".to_owned(),
        },
        _ => store_error(error),
    })?;
    connection.busy_timeout(busy).map_err(store_error)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // FULL: a commit is on the disk when it returns; NORMAL may lose the last ones when the power fails
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // what was deleted is overwritten
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // 16 MiB: the pages at the end of each table are written often, and moved into the file once
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 4096, |_| Ok(()))?;
    // a burst may grow the log; the next checkpoint gives the space back
    connection.pragma_update_and_check(None, "journal_size_limit", 64 * 1024 * 1024, |_| Ok(()))
}

/// Switches to the write-ahead log, and returns the mode in effect. SQLite does not wait for others here, as it does
/// everywhere else: of several that open a new file at once, all but one would fail.
fn use_log(connection: &Connection, busy: Duration) -> Result<String, StoreError> {
    let start = Instant::now();
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(store_error);
        match mode {
            Err(StoreError::Unavailable(Trouble::Locked)) if start.elapsed() < busy => thread::sleep(PAUSE),
            mode => return mode,
        }
    }
}

/// The step that the schema is at; 0 for a new file.
fn identify(connection: &Connection) -> Result<i32, StoreError> {
    // one statement, so that all of it is of one moment: another process may be making the schema
    let sql = "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_schema) \
               FROM pragma_application_id, pragma_user_version";
    let (application, version, empty): (i32, i32, bool) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(store_error)?;
    if (application, version, empty) == (0, 0, true) {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        let problem = "the file is the database of another program; change store.url";
        return Err(StoreError::Incompatible(problem.to_owned()));
    }
    if (1..=LATEST).contains(&version) {
        return Ok(version);
    }
    Err(StoreError::Incompatible(format!(
        "its schema has version {version}, this program knows 1 to {LATEST}; use a newer program"
    )))
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    // not `quick_check`, which does not compare indexes with their tables: an idempotency key with a wrong bit is found by
    // no search, and its request would be carried out again. A second per 100 000 clients instead of a third of one
    let sql = "PRAGMA integrity_check(1)";
    let verdict: String = connection.query_row(sql, [], |row| row.get(0)).map_err(store_error)?;
    if verdict == "ok" {
        return Ok(());
    }
    tracing::error!(verdict, "the store did not pass its check");
    Err(StoreError::Corrupt("`PRAGMA integrity_check` found damage (see the log)".to_owned()))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if identify(connection)? == LATEST {
        return Ok(());
    }
    // a table that is replaced must not take with it what refers to it; this has no effect inside a transaction
    connection.pragma_update(None, "foreign_keys", false).map_err(store_error)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    // again, now that nobody else can write: another process may have done it meanwhile
    let from = identify(&transaction)?;
    let steps = || {
        for (_, step) in MIGRATIONS.iter().filter(|(version, _)| *version > from) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", LATEST)
    };
    steps().map_err(|error| {
        tracing::error!(%error, from, "the schema could not be brought up to date");
        store_error(error)
    })?;
    let sql = "SELECT count(*) FROM pragma_foreign_key_check";
    let dangling: i64 = transaction.query_row(sql, [], |row| row.get(0)).map_err(store_error)?;
    if dangling > 0 {
        return Err(StoreError::Corrupt(format!("{dangling} rows refer to rows that are not there")));
    }
    transaction.commit().map_err(store_error)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(store_error)
}

/// How the last connection leaves the file: everything in it, nothing in the log. After a failure of the disk the log
/// is left alone instead, to be recovered when the file is opened again.
pub(super) fn leave(connection: Connection, failed: bool) {
    use rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

    let done = if failed {
        connection.set_db_config(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_| ())
    } else {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    let closed = done.and_then(|()| connection.close().map_err(|(_, error)| error));
    match closed.map_err(store_error) {
        // another process is reading: the log stays, and is part of the database
        Ok(()) | Err(StoreError::Unavailable(Trouble::Locked)) => {}
        Err(error) => tracing::warn!(%error, "the store was not closed cleanly; nothing that was recorded is lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let connection = writer(&folder.path().join("registrar.db"), Duration::ZERO).unwrap();
        for (pragma, expected) in
            [("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1), ("user_version", LATEST)]
        {
            let found: i32 = connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
            assert_eq!(found, expected, "{pragma}");
        }
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registrar.db");
        let _writer = writer(&path, Duration::ZERO).unwrap();
        let error = reader(&path, Duration::ZERO).unwrap().execute("DELETE FROM operations", []).unwrap_err();
        assert_eq!(store_error(error), StoreError::Unavailable(Trouble::ReadOnly));
    }

    #[test]
    fn migrations_are_in_order() {
        let versions: Vec<i32> = MIGRATIONS.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (1..=LATEST).collect::<Vec<_>>());
    }
}
