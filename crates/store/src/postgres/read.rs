//! Queries.

use std::fmt::Write as _;

use deadpool_postgres::GenericClient;
use registrar_model::{OperationId, Registration, RegistrationId};
use tokio_postgres::{Row, types::ToSql};

use super::{
    error::Failure,
    row::{self, escape},
};
use crate::{
    ApiKey, InitialAccessToken, KeyUse, Operation, OperationState, PageOf, RegistrationFilter, Sealed, StoreError,
    Unused, cursor, port::page_size, search,
};

/// What is bound to a statement.
pub(super) type Bound<'a> = [&'a (dyn ToSql + Sync)];

pub(super) async fn registration<C: GenericClient>(c: &C, id: RegistrationId) -> Result<Option<Registration>, Failure> {
    let sql = format!("SELECT {} FROM registrations r WHERE r.id = $1", row::REGISTRATION);
    one(c, &sql, &[&id.to_string()], row::registration).await
}

pub(super) async fn registered<C: GenericClient>(
    c: &C,
    backend: &str,
    client_id: &str,
) -> Result<Option<RegistrationId>, Failure> {
    let sql = "SELECT id FROM registrations WHERE backend = $1 AND client_id = $2";
    one(c, sql, &[&escape(backend), &escape(client_id)], row::registered).await
}

pub(super) async fn open_clients<C: GenericClient>(c: &C, route: &str) -> Result<u64, Failure> {
    let sql = "SELECT count(*) FROM registrations WHERE open_route = $1 AND state <> 'disabled' AND state <> 'gone'";
    let count = one(c, sql, &[&escape(route)], |row| row::column::<i64>(row, 0)).await?;
    Ok(count.map_or(0, |count| u64::try_from(count).unwrap_or(0)))
}

pub(super) async fn unused<C: GenericClient>(
    c: &C,
    until: i64,
    after: Option<Unused>,
    limit: u32,
) -> Result<Vec<Unused>, Failure> {
    let sql = "SELECT unused_until, id FROM registrations WHERE (unused_until, id) > ($1, $2) AND unused_until <= $3 \
               AND state = 'active' ORDER BY unused_until, id LIMIT $4";
    // every id is larger than no text
    let (since, id) = after.map_or((i64::MIN, String::new()), |after| (after.until, after.id.to_string()));
    let size = i64::try_from(page_size(limit)).unwrap_or(1);
    all(c, sql, &[&since, &id, &until, &size], row::unused).await
}

pub(super) async fn operation<C: GenericClient>(c: &C, id: OperationId) -> Result<Option<Operation>, Failure> {
    let sql = format!("SELECT {} FROM operations WHERE id = $1", row::OPERATION);
    one(c, &sql, &[&id.to_string()], row::operation).await
}

pub(super) async fn key_use<C: GenericClient>(c: &C, key: &[u8; 32], since: i64) -> Result<Option<KeyUse>, Failure> {
    let sql = "SELECT operation, fingerprint FROM idempotency_keys WHERE key = $1 AND created_at >= $2";
    one(c, sql, &[&key.as_slice(), &since], row::key_use).await
}

pub(super) async fn sealed<C: GenericClient>(c: &C, id: OperationId, now: i64) -> Result<Option<Sealed>, Failure> {
    let sql = "SELECT sealed, sealed_until FROM operations WHERE id = $1 AND sealed IS NOT NULL AND sealed_until > $2";
    one(c, sql, &[&id.to_string(), &now], row::sealed).await
}

pub(super) async fn operations<C: GenericClient>(
    c: &C,
    state: Option<OperationState>,
    after: Option<OperationId>,
    size: usize,
) -> Result<PageOf<Operation>, Failure> {
    let sql = operations_sql(state);
    // every id is larger than no text
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let items = all(c, &sql, &[&after, &excess(size)], row::operation).await?;
    Ok(PageOf::from_excess(items, size, |last| cursor::encode(&last.id)))
}

fn operations_sql(state: Option<OperationState>) -> String {
    let mut sql = format!("SELECT {} FROM operations WHERE id > $1", row::OPERATION);
    // words of ours, written out: the planner must see them to use the partial index
    match state {
        Some(OperationState::Succeeded) => sql.push_str(" AND state = 'succeeded'"),
        Some(state) => {
            let _ = write!(sql, " AND state = '{}' AND state <> 'succeeded'", state.as_str());
        }
        None => {}
    }
    sql.push_str(" ORDER BY id LIMIT $2");
    sql
}

pub(super) async fn api_key<C: GenericClient>(c: &C, id: &str) -> Result<Option<ApiKey>, Failure> {
    let sql = format!("SELECT {} FROM api_keys WHERE id = $1", row::API_KEY);
    one(c, &sql, &[&escape(id)], row::api_key).await
}

pub(super) async fn api_keys<C: GenericClient>(c: &C) -> Result<Vec<ApiKey>, Failure> {
    let sql = format!("SELECT {} FROM api_keys ORDER BY name", row::API_KEY);
    all(c, &sql, &[], row::api_key).await
}

pub(super) async fn initial_access_token<C: GenericClient>(
    c: &C,
    id: &str,
) -> Result<Option<InitialAccessToken>, Failure> {
    let sql = format!("SELECT {} FROM initial_access_tokens WHERE id = $1", row::INITIAL_ACCESS_TOKEN);
    one(c, &sql, &[&escape(id)], row::initial_access_token).await
}

pub(super) async fn initial_access_tokens<C: GenericClient>(c: &C) -> Result<Vec<InitialAccessToken>, Failure> {
    let sql = format!("SELECT {} FROM initial_access_tokens ORDER BY created_at, id", row::INITIAL_ACCESS_TOKEN);
    all(c, &sql, &[], row::initial_access_token).await
}

/// A page of registrations: the statement and what is bound to it.
#[derive(Debug)]
pub(super) struct RegistrationQuery {
    sql: String,
    bound: Vec<Box<dyn ToSql + Send + Sync>>,
    size: usize,
}

impl RegistrationQuery {
    pub(super) fn new(filter: &RegistrationFilter, after: Option<RegistrationId>, size: usize) -> Self {
        let mut query =
            Self { sql: format!("SELECT {} FROM registrations r", row::REGISTRATION), bound: Vec::new(), size };
        let mut labels = filter.labels.iter();
        if let Some((key, value)) = labels.next() {
            query.sql.push_str(" JOIN labels l ON l.registration_id = r.id");
            query.condition(" AND l.key = ", escape(key).into_owned());
            query.condition(" AND l.value = ", escape(value).into_owned());
        }
        // every id is larger than no text
        query.condition(" WHERE r.id > ", after.map(|id| id.to_string()).unwrap_or_default());
        if !filter.labels.is_empty() {
            // so that both sides of the join start there; only equality is carried over by the planner
            let _ = write!(query.sql, " AND l.registration_id > ${}", query.bound.len());
        }
        for (key, value) in labels {
            let sql = " AND EXISTS (SELECT FROM labels WHERE registration_id = r.id AND key = ";
            query.condition(sql, escape(key).into_owned());
            query.condition(" AND value = ", escape(value).into_owned());
            query.sql.push(')');
        }
        if let Some(backend) = &filter.backend {
            query.condition(" AND r.backend = ", backend.to_string());
        }
        if let Some(q) = filter.q.as_deref().filter(|q| !q.is_empty()) {
            // not LIKE: nothing in the text has a meaning; bytes, because a text has no U+0000
            query.condition(" AND position(", search::fold(q).into_bytes());
            query.sql.push_str(" IN r.search) > 0");
        }
        query.condition(" ORDER BY r.id LIMIT ", excess(size));
        query
    }

    fn condition(&mut self, sql: &str, value: impl ToSql + Send + Sync + 'static) {
        self.bound.push(Box::new(value));
        let _ = write!(self.sql, "{sql}${}", self.bound.len());
    }

    pub(super) async fn run<C: GenericClient>(&self, c: &C) -> Result<PageOf<Registration>, Failure> {
        let bound: Vec<&(dyn ToSql + Sync)> = self.bound.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        let items = all(c, &self.sql, &bound, row::registration).await?;
        Ok(PageOf::from_excess(items, self.size, |last| cursor::encode(&last.id)))
    }
}

/// One row more than the page has tells whether there is another page.
fn excess(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}

pub(super) async fn one<T, C: GenericClient>(
    c: &C,
    sql: &str,
    bound: &Bound<'_>,
    read: fn(&Row) -> Result<T, StoreError>,
) -> Result<Option<T>, Failure> {
    let statement = c.prepare_cached(sql).await?;
    Ok(c.query_opt(&statement, bound).await?.as_ref().map(read).transpose()?)
}

pub(super) async fn all<T, C: GenericClient>(
    c: &C,
    sql: &str,
    bound: &Bound<'_>,
    read: fn(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, Failure> {
    let statement = c.prepare_cached(sql).await?;
    let rows = c.query(&statement, bound).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
