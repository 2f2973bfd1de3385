//! The socket side: every connection has a deadline from its first byte on, in both directions; their number is bounded, and
//! a shutdown ends.

mod address;
mod connection;
mod deadline;
mod stream;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use address::Addresses;

/// How long requests in progress may take after the stop signal.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Who is at the other end of the connection, in the extensions of each request as it comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At once; more wait in the listen queue.
    pub connections: usize,
    /// Of one address, that is one IPv4 address or one IPv6 network of 64 bits; more are closed at once. Loopback ones
    /// do not count. `None` where every peer is a proxy.
    pub per_address: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8192, per_address: None }
    }
}

/// Serves until `stop` completes, then lets requests in progress finish, at most [`DRAIN_TIMEOUT`].
///
/// `axum::serve` leaves half-sent headers open for ever and never ends its shutdown while one upload is stalled
/// (reliability E6, GS); hyper-util waits for ever for the first bytes, and neither ends a write that the peer does not
/// read. This loop bounds all of them.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let builder = builder();
    let permits = Arc::new(Semaphore::new(limits.connections));
    let addresses = Addresses::new(limits.per_address);
    let (stopping, connections) = (CancellationToken::new(), TaskTracker::new());
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted? else { continue };
        let Some(place) = addresses.enter(peer.ip()) else {
            metrics::counter!("registrar_connections_ended_total", "reason" => "address").increment(1);
            continue;
        };
        let connection = connection::attend(builder.clone(), stream, peer, router.clone(), stopping.clone());
        connections.spawn(async move {
            connection.await;
            drop((place, permit));
        });
    }
    drop(listener);
    stopping.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!("connections were cut after {} seconds", DRAIN_TIMEOUT.as_secs());
    }
    Ok(())
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `deadline` has one that knows idle connections from slow ones
        .header_read_timeout(None)
        // a peer that has said all it has to say still reads the answer
        .half_close(true)
        .max_headers(64)
        .max_buf_size(32 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(16 * 1024)
        .max_concurrent_streams(32);
    builder
}

type Accepted = Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)>;

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
