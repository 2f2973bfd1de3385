//! A SQLite store with a ballast on a disk that is really full: a small file system in memory, mounted where only a
//! process of its own sees it. Where mounting is not permitted, the tests say so and do nothing, or fail when
//! `REGISTRAR_REQUIRE_MOUNT` is 1.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "samples for other tests, too")]
mod common;

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{first, intent, registration, succeeded, unkeyed};
use registrar_store::{Operation, OperationState, RegistrationChange, SqliteStore, Store, StoreError, Trouble};

const MIB: u64 = 1 << 20;
const BALLAST: u64 = 2 * MIB;
const FULL: StoreError = StoreError::Unavailable(Trouble::Full);

/// Tells the process of its own where its disk is.
const CHILD: &str = "REGISTRAR_STORE_TEST_DISK";

/// The folder of a disk of 12 MiB, in a process of its own that runs nothing but this test; nothing in the process that
/// starts it, after that has succeeded, or where it is not possible.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(CHILD) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |script: &str, flags: &str| -> Option<Output> {
        let mut child = Command::new("unshare");
        child.arg(flags).args(["sh", "-c", script]).arg(std::env::current_exe().unwrap()).env(CHILD, folder.path());
        child.output().ok()
    };
    let mount = format!("mount -t tmpfs -o size=12M tmpfs \"${CHILD}\"");
    // as root, or as whoever may be root among themselves
    let fit = ["-m", "-rm"].into_iter().find(|flags| run(&mount, flags).is_some_and(|out| out.status.success()));
    let Some(flags) = fit else {
        let required = std::env::var("REGISTRAR_REQUIRE_MOUNT").is_ok_and(|value| value == "1");
        assert!(!required, "`unshare -m` and `mount` are required");
        // past the capture of the test harness: somebody should see it
        let _ = writeln!(std::io::stderr(), "SKIPPED: mounting is not permitted; {test} is not shown");
        return None;
    };
    let output = run(&format!("{mount} && exec \"$0\" --exact {test} --nocapture"), flags).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "{told}");
    None
}

/// Takes all that is left of the disk.
fn fill(folder: &Path) {
    let mut file = File::options().append(true).create(true).open(folder.join("filler")).unwrap();
    let page = [0xff; 4096];
    loop {
        match file.write_all(&page) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => unreachable!("{error}"),
        }
    }
}

fn empty(folder: &Path) {
    fs::remove_file(folder.join("filler")).unwrap();
}

fn ballast(folder: &Path) -> Option<u64> {
    fs::metadata(folder.join("registrar.db-ballast")).ok().map(|file| file.blocks() * 512)
}

fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open_with_ballast(&folder.join("registrar.db"), BALLAST)
}

/// Intents of many pages each: all in the log, none of it in the file.
async fn begun(store: &SqliteStore) -> Vec<Operation> {
    let mut begun = Vec::new();
    for _ in 0..20 {
        let mut operation = intent();
        operation.summary = "x".repeat(40_000).into();
        store.begin(unkeyed(operation.clone())).await.unwrap();
        begun.push(operation);
    }
    begun
}

async fn finish(store: &SqliteStore, operation: &Operation) -> Result<(), StoreError> {
    let registration = registration("a", &operation.id.to_string(), "A");
    store.finish(succeeded(operation.id).into(), Some(RegistrationChange::Insert(Arc::new(registration)))).await
}

async fn in_state(store: &SqliteStore, state: OperationState) -> usize {
    store.operations(Some(state), first(200)).await.unwrap().items.len()
}

/// Until new writes are taken; there is a try every second.
async fn admitted(store: &SqliteStore) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.ping().await {
        assert_eq!(error, FULL);
        assert!(Instant::now() < deadline, "it is not taken back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn results_are_recorded_on_a_full_disk_and_nothing_new_is_begun() {
    let Some(folder) = small_disk("results_are_recorded_on_a_full_disk_and_nothing_new_is_begun") else { return };
    let store = open(&folder).unwrap();
    assert_eq!(ballast(&folder), Some(BALLAST));
    let operations = begun(&store).await;
    fill(&folder);
    assert_eq!(store.begin(unkeyed(intent())).await.map(drop), Err(FULL));
    assert_eq!(ballast(&folder), Some(BALLAST), "it is for results only");
    // a batch of both
    let (new, result) = tokio::join!(store.begin(unkeyed(intent())), finish(&store, &operations[0]));
    assert_eq!((new.map(drop), result), (Err(FULL), Ok(())));
    assert_eq!(ballast(&folder), None);
    for operation in &operations[1..] {
        finish(&store, operation).await.unwrap();
        assert_eq!(store.begin(unkeyed(intent())).await.map(drop), Err(FULL), "what is left is for results");
        assert_eq!(store.ping().await, Err(FULL));
    }
    assert_eq!(in_state(&store, OperationState::Succeeded).await, operations.len());
    empty(&folder);
    admitted(&store).await;
    assert_eq!(ballast(&folder), Some(BALLAST));
    store.begin(unkeyed(intent())).await.unwrap();
    store.close().await;
    // the whole file is checked here
    let store = open(&folder).unwrap();
    let found = (in_state(&store, OperationState::Succeeded).await, in_state(&store, OperationState::Pending).await);
    assert_eq!(found, (operations.len(), 1));
}

/// Somebody else takes what was given up, too: then nothing can be recorded, and nothing is broken.
#[tokio::test]
async fn a_disk_that_is_full_twice_and_checkpoints_that_fail_do_no_harm() {
    let Some(folder) = small_disk("a_disk_that_is_full_twice_and_checkpoints_that_fail_do_no_harm") else { return };
    let store = open(&folder).unwrap();
    let operations = begun(&store).await;
    fill(&folder);
    let other = rusqlite::Connection::open(folder.join("registrar.db")).unwrap();
    let checkpoint = || other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    let failed = checkpoint().unwrap_err();
    assert_eq!(failed.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull), "the file cannot grow");
    finish(&store, &operations[0]).await.unwrap();
    fill(&folder);
    checkpoint().unwrap_err();
    let refused = loop {
        // the last one may have left a page
        match finish(&store, &operations[1 + in_state(&store, OperationState::Succeeded).await]).await {
            Ok(()) => fill(&folder),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, FULL);
    assert_eq!(store.ping().await, Err(FULL), "it goes on, and is not stopped");
    let done = in_state(&store, OperationState::Succeeded).await;
    empty(&folder);
    admitted(&store).await;
    checkpoint().unwrap();
    for operation in operations.iter().rev().take(operations.len() - done - 1) {
        finish(&store, operation).await.unwrap();
    }
    assert_eq!(in_state(&store, OperationState::Succeeded).await, operations.len() - 1);
    store.close().await;
    drop(other);
    open(&folder).unwrap();
}

/// A start needs some space itself: for the log and its index, and for what an earlier process left in the log and must
/// be moved into the file. The ballast is given up for that, too.
#[tokio::test]
async fn a_gateway_starts_on_a_full_disk_by_its_ballast_and_with_less_space_without_one() {
    let test = "a_gateway_starts_on_a_full_disk_by_its_ballast_and_with_less_space_without_one";
    let Some(folder) = small_disk(test) else { return };
    let plain = || SqliteStore::open(&folder.join("registrar.db")).map(drop);
    open(&folder).unwrap().close().await;
    fill(&folder);
    assert_eq!(plain(), Err(FULL));
    let store = open(&folder).unwrap();
    assert_eq!((ballast(&folder), store.ping().await), (None, Err(FULL)));
    empty(&folder);
    admitted(&store).await;
    let operations = begun(&store).await;
    // as if it was killed: nothing is moved into the file
    std::mem::forget(store);
    fill(&folder);
    assert_eq!(plain(), Err(FULL));
    let store = open(&folder).unwrap();
    assert_eq!((ballast(&folder), store.ping().await), (None, Err(FULL)));
    finish(&store, &operations[0]).await.unwrap();
    store.close().await;
    fill(&folder);
    let filler = File::options().write(true).open(folder.join("filler")).unwrap();
    filler.set_len(filler.metadata().unwrap().len() - BALLAST / 2).unwrap();
    let store = open(&folder).unwrap();
    assert_eq!((ballast(&folder), store.ping().await), (None, Ok(())), "as before there was a ballast");
    assert_eq!(in_state(&store, OperationState::Succeeded).await, 1);
    store.begin(unkeyed(intent())).await.unwrap();
    fill(&folder);
    while store.begin(unkeyed(intent())).await.is_ok() {}
    assert_eq!(finish(&store, &operations[1]).await, Err(FULL), "there is nothing to give up");
}
