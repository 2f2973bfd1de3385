//! Putting a rebuilt store into the place of the damaged one, so that whatever ends the process in between, the next run
//! goes on from there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use registrar_model::Registration;

use super::{
    open, rebuild,
    rebuild::{Judge, Merged},
    salvage::{beside, problems},
    store_error,
};
use crate::{
    StoreError,
    lock::{self, Exclusive},
};

/// The new store in the folder of a rebuild.
const NEW: &str = "new.db";
/// In that folder once the new store is complete: the name that the damaged file gets, a line break, the report.
const COMPLETE: &str = "complete";

/// A rebuild in progress. Nobody serves from the store meanwhile; dropped before [`Rebuild::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Rebuild {
    store: PathBuf,
    work: PathBuf,
    is_complete: bool,
    _exclusive: Exclusive,
}

/// How a rebuild begins.
#[derive(Debug)]
pub enum Started {
    /// From the beginning.
    Anew(Rebuild),
    /// An earlier one was interrupted when its new store was complete: that is in its place now. Its report.
    Finished(Vec<u8>),
}

/// The folder in which a store is rebuilt.
pub(crate) fn folder(store: &Path) -> PathBuf {
    beside(store, ".rebuild")
}

/// Whether a rebuild was interrupted while its new store was put into place.
pub(crate) fn is_unfinished(store: &Path) -> bool {
    folder(store).join(COMPLETE).exists()
}

impl Rebuild {
    /// Takes the right to serve from the store, finishes what an interrupted rebuild has left, and makes a folder for a
    /// new one beside it.
    ///
    /// A dry run finishes nothing. Without a store and without a backup nothing is created.
    ///
    /// # Errors
    /// [`StoreError::Open`] when a gateway serves from it, or the folder of the store cannot be written.
    pub fn start(store: &Path, has_backup: bool, dry_run: bool) -> Result<Started, StoreError> {
        // a symbolic link stays: the file that it leads to is replaced
        let store = &lock::canonical(store);
        open::check_place(store)?;
        if !store.exists() && !has_backup && !is_unfinished(store) {
            return Err(StoreError::Missing);
        }
        let held = "a gateway serves from it, or another rebuild is under way; stop that one first";
        let exclusive = lock::take(store, held)?;
        let work = folder(store);
        let failed = |error: io::Error| failed(store, &error);
        if is_unfinished(store) {
            if dry_run {
                let problem = "its rebuild was interrupted; run it without `--dry-run` to finish it".to_owned();
                return Err(StoreError::Open { path: store.to_owned(), problem });
            }
            let noted = fs::read(work.join(COMPLETE)).map_err(failed)?;
            let at = noted.iter().position(|byte| *byte == b'\n').unwrap_or(noted.len());
            let (name, report) = noted.split_at(at);
            let damaged = store.with_file_name(String::from_utf8_lossy(name).as_ref());
            put_into_place(store, &work, &damaged).map_err(failed)?;
            return Ok(Started::Finished(report.get(1..).unwrap_or_default().to_vec()));
        }
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&work).map_err(failed)?;
        Ok(Started::Anew(Self { store: store.to_owned(), work, is_complete: false, _exclusive: exclusive }))
    }

    /// The new store.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.work.join(NEW)
    }

    /// Fills the new store with what can be read of the old one and, where that is missing or older, of a backup.
    ///
    /// # Errors
    /// [`StoreError::Open`] when there is neither, or one cannot be copied; [`StoreError::Incompatible`] when one is not a
    /// store that this program knows.
    pub fn merge(&self, backup: Option<&Path>, judge: &dyn Judge, tell: fn(&str)) -> Result<Merged, StoreError> {
        let damaged = Some(self.store.as_path()).filter(|path| path.exists());
        if let Some(missing) = backup.filter(|path| !path.is_file()) {
            let problem = "there is no such file; `--from` names a backup".to_owned();
            return Err(StoreError::Open { path: missing.to_owned(), problem });
        }
        let mut merged = rebuild::merge(&self.path(), &self.work, damaged, backup, judge, tell)?;
        if damaged.is_none() {
            merged.notes.push("there is no store: everything is from the backup and the vendors".to_owned());
        }
        Ok(merged)
    }

    /// Records registrations as they are: changed ones in the place of those with the same id, others as new.
    ///
    /// # Errors
    /// What the new file meets.
    pub fn record(&self, registrations: Vec<Registration>) -> Result<(), StoreError> {
        rebuild::record(&self.path(), registrations)
    }

    /// The name that the damaged file will get, in the same folder; nothing when there is none.
    #[must_use]
    pub fn damaged_name(&self) -> Option<PathBuf> {
        self.store.exists().then(|| {
            let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
            let name = |n: u32| {
                beside(&self.store, &format!(".damaged-{now}{}", if n > 0 { format!("-{n}") } else { String::new() }))
            };
            (0..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(u32::MAX))
        })
    }

    /// Checks the new store, makes it durable, and puts it into the place of the old one, which is kept as `damaged`
    /// together with its log. `report` is handed out again if this is interrupted.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the new store does not pass its check; [`StoreError::Open`] when files cannot be
    /// renamed: then the next rebuild goes on from there.
    pub fn finish(mut self, damaged: Option<&Path>, report: &[u8]) -> Result<(), StoreError> {
        let failed = |error: io::Error| failed(&self.store, &error);
        let new = self.path();
        let connection = open::reader(&new, super::BUSY)?;
        let found = problems(&connection, "integrity_check(20)");
        if !found.is_empty() {
            return Err(StoreError::Corrupt(format!("the new store did not pass its check ({})", found.join("; "))));
        }
        connection.close().map_err(|(_, error)| store_error(error))?;
        for end in ["-wal", "-shm"] {
            remove(&beside(&new, end)).map_err(failed)?;
        }
        keep_owner(&self.store, &new);
        File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
        let name = damaged.and_then(|path| path.file_name()).unwrap_or_default();
        let noted = [name.as_encoded_bytes(), b"\n", report].concat();
        let draft = self.work.join("draft");
        fs::write(&draft, noted).and_then(|()| File::open(&draft)?.sync_all()).map_err(failed)?;
        sync_folder(&self.work).map_err(failed)?;
        fs::rename(&draft, self.work.join(COMPLETE)).map_err(failed)?;
        sync_folder(&self.work).map_err(failed)?;
        sync_folder(parent(&self.work)).map_err(failed)?;
        let done = put_into_place(&self.store, &self.work, damaged.unwrap_or_else(|| Path::new("")));
        done.map_err(failed)?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Rebuild {
    fn drop(&mut self) {
        if !self.is_complete && !is_unfinished(&self.store) {
            // what stays is removed by the next rebuild
            let _ = fs::remove_dir_all(&self.work);
        }
    }
}

/// Every step may have been done before. The name of the store always names a file: first the old one gets a second name,
/// its log with it; then its log goes, which SQLite would take for the new one's; then the new one takes its name.
fn put_into_place(store: &Path, work: &Path, damaged: &Path) -> io::Result<()> {
    let new = work.join(NEW);
    if new.exists() {
        if damaged.file_name().is_some() && store.exists() {
            for end in ["-wal", ""] {
                also_called(&beside(store, end), &beside(damaged, end))?;
            }
            sync_folder(parent(store))?;
        }
        for end in ["-wal", "-shm"] {
            remove(&beside(store, end))?;
        }
        sync_folder(parent(store))?;
        fs::rename(&new, store)?;
        sync_folder(parent(store))?;
    }
    // the mark goes first: without it the rest is nobody's
    remove(&work.join(COMPLETE))?;
    sync_folder(work)?;
    fs::remove_dir_all(work)?;
    sync_folder(parent(work))
}

/// A second name for a file, if there is one, and the second name is not taken.
fn also_called(file: &Path, name: &Path) -> io::Result<()> {
    if !file.exists() || name.exists() {
        return Ok(());
    }
    if fs::hard_link(file, name).is_ok() {
        return Ok(());
    }
    // a file system without hard links
    let draft = beside(name, ".draft");
    fs::copy(file, &draft)?;
    File::open(&draft)?.sync_all()?;
    fs::rename(draft, name)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The folder of a file.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whoever rebuilds may be another user than the gateway.
#[cfg(unix)]
fn keep_owner(old: &Path, new: &Path) {
    use std::os::unix::fs::{MetadataExt as _, chown};

    let owner = fs::metadata(old).or_else(|_| fs::metadata(parent(old)));
    let own = fs::metadata(new).map(|file| (file.uid(), file.gid())).ok();
    let owner = owner.map(|file| (file.uid(), file.gid())).ok().filter(|owner| Some(*owner) != own);
    if let Some((user, group)) = owner
        && let Err(error) = chown(new, Some(user), Some(group))
    {
        tracing::warn!(%error, "the new store belongs to another user than the old one; `chown` it");
    }
}

#[cfg(not(unix))]
fn keep_owner(_old: &Path, _new: &Path) {}

fn failed(store: &Path, error: &io::Error) -> StoreError {
    let problem = format!("it cannot be rebuilt in its folder ({error}); is that writable, and is there space?");
    StoreError::Open { path: store.to_owned(), problem }
}
