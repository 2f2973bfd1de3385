//! The host that a request is for (RFC 9112 §3.2, RFC 9113 §8.3.1): one, or none where that is allowed.

use http::{HeaderMap, Uri, Version, header, uri::Authority};
use registrar_core::{Error, ErrorKind};

/// Checks of load balancers are HTTP/1.0 without Host.
const WITHOUT: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The host that a request is for: the target's own goes before the field (RFC 9112 §3.2.2).
pub(crate) fn of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    uri.authority().map(Authority::as_str).or_else(|| headers.get(header::HOST).and_then(|h| h.to_str().ok()))
}

/// Why it cannot be said which host a request is for; `None` when it can.
pub(crate) fn fault(version: Version, uri: &Uri, headers: &HeaderMap) -> Option<Error> {
    let invalid = |detail: &'static str| Some(Error::new(ErrorKind::InvalidRequest, detail));
    let mut fields = headers.get_all(header::HOST).iter();
    let (first, more) = (fields.next(), fields.next().is_some());
    if more {
        return invalid("there are several Host fields; send one");
    }
    let Some(host) = first else {
        let needed = match version {
            Version::HTTP_09 | Version::HTTP_10 => !WITHOUT.contains(&uri.path()),
            Version::HTTP_11 => true,
            _ => uri.authority().is_none(),
        };
        return if needed { invalid("there is no Host field; send one") } else { None };
    };
    // the empty one belongs to targets without an authority
    let sound = host.is_empty()
        || host.to_str().ok().and_then(|h| h.parse::<Authority>().ok()).is_some_and(|a| !a.as_str().contains('@'));
    if !sound {
        return invalid("the Host field is not a host with or without a port");
    }
    let other = |authority: &Authority| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    if version >= Version::HTTP_2 && uri.authority().is_some_and(other) {
        return invalid("the Host field and `:authority` are not the same");
    }
    None
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_refused(version: Version, target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::get(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        fault(head.version, &head.uri, &head.headers).is_some()
    }

    #[test]
    fn there_is_one_host() {
        use Version as V;
        for (version, target, hosts) in [
            (V::HTTP_11, "/v1/clients", &["a.example"][..]),
            (V::HTTP_11, "/", &["a.example:8080"]),
            (V::HTTP_11, "/", &["[::1]:8080"]),
            (V::HTTP_11, "/", &[""]),
            (V::HTTP_11, "http://b.example/", &["a.example"]),
            (V::HTTP_10, "/healthz", &[]),
            (V::HTTP_10, "/readyz?verbose", &[]),
            (V::HTTP_10, "/metrics", &[]),
            (V::HTTP_10, "/v1/clients", &["a.example"]),
            (V::HTTP_2, "http://a.example/", &[]),
            (V::HTTP_2, "http://a.example/", &["A.example"]),
            (V::HTTP_2, "/", &["a.example"]),
        ] {
            assert!(!is_refused(version, target, hosts), "{version:?} {target} {hosts:?}");
        }
        for (version, target, hosts) in [
            (V::HTTP_11, "/v1/clients", &[][..]),
            (V::HTTP_11, "/healthz", &[]),
            (V::HTTP_11, "http://a.example/", &[]),
            (V::HTTP_11, "/healthz", &["a.example", "a.example"]),
            (V::HTTP_11, "/", &["a.example", "b.example"]),
            (V::HTTP_11, "/", &["a.example, b.example"]),
            (V::HTTP_11, "/", &["a.example/x"]),
            (V::HTTP_11, "/", &["user@a.example"]),
            (V::HTTP_11, "/", &["a b"]),
            (V::HTTP_10, "/v1/clients", &[]),
            (V::HTTP_10, "/healthz/", &[]),
            (V::HTTP_10, "/healthz", &["a", "a"]),
            (V::HTTP_2, "/", &[]),
            (V::HTTP_2, "http://a.example/", &["b.example"]),
            (V::HTTP_2, "http://a.example/", &["a.example", "a.example"]),
        ] {
            assert!(is_refused(version, target, hosts), "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn the_target_goes_before_the_field() {
        let headers = HeaderMap::from_iter([(header::HOST, http::HeaderValue::from_static("a.example"))]);
        assert_eq!(of(&Uri::from_static("http://b.example:1/x"), &headers), Some("b.example:1"));
        assert_eq!(of(&Uri::from_static("/x"), &headers), Some("a.example"));
        assert_eq!(of(&Uri::from_static("/x"), &HeaderMap::new()), None);
    }
}
