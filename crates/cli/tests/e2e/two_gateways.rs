//! Two gateways on one Postgres, in front of the same vendors: they share the work, one is killed or stands still, and the
//! other takes over; a result that comes too late is not put over the other's.
//!
//! `ROUNDS=200 cargo test -p registrar --test e2e two_gateways -- --nocapture` is the long mode.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use registrar_throwaway_postgres::{Server, raw};
use serde_json::{Value, json};

use crate::{
    exactly_once::{is_final, settled},
    gate::{Gate, Way},
    http::{MERGE_PATCH, call},
    running::Gateway,
    truths::{BLIND, KINDS, Seeded, Told, at_vendor, come_back, create, disagreements, quiet},
};

/// Two processes, and the way past them into their database.
struct Pair {
    nodes: [Gateway; 2],
    url: String,
    runtime: tokio::runtime::Runtime,
    /// Ends with the test.
    _server: Server,
}

impl Pair {
    /// With changes to the configuration. Nothing where there is no Postgres.
    fn start(edit: impl FnOnce(String) -> String) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = Server::start()?;
        let url = runtime.block_on(server.database());
        let first = Gateway::start_edited("none", |text| {
            let from = text.find("[store]\nurl = \"").unwrap() + "[store]\nurl = \"".len();
            let to = from + text[from..].find('"').unwrap();
            // the server's disk is not ours
            edit(format!("{}{url}{}", &text[..from], &text[to..]).replace("ballast = \"1MiB\"\n", ""))
        });
        let second = first.beside();
        Some(Self { nodes: [first, second], url, runtime, _server: server })
    }

    /// The time that leases last passes, for operations that nobody has ended: in the database, not on the clock.
    fn leases_end(&self) {
        self.execute("UPDATE operations SET lease_until = 0 WHERE state = 'pending'");
    }

    /// The same for what a reconciler that died had claimed: two minutes. Nothing else waits that long, but for a person.
    fn claims_end(&self) {
        self.execute(
            "UPDATE operations SET lease_until = 0 WHERE state = 'unknown' AND lease_until BETWEEN \
             extract(epoch FROM now()) * 1000 + 40000 AND extract(epoch FROM now()) * 1000 + 130000",
        );
    }

    fn execute(&self, sql: &str) {
        let done = self.runtime.block_on(async { raw(&self.url).await.batch_execute(sql).await });
        done.unwrap();
    }
}

/// A few creates at both gateways at once. Those with an even number have the same key at both.
fn load(nodes: &[Gateway; 2], word: &str) -> Vec<std::thread::JoinHandle<Vec<Told>>> {
    let mut callers = Vec::new();
    for (node, gateway) in nodes.iter().enumerate() {
        for kind in KINDS {
            let (address, word) = (gateway.address, word.to_owned());
            callers.push(std::thread::spawn(move || {
                let mut told = Vec::new();
                for n in 0..4 {
                    let name =
                        if n % 2 == 0 { format!("{word}-{kind}-{n}") } else { format!("{word}-{kind}-{n}-at{node}") };
                    let answer = create(address, kind, &name);
                    let dead = answer.is_none();
                    told.push(Told { kind, name, answer });
                    if dead {
                        break;
                    }
                }
                told
            }));
        }
    }
    callers
}

/// F46: kills and pauses at seeded moments, under load.
#[test]
fn two_gateways_on_one_database_lose_double_and_orphan_nothing() {
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(20);
    let Some(mut pair) = Pair::start(|text| text) else { return };
    let mut random = Seeded(0x2_6a7e);
    let mut told = Vec::new();
    let (mut kills, mut pauses) = (0, 0);
    for round in 0..rounds {
        let callers = load(&pair.nodes, &format!("r{round}"));
        // the moment is the point of the exercise; nothing waits for it
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let victim = usize::try_from(random.below(2)).unwrap();
        // the last is a death, whose leases nobody shortens
        if random.below(3) == 0 && round + 1 < rounds {
            pauses += 1;
            pair.nodes[victim].signal("-STOP");
            pair.leases_end();
            // the other takes over what is left, while this one stands still
            let other = &pair.nodes[1 - victim];
            let looks =
                || other.get("/v1/operations?state=pending&limit=200").json()["items"].as_array().unwrap().len();
            // one that stood still inside a transaction holds its locks until the server ends that: 15 s
            let deadline = Instant::now() + Duration::from_secs(40);
            while looks() > 0 {
                assert!(Instant::now() < deadline, "nobody takes over\n{}", other.log());
                pair.leases_end();
                std::thread::sleep(Duration::from_millis(20));
            }
            pair.nodes[victim].signal("-CONT");
            told.extend(callers.into_iter().flat_map(|c| c.join().unwrap()));
        } else {
            kills += 1;
            pair.nodes[victim].kill();
            told.extend(callers.into_iter().flat_map(|c| c.join().unwrap()));
            pair.nodes[victim].restart(None);
        }
    }
    // the leases of the dead end by the clock this time
    let began = Instant::now();
    pair.claims_end();
    for node in 0..2 {
        let gateway = &pair.nodes[node];
        let parked = quiet(gateway);
        assert!(parked.iter().all(|o| o["backend"] == BLIND), "{parked:?}");
        assert_eq!(disagreements(gateway, &told, &parked), [""; 0], "as gateway {node} sees it");
    }
    let waited = began.elapsed();
    let unanswered = told.iter().filter(|t| t.answer.is_none()).count();
    // everybody comes back, to the gateway that is not where they were
    come_back(&pair.nodes[1], &mut told);
    let parked = quiet(&pair.nodes[0]);
    assert_eq!(disagreements(&pair.nodes[0], &told, &parked), [""; 0], "after everyone came back");
    println!(
        "{rounds} rounds, {kills} kills, {pauses} pauses past the lease: {} creates, {unanswered} unanswered, {} left to a \
         person; 0 lost, 0 doubled, 0 orphaned; quiet after {} s",
        told.len(),
        parked.len(),
        waited.as_secs()
    );
    assert!(unanswered > 0 && pauses > 0, "nothing was hit: this test would prove nothing");
}

/// A pair that reaches its vendors through a gate, and the gate.
fn gated() -> Option<(Pair, Gate)> {
    let mut pair = Pair::start(|text| text.replace("timeout = \"2s\"", "timeout = \"20s\""))?;
    let direct = pair.nodes[0].fakes.addr();
    pair.nodes.iter_mut().for_each(Gateway::kill);
    // only the first: the other finds the vendors as they are
    let gate = Gate::to(direct);
    let through = gate.address.to_string();
    pair.nodes[0].reconfigure(&direct.to_string(), &through);
    pair.nodes[0].restart(None);
    pair.nodes[0].reconfigure(&through, &direct.to_string());
    pair.nodes[1].restart(None);
    for kind in KINDS {
        // tokens are fetched now
        assert_eq!(create(pair.nodes[0].address, kind, &format!("calm-{kind}")).unwrap().0, 201);
    }
    Some((pair, gate))
}

/// A write whose gateway stands still while its call is at the gate, until the other one has concluded what became of it.
/// Returns what the caller was told in the end.
fn paused<T: Send + 'static>(
    pair: &Pair,
    gate: &Gate,
    way: Way,
    write: impl FnOnce(SocketAddr) -> T + Send + 'static,
    meanwhile: impl FnOnce(&str),
) -> T {
    gate.shut(way);
    let address = pair.nodes[0].address;
    let caller = std::thread::spawn(move || write(address));
    gate.wait_for(1);
    pair.nodes[0].signal("-STOP");
    pair.leases_end();
    let open = pair.nodes[1].get("/v1/operations?limit=200").json();
    let items = open["items"].as_array().unwrap();
    let id = items.iter().filter_map(|o| o["id"].as_str()).max().unwrap().to_owned();
    settled(&pair.nodes[1], &id, |o| is_final(o) || o["evidence"]["needs"] == json!("a person"));
    meanwhile(&id);
    gate.open();
    pair.nodes[0].signal("-CONT");
    caller.join().unwrap()
}

fn paused_create(pair: &Pair, gate: &Gate, kind: &'static str, way: Way, meanwhile: impl FnOnce(&str)) -> Told {
    let name = format!("{way:?}-{kind}").to_lowercase();
    let key = name.clone();
    let answer = paused(pair, gate, way, move |address| create(address, kind, &key), meanwhile);
    Told { kind, name, answer }
}

/// F47: the vendor has done it, and the answer comes after the other gateway has found that out.
#[test]
fn a_late_result_is_not_put_over_the_one_that_was_found() {
    let Some((pair, gate)) = gated() else { return };
    for kind in KINDS {
        let mut found = (String::new(), Value::Null);
        let told = paused_create(&pair, &gate, kind, Way::Back, |id| {
            found = (id.to_owned(), pair.nodes[1].get(&format!("/v1/operations/{id}")).json());
        });
        let (status, body) = told.answer.as_ref().unwrap();
        assert_eq!((*status, &body["warning"]), (201, &Value::Null), "{body}");
        let now = pair.nodes[1].get(&format!("/v1/operations/{}", found.0)).json();
        if kind == BLIND {
            // nobody could find out: the vendor's own answer settles it
            assert_eq!((&found.1["state"], &now["state"]), (&json!("unknown"), &json!("succeeded")), "{now}");
        } else {
            assert_eq!(found.1["evidence"]["adopted"], json!(true), "{now}");
            for member in ["state", "outcome", "summary", "registration"] {
                assert_eq!(now[member], found.1[member], "it is as it was");
            }
            // what only the answer says was added
            assert_eq!(now["evidence"]["delivered"], json!(true), "{now}");
            let again = create(pair.nodes[1].address, kind, &told.name).unwrap();
            assert_eq!((again.0, &again.1["client_secret"]), (201, &body["client_secret"]), "{}", again.1);
        }
        let parked = quiet(&pair.nodes[1]);
        assert_eq!((parked.len(), disagreements(&pair.nodes[0], &[told], &parked)), (0, vec![]), "{kind}");
    }
}

/// F47: the other gateway has not only found out about the change, but made another one since.
#[test]
fn a_late_change_is_not_put_over_a_newer_one() {
    let Some((pair, gate)) = gated() else { return };
    for kind in ["authms", "loop", "loginradius"] {
        let calm = pair.nodes[0].get(&format!("/v1/clients?q=calm-{kind}")).json();
        let Some(id) = calm["items"][0]["id"].as_str() else { panic!("{calm}") };
        let path = format!("/v1/clients/{id}");
        let to = |uri: &str| json!({ "metadata": { "redirect_uris": [uri] } });
        let (late, at) = (to("https://late.example/cb"), path.clone());
        let write = move |address| call(address, "PATCH", &at, &[MERGE_PATCH], late.to_string().as_bytes());
        let told = paused(&pair, &gate, Way::Back, write, |id| {
            let found = pair.nodes[1].get(&format!("/v1/operations/{id}")).json();
            assert_eq!(found["outcome"], json!("performed"), "{found}");
            let newer = pair.nodes[1].call("PATCH", &path, &[MERGE_PATCH], &to("https://newer.example/cb"));
            assert_eq!(newer.status, 200, "{}", newer.json());
        });
        assert_eq!(told.status, 200, "{}", told.json());
        let now = pair.nodes[0].get(&format!("{path}?source=vendor")).json();
        let uris = (&now["metadata"]["redirect_uris"], &now["drift"]);
        assert_eq!(uris, (&json!(["https://newer.example/cb"]), &json!([])), "{kind}");
        assert_eq!(quiet(&pair.nodes[1]), [Value::Null; 0]);
    }
}

/// F47, the worst of it: the request itself arrives after the other gateway has concluded that there was none.
#[test]
fn a_request_that_arrives_after_it_was_declared_not_done_is_found_again() {
    let Some((pair, gate)) = gated() else { return };
    for kind in KINDS.into_iter().filter(|kind| *kind != BLIND) {
        let mut told = vec![paused_create(&pair, &gate, kind, Way::There, |id| {
            let found = pair.nodes[1].get(&format!("/v1/operations/{id}")).json();
            assert_eq!(found["outcome"], json!("not_performed"), "{found}");
            assert!(at_vendor(&pair.nodes[1], kind).iter().all(|(_, name)| !name.starts_with("there")));
        })];
        let (status, body) = told[0].answer.as_ref().unwrap();
        assert_eq!((*status, &body["warning"]), (201, &json!("not_recorded")), "{body}");
        let parked = quiet(&pair.nodes[1]);
        assert_eq!((parked.len(), disagreements(&pair.nodes[1], &told, &parked)), (0, vec![]), "{kind}");
        assert_eq!(at_vendor(&pair.nodes[1], kind).iter().filter(|(_, name)| *name == told[0].name).count(), 1);
        let listed = pair.nodes[1].get(&format!("/v1/clients/{}", body["id"].as_str().unwrap()));
        assert_eq!(listed.text("/client_id"), body["client_id"].as_str().unwrap());
        told.clear();
    }
}

/// The database commits the intent and the connection breaks before it can say so: nothing was sent, and nobody has to look
/// for it, not even where the vendor cannot be asked.
#[test]
fn an_intent_that_became_durable_behind_a_broken_connection_is_closed() {
    let Some(mut pair) = Pair::start(|text| text) else { return };
    let host = pair.url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let gate = Gate::to(host.parse().unwrap());
    pair.nodes[0].kill();
    pair.nodes[0].reconfigure(host, &gate.address.to_string());
    pair.nodes[0].restart(None);
    assert_eq!(create(pair.nodes[0].address, BLIND, "calm").unwrap().0, 201);
    // a commit that takes its time, once
    pair.execute(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.state = 'pending' THEN PERFORM pg_sleep(2); END IF; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER dawdles AFTER INSERT ON operations DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION dawdle()",
    );
    let sent = pair.nodes[0].vendor_writes();
    let address = pair.nodes[0].address;
    let caller = std::thread::spawn(move || create(address, BLIND, "cut").unwrap());
    let dawdling = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    pair.runtime.block_on(async {
        let raw = raw(&pair.url).await;
        while raw.query_one(dawdling, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    });
    gate.cut();
    let (status, body) = caller.join().unwrap();
    assert_eq!((status, &body["outcome"]), (503, &json!("not_performed")), "{body}");
    let deadline = Instant::now() + Duration::from_secs(30);
    let closed = loop {
        let all = pair.nodes[1].get("/v1/operations?limit=200").json();
        let last = all["items"].as_array().unwrap().last().unwrap().clone();
        if last["summary"].as_str().unwrap().contains("nothing was sent") {
            break last;
        }
        assert!(Instant::now() < deadline, "{last}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((&closed["state"], &closed["outcome"]), (&json!("failed"), &json!("not_performed")), "{closed}");
    assert_eq!(pair.nodes[0].vendor_writes(), sent);
    pair.execute("DROP FUNCTION dawdle CASCADE");
    assert_eq!(create(pair.nodes[1].address, BLIND, "cut").unwrap().0, 201, "the key is free");
}
