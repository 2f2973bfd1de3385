//! Schemes of redirect URIs beside `http` and `https`: the private-use ones of native applications (RFC 8252 §7.1).

use crate::uri::is_dot_segment;

/// Schemes that are nobody's own: they run code, carry a document, read what is local, name things, or belong to another
/// protocol or program (permanent entries of the IANA registry "URI Schemes", and what browsers and operating
/// systems add). Sorted.
#[rustfmt::skip]
pub const TAKEN: [&str; 173] = [
    "aaa", "aaas", "about", "acap", "acct", "afp", "amqp", "amqps", "android-app", "apt", "blob", "brave", "callto",
    "cap", "chrome", "cid", "coap", "coap+tcp", "coap+ws", "coaps", "coaps+tcp", "coaps+ws", "content", "crid",
    "data", "dav", "dict", "did", "dns", "doi", "dtn", "ecmascript", "edge", "example", "facetime", "facetime-audio",
    "fax", "feed", "file", "filesystem", "ftp", "ftps", "geo", "git", "git+ssh", "go", "gopher", "h323", "iax",
    "icap", "im", "imap", "info", "intent", "ipn", "ipp", "ipps", "irc", "irc6", "ircs", "iris", "iris.beep",
    "iris.lwz", "iris.xpc", "iris.xpcs", "itms", "itms-apps", "itms-services", "its", "jabber", "jar", "javascript",
    "jscript", "ldap", "ldaps", "livescript", "localhost", "magnet", "mailto", "maps", "market", "mhtml", "mid", "mk",
    "mms", "mocha", "modem", "mongodb", "mqtt", "mqtts", "ms-its", "ms-msdt", "ms-officecmd", "ms-settings", "msrp",
    "msrps", "mt", "mtqp", "mupdate", "mysql", "news", "nfs", "ni", "nih", "nntp", "opaquelocktoken", "opera",
    "pkcs11", "pop", "postgres", "postgresql", "pres", "prospero", "rdp", "redis", "rediss", "reload", "res",
    "resource", "rsync", "rtmp", "rtsp", "rtsps", "rtspu", "search", "search-ms", "service", "session", "sftp",
    "shell", "shttp", "sieve", "sip", "sips", "smb", "sms", "smsto", "snews", "snmp", "soap.beep", "soap.beeps",
    "ssh", "stun", "stuns", "svn", "svn+ssh", "tag", "tel", "telnet", "tftp", "thismessage", "tip", "tn3270", "turn",
    "turns", "tv", "urn", "vbscript", "vemmi", "view-source", "vnc", "wais", "webcal", "ws", "wss", "wyciwyg", "xcon",
    "xcon-userid", "xmlrpc.beep", "xmlrpc.beeps", "xmpp", "z39.50r", "z39.50s",
];

/// Why what looks like a URI with a private-use scheme must not be registered; `None` when it may be. `scheme` is in
/// lower case, `rest` is what follows its colon.
///
/// Schemes without a period are let through, because applications have them (`vscode:`); who wants them refused, as
/// RFC 8252 §8.4 recommends, refuses them on top.
pub(crate) fn private_use_fault(scheme: &str, rest: &str) -> Option<&'static str> {
    if TAKEN.binary_search(&scheme).is_ok() {
        return Some("its scheme is not one that only the application receives (RFC 7591 §5, RFC 8252 §7.1)");
    }
    if scheme.len() == 1 {
        return Some("its scheme is a letter: systems with drive letters read that as a file");
    }
    if scheme.contains('.') && scheme.split('.').any(str::is_empty) {
        return Some("its scheme is not a reversed domain name (RFC 8252 §7.1)");
    }
    let path = rest.split('?').next().unwrap_or(rest);
    if path.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && path.split('/').next().is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    {
        return Some("it is a host and a port without a scheme");
    }
    // `com.example.app:/` has a path, the root; `com.example.app://` has none
    if path != "/" && path.bytes().all(|b| b == b'/') {
        return Some("nothing follows its scheme");
    }
    if let Some(after) = path.strip_prefix("//")
        && after.split('/').next().is_some_and(|authority| authority.contains('@'))
    {
        return Some("it has user information in its authority");
    }
    path.split('/').any(is_dot_segment).then_some("its path has a `.` or `..` segment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_in_lower_case() {
        assert!(TAKEN.is_sorted());
        assert!(TAKEN.iter().all(|s| *s == s.to_ascii_lowercase()));
    }
}
