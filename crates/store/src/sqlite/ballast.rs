//! The ballast: a file of zeros beside the store that keeps space on its disk. When the disk is full it is given up, so
//! that what vendors have done is still recorded; nothing new is begun until there is space for it again (reliability
//! F31).

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two tries to have it back. While there is too little space, a try is one look at how much is free.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries to have one that this process never had: nobody waits for that.
const LONG_PAUSE: Duration = Duration::from_mins(1);
/// How many zeros are written at once, where they must be written.
const CHUNK: u64 = 1 << 20;

/// A file that is there to be given up.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// In bytes; 0 when none is wanted.
    size: u64,
    state: State,
    /// It is being made, on a file system that must be written to keep space.
    filling: Option<Filling>,
    /// When it was last tried to make it, or when it was given up.
    tried: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is there.
    Held,
    /// It is not, and nothing says that the disk is full.
    Missing,
    /// The disk was full then, and there has been no space for it since.
    GivenUp(Instant),
}

/// How it was made, or is about to be.
enum Made {
    Whole,
    ByWriting(Filling),
}

impl Ballast {
    /// None, and none is made.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), size: 0, state: State::Missing, filling: None, tried: None }
    }

    /// That of a store, of so many bytes: what an earlier process left, if it is whole. Makes none yet.
    pub(super) fn beside(store: &Path, size: u64) -> Self {
        let mut name = store.to_owned().into_os_string();
        name.push("-ballast");
        let path = PathBuf::from(name);
        let held = size > 0 && fs::symlink_metadata(&path).is_ok_and(|file| is_whole(&file, size));
        Self { path, size, state: if held { State::Held } else { State::Missing }, filling: None, tried: None }
    }

    /// Whether anything new may be written: what is left of a full disk belongs to results.
    pub(super) fn admits(&self) -> bool {
        !matches!(self.state, State::GivenUp(_))
    }

    /// Makes it if it is not there, and the last try is long enough ago.
    pub(super) fn restore(&mut self, now: Instant) {
        if self.size == 0 || self.state == State::Held {
            return;
        }
        if let Some(filling) = self.filling.take_if(|filling| filling.thread.is_finished()) {
            let made = filling.end().inspect_err(|_| discard(&self.path));
            self.conclude(made, now);
            return;
        }
        let pause = if self.admits() { LONG_PAUSE } else { PAUSE };
        if self.filling.is_some() || self.tried.is_some_and(|tried| now.saturating_duration_since(tried) < pause) {
            return;
        }
        let again = self.tried.replace(now).is_some() && self.admits();
        match self.make() {
            Ok(Made::Whole) => self.conclude(Ok(()), now),
            Ok(Made::ByWriting(filling)) => self.filling = Some(filling),
            // that was said at the first try
            Err(_) if again => {}
            Err(error) => self.conclude(Err(error), now),
        }
    }

    /// Whether there is anything to be given up.
    pub(super) fn can_be_given_up(&self) -> bool {
        self.state == State::Held || self.filling.is_some()
    }

    /// Gives its space back to a disk that is full. False if there was none to give.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        let released = match (self.filling.take(), self.state) {
            // what it has written so far is space, too; how far it came does not matter
            (Some(filling), _) => filling.end().or(Ok(())).and_then(|()| release(&self.path)),
            (None, State::Held) => release(&self.path),
            (None, _) => return false,
        };
        let (path, bytes) = (self.path.display(), self.size);
        match &released {
            Ok(()) => {
                tracing::error!(
                    %path, bytes,
                    "the disk is full: the ballast was given up, for the results of what was begun; new writes are \
                     refused until there is space for it again; free some space"
                );
                (self.state, self.tried) = (State::GivenUp(now), Some(now));
            }
            Err(error) => {
                tracing::error!(%path, %error, "the disk is full, and there was no ballast to give up; free some space");
                if self.admits() {
                    self.state = State::Missing;
                }
            }
        }
        released.is_ok()
    }

    /// What follows from a try, and the word about it.
    fn conclude(&mut self, made: io::Result<()>, now: Instant) {
        let (path, bytes) = (self.path.display(), self.size);
        match (made, self.state) {
            (Ok(()), State::GivenUp(since)) => {
                let seconds = now.saturating_duration_since(since).as_secs();
                tracing::info!(%path, bytes, seconds, "there is space again: the ballast is back, new writes are taken");
                self.state = State::Held;
            }
            (Ok(()), _) => {
                tracing::info!(%path, bytes, "there is a ballast now, to be given up when the disk is full");
                self.state = State::Held;
            }
            (Err(error), State::GivenUp(_)) if is_no_space(&error) => {}
            (Err(error), _) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(
                    %path, bytes,
                    "no ballast: this file system keeps no space for zeros. Should the disk fill up, results may be \
                     recorded late; use another file system, or set store.ballast to \"0\""
                );
                (self.size, self.state) = (0, State::Missing);
            }
            (Err(error), _) => {
                tracing::warn!(
                    %path, bytes, %error,
                    "no ballast: should the disk fill up, results may be recorded late. Free as much space, or lower \
                     store.ballast; it is tried again every minute"
                );
                // whatever it is: it does not say that the disk is full
                self.state = State::Missing;
            }
        }
    }

    /// From now on it would be of this size.
    #[cfg(test)]
    pub(super) fn resize(&mut self, bytes: u64) {
        self.size = bytes;
    }

    fn make(&self) -> io::Result<Made> {
        match fs::symlink_metadata(&self.path) {
            // of another size, or a copy with holes
            Ok(found) if found.is_file() => fs::remove_file(&self.path)?,
            Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "its name is taken; move away what has it")),
            Err(_) => {}
        }
        // a try that fails midway would take, for a moment, what is left from everybody else on the disk
        if free_space(&self.path).is_some_and(|free| free < self.size) {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = create(&self.path)?;
        let made = match allocate(&file, self.size) {
            Ok(()) if file.metadata().is_ok_and(|made| is_whole(&made, self.size)) => Ok(Made::Whole),
            // ZFS says that it did
            Ok(()) => file.set_len(0).and_then(|()| Filling::start(file, self.size)).map(Made::ByWriting),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                Filling::start(file, self.size).map(Made::ByWriting)
            }
            Err(error) => Err(error),
        };
        made.inspect_err(|_| discard(&self.path))
    }
}

/// A thread that writes zeros, where space cannot be had without: nobody waits for that.
#[derive(Debug)]
struct Filling {
    thread: JoinHandle<io::Result<()>>,
    /// No more is needed.
    enough: Arc<AtomicBool>,
}

impl Filling {
    fn start(file: File, size: u64) -> io::Result<Self> {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let thread =
            thread::Builder::new().name("registrar-ballast".to_owned()).spawn(move || fill(file, size, &told))?;
        Ok(Self { thread, enough })
    }

    /// Ends it, after one chunk more at most, if it has not ended.
    fn end(self) -> io::Result<()> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))
    }
}

fn fill(mut file: File, size: u64, enough: &AtomicBool) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        if enough.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        left -= io::copy(&mut io::Read::take(io::repeat(0), left.min(CHUNK)), &mut file)?;
    }
    file.flush()?;
    // some file systems decide only now where it is, and that it needs no place
    file.sync_all()?;
    if is_whole(&file.metadata()?, size) { Ok(()) } else { Err(ErrorKind::Unsupported.into()) }
}

/// Of this size, and in blocks that it really has.
fn is_whole(file: &fs::Metadata, size: u64) -> bool {
    file.is_file() && file.len() == size && blocks(file) >= size
}

/// What it takes of the disk, in bytes.
#[cfg(unix)]
fn blocks(file: &fs::Metadata) -> u64 {
    // these units are 512 bytes everywhere, stat(3type)
    std::os::unix::fs::MetadataExt::blocks(file).saturating_mul(512)
}

#[cfg(not(unix))]
fn blocks(file: &fs::Metadata) -> u64 {
    file.len()
}

/// A new file for the owner only; what has the name, a link for instance, is not followed.
fn create(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Has it take the space, which reads as zeros, without writing it.
#[cfg(target_os = "linux")]
fn allocate(file: &File, size: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::empty();
    Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, 0, size))?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(_file: &File, _size: u64) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// How many bytes are free for us where the file is, if that can be said.
#[cfg(target_os = "linux")]
fn free_space(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(target_os = "linux"))]
fn free_space(_path: &Path) -> Option<u64> {
    None
}

/// Gives the space back and removes the file.
fn release(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "its name is taken by something else"));
    }
    // first of its blocks: somebody who has it open, a backup, would keep them after it is removed
    fs::OpenOptions::new().write(true).open(path)?.set_len(0)?;
    // an empty file does no harm
    let _ = fs::remove_file(path);
    Ok(())
}

/// Removes what was not made completely; a rest is replaced at the next try.
fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    const SIZE: u64 = 3 << 20;

    /// That of a store in this folder, made if it was not there, and its file.
    fn ballast(folder: &tempfile::TempDir, size: u64) -> (Ballast, PathBuf) {
        let mut ballast = Ballast::beside(&folder.path().join("registrar.db"), size);
        ballast.restore(Instant::now());
        (ballast, folder.path().join("registrar.db-ballast"))
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn it_takes_its_space_for_the_owner_only_and_is_all_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let (ballast, path) = ballast(&folder, SIZE);
        assert_eq!((ballast.state, ballast.admits()), (State::Held, true));
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.len(), file.permissions().mode() & 0o777), (SIZE, 0o600));
        assert!(file.blocks() * 512 >= SIZE, "{} blocks", file.blocks());
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn one_that_is_whole_is_kept_and_any_other_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = ballast(&folder, SIZE);
        let first = inode(&path);
        let (kept, _) = ballast(&folder, SIZE);
        assert_eq!((kept.state, kept.tried, inode(&path)), (State::Held, None, first), "it is only looked at");
        let (_, _) = ballast(&folder, 2 * SIZE);
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * SIZE);
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().blocks(), 0, "a hole");
        let (made, _) = ballast(&folder, SIZE);
        assert_eq!(made.state, State::Held);
        assert!(is_whole(&fs::metadata(&path).unwrap(), SIZE));
    }

    #[test]
    fn given_up_it_is_gone_and_nothing_is_admitted_until_it_is_back_a_second_later() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ballast, path) = ballast(&folder, SIZE);
        // as a backup would
        let reader = File::open(&path).unwrap();
        let then = Instant::now();
        assert!(ballast.give_up(then));
        assert!(!ballast.admits() && !path.exists());
        assert_eq!(reader.metadata().unwrap().blocks(), 0, "its space is free although somebody has it open");
        assert!(!ballast.give_up(then), "there is no more");
        ballast.restore(then + Duration::from_millis(999));
        assert!(!ballast.admits() && !path.exists(), "not yet");
        ballast.restore(then + PAUSE);
        assert!(ballast.admits() && is_whole(&fs::metadata(&path).unwrap(), SIZE));
        assert!(ballast.give_up(then + PAUSE), "again");
    }

    #[test]
    fn while_there_is_no_space_for_it_it_stays_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ballast, path) = ballast(&folder, SIZE);
        let then = Instant::now();
        assert!(ballast.give_up(then));
        ballast.size = 1 << 60;
        ballast.restore(then + PAUSE);
        assert!(!ballast.admits() && !path.exists());
        ballast.size = SIZE;
        ballast.restore(then + 2 * PAUSE);
        assert!(ballast.admits());
        // what does not say that the disk is full does not keep anybody from writing
        assert!(ballast.give_up(then + 3 * PAUSE));
        fs::create_dir(&path).unwrap();
        ballast.restore(then + 4 * PAUSE);
        assert_eq!((ballast.state, ballast.admits()), (State::Missing, true));
    }

    #[test]
    fn one_that_never_was_refuses_nothing_and_is_tried_again_after_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ballast, path) = ballast(&folder, 1 << 60);
        assert_eq!((ballast.state, ballast.admits(), path.exists()), (State::Missing, true, false));
        assert!(!ballast.give_up(Instant::now()), "there is none");
        ballast.size = SIZE;
        let then = ballast.tried.unwrap();
        ballast.restore(then + PAUSE);
        assert_eq!(ballast.state, State::Missing);
        ballast.restore(then + LONG_PAUSE);
        assert_eq!(ballast.state, State::Held);
        let mut none = Ballast::none();
        none.restore(Instant::now());
        assert!(none.admits() && !none.give_up(Instant::now()));
    }

    #[test]
    fn one_that_somebody_removed_cannot_be_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ballast, path) = ballast(&folder, SIZE);
        fs::remove_file(&path).unwrap();
        assert!(!ballast.give_up(Instant::now()));
        assert_eq!(ballast.state, State::Missing);
    }

    #[test]
    fn what_else_has_its_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ballast, path) = ballast(&folder, SIZE);
        fs::remove_file(&path).unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, vec![7; usize::try_from(SIZE).unwrap()]).unwrap();
        symlink(&precious, &path).unwrap();
        assert!(!ballast.give_up(Instant::now()));
        let mut later = Ballast::beside(&folder.path().join("registrar.db"), SIZE);
        assert_eq!(later.state, State::Missing);
        later.restore(Instant::now());
        assert_eq!(later.state, State::Missing);
        assert!(path.is_symlink() && fs::read(&precious).unwrap().iter().all(|byte| *byte == 7));
    }

    /// Where space cannot be had without writing.
    #[test]
    fn it_is_written_beside_everything_else_and_can_be_given_up_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ballast, path) = ballast(&folder, SIZE);
        let again = |ballast: &mut Ballast, size: u64| {
            fs::remove_file(&path).unwrap();
            (ballast.state, ballast.size) = (State::Missing, size);
            ballast.filling = Some(Filling::start(create(&path).unwrap(), size).unwrap());
        };
        again(&mut ballast, SIZE + 1);
        while ballast.state != State::Held {
            ballast.restore(Instant::now());
            thread::yield_now();
        }
        assert!(is_whole(&fs::metadata(&path).unwrap(), SIZE + 1));
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
        // it would go on for long
        again(&mut ballast, 1 << 40);
        assert!(ballast.give_up(Instant::now()));
        assert!(!path.exists() && !ballast.admits());
    }
}
