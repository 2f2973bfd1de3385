//! What a client is to be: the three writable layers together.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::{
    field::{Compare, FieldInfo, lookup},
    hosts::Reach,
    issue::{IssueCode, Issues, Pointer, Position, type_name},
    metadata::ClientMetadata,
    policy::Policy,
    severity::is_standard,
};

/// The writable layers of a registration: what a caller asks for, or what a vendor holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSpec {
    /// RFC 7591 members; boxed, because there are many and specs are handed on a lot.
    pub metadata: Box<ClientMetadata>,
    /// Admin-only members.
    pub policy: Policy,
    /// Vendor-only members by vendor kind.
    pub vendor: BTreeMap<String, Map<String, Value>>,
}

impl ClientSpec {
    /// The three layers together.
    #[must_use]
    pub fn new(metadata: ClientMetadata, policy: Policy, vendor: BTreeMap<String, Map<String, Value>>) -> Self {
        Self { metadata: Box::new(metadata), policy, vendor }
    }

    /// Every present field by canonical path (`metadata.scope`, `policy.enabled`, `vendor.<kind>.<member>`). What is empty
    /// asks for nothing and is left out: no vendor can tell it from what is absent.
    #[must_use]
    pub fn flatten(&self) -> BTreeMap<String, Value> {
        let mut out = BTreeMap::new();
        for (name, value) in self.metadata.encode() {
            out.insert(format!("metadata.{name}"), value);
        }
        for (name, value) in self.policy.encode() {
            out.insert(format!("policy.{name}"), value);
        }
        for (kind, members) in &self.vendor {
            for (name, value) in members {
                out.insert(format!("vendor.{kind}.{name}"), value.clone());
            }
        }
        out.retain(|_, v| !is_empty(v));
        out
    }

    /// One field by its canonical path; as in [`ClientSpec::flatten`], what is empty is absent.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<Value> {
        let value = match path.split_once('.')? {
            ("metadata", name) => self.metadata.get(name),
            ("policy", name) => self.policy.get(name),
            ("vendor", rest) => rest.split_once('.').and_then(|(kind, name)| self.vendor.get(kind)?.get(name)).cloned(),
            _ => None,
        };
        value.filter(|v| !is_empty(v))
    }

    /// Tells the fields in which two specs differ.
    pub(crate) fn differences(&self, other: &Self, mut tell: impl FnMut(Difference)) {
        let mut found = Differences(&mut tell);
        self.metadata.differences(&other.metadata, &mut found);
        self.policy.differences(&other.policy, &mut found);
        let none = Map::new();
        let kinds = self.vendor.keys().chain(other.vendor.keys().filter(|kind| !self.vendor.contains_key(*kind)));
        for kind in kinds {
            let (a, b) = (self.vendor.get(kind).unwrap_or(&none), other.vendor.get(kind).unwrap_or(&none));
            found.untyped(format_args!("vendor.{kind}"), a, b);
        }
    }

    /// The spec as the JSON members `metadata`, `policy` and `vendor`; the last two only when they hold something.
    #[must_use]
    pub fn encode(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("metadata".to_owned(), Value::Object(self.metadata.encode()));
        let policy = self.policy.encode();
        if !policy.is_empty() {
            out.insert("policy".to_owned(), Value::Object(policy));
        }
        let vendor: Map<String, Value> = self
            .vendor
            .iter()
            .filter(|(_, members)| !members.is_empty())
            .map(|(kind, members)| (kind.clone(), Value::Object(members.clone())))
            .collect();
        if !vendor.is_empty() {
            out.insert("vendor".to_owned(), Value::Object(vendor));
        }
        out
    }

    /// Writes the same members into a map that is being written, without the tree.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize_members<M: SerializeMap>(&self, out: &mut M) -> Result<(), M::Error> {
        out.serialize_entry("metadata", &self.metadata)?;
        if !self.policy.is_empty() {
            out.serialize_entry("policy", &self.policy)?;
        }
        if self.vendor.values().any(|members| !members.is_empty()) {
            out.serialize_entry("vendor", &Vendor(&self.vendor))?;
        }
        Ok(())
    }

    /// Reads the three layers from an object that has them as members; other members are left to the caller.
    /// The list holds metadata names that no registry knows.
    #[must_use]
    pub fn decode(object: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) -> (Self, Vec<(String, Value)>) {
        let mut spec = Self::default();
        let mut unknown = Vec::new();
        if let Some(metadata) = layer(object, "metadata", at, issues) {
            unknown = spec.metadata.decode_into(metadata, &at.child("metadata"), issues);
        }
        if let Some(policy) = layer(object, "policy", at, issues) {
            spec.policy = Policy::decode(policy, &at.child("policy"), issues);
        }
        if let Some(vendor) = layer(object, "vendor", at, issues) {
            let here = at.child("vendor");
            for (kind, members) in vendor {
                match members {
                    Value::Object(members) => {
                        // as everywhere: what is empty is absent
                        let present = members.iter().filter(|(_, v)| !is_empty(v));
                        spec.vendor.insert(kind.clone(), present.map(|(k, v)| (k.clone(), v.clone())).collect());
                    }
                    Value::Null => {}
                    other => {
                        let detail = format!("expected an object of that vendor's members, found {}", type_name(other));
                        issues.push(here.child(kind), IssueCode::WrongType, detail);
                    }
                }
            }
        }
        (spec, unknown)
    }

    /// Checks every rule of the model. Vendor members are checked by their adapter.
    pub fn validate(&self, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
        crate::validate::metadata_within(&self.metadata, reach, &at.child("metadata"), issues);
        crate::validate::policy(&self.policy, &at.child("policy"), issues);
    }

    /// Whether two specs differ in the member of `metadata` or `policy` that a pointer leads to or into.
    pub(crate) fn differs_at(&self, other: &Self, pointer: &Pointer) -> bool {
        let mut steps = pointer.as_str().split('/').skip(1);
        let (Some(layer), Some(name)) = (steps.next(), steps.next()) else { return true };
        let path = format!("{layer}.{}", name.replace("~1", "/").replace("~0", "~"));
        self.field(&path) != other.field(&path)
    }

    /// The vendor-only members of one kind.
    #[must_use]
    pub fn vendor_members(&self, kind: &str) -> Map<String, Value> {
        self.vendor.get(kind).cloned().unwrap_or_default()
    }
}

/// The members `metadata`, `policy` and `vendor`, as [`ClientSpec::encode`] has them.
impl Serialize for ClientSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        self.serialize_members(&mut out)?;
        out.end()
    }
}

/// The vendors of whose members there are any.
struct Vendor<'v>(&'v BTreeMap<String, Map<String, Value>>);

impl Serialize for Vendor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(_, members)| !members.is_empty()))
    }
}

/// A field with its values on two sides.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) path: Cow<'static, str>,
    /// Its row in the table, if it has one.
    pub(crate) row: Option<&'static FieldInfo>,
    pub(crate) a: Option<Value>,
    pub(crate) b: Option<Value>,
}

/// Looks for differences and tells them; empty values count as absent, and a default on the other side as nothing more.
pub(crate) struct Differences<'t>(&'t mut dyn FnMut(Difference));

impl Differences<'_> {
    pub(crate) fn typed(&mut self, row: &'static FieldInfo, a: Option<Value>, b: Option<Value>) {
        self.push(Cow::Borrowed(row.path), Some(row), a, b);
    }

    /// Members of maps under the path `prefix`, which is only written where they differ.
    pub(crate) fn untyped<'m, M>(&mut self, prefix: impl fmt::Display, a: &'m M, b: &'m M)
    where
        M: PartialEq,
        &'m M: IntoIterator<Item = (&'m String, &'m Value)>,
    {
        if a == b {
            return;
        }
        let sides = |map: &'m M| map.into_iter().collect::<BTreeMap<&String, &Value>>();
        let (a, b) = (sides(a), sides(b));
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).copied().collect();
        for name in names {
            let path = format!("{prefix}.{name}");
            let row = lookup(&path);
            let side = |map: &BTreeMap<&String, &Value>| map.get(name).map(|v| (*v).clone());
            self.push(Cow::Owned(path), row, side(&a), side(&b));
        }
    }

    fn push(&mut self, path: Cow<'static, str>, row: Option<&'static FieldInfo>, a: Option<Value>, b: Option<Value>) {
        let (a, b) = (a.filter(|v| !is_empty(v)), b.filter(|v| !is_empty(v)));
        let compare = row.map_or(Compare::Exact, |f| f.compare);
        let same = match (&a, &b) {
            (None, None) => true,
            (Some(a), Some(b)) => crate::field::same(compare, a, b),
            // absent means the standard's default
            (None, Some(b)) => is_standard(row, b),
            (Some(_), None) => false,
        };
        if !same {
            (self.0)(Difference { path, row, a, b });
        }
    }
}

/// Null, and an empty text, list or object: as good as absent (RFC 7592 §2.2 for an update; nobody can tell them apart
/// elsewhere).
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn layer<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    at: &Position<'_>,
    issues: &mut Issues,
) -> Option<&'a Map<String, Value>> {
    match object.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::Object(layer)) => Some(layer),
        Some(other) => {
            let detail = format!("expected an object, found {}", type_name(other));
            issues.push(at.child(name), IssueCode::WrongType, detail);
            None
        }
    }
}

/// Whether two values of the field at `path` mean the same.
#[must_use]
pub fn same_value(path: &str, a: &Value, b: &Value) -> bool {
    crate::field::same(lookup(path).map_or(Compare::Exact, |f| f.compare), a, b)
}
