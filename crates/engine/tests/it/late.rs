//! Results that come when another gateway has taken the operation over, or when the store does not work.

use std::{sync::Arc, time::Duration};

use registrar_core::{ErrorKind, ExposeSecret as _, Fake, Outcome};
use registrar_engine::dcr::After;
use registrar_model::State;
use registrar_store::{Action, MemoryStore, OperationState, Store as _, StoreError, Trouble};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::rig::{
    Answer, Faulty, Line, Meanwhile, at, caller, gateway, just, line_to, needs_a_person, operations, request,
    stable_token, taken_over, vendor,
};

const LOST: StoreError = StoreError::Unavailable(Trouble::Unreachable);
const FULL: StoreError = StoreError::Unavailable(Trouble::Full);

struct Scene {
    inner: Arc<MemoryStore>,
    store: Arc<Faulty>,
    line: Arc<Line>,
    engine: Arc<registrar_engine::Engine>,
}

fn scene(kind: &str) -> Scene {
    let inner = Arc::new(MemoryStore::new());
    let store = Faulty::over(&inner);
    let line = vendor(kind);
    let engine = gateway(&store, &line);
    Scene { inner, store, line, engine }
}

impl Scene {
    /// Another process takes over what is open, and finds what this vendor shows.
    fn takes_over<T: Send + 'static>(&self, fake: &Arc<dyn Fake>, then: T) -> Meanwhile<T> {
        let (inner, fake) = (Arc::clone(&self.inner), Arc::clone(fake));
        Box::new(move || {
            Box::pin(async move {
                taken_over(&inner, &fake).await;
                then
            })
        })
    }

    /// Another process begins, and does no more than to mark what is open.
    fn marks<T: Send + 'static>(&self, then: T) -> Meanwhile<T> {
        let other = gateway(&Faulty::over(&self.inner), &line_to(Arc::clone(&self.line.fake)));
        Box::new(move || {
            Box::pin(async move {
                other.recover().await.unwrap();
                then
            })
        })
    }

    async fn state_of(&self, id: registrar_model::RegistrationId) -> State {
        self.inner.registration(id).await.unwrap().unwrap().state
    }
}

/// What the standards face knows of a client.
async fn dcr(it: &Scene, id: registrar_model::RegistrationId) -> Value {
    it.inner.registration(id).await.unwrap().unwrap().hidden.dcr.unwrap_or_default()
}

/// The record of a client that was found says what its registration said, and so does that of a change.
#[tokio::test]
async fn what_a_look_settles_keeps_what_the_standards_face_has_brought_along() {
    let it = scene("loop");
    let visitor = it.engine.visitor(Some("all"), None, None).await.unwrap();
    let (by, vouched) = (caller(Some("k")), Some("first".to_owned()));
    let register = || it.engine.register(&visitor, &by, request("loop", "Found"), vouched.clone());
    it.line.after_write(just(Answer::Lost));
    let lost = register().await.unwrap_err();
    it.engine.reconcile().await.unwrap();
    let found = it.inner.operation(lost.operation.unwrap()).await.unwrap().unwrap();
    let id = found.registration.unwrap();
    assert_eq!(dcr(&it, id).await, json!({ "route": "all", "statement": "first" }));
    // whoever asks again can manage it, and has a token that works
    let again = register().await.unwrap();
    assert!(again.written.replayed && again.written.registration.id == id);
    let holder = it.engine.holder(&id.to_string(), again.access_token.expose_secret()).await.unwrap();

    let mut change = request("loop", "Changed");
    change.backend = None;
    it.line.after_write(just(Answer::Lost));
    let lost = it.engine.replace_own(&caller(None), &holder, change, Some("second".to_owned())).await.unwrap_err();
    assert_eq!(dcr(&it, id).await["statement"], "first");
    it.engine.reconcile().await.unwrap();
    let done = it.inner.operation(lost.operation.unwrap()).await.unwrap().unwrap();
    assert_eq!(done.state, OperationState::Succeeded, "{done:?}");
    let now = it.inner.registration(id).await.unwrap().unwrap();
    assert_eq!(now.spec.metadata.client_name.as_deref(), Some("Changed"));
    assert_eq!(dcr(&it, id).await, json!({ "route": "all", "statement": "second" }));

    // what nobody vouches for any more, and what was not done
    for (before, change, expected) in [(true, "Third", Some("second")), (false, "Fourth", None)] {
        if before {
            it.line.before_write(just(Answer::Refused));
        } else {
            it.line.after_write(just(Answer::Lost));
        }
        let mut request = request("loop", change);
        request.backend = None;
        it.engine.replace_own(&caller(None), &holder, request, None).await.unwrap_err();
        it.engine.reconcile().await.unwrap();
        assert_eq!(dcr(&it, id).await["statement"].as_str(), expected, "{change}");
    }
}

/// An administrator's change says nothing about who vouches for the client.
#[tokio::test]
async fn a_settled_change_of_an_administrator_keeps_the_statement() {
    let it = scene("loop");
    let visitor = it.engine.visitor(Some("all"), None, None).await.unwrap();
    let vouched = Some("first".to_owned());
    let own = it.engine.register(&visitor, &caller(None), request("loop", "Own"), vouched).await.unwrap();
    let id = own.written.registration.id;
    it.line.after_write(just(Answer::Lost));
    let change = json!({ "metadata": { "client_name": "Changed" } });
    it.engine.patch(&caller(None), id, change, None).await.unwrap_err();
    it.engine.reconcile().await.unwrap();
    assert_eq!(it.state_of(id).await, State::Active);
    assert_eq!(dcr(&it, id).await["statement"], "first");
}

/// The other gateway has found the client and knows neither its secret nor its token: the late answer adds both.
#[tokio::test]
async fn an_adoption_is_completed_by_the_answer_that_comes_after_it() {
    let it = scene("loop");
    it.line.after_write(it.takes_over(&it.line.fake, Answer::Arrives));
    let visitor = it.engine.visitor(Some("all"), None, None).await.unwrap();
    let own = it.engine.register(&visitor, &caller(Some("k")), request("loop", "Late"), None).await.unwrap();
    assert!(own.written.recorded);
    let id = own.written.registration.id;
    let holder = it.engine.holder(&id.to_string(), own.access_token.expose_secret()).await.unwrap();
    assert!(holder.has_secret(own.written.secret.as_ref().unwrap().value.expose_secret()));
    let again = it.engine.create(&caller(Some("k")), request("loop", "Late")).await.unwrap();
    let secrets = [again.secret, own.written.secret].map(|s| s.unwrap().value.expose_secret().to_owned());
    assert_eq!(secrets[0], secrets[1], "what was delivered is delivered again");
    // and afterwards it has expired, not: never been delivered
    it.engine.acknowledge(own.written.operation).await.unwrap();
    let again = it.engine.create(&caller(Some("k")), request("loop", "Late")).await.unwrap();
    assert_eq!(again.secret_state, Some(registrar_engine::SecretState::Expired));
}

/// Nothing was lost, only slow: no operation is listed, and the record is not written twice.
#[tokio::test]
async fn an_own_result_that_was_recorded_by_a_try_that_failed_is_recorded() {
    let it = scene("loop");
    let inner = Arc::clone(&it.inner);
    it.store.after_finish(just(Some(LOST)));
    let made = it.engine.create(&caller(Some("k")), request("loop", "Slow")).await.unwrap();
    assert!(made.recorded);
    let kept = inner.registration(made.registration.id).await.unwrap().unwrap();
    assert_eq!((kept.version, operations(&inner, OperationState::Succeeded).await.len()), (1, 1));
    assert_eq!(operations(&inner, OperationState::Pending).await, []);
}

/// Two equal creates, whose clients the other gateway cannot tell apart, have been given each other's.
#[tokio::test]
async fn a_caller_whose_record_is_of_another_client_is_warned() {
    let it = scene("loop");
    let (second, taken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // the first to begin is the last to arrive
    let arrive = Arc::clone(&second);
    it.line.before_write(Box::new(move || {
        Box::pin(async move {
            arrive.notified().await;
            Answer::Arrives
        })
    }));
    let (release, wait) = (Arc::clone(&second), Arc::clone(&taken));
    it.line.after_write(Box::new(move || {
        Box::pin(async move {
            release.notify_one();
            wait.notified().await;
            Answer::Arrives
        })
    }));
    let (take, done) = (it.takes_over(&it.line.fake, ()), Arc::clone(&taken));
    it.line.after_write(Box::new(move || {
        Box::pin(async move {
            take().await;
            done.notify_one();
            Answer::Arrives
        })
    }));
    let (a, b) = (caller(Some("a")), caller(Some("b")));
    let (first, second) =
        tokio::join!(it.engine.create(&a, request("loop", "Twin")), it.engine.create(&b, request("loop", "Twin")));
    for made in [first.unwrap(), second.unwrap()] {
        let kept = it.inner.registration(made.registration.id).await.unwrap().unwrap();
        assert_ne!(kept.client_id, made.registration.client_id, "or the test shows nothing");
        assert!(!made.recorded, "the secret is not that of the client in the record");
    }
    taken_over(&it.inner, &it.line.fake).await;
    for client_id in at(&it.line) {
        let backend = "loop".parse().unwrap();
        assert!(it.inner.registered(&backend, &client_id.parse().unwrap()).await.unwrap().is_some());
    }
    for state in [OperationState::Pending, OperationState::Unknown] {
        assert_eq!(operations(&it.inner, state).await, []);
    }
}

/// The first try to record fails; until the second, the other gateway has concluded that nothing was done.
#[tokio::test]
async fn a_conclusion_of_another_is_not_taken_for_the_own_success() {
    let it = scene("loop");
    it.store.at_finish(it.takes_over(&vendor("loop").fake, Some(LOST)));
    let made = it.engine.create(&caller(Some("k")), request("loop", "Partition")).await.unwrap();
    assert!(!made.recorded);
    // the caller is told of the operation that is open now
    let open = it.inner.operation(made.operation).await.unwrap().unwrap();
    assert_eq!((open.state.is_final(), open.action), (false, Action::Create), "{open:?}");
    taken_over(&it.inner, &it.line.fake).await;
    let client_id = at(&it.line)[0].parse().unwrap();
    assert!(it.inner.registered(&"loop".parse().unwrap(), &client_id).await.unwrap().is_some());
}

/// The same, while it is tried later.
#[tokio::test(start_paused = true)]
async fn a_conclusion_of_another_is_noticed_later_too() {
    let it = scene("loop");
    for _ in 0..3 {
        it.store.at_finish(just(Some(LOST)));
    }
    it.store.at_finish(it.takes_over(&vendor("loop").fake, Some(LOST)));
    let made = it.engine.create(&caller(Some("k")), request("loop", "Partition")).await.unwrap();
    assert!(!made.recorded);
    tokio::time::sleep(Duration::from_secs(20)).await;
    taken_over(&it.inner, &it.line.fake).await;
    let client_id = at(&it.line)[0].parse().unwrap();
    assert!(it.inner.registered(&"loop".parse().unwrap(), &client_id).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_operation_for_a_late_result_is_begun_again_when_that_fails() {
    let it = scene("loop");
    it.store.at_finish(it.takes_over(&vendor("loop").fake, Some(LOST)));
    it.store.at_begin(just(None));
    it.store.at_begin(just(Some(FULL)));
    it.store.at_begin(just(Some(FULL)));
    let made = it.engine.create(&caller(None), request("loop", "Again")).await.unwrap();
    let open = it.inner.operation(made.operation).await.unwrap().unwrap();
    assert!(!made.recorded && !open.state.is_final(), "{open:?}");
}

/// A change that the vendor has done waits for its record: the next change to the client comes after it.
#[tokio::test(start_paused = true)]
async fn a_change_is_not_overtaken_while_its_record_is_tried_again() {
    let it = scene("loop");
    let id = it.engine.create(&caller(None), request("loop", "Turn")).await.unwrap().registration.id;
    for _ in 0..3 {
        it.store.at_finish(just(Some(FULL)));
    }
    let to = |uri: &str| json!({ "metadata": { "redirect_uris": [uri] } });
    let first = it.engine.patch(&caller(None), id, to("https://a.example/1"), None).await.unwrap_err();
    assert_eq!((first.error.kind(), first.error.outcome()), (ErrorKind::PartialFailure, Outcome::Performed));
    it.engine.patch(&caller(None), id, to("https://a.example/2"), None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let first = it.inner.operation(first.operation.unwrap()).await.unwrap().unwrap();
    assert_eq!((first.state, first.outcome), (OperationState::Succeeded, Outcome::Performed), "{first:?}");
    let now: Value = it.inner.registration(id).await.unwrap().unwrap().writable().into();
    assert_eq!(now["metadata"]["redirect_uris"], json!(["https://a.example/2"]));
}

/// Where nothing can have arrived at the store, nothing is to be closed.
#[tokio::test(start_paused = true)]
async fn an_intent_that_was_never_sent_is_not_closed() {
    let it = scene("loop");
    for trouble in [Trouble::NotConnected, Trouble::Busy] {
        it.store.at_begin(just(Some(StoreError::Unavailable(trouble))));
        let refused = it.engine.create(&caller(None), request("loop", "Refused")).await.unwrap_err();
        assert_eq!(refused.error.outcome(), Outcome::NotPerformed);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(it.store.tries(), 0);
}

/// An intent that may be durable is looked for as long as the server may still be at its commit, and no longer; and not
/// by everybody at once.
#[tokio::test(start_paused = true)]
async fn closing_intents_that_may_be_durable_is_bounded() {
    let it = scene("loop");
    for _ in 0..200 {
        it.store.at_begin(just(Some(LOST)));
        it.engine.create(&caller(None), request("loop", "Cut")).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    let at_once = it.store.tries();
    assert!((1..=64).contains(&at_once), "{at_once} at once");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let all = it.store.tries();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(it.store.tries(), all, "it has ended");
}

/// Another process has marked the client only; the vendor's answer settles the operation and the client.
#[tokio::test]
async fn a_client_does_not_stay_unknown_when_a_late_answer_settles_what_was_open() {
    let it = scene("loop");
    let id = it.engine.create(&caller(None), request("loop", "Marked")).await.unwrap().registration.id;
    it.line.after_write(it.marks(Answer::Arrives));
    assert!(it.engine.rotate_secret(&caller(None), id).await.unwrap().recorded);
    assert_eq!(it.state_of(id).await, State::Active, "after a rotation");
    it.line.before_write(it.marks(Answer::Refused));
    let change = json!({ "metadata": { "client_uri": "https://a.example" } });
    let refused = it.engine.patch(&caller(None), id, change, None).await.unwrap_err();
    assert_eq!(refused.error.outcome(), Outcome::NotPerformed);
    assert_eq!(it.state_of(id).await, State::Active, "after a refusal");
}

/// The rotation of a client of the standards face changes its record, which the other process has marked since.
#[tokio::test]
async fn a_late_rotation_of_a_client_of_the_standards_face_is_recorded() {
    let it = scene("loop");
    let visitor = it.engine.visitor(Some("all"), None, None).await.unwrap();
    let own = it.engine.register(&visitor, &caller(None), request("loop", "Own"), None).await.unwrap();
    let id = own.written.registration.id;
    it.line.after_write(it.marks(Answer::Arrives));
    let rotated = it.engine.rotate_secret(&caller(None), id).await.unwrap();
    assert!(rotated.recorded);
    let holder = it.engine.holder(&id.to_string(), own.access_token.expose_secret()).await.unwrap();
    assert!(holder.has_secret(rotated.secret.unwrap().value.expose_secret()));
    assert_eq!(it.state_of(id).await, State::Active);
}

#[tokio::test]
async fn a_rotation_ends_what_a_lost_rotation_began_and_nothing_else() {
    let it = scene("loop");
    let id = it.engine.create(&caller(None), request("loop", "Twice")).await.unwrap().registration.id;
    it.line.after_write(just(Answer::Lost));
    it.engine.rotate_secret(&caller(None), id).await.unwrap_err();
    assert_eq!(it.state_of(id).await, State::Unknown);
    it.engine.rotate_secret(&caller(None), id).await.unwrap();
    assert_eq!(it.state_of(id).await, State::Active);
    // a change is open as well
    it.line.after_write(just(Answer::Lost));
    let change = json!({ "metadata": { "client_uri": "https://a.example" } });
    it.engine.patch(&caller(None), id, change, None).await.unwrap_err();
    it.line.after_write(just(Answer::Lost));
    it.engine.rotate_secret(&caller(None), id).await.unwrap_err();
    it.engine.rotate_secret(&caller(None), id).await.unwrap();
    assert_eq!(it.state_of(id).await, State::Unknown);
}

/// What only the gateway's own record was to hear of leaves nothing open.
#[tokio::test]
async fn a_change_of_the_record_alone_that_fails_is_closed() {
    for error in [StoreError::VersionConflict, FULL] {
        let it = scene("loop");
        let visitor = it.engine.visitor(Some("all"), None, None).await.unwrap();
        let own = it.engine.register(&visitor, &caller(None), request("loop", "Own"), None).await.unwrap();
        let id = own.written.registration.id;
        let holder = it.engine.holder(&id.to_string(), own.access_token.expose_secret()).await.unwrap();
        it.store.at_finish(just(Some(error)));
        it.engine.renewed(&caller(None), &holder, After::Update).await.unwrap_err();
        for state in [OperationState::Pending, OperationState::Unknown] {
            assert_eq!(operations(&it.inner, state).await, []);
        }
        assert_eq!(operations(&it.inner, OperationState::Failed).await.len(), 1);
    }
}

/// A process that died between the two halves of such a change has asked no vendor for anything.
#[tokio::test]
async fn a_change_of_the_record_alone_that_was_interrupted_is_for_nobody_to_look_into() {
    let it = scene("loop");
    let visitor = it.engine.visitor(Some("all"), None, None).await.unwrap();
    let own = it.engine.register(&visitor, &caller(None), request("loop", "Own"), None).await.unwrap();
    let id = own.written.registration.id;
    let holder = it.engine.holder(&id.to_string(), own.access_token.expose_secret()).await.unwrap();
    // neither the change nor that it failed
    it.store.at_finish(just(Some(FULL)));
    it.store.at_finish(just(Some(FULL)));
    it.engine.renewed(&caller(None), &holder, After::Update).await.unwrap_err();
    let left = operations(&it.inner, OperationState::Pending).await;
    let lease = left[0].lease.until - left[0].created_at;
    assert!((1_000..=120_000).contains(&lease), "another process may take it over: {lease}");
    taken_over(&it.inner, &it.line.fake).await;
    let closed = it.inner.operation(left[0].id).await.unwrap().unwrap();
    assert_eq!((closed.state, closed.outcome), (OperationState::Failed, Outcome::NotPerformed), "{closed:?}");
    assert_eq!(it.state_of(id).await, State::Active);
}

/// However many others wait for a person.
#[tokio::test]
async fn a_newer_success_closes_older_ones_that_are_not_on_the_first_page() {
    let it = scene("loop");
    let other = it.engine.create(&caller(None), request("loop", "Other")).await.unwrap().registration.id;
    let id = it.engine.create(&caller(None), request("loop", "Mine")).await.unwrap().registration.id;
    for _ in 0..201 {
        it.line.after_write(just(Answer::Lost));
        it.engine.rotate_secret(&caller(None), other).await.unwrap_err();
    }
    it.line.after_write(just(Answer::Lost));
    let lost = it.engine.rotate_secret(&caller(None), id).await.unwrap_err();
    it.engine.rotate_secret(&caller(None), id).await.unwrap();
    let closed = it.inner.operation(lost.operation.unwrap()).await.unwrap().unwrap();
    assert!(closed.state == OperationState::Failed && !needs_a_person(&closed), "{closed:?}");
}

/// The change makes a public client confidential; the server keeps its token, so that a look finds the change, and nobody
/// has the secret.
#[tokio::test]
async fn a_secret_that_a_lost_change_issued_is_undelivered() {
    let (inner, line) = (Arc::new(MemoryStore::new()), stable_token("rfc7591"));
    let engine = gateway(&Faulty::over(&inner), &line);
    let change = json!({ "metadata": { "token_endpoint_auth_method": "client_secret_basic" } });
    let mut states = Vec::new();
    for answer in [Answer::Lost, Answer::Arrives] {
        let mut public = request("rfc7591", "Public");
        public.spec.metadata.token_endpoint_auth_method = Some(registrar_model::AuthMethod::None);
        let id = engine.create(&caller(None), public).await.unwrap().registration.id;
        line.after_write(just(answer));
        let key = caller(Some(if answer == Answer::Lost { "lost" } else { "told" }));
        let first = engine.patch(&key, id, change.clone(), None).await;
        assert_eq!(first.is_ok_and(|written| written.secret.is_some()), answer == Answer::Arrives);
        engine.reconcile().await.unwrap();
        let open = operations(&inner, OperationState::Unknown).await;
        assert_eq!(open, []);
        let again = engine.patch(&key, id, change.clone(), None).await.unwrap();
        engine.acknowledge(again.operation).await.unwrap();
        let again = engine.patch(&key, id, change.clone(), None).await.unwrap();
        assert!(again.replayed && again.secret.is_none());
        states.push(again.secret_state);
    }
    use registrar_engine::SecretState::{Expired, Undelivered};
    assert_eq!(states, [Some(Undelivered), Some(Expired)]);
}
