//! What requests leave behind, in a process of its own, whose recorder is the one that the gateway has.

use std::{sync::Arc, time::Duration};

use allocation_counter::measure;
use axum::{Router, body::Body};
use http::Request;
use metrics_exporter_prometheus::PrometheusBuilder;
use registrar_adapters::VENDORS;
use registrar_engine::{AuthMode, Engine};
use registrar_server::App;
use registrar_store::MemoryStore;
use registrar_tests::Network;
use tokio::time::sleep;
use tower::ServiceExt as _;

const REQUESTS: usize = 50_000;
/// A tenth of a byte a request: a sample of a histogram alone has sixteen.
const KEPT: i64 = 5_000;

/// The exporter keeps samples until somebody reads `/metrics`; nobody does here.
#[test]
fn requests_leave_nothing_behind_though_nobody_reads_the_metrics() {
    let buckets = [0.001, 0.01, 0.1, 1.0];
    let metrics = PrometheusBuilder::new().set_buckets(&buckets).unwrap().install_recorder().unwrap();
    // time passes only when all wait: each period of the upkeep comes when it is asked for
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let router = runtime.block_on(async {
        let network = Network::new().unwrap();
        let engine = Engine::new(Arc::new(MemoryStore::new()), VENDORS, Vec::new(), Vec::new(), &network).unwrap();
        let app = App::new(Arc::new(engine), AuthMode::None, "http://localhost", metrics);
        let router = registrar_server::router(app.clone());
        tokio::spawn(async move { registrar_server::upkeep(&app, || 0).await });
        ask(&router, REQUESTS / 10).await.unwrap();
        router
    });
    let kept = measure(|| runtime.block_on(ask(&router, REQUESTS)).unwrap()).bytes_current;
    assert!(kept < KEPT, "{REQUESTS} requests left {kept} bytes behind");
}

async fn ask(router: &Router, times: usize) -> Result<(), Box<dyn std::error::Error>> {
    for n in 1..=times {
        let request = Request::get("/healthz").body(Body::empty())?;
        assert!(router.clone().oneshot(request).await?.status().is_success());
        if n % 1_000 == 0 {
            sleep(Duration::from_secs(6)).await;
        }
    }
    Ok(())
}
