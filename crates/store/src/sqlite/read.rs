//! Reading: a pool of connections, and the queries.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use registrar_model::{OperationId, Registration, RegistrationId};
use rusqlite::{Connection, Row, ToSql, params};
use tokio::sync::Semaphore;

use super::{row, store_error};
use crate::{
    ApiKey, InitialAccessToken, KeyUse, Operation, OperationState, PageOf, RegistrationFilter, Sealed, StoreError,
    Unused, cursor, error::Trouble, port::page_size, search,
};

/// Read connections; each is used by one blocking task at a time.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    count: u32,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A connection on loan; goes back when the work is done, even when it panics.
struct Loan {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self {
            count: u32::try_from(connections.len()).unwrap_or(u32::MAX),
            permits: Arc::new(Semaphore::new(connections.len())),
            idle: Arc::new(Mutex::new(connections)),
        }
    }

    /// Runs a query on a free connection, off the async threads.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let task = move || {
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let loan = Loan { connection, idle };
            let answer = loan.connection.as_ref().map_or(Err(StoreError::Closed), query);
            // the connection is back before the permit is
            drop(loan);
            drop(permit);
            answer
        };
        let failed = Err(StoreError::Unavailable(Trouble::Stopped));
        tokio::task::spawn_blocking(task).await.unwrap_or(failed)
    }

    /// Waits for the running reads, then closes the connections.
    pub(super) async fn close(&self) {
        if let Ok(all) = self.permits.acquire_many(self.count).await {
            self.permits.close();
            all.forget();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

pub(super) fn registration(connection: &Connection, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
    let sql = format!("SELECT {} FROM registrations r WHERE r.id = ?1", row::REGISTRATION);
    one(connection, &sql, params![id.to_string()], row::registration)
}

pub(super) fn registered(
    connection: &Connection,
    backend: &str,
    client_id: &str,
) -> Result<Option<RegistrationId>, StoreError> {
    one(connection, REGISTERED, &[&backend, &client_id], row::registered)
}

const REGISTERED: &str = "SELECT id FROM registrations WHERE backend = ?1 AND client_id = ?2";

pub(super) fn open_clients(connection: &Connection, route: &str) -> Result<u64, StoreError> {
    let count = |row: &Row<'_>| row.get::<_, i64>(0).map_err(store_error);
    Ok(one(connection, OPEN_CLIENTS, &[&route], count)?.map_or(0, |count| u64::try_from(count).unwrap_or(0)))
}

const OPEN_CLIENTS: &str =
    "SELECT count(*) FROM registrations WHERE open_route = ?1 AND state <> 'disabled' AND state <> 'gone'";

pub(super) fn unused(
    connection: &Connection,
    until: i64,
    after: Option<Unused>,
    limit: u32,
) -> Result<Vec<Unused>, StoreError> {
    // every id is larger than no text
    let (since, id) = after.map_or((i64::MIN, String::new()), |after| (after.until, after.id.to_string()));
    let size = i64::try_from(page_size(limit)).unwrap_or(1);
    all(connection, UNUSED, &[&since, &id, &until, &size], row::unused)
}

const UNUSED: &str = "SELECT unused_until, id FROM registrations WHERE (unused_until, id) > (?1, ?2) \
                      AND unused_until <= ?3 AND state = 'active' ORDER BY unused_until, id LIMIT ?4";

pub(super) fn operation(connection: &Connection, id: OperationId) -> Result<Option<Operation>, StoreError> {
    let sql = format!("SELECT {} FROM operations WHERE id = ?1", row::OPERATION);
    one(connection, &sql, params![id.to_string()], row::operation)
}

pub(super) fn key_use(connection: &Connection, key: &[u8; 32], since: i64) -> Result<Option<KeyUse>, StoreError> {
    let sql = "SELECT operation, fingerprint FROM idempotency_keys WHERE key = ?1 AND created_at >= ?2";
    one(connection, sql, params![key, since], row::key_use)
}

pub(super) fn sealed(connection: &Connection, id: OperationId, now: i64) -> Result<Option<Sealed>, StoreError> {
    let sql = "SELECT sealed, sealed_until FROM operations WHERE id = ?1 AND sealed IS NOT NULL AND sealed_until > ?2";
    one(connection, sql, params![id.to_string(), now], row::sealed)
}

pub(super) fn operations(
    connection: &Connection,
    state: Option<OperationState>,
    after: Option<OperationId>,
    size: usize,
) -> Result<PageOf<Operation>, StoreError> {
    let sql = operations_sql(state);
    // every id is larger than no text
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let items = all(connection, &sql, &[&after, &excess(size)], row::operation)?;
    Ok(PageOf::from_excess(items, size, |last| cursor::encode(&last.id)))
}

fn operations_sql(state: Option<OperationState>) -> String {
    let mut sql = format!("SELECT {} FROM operations WHERE id > ?1", row::OPERATION);
    // words of ours, written out: the planner must see them to use the partial index
    match state {
        Some(OperationState::Succeeded) => sql.push_str(" AND state = 'succeeded'"),
        Some(state) => {
            let _ = write!(sql, " AND state = '{}' AND state <> 'succeeded'", state.as_str());
        }
        None => {}
    }
    sql.push_str(" ORDER BY id LIMIT ?2");
    sql
}

pub(super) fn api_key(connection: &Connection, id: &str) -> Result<Option<ApiKey>, StoreError> {
    let sql = format!("SELECT {} FROM api_keys WHERE id = ?1", row::API_KEY);
    one(connection, &sql, params![id], row::api_key)
}

pub(super) fn initial_access_token(
    connection: &Connection,
    id: &str,
) -> Result<Option<InitialAccessToken>, StoreError> {
    let sql = format!("SELECT {} FROM initial_access_tokens WHERE id = ?1", row::INITIAL_ACCESS_TOKEN);
    one(connection, &sql, params![id], row::initial_access_token)
}

pub(super) fn initial_access_tokens(connection: &Connection) -> Result<Vec<InitialAccessToken>, StoreError> {
    let sql = format!("SELECT {} FROM initial_access_tokens ORDER BY created_at, id", row::INITIAL_ACCESS_TOKEN);
    all(connection, &sql, &[], row::initial_access_token)
}

pub(super) fn api_keys(connection: &Connection) -> Result<Vec<ApiKey>, StoreError> {
    let sql = format!("SELECT {} FROM api_keys ORDER BY name", row::API_KEY);
    all(connection, &sql, &[], row::api_key)
}

/// A page of registrations: the statement and what is bound to it.
#[derive(Debug)]
pub(super) struct RegistrationQuery {
    sql: String,
    bound: Vec<String>,
    size: usize,
}

impl RegistrationQuery {
    pub(super) fn new(filter: &RegistrationFilter, after: Option<RegistrationId>, size: usize) -> Self {
        let mut labels = filter.labels.iter();
        let mut query = Self { sql: format!("SELECT {} FROM ", row::REGISTRATION), bound: Vec::new(), size };
        // A label's own index holds its registrations in the order of the list, so it leads (CROSS JOIN keeps the
        // order of the tables); the other conditions are looked at row by row until the page is full.
        let key = if let Some((key, value)) = labels.next() {
            query.sql.push_str("labels l CROSS JOIN registrations r ON r.id = l.registration_id WHERE ");
            query.condition("l.key = ", key);
            query.sql.push_str(" AND ");
            query.condition("l.value = ", value);
            query.sql.push_str(" AND ");
            "l.registration_id"
        } else {
            query.sql.push_str("registrations r WHERE ");
            "r.id"
        };
        // every id is larger than no text
        query.condition(&format!("{key} > "), &after.map(|id| id.to_string()).unwrap_or_default());
        for (key, value) in labels {
            query.condition(" AND EXISTS (SELECT 1 FROM labels WHERE registration_id = r.id AND key = ", key);
            query.condition(" AND value = ", value);
            query.sql.push(')');
        }
        if let Some(backend) = &filter.backend {
            // +: the index of (backend, client_id) has another order, and would have to be sorted for each page
            query.condition(" AND +r.backend = ", backend.as_str());
        }
        if let Some(q) = filter.q.as_deref().filter(|q| !q.is_empty()) {
            // not LIKE: nothing in the text has a meaning
            query.condition(" AND instr(r.search, ", &search::fold(q));
            query.sql.push_str(") > 0");
        }
        let _ = write!(query.sql, " ORDER BY {key} LIMIT ?");
        query
    }

    fn condition(&mut self, sql: &str, value: &str) {
        self.sql.push_str(sql);
        self.sql.push('?');
        self.bound.push(value.to_owned());
    }

    pub(super) fn run(self, connection: &Connection) -> Result<PageOf<Registration>, StoreError> {
        let limit = excess(self.size);
        let mut bound: Vec<&dyn ToSql> = self.bound.iter().map(|value| value as &dyn ToSql).collect();
        bound.push(&limit);
        let items = all(connection, &self.sql, &bound, row::registration)?;
        Ok(PageOf::from_excess(items, self.size, |last| cursor::encode(&last.id)))
    }
}

/// One row more than the page has tells whether there is another page.
fn excess(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}

pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    bound: &[&dyn ToSql],
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    Ok(all(connection, sql, bound, read)?.into_iter().next())
}

pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    bound: &[&dyn ToSql],
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query(bound).map_err(store_error)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        out.push(read(row)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sqlite::open;

    /// Lists read in the order of an index and stop when the page is full, however many rows there are.
    #[test]
    fn lists_follow_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open::writer(&folder.path().join("registrar.db"), Duration::ZERO).unwrap();
        let filter = |backend: Option<&str>, labels: &[&str]| RegistrationFilter {
            backend: backend.map(|b| b.parse().unwrap()),
            labels: labels.iter().map(|key| ((*key).to_owned(), "x".to_owned())).collect(),
            q: Some("q".to_owned()),
        };
        let registrations =
            |backend, labels| RegistrationQuery::new(&filter(backend, labels), Some(RegistrationId::generate()), 5).sql;
        let cases = [
            (registrations(None, &[]), "SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id>?)"),
            (registrations(Some("a"), &[]), "SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id>?)"),
            (
                registrations(Some("a"), &["team", "env"]),
                "SEARCH l USING COVERING INDEX labels_by_value (key=? AND value=? AND registration_id>?)",
            ),
            (REGISTERED.to_owned(), "SEARCH registrations USING INDEX sqlite_autoindex_registrations_2"),
            (OPEN_CLIENTS.to_owned(), "SEARCH registrations USING COVERING INDEX registrations_open (open_route=?)"),
            (UNUSED.to_owned(), "SEARCH registrations USING INDEX registrations_unused"),
            (operations_sql(None), "SEARCH operations USING INDEX sqlite_autoindex_operations_1 (id>?)"),
            (
                operations_sql(Some(OperationState::Unknown)),
                "SEARCH operations USING INDEX operations_not_succeeded (state=? AND id>?)",
            ),
        ];
        for (sql, step) in cases {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut rows = statement.raw_query();
            let mut plan = String::new();
            while let Some(row) = rows.next().unwrap() {
                plan += &format!("{}\n", row.get::<_, String>(3).unwrap());
            }
            assert!(plan.starts_with(step) && !plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
        }
    }
}
