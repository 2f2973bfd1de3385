//! Samples for the tests of the store.
#![expect(clippy::unwrap_used, reason = "samples for tests")]
#![expect(unreachable_pub, reason = "a module of several test binaries")]

use std::{collections::BTreeMap, sync::Arc};

use registrar_core::Outcome;
use registrar_model::{ClientSpec, Hidden, Issues, Notes, OperationId, Position, Registration, RegistrationId, State};
use registrar_store::{
    Action, Intent, Lease, Operation, OperationState, OperationUpdate, PageRequest, RegistrationChange, Store,
    StoreError,
};
use serde_json::{Value, json};

/// 2026-01-01 in Unix milliseconds.
pub const NOW: i64 = 1_767_225_600_000;

pub fn spec(value: &Value) -> ClientSpec {
    let mut issues = Issues::lenient();
    let (spec, unknown) = ClientSpec::decode(value.as_object().unwrap(), &Position::root(), &mut issues);
    assert!(issues.is_empty() && unknown.is_empty(), "{issues:?} {unknown:?}");
    spec
}

/// A registration with every kind of member.
pub fn registration(backend: &str, client_id: &str, name: &str) -> Registration {
    let members = json!({
        "metadata": {
            "client_name": name, "client_name#fr": "Caisse", "redirect_uris": ["https://a.example/cb"],
            "scope": "read write", "default_max_age": 0, "require_auth_time": false, "contacts": [],
            "jwks": {"keys": [{"kty": "EC", "x": "1"}]}, "vp_formats_supported": {"jwt_vp": {"alg": ["ES256"]}},
        },
        "policy": {"enabled": true, "access_token_lifetime": 3600, "audiences": ["https://api.example"]},
        "vendor": {"some_kind": {"Ümlaut": [1, 2.5, null, {"deep": "\u{1f600}"}], "big": 9_007_199_254_740_993_u64}},
    });
    Registration {
        id: RegistrationId::generate(),
        backend: backend.parse().unwrap(),
        kind: "some_kind".to_owned(),
        client_id: client_id.parse().unwrap(),
        vendor_ref: format!("ref/{client_id}"),
        client_id_issued_at: Some(NOW / 1000),
        version: 1,
        created_at: NOW,
        updated_at: NOW,
        state: State::Active,
        spec: spec(&members).into(),
        observed: spec(&json!({"metadata": {"client_name": name}})).into(),
        labels: BTreeMap::new(),
        hidden: Hidden {
            management: Some(vec![0, 1, 255]),
            access_token: Some([7; 32]),
            previous_access_token: Some(([8; 32], NOW + 5)),
            dcr: Some(json!({"route": "default"})),
            open_route: Some("default".to_owned()),
            unused_until: Some(NOW + 10),
            notes: Notes { management_lost: true, defaulted: vec!["metadata.scope\u{0}ü".to_owned()] },
        },
    }
}

pub fn labelled(mut registration: Registration, labels: &[(&str, &str)]) -> Registration {
    registration.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    registration
}

pub fn intent() -> Operation {
    Operation {
        id: OperationId::generate(),
        action: Action::Create,
        backend: "a".to_owned(),
        registration: None,
        state: OperationState::Pending,
        outcome: Outcome::Unknown,
        summary: "create a client".into(),
        created_at: NOW,
        updated_at: NOW,
        attempts: 1,
        evidence: json!({}),
        request_id: "req-1".into(),
        principal: "ci".into(),
        desired: Some(json!({"metadata": {"client_name": "a"}}).to_string()),
        lease: Lease { owner: "one".into(), until: NOW + 60_000, fence: 1 },
    }
}

pub fn ended(id: OperationId, state: OperationState, outcome: Outcome) -> OperationUpdate {
    OperationUpdate {
        id,
        state,
        outcome,
        summary: "done".into(),
        updated_at: NOW + 1,
        attempts: 1,
        evidence: json!({}).into(),
        fence: 1,
        sealed: None,
        release_key: false,
        refund: None,
        retry_at: NOW + 1,
    }
}

pub fn succeeded(id: OperationId) -> OperationUpdate {
    ended(id, OperationState::Succeeded, Outcome::Performed)
}

pub fn first(limit: u32) -> PageRequest {
    PageRequest { limit, after: None }
}

pub fn unkeyed(operation: Operation) -> Intent {
    Intent { operation: operation.into(), key: None, spend: None }
}

/// Records one operation that changes the registry.
pub async fn change(store: &dyn Store, change: RegistrationChange) -> Result<OperationId, StoreError> {
    let operation = intent();
    let id = operation.id;
    store.begin(unkeyed(operation)).await?;
    store.finish(succeeded(id).into(), Some(change)).await?;
    Ok(id)
}

pub async fn insert(store: &dyn Store, registration: &Registration) {
    change(store, RegistrationChange::Insert(Arc::new(registration.clone()))).await.unwrap();
}
