//! Readers: connections of their own, so that a write never makes a read wait.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use registrar_model::{OperationId, Registration, RegistrationId};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params, params_from_iter, types::Value as Sql};
use tokio::sync::Semaphore;

use super::{connect, error, rows};
use crate::{ApiKey, Operation, OperationState, PageOf, PageRequest, RegistrationFilter, StoreError, cursor};

/// How many reads run at once; the file is mostly in the page cache, so more would only compete for cores.
const READERS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let connections = (0..READERS).map(|_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)).collect::<Result<_, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(connections)), permits: Arc::new(Semaphore::new(READERS)) })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let ran = tokio::task::spawn_blocking(move || {
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(StoreError::Closed)?;
            let result = read(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            result
        });
        ran.await.unwrap_or(Err(StoreError::Closed))
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

pub(super) fn registration(connection: &Connection, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
    let sql = format!("SELECT {} FROM registrations WHERE id = ?1", rows::REGISTRATION);
    let mut statement = connection.prepare_cached(&sql).map_err(error)?;
    let mut found = statement.query(params![id.to_string()]).map_err(error)?;
    found.next().map_err(error)?.map(|row| rows::registration(connection, row)).transpose()
}

pub(super) fn registrations(
    connection: &Connection,
    filter: &RegistrationFilter,
    page: &PageRequest,
) -> Result<PageOf<Registration>, StoreError> {
    let after = cursor::read::<RegistrationId>(page.after.as_deref())?;
    let mut sql = format!("SELECT {} FROM registrations WHERE id > ?", rows::REGISTRATION);
    let mut values = vec![Sql::Text(after.map(|id| id.to_string()).unwrap_or_default())];
    if let Some(backend) = &filter.backend {
        sql.push_str(" AND backend = ?");
        values.push(Sql::Text(backend.to_string()));
    }
    for (key, value) in &filter.labels {
        sql.push_str(" AND id IN (SELECT registration FROM labels WHERE key = ? AND value = ?)");
        values.extend([Sql::Text(key.clone()), Sql::Text(value.clone())]);
    }
    if let Some(q) = &filter.q {
        // instr knows no wildcards, so nothing needs escaping
        sql.push_str(" AND instr(search, ?) > 0");
        values.push(Sql::Text(q.to_lowercase()));
    }
    let limit = page.limit.clamp(1, 200);
    sql.push_str(" ORDER BY id LIMIT ?");
    values.push(Sql::Integer(i64::from(limit) + 1));
    let mut statement = connection.prepare_cached(&sql).map_err(error)?;
    let mut found = statement.query(params_from_iter(values)).map_err(error)?;
    let mut items = Vec::new();
    while let Some(row) = found.next().map_err(error)? {
        items.push(rows::registration(connection, row)?);
    }
    Ok(page_of(items, limit, |r| r.id.to_string()))
}

pub(super) fn operation(connection: &Connection, id: OperationId) -> Result<Option<Operation>, StoreError> {
    let sql = format!("SELECT {} FROM operations WHERE id = ?1", rows::OPERATION);
    let mut statement = connection.prepare_cached(&sql).map_err(error)?;
    let mut found = statement.query(params![id.to_string()]).map_err(error)?;
    found.next().map_err(error)?.map(rows::operation).transpose()
}

pub(super) fn operations(
    connection: &Connection,
    state: Option<OperationState>,
    page: &PageRequest,
) -> Result<PageOf<Operation>, StoreError> {
    let after = cursor::read::<OperationId>(page.after.as_deref())?;
    let mut sql = format!("SELECT {} FROM operations WHERE id > ?", rows::OPERATION);
    let mut values = vec![Sql::Text(after.map(|id| id.to_string()).unwrap_or_default())];
    if let Some(state) = state {
        sql.push_str(" AND state = ?");
        values.push(Sql::Text(state.as_str().to_owned()));
    }
    let limit = page.limit.clamp(1, 200);
    sql.push_str(" ORDER BY id LIMIT ?");
    values.push(Sql::Integer(i64::from(limit) + 1));
    let mut statement = connection.prepare_cached(&sql).map_err(error)?;
    let mut found = statement.query(params_from_iter(values)).map_err(error)?;
    let mut items = Vec::new();
    while let Some(row) = found.next().map_err(error)? {
        items.push(rows::operation(row)?);
    }
    Ok(page_of(items, limit, |o| o.id.to_string()))
}

fn page_of<T>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> PageOf<T> {
    let limit = usize::try_from(limit).unwrap_or(200);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| cursor::after(&id(last)));
    PageOf { items, next }
}

const KEY: &str = "SELECT id, name, hash, scopes, created_at FROM api_keys";

pub(super) fn api_key(connection: &Connection, id: &str) -> Result<Option<ApiKey>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{KEY} WHERE id = ?1")).map_err(error)?;
    let found = statement.query_row(params![id], |row| Ok(rows::key(row))).optional().map_err(error)?;
    found.transpose()
}

pub(super) fn api_keys(connection: &Connection) -> Result<Vec<ApiKey>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{KEY} ORDER BY name")).map_err(error)?;
    let mut found = statement.query([]).map_err(error)?;
    let mut keys = Vec::new();
    while let Some(row) = found.next().map_err(error)? {
        keys.push(rows::key(row)?);
    }
    Ok(keys)
}
