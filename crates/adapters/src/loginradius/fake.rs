//! A simulated LoginRadius, pinned to the documented examples in `fixtures/`: it takes the members of the documented
//! client with the types that they have there, and nothing else; its answers have exactly those members.
//!
//! What it has of the vendor's peculiarities: the name is the key and is unique (7982), `OAuth 2.0` comes back as
//! `OAuth2`, an empty list of redirect URIs is accepted, every client has two secrets, a global client keeps its secret
//! (8014), and the token endpoint says `expire_in`, as a text.

use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

use crate::shared::fake_time_after;

/// A ready token that the fake accepts beside those that it issues.
pub const TOKEN: &str = "fake-loginradius-admin-token";
/// The gateway's own M2M application at the fake.
pub const M2M_CLIENT_ID: &str = "fake-m2m-client";
/// Its secret.
pub const M2M_CLIENT_SECRET: &str = "fake-m2m-secret";

const ISSUED_TOKEN: &str = "fake-loginradius-m2m-token";

/// The documented client: the schema of the fake.
static EXAMPLE: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("fixtures/client.json")).unwrap_or_default());

/// Members that only LoginRadius sets.
const ASSIGNED: [&str; 6] = ["AppId", "ClientId", "ClientSecret", "CreatedDate", "LastModifiedDate", "Secret"];
/// Members whose own members are named by the caller.
const MAPS: [&str; 3] = ["AudienceScopes", "Mapping", "Metadata"];
const AUTH_METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
const GRANTS: [&str; 5] = [
    "authorization_code",
    "client_credentials",
    "refresh_token",
    "implicit",
    "urn:ietf:params:oauth:grant-type:device_code",
];

#[derive(Debug, Default)]
struct State {
    clients: Vec<Map<String, Value>>,
    tokens: u64,
    /// Counts writes: the source of ids and secrets.
    writes: u64,
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
        let segments = request.segments();
        if (request.method.as_str(), segments.as_slice()) == ("POST", &["service", "oauth", "token"]) {
            return state.token(request);
        }
        if !request.bearer().is_some_and(|token| state.knows(token)) {
            return documented(401, include_str!("fixtures/error_6002.json"));
        }
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["v2", "manage", "oauth-clients"]) => state.create(request),
            ("GET", ["v2", "manage", "oauth-clients"]) => FakeResponse::json(200, &json!({ "Data": state.clients })),
            ("PUT", ["v2", "manage", "oauth-clients", "credentials", name]) => state.reset_secret(name),
            ("GET", ["v2", "manage", "oauth-clients", name]) => match state.find(name) {
                Some(client) => FakeResponse::json(200, &json!(client)),
                None => not_found(),
            },
            ("PUT", ["v2", "manage", "oauth-clients", name]) => state.update(name, request),
            _ => error(404, 7981, "OAuth configuration not found", "There is no such endpoint."),
        }
    }

    fn settings(&self, base_url: &str) -> Value {
        json!({
            "base_url": base_url,
            "m2m": {
                "token_url": format!("{base_url}/service/oauth/token"),
                "client_id": M2M_CLIENT_ID,
                "client_secret": M2M_CLIENT_SECRET,
                "audience": super::AUDIENCE
            }
        })
    }

    fn clients(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clients.iter().map(|client| json!(client)).collect()
    }

    fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

impl State {
    /// The token endpoint of the hub: a JSON body, OAuth errors.
    fn token(&mut self, request: &FakeRequest) -> FakeResponse {
        let refused = |status, error: &str, description: &str| {
            FakeResponse::json(status, &json!({ "error": error, "error_description": description }))
        };
        let Some(Value::Object(body)) = request.json() else {
            return refused(400, "invalid_request", "The body must be a JSON object");
        };
        let member = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        if member("grant_type") != "client_credentials" {
            return refused(400, "unsupported_grant_type", "grant_type must be client_credentials");
        }
        if member("audience") != super::AUDIENCE {
            return refused(400, "invalid_request", "audience is missing or unknown");
        }
        if member("client_id") != M2M_CLIENT_ID {
            return refused(401, "invalid_client", "The client is unknown");
        }
        if member("client_secret") != M2M_CLIENT_SECRET {
            return refused(401, "unauthorized_client", "The client is not authorized");
        }
        self.tokens += 1;
        let token = format!("{ISSUED_TOKEN}-{}", self.tokens);
        // a text, under a name of its own (trap 13)
        FakeResponse::json(200, &json!({ "access_token": token, "expire_in": "3600", "token_type": "Bearer" }))
    }

    fn knows(&self, token: &str) -> bool {
        token == TOKEN || (1..=self.tokens).any(|n| token == format!("{ISSUED_TOKEN}-{n}"))
    }

    fn tick(&mut self) -> (u64, String) {
        self.writes += 1;
        let n = self.writes;
        (n, fake_time_after(n))
    }

    fn find(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        self.clients.iter_mut().find(|client| client.get("AppName").and_then(Value::as_str) == Some(name))
    }

    fn create(&mut self, request: &FakeRequest) -> FakeResponse {
        let Some(body) = acceptable(request) else { return invalid() };
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("AppName").is_empty() || text("Protocol").is_empty() {
            return invalid();
        }
        if self.find(text("AppName")).is_some() {
            return documented(409, include_str!("fixtures/error_7982.json"));
        }
        let (n, now) = self.tick();
        let mut client = blank();
        client.extend([
            ("ClientId".to_owned(), json!(format!("123e4567-e89b-12d3-a456-{n:012x}"))),
            ("ClientSecret".to_owned(), json!(format!("loginradius-secret-{n:024}"))),
            ("Secret".to_owned(), json!(format!("loginradius-signing-{n:024}"))),
            ("CreatedDate".to_owned(), json!(now)),
        ]);
        write(&mut client, body, &now);
        self.clients.push(client.clone());
        FakeResponse::json(201, &json!(client))
    }

    /// A merge of the members at the top; nested objects are replaced.
    fn update(&mut self, name: &str, request: &FakeRequest) -> FakeResponse {
        let Some(body) = acceptable(request) else { return invalid() };
        if body.get("AppName").is_some_and(|new| new.as_str() != Some(name)) {
            return invalid();
        }
        let (_, now) = self.tick();
        let Some(client) = self.find(name) else { return not_found() };
        write(client, body, &now);
        FakeResponse::json(200, &json!(client))
    }

    fn reset_secret(&mut self, name: &str) -> FakeResponse {
        let (n, _) = self.tick();
        let Some(client) = self.find(name) else { return not_found() };
        if client.get("GlobalClient") == Some(&json!(true)) {
            let message = "Oauth config client credentials reset failed.";
            return error(400, 8014, message, "Global client is enabled for this OAuth configuration.");
        }
        let secret = format!("loginradius-secret-{n:024}");
        client.insert("ClientSecret".to_owned(), json!(secret));
        FakeResponse::json(200, &json!({ "ClientId": client.get("ClientId"), "ClientSecret": secret }))
    }
}

/// A client of which nothing was said: every documented member, empty where nothing else is needed.
fn blank() -> Map<String, Value> {
    let mut client: Map<String, Value> = EXAMPLE
        .iter()
        .map(|(name, example)| {
            let empty = match example {
                Value::Array(_) => json!([]),
                Value::Bool(_) => json!(false),
                Value::String(_) => json!(""),
                Value::Number(_) | Value::Object(_) | Value::Null => Value::Null,
            };
            (name.clone(), empty)
        })
        .collect();
    client.extend([
        ("AppId".to_owned(), json!(123_456)),
        ("GrantTypes".to_owned(), json!(["authorization_code"])),
        ("RefreshTokenTTL".to_owned(), json!(3600)),
        ("TokenAuthMethod".to_owned(), json!("client_secret_basic")),
    ]);
    client
}

fn write(client: &mut Map<String, Value>, body: Map<String, Value>, now: &str) {
    client.extend(body);
    let mut jwt = Map::from_iter([
        ("Algorithm".to_owned(), json!("RS256")),
        ("IdTokenTTL".to_owned(), json!(3600)),
        ("TokenTTL".to_owned(), json!(3600)),
    ]);
    if let Some(Value::Object(asked)) = client.remove("JwtTokenConfig") {
        jwt.extend(asked);
    }
    client.extend([
        ("JwtTokenConfig".to_owned(), Value::Object(jwt)),
        // spelt differently in and out (trap 11)
        ("Protocol".to_owned(), json!("OAuth2")),
        ("LastModifiedDate".to_owned(), json!(now)),
    ]);
}

/// The body, if it is what the page shows; an unknown member is a mistake of the adapter, and so refused.
fn acceptable(request: &FakeRequest) -> Option<Map<String, Value>> {
    let Some(Value::Object(body)) = request.json() else { return None };
    let ok = body.iter().all(|(name, value)| {
        let documented = EXAMPLE.get(name).filter(|_| !ASSIGNED.contains(&name.as_str()));
        let among = |words: &[&str]| value.as_str().is_some_and(|text| words.contains(&text));
        documented.is_some_and(|example| fits(value, example, MAPS.contains(&name.as_str())))
            && match name.as_str() {
                "Protocol" => among(&["OAuth 2.0", "OAuth2"]),
                "TokenAuthMethod" => among(&AUTH_METHODS),
                "GrantTypes" => {
                    let grants = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    grants.iter().all(|grant| grant.as_str().is_some_and(|text| GRANTS.contains(&text)))
                }
                "JwtTokenConfig" => value.get("Algorithm").is_none_or(|algorithm| algorithm == "RS256"),
                _ => true,
            }
    });
    ok.then_some(body)
}

/// Whether a value has the JSON types of the example.
fn fits(value: &Value, example: &Value, free_names: bool) -> bool {
    match (value, example) {
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => true,
        (Value::Number(value), Value::Number(_)) => value.is_u64(),
        (Value::Array(items), Value::Array(examples)) => {
            examples.first().is_some_and(|example| items.iter().all(|item| fits(item, example, false)))
        }
        (Value::Object(members), Value::Object(examples)) => members.iter().all(|(name, value)| {
            let example = if free_names { examples.values().next() } else { examples.get(name) };
            example.is_some_and(|example| fits(value, example, false))
        }),
        _ => false,
    }
}

/// A documented answer, word for word.
fn documented(status: u16, body: &'static str) -> FakeResponse {
    FakeResponse {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn invalid() -> FakeResponse {
    documented(400, include_str!("fixtures/error_7914.json"))
}

fn not_found() -> FakeResponse {
    error(404, 7981, "OAuth configuration not found", "There is no OAuth configuration of this name.")
}

fn error(status: u16, code: u32, message: &str, description: &str) -> FakeResponse {
    FakeResponse::json(status, &json!({ "ErrorCode": code, "Message": message, "Description": description }))
}
