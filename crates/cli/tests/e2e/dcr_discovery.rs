//! Checklist F: discovery (RFC 8414), CORS, MCP clients.

use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, Own, ROUTES, gateway, metadata, open, register, with},
    http::{JSON, call},
    running::Gateway,
};

#[test]
fn dsc_01_02_03_05_every_form_of_the_path_gives_the_same_document() {
    let gateway = Gateway::start_edited("none", |text| {
        let text = text.replace("http://127.0.0.1:0\"\n[store]", "https://gw.example\"\n[store]");
        text.replace("name = \"named\"", "registration = \"open\"\nname = \"named\"")
    });
    let root = gateway.get("/.well-known/oauth-authorization-server");
    assert_eq!((root.status, root.header("content-type")), (200, Some("application/json")));
    assert_eq!(root.text("/issuer"), "https://gw.example");
    assert_eq!(root.text("/registration_endpoint"), "https://gw.example/register");
    assert_eq!(gateway.get("/.well-known/openid-configuration").json(), root.json());
    let inserted = gateway.get("/.well-known/oauth-authorization-server/named");
    assert_eq!(inserted.text("/issuer"), "https://gw.example/named");
    assert_eq!(inserted.text("/registration_endpoint"), "https://gw.example/named/register");
    for other in ["/.well-known/openid-configuration/named", "/named/.well-known/openid-configuration"] {
        assert_eq!(gateway.get(other).json(), inserted.json(), "{other}");
    }
    // closed, and not there: the same
    for path in ["/.well-known/oauth-authorization-server/wallets", "/.well-known/oauth-authorization-server/nowhere"] {
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
}

#[test]
fn dsc_04_07_the_document_says_what_the_vendor_can_do() {
    let gateway = gateway(
        OPEN,
        "discovery = { token_endpoint = \"https://vendor.example/token\", scopes_supported = [], code_challenge_methods_supported = [\"S256\"] }",
    );
    for route in ROUTES {
        let document = gateway.get(&format!("/.well-known/oauth-authorization-server/{route}")).json();
        for (name, value) in document.as_object().unwrap() {
            assert!(value.as_array().is_none_or(|list| !list.is_empty()), "{route} {name}");
        }
        let has = |name: &str, word: &str| document[name].as_array().is_some_and(|l| l.contains(&json!(word)));
        assert_eq!(has("token_endpoint_auth_methods_supported", "none"), route != "bitgo", "{route}: {document}");
        assert!(has("grant_types_supported", "authorization_code"), "{route}: {document}");
        let machines = matches!(route, "rfc7591" | "authms" | "loginradius");
        assert_eq!(has("grant_types_supported", "client_credentials"), machines, "{route}: {document}");
        assert_eq!(document["token_endpoint"], "https://vendor.example/token");
    }
}

#[test]
fn cor_01_02_any_page_may_ask_and_read_the_answer() {
    let gateway = open();
    let origin = ("origin", "https://page.example");
    for path in ["/register", "/loop/register", "/register/x", "/.well-known/oauth-authorization-server"] {
        let asks = [
            origin,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        let preflight = call(gateway.address, "OPTIONS", path, &asks, b"");
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("*")), "{path}");
        let headers = preflight.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        assert!(headers.contains("authorization") && headers.contains("content-type"));
        assert!(preflight.header("access-control-allow-credentials").is_none());
    }
    for answer in [
        call(gateway.address, "POST", "/register", &[origin, JSON], b"{"),
        call(gateway.address, "GET", "/register/x", &[origin], b""),
        call(gateway.address, "PATCH", "/register/x", &[origin], b""),
        call(gateway.address, "POST", "/register", &[origin, ("content-type", "text/plain")], b""),
    ] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{}", answer.status);
        assert!(answer.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
    }
    assert!(gateway.get("/v1/clients").header("access-control-allow-origin").is_none());
}

/// What the SDKs send, and what their parsers insist on: strings, numbers and lists of their types, nothing null.
fn parses(client: &Value) {
    for (name, value) in client.as_object().unwrap() {
        let ok = match name.as_str() {
            "redirect_uris" | "grant_types" | "response_types" | "contacts" => {
                value.as_array().is_some_and(|l| l.iter().all(Value::is_string))
            }
            "client_secret_expires_at" | "client_id_issued_at" => value.is_u64(),
            "registrar_losses" => value.is_array(),
            _ => value.as_str().is_some_and(|t| !t.is_empty()),
        };
        assert!(ok, "{name}: {value}");
    }
    assert!(client["redirect_uris"].is_array() && client["client_id"].is_string());
}

#[test]
fn mcp_01_02_the_bodies_of_the_sdks_register() {
    let gateway = open();
    let python = json!({"response_types":["code"],"client_name":"py","redirect_uris":["http://127.0.0.1:3000/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"application_type":"native"});
    let typescript = json!({"client_name":"ts","redirect_uris":["http://localhost:3000/cb"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","application_type":"native","scope":"openid profile"});
    let rmcp = json!({"client_name":"rs","redirect_uris":["http://localhost:8080/callback"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none","response_types":["code"],"application_type":"native"});
    for route in ["rfc7591", "authms", "loop"] {
        for body in [&python, &typescript, &rmcp] {
            let answer = gateway.post(&format!("/{route}/register"), body);
            assert_eq!(answer.status, 201, "{route} {body}: {}", answer.json());
            parses(&answer.json());
            assert_eq!(answer.json()["redirect_uris"], body["redirect_uris"]);
            assert_eq!(answer.text("/token_endpoint_auth_method"), "none", "{route}");
        }
    }
}

#[test]
fn mcp_03_04_the_least_body_at_the_root_gets_a_secret() {
    let gateway = open();
    let least = json!({"client_name": "x", "redirect_uris": ["https://a.example/cb"], "grant_types": ["authorization_code"], "response_types": ["code"]});
    let client = Own::of(&gateway.post("/register", &least)).json;
    assert!(client["client_secret"].as_str().is_some_and(|s| s.len() > 8));
    parses(&client);
}

#[test]
fn the_route_of_the_path_decides() {
    let gateway = open();
    for route in ROUTES {
        let own = register(&gateway, route, &metadata());
        assert_eq!(gateway.get(&format!("/v1/clients/{}", own.id())).text("/backend"), route);
    }
    let own = Own::of(&gateway.post("/register", &with(json!({}))));
    assert_eq!(gateway.get(&format!("/v1/clients/{}", own.id())).text("/backend"), "rfc7591");
    let nowhere = gateway.post("/nowhere/register", &metadata());
    assert_eq!((nowhere.status, nowhere.text("/error")), (403, "access_denied".to_owned()));
}
