//! `/v1`, as its users see it.

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    http::{JSON, MERGE_PATCH},
    running::Gateway,
};

fn registration(backend: &str, name: &str) -> Value {
    json!({ "backend": backend, "metadata": { "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" } })
}

const KINDS: [&str; 4] = ["authms", "bitgo", "loop", "loginradius"];

#[test]
fn a_client_lives_from_creation_to_its_end_at_every_vendor() {
    let gateway = Gateway::start();
    for kind in KINDS {
        let created = gateway.post("/v1/clients", &registration(kind, "Life"));
        assert_eq!(created.status, 201, "{kind}: {}", created.json());
        let (id, secret) = (created.text("/id"), created.text("/client_secret"));
        assert!(created.header("location").unwrap().ends_with(&format!("/v1/clients/{id}")));
        assert_eq!(created.header("etag"), Some("\"1\""));
        assert_eq!(created.header("cache-control"), Some("no-store"));
        assert_eq!(created.json()["client_secret_expires_at"], json!(0));
        assert!(created.json()["losses"].is_array());

        let path = format!("/v1/clients/{id}");
        let read = gateway.get(&path);
        assert_eq!((read.status, read.header("etag")), (200, Some("\"1\"")));
        assert!(!read.json().to_string().contains(&secret), "{kind}: a read shows the secret");
        assert_eq!(read.json()["metadata"]["client_name"], "Life");
        let live = gateway.get(&format!("{path}?source=vendor"));
        assert_eq!(live.json()["drift"], json!([]), "{kind}");

        let patched = gateway.call(
            "PATCH",
            &path,
            &[MERGE_PATCH, ("if-match", "\"1\"")],
            &json!({ "metadata": { "redirect_uris": ["https://a.example/new"] } }),
        );
        assert_eq!(patched.status, 200, "{kind}: {}", patched.json());
        assert_eq!(patched.json()["metadata"]["redirect_uris"], json!(["https://a.example/new"]));
        assert_eq!(patched.header("etag"), Some("\"2\""));
        let stale =
            gateway.call("PATCH", &path, &[MERGE_PATCH, ("if-match", "\"1\"")], &json!({ "labels": { "a": "b" } }));
        assert_eq!((stale.status, stale.text("/code")), (412, "precondition-failed".to_owned()));
        let live = gateway.get(&format!("{path}?source=vendor"));
        assert_eq!(live.json()["metadata"]["redirect_uris"], json!(["https://a.example/new"]), "{kind}");
        assert_eq!(live.json()["drift"], json!([]), "{kind}");

        let rotated = gateway.call("POST", &format!("{path}/secret"), &[], &json!({}));
        if kind == "bitgo" {
            assert_eq!((rotated.status, rotated.text("/code")), (422, "unsupported-by-backend".to_owned()));
        } else {
            assert_eq!(rotated.status, 200, "{kind}: {}", rotated.json());
            assert_ne!(rotated.text("/client_secret"), secret);
        }

        let writes = gateway.vendor_writes();
        let deleted = gateway.call("DELETE", &path, &[], &Value::Null);
        if kind == "authms" {
            assert_eq!((deleted.status, deleted.body.len()), (204, 0));
            assert_eq!(gateway.get(&path).status, 404);
            continue;
        }
        assert_eq!((deleted.status, deleted.text("/code")), (422, "unsupported-by-backend".to_owned()));
        assert_eq!(gateway.vendor_writes(), writes, "an undocumented deletion was sent");
        let disabled = gateway.call("DELETE", &format!("{path}?mode=disable"), &[], &Value::Null);
        if kind == "loginradius" {
            assert_eq!(disabled.status, 422);
        } else {
            assert_eq!((disabled.status, disabled.text("/state")), (200, "disabled".to_owned()), "{kind}");
            assert_eq!(gateway.get(&format!("{path}?source=vendor")).json()["policy"]["enabled"], json!(false));
        }
    }
}

#[test]
fn put_replaces_and_removes_what_is_left_out() {
    let gateway = Gateway::start();
    let mut body = registration("loop", "Replaced");
    body["metadata"]["client_uri"] = json!("https://a.example");
    body["metadata"]["contacts"] = json!(["x@a.example"]);
    let created = gateway.post("/v1/clients", &body);
    let path = format!("/v1/clients/{}", created.text("/id"));
    assert_eq!(created.json()["metadata"]["contacts"], json!(["x@a.example"]), "kept in the gateway's record");

    let replaced = gateway.call("PUT", &path, &[JSON], &registration("loop", "Replaced"));
    assert_eq!(replaced.status, 200, "{}", replaced.json());
    let sent = gateway.fakes.ledger(Some("loop")).pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.request_body), ("PATCH", Some(json!({ "client_uri": null }))));
    let read = gateway.get(&path).json();
    assert!(read["metadata"].get("client_uri").is_none() && read["metadata"].get("contacts").is_none());

    // what GET gives, PUT takes
    let again = gateway.call("PUT", &path, &[JSON], &read);
    assert_eq!(again.status, 200, "{}", again.json());
    let moved = gateway.call("PUT", &path, &[JSON], &registration("bitgo", "Replaced"));
    assert_eq!((moved.status, moved.text("/errors/0/pointer")), (422, "#/backend".to_owned()));
}

#[test]
fn a_security_loss_is_refused_unless_that_very_field_is_allowed() {
    let gateway = Gateway::start();
    let mut body = registration("loop", "Keys");
    body["metadata"]["default_max_age"] = json!(3600);
    let refused = gateway.post("/v1/clients", &body);
    assert_eq!(
        (refused.status, refused.text("/code"), refused.text("/outcome")),
        (422, "unsupported-by-backend".to_owned(), "not_performed".to_owned())
    );
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let fields: Vec<Value> = refused.json()["losses"].as_array().unwrap().iter().map(|l| l["field"].clone()).collect();
    assert!(fields.contains(&json!("metadata.default_max_age")));
    assert_eq!(gateway.vendor_writes(), 0);

    let dry = gateway.post("/v1/clients?dry_run=true", &body).json();
    assert_eq!((dry["would"].as_str(), dry["backend"].as_str()), (Some("refuse"), Some("loop")));
    assert_eq!(dry["requests"][0]["method"], "POST");

    body["allow_loss"] = json!(["metadata.jwks"]);
    assert_eq!(gateway.post("/v1/clients", &body).status, 422, "another field was allowed");
    body["allow_loss"] = json!(["metadata.default_max_age"]);
    let created = gateway.post("/v1/clients", &body);
    assert_eq!(created.status, 201);
    let loss = created.json()["losses"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["field"] == "metadata.default_max_age")
        .cloned()
        .unwrap();
    assert_eq!((loss["kind"].as_str(), loss["severity"].as_str()), (Some("dropped"), Some("security")));
    assert!(created.json()["metadata"].get("jwks_uri").is_none(), "the record shows what the vendor does not have");
}

#[test]
fn routes_decide_and_explain() {
    let gateway = Gateway::start();
    let body = json!({ "metadata": { "redirect_uris": ["https://a.example/cb"], "scope": "wallet_view" } });
    let explained = gateway.post("/v1/routes:evaluate", &body).json();
    assert_eq!((explained["backend"].as_str(), explained["route"].as_str()), (Some("bitgo"), Some("wallets")));
    assert_eq!(gateway.post("/v1/clients", &body).text("/backend"), "bitgo");
    let nowhere = json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] } });
    let explained = gateway.post("/v1/routes:evaluate", &nowhere).json();
    assert!(explained.get("backend").is_none());
    assert!(explained["considered"][0]["reason"].as_str().unwrap().contains("cannot be evaluated"));
    let refused = gateway.post("/v1/clients", &nowhere);
    assert_eq!((refused.status, refused.text("/code")), (422, "no-route".to_owned()));
    let unknown = gateway.post("/v1/clients", &registration("nobody", "x"));
    assert_eq!((unknown.status, unknown.text("/errors/0/pointer")), (422, "#/backend".to_owned()));
}

#[test]
fn lists_are_filtered_and_paged() {
    let gateway = Gateway::start();
    for n in 0..25 {
        let mut body = registration("loop", &format!("Caf\u{e9} {n}"));
        body["labels"] = json!({ "team": if n % 2 == 0 { "even" } else { "odd" } });
        assert_eq!(gateway.post("/v1/clients", &body).status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/clients?limit=10&label=team:even".to_owned();
    loop {
        let page = gateway.get(&path);
        seen.extend(page.json()["items"].as_array().unwrap().iter().map(|i| i["id"].clone()));
        let Some(link) = page.header("link") else { break };
        assert!(page.json()["next_cursor"].is_string());
        path =
            link.split(['<', '>']).nth(1).unwrap().split_once("/v1/").map(|(_, rest)| format!("/v1/{rest}")).unwrap();
    }
    assert_eq!(seen.len(), 13);
    seen.dedup();
    assert_eq!(seen.len(), 13);
    assert_eq!(gateway.get("/v1/clients?q=CAF%C3%89%2011").json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.get("/v1/clients?backend=bitgo").json()["items"], json!([]));
    for bad in [
        "limit=0",
        "limit=x",
        "limit=201",
        "cursor=zzz",
        "label=novalue",
        "colour=red",
        "limit=1&limit=2",
        "q=%ff",
        "backend=A%20B",
    ] {
        let refused = gateway.get(&format!("/v1/clients?{bad}"));
        assert_eq!((refused.status, refused.text("/code")), (400, "invalid-request".to_owned()), "{bad}");
    }
    let labels = |of: &dyn Fn(usize) -> String| {
        let query = (0..1_000).map(|n| format!("label={}", of(n))).collect::<Vec<_>>().join("&");
        gateway.get(&format!("/v1/clients?{query}"))
    };
    assert_eq!(labels(&|n| format!("k{n}:v")).status, 400, "each one is a subquery");
    assert_eq!(labels(&|n| format!("k:{}", n % 17)).status, 400);
    assert_eq!(labels(&|n| format!("k:{}", n % 16)).status, 200, "equal ones count once");
}

#[test]
fn a_page_ends_at_a_megabyte_and_the_next_goes_on() {
    let gateway = Gateway::start();
    for n in 0..30 {
        let mut body = registration("loop", &format!("Large {n}"));
        let contacts: Vec<String> = (0..100).map(|c| format!("{c}{}@a.example", "x".repeat(480))).collect();
        body["metadata"]["contacts"] = json!(contacts);
        assert_eq!(gateway.post("/v1/clients", &body).status, 201);
    }
    let (mut seen, mut sizes, mut path) = (Vec::new(), Vec::new(), "/v1/clients?limit=200".to_owned());
    loop {
        let page = gateway.get(&path);
        sizes.push(page.body.len());
        seen.extend(page.json()["items"].as_array().unwrap().iter().map(|i| i["id"].to_string()));
        let Some(cursor) = page.json()["next_cursor"].as_str().map(str::to_owned) else { break };
        assert!(page.header("link").is_some_and(|link| link.contains(&cursor)));
        path = format!("/v1/clients?limit=200&cursor={cursor}");
    }
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= (1 << 20) + 200), "{sizes:?}");
    let sorted: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), sorted.len()), (30, 30));
}

#[test]
fn the_outcome_of_a_lost_answer_is_unknown_and_listed() {
    let mut gateway = Gateway::start();
    // the one vendor at which nothing can be found out, so that it stays unknown
    gateway.fakes.script(ScriptedFault {
        kind: Some("bitgo".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Reset {},
    });
    let lost = gateway.post("/v1/clients", &registration("bitgo", "Lost"));
    assert_eq!(
        (lost.status, lost.text("/code"), lost.text("/outcome")),
        (504, "outcome-unknown".to_owned(), "unknown".to_owned())
    );
    assert_eq!(lost.json()["retryable"], json!(false));
    let operation = lost.text("/operation");
    let journal = gateway.get(&format!("/v1/operations/{operation}")).json();
    assert_eq!(
        (journal["state"].as_str(), journal["action"].as_str(), journal["backend"].as_str()),
        (Some("unknown"), Some("create"), Some("bitgo"))
    );
    let open = gateway.get("/v1/operations?state=unknown").json();
    assert_eq!(open["items"].as_array().unwrap().len(), 1);
    gateway.kill_and_restart();
    let kept = gateway.get("/v1/operations?state=unknown").json();
    assert_eq!(kept["items"][0]["id"], open["items"][0]["id"], "the journal survives a kill");
}

#[test]
fn a_write_that_was_interrupted_is_listed_as_unknown_after_a_restart() {
    let mut gateway = Gateway::start();
    gateway.fakes.script(ScriptedFault {
        kind: Some("bitgo".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Hang {},
    });
    let address = gateway.address;
    let body = registration("bitgo", "Interrupted").to_string();
    let caller = std::thread::spawn(move || {
        crate::http::raw(address, format!("POST /v1/clients HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    });
    while gateway.vendor_writes() == 0 {
        std::thread::yield_now();
    }
    gateway.kill_and_restart();
    assert!(caller.join().unwrap().is_none());
    let open = gateway.get("/v1/operations?state=unknown").json();
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    assert!(open["items"][0]["summary"].as_str().unwrap().contains("interrupted"));
}

#[test]
fn a_caller_who_leaves_changes_nothing() {
    let gateway = Gateway::start();
    gateway.fakes.script(ScriptedFault {
        kind: Some("loop".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::After,
        fault: Fault::Delay { ms: 300 },
    });
    let body = registration("loop", "Left").to_string();
    {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
        write!(stream, "POST /v1/clients HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", gateway.address, body.len()).unwrap();
        while gateway.vendor_writes() == 0 {
            std::thread::yield_now();
        }
    }
    let found = || gateway.get("/v1/clients?q=left").json()["items"].as_array().unwrap().len();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while found() == 0 {
        assert!(std::time::Instant::now() < deadline, "the write was lost with its caller");
        std::thread::yield_now();
    }
}

#[test]
fn drift_shows_what_changed_behind_our_back() {
    let gateway = Gateway::start();
    let created = gateway.post("/v1/clients", &registration("loop", "Drifting"));
    let client = created.text("/client_id");
    let fake = gateway.fakes.base_url("loop");
    let address: std::net::SocketAddr = fake.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
    let changed = crate::http::call(
        address,
        "PATCH",
        &format!("/loop/v1/admin/oauth-clients/{client}"),
        &[JSON, ("authorization", "Bearer fake-loop-admin-token")],
        br#"{"allowed_scopes":["openid","read:biomarkers"]}"#,
    );
    assert_eq!(changed.status, 200);
    let live = gateway.get(&format!("/v1/clients/{}?source=vendor", created.text("/id"))).json();
    assert_eq!(
        live["drift"],
        json!([{ "field": "metadata.scope", "recorded": "openid profile", "vendor": "openid read:biomarkers" }])
    );
}

#[test]
fn public_clients_get_no_secret_and_cannot_rotate() {
    let gateway = Gateway::start();
    for kind in ["loop", "authms", "loginradius"] {
        let mut body = registration(kind, "Public");
        body["metadata"]["token_endpoint_auth_method"] = json!("none");
        let created = gateway.post("/v1/clients", &body);
        assert_eq!(created.status, 201, "{kind}: {}", created.json());
        assert!(
            created.json().get("client_secret").is_none() && created.json().get("client_secret_expires_at").is_none()
        );
        let rotated = gateway.call("POST", &format!("/v1/clients/{}/secret", created.text("/id")), &[], &Value::Null);
        assert_eq!((rotated.status, rotated.text("/code")), (422, "unsupported-by-backend".to_owned()));
    }
    let mut body = registration("bitgo", "Public");
    body["metadata"]["token_endpoint_auth_method"] = json!("none");
    assert_eq!(gateway.post("/v1/clients", &body).status, 422, "a public client would get a secret");
}

#[test]
fn system_paths_answer() {
    let mut gateway = Gateway::start();
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/readyz").status, 200);
    assert_eq!(gateway.post("/v1/clients", &registration("loop", "Metrics")).status, 201);
    let metrics = String::from_utf8(gateway.get("/metrics").body).unwrap();
    assert!(
        metrics.contains("registrar_operations_total") && metrics.contains("registrar_vendor_requests_total"),
        "{metrics}"
    );
    let vendors = gateway.get("/v1/vendors").json();
    assert_eq!(vendors["items"].as_array().unwrap().len(), registrar_adapters::VENDORS.len());
    assert_eq!(vendors["items"][2]["fields"]["metadata.jwks_uri"], "unsupported");
    let backends = gateway.get("/v1/backends").json();
    assert_eq!(backends["items"].as_array().unwrap().len(), registrar_adapters::VENDORS.len());
    assert_eq!(gateway.get("/v1/backends/loop?check=true").json()["check"], json!({ "ok": true }));
    assert_eq!(gateway.get("/v1/backends/nobody").text("/code"), "backend-not-found");
    let page = gateway.get("/docs/");
    assert_eq!(page.status, 200);
    let problem = gateway.get("/problems/unsupported-by-backend");
    assert_eq!((problem.status, problem.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn the_api_document_is_complete_and_true() {
    let gateway = Gateway::start();
    let document = gateway.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|d| !d.is_empty()), "{method} {path} {status}");
            }
            // every documented path is there, with that method
            let real = path.replace("{id}", "x").replace("{name}", "x");
            let answer = gateway.call(&method.to_uppercase(), &real, &[JSON], &json!({}));
            assert_ne!(answer.status, 405, "{method} {path}");
            if answer.status == 404 && answer.header("content-type") == Some("application/problem+json") {
                assert_ne!(answer.text("/code"), "not-found", "{method} {path}");
            }
        }
    }
    // references lead somewhere
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|r| r.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[test]
fn secrets_appear_in_no_log_store_or_metric() {
    let gateway = Gateway::start();
    let mut secrets = vec![
        "fake-loop-admin-token".to_owned(),
        "fake-bitgo-admin-token".to_owned(),
        "fake-authms-admin-token".to_owned(),
        "fake-m2m-secret".to_owned(),
    ];
    for kind in KINDS {
        let created = gateway.post("/v1/clients", &registration(kind, "Canary"));
        secrets.push(created.text("/client_secret"));
        let path = format!("/v1/clients/{}", created.text("/id"));
        let rotated = gateway.call("POST", &format!("{path}/secret"), &[], &Value::Null);
        secrets.extend(rotated.json()["client_secret"].as_str().map(str::to_owned));
        for fault in [
            Fault::Truncate { bytes: 200 },
            Fault::WrongType { pointer: "/client_secret".to_owned() },
            Fault::WrongType { pointer: "/clientSecret".to_owned() },
            Fault::WrongType { pointer: "/ClientSecret".to_owned() },
            Fault::WrongType { pointer: "/data/client_secret".to_owned() },
        ] {
            gateway.fakes.script(ScriptedFault {
                kind: Some(kind.to_owned()),
                method: Some("POST".to_owned()),
                path_contains: Some("client".to_owned()),
                skip: 0,
                times: 1,
                when: When::After,
                fault,
            });
            let mut body = registration(kind, &format!("Canary{}", secrets.len()));
            body["metadata"]["client_secret"] = json!("caller-CANARY-secret");
            let answer = gateway.post("/v1/clients", &body);
            if answer.status == 201 {
                // a secret of the wrong type is the fault's own 7
                secrets.extend(answer.json()["client_secret"].as_str().filter(|s| *s != "7").map(str::to_owned));
            }
        }
        for client in gateway.fakes.fake(kind).unwrap().clients() {
            for pointer in ["/clientSecret", "/ClientSecret", "/Secret", "/_secrets/0"] {
                secrets.extend(client.pointer(pointer).and_then(Value::as_str).map(str::to_owned));
            }
        }
    }
    secrets.push("caller-CANARY-secret".to_owned());
    let mut places = vec![
        ("log".to_owned(), gateway.log()),
        ("metrics".to_owned(), String::from_utf8_lossy(&gateway.get("/metrics").body).into_owned()),
    ];
    for path in ["/v1/clients?limit=200", "/v1/operations?limit=200", "/v1/backends"] {
        places.push((path.to_owned(), String::from_utf8_lossy(&gateway.get(path).body).into_owned()));
    }
    for file in ["registrar.db", "registrar.db-wal"] {
        let bytes = std::fs::read(gateway.folder.path().join(file)).unwrap_or_default();
        places.push((file.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    assert!(places[0].1.len() > 10_000, "the log is at trace level");
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        for (place, text) in &places {
            assert!(!text.contains(secret.as_str()), "{secret} is in {place}");
        }
    }
}

/// What a vendor issues cannot be brought along: it is never sent, and the caller is told so by name.
#[test]
fn trap_28_no_vendor_is_asked_for_a_client_id_or_a_secret() {
    let gateway = Gateway::start();
    for kind in ["authms", "bitgo", "loop", "loginradius"] {
        let wanted = json!({ "backend": kind, "metadata": {
            "client_name": "Moved", "redirect_uris": ["https://a.example/cb"], "scope": "openid",
            "client_id": "brought-along", "client_secret": "canary-brought-along"
        } });
        let answer = gateway.post("/v1/clients", &wanted);
        assert_eq!(answer.status, 201, "{kind}: {}", answer.json());
        let made = answer.json();
        assert_ne!(made["client_id"], "brought-along");
        assert_ne!(made["client_secret"], "canary-brought-along");
        for member in ["metadata.client_id", "metadata.client_secret"] {
            let losses = made["losses"].as_array().unwrap();
            let loss = losses.iter().find(|l| l["field"] == member).unwrap_or_else(|| panic!("{kind}: {member}"));
            assert_eq!((&loss["kind"], loss.get("wanted")), (&json!("dropped"), None));
        }
        let sent = gateway.fakes.ledger(Some(kind));
        assert!(!sent.iter().any(|entry| format!("{entry:?}").contains("brought-along")), "{kind}");
    }
}
