//! `docs/conformance.md`, from `docs/conformance.json`: what is said to be met has a test, and nothing is left out.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// How many assertions each group of the checklist has.
const GROUPS: [(&str, usize, &str); 11] = [
    ("DCR", 40, "Registration (RFC 7591)"),
    ("ERR", 12, "Errors (RFC 7591 §3.2.2)"),
    ("RED", 15, "Redirect URIs (RFC 7591 §5, RFC 8252, RFC 9700)"),
    ("MGT", 28, "Management (RFC 7592)"),
    ("EXT", 23, "OpenID Connect and extension metadata"),
    ("DSC", 7, "Discovery (RFC 8414)"),
    ("COR", 2, "Cross-origin requests"),
    ("MCP", 6, "Clients of the Model Context Protocol"),
    ("ADM", 21, "The administrators' API"),
    ("ADP", 14, "Foreign RFC 7591 and RFC 7592 servers behind the gateway"),
    ("", 0, ""),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of all functions in the crates' sources.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            functions(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&entry).unwrap();
            let names = text.lines().filter_map(|l| l.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            found.extend(names.filter_map(|l| l.split('(').next()).map(str::to_owned));
        }
    }
}

/// The ids that a test's name begins with: `dcr_01_02_what` is DCR-01 and DCR-02, `err_07_ext_21_what` both.
fn ids(name: &str) -> Vec<String> {
    let mut group = String::new();
    let mut out = Vec::new();
    for word in name.split('_') {
        let is_number = word.len() == 2 && word.bytes().all(|b| b.is_ascii_digit());
        if is_number && !group.is_empty() {
            out.push(format!("{group}-{word}"));
        } else if GROUPS.iter().any(|(g, ..)| !g.is_empty() && g.eq_ignore_ascii_case(word)) {
            group = word.to_ascii_uppercase();
        } else {
            break;
        }
    }
    out
}

#[test]
fn the_checklist_is_complete_and_what_is_met_is_tested() {
    let table: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("docs/conformance.json")).unwrap()).unwrap();
    let rows = table.as_array().unwrap();
    let listed: Vec<&str> = rows.iter().map(|r| r["id"].as_str().unwrap()).collect();
    let expected: Vec<String> =
        GROUPS.iter().flat_map(|(group, count, _)| (1..=*count).map(move |n| format!("{group}-{n:02}"))).collect();
    assert_eq!(expected.len(), 168);
    assert_eq!(listed, expected);

    let mut names = BTreeSet::new();
    functions(&root().join("crates"), &mut names);
    for row in rows {
        let (id, state) = (row["id"].as_str().unwrap(), row["state"].as_str().unwrap());
        assert!(row["assertion"].as_str().is_some_and(|a| a.len() > 10), "{id}");
        let reason = row["reason"].as_str().unwrap_or("");
        let elsewhere: Vec<&str> = row["tests"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match state {
            "met" => {
                let named = names.iter().any(|n| ids(n).iter().any(|i| i == id));
                assert!(named || !elsewhere.is_empty(), "{id} is said to be met, but no test's name begins with it");
                for test in elsewhere {
                    assert!(names.contains(test), "{id} names the test `{test}`, which does not exist");
                }
            }
            "not met" | "not applicable" => assert!(reason.len() > 10, "{id} has no reason"),
            other => panic!("{id}: `{other}` is no state"),
        }
    }
}

#[test]
fn the_document_is_up_to_date() {
    let table: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("docs/conformance.json")).unwrap()).unwrap();
    let rows = table.as_array().unwrap();
    let count = |state: &str| rows.iter().filter(|r| r["state"] == state).count();
    let mut text = format!(
        "# Conformance\n\nGenerated from `conformance.json` by the test `dcr_conformance` (`UPDATE=1 cargo test -p registrar --test e2e conformance`). Every\nassertion that is met is a test, mostly one whose name begins with its id.\n\n{} of {} met, {} not met, {} not applicable.\n",
        count("met"),
        rows.len(),
        count("not met"),
        count("not applicable")
    );
    for (group, _, title) in GROUPS.iter().filter(|(g, ..)| !g.is_empty()) {
        let _ = write!(text, "\n## {group}: {title}\n\n| id | assertion | state | note |\n|---|---|---|---|\n");
        for row in rows.iter().filter(|r| r["id"].as_str().is_some_and(|i| i.starts_with(group))) {
            let cell = |name: &str| row[name].as_str().unwrap_or("").replace('|', "\\|");
            let _ =
                writeln!(text, "| {} | {} | {} | {} |", cell("id"), cell("assertion"), cell("state"), cell("reason"));
        }
    }
    let file = root().join("docs/conformance.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let current = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(current, text, "docs/conformance.md is out of date: run with UPDATE=1");
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let said = format!("{} of {} conformance assertions", count("met"), rows.len());
    assert!(readme.contains(&said), "README.md does not say `{said}`");
}
