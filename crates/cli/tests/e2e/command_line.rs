//! The command line: exit codes, clean stdout, messages.

use std::{io::Write as _, process::Output};

use serde_json::{Value, json};

use crate::running::{Gateway, binary};

fn with_file(document: &Value, args: &[&str]) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{document}").unwrap();
    let args: Vec<String> = args.iter().map(|a| a.replace("FILE", &file.path().display().to_string())).collect();
    binary().args(args).output().unwrap()
}

fn stdout_json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| {
        panic!("{e}: {} {}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    })
}

fn portal() -> Value {
    json!({ "metadata": { "client_name": "Portal", "redirect_uris": ["https://a.example/cb"] } })
}

#[test]
fn usage_errors_are_1_and_help_is_0() {
    for (args, code) in [
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["nonsense"], 1),
        (vec![], 1),
        (vec!["serve", "--nonsense"], 1),
        (vec!["preview"], 1),
        (vec!["preview", "-f", "/nonexistent"], 1),
    ] {
        let out = binary().args(&args).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert_eq!(out.stdout.is_empty(), code == 1, "{args:?}");
    }
}

#[test]
fn preview_shows_every_kind_without_a_network() {
    let out = with_file(&portal(), &["preview", "-f", "FILE", "-o", "json"]);
    assert!(out.status.success());
    assert_eq!(stdout_json(&out).as_array().unwrap().len(), registrar_adapters::VENDORS.len());
    let out = with_file(&portal(), &["preview", "-f", "FILE", "--backend", "loop", "-o", "json"]);
    assert_eq!(stdout_json(&out)["requests"][0]["body"]["client_name"], "Portal");
    let mut keys = portal();
    keys["metadata"]["token_endpoint_auth_method"] = json!("private_key_jwt");
    keys["metadata"]["jwks_uri"] = json!("https://a.example/jwks");
    let out = with_file(&keys, &["preview", "-f", "FILE", "--backend", "loop"]);
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let out =
        with_file(&json!({ "metadata": { "redirect_uris": ["javascript:alert(1)"] } }), &["preview", "-f", "FILE"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8(out.stderr).unwrap().contains("#/metadata/redirect_uris/0"));
}

#[test]
fn clients_are_managed_from_the_command_line() {
    let gateway = Gateway::start();
    let url = format!("http://{}", gateway.address);
    let run = |document: &Value, args: &[&str]| {
        let mut all = vec!["clients", "--url", &url, "-o", "json"];
        all.extend(args);
        with_file(document, &all)
    };
    let created = run(&portal(), &["create", "-f", "FILE", "--backend", "authms", "--label", "team=a"]);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let created = stdout_json(&created);
    let id = created["id"].as_str().unwrap().to_owned();
    assert!(created["client_secret"].is_string());
    assert_eq!(stdout_json(&run(&Value::Null, &["list", "--label", "team=a"])).as_array().unwrap().len(), 1);
    assert_eq!(stdout_json(&run(&Value::Null, &["get", &id, "--live"]))["drift"], json!([]));
    let updated =
        run(&json!({ "metadata": { "client_name": "Renamed" } }), &["update", &id, "-f", "FILE", "--if-version", "1"]);
    assert_eq!(stdout_json(&updated)["metadata"]["client_name"], "Renamed");
    let stale = run(&json!({}), &["update", &id, "-f", "FILE", "--if-version", "1"]);
    assert_eq!(stale.status.code(), Some(2));
    assert!(stdout_json(&run(&Value::Null, &["rotate-secret", &id]))["client_secret"].is_string());
    assert!(run(&Value::Null, &["delete", &id]).status.success());
    let gone = run(&Value::Null, &["get", &id]);
    assert_eq!(gone.status.code(), Some(2));
    assert!(gone.stdout.is_empty());
    let mut keys = portal();
    keys["metadata"]["token_endpoint_auth_method"] = json!("private_key_jwt");
    keys["metadata"]["jwks_uri"] = json!("https://a.example/jwks");
    let refused = run(&keys, &["create", "-f", "FILE", "--backend", "loop"]);
    assert_eq!(refused.status.code(), Some(3));
    let both = ["--allow-loss", "metadata.jwks_uri", "--allow-loss", "metadata.token_endpoint_auth_method"];
    let allowed = run(&keys, &[&["create", "-f", "FILE", "--backend", "loop"][..], &both].concat());
    assert!(allowed.status.success());
}

#[test]
fn an_absent_gateway_is_a_remote_failure() {
    let out = binary().args(["clients", "--url", "http://127.0.0.1:1", "list"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("is it running?"));
    assert_eq!(
        binary().args(["healthcheck", "--url", "http://127.0.0.1:1/healthz"]).output().unwrap().status.code(),
        Some(2)
    );
}

#[test]
fn routes_are_explained_from_the_configuration() {
    let gateway = Gateway::start();
    let config = gateway.config().display().to_string();
    let out = with_file(&portal(), &["routes", "explain", "-f", "FILE", "--config", &config, "-o", "json"]);
    assert_eq!(stdout_json(&out)["route"], "named");
    let nowhere = json!({ "metadata": { "redirect_uris": ["https://a.example/cb"] } });
    assert_eq!(with_file(&nowhere, &["routes", "explain", "-f", "FILE", "--config", &config]).status.code(), Some(3));
}

#[test]
fn the_matrix_and_the_document_are_printed() {
    let vendors = binary().args(["vendors", "-o", "json"]).output().unwrap();
    assert_eq!(stdout_json(&vendors).as_array().unwrap().len(), registrar_adapters::VENDORS.len());
    assert!(
        String::from_utf8(binary().arg("vendors").output().unwrap().stdout).unwrap().contains("metadata.redirect_uris")
    );
    assert_eq!(stdout_json(&binary().arg("openapi").output().unwrap())["openapi"], "3.1.0");
}

#[test]
fn the_demo_checks_itself() {
    let out = binary().args(["demo", "--once"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    for step in ["1/4", "2/4", "3/4", "4/4", "All results are as they should be."] {
        assert!(text.contains(step), "{step}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a pipe");
    assert_eq!(binary().args(["demo", "--once", "--listen", "0.0.0.0:0"]).output().unwrap().status.code(), Some(1));
}

/// A gateway that reads one request for each answer, and closes the connection without a word where that is `None`. Gives its
/// URL and, when it has ended, the Idempotency-Keys that came.
fn gateway_that_says(answers: Vec<Option<(u16, Value)>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::Read as _;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut keys = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            let mut byte = [0; 1];
            while !read.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                read.extend(byte);
            }
            let head = String::from_utf8(read).unwrap().to_lowercase();
            let field = |name: &str| {
                head.lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(|value| value.trim().to_owned())
                    .unwrap_or_default()
            };
            keys.push(field("idempotency-key:"));
            let mut body = vec![0; field("content-length:").parse().unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            if let Some((status, body)) = answer {
                let body = body.to_string();
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                    .unwrap();
            }
        }
        keys
    });
    (url, serving)
}

#[test]
fn what_is_not_recorded_yet_is_told_in_words_and_by_the_exit_code() {
    let late =
        json!({"id": "reg_1", "client_secret": "s", "losses": [], "warning": "not_recorded", "operation": "op_1"});
    let (url, serving) = gateway_that_says(vec![Some((201, late))]);
    let out = with_file(&portal(), &["clients", "--url", &url, "-o", "json", "create", "-f", "FILE"]);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("do not repeat") && stderr.contains("registrar operations get op_1"), "{stderr}");
    assert_eq!(stdout_json(&out)["client_secret"], "s");
    assert_eq!(serving.join().unwrap().len(), 1);
}

#[test]
fn a_key_is_not_sent_where_others_can_read_it() {
    let run = |url: &str, more: &[&str]| {
        let args = [&["clients", "--url", url][..], more, &["list"]].concat();
        let out = binary().args(args).env("REGISTRAR_API_KEY", "rk_hunter2").output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, told) = run("http://192.0.2.1:1", &[]);
    assert!(code == Some(1) && told.contains("--insecure") && !told.contains("hunter2"), "{told}");
    let (code, told) = run("http://127.0.0.1:1", &[]);
    assert!(code == Some(2) && told.contains("cannot be reached"), "{told}");
}

#[test]
fn a_byte_order_mark_is_ignored() {
    let text = portal().to_string();
    let run = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let path = file.path().display().to_string();
        let out = binary().args(["preview", "--backend", "loop", "-f", &path]).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(run(&[b"\xef\xbb\xbf", text.as_bytes()].concat()).0, Some(0));
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (code, told) = run(&[b"\xff\xfe", utf16.as_slice()].concat());
    assert!(code == Some(1) && told.contains("UTF-16"), "{told}");
}
