//! URIs. The raw string is checked first and parsed only then: that is where parser differences, and with them most
//! of the published redirect bypasses, die (RFC 9700 §4.1; WHATWG URL silently strips tabs and line breaks).

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use url::{Host, Url};

pub use crate::scheme::TAKEN as TAKEN_SCHEMES;
use crate::{
    hosts::{Reach, is_private},
    issue::{IssueCode, Issues, Position},
    scheme::private_use_fault,
};

/// How long a URI may be, in bytes.
pub const MAX_URI: usize = 2048;

/// A redirection URI, kept byte for byte as the caller wrote it: authorization servers compare it as a string
/// (OIDC Core §3.1.2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RedirectUri(String);

impl RedirectUri {
    /// A value from a vendor, or one that is validated later by [`check_redirect`].
    #[must_use]
    pub fn from_unchecked(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The exact text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a raw string is not a URI at all; `None` when it has the right shape.
fn raw_fault(raw: &str) -> Option<&'static str> {
    if raw.is_empty() {
        Some("it is empty")
    } else if raw.len() > MAX_URI {
        Some("it is longer than 2048 bytes")
    } else if !raw.is_ascii() {
        Some("it has a character outside ASCII (write host names as punycode and paths percent-encoded)")
    } else if raw.bytes().any(|b| b < 0x21 || b == 0x7f) {
        Some("it has white space or a control character")
    } else if raw.bytes().any(|b| matches!(b, b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')) {
        Some("it has a character that URIs do not allow (RFC 3986 §2)")
    } else if encoded_octets(raw).any(|octet| octet.is_none()) {
        Some("it has a `%` that is not followed by two hexadecimal digits")
    } else if encoded_octets(raw).flatten().any(|b| b < 0x20 || b == 0x7f) {
        Some("it has a percent-encoded control character (RFC 3986 §7.3)")
    } else if encoded_octets(raw).flatten().any(|b| matches!(b, 0xc0 | 0xc1)) {
        Some("it has percent-encoded octets that hide ASCII characters and are no UTF-8 (RFC 3629 §10)")
    } else {
        None
    }
}

/// The octet after each `%`; `None` for one that is incomplete.
fn encoded_octets(raw: &str) -> impl Iterator<Item = Option<u8>> {
    raw.split('%').skip(1).map(|after| {
        let digits = after.get(..2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    })
}

/// The scheme in lower case, if the string begins with one (RFC 3986 §3.1); it mostly is written so.
fn scheme(raw: &str) -> Option<Cow<'_, str>> {
    let (scheme, _) = raw.split_once(':')?;
    let ok = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    ok.then(|| {
        if scheme.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(scheme.to_ascii_lowercase())
        } else {
            Cow::Borrowed(scheme)
        }
    })
}

/// The authority as written (`host:port` with anything around it), if there is one. Its slashes follow the scheme's colon
/// at once (RFC 3986 §3): parsers of browsers take `https:a` for `https://a` as well, others do not.
fn authority(raw: &str) -> Option<&str> {
    let (_, rest) = raw.split_once(':')?;
    let rest = rest.strip_prefix("//")?;
    Some(rest.split(['/', '?', '#']).next().unwrap_or(rest))
}

/// Parses an `http` or `https` URI whose parsed form says the same as the raw one.
fn parse_web(raw: &str) -> Result<Url, &'static str> {
    let authority = authority(raw).ok_or("it has no `//` and host after the scheme")?;
    if authority.contains('@') {
        return Err("it has user information before the host");
    }
    if authority.contains('*') {
        return Err("it has a wildcard in the host");
    }
    let (raw_host, port) = split_port(authority);
    if port.is_some_and(|port| port.is_empty() || port.len() > 1 && port.starts_with('0')) {
        return Err("its port is empty or begins with a zero");
    }
    if has_late_user_information(raw) {
        return Err(
            "an `@` follows in the query right after the host, where some parsers take it for user information",
        );
    }
    if raw_host.is_empty() {
        return Err("it has no host");
    }
    let path = raw.split(['?', '#']).next().unwrap_or(raw);
    let path = path.splitn(4, '/').nth(3).unwrap_or("");
    if path.split('/').any(is_dot_segment) {
        return Err("its path has a `.` or `..` segment");
    }
    let url = Url::parse(raw).map_err(|_| "it cannot be parsed")?;
    // a host that changes when parsed (0x7f.1, percent-encoding, a trailing number, zeros in IPv6) is a disguise
    if !url.host_str().is_some_and(|h| h.eq_ignore_ascii_case(raw_host)) {
        return Err("its host is not written in its plain form");
    }
    match url.host() {
        Some(Host::Domain(name)) if !is_dns_name(name) => Err("its host is not a DNS name (RFC 3986 §3.2.2)"),
        _ => Ok(url),
    }
}

/// The preferred name syntax of RFC 1034 §3.5 and RFC 1123 §2.1, and the underscore, which hosts in use have; a final
/// dot is the root's. The parser also takes sub-delimiters and empty labels.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// `https://a.example?@b.example/`: parsers that know no query without a path see user information and another host.
fn has_late_user_information(raw: &str) -> bool {
    let after = raw.split_once("//").map_or("", |(_, rest)| rest);
    let query = after.find(['/', '?', '#']).and_then(|end| after.get(end..)).and_then(|rest| rest.strip_prefix('?'));
    query.is_some_and(|query| query.split('#').next().is_some_and(|query| query.contains('@')))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// True for `.` and `..`, also when the dots, or slashes and backslashes around them, are percent-encoded, or parameters
/// follow (`..;x`): servers behind the one that is compared with decode and strip them (RFC 3986 §7.3).
pub(crate) fn is_dot_segment(segment: &str) -> bool {
    if !segment.contains(['.', '%']) {
        return false;
    }
    let plain = segment.to_ascii_lowercase().replace("%2e", ".").replace("%5c", "%2f");
    plain.split("%2f").any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

/// True for `localhost`, `127.0.0.1` and `[::1]`, the three that RFC 8252 §7.3 and OIDC Registration §2 name.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(ip)) => ip == Ipv6Addr::LOCALHOST,
        None => false,
    }
}

/// Why a redirection URI must not be registered; `None` when it may be.
///
/// `https` anywhere, `http` only on loopback, private-use schemes of native apps; never a fragment, user information, a
/// wildcard, a dot segment or a scheme that is not the application's own (RFC 7591 §5, RFC 8252 §7, RFC 9700 §4.1).
#[must_use]
pub fn redirect_fault(raw: &str) -> Option<&'static str> {
    redirect_fault_within(raw, Reach::Public)
}

/// The same where `http` may lead to private hosts, too.
#[must_use]
pub fn redirect_fault_within(raw: &str, reach: Reach<'_>) -> Option<&'static str> {
    if let Some(fault) = raw_fault(raw) {
        return Some(fault);
    }
    if raw.contains('#') {
        return Some("it has a fragment (RFC 6749 §3.1.2)");
    }
    if raw.contains('*') {
        return Some(
            "it has a wildcard, which some vendors would follow; write a literal asterisk as %2A (RFC 9700 §4.1)",
        );
    }
    let Some(scheme) = scheme(raw) else {
        return Some("it is not absolute: it has no scheme");
    };
    match &*scheme {
        "https" => parse_web(raw).err(),
        "http" => match parse_web(raw) {
            Ok(url) if is_loopback(&url) || reach.admits(&url) => None,
            Ok(_) => Some("`http` is allowed only for 127.0.0.1, [::1] and localhost; use `https` (RFC 7591 §5)"),
            Err(fault) => Some(fault),
        },
        _ => {
            let rest = raw.get(scheme.len() + 1..).unwrap_or_default();
            private_use_fault(&scheme, rest).or_else(|| Url::parse(raw).is_err().then_some("it cannot be parsed"))
        }
    }
}

/// Why a redirection URI must not be registered for a web client with the implicit grant, on top of [`redirect_fault`];
/// `None` when it may be (OIDC Registration §2).
#[must_use]
pub(crate) fn web_implicit_fault(raw: &str) -> Option<&'static str> {
    match Url::parse(raw) {
        Ok(url) if url.scheme() != "https" => {
            Some("web clients with the implicit grant must use https (OIDC Registration §2)")
        }
        Ok(url) if url.host_str().is_some_and(|h| h.trim_end_matches('.') == "localhost") => {
            Some("web clients with the implicit grant must not use localhost (OIDC Registration §2)")
        }
        _ => None,
    }
}

/// Records a fault of a redirection URI.
pub fn check_redirect(uri: &RedirectUri, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
    if let Some(fault) = redirect_fault_within(uri.as_str(), reach) {
        issues.push(at, IssueCode::InvalidRedirectUri, format!("not an acceptable redirect URI: {fault}"));
    }
}

/// What a URL member is for; it decides which schemes and hosts are acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlUse {
    /// Shown to people: `https`, or `http`.
    Shown,
    /// Followed by browsers: `https`; `http` on loopback.
    Followed,
    /// Followed by browsers, `https` in any case (OIDC Registration §2 for `initiate_login_uri`).
    FollowedOverTls,
    /// Fetched by the vendor's servers: `https` and a public host name, so that no one reaches into the vendor's
    /// network through us.
    Fetched,
    /// Fetched, and a fragment may be the hash of what is there (OIDC Core §6.2).
    RequestObject,
}

/// Why a URL is not acceptable for this use; `None` when it is.
#[must_use]
pub fn url_fault(raw: &str, purpose: UrlUse) -> Option<&'static str> {
    url_fault_within(raw, purpose, Reach::Public)
}

/// The same where vendors may fetch from private hosts, too.
#[must_use]
pub fn url_fault_within(raw: &str, purpose: UrlUse, reach: Reach<'_>) -> Option<&'static str> {
    if let Some(fault) = raw_fault(raw) {
        return Some(fault);
    }
    if raw.contains('#') && !matches!(purpose, UrlUse::Shown | UrlUse::RequestObject) {
        return Some("it has a fragment");
    }
    let scheme = match scheme(raw) {
        Some(s) if s == "https" || s == "http" => s,
        Some(_) => return Some("its scheme is neither `https` nor `http`"),
        None => return Some("it is not absolute: it has no scheme"),
    };
    match (parse_web(raw), purpose) {
        (Err(fault), _) => Some(fault),
        (Ok(url), UrlUse::Fetched | UrlUse::RequestObject)
            if scheme != "https" || is_private(&url) && !reach.admits(&url) =>
        {
            Some("the vendor fetches it, so it must be `https` with a public host name")
        }
        (Ok(url), UrlUse::Followed) if scheme != "https" && !is_loopback(&url) => Some("it must be `https`"),
        (Ok(_), UrlUse::FollowedOverTls) if scheme != "https" => Some("it must be `https`"),
        (Ok(_), _) => None,
    }
}

/// Records a fault of a URL member.
pub fn check_url(raw: &str, purpose: UrlUse, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
    if let Some(fault) = url_fault_within(raw, purpose, reach) {
        issues.push(at, IssueCode::InvalidUrl, format!("not an acceptable URL: {fault}"));
    }
}

/// Why a string is not a web origin (RFC 6454 §6.2: scheme, host and port, nothing else); `None` when it is one.
#[must_use]
pub fn origin_fault(raw: &str) -> Option<&'static str> {
    if let Some(fault) = raw_fault(raw) {
        return Some(fault);
    }
    if !matches!(scheme(raw).as_deref(), Some("https" | "http")) {
        return Some("an origin begins with `https://` or `http://`");
    }
    match parse_web(raw) {
        Err(fault) => Some(fault),
        Ok(url) if url.path() != "/" || raw.ends_with('/') || url.query().is_some() || raw.contains('#') => {
            Some("an origin is scheme, host and port, without a path or a trailing slash")
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_that_are_accepted() {
        for good in [
            "https://a.example/cb",
            "https://a.example",
            "https://A.Example/CB?x=1&y=%20",
            "https://a.example:8443/cb",
            "https://a.example/cb?x=@b",
            "http://127.0.0.1/cb",
            "http://[::1]:5000/cb",
            "http://localhost:3000/cb",
            "http://127.0.0.1:0/",
            "com.example.app:/oauth",
            "com.example.app://cb",
            "cursor://anysphere.cursor/oauth",
            "vscode://vscode.x/cb",
            "myapp://cb",
            "https://claude.ai/api/mcp/auth_callback",
            "https://xn--bcher-kva.example/cb",
        ] {
            assert_eq!(redirect_fault(good), None, "{good}");
        }
    }

    #[test]
    fn redirects_that_are_refused() {
        for bad in [
            "",
            "/cb",
            "a.example/cb",
            "https:///cb",
            "https://a.example/cb#x",
            "https://a.example/cb#",
            "http://a.example/cb",
            "https://u@a.example/",
            "https://*.a.example/",
            "https://a.example/../b",
            "https://a.example/%2e%2E/b",
            "https://a.example\\@b.example/",
            "https://a.example/\tx",
            " https://a.example/",
            "https://a.example/ ",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "DATA:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:https://a/",
            "about:blank",
            "http://0x7f.1/cb",
            "https://0x7f.1/cb",
            "https://a%2eexample/cb",
            "https://b\u{fc}cher.example/",
            "myapp:",
            "myapp://",
            "https://a.example/%zz",
            "http://localhost.evil.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "https://",
            "https://a.example:/cb",
            "https://a.example:0443/cb",
            "https://a.example?@b.example/cb",
            "https://a.example?x=1&y=@b.example",
            "ftp://a.example/",
            "urn:ietf:wg:oauth:2.0:oob",
        ] {
            assert!(redirect_fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn fetched_urls_must_be_public() {
        assert_eq!(url_fault("https://client.example.com/.well-known/jwks.json", UrlUse::Fetched), None);
        for bad in [
            "http://client.example.com/jwks",
            "https://localhost/jwks",
            "https://127.0.0.1/jwks",
            "https://[::1]/jwks",
            "https://169.254.169.254/latest",
            "https://metadata.google.internal/",
            "https://intranet/jwks",
            "https://u:p@a.example/",
        ] {
            assert!(url_fault(bad, UrlUse::Fetched).is_some(), "{bad}");
        }
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origin_fault("https://a.example:8443"), None);
        for bad in ["https://a.example/", "https://a.example/x", "a.example", "*", "null", "https://a.example?x"] {
            assert!(origin_fault(bad).is_some(), "{bad}");
        }
    }
}
