//! Writing: one thread owns the one connection that writes. Whatever is waiting goes into one transaction, so that one
//! `fsync` serves all of it (group commit); nobody is answered before that `fsync` has returned. What is left of a full
//! disk belongs to results: see [`Ballast`].

use std::{
    io,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    ballast::Ballast,
    identity::Place,
    open, store_error,
    write::{Prepared, Verdict, Write, execute, transact},
};
use crate::{StoreError, error::Trouble};

/// How many writes one transaction takes at most.
const MAX_BATCH: usize = 256;
/// How long a batch waits for company, for each write of the batch before it: who wrote just now mostly writes again, and
/// one commit for all of them dirties fewer pages and needs fewer fsyncs than two.
const GATHER: Duration = Duration::from_micros(50);
/// The longest such wait.
const MAX_GATHER: Duration = Duration::from_micros(1500);
/// How many writes may wait; more than that wait to be queued.
const QUEUE: usize = 1024;

#[derive(Debug)]
enum Job {
    Write(Box<Write>, oneshot::Sender<Verdict>),
    Close(oneshot::Sender<()>),
}

/// Writes of one transaction, as they come out of the queue.
type Batch = Vec<Box<Write>>;

/// What a batch came to.
struct Done {
    /// Who waits for what.
    verdicts: Vec<(oneshot::Sender<Verdict>, Verdict)>,
    /// The writes, to be freed where they were made: to free memory of another thread costs both more.
    #[expect(dead_code, reason = "dropped, never read")]
    writes: Batch,
}

/// Hands the verdicts of each batch to those who wait. To wake a task from another thread is a system call; this way it
/// is one for a batch instead of one for a write.
async fn hand_out(mut batches: mpsc::UnboundedReceiver<Done>) {
    while let Some(batch) = batches.recv().await {
        answer(batch);
    }
}

fn answer(batch: Done) {
    for (answer, verdict) in batch.verdicts {
        // nobody may be waiting any more; the write stands
        let _ = answer.send(verdict);
    }
}

/// The handle of the writer's thread, which ends when this is dropped or closed, after what was queued is written.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, ballast: Ballast, place: Place) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (verdicts, batches) = mpsc::unbounded_channel();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(hand_out(batches));
        }
        let write = move || {
            let mut scribe = Scribe::new(&connection, ballast, place, verdicts);
            let closing = scribe.run(jobs);
            let stopped = scribe.stopped.is_some();
            drop(scribe);
            open::leave(connection, stopped);
            for answer in closing {
                let _ = answer.send(());
            }
        };
        std::thread::Builder::new().name("registrar-store".to_owned()).spawn(write)?;
        Ok(Self { queue })
    }

    /// Has a write carried out; returns once it is durable.
    pub(super) async fn submit(&self, write: Write) -> Verdict {
        let (answer, verdict) = oneshot::channel();
        self.queue.send(Job::Write(Box::new(write), answer)).await.map_err(|_| StoreError::Closed)?;
        verdict.await.unwrap_or(Err(StoreError::Unavailable(Trouble::Stopped)))
    }

    /// Waits until everything that was queued is written and the file is closed.
    pub(super) async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.queue.send(Job::Close(answer)).await.is_ok() {
            // an error only means that the thread has ended already
            let _ = closed.await;
        }
    }
}

/// The writer's side of the queue.
struct Scribe<'c> {
    connection: &'c Connection,
    /// Made for the first write, which can be told when it fails.
    prepared: Option<Prepared<'c>>,
    ballast: Ballast,
    verdicts: mpsc::UnboundedSender<Done>,
    /// The disk failed in a way after which a later `fsync` may lie: nothing is written any more.
    stopped: Option<Trouble>,
    /// What the names of the database led to when it was opened.
    place: Place,
}

impl<'c> Scribe<'c> {
    fn new(connection: &'c Connection, ballast: Ballast, place: Place, verdicts: mpsc::UnboundedSender<Done>) -> Self {
        Self { connection, prepared: None, ballast, verdicts, stopped: None, place }
    }

    /// Writes until the queue is closed; returns who waits for the end.
    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) -> Vec<oneshot::Sender<()>> {
        let mut taken = Vec::with_capacity(MAX_BATCH);
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let mut answers = Vec::with_capacity(MAX_BATCH);
        let mut closing = Vec::new();
        let mut last = 0;
        while jobs.blocking_recv_many(&mut taken, MAX_BATCH) > 0 {
            // a single writer is never made to wait
            if last > 1 && taken.len() < MAX_BATCH {
                std::thread::sleep(GATHER.saturating_mul(last).min(MAX_GATHER));
                while taken.len() < MAX_BATCH
                    && let Ok(job) = jobs.try_recv()
                {
                    taken.push(job);
                }
            }
            last = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            for job in taken.drain(..) {
                match job {
                    Job::Write(write, answer) => {
                        batch.push(write);
                        answers.push(answer);
                    }
                    Job::Close(answer) => {
                        // takes no more; what is queued is still carried out
                        jobs.close();
                        closing.push(answer);
                    }
                }
            }
            let verdicts = answers.drain(..).zip(self.record(&mut batch)).collect();
            let writes = std::mem::replace(&mut batch, Vec::with_capacity(MAX_BATCH));
            if let Err(mpsc::error::SendError(done)) = self.verdicts.send(Done { verdicts, writes }) {
                // there is no runtime, or it has ended
                answer(done);
            }
        }
        closing
    }

    /// Carries out a batch in one transaction: a write that is refused does not affect the others, a failure of the
    /// store fails them all. Only a full disk does not, if there is a ballast or was: then what is new is taken out of the
    /// batch and refused.
    fn record(&mut self, batch: &mut Batch) -> Vec<Verdict> {
        const FULL: StoreError = StoreError::Unavailable(Trouble::Full);

        if batch.is_empty() {
            return Vec::new();
        }
        // whoever asks whether writes are taken asks once a second
        if self.stopped.is_none() && batch.iter().any(|write| matches!(**write, Write::Ping)) && self.place.is_lost() {
            tracing::error!("the database file is not where it was opened: writes are refused from now on");
            self.stopped = Some(Trouble::Moved);
        }
        if let Some(trouble) = self.stopped {
            return vec![Err(StoreError::Unavailable(trouble)); batch.len()];
        }
        if !batch.iter().all(|write| belongs_to_a_result(write)) {
            self.ballast.restore(Instant::now());
        }
        let everything = self.ballast.admits();
        if everything {
            match self.attempt(batch) {
                Err(FULL) if self.ballast.can_be_given_up() => {}
                Err(failure) => return vec![Err(failure); batch.len()],
                Ok(verdicts) => return verdicts,
            }
        }
        let fit: Vec<bool> = batch.iter().map(|write| belongs_to_a_result(write)).collect();
        batch.retain(|write| belongs_to_a_result(write));
        // without what is new they may have space; the same again would not
        let the_same = everything && batch.len() == fit.len();
        let mut done = if the_same { Err(FULL) } else { self.attempt(batch) };
        if done == Err(FULL) && self.ballast.give_up(Instant::now()) {
            done = self.attempt(batch);
        }
        let mut verdicts = done.unwrap_or_else(|failure| vec![Err(failure); batch.len()]).into_iter();
        fit.into_iter().map(|fit| fit.then(|| verdicts.next()).flatten().unwrap_or(Err(FULL))).collect()
    }

    fn attempt(&mut self, batch: &Batch) -> Result<Vec<Verdict>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.transact(batch).map_err(|error| self.abandon(error))
    }

    fn transact(&mut self, batch: &Batch) -> rusqlite::Result<Vec<Verdict>> {
        let prepared = match &mut self.prepared {
            Some(prepared) => prepared,
            none => none.insert(Prepared::new(self.connection)?),
        };
        transact(prepared, batch)
    }

    /// Ends the transaction that failed, and decides whether there may be another.
    fn abandon(&mut self, error: rusqlite::Error) -> StoreError {
        // SQLite has rolled back some failures by itself
        let ended = self.connection.is_autocommit() || execute(self.connection, "ROLLBACK").is_ok();
        let (kind, code) = (error.sqlite_error_code(), error.sqlite_extended_error_code());
        let failure = store_error(error);
        let damaged =
            matches!(kind, Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
                && failure != StoreError::Unavailable(Trouble::Full);
        let stopped = damaged || !ended;
        self.stopped = stopped.then_some(Trouble::Stopped);
        tracing::error!(code, stopped, "writes were not recorded");
        failure
    }
}

/// Whether a write is for what was begun already, or frees space. Only for that is the ballast given up; everything else
/// has time until there is space.
fn belongs_to_a_result(write: &Write) -> bool {
    match write {
        Write::Finish(..)
        | Write::Amend(..)
        | Write::Claim(_)
        | Write::DestroySealed(_)
        | Write::Purge { .. }
        // few bytes, once: the key that a result's secret is sealed under
        | Write::Once(..)
        | Write::DeleteApiKey(_)
        // of a client that would expire otherwise; takes no space
        | Write::Used(..)
        | Write::DeleteInitialAccessToken(_) => true,
        Write::Begin(..)
        | Write::PutApiKey(_)
        | Write::PutInitialAccessToken(_)
        // tells whether new writes are taken
        | Write::Ping => false,
    }
}

#[cfg(test)]
mod tests {
    use registrar_core::Outcome;
    use registrar_model::OperationId;

    use super::*;
    use crate::{
        Action, Lease, Operation, OperationState, OperationUpdate,
        row::{OperationRow, UpdateRow},
        sqlite::write::Reply,
    };

    fn begin() -> (OperationId, Box<Write>) {
        let operation = intent(OperationId::generate());
        (operation.id, Box::new(Write::Begin(OperationRow::new(operation.into()).unwrap(), None, None)))
    }

    fn intent(id: OperationId) -> Operation {
        Operation {
            id,
            action: Action::Create,
            backend: "a".to_owned(),
            registration: None,
            state: OperationState::Pending,
            outcome: Outcome::Unknown,
            summary: "".into(),
            created_at: 0,
            updated_at: 0,
            attempts: 1,
            evidence: serde_json::json!({}),
            request_id: "".into(),
            principal: "".into(),
            desired: None,
            lease: Lease { fence: 1, ..Lease::default() },
        }
    }

    fn scribe(folder: &tempfile::TempDir) -> Scribe<'static> {
        let path = folder.path().join("registrar.db");
        // open until the tests end
        let connection = Box::leak(Box::new(open::writer(&path, Duration::ZERO).unwrap()));
        Scribe::new(connection, Ballast::none(), Place::of(&path, &path), mpsc::unbounded_channel().0)
    }

    fn operations(scribe: &Scribe<'_>) -> i64 {
        scribe.connection.query_row("SELECT count(*) FROM operations", [], |row| row.get(0)).unwrap()
    }

    fn log_frames(scribe: &Scribe<'_>) -> i64 {
        scribe.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap()
    }

    /// What waits shares one commit: the log grows by far less than one commit each would make it.
    #[test]
    fn what_is_queued_shares_one_transaction() {
        let grouped = {
            let folder = tempfile::tempdir().unwrap();
            let (queue, jobs) = mpsc::channel(QUEUE);
            let mut verdicts = Vec::new();
            for _ in 0..64 {
                let (answer, verdict) = oneshot::channel();
                queue.try_send(Job::Write(begin().1, answer)).unwrap();
                verdicts.push(verdict);
            }
            drop(queue);
            let mut scribe = scribe(&folder);
            scribe.connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            let log = || std::fs::metadata(folder.path().join("registrar.db-wal")).unwrap().len();
            let before = log();
            assert!(scribe.run(jobs).is_empty(), "nobody waits for the end");
            assert!(verdicts.into_iter().all(|mut v| v.try_recv() == Ok(Ok(Reply::Done))));
            log() - before
        };
        let alone = {
            let folder = tempfile::tempdir().unwrap();
            let mut scribe = scribe(&folder);
            let before = log_frames(&scribe);
            for _ in 0..64 {
                assert_eq!(scribe.record(&mut vec![begin().1]), [Ok(Reply::Done)]);
            }
            let page = 4096 + 24;
            u64::try_from(log_frames(&scribe) - before).unwrap() * page
        };
        assert!(grouped * 4 < alone, "{grouped} bytes of log grouped, {alone} alone");
    }

    fn finish(id: OperationId) -> Box<Write> {
        let (state, outcome) = (OperationState::Failed, Outcome::NotPerformed);
        let update = OperationUpdate::of(&intent(id), state, outcome, "refused".to_owned(), 1);
        Box::new(Write::Finish(UpdateRow::new(update.into()), None))
    }

    /// How many pages the database may have; no fewer than it has.
    fn limit(scribe: &Scribe<'_>, pages: i64) {
        let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        scribe.connection.pragma_update_and_check(None, "max_page_count", pages, set).unwrap();
    }

    #[test]
    fn one_refusal_does_not_touch_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(&folder);
        let (id, first) = begin();
        let mut batch = vec![
            first,
            Box::new(Write::Begin(OperationRow::new(intent(id).into()).unwrap(), None, None)),
            finish(OperationId::generate()),
            Box::new(Write::Ping),
            finish(id),
            begin().1,
        ];
        let expected = [
            Ok(Reply::Done),
            Err(StoreError::AlreadyExists),
            Err(StoreError::NotFound("operation")),
            Ok(Reply::Done),
            Ok(Reply::Done),
            Ok(Reply::Done),
        ];
        assert_eq!(scribe.record(&mut batch), expected);
        assert_eq!(operations(&scribe), 2);
    }

    #[test]
    fn a_full_disk_fails_the_batch_and_can_be_cured() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(&folder);
        // no smaller than the database is: nothing more fits
        limit(&scribe, 1);
        let mut batch: Vec<_> = (0..200).map(|_| begin().1).collect();
        let verdicts = scribe.record(&mut batch);
        assert_eq!(verdicts, vec![Err(StoreError::Unavailable(Trouble::Full)); 200]);
        assert_eq!(operations(&scribe), 0, "all or nothing");
        limit(&scribe, 1_000_000);
        assert_eq!(scribe.record(&mut batch), vec![Ok(Reply::Done); 200]);
    }

    fn with_ballast(folder: &tempfile::TempDir) -> (Scribe<'static>, std::path::PathBuf) {
        let mut scribe = scribe(folder);
        scribe.ballast = Ballast::beside(&folder.path().join("registrar.db"), 1 << 20);
        scribe.ballast.restore(Instant::now());
        (scribe, folder.path().join("registrar.db-ballast"))
    }

    const FULL: Verdict = Err(StoreError::Unavailable(Trouble::Full));

    #[test]
    fn what_is_new_cannot_keep_results_from_what_is_left_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (mut scribe, ballast) = with_ballast(&folder);
        let known = begin();
        assert_eq!(scribe.record(&mut vec![known.1]), [Ok(Reply::Done)]);
        limit(&scribe, 1);
        let mut batch: Vec<_> = (0..200).map(|_| begin().1).collect();
        assert_eq!(scribe.record(&mut batch), vec![FULL; 200]);
        let mut batch: Vec<_> = (0..200).map(|_| begin().1).collect();
        batch.extend([finish(known.0), Box::new(Write::Ping), finish(OperationId::generate())]);
        let verdicts = scribe.record(&mut batch);
        assert_eq!(verdicts[..200], vec![FULL; 200]);
        assert_eq!(verdicts[200..], [Ok(Reply::Done), FULL, Err(StoreError::NotFound("operation"))]);
        assert!(scribe.connection.is_autocommit(), "no transaction stays open");
        assert_eq!((operations(&scribe), ballast.exists()), (1, true), "they needed no ballast");
    }

    #[test]
    fn while_the_ballast_is_given_up_only_results_reach_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (mut scribe, ballast) = with_ballast(&folder);
        let known = begin();
        assert_eq!(scribe.record(&mut vec![known.1]), [Ok(Reply::Done)]);
        assert!(scribe.ballast.give_up(Instant::now()));
        // one that cannot come back, however long this takes
        scribe.ballast.resize(1 << 60);
        let other = Connection::open(folder.path().join("registrar.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let locked = Err(StoreError::Unavailable(Trouble::Locked));
        assert_eq!(scribe.record(&mut vec![begin().1, Box::new(Write::Ping)]), [FULL, FULL], "nobody is asked");
        assert_eq!(scribe.record(&mut vec![begin().1, finish(known.0)]), [FULL, locked]);
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(scribe.record(&mut vec![begin().1, finish(known.0)]), [FULL, Ok(Reply::Done)]);
        assert_eq!((operations(&scribe), ballast.exists()), (1, false));
        scribe.ballast.resize(1 << 20);
        scribe.ballast.restore(Instant::now() + Duration::from_secs(1));
        assert_eq!(scribe.record(&mut vec![begin().1, Box::new(Write::Ping)]), [Ok(Reply::Done), Ok(Reply::Done)]);
        assert_eq!((operations(&scribe), ballast.exists()), (2, true));
    }

    /// Only a limit that the ballast has no part in: it is given up for a result in vain, and that is not hidden.
    #[test]
    fn a_result_that_still_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut scribe, ballast) = with_ballast(&folder);
        let known = begin();
        assert_eq!(scribe.record(&mut vec![known.1]), [Ok(Reply::Done)]);
        limit(&scribe, 1);
        let mut big = finish(known.0);
        if let Write::Finish(update, _) = big.as_mut() {
            std::sync::Arc::make_mut(&mut update.rest).summary = "x".repeat(1 << 20).into();
        }
        assert_eq!(scribe.record(&mut vec![begin().1, big]), [FULL, FULL]);
        assert_eq!((scribe.stopped, ballast.exists()), (None, false));
        assert_eq!(scribe.record(&mut vec![finish(known.0)]), [Ok(Reply::Done)]);
    }

    /// What SQLite says when the index of its log cannot grow. Nothing that must be durable is in there.
    #[test]
    fn a_disk_that_is_too_full_for_the_index_of_the_log_does_not_stop_the_writer() {
        use rusqlite::ffi::{Error, SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHMSIZE};

        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(&folder);
        for (code, stopped) in [(SQLITE_IOERR_SHMSIZE, false), (SQLITE_IOERR_FSYNC, true)] {
            let failure = scribe.abandon(rusqlite::Error::SqliteFailure(Error::new(code), None));
            assert_eq!(
                (failure == StoreError::Unavailable(Trouble::Full), scribe.stopped.is_some()),
                (!stopped, stopped)
            );
        }
    }

    #[test]
    fn a_lock_of_another_process_is_reported_and_passes() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(&folder);
        let other = Connection::open(folder.path().join("registrar.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(scribe.record(&mut vec![begin().1]), [Err(StoreError::Unavailable(Trouble::Locked))]);
        assert_eq!(scribe.record(&mut vec![Box::new(Write::Ping)]), [Err(StoreError::Unavailable(Trouble::Locked))]);
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(scribe.record(&mut vec![begin().1, Box::new(Write::Ping)]), [Ok(Reply::Done), Ok(Reply::Done)]);
    }
}
