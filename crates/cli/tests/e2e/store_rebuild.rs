//! `registrar store`: checking, copying, and rebuilding what was damaged (reliability F34).
//!
//! `FLIPS=100 cargo test -p registrar --test e2e store_rebuild -- --nocapture` is the long mode.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::{
    http::call,
    running::{Gateway, binary},
    truths::{KINDS, Seeded, at_vendor, create, pages, quiet},
};

fn store(gateway: &Gateway, args: &[&str]) -> Output {
    let config = gateway.config().display().to_string();
    binary().arg("store").args(args).args(["--config", &config, "-o", "json"]).output().unwrap()
}

/// What a command printed, when it ended with this exit code.
fn told(out: &Output, code: i32) -> Value {
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{stderr} {}", String::from_utf8_lossy(&out.stdout));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"))
}

fn backup(gateway: &Gateway, name: &str) -> PathBuf {
    let file = gateway.folder.path().join(name);
    let out = store(gateway, &["backup", &file.display().to_string()]);
    assert_eq!(told(&out, 0)["sound"], true);
    file
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway.folder.path().join("registrar.db")
}

/// The file without a log, and nothing of an earlier rebuild beside it.
fn put(gateway: &Gateway, bytes: &[u8]) {
    for entry in std::fs::read_dir(gateway.folder.path()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("registrar.db") && !name.ends_with(".lock") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    std::fs::write(file(gateway), bytes).unwrap();
}

/// Every record: its backend and client id by its id.
fn records(gateway: &Gateway) -> BTreeMap<String, (String, String)> {
    let text = |r: &Value, name: &str| r[name].as_str().unwrap().to_owned();
    let told = pages(gateway, "/v1/clients?");
    told.iter().map(|r| (text(r, "id"), (text(r, "backend"), text(r, "client_id")))).collect()
}

fn damage(whole: &[u8], round: u64, random: &mut Seeded) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let pages = u64::try_from(bytes.len() / 4096).unwrap();
    let mut below = |end: u64| usize::try_from(random.below(end)).unwrap();
    match round % 4 {
        // the header and the schema
        0 => bytes[..4096].fill(0),
        1 => bytes.truncate(4096 * (1 + below(pages - 1)) + below(4096)),
        _ => {
            for _ in 0..=below(3) {
                let at = 4096 * below(pages);
                bytes[at..at + 4096].fill_with(|| u8::try_from(below(256)).unwrap());
            }
        }
    }
    bytes
}

/// F34: whatever was damaged, every client of a vendor is registered under its old id, or reported; none is doubled; what
/// was deleted stays deleted; and the gateway starts.
#[test]
fn a_rebuilt_store_has_every_client_once_or_says_which_it_has_not() {
    let rounds: u64 = std::env::var("FLIPS").ok().and_then(|f| f.parse().ok()).unwrap_or(8);
    // an old journal, and none that is open
    let mut gateway = Gateway::start_edited("none", |text| {
        text.replace("visibility_grace = \"300ms\"", "visibility_grace = \"1ms\"")
    });
    let mut first = BTreeMap::new();
    let fill = |gateway: &Gateway, numbers: std::ops::Range<u32>, answers: &mut BTreeMap<String, Value>| {
        for n in numbers {
            for kind in KINDS {
                let name = format!("kept-{n}-{kind}");
                let (status, body) = create(gateway.address, kind, &name).unwrap();
                assert_eq!(status, 201, "{body}");
                answers.insert(name, body);
            }
        }
    };
    fill(&gateway, 0..8, &mut first);
    let copy = backup(&gateway, "backup.db");
    let early: BTreeSet<String> = records(&gateway).into_keys().collect();
    fill(&gateway, 8..14, &mut first);
    let mut deleted = Vec::new();
    for name in ["kept-1-authms", "kept-9-authms"] {
        let id = first[name]["id"].as_str().unwrap().to_owned();
        let answer = call(gateway.address, "DELETE", &format!("/v1/clients/{id}"), &[], b"");
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
        deleted.push(id);
    }
    let before = records(&gateway);
    assert!(quiet(&gateway).is_empty());
    assert_eq!(gateway.terminate(), Some(0));
    let whole = std::fs::read(file(&gateway)).unwrap();
    let mut random = Seeded(0x5eed);
    let mut figures: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds {
        put(&gateway, &damage(&whole, round, &mut random));
        let writes = gateway.vendor_writes();
        let out = store(&gateway, &["rebuild", "--from", &copy.display().to_string()]);
        let code = out.status.code().unwrap();
        let report = told(&out, if report_says_lost(&out) { 4 } else { 0 });
        assert_eq!(gateway.vendor_writes(), writes, "round {round}: something was written to a vendor");
        let damaged = PathBuf::from(report["damaged"].as_str().unwrap());
        assert!(damaged.exists(), "round {round}: the damaged file was kept");
        let checked = told(&store(&gateway, &["check"]), 0);
        assert_eq!(checked["sound"], true);
        gateway.restart(None);
        let now = records(&gateway);
        let by_client: BTreeMap<&(String, String), &String> = now.iter().map(|(id, client)| (client, id)).collect();
        assert_eq!(by_client.len(), now.len(), "round {round}: a client is registered twice");
        let mut unknown = 0;
        for kind in KINDS {
            let backend = report["backends"].as_array().unwrap().iter().find(|b| b["backend"] == kind).unwrap();
            for (client_id, name) in at_vendor(&gateway, kind) {
                let old = first[&name]["id"].as_str().unwrap();
                match by_client.get(&(kind.to_owned(), client_id.clone())) {
                    Some(id) => assert_eq!(id.as_str(), old, "round {round}: {name} has another id"),
                    None => {
                        unknown += 1;
                        let not_ours = backend["not_ours"].as_array().unwrap();
                        let is_told = not_ours.iter().any(|c| c["client_id"] == client_id.as_str());
                        // a vendor that has no list cannot tell
                        assert!(
                            is_told || kind == "bitgo",
                            "round {round}: nobody says that {name} is unknown: {report}"
                        );
                        assert!(!early.contains(old), "round {round}: the backup has {name}");
                        assert_eq!(code, 4, "round {round}: {name} is lost, and it does not say so");
                    }
                }
            }
        }
        for id in &deleted {
            // where even the journal of it is lost, its record says that it is gone
            let state = gateway.get(&format!("/v1/clients/{id}"));
            assert!(state.status == 404 || state.json()["state"] == "gone", "round {round}: {id} came back");
        }
        assert!(quiet(&gateway).is_empty(), "round {round}: something is open that was not");
        // the same request with the same key: the same client, or, where its key is lost, the report says so
        let writes = gateway.vendor_writes();
        let lost_keys = report["tables"]
            .as_array()
            .unwrap()
            .iter()
            .any(|t| t["table"] != "labels" && (t["gap"] == true || t["lost"] != json!([])));
        for (name, answer) in first.iter().filter(|(_, a)| !deleted.iter().any(|id| a["id"] == id.as_str())) {
            let kind = name.rsplit('-').next().unwrap();
            if now.contains_key(answer["id"].as_str().unwrap()) && !lost_keys {
                let (status, again) = create(gateway.address, kind, name).unwrap();
                assert_eq!((status, &again["id"]), (201, &answer["id"]), "round {round}: {name}: {again}");
            }
        }
        assert_eq!(gateway.vendor_writes(), writes, "round {round}: a repetition made a client");
        *figures.entry("not registered, and told").or_default() += unknown;
        *figures.entry(if code == 0 { "nothing lost" } else { "something lost" }).or_default() += 1;
        *figures.entry("registered").or_default() += now.len();
        gateway.kill();
    }
    println!("{rounds} damages: {figures:?} of {} each", before.len());
    assert!(figures.contains_key("something lost"), "no damage cost anything: nothing was shown");
    // and what is sound is left alone
    put(&gateway, &whole);
    assert_eq!(told(&store(&gateway, &["rebuild"]), 0)["lost"], false);
    gateway.restart(None);
    assert_eq!(records(&gateway), before);
}

fn report_says_lost(out: &Output) -> bool {
    serde_json::from_slice::<Value>(&out.stdout).is_ok_and(|report| report["lost"] == true)
}

/// A store that is gone, a backup that is old: what came after it is at the vendors, and nowhere else.
#[test]
fn a_lost_store_comes_back_from_a_backup_and_the_vendors() {
    let mut gateway = Gateway::start_edited("keys", |text| {
        text.replace("visibility_grace = \"300ms\"", "visibility_grace = \"1ms\"")
    });
    let config = gateway.config().display().to_string();
    let key = |args: &[&str]| {
        let out = binary().arg("keys").args(args).args(["--config", &config]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        format!("Bearer {}", String::from_utf8(out.stdout).unwrap().trim())
    };
    let early = key(&["create", "early"]);
    let make = |gateway: &Gateway, kind: &str, name: &str| {
        let key = format!("{kind}-{name}");
        let body = json!({ "backend": kind, "labels": {"team": "web"}, "metadata": {
            "client_name": name, "redirect_uris": [format!("https://a.example/{name}")], "scope": "openid profile",
        } });
        let headers =
            [("content-type", "application/json"), ("authorization", early.as_str()), ("idempotency-key", &*key)];
        let answer = gateway.call("POST", "/v1/clients", &headers, &body);
        assert_eq!(answer.status, 201, "{}", answer.json());
        answer.json()
    };
    let kept = KINDS.map(|kind| make(&gateway, kind, "first"));
    let copy = backup(&gateway, "backup.db");
    let refused = store(&gateway, &["backup", &copy.display().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("overwrites nothing"));
    let late = KINDS.map(|kind| make(&gateway, kind, "second"));
    let from = copy.display().to_string();
    let busy = store(&gateway, &["rebuild", "--from", &from]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("a gateway serves from it"));
    assert_eq!(gateway.terminate(), Some(0));
    put(&gateway, b"");
    std::fs::remove_file(file(&gateway)).unwrap();
    let missing = store(&gateway, &["check"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no such file"));

    let dry = told(&store(&gateway, &["rebuild", "--from", &from, "--adopt", "--dry-run"]), 0);
    assert!(!file(&gateway).exists() && !gateway.folder.path().join("registrar.db.rebuild").exists());
    let report = told(&store(&gateway, &["rebuild", "--from", &from, "--adopt"]), 0);
    assert_eq!((&dry["tables"], &report["damaged"]), (&report["tables"], &Value::Null));
    let not_ours: Vec<&Value> =
        report["backends"].as_array().unwrap().iter().flat_map(|b| b["not_ours"].as_array().unwrap()).collect();
    // the vendor without a list cannot tell
    assert_eq!(not_ours.len(), 3, "{report}");
    assert!(not_ours.iter().all(|c| c["adopted"].as_str().unwrap().starts_with("reg_")), "{report}");
    gateway.restart(None);
    let headers = [("authorization", early.as_str())];
    let list = gateway.call("GET", "/v1/clients?limit=200", &headers, &Value::Null).json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 7, "{list}");
    for old in &kept {
        let found = items.iter().find(|r| r["id"] == old["id"]).unwrap();
        assert_eq!((&found["labels"], &found["state"]), (&json!({"team": "web"}), &json!("active")));
    }
    for (kind, new) in KINDS.iter().zip(&late).filter(|(kind, _)| **kind != "bitgo") {
        let found = items.iter().find(|r| r["client_id"] == new["client_id"] && r["backend"] == *kind).unwrap();
        assert_ne!(found["id"], new["id"]);
        assert_eq!(found["metadata"]["redirect_uris"], new["metadata"]["redirect_uris"]);
    }
    // and again: there is nothing left to adopt, and nothing changes
    assert_eq!(gateway.terminate(), Some(0));
    let again = told(&store(&gateway, &["rebuild", "--from", &from, "--adopt"]), 0);
    assert!(again["backends"].as_array().unwrap().iter().all(|b| b["not_ours"] == json!([])), "{again}");
    gateway.restart(None);
    let after = gateway.call("GET", "/v1/clients?limit=200", &headers, &Value::Null).json();
    assert_eq!(after["items"], list["items"]);
}

/// What a vendor does not have any more is gone; what it cannot be asked about is unknown, until it can.
#[test]
fn vendors_have_the_last_word_about_what_there_is() {
    let mut gateway = Gateway::start_edited("none", |text| {
        text.replace("visibility_grace = \"300ms\"", "visibility_grace = \"1ms\"")
    });
    let made = KINDS.map(|kind| (kind, create(gateway.address, kind, &format!("one-{kind}")).unwrap().1));
    assert_eq!(gateway.terminate(), Some(0));
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    let state = |gateway: &Gateway, id: &Value| {
        gateway.get(&format!("/v1/clients/{}", id.as_str().unwrap())).json()["state"].clone()
    };
    // nobody answers there
    let base = gateway.fakes.base_url("loop").to_string();
    let dead = config.replace(base.trim_end_matches('/'), "http://127.0.0.1:9");
    assert_ne!(dead, config);
    std::fs::write(gateway.config(), dead).unwrap();
    let report = told(&store(&gateway, &["rebuild"]), 0);
    let backend = report["backends"].as_array().unwrap().iter().find(|b| b["backend"] == "loop").unwrap();
    assert_eq!((&backend["unknown"], &backend["found"], &backend["gone"]), (&json!(1), &json!(0), &json!([])));
    assert!(backend["problem"].as_str().unwrap().contains("could not be read to the end"), "{backend}");
    std::fs::write(gateway.config(), &config).unwrap();
    gateway.restart(None);
    for (kind, client) in &made {
        assert_eq!(state(&gateway, &client["id"]), if *kind == "loop" { "unknown" } else { "active" }, "{kind}");
    }
    // somebody deletes one at the vendor
    let (_, client) = made.iter().find(|(kind, _)| *kind == "authms").unwrap();
    let (id, vendor) = (&client["id"], client["client_id"].as_str().unwrap());
    assert_eq!(gateway.terminate(), Some(0));
    let before = std::fs::read(file(&gateway)).unwrap();
    gateway.restart(None);
    let deleted = call(gateway.address, "DELETE", &format!("/v1/clients/{}", id.as_str().unwrap()), &[], b"");
    assert_eq!(deleted.status, 204);
    assert!(!at_vendor(&gateway, "authms").iter().any(|(id, _)| id == vendor));
    assert_eq!(gateway.terminate(), Some(0));
    // the store of the time before that
    put(&gateway, &before);
    let report = told(&store(&gateway, &["rebuild"]), 0);
    let backend = report["backends"].as_array().unwrap().iter().find(|b| b["backend"] == "authms").unwrap();
    assert_eq!(backend["gone"], json!([id]));
    gateway.restart(None);
    for (kind, client) in &made {
        assert_eq!(state(&gateway, &client["id"]), if *kind == "authms" { "gone" } else { "active" }, "{kind}");
    }
}

/// A copy that is made while clients are registered is of one moment, and whole.
#[test]
fn a_backup_under_load_is_sound() {
    let gateway = Gateway::start();
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let copies = std::thread::scope(|scope| {
        for worker in 0..4 {
            let (stop, made, address) = (&stop, &made, gateway.address);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (status, _) = create(address, "loop", &format!("load-{worker}-{n}")).unwrap();
                    made.fetch_add(usize::from(status == 201), Ordering::Relaxed);
                }
            });
        }
        let copies: Vec<(usize, PathBuf)> = (0..4)
            .map(|n| {
                // more than at the copy before
                let wanted = (n + 1) * 10;
                while made.load(Ordering::Relaxed) < wanted {
                    std::thread::yield_now();
                }
                (wanted, backup(&gateway, &format!("copy-{n}.db")))
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        copies
    });
    for (least, copy) in copies {
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions()) & 0o777,
            0o600
        );
        let connection = rusqlite::Connection::open(&copy).unwrap();
        let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        let made = one("SELECT count(*) FROM registrations");
        assert!(made >= i64::try_from(least).unwrap());
        // of one moment: each client with the operation that made it
        assert_eq!(one("SELECT count(*) FROM operations WHERE state = 'succeeded'"), made);
    }
    let told = told(&store(&gateway, &["check"]), 0);
    assert_eq!((&told["sound"], &told["registrations"][0]["backend"]), (&json!(true), &json!("loop")));
}

/// A damaged store is named as such, by the gateway and by the check, and both say what to do.
#[test]
fn a_damaged_store_is_refused_with_the_way_out() {
    let mut gateway = Gateway::start();
    for n in 0..30 {
        assert_eq!(create(gateway.address, "loop", &format!("one-{n}")).unwrap().0, 201);
    }
    assert_eq!(gateway.terminate(), Some(0));
    let mut bytes = std::fs::read(file(&gateway)).unwrap();
    for page in bytes.chunks_mut(4096).skip(8) {
        page.fill(0x55);
    }
    put(&gateway, &bytes);
    let (code, words) = gateway.try_restart().unwrap_err();
    assert_eq!(code, Some(1));
    assert!(words.contains("registrar store rebuild --from BACKUP"), "{words}");
    let out = store(&gateway, &["check"]);
    assert_eq!(told(&out, 1)["sound"], false);
    assert!(String::from_utf8_lossy(&out.stderr).contains("registrar store rebuild"));
    // for people
    let config = gateway.config().display().to_string();
    let out = binary().args(["store", "rebuild", "--dry-run", "--config", &config]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(4), "{text}");
    assert!(text.contains("salvaged") && text.contains("would be kept as"), "{text}");
    assert_eq!(std::fs::read(file(&gateway)).unwrap(), bytes, "a dry run changes nothing");
    assert!(!Path::new(&format!("{}.rebuild", file(&gateway).display())).exists());
}

/// A record that is lost comes back under its old id where its creation is in the journal, and its vendor has the client.
#[test]
fn what_the_journal_knows_and_the_vendor_has_comes_back_under_its_old_id() {
    let mut gateway = Gateway::start();
    let made = KINDS.map(|kind| (kind, create(gateway.address, kind, &format!("one-{kind}")).unwrap().1));
    assert_eq!(gateway.terminate(), Some(0));
    let path = file(&gateway);
    let lose = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    lose("DELETE FROM registrations WHERE backend IN ('loop', 'bitgo')");
    let report = told(&store(&gateway, &["rebuild"]), 4);
    let restored: BTreeSet<&str> = report["backends"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|b| b["restored"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()))
        .collect();
    let expected =
        made.iter().filter(|(kind, _)| ["loop", "bitgo"].contains(kind)).map(|(_, r)| r["id"].as_str().unwrap());
    assert_eq!(restored, expected.collect(), "{report}");
    gateway.restart(None);
    let writes = gateway.vendor_writes();
    for (kind, client) in &made {
        let (status, again) = create(gateway.address, kind, &format!("one-{kind}")).unwrap();
        assert_eq!((status, &again["id"], &again["client_id"]), (201, &client["id"], &client["client_id"]), "{again}");
    }
    assert_eq!(gateway.vendor_writes(), writes);
    // what is sealed, and the key to it is lost
    assert_eq!(gateway.terminate(), Some(0));
    lose("DELETE FROM gateway; UPDATE registrations SET management = x'00' WHERE backend = 'bitgo'");
    let report = told(&store(&gateway, &["rebuild"]), 4);
    assert_eq!(report["sealing_key"], "lost");
    assert!(report["notes"].to_string().contains("1 clients cannot be read, changed or deleted"), "{report}");
    let backend = report["backends"].as_array().unwrap().iter().find(|b| b["backend"] == "bitgo").unwrap();
    assert!(backend["problem"].as_str().unwrap().contains("the sealing key is lost"), "{backend}");
}

/// An open create stays open, and the client that it may have made is left to it, even with `--adopt`.
#[test]
fn an_open_create_is_left_to_the_gateway() {
    let mut gateway = Gateway::start();
    assert_eq!(create(gateway.address, "loop", "settled").unwrap().0, 201);
    gateway.kill();
    gateway.restart(Some("answered"));
    assert!(create(gateway.address, "loop", "lost").is_none(), "it died");
    gateway.wait();
    let report = told(&store(&gateway, &["rebuild", "--adopt"]), 0);
    assert_eq!(report["open_operations"], 1);
    let backend = report["backends"].as_array().unwrap().iter().find(|b| b["backend"] == "loop").unwrap();
    let client = &backend["not_ours"][0];
    assert!(client["may_be_of"].as_str().unwrap().starts_with("op_") && client.get("adopted").is_none(), "{client}");
    gateway.restart(None);
    assert!(quiet(&gateway).is_empty());
    let writes = gateway.vendor_writes();
    let (status, body) = create(gateway.address, "loop", "lost").unwrap();
    assert_eq!((status, &body["client_id"]), (201, &client["client_id"]), "{body}");
    assert_eq!(gateway.vendor_writes(), writes);
    assert_eq!(records(&gateway).len(), 2);
}

/// PostgreSQL is looked at, and copied and rebuilt by its own tools.
#[test]
fn a_store_in_postgres_is_only_looked_at() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = registrar_throwaway_postgres::Server::start() else { return };
    let url = runtime.block_on(server.database());
    let sqlite = Gateway::start();
    let config = std::fs::read_to_string(sqlite.config()).unwrap();
    let own = format!("sqlite:{}", file(&sqlite).display());
    std::fs::write(sqlite.config(), config.replace(&own, &url).replace("ballast = \"1MiB\"\n", "")).unwrap();
    let empty = told(&store(&sqlite, &["check"]), 0);
    assert_eq!((&empty["schema_version"], &empty["registrations"]), (&Value::Null, &json!([])));
    let gateway = sqlite.beside();
    assert_eq!(create(gateway.address, "loop", "one").unwrap().0, 201);
    let found = told(&store(&gateway, &["check"]), 0);
    assert_eq!(found["registrations"], json!([{"backend": "loop", "state": "active", "count": 1}]));
    assert!(found["schema_version"].as_i64().unwrap() > 0);
    assert!(!found["store"].as_str().unwrap().contains('@'), "{found}");
    let copy = gateway.folder.path().join("copy").display().to_string();
    for (args, words) in [(vec!["backup", copy.as_str()], "pg_dump"), (vec!["rebuild"], "pg_restore")] {
        let out = store(&gateway, &args);
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains(words), "{}", String::from_utf8_lossy(&out.stderr));
    }
}
