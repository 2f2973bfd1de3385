//! A client's own writes beside an administrator's.

use std::{sync::Arc, time::Duration};

use registrar_core::{ErrorKind, ExposeSecret as _};
use registrar_engine::{
    Engine,
    dcr::{Access, Holder, Registered, RegistrationConfig},
};
use registrar_model::{NewRegistration, RegistrationId, State};
use registrar_store::{MemoryStore, Store as _};
use serde_json::json;
use tokio::sync::oneshot;

use crate::rig::{Answer, Faulty, Line, caller, gateway, gateway_over, request, vendor};

struct Scene {
    inner: Arc<MemoryStore>,
    line: Arc<Line>,
    engine: Arc<Engine>,
}

fn scene(kind: &str) -> Scene {
    let inner = Arc::new(MemoryStore::new());
    let line = vendor(kind);
    let engine = gateway(&Faulty::over(&inner), &line);
    Scene { inner, line, engine }
}

impl Scene {
    async fn register(&self) -> Registered {
        let visitor = self.engine.visitor(Some("all"), None, None).await.unwrap();
        self.engine.register(&visitor, &caller(None), request(self.line.fake.kind(), "Own"), None).await.unwrap()
    }

    async fn holder(&self, own: &Registered) -> registrar_core::Result<Holder> {
        let id = own.written.registration.id.to_string();
        self.engine.holder(&id, own.access_token.expose_secret()).await
    }

    async fn state(&self, id: RegistrationId) -> Option<State> {
        self.inner.registration(id).await.unwrap().map(|record| record.state)
    }
}

fn renamed(name: &str) -> NewRegistration {
    let metadata = json!({ "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" });
    NewRegistration::decode(&json!({ "metadata": metadata })).unwrap()
}

/// An administrator's write is at the vendor; before it ends, the client begins one of its own with a token that was good.
#[tokio::test]
async fn an_own_write_that_began_before_a_disable_does_not_undo_it() {
    for own_write in ["PUT", "GET"] {
        for kind in ["loop", "authms"] {
            let it = Arc::new(scene(kind));
            let own = it.register().await;
            let id = own.written.registration.id;
            let mut holder = it.holder(&own).await.unwrap();
            let (arrived, arrives) = oneshot::channel();
            let (go_on, goes_on) = oneshot::channel::<()>();
            it.line.before_write(Box::new(move || {
                Box::pin(async move {
                    arrived.send(()).unwrap();
                    goes_on.await.unwrap();
                    Answer::Arrives
                })
            }));
            let admin = Arc::clone(&it);
            let disable = tokio::spawn(async move { admin.engine.disable(&caller(None), id, None).await });
            arrives.await.unwrap();
            let client = Arc::clone(&it);
            let attempt = tokio::spawn(async move {
                match own_write {
                    "PUT" => client
                        .engine
                        .replace_own(&caller(None), &holder, renamed("Undo"), None)
                        .await
                        .map(drop)
                        .map_err(|f| f.error),
                    _ => client.engine.own(&mut holder).await.map(drop),
                }
            });
            // it is given every chance to begin
            tokio::task::yield_now().await;
            go_on.send(()).unwrap();
            assert_eq!(disable.await.unwrap().unwrap().registration.state, State::Disabled);
            let ended = attempt.await.unwrap();
            if own_write == "PUT" {
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidToken, "{kind}");
            }
            assert_eq!(it.state(id).await, Some(State::Disabled), "{kind} {own_write}");
            let at_vendor = it.engine.live(id).await.unwrap().0;
            assert_eq!(at_vendor.spec.policy.enabled, Some(false), "{kind} {own_write}");
            assert_eq!(it.holder(&own).await.unwrap_err().kind(), ErrorKind::InvalidToken);
        }
    }
}

/// What only administrators decide is taken from the record as it is when the client's turn has come.
#[tokio::test]
async fn an_own_update_keeps_what_an_administrator_has_just_written() {
    let it = scene("authms");
    let own = it.register().await;
    let id = own.written.registration.id;
    let stale = it.holder(&own).await.unwrap();
    let change = json!({ "labels": { "team": "treasury" } });
    it.engine.patch(&caller(None), id, change, None).await.unwrap();
    it.engine.replace_own(&caller(None), &stale, renamed("New"), None).await.unwrap();
    let record = it.inner.registration(id).await.unwrap().unwrap();
    assert_eq!(record.labels.get("team").map(String::as_str), Some("treasury"));
    assert_eq!(record.spec.metadata.client_name.as_deref(), Some("New"));
}

#[tokio::test]
async fn an_own_deletion_takes_its_turn_too() {
    let it = scene("authms");
    let own = it.register().await;
    let id = own.written.registration.id;
    let stale = it.holder(&own).await.unwrap();
    it.engine.disable(&caller(None), id, None).await.unwrap();
    let refused = it.engine.delete_own(&caller(None), &stale).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::InvalidToken);
    assert_eq!(it.state(id).await, Some(State::Disabled));
}

/// A vendor may need time to show a client that is new, and not one that it has shown.
#[tokio::test]
async fn a_client_that_the_vendor_has_shown_needs_no_grace() {
    for (shown_before, status) in [(true, 404), (false, 410)] {
        let inner = Arc::new(MemoryStore::new());
        let line = vendor("authms");
        let terms = RegistrationConfig { access: Access::Open, ..RegistrationConfig::default() };
        let engine = gateway_over(&Faulty::over(&inner), &line, terms, Duration::from_hours(1));
        let it = Scene { inner, line, engine };
        let own = it.register().await;
        if shown_before {
            it.engine.own(&mut it.holder(&own).await.unwrap()).await.unwrap();
        }
        it.line.in_front(move |_, path| (path.matches('/').count() > 5).then_some((status, r#"{"code":61001641}"#)));
        let refused = it.engine.own(&mut it.holder(&own).await.unwrap()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidToken, "{status}");
        // a client that nobody has seen yet
        it.line.clear();
        let new = it.register().await;
        it.line.in_front(move |_, path| (path.matches('/').count() > 5).then_some((404, r#"{"code":61001641}"#)));
        it.engine.own(&mut it.holder(&new).await.unwrap()).await.unwrap();
        assert_eq!(it.state(new.written.registration.id).await, Some(State::Active));
    }
}
