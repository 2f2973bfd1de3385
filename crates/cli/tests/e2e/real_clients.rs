//! Clients that nobody here wrote, unchanged, register at a running gateway in front of each vendor:
//! `tests/clients/install`, then `CLIENTS=1 cargo test -p registrar --test e2e real_clients`. What each of them taught:
//! `docs/clients.md`.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    dcr::{bearer, initial_token},
    http::{Answer, call},
    running::Gateway,
};

pub(crate) const VENDORS: [&str; 4] = ["authms", "bitgo", "loop", "loginradius"];

/// A client, what its registration asks for, and which members of the answer it hands to the application. What it
/// does not hand over it has parsed and dropped.
struct Client {
    name: &'static str,
    auth_method: &'static str,
    redirect_uri: &'static str,
    reads: &'static [&'static str],
}

const WEB: &str = "https://client.example/callback";
const CLIENTS: [Client; 7] = [
    Client {
        name: "openid-client",
        auth_method: "client_secret_post",
        redirect_uri: WEB,
        reads: &["token_endpoint_auth_method", "registration_client_uri", "registration_access_token"],
    },
    Client {
        name: "oauth4webapi",
        auth_method: "client_secret_post",
        redirect_uri: WEB,
        reads: &["token_endpoint_auth_method", "registration_client_uri", "registration_access_token"],
    },
    Client {
        name: "openidconnect",
        auth_method: "client_secret_post",
        redirect_uri: WEB,
        reads: &["token_endpoint_auth_method", "registration_client_uri", "registration_access_token"],
    },
    Client {
        name: "mcp-typescript-sdk",
        auth_method: "client_secret_post",
        redirect_uri: WEB,
        reads: &["token_endpoint_auth_method", "authorization_url"],
    },
    Client {
        name: "mcp-typescript-client",
        auth_method: "client_secret_post",
        redirect_uri: WEB,
        reads: &["token_endpoint_auth_method", "authorization_url"],
    },
    Client {
        name: "mcp-python-sdk",
        auth_method: "client_secret_post",
        redirect_uri: WEB,
        reads: &["token_endpoint_auth_method", "authorization_url"],
    },
    Client { name: "rmcp", auth_method: "none", redirect_uri: "http://127.0.0.1:8765/callback", reads: &[] },
];

/// Whether the clients are there to be run.
pub(crate) fn wanted() -> bool {
    let wanted = std::env::var_os("CLIENTS").is_some();
    if !wanted {
        println!("skipped: set CLIENTS=1 after tests/clients/install");
    }
    wanted
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Runs a client in a process of its own; what it made of the answers, or what it told of its trouble.
pub(crate) fn run(client: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Value, String> {
    let folder = folder();
    let mut command = match client {
        "rmcp" | "openidconnect" => Command::new(folder.join("rust/target/debug/registrar-real-clients")),
        "mcp-python-sdk" => Command::new(folder.join(".venv/bin/python")),
        _ => Command::new("node"),
    };
    match client {
        "rmcp" | "openidconnect" => {}
        "mcp-python-sdk" => _ = command.arg(folder.join("register.py")),
        _ => _ = command.arg(folder.join("register.mjs")),
    }
    let (task, rest) = arguments.split_first().unwrap();
    // all of it is loopback, whatever proxies this machine has
    command.env_remove("SCOPE").env_remove("TOKEN").env("NO_PROXY", "127.0.0.1").envs(environment.iter().copied());
    let run = command.arg(task).arg(client).args(rest).output().unwrap();
    let (told, trouble) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if !run.status.success() {
        return Err(trouble.into_owned());
    }
    Ok(serde_json::from_str(&told).unwrap_or_else(|e| panic!("{client}: {e}: {told}")))
}

/// The authorization server of a simulated vendor, and an MCP server behind whichever authorization server.
pub(crate) struct Issuer {
    /// Where it listens.
    pub(crate) address: String,
    /// What the world calls it.
    pub(crate) origin: String,
    child: Child,
}

impl Issuer {
    /// `origin`: what the world calls it, if something stands in front; `members`: more of its discovery document.
    pub(crate) fn start(origin: Option<&str>, members: &Value) -> Self {
        let mut settings = json!({ "members": members });
        if let Some(origin) = origin {
            settings["origin"] = json!(origin);
        }
        let mut child = Command::new("node")
            .arg(folder().join("issuer.mjs"))
            .arg(settings.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().to_owned();
        assert!(address.starts_with("http://"), "{line:?}");
        Self { origin: origin.map_or_else(|| address.clone(), str::to_owned), address, child }
    }

    /// The MCP server whose protected resource metadata (RFC 9728) names this authorization server.
    pub(crate) fn resource(&self, authorization_server: &str) -> String {
        format!("{}/for/{}", self.origin, base64url(authorization_server))
    }

    /// Who got tokens, with what they said to prove it.
    pub(crate) fn seen(&self) -> Vec<Value> {
        let address = self.address.strip_prefix("http://").unwrap().parse().unwrap();
        let answer: Answer = call(address, "GET", "/seen", &[], b"");
        answer.json().as_array().unwrap().clone()
    }

    /// What a route says about this vendor: the endpoints, and what OpenID Connect Discovery requires beside them.
    pub(crate) fn discovery(&self) -> String {
        let at = &self.origin;
        format!(
            "{{ authorization_endpoint = \"{at}/authorize\", token_endpoint = \"{at}/token\", jwks_uri = \"{at}/jwks\", \
             code_challenge_methods_supported = [\"S256\"], subject_types_supported = [\"public\"], \
             id_token_signing_alg_values_supported = [\"RS256\"] }}"
        )
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64url(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encode = |chunk: &[u8]| {
        let bits = chunk.iter().enumerate().fold(0, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        (0..=chunk.len()).map(move |i| char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize])).collect::<String>()
    };
    text.as_bytes().chunks(3).map(encode).collect()
}

/// The route to BitGo that reports what is lost, whatever it is.
const LENIENT: &str = "lenient";

/// A gateway with an open route to each vendor, named after it, and the lenient one.
pub(crate) fn gateway(discovery: &str) -> Gateway {
    let route = |name: &str, vendor: &str, more: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nbackend = \"{vendor}\"\nwhen = \"false\"\nregistration = \"open\"\n\
             registration_rate = \"1000/hour\"\ndiscovery = {discovery}\n{more}"
        )
    };
    Gateway::start_edited("none", |text| {
        let strict = VENDORS.map(|vendor| route(vendor, vendor, "")).concat();
        format!("{text}{strict}{}", route(LENIENT, "bitgo", "on_loss = \"report\"\n"))
    })
}

#[test]
fn dsc_06_mcp_01_real_clients_register_at_every_vendor() {
    if !wanted() {
        return;
    }
    let vendor_side = Issuer::start(None, &json!({}));
    let gateway = gateway(&vendor_side.discovery());
    let mut registered = 0;
    for client in &CLIENTS {
        for vendor in VENDORS {
            let at = format!("{} at {vendor}", client.name);
            let issuer = format!("http://{}/{vendor}", gateway.address);
            let before = gateway.fakes.fake(vendor).unwrap().clients().len();
            let result = run(client.name, &["register", &issuer, &vendor_side.resource(&issuer)], &[]);
            let clients = gateway.fakes.fake(vendor).unwrap().clients();
            if client.auth_method == "none" && vendor == "bitgo" {
                let trouble = result.unwrap_err();
                assert!(trouble.contains("invalid_client_metadata"), "{at}: {trouble}");
                assert!(trouble.contains("BitGo has no public clients"), "{at}: {trouble}");
                assert_eq!(clients.len(), before, "{at}: it was refused, and registered");
                continue;
            }
            let shown = result.unwrap_or_else(|trouble| panic!("{at}: {trouble}"));
            registered += 1;
            let id = shown["client_id"].as_str().unwrap_or_else(|| panic!("{at}: {shown}"));
            assert_eq!(shown["redirect_uris"], json!([client.redirect_uri]), "{at}");
            assert_eq!(shown["client_secret"].is_string(), client.auth_method != "none", "{at}: {shown}");
            for member in client.reads {
                let value = shown[*member].as_str().unwrap_or_else(|| panic!("{at}: no {member} in {shown}"));
                match *member {
                    "token_endpoint_auth_method" => assert_eq!(value, client.auth_method, "{at}"),
                    "registration_client_uri" => {
                        assert!(value.starts_with(&format!("http://{}/register/", gateway.address)), "{at}: {value}");
                    }
                    "registration_access_token" => assert!(value.starts_with("rat_"), "{at}: {value}"),
                    // where it would send the user next: to the vendor, as the client that was registered
                    _ => {
                        assert!(value.starts_with(&format!("{}/authorize?", vendor_side.origin)), "{at}: {value}");
                        assert!(value.contains(&format!("client_id={id}")), "{at}: {value}");
                    }
                }
            }
            // what the client believes to have is what the vendor has
            assert_eq!(clients.len(), before + 1, "{at}");
            let its = clients.iter().map(ToString::to_string).find(|c| c.contains(id));
            assert!(its.is_some_and(|c| c.contains(client.redirect_uri)), "{at}: {id}");
            if let Some(secret) = shown["client_secret"].as_str() {
                assert!(secret.starts_with(&format!("{vendor}-secret-")), "{at}: {secret}");
            }
            // who reads where it manages itself can (RFC 7592)
            if let Some(uri) = shown["registration_client_uri"].as_str() {
                let path = uri.strip_prefix(&format!("http://{}", gateway.address)).unwrap();
                let token = shown["registration_access_token"].as_str().unwrap();
                let answer = bearer(&gateway, "GET", path, token, &Value::Null);
                assert_eq!((answer.status, answer.text("/client_id")), (200, id.to_owned()), "{at}");
            }
        }
    }
    println!("{registered} of {} registered", CLIENTS.len() * VENDORS.len());
    assert_eq!(registered, CLIENTS.len() * VENDORS.len() - 1);
    // who asked to be public, and may get a secret instead, has it
    let issuer = format!("http://{}/{LENIENT}", gateway.address);
    let shown = run("rmcp", &["register", &issuer, &vendor_side.resource(&issuer)], &[]).unwrap();
    assert!(shown["client_secret"].is_string(), "{shown}");
}

/// Nobody but who has a token may register: clients that can send one do, the others have it in the URL that a document
/// names.
#[test]
fn real_clients_register_with_an_initial_access_token() {
    if !wanted() {
        return;
    }
    let gateway = Gateway::start_edited("none", |text| {
        text.replace("name = \"named\"", "registration = \"token\"\nname = \"named\"")
    });
    let endpoint = format!("http://{}/named/register", gateway.address);
    let vendor_side = Issuer::start(None, &json!({ "registration_endpoint": endpoint }));
    let arguments = ["register", &vendor_side.origin, &vendor_side.resource(&vendor_side.origin)];
    for client in ["openid-client", "oauth4webapi", "openidconnect"] {
        let token = initial_token(&gateway, json!({"name": client, "uses": 1}));
        let environment = [("TOKEN", token.as_str())];
        let shown = run(client, &arguments, &environment).unwrap_or_else(|e| panic!("{client}: {e}"));
        assert!(shown["client_secret"].is_string(), "{client}: {shown}");
        assert!(run(client, &arguments, &environment).is_err(), "{client}: it had one use");
    }
    for client in ["mcp-typescript-sdk", "mcp-typescript-client", "mcp-python-sdk", "rmcp"] {
        let trouble = run(client, &arguments, &[]).expect_err(client);
        assert!(trouble.to_lowercase().contains("token"), "{client}: {trouble}");
        let token = initial_token(&gateway, json!({"name": client, "uses": 1}));
        let members = json!({ "registration_endpoint": format!("{endpoint}/{token}") });
        let with_ticket = Issuer::start(None, &members);
        let arguments = ["register", &with_ticket.origin, &with_ticket.resource(&with_ticket.origin)];
        let shown = run(client, &arguments, &[]).unwrap_or_else(|e| panic!("{client}: {e}"));
        assert!(shown["client_id"].is_string(), "{client}: {shown}");
        assert!(run(client, &arguments, &[]).is_err(), "{client}: it had one use");
    }
}

/// A refusal reaches the application through every client: why it is refused, and that it needs a token.
#[test]
fn real_clients_show_why_they_are_refused() {
    if !wanted() {
        return;
    }
    let gateway = Gateway::start_edited("none", |text| {
        let policy = "registration = \"open\"\npolicy = 'metadata.client_name == \"somebody else\"'\n";
        let text = text.replace("name = \"named\"", &format!("{policy}name = \"named\""));
        text.replace("name = \"wallets\"", "registration = \"token\"\nname = \"wallets\"")
    });
    for (route, status) in [("named", 400), ("wallets", 401)] {
        let endpoint = format!("http://{}/{route}/register", gateway.address);
        let vendor_side = Issuer::start(None, &json!({ "registration_endpoint": endpoint }));
        for client in &CLIENTS {
            let resource = vendor_side.resource(&vendor_side.origin);
            let trouble = run(client.name, &["register", &vendor_side.origin, &resource], &[]).expect_err(client.name);
            let told = match (status, client.name) {
                (400, _) => "the registration policy of route `named` refuses this",
                // these read the challenge, and leave the body
                (_, "openid-client" | "oauth4webapi") => "realm: 'registrar'",
                // all but 201 and 400 is a status and a body that nobody has read
                (_, "openidconnect") => "status 401 Unauthorized",
                _ => "registration needs an initial access token",
            };
            assert!(trouble.contains(told), "{}: {trouble}", client.name);
        }
    }
    assert_eq!(gateway.vendor_writes(), 0);
}

/// The examples that the README shows are files that run.
#[test]
fn the_examples_of_the_readme_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let examples = ["examples/openid-client.mjs", "examples/mcp.mjs", "rust/examples/openidconnect.rs"];
    for example in examples {
        let text = std::fs::read_to_string(folder().join(example)).unwrap();
        assert!(readme.contains(&text), "README.md does not have {example} as it is");
    }
    if !wanted() {
        return;
    }
    // and with the configuration that is shown
    let document = std::fs::read_to_string(root.join("docs/clients.md")).unwrap();
    let discovery = document.lines().find_map(|line| line.strip_prefix("discovery = ")).unwrap();
    let gateway = gateway(discovery);
    for example in examples {
        let (program, script) = match example {
            "rust/examples/openidconnect.rs" => (folder().join("rust/target/debug/examples/openidconnect"), None),
            script => (PathBuf::from("node"), Some(folder().join(script))),
        };
        let route = format!("http://{}/loop", gateway.address);
        let run = Command::new(program).args(script).arg(route).output().unwrap();
        assert!(run.status.success(), "{example}: {}", String::from_utf8_lossy(&run.stderr));
        let shown: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert!(shown["client_id"].is_string() && shown["client_secret"].is_string(), "{example}: {shown}");
    }
    assert_eq!(gateway.fakes.fake("loop").unwrap().clients().len(), examples.len());
}
