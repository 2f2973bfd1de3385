//! After a lost answer, only what the vendor made since we asked is ours.

use std::sync::Arc;

use registrar_core::{ErrorKind, Outcome};
use registrar_engine::{Engine, Resolution};
use registrar_model::OperationId;
use registrar_store::{MemoryStore, Operation, OperationState, Store as _};
use serde_json::json;

use crate::rig::{Answer, Faulty, Line, at, caller, gateway, just, line_to, needs_a_person, request, vendor};

struct Scene {
    inner: Arc<MemoryStore>,
    line: Arc<Line>,
    engine: Arc<Engine>,
}

impl Scene {
    /// A vendor where somebody has made a client by hand.
    async fn with_a_stranger(kind: &str, name: &str) -> Self {
        let line = vendor(kind);
        let other = gateway(&Faulty::over(&Arc::new(MemoryStore::new())), &line_to(Arc::clone(&line.fake)));
        other.create(&caller(None), request(kind, name)).await.unwrap();
        let inner = Arc::new(MemoryStore::new());
        let engine = gateway(&Faulty::over(&inner), &line);
        Self { inner, line, engine }
    }

    /// A create that the vendor never sees, and nobody knows that.
    async fn lost(&self, name: &str) -> OperationId {
        self.line.in_front(|method, _| (method == "POST").then_some((500, "")));
        let lost = self.engine.create(&caller(None), request(self.line.fake.kind(), name)).await.unwrap_err();
        assert_eq!(lost.error.outcome(), Outcome::Unknown);
        self.line.clear();
        lost.operation.unwrap()
    }

    async fn looked_into(&self, id: OperationId) -> Operation {
        for _ in 0..3 {
            self.engine.reconcile().await.unwrap();
        }
        self.inner.operation(id).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_client_from_before_is_never_taken_for_ours() {
    for kind in ["loop", "authms"] {
        // the vendor's clock, and what becomes of the create: (ahead of ours by so many seconds, to a person)
        for (skew, to_a_person) in [(Some(-100_000), true), (Some(-3_500), true), (Some(-400_000), false), (None, true)]
        {
            let it = Scene::with_a_stranger(kind, "Portal").await;
            it.line.clock(skew);
            let lost = it.lost("Portal").await;
            let operation = it.looked_into(lost).await;
            let context = format!("{kind} {skew:?}: {}", json!(operation));
            assert!(!json!(operation).to_string().contains("adopted"), "{context}");
            if to_a_person {
                assert!(needs_a_person(&operation), "{context}");
                assert_eq!(operation.evidence["candidates"], json!(at(&it.line)), "{context}");
                assert!(operation.evidence["finding"].as_str().unwrap().contains("we asked"), "{context}");
            } else {
                assert_eq!(operation.outcome, Outcome::NotPerformed, "{context}");
            }
            if skew == Some(-100_000) {
                assert!(
                    operation.evidence["finding"].as_str().unwrap().contains("made 100 s before we asked"),
                    "{context}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_was_made_since_is_ours_also_beside_one_from_before() {
    for kind in ["loop", "authms"] {
        let it = Scene::with_a_stranger(kind, "Portal").await;
        let stranger = at(&it.line);
        // the stranger seems to be of this second; ours is made while the vendor's clock has gone on
        it.line.clock(Some(-100_000));
        it.line.after_write(just(Answer::Lost));
        let lost = it.engine.create(&caller(None), request(kind, "Other")).await.unwrap_err();
        it.line.clock(Some(0));
        let operation = it.looked_into(lost.operation.unwrap()).await;
        assert_eq!(operation.outcome, Outcome::Performed, "{kind}: {}", json!(operation));
        let adopted = it.inner.registration(operation.registration.unwrap()).await.unwrap().unwrap();
        assert!(!stranger.contains(&adopted.client_id.to_string()), "{kind}");
    }
}

/// A person may say which client it is, and is told when it is plainly another one.
#[tokio::test]
async fn a_person_adopts_what_is_like_what_was_asked_or_insists() {
    for (name, skew, like) in
        [("Portal", Some(-100_000), true), ("Payroll", Some(0), false), ("Portal", Some(-400_000), false)]
    {
        let it = Scene::with_a_stranger("loop", name).await;
        it.line.clock(skew);
        let lost = it.lost("Portal").await;
        let client_id: registrar_model::ClientId = at(&it.line)[0].parse().unwrap();
        let how = |force| Resolution::Adopt { client_id: client_id.clone(), vendor_ref: None, force };
        if !like {
            let refused = it.engine.resolve("ops", lost, how(false)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Validation, "{name} {skew:?}");
            assert_eq!(it.inner.operation(lost).await.unwrap().unwrap().state, OperationState::Unknown);
        }
        let done = it.engine.resolve("ops", lost, how(!like)).await.unwrap();
        assert_eq!(done.state, OperationState::Succeeded, "{name} {skew:?}");
        assert_eq!(done.evidence.get("forced_by"), (!like).then(|| json!("ops")).as_ref(), "{name} {skew:?}");
    }
}
