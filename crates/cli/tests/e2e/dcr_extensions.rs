//! Checklist E: OpenID Connect and extension metadata.

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, gateway, metadata, open, refused, register, with},
    http::Answer,
};

/// Refused as metadata, one by one.
fn all_refused(cases: &[Value]) {
    let gateway = open();
    for case in cases {
        refused(&gateway, &with(case.clone()), "invalid_client_metadata");
    }
}

#[test]
fn ext_01_without_a_type_a_client_is_a_web_client() {
    let gateway = open();
    let body = with(
        json!({"grant_types": ["implicit"], "response_types": ["token"], "redirect_uris": ["http://localhost/cb"]}),
    );
    refused(&gateway, &body, "invalid_redirect_uri");
}

#[test]
fn ext_02_03_11_12_urls_that_are_not_https() {
    all_refused(&[
        json!({"initiate_login_uri": "http://a.example/login"}),
        json!({"initiate_login_uri": "/login"}),
        json!({"sector_identifier_uri": "http://a.example/s.json"}),
        json!({"backchannel_logout_uri": "https://a.example/out#x"}),
        json!({"backchannel_logout_uri": "/out"}),
        json!({"token_endpoint_auth_method": "none", "backchannel_logout_uri": "http://a.example/out"}),
        json!({"token_endpoint_auth_method": "none", "frontchannel_logout_uri": "http://a.example/out"}),
        json!({"token_endpoint_auth_method": "none", "post_logout_redirect_uris": ["http://a.example/out"]}),
    ]);
}

#[test]
fn ext_04_06_07_algorithms_that_do_not_go_together() {
    let enc = |name: &str| json!({ name: "A128CBC-HS256" });
    all_refused(&[
        enc("id_token_encrypted_response_enc"),
        enc("userinfo_encrypted_response_enc"),
        enc("request_object_encryption_enc"),
        enc("introspection_encrypted_response_enc"),
        enc("authorization_encrypted_response_enc"),
        json!({"token_endpoint_auth_signing_alg": "none"}),
        json!({"id_token_signed_response_alg": "none", "grant_types": ["authorization_code", "implicit"], "response_types": ["code id_token"]}),
    ]);
}

#[test]
fn ext_05_the_default_content_encryption_is_shown() {
    let gateway = open();
    let client = register(&gateway, "rfc7591", &with(json!({"id_token_encrypted_response_alg": "RSA-OAEP-256"}))).json;
    assert_eq!(client["id_token_encrypted_response_enc"], "A128CBC-HS256");
}

#[test]
fn ext_08_09_10_authentication_needs_what_it_rests_on() {
    all_refused(&[
        json!({"token_endpoint_auth_method": "private_key_jwt"}),
        json!({"token_endpoint_auth_method": "self_signed_tls_client_auth"}),
        json!({"token_endpoint_auth_method": "tls_client_auth"}),
        json!({"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "a.example", "tls_client_auth_san_ip": "192.0.2.1"}),
    ]);
}

#[test]
fn ext_13_flags_are_not_texts() {
    all_refused(&[
        json!({"require_auth_time": "true"}),
        json!({"dpop_bound_access_tokens": "false"}),
        json!({"require_pushed_authorization_requests": 1}),
        json!({"backchannel_logout_session_required": "yes"}),
    ]);
}

#[test]
fn ext_14_what_nobody_asked_for_is_not_on() {
    let gateway = open();
    for route in crate::dcr::ROUTES {
        let client = register(&gateway, route, &with(json!({}))).json;
        for name in [
            "require_pushed_authorization_requests",
            "dpop_bound_access_tokens",
            "tls_client_certificate_bound_access_tokens",
            "require_signed_request_object",
            "backchannel_logout_session_required",
            "frontchannel_logout_session_required",
        ] {
            assert!(client.get(name).is_none_or(|v| v == false), "{route} {name}: {client}");
        }
    }
}

#[test]
fn ext_15_ciba_needs_its_delivery() {
    let ciba = "urn:openid:params:grant-type:ciba";
    all_refused(&[
        json!({"grant_types": [ciba]}),
        json!({"grant_types": [ciba], "backchannel_token_delivery_mode": "ping"}),
        json!({"grant_types": [ciba], "backchannel_token_delivery_mode": "push", "backchannel_client_notification_endpoint": "http://a.example/n"}),
    ]);
}

#[test]
fn ext_16_23_combinations_that_no_profile_allows() {
    all_refused(&[
        json!({"dpop_bound_access_tokens": true, "tls_client_certificate_bound_access_tokens": true}),
        json!({"grant_types": ["password"]}),
        json!({"grant_types": ["authorization_code", "password"]}),
    ]);
}

#[test]
fn ext_17_a_list_of_choices_becomes_the_one_that_the_vendor_can_hold() {
    let gateway = open();
    let made = |route: &str, members: Value| register(&gateway, route, &with(members)).json;
    // the first, in the client's order; the list itself is not echoed
    let client = made(
        "rfc7591",
        json!({
            "id_token_signing_alg_values_supported": ["ES256", "RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "id_token_encryption_alg_values_supported": ["RSA-OAEP-256"],
            "id_token_encryption_enc_values_supported": ["A256GCM", "A128CBC-HS256"],
            "subject_types_supported": ["pairwise", "public"],
        }),
    );
    assert_eq!(client["id_token_signed_response_alg"], "ES256");
    assert_eq!(client["token_endpoint_auth_method"], "client_secret_post");
    assert_eq!(client["id_token_encrypted_response_alg"], "RSA-OAEP-256");
    assert_eq!(client["id_token_encrypted_response_enc"], "A256GCM");
    assert_eq!(client["subject_type"], "pairwise");
    assert!(client.as_object().unwrap().keys().all(|name| !name.ends_with("_supported")), "{client}");
    let sent = gateway.fakes.ledger(Some("rfc7591")).pop().unwrap().request_body.unwrap();
    assert_eq!(sent["id_token_signed_response_alg"], "ES256");
    assert!(!sent.to_string().contains("_supported"), "{sent}");
    // the value beside the list is the one the client likes best
    let client = made(
        "rfc7591",
        json!({"id_token_signed_response_alg": "PS256", "id_token_signing_alg_values_supported": ["ES256", "PS256"]}),
    );
    assert_eq!(client["id_token_signed_response_alg"], "PS256");
    // not what the other members do not allow: private_key_jwt needs keys
    let methods = json!({"token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post"]});
    assert_eq!(made("rfc7591", methods.clone())["token_endpoint_auth_method"], "client_secret_post");
    let mut keyed = methods;
    keyed["jwks_uri"] = json!("https://client.example.com/jwks.json");
    assert_eq!(made("rfc7591", keyed)["token_endpoint_auth_method"], "private_key_jwt");
    // nor what the vendor cannot hold: BitGo has no public clients
    let methods = json!({"token_endpoint_auth_methods_supported": ["none", "client_secret_basic"]});
    let public = made("rfc7591", methods.clone());
    assert_eq!((&public["token_endpoint_auth_method"], public.get("client_secret")), (&json!("none"), None));
    let client = made("bitgo", methods);
    assert_ne!(client["token_endpoint_auth_method"], "none");
    assert!(client["client_secret"].is_string());
    // what is in force without asking may be one of them; where nothing is, the loss policy decides
    made("loop", json!({"id_token_signing_alg_values_supported": ["ES256", "RS256"]}));
    let only = with(json!({"id_token_signing_alg_values_supported": ["ES256", "PS256"]}));
    let answer = gateway.post("/loop/register", &only);
    assert_eq!((answer.status, answer.text("/error")), (400, "invalid_client_metadata".to_owned()));
    assert!(answer.text("/error_description").contains("id_token_signed_response_alg"), "{}", answer.json());
    // updates choose again
    let own = register(&gateway, "rfc7591", &with(json!({})));
    let changed = own.call(&gateway, "PUT", &own.update(json!({"id_token_signing_alg_values_supported": ["ES384"]})));
    assert_eq!((changed.status, changed.text("/id_token_signed_response_alg")), (200, "ES384".to_owned()));

    all_refused(&[
        json!({"id_token_signing_alg_values_supported": "ES256"}),
        json!({"id_token_signing_alg_values_supported": []}),
        json!({"id_token_signing_alg_values_supported": [1]}),
        json!({"id_token_signing_alg_values_supported": ["not an algorithm"]}),
        json!({"subject_types_supported": ["everyone"]}),
        json!({"subject_type": "public", "subject_types_supported": ["pairwise"]}),
        json!({"token_endpoint_auth_methods_supported": ["private_key_jwt", "tls_client_auth"]}),
        json!({"token_endpoint_auth_signing_alg_values_supported": ["none"]}),
    ]);
    let demanding = crate::dcr::gateway(OPEN, r#"policy = 'metadata.token_endpoint_auth_method != "none"'"#);
    let choice = with(json!({"token_endpoint_auth_methods_supported": ["none"]}));
    refused(&demanding, &choice, "invalid_client_metadata");
}

/// The values of each list of RP Metadata Choices §2 that no vendor here has a use for.
fn capabilities() -> Value {
    json!({
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256"],
        "id_token_encryption_alg_values_supported": ["ECDH-ES"],
        "id_token_encryption_enc_values_supported": ["A256GCM"],
        "userinfo_signing_alg_values_supported": ["ES256"],
        "userinfo_encryption_alg_values_supported": ["ECDH-ES"],
        "userinfo_encryption_enc_values_supported": ["A256GCM"],
        "request_object_signing_alg_values_supported": ["ES256"],
        "request_object_encryption_alg_values_supported": ["ECDH-ES"],
        "request_object_encryption_enc_values_supported": ["A256GCM"],
        "introspection_signing_alg_values_supported": ["ES256"],
        "introspection_encryption_alg_values_supported": ["ECDH-ES"],
        "introspection_encryption_enc_values_supported": ["A256GCM"],
        "authorization_signing_alg_values_supported": ["ES256"],
        "authorization_encryption_alg_values_supported": ["ECDH-ES"],
        "authorization_encryption_enc_values_supported": ["A256GCM"],
        "backchannel_authentication_request_signing_alg_values_supported": ["ES256"],
    })
}

#[test]
fn ext_17_a_list_demands_nothing_of_any_vendor() {
    let gateway = open();
    for route in crate::dcr::ROUTES {
        // each by itself, all at once, and what a client that signs its assertions sends
        let mut wishes = vec![capabilities()];
        wishes.extend(capabilities().as_object().unwrap().iter().map(|(name, values)| json!({ name: values })));
        wishes.push(json!({
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "jwks_uri": "https://client.example.com/jwks.json",
        }));
        for (i, mut wish) in wishes.into_iter().enumerate() {
            wish["client_name"] = json!(format!("Client {i}"));
            let keyed = wish.get("jwks_uri").is_some();
            let answer = gateway.post(&format!("/{route}/register"), &with(wish.clone()));
            assert_eq!(answer.status, 201, "{route} {wish}: {}", answer.json());
            let client = answer.json();
            // what a server of RFC 7591 takes, only its answer shows
            let lost: Vec<&Value> = client["registrar_losses"].as_array().into_iter().flatten().collect();
            // a vendor that does not take the keys says so of them alone: nothing uses them there
            let keys = |loss: &&Value| loss["field"] == "jwks_uri" && loss["severity"] == "functional";
            assert!(route == "rfc7591" || lost.iter().all(|loss| keyed && keys(loss)), "{route} {wish}: {client}");
            let signs = client["token_endpoint_auth_method"] == "private_key_jwt";
            assert!(signs || client.get("token_endpoint_auth_signing_alg").is_none(), "{route} {client}");
            // an update is no other
            let own = crate::dcr::Own::of(&answer);
            let changed = own.call(&gateway, "PUT", &own.update(wish.clone()));
            assert_eq!(changed.status, 200, "{route} {wish}: {}", changed.json());
        }
    }
    // what is asked for by its own name is a demand as before
    let answer = gateway.post(
        "/loop/register",
        &with(json!({"userinfo_signed_response_alg": "ES256",
        "userinfo_signing_alg_values_supported": ["ES256"]})),
    );
    assert_eq!(answer.status, 400, "{}", answer.json());
    // and where a list has no word that the rules know, it is a mistake
    for name in ["id_token_encryption_enc_values_supported", "userinfo_signing_alg_values_supported"] {
        refused(&gateway, &with(json!({ name: ["no algorithm"] })), "invalid_client_metadata");
    }
}

#[test]
fn ext_17_members_that_go_with_a_choice_are_judged_with_it() {
    let gateway = open();
    let subject = |methods: Value| {
        with(json!({ "token_endpoint_auth_methods_supported": methods,
        "tls_client_auth_subject_dn": "CN=client" }))
    };
    // the member beside it goes with one of the methods only
    for methods in [json!(["tls_client_auth"]), json!(["client_secret_basic", "tls_client_auth"])] {
        let own = register(&gateway, "rfc7591", &subject(methods.clone()));
        assert_eq!(own.json["token_endpoint_auth_method"], "tls_client_auth", "{methods}");
        assert_eq!(own.json["tls_client_auth_subject_dn"], "CN=client");
        let mut body = subject(methods);
        body["client_id"] = own.json["client_id"].clone();
        assert_eq!(own.call(&gateway, "PUT", &body).status, 200);
    }
    let encrypted = json!({"id_token_encrypted_response_enc": "A256GCM",
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "id_token_encryption_alg_values_supported": ["ECDH-ES"]});
    let client = register(&gateway, "rfc7591", &with(encrypted)).json;
    assert_eq!(client["id_token_encrypted_response_alg"], "ECDH-ES");
    // what no choice mends is refused, with and without a list, and no vendor hears of it
    let own = register(&gateway, "rfc7591", &with(json!({})));
    let ledger = gateway.fakes.ledger(None).len();
    let mut bad = subject(json!(["client_secret_basic"]));
    for list in [true, false] {
        for members in
            [json!({}), json!({"redirect_uris": ["javascript:alert(1)"]}), json!({"client_name": "x".repeat(256)})]
        {
            let mut body = bad.clone();
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            assert_eq!(gateway.post("/register", &body).status, 400, "{list} {body}");
            body["client_id"] = own.json["client_id"].clone();
            assert_eq!(own.call(&gateway, "PUT", &body).status, 400, "{list} {body}");
        }
        bad.as_object_mut().unwrap().remove("token_endpoint_auth_methods_supported");
    }
    assert_eq!(gateway.fakes.ledger(None).len(), ledger);
}

#[test]
fn ext_18_protection_that_the_vendor_cannot_give_is_refused() {
    let gateway = open();
    for route in ["loop", "bitgo", "authms", "loginradius"] {
        for name in [
            "dpop_bound_access_tokens",
            "require_pushed_authorization_requests",
            "tls_client_certificate_bound_access_tokens",
        ] {
            let answer = gateway.post(&format!("/{route}/register"), &with(json!({ name: true })));
            assert_eq!(
                (answer.status, answer.text("/error")),
                (400, "invalid_client_metadata".to_owned()),
                "{route} {name}"
            );
            let told = answer.text("/error_description");
            assert!(told.contains(name) && !told.contains("allow_loss"), "{told}");
        }
    }
    assert_eq!(gateway.vendor_writes(), 0);
    // also as an update
    let own = register(&gateway, "loop", &with(json!({})));
    let answer = own.call(&gateway, "PUT", &own.update(json!({"dpop_bound_access_tokens": true})));
    assert_eq!((answer.status, answer.text("/error")), (400, "invalid_client_metadata".to_owned()));
}

#[test]
fn ext_22_the_same_software_twice_is_refused_where_the_policy_says_so() {
    let body = |id: &str, version: Option<&str>| with(json!({ "software_id": id, "software_version": version }));
    // the default of all routes, and one that says otherwise
    let gateway = gateway(&format!("{}\nsingle_instance = true", OPEN), "");
    let first = register(&gateway, "rfc7591", &body("a", Some("1")));
    let told = refused(&gateway, &body("a", Some("1")), "invalid_client_metadata");
    assert!(told.contains("software_id") && told.contains("registered already"), "{told}");
    // whichever vendor has the first one, also where the vendor does not hold the members
    let writes = gateway.vendor_writes();
    for route in crate::dcr::ROUTES {
        assert_eq!(gateway.post(&format!("/{route}/register"), &body("a", Some("1"))).status, 400, "{route}");
    }
    assert_eq!(gateway.vendor_writes(), writes);
    let loops = register(&gateway, "loop", &body("l", Some("1")));
    refused(&gateway, &body("l", Some("1")), "invalid_client_metadata");
    // another version, another software, and clients that say neither
    register(&gateway, "rfc7591", &body("a", Some("2")));
    register(&gateway, "rfc7591", &body("b", Some("1")));
    register(&gateway, "rfc7591", &metadata());
    register(&gateway, "rfc7591", &metadata());
    // leaving the version out is no way around, nor is an update
    register(&gateway, "rfc7591", &body("a", None));
    refused(&gateway, &body("a", None), "invalid_client_metadata");
    let writes = gateway.vendor_writes();
    let answer = loops.call(&gateway, "PUT", &loops.update(body("a", Some("2"))));
    assert_eq!((answer.status, answer.text("/error")), (400, "invalid_client_metadata".to_owned()));
    assert_eq!(gateway.vendor_writes(), writes);
    let own = body("a", Some("1"));
    assert_eq!(first.call(&gateway, "PUT", &first.update(own.clone())).status, 200, "it stays what it is");
    // a repetition is no second instance
    let again = |name: &str| {
        let key = ("idempotency-key", name);
        gateway.call("POST", "/register", &[crate::http::JSON, key], &body("again", Some("1"))).status
    };
    let (mine, other) = ("8e03978e-40d5-43e8-bc93-6894a57f9324", "1d0f7a06-5be2-4a6a-9a5c-0c6d6f1f1d4e");
    assert_eq!((again(mine), again(mine), again(other)), (201, 201, 400));
    // and when it is gone, another one may come
    assert_eq!(first.call(&gateway, "DELETE", &Value::Null).status, 204);
    register(&gateway, "rfc7591", &own);

    // many at once
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let many: Vec<_> =
            (0..8).map(|_| scope.spawn(|| gateway.post("/register", &body("at-once", Some("1"))).status)).collect();
        many.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 1, "{statuses:?}");
    // and many at once that are one request: none of them is another instance
    let keyed = || {
        let key = ("idempotency-key", "5f6b1f0e-9d5f-4f6e-8a0d-6f0c2b7f3a11");
        gateway.call("POST", "/register", &[crate::http::JSON, key], &body("one", Some("1"))).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let many: Vec<_> = (0..8).map(|_| scope.spawn(keyed)).collect();
        many.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.contains(&201) && statuses.iter().all(|s| matches!(s, 201 | 409)), "{statuses:?}");

    let open =
        crate::dcr::gateway(&format!("{}\nsingle_instance = true", OPEN), "registration_single_instance = false");
    for _ in 0..2 {
        register(&open, "rfc7591", &body("a", Some("1")));
    }
    let routes = crate::dcr::gateway(OPEN, "registration_single_instance = true");
    register(&routes, "rfc7591", &body("a", Some("1")));
    refused(&routes, &body("a", Some("1")), "invalid_client_metadata");
}

/// A client that may have been made, or may have become this software, is not in the registry, and may be found later.
#[test]
fn ext_22_a_software_whose_registration_is_not_settled_is_not_registered_again() {
    let mut gateway = gateway(&format!("{}\nsingle_instance = true", OPEN), "");
    gateway.kill();
    // what is not seen at the vendor is not believed to be absent before this test has ended
    gateway.reconfigure("visibility_grace = \"300ms\"", "visibility_grace = \"1h\"");
    gateway.restart(None);
    let lose = |method: &str, when: When| {
        gateway.fakes.script(ScriptedFault {
            kind: Some("rfc7591".to_owned()),
            method: Some(method.to_owned()),
            path_contains: None,
            skip: 0,
            times: 1,
            when,
            fault: Fault::Reset {},
        });
    };
    let body = |id: &str| with(json!({ "software_id": id, "software_version": "1" }));
    let resolve = |unsure: &Answer, found: Value| {
        let path = format!("/v1/operations/{}:resolve", unsure.text("/operation"));
        let resolved = gateway.post(&path, &found);
        assert_eq!(resolved.status, 200, "{}", resolved.json());
    };
    lose("POST", When::After);
    let unsure = gateway.post("/rfc7591/register", &body("a"));
    assert_eq!(unsure.status, 504, "{}", unsure.json());
    let told = refused(&gateway, &body("a"), "invalid_client_metadata");
    assert!(told.contains("software_id") && told.contains("not settled"), "{told}");
    assert_eq!(gateway.post("/loop/register", &body("a")).status, 400, "whichever vendor");
    register(&gateway, "rfc7591", &body("b"));
    resolve(&unsure, json!({ "absent": true }));
    let own = register(&gateway, "rfc7591", &body("a"));

    // with its answer, the vendor's new token would be lost, and with that the way to repeat the change
    lose("PUT", When::Before);
    let unsure = own.call(&gateway, "PUT", &own.update(body("c")));
    assert_eq!(unsure.status, 504, "{}", unsure.json());
    refused(&gateway, &body("c"), "invalid_client_metadata");
    // the client itself is the one that may be it
    let changed = own.call(&gateway, "PUT", &own.update(body("c")));
    assert_eq!((changed.status, changed.text("/software_id")), (200, "c".to_owned()), "{}", changed.json());
    refused(&gateway, &body("c"), "invalid_client_metadata");
    register(&gateway, "rfc7591", &body("a"));
}

#[test]
fn a_policy_sees_the_client_as_it_will_be_on_create_and_on_update() {
    let rule = r#"policy = '!metadata.grant_types.exists(g, g == "client_credentials") && metadata.application_type == "web"'"#;
    let gateway = gateway(OPEN, rule);
    let own = register(&gateway, "rfc7591", &with(json!({})));
    let bad = json!({"grant_types": ["authorization_code", "client_credentials"]});
    let told = refused(&gateway, &with(bad.clone()), "invalid_client_metadata");
    assert!(told.contains("rfc7591"), "{told}");
    let writes = gateway.vendor_writes();
    assert_eq!(own.call(&gateway, "PUT", &own.update(bad)).status, 400);
    assert_eq!(own.call(&gateway, "PUT", &own.update(json!({"application_type": "native"}))).status, 400);
    assert_eq!(gateway.vendor_writes(), writes);
}
