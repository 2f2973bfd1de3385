use registrar_core::ErrorKind;
use registrar_model::{
    LossKind, Severity,
    account::{account, effective},
};
use serde_json::{Value, json};

use super::support::{CLIENT, client, client_with, loss, now, over_answers, over_fake, portal, shown, spec, target};

#[test]
fn only_what_changes_is_sent() {
    let (adapter, wire) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    let mut wider = portal();
    wider.metadata.initiate_login_uri = Some("https://a.example/login".to_owned());
    now(adapter.update(&created.target(), &created.spec, &wider)).unwrap();
    let put = wire.last();
    assert_eq!((put.method.as_str(), put.path.as_str()), ("PUT", "/v2/manage/oauth-clients/Portal"));
    assert_eq!(put.body, json!({ "LoginUrl": "https://a.example/login" }));
}

#[test]
fn a_record_with_what_only_the_gateway_keeps_changes_nothing() {
    let (adapter, _) = over_fake();
    let sent = client(
        json!({ "client_name": "Acme Portal", "contacts": ["x@a.example"], "backchannel_logout_uri": "https://a.example/back" }),
        json!({
            "AppName": "acme", "ApplicationType": "Web", "ForceReAuthentication": true,
            "BackChannelLogout": { "IsEnabled": true, "LogoutURIs": ["https://a.example/back"], "LogoutTokenTTL": 9 }
        }),
    );
    let created = now(adapter.create(&sent)).unwrap();
    let losses = account(&sent, &created.value.spec, created.losses);
    assert!(losses.iter().all(|l| l.severity == Severity::Info), "{losses:?}");
    let record = effective(&sent, &created.value.spec, &losses).unwrap();
    assert_eq!(record.metadata.client_name.as_deref(), Some("Acme Portal"));
    assert_eq!(record.vendor["loginradius"]["BackChannelLogout"], sent.vendor["loginradius"]["BackChannelLogout"]);
    for current in [&record, &created.value.spec] {
        let plan = adapter.preview_update(&created.value.target(), current, &record).unwrap();
        assert!(plan.value.is_empty(), "{:?}", plan.value);
    }
}

#[test]
fn lifetimes_are_kept_together_and_cannot_be_unset() {
    let (adapter, wire) = over_fake();
    let lifetimes = |policy: Value| {
        spec(
            json!({ "metadata": { "client_name": "Ttl", "redirect_uris": ["https://a.example/cb"] }, "policy": policy }),
        )
    };
    let first =
        lifetimes(json!({ "access_token_lifetime": 60, "id_token_lifetime": 61, "refresh_token_lifetime": 62 }));
    let created = now(adapter.create(&first)).unwrap().value;
    let second = lifetimes(json!({ "access_token_lifetime": 90 }));
    let updated = now(adapter.update(&created.target(), &created.spec, &second)).unwrap();
    // the whole object, because a partial one might reset the rest of it
    let whole = json!({ "JwtTokenConfig": { "Algorithm": "RS256", "TokenTTL": 90, "IdTokenTTL": 61 } });
    assert_eq!(wire.last().body, whole);
    let losses = account(&second, &updated.value.spec, updated.losses);
    for (field, kept) in [("policy.id_token_lifetime", 61), ("policy.refresh_token_lifetime", 62)] {
        let lost = loss(&losses, field);
        assert_eq!((lost.kind, lost.severity), (LossKind::Substituted, Severity::Functional));
        assert_eq!((&lost.wanted, &lost.got), (&Some(Value::Null), &Some(json!(kept))));
    }
}

#[test]
fn a_public_client_can_become_confidential_and_back() {
    let (adapter, wire) = over_fake();
    let with = |method: &str| client(json!({ "client_name": "Flip", "token_endpoint_auth_method": method }), json!({}));
    let created = now(adapter.create(&with("none"))).unwrap().value;
    let updated = now(adapter.update(&created.target(), &created.spec, &with("client_secret_post"))).unwrap().value;
    assert_eq!(wire.last().body, json!({ "TokenAuthMethod": "client_secret_post" }));
    assert!(updated.secret.is_none(), "an update issues no secret; a rotation does");
    let back = now(adapter.update(&updated.target(), &updated.spec, &with("none"))).unwrap().value;
    assert!(back.spec.metadata.is_public());
}

#[test]
fn a_client_with_grants_from_the_console_can_be_put_right() {
    let console = shown(&client_with(json!({ "GrantTypes": ["password"], "LoginRedirectUri": [] }))).spec;
    let adapter = over_answers([(200, CLIENT)]);
    let mut desired = console.clone();
    desired.metadata.redirect_uris = portal().metadata.redirect_uris;
    let error = now(adapter.update(&target(), &console, &desired)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedValue, "its grant has no documented spelling");
    desired.metadata.grant_types = None;
    let plan = adapter.preview_update(&target(), &console, &desired).unwrap();
    let body = json!({ "GrantTypes": ["authorization_code"], "LoginRedirectUri": ["https://a.example/cb"] });
    assert_eq!(plan.value[0].body(), Some(body));
}

#[test]
fn an_update_of_nothing_reads_the_client_again() {
    let (adapter, wire) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    let same = now(adapter.update(&created.target(), &created.spec, &created.spec)).unwrap().value;
    assert_eq!((wire.last().method.as_str(), same.spec), ("GET", created.spec));
}

#[test]
fn an_update_of_a_client_that_is_gone_is_not_found() {
    let (adapter, _) = over_fake();
    let known = shown(CLIENT).spec;
    let mut changed = known.clone();
    changed.metadata.initiate_login_uri = None;
    let error = now(adapter.update(&target(), &known, &changed)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
