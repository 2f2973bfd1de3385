//! The schema: identity, version, steps.

use std::time::Duration;

use deadpool_postgres::{GenericClient, Object};

use super::{
    error::Failure,
    link::{Link, Work},
};
use crate::StoreError;

/// The schema, one file per step, each with the version that it leads to.
const MIGRATIONS: [(i64, &str); 4] = [
    (1, include_str!("migrations/0001_initial.sql")),
    (2, include_str!("migrations/0002_dcr.sql")),
    (3, include_str!("migrations/0003_unused.sql")),
    (4, include_str!("migrations/0004_notes.sql")),
];

/// The step that this program's schema is at.
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The advisory lock under which the schema is changed: "RGSTschm".
const LOCK: i64 = 0x5247_5354_7363_686d;

/// A step may rewrite a large table.
const LIMIT: Duration = Duration::from_mins(30);

/// Makes or updates the schema; touches nothing that is not ours.
pub(super) async fn prepare(link: &Link) -> Result<(), StoreError> {
    link.attempt(Work::Write, LIMIT, |mut connection| async move {
        check(&connection).await?;
        if identify(&connection).await? == LATEST { Ok(()) } else { migrate(&mut connection).await }
    })
    .await
    .map_err(Failure::told_at_open)
}

/// Brings the schema up to date where there is one.
pub(super) async fn prepare_existing(link: &Link) -> Result<(), StoreError> {
    link.attempt(Work::Write, LIMIT, |mut connection| async move {
        check(&connection).await?;
        match identify(&connection).await? {
            0 => Err(StoreError::Missing.into()),
            LATEST => Ok(()),
            _ => migrate(&mut connection).await,
        }
    })
    .await
    .map_err(Failure::told_at_open)
}

/// What no table tells.
async fn check(connection: &Object) -> Result<(), Failure> {
    let sql = "SELECT current_setting('server_encoding'), current_setting('fsync')::bool, current_schema() IS NULL";
    let row = connection.query_one(sql, &[]).await?;
    let (encoding, durable, nowhere): (&str, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if encoding != "UTF8" {
        let problem = "the database is not encoded in UTF-8; create one with ENCODING 'UTF8'";
        return Err(StoreError::Incompatible(problem.to_owned()).into());
    }
    if nowhere {
        let problem = "none of the schemas in this user's search_path exists";
        return Err(StoreError::Incompatible(problem.to_owned()).into());
    }
    if !durable {
        tracing::warn!("the database server runs with `fsync = off`: what is recorded may be lost");
    }
    Ok(())
}

/// The step that the schema is at; 0 for an empty one.
async fn identify<C: GenericClient>(connection: &C) -> Result<i64, Failure> {
    // tables of an extension are nobody's
    let sql = "SELECT count(*) FILTER (WHERE c.relname = 'registrar_schema') > 0, count(*) > 0 FROM pg_class c \
               WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";
    let row = connection.query_one(sql, &[]).await?;
    let (ours, occupied): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    if !occupied {
        return Ok(0);
    }
    let version: i64 = if ours {
        let sql = "SELECT coalesce(max(version), 0) FROM registrar_schema";
        connection.query_one(sql, &[]).await?.try_get(0)?
    } else {
        let problem = "it holds the tables of another program; change store.url, or give it a schema of its own";
        return Err(StoreError::Incompatible(problem.to_owned()).into());
    };
    if (1..=LATEST).contains(&version) {
        return Ok(version);
    }
    let problem = format!("its schema has version {version}, this program knows 1 to {LATEST}; use a newer program");
    Err(StoreError::Incompatible(problem).into())
}

async fn migrate(connection: &mut Object) -> Result<(), Failure> {
    let transaction = connection.transaction().await?;
    let patience = format!("SET LOCAL lock_timeout = '{0}s'; SET LOCAL statement_timeout = '{0}s'", LIMIT.as_secs());
    transaction.batch_execute(&patience).await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // again, now that nobody else can: another process may have done it meanwhile
    let from = identify(&transaction).await?;
    if from == 0 {
        let sql = "CREATE TABLE registrar_schema (version bigint NOT NULL PRIMARY KEY, \
                   applied_at timestamptz NOT NULL DEFAULT now())";
        transaction.batch_execute(sql).await?;
    }
    for (version, step) in MIGRATIONS.iter().filter(|(version, _)| *version > from) {
        transaction.batch_execute(step).await?;
        transaction.execute("INSERT INTO registrar_schema (version) VALUES ($1)", &[version]).await?;
        tracing::info!(version, "the schema of the store was brought up to date");
    }
    Ok(transaction.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_in_order() {
        let versions: Vec<i64> = MIGRATIONS.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (1..=LATEST).collect::<Vec<_>>());
    }
}
