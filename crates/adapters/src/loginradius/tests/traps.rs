use registrar_core::{ErrorKind, ExposeSecret as _, Outcome};
use registrar_model::{LossKind, Severity, account::account};
use serde_json::{Value, json};

use super::support::{
    CLIENT, body_of, client, client_with, loss, now, over_answers, over_fake, portal, shown, spec, target,
};

#[test]
fn trap_01_redirect_uris_are_arrays() {
    let (adapter, _) = over_fake();
    let body =
        body_of(&*adapter, &client(json!({ "post_logout_redirect_uris": ["https://a.example/bye"] }), json!({})));
    assert_eq!(body["LoginRedirectUri"], json!(["https://a.example/cb"]));
    assert_eq!(body["LogoutRedirectUri"], json!(["https://a.example/bye"]));
}

#[test]
fn trap_05_the_rotated_secret_is_at_the_top_level() {
    let (adapter, wire) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    let first = created.secret.as_ref().unwrap().value.expose_secret().to_owned();
    let rotated = now(adapter.rotate_secret(&created.target())).unwrap();
    assert_ne!(rotated.value.expose_secret(), first);
    let truth = wire.first_client();
    assert_eq!(truth["ClientSecret"], rotated.value.expose_secret());
    assert_eq!(
        (wire.last().method.as_str(), wire.last().path.as_str()),
        ("PUT", "/v2/manage/oauth-clients/credentials/Portal")
    );
    for without in [
        r#"{"ClientId":"123e4567-e89b-12d3-a456-426614174000"}"#,
        r#"{"ClientId":"123e4567-e89b-12d3-a456-426614174000","ClientSecret":""}"#,
    ] {
        let adapter = over_answers([(200, without)]);
        let error = now(adapter.rotate_secret(&target())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamMalformed, Outcome::Unknown));
    }
}

#[test]
fn trap_07_the_client_id_is_neither_app_id_nor_app_name() {
    let read = shown(CLIENT);
    assert_eq!(read.client_id.as_str(), "123e4567-e89b-12d3-a456-426614174000");
    assert_eq!(read.vendor_ref, "MyApp");
    let text = format!("{:?}", read.spec);
    assert!(!text.contains("123456") && !text.contains("AppId"), "the id of the site is nowhere: {text}");
}

#[test]
fn trap_08_the_key_is_a_safe_name_made_from_client_name() {
    let (adapter, _) = over_fake();
    for (wanted, app_name) in [
        ("Portal", "Portal"),
        ("my_app.v2-x", "my_app.v2-x"),
        ("Acme Portal", "Acme-Portal"),
        ("  Acme -- Portal!  ", "Acme-Portal"),
        ("a/b?c#d%2e", "a-b-c-d-2e"),
        ("../../etc", "etc"),
        ("Caf\u{e9} 7", "Caf-7"),
        // nothing usable is left: the host of the first redirect URI
        ("\u{65e5}\u{672c}", "a.example"),
        ("..", "a.example"),
        ("credentials", "a.example"),
        ("Credentials", "a.example"),
        (" credentials ", "a.example"),
    ] {
        let plan = adapter.preview(&client(json!({ "client_name": wanted }), json!({}))).unwrap();
        assert_eq!(plan.value[0].body().unwrap()["AppName"], app_name, "{wanted:?}");
        if wanted == app_name {
            assert!(plan.losses.iter().all(|l| l.field != "metadata.client_name"));
        } else {
            let lost = loss(&plan.losses, "metadata.client_name");
            assert_eq!((lost.kind, lost.severity), (LossKind::LocalOnly, Severity::Info));
            assert_eq!((&lost.wanted, &lost.got), (&Some(json!(wanted)), &Some(json!(app_name))));
        }
    }
    for (redirect, app_name) in [
        ("https://app.example.com/cb", "app.example.com"),
        ("com.example.app:/cb", "com.example.app"),
        ("http://[::1]:8080/cb", "1"),
        // the one word that the API uses itself
        ("credentials:/cb", "client-credentials"),
    ] {
        let unnamed = spec(json!({ "metadata": { "redirect_uris": [redirect] } }));
        let plan = adapter.preview(&unnamed).unwrap();
        assert_eq!(plan.value[0].body().unwrap()["AppName"], app_name);
        assert_eq!(loss(&plan.losses, "metadata.client_name").kind, LossKind::Defaulted);
    }
}

#[test]
fn trap_08_paths_have_the_name_and_a_new_name_does_not_rename() {
    let (adapter, wire) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    now(adapter.read(&created.target())).unwrap();
    assert_eq!(wire.last().path, "/v2/manage/oauth-clients/Portal");

    let mut renamed = portal();
    renamed.metadata.client_name = Some("Shop".to_owned());
    let updated = now(adapter.update(&created.target(), &created.spec, &renamed)).unwrap();
    assert!(wire.sent().iter().all(|sent| sent.method != "PUT"), "nothing but the name changes, so nothing is written");
    assert_eq!(updated.value.vendor_ref, "Portal");
    let losses = account(&renamed, &updated.value.spec, updated.losses);
    let lost = loss(&losses, "metadata.client_name");
    assert_eq!((lost.kind, lost.severity, &lost.got), (LossKind::LocalOnly, Severity::Info, &Some(json!("Portal"))));
    assert!(lost.reason.contains("renaming"), "{}", lost.reason);

    let moved = client(json!({ "client_name": "Portal" }), json!({ "AppName": "Shop" }));
    let error = now(adapter.update(&created.target(), &created.spec, &moved)).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::UnsupportedByBackend, Outcome::NotPerformed));
    assert_eq!(error.issues()[0].pointer.as_str(), "#/vendor/loginradius/AppName");
}

#[test]
fn trap_09_t05_an_empty_redirect_list_is_refused_and_exact_match_always_sent() {
    let (adapter, wire) = over_fake();
    for body in [
        json!({ "metadata": { "grant_types": ["client_credentials"] } }),
        json!({ "metadata": { "grant_types": ["client_credentials"], "redirect_uris": [] } }),
    ] {
        let error = now(adapter.create(&spec(body))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedByBackend);
        assert_eq!(error.issues()[0].pointer.as_str(), "#/metadata/redirect_uris");
    }
    assert!(wire.sent().is_empty());
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(wire.last().body["RedirectURIExactMatch"], true);
    let machine = spec(json!({ "metadata": { "grant_types": ["client_credentials"] } }));
    assert!(now(adapter.update(&created.target(), &created.spec, &machine)).is_err());
    assert_eq!(wire.sent().len(), 1);
}

#[test]
fn trap_09_loose_matching_is_shown_and_put_right_by_the_next_write() {
    let loose = shown(&client_with(json!({ "RedirectURIExactMatch": false })));
    assert_eq!(loose.spec.vendor["loginradius"]["RedirectURIExactMatch"], false);
    assert!(!shown(CLIENT).spec.vendor["loginradius"].contains_key("RedirectURIExactMatch"));

    let (adapter, _) = over_fake();
    let plan = adapter.preview_update(&target(), &loose.spec, &loose.spec).unwrap();
    assert_eq!(plan.value[0].body(), Some(json!({ "RedirectURIExactMatch": true })));
    let lost = loss(&plan.losses, "vendor.loginradius.RedirectURIExactMatch");
    assert_eq!((lost.kind, lost.severity, &lost.got), (LossKind::Narrowed, Severity::Functional, &None));
}

#[test]
fn trap_10_metadata_is_emitted_in_id_tokens_and_so_only_the_caller_writes_it() {
    let (adapter, _) = over_fake();
    let rich = client(
        json!({ "client_name": "Rich Client", "contacts": ["x@a.example"], "software_id": "s", "client_uri": "https://a.example" }),
        json!({}),
    );
    assert_eq!(body_of(&*adapter, &rich).get("Metadata"), None);
    let own = client(json!({}), json!({ "Metadata": { "team": "red" } }));
    assert_eq!(body_of(&*adapter, &own)["Metadata"], json!({ "team": "red" }));
}

#[test]
fn trap_11_the_two_spellings_of_the_protocol_are_no_difference() {
    let (adapter, wire) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    assert_eq!(wire.last().body["Protocol"], "OAuth 2.0");
    assert_eq!(wire.first_client()["Protocol"], "OAuth2");
    assert!(!format!("{:?}", created.spec).contains("OAuth2"));
    let again = adapter.preview_update(&created.target(), &created.spec, &created.spec).unwrap();
    assert!(again.value.is_empty(), "{:?}", again.value);
}

#[test]
fn trap_12_the_misspelt_intiators_travel_both_ways_and_the_right_spelling_is_refused() {
    let (adapter, wire) = over_fake();
    let logout = json!({
        "LogoutInitiator": { "Mode": "RPInitiated", "Intiators": { "RPLogout": true, "AccountDelete": false } },
        "LogoutTokenTTL": 60
    });
    let sent =
        client(json!({ "backchannel_logout_uri": "https://a.example/bye" }), json!({ "BackChannelLogout": logout }));
    let created = now(adapter.create(&sent)).unwrap().value;
    assert_eq!(wire.last().body["BackChannelLogout"]["LogoutInitiator"], logout["LogoutInitiator"]);
    assert_eq!(created.spec.vendor["loginradius"]["BackChannelLogout"], logout);
    assert_eq!(created.spec.metadata.backchannel_logout_uri.as_deref(), Some("https://a.example/bye"));

    let corrected = json!({ "BackChannelLogout": { "LogoutInitiator": { "Initiators": {} } } });
    let error = now(adapter.create(&client(json!({}), corrected))).unwrap_err();
    assert_eq!(error.issues()[0].pointer.as_str(), "#/vendor/loginradius/BackChannelLogout/LogoutInitiator/Initiators");
    assert_eq!(wire.sent().len(), 1);
}

#[test]
fn trap_21_what_the_caller_removes_is_cleared_and_not_left_out() {
    let (adapter, wire) = over_fake();
    let full = spec(json!({
        "metadata": {
            "client_name": "Full", "redirect_uris": ["https://a.example/cb"], "scope": "openid profile",
            "post_logout_redirect_uris": ["https://a.example/bye"], "initiate_login_uri": "https://a.example/login",
            "backchannel_logout_uri": "https://a.example/back", "userinfo_signed_response_alg": "RS256",
            "default_max_age": 0, "application_type": "native"
        },
        "policy": { "allowed_cors_origins": ["https://a.example"], "allowed_web_origins": ["https://a.example"], "audiences": ["api"] },
        "vendor": { "loginradius": { "Mapping": { "a": "b" }, "IdTokenMappingTemplate": "{}", "GlobalClient": true } }
    }));
    let created = now(adapter.create(&full)).unwrap().value;
    let bare = client(json!({ "client_name": "Full" }), json!({}));
    let updated = now(adapter.update(&created.target(), &created.spec, &bare)).unwrap();
    assert_eq!(
        wire.last().body,
        json!({
            "AllowedScopes": [], "LogoutRedirectUri": [], "LoginUrl": "", "SignedUserInfo": false,
            "ForceReAuthentication": false, "ApplicationType": "Web",
            "BackChannelLogout": { "IsEnabled": false, "LogoutURIs": [] },
            "AllowedCorsOrigin": [], "EnableCorsOrigin": false, "AllowedWebOrigin": [], "IdTokenAudiences": [],
            "Mapping": {}, "IdTokenMappingTemplate": "", "GlobalClient": false
        })
    );
    // what a client shows that never had any of it, but for the type, which is said now
    let mut expected = now(over_fake().0.create(&bare)).unwrap().value.spec;
    expected.metadata.application_type = Some("web".to_owned());
    assert_eq!(updated.value.spec, expected);
}

#[test]
fn trap_26_the_old_secret_has_no_grace() {
    let (adapter, _) = over_fake();
    let created = now(adapter.create(&portal())).unwrap().value;
    let rotated = now(adapter.rotate_secret(&created.target())).unwrap();
    assert_eq!((rotated.expires_at, rotated.previous_valid_until), (Some(0), None));
}

#[test]
fn trap_27_a_global_client_cannot_rotate() {
    let (adapter, _) = over_fake();
    let global = client(json!({ "client_name": "Global" }), json!({ "GlobalClient": true }));
    let created = now(adapter.create(&global)).unwrap().value;
    let error = now(adapter.rotate_secret(&created.target())).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::UnsupportedByBackend, Outcome::NotPerformed));
    assert_eq!(error.vendor().unwrap().code.as_deref(), Some("8014"));
    assert!(error.detail().contains("GlobalClient"), "{}", error.detail());
}

#[test]
fn trap_31_absent_grants_are_not_all_grants() {
    let (adapter, _) = over_fake();
    let plan = adapter.preview(&portal()).unwrap();
    assert_eq!(plan.value[0].body().unwrap()["GrantTypes"], json!(["authorization_code"]));
    assert!(plan.losses.iter().all(|l| l.field != "metadata.grant_types"), "the standard's own default");
}

#[test]
fn trap_33_every_name_is_cased_as_the_vendor_cases_it() {
    let (adapter, _) = over_fake();
    let everything = spec(json!({
        "metadata": {
            "client_name": "All", "redirect_uris": ["https://a.example/cb"], "scope": "openid", "application_type": "native",
            "grant_types": ["authorization_code"], "token_endpoint_auth_method": "client_secret_post",
            "post_logout_redirect_uris": ["https://a.example/bye"], "initiate_login_uri": "https://a.example/login",
            "backchannel_logout_uri": "https://a.example/back", "default_max_age": 0,
            "id_token_signed_response_alg": "RS256", "userinfo_signed_response_alg": "RS256"
        },
        "policy": {
            "allowed_cors_origins": ["https://a.example"], "allowed_web_origins": ["https://b.example"],
            "access_token_lifetime": 60, "id_token_lifetime": 61, "refresh_token_lifetime": 62, "audiences": ["api"]
        }
    }));
    assert_eq!(
        body_of(&*adapter, &everything),
        json!({
            "AppName": "All", "Protocol": "OAuth 2.0", "LoginRedirectUri": ["https://a.example/cb"],
            "RedirectURIExactMatch": true, "TokenAuthMethod": "client_secret_post", "GrantTypes": ["authorization_code"],
            "AllowedScopes": ["openid"], "ApplicationType": "Native", "LogoutRedirectUri": ["https://a.example/bye"],
            "LoginUrl": "https://a.example/login", "ForceReAuthentication": true, "SignedUserInfo": true,
            "BackChannelLogout": { "IsEnabled": true, "LogoutURIs": ["https://a.example/back"] },
            "JwtTokenConfig": { "Algorithm": "RS256", "TokenTTL": 60, "IdTokenTTL": 61 }, "RefreshTokenTTL": 62,
            "AllowedCorsOrigin": ["https://a.example"], "EnableCorsOrigin": true,
            "AllowedWebOrigin": ["https://b.example"], "IdTokenAudiences": ["api"]
        })
    );
    let created = now(adapter.create(&everything)).unwrap();
    let losses = account(&everything, &created.value.spec, created.losses);
    // everything that was sent is there, and the vendor's own switches are off
    let fields: Vec<&str> = losses.iter().map(|l| &*l.field).collect();
    assert_eq!(fields, ["vendor.loginradius.AppName"]);
}

#[test]
fn trap_34_unknown_response_members_survive() {
    let grown = client_with(json!({
        "PkceRequired": true, "Nested": { "A": [1] }, "Empty": "", "Nothing": null, "JwtTokenConfig": { "Leeway": 5 }
    }));
    let own = shown(&grown).spec.vendor["loginradius"].clone();
    assert_eq!((&own["PkceRequired"], &own["Nested"]), (&json!(true), &json!({ "A": [1] })));
    assert_eq!(own["JwtTokenConfig"], json!({ "Leeway": 5 }));
    assert!(!own.contains_key("Empty") && !own.contains_key("Nothing"));
}

#[test]
fn trap_34_unknown_members_can_be_sent_back_and_are_never_written() {
    let grown = shown(&client_with(json!({ "PkceRequired": true })));
    let (adapter, _) = over_fake();
    let same = adapter.preview_update(&target(), &grown.spec, &grown.spec).unwrap();
    assert!(same.value.is_empty() && same.losses.iter().all(|l| l.field != "vendor.loginradius.PkceRequired"));

    let mut other = grown.spec.clone();
    other.vendor.get_mut("loginradius").unwrap().insert("PkceRequired".to_owned(), json!(false));
    let plan = adapter.preview_update(&target(), &grown.spec, &other).unwrap();
    let lost = loss(&plan.losses, "vendor.loginradius.PkceRequired");
    assert_eq!((lost.kind, &lost.got), (LossKind::Substituted, &Some(json!(true))));
    assert!(plan.value.is_empty());

    other.vendor.get_mut("loginradius").unwrap().remove("PkceRequired");
    let plan = adapter.preview_update(&target(), &grown.spec, &other).unwrap();
    let lost = loss(&plan.losses, "vendor.loginradius.PkceRequired");
    assert_eq!((lost.kind, &lost.wanted, &lost.got), (LossKind::Substituted, &Some(Value::Null), &Some(json!(true))));

    let plan = adapter.preview(&client(json!({}), json!({ "PkceRequired": true }))).unwrap();
    assert_eq!(loss(&plan.losses, "vendor.loginradius.PkceRequired").kind, LossKind::Dropped);
    assert_eq!(plan.value[0].body().unwrap().get("PkceRequired"), None);
}

#[test]
fn trap_36_a_refused_gateway_credential_is_never_the_callers_401() {
    let adapter = over_answers([(401, include_str!("../fixtures/error_6002.json"))]);
    let error = now(adapter.read(&target())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UpstreamAuthentication);
    let leaky = r#"{"ErrorCode":7914,"Message":"bad token Bearer abcdefghijklmnop0123456789 \u001b[31m"}"#;
    let adapter = over_answers([(400, leaky)]);
    let error = now(adapter.create(&portal())).unwrap_err();
    let message = error.vendor().unwrap().message.clone().unwrap();
    assert!(!message.contains("0123456789") && !message.contains('\u{1b}'), "{message}");
}

#[test]
fn trap_37_a_create_is_sent_once_and_a_taken_name_is_a_conflict() {
    let (adapter, wire) = over_fake();
    now(adapter.create(&portal())).unwrap();
    let error = now(adapter.create(&portal())).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::AlreadyExists, Outcome::NotPerformed));
    assert!(!error.is_retryable());
    assert_eq!(wire.sent().len(), 2, "and no other name is tried");
    // class B: the name finds a client whose answer was lost
    let error = now(over_answers([(500, "")]).create(&portal())).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[test]
fn trap_42_neither_secret_leaves_by_any_other_way() {
    let canaries =
        client_with(json!({ "ClientSecret": "CANARY-1", "Secret": "CANARY-2", "PreviousSecret": "CANARY-3" }));
    let list = format!("{{\"Data\":[{canaries}]}}");
    let adapter = over_answers([(200, &*canaries), (200, &*canaries), (200, &*list)]);
    let created = now(adapter.create(&portal())).unwrap();
    assert_eq!(created.value.secret.as_ref().unwrap().value.expose_secret(), "CANARY-1");
    let read = now(adapter.read(&target())).unwrap();
    let listed = now(adapter.list(None)).unwrap();
    assert!(read.secret.is_none() && listed.items.iter().all(|c| c.secret.is_none()));
    let shown = format!("{created:?} {read:?} {listed:?} {:?}", read.spec.flatten());
    assert!(!shown.contains("CANARY"), "{shown}");
    for broken in [canaries.replace("\"AppName\"", "\"appname\""), canaries.replace("[\"openid\"", "[{},\"openid\"")] {
        let adapter = over_answers([(200, &broken)]);
        let read = now(adapter.read(&target())).unwrap();
        assert!(!format!("{read:?}").contains("CANARY"));
    }
    let cut = &canaries[..canaries.len() - 2];
    let error = now(over_answers([(200, cut)]).read(&target())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UpstreamMalformed);
    assert!(!format!("{error:?}").contains("CANARY"));
    for member in ["Secret", "ClientSecret"] {
        let error = over_fake().0.preview(&client(json!({}), json!({ member: "CANARY" }))).unwrap_err();
        assert!(!format!("{error:?}").contains("CANARY"));
        assert_eq!(error.issues()[0].pointer.as_str(), format!("#/vendor/loginradius/{member}"));
    }
}

#[test]
fn trap_43_lists_are_compared_as_sets_but_redirect_uris_in_order() {
    let (adapter, _) = over_fake();
    let lists = |scope: &str, redirects: Value| {
        spec(json!({ "metadata": { "client_name": "Sets", "redirect_uris": redirects, "scope": scope } }))
    };
    let sent = lists("openid profile email", json!(["https://a.example/1", "https://a.example/2"]));
    let created = now(adapter.create(&sent)).unwrap().value;
    let reordered = lists("email profile openid", json!(["https://a.example/1", "https://a.example/2"]));
    assert!(adapter.preview_update(&created.target(), &created.spec, &reordered).unwrap().value.is_empty());
    let swapped = lists("openid profile email", json!(["https://a.example/2", "https://a.example/1"]));
    let plan = adapter.preview_update(&created.target(), &created.spec, &swapped).unwrap();
    let body = json!({ "LoginRedirectUri": ["https://a.example/2", "https://a.example/1"] });
    assert_eq!(plan.value[0].body(), Some(body));
}

#[test]
fn trap_44_a_success_without_an_id_is_an_error() {
    for broken in [
        client_with(json!({ "ClientId": null })),
        client_with(json!({ "ClientId": "" })),
        client_with(json!({ "ClientId": "a\nb" })),
        "{}".to_owned(),
    ] {
        let adapter = over_answers([(200, &*broken)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamMalformed, Outcome::Unknown), "{broken}");
    }
}
