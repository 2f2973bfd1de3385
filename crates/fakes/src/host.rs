//! The host, and what its connections share.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use registrar_core::{Fake, FakeRequest, FakeResponse};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    control,
    fault::{Fault, ScriptedFault, When},
    ledger::LedgerEntry,
    serve,
    spoil::{Answer, Delivery, Spoiled, spoil},
};

/// Running simulated vendors. Dropping it stops them soon; [`FakeHost::stop`] waits for that.
pub struct FakeHost {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeHost").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl FakeHost {
    /// Serves every fake at `http://ADDR/<kind>/`, on a loopback address only.
    ///
    /// # Errors
    /// When the address is not a loopback one or cannot be bound, or when two fakes would answer at the same path.
    pub async fn start(listen: SocketAddr, fakes: Vec<Arc<dyn Fake>>) -> io::Result<Self> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        if !listen.ip().is_loopback() {
            return Err(invalid("simulated vendors listen on loopback addresses only".to_owned()));
        }
        let mut by_kind = BTreeMap::new();
        for fake in fakes {
            let kind = fake.kind();
            if kind == control::SEGMENT || by_kind.insert(kind, fake).is_some() {
                return Err(invalid(format!("`{kind}` is taken")));
            }
        }
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { fakes: by_kind, state: Mutex::default(), keep_ledger: AtomicBool::new(true) });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(serve::accept(listener, Arc::clone(&shared), stop.clone(), tasks.clone()));
        Ok(Self { addr, shared, stop, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of a vendor kind.
    #[must_use]
    pub fn base_url(&self, kind: &str) -> String {
        format!("http://{}/{kind}", self.addr)
    }

    /// The kinds that are served.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.shared.fakes.keys().copied()
    }

    /// A vendor.
    #[must_use]
    pub fn fake(&self, kind: &str) -> Option<&Arc<dyn Fake>> {
        self.shared.fakes.get(kind)
    }

    /// What reached the vendors; of one kind when it is named.
    #[must_use]
    pub fn ledger(&self, kind: Option<&str>) -> Vec<LedgerEntry> {
        self.shared.ledger(kind)
    }

    /// Keeps no ledger from now on: for benchmarks.
    pub fn without_ledger(&self) {
        self.shared.keep_ledger.store(false, Ordering::Relaxed);
    }

    /// Plays a fault.
    pub fn script(&self, fault: ScriptedFault) {
        self.shared.script(fault);
    }

    /// The faults that wait, in the order in which they are asked, with what is left of their counts.
    #[must_use]
    pub fn faults(&self) -> Vec<ScriptedFault> {
        self.shared.faults()
    }

    /// Forgets the faults that wait.
    pub fn clear_faults(&self) {
        self.shared.clear_faults();
    }

    /// Forgets clients, ledger and faults.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Ends every connection, whatever it is doing, and frees the address.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the connections share.
pub(crate) struct Shared {
    pub(crate) fakes: BTreeMap<&'static str, Arc<dyn Fake>>,
    state: Mutex<State>,
    keep_ledger: AtomicBool,
}

#[derive(Default)]
struct State {
    ledger: Vec<LedgerEntry>,
    faults: Vec<ScriptedFault>,
    last_success: HashMap<&'static str, FakeResponse>,
}

impl State {
    /// The fault that this request meets; used up faults are forgotten.
    fn due(&mut self, kind: &str, request: &FakeRequest) -> Option<ScriptedFault> {
        let index = self.faults.iter_mut().position(|f| {
            if !f.matches(kind, request) {
                return false;
            }
            let let_through = f.skip > 0;
            f.skip = f.skip.saturating_sub(1);
            !let_through
        })?;
        let fault = self.faults.get_mut(index)?;
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 { Some(self.faults.remove(index)) } else { Some(fault.clone()) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self, kind: Option<&str>) -> Vec<LedgerEntry> {
        self.state().ledger.iter().filter(|e| kind.is_none_or(|k| e.kind == k)).cloned().collect()
    }

    pub(crate) fn script(&self, fault: ScriptedFault) {
        if fault.times > 0 {
            self.state().faults.push(fault);
        }
    }

    pub(crate) fn faults(&self) -> Vec<ScriptedFault> {
        self.state().faults.clone()
    }

    pub(crate) fn clear_faults(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn reset(&self) {
        // under the lock, so that no request falls between a vendor that has forgotten and a ledger that has not
        let mut state = self.state();
        self.fakes.values().for_each(|f| f.reset());
        *state = State::default();
    }

    /// Answers a request. Everything that changes state happens here, without waiting for anything, so that a caller
    /// who goes away cannot undo half of it; and under one lock, so that the ledger's order is the vendors' own.
    /// (Fakes work under a lock of their own anyway: this one costs no parallelism.)
    pub(crate) fn handle(&self, fake: &Arc<dyn Fake>, request: &FakeRequest, raw_path: String) -> Delivery {
        let kind = fake.kind();
        let keep_ledger = self.keep_ledger.load(Ordering::Relaxed);
        let request_body = if keep_ledger { request.json() } else { None };
        let mut state = self.state();
        let scripted = state.due(kind, request);
        let later = matches!(scripted.as_ref().map(|f| &f.fault), Some(Fault::CommitLater { .. }));
        let committed = !later && scripted.as_ref().is_none_or(|f| f.when == When::After);
        let response = committed.then(|| fake.handle(request));
        let status = response.as_ref().map(|r| r.status);
        let success = response.as_ref().filter(|r| (200..300).contains(&r.status) && !r.body.is_empty()).cloned();
        let last_success = match success {
            Some(success) => state.last_success.insert(kind, success),
            None if scripted.is_some() => state.last_success.get(kind).cloned(),
            None => None,
        };
        let response = response.unwrap_or_else(|| FakeResponse::json(200, &json!({})));
        let fault = scripted.as_ref().map(|f| f.fault.name());
        let spoiled = match scripted {
            Some(scripted) => {
                spoil(&scripted.fault, Answer { response, last_success, to_head: request.method == "HEAD" })
            }
            None => Spoiled { delivery: Delivery::Whole(response), missed: false },
        };
        if keep_ledger {
            let seq = state.ledger.len() as u64 + 1;
            state.ledger.push(LedgerEntry {
                seq,
                at: unix_ms(),
                kind: kind.to_owned(),
                method: request.method.clone(),
                path: raw_path,
                request_body,
                committed,
                status,
                fault,
                missed: spoiled.missed,
            });
        }
        spoiled.delivery
    }
}

impl Shared {
    /// Does the work of a request that was put off; faults do not concern it any more.
    pub(crate) fn commit(&self, fake: &Arc<dyn Fake>, request: &FakeRequest, raw_path: String) {
        let mut state = self.state();
        let response = fake.handle(request);
        let seq = state.ledger.len() as u64 + 1;
        state.ledger.push(LedgerEntry {
            seq,
            at: unix_ms(),
            kind: fake.kind().to_owned(),
            method: request.method.clone(),
            path: raw_path,
            request_body: request.json(),
            committed: true,
            status: Some(response.status),
            fault: None,
            missed: false,
        });
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;
    use tokio::{io::AsyncWriteExt as _, net::TcpStream};

    use super::*;

    struct Silent;

    impl Fake for Silent {
        fn kind(&self) -> &'static str {
            "silent"
        }
        fn handle(&self, _: &FakeRequest) -> FakeResponse {
            FakeResponse::empty(204)
        }
        fn settings(&self, _: &str) -> Value {
            Value::Null
        }
        fn clients(&self) -> Vec<Value> {
            Vec::new()
        }
        fn reset(&self) {}
    }

    /// From inside, because only the host knows whether a connection that nobody reads has ended.
    #[tokio::test]
    async fn a_hang_ends_when_the_caller_leaves() {
        let host = FakeHost::start(SocketAddr::from(([127, 0, 0, 1], 0)), vec![Arc::new(Silent)]).await.unwrap();
        host.script(serde_json::from_value(json!({ "fault": { "type": "hang" } })).unwrap());
        let mut caller = TcpStream::connect(host.addr()).await.unwrap();
        caller.write_all(b"GET /silent/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let until = async |tasks: usize, entries: usize| {
            let reached = async {
                while host.tasks.len() != tasks || host.ledger(None).len() != entries {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap();
        };
        until(2, 1).await;
        drop(caller);
        until(1, 1).await;
    }
}
