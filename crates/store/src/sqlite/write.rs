//! What each write does, as statements of one transaction.

use registrar_model::Registration;
use rusqlite::{Connection, ErrorCode, PrepFlags, Statement, ffi, params};

use super::{read, row, store_error};
use crate::{
    InitialAccessToken, KeyClaim, KeyUse, Lease, Operation, OperationState, Spending, StoreError, Usage,
    row::{ApiKeyRow, ChangeRow, OperationRow, RegistrationRow, UpdateRow, notes_text, read_version, stored_version},
};

/// What one write comes to.
pub(super) type Verdict = Result<Reply, StoreError>;

/// What a write answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Done,
    /// There was nothing to remove.
    Nothing,
    /// The idempotency key was used before.
    Used(KeyUse),
    /// The initial access token has no use left.
    Spent,
    Claimed(Vec<Operation>),
    Value(Vec<u8>),
    Usage(Usage),
}

/// The parameters of [`crate::Store::claim`].
#[derive(Debug)]
pub(super) struct Claim {
    pub owner: String,
    pub now: i64,
    pub until: i64,
    pub limit: u32,
}

/// A write.
#[derive(Debug)]
pub(super) enum Write {
    Begin(OperationRow, Option<KeyClaim>, Option<Box<Spending>>),
    Finish(UpdateRow, Option<ChangeRow>),
    Amend(UpdateRow, Option<ChangeRow>),
    Claim(Claim),
    DestroySealed(String),
    Purge {
        now: i64,
        keys_before: i64,
    },
    Once(&'static str, Vec<u8>),
    PutApiKey(ApiKeyRow),
    DeleteApiKey(String),
    PutInitialAccessToken(InitialAccessToken),
    DeleteInitialAccessToken(String),
    /// A client, and when.
    Used(String, i64),
    /// Takes and gives back the write lock.
    Ping,
}

/// A connection that writes, with the statements of every creation: to look them up by their text costs more CPU time
/// than to bind them.
pub(super) struct Prepared<'c> {
    pub connection: &'c Connection,
    begin: Statement<'c>,
    finish: Statement<'c>,
    insert: Statement<'c>,
}

impl<'c> Prepared<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT);
        Ok(Self { connection, begin: prepare(BEGIN)?, finish: prepare(FINISH)?, insert: prepare(INSERT)? })
    }
}

/// Carries out a batch in one transaction: a write that is refused leaves nothing behind and does not affect the others.
pub(super) fn transact(prepared: &mut Prepared<'_>, batch: &[Box<Write>]) -> rusqlite::Result<Vec<Verdict>> {
    execute(prepared.connection, "BEGIN IMMEDIATE")?;
    let verdicts = batch.iter().map(|write| one_write(prepared, write)).collect::<rusqlite::Result<Vec<_>>>()?;
    execute(prepared.connection, "COMMIT")?;
    Ok(verdicts)
}

/// One write, which leaves nothing behind when it is refused. The outer error fails the whole transaction.
fn one_write(prepared: &mut Prepared<'_>, write: &Write) -> rusqlite::Result<Verdict> {
    let connection = prepared.connection;
    match write {
        Write::Begin(operation, key, spend) => begin(prepared, operation, key.as_ref(), spend.as_deref()),
        Write::Finish(update, change) => finish(prepared, update, change.as_ref(), OPEN),
        Write::Amend(update, change) => finish(prepared, update, change.as_ref(), SUCCEEDED),
        Write::Claim(claim) => take_over(connection, claim),
        Write::DestroySealed(id) => {
            let sql = "UPDATE operations SET sealed = NULL, sealed_until = NULL WHERE id = ?1 AND sealed IS NOT NULL";
            count(connection.prepare_cached(sql)?.execute([id])?)
        }
        Write::Purge { now, keys_before } => purge(connection, *now, *keys_before),
        Write::Once(name, proposed) => once(connection, name, proposed),
        Write::PutApiKey(key) => put_api_key(connection, key),
        Write::DeleteApiKey(name) => {
            count(connection.prepare_cached("DELETE FROM api_keys WHERE name = ?1")?.execute([name])?)
        }
        Write::PutInitialAccessToken(token) => put_initial_access_token(connection, token),
        Write::DeleteInitialAccessToken(id) => {
            count(connection.prepare_cached("DELETE FROM initial_access_tokens WHERE id = ?1")?.execute([id])?)
        }
        Write::Used(id, now) => used(connection, id, *now),
        Write::Ping => Ok(Ok(Reply::Done)),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every write")]
fn count(changed: usize) -> rusqlite::Result<Verdict> {
    Ok(Ok(if changed == 0 { Reply::Nothing } else { Reply::Done }))
}

const BEGIN: &str = "INSERT INTO operations (id, action, backend, registration, state, outcome, summary, created_at, \
                     updated_at, attempts, evidence, request_id, principal, desired, owner, lease_until, fence) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

fn begin(
    prepared: &mut Prepared<'_>,
    row: &OperationRow,
    key: Option<&KeyClaim>,
    spend: Option<&Spending>,
) -> rusqlite::Result<Verdict> {
    let connection = prepared.connection;
    if let Some(claim) = key {
        match read::key_use(connection, &claim.key, claim.since) {
            Ok(None) => {}
            Ok(Some(used)) => return Ok(Ok(Reply::Used(used))),
            Err(error) => return Ok(Err(error)),
        }
    }
    if let Some(Spending { token, now }) = spend {
        let sql = "UPDATE initial_access_tokens SET uses_left = uses_left - 1 WHERE id = ?1 \
                   AND (expires_at IS NULL OR expires_at > ?2) AND (uses_left IS NULL OR uses_left > 0)";
        if connection.prepare_cached(sql)?.execute(params![token, now])? == 0 {
            return Ok(Ok(Reply::Spent));
        }
    }
    let operation = &row.rest;
    let inserted = prepared.begin.execute(params![
        row.id,
        operation.action.as_str(),
        operation.backend,
        row.registration,
        operation.state.as_str(),
        operation.outcome.as_str(),
        operation.summary,
        operation.created_at,
        operation.updated_at,
        operation.attempts,
        row.evidence,
        operation.request_id,
        operation.principal,
        operation.desired,
        operation.lease.owner,
        operation.lease.until,
        stored_version(operation.lease.fence),
    ]);
    if let Err(refused) = unless_taken(inserted)? {
        // the transaction is others' too and goes on
        spend.map_or(Ok(()), |spend| refund(connection, &spend.token))?;
        return Ok(Err(refused));
    }
    let Some(claim) = key else { return Ok(Ok(Reply::Done)) };
    let sql =
        "INSERT OR REPLACE INTO idempotency_keys (key, fingerprint, operation, created_at) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![claim.key, claim.fingerprint, row.id, operation.created_at])?;
    Ok(Ok(Reply::Done))
}

/// Gives a use back to an initial access token.
fn refund(connection: &Connection, token: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE initial_access_tokens SET uses_left = uses_left + 1 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([token]).map(|_| ())
}

/// The states of an operation that can be finished.
const OPEN: [OperationState; 2] = [OperationState::Pending, OperationState::Unknown];
/// The state of one that can be amended, for both places that [`FINISH`] has.
const SUCCEEDED: [OperationState; 2] = [OperationState::Succeeded, OperationState::Succeeded];

const FINISH: &str = "UPDATE operations SET state = ?2, outcome = ?3, summary = ?4, updated_at = ?5, attempts = ?6, \
                      evidence = ?7, lease_until = ?8, sealed = ?9, sealed_until = ?10, \
                      desired = CASE WHEN ?2 IN ('succeeded', 'failed') THEN NULL ELSE desired END, \
                      owner = CASE WHEN ?2 IN ('succeeded', 'failed') THEN '' ELSE owner END \
                      WHERE id = ?1 AND fence = ?11 AND state IN (?12, ?13)";

/// Records what became of an operation whose state is one of `fit`.
/// A refusal leaves nothing behind: what could refuse comes first, or is taken back. The usual case, a new registration
/// or none, does without a look at the operation before it is changed.
fn finish(
    prepared: &mut Prepared<'_>,
    row: &UpdateRow,
    change: Option<&ChangeRow>,
    fit: [OperationState; 2],
) -> rusqlite::Result<Verdict> {
    let connection = prepared.connection;
    if let Some(ChangeRow::Update(..) | ChangeRow::Remove(_)) = change
        && let Err(refused) = may_finish(connection, row, fit)?
    {
        return Ok(Err(refused));
    }
    if let Some(change) = change
        && let Err(refused) = change_registry(prepared, change)?
    {
        // why the operation cannot be finished says more
        return Ok(Err(may_finish(connection, row, fit)?.err().unwrap_or(refused)));
    }
    let update = &row.rest;
    let finished = prepared.finish.execute(params![
        row.id,
        update.state.as_str(),
        update.outcome.as_str(),
        update.summary,
        update.updated_at,
        update.attempts,
        update.evidence.as_str(),
        update.retry_at,
        update.sealed.as_ref().map(|s| &s.bytes),
        update.sealed.as_ref().map(|s| s.until),
        stored_version(update.fence),
        fit[0].as_str(),
        fit[1].as_str(),
    ])?;
    if finished == 0 {
        if let Some(ChangeRow::Insert(new)) = change {
            // its labels go with it (ON DELETE CASCADE)
            connection.prepare_cached("DELETE FROM registrations WHERE id = ?1")?.execute([&new.id])?;
        }
        return Ok(Err(may_finish(connection, row, fit)?.err().unwrap_or(StoreError::AlreadyFinished)));
    }
    if update.release_key {
        connection.prepare_cached("DELETE FROM idempotency_keys WHERE operation = ?1")?.execute([&row.id])?;
    }
    update.refund.as_ref().map_or(Ok(()), |token| refund(connection, token))?;
    Ok(Ok(Reply::Done))
}

/// Whether the operation is in a state that is fit, and under the lease of this result.
fn may_finish(
    connection: &Connection,
    row: &UpdateRow,
    fit: [OperationState; 2],
) -> rusqlite::Result<Result<(), StoreError>> {
    let found = connection
        .prepare_cached("SELECT state, fence FROM operations WHERE id = ?1")?
        .query_row([&row.id], |found| Ok((found.get::<_, String>(0)?, found.get(1).map(read_version)?)));
    let (state, fence) = match found {
        Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(Err(StoreError::NotFound("operation"))),
        found => found?,
    };
    let is = |states: [OperationState; 2]| states.iter().any(|one| one.as_str() == state);
    Ok(if is(fit) && fence == row.rest.fence {
        Ok(())
    } else if is(fit) || is(OPEN) {
        Err(StoreError::Superseded)
    } else {
        Err(StoreError::AlreadyFinished)
    })
}

fn take_over(connection: &Connection, claim: &Claim) -> rusqlite::Result<Verdict> {
    let sql = format!(
        "SELECT {} FROM operations WHERE state IN ('pending', 'unknown') AND state <> 'succeeded' \
         AND lease_until <= ?1 ORDER BY lease_until, id LIMIT ?2",
        row::OPERATION
    );
    let due = match read::all(connection, &sql, &[&claim.now, &claim.limit], row::operation) {
        Ok(due) => due,
        Err(error) => return Ok(Err(error)),
    };
    let mut claimed = Vec::with_capacity(due.len());
    for mut operation in due {
        operation.state = OperationState::Unknown;
        operation.lease = Lease {
            owner: claim.owner.as_str().into(),
            until: claim.until,
            fence: operation.lease.fence.saturating_add(1),
        };
        connection
            .prepare_cached(
                "UPDATE operations SET state = 'unknown', owner = ?2, lease_until = ?3, fence = ?4 WHERE id = ?1",
            )?
            .execute(params![
                operation.id.to_string(),
                claim.owner,
                claim.until,
                stored_version(operation.lease.fence)
            ])?;
        claimed.push(operation);
    }
    Ok(Ok(Reply::Claimed(claimed)))
}

fn purge(connection: &Connection, now: i64, keys_before: i64) -> rusqlite::Result<Verdict> {
    connection
        .prepare_cached(
            "UPDATE operations SET sealed = NULL, sealed_until = NULL WHERE sealed IS NOT NULL AND sealed_until <= ?1",
        )?
        .execute([now])?;
    connection
        .prepare_cached(
            "DELETE FROM idempotency_keys WHERE created_at < ?1 AND operation NOT IN \
             (SELECT id FROM operations WHERE state IN ('pending', 'unknown') AND state <> 'succeeded')",
        )?
        .execute([keys_before])?;
    Ok(Ok(Reply::Done))
}

fn once(connection: &Connection, name: &str, proposed: &[u8]) -> rusqlite::Result<Verdict> {
    connection
        .prepare_cached("INSERT INTO gateway (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")?
        .execute(params![name, proposed])?;
    let value = connection
        .prepare_cached("SELECT value FROM gateway WHERE name = ?1")?
        .query_row([name], |found| found.get(0))?;
    Ok(Ok(Reply::Value(value)))
}

pub(super) fn change_registry(
    prepared: &mut Prepared<'_>,
    change: &ChangeRow,
) -> rusqlite::Result<Result<(), StoreError>> {
    let connection = prepared.connection;
    match change {
        ChangeRow::Insert(row) => match unless_taken(write_registration(&mut prepared.insert, row))? {
            Ok(()) => insert_labels(connection, row).map(Ok),
            refused => Ok(refused),
        },
        ChangeRow::Update(row, expected) => update(connection, row, *expected),
        ChangeRow::Remove(id) => {
            // its labels go with it (ON DELETE CASCADE)
            connection.prepare_cached("DELETE FROM registrations WHERE id = ?1")?.execute([id])?;
            Ok(Ok(()))
        }
    }
}

const INSERT: &str = "INSERT INTO registrations (id, backend, kind, client_id, vendor_ref, client_id_issued_at, version, \
                      created_at, updated_at, state, spec, observed, search, management, access_token, \
                      previous_access_token, previous_access_token_until, dcr, open_route, unused_until, notes) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";

fn update(connection: &Connection, row: &RegistrationRow, expected: u64) -> rusqlite::Result<Result<(), StoreError>> {
    // the transaction holds the write lock: what is read here stays true until the commit
    let found = connection
        .prepare_cached("SELECT version FROM registrations WHERE id = ?1")?
        .query_row([&row.id], |found| found.get(0).map(read_version));
    match found {
        Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(Err(StoreError::NotFound("registration"))),
        Ok(found) if found != expected => return Ok(Err(StoreError::VersionConflict)),
        found => found?,
    };
    let sql = "UPDATE registrations SET backend = ?2, kind = ?3, client_id = ?4, vendor_ref = ?5, \
               client_id_issued_at = ?6, version = ?7, created_at = ?8, updated_at = ?9, state = ?10, spec = ?11, \
               observed = ?12, search = ?13, management = ?14, access_token = ?15, previous_access_token = ?16, \
               previous_access_token_until = ?17, dcr = ?18, open_route = ?19, \
               unused_until = CASE WHEN ?20 IS NULL THEN NULL ELSE unused_until END, notes = ?21 WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    if let Err(refused) = unless_taken(write_registration(&mut statement, row))? {
        return Ok(Err(refused));
    }
    connection.prepare_cached("DELETE FROM labels WHERE registration_id = ?1")?.execute([&row.id])?;
    insert_labels(connection, row).map(Ok)
}

/// Binds the columns of a registration; the statements of insert and update number them alike.
fn write_registration(statement: &mut Statement<'_>, row: &RegistrationRow) -> rusqlite::Result<usize> {
    let Registration { hidden, .. } = row.rest.as_ref();
    statement.execute(params![
        row.id,
        row.rest.backend.as_str(),
        row.rest.kind,
        row.rest.client_id.as_str(),
        row.rest.vendor_ref,
        row.rest.client_id_issued_at,
        row.version,
        row.rest.created_at,
        row.rest.updated_at,
        row.rest.state.as_str(),
        row.spec,
        row.observed,
        row.search,
        hidden.management,
        hidden.access_token,
        hidden.previous_access_token.map(|(hash, _)| hash),
        hidden.previous_access_token.map(|(_, until)| until),
        hidden.dcr.as_ref().map(ToString::to_string),
        hidden.open_route,
        hidden.unused_until,
        notes_text(&hidden.notes),
    ])
}

fn used(connection: &Connection, id: &str, now: i64) -> rusqlite::Result<Verdict> {
    let sql = "UPDATE registrations SET unused_until = NULL WHERE id = ?1 AND unused_until > ?2";
    if connection.prepare_cached(sql)?.execute(params![id, now])? > 0 {
        return Ok(Ok(Reply::Usage(Usage::Noted)));
    }
    // what is set still is not later than `now`
    let found = connection
        .prepare_cached("SELECT unused_until IS NULL FROM registrations WHERE id = ?1")?
        .query_row([id], |row| row.get(0));
    Ok(Ok(Reply::Usage(match found {
        Ok(true) => Usage::Noted,
        Ok(false) => Usage::Expired,
        Err(rusqlite::Error::QueryReturnedNoRows) => Usage::Missing,
        Err(error) => return Err(error),
    })))
}

fn insert_labels(connection: &Connection, row: &RegistrationRow) -> rusqlite::Result<()> {
    if row.rest.labels.is_empty() {
        return Ok(());
    }
    let mut statement =
        connection.prepare_cached("INSERT INTO labels (registration_id, key, value) VALUES (?1, ?2, ?3)")?;
    row.rest.labels.iter().try_for_each(|(key, value)| statement.execute(params![row.id, key, value]).map(|_| ()))
}

fn put_initial_access_token(connection: &Connection, token: &InitialAccessToken) -> rusqlite::Result<Verdict> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO initial_access_tokens (id, name, hash, created_at, expires_at, uses_left, terms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            token.id,
            token.name,
            token.hash,
            token.created_at,
            token.expires_at,
            token.uses_left,
            token.terms.to_string()
        ]);
    Ok(unless_taken(inserted)?.map(|()| Reply::Done))
}

fn put_api_key(connection: &Connection, row: &ApiKeyRow) -> rusqlite::Result<Verdict> {
    let key = &row.rest;
    let inserted = connection
        .prepare_cached("INSERT INTO api_keys (id, name, hash, scopes, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![key.id, key.name, key.hash, row.scopes, key.created_at]);
    Ok(unless_taken(inserted)?.map(|()| Reply::Done))
}

/// Tells what concerns one write only (its id or name is taken, it is too big) from a failure of the store.
fn unless_taken(written: rusqlite::Result<usize>) -> rusqlite::Result<Result<(), StoreError>> {
    let Err(error) = written else { return Ok(Ok(())) };
    match error.sqlite_error() {
        Some(e) if [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY].contains(&e.extended_code) => {
            Ok(Err(StoreError::AlreadyExists))
        }
        Some(e) if matches!(e.code, ErrorCode::ConstraintViolation | ErrorCode::TooBig) => Ok(Err(store_error(error))),
        _ => Err(error),
    }
}

/// Runs a statement without parameters or rows, prepared once.
pub(super) fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
