//! What a connection waits for, since when, and until when it may.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The longest from the first byte, or from the beginning of a connection, until the head of its request is there.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// The longest without a request. Proxies keep connections for 60 s; one that they end first is no lost request.
pub(super) const IDLE: Duration = Duration::from_secs(75);
/// The longest that an answer may make no progress.
pub(super) const WRITE: Duration = Duration::from_secs(30);
/// The longest that an idle connection may take to end when it is told to.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The head of a request did not come.
    Head,
    /// No request came.
    Idle,
    /// The peer does not read its answer.
    Write,
    /// The gateway stops, and nothing is in progress.
    Stop,
}

impl Reason {
    /// The label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Write => "write",
            Self::Stop => "stop",
        }
    }
}

/// What is going on at a connection; its socket, its requests and its bodies tell.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    http2: bool,
    /// Whether there was a request yet.
    any: bool,
    /// Requests from their head until the last byte of their answer is handed over.
    running: usize,
    /// Since when there is no request.
    idle_since: Instant,
    /// Since when the next head arrives.
    head_since: Option<Instant>,
    /// Since when the socket takes no more.
    blocked_since: Option<Instant>,
    /// Since when each answer waits for the peer; `None` while it waits for us.
    answers: Vec<(u64, Option<Instant>)>,
    next: u64,
    /// Since when the gateway stops.
    stopping_since: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            http2: false,
            any: false,
            running: 0,
            idle_since: Instant::now(),
            head_since: None,
            blocked_since: None,
            answers: Vec::new(),
            next: 0,
            stopping_since: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.running == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// The socket took something.
    pub(super) fn written(&self) {
        self.state().blocked_since = None;
    }

    /// The socket takes nothing now.
    pub(super) fn blocked(&self) {
        let mut state = self.state();
        if state.blocked_since.is_none() {
            state.blocked_since = Some(Instant::now());
        }
    }

    /// The head of a request is there.
    pub(super) fn begin(&self, http2: bool) -> Running {
        let mut state = self.state();
        state.http2 |= http2;
        state.any = true;
        state.running += 1;
        state.head_since = None;
        Running(self.clone())
    }

    pub(super) fn stop(&self) {
        let mut state = self.state();
        if state.stopping_since.is_none() {
            state.stopping_since = Some(Instant::now());
        }
    }

    /// When the connection is to be ended, unless something happens, and why. `None` while only the gateway is at work:
    /// handlers have deadlines of their own.
    pub(super) fn deadline(&self) -> Option<(Instant, Reason)> {
        let state = self.state();
        let waiting = state.answers.iter().filter_map(|(_, since)| *since).chain(state.blocked_since).min();
        let write = waiting.map(|since| (since + WRITE, Reason::Write));
        let idle = (state.running == 0).then(|| match (state.stopping_since, state.head_since) {
            (Some(stopping), _) => (stopping.max(state.idle_since) + FAREWELL, Reason::Stop),
            // bytes alone are no progress, and the first request has no more time than the others
            (None, _) if !state.any => (state.idle_since + HEAD, Reason::Head),
            // in HTTP/2 they may be anything
            (None, Some(since)) if !state.http2 => (since + HEAD, Reason::Head),
            (None, _) => (state.idle_since + IDLE, Reason::Idle),
        });
        write.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct Running(Progress);

impl Running {
    /// The answer begins to be sent.
    pub(super) fn answer(self) -> Sending {
        let mut state = self.0.state();
        let id = state.next;
        state.next += 1;
        state.answers.push((id, Some(Instant::now())));
        drop(state);
        Sending { running: self, id }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        if state.running == 0 {
            state.idle_since = Instant::now();
        }
    }
}

/// An answer that is being sent, until it is dropped.
#[derive(Debug)]
pub(super) struct Sending {
    running: Running,
    id: u64,
}

impl Sending {
    /// There was room for the piece before: from now on the next one waits for the peer, if there is one already.
    pub(super) fn advanced(&self, next: bool) {
        let mut state = self.running.0.state();
        if let Some((_, since)) = state.answers.iter_mut().find(|(id, _)| *id == self.id) {
            *since = next.then(Instant::now);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.running.0.state().answers.retain(|(id, _)| *id != self.id);
    }
}
