//! A cursor over one table that remembers which keys were read and where they stand.

use std::{collections::BTreeSet, ops::Range};

use registrar_core::settings::closest;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::diagnostic::Collector;

pub(super) struct Section<'a, 'i> {
    table: &'a DeTable<'i>,
    pub(super) span: Option<Range<usize>>,
    pub(super) path: String,
    seen: BTreeSet<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(table: &'a DeTable<'i>, span: Option<Range<usize>>, path: &str) -> Self {
        Self { table, span, path: path.to_owned(), seen: BTreeSet::new() }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.seen.insert(key);
        self.table.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn warn(&self, key: &str, out: &mut Collector<'_>, message: impl Into<String>, hint: Option<String>) {
        out.warn(self.span_of(key), &self.path_of(key), message, hint);
    }

    /// Where a key's value stands, or the section when the key is missing.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(Spanned::span).or_else(|| self.span.clone())
    }

    pub(super) fn error(&self, key: &str, out: &mut Collector<'_>, message: impl Into<String>, hint: Option<String>) {
        out.push(self.span_of(key), &self.path_of(key), message, hint);
    }

    pub(super) fn text(&mut self, key: &'static str, out: &mut Collector<'_>) -> Option<String> {
        match self.get(key)?.get_ref() {
            DeValue::String(text) if !text.is_empty() => Some(text.to_string()),
            DeValue::String(_) => {
                self.error(key, out, "must not be empty", None);
                None
            }
            other => {
                self.error(key, out, format!("must be a string, found {}", other.type_str()), None);
                None
            }
        }
    }

    pub(super) fn required(&mut self, key: &'static str, out: &mut Collector<'_>, example: &str) -> Option<String> {
        if self.get(key).is_none() {
            self.error(key, out, "is required", Some(format!("add `{key} = {example}`")));
            return None;
        }
        self.text(key, out)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool, out: &mut Collector<'_>) -> bool {
        match self.get(key).map(Spanned::get_ref) {
            None => default,
            Some(DeValue::Boolean(value)) => *value,
            Some(other) => {
                let hint = Some(format!("write `{key} = true` or `{key} = false`, without quotes"));
                self.error(key, out, format!("must be true or false, found {}", other.type_str()), hint);
                default
            }
        }
    }

    pub(super) fn integer(&mut self, key: &'static str, range: Range<usize>, out: &mut Collector<'_>) -> Option<usize> {
        let value = match self.get(key)?.get_ref() {
            DeValue::Integer(value) => usize::from_str_radix(&value.as_str().replace('_', ""), value.radix()).ok(),
            _ => None,
        };
        let value = value.filter(|v| range.contains(v));
        if value.is_none() {
            let message = format!("must be a whole number from {} to {}", range.start, range.end - 1);
            self.error(key, out, message, None);
        }
        value
    }

    pub(super) fn section(&mut self, key: &'static str, out: &mut Collector<'_>) -> Option<Section<'a, 'i>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(table, Some(value.span()), &self.path_of(key))),
            other => {
                self.error(key, out, format!("must be a table, found {}", other.type_str()), None);
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str, out: &mut Collector<'_>) -> Vec<Section<'a, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.error(key, out, "must be a list of tables", Some(format!("write `[[{key}]]`")));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}[{i}]", self.path_of(key));
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(table, Some(item.span()), &path)),
                other => {
                    out.push(Some(item.span()), &path, format!("must be a table, found {}", other.type_str()), None)
                }
            }
        }
        sections
    }

    /// Reports keys that nobody asked for.
    pub(super) fn finish(self, out: &mut Collector<'_>) {
        for (key, _) in self.table.iter().filter(|(k, _)| !self.seen.contains(k.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let known: Vec<&str> = self.seen.iter().copied().collect();
            let hint = closest(name, known.iter().copied()).map(|w| format!("did you mean `{w}`?"));
            let message = format!("unknown key; known keys are {}", known.join(", "));
            out.push(Some(key.span()), &self.path_of(name), message, hint);
        }
    }
}
