//! Checklist A: the registration request and its response (RFC 7591 §2, §3).

use std::time::{SystemTime, UNIX_EPOCH};

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, Own, ROUTES, bearer, gateway, initial_token, metadata, open, refused, register, with},
    http::JSON,
    running::Gateway,
};

#[test]
fn dcr_01_02_03_05_06_40_a_registration_is_201_and_one_flat_object() {
    let gateway = open();
    for route in ROUTES {
        let answer = gateway.post(&format!("/{route}/register"), &metadata());
        assert_eq!(answer.status, 201, "{route}: {}", answer.json());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("location").unwrap(), answer.text("/registration_client_uri"));
        let id = answer.text("/client_id");
        assert!(!id.is_empty() && id.bytes().all(|b| (0x20..=0x7e).contains(&b)), "{id}");
        assert!(answer.json()["redirect_uris"].is_array() && answer.json().get("metadata").is_none());
    }
    // parameters of the media type are allowed
    let typed = gateway.call("POST", "/register", &[("content-type", "application/json; charset=UTF-8")], &metadata());
    assert_eq!(typed.status, 201);
}

#[test]
fn dcr_04_nothing_is_cached() {
    let gateway = open();
    for answer in
        [gateway.post("/register", &metadata()), gateway.post("/register", &json!([])), gateway.get("/register/x")]
    {
        assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    }
}

#[test]
fn dcr_07_08_ids_and_secrets_are_different_each_time() {
    let gateway = open();
    for route in ROUTES {
        let (a, b) = (
            register(&gateway, route, &metadata()).json,
            register(&gateway, route, &with(json!({"client_name": "Other"}))).json,
        );
        assert_ne!(a["client_id"], b["client_id"], "{route}");
        assert!(a["client_secret"].is_string(), "{route}");
        assert_ne!(a["client_secret"], b["client_secret"], "{route}");
    }
}

#[test]
fn dcr_09_10_times_are_whole_seconds() {
    let gateway = open();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    for route in ROUTES {
        let client = register(&gateway, route, &metadata()).json;
        assert!(client["client_secret_expires_at"].is_u64(), "{route}: {client}");
        assert!(client["client_id_issued_at"].is_u64(), "{route}: {client}");
    }
    let issued = register(&gateway, "loop", &metadata()).json["client_id_issued_at"].as_i64().unwrap();
    assert!((now - 5..=now + 5).contains(&issued), "{issued} at {now}");
    let public = register(&gateway, "rfc7591", &with(json!({"token_endpoint_auth_method": "none"}))).json;
    assert!(public.get("client_secret_expires_at").is_none(), "{public}");
}

#[test]
fn dcr_11_a_public_client_has_no_secret_at_any_vendor() {
    let gateway = open();
    for route in ROUTES {
        let answer = gateway.post(&format!("/{route}/register"), &with(json!({"token_endpoint_auth_method": "none"})));
        assert!(answer.json().get("client_secret").is_none(), "{route}: {}", answer.json());
        // BitGo has no public clients
        assert_eq!(answer.status, if route == "bitgo" { 400 } else { 201 }, "{route}: {}", answer.json());
    }
}

#[test]
fn dcr_12_13_14_30_defaults_in_force_are_shown() {
    let gateway = open();
    for route in ROUTES {
        let client = register(&gateway, route, &metadata()).json;
        let method = client["token_endpoint_auth_method"].as_str().unwrap();
        assert!(method.starts_with("client_secret_"), "{route}: {method}");
        assert!(client["grant_types"].as_array().unwrap().contains(&json!("authorization_code")), "{route}: {client}");
        assert_eq!(client["response_types"], json!(["code"]), "{route}");
    }
    let client = register(&gateway, "rfc7591", &metadata()).json;
    assert_eq!(client["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(client["grant_types"], json!(["authorization_code"]));
    let machine = json!({ "client_name": "M", "grant_types": ["client_credentials"], "scope": "openid" });
    for route in ["rfc7591", "authms"] {
        // authms wants a redirect URI even then
        let body =
            if route == "authms" { with(json!({"grant_types": ["client_credentials"]})) } else { machine.clone() };
        let client = register(&gateway, route, &body).json;
        assert_eq!(client["response_types"], json!([]), "{route}: {client}");
    }
}

#[test]
fn dcr_15_everything_registered_is_echoed() {
    let gateway = open();
    let body = with(json!({
        "client_uri": "https://a.example", "logo_uri": "https://a.example/logo", "contacts": ["x@a.example"],
        "tos_uri": "https://a.example/tos", "policy_uri": "https://a.example/privacy", "software_id": "s", "software_version": "1",
        "application_type": "web", "grant_types": ["authorization_code", "refresh_token"], "jwks_uri": "https://a.example/jwks"
    }));
    let client = register(&gateway, "rfc7591", &body).json;
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&client[name], value, "{name}");
    }
    assert_eq!(client["response_types"], json!(["code"]), "provisioned by the server");
}

#[test]
fn dcr_16_what_the_vendor_made_of_it_is_shown() {
    let gateway = open();
    // Loop always grants refresh_token, and has its own way to authenticate
    let client = register(&gateway, "loop", &with(json!({"grant_types": ["authorization_code"]}))).json;
    assert!(client["grant_types"].as_array().unwrap().contains(&json!("refresh_token")), "{client}");
    let fields: Vec<&Value> = client["registrar_losses"].as_array().unwrap().iter().map(|l| &l["field"]).collect();
    assert!(fields.contains(&&json!("grant_types")), "{client}");
}

#[test]
fn dcr_17_18_19_what_is_not_metadata_has_no_effect() {
    let gateway = open();
    let body = with(json!({
        "color": "red", "enabled": false, "first_party": true, "owner": "me", "policy": {"enabled": false}, "backend": "bitgo",
        "vendor": {"loop": {"x": 1}}, "metadata": {"scope": "admin"}, "labels": {"a": "b"}, "allow_loss": ["metadata.jwks_uri"],
        "client_id": "mine", "client_secret": "CANARY-mine", "registration_access_token": "rat_mine", "client_secret_expires_at": 1
    }));
    let client = register(&gateway, "rfc7591", &body);
    for name in
        ["color", "enabled", "first_party", "owner", "policy", "backend", "vendor", "metadata", "labels", "allow_loss"]
    {
        assert!(client.json.get(name).is_none(), "{name} in {}", client.json);
    }
    assert!(client.json["client_id"] != "mine" && client.json["client_secret"] != "CANARY-mine");
    assert!(client.json["registration_access_token"] != "rat_mine" && client.json["client_secret_expires_at"] == 0);
    assert!(client.json.get("registrar_losses").is_none(), "{}", client.json);
    let record = gateway.get(&format!("/v1/clients/{}", client.id())).json();
    assert_eq!((record["backend"].as_str(), record.get("labels"), record.get("policy")), (Some("rfc7591"), None, None));
    assert!(!record.to_string().contains("color") && !record.to_string().contains("CANARY"));
    let sent = gateway.fakes.ledger(Some("rfc7591")).pop().unwrap().request_body.unwrap().to_string();
    assert!(!sent.contains("color") && !sent.contains("CANARY"), "{sent}");
}

#[test]
fn dcr_20_21_nothing_is_null_or_empty_and_redirects_are_a_list() {
    let gateway = open();
    for route in ROUTES {
        for members in
            [json!({}), json!({"client_name": null, "scope": null}), json!({"client_uri": "https://a.example"})]
        {
            let answer = gateway.post(&format!("/{route}/register"), &with(members));
            let client = answer.json();
            if answer.status == 201 {
                assert!(client["redirect_uris"].is_array());
                let shown = Own::of(&answer).get(&gateway).json();
                for (name, value) in client.as_object().unwrap().iter().chain(shown.as_object().unwrap()) {
                    assert!(!value.is_null() && value != "", "{route} {name}");
                }
            }
        }
    }
    let machine = register(&gateway, "rfc7591", &json!({ "grant_types": ["client_credentials"] })).json;
    assert_eq!(machine["redirect_uris"], json!([]));
}

#[test]
fn dcr_22_23_24_wrong_types_are_refused() {
    let gateway = open();
    for members in [
        json!({"scope": ["a", "b"]}),
        json!({"jwks": {"keys": []}, "jwks_uri": "https://a.example/jwks"}),
        json!({"jwks": "{\"keys\":[]}"}),
        json!({"jwks": [{}]}),
        json!({"client_name": 7}),
        json!({"redirect_uris": "https://a.example/cb"}),
    ] {
        refused(&gateway, &with(members), "invalid_client_metadata");
    }
}

#[test]
fn dcr_25_private_keys_are_refused_and_kept_nowhere() {
    let gateway = open();
    for key in [
        json!({"kty": "RSA", "n": "a", "e": "AQAB", "d": "CANARY-PRIVATE"}),
        json!({"kty": "oct", "k": "CANARY-PRIVATE"}),
    ] {
        let told = refused(&gateway, &with(json!({"jwks": {"keys": [key]}})), "invalid_client_metadata");
        assert!(!told.contains("CANARY"));
    }
    assert!(!gateway.log().contains("CANARY"));
}

#[test]
fn dcr_26_27_28_names_in_languages_are_kept_as_they_are() {
    let gateway = open();
    let name = "  Caf\u{e9} \u{1F600} e\u{301}";
    let body = with(json!({"client_name": name, "client_name#ja-Jpan-JP": "\u{30af}", "client_name#EN-us": "English"}));
    let client = register(&gateway, "rfc7591", &body).json;
    assert_eq!(client["client_name"], name);
    assert_eq!(client["client_name#ja-Jpan-JP"], "\u{30af}");
    assert_eq!(client["client_name#en-US"], "English");
    // a vendor without languages: reported, or kept here
    let client = register(&gateway, "loop", &body).json;
    let lost = client.get("registrar_losses").map(Value::to_string).unwrap_or_default();
    assert!(client["client_name#ja-Jpan-JP"] == "\u{30af}" || lost.contains("ja-Jpan-JP"), "{client}");
}

#[test]
fn dcr_29_31_contradictions_are_refused() {
    let gateway = open();
    refused(
        &gateway,
        &with(json!({"grant_types": ["client_credentials"], "response_types": ["code"]})),
        "invalid_client_metadata",
    );
    refused(
        &gateway,
        &with(json!({"grant_types": ["authorization_code"], "response_types": ["token"]})),
        "invalid_client_metadata",
    );
    refused(&gateway, &with(json!({"redirect_uris": null})), "invalid_redirect_uri");
    refused(&gateway, &with(json!({"redirect_uris": []})), "invalid_redirect_uri");
}

#[test]
fn dcr_32_a_uri_as_authentication_method_is_not_a_syntax_error() {
    let gateway = open();
    let answer = gateway.post("/register", &with(json!({"token_endpoint_auth_method": "https://a.example/method"})));
    assert_eq!(gateway.vendor_writes(), 1, "the vendor decides");
    assert_eq!((answer.status, answer.text("/error")), (400, "invalid_client_metadata".to_owned()));
    refused(&gateway, &with(json!({"token_endpoint_auth_method": "not a uri"})), "invalid_client_metadata");
}

#[test]
fn dcr_33_plain_http_is_for_one_machine_only() {
    let public = |url: &str, registration: &str| {
        Gateway::start_edited("none", |text| {
            let text = text.replace("http://127.0.0.1:0\"\n[store]", &format!("{url}\"\n[store]"));
            format!("{text}\n[registration]\nroot = true\naccess = \"open\"\n{registration}")
        })
    };
    let plain = public("http://gw.example", "");
    let answer = plain.post("/register", &metadata());
    assert_eq!((answer.status, answer.text("/error")), (400, "invalid_request".to_owned()));
    assert!(answer.text("/error_description").contains("TLS"));
    let proxied = public("https://gw.example", "proxies = 1");
    let through =
        |scheme: &str| proxied.call("POST", "/register", &[JSON, ("x-forwarded-proto", scheme)], &metadata()).status;
    assert_eq!((through("http"), through("https")), (400, 201));
    assert_eq!(plain.vendor_writes(), 0);
}

#[test]
fn dcr_34_35_36_37_the_door() {
    let gateway = open();
    assert_eq!(gateway.post("/register", &metadata()).status, 201);
    let closed = Gateway::start();
    let answer = closed.post("/register", &metadata());
    assert_eq!((answer.status, answer.text("/error")), (403, "access_denied".to_owned()));
    assert!(!answer.text("/error_description").contains("[registration]"), "that is for the operator");

    let gateway = crate::dcr::gateway("access = \"token\"", "");
    let none = gateway.post("/register", &metadata());
    assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer realm=\"registrar\"")));
    let token = initial_token(&gateway, json!({"name": "ci"}));
    let in_query = gateway.post(&format!("/register?access_token={token}"), &metadata());
    assert_eq!(in_query.status, 401);
    for bad in ["x", "", "iat_0000000000000000_00", &token[..token.len() - 1], "rk_a_b"] {
        let answer = bearer(&gateway, "POST", "/register", bad, &metadata());
        assert_eq!((answer.status, answer.text("/error")), (401, "invalid_token".to_owned()), "{bad}");
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
    assert_eq!(gateway.vendor_writes(), 0);
    assert_eq!(bearer(&gateway, "POST", "/register", &token, &metadata()).status, 201);
}

#[test]
fn dcr_38_keycloak_27294_initial_access_tokens_have_limits_also_at_once() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "three", "uses": 3}));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = |n: usize| {
            let (gateway, token) = (&gateway, &token);
            scope.spawn(move || {
                bearer(gateway, "POST", "/register", token, &with(json!({"client_name": format!("c{n}")}))).status
            })
        };
        let all: Vec<_> = (0..16).map(ask).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 3, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 201 | 401)));
    assert_eq!(gateway.vendor_writes(), 3);
    // another route
    let elsewhere = initial_token(&gateway, json!({"name": "loop only", "routes": ["loop"]}));
    assert_eq!(bearer(&gateway, "POST", "/register", &elsewhere, &metadata()).status, 403);
    assert_eq!(bearer(&gateway, "POST", "/loop/register", &elsewhere, &metadata()).status, 201);
    // what led to nothing costs nothing
    let once = initial_token(&gateway, json!({"name": "once", "uses": 1}));
    assert_eq!(bearer(&gateway, "POST", "/register", &once, &json!({"redirect_uris": ["x"]})).status, 400);
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::Before,
        fault: Fault::Status {
            status: 400,
            body: Some(json!({"error": "invalid_client_metadata"})),
            headers: serde_json::Map::new(),
        },
    });
    assert_eq!(bearer(&gateway, "POST", "/register", &once, &metadata()).status, 400);
    assert_eq!(bearer(&gateway, "POST", "/register", &once, &metadata()).status, 201);
    assert_eq!(bearer(&gateway, "POST", "/register", &once, &metadata()).status, 401);
}

/// Mistakes are no registrations, but work: ten of them count as one.
#[test]
fn dcr_39_refused_bodies_are_counted() {
    let limited = gateway("access = \"open\"\nrate = \"1/hour\"", "");
    for path in ["/register", "/loop/register"] {
        let status = |body: &str| crate::http::call(limited.address, "POST", path, &[JSON], body.as_bytes()).status;
        let mistakes: [&str; 5] =
            ["", "{", r#"{"redirect_uris":"x"}"#, r#"{"a":"\u0000"}"#, r#"{"redirect_uris":["x"]}"#];
        let statuses: Vec<u16> = mistakes.iter().cycle().take(11).map(|body| status(body)).collect();
        assert_eq!(statuses, [vec![400; 10], vec![429]].concat(), "{path}");
    }
    assert_eq!(limited.post("/authms/register", &metadata()).status, 201, "each door counts by itself");
}

#[test]
fn dcr_39_so_many_registrations_and_no_more() {
    let limited = gateway("access = \"open\"\nrate = \"2/hour\"", "");
    let statuses: Vec<u16> = (0..3).map(|_| limited.post("/register", &metadata()).status).collect();
    assert_eq!(statuses, [201, 201, 429]);
    let answer = limited.post("/register", &metadata());
    assert_eq!(
        (answer.header("content-type"), answer.text("/error")),
        (Some("application/json"), "temporarily_unavailable".to_owned())
    );
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    // a caller cannot say that it is somebody else
    let forged = limited.call("POST", "/register", &[JSON, ("x-forwarded-for", "203.0.113.9")], &metadata());
    assert_eq!(forged.status, 429);
    // nor is a body waited for, or read, that would not be taken
    let head = "POST /loop/register HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    let named = gateway("access = \"open\"\nrate = \"1/hour\"", "");
    assert_eq!(named.post("/loop/register", &metadata()).status, 201);
    let mut stream = std::net::TcpStream::connect(named.address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut status = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 429");
    // all together, whoever they are
    let shared = gateway(&format!("{OPEN}\nproxies = 1\nquota = \"1/day\""), "");
    let from =
        |address: &str| shared.call("POST", "/register", &[JSON, ("x-forwarded-for", address)], &metadata()).status;
    assert_eq!((from("203.0.113.1"), from("203.0.113.2")), (201, 429));
}

/// Every form of a client's address is that client: not one bucket for all that come through a proxy, and no second one.
#[test]
fn field_17_forwarded_addresses_have_ports_and_brackets() {
    let limited = gateway("access = \"open\"\nproxies = 1\nrate = \"1/hour\"", "");
    let from =
        |address: &str| limited.call("POST", "/register", &[JSON, ("x-forwarded-for", address)], &metadata()).status;
    for first in [
        "203.0.113.8:51234",
        "203.0.113.9",
        "[2001:db8:1::1]:443",
        "2001:db8:2::1",
        "[2001:db8:3::1]",
        "\"203.0.113.10:80\"",
        "::ffff:203.0.113.11",
        "_hidden",
        "198.51.100.1, 203.0.113.12:1",
    ] {
        assert_eq!(from(first), 201, "{first}");
    }
    for again in [
        "203.0.113.8",
        "203.0.113.9:1",
        "2001:db8:1::2",
        "\"[2001:db8:2::1]:443\"",
        "2001:db8:3::1%eth0",
        "203.0.113.10:_x",
        "[::ffff:203.0.113.11]:1",
        "_hidden:1",
        "198.51.100.2, 203.0.113.12",
    ] {
        assert_eq!(from(again), 429, "{again}");
    }
}

/// Hosted assistants come from a handful of addresses, and register with every connection.
#[test]
fn field_4a_an_address_may_register_60_times_an_hour_by_default() {
    let gateway = gateway("access = \"open\"", "");
    for n in 0..60 {
        assert_eq!(gateway.post("/register", &metadata()).status, 201, "{n}");
    }
    let answer = gateway.post("/register", &metadata());
    let wait = answer.header("retry-after").unwrap().to_owned();
    assert_eq!(answer.status, 429);
    assert!((1..=60).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    assert!(answer.text("/error_description").contains(&format!("{wait} seconds")), "{}", answer.json());
}

#[test]
fn redteam_q2_a_key_that_can_be_guessed_brings_back_neither_secret_nor_token() {
    let gateway = open();
    let ask = |key: &str, body: &Value| gateway.call("POST", "/register", &[JSON, ("idempotency-key", key)], body);
    let first = ask("1", &metadata());
    assert_eq!(first.status, 201);
    let writes = gateway.vendor_writes();
    let again = ask("1", &metadata());
    assert_eq!((again.status, again.text("/error")), (422, "invalid_request".to_owned()));
    let told = String::from_utf8_lossy(&again.body).into_owned();
    for secret in ["client_secret", "registration_access_token"] {
        assert!(!told.contains(&first.text(&format!("/{secret}"))), "{told}");
    }
    assert!(told.contains("UUID"), "{told}");
    // and the first client's token is as it was
    assert_eq!(Own::of(&first).get(&gateway).status, 200);
    let key = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    let (one, two) = (ask(key, &metadata()), ask(key, &metadata()));
    assert_eq!((one.status, two.status), (201, 201), "{}", two.json());
    assert_eq!(one.text("/client_secret"), two.text("/client_secret"));
    assert_eq!(gateway.vendor_writes(), writes + 1);
    // behind an initial access token nobody else can ask
    let token = initial_token(&gateway, json!({"name": "t"}));
    let authorization = format!("Bearer {token}");
    let known = || {
        let headers = [JSON, ("idempotency-key", "1"), ("authorization", authorization.as_str())];
        gateway.call("POST", "/register", &headers, &metadata()).status
    };
    assert_eq!((known(), known()), (201, 201));
}

/// DESIGN section 5: absent members are absent, and the three lists are always there, at every kind.
#[test]
fn real_servers_r2_j2_no_answer_has_an_empty_member_or_lacks_a_list() {
    let gateway = open();
    let is_strict = |client: &Value, at: &str| {
        for (name, value) in client.as_object().unwrap() {
            let list = matches!(name.as_str(), "redirect_uris" | "grant_types" | "response_types");
            let empty = match value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty() && !list,
                Value::Object(members) => members.is_empty(),
                _ => false,
            };
            assert!(!empty, "{at}: {name}: {value}");
        }
        for name in ["redirect_uris", "grant_types", "response_types"] {
            assert!(client[name].is_array(), "{at}: {name}: {client}");
        }
    };
    for route in ROUTES {
        for body in [
            metadata(),
            with(json!({"client_name": null, "scope": null})),
            with(json!({"client_name": "Other", "contacts": [], "jwks": null})),
        ] {
            let own = register(&gateway, route, &body);
            is_strict(&own.json, &format!("{route} 201"));
            let read = own.get(&gateway);
            is_strict(&read.json(), &format!("{route} GET"));
            let put = own.call(&gateway, "PUT", &own.update(json!({})));
            assert_eq!(put.status, 200, "{route}: {}", put.json());
            is_strict(&put.json(), &format!("{route} PUT"));
        }
    }
    // whatever a server says
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
                "client_id": "empties", "client_secret": "s", "redirect_uris": ["https://a.example/cb"], "jwks": {}, "contacts": [],
                "logo_uri": "", "tos_uri": null, "request_uris": [], "client_name": "Client", "scope": "openid"
            })),
            headers: serde_json::Map::new(),
        },
    });
    let own = register(&gateway, "rfc7591", &metadata());
    is_strict(&own.json, "empties 201");
    is_strict(&own.get(&gateway).json(), "empties GET");
}

#[test]
fn field_4e_a_registration_as_a_jwt_is_told_what_is_taken() {
    let gateway = open();
    let answer = crate::http::call(
        gateway.address,
        "POST",
        "/loop/register",
        &[("content-type", "application/jwt")],
        b"eyJ.eyJ.x",
    );
    assert_eq!((answer.status, answer.text("/error")), (415, "invalid_request".to_owned()));
    let told = answer.text("/error_description");
    assert!(told.contains("application/json") && told.contains("software_statement"), "{told}");
    assert_eq!(gateway.vendor_writes(), 0);
}
