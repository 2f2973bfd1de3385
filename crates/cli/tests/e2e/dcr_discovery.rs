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
    // one route registers
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
    for other in ["/named/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/named/"] {
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
        "discovery = { authorization_endpoint = \"https://vendor.example/authorize\", token_endpoint = \"https://vendor.example/token\", scopes_supported = [], code_challenge_methods_supported = [\"S256\"] }",
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
        assert!(!has("grant_types_supported", "urn:ietf:params:oauth:grant-type:device_code"), "{route}: {document}");
        assert_eq!(document["token_endpoint"], "https://vendor.example/token");
        // it is no OpenID provider's, and clients that insist on one would give up at it
        assert_eq!(gateway.get(&format!("/{route}/.well-known/openid-configuration")).status, 404, "{route}");
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

/// RFC 3986 §2.3: an unreserved character is never encoded, so that issuers are compared as they are written.
#[test]
fn clients_f1_the_issuer_of_a_route_is_its_name_unescaped() {
    const NAMES: [&str; 4] = ["loop-eu", "loop_eu", "loop.eu", "a-b_c.d"];
    let endpoints = "authorization_endpoint = \"https://v.example/a\", token_endpoint = \"https://v.example/t\"";
    let openid = "jwks_uri = \"https://v.example/k\", subject_types_supported = [\"public\"], id_token_signing_alg_values_supported = [\"RS256\"]";
    let gateway = Gateway::start_edited("none", |text| {
        let mut text = text.split("[[routes]]").next().unwrap().to_owned();
        text.push_str("[registration]\naccess = \"open\"\n");
        for name in NAMES {
            let discovery = format!("{{ {endpoints}, {openid} }}");
            text.push_str(&format!("[[routes]]\nname = \"{name}\"\nbackend = \"loop\"\ndiscovery = {discovery}\n"));
        }
        text
    });
    let base = format!("http://{}", gateway.address);
    for name in NAMES {
        let issuer = format!("{base}/{name}");
        for path in [
            format!("/.well-known/oauth-authorization-server/{name}"),
            format!("/.well-known/openid-configuration/{name}"),
            format!("/{name}/.well-known/openid-configuration"),
            format!("/{name}/.well-known/oauth-authorization-server"),
        ] {
            let document = gateway.get(&path);
            assert_eq!((document.status, document.text("/issuer")), (200, issuer.clone()), "{path}");
            assert_eq!(document.text("/registration_endpoint"), format!("{issuer}/register"), "{path}");
        }
        let own = Own::of(&gateway.post(&format!("/{name}/register"), &metadata()));
        let uri = own.json["registration_client_uri"].as_str().unwrap();
        assert_eq!(uri, format!("{base}{}", own.path));
        assert_eq!(own.get(&gateway).status, 200);
    }
    // who encodes it all the same is understood
    let encoded = gateway.get("/.well-known/oauth-authorization-server/loop%2Deu");
    assert_eq!(encoded.text("/issuer"), format!("{base}/loop-eu"));
}

/// Every grant that a document names has its endpoints, and a route without any names none.
#[test]
fn clients_f16_real_servers_j12_a_document_promises_what_it_can_serve() {
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    for (discovery, has, lacks) in [
        ("", vec![], vec!["authorization_code", "implicit", "client_credentials", "refresh_token", device]),
        ("token_endpoint = \"https://v.example/t\"", vec!["client_credentials"], vec!["authorization_code", device]),
        (
            "token_endpoint = \"https://v.example/t\", device_authorization_endpoint = \"https://v.example/d\"",
            vec![device, "refresh_token"],
            vec!["authorization_code", "implicit"],
        ),
    ] {
        let gateway = gateway(OPEN, &format!("discovery = {{ {discovery} }}"));
        for route in ["authms", "loginradius", "rfc7591"] {
            let document = gateway.get(&format!("/.well-known/oauth-authorization-server/{route}"));
            assert_eq!(document.status, 200);
            let document = document.json();
            let named = document["grant_types_supported"].as_array().cloned().unwrap_or_default();
            assert!(has.iter().all(|grant| named.contains(&json!(grant))), "{route}: {document}");
            assert!(!lacks.iter().any(|grant| named.contains(&json!(grant))), "{route}: {document}");
            assert_ne!(document["response_types_supported"], json!(["code"]), "{route}: {document}");
        }
    }
}

#[test]
fn clients_f6_real_servers_j3_the_root_is_closed_where_several_routes_register() {
    let edited = |registration: &str, routes: &[(&str, &str)]| {
        Gateway::start_edited("none", |text| {
            let mut text = text.split("[[routes]]").next().unwrap().to_owned();
            text.push_str(&format!("[registration]\n{registration}\n"));
            for (name, access) in routes {
                let route =
                    format!("[[routes]]\nname = \"{name}\"\nbackend = \"{name}\"\nregistration = \"{access}\"\n");
                text.push_str(&route);
            }
            text
        })
    };
    let documents = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
    let several: &[(&str, &str)] = &[("loop", "open"), ("authms", "token"), ("bitgo", "closed")];
    for registration in ["", "root = false", "access = \"open\"", "access = \"open\"\nroot = false"] {
        let mut gateway = edited(registration, several);
        let answer = gateway.post("/register", &metadata());
        assert_eq!((answer.status, answer.text("/error")), (403, "access_denied".to_owned()), "{registration}");
        let told = answer.text("/error_description");
        let at = |name: &str| format!("http://{}/{name}/register", gateway.address);
        assert!(told.contains(&at("loop")) && told.contains(&at("authms")) && !told.contains("bitgo"), "{told}");
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let answer = call(gateway.address, method, "/register", &[JSON], b"{}");
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
            assert!(answer.json()["error"].is_string());
        }
        for document in documents {
            assert_eq!(gateway.get(document).status, 404, "{document}");
        }
        assert_eq!(gateway.vendor_writes(), 0);
        // what is not the root is as it was
        let own = register(&gateway, "loop", &metadata());
        assert_eq!(own.get(&gateway).status, 200);
        assert_eq!(gateway.get("/.well-known/oauth-authorization-server/loop").status, 200);
        let warned = gateway.log().contains("registration.root");
        assert_eq!(warned, !registration.contains("root"), "{registration}");
        gateway.kill();
    }
    // one that registers is what the root leads to, whatever else there is
    let one = edited("", &[("bitgo", "closed"), ("loop", "open")]);
    assert_eq!(one.post("/register", &metadata()).status, 403, "the rules of the routes lead to the closed one");
    let one = edited("", &[("loop", "open")]);
    assert_eq!(one.post("/register", &metadata()).status, 201);
    assert_eq!(one.get(documents[0]).status, 200);
    let none = edited("root = true", &[("loop", "closed")]);
    assert_eq!(none.post("/register", &metadata()).status, 403);
    // where it is wanted, it is as closed as the most closed of those that register
    let strict = edited("root = true", several);
    assert_eq!((strict.post("/register", &metadata()).status, strict.vendor_writes()), (401, 0));
}

#[test]
fn clients_f15_a_slash_at_the_end_changes_nothing_and_unknown_paths_answer_as_the_face_does() {
    let gateway = open();
    for path in ["/register/", "/authms/register/"] {
        let own = Own::of(&gateway.post(path, &metadata()));
        let slashed = format!("{}/", own.path);
        let ask = |method: &str, body: &Value| crate::dcr::bearer(&gateway, method, &slashed, &own.token, body);
        assert_eq!(ask("GET", &Value::Null).text("/client_id"), own.json["client_id"]);
        assert_eq!(ask("PUT", &own.update(json!({}))).status, 200);
        assert_eq!(ask("DELETE", &Value::Null).status, 204);
        assert_eq!(call(gateway.address, "GET", path, &[], b"").header("allow"), Some("POST"), "{path}");
    }
    let token = crate::dcr::initial_token(&gateway, json!({"name": "t"}));
    assert_eq!(gateway.post(&format!("/loop/register/{token}/"), &metadata()).status, 201);
    for path in ["/register/a/b", "/loop/register/a/b", "/loop//register", "/.well-known/nothing", "/a/.well-known/b/c"]
    {
        let answer = gateway.post(path, &metadata());
        assert_eq!((answer.status, answer.text("/error")), (404, "invalid_request".to_owned()), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(call(gateway.address, "OPTIONS", path, &[], b"").status, 204, "{path}");
    }
    // the other face has its own
    let other = gateway.get("/v1/register/x/y");
    assert_eq!((other.status, other.header("content-type")), (404, Some("application/problem+json")));
    assert!(other.header("access-control-allow-origin").is_none());
}
