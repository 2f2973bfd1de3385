//! A write of the command line whose answer is lost: it is repeated as the same write, and never told as failed.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Output,
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};

use crate::running::binary;

/// Answers the requests that come with these texts, one a connection, and nothing where there is none; tells the heads.
fn gateway(answers: Vec<Option<String>>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heads, told) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while !complete(&text) {
                let n = stream.read(&mut piece).unwrap();
                text.extend_from_slice(&piece[..n]);
            }
            heads.send(String::from_utf8(text).unwrap()).unwrap();
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (url, told)
}

/// Whether head and body are there.
fn complete(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    body.len() >= length
}

fn answer(status: &str, media_type: &str, body: &Value) -> Option<String> {
    let body = body.to_string();
    Some(format!(
        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

fn create(url: &str, more: &[&str]) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{}", json!({ "client_name": "Portal", "redirect_uris": ["https://a.example/cb"] })).unwrap();
    let path = file.path().display().to_string();
    binary().args(["clients", "create", "--url", url, "-f", &path, "-o", "json"]).args(more).output().unwrap()
}

fn key_of(head: &str) -> String {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("idempotency-key:")).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let (url, heads) = gateway(vec![None, answer("201 Created", "application/json", &json!({ "id": "reg_x" }))]);
    let out = create(&url, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let keys: Vec<String> = heads.iter().map(|head| key_of(&head)).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn what_is_lost_twice_is_unknown_and_says_how_to_go_on() {
    let (url, heads) = gateway(vec![None, None]);
    let out = create(&url, &["--idempotency-key", "mine-1"]);
    assert_eq!(out.status.code(), Some(6));
    assert!(out.stdout.is_empty());
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("outcome unknown; repeat with `--idempotency-key mine-1`"), "{said}");
    assert!(said.contains("registrar operations list --state unknown"), "{said}");
    assert_eq!(heads.iter().map(|head| key_of(&head)).collect::<Vec<_>>(), ["mine-1", "mine-1"]);
}

#[test]
fn a_gateway_that_went_away_in_between_leaves_the_outcome_unknown() {
    let (url, _heads) = gateway(vec![None]);
    let out = create(&url, &[]);
    assert_eq!(out.status.code(), Some(6), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn nothing_sent_is_no_unknown_outcome() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = create(&format!("http://{free}"), &[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(!String::from_utf8(out.stderr).unwrap().contains("unknown"));
}

#[test]
fn the_gateways_own_unknown_is_6_too() {
    let problem = json!({ "detail": "no answer came", "code": "outcome-unknown", "outcome": "unknown",
        "operation": "op_1", "retry_after": 7 });
    let (url, _heads) = gateway(vec![answer("504 Gateway Timeout", "application/problem+json", &problem)]);
    let out = create(&url, &[]);
    assert_eq!(out.status.code(), Some(6));
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("operation: op_1") && said.contains("--idempotency-key"), "{said}");
    assert!(said.contains("try again in 7 s"), "{said}");
}

#[test]
fn every_write_has_a_key() {
    let done = || answer("200 OK", "application/json", &json!({ "id": "reg_x", "client_secret": "s" }));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{}", json!({ "metadata": { "client_name": "Portal" } })).unwrap();
    let path = file.path().display().to_string();
    for args in [
        vec!["clients", "update", "reg_x", "-f", &path],
        vec!["clients", "update", "reg_x", "--replace", "-f", &path],
        vec!["clients", "delete", "reg_x"],
        vec!["clients", "delete", "reg_x", "--disable"],
        vec!["clients", "rotate-secret", "reg_x"],
    ] {
        let (url, heads) = gateway(vec![done()]);
        let out = binary().args(&args).args(["--url", &url]).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{args:?} {}", String::from_utf8_lossy(&out.stderr));
        assert!(key_of(&heads.recv().unwrap()).starts_with("cli_"), "{args:?}");
    }
}
