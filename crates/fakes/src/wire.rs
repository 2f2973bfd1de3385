//! A stream between hyper and the socket that lets a fault put its own bytes on the wire and end the connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What goes on the wire instead of the next answer; the connection ends after it.
#[derive(Debug)]
pub(crate) struct Instead {
    /// These bytes, exactly.
    pub(crate) bytes: Bytes,
    /// Whether it ends with a reset instead of an orderly FIN.
    pub(crate) reset: bool,
}

/// Set once, by the service, before it hands hyper an answer to be replaced.
pub(crate) type Takeover = Arc<OnceLock<Instead>>;

/// A stream whose writes a fault can replace.
pub(crate) struct Wire {
    stream: TcpStream,
    takeover: Takeover,
    written: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, takeover: Takeover) -> Self {
        Self { stream, takeover, written: 0 }
    }

    /// Writes what the fault wants, and then fails, so that hyper lets go of the connection.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let instead = self.takeover.get()?;
        while let Some(rest) = instead.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(n)) => self.written += n,
                other => return Some(other),
            }
        }
        // closing a socket that does not linger makes the kernel send RST instead of FIN
        if instead.reset
            && let Err(error) = self.stream.set_zero_linger()
        {
            return Some(Poll::Ready(Err(error)));
        }
        let end = io::Error::new(io::ErrorKind::ConnectionAborted, "a scripted fault ends the connection");
        Some(Poll::Ready(Err(end)))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_instead(cx) {
            Some(instead) => instead,
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.poll_instead(cx) {
            Some(instead) => instead,
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.takeover.get().is_some_and(|instead| instead.reset) {
            // a FIN before the reset would make it look orderly
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
