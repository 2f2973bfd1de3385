//! A scripted HTTP/1.1 server on raw TCP, and requests for it.

use std::{
    io,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use metrics_exporter_prometheus::PrometheusBuilder;
use registrar_core::{
    ClientCredentials, Credential, Effect, Request, Response, Result, SecretString, TokenForm, TokenLife,
};
use registrar_transport::{BackendHandle, BackendOptions, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use url::Url;

/// Every secret of these tests contains it.
pub(crate) const CANARY: &str = "canary-5ecret";

/// What the server does once it has read a whole request.
pub(crate) enum Reply {
    /// Writes this and waits for the next request.
    Keep(String),
    /// Writes this and closes.
    Close(String),
    /// Writes this and never anything more, until the client goes away.
    Hang(String),
    /// Writes a chunked body without an end; the bytes that were taken are added to `Server::written`.
    Endless,
    /// Takes a permit and forgets it, then answers.
    When(Arc<Semaphore>, String),
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The request line and the header fields.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub(crate) struct Server {
    pub(crate) url: Url,
    seen: Mutex<Vec<Seen>>,
    /// One permit for every request that was read, and for what `Hang` writes, written.
    arrived: Semaphore,
    pub(crate) connections: AtomicUsize,
    pub(crate) written: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = Arc::new(Self {
            url,
            seen: Mutex::default(),
            arrived: Semaphore::new(0),
            connections: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        });
        let script = Arc::new(script);
        let accepting = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let (server, script) = (Arc::clone(&accepting), Arc::clone(&script));
                tokio::spawn(async move { server.talk(stream, &*script).await });
            }
        });
        server
    }

    async fn talk(&self, mut stream: TcpStream, script: &(impl Fn(&Seen) -> Reply + Sync)) -> Option<()> {
        loop {
            let seen = read_request(&mut stream).await?;
            self.seen.lock().unwrap().push(seen.clone());
            let reply = script(&seen);
            if !matches!(reply, Reply::Hang(_)) {
                self.arrived.add_permits(1);
            }
            match reply {
                Reply::Keep(text) => stream.write_all(text.as_bytes()).await.ok()?,
                Reply::Close(text) => {
                    stream.write_all(text.as_bytes()).await.ok()?;
                    return None;
                }
                Reply::Hang(text) => {
                    stream.write_all(text.as_bytes()).await.ok()?;
                    self.arrived.add_permits(1);
                    let mut rest = Vec::new();
                    stream.read_to_end(&mut rest).await.ok()?;
                    return None;
                }
                Reply::Endless => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
                    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                    loop {
                        stream.write_all(chunk.as_bytes()).await.ok()?;
                        self.written.fetch_add(0x1000, Ordering::SeqCst);
                    }
                }
                Reply::When(gate, text) => {
                    gate.acquire().await.ok()?.forget();
                    stream.write_all(text.as_bytes()).await.ok()?;
                }
            }
        }
    }

    /// Returns when `count` more requests have been read; a test whose requests never come fails instead of hanging.
    pub(crate) async fn wait_for(&self, count: u32) {
        let arrived = tokio::time::timeout(Duration::from_secs(20), self.arrived.acquire_many(count)).await;
        arrived.unwrap().unwrap().forget();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        let path = format!(" {path} HTTP/1.1");
        self.seen().iter().filter(|seen| seen.head.lines().next().is_some_and(|line| line.ends_with(&path))).count()
    }

    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut seen = Seen { head: String::from_utf8(head).ok()?, body: String::new() };
    let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    seen.body = String::from_utf8(body).ok()?;
    Some(seen)
}

/// An answer with a length.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn bearer() -> Credential {
    Credential::Bearer(SecretString::from(format!("{CANARY}-token")).into())
}

pub(crate) fn m2m(token_url: Url) -> Credential {
    Credential::ClientCredentials(ClientCredentials {
        token_url,
        client_id: "gateway".to_owned(),
        client_secret: SecretString::from(format!("{CANARY}-secret")).into(),
        audience: Some("https://api.example".to_owned()),
        scope: None,
        form: TokenForm::Json,
        life: TokenLife::Reusable,
    })
}

/// Moves tokio's clock; the sockets run in real time. Deadlines are long and time is moved past them once the server is
/// where it should be, because a short deadline may strike before that on a busy machine.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// Lets everything else run until it is so; a test that waits in vain fails instead of hanging.
pub(crate) async fn until(so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

/// A recorder of metrics is one for a thread.
pub(crate) fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The metrics of this work alone, as Prometheus reads them.
pub(crate) fn measured(work: impl Future<Output = ()>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || on_this_thread(work));
    recorder.handle().render()
}

/// A port where nobody listens. The socket keeps it, so that no other server gets it meanwhile.
pub(crate) fn closed_port() -> (TcpSocket, Url) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = Url::parse(&format!("http://{}/", socket.local_addr().unwrap())).unwrap();
    (socket, url)
}

/// Enough for anything on loopback; tests of time-outs move the clock instead of waiting.
pub(crate) fn options(base_url: &Url, credential: Credential) -> BackendOptions {
    keep_log();
    BackendOptions {
        timeout: Duration::from_secs(30),
        // one of those whose first waits are short: some 10 ms
        jitter_seed: Some(17_542),
        ..BackendOptions::new("vendor-eu", base_url.clone(), credential)
    }
}

pub(crate) fn open(options: BackendOptions) -> BackendHandle {
    Transport::new().unwrap().backend(options).unwrap()
}

/// A call under way.
pub(crate) fn begin(backend: &BackendHandle, request: Request) -> JoinHandle<Result<Response>> {
    let http = Arc::clone(&backend.http);
    tokio::spawn(async move { http.send(request).await })
}

pub(crate) fn get(url: Url) -> Request {
    Request::new(Method::GET, url, Effect::Read, "read")
}

pub(crate) fn post(url: Url, effect: Effect) -> Request {
    let body = serde_json::json!({ "client_secret": format!("{CANARY}-body") });
    Request::new(Method::POST, url, effect, "create").json(&body).unwrap()
}

/// What was logged at any level, by any crate and in any test. One for the whole process and set before the first
/// transport is made: tracing remembers for all threads whether a line is wanted, so that one for a thread loses some.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn keep_log() {
    static START: Once = Once::new();
    START.call_once(|| {
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(|| Log).init();
    });
}

pub(crate) fn logged() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}
