//! Reading request bodies: type, size, time, then strict JSON.

use std::time::Duration;

use axum::{BoxError, body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
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
    check_encoding(request.headers())?;
    check_length(request.headers())?;
    let (head, body) = request.into_parts();
    let bytes = collect(body).await?;
    // RFC 8259 §8.1: a byte order mark may be ignored
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let value = json::parse(text).map_err(|error| match error {
        JsonError::Malformed(detail) => Error::new(ErrorKind::MalformedBody, detail),
        JsonError::Refused(issues) => match Error::validation(issues) {
            // it has an error of its own (RFC 7591 §3.2.2)
            error if error.kind() == ErrorKind::InvalidRedirectUri => error,
            error => error.with_kind(ErrorKind::MalformedBody),
        },
    })?;
    Ok((head, value))
}

/// Before anything is read: a caller that waits for `100 Continue` (RFC 9110 §10.1.1) need not send what is refused.
fn check_length(headers: &HeaderMap) -> Result<()> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> Error {
    Error::new(ErrorKind::PayloadTooLarge, format!("a body may have {MAX_BODY} bytes"))
}

fn check_type(headers: &HeaderMap, wanted: &'static str) -> Result<()> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let mut parts = sent.split(';').map(str::trim);
    let essence = parts.next().unwrap_or("");
    let charset = parts.find_map(|p| match p.split_once('=') {
        Some((name, value)) if name.trim_end().eq_ignore_ascii_case("charset") => Some(value.trim_start()),
        _ => None,
    });
    let charset = charset.unwrap_or("utf-8").trim_matches('"');
    // the second is how some name the first; what is in the third is in the first
    let is_utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name));
    if essence.eq_ignore_ascii_case(wanted) && is_utf8 {
        return Ok(());
    }
    let of_jwt = ["application/jwt", "application/jose"].iter().any(|jwt| essence.eq_ignore_ascii_case(jwt));
    let detail = if of_jwt {
        format!(
            "send Content-Type: {wanted} (UTF-8): a registration is one JSON object, and a JWT is taken inside of it only, as \
             its member software_statement"
        )
    } else {
        format!("send Content-Type: {wanted} (UTF-8)")
    };
    Err(Error::new(ErrorKind::UnsupportedMediaType, detail))
}

/// Bodies are read as they come: a compressed one would be called malformed JSON.
fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    if codings.all(|coding| coding.trim_ascii().is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "send the body without Content-Encoding: compressed bodies are not read";
    Err(Error::new(ErrorKind::UnsupportedMediaType, detail))
}

/// The whole body; one that arrives in one piece, as most do, is not copied.
async fn collect(body: Body) -> Result<Bytes> {
    match tokio::time::timeout(BODY_TIMEOUT, join(Limited::new(body, MAX_BODY))).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(ErrorKind::MalformedBody, "the body ended before it was complete")),
        Err(_) => Err(Error::new(ErrorKind::MalformedBody, "the body did not arrive in time")),
    }
}

/// Not `collect` of `http_body_util`: a frame keeps the whole buffer that it was read into, so that a body sent byte by byte
/// would hold thousands of times its size. Here only one frame is ever held.
async fn join(mut body: Limited<Body>) -> std::result::Result<Bytes, BoxError> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll},
    };

    use axum::body::HttpBody;
    use hyper::body::Frame;

    use super::*;

    /// The buffer of one frame, counted while somebody holds it.
    struct Held(Arc<AtomicUsize>, [u8; 1]);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A body that is sent byte by byte.
    struct Slow {
        left: usize,
        held: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl HttpBody for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
            self.most.fetch_max(self.held.load(Ordering::SeqCst), Ordering::SeqCst);
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.left -= 1;
            self.held.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Held(Arc::clone(&self.held), [b'x']))))))
        }
    }

    #[tokio::test]
    async fn the_spellings_of_one_media_type_are_read() {
        let ask = |headers: &[(&str, &str)], body: &'static [u8]| {
            let request = headers.iter().fold(http::Request::post("/"), |r, (name, value)| r.header(*name, *value));
            read(request.body(Body::from(body)).unwrap(), JSON)
        };
        for good in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json; charset=UTF-8",
            "application/json ; Charset=\"utf-8\"",
            "application/json; charset=utf8",
            "application/json;",
            "application/json; x=y; charset=utf-8",
        ] {
            let (_, value) = ask(&[("content-type", good)], b"\xef\xbb\xbf{\"a\": 1}").await.unwrap();
            assert_eq!(value, serde_json::json!({"a": 1}), "{good}");
        }
        for bad in
            ["", "text/plain", "application/json; charset=utf-16", "application/jsonx", "application/jwt", "json"]
        {
            let error = ask(&[("content-type", bad)], b"{}").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedMediaType, "{bad}");
            assert_eq!(error.detail().contains("software_statement"), bad == "application/jwt", "{}", error.detail());
        }
        let json = ("content-type", JSON);
        let packed = ask(&[json, ("content-encoding", "gzip")], b"{}").await.unwrap_err();
        assert_eq!(packed.kind(), ErrorKind::UnsupportedMediaType);
        ask(&[json, ("content-encoding", "identity")], b"{}").await.unwrap();
        // one mark, at the beginning
        for bad in [b"\xef\xbb\xbf\xef\xbb\xbf{}".as_slice(), b"{\xef\xbb\xbf}", b"\xef\xbb\xbf", b"\xff\xfe{\0}\0"] {
            assert_eq!(ask(&[json], bad).await.unwrap_err().kind(), ErrorKind::MalformedBody, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_byte_by_byte_holds_one_buffer() {
        let most = Arc::new(AtomicUsize::new(0));
        let slow = |left| Body::new(Slow { left, held: Arc::default(), most: Arc::clone(&most) });
        assert_eq!(collect(slow(MAX_BODY)).await.unwrap(), vec![b'x'; MAX_BODY]);
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert_eq!(collect(slow(MAX_BODY + 1)).await.unwrap_err().kind(), ErrorKind::PayloadTooLarge);
    }
}
