//! Writes. What is one statement is one transaction by itself; a transaction that is dropped is undone.

use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::Row;

use super::{
    error::Failure,
    read::{self, Bound},
    row::{self, column, escape},
};
use crate::{
    ApiKey, Begun, InitialAccessToken, KeyClaim, Operation, Spending, StoreError, Usage,
    error::Trouble,
    row::{ApiKeyRow, ChangeRow, OperationRow, RegistrationRow, UpdateRow, notes_text, read_version, stored_version},
};

/// How often an idempotency key may be taken and released again while it is asked for.
const TRIES: u32 = 8;

/// Runs a statement; how many rows it changed.
pub(super) async fn execute<C: GenericClient>(c: &C, sql: &str, bound: &Bound<'_>) -> Result<u64, Failure> {
    let statement = c.prepare_cached(sql).await?;
    Ok(c.execute(&statement, bound).await?)
}

/// The same; whether it changed anything.
pub(super) async fn changes<C: GenericClient>(c: &C, sql: &str, bound: &Bound<'_>) -> Result<bool, Failure> {
    Ok(execute(c, sql, bound).await? > 0)
}

/// An insertion `ON CONFLICT DO NOTHING`.
async fn insert_new<C: GenericClient>(c: &C, sql: &str, bound: &Bound<'_>) -> Result<(), Failure> {
    if changes(c, sql, bound).await? { Ok(()) } else { Err(StoreError::AlreadyExists.into()) }
}

pub(super) async fn begin(
    c: &mut Object,
    row: &OperationRow,
    key: Option<&KeyClaim>,
    spend: Option<&Spending>,
) -> Result<Begun, Failure> {
    let Some(Spending { token, now }) = spend else { return insert_operation(c, row, key).await };
    let transaction = c.transaction().await?;
    // the token's row last: many operations share it, and wait for whoever has it
    match insert_operation(&transaction, row, key).await? {
        Begun::New if changes(&transaction, SPEND, &[&escape(token), now]).await? => {
            transaction.commit().await?;
            Ok(Begun::New)
        }
        Begun::New => Ok(Begun::Spent),
        used => Ok(used),
    }
}

/// Records an intent and its key, in one statement.
async fn insert_operation<C: GenericClient>(
    c: &C,
    row: &OperationRow,
    key: Option<&KeyClaim>,
) -> Result<Begun, Failure> {
    let operation = &row.rest;
    let (attempts, fence) = (i64::from(operation.attempts), stored_version(operation.lease.fence));
    let (backend, summary) = (escape(&operation.backend), escape(&operation.summary));
    let (request_id, principal) = (escape(&operation.request_id), escape(&operation.principal));
    let owner = escape(&operation.lease.owner);
    let bound: [&(dyn tokio_postgres::types::ToSql + Sync); 17] = [
        &row.id,
        &operation.action.as_str(),
        &backend,
        &row.registration,
        &operation.state.as_str(),
        &operation.outcome.as_str(),
        &summary,
        &operation.created_at,
        &operation.updated_at,
        &attempts,
        &row.evidence,
        &request_id,
        &principal,
        &operation.desired,
        &owner,
        &operation.lease.until,
        &fence,
    ];
    let values = "$1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::bigint, $9::bigint, \
                  $10::bigint, $11::text, $12::text, $13::text, $14::text, $15::text, $16::bigint, $17::bigint";
    let insert = format!("INSERT INTO operations ({}) SELECT {values}", row::OPERATION);
    let Some(claim) = key else {
        execute(c, &insert, &bound).await?;
        return Ok(Begun::New);
    };
    // One statement: of all that use a key at once, in whatever process, one inserts it and the others wait for it, and
    // then find it taken and insert nothing. A use that is too old is replaced.
    let sql = format!(
        "WITH claimed AS (INSERT INTO idempotency_keys AS k (key, fingerprint, operation, created_at) \
         VALUES ($18, $19, $1, $8) ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, \
         operation = excluded.operation, created_at = excluded.created_at WHERE k.created_at < $20 RETURNING 1) \
         {insert} WHERE EXISTS (SELECT FROM claimed)"
    );
    let (hash, fingerprint) = (claim.key.as_slice(), claim.fingerprint.as_slice());
    let bound = [bound.as_slice(), &[&hash, &fingerprint, &claim.since]].concat();
    for _ in 0..TRIES {
        if changes(c, &sql, &bound).await? {
            return Ok(Begun::New);
        }
        // nothing: it was released since
        if let Some(used) = read::key_use(c, &claim.key, claim.since).await? {
            return Ok(Begun::Used(used));
        }
    }
    Err(StoreError::Unavailable(Trouble::Locked).into())
}

/// Records what became of an operation that is open, or amends one that has succeeded.
pub(super) async fn finish(
    c: &mut Object,
    row: &UpdateRow,
    change: Option<&ChangeRow>,
    amends: bool,
) -> Result<(), Failure> {
    let update = &row.rest;
    let transaction = c.transaction().await?;
    let sql = "UPDATE operations SET state = $2, outcome = $3, summary = $4, updated_at = $5, attempts = $6, \
               evidence = $7, lease_until = $8, sealed = $9, sealed_until = $10, \
               desired = CASE WHEN $11 THEN NULL ELSE desired END, owner = CASE WHEN $11 THEN '' ELSE owner END \
               WHERE id = $1 AND fence = $12 AND \
               CASE WHEN $13 THEN state = 'succeeded' ELSE state IN ('pending', 'unknown') END";
    let ours = changes(
        &transaction,
        sql,
        &[
            &row.id,
            &update.state.as_str(),
            &update.outcome.as_str(),
            &escape(&update.summary),
            &update.updated_at,
            &i64::from(update.attempts),
            &update.evidence.as_str(),
            &update.retry_at,
            &update.sealed.as_ref().map(|sealed| sealed.bytes.as_slice()),
            &update.sealed.as_ref().map(|sealed| sealed.until),
            &update.state.is_final(),
            &stored_version(update.fence),
            &amends,
        ],
    )
    .await?;
    if !ours {
        return Err(refusal(&transaction, &row.id).await?.into());
    }
    match change {
        Some(ChangeRow::Insert(row)) => insert_registration(&transaction, row).await?,
        Some(ChangeRow::Update(row, expected)) => update_registration(&transaction, row, *expected).await?,
        Some(ChangeRow::Remove(id)) => {
            // its labels go with it (ON DELETE CASCADE)
            execute(&transaction, "DELETE FROM registrations WHERE id = $1", &[id]).await?;
        }
        None => {}
    }
    if update.release_key {
        execute(&transaction, "DELETE FROM idempotency_keys WHERE operation = $1", &[&row.id]).await?;
    }
    if let Some(token) = &update.refund {
        execute(&transaction, REFUND, &[&escape(token)]).await?;
    }
    Ok(transaction.commit().await?)
}

/// Why an operation cannot be finished. Whatever changes meanwhile, no operation becomes open, and no fence smaller.
async fn refusal<C: GenericClient>(c: &C, id: &str) -> Result<StoreError, Failure> {
    let sql = "SELECT state IN ('pending', 'unknown') FROM operations WHERE id = $1";
    Ok(match read::one(c, sql, &[&id], |found| column(found, 0)).await? {
        None => StoreError::NotFound("operation"),
        Some(false) => StoreError::AlreadyFinished,
        Some(true) => StoreError::Superseded,
    })
}

async fn insert_registration<C: GenericClient>(c: &C, row: &RegistrationRow) -> Result<(), Failure> {
    let sql = "INSERT INTO registrations (id, backend, kind, client_id, vendor_ref, client_id_issued_at, version, \
               created_at, updated_at, state, spec, observed, search, management, access_token, \
               previous_access_token, previous_access_token_until, dcr, open_route, unused_until, notes) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
               $21) \
               ON CONFLICT DO NOTHING";
    if !write_registration(c, sql, row).await? {
        return Err(StoreError::AlreadyExists.into());
    }
    insert_labels(c, row).await
}

async fn update_registration<C: GenericClient>(c: &C, row: &RegistrationRow, expected: u64) -> Result<(), Failure> {
    let sql = "SELECT version FROM registrations WHERE id = $1 FOR UPDATE";
    match read::one(c, sql, &[&row.id], |found| column(found, 0).map(read_version)).await? {
        None => return Err(StoreError::NotFound("registration").into()),
        Some(found) if found != expected => return Err(StoreError::VersionConflict.into()),
        Some(_) => {}
    }
    let sql = "UPDATE registrations SET backend = $2, kind = $3, client_id = $4, vendor_ref = $5, \
               client_id_issued_at = $6, version = $7, created_at = $8, updated_at = $9, state = $10, spec = $11, \
               observed = $12, search = $13, management = $14, access_token = $15, previous_access_token = $16, \
               previous_access_token_until = $17, dcr = $18, open_route = $19, \
               unused_until = CASE WHEN $20::bigint IS NULL THEN NULL ELSE unused_until END, notes = $21 WHERE id = $1";
    write_registration(c, sql, row).await?;
    execute(c, "DELETE FROM labels WHERE registration_id = $1", &[&row.id]).await?;
    insert_labels(c, row).await
}

/// Binds the columns of a registration; the statements of insert and update number them alike.
async fn write_registration<C: GenericClient>(c: &C, sql: &str, row: &RegistrationRow) -> Result<bool, Failure> {
    let hidden = &row.rest.hidden;
    changes(
        c,
        sql,
        &[
            &row.id,
            &row.rest.backend.as_str(),
            &escape(&row.rest.kind),
            &escape(row.rest.client_id.as_str()),
            &escape(&row.rest.vendor_ref),
            &row.rest.client_id_issued_at,
            &row.version,
            &row.rest.created_at,
            &row.rest.updated_at,
            &row.rest.state.as_str(),
            &row.spec,
            &row.observed,
            &row.search.as_bytes(),
            &hidden.management,
            &hidden.access_token.as_ref().map(<[u8; 32]>::as_slice),
            &hidden.previous_access_token.as_ref().map(|(hash, _)| hash.as_slice()),
            &hidden.previous_access_token.map(|(_, until)| until),
            &hidden.dcr.as_ref().map(ToString::to_string),
            &hidden.open_route.as_deref().map(escape),
            &hidden.unused_until,
            &notes_text(&hidden.notes).as_deref().map(escape),
        ],
    )
    .await
}

pub(super) async fn used(c: &Object, id: &str, now: i64) -> Result<Usage, Failure> {
    let sql = "UPDATE registrations SET unused_until = NULL WHERE id = $1 AND unused_until > $2";
    if changes(c, sql, &[&id, &now]).await? {
        return Ok(Usage::Noted);
    }
    // what is set still is not later than `now`
    let sql = "SELECT unused_until IS NULL FROM registrations WHERE id = $1";
    Ok(match read::one(c, sql, &[&id], |row| column(row, 0)).await? {
        Some(true) => Usage::Noted,
        Some(false) => Usage::Expired,
        None => Usage::Missing,
    })
}

async fn insert_labels<C: GenericClient>(c: &C, row: &RegistrationRow) -> Result<(), Failure> {
    if row.rest.labels.is_empty() {
        return Ok(());
    }
    let (keys, values): (Vec<_>, Vec<_>) = row.rest.labels.iter().map(|(k, v)| (escape(k), escape(v))).unzip();
    let sql = "INSERT INTO labels (registration_id, key, value) SELECT $1, * FROM unnest($2::text[], $3::text[])";
    execute(c, sql, &[&row.id, &keys, &values]).await.map(|_| ())
}

pub(super) async fn claim(
    c: &Object,
    owner: &str,
    (now, until): (i64, i64),
    limit: u32,
) -> Result<Vec<Operation>, Failure> {
    // what another process is claiming or finishing at this moment is left to it
    let sql = format!(
        "WITH due AS (SELECT id AS due_id, lease_until AS due_since FROM operations \
         WHERE state IN ('pending', 'unknown') AND lease_until <= $1 \
         ORDER BY lease_until, id LIMIT $2 FOR UPDATE SKIP LOCKED) \
         UPDATE operations SET state = 'unknown', owner = $3, lease_until = $4, fence = fence + 1 \
         FROM due WHERE id = due_id RETURNING {}, due_since",
        row::OPERATION
    );
    let read = |row: &Row| Ok((column::<i64>(row, 17)?, row::operation(row)?));
    let mut claimed = read::all(c, &sql, &[&now, &i64::from(limit), &escape(owner), &until], read).await?;
    claimed.sort_by_key(|(since, operation)| (*since, operation.id));
    Ok(claimed.into_iter().map(|(_, operation)| operation).collect())
}

pub(super) async fn purge(c: &Object, now: i64, keys_before: i64) -> Result<(), Failure> {
    let sql = "UPDATE operations SET sealed = NULL, sealed_until = NULL WHERE id IN \
               (SELECT id FROM operations WHERE sealed IS NOT NULL AND sealed_until <= $1 FOR UPDATE SKIP LOCKED)";
    execute(c, sql, &[&now]).await?;
    let sql = "DELETE FROM idempotency_keys WHERE key IN (SELECT k.key FROM idempotency_keys k \
               JOIN operations o ON o.id = k.operation WHERE k.created_at < $1 \
               AND o.state NOT IN ('pending', 'unknown') FOR UPDATE OF k SKIP LOCKED)";
    execute(c, sql, &[&keys_before]).await.map(|_| ())
}

pub(super) async fn once(c: &Object, name: &str, proposed: &[u8]) -> Result<Vec<u8>, Failure> {
    let sql = "INSERT INTO gateway (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    execute(c, sql, &[&name, &proposed]).await?;
    let sql = "SELECT value FROM gateway WHERE name = $1";
    let found = read::one(c, sql, &[&name], |row| column(row, 0)).await?;
    Ok(found.ok_or_else(|| StoreError::Corrupt(format!("the value `{name}` of the gateway is gone")))?)
}

pub(super) async fn put_api_key(c: &Object, row: &ApiKeyRow) -> Result<(), Failure> {
    let ApiKey { id, name, hash, created_at, .. } = &row.rest;
    let sql = "INSERT INTO api_keys (id, name, hash, scopes, created_at) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT DO NOTHING";
    insert_new(c, sql, &[&escape(id), &escape(name), &hash.as_slice(), &row.scopes, created_at]).await
}

pub(super) async fn put_initial_access_token(c: &Object, token: &InitialAccessToken) -> Result<(), Failure> {
    let sql = "INSERT INTO initial_access_tokens (id, name, hash, created_at, expires_at, uses_left, terms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    insert_new(
        c,
        sql,
        &[
            &escape(&token.id),
            &escape(&token.name),
            &token.hash.as_slice(),
            &token.created_at,
            &token.expires_at,
            &token.uses_left.map(i64::from),
            &token.terms.to_string(),
        ],
    )
    .await
}

const SPEND: &str = "UPDATE initial_access_tokens SET uses_left = uses_left - 1 WHERE id = $1 \
     AND (expires_at IS NULL OR expires_at > $2) AND (uses_left IS NULL OR uses_left > 0)";

/// No more than a 32-bit number holds.
const REFUND: &str = "UPDATE initial_access_tokens SET uses_left = least(uses_left + 1, 4294967295) \
     WHERE id = $1 AND uses_left IS NOT NULL";
