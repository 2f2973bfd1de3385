//! A tiny vendor and a tiny client.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use registrar_fakes::{FakeHost, ScriptedFault};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A vendor that counts: every POST adds a thing, GET lists them, DELETE empties the list, `/echo` shows the request.
pub(crate) struct Counter {
    kind: &'static str,
    things: Mutex<Vec<Value>>,
}

impl Counter {
    pub(crate) fn fake(kind: &'static str) -> Arc<dyn Fake> {
        Arc::new(Self { kind, things: Mutex::default() })
    }
}

impl Fake for Counter {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn handle(&self, request: &FakeRequest) -> FakeResponse {
        let mut things = self.things.lock().unwrap();
        match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["things"]) => {
                let thing = json!({ "n": things.len() + 1, "sent": request.json() });
                things.push(thing.clone());
                FakeResponse::json(201, &thing)
            }
            ("GET" | "HEAD", ["things"]) => FakeResponse::json(200, &json!({ "items": *things })),
            ("DELETE", ["things"]) => {
                things.clear();
                FakeResponse::empty(204)
            }
            (_, ["echo", ..]) => {
                let (headers, length) = (&request.headers, request.body.len());
                let seen =
                    json!({ "path": request.path, "query": request.query, "headers": headers, "length": length });
                let mut out = FakeResponse::json(200, &seen);
                out.headers.extend(["a=1", "b=2"].map(|c| ("set-cookie".to_owned(), c.to_owned())));
                out
            }
            ("GET", ["broken"]) => {
                FakeResponse { headers: vec![("a".to_owned(), "b\nc".to_owned())], ..FakeResponse::empty(200) }
            }
            _ => FakeResponse::json(404, &json!({ "message": "no such page" })),
        }
    }

    fn settings(&self, base_url: &str) -> Value {
        json!({ "base_url": base_url })
    }

    fn clients(&self) -> Vec<Value> {
        self.things.lock().unwrap().clone()
    }

    fn reset(&self) {
        self.things.lock().unwrap().clear();
    }
}

pub(crate) async fn host() -> FakeHost {
    FakeHost::start(SocketAddr::from(([127, 0, 0, 1], 0)), vec![Counter::fake("counter"), Counter::fake("other")])
        .await
        .unwrap()
}

/// A script, as those who use curl write it.
pub(crate) fn script(host: &FakeHost, script: Value) {
    host.script(serde_json::from_value::<ScriptedFault>(script).unwrap());
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// What came over a connection until it ended.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) raw: String,
    pub(crate) end: End,
}

impl Got {
    pub(crate) fn status(&self) -> u16 {
        self.raw.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn head(&self) -> &str {
        self.raw.split("\r\n\r\n").next().unwrap()
    }

    /// The body; without the framing if it came in chunks.
    pub(crate) fn body(&self) -> String {
        let (head, mut rest) = self.raw.split_once("\r\n\r\n").unwrap();
        if !head.contains("transfer-encoding: chunked") {
            return rest.to_owned();
        }
        let mut out = String::new();
        loop {
            let (size, chunk) = rest.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return out;
            }
            out.push_str(&chunk[..size]);
            rest = chunk[size..].strip_prefix("\r\n").unwrap();
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body()).unwrap()
    }
}

/// A request as bytes; the server is asked to close the connection.
pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: vendor\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

pub(crate) async fn read(stream: &mut TcpStream) -> Got {
    let mut raw = Vec::new();
    let end = match stream.read_to_end(&mut raw).await {
        Ok(_) => End::Fin,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            End::Reset
        }
    };
    Got { raw: String::from_utf8(raw).unwrap(), end }
}

pub(crate) async fn open(host: &FakeHost, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host.addr()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

pub(crate) async fn call(host: &FakeHost, method: &str, path: &str, body: &str) -> Got {
    read(&mut open(host, &request(method, path, body)).await).await
}

/// Adds a thing.
pub(crate) async fn add(host: &FakeHost) -> Got {
    call(host, "POST", "/counter/things", r#"{"a":1}"#).await
}

/// How many things there are, which is how often the state machine ran.
pub(crate) fn things(host: &FakeHost) -> usize {
    host.fake("counter").unwrap().clients().len()
}
