//! A look at a store that changes nothing.

use deadpool_postgres::Object;

use super::{
    Address,
    error::Failure,
    link::{Link, Work},
};
use crate::{
    StoreError,
    inspect::{Count, Inspection, USED},
};

/// What is in the database.
///
/// # Errors
/// As [`super::PostgresStore::open`], which makes tables where this does not.
pub(crate) async fn inspect(address: &Address) -> Result<Inspection, StoreError> {
    let link = Link::new(address)?;
    let found = link.run(Work::Read, |connection| async move { read(&connection).await }).await;
    link.close().await;
    found
}

async fn read(connection: &Object) -> Result<Inspection, Failure> {
    let exists = "SELECT to_regclass('registrar_schema') IS NOT NULL";
    if !connection.query_one(exists, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Inspection::default());
    }
    let version = connection.query_one("SELECT max(version) FROM registrar_schema", &[]).await?.try_get(0)?;
    Ok(Inspection {
        schema_version: version,
        registrations: counts(
            connection,
            "SELECT backend, state, count(*) FROM registrations GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .await?,
        open_operations: counts(
            connection,
            "SELECT backend, state, count(*) FROM operations WHERE state IN ('pending', 'unknown') \
             GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .await?,
        problems: Vec::new(),
        in_use: connection.query_one(USED, &[]).await?.try_get(0)?,
    })
}

async fn counts(connection: &Object, sql: &str) -> Result<Vec<Count>, Failure> {
    let rows = connection.query(sql, &[]).await?;
    rows.iter()
        .map(|row| Ok(Count { backend: row.try_get(0)?, state: row.try_get(1)?, count: row.try_get(2)? }))
        .collect()
}
