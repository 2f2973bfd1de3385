//! A simulated LoginRadius, strict to its page: the name as key, 7982 for a second one, `OAuth 2.0` in and `OAuth2` out,
//! two secrets in every object, a token endpoint that says `expire_in` with a text.

use std::sync::{Mutex, PoisonError};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

/// A ready token that the fake accepts, beside those that it issues.
pub const TOKEN: &str = "fake-loginradius-admin-token";
/// The gateway's own M2M application at the fake.
pub const M2M_CLIENT_ID: &str = "fake-m2m-client";
/// Its secret.
pub const M2M_CLIENT_SECRET: &str = "fake-m2m-secret";

#[derive(Debug, Default)]
struct State {
    clients: Vec<Map<String, Value>>,
    tokens: Vec<String>,
    issued: u64,
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
        if (request.method.as_str(), segments.as_slice()) == ("POST", ["service", "oauth", "token"].as_slice()) {
            return state.token(request);
        }
        let known = request.bearer().is_some_and(|t| t == TOKEN || state.tokens.iter().any(|k| k == t));
        if !known {
            return unauthorised();
        }
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["v2", "manage", "oauth-clients"]) => state.create(request),
            ("GET", ["v2", "manage", "oauth-clients"]) => FakeResponse::json(200, &json!({ "Data": state.clients })),
            ("PUT", ["v2", "manage", "oauth-clients", "credentials", name]) => state.reset_secret(name),
            ("GET", ["v2", "manage", "oauth-clients", name]) => match state.find(name) {
                Some(client) => FakeResponse::json(200, &Value::Object(client.clone())),
                None => missing(),
            },
            ("PUT", ["v2", "manage", "oauth-clients", name]) => state.update(name, request),
            _ => error(404, 7981, "OAuth configuration not found", "No such endpoint"),
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
        state.clients.iter().cloned().map(Value::Object).collect()
    }

    fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

impl State {
    fn token(&mut self, request: &FakeRequest) -> FakeResponse {
        let refused = |error: &str, text: &str| FakeResponse::json(400, &json!({ "error": error, "error_description": text }));
        let body = request.json().unwrap_or_default();
        let member = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("");
        if member("grant_type") != "client_credentials" {
            return refused("unsupported_grant_type", "grant_type must be client_credentials");
        }
        if member("audience") != super::AUDIENCE {
            return refused("invalid_request", "audience is missing or unknown");
        }
        if member("client_id") != M2M_CLIENT_ID {
            return refused("invalid_client", "unknown client");
        }
        if member("client_secret") != M2M_CLIENT_SECRET {
            return refused("unauthorized_client", "bad secret");
        }
        let token = format!("fake-loginradius-m2m-{}", self.tokens.len() + 1);
        self.tokens.push(token.clone());
        // a text under a name of its own (trap 13)
        FakeResponse::json(200, &json!({ "access_token": token, "expire_in": "3600", "token_type": "Bearer" }))
    }

    fn find(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        self.clients.iter_mut().find(|c| c.get("AppName").and_then(Value::as_str) == Some(name))
    }

    fn create(&mut self, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(body)) = request.json() else { return invalid() };
        let name = body.get("AppName").and_then(Value::as_str).unwrap_or("").to_owned();
        let protocol = body.get("Protocol").and_then(Value::as_str);
        if name.is_empty() || !matches!(protocol, Some("OAuth 2.0" | "OAuth2")) || !check(&body) {
            return invalid();
        }
        if self.find(&name).is_some() {
            return FakeResponse::json(
                409,
                &json!({
                    "Description": "OAuth configuration already exist for this site, Please use a unique name in order to process this request.",
                    "ErrorCode": 7982,
                    "Message": "A OAuth config already exist"
                }),
            );
        }
        self.issued += 1;
        let n = self.issued;
        let mut client = body;
        client.insert("Protocol".to_owned(), json!("OAuth2"));
        client.insert("AppId".to_owned(), json!(123_456));
        client.insert("ClientId".to_owned(), json!(format!("123e4567-e89b-12d3-a456-{n:012}")));
        client.insert("ClientSecret".to_owned(), json!(format!("lr-secret-{n:024}")));
        client.insert("Secret".to_owned(), json!(format!("lr-signing-{n:024}")));
        client.insert("CreatedDate".to_owned(), json!(time(n)));
        client.insert("LastModifiedDate".to_owned(), json!(time(n)));
        for list in ["LoginRedirectUri", "LogoutRedirectUri", "AllowedScopes", "AllowedCorsOrigin", "AllowedWebOrigin", "IdTokenAudiences"] {
            client.entry(list).or_insert_with(|| json!([]));
        }
        client.entry("GrantTypes").or_insert_with(|| json!(["authorization_code"]));
        client.entry("TokenAuthMethod").or_insert_with(|| json!("client_secret_basic"));
        client.entry("RedirectURIExactMatch").or_insert(json!(false));
        client.entry("EnableCorsOrigin").or_insert(json!(false));
        client.entry("SignedUserInfo").or_insert(json!(false));
        client.entry("ForceReAuthentication").or_insert(json!(false));
        client.entry("LoginUrl").or_insert_with(|| json!(""));
        client.entry("RefreshTokenTTL").or_insert(json!(3600));
        complete_jwt(&mut client);
        self.clients.push(client.clone());
        FakeResponse::json(200, &Value::Object(client))
    }

    fn update(&mut self, name: &str, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(body)) = request.json() else { return invalid() };
        if !check(&body) || body.contains_key("AppName") {
            return invalid();
        }
        self.issued += 1;
        let now = time(self.issued);
        let Some(client) = self.find(name) else { return missing() };
        client.extend(body);
        complete_jwt(client);
        client.insert("Protocol".to_owned(), json!("OAuth2"));
        client.insert("LastModifiedDate".to_owned(), json!(now));
        let shown = Value::Object(client.clone());
        FakeResponse::json(200, &shown)
    }

    fn reset_secret(&mut self, name: &str) -> FakeResponse {
        self.issued += 1;
        let secret = format!("lr-secret-{:024}", self.issued);
        let Some(client) = self.find(name) else { return missing() };
        if client.get("GlobalClient") == Some(&json!(true)) {
            return error(400, 8014, "Oauth config client credentials reset failed.", "Global client is enabled for this OAuth configuration.");
        }
        client.insert("ClientSecret".to_owned(), json!(secret));
        let answer = json!({ "ClientId": client.get("ClientId"), "ClientSecret": secret });
        FakeResponse::json(200, &answer)
    }
}

fn complete_jwt(client: &mut Map<String, Value>) {
    let mut jwt = Map::from_iter([
        ("Algorithm".to_owned(), json!("RS256")),
        ("TokenTTL".to_owned(), json!(3600)),
        ("IdTokenTTL".to_owned(), json!(3600)),
    ]);
    if let Some(Value::Object(asked)) = client.get("JwtTokenConfig") {
        jwt.extend(asked.clone());
    }
    client.insert("JwtTokenConfig".to_owned(), Value::Object(jwt));
}

/// The types of the documented example; members that it does not have are refused.
fn check(body: &Map<String, Value>) -> bool {
    let strings = |v: &Value| v.as_array().is_some_and(|a| a.iter().all(Value::is_string));
    body.iter().all(|(name, value)| match name.as_str() {
        "AppName" | "Protocol" | "ApplicationType" | "LoginUrl" | "AccessTokenMappingTemplate" | "IdTokenMappingTemplate" => value.is_string(),
        "TokenAuthMethod" => matches!(value.as_str(), Some("none" | "client_secret_basic" | "client_secret_post")),
        "AllowedCorsOrigin" | "AllowedScopes" | "AllowedWebOrigin" | "GrantTypes" | "IdTokenAudiences" | "LoginRedirectUri"
        | "LogoutRedirectUri" => strings(value),
        "EnableCorsOrigin" | "ForceReAuthentication" | "GlobalClient" | "RedirectURIExactMatch" | "SignedUserInfo"
        | "TokenWebOriginMatch" => value.is_boolean(),
        "RefreshTokenTTL" => value.is_u64(),
        "JwtTokenConfig" => {
            value.as_object().is_some_and(|o| {
                o.iter().all(|(k, v)| match k.as_str() {
                    "Algorithm" => v == "RS256",
                    "TokenTTL" | "IdTokenTTL" => v.is_u64(),
                    _ => false,
                })
            })
        }
        "AudienceScopes" | "BackChannelLogout" | "Connections" | "DeviceCodeConfig" | "Mapping" | "Metadata" => value.is_object(),
        _ => false,
    })
}

/// A clock that ticks with every write, so that runs are repeatable.
fn time(n: u64) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3600 % 24, n / 60 % 60, n % 60)
}

fn error(status: u16, code: u64, message: &str, description: &str) -> FakeResponse {
    FakeResponse::json(status, &json!({ "ErrorCode": code, "Message": message, "Description": description }))
}

fn invalid() -> FakeResponse {
    error(400, 7914, "Post body is invalid", "Please use a valid post body in JSON format.")
}

fn missing() -> FakeResponse {
    error(404, 7981, "OAuth configuration not found", "No OAuth configuration with this name.")
}

fn unauthorised() -> FakeResponse {
    error(401, 6002, "Access Unauthorized", "Access Unauthorized, please use valid authorization to access this endpoint.")
}
