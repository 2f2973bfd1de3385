//! A simulated Loop, strict to its pages: the JSON schemas of 000 and 001, 201 on create, `PATCH` semantics, rotation
//! with a day of grace, own clients only.

use std::sync::{Mutex, PoisonError};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

use crate::shared::fake_time;

/// The token that the fake accepts.
pub const TOKEN: &str = "fake-loop-admin-token";

#[derive(Debug, Default)]
struct State {
    clients: Vec<Stored>,
    issued: u64,
}

#[derive(Debug)]
struct Stored {
    client: Map<String, Value>,
    secrets: Vec<String>,
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
            Some(_) => return error(401, "invalid_token", "The access token is invalid"),
            None => return error(401, "unauthenticated", "Missing bearer token"),
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["v1", "admin", "oauth-clients"]) => state.create(request),
            ("GET", ["v1", "admin", "oauth-clients"]) => {
                let clients: Vec<Value> = state.clients.iter().map(|s| Value::Object(s.client.clone())).collect();
                FakeResponse::json(200, &json!({ "clients": clients }))
            }
            ("PATCH", ["v1", "admin", "oauth-clients", id]) => state.patch(id, request),
            ("POST", ["v1", "admin", "oauth-clients", id, "rotate-secret"]) => state.rotate(id),
            _ => error(404, "not_found", "No such endpoint"),
        }
    }

    fn settings(&self, base_url: &str) -> Value {
        json!({ "base_url": base_url, "token": TOKEN })
    }

    fn clients(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .clients
            .iter()
            .map(|s| {
                let mut client = s.client.clone();
                client.insert("_secrets".to_owned(), json!(s.secrets));
                Value::Object(client)
            })
            .collect()
    }

    fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

impl State {
    fn create(&mut self, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(body)) = request.json() else {
            return error(400, "validation_error", "Body must be a JSON object");
        };
        let fields = [
            "client_name",
            "client_type",
            "redirect_uris",
            "allowed_scopes",
            "allowed_origins",
            "client_uri",
            "logo_uri",
        ];
        if let Err(message) = check(&body, &fields, false) {
            return error(400, "validation_error", &message);
        }
        for required in ["client_name", "redirect_uris", "allowed_scopes"] {
            if !body.contains_key(required) {
                return error(400, "validation_error", &format!("{required} is required"));
            }
        }
        let public = body.get("client_type").and_then(Value::as_str) == Some("public");
        self.issued += 1;
        let n = self.issued;
        let now = fake_time();
        let mut client = Map::new();
        let mut put = |name: &str, value: Value| client.insert(name.to_owned(), value);
        put("id", json!(format!("oc_{n:08}")));
        put("client_id", json!(format!("loop_{n:08x}")));
        put("client_name", body.get("client_name").cloned().unwrap_or_default());
        put("client_uri", body.get("client_uri").cloned().unwrap_or_default());
        put("logo_uri", body.get("logo_uri").cloned().unwrap_or_default());
        put("client_type", json!(if public { "public" } else { "confidential" }));
        put("redirect_uris", body.get("redirect_uris").cloned().unwrap_or_default());
        put("allowed_scopes", body.get("allowed_scopes").cloned().unwrap_or_default());
        put("allowed_origins", body.get("allowed_origins").cloned().unwrap_or_else(|| json!([])));
        put("owner_id", Value::Null);
        put("brand_id", json!("loop"));
        put("is_first_party", json!(false));
        put("enabled", json!(true));
        put("created_at", json!(now));
        put("updated_at", json!(now));
        let secret = (!public).then(|| format!("loop-secret-{n:024}"));
        let answer = json!({ "client": client, "client_secret": secret });
        self.clients.push(Stored { client, secrets: secret.into_iter().collect() });
        FakeResponse::json(201, &answer)
    }

    fn find(&mut self, id: &str) -> Option<&mut Stored> {
        self.clients.iter_mut().find(|s| s.client.get("client_id").and_then(Value::as_str) == Some(id))
    }

    fn patch(&mut self, id: &str, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(body)) = request.json() else {
            return error(400, "validation_error", "Body must be a JSON object");
        };
        let fields =
            ["client_name", "client_uri", "logo_uri", "redirect_uris", "allowed_scopes", "allowed_origins", "enabled"];
        if let Err(message) = check(&body, &fields, true) {
            return error(400, "validation_error", &message);
        }
        self.issued += 1;
        let now = fake_time();
        let Some(stored) = self.find(id) else {
            return error(404, "not_found", "Client not found");
        };
        for (name, value) in body {
            stored.client.insert(name, value);
        }
        stored.client.insert("updated_at".to_owned(), json!(now));
        FakeResponse::json(200, &json!({ "client": stored.client }))
    }

    fn rotate(&mut self, id: &str) -> FakeResponse {
        self.issued += 1;
        let secret = format!("loop-secret-{:024}", self.issued);
        let Some(stored) = self.find(id) else {
            return error(404, "not_found", "Client not found");
        };
        if stored.client.get("client_type").and_then(Value::as_str) == Some("public") {
            return error(400, "validation_error", "Cannot rotate the secret of a public client");
        }
        // the old one stays valid for a day
        stored.secrets.insert(0, secret.clone());
        stored.secrets.truncate(2);
        FakeResponse::json(200, &json!({ "client": stored.client, "client_secret": secret }))
    }
}

/// The JSON schema of the request bodies; members that it does not have are refused.
fn check(body: &Map<String, Value>, fields: &[&str], patch: bool) -> Result<(), String> {
    for (name, value) in body {
        if !fields.contains(&name.as_str()) {
            return Err(format!("unrecognized key {name}"));
        }
        let ok = match name.as_str() {
            "client_name" => value.as_str().is_some_and(|s| (1..=255).contains(&s.chars().count())),
            "client_type" => matches!(value.as_str(), Some("confidential" | "public")),
            "redirect_uris" => strings(value).is_some_and(|l| !l.is_empty() && l.iter().all(|u| is_redirect(u))),
            "allowed_scopes" => strings(value).is_some_and(|l| !l.is_empty()),
            "allowed_origins" => strings(value).is_some(),
            // null only where the schema allows it: in PATCH
            "client_uri" | "logo_uri" => {
                value.as_str().is_some_and(|u| url::Url::parse(u).is_ok()) || (patch && value.is_null())
            }
            "enabled" => value.is_boolean(),
            _ => false,
        };
        if !ok {
            return Err(format!("{name} is invalid"));
        }
    }
    Ok(())
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// "No wildcards", "no fragments, no query strings" (public security page).
fn is_redirect(uri: &str) -> bool {
    url::Url::parse(uri).is_ok() && !uri.contains(['?', '#', '*'])
}

fn error(status: u16, code: &str, message: &str) -> FakeResponse {
    FakeResponse::json(status, &json!({ "error": code, "message": message }))
}
