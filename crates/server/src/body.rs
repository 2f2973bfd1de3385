//! Reading request bodies: type, size, time, then strict JSON.

use std::time::Duration;

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use registrar_core::{Error, ErrorKind, Result};
use registrar_model::json::{self, JsonError};
use serde_json::Value;

/// The largest body.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// The longest that a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The media type of registrations.
pub(crate) const JSON: &str = "application/json";
/// The media type of merge patches (RFC 7396 §3).
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// Reads a JSON body of the given media type; the head of the request comes back beside it.
///
/// # Errors
/// `unsupported-media-type`, `payload-too-large`, `malformed-body`, or `validation-error` for duplicates and depth.
pub(crate) async fn read(request: Request, media_type: &'static str) -> Result<(Parts, Value)> {
    check_type(request.headers(), media_type)?;
    let (head, body) = request.into_parts();
    let bytes = collect(body).await?;
    let value = json::parse(&bytes).map_err(|error| match error {
        JsonError::Malformed(detail) => Error::new(ErrorKind::MalformedBody, detail),
        JsonError::Refused(issues) => match Error::validation(issues) {
            // it has an error of its own (RFC 7591 §3.2.2)
            error if error.kind() == ErrorKind::InvalidRedirectUri => error,
            error => error.with_kind(ErrorKind::MalformedBody),
        },
    })?;
    Ok((head, value))
}

fn check_type(headers: &HeaderMap, wanted: &'static str) -> Result<()> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let mut parts = sent.split(';');
    let essence = parts.next().unwrap_or("").trim();
    let charset = parts.find_map(|p| p.trim().strip_prefix("charset=")).unwrap_or("utf-8").trim_matches('"');
    if essence.eq_ignore_ascii_case(wanted) && charset.eq_ignore_ascii_case("utf-8") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::UnsupportedMediaType, format!("send Content-Type: {wanted} (UTF-8)")))
}

/// The whole body; one that arrived in one piece is not copied.
async fn collect(body: Body) -> Result<Bytes> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Error::new(ErrorKind::PayloadTooLarge, format!("a body may have {MAX_BODY} bytes")))
        }
        Ok(Err(_)) => Err(Error::new(ErrorKind::MalformedBody, "the body ended before it was complete")),
        Err(_) => Err(Error::new(ErrorKind::MalformedBody, "the body did not arrive in time")),
    }
}
