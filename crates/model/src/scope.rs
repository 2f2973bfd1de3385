//! Scope, kept as the one text that it is on the wire.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    field::JsonType,
    issue::{IssueCode, Issues, Position},
    member::{Member, wrong_type},
};

/// `scope`: scope tokens in their order, one space between them on the wire (RFC 6749 §3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// From tokens, without repetitions; `None` when one is not a scope token (NQCHAR, RFC 6749 Appendix A.4).
    #[must_use]
    pub fn from_tokens(tokens: impl IntoIterator<Item = impl AsRef<str>>) -> Option<Self> {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let written = Written::of(tokens.iter().map(AsRef::as_ref));
        (!written.invalid).then_some(written.scope)
    }

    /// The tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> + Clone {
        words(&self.0)
    }

    /// True without any token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(' ').filter(|word| !word.is_empty())
}

/// Scope tokens as somebody wrote them.
struct Written {
    /// What they say, each once.
    scope: Scope,
    /// Whether something is not a scope token.
    invalid: bool,
}

impl Written {
    fn of<'t>(tokens: impl Iterator<Item = &'t str> + Clone) -> Self {
        let mut text = String::with_capacity(tokens.clone().map(|token| token.len() + 1).sum());
        let mut seen = BTreeSet::new();
        let mut invalid = false;
        for token in tokens {
            invalid |= !is_scope_token(token);
            if !seen.insert(token) {
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(token);
        }
        Self { scope: Scope(text), invalid }
    }
}

fn is_scope_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Member for Scope {
    const JSON: JsonType = JsonType::String;

    fn decode(value: &Value, at: &Position<'_>, issues: &mut Issues) -> Option<Self> {
        let Value::String(text) = value else {
            wrong_type(value, "a string of space-separated scopes", at, issues);
            return None;
        };
        // a scope that is there twice says no more than once (RFC 6749 §3.3 forbids no repetition)
        let Written { scope, invalid } = Written::of(words(text));
        if invalid {
            issues.push(at, IssueCode::InvalidValue, "a scope has a character that RFC 6749 §3.3 does not allow");
            return None;
        }
        Some(scope)
    }

    fn encode(&self) -> Value {
        Value::String(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_each_token_once_and_one_space_between() {
        let mut strict = Issues::new();
        let read = Scope::decode(&Value::from("  b  a b "), &Position::root(), &mut strict).unwrap();
        assert_eq!(read.encode(), "b a");
        assert_eq!(read.tokens().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(Scope::from_tokens(["b", "a", "b"]), Some(read));
        assert_eq!(Scope::from_tokens(["a b"]), None);
        assert_eq!(Scope::from_tokens([""]), None);
        let none: [&str; 0] = [];
        assert!(Scope::from_tokens(none).is_some_and(|s| s.is_empty() && s.tokens().next().is_none()));
        assert!(strict.is_empty());
        assert_eq!(Scope::decode(&Value::from("\u{e9} \u{e9}"), &Position::root(), &mut strict), None);
        let codes: Vec<IssueCode> = strict.as_slice().iter().map(|i| i.code).collect();
        assert_eq!(codes, [IssueCode::InvalidValue]);
    }
}
