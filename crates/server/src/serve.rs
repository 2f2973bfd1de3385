//! The socket side: bounded headers, bounded connections, and a shutdown that ends.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::Service as _;

/// The longest that request headers may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 8192;
/// How long requests in progress may take after the stop signal.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Who is at the other end of the connection, in the extensions of each request as it comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves until `stop` completes, then lets requests in progress finish, at most [`DRAIN_TIMEOUT`].
///
/// `axum::serve` leaves half-sent headers open for ever and never ends its shutdown while one upload is stalled
/// (reliability E6, GS); this loop bounds both.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .max_buf_size(32 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(16 * 1024)
        .max_concurrent_streams(128);
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted? else { continue };
        let router = router.clone();
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            // a router is always ready
            router.clone().call(request)
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // a connection that fails concerns only its peer
            if let Err(error) = watched.await {
                tracing::debug!(error = %error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut after {} seconds", DRAIN_TIMEOUT.as_secs());
    }
    Ok(())
}

type Accepted = Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)>;

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<Accepted> {
    let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return Ok(None) };
    match listener.accept().await {
        Ok((stream, peer)) => {
            // small answers must not wait for the peer's acknowledgement
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            Ok(Some((stream, peer, permit)))
        }
        // out of file descriptors and the like: give connections time to end
        Err(error) if matches!(error.raw_os_error(), Some(23 | 24)) => {
            tracing::error!(%error, "cannot accept connections");
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(None)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
