//! The writer thread. Whatever has queued up is committed together: one `fsync` for all, and no writer waits for the
//! lock of another (reliability §7: 300 commits a second alone, 14 000 rows a second in groups).

use std::{
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use super::{error, rows};
use crate::{ApiKey, Operation, OperationUpdate, RegistrationChange, StoreError};

/// How many jobs may wait.
const QUEUE: usize = 1024;
/// How many are committed together at the most.
const GROUP: usize = 256;

pub(super) enum Job {
    Begin(Box<Operation>),
    Finish(Box<(OperationUpdate, Option<RegistrationChange>)>),
    PutKey(Box<ApiKey>),
    DeleteKey(String),
    Ping,
}

type Answer = Result<bool, StoreError>;
/// A job and who waits for it.
type Queued = (Job, oneshot::Sender<Answer>);

#[derive(Debug)]
pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Queued>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || work(connection, receiver))
            .map_err(|e| StoreError::Unavailable(format!("no thread for the writer: {e}")))?;
        Ok(Self { jobs: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs a job; durable when it returns.
    pub(super) async fn run(&self, job: Job) -> Answer {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)?;
        let (sender, answer) = oneshot::channel();
        jobs.send((job, sender)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Lets the queue run empty and ends the thread, which checkpoints the log.
    pub(super) async fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's writer ended abnormally");
            }
        }
    }
}

fn work(mut connection: Connection, mut jobs: mpsc::Receiver<Queued>) {
    // after a failed commit nobody knows what is on the disk: no further write is tried (reliability F32)
    let mut broken: Option<String> = None;
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = jobs.blocking_recv() {
        group.push(first);
        while group.len() < GROUP {
            let Ok(next) = jobs.try_recv() else { break };
            group.push(next);
        }
        if let Some(reason) = &broken {
            for (_, answer) in group.drain(..) {
                // a caller that has gone away needs no answer
                let _ = answer.send(Err(StoreError::Unavailable(format!("an earlier write failed ({reason}); restart after mending the disk"))));
            }
            continue;
        }
        let (results, failure) = commit(&mut connection, &mut group);
        broken = failure;
        for (result, answer) in results {
            let _ = answer.send(result);
        }
    }
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;") {
        tracing::warn!(%error, "checkpoint at close");
    }
}

type Results = Vec<(Answer, oneshot::Sender<Answer>)>;

/// Commits a group. Each job has a savepoint, so that one that breaks a rule does not undo the others. The second
/// value says why the store must stop writing.
fn commit(connection: &mut Connection, group: &mut Vec<Queued>) -> (Results, Option<String>) {
    let all_failed = |group: &mut Vec<Queued>, text: &str| -> Results {
        group.drain(..).map(|(_, answer)| (Err(StoreError::Unavailable(text.to_owned())), answer)).collect()
    };
    // only one process writes registrations, but others may add keys: the lock is taken at once
    let mut transaction = match connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        // nothing was written: a lock or a full disk may pass
        Err(failure) => return (all_failed(group, &error(failure).to_string()), None),
    };
    let single = group.len() == 1;
    let mut results: Results = Vec::with_capacity(group.len());
    let mut pending = group.drain(..);
    for (job, answer) in pending.by_ref() {
        if single {
            results.push((apply(&transaction, &job), answer));
            continue;
        }
        let outcome = transaction.savepoint().map_err(error).and_then(|savepoint| {
            let outcome = apply(&savepoint, &job);
            // a savepoint that is not committed is rolled back when dropped
            if outcome.is_ok() { savepoint.commit().map_err(error).and(outcome) } else { outcome }
        });
        results.push((outcome, answer));
    }
    if single && results.iter().all(|(r, _)| r.is_err()) {
        // nothing to keep; dropping the transaction rolls it back
        drop(transaction);
        return (results, None);
    }
    match transaction.commit() {
        Ok(()) => (results, None),
        Err(failure) => {
            let text = error(failure).to_string();
            tracing::error!(reason = text, "a commit failed; the store refuses writes from now on");
            let results = results
                .into_iter()
                .map(|(_, answer)| (Err(StoreError::Unavailable(text.clone())), answer))
                .collect();
            (results, Some(text))
        }
    }
}

fn apply(connection: &Connection, job: &Job) -> Answer {
    match job {
        Job::Begin(operation) => rows::insert_operation(connection, operation).map(|()| true),
        Job::Finish(boxed) => {
            let (update, change) = boxed.as_ref();
            match change {
                None => {}
                Some(RegistrationChange::Insert(registration)) => rows::insert_registration(connection, registration)?,
                Some(RegistrationChange::Update { registration, expected_version }) => {
                    rows::update_registration(connection, registration, *expected_version)?;
                }
                Some(RegistrationChange::Remove { id }) => rows::remove_registration(connection, *id)?,
            }
            rows::update_operation(connection, update).map(|()| true)
        }
        Job::PutKey(key) => rows::insert_key(connection, key).map(|()| true),
        Job::DeleteKey(name) => {
            let changed = connection.prepare_cached("DELETE FROM api_keys WHERE name = ?1").and_then(|mut s| s.execute(params![name]));
            changed.map(|n| n > 0).map_err(error)
        }
        // holding the write lock is the proof; nothing is written
        Job::Ping => Ok(true),
    }
}
