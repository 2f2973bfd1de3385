//! Rows, whatever the database: what is stored, as texts and numbers.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use registrar_core::Outcome;
use registrar_model::{
    ClientSpec, Hidden, Issues, Notes, OperationId, Position, Registration, RegistrationId, State, json::text,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Action, ApiKey, Lease, Operation, OperationState, OperationUpdate, RegistrationChange, StoreError, search,
};

/// A row of `operations` to insert.
#[derive(Debug)]
pub(crate) struct OperationRow {
    pub id: String,
    pub registration: Option<String>,
    pub evidence: String,
    pub rest: Arc<Operation>,
}

impl OperationRow {
    pub(crate) fn new(operation: Arc<Operation>) -> Result<Self, StoreError> {
        Ok(Self {
            id: operation.id.to_string(),
            registration: operation.registration.map(|id| id.to_string()),
            // an intent has none, or hardly any
            evidence: json(&operation.evidence, 0)?,
            rest: operation,
        })
    }
}

/// An [`OperationUpdate`] to write.
#[derive(Debug)]
pub(crate) struct UpdateRow {
    pub id: String,
    pub rest: Arc<OperationUpdate>,
}

impl UpdateRow {
    pub(crate) fn new(update: Arc<OperationUpdate>) -> Self {
        Self { id: update.id.to_string(), rest: update }
    }
}

/// A [`RegistrationChange`] to write.
#[derive(Debug)]
pub(crate) enum ChangeRow {
    Insert(Box<RegistrationRow>),
    Update(Box<RegistrationRow>, u64),
    Remove(String),
}

impl ChangeRow {
    pub(crate) fn new(change: RegistrationChange) -> Result<Self, StoreError> {
        Ok(match change {
            RegistrationChange::Insert(registration) => Self::Insert(RegistrationRow::new(registration)?),
            RegistrationChange::Update { registration, expected_version } => {
                Self::Update(RegistrationRow::new(registration)?, expected_version)
            }
            RegistrationChange::Remove { id } => Self::Remove(id.to_string()),
        })
    }
}

/// A row of `registrations` to write, and its `labels`: what has another form there than in the registration itself.
#[derive(Debug)]
pub(crate) struct RegistrationRow {
    pub id: String,
    pub version: i64,
    pub spec: String,
    pub observed: Option<String>,
    pub search: String,
    pub rest: Arc<Registration>,
}

impl RegistrationRow {
    fn new(registration: Arc<Registration>) -> Result<Box<Self>, StoreError> {
        let Registration { id, version, spec, observed, .. } = registration.as_ref();
        Ok(Box::new(Self {
            id: id.to_string(),
            version: stored_version(*version),
            spec: json(spec.as_ref(), SPEC)?,
            // comparing is cheaper than encoding, and they mostly are equal, or even one and the same
            observed: (observed != spec).then(|| json(observed.as_ref(), SPEC)).transpose()?,
            search: search::haystack(&registration),
            rest: registration,
        }))
    }
}

/// Databases have signed integers; nothing is written 2^63 times.
pub(crate) fn stored_version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The other way.
pub(crate) fn read_version(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A row of `api_keys` to insert.
#[derive(Debug)]
pub(crate) struct ApiKeyRow {
    pub scopes: String,
    pub rest: ApiKey,
}

impl ApiKeyRow {
    pub(crate) fn new(key: ApiKey) -> Result<Self, StoreError> {
        Ok(Self { scopes: json(&key.scopes, SPEC)?, rest: key })
    }
}

/// About as long as a specification is, in bytes.
const SPEC: usize = 512;

/// The text of a value, which is expected to have `size` bytes.
fn json<T: Serialize>(value: &T, size: usize) -> Result<String, StoreError> {
    text(value, size).map_err(|_| StoreError::Corrupt("a value cannot be written as JSON".to_owned()))
}

/// The texts and numbers of a registration, as read.
pub(crate) struct RegistrationParts<'a> {
    pub id: &'a str,
    pub backend: &'a str,
    pub kind: String,
    pub client_id: &'a str,
    pub vendor_ref: String,
    pub client_id_issued_at: Option<i64>,
    pub version: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub state: &'a str,
    pub spec: &'a str,
    pub observed: Option<&'a str>,
    pub labels: BTreeMap<String, String>,
    pub hidden: Hidden,
}

impl RegistrationParts<'_> {
    pub(crate) fn decode(self) -> Result<Registration, StoreError> {
        let id: RegistrationId = parsed(self.id, "the id of a registration")?;
        let damaged = |member: &str| StoreError::Corrupt(format!("`{member}` of registration {id} cannot be read"));
        let spec = Arc::new(decode_spec(self.spec).ok_or_else(|| damaged("spec"))?);
        let observed = match self.observed {
            Some(observed) => Arc::new(decode_spec(observed).ok_or_else(|| damaged("observed"))?),
            None => Arc::clone(&spec),
        };
        let states = [State::Active, State::Disabled, State::Unknown, State::Gone];
        Ok(Registration {
            id,
            backend: self.backend.parse().map_err(|_| damaged("backend"))?,
            kind: self.kind,
            client_id: self.client_id.parse().map_err(|_| damaged("client_id"))?,
            vendor_ref: self.vendor_ref,
            client_id_issued_at: self.client_id_issued_at,
            version: read_version(self.version),
            created_at: self.created_at,
            updated_at: self.updated_at,
            state: states.into_iter().find(|s| s.as_str() == self.state).ok_or_else(|| damaged("state"))?,
            spec,
            observed,
            labels: self.labels,
            hidden: self.hidden,
        })
    }
}

/// The texts and numbers of an operation, as read.
pub(crate) struct OperationParts<'a> {
    pub id: &'a str,
    pub action: &'a str,
    pub backend: String,
    pub registration: Option<&'a str>,
    pub state: &'a str,
    pub outcome: &'a str,
    pub summary: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub attempts: i64,
    pub evidence: &'a str,
    pub request_id: String,
    pub principal: String,
    pub desired: Option<&'a str>,
    pub owner: String,
    pub lease_until: i64,
    pub fence: i64,
}

impl OperationParts<'_> {
    pub(crate) fn decode(self) -> Result<Operation, StoreError> {
        let id: OperationId = parsed(self.id, "the id of an operation")?;
        let damaged = |member: &str| StoreError::Corrupt(format!("`{member}` of operation {id} cannot be read"));
        let outcomes = [Outcome::NotPerformed, Outcome::Performed, Outcome::Unknown];
        Ok(Operation {
            id,
            action: Action::from_word(self.action).ok_or_else(|| damaged("action"))?,
            backend: self.backend,
            registration: self.registration.map(str::parse).transpose().map_err(|_| damaged("registration"))?,
            state: OperationState::from_word(self.state).ok_or_else(|| damaged("state"))?,
            outcome: outcomes.into_iter().find(|o| o.as_str() == self.outcome).ok_or_else(|| damaged("outcome"))?,
            summary: self.summary.into(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            attempts: u32::try_from(self.attempts).map_err(|_| damaged("attempts"))?,
            evidence: serde_json::from_str(self.evidence).map_err(|_| damaged("evidence"))?,
            request_id: self.request_id.into(),
            principal: self.principal.into(),
            desired: self.desired.map(str::to_owned),
            lease: Lease { owner: self.owner.into(), until: self.lease_until, fence: read_version(self.fence) },
        })
    }
}

/// The terms of an initial access token.
pub(crate) fn terms(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text)
        .map_err(|_| StoreError::Corrupt("the terms of an initial access token cannot be read".to_owned()))
}

/// The text of what was noticed of a client; `None` for nothing.
pub(crate) fn notes_text(notes: &Notes) -> Option<String> {
    if notes.is_empty() { None } else { serde_json::to_string(notes).ok() }
}

/// What was noticed of a client.
pub(crate) fn notes(text: Option<&str>) -> Result<Notes, StoreError> {
    text.map_or_else(|| Ok(Notes::default()), serde_json::from_str)
        .map_err(|_| StoreError::Corrupt("`notes` of a registration cannot be read".to_owned()))
}

/// The scopes of an API key.
pub(crate) fn scopes(text: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("the scopes of an API key cannot be read".to_owned()))
}

/// What must have the form of `T`.
pub(crate) fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("{what} cannot be read")))
}

fn decode_spec(text: &str) -> Option<ClientSpec> {
    let object: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut issues = Issues::lenient();
    let (mut spec, unknown) = ClientSpec::decode(&object, &Position::root(), &mut issues);
    // only a newer program can have written names that this one does not know: they must survive the next write
    spec.metadata.extra.extend(unknown);
    issues.is_empty().then_some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_newer_program_survive() {
        let stored = r#"{"metadata":{"client_name":"a","name_of_2031":{"x":1}},"policy":{"enabled":true}}"#;
        let spec = decode_spec(stored).unwrap();
        assert_eq!(spec.metadata.client_name.as_deref(), Some("a"));
        assert_eq!(json(&spec.encode(), SPEC).unwrap(), stored);
    }

    #[test]
    fn what_cannot_be_read_whole_is_not_read_at_all() {
        for bad in ["", "[]", r#"{"metadata":{"client_name":7}}"#, r#"{"metadata":{},"policy":{"nope":1}}"#] {
            assert_eq!(decode_spec(bad), None, "{bad}");
        }
    }
}
