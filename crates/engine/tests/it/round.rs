//! What one round of reconciliation costs the vendor.

use std::{sync::Arc, time::Duration};

use registrar_core::Outcome;
use registrar_store::{MemoryStore, OperationState};

use crate::rig::{Answer, Faulty, Line, at, caller, gateway, just, line_to, operations, request, vendor};

/// How many operations one round looks into.
const ROUND: usize = 20;

/// As many creates as a round takes, whose answers were all lost.
async fn lost(kind: &str) -> (Arc<Faulty>, Arc<Line>, Arc<registrar_engine::Engine>) {
    let store = Faulty::over(&Arc::new(MemoryStore::new()));
    let line = vendor(kind);
    let engine = gateway(&store, &line);
    for i in 0..ROUND {
        line.after_write(just(Answer::Lost));
        let lost = engine.create(&caller(None), request(kind, &format!("Lost {}", i / 2))).await.unwrap_err();
        assert_eq!(lost.error.outcome(), Outcome::Unknown);
    }
    (store, line, engine)
}

#[tokio::test]
async fn one_list_finds_every_lost_create() {
    let (store, line, engine) = lost("loop").await;
    let inner = Arc::clone(&store.inner);
    assert_eq!(engine.reconcile().await.unwrap(), ROUND);
    assert_eq!(line.reads(), 1, "a list");
    let done = operations(&inner, OperationState::Succeeded).await;
    assert!(done.len() == ROUND && done.iter().all(|o| o.evidence["listed_at"].is_i64()), "{done:?}");
    // equal ones and all: each has one client of its own
    let mut ids = at(&line);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), ROUND);
    for id in ids {
        let found = registrar_store::Store::registered(&*inner, &"loop".parse().unwrap(), &id.parse().unwrap()).await;
        assert!(found.unwrap().is_some(), "{id}");
    }
}

/// Absence is seen in two lists, one in each round.
#[tokio::test]
async fn two_lists_prove_that_nothing_was_made() {
    let (store, _, _) = lost("loop").await;
    let inner = Arc::clone(&store.inner);
    let elsewhere = line_to(Arc::clone(&vendor("loop").fake));
    let engine = gateway(&Faulty::over(&inner), &elsewhere);
    engine.recover().await.unwrap();
    assert_eq!((engine.reconcile().await.unwrap(), elsewhere.reads()), (0, 1));
    let first: Vec<_> = operations(&inner, OperationState::Unknown).await;
    assert!(first.len() == ROUND && first.iter().all(|o| o.evidence["unseen_since"] == o.evidence["listed_at"]));
    assert_eq!((engine.reconcile().await.unwrap(), elsewhere.reads()), (ROUND, 2));
    let failed = operations(&inner, OperationState::Failed).await;
    assert!(
        failed.iter().all(|o| o.outcome == Outcome::NotPerformed && o.evidence["listed_at"].is_i64()),
        "{failed:?}"
    );
}

/// A list is of one round: what was made after it is found in the next.
#[tokio::test]
async fn a_list_is_read_anew_in_every_round() {
    let (store, line, engine) = lost("loop").await;
    let inner = Arc::clone(&store.inner);
    engine.reconcile().await.unwrap();
    line.after_write(just(Answer::Lost));
    engine.create(&caller(None), request("loop", "Later")).await.unwrap_err();
    assert_eq!((engine.reconcile().await.unwrap(), line.reads()), (1, 2));
    assert_eq!(operations(&inner, OperationState::Succeeded).await.len(), ROUND + 1);
}

/// An old list could show a client that was deleted since.
#[tokio::test(start_paused = true)]
async fn a_list_of_five_seconds_ago_is_read_anew() {
    for (millis, reads) in [(4_999, 1), (5_000, 2)] {
        let (store, line, engine) = lost("loop").await;
        store.after_finish(Box::new(move || {
            Box::pin(async move {
                tokio::time::advance(Duration::from_millis(millis)).await;
                None
            })
        }));
        assert_eq!((engine.reconcile().await.unwrap(), line.reads()), (ROUND, reads), "{millis} ms");
    }
}
