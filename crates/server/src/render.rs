//! Registrations as JSON. Absent members are absent, never `null`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use registrar_core::ExposeSecret;
use registrar_engine::{NewSecret, Written};
use registrar_model::Registration;
use serde_json::{Map, Value, json};

/// A time in milliseconds as RFC 3339 text.
pub(crate) fn time(ms: i64) -> Value {
    Timestamp::from_millisecond(ms).map_or(Value::Null, |t| json!(format!("{t:.3}")))
}

/// The record; never holds a secret.
pub(crate) fn registration(r: &Registration) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("id", json!(r.id));
    put("backend", json!(r.backend));
    put("kind", json!(r.kind));
    put("client_id", json!(r.client_id));
    if let Some(issued_at) = r.client_id_issued_at {
        put("client_id_issued_at", json!(issued_at));
    }
    put("version", json!(r.version));
    put("state", json!(r.state.as_str()));
    put("created_at", time(r.created_at));
    put("updated_at", time(r.updated_at));
    for (name, value) in r.writable() {
        put(&name, value);
    }
    out
}

/// The members of a secret as just issued.
pub(crate) fn secret(out: &mut Map<String, Value>, secret: &NewSecret) {
    out.insert("client_secret".to_owned(), json!(secret.value.expose_secret()));
    // RFC 7591 §3.2.1: required with every secret, 0 means never
    out.insert("client_secret_expires_at".to_owned(), json!(secret.expires_at));
    if let Some(until) = secret.previous_valid_until {
        out.insert("previous_secret_valid_until".to_owned(), json!(until));
    }
}

/// The answer to a write.
pub(crate) fn written(status: StatusCode, written: &Written) -> Response {
    let mut body = registration(&written.registration);
    if let Some(issued) = &written.secret {
        secret(&mut body, issued);
    }
    body.insert("losses".to_owned(), json!(written.losses));
    body.insert("operation".to_owned(), json!(written.operation));
    let mut response = json(status, &Value::Object(body));
    etag(&mut response, &written.registration);
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The strong entity tag of a version.
pub(crate) fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Sets the entity tag.
pub(crate) fn etag(response: &mut Response, registration: &Registration) {
    if let Ok(value) = HeaderValue::from_str(&tag(registration.version)) {
        response.headers_mut().insert(header::ETAG, value);
    }
}
