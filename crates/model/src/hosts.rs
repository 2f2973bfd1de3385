//! Hosts that only mean something on a private network, and which of them an operator lets administrators name.

use std::net::IpAddr;

use url::{Host, Url};

/// Domains that no public name server has, or that are no place for a public service (RFC 6761, RFC 6762, RFC 7686,
/// RFC 8375, RFC 9476, and what networks use in practice).
pub const PRIVATE_DOMAINS: [&str; 15] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "home.arpa",
    "lan",
    "svc",
    "test",
    "invalid",
    "onion",
    "alt",
];

/// True for names and addresses that only mean something on a private network: a vendor that fetches such a URL could
/// be turned against its own network.
#[must_use]
pub fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let under = |domain: &str| name.strip_suffix(domain).is_some_and(|n| n.is_empty() || n.ends_with('.'));
            !name.contains('.') || PRIVATE_DOMAINS.into_iter().any(under)
        }
        // no public service is reached by a bare address
        Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => true,
    }
}

/// The private hosts that URLs of a backend's clients may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateHosts(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// This very name.
    Name(String),
    /// Every name below this one.
    Below(String),
    /// The addresses whose first `bits` bits are those of `address`.
    Network { address: u128, bits: u32, v4: bool },
}

/// The bits of an address.
fn bits_of(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    }
}

impl PrivateHosts {
    /// Adds an exact name, `*.NAME` for every name below one, an address, or a network in CIDR notation (RFC 4632).
    ///
    /// # Errors
    /// What is wrong with the entry.
    pub fn add(&mut self, entry: &str) -> Result<(), &'static str> {
        self.0.push(Self::read(entry)?);
        Ok(())
    }

    fn read(entry: &str) -> Result<Entry, &'static str> {
        const SHAPE: &str = "is neither a host name, `*.` and a name, an address, nor a network such as 10.0.0.0/8";
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (entry, None),
        };
        if let Ok(address) = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let (address, v4) = bits_of(address);
            let width = if v4 { 32 } else { 128 };
            let bits = match bits {
                None => width,
                Some(bits) => bits.parse::<u32>().ok().filter(|bits| *bits <= width).ok_or(SHAPE)?,
            };
            if bits == 0 {
                return Err("allows every address");
            }
            let host_bits = width - bits;
            if address.trailing_zeros() < host_bits && address != 0 {
                return Err("has bits set behind its prefix: write the first address of the network");
            }
            return Ok(Entry::Network { address, bits, v4 });
        }
        let (name, below) = match entry.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (entry, false),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if bits.is_some() || !crate::uri::is_dns_name(&name) {
            return Err(SHAPE);
        }
        Ok(if below { Entry::Below(name) } else { Entry::Name(name) })
    }

    /// Whether a URL's host is one of them.
    #[must_use]
    pub fn allows(&self, url: &Url) -> bool {
        let address = match url.host() {
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                return self.0.iter().any(|entry| match entry {
                    Entry::Name(allowed) => *allowed == name,
                    Entry::Below(domain) => {
                        name.strip_suffix(domain.as_str()).is_some_and(|n| n.len() > 1 && n.ends_with('.'))
                    }
                    Entry::Network { .. } => false,
                });
            }
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            // `::ffff:10.0.0.1` is the IPv4 address
            Some(Host::Ipv6(v6)) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
            None => return false,
        };
        let (found, is_v4) = bits_of(address);
        self.0.iter().any(|entry| match entry {
            Entry::Network { address, bits, v4 } if *v4 == is_v4 => {
                let width = if is_v4 { 32 } else { 128 };
                (address ^ found).checked_shr(width - bits).unwrap_or(0) == 0
            }
            _ => false,
        })
    }
}

/// Which private hosts a URL may name.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'h> {
    /// None: anybody may ask.
    Public,
    /// Any; the backend that is chosen later decides.
    Undecided,
    /// What the operator lets administrators name.
    Allowed(&'h PrivateHosts),
}

impl Reach<'_> {
    /// Whether a URL with a private host may be named.
    #[must_use]
    pub fn admits(self, url: &Url) -> bool {
        match self {
            Self::Public => false,
            Self::Undecided => is_private(url),
            Self::Allowed(hosts) => hosts.allows(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[&str]) -> PrivateHosts {
        let mut hosts = PrivateHosts::default();
        for entry in entries {
            hosts.add(entry).unwrap();
        }
        hosts
    }

    #[test]
    fn names_wildcards_and_networks_allow_what_they_say() {
        let hosts = hosts(&["*.corp.internal", "vault", "10.0.0.0/8", "192.168.7.7", "fd00:1::/32"]);
        for (host, allowed) in [
            ("idp.corp.internal", true),
            ("A.B.Corp.Internal.", true),
            ("corp.internal", false),
            ("evilcorp.internal", false),
            ("corp.internal.evil.internal", false),
            ("vault", true),
            ("x.vault", false),
            ("10.1.2.3", true),
            ("11.0.0.1", false),
            ("192.168.7.7", true),
            ("192.168.7.8", false),
            ("[fd00:1::5]", true),
            ("[fd00:2::5]", false),
            ("[::ffff:10.1.2.3]", true),
            ("[::10.1.2.3]", false),
        ] {
            let url = Url::parse(&format!("https://{host}/x")).unwrap();
            assert_eq!(hosts.allows(&url), allowed, "{host}");
            assert!(host == "x.vault" || is_private(&url), "{host}");
        }
    }

    #[test]
    fn entries_are_checked() {
        let mut hosts = PrivateHosts::default();
        for bad in [
            "",
            "*",
            "*.",
            "a b",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "0.0.0.0/0",
            "::/0",
            "fd00::1/8",
            "a/8",
            "https://a",
            "a:1",
        ] {
            assert!(hosts.add(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_domains_are_known() {
        for host in ["a.svc", "a.corp", "a.test", "x.onion", "a.localdomain", "intranet", "127.0.0.1", "a.home.arpa"] {
            assert!(is_private(&Url::parse(&format!("https://{host}/")).unwrap()), "{host}");
        }
        for host in ["a.example", "corp.example", "svc.a.com", "a.homes"] {
            assert!(!is_private(&Url::parse(&format!("https://{host}/")).unwrap()), "{host}");
        }
    }
}
