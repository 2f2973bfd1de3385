//! Open with a quota of clients and an expiry of those that are never used, over the real binary.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, bearer, initial_token, metadata, register, with},
    http::JSON,
    running::{Gateway, binary},
    truths::{at_vendor, quiet},
};

/// Open routes to these backends, each with these lines.
fn gateway(backends: &[&str], lines: &str) -> Gateway {
    Gateway::start_edited("none", |text| {
        let mut text = text.split("[[routes]]").next().unwrap().to_owned();
        text.push_str(&format!("[registration]\n{OPEN}\n"));
        for name in backends {
            text.push_str(&format!("[[routes]]\nname = \"{name}\"\nbackend = \"{name}\"\n{lines}\n"));
        }
        text
    })
}

const MONTH: &str = "registration_expire_unused = \"30d\"";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The time until all clients expire passes, up to so many seconds: in the file, not on the clock.
fn expire(gateway: &Gateway, seconds_ago: i64) {
    let file = rusqlite::Connection::open(gateway.folder.path().join("registrar.db")).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    let sql = "UPDATE registrations SET unused_until = ?1 WHERE unused_until IS NOT NULL";
    assert!(file.execute(sql, [(now() - seconds_ago) * 1000]).unwrap() > 0);
}

/// Waits until so many operations of the expiry have succeeded; those.
fn expirations(gateway: &Gateway, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let journal = gateway.get("/v1/operations?state=succeeded&limit=200").json();
        let items = journal["items"].as_array().unwrap();
        let done: Vec<Value> = items.iter().filter(|o| o["action"] != "create").cloned().collect();
        if done.len() >= count {
            return done;
        }
        assert!(Instant::now() < deadline, "{journal}\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_is_told_when_it_expires_and_one_look_is_enough() {
    let gateway = gateway(&["loop"], MONTH);
    let own = register(&gateway, "loop", &metadata());
    let until = own.json["registration_expires_at"].as_i64().unwrap();
    assert!((now() + 30 * 86_400 - until).abs() < 60, "{}", own.json);
    let path = format!("/v1/clients/{}", own.id());
    let record = gateway.get(&path).json();
    let shown = record["unused_until"].as_str().unwrap();
    let calendar = rusqlite::Connection::open_in_memory().unwrap();
    let seconds = calendar.query_row("SELECT unixepoch(?1)", [shown], |row| row.get::<_, i64>(0));
    assert_eq!(seconds.unwrap(), until, "{shown}");
    assert_eq!(gateway.get("/v1/clients").json()["items"][0]["unused_until"], record["unused_until"]);
    // a look of an administrator is none of the client's
    gateway.get(&format!("{path}?source=vendor"));
    assert_eq!(gateway.get(&path).json()["unused_until"], record["unused_until"]);
    // nor is what is not let in
    assert_eq!(bearer(&gateway, "GET", &own.path, "rat_x", &Value::Null).status, 401);
    assert_eq!(gateway.get(&path).json()["unused_until"], record["unused_until"]);
    let seen = own.get(&gateway);
    assert_eq!((seen.status, seen.json().get("registration_expires_at")), (200, None));
    let after = gateway.get(&path).json();
    assert_eq!((after.get("unused_until"), &after["version"]), (None, &record["version"]));
}

#[test]
fn what_an_administrator_writes_keeps_a_client_and_what_was_shown_may_be_sent_back() {
    let gateway = gateway(&["loop"], MONTH);
    let own = register(&gateway, "loop", &metadata());
    let path = format!("/v1/clients/{}", own.id());
    let shown = gateway.get(&path).json();
    assert!(shown["unused_until"].is_string());
    let written = gateway.call("PUT", &path, &[JSON], &shown);
    assert_eq!((written.status, written.json().get("unused_until")), (200, None), "{}", written.json());
    // an update of the client's own, too
    let own = register(&gateway, "loop", &metadata());
    let updated = own.call(&gateway, "PUT", &own.update(json!({ "client_name": "New" })));
    assert_eq!((updated.status, updated.json().get("registration_expires_at")), (200, None), "{}", updated.json());
}

/// What is forbidden is no use.
#[test]
fn a_look_that_is_not_permitted_keeps_nothing() {
    let gateway = Gateway::start_edited("none", |text| {
        let backends = text.split("[[routes]]").next().unwrap();
        let route = "[[routes]]\nname = \"loop\"\nbackend = \"loop\"\n";
        format!("{backends}[registration]\n{OPEN}\nmanage = [\"update\"]\nexpire_unused = \"30d\"\n{route}")
    });
    let own = register(&gateway, "loop", &metadata());
    let record = || gateway.get(&format!("/v1/clients/{}", own.id())).json();
    assert_eq!(own.get(&gateway).status, 403);
    assert!(record()["unused_until"].is_string());
    assert_eq!(own.call(&gateway, "PUT", &own.update(json!({}))).status, 200);
    assert_eq!(record().get("unused_until"), None);
}

#[test]
fn without_the_key_or_with_a_token_nothing_expires() {
    let never = gateway(&["loop"], "");
    let own = register(&never, "loop", &metadata());
    assert_eq!(own.json.get("registration_expires_at"), None);
    assert_eq!(never.get(&format!("/v1/clients/{}", own.id())).json().get("unused_until"), None);
    let monthly = gateway(&["loop"], MONTH);
    let token = initial_token(&monthly, json!({ "name": "partner" }));
    let answer = bearer(&monthly, "POST", "/loop/register", &token, &metadata());
    assert_eq!((answer.status, answer.json().get("registration_expires_at")), (201, None));
}

#[test]
fn a_use_is_reported_over_the_api_and_by_the_command_line() {
    let gateway = gateway(&["loop"], MONTH);
    let clients: Vec<_> = (0..3).map(|_| register(&gateway, "loop", &metadata())).collect();
    let record = |n: usize| gateway.get(&format!("/v1/clients/{}", clients[n].id())).json();
    let path = format!("/v1/clients/{}:used", clients[0].id());
    for again in [false, true] {
        let answer = gateway.post(&path, &Value::Null);
        assert_eq!(answer.status, 204, "{again}");
        assert_eq!(record(0).get("unused_until"), None);
    }
    // as clients write it that encode every reserved character
    assert_eq!(gateway.post(&path.replace(':', "%3A"), &Value::Null).status, 204);
    let nobody = "reg_0198c0de-0000-7000-8000-00000000abcd";
    for id in [nobody, "x"] {
        let answer = gateway.post(&format!("/v1/clients/{id}:used"), &Value::Null);
        assert_eq!((answer.status, answer.text("/code").as_str()), (404, "client-not-found"), "{id}");
    }
    assert_eq!(gateway.post(&format!("/v1/clients/{nobody}:sed"), &Value::Null).status, 404);
    assert!(record(1)["unused_until"].is_string() && record(2)["unused_until"].is_string());
    let url = format!("http://{}", gateway.address);
    let used = |ids: &[&str]| binary().args(["clients", "used"]).args(ids).args(["--url", &url]).output().unwrap();
    // one that does not exist does not keep the others from being told
    let out = used(&[clients[1].id(), nobody, clients[2].id()]);
    let told = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{told}");
    assert!(told.contains(nobody) && out.stdout.is_empty(), "{told}");
    assert_eq!((record(1).get("unused_until"), record(2).get("unused_until")), (None, None));
    assert_eq!(used(&[clients[1].id()]).status.code(), Some(0));
    assert_eq!(used(&[]).status.code(), Some(1), "an id is needed");
    let nothing_expires_now = gateway.get("/metrics");
    assert!(!String::from_utf8_lossy(&nothing_expires_now.body).contains("registrar_unused_clients_total"));
}

/// In the minute before it is deleted, it is as if it were.
#[test]
fn the_token_of_an_expired_client_opens_nothing() {
    let gateway = gateway(&["loop"], MONTH);
    let own = register(&gateway, "loop", &metadata());
    expire(&gateway, 1);
    let unknown =
        bearer(&gateway, "GET", "/register/reg_0198c0de-0000-7000-8000-00000000abcd", &own.token, &Value::Null);
    for (method, body) in [("GET", Value::Null), ("PUT", own.update(json!({}))), ("DELETE", Value::Null)] {
        let answer = own.call(&gateway, method, &body);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, unknown.header("www-authenticate")));
        for member in ["error", "error_description"] {
            assert_eq!(answer.json()[member], unknown.json()[member], "{method}");
        }
    }
    let record = gateway.get(&format!("/v1/clients/{}", own.id())).json();
    assert!(record["unused_until"].is_string() && record["state"] == "active", "{record}");
    assert_eq!(gateway.post(&format!("/v1/clients/{}:used", own.id()), &Value::Null).status, 404);
    assert_eq!(gateway.vendor_writes(), 1, "nothing but the registration");
}

/// What expired while no gateway was there is deleted when one is: where the vendor cannot delete, it is switched off.
#[test]
fn at_its_start_a_gateway_deletes_what_was_never_used() {
    let kinds = ["authms", "bitgo", "loop", "rfc7591"];
    let mut gateway = gateway(&kinds, MONTH);
    let unused: Vec<_> = kinds.iter().map(|kind| register(&gateway, kind, &metadata())).collect();
    let used: Vec<_> =
        kinds.iter().map(|kind| register(&gateway, kind, &with(json!({"client_name": "Used"})))).collect();
    for own in &used {
        assert_eq!(own.get(&gateway).status, 200);
    }
    gateway.kill();
    expire(&gateway, 61);
    gateway.restart(None);
    let done = expirations(&gateway, kinds.len());
    assert_eq!(done.len(), kinds.len());
    for (kind, own) in kinds.iter().zip(&unused) {
        let record = gateway.get(&format!("/v1/clients/{}", own.id()));
        let operation = done.iter().find(|o| o["registration"] == own.id()).unwrap();
        let (action, status) = if ["authms", "rfc7591"].contains(kind) { ("delete", 404) } else { ("update", 200) };
        assert_eq!((operation["action"].as_str(), record.status), (Some(action), status), "{kind}");
        if status == 200 {
            assert_eq!((record.text("/state").as_str(), record.json().get("unused_until")), ("disabled", None));
        }
        assert_eq!(own.get(&gateway).status, 401, "{kind}");
    }
    for own in &used {
        assert_eq!(own.get(&gateway).status, 200);
    }
    let log = gateway.log();
    for own in &unused {
        let said = log.lines().find(|l| l.contains("was never used") && l.contains(own.id())).unwrap();
        assert!(said.contains(own.json["client_id"].as_str().unwrap()), "{said}");
    }
    let metrics = String::from_utf8(gateway.get("/metrics").body).unwrap();
    for kind in kinds {
        let line = format!("registrar_unused_clients_total{{backend=\"{kind}\",outcome=\"ended\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

/// The process dies between the vendor's answer and its record.
#[test]
fn a_death_during_the_deletion_leaves_no_orphan_and_no_ghost() {
    for failpoint in ["intent", "answered"] {
        let mut gateway = gateway(&["authms"], MONTH);
        let own = register(&gateway, "authms", &metadata());
        assert_eq!(at_vendor(&gateway, "authms").len(), 1);
        gateway.kill();
        expire(&gateway, 61);
        gateway.restart(Some(failpoint));
        gateway.wait();
        gateway.restart(None);
        assert_eq!(quiet(&gateway), Vec::<Value>::new());
        if failpoint == "intent" {
            // nothing was sent, as the vendor shows; the next round does it
            gateway.kill_and_restart();
        }
        expirations(&gateway, 1);
        assert_eq!(gateway.get(&format!("/v1/clients/{}", own.id())).status, 404, "{failpoint}");
        let alive: Vec<_> = gateway.fakes.fake("authms").unwrap().clients();
        assert!(alive.iter().all(|c| c["status"] != "active"), "{failpoint}: {alive:?}");
    }
}

#[test]
fn sixty_four_at_once_find_ten_places() {
    let gateway = gateway(&["loop", "authms"], "registration_max_clients = 10");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |n: usize| {
            let gateway = &gateway;
            scope.spawn(move || gateway.post("/loop/register", &with(json!({"client_name": format!("c{n}")}))))
        };
        let all: Vec<_> = (0..64).map(ask).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 10);
    assert_eq!((at_vendor(&gateway, "loop").len(), gateway.vendor_writes()), (10, 10));
    for refused in answers.iter().filter(|a| a.status != 201) {
        assert_eq!((refused.status, refused.text("/error")), (429, "temporarily_unavailable".to_owned()));
        assert!(refused.text("/error_description").contains("initial access token"), "{}", refused.json());
        assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    }
    assert!(gateway.log().contains("no more clients may register here"));
    // each route has its own
    register(&gateway, "authms", &metadata());
    // who is no longer there leaves his place to somebody else
    let first = answers.iter().find(|a| a.status == 201).unwrap();
    let id = first.text("/registration_client_uri").rsplit('/').next().unwrap().to_owned();
    assert_eq!(gateway.call("DELETE", &format!("/v1/clients/{id}?mode=disable"), &[], &Value::Null).status, 200);
    register(&gateway, "loop", &metadata());
    assert_eq!(gateway.post("/loop/register", &metadata()).status, 429);
}
