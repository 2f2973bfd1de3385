//! The process is killed again and again under load; then three truths are compared: what the vendors did, what the
//! registry and the journal say, and what callers were told.
//!
//! `KILLS=1000 cargo test -p registrar --test e2e kill_loop -- --nocapture` is the long mode.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::running::Gateway;

const KINDS: [&str; 4] = ["authms", "bitgo", "loop", "loginradius"];
/// The vendor at which a lost create cannot be found.
const BLIND: &str = "bitgo";

/// A create and the last thing that its caller heard of it.
#[derive(Clone)]
struct Told {
    kind: &'static str,
    name: String,
    answer: Option<(u16, Value)>,
}

/// A small generator, so that a run can be repeated (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }
}

/// By which a client is recognised: not every vendor has names, all have redirect URIs.
fn mark(name: &str) -> String {
    format!("https://a.example/{name}")
}

/// One create whose key is its name; nothing when the gateway dies before it has answered.
fn create(address: SocketAddr, kind: &str, name: &str) -> Option<(u16, Value)> {
    let body = json!({ "backend": kind, "metadata": {
        "client_name": name, "redirect_uris": [mark(name)], "scope": "openid profile",
    } })
    .to_string();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "POST /v1/clients HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\nidempotency-key: {name}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // cut inside its body it is no answer
    Some((status, serde_json::from_str(body).ok()?))
}

fn load_and_kill(gateway: &mut Gateway, kills: u64, seed: u64) -> Vec<Told> {
    let mut random = Seeded(seed);
    let mut told = Vec::new();
    for round in 0..kills {
        let address = gateway.address;
        let callers: Vec<_> = KINDS
            .into_iter()
            .map(|kind| {
                std::thread::spawn(move || {
                    let mut told = Vec::new();
                    for n in 0..6 {
                        let name = format!("r{round}-{kind}-{n}");
                        let answer = create(address, kind, &name);
                        let dead = answer.is_none();
                        told.push(Told { kind, name, answer });
                        if dead {
                            break;
                        }
                    }
                    told
                })
            })
            .collect();
        // the moment of death is the point of the exercise; nothing waits for it
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        gateway.kill();
        told.extend(callers.into_iter().flat_map(|c| c.join().unwrap()));
        gateway.restart(None);
    }
    told
}

fn pages(gateway: &Gateway, path: &str) -> Vec<Value> {
    let mut out = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("{path}limit=200{cursor}")).json();
        out.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return out,
        }
    }
}

/// Waits until nothing is open but what waits for a person; those operations.
fn quiet(gateway: &Gateway) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        let pending = pages(gateway, "/v1/operations?state=pending&");
        let unknown = pages(gateway, "/v1/operations?state=unknown&");
        if pending.is_empty() && unknown.iter().all(|o| o["evidence"]["needs"] == json!("a person")) {
            return unknown;
        }
        assert!(
            Instant::now() < deadline,
            "{} pending, {} unknown: {:?}",
            pending.len(),
            unknown.len(),
            unknown.first()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The clients of a vendor: id and name, by the vendor's own state.
fn at_vendor(gateway: &Gateway, kind: &str) -> Vec<(String, String)> {
    let member = |client: &Value, names: &[&str]| {
        let found = names.iter().find_map(|name| client.get(*name));
        found.unwrap_or_else(|| panic!("{client}")).clone()
    };
    let clients = gateway.fakes.fake(kind).unwrap().clients();
    let id = ["client_id", "clientId", "ClientId"];
    let uris = ["redirect_uris", "redirectUri", "LoginRedirectUri"];
    clients
        .iter()
        .map(|c| {
            let uri = member(c, &uris)[0].as_str().unwrap().to_owned();
            (member(c, &id).as_str().unwrap().to_owned(), uri.rsplit('/').next().unwrap().to_owned())
        })
        .collect()
}

/// Every disagreement of the three truths.
fn disagreements(gateway: &Gateway, told: &[Told], parked: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let registry: BTreeSet<(String, String)> = pages(gateway, "/v1/clients?")
        .iter()
        .map(|r| (r["backend"].as_str().unwrap().to_owned(), r["client_id"].as_str().unwrap().to_owned()))
        .collect();
    for kind in KINDS {
        let vendor = at_vendor(gateway, kind);
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, name) in &vendor {
            *names.entry(name).or_default() += 1;
            let known = registry.contains(&(kind.to_owned(), id.clone()));
            let listed = parked
                .iter()
                .any(|o| o["backend"] == kind && o["evidence"]["look_for"]["redirect_uris"] == json!([mark(name)]));
            match (known, kind == BLIND) {
                (true, _) => {}
                (false, true) if listed => {}
                (false, _) => found.push(format!("orphan at {kind}: {name}")),
            }
        }
        found.extend(names.iter().filter(|(_, n)| **n > 1).map(|(name, n)| format!("{n} of {name} at {kind}")));
        for (_, id) in registry.iter().filter(|(backend, _)| backend == kind) {
            if !vendor.iter().any(|(v, _)| v == id) {
                found.push(format!("the registry has {id}, {kind} does not"));
            }
        }
    }
    for Told { kind, name, answer } in told {
        let exists = at_vendor(gateway, kind).iter().any(|(_, n)| n == name);
        match answer {
            Some((201, body))
                if !registry.contains(&((*kind).to_owned(), body["client_id"].as_str().unwrap().to_owned())) =>
            {
                found.push(format!("{name} was told 201 and is not registered"));
            }
            Some((201, _)) if !exists => found.push(format!("{name} was told 201 and does not exist")),
            Some((_, body)) if body["outcome"] == "not_performed" && exists => {
                found.push(format!("{name} was told not_performed and exists"));
            }
            _ => {}
        }
    }
    found
}

/// Callers come back with their keys; afterwards each has exactly one client, but where nobody can know.
fn come_back(gateway: &Gateway, told: &mut [Told]) {
    for told in told.iter_mut().filter(|t| !matches!(t.answer, Some((201, _)))) {
        told.answer = create(gateway.address, told.kind, &told.name);
        let (status, body) = told.answer.as_ref().unwrap();
        let unknowable = told.kind == BLIND && body["code"] == "outcome-unknown";
        assert!(*status == 201 || unknowable, "{}: {body}", told.name);
    }
}

#[test]
fn fifty_random_deaths_lose_double_and_orphan_nothing() {
    let kills = std::env::var("KILLS").ok().and_then(|k| k.parse().ok()).unwrap_or(50);
    let mut gateway = Gateway::start();
    let mut told = load_and_kill(&mut gateway, kills, 0x5eed_dea7);
    let parked = quiet(&gateway);
    assert_eq!(disagreements(&gateway, &told, &parked), [""; 0]);
    let unanswered = told.iter().filter(|t| t.answer.is_none()).count();
    come_back(&gateway, &mut told);
    let parked = quiet(&gateway);
    assert_eq!(disagreements(&gateway, &told, &parked), [""; 0], "after everyone came back");
    println!(
        "{kills} kills: {} creates, {unanswered} unanswered, {} left to a person; 0 lost, 0 doubled, 0 orphaned",
        told.len(),
        parked.len()
    );
    assert!(unanswered > 0, "no kill hit anything: this test would prove nothing");
}

/// The harness notices what it is for: a write path without an intent leaves an orphan.
#[test]
fn the_checker_finds_the_orphan_of_a_naive_write_path() {
    let mut gateway = Gateway::start();
    gateway.kill();
    gateway.restart_with(&[("REGISTRAR_NAIVE_WRITES", "1"), ("REGISTRAR_FAILPOINT", "answered")]);
    let name = "naive".to_owned();
    let answer = create(gateway.address, "loop", &name);
    gateway.wait();
    gateway.restart(None);
    let told = [Told { kind: "loop", name, answer }];
    let parked = quiet(&gateway);
    assert_eq!(disagreements(&gateway, &told, &parked), ["orphan at loop: naive"]);
}

/// And one that believes "there is no such client" at once doubles what the vendor shows late.
#[test]
fn the_checker_finds_the_double_of_a_path_without_visibility_grace() {
    for (grace, expected) in [("0s", 2), ("8s", 1)] {
        let mut gateway = Gateway::start();
        gateway.kill();
        gateway.reconfigure("visibility_grace = \"300ms\"", &format!("visibility_grace = \"{grace}\""));
        gateway.reconfigure("timeout = \"2s\"", "timeout = \"500ms\"");
        gateway.restart(None);
        let late = Fault::CommitLater { ms: 4_500 };
        gateway.fakes.script(ScriptedFault {
            kind: Some("loop".to_owned()),
            method: Some("POST".to_owned()),
            path_contains: None,
            skip: 0,
            times: 1,
            when: When::Before,
            fault: late,
        });
        let mut told = [Told { kind: "loop", name: "late".to_owned(), answer: None }];
        told[0].answer = create(gateway.address, "loop", "late");
        let parked = quiet(&gateway);
        come_back(&gateway, &mut told);
        let deadline = Instant::now() + Duration::from_secs(20);
        while at_vendor(&gateway, "loop").len() < expected {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
        let found = disagreements(&gateway, &told, &parked);
        assert_eq!(!found.is_empty(), expected == 2, "{grace}: {found:?}");
    }
}
