//! What every store must do; run against each implementation.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "cases/journal.rs"]
mod journal;
#[cfg(unix)]
#[path = "postgres/mod.rs"]
mod shared;
#[path = "cases/unused.rs"]
mod unused;

use std::{cell::Cell, collections::BTreeSet, sync::Arc};

use common::{NOW, change, ended, first, insert, intent, labelled, registration, succeeded, unkeyed};
use journal::*;
use proptest::{prelude::*, test_runner::TestRunner};
use registrar_core::Outcome;
use registrar_model::{OperationId, Registration, RegistrationId, State};
use registrar_store::{
    Action, ApiKey, Begun, InitialAccessToken, Intent, KeyClaim, KeyUse, Lease, MemoryStore, Operation, OperationState,
    OperationUpdate, PageRequest, PostgresStore, RegistrationChange, RegistrationFilter, Sealed, Spending, SqliteStore,
    Store, StoreError,
};
use serde_json::json;
use tokio::task::JoinSet;
use unused::*;

macro_rules! suite {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(std::sync::Arc::new(super::MemoryStore::default())).await;
            })+
        }

        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::SqliteStore::open(&folder.path().join("registrar.db")).unwrap();
                super::$name(std::sync::Arc::new(store)).await;
            })+
        }

        #[cfg(unix)]
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let Some(url) = registrar_throwaway_postgres::schema().await else { return };
                let store = super::PostgresStore::open(&url).await.unwrap();
                super::$name(std::sync::Arc::new(store)).await;
            })+
        }
    };
}

suite! {
    a_registration_reads_back_as_it_was_written,
    an_update_replaces_everything,
    an_update_of_another_version_changes_nothing,
    a_client_id_is_found_at_its_own_backend_only,
    removing_leaves_the_operation,
    duplicates_are_refused_and_leave_nothing,
    a_client_id_can_be_used_again_after_it_is_free,
    pages_show_each_client_once_while_others_come_and_go,
    page_sizes_are_bounded,
    filters_select,
    text_search_takes_every_character_literally,
    an_operation_runs_its_course,
    a_key_is_used_once,
    a_key_that_is_released_or_too_old_is_free,
    a_race_for_a_key_has_one_winner,
    an_ended_lease_is_taken_over_and_fenced_off,
    a_sealed_secret_lives_as_long_as_its_window,
    a_value_of_the_gateway_is_made_once,
    initial_access_tokens_are_spent_exactly,
    a_use_is_spent_with_the_intent_or_not_at_all,
    operations_are_listed_by_state,
    living_clients_of_a_route_are_counted,
    a_use_is_noted_until_the_client_has_expired,
    a_change_can_clear_an_expiry_and_not_bring_it_back,
    unused_clients_are_listed_earliest_first,
    many_uses_at_once_are_one,
    only_what_is_not_final_can_be_finished,
    only_what_has_succeeded_can_be_amended,
    bad_cursors_are_refused,
    api_keys_come_and_go,
    one_hundred_writers_at_once,
    a_closed_store_says_so,
}

type Any = Arc<dyn Store>;

const LARGEST: u32 = 200;
const ACTIONS: [Action; 4] = [Action::Create, Action::Update, Action::Delete, Action::Rotate];
const STATES: [OperationState; 4] =
    [OperationState::Pending, OperationState::Succeeded, OperationState::Failed, OperationState::Unknown];

/// All pages of a list of registrations.
async fn all(store: &dyn Store, filter: &RegistrationFilter, limit: u32) -> Vec<Registration> {
    let mut page = first(limit);
    let mut out = Vec::new();
    loop {
        let found = store.registrations(filter, page.clone()).await.unwrap();
        assert!(found.items.len() <= limit as usize);
        out.extend(found.items);
        page.after = found.next;
        if page.after.is_none() {
            return out;
        }
    }
}

async fn names(store: &dyn Store, filter: &RegistrationFilter) -> Vec<String> {
    let found = all(store, filter, 2).await;
    found.into_iter().map(|r| r.client_id.as_str().to_owned()).collect()
}

async fn a_registration_reads_back_as_it_was_written(store: Any) {
    let mut sample = labelled(registration("a", "c1", "Kasse"), &[("team", "treasury"), ("we\"ird", "ü\\n'")]);
    sample.version = 7;
    insert(&*store, &sample).await;
    assert_eq!(store.registration(sample.id).await, Ok(Some(sample.clone())));
    // and where the vendor shows the same, and the rest is absent
    let mut plain = registration("a", "c2", "Kasse");
    plain.observed = plain.spec.clone();
    plain.client_id_issued_at = None;
    plain.state = State::Disabled;
    insert(&*store, &plain).await;
    assert_eq!(store.registration(plain.id).await, Ok(Some(plain.clone())));
    assert_eq!(all(&*store, &RegistrationFilter::default(), 10).await, [sample, plain]);
    assert_eq!(store.registration(RegistrationId::generate()).await, Ok(None));
}

async fn an_update_replaces_everything(store: Any) {
    let old = labelled(registration("a", "c1", "Old"), &[("team", "x"), ("gone", "soon")]);
    insert(&*store, &old).await;
    let mut new = labelled(registration("b", "c2", "New"), &[("team", "y")]);
    new.id = old.id;
    new.version = 2;
    new.created_at += 5;
    new.updated_at += 9;
    new.state = State::Unknown;
    let update = RegistrationChange::Update { registration: Arc::new(new.clone()), expected_version: 1 };
    change(&*store, update).await.unwrap();
    assert_eq!(store.registration(old.id).await, Ok(Some(new)));
    let by = |q: &str| RegistrationFilter { q: Some(q.to_owned()), ..RegistrationFilter::default() };
    assert_eq!(names(&*store, &by("old")).await, [""; 0]);
    assert_eq!(names(&*store, &by("new")).await, ["c2"]);
}

async fn an_update_of_another_version_changes_nothing(store: Any) {
    let old = labelled(registration("a", "c1", "Old"), &[("team", "x")]);
    insert(&*store, &old).await;
    let mut new = labelled(registration("a", "c2", "New"), &[("team", "y")]);
    new.id = old.id;
    new.version = 4;
    let operation = intent();
    let id = operation.id;
    store.begin(unkeyed(operation.clone())).await.unwrap();
    let update = RegistrationChange::Update { registration: Arc::new(new.clone()), expected_version: 3 };
    assert_eq!(store.finish(succeeded(id).into(), Some(update)).await, Err(StoreError::VersionConflict));
    assert_eq!(store.registration(old.id).await, Ok(Some(old)));
    assert_eq!(store.operation(id).await, Ok(Some(operation)), "the result must not be recorded without the change");
    new.id = RegistrationId::generate();
    let update = RegistrationChange::Update { registration: Arc::new(new), expected_version: 1 };
    assert_eq!(store.finish(succeeded(id).into(), Some(update)).await, Err(StoreError::NotFound("registration")));
    // the operation can still be finished
    store.finish(succeeded(id).into(), None).await.unwrap();
}

async fn a_client_id_is_found_at_its_own_backend_only(store: Any) {
    let (first, second) = (registration("a", "c1", "A"), registration("b", "c1", "B"));
    insert(&*store, &first).await;
    insert(&*store, &second).await;
    for (backend, client_id, found) in [
        ("a", "c1", Some(first.id)),
        ("b", "c1", Some(second.id)),
        ("c", "c1", None),
        ("a", "C1", None),
        ("a", "c", None),
    ] {
        let (backend, client_id) = (backend.parse().unwrap(), client_id.parse().unwrap());
        assert_eq!(store.registered(&backend, &client_id).await, Ok(found), "{backend} {client_id}");
    }
}

async fn removing_leaves_the_operation(store: Any) {
    let sample = labelled(registration("a", "c1", "A"), &[("team", "x")]);
    insert(&*store, &sample).await;
    let id = change(&*store, RegistrationChange::Remove { id: sample.id }).await.unwrap();
    assert_eq!(store.registration(sample.id).await, Ok(None));
    let labels = vec![("team".to_owned(), "x".to_owned())];
    assert_eq!(names(&*store, &RegistrationFilter { labels, ..RegistrationFilter::default() }).await, [""; 0]);
    assert_eq!(store.operation(id).await.unwrap().unwrap().state, OperationState::Succeeded);
    // twice is once
    change(&*store, RegistrationChange::Remove { id: sample.id }).await.unwrap();
}

async fn duplicates_are_refused_and_leave_nothing(store: Any) {
    let first = registration("a", "c1", "A");
    insert(&*store, &first).await;
    let same_client = labelled(registration("a", "c1", "B"), &[("team", "x")]);
    let mut same_id = registration("a", "c2", "C");
    same_id.id = first.id;
    for twin in [same_client.clone(), same_id] {
        let operation = intent();
        let id = operation.id;
        store.begin(unkeyed(operation)).await.unwrap();
        let refused = store.finish(succeeded(id).into(), Some(RegistrationChange::Insert(Arc::new(twin)))).await;
        assert_eq!(refused, Err(StoreError::AlreadyExists));
        assert_eq!(store.operation(id).await.unwrap().unwrap().state, OperationState::Pending);
    }
    assert_eq!(store.registration(same_client.id).await, Ok(None));
    // an update must not take another's client_id either
    let second = registration("a", "c2", "D");
    insert(&*store, &second).await;
    let mut taken = second.clone();
    taken.client_id = first.client_id.clone();
    let update = RegistrationChange::Update { registration: Arc::new(taken), expected_version: 1 };
    assert_eq!(change(&*store, update).await, Err(StoreError::AlreadyExists));
    assert_eq!(all(&*store, &RegistrationFilter::default(), 9).await, [first, second]);
    // the same client_id at another backend is another client
    insert(&*store, &registration("b", "c1", "E")).await;
    let operation = intent();
    store.begin(unkeyed(operation.clone())).await.unwrap();
    assert_eq!(store.begin(unkeyed(operation)).await, Err(StoreError::AlreadyExists));
}

async fn a_client_id_can_be_used_again_after_it_is_free(store: Any) {
    let first = registration("a", "c1", "A");
    insert(&*store, &first).await;
    let mut renamed = first.clone();
    renamed.client_id = "c2".parse().unwrap();
    renamed.version = 2;
    change(&*store, RegistrationChange::Update { registration: Arc::new(renamed), expected_version: 1 }).await.unwrap();
    insert(&*store, &registration("a", "c1", "B")).await;
    change(&*store, RegistrationChange::Remove { id: first.id }).await.unwrap();
    insert(&*store, &registration("a", "c2", "C")).await;
    assert_eq!(names(&*store, &RegistrationFilter::default()).await, ["c1", "c2"]);
}

async fn pages_show_each_client_once_while_others_come_and_go(store: Any) {
    let mut there = BTreeSet::new();
    let mut doomed = Vec::new();
    for i in 0..40 {
        let sample = registration("a", &format!("there-{i}"), "A");
        insert(&*store, &sample).await;
        if i % 4 == 3 {
            doomed.push(sample.id);
        } else {
            there.insert(sample.id);
        }
    }
    let inserting = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for i in 0..60 {
                insert(&*store, &registration("a", &format!("new-{i}"), "A")).await;
            }
        }
    });
    let mut seen = Vec::new();
    let mut page = first(7);
    loop {
        let found = store.registrations(&RegistrationFilter::default(), page.clone()).await.unwrap();
        seen.extend(found.items.iter().map(|r| r.id));
        // also the very row that the cursor names
        let last = found.items.last().map(|r| r.id).filter(|id| !there.contains(id));
        for id in doomed.pop().into_iter().chain(last) {
            change(&*store, RegistrationChange::Remove { id }).await.unwrap();
        }
        page.after = found.next;
        if page.after.is_none() {
            break;
        }
    }
    inserting.await.unwrap();
    let unique: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "shown twice");
    assert!(unique.is_superset(&there), "not shown");
    assert!(seen.is_sorted());
}

async fn page_sizes_are_bounded(store: Any) {
    let mut writes = JoinSet::new();
    for i in 0..=LARGEST {
        let store = Arc::clone(&store);
        writes.spawn(async move { insert(&*store, &registration("a", &format!("c{i}"), "A")).await });
    }
    writes.join_all().await;
    for (limit, expected) in [(0, 1), (1, 1), (LARGEST, 200), (u32::MAX, 200)] {
        let found = store.registrations(&RegistrationFilter::default(), first(limit)).await.unwrap();
        assert_eq!(found.items.len(), expected, "{limit}");
        let after = found.next.unwrap();
        assert!(after.bytes().all(|b| b.is_ascii_alphanumeric()), "not URL-safe: {after}");
    }
    // a full last page is the last page
    let half = all(&*store, &RegistrationFilter::default(), 67).await;
    assert_eq!(half.len(), 201);
    let nothing = RegistrationFilter { backend: Some("b".parse().unwrap()), ..RegistrationFilter::default() };
    let empty = store.registrations(&nothing, first(5)).await.unwrap();
    assert_eq!((empty.items.len(), empty.next), (0, None));
}

async fn filters_select(store: Any) {
    let samples = [
        labelled(registration("a", "c1", "A"), &[("team", "x"), ("env", "prod")]),
        labelled(registration("a", "c2", "B"), &[("team", "x"), ("env", "test")]),
        labelled(registration("b", "c3", "C"), &[("team", "x"), ("env", "prod")]),
        labelled(registration("b", "c4", "D"), &[("env", "x"), ("team", "prod")]),
        Registration { state: State::Disabled, ..labelled(registration("b", "c5", "E"), &[("team", "x")]) },
        registration("a", "c6", "F"),
    ];
    for sample in &samples {
        insert(&*store, sample).await;
    }
    let filter = |backend: Option<&str>, labels: &[(&str, &str)], q: Option<&str>| RegistrationFilter {
        backend: backend.map(|b| b.parse().unwrap()),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        q: q.map(str::to_owned),
    };
    let cases: [(RegistrationFilter, &[&str]); 10] = [
        (filter(None, &[], None), &["c1", "c2", "c3", "c4", "c5", "c6"]),
        (filter(Some("a"), &[], None), &["c1", "c2", "c6"]),
        (filter(None, &[("team", "x")], None), &["c1", "c2", "c3", "c5"]),
        (filter(None, &[("team", "x"), ("env", "prod")], None), &["c1", "c3"]),
        (filter(None, &[("team", "x"), ("team", "prod")], None), &[]),
        (filter(Some("b"), &[("team", "x"), ("env", "prod")], None), &["c3"]),
        (filter(None, &[("team", "X")], None), &[]),
        (filter(None, &[], Some("C2")), &["c2"]),
        (filter(Some("b"), &[("team", "x")], Some("e")), &["c5"]),
        (filter(Some("none"), &[], Some("")), &[]),
    ];
    for (filter, expected) in cases {
        assert_eq!(names(&*store, &filter).await, expected, "{filter:?}");
    }
}

async fn text_search_takes_every_character_literally(store: Any) {
    let samples = [
        ("c1", "100% safe"),
        ("c2", "a_b"),
        ("c3", "Straße 7"),
        ("c4", "ΟΔΟΣΑ"),
        ("c5", "it's \\ \"x\""),
        ("C%6", "n"),
    ];
    for (client_id, name) in samples {
        insert(&*store, &registration("a", client_id, name)).await;
    }
    let mut nameless = registration("a", "c7", "");
    Arc::make_mut(&mut nameless.spec).metadata.client_name = None;
    insert(&*store, &nameless).await;
    let cases: [(&str, &[&str]); 13] = [
        ("%", &["c1", "C%6"]),
        ("_", &["c2"]),
        ("0%_", &[]),
        ("STRASSE", &["c3"]),
        ("straße", &["c3"]),
        ("οδος", &["c4"]),
        ("'s \\", &["c5"]),
        ("\"X\"", &["c5"]),
        ("c%", &["C%6"]),
        ("a_b c2", &[]),
        ("C7", &["c7"]),
        ("[a-z]*", &[]),
        ("'; DROP TABLE registrations; --", &[]),
    ];
    for (q, expected) in cases {
        let filter = RegistrationFilter { q: Some(q.to_owned()), ..RegistrationFilter::default() };
        assert_eq!(names(&*store, &filter).await, expected, "{q}");
    }
}

async fn bad_cursors_are_refused(store: Any) {
    let operation = intent();
    store.begin(unkeyed(operation.clone())).await.unwrap();
    store.begin(unkeyed(intent())).await.unwrap();
    let next = store.operations(None, first(1)).await.unwrap().next.unwrap();
    for bad in ["", "0", "garbage", "1r", "%00", "' OR 1=1", &operation.id.to_string(), &next] {
        let page = PageRequest { limit: 5, after: Some(bad.to_owned()) };
        let found = store.registrations(&RegistrationFilter::default(), page.clone()).await;
        assert_eq!(found.unwrap_err(), StoreError::BadCursor, "{bad}");
        if bad != next {
            assert_eq!(store.operations(None, page.clone()).await.unwrap_err(), StoreError::BadCursor, "{bad}");
        }
    }
}

fn api_key(id: &str, name: &str, created_at: i64) -> ApiKey {
    let scopes = vec!["clients:read".to_owned(), "clients:write".to_owned()];
    ApiKey { id: id.to_owned(), name: name.to_owned(), hash: [7; 32], scopes, created_at }
}

async fn api_keys_come_and_go(store: Any) {
    let (ci, ops) = (api_key("k9", "ci", 2), api_key("k1", "ops", 1));
    store.put_api_key(ops.clone()).await.unwrap();
    store.put_api_key(ci.clone()).await.unwrap();
    for taken in [api_key("k9", "other", 3), api_key("k3", "ci", 3)] {
        assert_eq!(store.put_api_key(taken).await, Err(StoreError::AlreadyExists));
    }
    assert_eq!(store.api_key("k9").await, Ok(Some(ci.clone())));
    assert_eq!(store.api_key("K9").await, Ok(None));
    assert_eq!(store.api_keys().await, Ok(vec![ci, ops.clone()]));
    assert_eq!(store.delete_api_key("ci").await, Ok(true));
    assert_eq!(store.delete_api_key("ci").await, Ok(false));
    assert_eq!(store.api_keys().await, Ok(vec![ops]));
    // the name is free again
    store.put_api_key(api_key("k3", "ci", 3)).await.unwrap();
}

async fn one_hundred_writers_at_once(store: Any) {
    let mut writes = JoinSet::new();
    for i in 0..100 {
        let store = Arc::clone(&store);
        // ten of each: one of them gets the client_id, whatever shares its transaction
        let sample = registration("a", &format!("c{}", i % 10), "A");
        writes.spawn(async move { change(&*store, RegistrationChange::Insert(Arc::new(sample))).await });
    }
    let results = writes.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 10);
    assert!(results.iter().all(|r| matches!(r, Ok(_) | Err(StoreError::AlreadyExists))));
    assert_eq!(all(&*store, &RegistrationFilter::default(), 3).await.len(), 10);
    let pending = store.operations(Some(OperationState::Pending), first(200)).await.unwrap();
    assert_eq!(pending.items.len(), 90);
}

async fn a_closed_store_says_so(store: Any) {
    let operation = intent();
    store.begin(unkeyed(operation.clone())).await.unwrap();
    store.ping().await.unwrap();
    tokio::join!(store.close(), store.close());
    store.close().await;
    assert_eq!(store.ping().await, Err(StoreError::Closed));
    assert_eq!(store.begin(unkeyed(intent())).await, Err(StoreError::Closed));
    assert_eq!(store.finish(succeeded(operation.id).into(), None).await, Err(StoreError::Closed));
    assert_eq!(store.operation(operation.id).await, Err(StoreError::Closed));
    assert_eq!(store.api_keys().await, Err(StoreError::Closed));
}

/// All stores find the same, whatever the texts.
#[test]
fn all_stores_search_alike() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let memory = MemoryStore::default();
    let mut others: Vec<Any> = vec![Arc::new(SqliteStore::open(&folder.path().join("registrar.db")).unwrap())];
    #[cfg(unix)]
    others.extend(runtime.block_on(async {
        let url = registrar_throwaway_postgres::schema().await?;
        Some(Arc::new(PostgresStore::open(&url).await.unwrap()) as Any)
    }));
    let names = prop::collection::vec("(\\PC|\0){1,8}", 1..6);
    let cases = (names, 0_usize..6, 0_usize..8);
    let number = Cell::new(0);
    let run = |(names, at, part): (Vec<String>, usize, usize)| {
        runtime.block_on(async {
            // each case has a backend of its own
            let backend = format!("b{}", number.replace(number.get() + 1));
            for (i, name) in names.iter().enumerate() {
                let sample = labelled(registration(&backend, &format!("c{i}"), name), &[("name", name)]);
                insert(&memory, &sample).await;
                for store in &others {
                    insert(&**store, &sample).await;
                }
            }
            let name = &names[at % names.len()];
            let q: String = name.chars().skip(part).collect();
            let backend = Some(backend.parse().unwrap());
            let labels = vec![("name".to_owned(), name.clone())];
            for filter in [
                RegistrationFilter { backend: backend.clone(), q: Some(q.to_uppercase()), labels: Vec::new() },
                RegistrationFilter { backend, q: None, labels },
            ] {
                let expected = all(&memory, &filter, 2).await;
                prop_assert!(!expected.is_empty(), "a part of a name must be found: {filter:?}");
                for store in &others {
                    prop_assert_eq!(&all(&**store, &filter, 2).await, &expected, "{:?}", store);
                }
            }
            Ok(())
        })
    };
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) };
    TestRunner::new(config).run(&cases, run).unwrap();
}
