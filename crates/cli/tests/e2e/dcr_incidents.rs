//! Incidents of other servers' dynamic client registration (reliability §3.1), as they would happen here.

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::{
    dcr::{OPEN, ROUTES, bearer, gateway, initial_token, metadata, open, refused, register, with},
    http::{JSON, call},
    running::Gateway,
};

/// Every metadata member that is a URL and that somebody may fetch.
const FETCHED: [&str; 6] = [
    "jwks_uri",
    "sector_identifier_uri",
    "backchannel_logout_uri",
    "backchannel_client_notification_endpoint",
    "signed_jwks_uri",
    "initiate_login_uri",
];

#[test]
fn cve_2021_26715_cve_2026_1180_cve_2026_4366_cve_2026_1518_no_url_of_a_caller_reaches_into_a_network() {
    let gateway = open();
    for name in FETCHED {
        for url in [
            "http://169.254.169.254/latest",
            "https://169.254.169.254/x",
            "https://localhost/x",
            "https://intranet/x",
            "ftp://a.example/x",
            "x",
        ] {
            if name == "initiate_login_uri" && url.starts_with("https://") {
                // browsers go there, not servers
                continue;
            }
            refused(&gateway, &with(json!({ name: url })), "invalid_client_metadata");
        }
    }
    refused(&gateway, &with(json!({"request_uris": ["https://127.0.0.1/x"]})), "invalid_client_metadata");
    // nothing is fetched, whoever is named: the only calls are those to the vendor's API
    register(
        &gateway,
        "rfc7591",
        &with(json!({"logo_uri": gateway.fakes.base_url("loop"), "client_uri": gateway.fakes.base_url("loop")})),
    );
    assert!(gateway.fakes.ledger(Some("loop")).is_empty());
}

#[test]
fn keycloak_51219_every_member_that_is_a_url_is_checked() {
    let gateway = open();
    let document = gateway.get("/openapi.json").json();
    let members = document["components"]["schemas"]["ClientMetadata"]["properties"].as_object().unwrap();
    let urls: Vec<&String> = members.keys().filter(|n| n.ends_with("_uri") || n.ends_with("_endpoint")).collect();
    assert!(urls.len() > 12, "{urls:?}");
    for name in urls.into_iter().filter(|n| *n != "tls_client_auth_san_uri") {
        refused(&gateway, &with(json!({ name: "JavaScript:alert(1)" })), "invalid_client_metadata");
    }
    for name in ["post_logout_redirect_uris", "request_uris", "claims_redirect_uris"] {
        refused(&gateway, &with(json!({ name: ["DATA:text/html,x"] })), "invalid_client_metadata");
    }
}

#[test]
fn cve_2026_9086_windmill_ghsa_q9xg_schemes_that_run_code() {
    let gateway = open();
    for uri in ["JavaScript:alert(1)", "DATA:text/html,x", "jAvAsCrIpT://a.example/%0aalert(1)"] {
        refused(&gateway, &with(json!({"redirect_uris": ["https://a.example/cb", uri]})), "invalid_redirect_uri");
    }
}

#[test]
fn cve_2026_18570_a_policy_cannot_be_left_out() {
    let gateway = gateway("access = \"token\"", "");
    let token = initial_token(&gateway, json!({"name": "x", "scopes": ["openid"]}));
    for members in [json!({"scope": null}), json!({"scope": ""})] {
        let answer = bearer(&gateway, "POST", "/loop/register", &token, &with(members));
        assert_eq!((answer.status, answer.text("/scope")), (201, "openid".to_owned()));
    }
}

#[test]
fn cve_2026_18573_cve_2026_15572_updates_meet_every_rule_again() {
    let gateway = gateway(OPEN, r#"policy = 'metadata.token_endpoint_auth_method != "none"'"#);
    let own = register(&gateway, "rfc7591", &metadata());
    let writes = gateway.vendor_writes();
    for members in [
        json!({"token_endpoint_auth_method": "none"}),
        json!({"redirect_uris": ["javascript:alert(1)"]}),
        json!({"jwks_uri": "http://169.254.169.254/"}),
        json!({"grant_types": ["password"]}),
    ] {
        assert_eq!(own.call(&gateway, "PUT", &own.update(members.clone())).status, 400, "{members}");
    }
    assert_eq!(gateway.vendor_writes(), writes);
}

#[test]
fn cve_2026_16102_no_member_makes_an_administrator() {
    let gateway = open();
    let body = with(
        json!({"roles": ["admin"], "protocol_mappers": [{"claim.name": "realm_access.roles"}], "policy": {"first_party": true}, "is_first_party": true}),
    );
    for route in ROUTES {
        register(&gateway, route, &body);
        for entry in gateway.fakes.ledger(Some(route)) {
            let sent = entry.request_body.map(|b| b.to_string()).unwrap_or_default();
            assert!(
                !sent.contains("admin") && !sent.contains("mapper") && !sent.contains("first_party\":true"),
                "{sent}"
            );
        }
    }
}

#[test]
fn cve_2026_9705_a_token_does_not_wake_what_an_administrator_switched_off() {
    let gateway = open();
    let own = register(&gateway, "loop", &metadata());
    let disabled = gateway.call("DELETE", &format!("/v1/clients/{}?mode=disable", own.id()), &[], &Value::Null);
    assert_eq!(disabled.status, 200);
    // switched off in the vendor's own console, of which the gateway knows nothing yet
    let elsewhere = register(&gateway, "loop", &with(json!({"client_name": "B"})));
    let fake = gateway.fakes.base_url("loop");
    let address = fake.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
    let path = format!("/loop/v1/admin/oauth-clients/{}", elsewhere.json["client_id"].as_str().unwrap());
    let admin = ("authorization", "Bearer fake-loop-admin-token");
    assert_eq!(call(address, "PATCH", &path, &[JSON, admin], br#"{"enabled":false}"#).status, 200);
    let writes = gateway.vendor_writes();
    for own in [&own, &elsewhere] {
        for method in ["GET", "PUT"] {
            let answer = own.call(&gateway, method, &own.update(json!({"redirect_uris": ["https://a.example/2"]})));
            assert_eq!((answer.status, answer.text("/error")), (401, "invalid_token".to_owned()), "{method}");
        }
    }
    assert_eq!(gateway.vendor_writes(), writes);
    assert_eq!(gateway.get(&format!("/v1/clients/{}?source=vendor", own.id())).json()["policy"]["enabled"], false);
}

#[test]
fn keycloak_53079_a_client_that_an_administrator_made_has_no_token() {
    let gateway = open();
    let made = gateway.post("/v1/clients", &json!({"backend": "rfc7591", "metadata": metadata()}));
    let own = register(&gateway, "rfc7591", &metadata());
    let zero = format!("rat_{}", "0".repeat(72));
    for token in [&own.token, &zero, &made.text("/client_secret")] {
        assert_eq!(
            bearer(&gateway, "GET", &format!("/register/{}", made.text("/id")), token, &Value::Null).status,
            401
        );
    }
}

#[test]
fn cve_2023_6544_hosts_are_compared_not_matched() {
    let gateway = gateway(&format!("{OPEN}\nredirect_hosts = [\"a.example\"]"), "");
    for uri in [
        "https://axexample/cb",
        "https://a.example.evil.example/cb",
        "https://evil.example/a.example",
        "https://evil.example?a.example",
    ] {
        refused(&gateway, &with(json!({"redirect_uris": [uri]})), "invalid_redirect_uri");
    }
    assert_eq!(gateway.post("/register", &metadata()).status, 201);
}

#[test]
fn cve_2025_9152_no_path_registers_without_being_opened() {
    let gateway = Gateway::start_with("keys");
    for (method, path) in [
        ("POST", "/register"),
        ("POST", "/named/register"),
        ("POST", "/named/register/x"),
        ("POST", "/nowhere/register"),
        ("GET", "/register/x"),
        ("PUT", "/register/x"),
        ("DELETE", "/register/x"),
        ("POST", "/v1/initial-access-tokens"),
        ("GET", "/v1/initial-access-tokens"),
        ("DELETE", "/v1/initial-access-tokens/x"),
    ] {
        let answer = gateway.call(method, path, &[JSON], &metadata());
        assert!(matches!(answer.status, 401 | 403), "{method} {path}: {}", answer.status);
    }
    assert_eq!(gateway.vendor_writes(), 0);
}

#[test]
fn cve_2026_44476_a_public_client_is_public() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    let public = own.call(&gateway, "PUT", &own.update(json!({"token_endpoint_auth_method": "none"})));
    assert_eq!((public.status, public.text("/token_endpoint_auth_method")), (200, "none".to_owned()));
    assert!(public.json().get("client_secret").is_none());
}

#[test]
fn cve_2026_27124_every_registration_is_a_client_of_its_own() {
    let gateway = open();
    for route in ROUTES {
        let before = gateway.fakes.fake(route).unwrap().clients().len();
        for name in ["A", "B"] {
            register(&gateway, route, &with(json!({"client_name": name})));
        }
        assert_eq!(gateway.fakes.fake(route).unwrap().clients().len(), before + 2, "{route}");
    }
}

#[test]
fn cve_2025_4143_cve_2025_4144_the_vendor_enforces_exactly_what_was_registered() {
    // whoever authorizes has to compare: the vendor, which is told the values themselves, and to compare them exactly
    let gateway = open();
    let uris = json!(["https://a.example:8443/cb%20/", "https://a.example/CB"]);
    for route in ROUTES {
        let own = register(&gateway, route, &with(json!({ "redirect_uris": uris })));
        assert_eq!(own.json["redirect_uris"], uris, "{route}");
        let clients = gateway.fakes.fake(route).unwrap().clients();
        let held = clients.last().unwrap().to_string();
        for uri in uris.as_array().unwrap() {
            assert!(held.contains(&uri.to_string()), "{route} {uri}: {held}");
        }
        assert!(!held.contains("\"RedirectURIExactMatch\":false"), "{route}: {held}");
    }
}

#[test]
fn cve_2025_69196_a_token_is_for_what_it_was_issued_for() {
    let gateway = gateway("access = \"token\"", "");
    let for_loop = initial_token(&gateway, json!({"name": "loop", "routes": ["loop"]}));
    let writes = gateway.vendor_writes();
    for path in ["/rfc7591/register", "/authms/register", "/register"] {
        let answer = bearer(&gateway, "POST", path, &for_loop, &metadata());
        assert_eq!(answer.status, 403, "{path}: {}", answer.json());
    }
    assert_eq!(gateway.vendor_writes(), writes);
    let made = |name: &str| {
        let answer = bearer(&gateway, "POST", "/loop/register", &for_loop, &with(json!({ "client_name": name })));
        crate::dcr::Own::of(&answer)
    };
    let (one, other) = (made("A"), made("B"));
    for token in [&other.token, &for_loop] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = bearer(&gateway, method, &one.path, token, &one.update(json!({})));
            assert_eq!((answer.status, answer.text("/error")), (401, "invalid_token".to_owned()), "{method}");
        }
    }
    // nor is the token of a client an initial one, or an administrator's
    assert_eq!(bearer(&gateway, "POST", "/loop/register", &one.token, &metadata()).status, 401);
}

#[test]
fn cve_2025_6514_what_a_vendor_says_is_nobodys_endpoint() {
    let gateway = gateway(OPEN, "discovery = { token_endpoint = \"https://vendor.example/token\" }");
    let hostile = "a:$(touch CANARY)";
    let endpoints =
        ["authorization_endpoint", "token_endpoint", "registration_endpoint", "registration_client_uri", "issuer"];
    let mut body = json!({ "client_id": "c-hostile", "redirect_uris": ["https://a.example/cb"] });
    for name in endpoints {
        body[name] = json!(hostile);
    }
    gateway.fakes.script(ScriptedFault {
        kind: Some("rfc7591".to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::Before,
        fault: Fault::Status { status: 201, body: Some(body), headers: serde_json::Map::new() },
    });
    let answer = gateway.post("/rfc7591/register", &metadata());
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(!told.contains("CANARY"), "{told}");
    let document = gateway.get("/.well-known/oauth-authorization-server/rfc7591");
    assert!(!String::from_utf8_lossy(&document.body).contains("CANARY"));
    assert_eq!(document.text("/token_endpoint"), "https://vendor.example/token");

    // nor is what an operator has copied from somewhere
    for bad in [hostile, "file:///bin/sh", "javascript:alert(1)", "http://vendor.example/", "/authorize"] {
        let route = format!(
            "[[backends]]\nname = \"b\"\nkind = \"loop\"\nsettings = {{ base_url = \"https://a.example\", token = \"env:T\" }}\n[[routes]]\nname = \"r\"\nbackend = \"b\"\ndiscovery = {{ authorization_endpoint = \"{bad}\" }}\n"
        );
        let file = gateway.folder.path().join("discovery.toml");
        std::fs::write(&file, route).unwrap();
        let out = crate::running::binary().env("T", "x").args(["check", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(!out.status.success() && said.contains("`authorization_endpoint` is not a URL"), "{bad}: {said}");
    }
}

#[test]
fn turbo_ea_ghsa_wx5f_576r_gpcx_coroot_929_neon_66_formbricks_9300_cartesia_67_calcom_120_open_registration_and_redirects()
 {
    // nothing is open unless somebody opened it
    let closed = Gateway::start();
    let answer = closed.post("/register", &metadata());
    assert_eq!((answer.status, answer.text("/error")), (403, "access_denied".to_owned()));
    assert_eq!(closed.vendor_writes(), 0);
    // and who opens it can name the hosts, for updates too
    let gateway = gateway(&format!("{OPEN}\nredirect_hosts = [\"127.0.0.1\", \"app.example.com\"]"), "");
    for good in ["http://127.0.0.1:3000/cb", "https://app.example.com/cb"] {
        register(&gateway, "rfc7591", &with(json!({ "redirect_uris": [good] })));
    }
    let own = register(&gateway, "rfc7591", &with(json!({ "redirect_uris": ["https://app.example.com/cb"] })));
    for bad in [
        "https://attacker.example/cb",
        "https://app.example.com.attacker.example/cb",
        "https://app.example.com@attacker.example/cb",
        "https://attacker.example/?app.example.com",
        "https://attacker.example\\@app.example.com/cb",
        "https://app.example.com./cb",
        "http://127.0.0.1.attacker.example/cb",
        "http://localhost:3000/cb",
        "attacker://app.example.com/cb",
        "javascript://app.example.com/%0aalert(1)",
    ] {
        let body = with(json!({ "redirect_uris": ["https://app.example.com/cb", bad] }));
        refused(&gateway, &body, "invalid_redirect_uri");
        let writes = gateway.vendor_writes();
        let answer = own.call(&gateway, "PUT", &own.update(body));
        assert_eq!((answer.status, answer.text("/error")), (400, "invalid_redirect_uri".to_owned()), "{bad}");
        assert_eq!(gateway.vendor_writes(), writes);
    }
}

/// The incidents of reliability §3.1; several ids in one entry are one incident under more names.
const INCIDENTS: [&str; 31] = [
    "cve_2021_26715",
    "cve_2026_1180",
    "keycloak_51219",
    "cve_2026_4366",
    "cve_2026_1518",
    "cve_2026_9086",
    "cve_2026_18570",
    "cve_2026_18573",
    "cve_2026_15572",
    "cve_2026_16102",
    "cve_2026_9705",
    "keycloak_53079",
    "keycloak_27294",
    "cve_2023_6544",
    "cve_2026_22752",
    "cve_2026_59354",
    "cve_2025_9152",
    "cve_2026_44476",
    "cve_2020_10187",
    "cve_2025_4143",
    "cve_2025_4144",
    "cve_2026_27124",
    "cve_2025_69196",
    "ghsa_vv7q_7jx5_f767",
    "cve_2025_6514",
    "windmill_ghsa_q9xg",
    "turbo_ea_ghsa_wx5f_576r_gpcx",
    "coroot_929",
    "neon_66",
    "formbricks_9300",
    "cartesia_67_calcom_120",
];

#[test]
fn every_incident_has_a_test_that_names_it() {
    let files = [include_str!("dcr_incidents.rs"), include_str!("dcr_corpus.rs"), include_str!("dcr_registration.rs")];
    let tests: Vec<&str> = files
        .iter()
        .flat_map(|text| text.split("#[test]\n").skip(1))
        .filter_map(|after| after.strip_prefix("fn ")?.split('(').next())
        .collect();
    for incident in INCIDENTS {
        assert!(tests.iter().any(|name| name.contains(incident)), "{incident} has no test");
    }
}

#[test]
fn cve_2020_10187_no_answer_shows_what_is_kept_to_manage_a_client() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    for path in ["/v1/clients".to_owned(), format!("/v1/clients/{}", own.id()), "/v1/operations".to_owned()] {
        let text = String::from_utf8_lossy(&gateway.get(&path).body).into_owned();
        for hidden in [
            "access_token",
            "hidden",
            "dcr",
            "management",
            own.token.as_str(),
            own.json["client_secret"].as_str().unwrap(),
        ] {
            assert!(!text.contains(hidden), "{hidden} in {path}: {text}");
        }
    }
}

#[test]
fn ghsa_vv7q_7jx5_f767_an_id_in_a_path_leads_nowhere_else() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    let before = gateway.fakes.ledger(None).len();
    for id in ["..%2F..%2Fx", "%2e%2e", "c-000001", "%00", "reg_%2e%2e", "%ff", "x%2Fy%3Fz"] {
        let answer = bearer(&gateway, "GET", &format!("/register/{id}"), &own.token, &Value::Null);
        assert_eq!((answer.status, answer.text("/error")), (401, "invalid_token".to_owned()), "{id}");
    }
    assert_eq!(gateway.fakes.ledger(None).len(), before);
}

#[test]
fn bad_bodies_are_refused_in_the_words_of_rfc_7591() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    let writes = gateway.vendor_writes();
    for body in crate::hostile::bodies() {
        // the same faults, where this face has the members
        let inner = serde_json::from_slice::<Value>(&body).ok().and_then(|v| v.get("metadata").cloned());
        let authorization = ("authorization", format!("Bearer {}", own.token));
        let answers = [
            call(gateway.address, "POST", "/register", &[JSON], &body),
            call(gateway.address, "PUT", &own.path, &[JSON, (authorization.0, &authorization.1)], &body),
            call(gateway.address, "POST", "/register", &[JSON], inner.unwrap_or_default().to_string().as_bytes()),
        ];
        for answer in answers {
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            if answer.status == 201 {
                // the fault was in a member that does not exist here
                continue;
            }
            assert!(matches!(answer.status, 400 | 413), "{} for {shown}", answer.status);
            assert_eq!(answer.header("content-type"), Some("application/json"), "{shown}");
            let told = answer.json();
            let codes =
                ["invalid_client_metadata", "invalid_redirect_uri", "invalid_request", "invalid_software_statement"];
            assert!(codes.iter().any(|c| told["error"] == *c), "{shown}: {told}");
            assert!(told["error_description"].as_str().is_some_and(str::is_ascii), "{shown}: {told}");
            assert!(told.get("operation").is_none(), "{shown}: {told}");
        }
    }
    let made = gateway.vendor_writes() - writes;
    assert!(made < 60, "{made} of the bodies were sent to the vendor");
    assert!(!gateway.log().contains("panicked"));
}
