//! The way to the server: a pool of connections, TLS, limits of time, and what is tried again.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{sync::Semaphore, time::timeout};
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    address::{Address, Tls},
    error::Failure,
};
use crate::{StoreError, error::Trouble};

/// How many connections at most.
const CONNECTIONS: u32 = 16;
/// How long it may take to connect, and to wait for a free connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one piece of work may take before its connection is given up; the server gives up sooner, see [`SESSION`].
const LIMIT: Duration = Duration::from_secs(20);
/// How often work is tried that collides with the work of others.
const TRIES: u32 = 8;

/// For every new connection. A commit that returned must be on the disk, whatever the server's default is; and no
/// other default may change what a statement means.
const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '15s'; SET default_transaction_isolation = 'read committed'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A way to the server that opens connections as they are needed.
pub(super) struct Link {
    pool: Pool,
    /// One for each connection, so that closing can wait for those in use.
    permits: Semaphore,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("connections", &self.pool.status().size).finish_non_exhaustive()
    }
}

/// Whether work may be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It changes nothing, and is done again when a connection turns out to be dead.
    Read,
    /// It may have been recorded when the connection is lost, and is not done again.
    Write,
}

impl Link {
    /// Connects to nothing yet.
    pub(super) fn new(address: &Address) -> Result<Self, StoreError> {
        let mut config = address.config.clone();
        // a peer that is gone without a word is noticed
        config.connect_timeout(PATIENCE).tcp_user_timeout(LIMIT);
        config.keepalives_idle(LIMIT).keepalives_interval(PATIENCE).keepalives_retries(3);
        let manager = manager(config, &address.tls)?;
        let built = Pool::builder(manager)
            .max_size(usize::try_from(CONNECTIONS).unwrap_or(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
            }))
            .build();
        let pool = built.map_err(|_| StoreError::Url("the pool of connections cannot be made".to_owned()))?;
        Ok(Self { pool, permits: Semaphore::new(usize::try_from(CONNECTIONS).unwrap_or(1)) })
    }

    /// Does work on a connection, again when the server undid it because of a collision.
    pub(super) async fn run<T, F>(&self, kind: Work, work: impl Fn(Object) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.attempt(kind, LIMIT, work).await.map_err(Failure::told)
    }

    pub(super) async fn attempt<T, F>(
        &self,
        kind: Work,
        limit: Duration,
        work: impl Fn(Object) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        const BUSY: StoreError = StoreError::Unavailable(Trouble::Busy);
        let permit = timeout(PATIENCE, self.permits.acquire()).await.map_err(|_| Failure::NoConnection(BUSY))?;
        let _permit = permit.map_err(|_| StoreError::Closed)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let connection = self.pool.get().await?;
            let Ok(done) = timeout(limit, work(connection)).await else {
                // whatever that connection still does, nobody shall wait behind it
                self.pool.retain(|_, _| false);
                return Err(Failure::NoAnswer);
            };
            match done {
                Err(failure) if tries < TRIES && failure.is_collision() => {}
                Err(failure) if failure.is_lost_connection() => {
                    // the server has been restarted, maybe: then all that are idle are dead
                    self.pool.retain(|_, _| false);
                    if kind == Work::Write || tries == TRIES {
                        return Err(failure);
                    }
                }
                done => return done,
            }
        }
    }

    /// Waits for the work in progress, then closes the connections.
    pub(super) async fn close(&self) {
        if let Ok(all) = self.permits.acquire_many(CONNECTIONS).await {
            self.permits.close();
            all.forget();
            self.pool.close();
        }
    }
}

fn manager(mut config: Config, tls: &Tls) -> Result<Manager, StoreError> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Ok(match tls {
        Tls::Off => Manager::from_config(config.ssl_mode(SslMode::Disable).clone(), NoTls, recycling),
        Tls::Verified(roots) => {
            let tls = MakeRustlsConnect::new(verified(roots.as_deref())?);
            Manager::from_config(config.ssl_mode(SslMode::Require).clone(), tls, recycling)
        }
    })
}

fn verified(roots: Option<&Path>) -> Result<ClientConfig, StoreError> {
    let fail = |what: &str| StoreError::Url(format!("TLS: {what}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| fail("the crypto provider has no protocol version"))?;
    let Some(path) = roots else {
        let builder =
            builder.with_platform_verifier().map_err(|_| fail("this system's certificates cannot be read"))?;
        return Ok(builder.with_no_client_auth());
    };
    let unreadable = || fail(&format!("`sslrootcert` {} has no certificates that can be read (PEM)", path.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
        store.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    }
    if store.is_empty() {
        return Err(unreadable());
    }
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}
