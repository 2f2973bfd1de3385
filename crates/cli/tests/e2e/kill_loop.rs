//! The process is killed again and again under load; then three truths are compared: what the vendors did, what the
//! registry and the journal say, and what callers were told.
//!
//! `KILLS=1000 cargo test -p registrar --test e2e kill_loop -- --nocapture` is the long mode.

use std::time::{Duration, Instant};

use registrar_fakes::{Fault, ScriptedFault, When};

use crate::{
    running::Gateway,
    truths::{KINDS, Seeded, Told, at_vendor, come_back, create, disagreements, quiet},
};

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
