//! The use of an initial access token that a registration costs: spent with its intent, and given back with the result
//! that says that nothing was done.

use std::sync::Arc;

use registrar_core::{ErrorKind, ExposeSecret as _, SecretString};
use registrar_engine::{
    Caller, Engine, Failure, Resolution,
    dcr::{Grant, Registered, create_initial_access_token},
};
use registrar_store::{MemoryStore, Store as _, StoreError, Trouble};

use crate::rig::{Answer, Faulty, Line, at, caller, gateway, just, request, taken_over, vendor};

const LOST: StoreError = StoreError::Unavailable(Trouble::Unreachable);

/// A gateway, and a token for one registration there.
struct Scene {
    inner: Arc<MemoryStore>,
    store: Arc<Faulty>,
    line: Arc<Line>,
    engine: Arc<Engine>,
    id: String,
    token: Arc<SecretString>,
}

async fn scene(kind: &str) -> Scene {
    let inner = Arc::new(MemoryStore::new());
    let store = Faulty::over(&inner);
    let line = vendor(kind);
    let engine = gateway(&store, &line);
    let grant = Grant { name: "one".to_owned(), uses: Some(1), ..Grant::default() };
    let made = create_initial_access_token(inner.as_ref(), grant).await.unwrap();
    Scene { inner, store, line, engine, id: made.record.id, token: Arc::new(made.token) }
}

async fn register(engine: Arc<Engine>, token: Arc<SecretString>, by: Caller) -> Result<Registered, Failure> {
    let visitor = engine.visitor(Some("all"), Some(token.expose_secret()), None).await?;
    let kind = engine.backends()[0]["name"].as_str().unwrap().to_owned();
    engine.register(&visitor, &by, request(&kind, "Paid"), None).await
}

impl Scene {
    async fn register(&self, key: Option<&str>) -> Result<Registered, Failure> {
        register(Arc::clone(&self.engine), Arc::clone(&self.token), caller(key)).await
    }

    async fn uses_left(&self) -> Option<u32> {
        self.inner.initial_access_token(&self.id).await.unwrap().unwrap().uses_left
    }
}

/// An equal request is carried out between this one's look for its key and its intent: that one has taken the last use,
/// and this one hears of it instead of being refused.
#[tokio::test]
async fn an_equal_request_that_was_faster_is_repeated_and_not_refused() {
    let it = scene("loop").await;
    let other = register(gateway(&Faulty::over(&it.inner), &it.line), Arc::clone(&it.token), caller(Some("k")));
    it.store.at_begin(Box::new(move || {
        Box::pin(async move {
            other.await.unwrap();
            None
        })
    }));
    let own = it.register(Some("k")).await.unwrap();
    assert!(own.written.replayed);
    assert_eq!((at(&it.line).len(), it.uses_left().await), (1, Some(0)));
    let refused = it.register(None).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::InvalidToken);
}

#[tokio::test]
async fn a_use_that_the_vendor_refused_is_back() {
    let it = scene("loop").await;
    it.line.before_write(just(Answer::Refused));
    it.register(Some("k")).await.unwrap_err();
    assert_eq!(it.uses_left().await, Some(1));
    it.register(Some("k")).await.unwrap();
    assert_eq!(it.uses_left().await, Some(0));
}

/// Nobody but a person can tell: the use waits for the word.
#[tokio::test]
async fn a_use_is_back_when_a_person_says_that_nothing_was_done() {
    let it = scene("bitgo").await;
    it.line.after_write(just(Answer::Lost));
    let lost = it.register(Some("k")).await.unwrap_err();
    it.engine.reconcile().await.unwrap();
    assert_eq!(it.uses_left().await, Some(0));
    it.engine.resolve("ops", lost.operation.unwrap(), Resolution::Absent).await.unwrap();
    assert_eq!(it.uses_left().await, Some(1));
}

/// What the process that died has begun, another finds out about.
#[tokio::test]
async fn a_use_is_back_when_another_process_finds_nothing() {
    let it = scene("loop").await;
    // to the process that takes over, what this one has sent never arrived
    let elsewhere = Arc::clone(&vendor("loop").fake);
    it.line.after_write(just(Answer::Lost));
    it.register(Some("k")).await.unwrap_err();
    assert_eq!(it.uses_left().await, Some(0));
    taken_over(&it.inner, &elsewhere).await;
    assert_eq!(it.uses_left().await, Some(1));
}

/// Declared not done, and then the vendor's answer came after all: the use is taken again, and stays taken.
#[tokio::test]
async fn a_late_answer_takes_the_use_again() {
    let it = scene("loop").await;
    let (inner, elsewhere) = (Arc::clone(&it.inner), Arc::clone(&vendor("loop").fake));
    it.store.at_finish(Box::new(move || {
        Box::pin(async move {
            taken_over(&inner, &elsewhere).await;
            Some(LOST)
        })
    }));
    let made = it.register(Some("k")).await.unwrap();
    assert!(!made.written.recorded);
    assert_eq!(it.uses_left().await, Some(0));
    taken_over(&it.inner, &it.line.fake).await;
    let client_id = at(&it.line)[0].parse().unwrap();
    assert!(it.inner.registered(&"loop".parse().unwrap(), &client_id).await.unwrap().is_some());
    assert_eq!(it.uses_left().await, Some(0));
}

/// The same, when somebody else has taken the use meanwhile: it is not given back for a registration that did not pay.
#[tokio::test]
async fn a_late_answer_whose_use_is_gone_gives_none_back() {
    let it = scene("loop").await;
    let (inner, elsewhere) = (Arc::clone(&it.inner), vendor("loop"));
    let other = register(gateway(&Faulty::over(&it.inner), &elsewhere), Arc::clone(&it.token), caller(None));
    let fake = Arc::clone(&vendor("loop").fake);
    it.store.at_finish(Box::new(move || {
        Box::pin(async move {
            taken_over(&inner, &fake).await;
            other.await.unwrap();
            Some(LOST)
        })
    }));
    let made = it.register(Some("k")).await.unwrap();
    let open = it.inner.operation(made.written.operation).await.unwrap().unwrap();
    assert!(!made.written.recorded && !open.state.is_final(), "{open:?}");
    taken_over(&it.inner, &vendor("loop").fake).await;
    let closed = it.inner.operation(open.id).await.unwrap().unwrap();
    assert!(closed.state.is_final() && it.uses_left().await == Some(0), "{closed:?}");
}
