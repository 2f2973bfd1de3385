//! The gateway in a process of its own, with a store that keeps nothing: what translation costs by itself. (`memory:`
//! keeps every client, so that a benchmark of it measures the kernel clearing pages.)

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusBuilder;
use registrar_adapters::VENDORS;
use registrar_engine::{Config, Engine, Environment, config::resolve_secret};
use registrar_model::{BackendName, ClientId, OperationId, Registration, RegistrationId};
use registrar_server::{App, serve::Limits};
use registrar_store::{
    ApiKey, Begun, InitialAccessToken, Intent, KeyUse, Operation, OperationState, OperationUpdate, PageOf, PageRequest,
    RegistrationChange, RegistrationFilter, Sealed, Store, StoreError, Unused, Usage,
};
use registrar_tests::Network;

use crate::Fallible;

/// The variable that makes this program a gateway: the path of its configuration.
pub(crate) const CONFIG: &str = "HOP_GATEWAY_CONFIG";

/// Serves until the process is killed.
pub(crate) fn run(config: &str) -> Fallible<()> {
    let environment = Environment { vendors: VENDORS, secrets: &resolve_secret };
    let config = Config::load(config.as_ref(), environment).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let metrics = PrometheusBuilder::new().install_recorder()?;
        let network = Network::new()?;
        let engine = Engine::new(Arc::new(Forgetting), VENDORS, config.backends, config.routes, &network)?;
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let app = App::new(Arc::new(engine), config.auth, &format!("http://{address}"), metrics);
        println!("gateway is listening on http://{address}");
        std::io::stdout().flush()?;
        registrar_server::serve::serve(
            listener,
            registrar_server::router(app),
            Limits::default(),
            std::future::pending(),
        )
        .await?;
        Ok(())
    })
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct Forgetting;

#[async_trait]
impl Store for Forgetting {
    async fn begin(&self, _: Intent) -> Result<Begun, StoreError> {
        Ok(Begun::New)
    }
    async fn key_use(&self, _: &[u8; 32], _: i64) -> Result<Option<KeyUse>, StoreError> {
        Ok(None)
    }
    async fn claim(&self, _: &str, _: i64, _: i64, _: u32) -> Result<Vec<Operation>, StoreError> {
        Ok(Vec::new())
    }
    async fn sealed(&self, _: OperationId, _: i64) -> Result<Option<Sealed>, StoreError> {
        Ok(None)
    }
    async fn destroy_sealed(&self, _: OperationId) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn purge(&self, _: i64, _: i64) -> Result<(), StoreError> {
        Ok(())
    }
    async fn once(&self, _: &'static str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        Ok(proposed)
    }
    async fn finish(&self, _: Arc<OperationUpdate>, _: Option<RegistrationChange>) -> Result<(), StoreError> {
        Ok(())
    }
    async fn amend(&self, _: Arc<OperationUpdate>, _: Option<RegistrationChange>) -> Result<(), StoreError> {
        Ok(())
    }
    async fn registration(&self, _: RegistrationId) -> Result<Option<Registration>, StoreError> {
        Ok(None)
    }
    async fn registered(&self, _: &BackendName, _: &ClientId) -> Result<Option<RegistrationId>, StoreError> {
        Ok(None)
    }
    async fn registrations(&self, _: &RegistrationFilter, _: PageRequest) -> Result<PageOf<Registration>, StoreError> {
        Ok(PageOf { items: Vec::new(), next: None })
    }
    async fn open_clients(&self, _: &str) -> Result<u64, StoreError> {
        Ok(0)
    }
    async fn used(&self, _: RegistrationId, _: i64) -> Result<Usage, StoreError> {
        Ok(Usage::Missing)
    }
    async fn unused(&self, _: i64, _: Option<Unused>, _: u32) -> Result<Vec<Unused>, StoreError> {
        Ok(Vec::new())
    }
    async fn operation(&self, _: OperationId) -> Result<Option<Operation>, StoreError> {
        Ok(None)
    }
    async fn operations(&self, _: Option<OperationState>, _: PageRequest) -> Result<PageOf<Operation>, StoreError> {
        Ok(PageOf { items: Vec::new(), next: None })
    }
    async fn put_api_key(&self, _: ApiKey) -> Result<(), StoreError> {
        Ok(())
    }
    async fn api_key(&self, _: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(None)
    }
    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete_api_key(&self, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn put_initial_access_token(&self, _: InitialAccessToken) -> Result<(), StoreError> {
        Ok(())
    }
    async fn initial_access_token(&self, _: &str) -> Result<Option<InitialAccessToken>, StoreError> {
        Ok(None)
    }
    async fn initial_access_tokens(&self) -> Result<Vec<InitialAccessToken>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete_initial_access_token(&self, _: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn close(&self) {}
}
