//! Clients that nobody here wrote, unchanged, register at a running gateway in front of each vendor:
//! `cd tests/clients && npm ci`, then `CLIENTS=1 cargo test -p registrar --test e2e real_clients`.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::running::Gateway;

const CLIENTS: [&str; 3] = ["mcp-typescript-sdk", "oauth4webapi", "openid-client"];
const VENDORS: [&str; 4] = ["authms", "bitgo", "loop", "loginradius"];

#[test]
fn dsc_06_real_clients_register_at_every_vendor() {
    if std::env::var_os("CLIENTS").is_none() {
        println!("skipped: set CLIENTS=1 after `npm ci` in tests/clients");
        return;
    }
    let gateway = Gateway::start_edited("none", |text| {
        let routes = VENDORS.map(|vendor| {
            format!(
                "[[routes]]\nname = \"{vendor}\"\nbackend = \"{vendor}\"\nwhen = \"false\"\nregistration = \"open\"\non_loss = \"report\"\n\
                 discovery = {{ authorization_endpoint = \"https://vendor.example/authorize\", token_endpoint = \"https://vendor.example/token\", code_challenge_methods_supported = [\"S256\"] }}\n"
            )
        });
        format!("{text}{}", routes.concat())
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/register.mjs");
    for client in CLIENTS {
        for vendor in VENDORS {
            let issuer = format!("http://{}/{vendor}", gateway.address);
            let run = Command::new("node").arg(&script).args([client, &issuer]).output().unwrap();
            let (told, trouble) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
            assert!(run.status.success(), "{client} at {vendor}: {trouble}");
            let shown: Value =
                serde_json::from_str(&told).unwrap_or_else(|e| panic!("{client} at {vendor}: {e}: {told}"));
            let id = shown["client_id"].as_str().unwrap_or_else(|| panic!("{client} at {vendor}: {shown}"));
            assert!(shown["client_secret"].is_string(), "{client} at {vendor}: {shown}");
            assert_eq!(shown["redirect_uris"], json!(["https://client.example/callback"]), "{client} at {vendor}");
            // what the client believes to have is what the vendor has
            let clients = gateway.fakes.fake(vendor).unwrap().clients();
            assert!(clients.iter().any(|c| c.to_string().contains(id)), "{client} at {vendor}: {id}");
        }
    }
    println!("{} clients x {} vendors registered", CLIENTS.len(), VENDORS.len());
}
