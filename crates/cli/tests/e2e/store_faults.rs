//! The store's disk fails at the worst moments, under the real binary: nothing is sent without an intent, nothing that was
//! done is lost, and what cannot be written any more is not written.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    disk::{FAILING, FULL, FULL_UNTIL_GIVEN_UP, Failing, fail, fail_in, small_disk},
    gate::{Gate, Way},
    http::Answer,
    running::Gateway,
    truths::{BLIND, KINDS, Told, come_back, create, disagreements, quiet},
};

/// A gateway that reaches its vendors through a gate, and has written something already.
pub(crate) fn start() -> (Gateway, Gate, Vec<Told>) {
    let (gateway, gate) = behind_a_gate(Gateway::start());
    let told = KINDS.map(|kind| said(&gateway, kind, "before")).to_vec();
    assert!(told.iter().all(|t| matches!(t.answer, Some((201, _)))));
    (gateway, gate, told)
}

/// Starts a gateway anew that reaches its vendors through a gate, and waits long for their answers. It has no ballast: what
/// happens when there is none, or when it does not suffice, is what most tests are about.
pub(crate) fn behind_a_gate(mut gateway: Gateway) -> (Gateway, Gate) {
    let gate = Gate::to(gateway.fakes.addr());
    gateway.kill();
    gateway.reconfigure(&gateway.fakes.addr().to_string(), &gate.address.to_string());
    gateway.reconfigure("timeout = \"2s\"", "timeout = \"20s\"");
    gateway.reconfigure("ballast = \"1MiB\"", "ballast = \"0\"");
    // this one tells its own address
    gateway.fakes.fake("rfc7591").unwrap().settings(&format!("http://{}/rfc7591", gate.address));
    gateway.restart(None);
    (gateway, gate)
}

fn said(gateway: &Gateway, kind: &'static str, word: &str) -> Told {
    let name = format!("{word}-{kind}");
    let answer = create(gateway.address, kind, &name);
    Told { kind, name, answer }
}

/// A create whose vendor has done it before the disk fails.
fn done_before(gateway: &Gateway, gate: &Gate, kind: &'static str, how: &str) -> Option<(Told, Failing)> {
    done_before_it(gateway, gate, kind, || fail(gateway, how))
}

fn done_before_it<T>(
    gateway: &Gateway,
    gate: &Gate,
    kind: &'static str,
    fail: impl FnOnce() -> Option<T>,
) -> Option<(Told, T)> {
    gate.shut(Way::Back);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| said(gateway, kind, "after"));
        gate.wait_for(1);
        let failing = fail();
        gate.open();
        let told = caller.join().unwrap();
        failing.map(|failing| (told, failing))
    })
}

/// The caller has the client and its secret, and knows that this is not recorded.
fn assert_delivered(told: &Told) {
    let (status, body) = told.answer.as_ref().unwrap();
    assert_eq!((*status, &body["warning"]), (201, &json!("not_recorded")), "{body}");
    assert!(body["client_secret"].as_str().is_some_and(|s| s.len() > 8), "{body}");
}

fn assert_refused(told: &Told) {
    let (status, body) = told.answer.as_ref().unwrap();
    let word = (*status, body["code"].as_str(), body["outcome"].as_str());
    assert_eq!(word, (503, Some("store-unavailable"), Some("not_performed")), "{body}");
}

/// Until it has ended by itself; readiness never says yes meanwhile. Its exit code.
fn ends(gateway: &mut Gateway) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        if let Some(Answer { status, .. }) = crate::http::try_raw(gateway.address, request) {
            assert_eq!(status, 503, "a gateway that cannot write is not ready");
        }
        if let Some(code) = gateway.ended() {
            return code;
        }
        assert!(Instant::now() < deadline, "it went on\n{}", gateway.log());
        std::thread::yield_now();
    }
}

/// F30
#[test]
fn a_full_disk_at_the_intent_sends_nothing() {
    let (gateway, _gate, mut told) = start();
    let sent = gateway.fakes.ledger(None).len();
    let Some(full) = fail(&gateway, FULL) else { return };
    for kind in KINDS {
        let refused = said(&gateway, kind, "full");
        assert_refused(&refused);
        told.push(refused);
    }
    assert!(full.failed() >= KINDS.len(), "{:?}", full.calls());
    assert_eq!(gateway.fakes.ledger(None).len(), sent, "nothing was sent");
    assert_eq!(gateway.get("/v1/clients").status, 200, "reads go on");
    drop(full);
    // space was made: the same requests with the same keys
    come_back(&gateway, &mut told);
    let parked = quiet(&gateway);
    assert_eq!((parked.len(), disagreements(&gateway, &told, &parked)), (0, vec![]));
}

/// F31
#[test]
fn a_disk_that_is_full_after_the_vendors_success_loses_nothing() {
    let (mut gateway, gate, mut told) = start();
    for kind in KINDS {
        let Some((after, full)) = done_before(&gateway, &gate, kind, FULL) else { return };
        assert_delivered(&after);
        assert!(full.failed() > 0);
        let operation = after.answer.as_ref().unwrap().1["operation"].as_str().unwrap().to_owned();
        let open = gateway.get(&format!("/v1/operations/{operation}")).json();
        assert_eq!(open["state"], json!("pending"), "{open}");
        told.push(after);
        // it dies while the disk is full
        gateway.kill();
        drop(full);
        gateway.restart(None);
        let parked = quiet(&gateway);
        assert_eq!(parked.len(), usize::from(kind >= BLIND), "{kind}: {parked:?}");
        assert_eq!(disagreements(&gateway, &told, &parked), [""; 0], "{kind}");
    }
}

/// F31, where somebody makes space in time: everything is recorded, the secret for a repetition too, and even where the
/// vendor cannot be asked.
#[test]
fn what_a_full_disk_kept_from_being_recorded_is_recorded_when_there_is_space() {
    let (gateway, gate, mut told) = start();
    for kind in KINDS {
        let Some((after, full)) = done_before(&gateway, &gate, kind, FULL) else { return };
        assert_delivered(&after);
        assert!(full.failed() > 0);
        drop(full);
        let operation = after.answer.as_ref().unwrap().1["operation"].as_str().unwrap().to_owned();
        let done = crate::exactly_once::settled(&gateway, &operation, crate::exactly_once::is_final);
        assert_eq!((&done["state"], &done["evidence"]["adopted"]), (&json!("succeeded"), &Value::Null), "{done}");
        let (status, again) = said(&gateway, kind, "after").answer.unwrap();
        let first = &after.answer.as_ref().unwrap().1;
        assert_eq!((status, &again["client_secret"], &again["id"]), (201, &first["client_secret"], &first["id"]));
        told.push(after);
    }
    let parked = quiet(&gateway);
    assert_eq!((parked.len(), disagreements(&gateway, &told, &parked)), (0, vec![]));
}

/// A gateway that [`start`] has started, with a ballast, and the file.
fn start_with_ballast() -> (Gateway, Gate, Vec<Told>, PathBuf) {
    let (mut gateway, gate, told) = start();
    // orderly, so that it leaves no log with space in it
    assert_eq!(gateway.terminate(), Some(0));
    gateway.reconfigure("ballast = \"0\"", "ballast = \"1MiB\"");
    gateway.restart(None);
    let file = gateway.folder.path().join("registrar.db-ballast");
    (gateway, gate, told, file)
}

fn size(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|file| file.len())
}

/// The caller has the client and its secret, all of it is recorded, and the ballast is gone.
fn assert_recorded(gateway: &Gateway, told: &Told, ballast: &Path) {
    let (status, body) = told.answer.as_ref().unwrap();
    assert_eq!((*status, body.get("warning")), (201, None), "{body}");
    assert!(body["client_secret"].as_str().is_some_and(|s| s.len() > 8), "{body}");
    let operation = gateway.get(&format!("/v1/operations/{}", body["operation"].as_str().unwrap())).json();
    assert_eq!((&operation["state"], &operation["outcome"]), (&json!("succeeded"), &json!("performed")));
    assert_eq!(size(ballast), None);
}

/// A create is refused and nothing is sent, readiness says why, and reads go on.
fn assert_nothing_new(gateway: &Gateway, kind: &'static str) -> Told {
    let sent = gateway.fakes.ledger(None).len();
    let refused = said(gateway, kind, "full");
    assert_refused(&refused);
    assert_eq!(gateway.fakes.ledger(None).len(), sent, "nothing was sent");
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.json());
    assert!(ready.text("/reason").contains("the disk is full"), "{}", ready.json());
    assert_eq!(gateway.get("/v1/clients").status, 200, "reads go on");
    refused
}

/// Until writes are taken again; and that it was said once each time.
fn assert_back(gateway: &Gateway, ballast: &Path, times: usize) {
    until("space for it", || gateway.get("/readyz").status == 200);
    assert_eq!(size(ballast), Some(1 << 20));
    let said = |words: &str| gateway.log().matches(words).count();
    // what it says is read beside this test
    until("the word that it is back", || said("the ballast is back") >= times);
    assert_eq!((said("the ballast was given up"), said("the ballast is back")), (times, times));
}

/// F31, with a ballast: it is given up, the result is recorded before the caller is answered, and nothing new is sent until
/// there is space for another.
#[test]
fn the_ballast_is_given_up_for_a_result_and_nothing_new_is_sent_until_it_is_back() {
    let (gateway, gate, mut told, ballast) = start_with_ballast();
    for (nth, kind) in KINDS.into_iter().enumerate() {
        let fail = || fail_in(&gateway, FULL_UNTIL_GIVEN_UP);
        let Some((after, full)) = done_before_it(&gateway, &gate, kind, fail) else { return };
        assert_recorded(&gateway, &after, &ballast);
        assert!(full.calls().iter().any(|call| call.contains("pwrite64") && call.contains("INJECTED")));
        told.extend([after, assert_nothing_new(&gateway, kind)]);
        // not only because it was not tried yet
        until("a try to have it back", || full.calls().iter().any(|call| call.contains("fallocate")));
        assert_eq!((gateway.get("/readyz").status, size(&ballast)), (503, None));
        drop(full);
        assert_back(&gateway, &ballast, nth + 1);
    }
    // the same requests with the same keys
    come_back(&gateway, &mut told);
    let parked = quiet(&gateway);
    assert_eq!((parked.len(), disagreements(&gateway, &told, &parked)), (0, vec![]));
}

/// The same where nothing is injected: the disk is full, and nothing but the ballast makes space.
#[test]
fn a_result_is_recorded_on_a_disk_that_is_really_full() {
    let Some(disk) = small_disk("store_faults::a_result_is_recorded_on_a_disk_that_is_really_full") else { return };
    let (gateway, gate, mut told, ballast) = start_with_ballast();
    for (nth, kind) in KINDS.into_iter().enumerate() {
        let fill = || {
            disk.fill();
            Some(())
        };
        let Some((after, ())) = done_before_it(&gateway, &gate, kind, fill) else { return };
        assert_recorded(&gateway, &after, &ballast);
        told.extend([after, assert_nothing_new(&gateway, kind)]);
        disk.empty();
        assert_back(&gateway, &ballast, nth + 1);
    }
    come_back(&gateway, &mut told);
    let parked = quiet(&gateway);
    assert_eq!((parked.len(), disagreements(&gateway, &told, &parked)), (0, vec![]));
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} has not come");
        std::thread::yield_now();
    }
}

/// F32
#[test]
fn after_a_failed_fsync_of_an_intent_the_gateway_ends_and_the_next_one_recovers() {
    let (mut gateway, _gate, mut told) = start();
    for kind in KINDS {
        let sent = gateway.fakes.ledger(None).len();
        let Some(failing) = fail(&gateway, FAILING) else { return };
        let refused = said(&gateway, kind, "eio");
        assert_refused(&refused);
        told.push(refused);
        assert_stopped(&mut gateway, &failing);
        assert_eq!(gateway.fakes.ledger(None).len(), sent, "nothing was sent");
        drop(failing);
        gateway.restart(None);
        let parked = quiet(&gateway);
        assert_eq!(disagreements(&gateway, &told, &parked), [""; 0], "{kind}");
    }
    come_back(&gateway, &mut told);
    let parked = quiet(&gateway);
    assert_eq!(disagreements(&gateway, &told, &parked), [""; 0]);
}

/// F31 and F32
#[test]
fn after_a_failed_fsync_of_a_result_the_caller_has_it_and_the_next_gateway_knows_it() {
    let (mut gateway, gate, mut told) = start();
    for kind in KINDS {
        let Some((after, failing)) = done_before(&gateway, &gate, kind, FAILING) else { return };
        assert_delivered(&after);
        told.push(after);
        assert_stopped(&mut gateway, &failing);
        drop(failing);
        gateway.restart(None);
        let parked = quiet(&gateway);
        assert_eq!(disagreements(&gateway, &told, &parked), [""; 0], "{kind}");
    }
}

/// Nothing is written after the failure, not even while it ends; it says why, and with which code it may be restarted.
fn assert_stopped(gateway: &mut Gateway, failing: &Failing) {
    assert_eq!(ends(gateway), 1, "{}", gateway.log());
    let log = gateway.log();
    assert!(log.contains("writing was stopped after a failure of the disk"), "{log}");
    let calls = failing.calls();
    let first = calls.iter().position(|call| call.contains("INJECTED")).unwrap();
    assert_eq!(calls[first + 1..], [""; 0], "on the same handle, after {}", calls[first]);
}
