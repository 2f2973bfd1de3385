//! A simulated authms, strict to its page: the envelope, methods that go in as a list and come back as a text, keys that
//! reads never show, paging, soft deletion, rotation.

use std::sync::{Mutex, PoisonError};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

use crate::shared::fake_time;

/// The token of an administrator.
pub const TOKEN: &str = "fake-authms-admin-token";
/// A valid token without an administrator's role.
pub const USER_TOKEN: &str = "fake-authms-user-token";

const GRANTS: [&str; 5] = [
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "implicit",
    "urn:ietf:params:oauth:grant-type:device_code",
];

#[derive(Debug, Default)]
struct State {
    clients: Vec<Stored>,
    issued: u64,
}

#[derive(Debug)]
struct Stored {
    /// As reads show it.
    item: Map<String, Value>,
    jwks: Value,
    secrets: Vec<String>,
    deleted: bool,
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
        match request.bearer() {
            Some(TOKEN) => {}
            Some(USER_TOKEN) => return error(403, 40_300_001, "Insufficient permissions: administrator role required"),
            _ => return error(401, 401_001, "Unauthenticated: provide a valid Bearer Token"),
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["api", "v1", "admin", "oauth", "clients"]) => state.create(request),
            ("GET", ["api", "v1", "admin", "oauth", "clients"]) => state.list(request),
            ("GET", ["api", "v1", "admin", "oauth", "clients", id]) => match state.find(id) {
                Some(stored) => done(200, &Value::Object(stored.item.clone())),
                None => missing(),
            },
            ("PUT", ["api", "v1", "admin", "oauth", "clients", id]) => state.update(id, request),
            ("DELETE", ["api", "v1", "admin", "oauth", "clients", id]) => match state.find(id) {
                Some(stored) => {
                    stored.deleted = true;
                    FakeResponse::empty(204)
                }
                None => missing(),
            },
            ("POST", ["api", "v1", "admin", "oauth", "clients", id, "rotate-secret"]) => state.rotate(id),
            _ => error(404, 40_400_000, "no such route"),
        }
    }

    fn settings(&self, base_url: &str) -> Value {
        json!({ "base_url": base_url, "token": TOKEN })
    }

    fn clients(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let live = state.clients.iter().filter(|s| !s.deleted);
        live.map(|s| {
            let mut item = s.item.clone();
            item.insert("jwks".to_owned(), s.jwks.clone());
            item.insert("_secrets".to_owned(), json!(s.secrets));
            Value::Object(item)
        })
        .collect()
    }

    fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

impl State {
    fn find(&mut self, id: &str) -> Option<&mut Stored> {
        self.clients.iter_mut().find(|s| !s.deleted && s.item.get("client_id").and_then(Value::as_str) == Some(id))
    }

    fn create(&mut self, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(mut body)) = request.json() else { return invalid("body must be a JSON object") };
        if let Err(message) = check(&body, false) {
            return invalid(&message);
        }
        for required in ["name", "redirect_uris"] {
            if !body.contains_key(required) {
                return invalid(&format!("{required} is required"));
            }
        }
        self.issued += 1;
        let n = self.issued;
        let jwks = body.remove("jwks").unwrap_or_default();
        // a Go bool: omitted is false
        let confidential = body.get("is_confidential").and_then(Value::as_bool).unwrap_or(false);
        let methods = body.remove("client_auth_methods").unwrap_or_else(|| json!(["client_secret_basic"]));
        let mut item = body;
        item.insert("client_auth_methods".to_owned(), json!(methods.to_string()));
        item.insert("is_confidential".to_owned(), json!(confidential));
        item.entry("grant_types").or_insert_with(|| json!(["authorization_code"]));
        for text in ["fapi_profile", "jwks_uri", "logo_url", "privacy_policy", "terms_url", "website"] {
            item.entry(text).or_insert_with(|| json!(""));
        }
        item.entry("scopes").or_insert_with(|| json!([]));
        item.insert("cors_origins".to_owned(), json!([]));
        item.insert("status".to_owned(), json!("active"));
        item.insert("id".to_owned(), json!(format!("01JN{n:022}")));
        item.insert("client_id".to_owned(), json!(format!("app-{n}")));
        let secret = confidential.then(|| format!("authms-secret-{n:024}"));
        let mut answer = item.clone();
        answer.insert("jwks".to_owned(), if jwks.is_null() { json!("") } else { jwks.clone() });
        answer.insert("client_secret".to_owned(), json!(secret.clone().unwrap_or_default()));
        let last_four = secret.as_deref().map(|s| s[s.len() - 4..].to_owned()).unwrap_or_default();
        item.insert("secret_last_four".to_owned(), json!(last_four));
        item.insert("tenant_id".to_owned(), json!("tenant-1"));
        item.insert("created_at".to_owned(), json!(fake_time()));
        item.insert("updated_at".to_owned(), json!(fake_time()));
        self.clients.push(Stored { item, jwks, secrets: secret.into_iter().collect(), deleted: false });
        // no timestamp here
        FakeResponse::json(201, &json!({ "code": 0, "message": "success", "data": answer }))
    }

    fn list(&self, request: &FakeRequest) -> FakeResponse {
        let number =
            |name: &str, default: usize| request.query.get(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let (page, size) = (number("page", 1).max(1), number("page_size", 20).clamp(1, 100));
        let wanted = |stored: &&Stored| {
            let text = |name: &str| stored.item.get(name).and_then(Value::as_str).unwrap_or("");
            !stored.deleted
                && request.query.get("name").is_none_or(|n| text("name").contains(n.as_str()))
                && request.query.get("status").is_none_or(|s| text("status") == s)
        };
        let all: Vec<&Stored> = self.clients.iter().filter(wanted).collect();
        let items: Vec<&Map<String, Value>> = all.iter().skip((page - 1) * size).take(size).map(|s| &s.item).collect();
        let (total, pages) = (all.len(), all.len().div_ceil(size));
        FakeResponse::json(
            200,
            &json!({
                "code": 0, "message": "success", "timestamp": fake_time(), "items": items, "total": total,
                "pagination": { "page": page, "page_size": size, "total": total, "total_pages": pages, "has_next": page < pages, "has_prev": page > 1 }
            }),
        )
    }

    fn update(&mut self, id: &str, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(mut body)) = request.json() else { return invalid("body must be a JSON object") };
        if let Err(message) = check(&body, true) {
            return invalid(&message);
        }
        self.issued += 1;
        let now = fake_time();
        let Some(stored) = self.find(id) else { return missing() };
        if let Some(jwks) = body.remove("jwks") {
            stored.jwks = jwks;
        }
        if let Some(methods) = body.remove("client_auth_methods") {
            body.insert("client_auth_methods".to_owned(), json!(methods.to_string()));
        }
        // merge: what is not sent stays; null is not sent, for Go
        body.retain(|_, v| !v.is_null());
        stored.item.extend(body);
        stored.item.insert("updated_at".to_owned(), json!(now));
        done(200, &Value::Object(stored.item.clone()))
    }

    fn rotate(&mut self, id: &str) -> FakeResponse {
        self.issued += 1;
        let n = self.issued;
        let Some(stored) = self.find(id) else { return missing() };
        if stored.item.get("is_confidential") != Some(&json!(true)) {
            return invalid("public clients have no secret");
        }
        let secret = format!("authms-secret-{n:024}");
        stored.item.insert("secret_last_four".to_owned(), json!(secret[secret.len() - 4..]));
        stored.secrets.insert(0, secret.clone());
        stored.secrets.truncate(2);
        done(200, &json!({ "client_id": id, "new_secret": secret, "rotated_at": fake_time() }))
    }
}

/// The documented body; members that it does not have are refused.
fn check(body: &Map<String, Value>, update: bool) -> Result<(), String> {
    let strings = |v: &Value| v.as_array().is_some_and(|a| a.iter().all(Value::is_string));
    for (name, value) in body {
        let ok = match name.as_str() {
            "name" => value.as_str().is_some_and(|s| !s.is_empty()),
            "redirect_uris" => strings(value) && value.as_array().is_some_and(|a| !a.is_empty()),
            "client_auth_methods" | "scopes" => strings(value),
            "grant_types" => {
                value.as_array().is_some_and(|a| a.iter().all(|g| g.as_str().is_some_and(|g| GRANTS.contains(&g))))
            }
            "is_confidential" => value.is_boolean(),
            "fapi_profile" | "jwks" | "jwks_uri" | "logo_url" | "privacy_policy" | "terms_url" | "website" => {
                value.is_string() || (update && value.is_null())
            }
            "status" if update => matches!(value.as_str(), Some("active" | "suspended" | "inactive")),
            _ => return Err(format!("unknown field {name}")),
        };
        if !ok {
            return Err(format!("field {name} is invalid"));
        }
    }
    Ok(())
}

fn done(status: u16, data: &Value) -> FakeResponse {
    FakeResponse::json(status, &json!({ "code": 0, "message": "success", "timestamp": fake_time(), "data": data }))
}

fn error(status: u16, code: u64, message: &str) -> FakeResponse {
    FakeResponse::json(status, &json!({ "code": code, "message": message, "timestamp": fake_time() }))
}

fn invalid(message: &str) -> FakeResponse {
    error(400, 40_000_001, message)
}

fn missing() -> FakeResponse {
    error(404, 40_400_001, "Client not found or does not belong to the current tenant")
}
