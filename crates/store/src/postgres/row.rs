//! Texts that Postgres can hold, and reading its rows.

use std::{borrow::Cow, collections::BTreeMap};

use registrar_model::{Hidden, Registration, RegistrationId};
use tokio_postgres::{Row, types::FromSql};

use crate::{
    ApiKey, InitialAccessToken, KeyUse, Operation, Sealed, StoreError, Unused,
    row::{OperationParts, RegistrationParts, notes, parsed, scopes, terms},
};

/// Postgres has no U+0000 in texts; it is written as this noncharacter and `0`, and the noncharacter as itself and `1`.
const ESCAPE: char = '\u{10fffe}';

/// A text as it is stored.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, '1']),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The other way.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => out.push(if chars.next() == Some('0') { '\0' } else { ESCAPE }),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The columns that [`registration`] reads, of a table called `r`. One statement, so that a registration and its
/// labels are of one moment.
pub(super) const REGISTRATION: &str = "r.id, r.backend, r.kind, r.client_id, r.vendor_ref, r.client_id_issued_at, \
     r.version, r.created_at, r.updated_at, r.state, r.spec, r.observed, \
     ARRAY(SELECT key FROM labels WHERE registration_id = r.id ORDER BY key), \
     ARRAY(SELECT value FROM labels WHERE registration_id = r.id ORDER BY key), \
     r.management, r.access_token, r.previous_access_token, r.previous_access_token_until, r.dcr, \
     r.open_route, r.unused_until, r.notes";

/// A registration from [`REGISTRATION`].
pub(super) fn registration(row: &Row) -> Result<Registration, StoreError> {
    RegistrationParts {
        id: column(row, 0)?,
        backend: column(row, 1)?,
        kind: text(row, 2)?,
        client_id: &text(row, 3)?,
        vendor_ref: text(row, 4)?,
        client_id_issued_at: column(row, 5)?,
        version: column(row, 6)?,
        created_at: column(row, 7)?,
        updated_at: column(row, 8)?,
        state: column(row, 9)?,
        spec: column(row, 10)?,
        observed: column(row, 11)?,
        labels: labels(row)?,
        hidden: hidden(row)?,
    }
    .decode()
}

/// From the two arrays of [`REGISTRATION`].
fn labels(row: &Row) -> Result<BTreeMap<String, String>, StoreError> {
    let (keys, values): (Vec<&str>, Vec<&str>) = (column(row, 12)?, column(row, 13)?);
    Ok(keys.into_iter().zip(values).map(|(k, v)| (unescape(k).into_owned(), unescape(v).into_owned())).collect())
}

/// The last columns of [`REGISTRATION`].
fn hidden(row: &Row) -> Result<Hidden, StoreError> {
    let previous: Option<&[u8]> = column(row, 16)?;
    let until: Option<i64> = column(row, 17)?;
    let access_token: Option<&[u8]> = column(row, 15)?;
    let dcr: Option<&str> = column(row, 18)?;
    Ok(Hidden {
        management: column(row, 14)?,
        access_token: access_token.map(hash).transpose()?,
        previous_access_token: previous.map(hash).transpose()?.zip(until),
        dcr: dcr
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_| StoreError::Corrupt("`dcr` of a registration cannot be read".to_owned()))?,
        open_route: column::<Option<&str>>(row, 19)?.map(|route| unescape(route).into_owned()),
        unused_until: column(row, 20)?,
        notes: notes(column::<Option<&str>>(row, 21)?.map(unescape).as_deref())?,
    })
}

/// The columns of `operations` that [`operation`] reads and `begin` writes, in one order.
pub(super) const OPERATION: &str = "id, action, backend, registration, state, outcome, summary, created_at, \
     updated_at, attempts, evidence, request_id, principal, desired, owner, lease_until, fence";

/// An operation from [`OPERATION`].
pub(super) fn operation(row: &Row) -> Result<Operation, StoreError> {
    OperationParts {
        id: column(row, 0)?,
        action: column(row, 1)?,
        backend: text(row, 2)?,
        registration: column(row, 3)?,
        state: column(row, 4)?,
        outcome: column(row, 5)?,
        summary: text(row, 6)?,
        created_at: column(row, 7)?,
        updated_at: column(row, 8)?,
        attempts: column(row, 9)?,
        evidence: column(row, 10)?,
        request_id: text(row, 11)?,
        principal: text(row, 12)?,
        desired: column(row, 13)?,
        owner: text(row, 14)?,
        lease_until: column(row, 15)?,
        fence: column(row, 16)?,
    }
    .decode()
}

/// `id` of `registrations`.
pub(super) fn registered(row: &Row) -> Result<RegistrationId, StoreError> {
    parsed(column(row, 0)?, "the id of a registration")
}

/// `unused_until, id` of `registrations`.
pub(super) fn unused(row: &Row) -> Result<Unused, StoreError> {
    Ok(Unused { until: column(row, 0)?, id: parsed(column(row, 1)?, "the id of a registration")? })
}

/// `operation, fingerprint` of `idempotency_keys`.
pub(super) fn key_use(row: &Row) -> Result<KeyUse, StoreError> {
    Ok(KeyUse {
        operation: parsed(column(row, 0)?, "the operation of an idempotency key")?,
        fingerprint: hash(column(row, 1)?)?,
    })
}

/// `sealed, sealed_until` of `operations`.
pub(super) fn sealed(row: &Row) -> Result<Sealed, StoreError> {
    Ok(Sealed { bytes: column(row, 0)?, until: column(row, 1)? })
}

/// The columns that [`initial_access_token`] reads.
pub(super) const INITIAL_ACCESS_TOKEN: &str = "id, name, hash, created_at, expires_at, uses_left, terms";

/// An initial access token from [`INITIAL_ACCESS_TOKEN`].
pub(super) fn initial_access_token(row: &Row) -> Result<InitialAccessToken, StoreError> {
    let uses_left: Option<i64> = column(row, 5)?;
    Ok(InitialAccessToken {
        id: text(row, 0)?,
        name: text(row, 1)?,
        hash: hash(column(row, 2)?)?,
        created_at: column(row, 3)?,
        expires_at: column(row, 4)?,
        uses_left: uses_left.map(u32::try_from).transpose().map_err(|_| damaged())?,
        terms: terms(column(row, 6)?)?,
    })
}

/// The columns that [`api_key`] reads.
pub(super) const API_KEY: &str = "id, name, hash, scopes, created_at";

/// An API key from [`API_KEY`].
pub(super) fn api_key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: text(row, 0)?,
        name: text(row, 1)?,
        hash: hash(column(row, 2)?)?,
        scopes: scopes(column(row, 3)?)?,
        created_at: column(row, 4)?,
    })
}

pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index).map_err(|_| damaged())
}

fn text(row: &Row, index: usize) -> Result<String, StoreError> {
    Ok(unescape(column(row, index)?).into_owned())
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| damaged())
}

fn damaged() -> StoreError {
    StoreError::Corrupt("a row does not have the form of its table".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_can_be_stored_and_comes_back(text in "(\\PC|\0|\u{10fffe}|0|1){0,12}") {
            let stored = escape(&text);
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(unescape(&stored), text.as_str());
        }
    }
}
