//! Rows: what is stored, as texts and numbers. Rows to write are made on the caller's thread, rows read on a reader's.

use std::collections::BTreeMap;

use registrar_core::Outcome;
use registrar_model::{ClientSpec, Hidden, Issues, OperationId, Pointer, Registration, RegistrationId, State};
use rusqlite::Row;
use serde::Serialize;
use serde_json::{Map, Value};

use super::store_error;
use crate::{
    Action, ApiKey, InitialAccessToken, KeyUse, Lease, Operation, OperationState, OperationUpdate, RegistrationChange,
    Sealed, StoreError, search,
};

/// A row of `operations` to insert.
#[derive(Debug)]
pub(super) struct OperationRow {
    pub id: String,
    pub registration: Option<String>,
    pub evidence: String,
    pub desired: Option<String>,
    pub rest: Operation,
}

impl OperationRow {
    pub(super) fn new(operation: Operation) -> Result<Self, StoreError> {
        Ok(Self {
            id: operation.id.to_string(),
            registration: operation.registration.map(|id| id.to_string()),
            evidence: json(&operation.evidence)?,
            desired: operation.desired.as_ref().map(json).transpose()?,
            rest: operation,
        })
    }
}

/// An [`OperationUpdate`] to write.
#[derive(Debug)]
pub(super) struct UpdateRow {
    pub id: String,
    pub evidence: String,
    pub rest: OperationUpdate,
}

impl UpdateRow {
    pub(super) fn new(update: OperationUpdate) -> Result<Self, StoreError> {
        Ok(Self { id: update.id.to_string(), evidence: json(&update.evidence)?, rest: update })
    }
}

/// A [`RegistrationChange`] to write.
#[derive(Debug)]
pub(super) enum ChangeRow {
    Insert(Box<RegistrationRow>),
    Update(Box<RegistrationRow>, u64),
    Remove(String),
}

impl ChangeRow {
    pub(super) fn new(change: RegistrationChange) -> Result<Self, StoreError> {
        Ok(match change {
            RegistrationChange::Insert(registration) => Self::Insert(RegistrationRow::new(&registration)?),
            RegistrationChange::Update { registration, expected_version } => {
                Self::Update(RegistrationRow::new(&registration)?, expected_version)
            }
            RegistrationChange::Remove { id } => Self::Remove(id.to_string()),
        })
    }
}

/// A row of `registrations` to write, and its `labels`. Holds texts only: a registration itself is 4 KB before its heap.
#[derive(Debug)]
pub(super) struct RegistrationRow {
    pub id: String,
    pub backend: String,
    pub kind: String,
    pub client_id: String,
    pub vendor_ref: String,
    pub client_id_issued_at: Option<i64>,
    pub version: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub state: &'static str,
    pub spec: String,
    pub observed: Option<String>,
    pub search: String,
    pub labels: BTreeMap<String, String>,
    pub hidden: Hidden,
}

impl RegistrationRow {
    fn new(registration: &Registration) -> Result<Box<Self>, StoreError> {
        let search = search::haystack(registration);
        let Registration {
            id,
            backend,
            kind,
            client_id,
            vendor_ref,
            client_id_issued_at,
            version,
            created_at,
            updated_at,
            state,
            spec,
            observed,
            labels,
            hidden,
        } = registration;
        // comparing is cheaper than encoding, and they mostly are equal
        let observed = (observed != spec).then(|| json(&observed.encode())).transpose()?;
        Ok(Box::new(Self {
            id: id.to_string(),
            backend: backend.to_string(),
            kind: kind.clone(),
            client_id: client_id.to_string(),
            vendor_ref: vendor_ref.clone(),
            client_id_issued_at: *client_id_issued_at,
            version: stored_version(*version),
            created_at: *created_at,
            updated_at: *updated_at,
            state: state.as_str(),
            spec: json(&spec.encode())?,
            observed,
            search,
            labels: labels.clone(),
            hidden: hidden.clone(),
        }))
    }
}

/// SQLite's integers are signed; nothing is written 2^63 times.
pub(super) fn stored_version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The other way.
pub(super) fn read_version(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A row of `api_keys` to insert.
#[derive(Debug)]
pub(super) struct ApiKeyRow {
    pub scopes: String,
    pub rest: ApiKey,
}

impl ApiKeyRow {
    pub(super) fn new(key: ApiKey) -> Result<Self, StoreError> {
        Ok(Self { scopes: json(&key.scopes)?, rest: key })
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Corrupt("a value cannot be written as JSON".to_owned()))
}

/// The columns that [`registration`] reads, of a table called `r`. One statement, so that a registration and its
/// labels are of one moment.
pub(super) const REGISTRATION: &str = "r.id, r.backend, r.kind, r.client_id, r.vendor_ref, r.client_id_issued_at, \
     r.version, r.created_at, r.updated_at, r.state, r.spec, r.observed, \
     (SELECT json_group_object(key, value) FROM labels WHERE registration_id = r.id), \
     r.management, r.access_token, r.previous_access_token, r.previous_access_token_until, r.dcr";

/// A registration from [`REGISTRATION`].
pub(super) fn registration(row: &Row<'_>) -> Result<Registration, StoreError> {
    let id: RegistrationId = parsed(row, 0, "the id of a registration")?;
    let damaged = |member: &str| StoreError::Corrupt(format!("`{member}` of registration {id} cannot be read"));
    let spec = decode_spec(text(row, 10)?).ok_or_else(|| damaged("spec"))?;
    let observed = match row.get_ref(11).and_then(|v| Ok(v.as_str_or_null()?)).map_err(store_error)? {
        Some(observed) => decode_spec(observed).ok_or_else(|| damaged("observed"))?,
        None => spec.clone(),
    };
    let labels: BTreeMap<String, String> = serde_json::from_str(text(row, 12)?).map_err(|_| damaged("labels"))?;
    let state = text(row, 9)?;
    let states = [State::Active, State::Disabled, State::Unknown, State::Gone];
    Ok(Registration {
        id,
        backend: text(row, 1)?.parse().map_err(|_| damaged("backend"))?,
        kind: text(row, 2)?.to_owned(),
        client_id: text(row, 3)?.parse().map_err(|_| damaged("client_id"))?,
        vendor_ref: text(row, 4)?.to_owned(),
        client_id_issued_at: row.get(5).map_err(store_error)?,
        version: row.get(6).map_err(store_error).map(read_version)?,
        created_at: row.get(7).map_err(store_error)?,
        updated_at: row.get(8).map_err(store_error)?,
        state: states.into_iter().find(|s| s.as_str() == state).ok_or_else(|| damaged("state"))?,
        spec,
        observed,
        labels,
        hidden: hidden(row).map_err(store_error)?.ok_or_else(|| damaged("dcr"))?,
    })
}

/// The last columns of [`REGISTRATION`]; `None` when they are damaged.
fn hidden(row: &Row<'_>) -> rusqlite::Result<Option<Hidden>> {
    let previous: Option<[u8; 32]> = row.get(15)?;
    let until: Option<i64> = row.get(16)?;
    let dcr: Option<String> = row.get(17)?;
    let Ok(dcr) = dcr.map(|text| serde_json::from_str(&text)).transpose() else { return Ok(None) };
    let previous_access_token = previous.zip(until);
    Ok(Some(Hidden { management: row.get(13)?, access_token: row.get(14)?, previous_access_token, dcr }))
}

fn decode_spec(text: &str) -> Option<ClientSpec> {
    let object: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut issues = Issues::lenient();
    let (mut spec, unknown) = ClientSpec::decode(&object, &Pointer::root(), &mut issues);
    // only a newer program can have written names that this one does not know: they must survive the next write
    spec.metadata.extra.extend(unknown);
    issues.is_empty().then_some(spec)
}

/// The columns that [`operation`] reads.
pub(super) const OPERATION: &str = "id, action, backend, registration, state, outcome, summary, created_at, \
     updated_at, attempts, evidence, request_id, principal, desired, owner, lease_until, fence";

/// An operation from [`OPERATION`].
pub(super) fn operation(row: &Row<'_>) -> Result<Operation, StoreError> {
    let id: OperationId = parsed(row, 0, "the id of an operation")?;
    let damaged = |member: &str| StoreError::Corrupt(format!("`{member}` of operation {id} cannot be read"));
    let registration = row.get_ref(3).and_then(|v| Ok(v.as_str_or_null()?)).map_err(store_error)?;
    let outcome = text(row, 5)?;
    let outcomes = [Outcome::NotPerformed, Outcome::Performed, Outcome::Unknown];
    Ok(Operation {
        id,
        action: Action::from_word(text(row, 1)?).ok_or_else(|| damaged("action"))?,
        backend: text(row, 2)?.to_owned(),
        registration: registration.map(str::parse).transpose().map_err(|_| damaged("registration"))?,
        state: OperationState::from_word(text(row, 4)?).ok_or_else(|| damaged("state"))?,
        outcome: outcomes.into_iter().find(|o| o.as_str() == outcome).ok_or_else(|| damaged("outcome"))?,
        summary: text(row, 6)?.to_owned(),
        created_at: row.get(7).map_err(store_error)?,
        updated_at: row.get(8).map_err(store_error)?,
        attempts: row.get(9).map_err(store_error)?,
        evidence: serde_json::from_str(text(row, 10)?).map_err(|_| damaged("evidence"))?,
        request_id: text(row, 11)?.to_owned(),
        principal: text(row, 12)?.to_owned(),
        desired: match row.get_ref(13).and_then(|v| Ok(v.as_str_or_null()?)).map_err(store_error)? {
            Some(text) => Some(serde_json::from_str(text).map_err(|_| damaged("desired"))?),
            None => None,
        },
        lease: Lease {
            owner: text(row, 14)?.to_owned(),
            until: row.get(15).map_err(store_error)?,
            fence: read_version(row.get(16).map_err(store_error)?),
        },
    })
}

/// `operation, fingerprint` of `idempotency_keys`.
pub(super) fn key_use(row: &Row<'_>) -> Result<KeyUse, StoreError> {
    Ok(KeyUse {
        operation: parsed(row, 0, "the operation of an idempotency key")?,
        fingerprint: row.get(1).map_err(store_error)?,
    })
}

/// The columns that [`initial_access_token`] reads.
pub(super) const INITIAL_ACCESS_TOKEN: &str = "id, name, hash, created_at, expires_at, uses_left, terms";

/// An initial access token from [`INITIAL_ACCESS_TOKEN`].
pub(super) fn initial_access_token(row: &Row<'_>) -> Result<InitialAccessToken, StoreError> {
    Ok(InitialAccessToken {
        id: text(row, 0)?.to_owned(),
        name: text(row, 1)?.to_owned(),
        hash: row.get(2).map_err(store_error)?,
        created_at: row.get(3).map_err(store_error)?,
        expires_at: row.get(4).map_err(store_error)?,
        uses_left: row.get(5).map_err(store_error)?,
        terms: serde_json::from_str(text(row, 6)?)
            .map_err(|_| StoreError::Corrupt("the terms of an initial access token cannot be read".to_owned()))?,
    })
}

/// `sealed, sealed_until` of `operations`.
pub(super) fn sealed(row: &Row<'_>) -> Result<Sealed, StoreError> {
    Ok(Sealed { bytes: row.get(0).map_err(store_error)?, until: row.get(1).map_err(store_error)? })
}

/// The columns that [`api_key`] reads.
pub(super) const API_KEY: &str = "id, name, hash, scopes, created_at";

/// An API key from [`API_KEY`].
pub(super) fn api_key(row: &Row<'_>) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: text(row, 0)?.to_owned(),
        name: text(row, 1)?.to_owned(),
        hash: row.get(2).map_err(store_error)?,
        scopes: serde_json::from_str(text(row, 3)?)
            .map_err(|_| StoreError::Corrupt("the scopes of an API key cannot be read".to_owned()))?,
        created_at: row.get(4).map_err(store_error)?,
    })
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(store_error)
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize, what: &str) -> Result<T, StoreError> {
    text(row, column)?.parse().map_err(|_| StoreError::Corrupt(format!("{what} cannot be read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_newer_program_survive() {
        let stored = r#"{"metadata":{"client_name":"a","name_of_2031":{"x":1}},"policy":{"enabled":true}}"#;
        let spec = decode_spec(stored).unwrap();
        assert_eq!(spec.metadata.client_name.as_deref(), Some("a"));
        assert_eq!(json(&spec.encode()).unwrap(), stored);
    }

    #[test]
    fn what_cannot_be_read_whole_is_not_read_at_all() {
        for bad in ["", "[]", r#"{"metadata":{"client_name":7}}"#, r#"{"metadata":{},"policy":{"nope":1}}"#] {
            assert_eq!(decode_spec(bad), None, "{bad}");
        }
    }
}
