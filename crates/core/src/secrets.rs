//! Values that must not be repeated in anything that a vendor says.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

/// Shorter values are words: replacing them would garble what the vendor says and hide nothing.
const SHORTEST: usize = 8;
/// What stands in the place of a secret.
const HIDDEN: &str = "[redacted]";

/// The secrets of one call: the credential that was sent, and what the answer issues.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Arc<Forms>>);

/// A secret and the texts in which it can appear. Percent-encoding has too many dialects to list: it is matched.
struct Forms {
    plain: SecretString,
    /// Made when something is said that must be searched: most calls end without.
    base64: OnceLock<Vec<SecretString>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("count", &self.0.len()).finish()
    }
}

impl Secrets {
    /// Only this secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let mut secrets = Self::default();
        secrets.add(secret);
        secrets
    }

    /// Adds a secret. Its forms are shared by every clone.
    pub fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.0.push(Arc::new(Forms::of(secret)));
        }
    }

    /// Adds all of the others.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(Arc::clone));
    }

    /// The text without the secrets, whether they stand in it as they are, percent-encoded, or in base64.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for forms in &self.0 {
            if let Some(hidden) = without(&out, forms.plain.expose_secret().as_bytes()) {
                out = Cow::Owned(hidden);
            }
            for form in forms.base64(out.len()) {
                if out.contains(form) {
                    out = Cow::Owned(out.replace(form, HIDDEN));
                }
            }
        }
        out
    }

    /// Hides the secrets in every text and member name of a value.
    pub fn hide_in(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => {
                if let Cow::Owned(hidden) = self.hide(text) {
                    *text = hidden;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in(item)),
            Value::Object(members) => self.hide_in_members(members),
        }
    }

    /// As [`Secrets::hide_in`], for an object.
    pub fn hide_in_members(&self, members: &mut Map<String, Value>) {
        if self.0.is_empty() {
            return;
        }
        members.values_mut().for_each(|value| self.hide_in(value));
        if members.keys().any(|name| matches!(self.hide(name), Cow::Owned(_))) {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(name, value)| (self.hide(&name).into_owned(), value))
                .collect();
        }
    }
}

impl Forms {
    fn of(secret: &str) -> Self {
        Self { plain: SecretString::from(secret.to_owned()), base64: OnceLock::new() }
    }

    /// The forms that can be in a text of this length, in bytes.
    fn base64(&self, length: usize) -> impl Iterator<Item = &str> {
        let plain = self.plain.expose_secret();
        // four characters for three bytes, less what the neighbours of the secret share with it
        let fits = length + 3 >= plain.len() * 4 / 3;
        let forms = if fits { self.base64.get_or_init(|| base64_forms(plain)).as_slice() } else { &[] };
        forms.iter().map(|form| form.expose_secret())
    }
}

fn base64_forms(secret: &str) -> Vec<SecretString> {
    let mut base64: Vec<String> = Vec::with_capacity(6);
    // as a part of a longer text it can begin at any of the three places of a base64 group
    for (before, from) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        let partial = usize::from(bytes.len() % 3 != 0);
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            let whole = text.get(from..text.len() - partial).unwrap_or(&text).to_owned();
            if !base64.contains(&whole) {
                base64.push(whole);
            }
        }
    }
    base64.into_iter().map(SecretString::from).collect()
}

/// The text with every occurrence of the secret hidden; `None` when there is none.
fn without(text: &str, secret: &[u8]) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out: Option<String> = None;
    let (mut at, mut kept) = (0, 0);
    while at + secret.len() <= bytes.len() {
        let Some(length) = occurrence(&bytes[at..], secret) else {
            at += 1;
            continue;
        };
        let out = out.get_or_insert_default();
        out.push_str(text.get(kept..at).unwrap_or_default());
        out.push_str(HIDDEN);
        at += length;
        kept = at;
    }
    if let Some(out) = &mut out {
        out.push_str(text.get(kept..).unwrap_or_default());
    }
    out
}

/// The length of the secret at the beginning of a text, where each byte of it may be percent-encoded (a space also as `+`)
/// or have a backslash before it.
fn occurrence(text: &[u8], secret: &[u8]) -> Option<usize> {
    let mut at = 0;
    for wanted in secret {
        at += match text.get(at..)? {
            [found, ..] if found == wanted => 1,
            [b'+', ..] if *wanted == b' ' => 1,
            [b'%', high, low, ..] if code(*high, *low) == Some(*wanted) => 3,
            [b'\\', found, ..] if found == wanted => 2,
            _ => return None,
        };
    }
    Some(at)
}

fn code(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "Zx9+/ein geheimes~Wort_?&=ü";

    #[test]
    fn every_form_of_a_secret_is_hidden() {
        let secrets = Secrets::of(SECRET);
        let percent = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
        let mut url = url::Url::parse("https://v.example/a").unwrap();
        url.query_pairs_mut().append_pair("t", SECRET);
        for text in [
            SECRET.to_owned(),
            format!("https://v.example/{percent}/x"),
            format!("https://v.example/{}/x", percent.replace("%C3%BC", "%c3%bc").replace("%2B", "%2b")),
            percent.replace("%5F", "_").replace("%7E", "~"),
            url.to_string(),
            SECRET.replace('/', "\\/"),
            STANDARD.encode(SECRET),
            URL_SAFE.encode(SECRET),
            STANDARD.encode(format!("id:{SECRET}")),
            STANDARD.encode(format!("ids:{SECRET}")),
            URL_SAFE.encode(format!("ident:{SECRET}, and so on")),
        ] {
            let hidden = secrets.hide(&text).into_owned();
            assert!(hidden.contains(HIDDEN) && hidden.len() < text.len(), "{text} {hidden}");
            assert!(
                !hidden.contains("geheimes") && !hidden.contains(&STANDARD.encode(SECRET)[4..12]),
                "{text} {hidden}"
            );
        }
        assert_eq!(secrets.hide("nothing of the kind"), "nothing of the kind");
    }

    #[test]
    fn values_are_searched_as_deep_as_they_go() {
        let mut value = json!({ "a": [{ "b-tokentoken1": "x tokentoken1 y" }, 1, null], "c": true });
        Secrets::of("tokentoken1").hide_in(&mut value);
        assert_eq!(value, json!({ "a": [{ "b-[redacted]": "x [redacted] y" }, 1, null], "c": true }));
    }

    #[test]
    fn words_are_no_secrets() {
        assert_eq!(Secrets::of("test").hide("a test"), "a test");
        assert_eq!(format!("{:?}", Secrets::of("tokentoken1")), "Secrets { count: 1 }");
    }
}
