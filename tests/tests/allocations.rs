//! How often one creation asks for memory: what keeps it cheap is easily undone by a clone here and a `format!` there, and
//! no test of behaviour would notice. Times are for the benchmark; a count is the same on every machine.

use std::{net::SocketAddr, sync::Arc};

use allocation_counter::{AllocationInfo, measure};
use axum::body::Body;
use http::{Request, StatusCode, header::CONTENT_TYPE};
use metrics_exporter_prometheus::PrometheusBuilder;
use registrar_adapters::VENDORS;
use registrar_core::SecretString;
use registrar_engine::{Config, Engine, Environment};
use registrar_fakes::FakeHost;
use registrar_server::App;
use registrar_store::MemoryStore;
use registrar_tests::Network;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const KIND: &str = "loop";
const BODY: &str = r#"{"backend":"counted","metadata":{"client_name":"Counted","redirect_uris":["https://counted.example/cb"],"scope":"openid profile"}}"#;

/// Before those that count: connections are opened, and what is made once is made.
const WARM_UP: u64 = 16;
const COUNTED: u64 = 64;

/// A little above what they were when this was written; to be raised only for something that is worth it. An answer is read
/// member by member, so that an odd one costs no client, and searched for secrets: 60 of them are for that.
const ALLOCATIONS: u64 = 245;
const BYTES: u64 = 57_000;

#[test]
fn a_creation_asks_for_memory_no_more_often_than_it_did() {
    let (_vendor, runtime, router) = set_up().unwrap();
    create(&runtime, &router, WARM_UP).unwrap();
    let AllocationInfo { count_total, bytes_total, .. } = measure(|| create(&runtime, &router, COUNTED).unwrap());
    let (allocations, bytes) = (count_total / COUNTED, bytes_total / COUNTED);
    assert!(
        allocations <= ALLOCATIONS && bytes <= BYTES,
        "a creation allocated {allocations} times and {bytes} bytes; {ALLOCATIONS} and {BYTES} are the most"
    );
}

/// The bytes that a body may cost, for each of its own: a key of seven bytes becomes a map of several hundred,
/// three times.
const BYTES_A_BYTE: u64 = 400;
/// One of the server's bodies, and room for its answer.
const LONGEST: usize = 64 * 1024;

/// Quadratic work has mostly copied something as often. The rest is what a check does for each finding, and they are few
/// (`MAX_FINDINGS`).
#[test]
fn a_body_costs_no_more_than_its_length() {
    let (_vendor, runtime, router) = set_up().unwrap();
    create(&runtime, &router, WARM_UP).unwrap();
    for (name, body) in hostile() {
        assert!(body.len() <= LONGEST, "{name}: {}", body.len());
        for path in ["/v1/clients?dry_run=true", "/v1/clients", "/counted/register", "/v1/routes:evaluate"] {
            let body = if path.ends_with("register") { body.clone() } else { format!("{{\"metadata\":{body}}}") };
            let length = body.len() as u64;
            let (mut status, mut answer) = (StatusCode::OK, 0);
            let cost = measure(|| (status, answer) = post(&runtime, &router, path, body).unwrap());
            assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{name} at {path}");
            assert!(answer <= 8 * LONGEST, "{name} at {path}: an answer of {answer} bytes");
            assert!(
                cost.bytes_total <= length * BYTES_A_BYTE,
                "{name} at {path} ({status}): {} bytes for a body of {length}",
                cost.bytes_total
            );
        }
    }
}

const REDIRECT: &str = r#""redirect_uris":["https://a.example/cb"]"#;

/// Metadata that is as long as may be, and of as much of one thing.
fn hostile() -> Vec<(&'static str, String)> {
    let room = LONGEST - 64;
    let list = |item: &dyn Fn(usize) -> String| {
        let mut out = String::new();
        for n in 0.. {
            let next = item(n);
            if out.len() + next.len() + 1 > room {
                break;
            }
            out.push_str(if n == 0 { "" } else { "," });
            out.push_str(&next);
        }
        out
    };
    let long = "k".repeat(21_700);
    let name = "k".repeat(250);
    let nul = r#""\u0000""#;
    let mut all = vec![
        ("a long name over many NULs", format!("{{\"{long}\":[{}]}}", vec![nul; 4_800].join(","))),
        ("a name over many NULs", format!("{{\"{name}\":[{}]}}", vec![nul; 6_000].join(","))),
        ("many NULs", format!("{{\"contacts\":[{}]}}", list(&|_| nul.to_owned()))),
        ("one member again and again", format!("{{{}}}", list(&|_| "\"a\":0".to_owned()))),
        ("every member twice", format!("{{{}}}", list(&|n| format!("\"m{}\":0", n / 2)))),
        ("many members", format!("{{{}}}", list(&|n| format!("\"m{n}\":0")))),
        ("many empty names", format!("{{{}}}", list(&|_| "\"\":0".to_owned()))),
        ("names that are NUL", format!("{{{}}}", list(&|n| format!("\"\\u0000{n}\":0")))),
        (
            "a thousand unknown members",
            format!(
                "{{{REDIRECT},{}}}",
                (0..990).map(|n| format!("\"member_{n:050}\":0")).collect::<Vec<_>>().join(",")
            ),
        ),
        (
            "many localized names",
            format!(
                "{{{}}}",
                (0..999).map(|n| format!("\"client_name#aa-{n:08}\":\"\\u0007{n:020}\"")).collect::<Vec<_>>().join(",")
            ),
        ),
        ("many keys", format!("{{\"jwks\":{{\"keys\":[{}]}}}}", list(&|_| r#"{"d":1}"#.to_owned()))),
        ("many sound keys", format!("{{\"jwks\":{{\"keys\":[{}]}}}}", list(&|_| r#"{"kty":"EC"}"#.to_owned()))),
        ("many scopes", format!("{{\"scope\":\"{}\"}}", list(&|n| format!("s{n}")).replace(',', " "))),
        ("one scope again and again", format!("{{\"scope\":\"{}\"}}", "s ".repeat(30_000))),
        ("deep lists", format!("{{\"a\":{}{}}}", "[".repeat(32_000), "]".repeat(32_000))),
        ("many deep lists", format!("{{\"a\":[{}]}}", list(&|_| format!("{}{}", "[".repeat(29), "]".repeat(29))))),
        ("many small objects", format!("{{\"a\":[{}]}}", list(&|_| "{}".to_owned()))),
        ("a long number", format!("{{\"default_max_age\":{}}}", "9".repeat(room))),
        ("long fractions", format!("{{\"a\":[{}]}}", list(&|_| format!("0.{}5", "49".repeat(400))))),
        ("a long text", format!("{{\"client_name\":\"{}\"}}", "\\u0001".repeat(room / 6))),
    ];
    for member in
        ["redirect_uris", "post_logout_redirect_uris", "request_uris", "contacts", "grant_types", "response_types"]
    {
        all.push((member, format!("{{\"{member}\":[{}]}}", list(&|n| format!("\"http://{n}\"")))));
    }
    all.push(("wrong types", format!("{{\"redirect_uris\":[{}]}}", list(&|_| "0".to_owned()))));
    all
}

fn post(runtime: &Runtime, router: &axum::Router, path: &str, body: String) -> Fallible<(StatusCode, usize)> {
    runtime.block_on(async {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json").body(Body::from(body))?;
        let answer = router.clone().oneshot(request).await?;
        let status = answer.status();
        Ok((status, axum::body::to_bytes(answer.into_body(), usize::MAX).await?.len()))
    })
}

/// The simulated vendor has threads of its own: only the gateway's is counted.
fn set_up() -> Fallible<((Runtime, FakeHost), Runtime, axum::Router)> {
    let vendor = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let fakes = registrar_adapters::fakes().into_iter().filter(|f| f.kind() == KIND).collect();
    let host = vendor.block_on(FakeHost::start(SocketAddr::from(([127, 0, 0, 1], 0)), fakes))?;
    host.without_ledger();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let router = runtime.block_on(async { gateway(&host) })?;
    Ok(((vendor, host), runtime, router))
}

fn gateway(host: &FakeHost) -> Fallible<axum::Router> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registrar.toml");
    let settings = format!("base_url = \"{}\", token = \"fake-{KIND}-admin-token\"", host.base_url(KIND));
    std::fs::write(
        &file,
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:0\"\n[auth]\nmode = \"none\"\n\
             [[backends]]\nname = \"counted\"\nkind = \"{KIND}\"\nsettings = {{ {settings} }}\n\
             [[routes]]\nname = \"counted\"\nbackend = \"counted\"\nregistration = \"open\"\n\
             registration_rate = \"1000000/second\"\n"
        ),
    )?;
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let environment = Environment { vendors: VENDORS, secrets: &literal };
    let config = Config::load(&file, environment).map_err(|e| e.to_string())?;
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::new(store, VENDORS, config.backends, config.routes, &Network::new()?)?;
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    Ok(registrar_server::router(App::new(Arc::new(engine), config.auth, "http://127.0.0.1:0", metrics)))
}

fn create(runtime: &Runtime, router: &axum::Router, times: u64) -> Fallible<()> {
    runtime.block_on(async {
        for _ in 0..times {
            let request =
                Request::post("/v1/clients").header(CONTENT_TYPE, "application/json").body(Body::from(BODY))?;
            let status = router.clone().oneshot(request).await?.status();
            if status != StatusCode::CREATED {
                return Err(format!("a creation was answered {status}").into());
            }
        }
        Ok(())
    })
}
