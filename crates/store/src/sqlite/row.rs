//! Reading SQLite's rows, on a reader's thread.

use registrar_model::{Hidden, Registration, RegistrationId};
use rusqlite::Row;

use super::store_error;
use crate::{
    ApiKey, InitialAccessToken, KeyUse, Operation, Sealed, StoreError, Unused,
    row::{OperationParts, RegistrationParts, notes, parsed, scopes, terms},
};

/// The columns that [`registration`] reads, of a table called `r`. One statement, so that a registration and its
/// labels are of one moment.
pub(super) const REGISTRATION: &str = "r.id, r.backend, r.kind, r.client_id, r.vendor_ref, r.client_id_issued_at, \
     r.version, r.created_at, r.updated_at, r.state, r.spec, r.observed, \
     (SELECT json_group_object(key, value) FROM labels WHERE registration_id = r.id), \
     r.management, r.access_token, r.previous_access_token, r.previous_access_token_until, r.dcr, r.open_route, \
     r.unused_until, r.notes";

/// A registration from [`REGISTRATION`].
pub(super) fn registration(row: &Row<'_>) -> Result<Registration, StoreError> {
    RegistrationParts {
        id: text(row, 0)?,
        backend: text(row, 1)?,
        kind: text(row, 2)?.to_owned(),
        client_id: text(row, 3)?,
        vendor_ref: text(row, 4)?.to_owned(),
        client_id_issued_at: row.get(5).map_err(store_error)?,
        version: row.get(6).map_err(store_error)?,
        created_at: row.get(7).map_err(store_error)?,
        updated_at: row.get(8).map_err(store_error)?,
        state: text(row, 9)?,
        spec: text(row, 10)?,
        observed: optional_text(row, 11)?,
        labels: serde_json::from_str(text(row, 12)?)
            .map_err(|_| StoreError::Corrupt("the labels of a registration cannot be read".to_owned()))?,
        hidden: hidden(row)
            .map_err(store_error)?
            .ok_or_else(|| StoreError::Corrupt("`dcr` or `notes` of a registration cannot be read".to_owned()))?,
    }
    .decode()
}

/// The last columns of [`REGISTRATION`]; `None` when they are damaged.
fn hidden(row: &Row<'_>) -> rusqlite::Result<Option<Hidden>> {
    let previous: Option<[u8; 32]> = row.get(15)?;
    let until: Option<i64> = row.get(16)?;
    let dcr: Option<String> = row.get(17)?;
    let Ok(dcr) = dcr.map(|text| serde_json::from_str(&text)).transpose() else { return Ok(None) };
    let Ok(notes) = notes(row.get_ref(20)?.as_str_or_null()?) else { return Ok(None) };
    let previous_access_token = previous.zip(until);
    Ok(Some(Hidden {
        management: row.get(13)?,
        access_token: row.get(14)?,
        previous_access_token,
        dcr,
        open_route: row.get(18)?,
        unused_until: row.get(19)?,
        notes,
    }))
}

/// The columns that [`operation`] reads.
pub(super) const OPERATION: &str = "id, action, backend, registration, state, outcome, summary, created_at, \
     updated_at, attempts, evidence, request_id, principal, desired, owner, lease_until, fence";

/// An operation from [`OPERATION`].
pub(super) fn operation(row: &Row<'_>) -> Result<Operation, StoreError> {
    OperationParts {
        id: text(row, 0)?,
        action: text(row, 1)?,
        backend: text(row, 2)?.to_owned(),
        registration: optional_text(row, 3)?,
        state: text(row, 4)?,
        outcome: text(row, 5)?,
        summary: text(row, 6)?.to_owned(),
        created_at: row.get(7).map_err(store_error)?,
        updated_at: row.get(8).map_err(store_error)?,
        attempts: row.get(9).map_err(store_error)?,
        evidence: text(row, 10)?,
        request_id: text(row, 11)?.to_owned(),
        principal: text(row, 12)?.to_owned(),
        desired: optional_text(row, 13)?,
        owner: text(row, 14)?.to_owned(),
        lease_until: row.get(15).map_err(store_error)?,
        fence: row.get(16).map_err(store_error)?,
    }
    .decode()
}

/// `id` of `registrations`.
pub(super) fn registered(row: &Row<'_>) -> Result<RegistrationId, StoreError> {
    parsed(text(row, 0)?, "the id of a registration")
}

/// `unused_until, id` of `registrations`.
pub(super) fn unused(row: &Row<'_>) -> Result<Unused, StoreError> {
    Ok(Unused { until: row.get(0).map_err(store_error)?, id: parsed(text(row, 1)?, "the id of a registration")? })
}

/// `operation, fingerprint` of `idempotency_keys`.
pub(super) fn key_use(row: &Row<'_>) -> Result<KeyUse, StoreError> {
    Ok(KeyUse {
        operation: parsed(text(row, 0)?, "the operation of an idempotency key")?,
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
        terms: terms(text(row, 6)?)?,
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
        scopes: scopes(text(row, 3)?)?,
        created_at: row.get(4).map_err(store_error)?,
    })
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(store_error)
}

fn optional_text<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a str>, StoreError> {
    row.get_ref(column).and_then(|value| Ok(value.as_str_or_null()?)).map_err(store_error)
}
