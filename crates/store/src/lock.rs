//! One gateway a store, where the store cannot be shared.
//!
//! Two locks are held together. The one on `PATH.lock`, beside the file that the path leads to after symbolic links,
//! outlives a rebuild, which puts another file in the place of the database. The one on the database itself holds
//! whatever the path: through a hard link, or a bind mount of the file alone.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{StoreError, location::Location, sqlite};

/// How long the lock on the database is tried: a command may look at it for some microseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// The right to serve from a store; given up when it is dropped, and by the system when the process dies.
///
/// Drop it after the store is closed: whoever closes a file gives up the locks that SQLite has on it in this process.
#[derive(Debug)]
pub struct Exclusive {
    // the database is let go of first: who finds it locked expects its name to be
    _database: Option<File>,
    _name: Option<File>,
}

/// Takes the right to serve from the store of `store.url`. The command line may open the same store beside the gateway;
/// a second gateway may not, because each believes that open operations in it are its own or a dead process's.
///
/// # Errors
/// [`StoreError::Open`] when another gateway has it, by whatever path, the database or the lock file beside it cannot be
/// made, or a rebuild was interrupted.
pub fn exclusive(url: &str) -> Result<Exclusive, StoreError> {
    let Location::Sqlite(path) = Location::parse(url)? else { return Ok(Exclusive { _database: None, _name: None }) };
    let path = canonical(&path);
    sqlite::check_place(&path)?;
    let held = "another gateway serves from it; end that one, give this one a store of its own, or share PostgreSQL";
    let mut exclusive = take(&path, held)?;
    if sqlite::is_unfinished(&path) {
        let problem = "its rebuild was interrupted; `registrar store rebuild` finishes it".to_owned();
        return Err(StoreError::Open { path, problem });
    }
    if exclusive._database.is_none() {
        sqlite::create(&path)?;
        exclusive._database = database(&path, held)?;
    }
    Ok(exclusive)
}

/// Takes the right to serve from the store in this file, which need not exist; `held` says what to do when another
/// process has it.
pub(crate) fn take(path: &Path, held: &str) -> Result<Exclusive, StoreError> {
    let lock = lock_of(path);
    let fail = |problem: String| StoreError::Open { path: path.to_owned(), problem };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // a link in its place could lead to a file of another program
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, no_follow());
    let file = options.open(&lock);
    let file = file.map_err(|error| fail(format!("its lock `{}` cannot be made ({error})", lock.display())))?;
    keep_to_owner(&file);
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(fail(held.to_owned())),
        Err(TryLockError::Error(error)) => return Err(fail(format!("it cannot be locked ({error})"))),
    }
    Ok(Exclusive { _database: database(path, held)?, _name: Some(file) })
}

/// Refuses a path under which a command would not see what a gateway does that serves from the same file under another
/// path: each path has a log of its own.
pub(crate) fn check_name(path: &Path) -> Result<(), StoreError> {
    let path = canonical(path);
    // what is not there, or cannot be read, is told by whoever opens it
    let Ok(file) = File::open(&path) else { return Ok(()) };
    if !cfg!(target_os = "linux") || !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return Ok(());
    }
    let is_named = File::open(lock_of(&path)).is_ok_and(|lock| is_held(&lock));
    // it may have ended in between
    if is_named || !is_held(&file) {
        return Ok(());
    }
    let problem = "a gateway serves from this file under another path (a hard link, or a mount of the file alone); use \
                   that path";
    Err(StoreError::Open { path, problem: problem.to_owned() })
}

fn is_held(file: &File) -> bool {
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// The file that a path leads to after symbolic links; of one that does not exist, in the folder that its own leads to.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    let folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        fs::canonicalize(folder).ok().zip(path.file_name()).map(|(folder, name)| folder.join(name))
    };
    fs::canonicalize(path).ok().or_else(folder).unwrap_or_else(|| path.to_owned())
}

/// The lock on the database itself, where it exists. Only Linux keeps it apart from the locks of SQLite.
fn database(path: &Path, held: &str) -> Result<Option<File>, StoreError> {
    let fail = |problem: String| StoreError::Open { path: path.to_owned(), problem };
    let file = match File::open(path) {
        Ok(file) if cfg!(target_os = "linux") => file,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(format!("it cannot be opened ({error})"))),
    };
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(fail(held.to_owned())),
            Err(TryLockError::Error(error)) => return Err(fail(format!("it cannot be locked ({error})"))),
        }
    }
}

#[cfg(target_os = "linux")]
fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// A lock file of an older version may be open to others, who could hold it and keep the gateway from starting.
#[cfg(unix)]
fn keep_to_owner(file: &File) {
    use std::os::unix::fs::PermissionsExt as _;

    let Ok(mode) = file.metadata().map(|found| found.permissions().mode()) else { return };
    if mode & 0o077 != 0
        && let Err(error) = file.set_permissions(fs::Permissions::from_mode(0o600))
    {
        tracing::warn!(%error, "other users can open the lock of the store; `chmod 600` it");
    }
}

#[cfg(not(unix))]
fn keep_to_owner(_file: &File) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &Path) -> String {
        format!("sqlite:{}", path.display())
    }

    #[test]
    fn a_second_gateway_is_refused_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let url = url(&folder.path().join("registrar.db"));
        let first = exclusive(&url).unwrap();
        let refused = exclusive(&url).unwrap_err().to_string();
        assert!(refused.contains("another gateway"), "{refused}");
        drop(first);
        exclusive(&url).unwrap();
        exclusive("memory:").unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_second_gateway_is_refused_whatever_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        drop(exclusive(&url(&at("real/registrar.db"))).unwrap());
        std::os::unix::fs::symlink(at("real/registrar.db"), at("link.db")).unwrap();
        std::os::unix::fs::symlink(at("real"), at("folder")).unwrap();
        fs::hard_link(at("real/registrar.db"), at("hard.db")).unwrap();
        let names = ["real/registrar.db", "link.db", "folder/registrar.db", "real/../hard.db", "hard.db"];
        for first in names {
            let held = exclusive(&url(&at(first))).unwrap();
            for second in names {
                let refused = exclusive(&url(&at(second))).unwrap_err().to_string();
                assert!(refused.contains("another gateway"), "{first} {second}: {refused}");
            }
            drop(held);
        }
        // a hard link alone is no reason: backups make them
        for name in names {
            exclusive(&url(&at(name))).unwrap();
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_command_is_refused_where_the_gateway_has_another_log() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let held = exclusive(&url(&at("registrar.db"))).unwrap();
        fs::hard_link(at("registrar.db"), at("hard.db")).unwrap();
        std::os::unix::fs::symlink(at("registrar.db"), at("link.db")).unwrap();
        check_name(&at("registrar.db")).unwrap();
        check_name(&at("link.db")).unwrap();
        let refused = check_name(&at("hard.db")).unwrap_err().to_string();
        assert!(refused.contains("under another path"), "{refused}");
        drop(held);
        check_name(&at("hard.db")).unwrap();
        check_name(&at("nothing.db")).unwrap();
        assert!(!at("nothing.db.lock").exists());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_lock_file_is_the_owners_and_no_link() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("registrar.db.lock"), "").unwrap();
        fs::set_permissions(at("registrar.db.lock"), fs::Permissions::from_mode(0o666)).unwrap();
        drop(exclusive(&url(&at("registrar.db"))).unwrap());
        let mode = fs::metadata(at("registrar.db.lock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::os::unix::fs::symlink(at("elsewhere"), at("other.db.lock")).unwrap();
        assert!(exclusive(&url(&at("other.db"))).is_err());
        assert!(!at("elsewhere").exists());
    }
}
