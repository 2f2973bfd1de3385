//! The log, on stderr: text for people at a terminal, JSON otherwise. One that cannot be written costs nothing but its lines.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::output;

/// The longest that a line waits for a reader that does not read; once, until it reads again.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const NO_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// A pipe that is writable takes as many bytes at once (POSIX, PIPE_BUF on Linux).
const AT_ONCE: usize = 4096;

static LOST: AtomicU64 = AtomicU64::new(0);
static STALLED: AtomicBool = AtomicBool::new(false);

/// How many lines could not be written.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("REGISTRAR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // it would tell of a line that cannot be written by another one, and panic
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr).log_internal_errors(false);
    // a second subscriber (tests in one process) is not needed
    let installed = if io::stderr().is_terminal() {
        subscriber.with_ansi(std::env::var_os("NO_COLOR").is_none()).try_init()
    } else {
        subscriber.json().flatten_event(true).with_current_span(false).try_init()
    };
    if let Err(error) = installed {
        output::note(&format!("logging: {error}"));
    }
}

struct Stderr;

impl<'w> MakeWriter<'w> for Stderr {
    type Writer = Lines<io::StderrLock<'static>>;

    fn make_writer(&'w self) -> Self::Writer {
        Lines { out: io::stderr().lock(), stalled: &STALLED, lost: &LOST }
    }
}

/// Writes lines, and loses those that cannot be written: it never fails, and waits for a reader once.
struct Lines<W> {
    out: W,
    stalled: &'static AtomicBool,
    lost: &'static AtomicU64,
}

impl<W: Write + AsFd> Lines<W> {
    fn try_line(&mut self, line: &[u8]) -> io::Result<()> {
        for piece in line.chunks(AT_ONCE) {
            self.wait()?;
            self.out.write_all(piece)?;
        }
        self.out.flush()
    }

    /// Waits until the next bytes are taken without blocking; files are always ready.
    fn wait(&mut self) -> io::Result<()> {
        let patience = if self.stalled.load(Ordering::Relaxed) { NO_PATIENCE } else { PATIENCE };
        let mut ends = [PollFd::new(&self.out, PollFlags::OUT)];
        let ready = poll(&mut ends, Some(&patience))? > 0;
        self.stalled.store(!ready, Ordering::Relaxed);
        if ready { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl<W: Write + AsFd> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.try_line(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, io::pipe};

    use super::*;

    fn lines<W: Write + AsFd>(out: W) -> Lines<W> {
        Lines { out, stalled: Box::leak(Box::default()), lost: Box::leak(Box::default()) }
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_counted() {
        let mut full = lines(File::options().write(true).open("/dev/full").unwrap());
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut closed = lines(writer);
        for n in 1..=3 {
            full.write_all(b"a line\n").unwrap();
            closed.write_all(b"a line\n").unwrap();
            assert_eq!([full.lost.load(Ordering::Relaxed), closed.lost.load(Ordering::Relaxed)], [n, n]);
        }
    }

    #[test]
    fn a_reader_that_stalls_is_waited_for_once_and_read_by_again() {
        let (mut reader, writer) = pipe().unwrap();
        let mut log = lines(writer);
        let line = [b'x'; 1000];
        while log.lost.load(Ordering::Relaxed) < 100 {
            log.write_all(&line).unwrap();
        }
        assert!(log.stalled.load(Ordering::Relaxed));
        reader.read_exact(&mut [0; 32 * 1024]).unwrap();
        log.write_all(&line).unwrap();
        assert_eq!(log.lost.load(Ordering::Relaxed), 100);
        assert!(!log.stalled.load(Ordering::Relaxed));
    }
}
