//! What only a store that processes share can do, and what only a server can do to it.

use std::sync::Arc;

use registrar_core::Outcome;
use registrar_store::{
    Begun, KeyClaim, Lease, Operation, OperationState, OperationUpdate, PostgresStore, RegistrationChange,
    RegistrationFilter, Sealed, Store, StoreError, Trouble, open, redacted,
};
use registrar_throwaway_postgres::{PASSWORD, Server, database, raw};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::common::{NOW, change, ended, first, insert, intent, labelled, registration, succeeded, unkeyed};

const UNREACHABLE: StoreError = StoreError::Unavailable(Trouble::Unreachable);
/// Nothing was sent.
const NOT_CONNECTED: StoreError = StoreError::Unavailable(Trouble::NotConnected);

/// Two gateways on one database.
async fn two() -> Option<(String, [Arc<dyn Store>; 2])> {
    let url = database().await?;
    let stores = [open(&url).await.unwrap(), open(&url).await.unwrap()];
    assert!(stores.iter().all(|store| store.is_shared()));
    Some((url, stores))
}

/// Runs a function of `body` at the end of every transaction that changes `table`.
async fn at_commit(raw: &Client, table: &str, body: &str) {
    let sql = format!(
        "CREATE SEQUENCE IF NOT EXISTS times; \
         CREATE OR REPLACE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER interferes AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION interfere()"
    );
    raw.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn two_that_claim_at_once_share_the_work() {
    let Some((_, stores)) = two().await else { return };
    let mut ids = Vec::new();
    for _ in 0..60 {
        let operation = intent();
        ids.push(operation.id);
        stores[0].begin(unkeyed(operation)).await.unwrap();
    }
    let mut claims = JoinSet::new();
    for i in 0..24 {
        let store = Arc::clone(&stores[i % 2]);
        claims.spawn(async move {
            let owner = format!("owner-{i}");
            let claimed = store.claim(&owner, NOW + 60_000, NOW + 120_000, 5).await.unwrap();
            assert!(claimed.len() <= 5);
            let lease = Lease { owner: owner.into(), until: NOW + 120_000, fence: 2 };
            assert!(claimed.iter().all(|o| o.lease == lease && o.state == OperationState::Unknown));
            claimed
        });
    }
    let mut claimed: Vec<_> = claims.join_all().await.into_iter().flatten().map(|o| o.id).collect();
    claimed.extend(stores[1].claim("last", NOW + 60_000, NOW + 120_000, 100).await.unwrap().iter().map(|o| o.id));
    claimed.sort_unstable();
    assert_eq!(claimed, ids, "each once");
}

#[tokio::test]
async fn those_that_wait_longest_are_claimed_first() {
    let Some((_, stores)) = two().await else { return };
    let mut expected = Vec::new();
    for i in 0..9 {
        let operation = Operation { lease: Lease { until: NOW - i, ..intent().lease }, ..intent() };
        expected.insert(0, operation.id);
        stores[0].begin(unkeyed(operation)).await.unwrap();
    }
    let first = stores[1].claim("two", NOW, NOW + 9, 4).await.unwrap();
    let rest = stores[0].claim("one", NOW, NOW + 9, 10).await.unwrap();
    assert_eq!(first.iter().chain(&rest).map(|o| o.id).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_result_that_comes_too_late_is_refused() {
    let Some((_, [slow, quick])) = two().await else { return };
    let operation = intent();
    slow.begin(unkeyed(operation.clone())).await.unwrap();
    let claimed = quick.claim("two", NOW + 60_000, NOW + 120_000, 1).await.unwrap();
    assert_eq!(claimed[0].lease.fence, 2);
    let late = registration("a", "c1", "Late");
    let insertion = || Some(RegistrationChange::Insert(Arc::new(late.clone())));
    assert_eq!(slow.finish(succeeded(operation.id).into(), insertion()).await, Err(StoreError::Superseded));
    assert_eq!(quick.registration(late.id).await, Ok(None));
    let found = OperationUpdate { fence: 2, ..succeeded(operation.id) };
    quick.finish(found.clone().into(), insertion()).await.unwrap();
    assert_eq!(slow.registration(late.id).await, Ok(Some(late.clone())));
    assert_eq!(slow.finish(found.into(), None).await, Err(StoreError::AlreadyFinished));
}

#[tokio::test]
async fn two_results_for_one_operation_are_one() {
    let Some((_, stores)) = two().await else { return };
    let operation = intent();
    stores[0].begin(unkeyed(operation.clone())).await.unwrap();
    let mut results = JoinSet::new();
    for i in 0..16 {
        let store = Arc::clone(&stores[i % 2]);
        let insertion = RegistrationChange::Insert(Arc::new(registration("a", &format!("c{i}"), "A")));
        let id = operation.id;
        results.spawn(async move { store.finish(succeeded(id).into(), Some(insertion)).await });
    }
    let results = results.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(results.iter().all(|r| matches!(r, Ok(()) | Err(StoreError::AlreadyFinished))), "{results:?}");
    assert_eq!(stores[0].registrations(&RegistrationFilter::default(), first(99)).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_race_for_a_key_has_one_winner_over_two_processes() {
    let Some((_, stores)) = two().await else { return };
    // a use that is too old is replaced by one, too
    for since in [NOW - 1000, NOW + 1] {
        let mut begins = JoinSet::new();
        for i in 0..64 {
            let store = Arc::clone(&stores[i % 2]);
            let mut intent = unkeyed(Operation { created_at: since, ..intent() });
            intent.key = Some(KeyClaim { key: [3; 32], fingerprint: [4; 32], since });
            begins.spawn(async move { (intent.operation.id, store.begin(intent).await.unwrap()) });
        }
        let begun = begins.join_all().await;
        let winners: Vec<_> = begun.iter().filter(|(_, b)| *b == Begun::New).map(|(id, _)| *id).collect();
        let [winner] = winners[..] else { panic!("{winners:?}") };
        for (id, begun) in begun {
            assert!(id == winner || matches!(begun, Begun::Used(used) if used.operation == winner));
            assert_eq!(stores[1].operation(id).await.unwrap().is_some(), id == winner, "losing records nothing");
        }
    }
}

#[tokio::test]
async fn many_that_open_a_new_database_make_one_schema() {
    let Some(url) = database().await else { return };
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        opening.spawn(async move { open(&url).await.unwrap().ping().await.unwrap() });
    }
    opening.join_all().await;
    let rows = raw(&url).await.query("SELECT version FROM registrar_schema ORDER BY version", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2, 3, 4], "each step once");
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_alone() {
    let Some(url) = database().await else { return };
    let raw = raw(&url).await;
    raw.batch_execute("CREATE TABLE theirs (a int)").await.unwrap();
    let error = open(&url).await.unwrap_err();
    assert!(matches!(&error, StoreError::Incompatible(why) if why.contains("another program")), "{error}");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(raw.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), 1);
    // a schema of its own is enough
    raw.batch_execute("CREATE SCHEMA ours").await.unwrap();
    let own = format!("{url}?options=-c%20search_path%3Dours");
    let store = open(&own).await.unwrap();
    insert(&*store, &registration("a", "c1", "A")).await;
    raw.batch_execute("INSERT INTO ours.registrar_schema (version) VALUES (99)").await.unwrap();
    let error = open(&own).await.unwrap_err();
    assert!(matches!(&error, StoreError::Incompatible(why) if why.contains("version 99")), "{error}");
    let error = open(&url.replace("test_", "none_")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Url(why) if why.contains("no such database")), "{error}");
    let error = open(&format!("{url}?options=-c%20search_path%3Dnowhere")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Incompatible(why) if why.contains("search_path")), "{error}");
}

#[tokio::test]
async fn a_password_is_in_no_text() {
    let Some(url) = database().await else { return };
    let store = open(&url).await.unwrap();
    let mut texts = vec![format!("{store:?}"), redacted(&url)];
    let wrong = url.replace(PASSWORD, "wrong-CANARY");
    let without = url.replace(&format!(":{PASSWORD}"), "");
    let secured = format!("{url}?sslmode=require");
    let nobody = url.replace("127.0.0.1:", "127.0.0.1:1/");
    for (url, hint) in [(&wrong, "password"), (&without, "password"), (&secured, "TLS"), (&nobody, "percent")] {
        let error = PostgresStore::open(url).await.unwrap_err();
        assert!(matches!(&error, StoreError::Url(why) if why.contains(hint)), "{error}");
        texts.extend([error.to_string(), format!("{error:?}"), redacted(url)]);
    }
    let closed = "postgres://u:hunter2-CANARY@127.0.0.1:1/d";
    let error = open(closed).await.unwrap_err();
    assert_eq!(error, NOT_CONNECTED);
    texts.extend([error.to_string(), redacted(closed)]);
    for text in texts {
        assert!(!text.contains("CANARY") && !text.contains("registrar:"), "{text}");
    }
}

#[tokio::test]
async fn every_text_and_number_survives() {
    let Some((_, [store, other])) = two().await else { return };
    let odd = "\0 \u{10fffe}0 \u{1f600} \"\\' \u{7f}";
    let mut sample = labelled(registration("a", "c1", odd), &[(odd, odd), ("", "")]);
    sample.vendor_ref = odd.to_owned();
    sample.version = u64::try_from(i64::MAX).unwrap();
    insert(&*store, &sample).await;
    assert_eq!(other.registration(sample.id).await, Ok(Some(sample.clone())));
    for q in [Some("\0".to_owned()), Some("\u{10fffe}0".to_owned()), None] {
        let filter = RegistrationFilter { q, labels: vec![(odd.to_owned(), odd.to_owned())], backend: None };
        assert_eq!(other.registrations(&filter, first(5)).await.unwrap().items, std::slice::from_ref(&sample));
    }
    let evidence = json!({"odd": odd, odd: [u64::MAX, i64::MIN, 1.0, 0.1, 1e300, -0.0, 9_007_199_254_740_993_u64]});
    let operation = Operation { summary: odd.into(), principal: odd.into(), ..intent() };
    store.begin(unkeyed(operation.clone())).await.unwrap();
    let update = OperationUpdate {
        summary: odd.into(),
        evidence: evidence.clone().into(),
        attempts: u32::MAX,
        sealed: Some(Sealed { bytes: vec![], until: i64::MAX }),
        ..ended(operation.id, OperationState::Unknown, Outcome::Unknown)
    };
    store.finish(update.into(), None).await.unwrap();
    let found = other.operation(operation.id).await.unwrap().unwrap();
    assert_eq!((found.summary, found.principal, found.attempts), (odd.into(), odd.into(), u32::MAX));
    assert_eq!(found.evidence.to_string(), evidence.to_string());
    assert_eq!(other.sealed(operation.id, NOW).await, Ok(Some(Sealed { bytes: vec![], until: i64::MAX })));
    assert_eq!(other.api_key(odd).await, Ok(None));
}

#[tokio::test]
async fn a_collision_is_tried_again_and_not_for_ever() {
    let Some((url, [store, _])) = two().await else { return };
    let raw = raw(&url).await;
    let fail = "IF nextval('times') < 4 THEN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END IF";
    at_commit(&raw, "operations", fail).await;
    let operation = intent();
    assert_eq!(store.begin(unkeyed(operation.clone())).await, Ok(Begun::New));
    raw.batch_execute("ALTER SEQUENCE times RESTART").await.unwrap();
    store.finish(succeeded(operation.id).into(), None).await.unwrap();
    assert_eq!(raw.query_one("SELECT last_value FROM times", &[]).await.unwrap().get::<_, i64>(0), 4);
    raw.batch_execute("ALTER SEQUENCE times MINVALUE -99 RESTART -99").await.unwrap();
    let refused = Err(StoreError::Unavailable(Trouble::Server { state: *b"40001" }));
    assert_eq!(store.begin(unkeyed(intent())).await, refused);
}

#[tokio::test]
async fn failures_of_the_server_have_names() {
    let Some((url, [store, _])) = two().await else { return };
    let raw = raw(&url).await;
    let operation = intent();
    store.begin(unkeyed(operation.clone())).await.unwrap();
    at_commit(&raw, "operations", "NULL").await;
    let other = Trouble::Server { state: *b"58030" };
    for (state, trouble) in [
        ("53100", Trouble::Full),
        ("25006", Trouble::ReadOnly),
        ("53300", Trouble::Crowded),
        ("55P03", Trouble::Locked),
        ("57014", Trouble::Slow),
        ("58030", other),
    ] {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'secret of a row' USING ERRCODE = '{state}'; END $$"
        );
        raw.batch_execute(&sql).await.unwrap();
        let insertion = RegistrationChange::Insert(Arc::new(registration("a", "c1", "A")));
        let failed = store.finish(succeeded(operation.id).into(), Some(insertion)).await.unwrap_err();
        assert_eq!(failed, StoreError::Unavailable(trouble), "{state}");
        assert!(!failed.to_string().contains("secret"), "{failed}");
    }
    assert_eq!(store.operation(operation.id).await, Ok(Some(operation)), "nothing was recorded");
    assert!(store.registrations(&RegistrationFilter::default(), first(5)).await.unwrap().items.is_empty());
    assert!(other.to_string().contains("SQLSTATE 58030"), "{other}");
}

#[tokio::test]
async fn a_connection_that_is_lost_at_the_commit_leaves_it_open() {
    let Some((url, [store, other])) = two().await else { return };
    let raw = raw(&url).await;
    let (one, two) = (intent(), intent());
    store.begin(unkeyed(one.clone())).await.unwrap();
    at_commit(&raw, "operations", "PERFORM pg_terminate_backend(pg_backend_pid())").await;
    assert_eq!(store.finish(succeeded(one.id).into(), None).await, Err(UNREACHABLE));
    assert_eq!(store.begin(unkeyed(two)).await, Err(UNREACHABLE));
    raw.batch_execute("DROP FUNCTION interfere CASCADE").await.unwrap();
    // here it was not recorded, and other connections serve
    assert_eq!(store.operation(one.id).await, Ok(Some(one.clone())));
    store.finish(succeeded(one.id).into(), None).await.unwrap();
    // reads do not notice that all idle connections are gone
    let ends = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for _ in 0..5 {
        raw.query_one(ends, &[]).await.unwrap();
        for store in [&store, &other] {
            assert_eq!(store.operation(one.id).await.unwrap().unwrap().state, OperationState::Succeeded);
        }
    }
}

#[tokio::test]
async fn a_standby_is_not_ready() {
    let Some((url, stores)) = two().await else { return };
    stores[0].ping().await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    raw(&url)
        .await
        .batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await
        .unwrap();
    let store = open(&url).await.unwrap();
    let read_only = StoreError::Unavailable(Trouble::ReadOnly);
    assert_eq!(store.ping().await.unwrap_err(), read_only);
    assert_eq!(store.begin(unkeyed(intent())).await.unwrap_err(), read_only);
    assert_eq!(store.api_keys().await, Ok(vec![]));
    assert_eq!(stores[0].ping().await, Ok(()), "sessions keep what they began with");
}

#[tokio::test]
async fn closing_carries_out_what_was_started() {
    let Some((_, [store, other])) = two().await else { return };
    let mut writes = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        writes.spawn(async move {
            change(&*store, RegistrationChange::Remove { id: registration("a", "c", "A").id }).await
        });
    }
    // however many got in before the close
    tokio::task::yield_now().await;
    store.close().await;
    let done = writes.join_all().await;
    assert!(done.iter().all(|r| matches!(r, Ok(_) | Err(StoreError::Closed))), "{done:?}");
    let recorded = other.operations(Some(OperationState::Succeeded), first(200)).await.unwrap().items.len();
    assert_eq!(recorded, done.iter().filter(|r| r.is_ok()).count());
}

/// On a server of its own, which is stopped while it is used.
#[tokio::test]
async fn the_server_may_be_restarted() {
    let Some(server) = Server::start() else { return };
    let url = server.database().await;
    let store = open(&url).await.unwrap();
    let by_socket = open(&server.socket_url(url.rsplit('/').next().unwrap())).await.unwrap();
    let operation = intent();
    store.begin(unkeyed(operation.clone())).await.unwrap();
    for _ in 0..2 {
        server.stop();
        for store in [&store, &by_socket] {
            // the first may find out that its connection is dead
            let first = store.begin(unkeyed(intent())).await;
            assert!(matches!(first, Err(UNREACHABLE | NOT_CONNECTED)), "{first:?}");
            assert_eq!(store.begin(unkeyed(intent())).await, Err(NOT_CONNECTED));
            assert_eq!(store.ping().await, Err(NOT_CONNECTED));
            assert_eq!(store.operation(operation.id).await, Err(NOT_CONNECTED));
        }
        server.resume();
        for store in [&store, &by_socket] {
            assert_eq!(store.ping().await, Ok(()));
            assert_eq!(store.operation(operation.id).await, Ok(Some(operation.clone())));
            assert_eq!(store.begin(unkeyed(intent())).await, Ok(Begun::New));
        }
    }
    let open = by_socket.operations(None, first(200)).await.unwrap();
    assert_eq!(open.items.len(), 5, "what was recorded before each restart, and nothing else");
    store.close().await;
    by_socket.close().await;
}

#[tokio::test]
async fn tls_is_verified() {
    let Some(server) = Server::start() else { return };
    let url = server.database().await.replace("127.0.0.1", "localhost");
    let roots = server.secure().await;
    let trusting = format!("{url}?sslrootcert={}", roots.display());
    let store = open(&trusting).await.unwrap();
    insert(&*store, &registration("a", "c1", "A")).await;
    let encrypted = "SELECT ssl AND version = 'TLSv1.3' FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'registrar'";
    let raw = raw(&url).await;
    assert!(raw.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0));
    // the operating system does not know it; the certificate is for another name
    let other_name = trusting.replace("localhost", "127.0.0.1");
    for refused in [format!("{url}?sslmode=require"), other_name] {
        assert_eq!(open(&refused).await.unwrap_err(), NOT_CONNECTED, "{}", redacted(&refused));
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = open(&format!("{url}?sslrootcert={}", empty.path().display())).await.unwrap_err();
    assert!(matches!(&error, StoreError::Url(why) if why.contains("no certificates")), "{error}");
    open(&url).await.unwrap().ping().await.unwrap();
}
