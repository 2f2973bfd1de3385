//! What servers do otherwise, as measured or read in their sources (standards §12, §14; vendors §3.9).

use registrar_core::{Adapter, ErrorKind as K, ExposeSecret as _};
use registrar_model::{
    AuthMethod, ClientSpec, LossKind, Severity,
    account::{account, diff, effective},
};
use serde_json::{Value, json};

use super::support::{answer, answered, faked, last, metadata, target};
use crate::{
    harness::{loss, now, portal},
    rfc7591::preset::{Managed, PRESETS},
};

fn full() -> ClientSpec {
    metadata(json!({
        "redirect_uris": ["https://a.example/cb"], "client_name": "A", "client_name#fr": "Un", "client_uri": "https://a.example",
        "scope": "openid profile", "contacts": ["a@a.example"], "grant_types": ["authorization_code"],
        "jwks": { "keys": [{ "kty": "EC", "crv": "P-256", "x": "x", "y": "y" }] }, "software_id": "s",
        "default_max_age": 5, "require_auth_time": true, "backchannel_logout_uri": "https://a.example/bye"
    }))
}

/// The accounting law: exactly the reported fields differ.
fn settle(
    sent: &ClientSpec,
    shown: &ClientSpec,
    predicted: Vec<registrar_model::Loss>,
    preset: &str,
) -> Vec<registrar_model::Loss> {
    let losses = account(sent, shown, predicted);
    let differ = diff(sent, shown);
    let reported =
        losses.iter().map(|l| l.field.to_string()).filter(|f| !f.starts_with("vendor.") && f != "management").collect();
    assert_eq!(differ, reported, "{preset}");
    losses
}

#[test]
fn every_preset_registers_reads_changes_and_deletes() {
    for preset in PRESETS {
        let (adapter, _) = faked(preset.name);
        let sent = full();
        let created = now(adapter.create(&sent)).unwrap();
        let client = created.value;
        let losses = settle(&sent, &client.spec, created.losses, preset.name);
        assert!(client.secret.is_some(), "{}", preset.name);
        let target = client.target();
        let unmanaged = losses.iter().any(|l| l.field == "management");
        assert_eq!(unmanaged, !preset.management.updates(), "{}", preset.name);
        if preset.management == Managed::Not {
            assert_eq!(now(adapter.read(&target)).unwrap_err().kind(), K::UnsupportedByBackend);
            continue;
        }
        let read = now(adapter.read(&target)).unwrap();
        assert_eq!(read.spec, client.spec, "{}", preset.name);
        let record = effective(&sent, &client.spec, &losses).unwrap();
        if !preset.management.updates() {
            let refused = [now(adapter.update(&target, &record, &full())).map(|_| ()), now(adapter.delete(&target))];
            assert!(
                refused.iter().all(|r| r.as_ref().unwrap_err().kind() == K::UnsupportedByBackend),
                "{}",
                preset.name
            );
            continue;
        }

        let less =
            metadata(json!({ "redirect_uris": ["https://a.example/cb2"], "client_name": "B", "scope": "openid" }));
        let updated = now(adapter.update(&target, &record, &less)).unwrap();
        let shown = updated.value.spec.flatten();
        assert_eq!(shown["metadata.client_name"], json!("B"), "{}", preset.name);
        for gone in ["client_uri", "contacts", "jwks", "software_id", "default_max_age"] {
            assert!(!shown.contains_key(&format!("metadata.{gone}")), "{}: {gone} is still there", preset.name);
        }
        settle(&less, &updated.value.spec, updated.losses, preset.name);
        assert_eq!(updated.value.secret.is_some(), preset.rotates_secret, "{}", preset.name);

        let deleted = now(adapter.delete(&updated.value.target()));
        match preset.management {
            Managed::Whole => {
                deleted.unwrap();
                let gone = now(adapter.read(&updated.value.target())).unwrap_err();
                assert_eq!(gone.kind(), K::NotFound, "{}", preset.name);
            }
            Managed::Undeletable | Managed::Readable | Managed::Not => {
                assert_eq!(deleted.unwrap_err().kind(), K::UnsupportedByBackend)
            }
        }
    }
}

#[test]
fn what_a_server_is_known_not_to_keep_is_told_before_the_call() {
    let lost = |preset: &str, sent: &ClientSpec| {
        let (adapter, _) = faked(preset);
        let plan = adapter.preview(sent).unwrap();
        (plan.value[0].body().unwrap(), plan.losses)
    };
    let (body, losses) = lost("django-oauth-toolkit", &full());
    assert_eq!(
        body,
        json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "A", "grant_types": ["authorization_code"] })
    );
    assert_eq!(
        (loss(&losses, "metadata.scope").kind, loss(&losses, "metadata.scope").severity),
        (LossKind::Dropped, Severity::Functional)
    );
    assert_eq!(loss(&losses, "metadata.contacts").kind, LossKind::LocalOnly);
    let (body, losses) = lost("oidc-provider", &full());
    assert!(body.get("client_name#fr").is_none() && body.get("scope").is_some());
    assert_eq!(loss(&losses, "metadata.client_name#fr").kind, LossKind::LocalOnly);
    let public = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" }));
    let (_, losses) = lost("lemonldap", &public);
    assert_eq!(loss(&losses, "metadata.token_endpoint_auth_method").severity, Severity::Security);
}

#[test]
fn django_oauth_toolkit_has_one_grant_and_one_secret_method() {
    let (adapter, wire) = faked("django-oauth-toolkit");
    let two = metadata(
        json!({ "redirect_uris": ["https://a.example/cb"], "grant_types": ["authorization_code", "client_credentials"] }),
    );
    let error = now(adapter.create(&two)).unwrap_err();
    assert_eq!((error.kind(), error.issues()[0].pointer.as_str()), (K::UnsupportedValue, "#/metadata/grant_types"));
    assert!(wire.sent.lock().unwrap().is_empty());
    let post = metadata(
        json!({ "redirect_uris": ["https://a.example/cb"], "grant_types": ["authorization_code"], "token_endpoint_auth_method": "client_secret_post" }),
    );
    let created = now(adapter.create(&post)).unwrap();
    let losses = account(&post, &created.value.spec, created.losses);
    for (field, kind) in
        [("metadata.grant_types", LossKind::Widened), ("metadata.token_endpoint_auth_method", LossKind::Substituted)]
    {
        assert_eq!((loss(&losses, field).kind, loss(&losses, field).severity), (kind, Severity::Functional), "{field}");
    }
    // measured: an update from public to confidential tells no secret
    let public = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" }));
    let shown = answer(
        json!({ "client_secret": null, "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "client_secret_basic" }),
    );
    let (adapter, _) = answered("django-oauth-toolkit", &[(200, &shown)]);
    let updated =
        now(adapter.update(&target(), &public, &metadata(json!({ "redirect_uris": ["https://a.example/cb"] }))))
            .unwrap();
    assert_eq!(loss(&updated.losses, "client_secret").severity, Severity::Functional);
}

#[test]
fn django_oauth_toolkit_has_slashes_and_no_expiry() {
    // measured, 3.4.1
    let shown = r#"{"client_id":"9hmhZ156","redirect_uris":["https://a.example/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"client_secret_basic","registration_access_token":"IFabzjKu","registration_client_uri":"https://server.example.com/o/register/9hmhZ156/","client_name":"A","client_secret":"V0JrEWne"}"#;
    let (adapter, wire) = answered("django-oauth-toolkit", &[(201, shown), (204, "")]);
    let created = now(adapter.create(&portal())).unwrap().value;
    let secret = created.secret.as_ref().unwrap();
    assert_eq!((secret.value.expose_secret(), secret.expires_at), ("V0JrEWne", Some(0)));
    now(adapter.delete(&created.target())).unwrap();
    assert_eq!(last(&wire).1, "/o/register/9hmhZ156/");
}

#[test]
fn canaille_merges_so_that_removing_needs_a_word() {
    let (adapter, wire) = faked("canaille");
    let mut sent = full();
    sent.metadata.application_type = Some("native".to_owned());
    sent.metadata.jwks = None;
    sent.metadata.jwks_uri = Some("https://a.example/jwks".to_owned());
    let created = now(adapter.create(&sent)).unwrap().value;
    let bare = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" }));
    now(adapter.update(&created.target(), &created.spec, &bare)).unwrap();
    let put = last(&wire).2;
    // measured, 0.3.6 with authlib 1.7.0: these are taken; null is refused or fails for lists, methods and types
    for (member, value) in [
        ("client_uri", json!("")),
        ("jwks_uri", json!("")),
        ("contacts", json!([])),
        ("default_max_age", Value::Null),
        ("require_auth_time", json!(false)),
        ("application_type", json!("web")),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
        ("grant_types", json!(["authorization_code"])),
    ] {
        assert_eq!(put.get(member), Some(&value), "{member}");
    }
}

#[test]
fn canaille_cannot_remove_a_scope() {
    let (adapter, wire) = faked("canaille");
    let created = now(adapter.create(&portal())).unwrap().value;
    let without = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "Portal" }));
    let plan = adapter.preview_update(&created.target(), &created.spec, &without).unwrap();
    let kept = loss(&plan.losses, "metadata.scope");
    assert_eq!((kept.kind, kept.severity), (LossKind::Widened, Severity::Security));
    let updated = now(adapter.update(&created.target(), &created.spec, &without)).unwrap();
    assert!(last(&wire).2.get("scope").is_none());
    let losses = account(&without, &updated.value.spec, updated.losses);
    assert!(loss(&losses, "metadata.scope").is_refusable());
}

#[test]
fn canaille_shows_nulls_and_empty_lists() {
    // measured
    let shown = r#"{"application_type":"web","client_id":"s6BhdRkqt3","client_id_issued_at":1795247109,"client_name":"A","client_secret":"5291","client_secret_expires_at":0,"client_uri":null,"contacts":[],"default_acr_values":[],"default_max_age":null,"grant_types":[],"id_token_encrypted_response_alg":null,"id_token_signed_response_alg":"RS256","jwks":null,"redirect_uris":["https://a.example/cb"],"registration_access_token":"eyJ0","registration_client_uri":"https://server.example.com/oauth/register/s6BhdRkqt3","require_auth_time":false,"require_signed_request_object":false,"scope":"","token_endpoint_auth_method":"client_secret_basic"}"#;
    let (adapter, _) = answered("canaille", &[(200, shown)]);
    let shown = now(adapter.read(&target())).unwrap().spec.flatten();
    let names: Vec<&str> = shown.keys().map(|k| k.trim_start_matches("metadata.")).collect();
    assert_eq!(
        names,
        [
            "application_type",
            "client_name",
            "id_token_signed_response_alg",
            "redirect_uris",
            "require_auth_time",
            "require_signed_request_object",
            "token_endpoint_auth_method",
        ]
    );
}

#[test]
fn lemonldap_names_the_wrong_expiry_and_manages_nothing() {
    // measured, 2.16.1; the expiry is 0 there
    let shown = r#"{"client_name":"Self registered client","client_id_expires_at":99,"client_secret":"UHtGmG8H","client_id":"qqtUxsXJ","client_id_issued_at":"1795248870","logo_uri":null,"redirect_uris":["https://a.example/cb"],"id_token_signed_response_alg":"RS256"}"#;
    let (adapter, wire) = answered("lemonldap", &[(201, shown)]);
    let minimal = metadata(json!({ "redirect_uris": ["https://a.example/cb"] }));
    let created = now(adapter.create(&minimal)).unwrap();
    assert_eq!(last(&wire).1, "/oauth2/register");
    assert_eq!(created.value.secret.as_ref().unwrap().expires_at, Some(99));
    assert_eq!(created.value.client_id_issued_at, Some(1_795_248_870), "a text there");
    let security = created.losses.iter().filter(|l| l.severity == Severity::Security && l.is_refusable());
    assert_eq!(security.count(), 0, "a minimal registration needs no allow_loss");
    let error = now(adapter.delete(&created.value.target())).unwrap_err();
    assert!(error.kind() == K::UnsupportedByBackend && error.detail().contains("lemonldap"), "{error}");
}

#[test]
fn trap_38_autional_has_an_envelope_and_keys_in_a_text() {
    let (adapter, wire) = faked("autional");
    let created = now(adapter.create(&full())).unwrap();
    let sent = last(&wire).2;
    assert_eq!(serde_json::from_str::<Value>(sent["jwks"].as_str().unwrap()).unwrap()["keys"][0]["kty"], "EC");
    assert_eq!(loss(&created.losses, "metadata.jwks").kind, LossKind::LocalOnly, "held, never shown");
    // "flat JSON (no code/message envelope)", says another page
    let (adapter, _) = answered("autional", &[(201, &answer(json!({ "client_name": "Portal" })))]);
    assert_eq!(now(adapter.create(&portal())).unwrap().value.spec.metadata.client_name.as_deref(), Some("Portal"));
}

#[test]
fn rauthy_makes_a_secret_with_every_update_and_deletes_nothing() {
    let (adapter, _) = faked("rauthy");
    let created = now(adapter.create(&portal())).unwrap().value;
    let renamed = metadata(json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "Renamed" }));
    let updated = now(adapter.update(&created.target(), &created.spec, &renamed)).unwrap().value;
    let secret =
        |client: &registrar_core::VendorClient| client.secret.as_ref().map(|s| s.value.expose_secret().to_owned());
    assert!(secret(&updated).is_some() && secret(&updated) != secret(&created));
    assert_eq!(now(adapter.delete(&updated.target())).unwrap_err().kind(), K::UnsupportedByBackend);
}

#[test]
fn oidc_provider_adds_defaults_that_are_reported_as_such() {
    // measured, 9.13.3
    let shown = r#"{"application_type":"web","grant_types":["authorization_code"],"id_token_signed_response_alg":"RS256","require_auth_time":false,"response_types":["code"],"subject_type":"public","token_endpoint_auth_method":"client_secret_basic","post_logout_redirect_uris":[],"require_pushed_authorization_requests":false,"dpop_bound_access_tokens":false,"client_id_issued_at":1795247089,"client_id":"6ssIjq3o","client_name":"Portal","client_secret_expires_at":0,"client_secret":"jXYamqwf","redirect_uris":["https://a.example/cb"],"scope":"openid profile","registration_client_uri":"https://server.example.com/reg/6ssIjq3o","registration_access_token":"TfCst2MJ"}"#;
    let (adapter, _) = answered("oidc-provider", &[(201, shown)]);
    let created = now(adapter.create(&portal())).unwrap();
    assert!(created.value.management.is_some());
    assert_eq!(created.value.spec.metadata.token_endpoint_auth_method, Some(AuthMethod::ClientSecretBasic));
    let losses = settle(&portal(), &created.value.spec, created.losses, "oidc-provider");
    assert!(losses.iter().all(|l| l.kind == LossKind::Defaulted), "{losses:?}");
    let object: &dyn Adapter = &*adapter;
    assert_eq!(object.descriptor().kind, "rfc7591");
}
