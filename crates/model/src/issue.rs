//! What is wrong with an input: every finding, each with a pointer, a code and a sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A JSON Pointer (RFC 6901) in URI-fragment form (`#/metadata/redirect_uris/0`), as RFC 9457 §3 shows them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pointer(String);

impl Pointer {
    /// The whole document.
    #[must_use]
    pub fn root() -> Self {
        Self("#".to_owned())
    }

    /// This pointer, one member or index deeper; `~` and `/` are escaped (RFC 6901 §3).
    #[must_use]
    pub fn child(&self, token: impl ReferenceToken) -> Self {
        let mut text = String::with_capacity(self.0.len() + 32);
        text.push_str(&self.0);
        text.push('/');
        token.write_to(&mut text);
        Self(text)
    }

    /// The text, `#` first.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A reference token of a JSON Pointer: the name of a member or the index of an element.
pub trait ReferenceToken {
    /// Appends the token, escaped (RFC 6901 §3). Pointers are made for every member, findings for few: no detour through
    /// the machinery of formatting.
    fn write_to(&self, pointer: &mut String);
}

impl ReferenceToken for str {
    fn write_to(&self, pointer: &mut String) {
        let mut rest = self;
        while let Some(at) = rest.find(['~', '/']) {
            let (plain, special) = rest.split_at(at);
            pointer.push_str(plain);
            pointer.push_str(if special.starts_with('~') { "~0" } else { "~1" });
            rest = special.get(1..).unwrap_or_default();
        }
        pointer.push_str(rest);
    }
}

impl ReferenceToken for String {
    fn write_to(&self, pointer: &mut String) {
        self.as_str().write_to(pointer);
    }
}

impl ReferenceToken for usize {
    fn write_to(&self, pointer: &mut String) {
        pointer.push_str(&self.to_string());
    }
}

impl<T: ReferenceToken + ?Sized> ReferenceToken for &T {
    fn write_to(&self, pointer: &mut String) {
        (**self).write_to(pointer);
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of a finding; stable words for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueCode {
    /// The JSON type is not the member's type.
    WrongType,
    /// A required member is missing.
    Required,
    /// A member that this object does not have.
    UnknownMember,
    /// The same member twice in one object (RFC 8259 §4).
    DuplicateMember,
    /// A value outside the allowed set or form.
    InvalidValue,
    /// A redirect URI that must not be registered (RFC 7591 §5, RFC 9700 §4.1).
    InvalidRedirectUri,
    /// A URL member that is not acceptable.
    InvalidUrl,
    /// Longer, deeper or more than allowed.
    TooLong,
    /// Control characters or NUL.
    ForbiddenCharacter,
    /// Two members that contradict each other.
    Conflict,
    /// A key that must never be sent: private or symmetric (OIDC Registration §2).
    PrivateKey,
    /// The chosen backend cannot do this.
    Unsupported,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Where, in the request body.
    pub pointer: Pointer,
    /// What kind.
    pub code: IssueCode,
    /// A sentence for people; never holds a secret.
    pub detail: String,
}

/// The list of findings of one check: all of them, never only the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    found: Vec<Issue>,
    lenient: bool,
}

impl Issues {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For values that were accepted before (our store) or that somebody else holds (a vendor): only wrong JSON types
    /// are found, the rules for callers' input are not applied.
    #[must_use]
    pub fn lenient() -> Self {
        Self { found: Vec::new(), lenient: true }
    }

    /// Whether the rules for callers' input are left out.
    #[must_use]
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// Adds a finding, once.
    pub fn push(&mut self, pointer: &Pointer, code: IssueCode, detail: impl Into<String>) {
        let issue = Issue { pointer: pointer.clone(), code, detail: detail.into() };
        if !self.found.contains(&issue) {
            self.found.push(issue);
        }
    }

    /// True when nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The findings, in the order found.
    #[must_use]
    pub fn as_slice(&self) -> &[Issue] {
        &self.found
    }

    /// `Ok(value)` when nothing was found.
    ///
    /// # Errors
    /// The findings, otherwise.
    pub fn into_result<T>(self, value: T) -> Result<T, Vec<Issue>> {
        if self.found.is_empty() { Ok(value) } else { Err(self.found) }
    }

    /// The findings.
    #[must_use]
    pub fn into_vec(self) -> Vec<Issue> {
        self.found
    }
}

/// The JSON type of a value, in words for messages ("an array"); never the value itself.
#[must_use]
pub fn type_name(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
