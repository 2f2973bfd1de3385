//! The file of the SQLite store: what survives, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{fs, path::Path, sync::Arc};

use common::{change, first, insert, intent, labelled, registration, succeeded, unkeyed};
use registrar_model::State;
use registrar_store::{Begun, OperationState, RegistrationChange, SqliteStore, Store, StoreError, Trouble, open};
use rusqlite::Connection;
use serde_json::json;
use tempfile::{TempDir, tempdir};
use tokio::task::JoinSet;

async fn open_in(folder: &TempDir) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&folder.path().join("registrar.db"))
}

fn raw(folder: &TempDir) -> Connection {
    Connection::open(folder.path().join("registrar.db")).unwrap()
}

async fn pending(store: &dyn Store) -> usize {
    store.operations(Some(OperationState::Pending), first(200)).await.unwrap().items.len()
}

#[tokio::test]
async fn what_was_written_is_there_after_close_and_reopen() {
    let folder = tempdir().unwrap();
    let sample = labelled(registration("a", "c1", "A"), &[("team", "x")]);
    let store = open_in(&folder).await.unwrap();
    insert(&store, &sample).await;
    let operation = intent();
    store.begin(unkeyed(operation.clone())).await.unwrap();
    store.close().await;
    assert!(!folder.path().join("registrar.db-wal").exists(), "closing leaves one file");
    let store = open_in(&folder).await.unwrap();
    assert_eq!(store.registration(sample.id).await, Ok(Some(sample)));
    assert_eq!(store.operation(operation.id).await, Ok(Some(operation)));
}

/// A file of the first schema, as the program of that time left it, with a write that never ended.
#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date() {
    let folder = tempdir().unwrap();
    let (id, operation) = ("reg_0198c0de-0000-7000-8000-00000000abcd", "op_0198c0de-0000-7000-8000-00000000abcd");
    let old = Connection::open(folder.path().join("registrar.db")).unwrap();
    old.execute_batch(include_str!("../src/migrations/0001_initial.sql")).unwrap();
    old.execute_batch(&format!(
        "PRAGMA application_id = 1380406100; PRAGMA user_version = 1; \
         INSERT INTO registrations VALUES ('{id}', 'a', 'loop', 'c1', 'c1', 7, 3, 1, 2, 'active', \
         '{{\"metadata\":{{\"client_name\":\"Old\"}}}}', NULL, 'old'); \
         INSERT INTO operations VALUES ('{operation}', 'create', 'a', NULL, 'pending', 'unknown', 's', 1, 2, 1, '{{}}', \
         'r', 'p');"
    ))
    .unwrap();
    drop(old);
    let store = open_in(&folder).await.unwrap();
    let found = store.registration(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((found.version, found.spec.metadata.client_name.as_deref()), (3, Some("Old")));
    let claimed = store.claim("two", 0, 9, 10).await.unwrap();
    let seen: Vec<_> = claimed.iter().map(|o| (o.id.to_string(), o.lease.fence, o.desired.is_none())).collect();
    assert_eq!(seen, [(operation.to_owned(), 2, true)]);
}

/// Version 5 replaces tables that others refer to: nothing goes with the old ones.
#[tokio::test]
async fn replaced_tables_keep_what_refers_to_their_rows() {
    let folder = tempdir().unwrap();
    let (id, operation) = ("reg_0198c0de-0000-7000-8000-00000000abcd", "op_0198c0de-0000-7000-8000-00000000abcd");
    let old = Connection::open(folder.path().join("registrar.db")).unwrap();
    for step in [
        include_str!("../src/migrations/0001_initial.sql"),
        include_str!("../src/migrations/0002_exactly_once.sql"),
        include_str!("../src/migrations/0003_standards_front.sql"),
        include_str!("../src/migrations/0004_dcr.sql"),
    ] {
        old.execute_batch(step).unwrap();
    }
    old.execute_batch(&format!(
        "PRAGMA application_id = 1380406100; PRAGMA user_version = 4; \
         INSERT INTO registrations VALUES ('{id}', 'a', 'loop', 'c1', 'c1', 7, 3, 1, 2, 'disabled', \
         '{{\"metadata\":{{}}}}', NULL, 'old', x'01', zeroblob(32), zeroblob(32), 9, '{{\"route\":\"r\"}}'); \
         INSERT INTO labels VALUES ('{id}', 'team', 'web'); \
         INSERT INTO operations VALUES ('{operation}', 'rotate', 'a', '{id}', 'succeeded', 'performed', 's', 1, 2, 1, \
         '{{}}', 'r', 'p', NULL, 'o', 3, 4, x'05', 99); \
         INSERT INTO idempotency_keys VALUES (zeroblob(32), zeroblob(32), '{operation}', 5);"
    ))
    .unwrap();
    drop(old);
    let store = open_in(&folder).await.unwrap();
    let found = store.registration(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((found.state, found.labels["team"].as_str()), (State::Disabled, "web"));
    assert_eq!(found.hidden.previous_access_token, Some(([0; 32], 9)));
    assert_eq!(found.hidden.dcr, Some(json!({"route": "r"})));
    let used = store.key_use(&[0; 32], 0).await.unwrap().unwrap();
    assert_eq!(used.operation.to_string(), operation);
    assert_eq!(store.sealed(used.operation, 0).await.unwrap().unwrap().bytes, [5]);
    assert_eq!(store.operation(used.operation).await.unwrap().unwrap().lease.fence, 4);
    drop(store);
    // and from now on what refers to a row goes with it again
    let file = raw(&folder);
    file.execute("DELETE FROM registrations", []).unwrap();
    assert_eq!(file.query_row("SELECT count(*) FROM labels", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn closing_carries_out_what_was_started() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open_in(&folder).await.unwrap());
    let mut writes = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.begin(unkeyed(intent())).await });
    }
    // however many got in before the close
    tokio::task::yield_now().await;
    store.close().await;
    let done = writes.join_all().await;
    assert!(done.iter().all(|r| matches!(r, Ok(_) | Err(StoreError::Closed))), "{done:?}");
    let store = open_in(&folder).await.unwrap();
    assert_eq!(pending(&store).await, done.iter().filter(|r| r.is_ok()).count());
}

#[tokio::test]
async fn what_was_answered_survives_a_drop_without_close() {
    let folder = tempdir().unwrap();
    let store = open_in(&folder).await.unwrap();
    let sample = registration("a", "c1", "A");
    insert(&store, &sample).await;
    drop(store);
    let store = open_in(&folder).await.unwrap();
    assert_eq!(store.registration(sample.id).await, Ok(Some(sample)));
}

/// What a killed process leaves are its files as they are: the copy of a store in use has all that was answered.
#[tokio::test]
async fn sixty_four_intents_at_once_are_all_durable_when_answered() {
    let folder = tempdir().unwrap();
    let store = Arc::new(open_in(&folder).await.unwrap());
    let mut writes = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.begin(unkeyed(intent())).await });
    }
    assert_eq!(writes.join_all().await, vec![Ok(Begun::New); 64]);
    let copy = tempdir().unwrap();
    for file in ["registrar.db", "registrar.db-wal"] {
        fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    assert_eq!(pending(&open_in(&copy).await.unwrap()).await, 64);
}

/// A log that may be whole in memory only is not appended to: what it holds is in the file before the first new write.
#[tokio::test]
async fn what_a_dead_process_left_in_its_log_is_moved_into_the_file_at_the_next_start() {
    let (folder, dead, alone) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let store = open_in(&folder).await.unwrap();
    for _ in 0..3 {
        store.begin(unkeyed(intent())).await.unwrap();
    }
    for file in ["registrar.db", "registrar.db-wal"] {
        fs::copy(folder.path().join(file), dead.path().join(file)).unwrap();
    }
    let next = open_in(&dead).await.unwrap();
    fs::copy(dead.path().join("registrar.db"), alone.path().join("registrar.db")).unwrap();
    assert_eq!(pending(&open_in(&alone).await.unwrap()).await, 3, "without its log");
    // and the log begins anew
    let length = || fs::metadata(dead.path().join("registrar.db-wal")).unwrap().len();
    let before = length();
    next.begin(unkeyed(intent())).await.unwrap();
    assert_eq!(length(), before);
    assert_eq!(pending(&next).await, 4);
}

/// A log cut off at any byte, as a crash in the middle of a commit leaves it, loses only what had not been answered.
#[tokio::test]
async fn a_torn_log_is_recovered_up_to_its_last_commit() {
    let folder = tempdir().unwrap();
    let log = |folder: &TempDir| folder.path().join("registrar.db-wal");
    let store = open_in(&folder).await.unwrap();
    let mut answered = Vec::new();
    for _ in 0..6 {
        store.begin(unkeyed(intent())).await.unwrap();
        answered.push(fs::metadata(log(&folder)).unwrap().len());
    }
    let whole = fs::read(log(&folder)).unwrap();
    for cut in (0..=whole.len()).step_by(1500).chain(answered.iter().map(|n| usize::try_from(*n).unwrap())) {
        let copy = tempdir().unwrap();
        fs::copy(folder.path().join("registrar.db"), copy.path().join("registrar.db")).unwrap();
        fs::write(log(&copy), &whole[..cut]).unwrap();
        let expected = answered.iter().filter(|n| **n <= cut as u64).count();
        match open_in(&copy).await {
            Ok(store) => assert_eq!(pending(&store).await, expected, "cut at {cut}"),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
}

#[tokio::test]
async fn another_process_can_add_an_api_key_meanwhile() {
    let folder = tempdir().unwrap();
    let (server, cli) = (open_in(&folder).await.unwrap(), open_in(&folder).await.unwrap());
    let key = registrar_store::ApiKey {
        id: "k1".to_owned(),
        name: "ci".to_owned(),
        hash: [1; 32],
        scopes: Vec::new(),
        created_at: 1,
    };
    cli.put_api_key(key.clone()).await.unwrap();
    cli.close().await;
    assert_eq!(server.api_key("k1").await, Ok(Some(key)));
    server.begin(unkeyed(intent())).await.unwrap();
    assert_eq!(pending(&server).await, 1);
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempdir().unwrap();
    let store = open_in(&folder).await.unwrap();
    store.begin(unkeyed(intent())).await.unwrap();
    for file in ["registrar.db", "registrar.db-wal", "registrar.db-shm"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn urls_open_or_say_what_is_wrong() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a b.db");
    open(&format!("sqlite:{}", path.display())).await.unwrap().ping().await.unwrap();
    assert!(path.exists());
    open("memory:").await.unwrap().ping().await.unwrap();
    let error = open("postgres://u:hunter2@h").await.unwrap_err();
    assert!(matches!(&error, StoreError::Url(_)) && !error.to_string().contains("hunter2"), "{error}");
    let nowhere = folder.path().join("nowhere");
    let error = open(&format!("sqlite:{}/registrar.db", nowhere.display())).await.unwrap_err().to_string();
    assert!(error.contains(&format!("`{}` does not exist", nowhere.display())), "{error}");
    let error = open(&format!("sqlite:{}", folder.path().display())).await.unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // permissions do not stop root; sysfs does
    let root = fs::write(folder.path().join("probe"), "").is_ok();
    let path = if root { Path::new("/sys") } else { folder.path() }.join("registrar.db");
    let error = SqliteStore::open(&path).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Open { .. }), "{text}");
    assert!(text.contains(path.to_str().unwrap()) && text.contains("writable"), "{text}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempdir().unwrap();
    open_in(&folder).await.unwrap().close().await;
    raw(&folder).pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(folder.path().join("registrar.db")).unwrap();
    let error = open_in(&folder).await.unwrap_err();
    assert!(matches!(&error, StoreError::Incompatible(text) if text.contains("99")), "{error}");
    assert!(fs::read(folder.path().join("registrar.db")).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let strangers: [fn(&Connection); 3] = [
        |c| c.execute_batch("CREATE TABLE mine (a)").unwrap(),
        |c| c.pragma_update(None, "application_id", 42).unwrap(),
        |c| c.pragma_update(None, "user_version", 1).unwrap(),
    ];
    for make in strangers {
        let folder = tempdir().unwrap();
        make(&raw(&folder));
        let before = fs::read(folder.path().join("registrar.db")).unwrap();
        let error = open_in(&folder).await.unwrap_err();
        assert!(matches!(&error, StoreError::Incompatible(text) if text.contains("another program")), "{error}");
        assert!(fs::read(folder.path().join("registrar.db")).unwrap() == before, "the file was changed");
    }
}

#[tokio::test]
async fn many_that_open_a_new_file_at_once_all_succeed() {
    let folder = tempdir().unwrap();
    let start = Arc::new(std::sync::Barrier::new(8));
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let (path, start) = (folder.path().join("registrar.db"), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                SqliteStore::open(&path)
            })
        })
        .collect();
    for thread in opening {
        thread.join().unwrap().unwrap().begin(unkeyed(intent())).await.unwrap();
    }
    assert_eq!(pending(&open_in(&folder).await.unwrap()).await, 8);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("registrar.db"), "not a database, but long enough to have a header\n".repeat(99))
        .unwrap();
    let error = open_in(&folder).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = tempdir().unwrap();
    let store = open_in(&folder).await.unwrap();
    for i in 0..50 {
        insert(&store, &registration("a", &format!("c{i}"), "A")).await;
    }
    store.close().await;
    let path = folder.path().join("registrar.db");
    let whole = fs::read(&path).unwrap();
    // the heads of all pages but the first, which hold their structure
    let mut damaged = whole.clone();
    for page in damaged.chunks_mut(4096).skip(1) {
        page[..64].fill(0xa5);
    }
    fs::write(&path, damaged).unwrap();
    let error = open_in(&folder).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    // half of it is missing
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = open_in(&folder).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    fs::write(&path, whole).unwrap();
    open_in(&folder).await.unwrap();
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_reported_by_id_without_its_content() {
    let folder = tempdir().unwrap();
    let store = open_in(&folder).await.unwrap();
    let sample = registration("a", "c1", "A");
    insert(&store, &sample).await;
    raw(&folder).execute("UPDATE registrations SET spec = '{\"metadata\": \"hunter2\"}'", []).unwrap();
    let error = store.registration(sample.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains(&sample.id.to_string()) && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_was_removed_is_overwritten() {
    let folder = tempdir().unwrap();
    let store = open_in(&folder).await.unwrap();
    let sample = registration("a", "c1", "a-name-to-forget");
    insert(&store, &sample).await;
    change(&store, RegistrationChange::Remove { id: sample.id }).await.unwrap();
    store.close().await;
    let file = fs::read(folder.path().join("registrar.db")).unwrap();
    assert!(!file.windows(16).any(|w| w == b"a-name-to-forget"));
}

/// In a process of its own, in which files cannot grow beyond a limit: a write to the log then fails with an
/// input/output error, and writing stops for good, because nobody knows what the disk has kept.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn after_an_io_error_nothing_is_written_any_more() {
    const CHILD: &str = "REGISTRAR_STORE_TEST_FOLDER";
    const NAME: &str = "after_an_io_error_nothing_is_written_any_more";

    let Some(folder) = std::env::var_os(CHILD) else {
        let folder = tempdir().unwrap();
        // 512 KiB, in whatever unit this shell counts at most 1 MiB; without the signal it is an error of write(2)
        let script = format!("trap '' XFSZ; ulimit -f 1024; exec \"$0\" --exact {NAME} --nocapture");
        let mut child = std::process::Command::new("sh");
        child.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env(CHILD, folder.path());
        let output = child.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains("1 passed"), "{told}");
        // the next process finds everything that was answered
        let store = open_in(&folder).await.unwrap();
        let answered: usize = fs::read_to_string(folder.path().join("answered")).unwrap().parse().unwrap();
        assert!(answered > 0);
        assert_eq!(pending(&store).await, answered);
        store.begin(unkeyed(intent())).await.unwrap();
        return;
    };

    let store = SqliteStore::open(&Path::new(&folder).join("registrar.db")).unwrap();
    let mut answered = 0;
    let failure = loop {
        let mut operation = intent();
        operation.summary = "x".repeat(50_000).into();
        match store.begin(unkeyed(operation)).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failure, StoreError::Unavailable(Trouble::Io { .. })), "{failure}");
    let stopped = Err(StoreError::Unavailable(Trouble::Stopped));
    assert_eq!(store.begin(unkeyed(intent())).await.map(drop), stopped, "even a small write, which would fit");
    assert_eq!(store.ping().await, stopped);
    let found = store.operations(None, first(200)).await.unwrap();
    assert_eq!(found.items.len(), answered, "reads go on");
    let first = found.items[0].id;
    assert_eq!(store.finish(succeeded(first).into(), None).await, stopped);
    fs::write(Path::new(&folder).join("answered"), answered.to_string()).unwrap();
    store.close().await;
}
