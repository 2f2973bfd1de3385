//! What proves that a client is gone: one read at the URL and with the token that worked last, and nothing else.

use std::sync::Arc;

use registrar_core::{ErrorKind, Outcome};
use registrar_engine::Engine;
use registrar_model::{Registration, RegistrationId, State};
use registrar_store::{MemoryStore, OperationState, Store as _};
use serde_json::json;

use crate::rig::{Faulty, Line, NOT_PERFORMED, at, caller, gateway, operations, request, stable_token, status, vendor};

const KINDS: [&str; 5] = ["loop", "bitgo", "authms", "loginradius", "rfc7591"];

struct Scene {
    inner: Arc<MemoryStore>,
    line: Arc<Line>,
    engine: Arc<Engine>,
    id: RegistrationId,
}

impl Scene {
    async fn over(line: Arc<Line>) -> Self {
        let inner = Arc::new(MemoryStore::new());
        let engine = gateway(&Faulty::over(&inner), &line);
        let wish = request(line.fake.kind(), "Presence");
        let id = engine.create(&caller(None), wish).await.unwrap().registration.id;
        Self { inner, line, engine, id }
    }

    async fn record(&self) -> Registration {
        self.inner.registration(self.id).await.unwrap().unwrap()
    }

    async fn change(&self, name: &str) -> Result<registrar_engine::Written, registrar_engine::Failure> {
        // every kind holds it
        let change = json!({ "metadata": { "redirect_uris": [format!("https://a.example/{name}")] } });
        self.engine.patch(&caller(None), self.id, change, None).await
    }
}

fn refusing_writes(status: u16) -> impl Fn(&str, &str) -> Option<(u16, &'static str)> + Send {
    move |method, _| (!matches!(method, "GET")).then_some((status, r#"{"error":"not_here"}"#))
}

/// Each kind, each status with which servers say that they have no such method.
#[tokio::test]
async fn the_status_of_a_write_proves_nothing() {
    for kind in KINDS {
        for refusal in [404, 405, 410, 501] {
            let scene = Scene::over(vendor(kind)).await;
            let before = scene.record().await;
            scene.line.in_front(refusing_writes(refusal));
            let context = format!("{kind} {refusal}");
            let failure = scene.change("renamed").await.unwrap_err();
            assert_eq!(failure.error.kind(), ErrorKind::MethodNotAllowed, "{context}: {}", failure.error);
            assert_eq!(
                (failure.error.outcome(), status(failure.error.vendor())),
                (NOT_PERFORMED, Some(refusal)),
                "{context}"
            );
            assert_eq!(scene.record().await, before, "{context}");
            let deletes = scene.engine.delete(&caller(None), scene.id, None).await.unwrap_err();
            let wanted = match kind {
                "authms" | "rfc7591" => ErrorKind::MethodNotAllowed,
                _ => ErrorKind::UnsupportedByBackend,
            };
            assert_eq!((deletes.error.kind(), deletes.error.outcome()), (wanted, NOT_PERFORMED), "{context}");
            assert_eq!(scene.record().await, before, "{context}");
            assert!(operations(&scene.inner, OperationState::Unknown).await.is_empty(), "{context}");
            // and nothing was remembered wrongly
            scene.line.clear();
            scene.change("renamed").await.unwrap();
            assert_eq!(scene.record().await.state, State::Active, "{context}");
        }
    }
}

#[tokio::test]
async fn a_client_that_the_vendor_does_not_show_is_gone_and_a_deletion_removes_its_record() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "rfc7591") {
        let scene = Scene::over(vendor(kind)).await;
        scene.line.fake.reset();
        let failure = scene.change("renamed").await.unwrap_err();
        assert_eq!((failure.error.kind(), failure.error.outcome()), (ErrorKind::NotFound, NOT_PERFORMED), "{kind}");
        assert_eq!(scene.record().await.state, State::Gone, "{kind}");
        scene.engine.delete(&caller(None), scene.id, None).await.unwrap();
        assert!(scene.inner.registration(scene.id).await.unwrap().is_none(), "{kind}");
    }
}

#[tokio::test]
async fn a_look_marks_what_is_gone_and_takes_it_back() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "rfc7591") {
        let scene = Scene::over(vendor(kind)).await;
        let hidden = |method: &str, path: &str| {
            let one = method == "GET" && path.matches('/').count() > 1;
            one.then_some((404, r#"{"ErrorCode":7981,"error":"gone","name":"ClientNotFound"}"#))
        };
        scene.line.in_front(hidden);
        // where a list shows them, only a list without it is a proof
        if scene.engine.live(scene.id).await.is_ok() {
            continue;
        }
        let after = scene.record().await;
        let check_works = after.state == State::Gone;
        scene.line.clear();
        scene.engine.live(scene.id).await.unwrap();
        let back = scene.record().await;
        assert_eq!(back.state, State::Active, "{kind}");
        assert_eq!(back.version, after.version + u64::from(check_works), "{kind}: journalled where it was marked");
    }
}

/// A wrong base URL answers 404 to everything.
#[tokio::test]
async fn where_everything_is_not_found_nothing_is_gone() {
    for kind in ["authms", "loginradius", "loop"] {
        let scene = Scene::over(vendor(kind)).await;
        scene.line.in_front(|_, _| Some((404, "")));
        let live = scene.engine.live(scene.id).await.unwrap_err();
        let failure = scene.engine.delete(&caller(None), scene.id, None).await.unwrap_err();
        assert_ne!(failure.error.outcome(), Outcome::Performed, "{kind}");
        assert_eq!(scene.record().await.state, State::Active, "{kind}: {live}");
    }
}

/// RFC 7592 §2 has one answer for clients that are gone and for tokens that are no longer good.
#[tokio::test]
async fn a_refused_token_is_lost_management_and_no_more() {
    for (refusal, text) in [(401, ""), (401, r#"{"error":"invalid_token"}"#)] {
        let scene = Scene::over(vendor("rfc7591")).await;
        scene.line.in_front(move |_, _| Some((refusal, text)));
        let live = scene.engine.live(scene.id).await.unwrap_err();
        assert_eq!((live.kind(), live.is_management_lost()), (ErrorKind::UpstreamAuthentication, true));
        let record = scene.record().await;
        assert!(record.state == State::Active && record.hidden.notes.management_lost);
        for _ in 0..3 {
            let failure = scene.engine.delete(&caller(None), scene.id, None).await.unwrap_err();
            assert!(failure.error.is_management_lost() && failure.error.outcome() == NOT_PERFORMED);
            let failure = scene.change("renamed").await.unwrap_err();
            assert!(failure.error.is_management_lost() && failure.error.outcome() == NOT_PERFORMED);
        }
        assert!(operations(&scene.inner, OperationState::Unknown).await.is_empty(), "nothing for a person");
        assert_eq!(scene.record().await.version, record.version, "noted once");
        // somebody has switched it on again there
        scene.line.clear();
        scene.engine.live(scene.id).await.unwrap();
        assert!(!scene.record().await.hidden.notes.management_lost);
        scene.change("renamed").await.unwrap();
    }
}

#[tokio::test]
async fn a_url_that_never_worked_proves_nothing() {
    for refusal in [404, 410] {
        let scene = Scene::over(vendor("rfc7591")).await;
        scene.line.in_front(move |_, _| Some((refusal, "")));
        let failure = scene.engine.delete(&caller(None), scene.id, None).await.unwrap_err();
        assert!(failure.error.is_management_lost(), "{}", failure.error);
        let record = scene.record().await;
        assert!(record.state == State::Active && record.hidden.notes.management_lost);
        // once it has worked, the same answer is a proof
        scene.line.clear();
        scene.engine.live(scene.id).await.unwrap();
        scene.line.in_front(move |_, _| Some((refusal, "")));
        assert_eq!(scene.engine.live(scene.id).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(scene.record().await.state, State::Gone);
        scene.engine.delete(&caller(None), scene.id, None).await.unwrap();
        assert!(scene.inner.registration(scene.id).await.unwrap().is_none());
    }
}

/// Field test 2026-11-29, row 1: an answer brings a URL that the server does not serve.
#[tokio::test]
async fn a_url_or_token_of_an_answer_is_believed_when_it_has_worked() {
    type Break = fn(&mut serde_json::Value);
    let breaks: [(&str, Break); 4] = [
        ("the id doubled", |body| {
            let uri = body["registration_client_uri"].as_str().unwrap().to_owned();
            let id = body["client_id"].as_str().unwrap().to_owned();
            body["registration_client_uri"] = json!(format!("{uri}/{id}"));
        }),
        ("another path", |body| body["registration_client_uri"] = json!("https://vendor.example/elsewhere/1")),
        ("another origin", |body| body["registration_client_uri"] = json!("https://other.example/register/1")),
        ("no URL", |body| {
            body.as_object_mut().unwrap().remove("registration_client_uri");
        }),
    ];
    for (name, spoil) in breaks {
        for stable in [false, true] {
            let line = if stable { stable_token("rfc7591") } else { vendor("rfc7591") };
            let scene = Scene::over(line).await;
            scene.line.echoes(move |method, body| {
                if method == "PUT" && body.get("registration_client_uri").is_some() {
                    spoil(body);
                }
            });
            let context = format!("{name}, stable token: {stable}");
            for round in 0..3 {
                scene.change(&format!("renamed-{round}")).await.unwrap_or_else(|f| panic!("{context}: {}", f.error));
                scene.engine.live(scene.id).await.unwrap_or_else(|e| panic!("{context}: {e}"));
            }
            let record = scene.record().await;
            assert!(record.state == State::Active && !record.hidden.notes.management_lost, "{context}");
            let asked = scene.line.sent().len();
            scene.engine.live(scene.id).await.unwrap();
            assert_eq!(scene.line.sent().len(), asked + 1, "{context}: a URL that failed is not tried again and again");
            scene.engine.delete(&caller(None), scene.id, None).await.unwrap();
            assert_eq!(at(&scene.line).len(), 0, "{context}");
        }
    }
    // and a token that the server does not take itself
    let scene = Scene::over(vendor("rfc7591")).await;
    scene.change("a").await.unwrap();
    scene.engine.live(scene.id).await.unwrap();
    scene.line.echoes(|method, body| {
        if method == "GET" && body.get("registration_access_token").is_some() {
            body["registration_access_token"] = json!("not-taken");
        }
    });
    scene.engine.live(scene.id).await.unwrap();
    scene.engine.live(scene.id).await.unwrap();
    scene.change("b").await.unwrap();
}
