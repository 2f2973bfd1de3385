//! The crate's harness in LoginRadius's terms: the documented client, canned answers, and a fake that can be looked into.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use registrar_core::{Adapter, Blueprint, Fake, FakeRequest, FakeResponse, SecretString, SettingIssue, Settings};
use registrar_core::{Target, VendorClient};
use registrar_model::ClientSpec;
use serde_json::{Value, json};

use super::super::{
    VENDOR,
    fake::{FakeVendor, TOKEN},
};
use crate::harness;
pub(super) use crate::harness::{loss, now, portal, spec};

pub(super) const CLIENT: &str = include_str!("../fixtures/client.json");

/// The fake behind an adapter, and what was sent to it.
pub(super) struct Wire {
    wire: Arc<harness::Wire>,
    fake: Arc<FakeVendor>,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Value,
}

impl Wire {
    pub(super) fn sent(&self) -> Vec<Sent> {
        let sent = self.wire.sent.lock().unwrap();
        sent.iter().cloned().map(|(method, path, body)| Sent { method, path, body }).collect()
    }

    pub(super) fn last(&self) -> Sent {
        self.sent().pop().unwrap()
    }

    /// The vendor's own truth about its first client.
    pub(super) fn first_client(&self) -> Value {
        self.fake.clients().remove(0)
    }
}

struct SharedFake(Arc<FakeVendor>);

impl Fake for SharedFake {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn handle(&self, request: &FakeRequest) -> FakeResponse {
        self.0.handle(request)
    }

    fn settings(&self, base_url: &str) -> Value {
        self.0.settings(base_url)
    }

    fn clients(&self) -> Vec<Value> {
        self.0.clients()
    }

    fn reset(&self) {
        self.0.reset();
    }
}

/// A call to the fake as its host would make it.
pub(super) fn ask(fake: &FakeVendor, method: &str, path: &[&str], token: Option<&str>, body: &str) -> FakeResponse {
    let authorization = token.map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
    fake.handle(&FakeRequest {
        method: method.to_owned(),
        path: path.iter().map(|s| (*s).to_owned()).collect(),
        query: BTreeMap::new(),
        headers: authorization.into_iter().collect(),
        body: Bytes::from(body.to_owned()),
    })
}

pub(super) fn json_of(answer: &FakeResponse) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// What `settings` come to, with the credential.
pub(super) fn configure(settings: &Value) -> Result<Blueprint, Vec<SettingIssue>> {
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let mut cursor = Settings::new(settings.as_object().unwrap(), &literal);
    let blueprint = (VENDOR.configure)(&mut cursor);
    let issues = cursor.finish();
    if issues.is_empty() { Ok(blueprint.unwrap()) } else { Err(issues) }
}

/// An adapter over a fresh fake, with settings of its own.
pub(super) fn with_settings(more: Value) -> (Arc<dyn Adapter>, Wire) {
    let fake = Arc::new(FakeVendor::default());
    let (adapter, wire) = harness::over_fake(&VENDOR, SharedFake(Arc::clone(&fake)), TOKEN, more);
    (adapter, Wire { wire, fake })
}

/// An adapter over a fresh fake.
pub(super) fn over_fake() -> (Arc<dyn Adapter>, Wire) {
    with_settings(json!({}))
}

/// An adapter over answers in order.
pub(super) fn over_answers<const N: usize>(answers: [(u16, &str); N]) -> Arc<dyn Adapter> {
    harness::over_answers(&VENDOR, &answers).0
}

/// The documented client with members replaced; null removes one.
pub(super) fn client_with(changes: Value) -> String {
    registrar_model::patch::merge(serde_json::from_str(CLIENT).unwrap(), changes).to_string()
}

/// A spec with one redirect URI, these metadata members, and these vendor members.
pub(super) fn client(metadata: Value, own: Value) -> ClientSpec {
    let mut members = json!({ "redirect_uris": ["https://a.example/cb"] });
    members.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    spec(json!({ "metadata": members, "vendor": { "loginradius": own } }))
}

/// The documented client.
pub(super) fn target() -> Target {
    Target {
        client_id: "123e4567-e89b-12d3-a456-426614174000".parse().unwrap(),
        vendor_ref: "MyApp".to_owned(),
        management: None,
        auth_method: None,
        scope: None,
    }
}

/// What a read of this wire client shows.
pub(super) fn shown(wire: &str) -> VendorClient {
    now(over_answers([(200, wire)]).read(&target())).unwrap()
}

/// The body that would be sent for a creation.
pub(super) fn body_of(adapter: &dyn Adapter, desired: &ClientSpec) -> Value {
    adapter.preview(desired).unwrap().value.remove(0).body().unwrap()
}
