//! One gateway a store, where the store cannot be shared.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use crate::{StoreError, location::Location, sqlite};

/// The right to serve from a store; given up when it is dropped, and by the system when the process dies.
#[derive(Debug)]
pub struct Exclusive {
    _file: Option<File>,
}

/// Takes the right to serve from the store of `store.url`. The command line may open the same store beside the gateway;
/// a second gateway may not, because each believes that open operations in it are its own or a dead process's.
///
/// # Errors
/// [`StoreError::Open`] when another gateway has it, the lock file beside the database cannot be made, or a rebuild was
/// interrupted.
pub fn exclusive(url: &str) -> Result<Exclusive, StoreError> {
    let Location::Sqlite(path) = Location::parse(url)? else { return Ok(Exclusive { _file: None }) };
    let held = "another gateway serves from it; end that one, give this one a store of its own, or share PostgreSQL";
    let exclusive = take(&path, held)?;
    if sqlite::is_unfinished(&path) {
        let problem = "its rebuild was interrupted; `registrar store rebuild` finishes it".to_owned();
        return Err(StoreError::Open { path, problem });
    }
    Ok(exclusive)
}

/// Takes the right to serve from the store in this file; `held` says what to do when somebody has it.
pub(crate) fn take(path: &Path, held: &str) -> Result<Exclusive, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let fail = |problem: String| StoreError::Open { path: path.to_owned(), problem };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&lock);
    let file = file.map_err(|error| fail(format!("its lock `{}` cannot be made ({error})", lock.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(Exclusive { _file: Some(file) }),
        Err(TryLockError::WouldBlock) => Err(fail(held.to_owned())),
        Err(TryLockError::Error(error)) => Err(fail(format!("it cannot be locked ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_is_refused_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("registrar.db").display());
        let first = exclusive(&url).unwrap();
        let refused = exclusive(&url).unwrap_err().to_string();
        assert!(refused.contains("another gateway"), "{refused}");
        drop(first);
        exclusive(&url).unwrap();
        exclusive("memory:").unwrap();
    }
}
