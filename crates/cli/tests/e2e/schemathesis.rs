//! The API document against the running gateway, by requests that schemathesis makes from it:
//! `tests/schemathesis/install`, then `SCHEMATHESIS=1 cargo test -p registrar --test e2e schemathesis`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    http::JSON,
    running::{Gateway, binary},
};

/// How many requests each face has to pass, at least.
const EXAMPLES: u64 = 1000;

/// What decides where a registration goes that names no backend; the last takes the rest.
const ROUTES: [(&str, &str); 5] = [
    ("authms", "has(metadata.logo_uri)"),
    ("bitgo", "has(metadata.tos_uri)"),
    ("loginradius", "has(metadata.contacts)"),
    ("rfc7591", "has(metadata.software_id)"),
    ("loop", "true"),
];

#[test]
fn the_administration_face_is_as_its_document_says() {
    examine("administration", &["--exclude-tag", "registration"]);
}

#[test]
fn the_standards_face_is_as_its_document_says() {
    examine("registration", &["--include-tag", "registration"]);
}

#[test]
fn schemathesis_finds_a_document_that_is_wrong() {
    if !is_wanted() {
        return;
    }
    // what a client is read as, with an id that is a number: the fault of one word in one schema
    let report =
        run("administration", &["--include-operation-id", "createClient", "--phases", "examples"], |document| {
            document["components"]["schemas"]["WrittenRegistration"]["properties"]["id"] = json!({ "type": "integer" });
        });
    assert!(report.failures > 0, "{}", report.told);
    assert!(report.told.contains("Response violates schema"), "{}", report.told);
}

#[test]
fn schemathesis_finds_a_document_that_allows_what_is_refused() {
    if !is_wanted() {
        return;
    }
    // each face has a word for it that stands for what no schema can say as well
    for (face, path, call) in
        [("registration", "/{route}/register", "registerAt"), ("administration", "/v1/clients", "createClient")]
    {
        let only = ["--include-operation-id", call, "--phases", "examples"];
        let long = "x".repeat(300);
        let report = run(face, &only, |document| {
            for name in ["NewClientMetadata", "NewRegistrationMetadata"] {
                document["components"]["schemas"][name]["properties"]["client_name"] = json!({ "type": "string" });
            }
            let body = &mut document["paths"][path]["post"]["requestBody"]["content"]["application/json"];
            let example = &mut body["examples"]["web"]["value"];
            let metadata = if call == "createClient" { &mut example["metadata"] } else { example };
            metadata["client_name"] = json!(long);
        });
        assert!(report.failures > 0, "{}", report.told);
        assert!(report.told.contains("longer than 255 characters"), "{}", report.told);
    }
}

fn is_wanted() -> bool {
    let wanted = std::env::var_os("SCHEMATHESIS").is_some();
    if !wanted {
        println!("skipped: set SCHEMATHESIS=1 after `tests/schemathesis/install`");
    }
    wanted
}

fn examine(face: &str, operations: &[&str]) {
    if !is_wanted() {
        return;
    }
    let report = run(face, operations, |_| ());
    assert_eq!((report.failures, report.success), (0, true), "{}", report.told);
    assert!(report.examples >= EXAMPLES, "{} examples: {}", report.examples, report.told);
    assert!(report.statuses.as_object().unwrap().len() > 10, "{}", report.statuses);
    // a document that allows nothing would pass as well: every call must have done what it is for
    for (label, statuses) in report.statuses.as_object().unwrap() {
        let done = statuses.as_object().unwrap().keys().any(|status| status.starts_with('2'));
        // nothing here ends unknown, and only that can be resolved
        assert!(done || label.ends_with(":resolve"), "{label} never succeeded: {statuses}");
    }
    for (label, statuses) in report.statuses.as_object().unwrap() {
        println!("  {label}: {statuses}");
    }
    println!(
        "{face}: {} examples, {} failures; refused by rules beyond schemas: {}",
        report.examples, report.failures, report.beyond
    );
}

struct Report {
    success: bool,
    failures: u64,
    examples: u64,
    statuses: Value,
    beyond: Value,
    told: String,
}

fn run(face: &str, operations: &[&str], spoil: impl FnOnce(&mut Value)) -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/schemathesis");
    let gateway = Gateway::start_edited("keys", |text| {
        let backends = text.split("[[routes]]").next().unwrap().replace("timeout", "on_loss = \"report\"\ntimeout");
        let routes = ROUTES.map(|(name, when)| {
            format!("[[routes]]\nname = \"{name}\"\nbackend = \"{name}\"\nwhen = '{when}'\nregistration = \"token\"\non_loss = \"report\"\n")
        });
        format!(
            "{backends}[registration]\nroot = true\naccess = \"token\"\nrate = \"10000/second\"\n{}",
            routes.concat()
        )
    });
    let scopes = "clients:read,clients:write,ops:read";
    let keys = ["keys", "create", "schemathesis", "--scope", scopes, "--config"];
    let made = binary().args(keys).arg(gateway.config()).output().unwrap();
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let authorization = format!("Bearer {key}");
    let headers = [JSON, ("authorization", authorization.as_str())];
    let initial = gateway.call("POST", "/v1/initial-access-tokens", &headers, &json!({})).text("/token");

    let mut document = gateway.get("/openapi.json").json();
    spoil(&mut document);
    let (schema, report, statistics) = (
        gateway.folder.path().join("openapi.json"),
        gateway.folder.path().join("report.json"),
        gateway.folder.path().join("statistics.json"),
    );
    std::fs::write(&schema, document.to_string()).unwrap();
    let names = ROUTES.map(|(name, _)| name).join(" ");
    let run = Command::new(folder.join(".venv/bin/schemathesis"))
        .current_dir(&folder)
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(&schema)
        .args(["--url", &format!("http://{}", gateway.address), "--no-color", "--report", "json", "--report-json-path"])
        .arg(&report)
        .args(operations)
        .env("PYTHONPATH", &folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("API_KEY", &key)
        .env("INITIAL_ACCESS_TOKEN", &initial)
        .env("BACKENDS", names)
        .env("FACE", face)
        .env("STATISTICS", &statistics)
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let read = |file: &PathBuf| -> Value {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{e}: {told}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {told}"))
    };
    let (report, statistics) = (read(&report), read(&statistics));
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{report}"));
    Report {
        success: run.status.success()
            && report["complete"] == true
            && count("/operations/tested") == count("/operations/selected"),
        failures: count("/test_cases/unique_failures"),
        examples: count("/test_cases/generated") - count("/test_cases/without_checks"),
        statuses: statistics["statuses"].clone(),
        beyond: statistics["beyond"].clone(),
        told,
    }
}
