//! The sockets. Each connection is served by hyper through a wrapper around the stream, so that a fault can put its
//! own bytes on the wire and end or reset the connection.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use registrar_core::{Fake, FakeRequest, FakeResponse};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    control,
    fault::{Delivery, ScriptedFault, spoil},
    ledger::LedgerEntry,
};

/// The largest request body.
const MAX_BODY: usize = 1024 * 1024;

/// Running simulated vendors.
pub struct FakeHost {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl std::fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeHost").field("addr", &self.addr).finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    pub(crate) fakes: BTreeMap<&'static str, Arc<dyn Fake>>,
    state: Mutex<State>,
    keep_ledger: AtomicBool,
}

#[derive(Default)]
struct State {
    ledger: Vec<LedgerEntry>,
    faults: Vec<ScriptedFault>,
    last_success: HashMap<&'static str, FakeResponse>,
}

impl FakeHost {
    /// Serves every fake at `http://ADDR/<kind>/`, on a loopback address only.
    ///
    /// # Errors
    /// When the address is not a loopback one or cannot be bound.
    pub async fn start(listen: SocketAddr, fakes: Vec<Arc<dyn Fake>>) -> io::Result<Self> {
        if !listen.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "simulated vendors listen on loopback addresses only",
            ));
        }
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            fakes: fakes.into_iter().map(|f| (f.kind(), f)).collect(),
            state: Mutex::default(),
            keep_ledger: AtomicBool::new(true),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { addr, shared, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of a vendor kind.
    #[must_use]
    pub fn base_url(&self, kind: &str) -> String {
        format!("http://{}/{kind}", self.addr)
    }

    /// The kinds that are served.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.shared.fakes.keys().copied()
    }

    /// A vendor.
    #[must_use]
    pub fn fake(&self, kind: &str) -> Option<&Arc<dyn Fake>> {
        self.shared.fakes.get(kind)
    }

    /// What reached the vendors; of one kind when it is named.
    #[must_use]
    pub fn ledger(&self, kind: Option<&str>) -> Vec<LedgerEntry> {
        self.shared.ledger(kind)
    }

    /// Keeps no ledger from now on: for benchmarks.
    pub fn without_ledger(&self) {
        self.shared.keep_ledger.store(false, Ordering::Relaxed);
    }

    /// Plays a fault.
    pub fn script(&self, fault: ScriptedFault) {
        self.shared.script(fault);
    }

    /// Forgets clients, ledger and faults.
    pub fn reset(&self) {
        self.shared.reset();
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self, kind: Option<&str>) -> Vec<LedgerEntry> {
        self.state().ledger.iter().filter(|e| kind.is_none_or(|k| e.kind == k)).cloned().collect()
    }

    pub(crate) fn script(&self, fault: ScriptedFault) {
        self.state().faults.push(fault);
    }

    pub(crate) fn faults(&self) -> Vec<ScriptedFault> {
        self.state().faults.clone()
    }

    pub(crate) fn clear_faults(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn reset(&self) {
        self.fakes.values().for_each(|f| f.reset());
        *self.state() = State::default();
    }

    /// Answers a request. Everything that changes state happens here, without waiting for anything, so that a caller
    /// who goes away cannot undo half of it.
    fn handle(&self, fake: &Arc<dyn Fake>, request: &FakeRequest, raw_path: &str) -> Delivery {
        let kind = fake.kind();
        let fault = self.due(kind, request);
        let committed = fault.as_ref().is_none_or(|f| f.when == crate::When::After);
        let response = committed.then(|| fake.handle(request));
        let mut state = self.state();
        if self.keep_ledger.load(Ordering::Relaxed) {
            let seq = u64::try_from(state.ledger.len()).unwrap_or(u64::MAX) + 1;
            state.ledger.push(LedgerEntry {
                seq,
                kind: kind.to_owned(),
                method: request.method.clone(),
                path: raw_path.to_owned(),
                request_body: request.json(),
                committed,
                status: response.as_ref().map(|r| r.status),
                fault: fault.as_ref().map(|f| f.fault.name()),
            });
        }
        let last = state.last_success.get(kind).cloned();
        if let Some(response) = response.as_ref().filter(|r| (200..300).contains(&r.status) && !r.body.is_empty()) {
            state.last_success.insert(kind, response.clone());
        }
        drop(state);
        match (fault, response) {
            (Some(fault), response) => spoil(&fault.fault, response, last),
            (None, Some(response)) => Delivery::Whole(response),
            (None, None) => Delivery::Whole(FakeResponse::empty(500)),
        }
    }

    /// The fault that this request meets; used up faults are forgotten.
    fn due(&self, kind: &str, request: &FakeRequest) -> Option<ScriptedFault> {
        let mut state = self.state();
        let index = state.faults.iter_mut().position(|f| {
            if !f.matches(kind, request) {
                return false;
            }
            let let_through = f.skip > 0;
            f.skip = f.skip.saturating_sub(1);
            !let_through
        })?;
        let fault = state.faults.get_mut(index)?;
        fault.times = fault.times.saturating_sub(1);
        let due = fault.clone();
        if due.times == 0 {
            state.faults.remove(index);
        }
        Some(due)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // the peer went away before it was accepted
                Err(_) => continue,
            },
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            let takeover: Takeover = Arc::default();
            let io = Wire { stream, takeover: Arc::clone(&takeover), written: 0 };
            let service = service_fn(move |request| answer(Arc::clone(&shared), request, Arc::clone(&takeover)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection => if let Err(error) = ended { tracing::debug!(%error, "fake connection") }
            }
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: http::Request<Incoming>,
    takeover: Takeover,
) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")),
    };
    let raw_path = parts.uri.path().trim_start_matches('/');
    let (kind, rest) = raw_path.split_once('/').unwrap_or((raw_path, ""));
    let Some(path) = segments(rest) else {
        return Ok(plain(StatusCode::BAD_REQUEST, "a path segment is not percent-encoded UTF-8"));
    };
    let request = FakeRequest {
        method: parts.method.to_string(),
        path,
        query: query(parts.uri.query().unwrap_or("")),
        headers: parts
            .headers
            .iter()
            .filter_map(|(k, v)| v.to_str().ok().map(|v| (k.as_str().to_owned(), v.to_owned())))
            .collect(),
        body,
    };
    if kind == control::SEGMENT {
        return Ok(whole(control::handle(&shared, &request)));
    }
    let Some(fake) = shared.fakes.get(kind) else {
        let known: Vec<&str> = shared.fakes.keys().copied().collect();
        let text = format!("no simulated vendor `{kind}`; there are {} and {}", known.join(", "), control::SEGMENT);
        return Ok(plain(StatusCode::NOT_FOUND, &text));
    };
    let shown = parts.uri.query().map_or_else(|| format!("/{rest}"), |q| format!("/{rest}?{q}"));
    match shared.handle(fake, &request, &shown) {
        Delivery::Whole(response) => Ok(whole(response)),
        Delivery::Never => std::future::pending().await,
        Delivery::Late { response, ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(whole(response))
        }
        Delivery::Raw { bytes, reset } => {
            *takeover.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instead { bytes, reset });
            // whatever hyper writes from here on is replaced on the wire
            Ok(Response::new(Body::from("replaced")))
        }
        Delivery::Drip { response, ms } => {
            let body = Body::from_stream(Drip { rest: response.body.clone(), ms, sleep: None });
            let mut out = whole(FakeResponse { body: Bytes::new(), ..response });
            *out.body_mut() = body;
            Ok(out)
        }
    }
}

fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').filter(|s| !s.is_empty()).map(decode).collect()
}

/// Percent-decoding of one segment.
fn decode(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter(|p| !p.is_empty())
        .filter_map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            Some((decode(&k.replace('+', " "))?, decode(&v.replace('+', " "))?))
        })
        .collect()
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    whole(FakeResponse::json(status.as_u16(), &serde_json::json!({ "error": text })))
}

fn whole(response: FakeResponse) -> Response<Body> {
    let mut out = Response::new(Body::new(Full::new(response.body)));
    *out.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), http::HeaderValue::from_str(&value)) {
            out.headers_mut().insert(name, value);
        }
    }
    out
}

/// What goes on the wire instead of the next answer.
struct Instead {
    bytes: Bytes,
    reset: bool,
}

type Takeover = Arc<Mutex<Option<Instead>>>;

/// A stream whose writes a fault can replace.
struct Wire {
    stream: TcpStream,
    takeover: Takeover,
    written: usize,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let instead =
            self.takeover.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|i| (i.bytes.clone(), i.reset));
        let Some((bytes, reset)) = instead else {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        };
        while self.written < bytes.len() {
            let start = self.written;
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[start..]) {
                Poll::Ready(Ok(n)) => self.written += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if reset {
            // closing with unsent time zero makes the kernel send RST
            self.stream.set_zero_linger()?;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a scripted fault ends the connection")))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body that arrives a byte at a time.
struct Drip {
    rest: Bytes,
    ms: u64,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl futures_core::Stream for Drip {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let ms = self.ms;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(ms))));
        std::task::ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        let byte = self.rest.split_to(1);
        Poll::Ready(Some(Ok(byte)))
    }
}
