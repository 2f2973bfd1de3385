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

/// A tenth above what they were when this was written; to be raised only for something that is worth it.
const ALLOCATIONS: u64 = 190;
const BYTES: u64 = 52_000;

#[test]
fn a_creation_asks_for_memory_no_more_often_than_it_did() {
    // the simulated vendor has threads of its own: only this one is counted
    let vendor = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fakes = registrar_adapters::fakes().into_iter().filter(|f| f.kind() == KIND).collect();
    let host = vendor.block_on(FakeHost::start(SocketAddr::from(([127, 0, 0, 1], 0)), fakes)).unwrap();
    host.without_ledger();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let router = runtime.block_on(async { gateway(&host) }).unwrap();
    create(&runtime, &router, WARM_UP).unwrap();
    let AllocationInfo { count_total, bytes_total, .. } = measure(|| create(&runtime, &router, COUNTED).unwrap());
    let (allocations, bytes) = (count_total / COUNTED, bytes_total / COUNTED);
    assert!(
        allocations <= ALLOCATIONS && bytes <= BYTES,
        "a creation allocated {allocations} times and {bytes} bytes; {ALLOCATIONS} and {BYTES} are the most"
    );
}

fn gateway(host: &FakeHost) -> Fallible<axum::Router> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registrar.toml");
    let settings = format!("base_url = \"{}\", token = \"fake-{KIND}-admin-token\"", host.base_url(KIND));
    std::fs::write(
        &file,
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:0\"\n[auth]\nmode = \"none\"\n\
             [[backends]]\nname = \"counted\"\nkind = \"{KIND}\"\nsettings = {{ {settings} }}\n"
        ),
    )?;
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()));
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
