//! Cases of the suite: the journal, keys, leases, and what may be done once.

use super::*;

pub(crate) async fn an_operation_runs_its_course(store: Any) {
    let begun = intent();
    let id = begun.id;
    store.begin(unkeyed(begun.clone())).await.unwrap();
    assert_eq!(store.operation(id).await, Ok(Some(begun.clone())));
    assert_eq!(store.operation(OperationId::generate()).await, Ok(None));

    let unknown = OperationUpdate {
        summary: "timed out".into(),
        evidence: json!({"status": 504, "sent": true}).into(),
        attempts: 2,
        ..ended(id, OperationState::Unknown, Outcome::Unknown)
    };
    store.finish(unknown.clone().into(), None).await.unwrap();
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
    store.finish(succeeded(id).into(), Some(RegistrationChange::Insert(Arc::new(adopted.clone())))).await.unwrap();
    let expected = Operation {
        state: OperationState::Succeeded,
        outcome: Outcome::Performed,
        summary: "done".into(),
        evidence: json!({}),
        attempts: 1,
        desired: None,
        // nobody works on it any more
        lease: Lease { owner: "".into(), ..expected.lease },
        ..expected
    };
    assert_eq!(store.operation(id).await, Ok(Some(expected)));
    assert_eq!(store.registration(adopted.id).await, Ok(Some(adopted)));
}

fn claim(key: u8, request: u8) -> KeyClaim {
    KeyClaim { key: [key; 32], fingerprint: [request; 32], since: NOW - 1000 }
}

fn keyed(operation: &Operation, key: KeyClaim) -> Intent {
    Intent { operation: operation.clone().into(), key: Some(key), spend: None }
}

pub(crate) async fn a_key_is_used_once(store: Any) {
    let (first, second, other) = (intent(), intent(), intent());
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(None));
    assert_eq!(store.begin(keyed(&first, claim(1, 7))).await, Ok(Begun::New));
    let used = KeyUse { operation: first.id, fingerprint: [7; 32] };
    assert_eq!(store.begin(keyed(&second, claim(1, 8))).await, Ok(Begun::Used(used)));
    assert_eq!(store.operation(second.id).await, Ok(None), "nothing was recorded");
    assert_eq!(store.key_use(&[1; 32], NOW).await, Ok(Some(used)));
    assert_eq!(store.begin(keyed(&other, claim(2, 7))).await, Ok(Begun::New));
    // the result of the operation does not free the key
    store.finish(succeeded(first.id).into(), None).await.unwrap();
    assert_eq!(store.begin(keyed(&second, claim(1, 7))).await, Ok(Begun::Used(used)));
}

pub(crate) async fn a_key_that_is_released_or_too_old_is_free(store: Any) {
    let (first, second, third) = (intent(), intent(), intent());
    store.begin(keyed(&first, claim(1, 7))).await.unwrap();
    let released =
        OperationUpdate { release_key: true, ..ended(first.id, OperationState::Failed, Outcome::NotPerformed) };
    store.finish(released.into(), None).await.unwrap();
    assert_eq!(store.begin(keyed(&second, claim(1, 8))).await, Ok(Begun::New));
    // used at NOW, which is before this claim looks
    let later = KeyClaim { since: NOW + 1, ..claim(1, 9) };
    assert_eq!(store.begin(keyed(&third, later)).await, Ok(Begun::New));
    let now = KeyUse { operation: third.id, fingerprint: [9; 32] };
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(Some(now)), "the newer use counts");

    // purging spares what is not final
    store.purge(NOW, NOW + 1).await.unwrap();
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(Some(now)));
    store.finish(succeeded(third.id).into(), None).await.unwrap();
    store.purge(NOW, NOW).await.unwrap();
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(Some(now)), "not old enough");
    store.purge(NOW, NOW + 1).await.unwrap();
    assert_eq!(store.key_use(&[1; 32], 0).await, Ok(None));
}

pub(crate) async fn a_race_for_a_key_has_one_winner(store: Any) {
    let mut writes = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.begin(keyed(&intent(), claim(3, 3))).await.unwrap() });
    }
    let begun = writes.join_all().await;
    assert_eq!(begun.iter().filter(|b| **b == Begun::New).count(), 1);
    assert_eq!(store.operations(None, first(200)).await.unwrap().items.len(), 1);
}

pub(crate) async fn an_ended_lease_is_taken_over_and_fenced_off(store: Any) {
    let (slow, quick) = (intent(), intent());
    store.begin(unkeyed(slow.clone())).await.unwrap();
    store.begin(unkeyed(quick.clone())).await.unwrap();
    store.finish(succeeded(quick.id).into(), None).await.unwrap();
    let end = slow.lease.until;
    assert_eq!(store.claim("two", end - 1, end + 500, 10).await, Ok(vec![]), "the lease runs");
    let claimed = store.claim("two", end, end + 500, 10).await.unwrap();
    let lease = Lease { owner: "two".into(), until: end + 500, fence: 2 };
    let expected = Operation { state: OperationState::Unknown, lease, ..slow.clone() };
    assert_eq!(claimed, std::slice::from_ref(&expected));
    assert_eq!(store.operation(slow.id).await, Ok(Some(expected)));
    assert_eq!(store.claim("three", end + 499, end + 999, 10).await, Ok(vec![]));

    // the process that was thought dead comes back with a result
    assert_eq!(store.finish(succeeded(slow.id).into(), None).await, Err(StoreError::Superseded));
    let insert = RegistrationChange::Insert(Arc::new(registration("a", "late", "Late")));
    assert_eq!(store.finish(succeeded(slow.id).into(), Some(insert)).await, Err(StoreError::Superseded));
    assert!(store.registrations(&RegistrationFilter::default(), first(10)).await.unwrap().items.is_empty());

    // what stays unknown can be claimed again when its time has come
    let unsure =
        OperationUpdate { fence: 2, retry_at: end + 100, ..ended(slow.id, OperationState::Unknown, Outcome::Unknown) };
    store.finish(unsure.into(), None).await.unwrap();
    assert_eq!(store.claim("three", end + 99, end + 999, 10).await, Ok(vec![]));
    let again = store.claim("three", end + 100, end + 999, 10).await.unwrap();
    assert_eq!(again.iter().map(|o| (o.lease.fence, o.desired.is_some())).collect::<Vec<_>>(), [(3, true)]);
    store.finish(OperationUpdate { fence: 3, ..succeeded(slow.id) }.into(), None).await.unwrap();
    assert_eq!(store.operation(slow.id).await.unwrap().unwrap().desired, None, "not needed any more");
    assert_eq!(store.claim("four", i64::MAX, i64::MAX, 10).await, Ok(vec![]));
}

pub(crate) async fn a_sealed_secret_lives_as_long_as_its_window(store: Any) {
    let (one, two) = (intent(), intent());
    let sealed = Sealed { bytes: vec![0, 159, 146, 150], until: NOW + 600 };
    for operation in [&one, &two] {
        store.begin(unkeyed(operation.clone())).await.unwrap();
        let update = OperationUpdate { sealed: Some(sealed.clone()), ..succeeded(operation.id) };
        store.finish(update.into(), None).await.unwrap();
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

pub(crate) async fn a_value_of_the_gateway_is_made_once(store: Any) {
    assert_eq!(store.once("seal", vec![1, 2]).await, Ok(vec![1, 2]));
    assert_eq!(store.once("seal", vec![3]).await, Ok(vec![1, 2]));
    assert_eq!(store.once("other", vec![3]).await, Ok(vec![3]));
}

pub(crate) async fn initial_access_tokens_are_spent_exactly(store: Any) {
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
        id: "two".into(),
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

    let late = spending("one", NOW + 10);
    assert_eq!(store.begin(late.clone()).await, Ok(Begun::Spent), "it has ended");
    assert_eq!(store.operation(late.operation.id).await, Ok(None), "nothing was recorded");
    assert_eq!(store.begin(spending("none", NOW)).await, Ok(Begun::Spent));
    let mut uses = JoinSet::new();
    for _ in 0..32 {
        let store = Arc::clone(&store);
        uses.spawn(async move {
            let intent = spending("one", NOW);
            (intent.operation.id, store.begin(intent).await.unwrap())
        });
    }
    let mut paid = Vec::new();
    for (id, begun) in uses.join_all().await {
        assert_eq!(store.operation(id).await.unwrap().is_some(), begun == Begun::New, "{begun:?}");
        paid.extend((begun == Begun::New).then_some(id));
    }
    assert_eq!((paid.len(), uses_left(&store, "one").await), (5, Some(0)));
    let refused = OperationUpdate {
        refund: Some("one".to_owned()),
        ..ended(paid[0], OperationState::Failed, Outcome::NotPerformed)
    };
    store.finish(refused.clone().into(), None).await.unwrap();
    assert_eq!(store.finish(refused.into(), None).await, Err(StoreError::AlreadyFinished));
    assert_eq!(uses_left(&store, "one").await, Some(1), "given back once");
    assert_eq!(store.begin(spending("one", NOW)).await, Ok(Begun::New));
    for _ in 0..3 {
        let intent = spending("two", NOW);
        let id = intent.operation.id;
        assert_eq!(store.begin(intent).await, Ok(Begun::New));
        let refund = Some("two".into());
        let refused = OperationUpdate { refund, ..ended(id, OperationState::Failed, Outcome::NotPerformed) };
        store.finish(refused.into(), None).await.unwrap();
    }
    assert_eq!(uses_left(&store, "two").await, None);
    assert_eq!(store.delete_initial_access_token("one").await, Ok(true));
    assert_eq!(store.delete_initial_access_token("one").await, Ok(false));
}

fn spending(token: &str, now: i64) -> Intent {
    Intent { operation: intent().into(), key: None, spend: Some(Spending { token: token.to_owned(), now }) }
}

async fn uses_left(store: &Any, token: &str) -> Option<u32> {
    store.initial_access_token(token).await.unwrap().unwrap().uses_left
}

/// The key counts before the token: an equal request hears of the first, and costs nothing. What is refused costs nothing
/// either.
pub(crate) async fn a_use_is_spent_with_the_intent_or_not_at_all(store: Any) {
    let token = InitialAccessToken {
        id: "one".to_owned(),
        name: "CI".to_owned(),
        hash: [9; 32],
        created_at: NOW,
        expires_at: None,
        uses_left: Some(1),
        terms: json!({}),
    };
    store.put_initial_access_token(token).await.unwrap();
    let first = Intent { key: Some(claim(1, 7)), ..spending("one", NOW) };
    let used = KeyUse { operation: first.operation.id, fingerprint: [7; 32] };
    assert_eq!(store.begin(first.clone()).await, Ok(Begun::New));
    let equal = Intent { key: Some(claim(1, 7)), ..spending("one", NOW) };
    assert_eq!(store.begin(equal).await, Ok(Begun::Used(used)), "not: spent");
    let another = Intent { key: Some(claim(2, 7)), ..spending("one", NOW) };
    assert_eq!(store.begin(another).await, Ok(Begun::Spent));
    assert_eq!(store.key_use(&[2; 32], 0).await, Ok(None), "its key is still free");

    let refund = Some("one".to_owned());
    let refused =
        OperationUpdate { refund, ..ended(first.operation.id, OperationState::Failed, Outcome::NotPerformed) };
    let missing =
        RegistrationChange::Update { registration: Arc::new(registration("a", "c1", "A")), expected_version: 1 };
    assert_eq!(store.finish(refused.clone().into(), Some(missing)).await, Err(StoreError::NotFound("registration")));
    let superseded = OperationUpdate { fence: 9, ..refused.clone() };
    assert_eq!(store.finish(superseded.into(), None).await, Err(StoreError::Superseded));
    assert_eq!(uses_left(&store, "one").await, Some(0));
    store.finish(refused.into(), None).await.unwrap();
    assert_eq!(uses_left(&store, "one").await, Some(1));
    let taken = Intent { operation: first.operation, ..spending("one", NOW) };
    assert_eq!(store.begin(taken).await, Err(StoreError::AlreadyExists));
    assert_eq!(uses_left(&store, "one").await, Some(1));
}

pub(crate) async fn operations_are_listed_by_state(store: Any) {
    let mut ids = Vec::new();
    for i in 0..12 {
        let operation = Operation { action: ACTIONS[i % 4], ..intent() };
        ids.push(operation.id);
        store.begin(unkeyed(operation)).await.unwrap();
    }
    let states = STATES;
    for (i, id) in ids.iter().enumerate().filter(|(i, _)| states[i % 4] != OperationState::Pending) {
        store.finish(ended(*id, states[i % 4], Outcome::NotPerformed).into(), None).await.unwrap();
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

pub(crate) async fn only_what_is_not_final_can_be_finished(store: Any) {
    let unheard_of = OperationId::generate();
    let sample = registration("a", "c1", "A");
    let insert = || Some(RegistrationChange::Insert(Arc::new(sample.clone())));
    assert_eq!(store.finish(succeeded(unheard_of).into(), insert()).await, Err(StoreError::NotFound("operation")));
    for state in [OperationState::Succeeded, OperationState::Failed] {
        let operation = intent();
        let id = operation.id;
        store.begin(unkeyed(operation)).await.unwrap();
        store.finish(ended(id, state, Outcome::NotPerformed).into(), None).await.unwrap();
        assert_eq!(store.finish(succeeded(id).into(), insert()).await, Err(StoreError::AlreadyFinished));
        assert_eq!(store.operation(id).await.unwrap().unwrap().state, state);
    }
    assert_eq!(store.registration(sample.id).await, Ok(None));
}

pub(crate) async fn only_what_has_succeeded_can_be_amended(store: Any) {
    let sample = registration("a", "c1", "A");
    let insert = || Some(RegistrationChange::Insert(Arc::new(sample.clone())));
    assert_eq!(
        store.amend(succeeded(OperationId::generate()).into(), insert()).await,
        Err(StoreError::NotFound("operation"))
    );
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
            store.finish(ended(id, state, Outcome::Performed).into(), None).await.unwrap();
        }
        let sealed = Some(Sealed { bytes: vec![1, 2, 3], until: NOW + 10 });
        let evidence = json!({ "late": true });
        let update = OperationUpdate { sealed: sealed.clone(), evidence: evidence.clone().into(), ..succeeded(id) };
        let other = OperationUpdate { fence: update.fence + 1, ..update.clone() };
        assert!(store.amend(other.into(), insert()).await.is_err());
        assert_eq!(store.amend(update.into(), insert()).await, expected, "{state:?}");
        let done = expected.is_ok();
        assert_eq!(store.sealed(id, NOW).await.unwrap(), sealed.filter(|_| done));
        assert_eq!(store.operation(id).await.unwrap().unwrap().evidence == evidence, done);
        assert_eq!(store.registration(sample.id).await.unwrap().is_some(), done);
    }
}
