//! Who is asking at the standards face, behind however many proxies: one asker for one client address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use registrar_engine::dcr::Asker;

use crate::problem::Context;

/// The longest obfuscated identifier (RFC 7239 §6.3) that counts as one.
const LONGEST_NAME: usize = 64;

/// The peer, or what the outermost of our proxies wrote into `X-Forwarded-For`. Only the entries that our own proxies
/// appended are looked at: what stands before them is the caller's word. `Forwarded` (RFC 7239) is not read: a proxy that
/// does not write it passes the caller's on.
pub(super) fn of(context: &Context, headers: &HeaderMap, proxies: usize) -> Option<Asker> {
    let peer = context.peer.map(|p| Asker::Address(p.0.ip().to_canonical()));
    let Some(hops) = proxies.checked_sub(1) else { return peer };
    let fields = headers.get_all(HeaderName::from_static("x-forwarded-for"));
    let all: Vec<&str> = fields.iter().flat_map(|v| v.to_str().unwrap_or_default().split(',')).collect();
    all.into_iter().rev().nth(hops).and_then(node).or(peer)
}

/// One entry: an address, perhaps with a port, in brackets, with a zone or in quotes (RFC 7239 §6), or the name that a
/// proxy has for an address that it keeps to itself. `None` for `unknown` and for anything else.
fn node(entry: &str) -> Option<Asker> {
    let entry = entry.trim();
    let entry = entry.strip_prefix('"').and_then(|e| e.strip_suffix('"')).unwrap_or(entry).trim();
    if let Some(address) = address(entry) {
        return Some(Asker::Address(address.to_canonical()));
    }
    let name =
        entry.split(':').next().filter(|name| name.starts_with('_') && (2..=LONGEST_NAME).contains(&name.len()))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    name.bytes().all(plain).then(|| Asker::Named(name.into()))
}

fn address(entry: &str) -> Option<IpAddr> {
    if let Some(rest) = entry.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        return (after.is_empty() || after.starts_with(':')).then(|| bare(inside)).flatten();
    }
    if let Some(ip) = bare(entry) {
        return Some(ip);
    }
    if let Ok(socket) = entry.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    // an IPv4 address with an obfuscated port, or all eight groups of an IPv6 address and a port without brackets
    let (address, _) = entry.rsplit_once(':')?;
    let v4 = address.parse::<Ipv4Addr>().ok().map(IpAddr::from);
    v4.or_else(|| address.parse::<Ipv6Addr>().ok().filter(|_| !address.contains("::")).map(IpAddr::from))
}

/// An address without a port; the zone of a link-local one (RFC 4007 §11) is no part of it.
fn bare(text: &str) -> Option<IpAddr> {
    match text.split_once('%') {
        Some((address, _zone)) => address.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_that_address() {
        let same = |address: &str, forms: &[&str]| {
            let wanted = Some(Asker::Address(address.parse().unwrap()));
            for form in forms {
                assert_eq!(node(form), wanted, "{form:?}");
            }
        };
        same(
            "203.0.113.8",
            &[
                "203.0.113.8",
                " 203.0.113.8 ",
                "203.0.113.8:51234",
                "203.0.113.8:0",
                "203.0.113.8:_port",
                "\"203.0.113.8:443\"",
                "::ffff:203.0.113.8",
                "[::ffff:203.0.113.8]:443",
                "[::ffff:cb00:7108]",
            ],
        );
        same(
            "2001:db8::1",
            &[
                "2001:db8::1",
                "2001:DB8:0::0:1",
                "[2001:db8::1]",
                "[2001:db8::1]:443",
                "\"[2001:db8::1]\"",
                "\"[2001:db8::1]:_x\"",
                "2001:db8:0:0:0:0:0:1:51234",
            ],
        );
        same("fe80::1", &["fe80::1%eth0", "[fe80::1%25eth0]:80", "[fe80::1%2]"]);
    }

    #[test]
    fn a_hidden_address_has_its_own_name_and_anything_else_has_none() {
        assert_eq!(node("_gazonk"), Some(Asker::Named("_gazonk".into())));
        assert_eq!(node("\"_SEVKISEK:_x\""), Some(Asker::Named("_SEVKISEK".into())));
        for odd in
            ["", "unknown", "UNKNOWN", "_", "_a b", "300.1.1.1", "1.2.3", "[2001:db8::1", "[2001:db8::1]x", "a.example"]
        {
            assert_eq!(node(odd), None, "{odd:?}");
        }
        assert_eq!(node(&format!("_{}", "x".repeat(64))), None);
    }

    #[test]
    fn the_proxies_that_are_ours_decide_which_entry_counts() {
        let context = Context { public_url: "http://gw".into(), request_id: "r".into(), peer: None };
        let mut headers = HeaderMap::new();
        for field in ["198.51.100.7, 203.0.113.8:51234", "10.0.0.1:80"] {
            headers.append("x-forwarded-for", field.parse().unwrap());
        }
        let of = |proxies| of(&context, &headers, proxies).map(|asker| asker.to_string());
        assert_eq!(of(0), None, "it is not read");
        assert_eq!(of(1).as_deref(), Some("10.0.0.1"));
        assert_eq!(of(2).as_deref(), Some("203.0.113.8"));
        assert_eq!(of(4), None, "fewer proxies than there should be: the peer");
    }
}
