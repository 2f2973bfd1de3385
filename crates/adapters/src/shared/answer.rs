//! Answers, read member by member: an odd member costs itself and never the client (DESIGN §4). What can be understood
//! is understood, such as a number in a text or a list of one; what cannot is named.

use std::{borrow::Cow, fmt};

use jiff::{Timestamp, civil, fmt::rfc2822, tz::TimeZone};
use registrar_core::{Response, Result, Secrets};
use registrar_model::{Loss, LossKind, Scope, Severity, field::JsonType, json::MAX_DEPTH};
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::{KEPT_MEMBERS, KEPT_NAME, says_nothing};

/// A value is kept three levels deep in the documents that show it: `vendor`, the kind, the member.
const DEEPEST: usize = MAX_DEPTH - 3;
/// The largest whole number that every JSON reader understands alike (RFC 8259 §6).
const MAX_COUNT: u64 = (1 << 53) - 1;
/// Stands in the place of a value that is no JSON. No reader of this module takes a NUL.
const NOT_JSON: &str = "\0not JSON";

const UNREADABLE: &str = "the vendor's answer shows it in a form that cannot be read";
const TOO_DEEP: &str = "the vendor's answer shows it nested deeper than the gateway keeps";

/// The members of one object of an answer.
pub(crate) struct Members {
    members: Map<String, Value>,
    /// The names of the members that could not be understood.
    unread: Vec<String>,
    /// Canonical fields that could not be understood.
    unread_fields: Vec<String>,
    secrets: Secrets,
}

impl Members {
    /// The object that the answer is. Whatever follows it is ignored, and so is a list around it.
    ///
    /// # Errors
    /// When there is no object, or when it is cut off.
    pub(crate) fn of(response: &Response) -> Result<Self> {
        match parse(response.text()) {
            Some((Value::Object(members), true)) => {
                Ok(Self { secrets: response.secrets.clone(), ..Self::from(members) })
            }
            Some((_, false)) => Err(response.malformed("it ends too early")),
            Some(_) => Err(response.malformed("it is not a JSON object")),
            None => Err(response.malformed("it is not JSON")),
        }
    }

    /// The object that a member is, or, where there is none, the object itself if it has `id`: some vendors leave the
    /// envelope out.
    pub(crate) fn inner(mut self, envelope: &str, id: &str) -> Option<Self> {
        match self.members.remove(envelope) {
            Some(Value::Object(members)) => Some(Self { members, ..self }),
            Some(Value::Array(mut list)) if list.len() == 1 => match list.pop() {
                Some(Value::Object(members)) => Some(Self { members, ..self }),
                _ => None,
            },
            _ => self.members.contains_key(id).then_some(self),
        }
    }

    /// The objects of a list. Nothing else may be in it: a list is never silently shorter.
    pub(crate) fn items(&mut self, name: &str) -> Option<Vec<Self>> {
        let Some(Value::Array(items)) = self.members.remove(name) else { return None };
        let item = |item| match item {
            Value::Object(members) => Some(Self { secrets: self.secrets.clone(), ..Self::from(members) }),
            _ => None,
        };
        items.into_iter().map(item).collect()
    }

    /// Takes the secrets out, so that nothing else in the answer can repeat them or the credential of the call. Must come
    /// before everything else that is read.
    pub(crate) fn secrets<const N: usize>(&mut self, names: [&str; N]) -> [Option<String>; N] {
        let taken = names.map(|name| self.text(name));
        let mut secrets = self.secrets.clone();
        taken.iter().flatten().for_each(|secret| secrets.add(secret));
        secrets.hide_in_members(&mut self.members);
        taken
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Takes a member that is of no use.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.members.remove(*name);
        }
    }

    /// Whether a member is an object with `id` in it.
    pub(crate) fn holds(&self, envelope: &str, id: &str) -> bool {
        self.members.get(envelope).and_then(Value::as_object).is_some_and(|inner| inner.contains_key(id))
    }

    /// Gives a member its usual name, unless there is one of that name already.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.members.remove(from) {
            self.members.entry(to).or_insert(value);
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.members.remove(name)? {
            // nearly always, and then nothing is copied
            Value::String(text) if !text.contains('\0') => Some(text),
            other => self.understood(name, other, as_text),
        }
        .filter(|text| !text.is_empty())
    }

    /// A list of words, none of which has a space in it.
    pub(crate) fn words(&mut self, name: &str) -> Option<Vec<String>> {
        self.read(name, as_words).filter(|list| !list.is_empty())
    }

    pub(crate) fn scope(&mut self, name: &str) -> Option<Scope> {
        let words = self.words(name)?;
        let scope = Scope::from_tokens(&words);
        if scope.is_none() {
            self.unread.push(name.to_owned());
        }
        scope
    }

    pub(crate) fn switch(&mut self, name: &str) -> Option<bool> {
        self.read(name, as_switch)
    }

    pub(crate) fn count(&mut self, name: &str) -> Option<u64> {
        self.read(name, as_count)
    }

    /// A time, in Unix seconds.
    pub(crate) fn time(&mut self, name: &str) -> Option<i64> {
        self.read(name, as_time)
    }

    pub(crate) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.read(name, |value| as_object(value).filter(|object| object.values().all(is_shallow)))
    }

    /// A member as it is.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    fn read<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.members.remove(name)?;
        self.understood(name, value, read)
    }

    fn understood<T>(&mut self, name: &str, value: Value, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        if says_nothing(&value) {
            return None;
        }
        let read = read(&value);
        if read.is_none() {
            self.unread.push(name.to_owned());
        }
        read
    }

    /// Notes that a member could not be understood.
    pub(crate) fn not_understood(&mut self, name: &str) {
        self.unread.push(name.to_owned());
    }

    /// Notes that what stands for this field could not be understood.
    pub(crate) fn not_understood_as(&mut self, field: String) {
        self.unread_fields.push(field);
    }

    /// Whether a member could not be understood.
    pub(crate) fn is_unread(&self, name: &str) -> bool {
        self.unread.iter().any(|unread| unread == name)
    }

    /// Members that are read with others.
    pub(crate) fn as_map(&mut self) -> &mut Map<String, Value> {
        &mut self.members
    }

    /// What was not read: members that the gateway keeps without knowing them, and what is told of those that it cannot
    /// keep. `fields` has the canonical field of each member that has one.
    pub(crate) fn rest(mut self, kind: &str, fields: &[(&str, &'static str)]) -> (Map<String, Value>, Vec<Loss>) {
        let field = |name: &str| {
            let canonical = fields.iter().find(|(wire, _)| *wire == name).map(|(_, field)| Cow::Borrowed(*field));
            canonical
                .unwrap_or_else(|| Cow::Owned(format!("vendor.{kind}.{}", registrar_core::error::sanitise(name, 64))))
        };
        let unread = self.unread.iter().map(|name| field(name));
        let unread = unread.chain(std::mem::take(&mut self.unread_fields).into_iter().map(Cow::Owned));
        let mut told: Vec<Loss> = unread.map(|field| not_kept(field, UNREADABLE)).collect();
        let (mut kept, mut surplus) = (0, 0_usize);
        self.members.retain(|name, value| {
            if says_nothing(value) {
                return false;
            }
            if kept == KEPT_MEMBERS || name.len() > KEPT_NAME || name.contains('\0') {
                surplus += 1;
                return false;
            }
            kept += 1;
            let reason = match value {
                value if !is_shallow(value) => TOO_DEEP,
                value if has_nul(value) => UNREADABLE,
                _ => return true,
            };
            told.push(not_kept(field(name), reason));
            false
        });
        if surplus > 0 {
            let reason = format!(
                "the vendor's answer has {surplus} more unknown members than the gateway keeps: at most {KEPT_MEMBERS}, \
                 with names of at most {KEPT_NAME} bytes"
            );
            told.push(not_kept(format!("vendor.{kind}"), reason));
        }
        (self.members, told)
    }
}

fn not_kept(field: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Loss {
    Loss {
        field: field.into(),
        kind: LossKind::Dropped,
        severity: Severity::Info,
        reason: reason.into(),
        wanted: None,
        got: None,
    }
}

impl From<Map<String, Value>> for Members {
    fn from(members: Map<String, Value>) -> Self {
        Self { members, unread: Vec::new(), unread_fields: Vec::new(), secrets: Secrets::default() }
    }
}

/// A value in the JSON type that it should have; `None` when it cannot be understood.
pub(crate) fn in_type(value: Value, json: JsonType, words: bool) -> Option<Value> {
    match (json, &value) {
        (JsonType::Boolean, Value::Bool(_)) => Some(value),
        (JsonType::String, _) => as_text(&value).map(Value::from),
        (JsonType::Strings, _) if words => as_words(&value).map(Value::from),
        (JsonType::Strings, _) => as_texts(&value).map(Value::from),
        (JsonType::Boolean, _) => as_switch(&value).map(Value::from),
        (JsonType::Integer, _) => as_count(&value).map(Value::from),
        (JsonType::Object, _) => as_object(&value).map(Value::Object).filter(is_shallow),
    }
}

/// The only element of a list of one, or the value itself.
fn single(value: &Value) -> &Value {
    match value {
        Value::Array(list) => match list.as_slice() {
            [one] if !one.is_array() => one,
            _ => value,
        },
        _ => value,
    }
}

fn as_text(value: &Value) -> Option<String> {
    match single(value) {
        // the gateway takes no NUL, and what it gives out it must take back
        Value::String(text) if !text.contains('\0') => Some(text.clone()),
        // a float may not be what the vendor wrote
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

fn as_texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(|item| if item.is_array() { None } else { as_text(item) }).collect(),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(list @ Value::Array(_)) => as_texts(&list),
            _ => as_text(value).map(|text| vec![text]),
        },
        other => as_text(other).map(|text| vec![text]),
    }
}

fn as_words(value: &Value) -> Option<Vec<String>> {
    let texts = as_texts(value)?;
    Some(match (value, texts.as_slice()) {
        (Value::String(_), [text]) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => texts,
    })
}

fn as_switch(value: &Value) -> Option<bool> {
    let text = match single(value) {
        Value::Bool(switch) => return Some(*switch),
        other => as_text(other)?,
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn as_count(value: &Value) -> Option<u64> {
    let count = match single(value) {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok().or_else(|| whole(text.trim().parse().ok()?)),
        _ => None,
    };
    count.filter(|count| *count <= MAX_COUNT)
}

fn as_time(value: &Value) -> Option<i64> {
    let time = match single(value) {
        Value::Number(number) => number.as_i64().or_else(|| seconds(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| seconds(text.parse().ok()?)).or_else(|| date(text))
        }
        _ => None,
    };
    time.filter(|time| *time >= 0)
}

/// A float that is a whole number.
fn whole(float: f64) -> Option<u64> {
    let seconds = seconds(float).filter(|_| float.fract() == 0.0)?;
    u64::try_from(seconds).ok()
}

/// The whole seconds of a float, never later than it is.
#[expect(clippy::cast_possible_truncation, reason = "within bounds in which a float holds every whole number")]
fn seconds(float: f64) -> Option<i64> {
    const BOUND: f64 = 9_007_199_254_740_992.0;
    (0.0..BOUND).contains(&float).then_some(float as i64)
}

/// ISO 8601 with or without an offset (then UTC), a date alone, or the form of e-mail and HTTP.
fn date(text: &str) -> Option<i64> {
    let timestamp = |datetime: civil::DateTime| datetime.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let time = text.parse::<Timestamp>().ok();
    let time = time.or_else(|| timestamp(text.parse::<civil::DateTime>().ok()?));
    let time = time.or_else(|| timestamp(text.parse::<civil::Date>().ok()?.at(0, 0, 0, 0)));
    let time = time.or_else(|| rfc2822::DateTimeParser::new().parse_timestamp(text).ok());
    time.map(Timestamp::as_second)
}

fn as_object(value: &Value) -> Option<Map<String, Value>> {
    match single(value) {
        Value::Object(object) => Some(object.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// Whether a value that is not known can be kept.
pub(crate) fn is_plain(value: &Value) -> bool {
    is_shallow(value) && !has_nul(value)
}

/// Whether a value is nested no deeper than the gateway keeps.
fn is_shallow(value: &Value) -> bool {
    fn within(value: &Value, left: usize) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            Value::Array(items) => left > 0 && items.iter().all(|item| within(item, left - 1)),
            Value::Object(members) => left > 0 && members.values().all(|value| within(value, left - 1)),
        }
    }
    within(value, DEEPEST)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
    }
}

/// The first `client_id` of a body, however broken it is otherwise: in the object, or in an object in it.
pub(crate) fn find_text(text: &[u8], names: &[&str]) -> Option<String> {
    let (value, _) = parse(text)?;
    let object = value.as_object()?;
    let within = object.values().filter_map(Value::as_object);
    std::iter::once(object).chain(within).find_map(|object| names.iter().find_map(|name| as_text(object.get(*name)?)))
}

/// A JSON value, and whether it is complete. What is no JSON inside of it, such as half a surrogate pair or a number out
/// of range, costs the member that holds it; so does what is nested too deep.
pub(crate) fn parse(text: &[u8]) -> Option<(Value, bool)> {
    let (value, complete) = match serde_json::from_slice(text) {
        Ok(value) => (value, true),
        Err(_) => salvage(&String::from_utf8_lossy(text), MAX_DEPTH)?,
    };
    Some(match value {
        Value::Array(mut list) if list.len() == 1 && list.first().is_some_and(Value::is_object) => {
            (list.pop().unwrap_or_default(), complete)
        }
        value => (value, complete),
    })
}

/// As much as can be read of an object or list.
fn salvage(text: &str, depth: usize) -> Option<(Value, bool)> {
    let mut parts = Parts::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let start = text.trim_ascii_start();
    let complete = match start.as_bytes().first()? {
        b'{' => reader.deserialize_map(&mut parts).is_ok(),
        b'[' => reader.deserialize_seq(&mut parts).is_ok(),
        _ => return None,
    };
    let part = |raw: &RawValue| -> Value {
        let text = raw.get();
        let value = serde_json::from_str(text).ok();
        let deeper = || if depth == 0 { None } else { salvage(text, depth - 1) };
        value.or_else(|| deeper().map(|(value, _)| value)).unwrap_or_else(|| Value::String(NOT_JSON.to_owned()))
    };
    let values = parts.values.iter().map(|raw| part(raw));
    let value = if start.starts_with('{') {
        Value::Object(parts.names.iter().cloned().zip(values).collect())
    } else {
        Value::Array(values.collect())
    };
    Some((value, complete))
}

/// The members or elements up to the first fault.
#[derive(Default)]
struct Parts {
    names: Vec<String>,
    values: Vec<Box<RawValue>>,
}

impl<'de> Visitor<'de> for &mut Parts {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.values.push(map.next_value()?);
            self.names.push(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(value) = seq.next_element()? {
            self.values.push(value);
        }
        Ok(())
    }
}
