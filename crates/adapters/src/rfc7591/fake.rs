//! A simulated server, strict to RFC 7591 and RFC 7592: it validates metadata, provisions defaults, ignores what it does
//! not know, gives every client a URL and a token of its own, changes that token with every update, replaces on `PUT`, and
//! has one answer, 401, for clients that are gone and for tokens that are not theirs. With the habits of a preset, it is
//! that preset's server.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

use super::preset::{Managed, PRESETS, Preset, Removal};

mod rules;

/// The initial access token.
pub const TOKEN: &str = "fake-rfc7591-initial-access-token";

/// Where clients are registered, and below which each has its URL.
const PATH: &str = "/connect/clients";

#[derive(Debug, Default)]
struct State {
    /// The URL of this server; only whoever hosts it knows.
    base_url: String,
    clients: BTreeMap<String, Stored>,
    issued: u64,
}

#[derive(Debug)]
struct Stored {
    metadata: Map<String, Value>,
    issued_at: u64,
    secret: Option<String>,
    token: String,
}

/// The simulated server.
#[derive(Debug)]
pub struct FakeVendor {
    state: Mutex<State>,
    habits: &'static Preset,
    open: bool,
}

impl Default for FakeVendor {
    fn default() -> Self {
        Self { state: Mutex::default(), habits: &PRESETS[0], open: false }
    }
}

#[cfg(test)]
impl FakeVendor {
    /// The server of a preset.
    pub(super) fn like(preset: &'static Preset) -> Self {
        Self { habits: preset, ..Self::default() }
    }

    /// A server that registers anybody.
    pub(super) fn open() -> Self {
        Self { open: true, ..Self::default() }
    }
}

impl Fake for FakeVendor {
    fn kind(&self) -> &'static str {
        super::KIND
    }

    fn handle(&self, request: &FakeRequest) -> FakeResponse {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (request.method.as_str(), request.segments().as_slice()) {
            ("GET", [".well-known", "openid-configuration" | "oauth-authorization-server"]) => {
                let (issuer, at) = (&state.base_url, format!("{}{PATH}", state.base_url));
                FakeResponse::json(200, &json!({ "issuer": issuer, "registration_endpoint": at }))
            }
            ("POST", ["connect", "clients"]) if self.open || request.bearer() == Some(TOKEN) => {
                self.register(&mut state, request)
            }
            ("POST", ["connect", "clients"]) => self.token_refused(request.bearer().is_some()),
            (_, ["connect", "clients"]) => self.error(405, "invalid_request", "the method is not allowed here"),
            (_, ["connect", "clients", id]) if self.habits.management != Managed::Not => {
                self.manage(&mut state, id, request)
            }
            _ => self.error(404, "not_found", "there is nothing here"),
        }
    }

    fn settings(&self, base_url: &str) -> Value {
        if !base_url.is_empty() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).base_url = base_url.to_owned();
        }
        json!({ "base_url": base_url, "token": TOKEN, "registration_path": PATH })
    }

    fn clients(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = state.clients.iter();
        clients.map(|(id, stored)| json!({ "client_id": id, "client_secret": stored.secret, "_token": stored.token, "_metadata": stored.metadata })).collect()
    }

    fn reset(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { base_url: std::mem::take(&mut state.base_url), ..State::default() };
    }
}

impl FakeVendor {
    fn register(&self, state: &mut State, request: &FakeRequest) -> FakeResponse {
        let Some(Value::Object(body)) = request.json() else {
            return self.error(400, "invalid_client_metadata", "the body is not a JSON object");
        };
        let metadata = match rules::accept(body, self.habits) {
            Ok(metadata) => metadata,
            Err((code, text)) => return self.error(400, code, &text),
        };
        state.issued += 1;
        let n = state.issued;
        let id = format!("c-{n:06}");
        let mut stored = Stored { metadata, issued_at: 1_700_000_000 + n, secret: None, token: String::new() };
        stored.renew(n, self.habits.management != Managed::Not, rules::needs_secret(&stored.metadata));
        let answer = self.shown(&state.base_url, &id, &stored);
        state.clients.insert(id, stored);
        FakeResponse::json(201, &answer)
    }

    /// The token is looked at first: nothing is said about clients to whoever has none of theirs.
    fn manage(&self, state: &mut State, id: &str, request: &FakeRequest) -> FakeResponse {
        let Some(token) = request.bearer() else { return self.token_refused(false) };
        let State { base_url, clients, issued } = state;
        let Some(stored) = clients.get_mut(id).filter(|stored| stored.token == token) else {
            return self.token_refused(true);
        };
        match request.method.as_str() {
            "GET" => FakeResponse::json(200, &self.shown(base_url, id, stored)),
            "PUT" if self.habits.management.updates() => match self.updated(id, stored, request) {
                Ok(metadata) => {
                    *issued += 1;
                    stored.metadata = metadata;
                    let needed = rules::needs_secret(&stored.metadata);
                    let secret = needed && (stored.secret.is_none() || self.habits.rotates_secret);
                    if !needed {
                        stored.secret = None;
                    }
                    stored.renew(*issued, true, secret);
                    FakeResponse::json(200, &self.shown(base_url, id, stored))
                }
                Err((code, text)) => self.error(400, code, &text),
            },
            "DELETE" if self.habits.management.deletes() => {
                clients.remove(id);
                FakeResponse::empty(204)
            }
            _ => self.error(405, "invalid_request", "the method is not allowed here"),
        }
    }

    /// RFC 7592 §2.2: the members that an update must and must not have, and what it leads to.
    fn updated(&self, id: &str, stored: &Stored, request: &FakeRequest) -> Result<Map<String, Value>, rules::Refusal> {
        let Some(Value::Object(mut body)) = request.json() else {
            return Err(("invalid_client_metadata", "the body is not a JSON object".to_owned()));
        };
        let forbidden =
            ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];
        if let Some(member) = forbidden.iter().find(|member| body.contains_key(**member)) {
            return Err(("invalid_request", format!("{member} must not be included")));
        }
        if body.remove("client_id") != Some(json!(id)) {
            return Err(("invalid_request", "client_id must be included and be the client's own".to_owned()));
        }
        if body.remove("client_secret").is_some_and(|secret| secret.as_str() != stored.secret.as_deref()) {
            return Err(("invalid_request", "client_secret is not the client's own".to_owned()));
        }
        if self.habits.removal == Removal::Emptied {
            let mut merged = stored.metadata.clone();
            merged.extend(body);
            body = merged;
        }
        rules::accept(body, self.habits)
    }

    /// The client information response (RFC 7591 §3.2.1, RFC 7592 §3).
    fn shown(&self, base_url: &str, id: &str, stored: &Stored) -> Value {
        let mut out = stored.metadata.clone();
        out.retain(|name, _| !self.habits.unshown.contains(&name.as_str()));
        out.insert("client_id".to_owned(), json!(id));
        out.insert("client_id_issued_at".to_owned(), json!(stored.issued_at));
        if let Some(secret) = &stored.secret {
            out.insert("client_secret".to_owned(), json!(secret));
            out.insert("client_secret_expires_at".to_owned(), json!(0));
        }
        if self.habits.management != Managed::Not {
            out.insert("registration_access_token".to_owned(), json!(stored.token));
            out.insert("registration_client_uri".to_owned(), json!(format!("{base_url}{PATH}/{id}")));
        }
        for (theirs, standard) in self.habits.renamed {
            if let Some(value) = out.remove(*standard) {
                out.insert((*theirs).to_owned(), value);
            }
        }
        match self.habits.envelope {
            Some(envelope) => json!({ "code": 0, "message": "success", envelope: out }),
            None => Value::Object(out),
        }
    }

    /// RFC 6750 §3: a challenge, with an error only for whoever tried. Servers with a code of their own send that.
    fn token_refused(&self, tried: bool) -> FakeResponse {
        let code = self.habits.token_codes.first().copied().unwrap_or("invalid_token");
        if code != "invalid_token" {
            return self.error(400, code, "The resource owner or authorization server denied the request");
        }
        let mut answer = self.error(401, code, "no such token, or not for this");
        let challenge = if tried { "Bearer error=\"invalid_token\"" } else { "Bearer" };
        answer.headers.push(("www-authenticate".to_owned(), challenge.to_owned()));
        answer
    }

    fn error(&self, status: u16, code: &str, text: &str) -> FakeResponse {
        let member =
            |pointers: &[&'static str]| pointers.first().map_or("error", |pointer| pointer.trim_start_matches('/'));
        FakeResponse::json(
            status,
            &json!({ member(self.habits.error_code): code, member(self.habits.error_text): text }),
        )
    }
}

impl Stored {
    /// A new token, and where asked for a new secret, from a number that is never used again.
    fn renew(&mut self, n: u64, token: bool, secret: bool) {
        if token {
            self.token = format!("reg-{n:024}");
        }
        if secret {
            self.secret = Some(format!("rfc7591-secret-{n:024}"));
        }
    }
}
