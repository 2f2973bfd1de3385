//! Initial access tokens: their terms, the path that carries one, the API and the command line that make them.

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    dcr::{Own, bearer, gateway, initial_token, metadata, with},
    exactly_once::{is_final, settled},
    http::JSON,
    running::{Gateway, binary},
};

#[test]
fn a_token_in_the_path_is_for_clients_that_cannot_send_one() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "mcp", "uses": 1}));
    let path = format!("/loop/register/{token}");
    assert_eq!(gateway.post(&path, &metadata()).status, 201);
    assert_eq!(gateway.post(&path, &metadata()).status, 401, "it had one use");
    assert_eq!(gateway.post("/loop/register/x", &metadata()).status, 401);
    assert!(!gateway.log().contains(&token), "the path is in the log");
}

#[test]
fn terms_hold_for_what_will_be_also_in_updates() {
    let gateway = gateway("access = \"token\"", "");
    let terms =
        json!({"name": "small", "scopes": ["openid", "email"], "redirect_hosts": ["a.example", "com.example.app:"]});
    let token = initial_token(&gateway, terms);
    let ask = |body: &Value| bearer(&gateway, "POST", "/register", &token, body);
    // left out is not a way around
    let own = Own::of(&ask(&with(json!({"scope": null}))));
    assert_eq!(own.json["scope"], "email openid");
    let wide = ask(&with(json!({"scope": "openid admin"})));
    assert_eq!((wide.status, wide.text("/error")), (400, "invalid_client_metadata".to_owned()));
    for uri in [
        "https://evil.example/cb",
        "https://a.example.evil.example/cb",
        "https://xa.example/cb",
        "other.app:/cb",
        "http://localhost/cb",
    ] {
        let answer = ask(&with(json!({"redirect_uris": ["https://a.example/cb", uri]})));
        assert_eq!((answer.status, answer.text("/error")), (400, "invalid_redirect_uri".to_owned()), "{uri}");
    }
    for uri in ["https://A.example/cb", "com.example.app:/cb"] {
        assert_eq!(ask(&with(json!({"redirect_uris": [uri]}))).status, 201, "{uri}");
    }
    let writes = gateway.vendor_writes();
    for members in [json!({"scope": "openid admin"}), json!({"redirect_uris": ["https://evil.example/cb"]})] {
        assert_eq!(own.call(&gateway, "PUT", &own.update(members)).status, 400);
    }
    assert_eq!(gateway.vendor_writes(), writes);
    let without = own.call(&gateway, "PUT", &own.update(json!({"scope": null})));
    assert_eq!((without.status, without.text("/scope")), (200, "email openid".to_owned()));
}

#[test]
fn tokens_are_made_listed_and_forgotten() {
    let gateway = gateway("access = \"token\"", "");
    let made = gateway
        .post("/v1/initial-access-tokens", &json!({"name": "n", "uses": 2, "expires_in": 3600, "routes": ["loop"]}));
    assert_eq!(made.status, 201);
    let (id, token) = (made.text("/id"), made.text("/token"));
    assert!(token.starts_with(&format!("iat_{id}_")));
    let listed = gateway.get("/v1/initial-access-tokens").json();
    assert_eq!((&listed["items"][0]["uses_left"], &listed["items"][0]["routes"]), (&json!(2), &json!(["loop"])));
    assert!(!listed.to_string().contains(&token[21..]));
    for bad in [
        json!({"uses": 0}),
        json!({"expires_in": -1}),
        json!({"scopes": "x"}),
        json!({"colour": 1}),
        json!({"name": 7}),
        json!([]),
    ] {
        let answer = gateway.post("/v1/initial-access-tokens", &bad);
        assert!(matches!(answer.status, 400 | 422), "{bad}: {}", answer.json());
    }
    let path = format!("/v1/initial-access-tokens/{id}");
    assert_eq!(gateway.call("DELETE", &path, &[], &Value::Null).status, 204);
    let again = gateway.call("DELETE", &path, &[], &Value::Null);
    assert_eq!((again.status, again.text("/code")), (404, "token-not-found".to_owned()));
    assert_eq!(bearer(&gateway, "POST", "/loop/register", &token, &metadata()).status, 401);
}

#[test]
fn the_command_line_makes_them_too() {
    let gateway = gateway("access = \"token\"", "");
    let run = |args: &[&str]| {
        let out =
            binary().arg("initial-access-tokens").args(args).arg("--config").arg(gateway.config()).output().unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap().trim().to_owned())
    };
    let (ok, token) =
        run(&["create", "partner", "--uses", "1", "--scope", "openid,email", "--redirect-host", "a.example"]);
    assert!(ok && token.starts_with("iat_"), "{token}");
    assert_eq!(
        bearer(&gateway, "POST", "/register", &token, &with(json!({"scope": null}))).text("/scope"),
        "email openid"
    );
    let (_, list) = run(&["list"]);
    assert!(list.contains("partner") && !list.contains(&token));
    let id = token.split('_').nth(1).unwrap();
    assert!(run(&["delete", id]).0 && !run(&["delete", id]).0);
}

#[test]
fn an_idempotency_key_brings_the_same_client_and_spends_one_use() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "two", "uses": 2}));
    let ask = |key: &str| {
        let authorization = format!("Bearer {token}");
        gateway.call(
            "POST",
            "/register",
            &[JSON, ("authorization", &authorization), ("idempotency-key", key)],
            &metadata(),
        )
    };
    let (first, again) = (Own::of(&ask("k-1")), Own::of(&ask("k-1")));
    assert_eq!(
        (&first.json["client_id"], &first.json["client_secret"]),
        (&again.json["client_id"], &again.json["client_secret"])
    );
    assert_eq!(again.get(&gateway).status, 200, "the token of the second answer works");
    assert_eq!(gateway.vendor_writes(), 1);
    assert_eq!(ask("k-2").status, 201);
    assert_eq!(ask("k-3").status, 401);
}

/// Those that come while the first is on its way past the look for it find it when they begin, and not a token that is
/// used up.
#[test]
fn equal_requests_at_once_spend_one_use() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "storm", "uses": 1}));
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Delay { ms: 300 },
    });
    let authorization = format!("Bearer {token}");
    let headers = [JSON, ("authorization", &authorization), ("idempotency-key", "storm")];
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || gateway.call("POST", "/rfc7591/register", &headers, &metadata()).status;
        let all: Vec<_> = (0..32).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.contains(&201) && statuses.iter().all(|s| matches!(s, 201 | 409)), "{statuses:?}");
    assert_eq!(gateway.vendor_writes(), 1);
    assert_eq!(gateway.get("/v1/initial-access-tokens").json()["items"][0]["uses_left"], json!(0));
}

/// The process dies between any two steps: afterwards there is a client and the use is gone, or none and it is back.
#[test]
fn a_death_at_every_failpoint_neither_loses_nor_gives_a_use() {
    for failpoint in ["intent", "answered", "recorded"] {
        let mut gateway = gateway("access = \"token\"", "");
        let token = initial_token(&gateway, json!({"name": "mortal", "uses": 1}));
        gateway.kill();
        gateway.restart(Some(failpoint));
        let body = metadata().to_string();
        let request = format!(
            "POST /authms/register HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n{body}",
            gateway.address,
            body.len()
        );
        assert!(crate::http::raw(gateway.address, request.as_bytes()).is_none(), "{failpoint}: it answered");
        gateway.wait();
        gateway.restart(None);
        let open = gateway.get("/v1/operations").json();
        settled(&gateway, open["items"][0]["id"].as_str().unwrap(), is_final);
        let made = gateway.fakes.fake("authms").unwrap().clients().len();
        let left = gateway.get("/v1/initial-access-tokens").json()["items"][0]["uses_left"].clone();
        assert_eq!((made, left), if failpoint == "intent" { (0, json!(1)) } else { (1, json!(0)) }, "{failpoint}");
        // whoever asked repeats it, and it is the one client
        let own = Own::of(&gateway.call(
            "POST",
            "/authms/register",
            &[JSON, ("authorization", &format!("Bearer {token}")), ("idempotency-key", "k")],
            &metadata(),
        ));
        assert_eq!(own.get(&gateway).status, 200, "{failpoint}");
        assert_eq!(gateway.fakes.fake("authms").unwrap().clients().len(), 1, "{failpoint}");
        assert_eq!(bearer(&gateway, "POST", "/authms/register", &token, &metadata()).status, 401, "{failpoint}");
    }
}

/// Whether the vendor has made the client is not known: the use is not given back, or somebody could try for ever.
#[test]
fn a_registration_that_may_have_been_made_keeps_its_use() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "two", "uses": 2}));
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Reset {},
    });
    let headers = [JSON, ("authorization", &format!("Bearer {token}")), ("idempotency-key", "k")];
    for _ in 0..3 {
        let unsure = gateway.call("POST", "/rfc7591/register", &headers, &metadata());
        assert_eq!((unsure.status, unsure.text("/error")), (504, "server_error".to_owned()));
        assert_eq!(gateway.get("/v1/initial-access-tokens").json()["items"][0]["uses_left"], json!(1));
    }
}

#[test]
fn wrong_keys_of_the_configuration_are_found() {
    let gateway = Gateway::start();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let bad = format!(
        "{text}registration = \"opne\"\nregistration_rate = \"often\"\npolicy = 'metadata.'\ndiscovery = {{ issuer = \"x\" }}\nregistration_redirect_hosts = [\"*.a.example\"]\n[registration]\naccess = 1\nproxies = -1\nmanage = [\"raed\"]\n"
    );
    let file = gateway.folder.path().join("bad.toml");
    std::fs::write(&file, bad).unwrap();
    let out = binary().args(["check", "--config"]).arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success());
    for place in [
        "registration",
        "registration_rate",
        "policy",
        "discovery",
        "registration_redirect_hosts",
        "registration.access",
        "registration.proxies",
        "registration.manage",
        "did you mean `open`",
        "did you mean `read`",
    ] {
        assert!(told.contains(place), "{place} is not in {told}");
    }
}

#[test]
fn a_client_found_after_a_lost_answer_keeps_the_terms_of_its_token() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "small", "uses": 1, "scopes": ["openid"]}));
    gateway.fakes.script(ScriptedFault {
        kind: Some("authms".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Reset {},
    });
    let ask = |token: &str| {
        let headers = [JSON, ("authorization", &format!("Bearer {token}")), ("idempotency-key", "k")];
        gateway.call("POST", "/authms/register", &headers, &metadata())
    };
    let unsure = ask(&token);
    assert_eq!((unsure.status, unsure.text("/error")), (504, "server_error".to_owned()));
    settled(&gateway, &unsure.text("/operation"), is_final);
    // its one use is spent, and is worth the answer to it
    let found = Own::of(&ask(&token));
    assert_eq!(found.get(&gateway).status, 200);
    let wide = found.call(&gateway, "PUT", &found.update(json!({"scope": "openid admin"})));
    assert_eq!((wide.status, wide.text("/error")), (400, "invalid_client_metadata".to_owned()));
    let another = bearer(&gateway, "POST", "/authms/register", &token, &with(json!({"client_name": "Another"})));
    assert_eq!((another.status, another.text("/error")), (401, "invalid_token".to_owned()));
}
