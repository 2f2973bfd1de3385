//! A look at a store that changes nothing, and a copy of it while a gateway works.

use std::{fs, io, path::Path};

use rusqlite::{Connection, OpenFlags, backup::StepResult};

use super::{
    BUSY, open,
    place::{parent, remove, sync_folder},
    salvage::{beside, problems},
    store_error,
};
use crate::{
    StoreError,
    error::Trouble,
    inspect::{Count, Inspection, USED},
};

/// What is in the file, and whether it is sound.
///
/// # Errors
/// [`StoreError::Open`] when there is none or it cannot be read. Damage is not an error: the answer has it.
pub(crate) fn inspect(path: &Path) -> Result<Inspection, StoreError> {
    if !path.is_file() {
        let problem = "there is no such file; check store.url, or `registrar store rebuild --from BACKUP`".to_owned();
        return Err(StoreError::Open { path: path.to_owned(), problem });
    }
    let connection = match open::reader(path, BUSY) {
        Ok(connection) => connection,
        Err(StoreError::Corrupt(problem)) => {
            return Ok(Inspection { problems: vec![problem], ..Inspection::default() });
        }
        Err(error) => return Err(error),
    };
    let mut found = Inspection { problems: problems(&connection, "integrity_check(20)"), ..Inspection::default() };
    let is_sound = found.problems.is_empty();
    let counts = read(&connection).map_err(store_error);
    match counts {
        Ok(counts) => found = Inspection { problems: found.problems, ..counts },
        // what is damaged cannot always be counted
        Err(StoreError::Unavailable(trouble)) if is_sound => return Err(StoreError::Unavailable(trouble)),
        Err(error) if is_sound => found.problems.push(error.to_string()),
        Err(_) => {}
    }
    Ok(found)
}

fn read(connection: &Connection) -> rusqlite::Result<Inspection> {
    // one moment for all of them
    let transaction = connection.unchecked_transaction()?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        // nothing was ever stored in it
        return Ok(Inspection::default());
    }
    let counts = |sql: &str| -> rusqlite::Result<Vec<Count>> {
        let mut statement = transaction.prepare(sql)?;
        let rows = statement
            .query_map([], |row| Ok(Count { backend: row.get(0)?, state: row.get(1)?, count: row.get(2)? }))?;
        rows.collect()
    };
    Ok(Inspection {
        schema_version: Some(version),
        registrations: counts("SELECT backend, state, count(*) FROM registrations GROUP BY 1, 2 ORDER BY 1, 2")?,
        open_operations: counts(
            "SELECT backend, state, count(*) FROM operations WHERE state IN ('pending', 'unknown') \
             AND state <> 'succeeded' GROUP BY 1, 2 ORDER BY 1, 2",
        )?,
        problems: Vec::new(),
        in_use: transaction.query_row(USED, [], |row| row.get(0))?,
    })
}

/// Copies the store into a new file (mode 0600) as it is at one moment, while others may read and write it; returns when
/// the copy is on the disk and has passed its check. A copy that is not whole is removed.
///
/// # Errors
/// [`StoreError::Open`] when there is no store, or there is a file with this name; [`StoreError::Corrupt`] when the copy
/// does not pass its check, because the store does not; [`StoreError::Unavailable`].
pub(crate) fn backup(store: &Path, to: &Path) -> Result<Inspection, StoreError> {
    let fail = |path: &Path, problem: String| StoreError::Open { path: path.to_owned(), problem };
    if !store.is_file() {
        return Err(fail(store, "there is no such file; check store.url".to_owned()));
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(to) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(fail(
                to,
                "there is a file with this name, and a backup overwrites nothing; name another".to_owned(),
            ));
        }
        Err(error) => return Err(fail(to, format!("it cannot be created ({error})"))),
    }
    let done = copy(store, to).and_then(|()| {
        let found = inspect(to)?;
        for end in ["-wal", "-shm"] {
            remove(&beside(to, end)).map_err(|error| fail(to, format!("its log cannot be removed ({error})")))?;
        }
        if found.problems.is_empty() {
            return Ok(found);
        }
        Err(StoreError::Corrupt(format!("what was copied does not pass its check ({})", found.problems.join("; "))))
    });
    if done.is_err() {
        for end in ["", "-wal", "-shm"] {
            // the error that is told says more
            let _ = remove(&beside(to, end));
        }
    }
    done
}

fn copy(store: &Path, to: &Path) -> Result<(), StoreError> {
    let from = open::reader(store, BUSY)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags).map_err(store_error)?;
    {
        let backup = rusqlite::backup::Backup::new(&from, &mut target).map_err(store_error)?;
        // all pages at once are of one moment; readers and writers of a write-ahead log do not wait for each other
        match backup.step(-1).map_err(store_error)? {
            StepResult::Done => {}
            _ => return Err(StoreError::Unavailable(Trouble::Locked)),
        }
    }
    target.close().map_err(|(_, error)| store_error(error))?;
    let synced = fs::File::open(to).and_then(|file| file.sync_all()).and_then(|()| sync_folder(parent(to)));
    synced.map_err(|error| StoreError::Open {
        path: to.to_owned(),
        problem: format!("what was written may not be on the disk ({error})"),
    })
}
