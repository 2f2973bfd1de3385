//! A server that refuses the token of a client says nothing about the client (RFC 7592): the token may be an old one.

use std::sync::Arc;

use registrar_engine::Resolution;
use registrar_model::{RegistrationId, State};
use registrar_store::{Action, MemoryStore, OperationState, Store as _};
use serde_json::json;

use crate::rig::{
    Answer, Faulty, Line, NOT_PERFORMED, at, caller, gateway, just, needs_a_person, operations, request, status, vendor,
};

/// A client whose token the server has replaced in an answer that was lost.
async fn replaced() -> (Arc<MemoryStore>, Arc<Line>, Arc<registrar_engine::Engine>, RegistrationId) {
    let inner = Arc::new(MemoryStore::new());
    let line = vendor("rfc7591");
    let engine = gateway(&Faulty::over(&inner), &line);
    let made = engine.create(&caller(None), request("rfc7591", "Token")).await.unwrap();
    line.after_write(just(Answer::Lost));
    let change = json!({ "metadata": { "client_uri": "https://a.example" } });
    let lost = engine.patch(&caller(None), made.registration.id, change, None).await.unwrap_err();
    assert_eq!(lost.error.outcome(), registrar_core::Outcome::Unknown);
    (inner, line, engine, made.registration.id)
}

#[tokio::test]
async fn a_deletion_that_was_refused_is_not_taken_for_done() {
    let (inner, line, engine, id) = replaced().await;
    let refused = engine.delete(&caller(None), id, None).await.unwrap_err();
    assert_eq!((refused.error.outcome(), status(refused.error.vendor())), (NOT_PERFORMED, Some(401)));
    assert_eq!(at(&line).len(), 1, "the server has it");
    let kept = inner.registration(id).await.unwrap().unwrap();
    assert_eq!(kept.state, State::Unknown);
    engine.reconcile().await.unwrap();
    let open = operations(&inner, OperationState::Unknown).await;
    assert!(open.len() == 1 && open[0].action == Action::Update && needs_a_person(&open[0]), "{open:?}");
}

#[tokio::test]
async fn a_lost_deletion_is_not_taken_for_done_because_the_token_is_refused() {
    let (inner, line, engine, id) = replaced().await;
    line.after_write(just(Answer::Lost));
    engine.delete(&caller(None), id, None).await.unwrap_err();
    for _ in 0..3 {
        engine.reconcile().await.unwrap();
    }
    assert!(inner.registration(id).await.unwrap().is_some() && at(&line).len() == 1);
    let open = operations(&inner, OperationState::Unknown).await;
    assert!(open.len() == 2 && open.iter().all(needs_a_person), "{open:?}");
}

/// A person has looked, and says so; then nothing is left of it.
#[tokio::test]
async fn a_person_says_that_the_client_is_gone() {
    let (inner, line, engine, id) = replaced().await;
    line.after_write(just(Answer::Lost));
    let lost = engine.delete(&caller(None), id, None).await.unwrap_err();
    engine.reconcile().await.unwrap();
    line.fake.reset();
    let done = engine.resolve("ops", lost.operation.unwrap(), Resolution::Gone).await.unwrap();
    assert_eq!((done.state, done.outcome), (OperationState::Succeeded, registrar_core::Outcome::Performed));
    assert_eq!(inner.registration(id).await.unwrap(), None);
    assert_eq!(operations(&inner, OperationState::Unknown).await, []);
}

#[tokio::test]
async fn a_live_client_whose_token_is_refused_is_not_marked_gone() {
    let inner = Arc::new(MemoryStore::new());
    let line = vendor("rfc7591");
    let engine = gateway(&Faulty::over(&inner), &line);
    let id = engine.create(&caller(None), request("rfc7591", "Token")).await.unwrap().registration.id;
    // somebody else has the token replaced
    let kept = inner.registration(id).await.unwrap().unwrap();
    let stale = kept.hidden.management.clone();
    let change = json!({ "metadata": { "client_uri": "https://a.example" } });
    engine.patch(&caller(None), id, change.clone(), None).await.unwrap();
    let mut old = inner.registration(id).await.unwrap().unwrap();
    old.hidden.management = stale;
    old.version += 1;
    crate::rig::put(&inner, old).await;
    let refused =
        engine.patch(&caller(None), id, json!({ "metadata": { "client_uri": null } }), None).await.unwrap_err();
    assert_eq!((refused.error.outcome(), status(refused.error.vendor())), (NOT_PERFORMED, Some(401)));
    assert_eq!(inner.registration(id).await.unwrap().unwrap().state, State::Active);
}
