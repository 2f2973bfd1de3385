//! The standards face as its clients use it: what the tests of the checklist share.

use serde_json::{Value, json};

use crate::{
    http::{Answer, JSON},
    running::Gateway,
};

/// Every route leads to the backend of the same name; the first is the default.
pub(crate) const ROUTES: [&str; 5] = ["rfc7591", "authms", "bitgo", "loginradius", "loop"];

/// A gateway with these lines in `[registration]` and these in every route. The endpoint without a name is there.
pub(crate) fn gateway(registration: &str, routes: &str) -> Gateway {
    Gateway::start_edited("none", |text| {
        let mut text = text.split("[[routes]]").next().unwrap().to_owned();
        text.push_str(&format!("[registration]\nroot = true\n{registration}\n"));
        for name in ROUTES {
            text.push_str(&format!("[[routes]]\nname = \"{name}\"\nbackend = \"{name}\"\n{routes}\n"));
        }
        text
    })
}

/// Anybody may register, as often as tests do.
pub(crate) const OPEN: &str = "access = \"open\"\nrate = \"1000/second\"";

pub(crate) fn open() -> Gateway {
    gateway(OPEN, "")
}

/// Metadata that every vendor takes.
pub(crate) fn metadata() -> Value {
    json!({ "client_name": "Client", "redirect_uris": ["https://a.example/cb"], "scope": "openid" })
}

/// The metadata above with some members set; `null` removes one.
pub(crate) fn with(members: Value) -> Value {
    let mut out = metadata();
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            out.as_object_mut().unwrap().remove(name);
        } else {
            out[name] = value.clone();
        }
    }
    out
}

/// A registered client and its token.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) path: String,
    pub(crate) token: String,
    pub(crate) json: Value,
}

impl Own {
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 201, "{}", answer.json());
        let uri = answer.text("/registration_client_uri");
        let path = uri.split_once("/register/").map(|(_, id)| format!("/register/{id}")).unwrap();
        Self { path, token: answer.text("/registration_access_token"), json: answer.json() }
    }

    pub(crate) fn id(&self) -> &str {
        self.path.trim_start_matches("/register/")
    }

    pub(crate) fn call(&self, gateway: &Gateway, method: &str, body: &Value) -> Answer {
        bearer(gateway, method, &self.path, &self.token, body)
    }

    pub(crate) fn get(&self, gateway: &Gateway) -> Answer {
        self.call(gateway, "GET", &Value::Null)
    }

    /// What the client would send to change nothing, with some members set.
    pub(crate) fn update(&self, members: Value) -> Value {
        let mut out = with(members);
        out["client_id"] = self.json["client_id"].clone();
        out
    }
}

pub(crate) fn bearer(gateway: &Gateway, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    gateway.call(method, path, &[JSON, ("authorization", &format!("Bearer {token}"))], body)
}

pub(crate) fn register(gateway: &Gateway, route: &str, body: &Value) -> Own {
    Own::of(&gateway.post(&format!("/{route}/register"), body))
}

/// An initial access token; `terms` as `POST /v1/initial-access-tokens` takes them.
pub(crate) fn initial_token(gateway: &Gateway, terms: Value) -> String {
    let made = gateway.post("/v1/initial-access-tokens", &terms);
    assert_eq!(made.status, 201, "{}", made.json());
    made.text("/token")
}

/// Refused with this status and code, as RFC 7591 §3.2.2 has it, and nothing was sent to a vendor.
#[track_caller]
pub(crate) fn refused(gateway: &Gateway, body: &Value, code: &str) -> String {
    let before = gateway.vendor_writes();
    let answer = gateway.post("/register", body);
    let told = answer.json();
    assert_eq!((answer.status, told["error"].as_str()), (400, Some(code)), "{body}: {told}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(gateway.vendor_writes(), before, "something was sent for {body}");
    answer.text("/error_description")
}
