//! No secret leaks: every secret of a run is looked for in everything that the gateway writes.

use std::collections::BTreeSet;

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Map, Value, json};

use crate::{
    http::{Answer, JSON, call},
    running::Gateway,
};

const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

fn faults() -> Vec<(When, Fault)> {
    let pointer = || "/client_id".to_owned();
    let mut out = Vec::new();
    for when in [When::Before, When::After] {
        for fault in [
            Fault::Reset {},
            Fault::FinMidHeaders {},
            Fault::FinMidBody {},
            Fault::Status { status: 500, body: Some(json!({ "message": "failed" })), headers: Map::new() },
            Fault::Status { status: 400, body: Some(json!("not json")), headers: Map::new() },
            Fault::Html { status: 502 },
            Fault::Empty { status: 200 },
            Fault::Truncate { bytes: 40 },
            Fault::Redirect { location: "https://elsewhere.example/".to_owned() },
            Fault::GzipBomb { bytes: 8 << 20 },
            Fault::TooMany { retry_after: Some("120".to_owned()) },
        ] {
            out.push((when, fault));
        }
    }
    for fault in [
        Fault::Oversize { bytes: 2 << 20 },
        Fault::WrongType { pointer: pointer() },
        Fault::Rename { pointer: pointer(), to: "identifier".to_owned() },
        Fault::Remove { pointer: pointer() },
        Fault::ExtraMember {},
        Fault::DuplicateKey { pointer: None },
        Fault::OtherClient {},
    ] {
        out.push((When::After, fault));
    }
    out
}

/// Strings that a vendor has under a name that says secret or token.
fn secrets_in(value: &Value, hot: bool, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let lower = name.to_ascii_lowercase();
                let secret = (lower.contains("secret") || lower.contains("token")) && !lower.contains("auth_method");
                secrets_in(value, secret, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|v| secrets_in(v, hot, out)),
        Value::String(text) if hot && text.len() >= 12 && !text.starts_with("client_secret") => {
            out.insert(text.clone());
        }
        _ => {}
    }
}

/// The spellings in which a secret could hide.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let percent: String = bytes.iter().map(|b| format!("%{b:02X}")).collect();
    let mut out = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes(), percent.into_bytes()];
    // in the middle of other data, base64 starts at any of three offsets; the first and last letters depend on neighbours
    for offset in 0..3 {
        let shifted = [vec![b'x'; offset], bytes.to_vec()].concat();
        let text = base64(&shifted);
        let inner = text.get(4..text.len().saturating_sub(4)).unwrap_or_default();
        out.push(inner.as_bytes().to_vec());
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(LETTERS[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

#[test]
fn no_secret_of_any_success_or_failure_is_written_anywhere() {
    let gateway = Gateway::start_with("keys");
    let made = crate::running::binary()
        .args(["keys", "create", "canary", "-o", "json", "--config"])
        .arg(gateway.config())
        .output()
        .unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let api_key = made["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {api_key}");
    let authorised = |method: &str, path: &str, headers: &[(&str, &str)], body: &Value| -> Answer {
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("authorization", bearer.as_str())]).collect();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        call(gateway.address, method, path, &headers, &body)
    };

    let mut secrets = BTreeSet::from([api_key.clone()]);
    let mut told: Vec<Vec<u8>> = Vec::new();
    let (mut failures, mut successes) = (0, 0);
    let kinds: Vec<&str> = gateway.fakes.kinds().collect();
    for kind in &kinds {
        secrets_in(&gateway.fakes.fake(kind).unwrap().settings(""), false, &mut secrets);
        for (n, (when, fault)) in
            std::iter::once(None).chain(faults().into_iter().map(Some)).map(|f| f.unzip()).enumerate()
        {
            // each failure on its own gateway state: circuits and pauses would hide the later ones
            let own = format!("canary-own-secret-{kind}-{n}");
            let body = json!({ "backend": kind, "metadata": {
                "client_name": format!("canary-{kind}-{n}"), "redirect_uris": ["https://a.example/cb"],
                "scope": "openid profile", "client_secret": own, "registration_access_token": own,
            }, "allow_loss": [] });
            secrets.insert(own);
            if let (Some(when), Some(fault)) = (when, fault) {
                gateway.fakes.script(ScriptedFault {
                    kind: Some((*kind).to_owned()),
                    method: None,
                    path_contains: None,
                    skip: 0,
                    times: 1,
                    when,
                    fault,
                });
            }
            let key = format!("canary-idempotency-key-{kind}-{n}");
            let created = authorised("POST", "/v1/clients", &[JSON, ("idempotency-key", &key)], &body);
            secrets.insert(key);
            let answers = if created.status == 201 {
                secrets_in(&created.json(), false, &mut secrets);
                successes += 1;
                let path = format!("/v1/clients/{}", created.text("/id"));
                let rotated = authorised("POST", &format!("{path}/secret"), &[], &Value::Null);
                if rotated.status == 200 {
                    secrets_in(&rotated.json(), false, &mut secrets);
                    successes += 1;
                }
                vec![
                    authorised("GET", &path, &[], &Value::Null),
                    authorised("GET", &format!("{path}?source=vendor"), &[], &Value::Null),
                    authorised("PATCH", &path, &[MERGE], &json!({ "labels": { "n": n.to_string() } })),
                    authorised("DELETE", &path, &[], &Value::Null),
                    authorised("GET", &format!("/v1/operations/{}", created.text("/operation")), &[], &Value::Null),
                ]
            } else {
                vec![created]
            };
            failures += answers.iter().filter(|a| a.status >= 400).count();
            told.extend(answers.into_iter().map(|a| a.body));
            gateway.fakes.clear_faults();
            secrets_in(&json!(gateway.fakes.fake(kind).unwrap().clients()), false, &mut secrets);
        }
    }
    for path in ["/v1/clients?limit=200", "/v1/operations?limit=200", "/v1/backends", "/metrics", "/v1/vendors"] {
        told.push(authorised("GET", path, &[], &Value::Null).body);
    }
    for bad in ["Bearer rk_nobody_x", "Basic Y2FuYXJ5OmNhbmFyeQ=="] {
        let refused = call(gateway.address, "GET", "/v1/clients", &[("authorization", bad)], b"");
        assert_eq!(refused.status, 401);
        told.push(refused.body);
    }
    assert!(failures >= 100 && successes >= 8, "{failures} failures, {successes} successes");
    assert!(secrets.len() > 100, "{} secrets", secrets.len());

    let mut places: Vec<(String, Vec<u8>)> = vec![("log".to_owned(), gateway.log().into_bytes())];
    for entry in std::fs::read_dir(gateway.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // the configuration's own secret files are the test's, not the gateway's
        if name.starts_with("registrar.db") {
            places.push((name, std::fs::read(&path).unwrap()));
        }
    }
    assert!(places.iter().any(|(name, _)| name.ends_with("-wal")), "the log of the database is looked at too");
    places.extend(told.into_iter().enumerate().map(|(n, body)| (format!("answer {n}"), body)));
    let needles: Vec<(&String, Vec<u8>)> =
        secrets.iter().flat_map(|secret| spellings(secret).into_iter().map(move |s| (secret, s))).collect();
    for (place, bytes) in &places {
        for (secret, needle) in needles.iter().filter(|(_, needle)| needle.len() >= 8) {
            let leaked = memchr(bytes, needle);
            assert!(!leaked, "{secret} is in {place}");
        }
    }
    println!(
        "{} secrets in {} spellings, {failures} failures, {} places: 0 found",
        secrets.len(),
        needles.len(),
        places.len()
    );
}

fn memchr(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return false };
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|b| b == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
