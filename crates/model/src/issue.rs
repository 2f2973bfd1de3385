//! What is wrong with an input: every finding, each with a pointer, a code and a sentence.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// How many findings one check tells. The check ends there: one long body must not buy more work than its bytes.
pub const MAX_FINDINGS: usize = 100;

/// How long a pointer may be, in bytes. A longer one ends at the last member or element that fits.
pub const MAX_POINTER: usize = 512;

/// A JSON Pointer (RFC 6901) in URI-fragment form (`#/metadata/redirect_uris/0`), as RFC 9457 §3 shows them; at most
/// [`MAX_POINTER`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "String")]
pub struct Pointer {
    text: String,
    /// Whether a token did not fit: the ones below it are left out as well, or the pointer would lead elsewhere.
    cut: bool,
}

impl Pointer {
    /// The whole document.
    #[must_use]
    pub fn root() -> Self {
        Self::from("#".to_owned())
    }

    /// This pointer, one member or index deeper.
    #[must_use]
    pub fn child<'t>(&self, token: impl Into<ReferenceToken<'t>>) -> Self {
        let mut deeper = self.clone();
        deeper.append(token.into());
        deeper
    }

    /// The text, `#` first.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends `/` and the token, if that fits; `~` and `/` in it are escaped (RFC 6901 §3).
    fn append(&mut self, token: ReferenceToken<'_>) {
        if self.cut {
            return;
        }
        let before = self.text.len();
        self.text.push('/');
        match token {
            ReferenceToken::Member(name) => {
                for c in name.chars() {
                    match c {
                        '~' => self.text.push_str("~0"),
                        '/' => self.text.push_str("~1"),
                        c => self.text.push(c),
                    }
                    if self.text.len() > MAX_POINTER {
                        break;
                    }
                }
            }
            ReferenceToken::Index(index) => self.text.push_str(&index.to_string()),
        }
        if self.text.len() > MAX_POINTER {
            self.text.truncate(before);
            self.cut = true;
        }
    }
}

impl From<String> for Pointer {
    fn from(text: String) -> Self {
        Self { text, cut: false }
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A reference token of a JSON Pointer (RFC 6901 §3), as it is in the document.
#[derive(Clone, Copy, Debug)]
pub enum ReferenceToken<'t> {
    /// The name of a member.
    Member(&'t str),
    /// The index of an element.
    Index(usize),
}

impl<'t, S: AsRef<str> + ?Sized> From<&'t S> for ReferenceToken<'t> {
    fn from(name: &'t S) -> Self {
        Self::Member(name.as_ref())
    }
}

impl From<usize> for ReferenceToken<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Where a check is in the document. Every member and element that is checked has a position, few have a finding: a
/// position only refers to the one above it, and becomes the text of a [`Pointer`] when something is found there. Walks
/// use positions; a single known spot uses a [`Pointer`].
#[derive(Clone, Copy, Debug)]
pub struct Position<'p>(Option<(&'p Position<'p>, ReferenceToken<'p>)>);

impl Position<'_> {
    /// The whole document.
    #[must_use]
    pub const fn root() -> Self {
        Self(None)
    }

    /// The position one member or index deeper.
    #[must_use]
    pub fn child<'c>(&'c self, token: impl Into<ReferenceToken<'c>>) -> Position<'c> {
        Position(Some((self, token.into())))
    }
}

impl From<&Position<'_>> for Pointer {
    fn from(position: &Position<'_>) -> Self {
        match position.0 {
            None => Self::root(),
            Some((above, token)) => {
                let mut pointer = Self::from(above);
                pointer.append(token);
                pointer
            }
        }
    }
}

impl From<Position<'_>> for Pointer {
    fn from(position: Position<'_>) -> Self {
        Self::from(&position)
    }
}

impl From<&Self> for Pointer {
    fn from(pointer: &Self) -> Self {
        pointer.clone()
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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

/// The list of findings of one check: not only the first, up to [`MAX_FINDINGS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    found: Vec<Issue>,
    /// How many were pushed, repeated ones included.
    pushed: usize,
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
        Self { lenient: true, ..Self::default() }
    }

    /// Whether the rules for callers' input are left out.
    #[must_use]
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// Adds a finding, once. After [`MAX_FINDINGS`] it does nothing.
    pub fn push(&mut self, at: impl Into<Pointer>, code: IssueCode, detail: impl Into<String>) {
        if self.is_full() {
            return;
        }
        self.pushed += 1;
        let issue = Issue { pointer: at.into(), code, detail: detail.into() };
        if !self.found.contains(&issue) {
            self.found.push(issue);
        }
    }

    /// True when no more is told, so that the check may end. Repeated findings count, too: comparing them is work.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pushed >= MAX_FINDINGS
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_becomes_the_pointer_of_the_same_steps() {
        let root = Position::root();
        assert_eq!(Pointer::from(&root), Pointer::root());
        let (member, index) = ("a/b~c~1".to_owned(), 10);
        let at = root.child("metadata");
        let at = at.child(&member);
        let position = at.child(index);
        assert_eq!(Pointer::from(&position).as_str(), "#/metadata/a~1b~0c~01/10");
        assert_eq!(Pointer::from(position), Pointer::root().child("metadata").child(&member).child(index));
    }

    #[test]
    fn a_long_pointer_ends_at_the_last_token_that_fits() {
        let (root, name, shorter, escaped) = (Position::root(), "n".repeat(255), "n".repeat(254), "/".repeat(255));
        let one = root.child(&name);
        let most = format!("#/{name}/{shorter}");
        assert_eq!((Pointer::from(one.child(&shorter)).as_str(), most.len()), (&*most, MAX_POINTER));
        for long in [&name, &escaped] {
            let longer = one.child(long);
            assert_eq!(
                Pointer::from(longer.child("y").child(7)).as_str(),
                format!("#/{name}"),
                "nothing is left out between"
            );
            assert_eq!(Pointer::root().child(&name).child(long).child("y").as_str(), format!("#/{name}"));
        }
    }

    #[test]
    fn findings_are_told_once_and_not_without_end() {
        let mut issues = Issues::new();
        for n in 0..1_000_usize {
            issues.push(Position::root().child(n / 2), IssueCode::InvalidValue, "x");
        }
        assert!(issues.is_full());
        assert_eq!(issues.as_slice().len(), MAX_FINDINGS / 2, "each once, and repetitions count");
    }
}
