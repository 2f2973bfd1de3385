//! The rules of `registrar_model::uri` as patterns. They say all but what only a parser can: whether an address is written
//! in its plain form and a name is punycode.

use registrar_model::{hosts::PRIVATE_DOMAINS, uri::TAKEN_SCHEMES};

/// One label of a DNS name.
const LABEL: &str = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?";
/// Where a host ends with a number: a parser takes it for an address.
const NUMBER: &str = r"(?:[0-9]+|0[Xx][0-9A-Fa-f]*)\.?(?:[:/?#]|$)";
const ADDRESS: &str = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}|\[[0-9A-Fa-f:.]+\])";
const PORT: &str = "(?::(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0))?";
/// The same behind the scheme of an application, where a port may be empty or begin with zeros.
const ANY_PORT: &str = "(?::(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{0,4}))?";
/// An encoded octet that is no control character, and not one that hides ASCII.
const ENCODED: &str = "%(?:[2-689A-Ba-bD-Fd-f][0-9A-Fa-f]|7[0-9A-Ea-e]|[Cc][2-9A-Fa-f])";
/// A dot segment of a path, as written or as servers decode it, where the path begins or goes on.
const DOTS: &str = r"(?:\.|%2[Ee]){1,2}(?:[;/?#]|%2[Ff]|%5[Cc]|$)";
/// A word in any case: patterns have no flag for that.
fn in_any_case(word: &str) -> String {
    let one = |c: char| match c {
        'a'..='z' => format!("[{}{c}]", c.to_ascii_uppercase()),
        '.' | '+' => format!("\\{c}"),
        other => other.to_string(),
    };
    word.chars().map(one).collect()
}

fn any_of<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(in_any_case).collect::<Vec<_>>().join("|")
}

/// What may follow the authority, without a fragment (RFC 3986 §3); redirect URIs have no `*`.
fn rest(asterisk: &str) -> String {
    format!(r"(?:[!$&'()+,./0-9:;=?@A-Z\[\]_a-z~{asterisk}-]|{ENCODED})")
}

fn https() -> String {
    in_any_case("https")
}

/// A DNS name of at most 253 characters with so many labels before the last, as a quantifier says.
fn name(labels: &str) -> String {
    format!(r"(?![^:/?#]{{253}}(?:[^:/?#.]|\.[^:/?#]))(?:{LABEL}\.){labels}(?!{NUMBER}){LABEL}\.?")
}

fn host() -> String {
    format!("(?:{}|{ADDRESS})", name("*"))
}

/// 127.0.0.1 and no other of its network (RFC 8252 §7.3).
fn loopback() -> String {
    format!(r"(?:{}|127\.0\.0\.1|\[::1\])", in_any_case("localhost"))
}

fn no_dots() -> String {
    format!("(?![^?#]*(?:/|%2[Ff]|%5[Cc]){DOTS})")
}

/// No `@` in a query that follows the host directly: some parsers take what is before it for user information.
fn no_late_user_information() -> &'static str {
    r"(?![^:/?#]*://[^/?#]*\?[^#]*@)"
}

/// A page that is shown to people.
pub(super) fn shown() -> String {
    let (schemes, host, rest) = (any_of(["https", "http"]), host(), rest("*"));
    let (no_dots, query) = (no_dots(), no_late_user_information());
    format!("^{no_dots}{query}(?:{schemes})://{host}{PORT}(?:[/?#](?:#|{rest})*)?$")
}

/// What browsers follow: `https`, or `http` on loopback.
pub(super) fn followed() -> String {
    format!("^{}{}{}{PORT}(?:[/?]{}*)?$", no_dots(), no_late_user_information(), web(), rest("*"))
}

/// What browsers follow, `https` in any case.
pub(super) fn followed_over_tls() -> String {
    let query = no_late_user_information();
    format!("^{}{query}{}://{}{PORT}(?:[/?]{}*)?$", no_dots(), https(), host(), rest("*"))
}

/// What a vendor fetches: `https` and a public name.
pub(super) fn fetched() -> String {
    format!("^{}{}{}$", no_dots(), no_late_user_information(), public())
}

/// As above; the fragment is a hash of the request object (OIDC Core §6.2).
pub(super) fn request_object() -> String {
    format!("^{}{}{}(?:#(?:#|{})*)?$", no_dots(), no_late_user_information(), public(), rest("*"))
}

/// `https`, `http` on loopback, or the scheme of an application.
pub(super) fn redirect() -> String {
    let query = no_late_user_information();
    format!("^{}(?:{query}{}{PORT}(?:[/?]{rest}*)?|{})$", no_dots(), web(), private_use(), rest = rest(""))
}

pub(super) fn origin() -> String {
    format!("^(?:{})://{}{PORT}$", any_of(["https", "http"]), host())
}

fn web() -> String {
    format!("(?:{}://{}|{}://{})", https(), host(), in_any_case("http"), loopback())
}

fn public() -> String {
    let private = any_of(PRIVATE_DOMAINS);
    let rest = rest("*");
    format!(r"{}://(?!(?:[^/?#:]*\.)?(?:{private})\.?(?:[:/?#]|$)){}{PORT}(?:[/?]{rest}*)?", https(), name("+"))
}

/// The scheme of an application (RFC 8252 §7.1), more than a letter and nobody else's.
fn private_use() -> String {
    let taken = any_of(TAKEN_SCHEMES.into_iter().chain(["http", "https"]));
    let rest = rest("");
    let no = [
        format!("(?:{taken}):"),
        // a host and a port
        "[^:]*:[0-9]+(?:[/?]|$)".to_owned(),
        // nothing after the scheme
        r"[^:]*:(?:/{2,})?(?:\?|$)".to_owned(),
        "[^:]*://[^/?]*@".to_owned(),
        format!("[^:]*:{DOTS}"),
    ];
    let no = no.join("|");
    let scheme = r"(?:[A-Za-z][A-Za-z0-9+-]*(?:\.[A-Za-z0-9+-]+)+|[A-Za-z][A-Za-z0-9+-]+)";
    let authority = format!("(?:(?:[!$&'()+,.0-9;=A-Z_a-z~-]|{ENCODED})+{ANY_PORT}|{ADDRESS}{ANY_PORT})?");
    format!("(?!{no}){scheme}:(?://{authority}(?:[/?]{rest}*)?|(?!//){rest}*)")
}
