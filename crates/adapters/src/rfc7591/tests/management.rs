//! The client's own URL and token (RFC 7592).

use registrar_core::{ErrorKind as K, ExposeSecret as _, Management, Offers, SecretString, Target};
use registrar_model::{ClientSpec, LossKind, Severity, account::account};
use serde_json::json;

use super::support::{BASE, REGISTERED, answer, answered, faked, last, metadata, target};
use crate::harness::{loss, now, portal};

fn renamed() -> ClientSpec {
    metadata(json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "Renamed" }))
}

#[test]
fn a_client_lives_by_its_own_token_and_every_answer_may_change_it() {
    let (adapter, wire) = faked("standard");
    let created = now(adapter.create(&portal())).unwrap().value;
    let updated = now(adapter.update(&created.target(), &created.spec, &renamed())).unwrap().value;
    let tokens =
        |client: &registrar_core::VendorClient| client.management.as_ref().map(|m| m.token.expose_secret().to_owned());
    assert_ne!(tokens(&created), tokens(&updated), "adp_05: the new one is handed on");
    assert_eq!(now(adapter.read(&created.target())).unwrap_err().kind(), K::NotFound, "the old one is dead");
    now(adapter.read(&updated.target())).unwrap();
    now(adapter.delete(&updated.target())).unwrap();
    assert_eq!(now(adapter.read(&updated.target())).unwrap_err().kind(), K::NotFound);
    assert_eq!(now(adapter.delete(&updated.target())).unwrap_err().kind(), K::NotFound);
    let sent = wire.tokens.lock().unwrap();
    assert_eq!(sent[0], None, "registration takes the backend's credential");
    assert!(sent[1..].iter().all(Option::is_some), "everything else takes the client's own");
}

#[test]
fn adp_04_the_url_is_used_exactly_as_given() {
    let odd = format!("{BASE}/manage?client=s6%2FBh&x=1");
    let shown = answer(json!({ "registration_client_uri": odd }));
    let (adapter, wire) = answered("standard", &[(201, &shown), (200, &shown)]);
    let created = now(adapter.create(&portal())).unwrap().value;
    now(adapter.read(&created.target())).unwrap();
    assert_eq!(last(&wire).1, "/manage?client=s6%2FBh&x=1");
    assert!(!format!("{created:?}").contains("s6%2FBh"), "a query may hold a secret");
}

#[test]
fn adp_14_without_a_token_the_client_can_only_be_created() {
    let (adapter, wire) = answered("standard", &[(201, REGISTERED)]);
    let created = now(adapter.create(&portal())).unwrap();
    assert!(created.value.management.is_none());
    let said = loss(&created.losses, "management");
    assert_eq!((said.kind, said.severity), (LossKind::Dropped, Severity::Functional));
    let settled = account(&portal(), &created.value.spec, created.losses);
    loss(&settled, "management");
    let target = created.value.target();
    assert_eq!(adapter.offers(&target), Offers { read: false, update: false, delete: false });
    let refusals = [
        now(adapter.read(&target)).unwrap_err(),
        now(adapter.update(&target, &created.value.spec, &renamed())).unwrap_err(),
        adapter.preview_update(&target, &created.value.spec, &renamed()).unwrap_err(),
        now(adapter.delete(&target)).unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), K::UnsupportedByBackend);
        assert!(error.detail().contains("RFC 7592"), "{error}");
    }
    assert_eq!(wire.sent.lock().unwrap().len(), 1, "nothing but the creation was sent");
}

#[test]
fn ssrf_a_url_of_another_origin_is_never_followed() {
    for uri in [
        "https://evil.example/register/s6BhdRkqt3",
        "http://server.example.com/register/s6BhdRkqt3",
        "https://server.example.com:8443/register/s6BhdRkqt3",
        "https://user@server.example.com/register/s6BhdRkqt3",
        "https://server.example.com.evil.example/",
        "//169.254.169.254/latest",
        "file:///etc/passwd",
        "https://server.example.com@evil.example/",
    ] {
        let (adapter, wire) = answered("standard", &[(201, &answer(json!({ "registration_client_uri": uri })))]);
        let created = now(adapter.create(&portal())).unwrap();
        assert!(created.value.management.is_none(), "{uri}");
        let said = loss(&created.losses, "management");
        assert_eq!(said.severity, Severity::Functional, "{uri}");
        assert!(now(adapter.read(&created.value.target())).is_err());
        assert_eq!(wire.sent.lock().unwrap().len(), 1, "{uri}");
    }
}

#[test]
fn ssrf_a_record_of_another_origin_is_not_followed_either() {
    let (adapter, wire) = answered("standard", &[]);
    let moved = Management { uri: "https://old.example/register/1".parse().unwrap(), token: SecretString::from("t") };
    let target = Target { management: Some(moved), ..target() };
    for error in [now(adapter.read(&target)).unwrap_err(), now(adapter.delete(&target)).unwrap_err()] {
        assert_eq!(error.kind(), K::UnsupportedByBackend);
        assert!(error.detail().contains("base_url"), "{error}");
    }
    assert!(wire.sent.lock().unwrap().is_empty());
}

#[test]
fn an_update_cannot_move_a_client_to_another_origin() {
    let shown =
        answer(json!({ "registration_client_uri": "https://evil.example/1", "registration_access_token": "new" }));
    let (adapter, _) = answered("standard", &[(200, &shown)]);
    let client = now(adapter.read(&target())).unwrap();
    let management = client.management.unwrap();
    assert_eq!(
        (management.uri.as_str(), management.token.expose_secret()),
        ("https://server.example.com/register/s6BhdRkqt3", "new")
    );
}

#[test]
fn an_answer_without_token_or_url_leaves_them_as_they_were() {
    // OIDC Registration §4.3: they "need not" be in the answer to a read
    let (adapter, _) = answered("standard", &[(200, REGISTERED)]);
    let management = now(adapter.read(&target())).unwrap().management.unwrap();
    assert_eq!(management.token.expose_secret(), "reg-23410913-abewfq.123483");
}

#[test]
fn a_token_that_no_header_can_hold_is_none() {
    for bad in ["a b", "a\r\nX-Admin: 1", "\u{e9}"] {
        let (adapter, _) = answered("standard", &[(201, &answer(json!({ "registration_access_token": bad })))]);
        let created = now(adapter.create(&portal())).unwrap();
        assert!(created.value.management.is_none(), "{bad:?}");
        loss(&created.losses, "management");
    }
}

#[test]
fn another_clients_answer_is_refused() {
    let other = answer(json!({ "client_id": "other" }));
    let (adapter, _) = answered("standard", &[(200, &other), (200, &other)]);
    assert_eq!(now(adapter.read(&target())).unwrap_err().kind(), K::UpstreamMalformed);
    assert_eq!(now(adapter.update(&target(), &portal(), &renamed())).unwrap_err().kind(), K::UpstreamMalformed);
}
