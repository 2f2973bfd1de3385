//! One connection, from its first byte to its end.

use std::{future::poll_fn, net::SocketAddr, pin::pin, task::Poll};

use axum::Router;
use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    Peer,
    deadline::{FAREWELL, HEAD, Progress, Reason, WRITE},
    stream::{Answer, Told},
};

/// Serves a connection until it ends, fails or is too late; after `stopping`, until its requests are answered.
pub(super) async fn attend<S>(
    builder: auto::Builder<TokioExecutor>,
    socket: S,
    peer: SocketAddr,
    router: Router,
    stopping: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let progress = Progress::new();
    let service = {
        let progress = progress.clone();
        service_fn(move |mut request: Request<Incoming>| {
            let running = progress.begin(request.version() == Version::HTTP_2);
            request.extensions_mut().insert(Peer(peer));
            // a router is always ready
            let answer = router.clone().call(request);
            async move {
                let (head, body) = answer.await?.into_parts();
                Ok::<_, std::convert::Infallible>(Response::from_parts(head, Answer::new(body, running.answer())))
            }
        })
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Told::new(socket, progress.clone())), service));
    let mut stopped = pin!(stopping.cancelled());
    let mut alarm = pin!(sleep_until(Instant::now() + HEAD));
    let mut leaving = false;
    let ended = poll_fn(|cx| {
        if !leaving && stopped.as_mut().poll(cx).is_ready() {
            leaving = true;
            progress.stop();
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(Some));
        }
        loop {
            let now = Instant::now();
            let due = progress.deadline();
            if let Some((_, reason)) = due.filter(|(at, _)| *at <= now) {
                // it is told, and has a moment to end by itself
                if reason == Reason::Idle && !leaving {
                    leaving = true;
                    progress.stop();
                    connection.as_mut().graceful_shutdown();
                    if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                        return Poll::Ready(result.map_err(Some));
                    }
                    continue;
                }
                metrics::counter!("registrar_connections_ended_total", "reason" => reason.label()).increment(1);
                tracing::debug!(reason = reason.label(), "connection ended");
                return Poll::Ready(Err(None));
            }
            // the streams of HTTP/2 are tasks of their own, which do not always wake this one
            let look = now + if leaving { FAREWELL } else { WRITE };
            let at = due.map_or(look, |(at, _)| at.min(look));
            // a deadline that has become later is found out when the alarm goes off
            if at < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(at);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
    // a connection that fails concerns only its peer
    if let Err(Some(error)) = ended {
        tracing::debug!(error = %error, "connection ended");
    }
}
