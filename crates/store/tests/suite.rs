//! What every store must do; run against each implementation.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[cfg(unix)]
#[path = "postgres/mod.rs"]
mod shared;

use std::{cell::Cell, collections::BTreeSet, sync::Arc};

use common::{NOW, change, ended, first, insert, intent, labelled, registration, succeeded, unkeyed};
use proptest::{prelude::*, test_runner::TestRunner};
use registrar_core::Outcome;
use registrar_model::{OperationId, Registration, RegistrationId, State};
use registrar_store::{
    Action, ApiKey, Begun, InitialAccessToken, Intent, KeyClaim, KeyUse, Lease, MemoryStore, Operation, OperationState,
    OperationUpdate, PageRequest, PostgresStore, RegistrationChange, RegistrationFilter, Sealed, SqliteStore, Store,
    StoreError,
};
use serde_json::json;
use tokio::task::JoinSet;

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
    operations_are_listed_by_state,
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
    assert_eq!(store.finish(succeeded(id), Some(update)).await, Err(StoreError::VersionConflict));
    assert_eq!(store.registration(old.id).await, Ok(Some(old)));
    assert_eq!(store.operation(id).await, Ok(Some(operation)), "the result must not be recorded without the change");
    new.id = RegistrationId::generate();
    let update = RegistrationChange::Update { registration: Arc::new(new), expected_version: 1 };
    assert_eq!(store.finish(succeeded(id), Some(update)).await, Err(StoreError::NotFound("registration")));
    // the operation can still be finished
    store.finish(succeeded(id), None).await.unwrap();
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
        let refused = store.finish(succeeded(id), Some(RegistrationChange::Insert(Arc::new(twin)))).await;
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
    nameless.spec.metadata.client_name = None;
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

async fn an_operation_runs_its_course(store: Any) {
    let begun = intent();
    let id = begun.id;
    store.begin(unkeyed(begun.clone())).await.unwrap();
    assert_eq!(store.operation(id).await, Ok(Some(begun.clone())));
    assert_eq!(store.operation(OperationId::generate()).await, Ok(None));

    let unknown = OperationUpdate {
        summary: "timed out".to_owned(),
        evidence: json!({"status": 504, "sent": true}).into(),
        attempts: 2,
        ..ended(id, OperationState::Unknown, Outcome::Unknown)
    };
    store.finish(unknown.clone(), None).await.unwrap();
    let expected = Operation {
        state: OperationState::Unknown,
        summary: unknown.summary,
        evidence: unknown.evidence.value(),
        attempts: 2,
        updated_at: NOW + 1,
        lease: Lease { until: unknown.retry_at, ..begun.lease.clone() },
        ..begun
    };
    assert_eq!(store.operation(id).await, Ok(Some(expected.clone())));

    // the reconciler finds it at the vendor
    let adopted = registration("a", "c1", "A");
    store.finish(succeeded(id), Some(RegistrationChange::Insert(Arc::new(adopted.clone())))).await.unwrap();
    let expected = Operation {
        state: OperationState::Succeeded,
        outcome: Outcome::Performed,
        summary: "done".to_owned(),
        evidence: json!({}),
        attempts: 1,
        desired: None,
        ..expected
    };
    assert_eq!(store.operation(id).await, Ok(Some(expected)));
    assert_eq!(store.registration(adopted.id).await, Ok(Some(adopted)));
}

fn claim(key: u8, request: u8) -> KeyClaim {
    KeyClaim { key: [key; 32], fingerprint: [request; 32], since: NOW - 1000 }
}

fn keyed(operation: &Operation, key: KeyClaim) -> Intent {
    Intent { operation: operation.clone(), key: Some(key) }
}

async fn a_key_is_used_once(store: Any) {
    let (first, second, other) = (intent(), intent(), intent());
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(None));
    assert_eq!(store.begin(keyed(&first, claim(1, 7))).await, Ok(Begun::New));
    let used = KeyUse { operation: first.id, fingerprint: [7; 32] };
    assert_eq!(store.begin(keyed(&second, claim(1, 8))).await, Ok(Begun::Used(used)));
    assert_eq!(store.operation(second.id).await, Ok(None), "nothing was recorded");
    assert_eq!(store.key_use(&[1; 32], NOW).await, Ok(Some(used)));
    assert_eq!(store.begin(keyed(&other, claim(2, 7))).await, Ok(Begun::New));
    // the result of the operation does not free the key
    store.finish(succeeded(first.id), None).await.unwrap();
    assert_eq!(store.begin(keyed(&second, claim(1, 7))).await, Ok(Begun::Used(used)));
}

async fn a_key_that_is_released_or_too_old_is_free(store: Any) {
    let (first, second, third) = (intent(), intent(), intent());
    store.begin(keyed(&first, claim(1, 7))).await.unwrap();
    let released =
        OperationUpdate { release_key: true, ..ended(first.id, OperationState::Failed, Outcome::NotPerformed) };
    store.finish(released, None).await.unwrap();
    assert_eq!(store.begin(keyed(&second, claim(1, 8))).await, Ok(Begun::New));
    // used at NOW, which is before this claim looks
    let later = KeyClaim { since: NOW + 1, ..claim(1, 9) };
    assert_eq!(store.begin(keyed(&third, later)).await, Ok(Begun::New));
    let now = KeyUse { operation: third.id, fingerprint: [9; 32] };
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(Some(now)), "the newer use counts");

    // purging spares what is not final
    store.purge(NOW, NOW + 1).await.unwrap();
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(Some(now)));
    store.finish(succeeded(third.id), None).await.unwrap();
    store.purge(NOW, NOW).await.unwrap();
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(Some(now)), "not old enough");
    store.purge(NOW, NOW + 1).await.unwrap();
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(None));
}

async fn a_race_for_a_key_has_one_winner(store: Any) {
    let mut writes = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.begin(keyed(&intent(), claim(3, 3))).await.unwrap() });
    }
    let begun = writes.join_all().await;
    assert_eq!(begun.iter().filter(|b| **b == Begun::New).count(), 1);
    assert_eq!(store.operations(None, first(200)).await.unwrap().items.len(), 1);
}

async fn an_ended_lease_is_taken_over_and_fenced_off(store: Any) {
    let (slow, quick) = (intent(), intent());
    store.begin(unkeyed(slow.clone())).await.unwrap();
    store.begin(unkeyed(quick.clone())).await.unwrap();
    store.finish(succeeded(quick.id), None).await.unwrap();
    let end = slow.lease.until;
    assert_eq!(store.claim("two", end - 1, end + 500, 10).await, Ok(vec![]), "the lease runs");
    let claimed = store.claim("two", end, end + 500, 10).await.unwrap();
    let lease = Lease { owner: "two".to_owned(), until: end + 500, fence: 2 };
    let expected = Operation { state: OperationState::Unknown, lease, ..slow.clone() };
    assert_eq!(claimed, std::slice::from_ref(&expected));
    assert_eq!(store.operation(slow.id).await, Ok(Some(expected)));
    assert_eq!(store.claim("three", end + 499, end + 999, 10).await, Ok(vec![]));

    // the process that was thought dead comes back with a result
    assert_eq!(store.finish(succeeded(slow.id), None).await, Err(StoreError::Superseded));
    let insert = RegistrationChange::Insert(Arc::new(registration("a", "late", "Late")));
    assert_eq!(store.finish(succeeded(slow.id), Some(insert)).await, Err(StoreError::Superseded));
    assert!(store.registrations(&RegistrationFilter::default(), first(10)).await.unwrap().items.is_empty());

    // what stays unknown can be claimed again when its time has come
    let unsure =
        OperationUpdate { fence: 2, retry_at: end + 100, ..ended(slow.id, OperationState::Unknown, Outcome::Unknown) };
    store.finish(unsure, None).await.unwrap();
    assert_eq!(store.claim("three", end + 99, end + 999, 10).await, Ok(vec![]));
    let again = store.claim("three", end + 100, end + 999, 10).await.unwrap();
    assert_eq!(again.iter().map(|o| (o.lease.fence, o.desired.is_some())).collect::<Vec<_>>(), [(3, true)]);
    store.finish(OperationUpdate { fence: 3, ..succeeded(slow.id) }, None).await.unwrap();
    assert_eq!(store.operation(slow.id).await.unwrap().unwrap().desired, None, "not needed any more");
    assert_eq!(store.claim("four", i64::MAX, i64::MAX, 10).await, Ok(vec![]));
}

async fn a_sealed_secret_lives_as_long_as_its_window(store: Any) {
    let (one, two) = (intent(), intent());
    let sealed = Sealed { bytes: vec![0, 159, 146, 150], until: NOW + 600 };
    for operation in [&one, &two] {
        store.begin(unkeyed(operation.clone())).await.unwrap();
        let update = OperationUpdate { sealed: Some(sealed.clone()), ..succeeded(operation.id) };
        store.finish(update, None).await.unwrap();
    }
    assert_eq!(store.sealed(one.id, NOW + 599).await, Ok(Some(sealed.clone())));
    assert_eq!(store.sealed(one.id, NOW + 600).await, Ok(None));
    assert_eq!(store.destroy_sealed(one.id).await, Ok(true));
    assert_eq!(store.destroy_sealed(one.id).await, Ok(false));
    assert_eq!(store.sealed(one.id, NOW).await, Ok(None));
    store.purge(NOW + 599, 0).await.unwrap();
    assert_eq!(store.sealed(two.id, NOW).await, Ok(Some(sealed)));
    store.purge(NOW + 600, 0).await.unwrap();
    assert_eq!(store.sealed(two.id, NOW).await, Ok(None));
}

async fn a_value_of_the_gateway_is_made_once(store: Any) {
    assert_eq!(store.once("seal", vec![1, 2]).await, Ok(vec![1, 2]));
    assert_eq!(store.once("seal", vec![3]).await, Ok(vec![1, 2]));
    assert_eq!(store.once("other", vec![3]).await, Ok(vec![3]));
}

async fn initial_access_tokens_are_spent_exactly(store: Any) {
    let token = InitialAccessToken {
        id: "one".to_owned(),
        name: "CI".to_owned(),
        hash: [9; 32],
        created_at: NOW,
        expires_at: Some(NOW + 10),
        uses_left: Some(5),
        terms: json!({"route": "wallets"}),
    };
    let endless = InitialAccessToken {
        id: "two".to_owned(),
        created_at: NOW + 1,
        expires_at: None,
        uses_left: None,
        ..token.clone()
    };
    store.put_initial_access_token(endless.clone()).await.unwrap();
    store.put_initial_access_token(token.clone()).await.unwrap();
    assert_eq!(store.put_initial_access_token(token.clone()).await, Err(StoreError::AlreadyExists));
    assert_eq!(store.initial_access_token("one").await, Ok(Some(token.clone())));
    assert_eq!(store.initial_access_tokens().await, Ok(vec![token.clone(), endless]));

    assert_eq!(store.spend_initial_access_token("one", NOW + 10).await, Ok(false), "it has ended");
    assert_eq!(store.spend_initial_access_token("none", NOW).await, Ok(false));
    let mut uses = JoinSet::new();
    for _ in 0..32 {
        let store = Arc::clone(&store);
        uses.spawn(async move { store.spend_initial_access_token("one", NOW).await.unwrap() });
    }
    assert_eq!(uses.join_all().await.into_iter().filter(|spent| *spent).count(), 5);
    store.refund_initial_access_token("one").await.unwrap();
    assert_eq!(store.initial_access_token("one").await.unwrap().unwrap().uses_left, Some(1));
    assert_eq!(store.spend_initial_access_token("one", NOW).await, Ok(true));
    for _ in 0..3 {
        assert_eq!(store.spend_initial_access_token("two", NOW).await, Ok(true));
    }
    assert_eq!(store.initial_access_token("two").await.unwrap().unwrap().uses_left, None);
    assert_eq!(store.delete_initial_access_token("one").await, Ok(true));
    assert_eq!(store.delete_initial_access_token("one").await, Ok(false));
}

async fn operations_are_listed_by_state(store: Any) {
    let mut ids = Vec::new();
    for i in 0..12 {
        let operation = Operation { action: ACTIONS[i % 4], ..intent() };
        ids.push(operation.id);
        store.begin(unkeyed(operation)).await.unwrap();
    }
    let states = STATES;
    for (i, id) in ids.iter().enumerate().filter(|(i, _)| states[i % 4] != OperationState::Pending) {
        store.finish(ended(*id, states[i % 4], Outcome::NotPerformed), None).await.unwrap();
    }
    for wanted in std::iter::once(None).chain(states.iter().copied().map(Some)) {
        let mut found = Vec::new();
        let mut page = first(2);
        loop {
            let part = store.operations(wanted, page.clone()).await.unwrap();
            assert!(part.items.iter().all(|o| wanted.is_none_or(|state| o.state == state)));
            found.extend(part.items.iter().map(|o| o.id));
            page.after = part.next;
            if page.after.is_none() {
                break;
            }
        }
        let expected = ids.iter().enumerate().filter(|(i, _)| wanted.is_none_or(|state| states[i % 4] == state));
        assert_eq!(found, expected.map(|(_, id)| *id).collect::<Vec<_>>(), "{wanted:?}");
    }
}

async fn only_what_is_not_final_can_be_finished(store: Any) {
    let unheard_of = OperationId::generate();
    let sample = registration("a", "c1", "A");
    let insert = || Some(RegistrationChange::Insert(Arc::new(sample.clone())));
    assert_eq!(store.finish(succeeded(unheard_of), insert()).await, Err(StoreError::NotFound("operation")));
    for state in [OperationState::Succeeded, OperationState::Failed] {
        let operation = intent();
        let id = operation.id;
        store.begin(unkeyed(operation)).await.unwrap();
        store.finish(ended(id, state, Outcome::NotPerformed), None).await.unwrap();
        assert_eq!(store.finish(succeeded(id), insert()).await, Err(StoreError::AlreadyFinished));
        assert_eq!(store.operation(id).await.unwrap().unwrap().state, state);
    }
    assert_eq!(store.registration(sample.id).await, Ok(None));
}

async fn only_what_has_succeeded_can_be_amended(store: Any) {
    let sample = registration("a", "c1", "A");
    let insert = || Some(RegistrationChange::Insert(Arc::new(sample.clone())));
    assert_eq!(store.amend(succeeded(OperationId::generate()), insert()).await, Err(StoreError::NotFound("operation")));
    let ends = [
        (None, Err(StoreError::Superseded)),
        (Some(OperationState::Unknown), Err(StoreError::Superseded)),
        (Some(OperationState::Failed), Err(StoreError::AlreadyFinished)),
        (Some(OperationState::Succeeded), Ok(())),
    ];
    for (state, expected) in ends {
        let operation = intent();
        let id = operation.id;
        store.begin(unkeyed(operation)).await.unwrap();
        if let Some(state) = state {
            store.finish(ended(id, state, Outcome::Performed), None).await.unwrap();
        }
        let sealed = Some(Sealed { bytes: vec![1, 2, 3], until: NOW + 10 });
        let evidence = json!({ "late": true });
        let update = OperationUpdate { sealed: sealed.clone(), evidence: evidence.clone().into(), ..succeeded(id) };
        let other = OperationUpdate { fence: update.fence + 1, ..update.clone() };
        assert!(store.amend(other, insert()).await.is_err());
        assert_eq!(store.amend(update, insert()).await, expected, "{state:?}");
        let done = expected.is_ok();
        assert_eq!(store.sealed(id, NOW).await.unwrap(), sealed.filter(|_| done));
        assert_eq!(store.operation(id).await.unwrap().unwrap().evidence == evidence, done);
        assert_eq!(store.registration(sample.id).await.unwrap().is_some(), done);
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
    assert_eq!(store.finish(succeeded(operation.id), None).await, Err(StoreError::Closed));
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
