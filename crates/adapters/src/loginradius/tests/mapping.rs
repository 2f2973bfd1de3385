use registrar_core::{ErrorKind, Naming};
use registrar_model::{IssueCode, Issues, LossKind, Severity, account::account};
use serde_json::{Value, json};

use super::support::{
    CLIENT, body_of, client, client_with, loss, now, over_answers, over_fake, portal, shown, spec, target,
    with_settings,
};

#[test]
fn the_documented_client_is_read() {
    let read = shown(CLIENT);
    let expected = json!({
        "metadata.redirect_uris": ["https://example.com/login"],
        "metadata.token_endpoint_auth_method": "client_secret_basic",
        "metadata.grant_types": ["authorization_code", "client_credentials"],
        "metadata.response_types": ["code"],
        "metadata.application_type": "web",
        "metadata.client_name": "MyApp",
        "metadata.scope": "openid profile email",
        "metadata.id_token_signed_response_alg": "RS256",
        "metadata.userinfo_signed_response_alg": "RS256",
        "metadata.default_max_age": 0,
        "metadata.initiate_login_uri": "https://example.com/login",
        "metadata.post_logout_redirect_uris": ["https://example.com/logout"],
        "metadata.backchannel_logout_uri": "https://example.com/logout",
        "policy.allowed_cors_origins": ["https://example.com"],
        "policy.allowed_web_origins": ["https://example.com"],
        "policy.access_token_lifetime": 3600,
        "policy.id_token_lifetime": 3600,
        "policy.refresh_token_lifetime": 3600,
        "policy.audiences": ["example-audience"]
    });
    let mut flat = read.spec.flatten();
    flat.retain(|path, _| !path.starts_with("vendor."));
    assert_eq!(json!(flat), expected);
    let mut own: Vec<&str> = read.spec.vendor["loginradius"].keys().map(String::as_str).collect();
    own.sort_unstable();
    let expected = [
        "AccessTokenMappingTemplate",
        "AppName",
        "AudienceScopes",
        "BackChannelLogout",
        "Connections",
        "DeviceCodeConfig",
        "GlobalClient",
        "IdTokenMappingTemplate",
        "Mapping",
        "Metadata",
        "TokenWebOriginMatch",
    ];
    assert_eq!(own, expected);
}

#[test]
fn t02_the_name_may_be_chosen_and_is_checked() {
    let (adapter, wire) = over_fake();
    let named = client(json!({ "client_name": "Acme Portal" }), json!({ "AppName": "acme_1" }));
    let created = now(adapter.create(&named)).unwrap();
    assert_eq!((created.value.vendor_ref.as_str(), &wire.last().body["AppName"]), ("acme_1", &json!("acme_1")));
    let losses = account(&named, &created.value.spec, created.losses);
    let lost = loss(&losses, "metadata.client_name");
    assert_eq!((lost.kind, lost.severity), (LossKind::LocalOnly, Severity::Info));
    assert!(losses.iter().all(|l| l.field != "vendor.loginradius.AppName"), "it is as it was asked");
    let long = "a".repeat(256);
    for bad in ["a/b", "a b", "\u{e9}", ".", "..", "-a", ".a", "credentials", "CREDENTIALS", "a%2f", long.as_str()] {
        let named = client(json!({}), json!({ "AppName": bad }));
        let mut issues = Issues::new();
        adapter.validate_vendor(&named, &mut issues);
        assert_eq!(issues.as_slice()[0].pointer.as_str(), "#/vendor/loginradius/AppName", "{bad:?}");
        assert_eq!(adapter.preview(&named).unwrap_err().kind(), ErrorKind::Validation, "{bad:?}");
    }
}

#[test]
fn t03_the_secret_is_a_value_of_its_own_and_public_clients_get_none() {
    let (adapter, _) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(created.secret.map(|s| s.expires_at), Some(Some(0)));
    // the vendor's object always has one: it is discarded
    let public = client(json!({ "client_name": "Public", "token_endpoint_auth_method": "none" }), json!({}));
    let created = now(adapter.create(&public)).unwrap().value;
    assert!(created.secret.is_none() && created.spec.metadata.is_public());
    // asked for a public client, got a confidential one: its secret is its secret
    let adapter = over_answers([(200, CLIENT)]);
    assert!(now(adapter.create(&public)).unwrap().value.secret.is_some());
    for without in [json!({ "ClientSecret": null }), json!({ "ClientSecret": "" })] {
        let adapter = over_answers([(201, &*client_with(without))]);
        let created = now(adapter.create(&portal())).unwrap();
        assert!(created.value.secret.is_none());
        assert_eq!(crate::harness::loss(&created.losses, "client_secret").severity, Severity::Functional);
    }
}

#[test]
fn t04_created_date_becomes_unix_seconds() {
    assert_eq!(shown(CLIENT).client_id_issued_at, Some(1_696_161_600));
    for unusable in [json!(null), json!(""), json!("yesterday")] {
        assert_eq!(shown(&client_with(json!({ "CreatedDate": unusable }))).client_id_issued_at, None);
    }
}

#[test]
fn t06_none_basic_and_post_pass_and_anything_else_is_a_security_loss() {
    const FIELD: &str = "metadata.token_endpoint_auth_method";
    let (adapter, _) = over_fake();
    for method in ["none", "client_secret_basic", "client_secret_post"] {
        let plan = adapter.preview(&client(json!({ "token_endpoint_auth_method": method }), json!({}))).unwrap();
        assert_eq!(plan.value[0].body().unwrap()["TokenAuthMethod"], method);
        assert!(plan.losses.iter().all(|l| l.field != FIELD));
    }
    // the standard's own default, sent so that it is certain
    let plan = adapter.preview(&portal()).unwrap();
    assert_eq!(plan.value[0].body().unwrap()["TokenAuthMethod"], "client_secret_basic");
    assert!(plan.losses.iter().all(|l| l.field != FIELD));
    for metadata in [
        json!({ "token_endpoint_auth_method": "client_secret_jwt" }),
        json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks" }),
        json!({ "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "a.example" }),
    ] {
        let plan = adapter.preview(&client(metadata, json!({}))).unwrap();
        assert_eq!(plan.value[0].body().unwrap()["TokenAuthMethod"], "client_secret_basic");
        let lost = loss(&plan.losses, FIELD);
        assert_eq!((lost.kind, lost.severity), (LossKind::Substituted, Severity::Security));
        assert_eq!(lost.got, Some(json!("client_secret_basic")));
    }
}

#[test]
fn grants_without_a_documented_spelling_are_left_out() {
    let (adapter, wire) = over_fake();
    let known = [
        "authorization_code",
        "client_credentials",
        "refresh_token",
        "implicit",
        "urn:ietf:params:oauth:grant-type:device_code",
    ];
    let all =
        client(json!({ "client_name": "All", "grant_types": known, "response_types": ["code", "token"] }), json!({}));
    let created = now(adapter.create(&all)).unwrap().value;
    assert_eq!(created.spec.metadata.grant_types, all.metadata.grant_types);
    let unknown = client(
        json!({ "grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:token-exchange", "x"] }),
        json!({}),
    );
    let created = now(adapter.create(&unknown)).unwrap();
    assert_eq!(wire.sent()[1].body["GrantTypes"], json!(["authorization_code"]));
    let lost = loss(&created.losses, "metadata.grant_types");
    assert_eq!((lost.kind, lost.severity), (LossKind::Narrowed, Severity::Functional));
    // a refresh token comes with another grant only
    let nothing = client(json!({ "grant_types": ["x", "refresh_token"] }), json!({}));
    let error = now(adapter.create(&nothing)).unwrap_err();
    assert_eq!(
        (error.kind(), error.issues()[0].pointer.as_str()),
        (ErrorKind::UnsupportedValue, "#/metadata/grant_types")
    );
    assert_eq!(wire.sent().len(), 2);
}

#[test]
fn t09_response_types_follow_from_the_grants() {
    const FIELD: &str = "metadata.response_types";
    let (adapter, _) = over_fake();
    let both = json!(["authorization_code", "implicit"]);
    for (grants, asked, kind, got) in [
        (json!(["authorization_code"]), json!(["code"]), None, None),
        (json!(["authorization_code"]), Value::Null, None, None),
        (both.clone(), json!(["token", "code"]), None, None),
        (both.clone(), json!(["code"]), Some(LossKind::Substituted), Some(json!(["code", "token"]))),
        (both.clone(), json!(["code", "token", "id_token"]), Some(LossKind::Narrowed), Some(json!(["code", "token"]))),
        (json!(["implicit"]), json!(["id_token token"]), Some(LossKind::Substituted), Some(json!(["token"]))),
        (json!(["client_credentials"]), Value::Null, None, None),
        (json!(["client_credentials"]), json!(["none"]), Some(LossKind::Dropped), None),
    ] {
        let sent = client(json!({ "grant_types": grants, "response_types": asked }), json!({}));
        let losses = adapter.preview(&sent).unwrap().losses;
        let lost = losses.iter().find(|l| l.field == FIELD);
        assert_eq!((lost.map(|l| l.kind), lost.and_then(|l| l.got.clone())), (kind, got), "{grants} {asked}");
    }
}

#[test]
fn t10_scope_is_an_array_on_the_wire_and_a_space_in_it_is_never_joined_in() {
    let (adapter, _) = over_fake();
    assert_eq!(body_of(&*adapter, &portal())["AllowedScopes"], json!(["openid", "profile"]));
    assert_eq!(body_of(&*adapter, &client(json!({}), json!({}))).get("AllowedScopes"), None);
    let adapter = over_answers([(200, &*client_with(json!({ "AllowedScopes": ["openid admin"] })))]);
    let read = now(adapter.read(&target())).unwrap();
    assert_eq!((read.spec.metadata.scope, &*read.unread[0].field), (None, "metadata.scope"));
}

#[test]
fn t14_application_types_and_their_spellings() {
    let (adapter, wire) = over_fake();
    for (canonical, spelling) in [("web", "Web"), ("native", "Native")] {
        let sent = client(json!({ "client_name": canonical, "application_type": canonical }), json!({}));
        let created = now(adapter.create(&sent)).unwrap().value;
        assert_eq!(wire.last().body["ApplicationType"], spelling);
        assert_eq!(created.spec.metadata.application_type.as_deref(), Some(canonical));
        assert!(!created.spec.vendor["loginradius"].contains_key("ApplicationType"));
    }
    assert_eq!(body_of(&*adapter, &portal()).get("ApplicationType"), None);

    let page = shown(&client_with(json!({ "ApplicationType": "SPA" }))).spec;
    assert_eq!(page.metadata.application_type.as_deref(), Some("web"));
    assert_eq!(page.vendor["loginradius"]["ApplicationType"], "SPA");
    assert!(adapter.preview_update(&target(), &page, &page).unwrap().value.is_empty());
    let other = shown(&client_with(json!({ "ApplicationType": "Machine" }))).spec;
    assert_eq!(other.metadata.application_type, None);
    assert_eq!(other.vendor["loginradius"]["ApplicationType"], "Machine");
    let contradiction = client(json!({ "application_type": "native" }), json!({ "ApplicationType": "SPA" }));
    let error = adapter.preview(&contradiction).unwrap_err();
    assert_eq!(error.issues()[0].code, IssueCode::Conflict);

    let (adapter, _) = with_settings(json!({ "application_types": { "native": "Native App" } }));
    let native = client(json!({ "application_type": "native" }), json!({}));
    assert_eq!(body_of(&*adapter, &native)["ApplicationType"], "Native App");
}

#[test]
fn t15_signed_user_info_is_rs256_or_nothing() {
    const FIELD: &str = "metadata.userinfo_signed_response_alg";
    let (adapter, _) = over_fake();
    assert_eq!(body_of(&*adapter, &portal()).get("SignedUserInfo"), None);
    for (alg, lost) in [("RS256", false), ("PS256", true)] {
        let plan = adapter.preview(&client(json!({ "userinfo_signed_response_alg": alg }), json!({}))).unwrap();
        assert_eq!(plan.value[0].body().unwrap()["SignedUserInfo"], true);
        assert_eq!(plan.losses.iter().any(|l| l.field == FIELD), lost);
        if lost {
            let lost = loss(&plan.losses, FIELD);
            assert_eq!(
                (lost.kind, lost.severity, &lost.got),
                (LossKind::Substituted, Severity::Security, &Some(json!("RS256")))
            );
        }
    }
    let unsigned = shown(&client_with(json!({ "SignedUserInfo": false }))).spec;
    assert_eq!(unsigned.metadata.userinfo_signed_response_alg, None);
}

#[test]
fn id_tokens_are_signed_with_rs256_only() {
    const FIELD: &str = "metadata.id_token_signed_response_alg";
    let (adapter, _) = over_fake();
    assert_eq!(body_of(&*adapter, &portal()).get("JwtTokenConfig"), None);
    let plan = adapter.preview(&client(json!({ "id_token_signed_response_alg": "RS256" }), json!({}))).unwrap();
    assert_eq!(plan.value[0].body().unwrap()["JwtTokenConfig"], json!({ "Algorithm": "RS256" }));
    assert!(plan.losses.iter().all(|l| l.field != FIELD));
    let plan = adapter.preview(&client(json!({ "id_token_signed_response_alg": "ES256" }), json!({}))).unwrap();
    assert_eq!(plan.value[0].body().unwrap()["JwtTokenConfig"], json!({ "Algorithm": "RS256" }));
    let lost = loss(&plan.losses, FIELD);
    assert_eq!(
        (lost.kind, lost.severity, &lost.got),
        (LossKind::Substituted, Severity::Security, &Some(json!("RS256")))
    );
}

#[test]
fn t16_only_a_max_age_of_zero_has_a_place() {
    const FIELD: &str = "metadata.default_max_age";
    let (adapter, _) = over_fake();
    let plan = adapter.preview(&client(json!({ "default_max_age": 0 }), json!({}))).unwrap();
    assert_eq!(plan.value[0].body().unwrap()["ForceReAuthentication"], true);
    assert!(plan.losses.iter().all(|l| l.field != FIELD));
    let plan = adapter.preview(&client(json!({ "default_max_age": 300 }), json!({}))).unwrap();
    assert_eq!(plan.value[0].body().unwrap().get("ForceReAuthentication"), None);
    let lost = loss(&plan.losses, FIELD);
    assert_eq!((lost.kind, lost.severity, &lost.got), (LossKind::Dropped, Severity::Security, &None));
    let never = shown(&client_with(json!({ "ForceReAuthentication": false }))).spec;
    assert_eq!(never.metadata.default_max_age, None);

    for (age, forced) in [(0, false), (300, true)] {
        let contradiction = client(json!({ "default_max_age": age }), json!({ "ForceReAuthentication": forced }));
        assert_eq!(adapter.preview(&contradiction).unwrap_err().issues()[0].code, IssueCode::Conflict);
    }
}

#[test]
fn t17_one_logout_uri_is_canonical_and_everything_else_stays_in_the_vendor_object() {
    let read = |logout: Value| {
        let mut spec = shown(&client_with(json!({ "BackChannelLogout": null }))).spec;
        assert!(!spec.vendor["loginradius"].contains_key("BackChannelLogout"));
        let mut wire: Value = serde_json::from_str(CLIENT).unwrap();
        wire["BackChannelLogout"] = logout;
        spec = shown(&wire.to_string()).spec;
        (spec.metadata.backchannel_logout_uri, spec.vendor["loginradius"].get("BackChannelLogout").cloned())
    };
    let (a, b) = ("https://a.example/back", "https://b.example/back");
    let both = json!({ "IsEnabled": true, "LogoutURIs": [a, b], "LogoutTokenTTL": 5 });
    let off = json!({ "IsEnabled": false, "LogoutURIs": [a] });
    assert_eq!(read(json!({ "IsEnabled": true, "LogoutURIs": [a] })), (Some(a.to_owned()), None));
    assert_eq!(
        read(json!({ "IsEnabled": true, "LogoutURIs": [a], "LogoutTokenTTL": 5 })),
        (Some(a.to_owned()), Some(json!({ "LogoutTokenTTL": 5 })))
    );
    assert_eq!(read(both.clone()), (Some(a.to_owned()), Some(both.clone())));
    assert_eq!(read(off.clone()), (None, Some(off.clone())));
    assert_eq!(
        read(json!({ "IsEnabled": false, "LogoutURIs": [], "LogoutTokenTTL": 5 })),
        (None, Some(json!({ "LogoutTokenTTL": 5 })))
    );
    assert_eq!(read(json!({ "IsEnabled": false, "LogoutURIs": null })), (None, None));
    assert_eq!(read(json!({ "IsEnabled": true })), (None, Some(json!({ "IsEnabled": true }))));

    // what was read can be sent back, and gives the same wire object
    let (adapter, _) = over_fake();
    let same = client(json!({ "backchannel_logout_uri": a }), json!({ "BackChannelLogout": both }));
    assert_eq!(body_of(&*adapter, &same)["BackChannelLogout"], both);
    assert_eq!(body_of(&*adapter, &client(json!({}), json!({ "BackChannelLogout": off })))["BackChannelLogout"], off);
    for contradiction in [off, json!({ "LogoutURIs": [b] }), json!({ "LogoutURIs": [b, a] })] {
        let sent = client(json!({ "backchannel_logout_uri": a }), json!({ "BackChannelLogout": contradiction }));
        let error = adapter.preview(&sent).unwrap_err();
        assert_eq!((error.kind(), error.issues()[0].code), (ErrorKind::Validation, IssueCode::Conflict));
    }
    let inside = client(json!({}), json!({ "BackChannelLogout": { "LogoutURIs": ["http://169.254.169.254/x"] } }));
    let error = adapter.preview(&inside).unwrap_err();
    assert_eq!(error.issues()[0].pointer.as_str(), "#/vendor/loginradius/BackChannelLogout/LogoutURIs/0");
}

#[test]
fn t18_the_cors_list_goes_with_its_switch() {
    let (adapter, _) = over_fake();
    let origins = |list: Value| {
        spec(
            json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "policy": { "allowed_cors_origins": list } }),
        )
    };
    let body = body_of(&*adapter, &origins(json!(["https://a.example"])));
    assert_eq!((&body["AllowedCorsOrigin"], &body["EnableCorsOrigin"]), (&json!(["https://a.example"]), &json!(true)));
    let body = body_of(&*adapter, &origins(json!([])));
    assert!(body.get("AllowedCorsOrigin").is_none() && body.get("EnableCorsOrigin").is_none());

    // a list whose switch is off lets nobody in
    let off = shown(&client_with(json!({ "EnableCorsOrigin": false }))).spec;
    assert_eq!(off.policy.allowed_cors_origins, None);
    assert_eq!(off.vendor["loginradius"]["AllowedCorsOrigin"], json!(["https://example.com"]));
    assert!(adapter.preview_update(&target(), &off, &off).unwrap().value.is_empty());
    let mut on = off.clone();
    on.policy.allowed_cors_origins = Some(vec!["https://a.example".to_owned()]);
    assert_eq!(adapter.preview_update(&target(), &off, &on).unwrap_err().issues()[0].code, IssueCode::Conflict);
    on.vendor.get_mut("loginradius").unwrap().remove("AllowedCorsOrigin");
    let body = adapter.preview_update(&target(), &off, &on).unwrap().value.remove(0).body().unwrap();
    assert_eq!(body, json!({ "AllowedCorsOrigin": ["https://a.example"], "EnableCorsOrigin": true }));
}

#[test]
fn the_vendors_own_members_travel_both_ways() {
    let (adapter, wire) = over_fake();
    let documented: Value = serde_json::from_str(CLIENT).unwrap();
    let names = [
        "AccessTokenMappingTemplate",
        "AudienceScopes",
        "Connections",
        "DeviceCodeConfig",
        "GlobalClient",
        "IdTokenMappingTemplate",
        "Mapping",
        "Metadata",
        "TokenWebOriginMatch",
    ];
    let own: Value = names.iter().map(|n| ((*n).to_owned(), documented[*n].clone())).collect();
    let sent = client(json!({ "client_name": "Both" }), own.clone());
    let created = now(adapter.create(&sent)).unwrap();
    for name in names {
        assert_eq!(wire.last().body[name], documented[name]);
    }
    let mut shown = created.value.spec.vendor["loginradius"].clone();
    assert_eq!(shown.remove("AppName"), Some(json!("Both")));
    assert_eq!(Value::Object(shown), own);
    let losses = account(&sent, &created.value.spec, created.losses);
    let vendors: Vec<&str> = losses.iter().map(|l| &*l.field).filter(|f| f.starts_with("vendor.")).collect();
    assert_eq!(vendors, ["vendor.loginradius.AppName"]);
}

#[test]
fn the_vendors_own_members_are_checked_by_type_and_all_at_once() {
    let (adapter, _) = over_fake();
    let bad = json!({
        "AccessTokenMappingTemplate": 1,
        "AudienceScopes": { "api": ["a", 1] },
        "Connections": { "Enabled": "yes", "SocialLogins": [{ "ProviderName": 1 }], "CustomIdp": {} },
        "DeviceCodeConfig": { "DeviceCodeExpire": -1, "VerificationUrl": "javascript:alert(1)" },
        "ForceReAuthentication": "true",
        "GlobalClient": 1,
        "GrantTypes": ["password"],
        "JwtTokenConfig": { "Algorithm": "HS256" },
        "LoginRedirectUri": [],
        "Mapping": { "a": 1 },
        "Metadata": ["a"],
        "RedirectURIExactMatch": 0
    });
    let mut issues = Issues::new();
    adapter.validate_vendor(&client(json!({}), bad), &mut issues);
    let mut at: Vec<String> =
        issues.into_vec().into_iter().map(|i| i.pointer.as_str().replace("#/vendor/loginradius/", "")).collect();
    at.sort_unstable();
    let expected = [
        "AccessTokenMappingTemplate",
        "AudienceScopes/api/1",
        "Connections/CustomIdp",
        "Connections/Enabled",
        "Connections/SocialLogins/0/ProviderName",
        "DeviceCodeConfig/DeviceCodeExpire",
        "DeviceCodeConfig/VerificationUrl",
        "ForceReAuthentication",
        "GlobalClient",
        "GrantTypes",
        "JwtTokenConfig/Algorithm",
        "Mapping/a",
        "Metadata",
        "RedirectURIExactMatch",
    ];
    assert_eq!(at, expected);
    let mut issues = Issues::new();
    adapter.validate_vendor(&client(json!({}), shown_members()), &mut issues);
    assert!(issues.is_empty(), "what a read shows is acceptable: {issues:?}");
}

fn shown_members() -> Value {
    Value::Object(shown(CLIENT).spec.vendor["loginradius"].clone())
}

#[test]
fn the_descriptor_names_every_member_that_is_taken() {
    let (adapter, _) = over_fake();
    let described: Vec<&str> = adapter.descriptor().vendor_members.iter().map(|(name, _)| *name).collect();
    let taken: Vec<&str> = super::super::members::TAKEN.iter().map(|(name, _)| *name).collect();
    assert_eq!(described, taken);
}

#[test]
fn what_has_no_place_is_reported_by_its_weight() {
    let (adapter, _) = over_fake();
    let sent = spec(json!({
        "metadata": {
            "redirect_uris": ["https://a.example/cb"], "client_uri": "https://a.example", "client_name#fr": "Portail",
            "jwks_uri": "https://a.example/jwks", "dpop_bound_access_tokens": true, "require_auth_time": false,
            "frontchannel_logout_uri": "https://a.example/front"
        },
        "policy": { "enabled": false, "tenant": "123456", "first_party": false },
        "vendor": { "elsewhere": { "x": 1 } }
    }));
    let losses = adapter.preview(&sent).unwrap().losses;
    for (field, kind, severity) in [
        ("metadata.client_uri", LossKind::LocalOnly, Severity::Info),
        ("metadata.client_name#fr", LossKind::LocalOnly, Severity::Info),
        // nothing uses them
        ("metadata.jwks_uri", LossKind::Dropped, Severity::Functional),
        ("metadata.dpop_bound_access_tokens", LossKind::Dropped, Severity::Security),
        ("metadata.require_auth_time", LossKind::LocalOnly, Severity::Info),
        ("metadata.frontchannel_logout_uri", LossKind::Dropped, Severity::Functional),
        ("policy.enabled", LossKind::Dropped, Severity::Security),
        ("policy.tenant", LossKind::Dropped, Severity::Functional),
        ("policy.first_party", LossKind::LocalOnly, Severity::Info),
        ("vendor.elsewhere.x", LossKind::LocalOnly, Severity::Info),
    ] {
        let lost = loss(&losses, field);
        assert_eq!((lost.kind, lost.severity), (kind, severity), "{field}");
    }
    let enabled =
        spec(json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] }, "policy": { "enabled": true } }));
    assert_eq!(loss(&adapter.preview(&enabled).unwrap().losses, "policy.enabled").severity, Severity::Info);
}

#[test]
fn t02_a_marked_name_is_distinct_within_the_limit_and_a_fixed_one_stays() {
    let (adapter, _) = over_fake();
    let name = |spec: &registrar_model::ClientSpec, naming| {
        let plan = adapter.preview_as(spec, naming).unwrap();
        plan.value[0].body().unwrap()["AppName"].as_str().unwrap().to_owned()
    };
    let portal = client(json!({ "client_name": "Acme Portal" }), json!({}));
    assert_eq!(name(&portal, Naming::Plain), "Acme-Portal");
    assert_eq!(name(&portal, Naming::Distinct("abcdefghijkl")), "Acme-Portal-abcdefghijkl");
    let long = client(json!({ "client_name": "a".repeat(255) }), json!({}));
    assert_eq!(name(&long, Naming::Distinct("abcdefghijkl")), format!("{}-abcdefghijkl", "a".repeat(242)));
    let nameless = client(json!({}), json!({}));
    assert_eq!(name(&nameless, Naming::Distinct("abcdefghijkl")), "a.example-abcdefghijkl");
    let fixed = client(json!({ "client_name": "Acme Portal" }), json!({ "AppName": "acme" }));
    assert_eq!(name(&fixed, Naming::Distinct("abcdefghijkl")), "acme");
    let mapped = adapter.preview_as(&portal, Naming::Distinct("abcdefghijkl")).unwrap();
    let lost = loss(&mapped.losses, "metadata.client_name");
    assert_eq!((lost.kind, lost.wanted.clone()), (LossKind::LocalOnly, Some(json!("Acme Portal"))));
}
