//! The rules that hold the workspace together, read from the workspace itself.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use registrar_adapters::VENDORS;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Normal dependencies of each workspace member.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["name"].as_str().unwrap().to_owned(), normal(p)))
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, Vec<&str>> = [
        ("registrar-model", vec![]),
        ("registrar-core", vec!["model"]),
        ("registrar-adapters", vec!["model", "core"]),
        ("registrar-transport", vec!["model", "core"]),
        ("registrar-store", vec!["model", "core"]),
        ("registrar-fakes", vec!["core"]),
        ("registrar-engine", vec!["model", "core", "store"]),
        ("registrar-server", vec!["model", "core", "store", "engine"]),
    ]
    .into();
    let found = dependencies();
    for (package, allowed) in &allowed {
        let ours = found[*package].iter().filter_map(|d| d.strip_prefix("registrar-"));
        for dependency in ours {
            assert!(allowed.contains(&dependency), "{package} must not depend on registrar-{dependency}");
        }
    }
    for (package, all) in &found {
        assert!(
            !all.iter().any(|d| d == "registrar" || d == "registrar-tests"),
            "{package} depends on the binary or the tests"
        );
    }
    let forbidden = [
        ("registrar-model", vec!["http", "tokio", "reqwest", "axum"]),
        ("registrar-core", vec!["tokio", "reqwest", "axum"]),
        ("registrar-adapters", vec!["tokio", "reqwest", "axum"]),
        ("registrar-engine", vec!["reqwest", "axum"]),
    ];
    for (package, names) in forbidden {
        for name in names {
            assert!(!found[package].iter().any(|d| d == name), "{package} must not depend on {name}");
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out
}

/// The words that name a vendor. The kind `loop` is also a keyword of the language, so that only its quoted and
/// capitalised forms count.
fn words(kind: &str) -> Vec<String> {
    if kind == "loop" {
        vec!["\"loop\"".to_owned(), "Loop".to_owned(), "r#loop".to_owned()]
    } else {
        vec![kind.to_owned()]
    }
}

fn names(line: &str, word: &str) -> bool {
    let (line, word) = if word.chars().all(|c| c.is_ascii_lowercase()) {
        (line.to_lowercase(), word.to_owned())
    } else {
        (line.to_owned(), word.to_owned())
    };
    let boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric());
    line.match_indices(&word)
        .any(|(i, _)| boundary(line[..i].chars().next_back()) && boundary(line[i + word.len()..].chars().next()))
}

#[test]
fn no_vendor_is_named_outside_its_folder() {
    let crates = root().join("crates");
    let adapters = crates.join("adapters/src");
    let mut found = Vec::new();
    for package in ["model", "core", "engine", "server", "store", "transport", "fakes", "cli"] {
        for file in rust_files(&crates.join(package).join("src")) {
            check(&file, &[], &mut found);
        }
    }
    for file in rust_files(&adapters) {
        let relative = file.strip_prefix(&adapters).unwrap();
        let folder = relative.iter().next().and_then(|f| f.to_str()).filter(|_| relative.components().count() > 1);
        check(&file, folder.as_slice(), &mut found);
    }
    assert!(found.is_empty(), "vendors named outside their folder:\n{}", found.join("\n"));
}

fn check(file: &Path, own: &[&str], found: &mut Vec<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    for (number, line) in text.lines().enumerate() {
        // the one list
        if line.starts_with("vendors! {") {
            continue;
        }
        for vendor in VENDORS.iter().filter(|v| !own.contains(&v.descriptor.kind)) {
            if words(vendor.descriptor.kind).iter().any(|w| names(line, w)) {
                found.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
}

#[test]
fn there_is_one_crypto_provider() {
    // the lock file also lists optional dependencies that nobody turns on
    let args = [
        "tree",
        "--workspace",
        "--offline",
        "--locked",
        "--prefix",
        "none",
        "--edges",
        "normal,build",
        "--format",
        "{p}",
    ];
    let out = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let tree = String::from_utf8(out.stdout).unwrap();
    let has = |name: &str| tree.lines().any(|l| l.split(' ').next() == Some(name));
    assert!(has("aws-lc-rs"));
    for other in ["ring", "openssl", "openssl-sys", "native-tls", "rsa"] {
        assert!(!has(other), "{other} is in the tree");
    }
}

#[test]
fn every_dependency_says_why() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut before = "";
    for line in section.lines() {
        if line.contains('=') && !line.starts_with('#') && !line.contains("path = ") {
            assert!(before.starts_with('#'), "no reason above: {line}");
        }
        before = line;
    }
}

#[test]
fn files_stay_small_enough_to_hold_in_mind() {
    for file in rust_files(&root().join("crates")) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 700, "{} has {lines} lines", file.display());
    }
}
