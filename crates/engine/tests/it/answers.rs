//! What shows only in a vendor's answer: losses, removals that were not done, and secrets that are needed.

use std::sync::Arc;

use registrar_core::{ErrorKind, ExposeSecret as _, Outcome};
use registrar_engine::{Engine, Failure, Written};
use registrar_model::{LossKind, NewRegistration, Severity};
use registrar_store::{MemoryStore, OperationState, Store as _};
use serde_json::{Value, json};

use crate::rig::{Faulty, Line, NOT_PERFORMED, at, caller, gateway, operations, vendor};

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

fn decoded(body: Value) -> NewRegistration {
    NewRegistration::decode(&body).unwrap()
}

impl Scene {
    async fn create(&self, metadata: Value, allow: &[&str]) -> Result<Written, Failure> {
        let wish = json!({ "backend": self.line.fake.kind(), "metadata": metadata, "allow_loss": allow });
        self.engine.create(&caller(None), decoded(wish)).await
    }

    async fn put(&self, written: &Written, metadata: Value) -> Written {
        let wish = decoded(json!({ "metadata": metadata }));
        self.engine.replace(&caller(None), written.registration.id, wish, None).await.unwrap()
    }
}

fn keyed() -> Value {
    json!({
        "client_name": "Keys", "redirect_uris": ["https://a.example/cb"], "scope": "openid",
        "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks",
    })
}

fn without(member: &'static str, methods: &'static [&'static str]) -> impl Fn(&str, &mut Value) + Send {
    move |method, body| {
        if methods.contains(&method) && body.get("client_id").is_some() {
            body.as_object_mut().unwrap().remove(member);
        }
    }
}

#[tokio::test]
async fn one_look_settles_a_loss_that_only_the_answer_shows() {
    let it = scene("rfc7591");
    it.line.echoes(without("jwks_uri", &["POST"]));
    let made = it.create(keyed(), &[]).await.unwrap();
    assert!(!made.losses.iter().any(|loss| loss.field == "metadata.jwks_uri"), "{:?}", made.losses);
    assert_eq!(it.engine.live(made.registration.id).await.unwrap().1, [], "no drift either");
    // and nothing is asked where nothing is lost
    let it = scene("rfc7591");
    it.create(keyed(), &[]).await.unwrap();
    assert_eq!(it.line.reads(), 0);
}

#[tokio::test]
async fn a_client_that_is_weaker_than_asked_is_deleted_again() {
    let it = scene("rfc7591");
    it.line.echoes(without("jwks_uri", &["POST", "GET"]));
    let refused = it.create(keyed(), &[]).await.unwrap_err();
    assert_eq!((refused.error.kind(), refused.error.outcome()), (ErrorKind::UnsupportedByBackend, NOT_PERFORMED));
    let loss = refused.error.losses().iter().find(|loss| loss.field == "metadata.jwks_uri").unwrap();
    assert_eq!(loss.severity, Severity::Security);
    assert_eq!(at(&it.line), Vec::<String>::new());
    let failed = operations(&it.inner, OperationState::Failed).await;
    assert!(failed.len() == 1 && failed[0].summary.contains("deleted again"), "{failed:?}");
    // who allows it gets it
    let made = it.create(keyed(), &["metadata.jwks_uri"]).await.unwrap();
    assert!(made.losses.iter().any(|loss| loss.field == "metadata.jwks_uri"));
    assert_eq!(at(&it.line).len(), 1);
}

#[tokio::test]
async fn where_it_cannot_be_deleted_it_is_told_plainly() {
    for (status, text) in [(405, ""), (404, ""), (403, ""), (500, "")] {
        let it = scene("rfc7591");
        it.line.echoes(without("jwks_uri", &["POST", "GET"]));
        it.line.in_front(move |method, _| (method == "DELETE").then_some((status, text)));
        let made = it.create(keyed(), &[]).await.unwrap();
        let loss = made.losses.iter().find(|loss| loss.field == "metadata.jwks_uri").unwrap();
        assert_eq!(loss.severity, Severity::Security, "{status}");
        assert_eq!(at(&it.line).len(), 1, "{status}");
        it.line.clear();
        it.engine.delete(&caller(None), made.registration.id, None).await.unwrap();
    }
    // and where the server gives no token for it
    let it = scene("rfc7591");
    it.line.echoes(|_, body| {
        if let Some(body) = body.as_object_mut() {
            for member in ["jwks_uri", "registration_access_token", "registration_client_uri"] {
                body.remove(member);
            }
        }
    });
    let made = it.create(keyed(), &[]).await.unwrap();
    assert!(made.losses.iter().any(|loss| loss.field == "metadata.jwks_uri" && loss.severity == Severity::Security));
}

#[tokio::test]
async fn another_spelling_of_a_redirect_uri_is_a_client() {
    let it = scene("rfc7591");
    it.line.echoes(|_, body| {
        if body.get("client_id").is_some() {
            body["redirect_uris"] = json!(["https://a.example/", "https://a.example/cb"]);
        }
    });
    let made = it
        .create(json!({ "client_name": "T", "redirect_uris": ["https://a.example", "https://a.example/cb"] }), &[])
        .await
        .unwrap();
    assert!(made.secret.is_some() && at(&it.line).len() == 1);
    assert!(made.losses.iter().any(|loss| loss.field == "metadata.redirect_uris"), "{:?}", made.losses);
}

/// A server that merges: what an update leaves out stays.
#[tokio::test]
async fn a_removal_that_was_not_done_is_told() {
    let it = scene("rfc7591");
    let asked = json!({
        "client_name": "T", "redirect_uris": ["https://a.example/cb"], "scope": "openid profile",
        "contacts": ["ops@a.example"], "tos_uri": "https://a.example/tos",
    });
    let made = it.create(asked.clone(), &[]).await.unwrap();
    it.line.echoes(move |method, body| {
        if method != "POST" && body.get("client_id").is_some() {
            for member in ["scope", "contacts", "tos_uri"] {
                body[member] = asked[member].clone();
            }
        }
    });
    for _ in 0..2 {
        let changed = it.put(&made, json!({ "client_name": "T", "redirect_uris": ["https://a.example/cb"] })).await;
        for (field, severity) in
            [("scope", Severity::Security), ("contacts", Severity::Info), ("tos_uri", Severity::Info)]
        {
            let field = format!("metadata.{field}");
            let told: Vec<_> = changed.losses.iter().filter(|loss| loss.field == field).collect();
            assert!(told.len() == 1 && told[0].kind == LossKind::Substituted, "{field}: {told:?}");
            assert!(told[0].severity == severity && told[0].reason.contains("asked to be removed"), "{told:?}");
        }
    }
}

/// A server that has a scope of its own for clients that ask for none.
#[tokio::test]
async fn what_nobody_asked_for_is_not_kept_against_a_wish() {
    let it = scene("rfc7591");
    it.line.echoes(|_, body| {
        if body.get("client_id").is_some() && body.get("scope").is_none() {
            body["scope"] = json!("openid");
        }
    });
    let asked = json!({ "client_name": "T", "redirect_uris": ["https://a.example/cb"] });
    let made = it.create(asked.clone(), &[]).await.unwrap();
    for metadata in [asked.clone(), json!({ "client_name": "U", "redirect_uris": ["https://a.example/cb"] }), asked] {
        let changed = it.put(&made, metadata).await;
        let kept = changed.losses.iter().find(|loss| loss.kind == LossKind::Substituted);
        assert!(kept.is_none(), "{kept:?}");
    }
    // sent back as it was shown, and then left out, it is still nobody's wish
    let shown = json!({ "client_name": "T", "redirect_uris": ["https://a.example/cb"], "scope": "openid" });
    it.put(&made, shown).await;
    let changed = it.put(&made, json!({ "client_name": "T", "redirect_uris": ["https://a.example/cb"] })).await;
    assert!(!changed.losses.iter().any(|loss| loss.kind == LossKind::Substituted), "{:?}", changed.losses);
}

fn public() -> Value {
    json!({
        "client_name": "Public", "redirect_uris": ["https://a.example/cb"], "scope": "openid",
        "token_endpoint_auth_method": "none",
    })
}

#[tokio::test]
async fn a_client_that_becomes_confidential_gets_a_secret() {
    let patch = json!({ "metadata": { "token_endpoint_auth_method": "client_secret_post" } });
    for kind in ["authms", "loginradius", "rfc7591"] {
        let it = scene(kind);
        let made = it.create(public(), &[]).await.unwrap_or_else(|f| panic!("{kind}: {}", f.error));
        assert!(made.secret.is_none() && made.registration.spec.metadata.is_public(), "{kind}");
        let id = made.registration.id;
        let changed = it.engine.patch(&caller(Some("k")), id, patch.clone(), None).await.unwrap();
        assert!(!changed.registration.spec.metadata.is_public(), "{kind}");
        let secret = changed.secret.unwrap_or_else(|| panic!("{kind}: no secret"));
        let operation = it.inner.operation(changed.operation).await.unwrap().unwrap();
        if kind != "rfc7591" {
            let steps: Vec<&str> =
                operation.evidence["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
            assert_eq!(steps, ["update", "rotate"], "{kind}");
        }
        // a repetition of the request gets the same answer
        let again = it.engine.patch(&caller(Some("k")), id, patch.clone(), None).await.unwrap();
        assert_eq!(again.secret.unwrap().value.expose_secret(), secret.value.expose_secret(), "{kind}");
        // a client that has one keeps it
        let renamed = json!({ "metadata": { "redirect_uris": ["https://a.example/2"] } });
        assert!(it.engine.patch(&caller(None), id, renamed, None).await.unwrap().secret.is_none(), "{kind}");
    }
}

#[tokio::test]
async fn where_the_secret_is_not_issued_that_is_told() {
    let patch = json!({ "metadata": { "token_endpoint_auth_method": "client_secret_post" } });
    for status in [500, 404, 429] {
        let it = scene("authms");
        let made = it.create(public(), &[]).await.unwrap();
        it.line.in_front(move |_, path| path.contains("secret").then_some((status, "")));
        let changed = it.engine.patch(&caller(None), made.registration.id, patch.clone(), None).await.unwrap();
        let loss = changed.losses.iter().find(|loss| loss.field == "client_secret").unwrap();
        assert!(changed.secret.is_none() && loss.kind == LossKind::Dropped && loss.severity == Severity::Functional);
        let operation = it.inner.operation(changed.operation).await.unwrap().unwrap();
        assert_eq!(operation.outcome, Outcome::Performed, "{status}");
        assert_eq!(operation.evidence["steps"][1]["step"], "rotate", "{status}");
        // and it can be issued
        it.line.clear();
        it.engine.rotate_secret(&caller(None), made.registration.id).await.unwrap().secret.unwrap();
    }
}
