//! Damaged files of the SQLite store: what a rebuild brings back.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the harness prints its figures")]

mod common;

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{NOW, change, first, insert, intent, labelled, registration, succeeded};
use registrar_model::Registration;
use registrar_store::{
    Action, ApiKey, Begun, InitialAccessToken, Intent, Judge, KeyClaim, Merged, Operation, OperationState, Rebuild,
    RegistrationChange, Spending, SqliteStore, Started, Store, StoreError, backup,
};
use rusqlite::Connection;
use serde_json::json;
use tempfile::{TempDir, tempdir};

/// The plainest judge: the larger number.
struct Plain;

impl Judge for Plain {
    fn operation(&self, a: (&Operation, bool), b: (&Operation, bool)) -> Ordering {
        (a.0.state.is_final(), a.0.updated_at, !a.1).cmp(&(b.0.state.is_final(), b.0.updated_at, !b.1))
    }

    fn registration(&self, a: &Registration, b: &Registration) -> Ordering {
        (a.id, a.version).cmp(&(b.id, b.version))
    }

    fn removes(&self, operation: &Operation) -> bool {
        operation.action == Action::Delete && operation.state == OperationState::Succeeded
    }
}

/// A small generator, so that a run can be repeated (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end).unwrap()
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("registrar.db")
}

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// Every row of every table, as texts.
fn dump(path: &Path) -> BTreeMap<String, Vec<String>> {
    let connection = Connection::open(path).unwrap();
    let names = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";
    let mut statement = connection.prepare(names).unwrap();
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows = |name: &str| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let count = statement.column_count();
        let read = |row: &rusqlite::Row<'_>| {
            Ok((0..count).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect::<Vec<_>>().join("|"))
        };
        let mut rows: Vec<String> = statement.query_map([], read).unwrap().map(Result::unwrap).collect();
        rows.sort();
        rows
    };
    names.iter().map(|name| (name.clone(), rows(name))).collect()
}

/// One row of every kind, for each number.
async fn fill(store: &SqliteStore, numbers: std::ops::Range<u32>) -> Vec<Registration> {
    let mut made = Vec::new();
    for n in numbers {
        let sample = registration("a", &format!("c{n}"), &format!("Client {n}"));
        let sample = labelled(sample, &[("team", &format!("t{n}")), ("n", &n.to_string())]);
        let operation = Operation { registration: Some(sample.id), ..intent() };
        let id = operation.id;
        let mut key = [7; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let claim = KeyClaim { key, fingerprint: [1; 32], since: 0 };
        store.begin(Intent { operation: operation.into(), key: Some(claim), spend: None }).await.unwrap();
        let insert = RegistrationChange::Insert(Arc::new(sample.clone()));
        store.finish(succeeded(id).into(), Some(insert)).await.unwrap();
        made.push(sample);
    }
    made
}

async fn add_the_rest(store: &SqliteStore) {
    store.once("seal_key", vec![9; 32]).await.unwrap();
    let (name, hash) = ("ci".to_owned(), [3; 32]);
    let key = ApiKey { id: "k1".to_owned(), name: name.clone(), hash, scopes: vec![], created_at: NOW };
    store.put_api_key(key).await.unwrap();
    let token = InitialAccessToken {
        id: "t1".to_owned(),
        name,
        hash,
        created_at: NOW,
        expires_at: None,
        uses_left: Some(5),
        terms: json!({}),
    };
    store.put_initial_access_token(token).await.unwrap();
    // one that is open, with what was asked for
    store.begin(Intent { operation: intent().into(), key: None, spend: None }).await.unwrap();
}

fn rebuilt(path: &Path, from: Option<&Path>) -> Merged {
    let Started::Anew(rebuild) = Rebuild::start(path, true, false).unwrap() else {
        unreachable!("nothing was interrupted")
    };
    let merged = rebuild.merge(from, &Plain, |_| {}).unwrap();
    let damaged = rebuild.damaged_name();
    rebuild.finish(damaged.as_deref(), b"{}").unwrap();
    merged
}

fn lost(merged: &Merged) -> BTreeMap<&str, (usize, bool)> {
    let told = |t: &registrar_store::TableReport| t.gap || !t.lost.is_empty();
    merged.tables.iter().filter(|t| told(t)).map(|t| (t.table.as_str(), (t.lost.len(), t.gap))).collect()
}

#[tokio::test]
async fn a_sound_store_stays_as_it_is() {
    let folder = tempdir().unwrap();
    let path = file(&folder);
    let store = SqliteStore::open(&path).unwrap();
    fill(&store, 0..40).await;
    add_the_rest(&store).await;
    store.close().await;
    let before = dump(&path);
    let copy = folder.path().join("backup.db");
    backup(&url(&path), &copy).unwrap();
    assert_eq!(dump(&copy), before);
    for from in [None, Some(copy.as_path())] {
        let merged = rebuilt(&path, from);
        assert_eq!(lost(&merged), BTreeMap::new());
        assert_eq!(dump(&path), before);
        assert!(merged.tables.iter().all(|t| t.from_backup == 0), "{:?}", merged.tables);
    }
    let names: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let kept = names.iter().filter(|name| name.contains(".damaged-") && !name.ends_with("-wal"));
    assert_eq!(kept.count(), 2, "{names:?}");
    assert!(!names.iter().any(|name| name.contains("rebuild")), "{names:?}");
    // and with nothing but the backup
    fs::remove_file(&path).unwrap();
    let merged = rebuilt(&path, Some(&copy));
    assert_eq!(dump(&path), before);
    assert!(merged.tables.iter().all(|t| t.salvaged == 0), "{:?}", merged.tables);
}

#[tokio::test]
async fn what_only_the_log_holds_is_read() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::open(&file(&folder)).unwrap();
    let made = fill(&store, 0..5).await;
    // the file and its log as a process that died has left them
    let other = tempdir().unwrap();
    for end in ["", "-wal"] {
        fs::copy(format!("{}{end}", file(&folder).display()), format!("{}{end}", file(&other).display())).unwrap();
    }
    assert_eq!(lost(&rebuilt(&file(&other), None)), BTreeMap::new());
    let store = SqliteStore::open(&file(&other)).unwrap();
    assert_eq!(store.registrations(&Default::default(), first(200)).await.unwrap().items, made);
    let kept: Vec<String> =
        fs::read_dir(other.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(kept.iter().filter(|name| name.contains(".damaged-") && name.ends_with("-wal")).count(), 1, "{kept:?}");
}

/// Pages at seeded places hold something else: every row of the backup is there, and every row that is not there is told.
#[tokio::test]
async fn damaged_pages_cost_no_row_that_the_backup_has() {
    let rounds: u64 = std::env::var("FLIPS").ok().and_then(|f| f.parse().ok()).unwrap_or(18);
    let folder = tempdir().unwrap();
    let path = file(&folder);
    let store = SqliteStore::open(&path).unwrap();
    let early = fill(&store, 0..150).await;
    add_the_rest(&store).await;
    let copy = folder.path().join("backup.db");
    backup(&url(&path), &copy).unwrap();
    let late = fill(&store, 150..300).await;
    let deleted = [&early[3], &early[90], &late[5]];
    for sample in deleted {
        let operation = Operation { action: Action::Delete, registration: Some(sample.id), ..intent() };
        let id = operation.id;
        store.begin(Intent { operation: operation.into(), key: None, spend: None }).await.unwrap();
        store.finish(succeeded(id).into(), Some(RegistrationChange::Remove { id: sample.id })).await.unwrap();
    }
    store.close().await;
    let whole = fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    let mut random = Seeded(0xda3a6e);
    let (mut missing, mut salvaged) = (0, 0);
    for round in 0..rounds {
        let mut bytes = whole.clone();
        let how = round % 6;
        match how {
            // the header and the first page of the schema
            0 => bytes[..4096].fill(0),
            1 => bytes.truncate(4096 * (1 + random.below(pages - 1)) + random.below(4096)),
            _ => {
                for _ in 0..=random.below(4) {
                    let at = 4096 * random.below(pages);
                    bytes[at..at + 4096].fill_with(|| u8::try_from(random.below(256)).unwrap());
                }
            }
        }
        fs::write(&path, bytes).unwrap();
        let merged = rebuilt(&path, Some(&copy));
        let told: Vec<&String> = merged.tables.iter().flat_map(|table| &table.lost).collect();
        let gap = merged.tables.iter().any(|table| table.gap);
        let mut lost = 0;
        let store = SqliteStore::open(&path).unwrap();
        for sample in early.iter().chain(&late) {
            let found = store.registration(sample.id).await.unwrap();
            if deleted.iter().any(|gone| gone.id == sample.id) {
                let journal_is_whole =
                    !merged.tables.iter().any(|t| t.table == "operations" && (t.gap || !t.lost.is_empty()));
                assert!(found.is_none() || !journal_is_whole, "round {round}: {} came back: {merged:?}", sample.id);
                continue;
            }
            let Some(found) = found else {
                assert!(!early.contains(sample), "round {round}: the backup has {}", sample.id);
                lost += 1;
                continue;
            };
            salvaged += 1;
            // without its labels only if that is told
            assert_eq!(
                Registration { labels: BTreeMap::new(), ..found.clone() },
                Registration { labels: BTreeMap::new(), ..sample.clone() }
            );
            assert!(found.labels == sample.labels || gap || !told.is_empty(), "round {round}: {found:?} {merged:?}");
        }
        missing += lost;
        let named = merged.tables.iter().find(|table| table.table == "registrations").unwrap();
        let told = named.lost.len() + merged.orphans.len();
        assert!(named.gap || told >= lost, "round {round}: {lost} are lost, and {told} told: {merged:?}");
        // the first page holds no rows, and the backup has its own of it
        assert!(how != 0 || lost == 0, "round {round}: {lost} are lost with the header: {merged:?}");
        assert!(store.api_key("k1").await.unwrap().is_some(), "round {round}");
        assert_eq!(store.once("seal_key", vec![0; 32]).await.unwrap(), [9; 32], "round {round}");
        store.close().await;
    }
    println!("{rounds} damages: {salvaged} registrations found, {missing} lost and told");
    assert!(missing > 0, "no damage cost anything: nothing was shown");
}

/// Two pages of a table are damaged, and there is no backup: what lies between them is found, and each row on them named.
#[tokio::test]
async fn rows_between_damaged_pages_are_found_and_those_on_them_named() {
    let folder = tempdir().unwrap();
    let path = file(&folder);
    let store = SqliteStore::open(&path).unwrap();
    let made = fill(&store, 0..120).await;
    store.close().await;
    let pages: Vec<usize> = {
        let page = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(|page| usize::try_from(page).unwrap());
        let connection = Connection::open(&path).unwrap();
        let sql = "SELECT pageno FROM dbstat WHERE name = 'registrations' AND pagetype = 'leaf' ORDER BY path";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], page).unwrap().map(Result::unwrap).collect()
    };
    let mut bytes = fs::read(&path).unwrap();
    for page in [pages[2], pages[pages.len() - 3]] {
        bytes[(page - 1) * 4096..page * 4096].fill(0x55);
    }
    fs::write(&path, bytes).unwrap();
    let merged = rebuilt(&path, None);
    let table = merged.tables.iter().find(|table| table.table == "registrations").unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let found = store.registrations(&Default::default(), first(200)).await.unwrap().items;
    let missing: Vec<String> =
        made.iter().filter(|sample| !found.contains(sample)).map(|sample| sample.id.to_string()).collect();
    assert!((2..20).contains(&missing.len()), "{missing:?}");
    assert_eq!((&table.lost, table.gap), (&missing, false));
    // the journal knows them, too
    assert_eq!(merged.orphans.iter().map(|orphan| orphan.id.to_string()).collect::<Vec<_>>(), missing);
}

#[tokio::test]
async fn the_later_record_counts_and_what_was_deleted_stays_deleted() {
    let folder = tempdir().unwrap();
    let path = file(&folder);
    let store = SqliteStore::open(&path).unwrap();
    let made = fill(&store, 0..3).await;
    add_the_rest(&store).await;
    let copy = folder.path().join("backup.db");
    backup(&url(&path), &copy).unwrap();
    let next = Registration { version: 2, updated_at: NOW + 9, ..made[0].clone() };
    let update = RegistrationChange::Update { registration: Arc::new(next.clone()), expected_version: 1 };
    change(&store, update).await.unwrap();
    store.delete_api_key("ci").await.unwrap();
    let open = store.operations(Some(OperationState::Pending), first(9)).await.unwrap().items[0].id;
    let spend = Some(Spending { token: "t1".to_owned(), now: NOW });
    let operation = intent();
    let id = operation.id;
    assert_eq!(store.begin(Intent { operation: operation.into(), key: None, spend }).await.unwrap(), Begun::New);
    store.finish(succeeded(id).into(), None).await.unwrap();
    store.finish(succeeded(open).into(), None).await.unwrap();
    insert(&store, &registration("a", "late", "Late")).await;
    store.close().await;
    for (store, from) in [(&path, &copy), (&copy, &path)] {
        let place = tempdir().unwrap();
        let here = file(&place);
        fs::copy(store, &here).unwrap();
        rebuilt(&here, Some(from));
        let found = SqliteStore::open(&here).unwrap();
        assert_eq!(found.registration(next.id).await.unwrap().unwrap(), next);
        assert_eq!(found.operation(open).await.unwrap().unwrap().state, OperationState::Succeeded);
        assert_eq!(found.initial_access_tokens().await.unwrap()[0].uses_left, Some(4));
        assert_eq!(found.registrations(&Default::default(), first(9)).await.unwrap().items.len(), 4);
        // of a key that was deleted there is no journal: only a store that is whole and later tells
        assert_eq!(found.api_keys().await.unwrap().is_empty(), store == &path);
    }
}

/// A file of the first schema: what it does not have is as the schema says.
#[tokio::test]
async fn every_schema_can_be_read() {
    let folder = tempdir().unwrap();
    let (id, operation) = ("reg_0198c0de-0000-7000-8000-00000000abcd", "op_0198c0de-0000-7000-8000-00000000abcd");
    let old = Connection::open(file(&folder)).unwrap();
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
    assert_eq!(lost(&rebuilt(&file(&folder), None)), BTreeMap::new());
    let store = SqliteStore::open(&file(&folder)).unwrap();
    assert_eq!(store.registration(id.parse().unwrap()).await.unwrap().unwrap().version, 3);
    assert_eq!(store.operations(Some(OperationState::Pending), first(9)).await.unwrap().items[0].lease.fence, 1);
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused() {
    let folder = tempdir().unwrap();
    let path = file(&folder);
    let refused = |path: &Path, from: Option<&Path>| {
        let Started::Anew(rebuild) = Rebuild::start(path, true, false).unwrap() else {
            unreachable!("not interrupted")
        };
        rebuild.merge(from, &Plain, |_| {}).unwrap_err()
    };
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let error = refused(&path, None);
    assert!(matches!(&error, StoreError::Incompatible(why) if why.contains("another program")), "{error}");
    fs::remove_file(&path).unwrap();
    SqliteStore::open(&path).unwrap().close().await;
    let newer = "ALTER TABLE registrations ADD COLUMN of_2031 TEXT; PRAGMA user_version = 99";
    Connection::open(&path).unwrap().execute_batch(newer).unwrap();
    let error = refused(&path, None);
    assert!(matches!(&error, StoreError::Incompatible(why) if why.contains("99")), "{error}");
    let error = refused(&path, Some(Path::new("/nonexistent.db")));
    assert!(error.to_string().contains("--from"), "{error}");
    assert!(!folder.path().join("registrar.db.rebuild").exists());
}

/// However far the putting into place came, nobody serves from what is half, and the next run goes on.
#[tokio::test]
async fn an_interrupted_rebuild_is_finished_by_the_next() {
    for step in 0..4 {
        let folder = tempdir().unwrap();
        let path = file(&folder);
        let store = SqliteStore::open(&path).unwrap();
        let made = fill(&store, 0..3).await;
        store.close().await;
        let old = fs::read(&path).unwrap();
        let work = folder.path().join("registrar.db.rebuild");
        let damaged = folder.path().join("registrar.db.damaged-then");
        // what a process leaves that dies after so many steps
        fs::create_dir(&work).unwrap();
        fs::copy(&path, work.join("new.db")).unwrap();
        fs::write(work.join("complete"), b"registrar.db.damaged-then\n{\"a\":1}").unwrap();
        fs::write(format!("{}-wal", path.display()), b"its log").unwrap();
        if step > 0 {
            fs::hard_link(&path, &damaged).unwrap();
            fs::rename(format!("{}-wal", path.display()), format!("{}-wal", damaged.display())).unwrap();
        }
        if step > 1 {
            fs::rename(work.join("new.db"), &path).unwrap();
        }
        if step > 2 {
            fs::remove_file(work.join("complete")).unwrap();
        }
        let served = registrar_store::exclusive(&url(&path)).map(drop);
        assert_eq!(served.is_err(), step < 3, "step {step}: {served:?}");
        match Rebuild::start(&path, true, false).unwrap() {
            Started::Finished(report) => assert_eq!((report.as_slice(), step < 3), (b"{\"a\":1}".as_slice(), true)),
            Started::Anew(_) => assert_eq!(step, 3),
        }
        assert_eq!(fs::read(&damaged).unwrap(), old, "step {step}");
        assert_eq!(fs::read(format!("{}-wal", damaged.display())).unwrap(), b"its log", "step {step}");
        assert!(!work.exists() && !Path::new(&format!("{}-wal", path.display())).exists(), "step {step}");
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.registrations(&Default::default(), first(9)).await.unwrap().items, made, "step {step}");
        registrar_store::exclusive(&url(&path)).unwrap();
    }
}

#[tokio::test]
async fn nobody_rebuilds_what_is_served_from() {
    let folder = tempdir().unwrap();
    let _serving = registrar_store::exclusive(&url(&file(&folder))).unwrap();
    let refused = Rebuild::start(&file(&folder), true, false).unwrap_err().to_string();
    assert!(refused.contains("a gateway serves from it"), "{refused}");
}
