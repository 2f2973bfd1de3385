//! Strict JSON (RFC 8259) for requests: no duplicate member names, bounded depth, no NUL, and error texts that never
//! quote the input (a quoted value could be a secret).

use std::{cell::RefCell, fmt};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, map::Entry};

use crate::issue::{Issue, IssueCode, Issues, Pointer, Position};

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 32;
/// How long the name of a member may be, in bytes: no registered one has more than 60.
pub const MAX_MEMBER_NAME: usize = 256;
/// How many members an object may have.
pub const MAX_MEMBERS: usize = 1_000;

/// Why a body is not acceptable JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not JSON at all; the sentence says where (line and column), never what.
    Malformed(String),
    /// JSON, but with duplicate members, too deep, too wide, or with NUL in a string.
    Refused(Vec<Issue>),
}

/// The JSON of a value, in a buffer that is expected to need `size` bytes: growing one costs more than writing to it.
///
/// # Errors
/// A map whose keys are not text.
pub fn text(value: &impl Serialize, size: usize) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(size);
    serde_json::to_writer(&mut out, value)?;
    String::from_utf8(out).map_err(serde_json::Error::custom)
}

/// Parses a body strictly. After [`MAX_FINDINGS`](crate::issue::MAX_FINDINGS) the rest is not read: the work for a body is
/// at most proportional to its length.
///
/// # Errors
/// [`JsonError`], without any part of the input in its text.
pub fn parse(body: &[u8]) -> Result<Value, JsonError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Malformed("the body is empty; a JSON object is expected".to_owned()));
    }
    let issues = RefCell::new(Issues::new());
    let mut de = serde_json::Deserializer::from_slice(body);
    let seed = Strict { at: &Position::root(), depth: 0, issues: &issues };
    let parsed = seed.deserialize(&mut de).and_then(|value| de.end().map(|()| value));
    let issues = issues.into_inner();
    match parsed {
        _ if !issues.is_empty() => Err(JsonError::Refused(issues.into_vec())),
        Ok(value) => Ok(value),
        Err(error) => Err(JsonError::Malformed(format!(
            "the body is not valid JSON: {} at line {} column {}",
            if error.is_eof() { "it ends too early" } else { "unexpected input" },
            error.line(),
            error.column()
        ))),
    }
}

struct Strict<'a> {
    at: &'a Position<'a>,
    depth: usize,
    issues: &'a RefCell<Issues>,
}

impl Strict<'_> {
    fn text(&self, text: &str) {
        if text.contains('\0') {
            // the one place outside their own rules where redirect URIs are refused has the same code for it
            let at = Pointer::from(self.at);
            let redirect = at.as_str().rsplit('/').nth(1) == Some("redirect_uris");
            let code = if redirect { IssueCode::InvalidRedirectUri } else { IssueCode::ForbiddenCharacter };
            self.issues.borrow_mut().push(at, code, "NUL is not allowed in text");
        }
    }

    fn enter<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            let detail = format!("nested deeper than {MAX_DEPTH} levels");
            self.issues.borrow_mut().push(Position::root(), IssueCode::TooLong, detail);
            return Err(E::custom("too deep"));
        }
        Ok(self.depth + 1)
    }

    /// Ends the parsing when no more would be told.
    fn go_on<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.issues.borrow().is_full() { Err(E::custom("too many findings")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        self.text(v);
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        self.text(&v);
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.enter::<A::Error>()?;
        let mut items = Vec::new();
        while let Some(item) =
            seq.next_element_seed(Strict { at: &self.at.child(items.len()), depth, issues: self.issues })?
        {
            items.push(item);
            self.go_on()?;
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.enter::<A::Error>()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name.contains('\0') {
                self.issues.borrow_mut().push(self.at, IssueCode::ForbiddenCharacter, "NUL in a member name");
            }
            if name.len() > MAX_MEMBER_NAME {
                let detail = format!("a member name is longer than {MAX_MEMBER_NAME} bytes");
                self.issues.borrow_mut().push(self.at, IssueCode::TooLong, detail);
            }
            let value = map.next_value_seed(Strict { at: &self.at.child(&name), depth, issues: self.issues })?;
            match members.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(value);
                }
                Entry::Occupied(taken) => {
                    let detail = "this member appears more than once in its object";
                    self.issues.borrow_mut().push(self.at.child(taken.key()), IssueCode::DuplicateMember, detail);
                }
            }
            if members.len() > MAX_MEMBERS {
                let detail = format!("an object has more than {MAX_MEMBERS} members");
                self.issues.borrow_mut().push(self.at, IssueCode::TooLong, detail);
                return Err(A::Error::custom("too many members"));
            }
            self.go_on()?;
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::MAX_FINDINGS;

    fn codes(body: &str) -> Vec<(String, IssueCode)> {
        match parse(body.as_bytes()) {
            Err(JsonError::Refused(issues)) => {
                issues.into_iter().map(|i| (i.pointer.as_str().to_owned(), i.code)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn duplicates_are_found_everywhere() {
        assert_eq!(
            codes(r#"{"a":1,"b":{"c":1,"c":2},"a":3}"#),
            [("#/b/c".to_owned(), IssueCode::DuplicateMember), ("#/a".to_owned(), IssueCode::DuplicateMember)]
        );
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(codes(&deep(MAX_DEPTH + 1)), [("#".to_owned(), IssueCode::TooLong)]);
        assert_eq!(codes(&deep(100_000)), [("#".to_owned(), IssueCode::TooLong)]);
    }

    #[test]
    fn long_names_and_wide_objects_are_refused() {
        let named = |n: usize| format!(r#"{{"a":{{"{}":1}}}}"#, "n".repeat(n));
        assert!(parse(named(MAX_MEMBER_NAME).as_bytes()).is_ok());
        assert_eq!(codes(&named(MAX_MEMBER_NAME + 1)), [("#/a".to_owned(), IssueCode::TooLong)]);
        let wide = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"m{i}\":1")).collect::<Vec<_>>().join(","));
        assert!(parse(wide(MAX_MEMBERS).as_bytes()).is_ok());
        assert_eq!(codes(&wide(MAX_MEMBERS + 1)), [("#".to_owned(), IssueCode::TooLong)]);
    }

    #[test]
    fn a_hundred_findings_are_enough() {
        let nul = r#""\u0000""#;
        let list = |n: usize, item: &str| vec![item; n].join(",");
        let twice: String = (0..200).map(|i| format!("\"m{i}\":0,\"m{i}\":0,")).collect();
        for (body, told) in [
            (format!("[{}]", list(4_000, nul)), MAX_FINDINGS),
            (format!("{{{twice}\"end\":0}}"), MAX_FINDINGS),
            // one finding, and one place, however often
            (format!("{{{}}}", list(4_000, "\"a\":1")), 1),
            (format!("{{{}}}", list(4_000, &format!("{nul}:1"))), 2),
        ] {
            assert_eq!(codes(&body).len(), told, "{}", &body[..40]);
            // nothing behind them is read: not even that it is no JSON
            let cut = &body[..body.len() / 2];
            assert_eq!(codes(cut), codes(&body));
        }
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(codes(r#"{"a":["x\u0000"]}"#), [("#/a/0".to_owned(), IssueCode::ForbiddenCharacter)]);
        let redirect = [("#/metadata/redirect_uris/0".to_owned(), IssueCode::InvalidRedirectUri)];
        assert_eq!(codes(r#"{"metadata":{"redirect_uris":["x\u0000"]}}"#), redirect);
    }

    #[test]
    fn malformed_texts_never_quote_the_input() {
        for bad in
            ["", "  ", "{", "[1,", "{\"canary\":canary}", "nul", "1e400", "\u{feff}{}", "{} canary", "\"\\ud800\""]
        {
            match parse(bad.as_bytes()) {
                Err(JsonError::Malformed(text)) => assert!(!text.contains("canary"), "{text}"),
                other => panic!("{bad:?} gave {other:?}"),
            }
        }
        assert!(matches!(parse(b"\xff\xfe"), Err(JsonError::Malformed(_))));
    }
}
