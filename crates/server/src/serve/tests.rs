//! Peers that send nothing, or half, or read nothing; in a time that only passes when all wait.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    builder, connection,
    deadline::{FAREWELL, HEAD, IDLE, WRITE},
};

const GET: &[u8] = b"GET /short HTTP/1.1\r\nhost: a.example\r\n\r\n";
/// More than any buffer on the way holds.
const LONG: usize = 4 << 20;

struct Peer {
    socket: DuplexStream,
    served: JoinHandle<()>,
    stopping: CancellationToken,
    began: Instant,
}

fn connect() -> Peer {
    let slow = async || {
        sleep(Duration::from_secs(300)).await;
        "at last"
    };
    // a body whose second half takes its time
    let halves = async || {
        let later = http_body_util::StreamBody::new(Halves(0, None));
        Body::new(later)
    };
    let router = Router::new()
        .route("/short", get(async || "short"))
        .route("/upload", post(async |body: Bytes| body.len().to_string()))
        .route("/long", get(async || Body::from(vec![b'x'; LONG])))
        .route("/slow", get(slow))
        .route("/halves", get(halves));
    let (socket, theirs) = duplex(64 * 1024);
    let stopping = CancellationToken::new();
    let served = connection::attend(builder(), theirs, ([192, 0, 2, 1], 1).into(), router, stopping.clone());
    Peer { socket, served: tokio::spawn(served), stopping, began: Instant::now() }
}

/// A stream of two frames with 100 s between them.
struct Halves(u8, Option<std::pin::Pin<Box<tokio::time::Sleep>>>);

impl futures_core::Stream for Halves {
    type Item = Result<hyper::body::Frame<Bytes>, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let first = self.0 == 0;
        let wait = self.1.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(100))));
        if !first {
            std::task::ready!(wait.as_mut().poll(cx));
        }
        self.0 += 1;
        let frame = (self.0 <= 2).then(|| Ok(hyper::body::Frame::data(Bytes::from_static(b"half"))));
        std::task::Poll::Ready(frame)
    }
}

impl Peer {
    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Sends a request and reads its answer, as far as it is there at once.
    async fn ask(&mut self, request: &[u8]) -> String {
        self.send(request).await;
        let mut answer = vec![0; 4096];
        let length = self.socket.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// When the gateway ends the connection, in seconds from its beginning.
    async fn ends_after(&mut self) -> Duration {
        timeout(Duration::from_secs(1_000), &mut self.served).await.expect("the connection is never ended").unwrap();
        Duration::from_secs(self.began.elapsed().as_secs())
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_request_comes_in_ten_seconds_or_not_at_all() {
    let half = b"POST /upload HTTP/1.1\r\nhost: a.example\r\n";
    for start in [b"".as_slice(), b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", half] {
        let mut peer = connect();
        peer.send(start).await;
        assert_eq!(peer.ends_after().await, HEAD, "{}", String::from_utf8_lossy(start));
    }
    let mut peer = connect();
    for byte in half.iter().take(9) {
        peer.send(&[*byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(peer.ends_after().await, HEAD, "bytes alone are no progress");
}

#[tokio::test(start_paused = true)]
async fn a_later_request_has_as_long_from_its_first_byte_on() {
    let mut peer = connect();
    assert!(peer.ask(GET).await.ends_with("short"));
    sleep(Duration::from_secs(60)).await;
    assert!(peer.ask(GET).await.ends_with("short"), "idle connections are kept for a while");
    sleep(Duration::from_secs(40)).await;
    peer.send(&GET[..20]).await;
    assert_eq!(peer.ends_after().await, Duration::from_secs(100) + HEAD);
    let mut idle = connect();
    sleep(Duration::from_secs(5)).await;
    assert!(idle.ask(GET).await.ends_with("short"));
    assert_eq!(idle.ends_after().await, Duration::from_secs(5) + IDLE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let mut peer = connect();
    peer.send(b"GET /long HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert_eq!(peer.ends_after().await, WRITE);
    let mut slow = connect();
    slow.send(b"GET /long HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    let mut piece = vec![0; 32 * 1024];
    for _ in 0..10 {
        sleep(WRITE - Duration::from_secs(1)).await;
        slow.socket.read_exact(&mut piece).await.unwrap();
    }
    assert_eq!(
        slow.ends_after().await,
        (WRITE - Duration::from_secs(1)) * 10 + WRITE,
        "one that reads slowly is served"
    );
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_time_is_not_the_peers() {
    for (path, end) in [("slow", "at last"), ("halves", "4\r\nhalf\r\n0\r\n\r\n")] {
        let mut peer = connect();
        peer.send(format!("GET /{path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").as_bytes()).await;
        let mut answer = String::new();
        peer.socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(end), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_no_more_to_say_gets_its_answer() {
    for request in [
        GET,
        b"POST /upload HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc",
        b"GET /short HTTP/1.0\r\n\r\n",
    ] {
        let mut peer = connect();
        peer.send(request).await;
        peer.socket.shutdown().await.unwrap();
        let mut answer = String::new();
        peer.socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 200 OK"), "{answer}");
        assert_eq!(peer.ends_after().await, Duration::ZERO);
    }
    for half in [&GET[..30], b"", b"PRI * "] {
        let mut peer = connect();
        peer.send(half).await;
        peer.socket.shutdown().await.unwrap();
        assert!(peer.ends_after().await <= HEAD);
    }
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The preface, SETTINGS with this window for each stream, and requests for `path` (RFC 7541: indexed fields and one literal).
fn http2(window: u32, path: &str, streams: u32) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut setting = vec![0, 4];
    setting.extend(window.to_be_bytes());
    out.extend(frame(4, 0, 0, &setting));
    for n in 0..streams {
        let mut head = vec![0x82, 0x86, 0x04, path.len() as u8];
        head.extend(path.as_bytes());
        head.extend([0x01, 9]);
        head.extend(b"a.example");
        out.extend(frame(1, 0x5, 2 * n + 1, &head));
    }
    out
}

/// Reads frames as they come, acknowledges pings, and counts those that are data and those that refuse a stream.
async fn attend_to(mut socket: DuplexStream, counts: std::sync::Arc<std::sync::Mutex<(usize, usize)>>) {
    let mut head = [0; 9];
    while socket.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await.unwrap();
        match (head[3], head[4]) {
            (0, _) => counts.lock().unwrap().0 += length,
            (3, _) => counts.lock().unwrap().1 += 1,
            (6, 0) => {
                let _ = socket.write_all(&frame(6, 1, 0, &payload)).await;
            }
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_with_a_closed_window_end_the_connection() {
    // nothing at all, one byte of a long answer, and all of a short one but a byte
    for (window, path, streams, ends, data) in [
        (0, "/short", 1, WRITE, 0),
        (0, "/long", 32, WRITE, 0),
        (1, "/long", 32, WRITE, 32),
        (4, "/short", 32, IDLE + FAREWELL, 4 * 32),
    ] {
        let mut peer = connect();
        peer.send(&http2(window, path, streams)).await;
        let counts = std::sync::Arc::default();
        let (socket, _) = duplex(1);
        tokio::spawn(attend_to(std::mem::replace(&mut peer.socket, socket), std::sync::Arc::clone(&counts)));
        assert_eq!((peer.ends_after().await, *counts.lock().unwrap()), (ends, (data, 0)), "{window} {path} {streams}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_32_streams_and_no_more() {
    let mut peer = connect();
    peer.send(&http2(0, "/short", 40)).await;
    let counts = std::sync::Arc::default();
    let (socket, _) = duplex(1);
    tokio::spawn(attend_to(std::mem::replace(&mut peer.socket, socket), std::sync::Arc::clone(&counts)));
    peer.ends_after().await;
    assert_eq!(counts.lock().unwrap().1, 8, "refused");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_requests_and_for_nobody_else() {
    let all = http2(65_535, "/short", 1);
    for bytes in [b"".as_slice(), &GET[..20], GET, &all[..24], &all] {
        let mut peer = connect();
        peer.send(bytes).await;
        sleep(Duration::from_secs(3)).await;
        peer.stopping.cancel();
        // it neither reads nor answers
        let after = peer.ends_after().await;
        assert!(after <= Duration::from_secs(3) + FAREWELL, "{after:?}: {}", String::from_utf8_lossy(bytes));
    }
    let slow = http2(65_535, "/slow", 1);
    for bytes in [slow.as_slice(), b"GET /slow HTTP/1.1\r\nhost: a.example\r\n\r\n"] {
        let mut peer = connect();
        peer.send(bytes).await;
        sleep(Duration::from_secs(3)).await;
        peer.stopping.cancel();
        let counts = std::sync::Arc::default();
        let (socket, _) = duplex(1);
        tokio::spawn(attend_to(std::mem::replace(&mut peer.socket, socket), counts));
        let after = peer.ends_after().await;
        assert!((300..=301).contains(&after.as_secs()), "{after:?}");
    }
}
