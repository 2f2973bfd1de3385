//! `registrar serve`

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use registrar_adapters::VENDORS;
use registrar_engine::{Config, Engine, EngineOptions};
use registrar_server::{App, serve::Limits};
use registrar_store::{Exclusive, StoreError, Trouble};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    args::{ConfigArgs, ServeArgs},
    check,
    connect::Network,
    failure::Failure,
    log, output, process,
};

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = check::load(&args.config)?;
    log::start();
    warn(&config);
    process::harden();
    let runtime = match config.server.workers {
        Some(1) => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Some(n) => tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build(),
        None => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = runtime.map_err(|e| Failure::local(e.to_string()))?;
    runtime.block_on(serve(config, args.config.clone()))
}

/// Logs what is probably not meant in the configuration.
fn warn(config: &Config) {
    for warning in &config.warnings {
        let (line, hint) = (warning.line, warning.hint.as_deref().unwrap_or_default());
        tracing::warn!(key = warning.path, line, hint, "configuration: {}", warning.message);
    }
}

/// A gateway ready to serve.
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    pub(crate) app: App,
    pub(crate) listener: TcpListener,
    limits: Limits,
    pub(crate) network: Network,
    /// Until the process ends, nobody else serves from this store.
    exclusive: Exclusive,
}

impl Gateway {
    /// Opens the store, connects the backends, and binds the address.
    pub(crate) async fn open(config: Config) -> Result<Self, Failure> {
        let url = &config.store.url;
        if url == "memory:" {
            tracing::warn!("the store is in memory: nothing survives this process");
        }
        // a database URL may hold a password
        let unusable = |e| Failure::local(format!("store {}: {e}", registrar_store::redacted(url)));
        let exclusive = registrar_store::exclusive(url).map_err(unusable)?;
        let store = registrar_store::open_with_ballast(url, config.store.ballast).await.map_err(unusable)?;
        let network = Network::new().map_err(Failure::local)?;
        let limits = process::limits(&config);
        let options = EngineOptions {
            secret_window: config.idempotency.secret_window,
            implicit_window: config.idempotency.implicit_window,
            seal_key: config.idempotency.seal_key,
            registration: config.registration,
        };
        let engine = Engine::new(store, VENDORS, config.backends, config.routes, &network)
            .map_err(Failure::local)?
            .with_options(options);
        let interrupted = engine.recover().await.map_err(|e| Failure::of(&e))?;
        if interrupted > 0 {
            tracing::warn!(
                interrupted,
                "writes that an earlier process did not end are being looked into; see GET /v1/operations?state=unknown"
            );
        }
        let engine = Arc::new(engine);
        let metrics = PrometheusBuilder::new()
            .set_buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0])
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| Failure::local(e.to_string()))?;
        let listen = config.server.listen;
        let listener =
            TcpListener::bind(listen).await.map_err(|e| Failure::local(format!("cannot listen on {listen}: {e}")))?;
        let bound = listener.local_addr().map_err(|e| Failure::local(e.to_string()))?;
        // port 0 becomes a real one only now
        let mut public_url = config.server.public_url;
        if listen.port() == 0 && public_url.port() == Some(0) && public_url.set_port(Some(bound.port())).is_err() {
            return Err(Failure::local("public_url cannot have a port"));
        }
        let app = App::new(Arc::clone(&engine), config.auth, public_url.as_str(), metrics)
            .with_if_match_required(config.server.require_if_match);
        Ok(Self { engine, app, listener, limits, network, exclusive })
    }

    /// Serves until `stop`, then lets writes finish.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self { engine, app, listener, limits, network: _network, exclusive } = self;
        let draining = app.clone();
        let mut background = tokio::spawn(look_after(Arc::clone(&engine), app.clone()));
        let background_ends = background.abort_handle();
        let broken = Arc::new(OnceLock::new());
        let stop = {
            let broken = Arc::clone(&broken);
            async move {
                tokio::select! {
                    () = stop => {}
                    ended = &mut background => {
                        let why = ended.unwrap_or_else(|e| format!("the reconciler ended abnormally ({e})"));
                        tracing::error!(why, "the gateway ends");
                        // nobody else sets it
                        let _ = broken.set(why);
                    }
                }
                draining.drain();
                tracing::info!("stopping: no new connections, requests in progress may finish");
            }
        };
        let served = registrar_server::serve::serve(listener, registrar_server::router(app), limits, stop).await;
        // what it was looking into is looked into again at the next start
        background_ends.abort();
        // every call to a vendor has its own deadline; this one only bounds the sum
        if tokio::time::timeout(Duration::from_secs(4), engine.shutdown()).await.is_err() {
            tracing::error!("writes did not end in time; they are listed as unknown at the next start");
        }
        drop(exclusive);
        served.map_err(|e| Failure::local(format!("the listener failed: {e}")))?;
        match broken.get() {
            Some(why) => Err(Failure::local(why.clone())),
            None => Ok(()),
        }
    }
}

/// The work beside requests. Ends, with the reason, when the store has stopped for good.
async fn look_after(engine: Arc<Engine>, app: App) -> String {
    tokio::select! {
        never = registrar_server::upkeep(&app, log::lost) => match never {},
        why = until_the_store_stops(&engine) => why,
        never = reconcile(&engine) => match never {},
        never = expire(&engine) => match never {},
    }
}

/// Looks into writes whose outcome is unknown, and asks vendors whose circuit is open whether they work again.
async fn reconcile(engine: &Engine) -> Infallible {
    let mut rounds = every(Duration::from_secs(1));
    loop {
        rounds.tick().await;
        if let Err(error) = engine.reconcile().await {
            tracing::warn!(error = error.detail(), "unknown writes could not be looked into");
        }
        engine.probe().await;
    }
}

/// Deletes clients that registered openly and were never used: at once, for what has expired while no gateway was there, and
/// then every minute.
async fn expire(engine: &Arc<Engine>) -> Infallible {
    let mut rounds = every(Duration::from_mins(1));
    loop {
        rounds.tick().await;
        if let Err(error) = engine.expire().await {
            tracing::warn!(error = error.detail(), "unused clients could not be looked for");
        }
    }
}

/// After a failed fsync nobody knows what the disk has kept, and a second one on the same file would not tell: only what
/// is read from the disk again does, at the next start (reliability F32). It is noticed beside the rounds of
/// [`reconcile`], because one of them may wait for a vendor that hangs.
async fn until_the_store_stops(engine: &Engine) -> String {
    let mut looks = every(Duration::from_secs(1));
    loop {
        looks.tick().await;
        // the second: its thread has ended, which it does only when told to
        if let Err(stopped @ (StoreError::Unavailable(Trouble::Stopped) | StoreError::Closed)) =
            engine.store().ping().await
        {
            return format!("{stopped}; what was open is looked into at the next start");
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

async fn serve(config: Config, args: ConfigArgs) -> Result<(), Failure> {
    let gateway = Gateway::open(config).await?;
    let address = gateway.listener.local_addr().map_err(|e| Failure::local(e.to_string()))?;
    reload_on_hangup(Arc::clone(&gateway.engine), gateway.network.clone(), args);
    // who does not read it is served as well
    if let Err(failure) = output::data(&format!("registrar is listening on http://{address}")) {
        tracing::warn!(reason = failure.text, %address, "the line that says where the gateway listens could not be written");
    }
    gateway.run(stop_signal()).await
}

/// SIGHUP reads the file again: everything new is built before anything is swapped; a broken file changes nothing.
/// Connections to vendors are kept.
fn reload_on_hangup(engine: Arc<Engine>, network: Network, args: ConfigArgs) {
    tokio::spawn(async move {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            let result = Config::load(&args.config, check::environment())
                .map_err(|d| d.to_string())
                .inspect(warn)
                .and_then(|config| engine.reload(config.backends, config.routes, &network));
            match result {
                Ok(()) => {
                    tracing::info!("configuration reloaded: backends and routes (everything else needs a restart)")
                }
                Err(error) => tracing::error!(error, "the configuration was not reloaded; the old one stays"),
            }
        }
    });
}

/// Completes on SIGTERM or SIGINT.
pub(crate) async fn stop_signal() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = terminate => {}
        () = interrupt => {}
    }
}
