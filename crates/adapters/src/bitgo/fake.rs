//! A simulated BitGo, strict to its page: the scope enumeration, 200 on creation, a merging `PUT`, secrets in reads, the
//! error body with all four members.

use std::sync::{Mutex, PoisonError};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

/// The token that the fake accepts.
pub const TOKEN: &str = "fake-bitgo-admin-token";

#[derive(Debug, Default)]
struct State {
    clients: Vec<Map<String, Value>>,
    issued: u64,
    requests: u64,
}

/// The simulated vendor.
#[derive(Debug, Default)]
pub struct FakeVendor {
    state: Mutex<State>,
}

impl Fake for FakeVendor {
    fn kind(&self) -> &'static str {
        super::KIND
    }

    fn handle(&self, request: &FakeRequest) -> FakeResponse {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests += 1;
        if request.bearer() != Some(TOKEN) {
            let mut response = state.error(401, "Unauthorized", "unauthorized");
            response.headers.push(("x-auth-required".to_owned(), "true".to_owned()));
            return response;
        }
        match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["api", "v2", "admin", "oauth", "client"]) => state.create(request),
            ("GET", ["api", "v2", "admin", "oauth", "client", id]) => match state.find(id) {
                Some(client) => FakeResponse::json(200, &Value::Object(client.clone())),
                None => state.error(404, "ClientNotFound", "oauth client not found"),
            },
            ("PUT", ["api", "v2", "admin", "oauth", "client", id]) => state.update(id, request),
            _ => state.error(404, "NotFound", "unknown route"),
        }
    }

    fn settings(&self, base_url: &str) -> Value {
        json!({ "base_url": base_url, "token": TOKEN })
    }

    fn clients(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clients.iter().cloned().map(Value::Object).collect()
    }

    fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

impl State {
    fn error(&self, status: u16, name: &str, text: &str) -> FakeResponse {
        let request_id = format!("fakereq{:08}", self.requests);
        FakeResponse::json(status, &json!({ "name": name, "context": {}, "error": text, "requestId": request_id }))
    }

    fn find(&mut self, id: &str) -> Option<&mut Map<String, Value>> {
        self.clients.iter_mut().find(|c| c.get("clientId").and_then(Value::as_str) == Some(id))
    }

    fn create(&mut self, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(mut body)) = request.json() else {
            return self.error(400, "InvalidBody", "body must be a JSON object");
        };
        if let Err(text) = check(&body, true) {
            return self.error(400, "ValidationError", &text);
        }
        for required in ["redirectUri", "scope"] {
            if !body.contains_key(required) {
                return self.error(400, "ValidationError", &format!("missing required property {required}"));
            }
        }
        self.issued += 1;
        let n = self.issued;
        let prefix =
            body.remove("clientIdPrefix").and_then(|p| p.as_str().map(|p| format!("{p}-"))).unwrap_or_default();
        body.insert("clientId".to_owned(), json!(format!("{prefix}{n:024x}")));
        body.insert("clientSecret".to_owned(), json!(format!("bitgo-secret-{n:024}")));
        body.entry("clientOrganizations").or_insert_with(|| json!([]));
        body.entry("redirectDomain").or_insert_with(|| json!([]));
        body.entry("isActive").or_insert(json!(true));
        self.clients.push(body.clone());
        FakeResponse::json(200, &Value::Object(body))
    }

    fn update(&mut self, id: &str, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(body)) = request.json() else {
            return self.error(400, "InvalidBody", "body must be a JSON object");
        };
        if let Err(text) = check(&body, false) {
            return self.error(400, "ValidationError", &text);
        }
        let Some(client) = self.find(id) else {
            return self.error(404, "ClientNotFound", "oauth client not found");
        };
        client.extend(body);
        let shown = Value::Object(client.clone());
        FakeResponse::json(200, &shown)
    }
}

/// The documented body; members that it does not have are refused.
fn check(body: &Map<String, Value>, create: bool) -> Result<(), String> {
    let strings = |v: &Value| v.as_array().is_some_and(|a| a.iter().all(Value::is_string));
    for (name, value) in body {
        let ok = match name.as_str() {
            "redirectUri" => strings(value) && value.as_array().is_some_and(|a| !a.is_empty()),
            "scope" => scopes(value),
            "clientIdPrefix" if create => value.is_string(),
            "clientType" => matches!(value.as_str(), Some("dApp" | "scim")),
            "redirectDomain" | "clientOrganizations" => strings(value),
            "enterprise" => value.is_string(),
            "isActive" => value.is_boolean(),
            _ => return Err(format!("unexpected property {name}")),
        };
        if !ok {
            return Err(format!("invalid value for {name}"));
        }
    }
    Ok(())
}

fn scopes(value: &Value) -> bool {
    // from the page itself and not from the adapter, so that both cannot share one misreading
    let known = |s: &str| include_str!("fixtures/scopes.txt").split_ascii_whitespace().any(|k| k == s);
    match value {
        Value::String(text) => !text.is_empty() && text.split(' ').all(known),
        Value::Array(items) => !items.is_empty() && items.iter().all(|s| s.as_str().is_some_and(known)),
        _ => false,
    }
}
