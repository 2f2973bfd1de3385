//! Clients that registered openly: how many may live, and what becomes of those that are never used.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use registrar_core::{ErrorKind, ExposeSecret as _, Outcome};
use registrar_engine::{
    Engine, Failure, Resolution,
    dcr::{Access, Expired, Expiry, Rate, Registered, RegistrationConfig},
};
use registrar_model::{Registration, RegistrationId, State};
use registrar_store::{Action, Intent, MemoryStore, OperationState, Store as _, StoreError, Trouble, Usage};
use serde_json::json;
use tokio::task::JoinSet;

use crate::rig::{
    Answer, Faulty, Line, at, caller, gateway_with, just, line_to, operations, pending, request, taken_over, vendor,
};

const FULL: StoreError = StoreError::Unavailable(Trouble::Full);
const DAY: i64 = 24 * 60 * 60 * 1000;
/// What the clocks of gateways may differ by.
const GRACE: i64 = 60 * 1000;

/// Everybody may register, so many may live, and they expire after 30 days.
fn terms(max_clients: Option<u64>) -> RegistrationConfig {
    RegistrationConfig {
        access: Access::Open,
        rate: Rate { count: 1000, period: Duration::from_secs(1) },
        max_clients,
        expire_unused: Expiry::After(Duration::from_hours(30 * 24)),
        ..RegistrationConfig::default()
    }
}

struct Scene {
    inner: Arc<MemoryStore>,
    store: Arc<Faulty>,
    line: Arc<Line>,
    engine: Arc<Engine>,
}

fn scene(kind: &str, max_clients: Option<u64>) -> Scene {
    let inner = Arc::new(MemoryStore::new());
    let store = Faulty::over(&inner);
    let line = vendor(kind);
    let engine = gateway_with(&store, &line, terms(max_clients));
    Scene { inner, store, line, engine }
}

impl Scene {
    async fn register_with(&self, name: &str, key: Option<&str>) -> Result<Registered, Failure> {
        let visitor = self.engine.visitor(Some("all"), None, None).await.unwrap();
        self.engine.register(&visitor, &caller(key), request(self.line.fake.kind(), name), None).await
    }

    async fn register(&self, name: &str) -> Registered {
        self.register_with(name, None).await.unwrap()
    }

    async fn record(&self, id: RegistrationId) -> Option<Registration> {
        self.inner.registration(id).await.unwrap()
    }

    async fn until(&self, id: RegistrationId) -> Option<i64> {
        self.record(id).await.unwrap().hidden.unused_until
    }
}

fn id(own: &Registered) -> RegistrationId {
    own.written.registration.id
}

/// A burst of equal chances, while the vendor answers in whatever order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_of_registrations_stops_at_the_quota() {
    for round in 0..8 {
        let it = Arc::new(scene("loop", Some(10)));
        // in every other round one comes to nothing, and its place is free again
        let failures = round % 2;
        if failures > 0 {
            it.line.before_write(just(Answer::Refused));
        }
        let mut burst = JoinSet::new();
        for n in 0..64 {
            let it = Arc::clone(&it);
            burst.spawn(async move { it.register_with(&format!("Burst {round} {n}"), None).await.err() });
        }
        let refused: Vec<Failure> = burst.join_all().await.into_iter().flatten().collect();
        let full = refused.iter().filter(|failure| failure.error.kind() == ErrorKind::RateLimited).count();
        let (alive, failed) = (at(&it.line).len(), refused.len() - full);
        assert_eq!(failed, failures, "{refused:?}");
        assert!((10 - failures..=10).contains(&alive), "{alive} clients, {full} refused");
        // whoever comes when nothing is under way finds what is left, and no more
        for n in alive..10 {
            it.register(&format!("After {n}")).await;
        }
        let more = it.register_with("More", None).await.unwrap_err();
        assert_eq!((more.error.kind(), more.error.outcome()), (ErrorKind::RateLimited, Outcome::NotPerformed));
        assert!(more.error.retry_after().is_some() && more.operation.is_none());
        assert_eq!(at(&it.line).len(), 10);
        assert_eq!(it.inner.open_clients("all").await, Ok(10));
    }
}

/// A client is counted as in progress or as registered, and never as both: that would refuse somebody the last place.
#[tokio::test]
async fn a_client_that_was_just_recorded_is_counted_once() {
    let it = Arc::new(scene("loop", Some(2)));
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let second = Arc::clone(&it);
    it.store.after_finish(Box::new(move || {
        Box::pin(async move {
            let second = tokio::spawn(async move { second.register_with("Second", None).await.map(|_| ()) });
            // on this one thread it goes as far as it can
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            sender.send(second).unwrap();
            None
        })
    }));
    it.register("First").await;
    receiver.await.unwrap().await.unwrap().unwrap();
    it.register_with("Third", None).await.unwrap_err();
}

#[tokio::test]
async fn a_place_is_free_again_when_its_client_is_gone_or_switched_off() {
    for (kind, disable) in [("authms", false), ("loop", true)] {
        let it = scene(kind, Some(1));
        let first = it.register("First").await;
        it.register_with("Second", None).await.unwrap_err();
        if disable {
            it.engine.disable(&caller(None), id(&first), None).await.unwrap();
        } else {
            it.engine.delete(&caller(None), id(&first), None).await.unwrap();
        }
        it.register("Second").await;
        it.register_with("Third", None).await.unwrap_err();
    }
}

/// Whoever has to show a token, or is an administrator, takes no place.
#[tokio::test]
async fn only_open_registrations_are_counted_and_expire() {
    let it = scene("loop", Some(1));
    let admin = it.engine.create(&caller(None), request("loop", "Admin")).await.unwrap();
    assert_eq!(it.until(admin.registration.id).await, None);
    let grant = registrar_engine::dcr::Grant { name: "t".to_owned(), ..registrar_engine::dcr::Grant::default() };
    let iat = registrar_engine::dcr::create_initial_access_token(it.inner.as_ref(), grant).await.unwrap();
    let visitor = it.engine.visitor(Some("all"), Some(iat.token.expose_secret()), None).await.unwrap();
    let own = it.engine.register(&visitor, &caller(None), request("loop", "Partner"), None).await.unwrap();
    assert_eq!(it.until(id(&own)).await, None);
    it.register("Open").await;
    it.register_with("Another", None).await.unwrap_err();
    // nor is it refused where the quota is exhausted
    it.engine.register(&visitor, &caller(None), request("loop", "Partner 2"), None).await.unwrap();
}

/// The vendor may have made it: the place is taken until somebody knows.
#[tokio::test]
async fn a_registration_whose_outcome_is_unknown_takes_a_place() {
    let it = scene("loop", Some(1));
    it.line.after_write(just(Answer::Lost));
    assert_eq!(it.register_with("Lost", None).await.unwrap_err().error.outcome(), Outcome::Unknown);
    let refused = it.register_with("Next", None).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::RateLimited);
    it.engine.reconcile().await.unwrap();
    assert_eq!(operations(&it.inner, OperationState::Unknown).await, []);
    assert_eq!(it.inner.open_clients("all").await, Ok(1), "found, and counted as what it is");
    it.register_with("Next", None).await.unwrap_err();
    assert_eq!(at(&it.line).len(), 1);
}

/// It is not in the registry, and nobody may take its place: the vendor has it.
#[tokio::test(start_paused = true)]
async fn a_registration_that_cannot_be_recorded_yet_takes_a_place() {
    let it = scene("loop", Some(1));
    for _ in 0..4 {
        it.store.at_finish(just(Some(FULL)));
    }
    let own = it.register("Late").await;
    assert!(!own.written.recorded && it.record(id(&own)).await.is_none(), "or the test shows nothing");
    it.register_with("Next", None).await.unwrap_err();
    while it.record(id(&own)).await.is_none() {
        tokio::time::advance(Duration::from_millis(500)).await;
        tokio::task::yield_now().await;
    }
    it.register_with("Next", None).await.unwrap_err();
    assert_eq!(at(&it.line).len(), 1);
}

/// The same request again is no other client, and gets the answer to the first.
#[tokio::test]
async fn a_repetition_needs_no_place() {
    let it = scene("loop", Some(1));
    let first = it.register_with("Once", Some("k")).await.unwrap();
    let again = it.register_with("Once", Some("k")).await.unwrap();
    assert!(again.written.replayed && id(&again) == id(&first));
}

#[tokio::test]
async fn a_client_that_is_never_used_is_deleted_or_switched_off() {
    for kind in ["authms", "loop", "bitgo", "rfc7591"] {
        let it = scene(kind, None);
        let own = it.register("Unused").await;
        let until = it.until(id(&own)).await.unwrap();
        let made = it.record(id(&own)).await.unwrap().created_at;
        assert!((made - until + 30 * DAY).abs() < 60_000, "{kind}");
        assert_eq!(it.engine.expire_by(until + GRACE - 1).await.unwrap(), Expired::default(), "{kind}: too early");
        let before = operations(&it.inner, OperationState::Succeeded).await.len();
        assert_eq!(it.engine.expire_by(until + GRACE).await.unwrap(), Expired { ended: 1, failed: 0 }, "{kind}");
        let journal = operations(&it.inner, OperationState::Succeeded).await;
        let done = journal.last().unwrap();
        assert_eq!((journal.len(), &*done.principal, done.registration), (before + 1, "expiry", Some(id(&own))));
        assert!(!done.request_id.is_empty());
        if ["authms", "rfc7591"].contains(&kind) {
            assert_eq!((done.action, it.record(id(&own)).await), (Action::Delete, None), "{kind}");
        } else {
            let record = it.record(id(&own)).await.unwrap();
            assert_eq!(
                (done.action, record.state, record.hidden.unused_until),
                (Action::Update, State::Disabled, None)
            );
        }
        assert_eq!(it.engine.expire_by(until + 9 * DAY).await.unwrap(), Expired::default(), "{kind}: once");
    }
}

/// Its token opens nothing from that moment on, long before it is deleted; and no use is noted any more.
#[tokio::test]
async fn an_expired_client_is_like_one_that_is_not_there() {
    let it = scene("loop", None);
    let gone = gateway_with(&it.store, &it.line, RegistrationConfig { expire_unused: past(), ..terms(None) });
    let visitor = gone.visitor(Some("all"), None, None).await.unwrap();
    let own = gone.register(&visitor, &caller(Some("k")), request("loop", "Late"), None).await.unwrap();
    let token = own.access_token.expose_secret();
    let expired = it.engine.holder(&id(&own).to_string(), token).await.unwrap_err();
    let unknown = it.engine.holder(&RegistrationId::generate().to_string(), token).await.unwrap_err();
    assert_eq!((expired.kind(), expired.detail()), (ErrorKind::InvalidToken, unknown.detail()));
    assert_eq!(it.engine.report_use(id(&own)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(it.until(id(&own)).await.is_some(), "it is not rescued");
    // nor by repeating its registration
    let again = it.register_with("Late", Some("k")).await.unwrap_err();
    assert_eq!((again.error.kind(), again.error.outcome()), (ErrorKind::NotFound, Outcome::Performed));
    // an administrator can
    let change = json!({ "metadata": { "client_name": "Kept" } });
    it.engine.patch(&caller(None), id(&own), change, None).await.unwrap();
    assert_eq!(it.until(id(&own)).await, None);
    it.engine.holder(&id(&own).to_string(), token).await.unwrap();
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired::default());
}

/// Clients are registered, and expire at once.
fn past() -> Expiry {
    Expiry::After(Duration::ZERO)
}

#[tokio::test]
async fn each_kind_of_use_keeps_a_client() {
    let it = scene("loop", None);
    let engine = &it.engine;
    let mut kept = Vec::new();
    for how in ["its token", "a report", "an update", "a patch", "a rotation"] {
        let own = it.register(how).await;
        let version = it.record(id(&own)).await.unwrap().version;
        match how {
            "its token" => {
                let token = own.access_token.expose_secret();
                let mut holder = engine.holder(&id(&own).to_string(), token).await.unwrap();
                assert!(it.until(id(&own)).await.is_some(), "showing it is not yet a use");
                engine.is_used_by(&mut holder).await.unwrap();
                assert_eq!(holder.registration.hidden.unused_until, None);
            }
            "a report" => engine.report_use(id(&own)).await.unwrap(),
            "an update" => {
                engine.replace(&caller(None), id(&own), request("loop", "New"), None).await.unwrap();
            }
            "a patch" => {
                let change = json!({ "metadata": { "client_name": "New" } });
                engine.patch(&caller(None), id(&own), change, None).await.unwrap();
            }
            _ => {
                engine.rotate_secret(&caller(None), id(&own)).await.unwrap();
            }
        }
        let record = it.record(id(&own)).await.unwrap();
        assert_eq!(record.hidden.unused_until, None, "{how}");
        // who only looks, or reports, changes no version: nobody's If-Match fails for it
        assert_eq!(record.version == version, ["its token", "a report"].contains(&how), "{how}");
        kept.push(id(&own));
    }
    let unused = it.register("Unused").await;
    assert_eq!(engine.expire_by(i64::MAX).await.unwrap(), Expired { ended: 1, failed: 0 });
    for own in kept {
        assert_eq!(it.record(own).await.unwrap().state, State::Active);
    }
    assert_eq!(it.record(id(&unused)).await.unwrap().state, State::Disabled);
    assert_eq!(engine.report_use(RegistrationId::generate()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A change that did not come about is no use.
#[tokio::test]
async fn a_write_that_fails_keeps_nothing() {
    let it = scene("loop", None);
    let own = it.register("Unused").await;
    it.line.before_write(just(Answer::Refused));
    let change = json!({ "metadata": { "client_name": "New" } });
    it.engine.patch(&caller(None), id(&own), change, None).await.unwrap_err();
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired { ended: 1, failed: 0 });
}

/// It is not known what has become of it: first that, then the rest.
#[tokio::test]
async fn a_client_with_an_open_write_is_left_alone() {
    let it = scene("loop", None);
    let own = it.register("Unused").await;
    it.line.after_write(just(Answer::Lost));
    let change = json!({ "metadata": { "client_name": "New" } });
    it.engine.patch(&caller(None), id(&own), change, None).await.unwrap_err();
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired::default());
    // it was done, as the vendor shows, and so the client is used
    it.engine.reconcile().await.unwrap();
    assert_eq!(it.until(id(&own)).await, None);
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired::default());
}

/// Another gateway is writing to the client at this moment.
#[tokio::test]
async fn a_client_that_somebody_else_writes_to_is_left_alone() {
    let it = scene("loop", None);
    let own = it.register("Unused").await;
    let operation = pending(id(&own));
    it.inner.begin(Intent { operation: operation.into(), key: None, spend: None }).await.unwrap();
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired::default());
    assert_eq!(it.record(id(&own)).await.unwrap().state, State::Active);
}

/// It was unused when the round began.
#[tokio::test]
async fn a_use_during_the_round_keeps_a_client() {
    let it = scene("authms", None);
    let (first, second) = (it.register("First").await, it.register("Second").await);
    let (inner, used) = (Arc::clone(&it.inner), id(&second));
    it.line.before_write(Box::new(move || {
        Box::pin(async move {
            assert_eq!(inner.used(used, 0).await, Ok(Usage::Noted));
            Answer::Arrives
        })
    }));
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired { ended: 1, failed: 0 });
    assert_eq!((it.record(id(&first)).await, it.record(used).await.unwrap().state), (None, State::Active));
}

/// The answer to a registration was lost, and the client is found at the vendor: it is counted, and it expires, as if the
/// answer had come.
#[tokio::test]
async fn an_adopted_client_expires_too() {
    let it = scene("loop", Some(1));
    it.line.after_write(just(Answer::Lost));
    it.register_with("Lost", None).await.unwrap_err();
    it.engine.reconcile().await.unwrap();
    let journal = operations(&it.inner, OperationState::Succeeded).await;
    assert_eq!(journal[0].evidence["adopted"], json!(true), "or the test shows nothing");
    let adopted = journal[0].registration.unwrap();
    let until = it.until(adopted).await.unwrap();
    assert_eq!(it.engine.expire_by(until + GRACE).await.unwrap(), Expired { ended: 1, failed: 0 });
    it.register("Next").await;
}

/// The same where only a person can find it.
#[tokio::test]
async fn a_client_that_a_person_adopts_expires_too() {
    let it = scene("bitgo", Some(1));
    it.line.after_write(just(Answer::Lost));
    let lost = it.register_with("Lost", None).await.unwrap_err().operation.unwrap();
    it.engine.reconcile().await.unwrap();
    let client_id = it.line.fake.clients()[0]["clientId"].as_str().unwrap().parse().unwrap();
    let how = Resolution::Adopt { client_id, vendor_ref: None, force: false };
    let adopted = it.engine.resolve("ops", lost, how).await.unwrap().registration.unwrap();
    assert!(it.until(adopted).await.is_some());
    it.register_with("Next", None).await.unwrap_err();
}

/// Another gateway has marked the client by the time that the answer to an administrator's write comes.
#[tokio::test]
async fn a_late_answer_to_a_write_is_a_use() {
    for rotate in [false, true] {
        let it = scene("loop", None);
        let own = it.register("Unused").await;
        let other = gateway_with(&Faulty::over(&it.inner), &line_to(Arc::clone(&it.line.fake)), terms(None));
        let (inner, marked) = (Arc::clone(&it.inner), id(&own));
        it.line.after_write(Box::new(move || {
            Box::pin(async move {
                other.recover().await.unwrap();
                assert_eq!(inner.registration(marked).await.unwrap().unwrap().state, State::Unknown);
                Answer::Arrives
            })
        }));
        if rotate {
            it.engine.rotate_secret(&caller(None), id(&own)).await.unwrap();
        } else {
            let change = json!({ "metadata": { "client_name": "New" } });
            it.engine.patch(&caller(None), id(&own), change, None).await.unwrap();
        }
        let record = it.record(id(&own)).await.unwrap();
        assert_eq!((record.state, record.hidden.unused_until), (State::Active, None), "rotation: {rotate}");
    }
}

/// Equal registrations are alike at the vendor, although they expire at different times.
#[tokio::test]
async fn equal_registrations_whose_answers_were_lost_are_both_adopted() {
    let it = scene("loop", None);
    let later = RegistrationConfig { expire_unused: Expiry::After(Duration::from_secs(60)), ..terms(None) };
    let other = gateway_with(&it.store, &it.line, later);
    for engine in [&it.engine, &other] {
        it.line.after_write(just(Answer::Lost));
        let visitor = engine.visitor(Some("all"), None, None).await.unwrap();
        engine.register(&visitor, &caller(None), request("loop", "Twin"), None).await.unwrap_err();
    }
    it.engine.reconcile().await.unwrap();
    assert_eq!(operations(&it.inner, OperationState::Unknown).await, []);
    assert_eq!((it.inner.open_clients("all").await, at(&it.line).len()), (Ok(2), 2));
}

/// Another gateway has adopted the client when its answer comes.
#[tokio::test]
async fn a_late_answer_brings_no_expiry_back() {
    let it = scene("loop", None);
    let (inner, fake) = (Arc::clone(&it.inner), Arc::clone(&it.line.fake));
    it.line.after_write(Box::new(move || {
        Box::pin(async move {
            taken_over(&inner, &fake).await;
            let found = operations(&inner, OperationState::Succeeded).await[0].registration.unwrap();
            assert!(inner.registration(found).await.unwrap().unwrap().hidden.unused_until.is_some());
            inner.used(found, 0).await.unwrap();
            Answer::Arrives
        })
    }));
    let own = it.register_with("Late", Some("k")).await.unwrap();
    let record = it.record(id(&own)).await.unwrap();
    assert!(record.hidden.access_token.is_some(), "or the test shows nothing");
    assert_eq!((record.hidden.open_route.as_deref(), record.hidden.unused_until), (Some("all"), None));
}

/// A vendor that fails is asked again, less and less often.
#[tokio::test]
async fn a_deletion_that_fails_is_tried_again_later() {
    let it = scene("authms", None);
    let own = it.register("Unused").await;
    let start = it.until(id(&own)).await.unwrap() + GRACE;
    it.line.before_write(just(Answer::Refused));
    assert_eq!(it.engine.expire_by(start).await.unwrap(), Expired { ended: 0, failed: 1 });
    let minute = 60 * 1000;
    assert_eq!(it.engine.expire_by(start + minute).await.unwrap(), Expired::default(), "not yet");
    it.line.before_write(just(Answer::Refused));
    assert_eq!(it.engine.expire_by(start + 2 * minute).await.unwrap(), Expired { ended: 0, failed: 1 });
    assert_eq!(it.engine.expire_by(start + 5 * minute).await.unwrap(), Expired::default(), "twice as long");
    assert_eq!(it.engine.expire_by(start + 6 * minute).await.unwrap(), Expired { ended: 1, failed: 0 });
    assert_eq!(it.record(id(&own)).await, None);
}

/// A backend that was taken out of the configuration, or whose circuit is open, is tried once a round, and others go on.
#[tokio::test]
async fn a_backend_that_cannot_be_used_holds_up_no_other() {
    let it = scene("authms", None);
    for n in 0..3 {
        it.register(&format!("Unused {n}")).await;
    }
    let elsewhere = gateway_with(&it.store, &vendor("loop"), terms(None));
    let visitor = elsewhere.visitor(Some("all"), None, None).await.unwrap();
    let last = elsewhere.register(&visitor, &caller(None), request("loop", "Last"), None).await.unwrap();
    let start = it.until(id(&last)).await.unwrap() + GRACE;
    assert_eq!(elsewhere.expire_by(start).await.unwrap(), Expired { ended: 1, failed: 1 });
    assert_eq!(elsewhere.expire_by(start + GRACE).await.unwrap(), Expired::default());
    assert_eq!(elsewhere.expire_by(start + 2 * GRACE).await.unwrap(), Expired { ended: 0, failed: 1 });
    // and who has the backend deletes them
    assert_eq!(it.engine.expire_by(start).await.unwrap(), Expired { ended: 3, failed: 0 });
}

/// The vendor has deleted it, and nobody heard: it is found out, as with every write.
#[tokio::test]
async fn a_deletion_whose_answer_is_lost_is_found_out() {
    let it = scene("authms", None);
    let own = it.register("Unused").await;
    it.line.after_write(just(Answer::Lost));
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired { ended: 0, failed: 1 });
    assert_eq!(it.record(id(&own)).await.unwrap().state, State::Unknown);
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired::default(), "it is being looked into");
    it.engine.reconcile().await.unwrap();
    assert_eq!(it.record(id(&own)).await, None);
    assert_eq!(operations(&it.inner, OperationState::Unknown).await, []);
}

/// Somebody has deleted it in the vendor's own console.
#[tokio::test]
async fn a_client_that_is_gone_already_is_no_failure() {
    let it = scene("authms", None);
    let own = it.register("Unused").await;
    it.line.fake.reset();
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired { ended: 1, failed: 0 });
    assert_eq!(it.record(id(&own)).await, None);
    assert_eq!(it.engine.expire_by(i64::MAX).await.unwrap(), Expired::default());
    assert_eq!(operations(&it.inner, OperationState::Failed).await, []);
}

/// Two gateways on one store look at the same moment; each client is deleted once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_gateways_delete_each_client_once() {
    let it = scene("authms", None);
    let mut made = BTreeSet::new();
    for n in 0..20 {
        made.insert(id(&it.register(&format!("Unused {n}")).await));
    }
    let other = gateway_with(&Faulty::over(&it.inner), &line_to(Arc::clone(&it.line.fake)), terms(None));
    let (a, b) = tokio::join!(
        tokio::spawn({
            let engine = Arc::clone(&it.engine);
            async move { engine.expire_by(i64::MAX).await.unwrap() }
        }),
        tokio::spawn(async move { other.expire_by(i64::MAX).await.unwrap() })
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.ended + b.ended, a.failed + b.failed), (20, 0));
    let journal = operations(&it.inner, OperationState::Succeeded).await;
    let deleted: Vec<_> = journal.iter().filter(|o| o.action == Action::Delete).collect();
    assert_eq!((deleted.len(), it.inner.open_clients("all").await), (20, Ok(0)));
    assert_eq!(deleted.iter().filter_map(|o| o.registration).collect::<BTreeSet<_>>(), made);
    for state in [OperationState::Pending, OperationState::Unknown, OperationState::Failed] {
        assert_eq!(operations(&it.inner, state).await, []);
    }
}

/// One round does so many; the next does the others.
#[tokio::test]
async fn a_round_is_bounded() {
    let it = scene("loop", None);
    for n in 0..60 {
        it.register(&format!("Unused {n}")).await;
    }
    let rounds =
        [it.engine.expire_by(i64::MAX).await.unwrap().ended, it.engine.expire_by(i64::MAX).await.unwrap().ended];
    assert_eq!(rounds, [50, 10]);
}
