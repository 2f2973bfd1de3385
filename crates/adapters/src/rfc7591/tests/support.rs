//! Adapters over fakes and canned answers.

use std::sync::Arc;

use registrar_core::{Adapter, Fake as _, Management, SecretString, Target};
use registrar_model::ClientSpec;
use serde_json::{Value, json};

use crate::{
    harness::{Wire, over_answers_with, over_fake, spec},
    rfc7591::{
        VENDOR, fake,
        fake::FakeVendor,
        preset::{PRESETS, Preset},
    },
};

/// RFC 7591 §3.2.1.
pub(super) const REGISTERED: &str = include_str!("../fixtures/registered.json");
/// RFC 7592 §3.
pub(super) const MANAGED: &str = include_str!("../fixtures/managed.json");
/// RFC 7592 §2.2.
pub(super) const UPDATE: &str = include_str!("../fixtures/update.json");

pub(super) const BASE: &str = "https://server.example.com";

pub(super) fn preset(name: &str) -> &'static Preset {
    PRESETS.iter().find(|preset| preset.name == name).unwrap()
}

/// An adapter over the fake of a preset.
pub(super) fn faked(name: &str) -> (Arc<dyn Adapter>, Arc<Wire>) {
    let fake = FakeVendor::like(preset(name));
    let mut settings = fake.settings(BASE);
    settings["preset"] = json!(name);
    over_fake(&VENDOR, fake, fake::TOKEN, settings)
}

/// An adapter of a preset over answers in order.
pub(super) fn answered(name: &str, answers: &[(u16, &str)]) -> (Arc<dyn Adapter>, Arc<Wire>) {
    over_answers_with(&VENDOR, answers, &json!({ "base_url": BASE, "preset": name }))
}

/// The client of the standards' examples, as the gateway would address it.
pub(super) fn target() -> Target {
    let uri = format!("{BASE}/register/s6BhdRkqt3").parse().unwrap();
    let token = SecretString::from("reg-23410913-abewfq.123483");
    Target {
        client_id: "s6BhdRkqt3".parse().unwrap(),
        vendor_ref: "s6BhdRkqt3".to_owned(),
        management: Some(Management { uri, token }),
        auth_method: None,
        scope: None,
    }
}

/// The body of the request that was sent last.
pub(super) fn last(wire: &Wire) -> (String, String, Value) {
    wire.sent.lock().unwrap().last().unwrap().clone()
}

pub(super) fn metadata(members: Value) -> ClientSpec {
    spec(json!({ "metadata": members }))
}

/// An answer with a management part, made of members.
pub(super) fn answer(members: Value) -> String {
    let mut out = json!({
        "client_id": "s6BhdRkqt3", "client_secret": "s1", "client_secret_expires_at": 0,
        "registration_access_token": "reg-1", "registration_client_uri": format!("{BASE}/register/s6BhdRkqt3")
    });
    out.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    out.to_string()
}
