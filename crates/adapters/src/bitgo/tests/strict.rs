//! The simulated vendor is as strict as the page.

use registrar_core::{Fake as _, FakeRequest};
use serde_json::{Value, json};

use super::fake;

#[test]
fn the_fake_refuses_what_the_page_refuses() {
    let fake = fake::FakeVendor::default();
    let call = |method: &str, id: Option<&str>, token: &str, body: &Value| {
        let path = ["api", "v2", "admin", "oauth", "client"].into_iter().chain(id).map(str::to_owned).collect();
        let headers = [("authorization".to_owned(), format!("Bearer {token}"))].into();
        fake.handle(&FakeRequest {
            method: method.to_owned(),
            path,
            query: std::collections::BTreeMap::new(),
            headers,
            body: body.to_string().into(),
        })
    };
    let good: Value = serde_json::from_str(include_str!("../fixtures/request.json")).unwrap();
    let created = call("POST", None, fake::TOKEN, &good);
    let created: Value = serde_json::from_slice(&created.body).unwrap();
    let id = created["clientId"].as_str().unwrap();
    assert!(id.starts_with("pfx-"));
    let changes = [
        ("scope", json!(["openid", "email"])),
        ("scope", json!([])),
        ("scope", json!("")),
        ("clientType", json!("public")),
        ("redirectUri", json!([])),
        ("redirectUri", json!("https://a.example/cb")),
        ("redirectUri", json!([1])),
        ("redirectDomain", json!("a.example")),
        ("isActive", json!("true")),
        ("enterprise", json!(null)),
        ("client_name", json!("A")),
        ("organizationConfig", json!({})),
        ("clientSecret", json!("mine")),
    ];
    for (name, value) in &changes {
        let mut bad = good.clone();
        bad[name] = value.clone();
        assert_eq!(call("POST", None, fake::TOKEN, &bad).status, 400, "{name}: {value}");
        assert_eq!(call("PUT", Some(id), fake::TOKEN, &json!({ *name: value })).status, 400, "{name}: {value}");
    }
    for missing in ["redirectUri", "scope"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(missing);
        assert_eq!(call("POST", None, fake::TOKEN, &bad).status, 400, "{missing}");
    }
    assert_eq!(call("PUT", Some(id), fake::TOKEN, &json!({ "clientIdPrefix": "x" })).status, 400);
    assert_eq!(fake.clients().len(), 1, "what is refused makes nothing");
    for (response, status) in [
        (call("GET", Some("nobody"), fake::TOKEN, &Value::Null), 404),
        (call("GET", Some(id), "wrong", &Value::Null), 401),
    ] {
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(response.status, status);
        assert!(["name", "context", "error", "requestId"].iter().all(|m| body.get(m).is_some()), "{body}");
    }
    let shown: Value = serde_json::from_slice(&call("GET", Some(id), fake::TOKEN, &Value::Null).body).unwrap();
    assert_eq!(shown, created, "a read lists the secret (trap 17)");
}
