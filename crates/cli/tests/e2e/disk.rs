//! A disk that fails when it is told to: `strace` injects errors into the calls that a running gateway makes for its store.
//! Where there is no `strace`, or tracing is not permitted, the tests that need it say so and do nothing, or fail when
//! `REGISTRAR_REQUIRE_STRACE` is 1.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use crate::running::Gateway;

/// No space is left, from now on.
pub(crate) const FULL: &str = "pwrite64:error=ENOSPC";
/// What is written does not reach the disk, from now on.
pub(crate) const FAILING: &str = "fsync,fdatasync:error=EIO";

/// A disk that fails until this is dropped, or the gateway ends.
pub(crate) struct Failing {
    strace: Child,
    log: std::path::PathBuf,
}

/// From its return on, the store's disk fails in this way. Nothing where that is not possible here.
pub(crate) fn fail(gateway: &Gateway, how: &str) -> Option<Failing> {
    let log = gateway.folder.path().join(format!("strace.{}.log", gateway.pid()));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-p", &gateway.pid().to_string(), "-o"]).arg(&log);
    for file in ["registrar.db", "registrar.db-wal"] {
        // as the kernel names it
        strace.arg("-P").arg(gateway.folder.path().canonicalize().unwrap().join(file));
    }
    strace.args(["-e", "trace=pwrite64,fsync,fdatasync,ftruncate", "-e", &format!("inject={how}")]);
    let Ok(mut strace) = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
        return skipped("strace is not installed");
    };
    let mut told = String::new();
    let mut stderr = BufReader::new(strace.stderr.take().unwrap());
    while !told.contains(" attached") {
        if stderr.read_line(&mut told).unwrap() == 0 {
            strace.wait().unwrap();
            return skipped(&told);
        }
    }
    // it also reports every thread that begins
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    Some(Failing { strace, log })
}

fn skipped(why: &str) -> Option<Failing> {
    let required = std::env::var("REGISTRAR_REQUIRE_STRACE").is_ok_and(|value| value == "1");
    assert!(!required, "strace is required: {why}");
    // past the capture of the test harness: somebody should see it
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}; what a failing disk does is not shown");
    None
}

impl Failing {
    /// The calls for the store's files, oldest first. Those that failed end in `(INJECTED)`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains('(')).map(str::to_owned).collect()
    }

    /// How many calls failed.
    pub(crate) fn failed(&self) -> usize {
        self.calls().iter().filter(|call| call.contains("INJECTED")).count()
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // it lets go of the gateway, which goes on
        let _ = Command::new("kill").args(["-INT", &self.strace.id().to_string()]).status();
        let _ = self.strace.wait();
    }
}
