//! The bodies of answers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// What an oversized body is made of: one piece of memory, sent as often as it takes.
static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// The body of an answer.
pub(crate) enum Payload {
    /// Everything at once, under its length.
    Whole(Bytes),
    /// A byte at a time; the length is not told.
    Drip {
        /// What is still to be sent.
        rest: Bytes,
        /// Before each byte.
        pause: Duration,
        /// The running pause.
        sleep: Option<Pin<Box<Sleep>>>,
    },
    /// The start of a JSON object, a long string, and its end; the length is not told.
    Oversize {
        /// Up to the string.
        head: Bytes,
        /// How much of the string is still to be sent.
        filler: u64,
        /// After the string.
        tail: Bytes,
    },
}

impl Payload {
    /// A body that arrives a byte at a time.
    pub(crate) fn drip(body: Bytes, pause: Duration) -> Self {
        Self::Drip { rest: body, pause, sleep: None }
    }

    /// `body`, with one more member of `filler` bytes if it is an object; an object with that member if it is not.
    pub(crate) fn oversize(body: &Bytes, filler: u64) -> Self {
        let object = body.trim_ascii().strip_suffix(b"}").filter(|start| start.starts_with(b"{"));
        let mut head = object.map_or_else(|| b"{".to_vec(), <[u8]>::to_vec);
        if head.trim_ascii_end() != b"{" {
            head.push(b',');
        }
        head.extend_from_slice(b"\"x_filler\":\"");
        Self::Oversize { head: Bytes::from(head), filler, tail: Bytes::from_static(b"\"}") }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(body) => std::mem::take(body),
            Self::Drip { rest, .. } if rest.is_empty() => Bytes::new(),
            Self::Drip { rest, pause, sleep: running } => {
                ready!(running.get_or_insert_with(|| Box::pin(sleep(*pause))).as_mut().poll(cx));
                *running = None;
                rest.split_to(1)
            }
            Self::Oversize { head, filler, tail } => {
                if !head.is_empty() {
                    std::mem::take(head)
                } else if *filler > 0 {
                    let piece = usize::try_from(*filler).map_or(FILLER.len(), |left| left.min(FILLER.len()));
                    *filler -= piece as u64;
                    Bytes::from_static(&FILLER[..piece])
                } else {
                    std::mem::take(tail)
                }
            }
        };
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_empty(),
            Self::Drip { rest, .. } => rest.is_empty(),
            Self::Oversize { tail, .. } => tail.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Self::Drip { .. } | Self::Oversize { .. } => SizeHint::default(),
        }
    }
}
