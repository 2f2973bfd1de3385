//! Reading a backend's `settings` with every issue collected: unknown keys, wrong types, bad URLs, missing secrets.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use url::{Host, Url};

use crate::credential::Secret;

/// Something wrong in `settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingIssue {
    /// Keys from the top of `settings`: `["m2m", "token_url"]`.
    pub path: Vec<String>,
    /// A sentence; never the value of a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Resolves `env:NAME` and `file:PATH`.
pub type SecretResolver<'a> = &'a dyn Fn(&str) -> Result<Secret, String>;

/// A cursor over `settings` that remembers which keys were read.
pub struct Settings<'a> {
    object: &'a Map<String, Value>,
    prefix: Vec<String>,
    seen: BTreeSet<String>,
    issues: Vec<SettingIssue>,
    resolve: SecretResolver<'a>,
}

impl std::fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("prefix", &self.prefix).field("issues", &self.issues).finish_non_exhaustive()
    }
}

impl<'a> Settings<'a> {
    /// A cursor at the top.
    #[must_use]
    pub fn new(object: &'a Map<String, Value>, resolve: SecretResolver<'a>) -> Self {
        Self { object, prefix: Vec::new(), seen: BTreeSet::new(), issues: Vec::new(), resolve }
    }

    fn issue(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        let mut path = self.prefix.clone();
        path.push(key.to_owned());
        self.issues.push(SettingIssue { path, message: message.into(), hint });
    }

    /// Records an issue that only the vendor kind can see.
    pub fn reject(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        self.issue(key, message, hint);
    }

    /// True when something was wrong so far.
    #[must_use]
    pub fn has_issues(&self) -> bool {
        !self.issues.is_empty()
    }

    fn get(&mut self, key: &str) -> Option<&'a Value> {
        self.seen.insert(key.to_owned());
        self.object.get(key)
    }

    /// True when the key is there.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// An optional text.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(s) if !s.is_empty() => Some(s.clone()),
            Value::String(_) => {
                self.issue(key, "must not be empty", None);
                None
            }
            _ => {
                self.issue(key, "must be a string", None);
                None
            }
        }
    }

    /// An optional switch.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(Value::Bool(b)) => *b,
            Some(_) => {
                self.issue(key, "must be true or false", None);
                default
            }
        }
    }

    /// An optional list of texts.
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let list =
            value.as_array().and_then(|a| a.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        if list.is_none() {
            self.issue(key, "must be a list of strings", None);
        }
        list
    }

    /// An optional list of whole numbers.
    pub fn integers(&mut self, key: &str) -> Option<Vec<i64>> {
        let value = self.get(key)?;
        let list = value.as_array().and_then(|a| a.iter().map(Value::as_i64).collect::<Option<Vec<_>>>());
        if list.is_none() {
            self.issue(key, "must be a list of whole numbers", None);
        }
        list
    }

    /// An optional table of texts.
    pub fn table(&mut self, key: &str) -> Option<Vec<(String, String)>> {
        let value = self.get(key)?;
        let table = value.as_object().and_then(|o| {
            o.iter().map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned()))).collect::<Option<Vec<_>>>()
        });
        if table.is_none() {
            self.issue(key, "must be a table of strings", None);
        }
        table
    }

    /// One of a few words; the first is the default.
    pub fn choice(&mut self, key: &str, words: &[&'static str]) -> &'static str {
        let default = words.first().copied().unwrap_or("");
        let Some(text) = self.text(key) else { return default };
        if let Some(word) = words.iter().find(|w| **w == text) {
            return word;
        }
        let hint = closest(&text, words.iter().copied()).map(|w| format!("did you mean `{w}`?"));
        self.issue(key, format!("must be one of {}", words.join(", ")), hint);
        default
    }

    /// A required URL: `https`, or `http` to a loopback address; no user information, query or fragment.
    pub fn url(&mut self, key: &str) -> Option<Url> {
        if !self.has(key) {
            self.seen.insert(key.to_owned());
            self.issue(key, "is required", Some(format!("add `{key} = \"https://...\"`")));
            return None;
        }
        let text = self.text(key)?;
        let Ok(url) = Url::parse(&text) else {
            self.issue(key, "is not a URL", Some("write it with its scheme: \"https://...\"".to_owned()));
            return None;
        };
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let fault = if url.host().is_none() {
            Some("has no host")
        } else if !url.username().is_empty() || url.password().is_some() {
            Some("must not hold a user name or password")
        } else if url.query().is_some() || url.fragment().is_some() {
            Some("must not have a query or a fragment")
        } else if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            Some("must be https (plain http is refused except to loopback addresses)")
        } else {
            None
        };
        if let Some(fault) = fault {
            self.issue(key, fault, None);
            return None;
        }
        Some(url)
    }

    /// A required secret by reference.
    pub fn secret(&mut self, key: &str) -> Option<Secret> {
        if !self.has(key) {
            self.seen.insert(key.to_owned());
            self.issue(key, "is required", Some(format!("add `{key} = \"env:NAME\"` or `{key} = \"file:PATH\"`")));
            return None;
        }
        let reference = self.text(key)?;
        match (self.resolve)(&reference) {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.issue(key, message, None);
                None
            }
        }
    }

    /// A table inside, read by the closure; its unknown keys are issues as well.
    pub fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Settings<'_>) -> Option<T>) -> Option<T> {
        let Some(object) = self.get(key)?.as_object() else {
            self.issue(key, "must be a table", None);
            return None;
        };
        let mut prefix = self.prefix.clone();
        prefix.push(key.to_owned());
        let mut inner = Settings { object, prefix, seen: BTreeSet::new(), issues: Vec::new(), resolve: self.resolve };
        let out = read(&mut inner);
        self.issues.extend(inner.finish());
        out
    }

    /// All issues, unknown keys included.
    #[must_use]
    pub fn finish(mut self) -> Vec<SettingIssue> {
        let unknown: Vec<String> = self.object.keys().filter(|k| !self.seen.contains(*k)).cloned().collect();
        for key in unknown {
            let hint = closest(&key, self.seen.iter().map(String::as_str)).map(|w| format!("did you mean `{w}`?"));
            let known: Vec<&str> = self.seen.iter().map(String::as_str).collect();
            let message = format!("unknown key; known keys are {}", known.join(", "));
            self.issue(&key, message, hint);
        }
        self.issues
    }
}

/// The known word that looks most like this one, if any does.
#[must_use]
pub fn closest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(word, k), k))
        .filter(|(score, _)| *score > 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_issue_is_collected() {
        let value = json!({"base_url": "http://v.example", "tokn": "env:X", "path_id": "idd", "m2m": {"token_url": "x", "zzz": 1}});
        let Some(object) = value.as_object() else { panic!("object") };
        let resolve = |_: &str| Err("not set".to_owned());
        let mut s = Settings::new(object, &resolve);
        assert!(s.url("base_url").is_none());
        assert!(s.secret("token").is_none());
        assert_eq!(s.choice("path_id", &["client_id", "id"]), "client_id");
        s.section("m2m", |s| s.url("token_url"));
        let issues = s.finish();
        let paths: Vec<String> = issues.iter().map(|i| i.path.join(".")).collect();
        assert_eq!(paths, ["base_url", "token", "path_id", "m2m.token_url", "m2m.zzz", "tokn"]);
        assert_eq!(issues.last().and_then(|i| i.hint.clone()).as_deref(), Some("did you mean `token`?"));
    }
}
