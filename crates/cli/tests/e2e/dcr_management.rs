//! Checklist D: management by the registration access token (RFC 7592).

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, Own, ROUTES, bearer, gateway, initial_token, metadata, open, register, with},
    http::{Answer, JSON, call},
    running::Gateway,
};

fn invalid(answer: &Answer) {
    assert_eq!((answer.status, answer.text("/error")), (401, "invalid_token".to_owned()), "{}", answer.json());
    assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
}

#[test]
fn mgt_01_02_22_26_a_client_reads_itself_and_nothing_changes() {
    let gateway = open();
    for route in ROUTES {
        let own = register(&gateway, route, &with(json!({"client_uri": "https://a.example"})));
        assert!(own.json["registration_client_uri"].as_str().unwrap().starts_with("http://127.0.0.1:"));
        let writes = gateway.vendor_writes();
        for _ in 0..2 {
            let read = own.get(&gateway);
            assert_eq!(
                (read.status, read.header("content-type")),
                (200, Some("application/json")),
                "{route}: {}",
                read.json()
            );
            let mut expected = own.json.clone();
            // the gateway keeps a hash of the secret only
            for name in ["client_secret", "client_secret_expires_at", "registrar_losses"] {
                expected.as_object_mut().unwrap().remove(name);
            }
            assert_eq!(read.json(), expected, "{route}");
        }
        assert_eq!(gateway.vendor_writes(), writes);
    }
}

#[test]
fn mgt_03_04_06_no_token_a_wrong_one_and_no_client() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    for method in ["GET", "PUT", "DELETE"] {
        let none = gateway.call(method, &own.path, &[JSON], &own.update(json!({})));
        assert_eq!(
            (none.status, none.header("www-authenticate")),
            (401, Some("Bearer realm=\"registrar\"")),
            "{method}"
        );
        let wrong = format!("rat_{}", "0".repeat(72));
        let bodies: Vec<Value> =
            [own.path.as_str(), "/register/reg_00000000-0000-7000-8000-000000000000", "/register/x%2Fy"]
                .into_iter()
                .flat_map(|path| [wrong.as_str(), own.token.get(..75).unwrap(), "x"].map(|token| (path, token)))
                .map(|(path, token)| {
                    let answer = bearer(&gateway, method, path, token, &own.update(json!({})));
                    invalid(&answer);
                    let mut body = answer.json();
                    body.as_object_mut().unwrap().remove("request_id");
                    body
                })
                .collect();
        assert!(bodies.windows(2).all(|w| w[0] == w[1]), "the answers tell clients from others: {bodies:?}");
    }
    // a token that is well made, for a client that does not exist
    invalid(&bearer(&gateway, "GET", "/register/reg_00000000-0000-7000-8000-000000000000", &own.token, &Value::Null));
    assert_eq!(own.get(&gateway).status, 200);
}

#[test]
fn mgt_05_25_a_token_opens_one_door_only() {
    let gateway = gateway("access = \"token\"", "");
    let iat = initial_token(&gateway, json!({"name": "x"}));
    let a = Own::of(&bearer(&gateway, "POST", "/register", &iat, &metadata()));
    let b = Own::of(&bearer(&gateway, "POST", "/register", &iat, &with(json!({"client_name": "B"}))));
    for method in ["GET", "PUT", "DELETE"] {
        let body = b.update(json!({"client_name": "Stolen"}));
        invalid(&bearer(&gateway, method, &b.path, &a.token, &body));
        invalid(&bearer(&gateway, method, &b.path, &iat, &body));
        invalid(&bearer(&gateway, method, &b.path, b.json["client_secret"].as_str().unwrap(), &body));
    }
    assert_eq!(b.get(&gateway).text("/client_name"), "B");
    invalid(&bearer(&gateway, "POST", "/register", &a.token, &metadata()));
    let keyed = Gateway::start_with("keys");
    for token in [&a.token, &iat] {
        assert_eq!(bearer(&keyed, "GET", "/v1/clients", token, &Value::Null).status, 401);
    }
}

#[test]
fn mgt_07_15_19_what_clients_may_not_do_is_403() {
    let gateway = gateway(&format!("{OPEN}\nmanage = []"), "");
    let own = register(&gateway, "rfc7591", &metadata());
    let writes = gateway.vendor_writes();
    for method in ["GET", "PUT", "DELETE"] {
        let answer = own.call(&gateway, method, &own.update(json!({})));
        assert_eq!((answer.status, answer.text("/error")), (403, "access_denied".to_owned()), "{method}");
    }
    assert_eq!(gateway.vendor_writes(), writes);
}

#[test]
fn mgt_08_14_an_update_replaces() {
    let gateway = open();
    for route in ROUTES {
        let own =
            register(&gateway, route, &with(json!({"client_uri": "https://a.example", "contacts": ["x@a.example"]})));
        let updated = own.call(&gateway, "PUT", &own.update(json!({"redirect_uris": ["https://a.example/new"]})));
        assert_eq!(updated.status, 200, "{route}: {}", updated.json());
        assert_eq!(updated.header("content-type"), Some("application/json"));
        assert_eq!(updated.text("/registration_access_token"), own.token, "stable by default");
        for shown in [updated.json(), own.get(&gateway).json()] {
            assert_eq!(shown["redirect_uris"], json!(["https://a.example/new"]), "{route}");
            assert!(shown.get("client_uri").is_none() && shown.get("contacts").is_none(), "{route}: {shown}");
            assert_eq!(shown["client_id"], own.json["client_id"]);
            assert_eq!(shown["registration_client_uri"], own.json["registration_client_uri"]);
        }
    }
}

#[test]
fn mgt_09_10_11_13_updates_that_are_not_acceptable_change_nothing() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    let writes = gateway.vendor_writes();
    let refused = |body: &Value, error: &str| {
        let answer = own.call(&gateway, "PUT", body);
        assert_eq!((answer.status, answer.text("/error")), (400, error.to_owned()), "{body}: {}", answer.json());
    };
    for name in
        ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"]
    {
        let mut body = own.update(json!({}));
        body[name] = own.json[name].clone();
        refused(&body, "invalid_request");
    }
    refused(&metadata(), "invalid_request");
    for other in [json!("other"), json!(7), Value::Null] {
        let mut body = metadata();
        body["client_id"] = other;
        refused(&body, "invalid_request");
    }
    for wrong in
        [json!("chosen-by-the-caller"), json!(""), json!(1), own.json["client_secret"].as_str().unwrap()[1..].into()]
    {
        let mut body = own.update(json!({}));
        body["client_secret"] = wrong;
        refused(&body, "invalid_request");
    }
    refused(&own.update(json!({"redirect_uris": ["http://evil.example/"]})), "invalid_redirect_uri");
    refused(&own.update(json!({"grant_types": ["password"]})), "invalid_client_metadata");
    refused(&json!([]), "invalid_client_metadata");
    assert_eq!(gateway.vendor_writes(), writes);
    let mut before = own.json.clone();
    for name in ["client_secret", "client_secret_expires_at"] {
        before.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(own.get(&gateway).json(), before);
}

#[test]
fn mgt_12_the_right_secret_may_be_sent_at_any_vendor_also_after_a_rotation() {
    let gateway = open();
    for route in ROUTES {
        let own = register(&gateway, route, &metadata());
        let mut body = own.update(json!({"redirect_uris": ["https://a.example/2"]}));
        body["client_secret"] = own.json["client_secret"].clone();
        let answer = own.call(&gateway, "PUT", &body);
        assert_eq!(answer.status, 200, "{route}: {}", answer.json());
        let rotated = gateway.post(&format!("/v1/clients/{}/secret", own.id()), &json!({}));
        if rotated.status == 200 {
            assert_eq!(own.call(&gateway, "PUT", &body).status, 400, "{route}: the old secret");
            body["client_secret"] = json!(rotated.text("/client_secret"));
            assert_eq!(own.call(&gateway, "PUT", &body).status, 200, "{route}: the new secret");
        }
    }
}

#[test]
fn mgt_16_17_a_deleted_client_is_gone_with_its_token() {
    let gateway = open();
    for route in ["rfc7591", "authms"] {
        let own = register(&gateway, route, &metadata());
        let deleted = own.call(&gateway, "DELETE", &Value::Null);
        assert_eq!((deleted.status, deleted.body.len()), (204, 0), "{route}");
        for method in ["GET", "PUT", "DELETE"] {
            invalid(&own.call(&gateway, method, &own.update(json!({}))));
        }
        assert!(gateway.fakes.fake(route).unwrap().clients().is_empty(), "{route}");
    }
}

#[test]
fn mgt_18_where_a_vendor_cannot_delete_the_method_is_not_there() {
    let gateway = open();
    for route in ["loop", "bitgo", "loginradius"] {
        let own = register(&gateway, route, &metadata());
        let writes = gateway.vendor_writes();
        let answer = own.call(&gateway, "DELETE", &Value::Null);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, PUT")), "{route}: {}", answer.json());
        assert_eq!(answer.text("/error"), "invalid_request");
        assert_eq!(gateway.vendor_writes(), writes);
        assert_eq!(own.get(&gateway).status, 200);
    }
}

#[test]
fn mgt_20_a_client_that_somebody_else_deleted_has_no_token() {
    let gateway = open();
    let own = register(&gateway, "authms", &metadata());
    assert_eq!(gateway.call("DELETE", &format!("/v1/clients/{}", own.id()), &[], &Value::Null).status, 204);
    let [first, second] = ["A", "B"].map(|name| register(&gateway, "authms", &with(json!({"client_name": name}))));
    // in the vendor's own console; the grace of new clients is over when it says so for good
    gateway.fakes.fake("authms").unwrap().reset();
    let dead = |own: &Own, method: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let answer = own.call(&gateway, method, &own.update(json!({"client_name": "C"})));
            if answer.status == 401 {
                return invalid(&answer);
            }
            assert!(std::time::Instant::now() < deadline, "{method}: {}", answer.json());
        }
    };
    for method in ["GET", "PUT", "DELETE"] {
        invalid(&own.call(&gateway, method, &own.update(json!({}))));
        dead(&first, method);
    }
    dead(&second, "DELETE");
    dead(&second, "GET");
}

/// Such a server has one answer for clients that are gone and for tokens that are no longer good (RFC 7592 §2): the
/// client's own token is as good as before.
#[test]
fn mgt_20_where_the_servers_token_is_refused_nothing_is_known() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    gateway.fakes.fake("rfc7591").unwrap().reset();
    for method in ["GET", "PUT", "DELETE", "DELETE"] {
        let answer = own.call(&gateway, method, &own.update(json!({"client_name": "C"})));
        assert_eq!((answer.status, answer.text("/error").as_str()), (503, "temporarily_unavailable"), "{method}");
        assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
    }
    let path = format!("/v1/clients/{}", own.id());
    let record = gateway.call("GET", &path, &[], &Value::Null);
    assert_eq!((record.text("/state").as_str(), record.text("/management").as_str()), ("active", "lost"));
    let refused = gateway.call("DELETE", &path, &[], &Value::Null);
    assert_eq!((refused.status, refused.text("/code").as_str()), (502, "upstream-authentication"));
    assert_eq!(
        (refused.text("/outcome").as_str(), &refused.json()["vendor"]["status"]),
        ("not_performed", &json!(401))
    );
    let open = gateway.call("GET", "/v1/operations?state=unknown", &[], &Value::Null);
    assert_eq!(open.json()["items"], json!([]), "nothing waits for a person");
}

#[test]
fn mgt_21_rotation_happens_with_an_update_and_forgives_a_lost_answer() {
    let rotating =
        |grace: &str| gateway(&format!("{OPEN}\nrotate_access_tokens = true\nrotation_grace = \"{grace}\""), "");
    let gateway = rotating("1h");
    let own = register(&gateway, "rfc7591", &metadata());
    assert_eq!(own.get(&gateway).text("/registration_access_token"), own.token, "a read changes nothing");
    let second = own.call(&gateway, "PUT", &own.update(json!({}))).text("/registration_access_token");
    assert_ne!(second, own.token);
    // that answer was lost: the old one still works, and brings a new one
    let third = own.get(&gateway).text("/registration_access_token");
    assert!(third != own.token && third != second);
    // as often as that happens, and a HEAD brings none: nobody would see it
    assert_eq!(bearer(&gateway, "HEAD", &own.path, &own.token, &Value::Null).status, 200);
    let fourth = own.get(&gateway).text("/registration_access_token");
    assert!(fourth != third && fourth != own.token);
    invalid(&bearer(&gateway, "GET", &own.path, &third, &Value::Null));
    assert_eq!(bearer(&gateway, "GET", &own.path, &fourth, &Value::Null).status, 200);
    invalid(&own.get(&gateway));

    // updates at the same time end alike, and each has a token that works
    let own = register(&gateway, "loop", &with(json!({"client_name": "Twins"})));
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let update = || own.call(&gateway, "PUT", &own.update(json!({"client_name": "Twins"})));
        let all: Vec<_> = (0..4).map(|_| scope.spawn(update)).collect();
        let answers: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(answers.iter().all(|answer| answer.status == 200));
        answers.iter().map(|answer| answer.text("/registration_access_token")).collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0] && *token != own.token), "{tokens:?}");
    assert_eq!(bearer(&gateway, "GET", &own.path, &tokens[0], &Value::Null).status, 200);
    invalid(&own.get(&gateway));

    let gateway = rotating("0s");
    let own = register(&gateway, "rfc7591", &metadata());
    let second = own.call(&gateway, "PUT", &own.update(json!({}))).text("/registration_access_token");
    invalid(&own.get(&gateway));
    assert_eq!(bearer(&gateway, "GET", &own.path, &second, &Value::Null).text("/registration_access_token"), second);
}

#[test]
fn mgt_23_24_tokens_are_long_stored_as_hashes_and_do_not_end() {
    let mut gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    assert!(own.token.starts_with("rat_") && own.token.len() == 4 + 64 + 8, "256 bits and a checksum");
    assert!(own.json.get("registration_access_token_expires_at").is_none());
    assert_eq!(own.get(&gateway).status, 200);
    for file in ["registrar.db", "registrar.db-wal"] {
        let bytes = std::fs::read(gateway.folder.path().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            !text.contains(&own.token[4..68]) && !text.contains(own.json["client_secret"].as_str().unwrap()),
            "{file}"
        );
    }
    assert!(!gateway.log().contains(&own.token[4..68]));
    gateway.kill_and_restart();
    assert_eq!(own.get(&gateway).status, 200);
}

#[test]
fn mgt_27_other_methods_are_not_there() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    for method in ["PATCH", "POST"] {
        let answer = own.call(&gateway, method, &json!({}));
        assert_eq!(answer.status, 405, "{method}");
        let allow = answer.header("allow").unwrap();
        assert!(["GET", "PUT", "DELETE"].iter().all(|m| allow.contains(m)) && !allow.contains(method), "{allow}");
    }
    assert!(call(gateway.address, "GET", "/register", &[], b"").header("allow").unwrap().contains("POST"));
}

#[test]
fn mgt_28_of_two_updates_at_once_one_is_complete() {
    let gateway = open();
    let own = register(&gateway, "loop", &metadata());
    let body = |n: u32| {
        own.update(json!({"client_name": format!("N{n}"), "client_uri": format!("https://a.example/{n}"), "redirect_uris": [format!("https://a.example/{n}")]}))
    };
    for round in 0..3 {
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (gateway, own, body) = (&gateway, &own, &body);
                scope.spawn(move || assert_eq!(own.call(gateway, "PUT", &body(round * 10 + n)).status, 200));
            }
        });
        let now = own.get(&gateway).json();
        let n: u32 = now["client_name"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(now["client_uri"], format!("https://a.example/{n}"));
        assert_eq!(now["redirect_uris"], json!([format!("https://a.example/{n}")]));
    }
}

/// A server need not have RFC 7592: the client is told so when it registers, reads itself from the record, and is not blamed.
#[test]
fn clients_f7_a_client_whose_server_gives_no_management_can_only_be_read() {
    let gateway = open();
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::Before,
        fault: Fault::Status {
            status: 201,
            body: Some(json!({
                "client_id": "unmanaged", "client_secret": "s-1", "client_secret_expires_at": 0, "client_name": "Client",
                "redirect_uris": ["https://a.example/cb"], "scope": "openid"
            })),
            headers: serde_json::Map::new(),
        },
    });
    let own = register(&gateway, "rfc7591", &metadata());
    let losses = own.json["registrar_losses"].as_array().unwrap();
    let told = losses.iter().find(|loss| loss["field"] == "management").unwrap();
    assert_eq!((&told["kind"], &told["severity"]), (&json!("dropped"), &json!("functional")));
    let calls = gateway.fakes.ledger(None).len();
    let read = own.get(&gateway);
    assert_eq!((read.status, read.text("/client_id")), (200, "unmanaged".to_owned()), "{}", read.json());
    assert_eq!(read.json()["redirect_uris"], json!(["https://a.example/cb"]));
    for method in ["PUT", "DELETE"] {
        let answer = own.call(&gateway, method, &own.update(json!({})));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}: {}", answer.json());
        assert_eq!(answer.text("/error"), "invalid_request");
        let text = answer.text("/error_description");
        assert!(text.contains("the server that holds it") && !text.contains("token"), "{text}");
        invalid(&bearer(&gateway, method, &own.path, "rat_0_0", &json!({})));
    }
    assert_eq!(gateway.fakes.ledger(None).len(), calls, "the vendor is not asked what it cannot answer");
    assert_eq!(own.get(&gateway).status, 200);
    // the other face says so, too
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::Before,
        fault: Fault::Status {
            status: 201,
            body: Some(
                json!({ "client_id": "other", "client_secret": "s-2", "redirect_uris": ["https://a.example/cb"] }),
            ),
            headers: serde_json::Map::new(),
        },
    });
    let made = gateway.post("/v1/clients", &json!({ "backend": "rfc7591", "metadata": metadata() }));
    assert_eq!(made.status, 201);
    assert!(made.json()["losses"].as_array().unwrap().iter().any(|loss| loss["field"] == "management"));
}
