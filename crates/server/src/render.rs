//! Registrations as JSON. Absent members are absent, never `null`.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use registrar_core::ExposeSecret;
use registrar_engine::{NewSecret, Written, writes::Rotated};
use registrar_model::{Registration, account::Drift, registration::Writable};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A time in milliseconds, as RFC 3339 text in JSON.
pub(crate) struct Time(pub(crate) i64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Timestamp::from_millisecond(self.0) {
            Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
            Err(_) => serializer.serialize_unit(),
        }
    }
}

/// A registration as the API shows it. It is written straight into the answer: no tree of JSON values is built.
pub(crate) struct View<'r> {
    registration: &'r Registration,
    /// With [`View::written`]: what the write brought.
    written: Option<&'r Written>,
    /// With [`View::live`]: how the vendor differs.
    drift: Option<&'r [Drift]>,
}

impl<'r> View<'r> {
    /// The record; never holds a secret.
    pub(crate) fn record(registration: &'r Registration) -> Self {
        Self { registration, written: None, drift: None }
    }

    /// The client as the vendor shows it now.
    pub(crate) fn live(registration: &'r Registration, drift: &'r [Drift]) -> Self {
        Self { registration, written: None, drift: Some(drift) }
    }

    /// The answer to a write, with the secret if one was issued.
    pub(crate) fn written(written: &'r Written) -> Self {
        Self { registration: &written.registration, written: Some(written), drift: None }
    }
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let r = self.registration;
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("id", &r.id)?;
        out.serialize_entry("backend", &r.backend)?;
        out.serialize_entry("kind", &r.kind)?;
        out.serialize_entry("client_id", &r.client_id)?;
        if let Some(issued_at) = r.client_id_issued_at {
            out.serialize_entry("client_id_issued_at", &issued_at)?;
        }
        out.serialize_entry("version", &r.version)?;
        out.serialize_entry("state", r.state.as_str())?;
        if r.hidden.notes.management_lost {
            out.serialize_entry("management", "lost")?;
        }
        out.serialize_entry("created_at", &Time(r.created_at))?;
        out.serialize_entry("updated_at", &Time(r.updated_at))?;
        if let Some(until) = r.hidden.unused_until {
            out.serialize_entry("unused_until", &Time(until))?;
        }
        Writable { spec: &r.spec, labels: &r.labels }.serialize_members(&mut out)?;
        if let Some(written) = self.written {
            if let Some(secret) = &written.secret {
                issued(&mut out, secret)?;
            }
            if let Some(state) = &written.secret_state {
                out.serialize_entry("secret_state", state)?;
            }
            if !written.recorded {
                out.serialize_entry("warning", "not_recorded")?;
            }
            out.serialize_entry("losses", &written.losses)?;
            out.serialize_entry("operation", &written.operation)?;
        }
        if let Some(drift) = self.drift {
            out.serialize_entry("source", "vendor")?;
            out.serialize_entry("drift", drift)?;
        }
        out.end()
    }
}

/// A secret as just issued, and the operation that issued it.
pub(crate) struct Issued<'s>(pub(crate) &'s Rotated);

impl Serialize for Issued<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        let Rotated { secret, operation, recorded } = self.0;
        match secret {
            Ok(secret) => issued(&mut out, secret)?,
            Err(state) => out.serialize_entry("secret_state", state)?,
        }
        if !recorded {
            out.serialize_entry("warning", "not_recorded")?;
        }
        out.serialize_entry("operation", operation)?;
        out.end()
    }
}

fn issued<M: SerializeMap>(out: &mut M, secret: &NewSecret) -> Result<(), M::Error> {
    out.serialize_entry("client_secret", secret.value.expose_secret())?;
    // RFC 7591 §3.2.1: required with every secret, 0 means never. A time that cannot be read is neither
    if let Some(end) = secret.expires_at {
        out.serialize_entry("client_secret_expires_at", &end)?;
    }
    if let Some(until) = secret.previous_valid_until {
        out.serialize_entry("previous_secret_valid_until", &until)?;
    }
    Ok(())
}

/// The answer to a write.
pub(crate) fn written(status: StatusCode, written: &Written) -> Response {
    let mut response = json(status, &View::written(written));
    etag(&mut response, &written.registration);
    if written.replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// About as long as the answer to a create is, in bytes.
const ANSWER: usize = 2048;
/// How many headers that answer has.
const HEADERS: usize = 8;

/// JSON that is written already.
pub(crate) fn written_json(status: StatusCode, text: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(ANSWER);
    match serde_json::to_writer(&mut text, body) {
        Ok(()) => written_json(status, text),
        // only a map whose keys are not text, which no answer has
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
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
