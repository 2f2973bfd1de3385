//! Rows to values and back.

use std::collections::BTreeMap;

use registrar_core::Outcome;
use registrar_model::{ClientSpec, Issues, Pointer, Registration, RegistrationId, State};
use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::error;
use crate::{
    Action, ApiKey, Operation, OperationState, OperationUpdate, StoreError,
    types::search_text,
};

pub(super) fn insert_operation(connection: &Connection, o: &Operation) -> Result<(), StoreError> {
    let sql = "INSERT INTO operations (id, action, backend, registration, state, outcome, summary, created_at, updated_at, attempts, evidence, request_id, principal)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    let inserted = statement.execute(params![
        o.id.to_string(),
        o.action.as_str(),
        o.backend,
        o.registration.map(|r| r.to_string()),
        o.state.as_str(),
        o.outcome.as_str(),
        o.summary,
        o.created_at,
        o.updated_at,
        o.attempts,
        o.evidence.to_string(),
        o.request_id,
        o.principal
    ]);
    inserted.map(|_| ()).map_err(error)
}

pub(super) fn update_operation(connection: &Connection, u: &OperationUpdate) -> Result<(), StoreError> {
    let sql = "UPDATE operations SET state = ?2, outcome = ?3, summary = ?4, updated_at = ?5, attempts = ?6, evidence = ?7 WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    let changed = statement
        .execute(params![u.id.to_string(), u.state.as_str(), u.outcome.as_str(), u.summary, u.updated_at, u.attempts, u.evidence.to_string()])
        .map_err(error)?;
    if changed == 1 { Ok(()) } else { Err(StoreError::Corrupt("an operation has no intent".to_owned())) }
}

/// SQLite's integers are signed; a version never gets near the limit.
fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn spec_text(spec: &ClientSpec) -> String {
    Value::Object(spec.encode()).to_string()
}

pub(super) fn insert_registration(connection: &Connection, r: &Registration) -> Result<(), StoreError> {
    let sql = "INSERT INTO registrations (id, backend, kind, client_id, vendor_ref, issued_at, version, created_at, updated_at, state, spec, observed, search)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    statement
        .execute(params![
            r.id.to_string(),
            r.backend.as_str(),
            r.kind,
            r.client_id.as_str(),
            r.vendor_ref,
            r.client_id_issued_at,
            signed(r.version),
            r.created_at,
            r.updated_at,
            r.state.as_str(),
            spec_text(&r.spec),
            spec_text(&r.observed),
            search_text(r)
        ])
        .map_err(error)?;
    insert_labels(connection, r)
}

fn insert_labels(connection: &Connection, r: &Registration) -> Result<(), StoreError> {
    if r.labels.is_empty() {
        return Ok(());
    }
    let mut statement =
        connection.prepare_cached("INSERT INTO labels (registration, key, value) VALUES (?1, ?2, ?3)").map_err(error)?;
    let id = r.id.to_string();
    for (key, value) in &r.labels {
        statement.execute(params![id, key, value]).map_err(error)?;
    }
    Ok(())
}

pub(super) fn update_registration(connection: &Connection, r: &Registration, expected: u64) -> Result<(), StoreError> {
    let sql = "UPDATE registrations SET client_id = ?3, vendor_ref = ?4, issued_at = ?5, version = ?6, updated_at = ?7, state = ?8, spec = ?9, observed = ?10, search = ?11
               WHERE id = ?1 AND version = ?2";
    let mut statement = connection.prepare_cached(sql).map_err(error)?;
    let id = r.id.to_string();
    let changed = statement
        .execute(params![
            id,
            signed(expected),
            r.client_id.as_str(),
            r.vendor_ref,
            r.client_id_issued_at,
            signed(r.version),
            r.updated_at,
            r.state.as_str(),
            spec_text(&r.spec),
            spec_text(&r.observed),
            search_text(r)
        ])
        .map_err(error)?;
    if changed != 1 {
        return Err(StoreError::VersionConflict);
    }
    connection
        .prepare_cached("DELETE FROM labels WHERE registration = ?1")
        .and_then(|mut s| s.execute(params![id]))
        .map_err(error)?;
    insert_labels(connection, r)
}

pub(super) fn remove_registration(connection: &Connection, id: RegistrationId) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM registrations WHERE id = ?1")
        .and_then(|mut s| s.execute(params![id.to_string()]))
        .map(|_| ())
        .map_err(error)
}

pub(super) fn insert_key(connection: &Connection, key: &ApiKey) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO api_keys (id, name, hash, scopes, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut s| s.execute(params![key.id, key.name, key.hash.as_slice(), key.scopes.join(" "), key.created_at]))
        .map(|_| ())
        .map_err(error)
}

pub(super) const REGISTRATION: &str =
    "id, backend, kind, client_id, vendor_ref, issued_at, version, created_at, updated_at, state, spec, observed";

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("a stored {what} cannot be read"))
}

pub(super) fn registration(connection: &Connection, row: &Row<'_>) -> Result<Registration, StoreError> {
    let text = |i: usize| row.get::<_, String>(i).map_err(error);
    let id: RegistrationId = text(0)?.parse().map_err(|_| damaged("registration id"))?;
    let state = match text(9)?.as_str() {
        "active" => State::Active,
        "disabled" => State::Disabled,
        "unknown" => State::Unknown,
        "gone" => State::Gone,
        _ => return Err(damaged("state")),
    };
    Ok(Registration {
        id,
        backend: text(1)?.parse().map_err(|_| damaged("backend name"))?,
        kind: text(2)?,
        client_id: text(3)?.parse().map_err(|_| damaged("client id"))?,
        vendor_ref: text(4)?,
        client_id_issued_at: row.get(5).map_err(error)?,
        version: u64::try_from(row.get::<_, i64>(6).map_err(error)?).map_err(|_| damaged("version"))?,
        created_at: row.get(7).map_err(error)?,
        updated_at: row.get(8).map_err(error)?,
        state,
        spec: spec(&text(10)?)?,
        observed: spec(&text(11)?)?,
        labels: labels(connection, id)?,
    })
}

fn spec(text: &str) -> Result<ClientSpec, StoreError> {
    let value: Value = serde_json::from_str(text).map_err(|_| damaged("client"))?;
    let object = value.as_object().ok_or_else(|| damaged("client"))?;
    let mut issues = Issues::lenient();
    let (spec, _) = ClientSpec::decode(object, &Pointer::root(), &mut issues);
    issues.into_result(spec).map_err(|_| damaged("client"))
}

fn labels(connection: &Connection, id: RegistrationId) -> Result<BTreeMap<String, String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM labels WHERE registration = ?1").map_err(error)?;
    let rows = statement.query_map(params![id.to_string()], |row| Ok((row.get(0)?, row.get(1)?))).map_err(error)?;
    rows.collect::<Result<_, _>>().map_err(error)
}

pub(super) const OPERATION: &str = "id, action, backend, registration, state, outcome, summary, created_at, updated_at, attempts, evidence, request_id, principal";

pub(super) fn operation(row: &Row<'_>) -> Result<Operation, StoreError> {
    let text = |i: usize| row.get::<_, String>(i).map_err(error);
    let registration: Option<String> = row.get(3).map_err(error)?;
    let outcome = match text(5)?.as_str() {
        "not_performed" => Outcome::NotPerformed,
        "performed" => Outcome::Performed,
        "unknown" => Outcome::Unknown,
        _ => return Err(damaged("outcome")),
    };
    Ok(Operation {
        id: text(0)?.parse().map_err(|_| damaged("operation id"))?,
        action: Action::from_word(&text(1)?).ok_or_else(|| damaged("action"))?,
        backend: text(2)?,
        registration: registration.map(|r| r.parse()).transpose().map_err(|_| damaged("registration id"))?,
        state: OperationState::from_word(&text(4)?).ok_or_else(|| damaged("state"))?,
        outcome,
        summary: text(6)?,
        created_at: row.get(7).map_err(error)?,
        updated_at: row.get(8).map_err(error)?,
        attempts: row.get(9).map_err(error)?,
        evidence: serde_json::from_str(&text(10)?).map_err(|_| damaged("evidence"))?,
        request_id: text(11)?,
        principal: text(12)?,
    })
}

pub(super) fn key(row: &Row<'_>) -> Result<ApiKey, StoreError> {
    let hash: Vec<u8> = row.get(2).map_err(error)?;
    let scopes: String = row.get(3).map_err(error)?;
    Ok(ApiKey {
        id: row.get(0).map_err(error)?,
        name: row.get(1).map_err(error)?,
        hash: hash.try_into().map_err(|_| damaged("key"))?,
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        created_at: row.get(4).map_err(error)?,
    })
}
