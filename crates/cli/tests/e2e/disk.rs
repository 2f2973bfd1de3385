//! A disk that fails when it is told to: `strace` injects errors into the calls that a running gateway makes for its store.
//! Where there is no `strace`, or tracing is not permitted, the tests that need it say so and do nothing, or fail when
//! `REGISTRAR_REQUIRE_STRACE` is 1. And a small disk that can be filled, where mounting is permitted, or
//! `REGISTRAR_REQUIRE_MOUNT` is 1.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    path::PathBuf,
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
    log: PathBuf,
}

/// No space is left for the next write of each thread; there is for those after it, but none for a new ballast.
pub(crate) const FULL_UNTIL_GIVEN_UP: &[&str] = &["pwrite64:error=ENOSPC:when=1", "fallocate:error=ENOSPC"];

/// From its return on, the store's disk fails in this way. Nothing where that is not possible here.
pub(crate) fn fail(gateway: &Gateway, how: &str) -> Option<Failing> {
    fail_in(gateway, &[how])
}

/// The same, in several ways.
pub(crate) fn fail_in(gateway: &Gateway, ways: &[&str]) -> Option<Failing> {
    let log = gateway.folder.path().join(format!("strace.{}.log", gateway.pid()));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-p", &gateway.pid().to_string(), "-o"]).arg(&log);
    for file in ["registrar.db", "registrar.db-wal", "registrar.db-ballast"] {
        // as the kernel names it
        strace.arg("-P").arg(gateway.folder.path().canonicalize().unwrap().join(file));
    }
    strace.args(["-e", "trace=pwrite64,fsync,fdatasync,ftruncate,fallocate"]);
    for how in ways {
        strace.args(["-e", &format!("inject={how}")]);
    }
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

/// A disk of 16 MiB, in memory, with all temporary folders of this process.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

/// That of a process of its own, which sees it alone and runs nothing but this test; nothing in the process that starts
/// it, after that has succeeded, or where mounting is not permitted.
pub(crate) fn small_disk(test: &str) -> Option<SmallDisk> {
    const CHILD: &str = "REGISTRAR_TEST_DISK";

    if let Some(folder) = std::env::var_os(CHILD) {
        return Some(SmallDisk { folder: folder.into() });
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |script: &str, flags: &str| {
        let mut child = Command::new("unshare");
        child.arg(flags).args(["sh", "-c", script]).arg(std::env::current_exe().unwrap());
        child.env(CHILD, folder.path()).env("TMPDIR", folder.path()).output()
    };
    let mount = format!("mount -t tmpfs -o size=16M tmpfs \"${CHILD}\"");
    // as root, or as whoever may be root among themselves
    let fit = ["-m", "-rm"].into_iter().find(|flags| run(&mount, flags).is_ok_and(|out| out.status.success()));
    let Some(flags) = fit else {
        let required = std::env::var("REGISTRAR_REQUIRE_MOUNT").is_ok_and(|value| value == "1");
        assert!(!required, "`unshare -m` and `mount` are required");
        let _ = writeln!(std::io::stderr(), "SKIPPED: mounting is not permitted; what a full disk does is not shown");
        return None;
    };
    let output = run(&format!("{mount} && exec \"$0\" --exact {test} --nocapture"), flags).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "{told}");
    None
}

impl SmallDisk {
    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Takes all that is left of it.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let error = loop {
            if let Err(error) = filler.write_all(&[0xff; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    /// Gives it back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}
