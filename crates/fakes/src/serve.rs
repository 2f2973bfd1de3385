//! The sockets: each connection is served by hyper, through a stream that a fault can take over.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use registrar_core::{FakeRequest, FakeResponse};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    body::Payload,
    control,
    fault::is_framing,
    host::Shared,
    spoil::Delivery,
    wire::{Takeover, Wire},
};

/// The largest request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// How long accepting rests after it failed. It fails for as long as the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until it is stopped, and frees the address then.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tasks.spawn(stop.clone().run_until_cancelled_owned(connection(stream, Arc::clone(&shared))));
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let takeover = Takeover::default();
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&takeover)));
    let service = service_fn(move |request| answer(Arc::clone(&shared), request, Arc::clone(&takeover)));
    if let Err(error) = http1::Builder::new().serve_connection(io, service).await {
        tracing::debug!(%error, "fake connection");
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    takeover: Takeover,
) -> Result<Response<Payload>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 1 MiB"));
        }
        // half a request is no request: no vendor sees it
        Err(error) => return Err(io::Error::other(error)),
    };
    let raw_path = parts.uri.path();
    let raw_path = raw_path.strip_prefix('/').unwrap_or(raw_path);
    let (kind, rest) = raw_path.split_once('/').unwrap_or((raw_path, ""));
    let Some(request) = parse(&parts, rest, body) else {
        return Ok(refusal(StatusCode::BAD_REQUEST, "the path or the query is not percent-encoded UTF-8"));
    };
    if kind == control::SEGMENT {
        return Ok(whole(control::handle(&shared, &request)));
    }
    let Some(fake) = shared.fakes.get(kind) else {
        return Ok(whole(control::not_found(&shared, &format!("there is no simulated vendor `{kind}`"))));
    };
    let shown = parts.uri.query().map_or_else(|| format!("/{rest}"), |q| format!("/{rest}?{q}"));
    match shared.handle(fake, &request, shown) {
        Delivery::Whole(response) => Ok(whole(response)),
        Delivery::Streamed(response, body) => Ok(with_body(&response, body)),
        Delivery::Late(response, pause) => {
            tokio::time::sleep(pause).await;
            Ok(whole(response))
        }
        Delivery::CommitLater(pause) => {
            // a task of its own: the caller who leaves does not stop the vendor
            let fake = Arc::clone(fake);
            let (shared, again) = (Arc::clone(&shared), format!("/{rest} (committed later)"));
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                shared.commit(&fake, &request, again);
            });
            std::future::pending().await
        }
        // hyper drops this when the caller leaves, and the host when it stops
        Delivery::Never => std::future::pending().await,
        Delivery::Instead(instead, pause) => {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            // this is the only request that this connection takes over: it ends with it
            let _ = takeover.set(instead);
            // whatever hyper writes from here on is replaced on the wire
            Ok(Response::new(Payload::Whole(Bytes::from_static(b"replaced"))))
        }
    }
}

/// The request as a fake sees it; nothing when the path or the query cannot be decoded.
fn parse(parts: &Parts, path: &str, body: Bytes) -> Option<FakeRequest> {
    Some(FakeRequest {
        method: parts.method.to_string(),
        path: segments(path)?,
        query: query(parts.uri.query().unwrap_or(""))?,
        headers: headers(&parts.headers),
        body,
    })
}

/// The decoded segments. A slash at the end says nothing; an empty segment in the middle is a segment, because a vendor
/// would not find `/clients//secret` either.
fn segments(path: &str) -> Option<Vec<String>> {
    match path.strip_suffix('/').unwrap_or(path) {
        "" => Some(Vec::new()),
        path => path.split('/').map(decode).collect(),
    }
}

fn query(text: &str) -> Option<BTreeMap<String, String>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

/// The fields by lower-case name; those of the same name are joined as RFC 9110 §5.2 says.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut out = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match out.entry(name.as_str().to_owned()) {
            Entry::Vacant(slot) => drop(slot.insert(value.into_owned())),
            Entry::Occupied(mut slot) => slot.get_mut().extend([", ", &*value]),
        }
    }
    out
}

/// Percent-decoding, once; nothing when it is not valid or not UTF-8.
fn decode(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { digit(bytes.next()?)? << 4 | digit(bytes.next()?)? } else { byte });
    }
    String::from_utf8(out).ok()
}

fn refusal(status: StatusCode, text: &str) -> Response<Payload> {
    whole(FakeResponse::json(status.as_u16(), &json!({ "error": text })))
}

fn whole(response: FakeResponse) -> Response<Payload> {
    let body = Payload::Whole(response.body.clone());
    with_body(&response, body)
}

/// The status and the header of an answer, exactly, with a body. What HTTP cannot carry is an error of the fake, and is
/// said to be one.
fn with_body(response: &FakeResponse, body: Payload) -> Response<Payload> {
    head(response, body).unwrap_or_else(|what| {
        let text = format!("the simulated vendor or the fault has {what}, which HTTP cannot carry");
        let mut out = Response::new(Payload::Whole(Bytes::from(json!({ "error": text }).to_string())));
        *out.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        out
    })
}

fn head(response: &FakeResponse, body: Payload) -> Result<Response<Payload>, String> {
    let status = StatusCode::from_u16(response.status).ok().filter(|s| !s.is_informational());
    let mut out = Response::new(body);
    *out.status_mut() = status.ok_or_else(|| format!("the status {}", response.status))?;
    for (name, value) in response.headers.iter().filter(|(name, _)| !is_framing(name)) {
        match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => drop(out.headers_mut().append(name, value)),
            _ => return Err(format!("the header field `{name}`")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once() {
        let decoded = |path| segments(path).map(|s| s.join("|"));
        for (path, expected) in [
            ("", Some("")),
            ("/", Some("")),
            ("a/b", Some("a|b")),
            ("a/b/", Some("a|b")),
            ("a//b", Some("a||b")),
            ("a%2Fb/%2e%2e/%252F/c%20d+e", Some("a/b|..|%2F|c d+e")),
            ("%C3%A9", Some("\u{e9}")),
            ("%ff", None),
            ("%+1", None),
            ("%4", None),
            ("%zz", None),
        ] {
            assert_eq!(decoded(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn query_parameters_are_decoded() {
        let decoded = query("a=1&b=x%26y+z&c&&%C3%A9==").unwrap();
        let pairs: Vec<(&str, &str)> = decoded.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x&y z"), ("c", ""), ("\u{e9}", "=")]);
        assert_eq!(query("a=%ff"), None);
    }
}
