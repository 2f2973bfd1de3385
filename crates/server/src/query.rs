//! Query parameters, read strictly: a misspelt `dry_run` must not turn a look into a write.

use registrar_core::{Error, ErrorKind, Result, settings::closest};

/// The decoded parameters of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request; only these parameters are known, and only `label` may be repeated.
    pub(crate) fn read(uri: &http::Uri, known: &[&str]) -> Result<Self> {
        let pairs = decode(uri.query().unwrap_or(""))?;
        for (i, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let hint =
                    closest(name, known.iter().copied()).map(|w| format!("; did you mean `{w}`?")).unwrap_or_default();
                let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let detail = format!("an unknown query parameter was sent (known here: {list}){hint}");
                return Err(Error::new(ErrorKind::InvalidRequest, detail));
            }
            if name != "label" && pairs[..i].iter().any(|(n, _)| n == name) {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    format!("the query parameter `{name}` is given twice"),
                ));
            }
        }
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A switch: `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Error::new(ErrorKind::InvalidRequest, format!("`{name}` must be true or false"))),
        }
    }

    /// A word out of a list.
    pub(crate) fn word<'w>(&self, name: &str, words: &[&'w str]) -> Result<Option<&'w str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match words.iter().find(|w| **w == value) {
            Some(word) => Ok(Some(word)),
            None => Err(Error::new(ErrorKind::InvalidRequest, format!("`{name}` must be one of {}", words.join(", ")))),
        }
    }

    /// `limit`: 1 to 200, 50 when absent.
    pub(crate) fn limit(&self) -> Result<u32> {
        let Some(text) = self.get("limit") else { return Ok(50) };
        text.parse::<u32>()
            .ok()
            .filter(|n| (1..=200).contains(n))
            .ok_or_else(|| Error::new(ErrorKind::InvalidRequest, "`limit` must be a whole number from 1 to 200"))
    }
}

fn decode(query: &str) -> Result<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((unescape(name)?, unescape(value)?))
        })
        .collect()
}

fn unescape(text: &str) -> Result<String> {
    let invalid =
        || Error::new(ErrorKind::InvalidRequest, "the query is not percent-encoded UTF-8 without control characters");
    let text = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&text).decode_utf8().map_err(|_| invalid())?;
    if decoded.chars().any(char::is_control) { Err(invalid()) } else { Ok(decoded.into_owned()) }
}

/// A value for a query string.
pub(crate) fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
