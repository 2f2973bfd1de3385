//! The wirings around the issuer problem (`docs/clients.md`): the client is registered at the gateway, the tokens are the
//! vendor's, and both sides of RFC 8414 §3.3 and of `iss` must agree. Each is tried with real clients that register and
//! sign in: `tests/clients/install`, then `CLIENTS=1 cargo test -p registrar --test e2e issuer`.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    real_clients::{Issuer, gateway, run, wanted},
    running::Gateway,
};

/// Those that look at the issuer of an ID token, and those that have no use for one.
const OPENID: [&str; 2] = ["openid-client", "openidconnect"];
const MCP: [&str; 4] = ["mcp-typescript-sdk", "mcp-typescript-client", "mcp-python-sdk", "rmcp"];

fn sign_in(client: &str, vendor: &Issuer, authorization_server: &str, known: &[&str]) -> Result<Value, String> {
    let resource = vendor.resource(authorization_server);
    run(client, &[&["sign-in", authorization_server, &resource], known].concat(), &[])
}

/// The vendor gave tokens to the client that it has been given by the gateway, and the client took them.
fn is_in(client: &str, shown: &Value, vendor: &Issuer, gateway: &Gateway) {
    assert!(shown["access_token"].as_str().is_some_and(|t| t.starts_with("at-")), "{client}: {shown}");
    if OPENID.contains(&client) {
        assert_eq!(shown["subject"], "someone", "{client}");
    }
    let seen = vendor.seen().pop().unwrap_or_else(|| panic!("{client}: the vendor saw nobody"));
    assert_eq!(seen["client_id"], shown["client_id"], "{client}");
    if shown["client_secret"].is_string() {
        assert_eq!(seen["client_secret"], shown["client_secret"], "{client}");
    }
    let id = shown["client_id"].as_str().unwrap();
    let clients = gateway.fakes.fake("loop").unwrap().clients();
    assert!(clients.iter().any(|c| c.to_string().contains(id)), "{client}: {id}");
}

/// Wiring 1: the client is registered by somebody else (the API, the command line) and configured with what came back
/// and with the vendor's issuer.
#[test]
fn registered_out_of_band_every_client_signs_in_at_the_vendor() {
    if !wanted() {
        return;
    }
    let vendor = Issuer::start(None, &json!({}));
    let gateway = Gateway::start();
    for client in OPENID.iter().chain(&MCP) {
        // without a wiring there is nothing to register at
        sign_in(client, &vendor, &vendor.origin, &[]).expect_err(client);
        let wish = json!({"backend": "loop", "metadata": {"client_name": client, "redirect_uris": ["https://client.example/callback"]}});
        let answer = gateway.post("/v1/clients", &wish);
        assert_eq!(answer.status, 201, "{client}: {}", answer.json());
        let (id, secret) = (answer.text("/client_id"), answer.text("/client_secret"));
        let shown =
            sign_in(client, &vendor, &vendor.origin, &[&id, &secret]).unwrap_or_else(|e| panic!("{client}: {e}"));
        assert_eq!(shown["client_id"], id, "{client}");
        is_in(client, &shown, &vendor, &gateway);
        assert_eq!(vendor.seen().last().unwrap()["client_secret"], secret, "{client}");
    }
}

/// Wiring 2: the vendor's own document names the gateway's registration endpoint.
#[test]
fn the_vendors_document_names_the_gateway() {
    if !wanted() {
        return;
    }
    let gateway = gateway("{}");
    let endpoint = format!("http://{}/loop/register", gateway.address);
    let vendor = Issuer::start(None, &json!({ "registration_endpoint": endpoint }));
    for client in OPENID.iter().chain(&MCP) {
        let shown = sign_in(client, &vendor, &vendor.origin, &[]).unwrap_or_else(|e| panic!("{client}: {e}"));
        is_in(client, &shown, &vendor, &gateway);
    }
    let shown = run("oauth4webapi", &["register", &vendor.origin, ""], &[]).unwrap();
    assert!(shown["registration_access_token"].is_string(), "{shown}");
    // to register, the gateway's own document is enough, though it has no other endpoint
    let shown = run("openid-client", &["register", &endpoint.replace("/register", ""), ""], &[]).unwrap();
    assert!(shown["registration_access_token"].is_string(), "{shown}");
}

/// The lines for nginx that `docs/clients.md` shows.
fn recipe() -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients.md");
    let text = std::fs::read_to_string(document).unwrap();
    let (_, rest) = text.split_once("```nginx\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// nginx before the vendor's authorization server, which adds one member to its documents.
struct Proxy(Child);

impl Proxy {
    fn start(at: SocketAddr, vendor: &str, endpoint: &str, folder: &Path) -> Self {
        let adding = recipe().replace("https://vendor-upstream", vendor);
        let adding = adding.replace("https://gw.example/loop/register", endpoint);
        let text = format!(
            "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log stderr error;\nevents {{ worker_connections 64; }}\nhttp {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\nserver {{ listen {at};\n{adding}\nlocation / {{ proxy_pass {vendor}; }}\n}} }}\n",
            folder.display(),
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let child = Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&file).spawn().unwrap();
        let proxy = Self(child);
        for _ in 0..100 {
            if TcpStream::connect(at).is_ok() {
                return proxy;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nginx does not listen on {at}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's worker ends only when its master may say goodbye
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// Wiring 3: whoever serves the vendor's domain adds the member on the way; the vendor knows nothing of it.
#[test]
fn a_proxy_adds_the_registration_endpoint_to_the_vendors_document() {
    if !wanted() {
        return;
    }
    let gateway = gateway("{}");
    let endpoint = format!("http://{}/loop/register", gateway.address);
    // free until somebody else is faster
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let vendor = Issuer::start(Some(&format!("http://{at}")), &json!({}));
    let _proxy = Proxy::start(at, &vendor.address, &endpoint, gateway.folder.path());
    for client in OPENID.iter().chain(&MCP) {
        let shown = sign_in(client, &vendor, &vendor.origin, &[]).unwrap_or_else(|e| panic!("{client}: {e}"));
        is_in(client, &shown, &vendor, &gateway);
    }
}

/// Wiring 4: the gateway's own document, with the vendor's endpoints in the route's `discovery`. It carries as far as no
/// token says who issued it.
#[test]
fn the_gateways_own_document_carries_clients_that_see_no_issuer() {
    if !wanted() {
        return;
    }
    let vendor = Issuer::start(None, &json!({}));
    let gateway = gateway(&vendor.discovery());
    let issuer = format!("http://{}/loop", gateway.address);
    for client in MCP {
        let shown = sign_in(client, &vendor, &issuer, &[]).unwrap_or_else(|e| panic!("{client}: {e}"));
        is_in(client, &shown, &vendor, &gateway);
    }
    // plain OAuth: there is no ID token
    let shown = run("openid-client", &["sign-in", &issuer, ""], &[("SCOPE", "profile")]).unwrap();
    assert!(shown["access_token"].is_string() && shown["subject"].is_null(), "{shown}");
    for client in OPENID {
        let trouble = sign_in(client, &vendor, &issuer, &[]).expect_err(client);
        assert!(trouble.contains(&issuer) && trouble.contains(&vendor.origin), "{client}: {trouble}");
        assert!(trouble.to_lowercase().contains("iss"), "{client}: {trouble}");
    }
}

/// Where wiring 4 ends: the vendor says in the redirect who it is (RFC 9207), and it is not the gateway.
#[test]
fn the_gateways_own_document_fails_where_the_vendor_names_itself() {
    if !wanted() {
        return;
    }
    let vendor = Issuer::start(None, &json!({"authorization_response_iss_parameter_supported": true}));
    let gateway = gateway(&vendor.discovery());
    let issuer = format!("http://{}/loop", gateway.address);
    for client in MCP {
        let result = sign_in(client, &vendor, &issuer, &[]);
        if client == "mcp-typescript-sdk" {
            // version 1 has no eyes for it
            is_in(client, &result.unwrap_or_else(|e| panic!("{client}: {e}")), &vendor, &gateway);
            continue;
        }
        let trouble = result.expect_err(client);
        assert!(trouble.contains(&issuer) && trouble.contains(&vendor.origin), "{client}: {trouble}");
    }
    let trouble = run("openid-client", &["sign-in", &issuer, ""], &[("SCOPE", "profile")]).unwrap_err();
    assert!(trouble.contains("(issuer) response parameter"), "{trouble}");
}
