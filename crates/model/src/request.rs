//! The request envelope of `POST` and `PUT /v1/clients`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    hosts::Reach,
    id::BackendName,
    issue::{IssueCode, Issues, Position, type_name},
    json, jwk,
    loss::{Loss, LossKind, Severity},
    member::{Member, sound_text},
    metadata::SERVER_ASSIGNED,
    registration::Writable,
    spec::ClientSpec,
    text,
};

/// How many labels a registration may have.
pub const MAX_LABELS: usize = 64;

/// A registration as a caller asks for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewRegistration {
    /// Where to register; the routes decide when absent.
    pub backend: Option<BackendName>,
    /// The three writable layers.
    pub spec: ClientSpec,
    /// The gateway's own labels.
    pub labels: BTreeMap<String, String>,
    /// Fields whose loss the caller accepts.
    pub allow_loss: Vec<String>,
    /// Metadata names that no registry knows: ignored (RFC 7591 §2) and reported.
    pub unknown: Vec<(String, Value)>,
    /// What of the keys is neither kept nor sent.
    pub unkept_keys: Option<Loss>,
}

/// The members of the envelope.
pub const ENVELOPE: [&str; 6] = ["backend", "metadata", "policy", "vendor", "labels", "allow_loss"];

impl NewRegistration {
    /// Reads and validates an envelope; every issue at once. Which private hosts its URLs may name is left to the backend
    /// that is chosen for it.
    ///
    /// # Errors
    /// The issues, each with a pointer into the body.
    pub fn decode(body: &Value) -> Result<Self, Vec<crate::Issue>> {
        // members that did not decode would only cause misleading findings of the rules between members
        let out = Self::decode_unvalidated(body)?;
        out.validate_within(Reach::Undecided)?;
        Ok(out)
    }

    /// Checks the rules inside and between members, which [`NewRegistration::decode_unvalidated`] leaves out.
    ///
    /// # Errors
    /// As [`NewRegistration::decode`].
    pub fn validate(&self) -> Result<(), Vec<crate::Issue>> {
        self.validate_within(Reach::Public)
    }

    /// As [`NewRegistration::validate`], of a change of what is recorded: a vendor may hold what no caller may ask for, and
    /// what we gave out we take back. `administrator` leaves private hosts to the backend.
    ///
    /// # Errors
    /// The issues that the record does not have itself, in members that are as they were.
    pub fn validate_change(&self, current: &ClientSpec, administrator: bool) -> Result<(), Vec<crate::Issue>> {
        let reach = if administrator { Reach::Undecided } else { Reach::Public };
        let Err(mut found) = self.validate_within(reach) else { return Ok(()) };
        let mut known = Issues::new();
        current.validate(reach, &Position::root(), &mut known);
        found.retain(|issue| !known.as_slice().contains(issue) || self.spec.differs_at(current, &issue.pointer));
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn validate_within(&self, reach: Reach<'_>) -> Result<(), Vec<crate::Issue>> {
        let mut issues = Issues::new();
        self.spec.validate(reach, &Position::root(), &mut issues);
        issues.into_result(())
    }

    /// Reads an envelope whose members are not complete yet. Whoever completes them calls
    /// [`NewRegistration::validate`] before anything else is done with it.
    ///
    /// # Errors
    /// Members that are not of their type, and texts that no member may have.
    pub fn decode_unvalidated(body: &Value) -> Result<Self, Vec<crate::Issue>> {
        let mut issues = Issues::new();
        let at = Position::root();
        let Value::Object(object) = body else {
            issues.push(at, IssueCode::WrongType, format!("expected an object, found {}", type_name(body)));
            return Err(issues.into_vec());
        };
        for name in object.keys().filter(|n| !ENVELOPE.contains(&n.as_str())) {
            let detail = format!("the envelope has no such member; it has {}", ENVELOPE.join(", "));
            issues.push(at.child(name), IssueCode::UnknownMember, detail);
        }
        // the caller's private keys have no place anywhere in it, not even under names that are ignored
        jwk::refuse_private_keys(body, &at, &mut issues);
        let (spec, unknown) = ClientSpec::decode(object, &at, &mut issues);
        if !object.contains_key("metadata") {
            issues.push(at.child("metadata"), IssueCode::Required, "`metadata` is required (RFC 7591 client metadata)");
        } else if object.get("metadata").is_some_and(Value::is_null) {
            issues.push(at.child("metadata"), IssueCode::WrongType, "expected an object, found null");
        }
        let out = Self {
            backend: backend(object, &at, &mut issues),
            labels: labels(object, &at, &mut issues),
            allow_loss: allow_loss(object, &at, &mut issues),
            unknown,
            unkept_keys: object.get("metadata").and_then(|m| m.get("jwks")).and_then(jwk::set_aside),
            spec,
        };
        issues.into_result(out)
    }

    /// Refuses keys of a type that the registry does not have, for callers who cannot allow their loss.
    ///
    /// # Errors
    /// An issue at the key set.
    pub fn demand_known_keys(&self) -> Result<(), Vec<crate::Issue>> {
        let mut issues = Issues::new();
        if self.unkept_keys.as_ref().is_some_and(|loss| loss.severity == Severity::Security) {
            let detail =
                "a key is of a type that the registry does not have; send keys of the types RSA, EC, OKP or AKP";
            issues.push(Position::root().child("metadata").child("jwks"), IssueCode::InvalidValue, detail);
        }
        issues.into_result(())
    }

    /// Refuses metadata names that no registry knows, except those that only a server may set.
    ///
    /// # Errors
    /// An issue for each of them, with the name that was probably meant.
    pub fn demand_known_names(&self) -> Result<(), Vec<crate::Issue>> {
        let mut issues = Issues::new();
        let (root, known) = (Position::root(), |name: &str| SERVER_ASSIGNED.contains(&name));
        let at = root.child("metadata");
        for (name, _) in self.unknown.iter().filter(|(name, _)| !known(name)) {
            let detail = match crate::metadata::meant_by(name) {
                Some(meant) => format!("not a registered client metadata name; did you mean `{meant}`?"),
                None => "not a registered client metadata name".to_owned(),
            };
            issues.push(at.child(name), IssueCode::UnknownMember, detail);
        }
        issues.into_result(())
    }

    /// What is asked for, as a `PUT` would send it: `metadata`, `policy`, `vendor`, `labels`.
    #[must_use]
    pub fn writable(&self) -> Map<String, Value> {
        let mut out = self.spec.encode();
        if !self.labels.is_empty() {
            out.insert("labels".to_owned(), serde_json::json!(self.labels));
        }
        out
    }

    /// The text of [`NewRegistration::writable`], without the tree.
    #[must_use]
    pub fn to_json(&self) -> String {
        // only a map whose keys are not text has no JSON
        json::text(&Writable { spec: &self.spec, labels: &self.labels }, 512).unwrap_or_default()
    }

    /// The losses that no mapping sees: names that no registry knows or that only a server may set, and keys that are
    /// not kept.
    #[must_use]
    pub fn own_losses(&self) -> Vec<Loss> {
        let loss = |(name, value): &(String, Value)| {
            let assigned = SERVER_ASSIGNED.contains(&name.as_str());
            let meant = if assigned { None } else { crate::metadata::meant_by(name) };
            // such names may hold credentials: never echoed
            let lower = name.to_ascii_lowercase();
            let hide = assigned
                || meant.is_none() && ["secret", "token", "password", "key"].iter().any(|word| lower.contains(word));
            Loss {
                field: format!("metadata.{name}").into(),
                kind: LossKind::Dropped,
                severity: if meant.is_some() { Severity::Functional } else { Severity::Info },
                reason: match meant {
                    _ if assigned => "assigned by the server, never adopted from a request (RFC 7591 §3.2.1)".into(),
                    Some(meant) => {
                        format!("not a registered client metadata name: ignored; did you mean `{meant}`?").into()
                    }
                    None => "not a registered client metadata name: ignored (RFC 7591 §2)".into(),
                },
                wanted: (!hide).then(|| value.clone()),
                got: None,
            }
        };
        self.unkept_keys.iter().cloned().chain(self.unknown.iter().map(loss)).collect()
    }
}

fn backend(object: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) -> Option<BackendName> {
    let value = object.get("backend").filter(|v| !v.is_null())?;
    let at = at.child("backend");
    match sound_text(value, &at, issues)?.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            issues.push(at, IssueCode::InvalidValue, error.to_string());
            None
        }
    }
}

fn labels(object: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) -> BTreeMap<String, String> {
    let Some(value) = object.get("labels").filter(|v| !v.is_null()) else { return BTreeMap::new() };
    let at = at.child("labels");
    let labels = BTreeMap::<String, String>::decode(value, &at, issues).unwrap_or_default();
    if labels.len() > MAX_LABELS {
        issues.push(at, IssueCode::TooLong, format!("more than {MAX_LABELS} labels"));
    }
    for (key, value) in &labels {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        if !(1..=63).contains(&key.len()) || !key.bytes().all(word) {
            let detail = "a label's name is 1 to 63 of letters, digits, '-', '_', '.', '/'";
            issues.push(at.child(key), IssueCode::InvalidValue, detail);
        }
        if value.len() > 255 {
            issues.push(at.child(key), IssueCode::TooLong, "a label's value is at most 255 bytes");
        }
        text::check(value, &at.child(key), issues);
    }
    labels
}

fn allow_loss(object: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) -> Vec<String> {
    let Some(value) = object.get("allow_loss").filter(|v| !v.is_null()) else { return Vec::new() };
    let at = at.child("allow_loss");
    let fields = Vec::<String>::decode(value, &at, issues).unwrap_or_default();
    for (i, field) in fields.iter().enumerate() {
        let known = crate::field::lookup(field).is_some()
            || field.strip_prefix("vendor.").is_some_and(|f| f.contains('.') || !f.is_empty())
            || field.strip_prefix("metadata.").is_some_and(|f| !f.is_empty())
            || field == "labels";
        if !known {
            let detail = "not a canonical field such as metadata.jwks_uri, policy.enabled or vendor.<kind>.<member>";
            issues.push(at.child(i), IssueCode::InvalidValue, detail);
        }
    }
    fields
}
