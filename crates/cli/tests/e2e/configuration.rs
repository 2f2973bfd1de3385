//! `registrar check`

use std::process::Output;

use serde_json::Value;

use crate::running::binary;

fn check(text: &str, extra: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registrar.toml");
    std::fs::write(&file, text).unwrap();
    binary()
        .args(["check", "--config"])
        .arg(&file)
        .args(extra)
        .env("GOOD_TOKEN", "t")
        .env_remove("MISSING_TOKEN")
        .output()
        .unwrap()
}

#[test]
fn every_error_is_printed_with_its_place_and_a_hint() {
    let text = r#"[server]
listen = "0.0.0.0:8080"
lisen = "x"

[auth]
mode = "none"

[[backends]]
name = "a"
kind = "lop"
settings = { base_url = "https://a.example", token = "env:GOOD_TOKEN" }

[[backends]]
name = "b"
kind = "loop"
timeout = "soon"
on_loss = "refuse-securty"
settings = { base_url = "http://a.example", tokn = "env:GOOD_TOKEN" }

[[backends]]
name = "b"
kind = "bitgo"
settings = { base_url = "https://b.example", token = "env:MISSING_TOKEN" }

[[routes]]
name = "r"
when = "metadata.scope =="
backend = "bb"
"#;
    let out = check(text, &[]);
    assert_eq!(out.status.code(), Some(1));
    let stderr = String::from_utf8(out.stderr).unwrap();
    for wanted in [
        ":3:1: server.lisen: unknown key",
        "did you mean `listen`?",
        ":6:8: auth.mode: \"none\" is refused",
        ":10:8: backends[0].kind: there is no vendor kind `lop`",
        "did you mean `loop`?",
        ":16:11: backends[1].timeout: is not a duration",
        ":17:11: backends[1].on_loss: must be one of",
        "did you mean `refuse-security`?",
        ":18:25: backends[1].settings.base_url: must be https",
        "backends[1].settings.tokn: unknown key",
        "did you mean `token`?",
        "backends[1].settings.token: is required",
        ":21:8: backends[2].name: another backend is called `b`",
        "backends[2].settings.token: the environment variable MISSING_TOKEN is not set",
        ":27:8: routes[0].when: is not a valid rule",
        ":28:11: routes[0].backend: there is no backend `bb`",
    ] {
        assert!(stderr.contains(wanted), "{wanted:?} is not in:\n{stderr}");
    }
    assert!(out.stdout.is_empty());
    let json = check(text, &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["errors"].as_array().unwrap().len() >= 12);
}

#[test]
fn a_good_file_passes() {
    let out = check(
        "[[backends]]\nname = \"a\"\nkind = \"loop\"\nsettings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n",
        &[],
    );
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8(out.stdout).unwrap().contains("ok, 1 backend, 0 routes"));
}

#[test]
fn broken_files_are_refused_and_never_quote_secrets() {
    for text in [
        "",
        "[",
        "backends = 3",
        "[[backends]]\nname = 3\n",
        "[store]\nurl = \"mysql://x\"\n",
        "[server]\nlisten = 8080\n",
        "\u{0}",
        "[auth]\nmode = \"jwt\"\n",
        "[auth]\nmode = \"keys\"\n[auth]\n",
    ] {
        let out = check(text, &[]);
        assert_eq!(out.status.code(), Some(1), "{text:?}");
        assert!(!out.stderr.is_empty());
    }
    let out = check(
        "[[backends]]\nname = \"a\"\nkind = \"loop\"\nsettings = { base_url = \"https://a.example\", token = \"CANARY-literal\" }\n",
        &[],
    );
    assert_eq!(out.status.code(), Some(1));
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(stderr.contains("by reference only") && !stderr.contains("CANARY"), "{stderr}");
    assert_eq!(
        binary().args(["check", "--config", "/nonexistent/registrar.toml"]).output().unwrap().status.code(),
        Some(1)
    );
}

/// How much is kept, and where nothing can be: everything that is wrong is named with its place and what to write.
#[test]
fn the_ballast_is_a_size_beside_a_sqlite_file() {
    let backend = "[[backends]]\nname = \"a\"\nkind = \"loop\"\n\
                   settings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n\
                   [[routes]]\nname = \"all\"\nbackend = \"a\"\n";
    let postgres = "postgres://u@h/d";
    let told = |url: &str, value: &str| {
        let out = check(&format!("[store]\nurl = \"{url}\"\nballast = {value}\n{backend}"), &[]);
        (out.status.success(), String::from_utf8(out.stderr).unwrap())
    };
    for (url, value) in [
        ("sqlite:a.db", "\"64MiB\""),
        ("sqlite:a.db", "\"1024 KiB\""),
        ("sqlite:a.db", "\"64GiB\""),
        ("sqlite:a.db", "\"0\""),
        ("memory:", "\"0\""),
        (postgres, "\"0\""),
    ] {
        assert_eq!(told(url, value), (true, String::new()), "{url} {value}");
    }
    for (url, value, wanted) in [
        ("sqlite:a.db", "\"64MB\"", "is not a size"),
        ("sqlite:a.db", "\"64MB\"", "as in \"64MiB\""),
        ("sqlite:a.db", "\"64\"", "is not a size"),
        ("sqlite:a.db", "\"MiB\"", "is not a size"),
        ("sqlite:a.db", "\"-1MiB\"", "is not a size"),
        ("sqlite:a.db", "\"1.5GiB\"", "is not a size"),
        ("sqlite:a.db", "67108864", "must be a string, found integer"),
        ("sqlite:a.db", "\"1023KiB\"", "must be \"0\", or from 1MiB to 65536MiB"),
        ("sqlite:a.db", "\"65GiB\"", "must be \"0\", or from 1MiB to 65536MiB"),
        ("sqlite:a.db", "\"99999999999999999999GiB\"", "must be \"0\", or from 1MiB to 65536MiB"),
        (postgres, "\"64MiB\"", "the disk of a database server is the business of whoever operates it"),
        ("memory:", "\"64MiB\"", "a store in memory has no disk"),
    ] {
        let (passed, stderr) = told(url, value);
        assert!(!passed && stderr.contains(":3:11: store.ballast: ") && stderr.contains(wanted), "{value}: {stderr}");
    }
}

#[test]
fn the_quota_of_clients_and_their_expiry_are_checked() {
    let backends = "[[backends]]\nname = \"lr\"\nkind = \"loginradius\"\n\
                    settings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n\
                    [[backends]]\nname = \"lo\"\nkind = \"loop\"\n\
                    settings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n";
    let refused = |registration: &str, route: &str, wanted: &[&str]| {
        let out = check(&format!("{backends}[registration]\n{registration}\n[[routes]]\n{route}\n"), &[]);
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(if wanted.is_empty() { 0 } else { 1 }), "{registration} {route}: {stderr}");
        for part in wanted {
            assert!(stderr.contains(part), "{part:?} is not in:\n{stderr}");
        }
    };
    let (lr, lo) = ("name = \"r\"\nbackend = \"lr\"", "name = \"r\"\nbackend = \"lo\"");
    let month = "registration_expire_unused = \"30d\"";
    let open = "access = \"open\"\nexpire_unused = \"30d\"\nmax_clients = 200";
    refused(open, &format!("{lo}\nregistration_max_clients = 1\n{month}"), &[]);
    // LoginRadius documents neither; where it is said is where it is told
    let neither =
        ["documents neither deleting a client nor switching one off", "registration_expire_unused = \"never\""];
    refused(
        "",
        &format!("{lr}\n{month}"),
        &[
            neither.as_slice(),
            &[":14:30: routes[0].registration_expire_unused: unused clients cannot expire at backend `lr`"],
        ]
        .concat(),
    );
    refused(open, lr, &[neither.as_slice(), &[":13:1: routes[0].registration_expire_unused: "]].concat());
    refused(open, &format!("{lr}\nregistration_expire_unused = \"never\""), &[]);
    // nobody registers there openly
    refused(open, &format!("{lr}\nregistration = \"token\""), &[]);
    for (registration, route, wanted) in [
        (
            "max_clients = 0",
            lo.to_owned(),
            ":10:15: registration.max_clients: must be a whole number from 1 to 1000000",
        ),
        ("max_clients = \"many\"", lo.to_owned(), "registration.max_clients: must be a whole number"),
        ("expire_unused = \"soon\"", lo.to_owned(), ":10:17: registration.expire_unused: is not a duration"),
        ("expire_unused = \"1s\"", lo.to_owned(), "registration.expire_unused: must be from 1m to 10years"),
        ("expire_unused = 30", lo.to_owned(), "registration.expire_unused: must be a string"),
        ("expire_unusd = \"1d\"", lo.to_owned(), "did you mean `expire_unused`?"),
        (
            "",
            format!("{lo}\nregistration_max_clients = -1"),
            "routes[0].registration_max_clients: must be a whole number",
        ),
        (
            "",
            format!("{lo}\nregistration_expire_unused = \"x\""),
            "routes[0].registration_expire_unused: is not a duration",
        ),
    ] {
        refused(registration, &route, &[wanted]);
    }
}

/// Nobody listens on port 1: both commands say so, by a URL without user, password and parameters.
#[test]
fn the_password_of_a_database_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registrar.toml");
    let backend = "[[backends]]\nname = \"a\"\nkind = \"loop\"\n\
                   settings = { base_url = \"https://a.example\", token = \"env:STORE_URL\" }\n";
    let url = "postgres://CANARY-user:CANARY-password@127.0.0.1:1/registry?application_name=CANARY-name";
    for (value, shown) in [
        (url, "store postgres://127.0.0.1:1/registry: the store is not available"),
        ("env:STORE_URL", "store postgres://127.0.0.1:1/registry: the store is not available"),
        ("env:NO_CANARY", "store.url: "),
        ("postgres://u:CANARY@h", "store.url: it names no database"),
        ("mysql://u:CANARY@h/d", "store.url: this kind of store is not known"),
    ] {
        std::fs::write(&file, format!("[store]\nurl = \"{value}\"\n{backend}")).unwrap();
        for command in [["keys", "list"].as_slice(), &["serve"]] {
            let out = binary().args(command).arg("--config").arg(&file).env("STORE_URL", url).output().unwrap();
            let stderr = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(1), "{stderr}");
            assert!(stderr.contains(shown) && out.stdout.is_empty(), "{stderr}");
            assert!(!stderr.replace("NO_CANARY", "").contains("CANARY"), "{stderr}");
        }
    }
}

/// What works as written, and probably not as it is meant: exit 0, with its place.
#[test]
fn what_clients_of_the_standards_face_would_meet_is_warned_of() {
    let warned = |server: &str, registration: &str, routes: &[&str]| -> Vec<String> {
        let routes: String = routes.iter().map(|more| format!("[[routes]]\nbackend = \"lo\"\n{more}\n")).collect();
        let text = format!(
            "[server]\npublic_url = \"{server}\"\n[registration]\n{registration}\n[[backends]]\nname = \"lo\"\nkind = \"loop\"\n\
             settings = {{ base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }}\n{routes}"
        );
        let out = check(&text, &["-o", "json"]);
        assert_eq!(out.status.code(), Some(0), "{text}: {}", String::from_utf8_lossy(&out.stderr));
        let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let paths = said["warnings"].as_array().unwrap().iter().map(|w| w["path"].as_str().unwrap().to_owned());
        paths.filter(|path| path.contains("registration.") || path.ends_with(".discovery")).collect()
    };
    let local = "http://127.0.0.1:8080";
    let whole =
        "discovery = { authorization_endpoint = \"https://v.example/a\", token_endpoint = \"https://v.example/t\" }";
    let (a, b) = (format!("name = \"a\"\n{whole}"), format!("name = \"b\"\n{whole}"));
    let none: &[&str] = &[];
    assert_eq!(warned(local, "access = \"open\"", &[&a]), none);
    assert_eq!(warned(local, "", &["name = \"a\"", "name = \"b\""]), none, "nothing registers");
    assert_eq!(warned(local, "access = \"open\"", &["name = \"a\""]), ["routes[0].discovery"]);
    assert_eq!(warned(local, "", &["name = \"a\"\nregistration = \"token\""]), ["routes[0].discovery"]);
    assert_eq!(
        warned(local, "access = \"open\"", &["name = \"a\"\ndiscovery = {}"]),
        none,
        "another document leads here"
    );
    let half = "name = \"a\"\ndiscovery = { token_endpoint = \"https://v.example/t\" }";
    assert_eq!(warned(local, "access = \"open\"", &[half]), ["routes[0].discovery"]);
    let device = format!(
        "name = \"a\"\n{}",
        whole.replace(" }", ", grant_types_supported = [\"urn:ietf:params:oauth:grant-type:device_code\"] }")
    );
    assert_eq!(warned(local, "access = \"open\"", &[&device]), ["routes[0].discovery"]);
    // the endpoint without a name
    assert_eq!(warned(local, "access = \"open\"", &[&a, &b]), ["registration.root"]);
    for decided in ["true", "false"] {
        assert_eq!(warned(local, &format!("access = \"open\"\nroot = {decided}"), &[&a, &b]), none);
    }
    assert_eq!(warned(local, "", &[&format!("{a}\nregistration = \"open\""), &b]), none, "one route decides");
    // who is counted
    let public = "https://gw.example";
    assert_eq!(warned(public, "access = \"open\"", &[&a]), ["registration.proxies"]);
    assert_eq!(warned(public, "access = \"open\"\nproxies = 1", &[&a]), none);
    assert_eq!(warned(public, "access = \"token\"", &[&a]), none);

    let out = check(
        "[registration]\naccess = \"open\"\n[[backends]]\nname = \"lo\"\nkind = \"loop\"\n\
         settings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n[[routes]]\nname = \"a\"\nbackend = \"lo\"\n",
        &[],
    );
    let told = String::from_utf8(out.stderr).unwrap();
    assert!(told.contains("warning: ") && told.contains("registrar.toml:7:1: routes[0].discovery: "), "{told}");
    assert!(told.contains("hint: ") && out.status.code() == Some(0), "{told}");
}

#[test]
fn routes_that_no_request_reaches_are_warned_of() {
    let base = "[auth]\nmode = \"none\"\n[[backends]]\nname = \"a\"\nkind = \"loop\"\n\
                settings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n";
    let route = |name: &str, rest: &str| format!("[[routes]]\nname = \"{name}\"\nbackend = \"a\"\n{rest}\n");
    let all = || route("all", "");
    let rule = "when = 'labels.team == \"web\"'";
    let cases: [(String, &[(&str, &str)]); 8] = [
        (all(), &[]),
        (route("web", rule) + &all(), &[]),
        // it is reached by its name
        (all() + &route("open", "registration = \"open\"\ndiscovery = {}"), &[]),
        (all() + &route("late", ""), &[("routes[1].name", "`all` before it always matches")]),
        (route("true", "when = 'true'") + &all(), &[("routes[1].name", "`true` before it always matches")]),
        (route("x", rule) + &route("y", rule) + &all(), &[("routes[1].name", "`x` before it has the same rule")]),
        (route("never", "when = '1 > 2'") + &all(), &[("routes[0].name", "its rule is never true")]),
        (route("web", rule), &[("routes", "no route takes what the others leave")]),
    ];
    for (routes, wanted) in
        cases.iter().map(|(r, w)| (r.as_str(), *w)).chain([("", &[("routes", "there are no routes")][..])])
    {
        let text = format!("{base}{routes}");
        let said: Value = serde_json::from_slice(&check(&text, &["-o", "json"]).stdout).unwrap();
        let found: Vec<(&str, &str)> = said["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| (w["path"].as_str().unwrap(), w["message"].as_str().unwrap()))
            .collect();
        assert_eq!(found.len(), wanted.len(), "{routes} {said}");
        for ((path, message), (at, words)) in found.iter().zip(wanted) {
            assert!(path == at && message.contains(words), "{routes} {said}");
        }
        assert_eq!(check(&text, &[]).status.code(), Some(0), "{routes}");
        assert_eq!(check(&text, &["--strict"]).status.code(), Some(i32::from(!wanted.is_empty())), "{routes}");
    }
}

#[test]
fn rules_that_can_never_work_are_refused() {
    let base = "[auth]\nmode = \"none\"\n[[backends]]\nname = \"a\"\nkind = \"loop\"\n\
                settings = { base_url = \"https://a.example\", token = \"env:GOOD_TOKEN\" }\n";
    for (key, rule, words) in [
        ("when", "metadata.scope.contans(\"wallet_\")", "did you mean `contains`?"),
        ("when", "metadata.scopes == \"x\"", "did you mean `scope`?"),
        ("when", "metadata.client_name", "must be true or false"),
        ("when", "labels.team.matches(\"[\")", "regular expression"),
        ("policy", "metadata.grant_types.contains(\"implicit\")", "in list"),
    ] {
        let text = format!("{base}[[routes]]\nname = \"w\"\nbackend = \"a\"\n{key} = '{rule}'\n");
        let out = check(&text, &[]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{rule} {said}");
        assert!(said.contains(&format!("registrar.toml:10:{}: routes[0].{key}: ", key.len() + 4)), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
