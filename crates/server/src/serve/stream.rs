//! The two ends of an answer that tell how it gets on: the socket and the body.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadline::{Progress, Sending};

/// The longest piece of a body that is handed over at once. HTTP/2 takes a piece whole as soon as the peer has room for one
/// byte of it, and keeps the rest where no deadline sees it.
const PIECE: usize = 16 * 1024;

/// A socket that tells what it does.
#[derive(Debug)]
pub(super) struct Told<S> {
    socket: S,
    progress: Progress,
}

impl<S> Told<S> {
    pub(super) fn new(socket: S, progress: Progress) -> Self {
        Self { socket, progress }
    }

    fn tell<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            self.progress.blocked();
        } else {
            self.progress.written();
        }
        done
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.progress.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.tell(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.tell(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    // neither says that the peer has taken anything
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The body of an answer that tells when a piece of it is taken.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    /// What is left of the frame that was handed over in part.
    rest: Bytes,
    sending: Sending,
}

impl Answer {
    pub(super) fn new(body: Body, sending: Sending) -> Self {
        Self { body, rest: Bytes::new(), sending }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let next = Pin::new(&mut self.body).poll_frame(cx);
            self.sending.advanced(next.is_ready());
            let Some(frame) = ready!(next) else { return Poll::Ready(None) };
            match frame?.into_data() {
                Ok(data) => self.rest = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        } else {
            self.sending.advanced(true);
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        match hint.upper() {
            Some(upper) => {
                hint.set_upper(upper + rest);
                hint.set_lower(hint.lower() + rest);
            }
            None => hint.set_lower(hint.lower() + rest),
        }
        hint
    }
}
