//! The table of canonical fields: name, type, severity of losing it, comparison, default, source.
//!
//! The tables are made by the same macro as the structs ([`crate::metadata`], [`crate::policy`]), so that a member
//! without a row cannot exist.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use serde::Serialize;
use serde_json::Value;

use crate::loss::Severity;

/// The constructors of each layer's rows by member name: `fields::metadata::jwks_uri()`.
pub mod fields {
    pub use crate::{metadata::rows as metadata, policy::rows as policy};
}

/// How two values of a field are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Equal as JSON.
    Exact,
    /// Arrays (or space-separated strings) equal as sets: vendors reorder them.
    Set,
    /// Arrays of texts equal as sets, and each text as the set of its words (RFC 6749 §3.1.1).
    Words,
    /// JWK Sets equal as sets of keys (RFC 7517 §5).
    Keys,
}

impl Compare {
    /// Whether neither order nor repetition means anything.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, Self::Set | Self::Words)
    }
}

/// The JSON type of a member, for documents and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonType {
    /// A string.
    String,
    /// An array of strings.
    Strings,
    /// `true` or `false`.
    Boolean,
    /// A whole number, not negative.
    Integer,
    /// An object.
    Object,
}

impl JsonType {
    /// Whether an empty value stands for an absent member of this type.
    pub(crate) fn takes_empty(self, value: &Value) -> bool {
        match value {
            Value::String(_) => true,
            Value::Array(_) => matches!(self, Self::Strings | Self::Object),
            Value::Object(_) => self == Self::Object,
            _ => false,
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct FieldInfo {
    /// `metadata.jwks_uri`
    pub path: &'static str,
    /// `jwks_uri`
    pub name: &'static str,
    /// How much it matters when a vendor cannot hold it.
    pub severity: Severity,
    /// How values are compared.
    pub compare: Compare,
    /// The standard's default as JSON text, if it has one.
    pub default: Option<&'static str>,
    /// The JSON type.
    pub json: JsonType,
    /// True when `name#tag` variants are allowed (RFC 7591 §2.2).
    pub localised: bool,
    /// Where the member is defined.
    pub source: &'static str,
    /// What it means.
    pub doc: &'static str,
}

impl FieldInfo {
    /// The standard's default, parsed.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        self.default.and_then(|text| serde_json::from_str(text).ok())
    }

    /// True when the value is what the standard assumes for an absent member.
    #[must_use]
    pub fn is_default(&self, value: &Value) -> bool {
        self.default_value().is_some_and(|d| same(self.compare, &d, value))
    }
}

/// Every field of `metadata`, then every field of `policy`, in canonical order.
pub fn all() -> impl Iterator<Item = &'static FieldInfo> {
    crate::metadata::FIELDS.iter().chain(crate::policy::FIELDS.iter()).copied()
}

/// Rows and their places in canonical order by path.
static INDEX: LazyLock<HashMap<&'static str, (usize, &'static FieldInfo)>> =
    LazyLock::new(|| all().enumerate().map(|(place, field)| (field.path, (place, field))).collect());

fn indexed(path: &str) -> Option<(usize, &'static FieldInfo)> {
    let base = path.split_once('#').map_or(path, |(base, _)| base);
    INDEX.get(base).copied()
}

/// The row of a canonical path such as `metadata.client_name` or `metadata.client_name#fr`; `None` for vendor
/// members, labels and unknown names.
#[must_use]
pub fn lookup(path: &str) -> Option<&'static FieldInfo> {
    indexed(path).map(|(_, field)| field)
}

/// Whether two values of one field mean the same.
#[must_use]
pub fn same(compare: Compare, a: &Value, b: &Value) -> bool {
    // what is equal as it stands needs no sets
    a == b
        || match compare {
            Compare::Exact => false,
            Compare::Set => as_set(a).zip(as_set(b)).is_some_and(|(a, b)| a == b),
            Compare::Words => sets_of_words(a).zip(sets_of_words(b)).is_some_and(|(a, b)| a == b),
            Compare::Keys => keys(a).zip(keys(b)).is_some_and(|(a, b)| {
                a.len() == b.len() && a.iter().all(|key| b.contains(key)) && b.iter().all(|key| a.contains(key))
            }),
        }
}

fn sets_of_words(value: &Value) -> Option<BTreeSet<BTreeSet<&str>>> {
    value.as_array()?.iter().map(|item| Some(item.as_str()?.split_ascii_whitespace().collect())).collect()
}

fn keys(value: &Value) -> Option<&Vec<Value>> {
    value.get("keys")?.as_array()
}

/// The elements of an array of strings, or the words of a string, sorted and without repetitions.
#[must_use]
pub fn as_set(value: &Value) -> Option<Vec<&str>> {
    let mut words: Vec<&str> = match value {
        Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
        Value::String(text) => text.split_ascii_whitespace().collect(),
        _ => return None,
    };
    words.sort_unstable();
    words.dedup();
    Some(words)
}

/// The position of a path in canonical order: known metadata, other metadata, policy, vendor, labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<'p>(usize, &'p str);

impl<'p> Key<'p> {
    pub(crate) fn of(path: &'p str) -> Self {
        let known = indexed(path).map(|(place, _)| place);
        let metadata = crate::metadata::FIELDS.len();
        let rank = match known {
            Some(i) if i < metadata => i,
            // one place between the two tables is for metadata that has no row
            Some(i) => i + 1,
            None if path.starts_with("metadata.") => metadata,
            None if path.starts_with("policy.") => metadata + 1 + crate::policy::FIELDS.len(),
            None if path.starts_with("vendor.") => metadata + 2 + crate::policy::FIELDS.len(),
            None => usize::MAX,
        };
        Self(rank, path)
    }
}
