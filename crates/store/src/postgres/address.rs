//! `postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE`. Read here and not by the driver, because a password
//! with a sign that should have been percent-encoded must not end up as the name of a host in an error or a log.

use std::{fmt, net::IpAddr, path::PathBuf};

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;

/// A database, and how to talk to it.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// Without user, password and parameters.
    shown: String,
}

/// Whether the connection is encrypted. There is no way to encrypt without knowing with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    Off,
    /// The server's certificate and name are checked, with the roots of the operating system or of a PEM file.
    Verified(Option<PathBuf>),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What follows `?`.
#[derive(Default)]
struct Parameters {
    host: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
    application_name: Option<String>,
    options: Option<String>,
}

impl Address {
    /// Reads what follows the scheme. The error repeats nothing of it.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        const FORM: &str = "write `postgres://USER:PASSWORD@HOST/DATABASE`";
        let rest = rest.strip_prefix("//").ok_or_else(|| FORM.to_owned())?;
        if rest.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control()) {
            return Err(format!("`#` and spaces must be percent-encoded; {FORM}"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if database.contains(['@', '/']) {
            return Err("`/`, `?`, `#` and `@` in a password must be percent-encoded".to_owned());
        }
        let database = decoded(database)?;
        if database.is_empty() {
            return Err(format!("it names no database; {FORM}"));
        }
        let parameters = Parameters::parse(query)?;
        let mut config = Config::new();
        config.dbname(&database);
        if !user.is_empty() {
            let (name, password) = user.split_once(':').map_or((user, None), |(n, p)| (n, Some(p)));
            config.user(decoded(name)?);
            if let Some(password) = password {
                config.password(percent_decode_str(password).collect::<Vec<u8>>());
            }
        }
        let (host, port) = split_port(host)?;
        let host = match (decoded(host)?, parameters.host) {
            (host, None) if !host.is_empty() => host,
            (host, Some(other)) if host.is_empty() && !other.is_empty() => other,
            (_, None) => return Err(format!("it names no host; {FORM}")),
            _ => return Err("it names two hosts, or an empty one".to_owned()),
        };
        if !host.chars().all(|c| c.is_alphanumeric() || "._-:/".contains(c)) {
            return Err("the name of the host has a sign that no host has (several hosts are not supported)".to_owned());
        }
        config.host(&host).port(port.unwrap_or(5432));
        config.application_name(parameters.application_name.as_deref().unwrap_or("registrar"));
        if let Some(options) = &parameters.options {
            config.options(options);
        }
        let tls = tls(&host, parameters.sslmode.as_deref(), parameters.sslrootcert)?;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let shown = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(Self { config, tls, shown: format!("postgres://{shown}{port}/{database}") })
    }
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, String> {
        let mut out = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or("a parameter has no value")?;
            let value = decoded(value)?;
            match key {
                "host" => out.host = Some(value),
                "sslmode" => out.sslmode = Some(value),
                "sslrootcert" => out.sslrootcert = Some(value.into()),
                "application_name" => out.application_name = Some(value),
                "options" => out.options = Some(value),
                // not repeated: it may be the rest of a password
                _ => {
                    return Err("it has a parameter that is not known; there are `host`, `sslmode`, `sslrootcert`, \
                                `application_name` and `options`"
                        .to_owned());
                }
            }
        }
        Ok(out)
    }
}

fn split_port(host: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, ""))) => (host, None),
        Some(Some((host, port))) => (host, Some(port.strip_prefix(':').ok_or("an IPv6 address ends with `]`")?)),
        Some(None) => return Err("an IPv6 address ends with `]`".to_owned()),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|port| port.parse().map_err(|_| "its port is not a number from 1 to 65535")).transpose()?;
    Ok((host, port))
}

fn tls(host: &str, mode: Option<&str>, roots: Option<PathBuf>) -> Result<Tls, String> {
    match mode {
        Some("disable") => Ok(Tls::Off),
        None if is_local(host) && roots.is_none() => Ok(Tls::Off),
        _ if host.starts_with('/') => Err("a local socket has no TLS; leave `sslmode` out".to_owned()),
        // `require` of libpq encrypts to whoever answers; here it is checked who that is
        None | Some("require" | "verify-ca" | "verify-full") => Ok(Tls::Verified(roots)),
        Some(_) => Err("`sslmode` must be `verify-full`, `require` or `disable`".to_owned()),
    }
}

/// A folder of sockets, or this machine.
fn is_local(host: &str) -> bool {
    host.starts_with('/') || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn decoded(text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err("a percent-encoding is not text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn good(url: &str) -> Address {
        Address::parse(url.split_once(':').unwrap().1).unwrap()
    }

    #[test]
    fn parts_are_found() {
        let address = good("postgres://me:p%40s%2Fs@db.example:6432/reg%20istry?sslmode=verify-full");
        assert_eq!(address.config.get_user(), Some("me"));
        assert_eq!(address.config.get_password(), Some(b"p@s/s".as_slice()));
        assert_eq!(address.config.get_hosts(), [Host::Tcp("db.example".to_owned())]);
        assert_eq!((address.config.get_ports(), address.config.get_dbname()), ([6432].as_slice(), Some("reg istry")));
        assert_eq!(address.tls, Tls::Verified(None));
        assert_eq!(address.to_string(), "postgres://db.example:6432/reg istry");
        // the last `@` ends the password
        assert_eq!(good("postgresql://me:a@b@h/d").config.get_password(), Some(b"a@b".as_slice()));
        assert_eq!(good("postgres://me@[::1]:1/d").to_string(), "postgres://[::1]:1/d");
        let socket = good("postgres://me@/d?host=%2Frun%2Fpostgresql&options=-c%20a%3Db");
        assert_eq!(socket.config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
        assert_eq!((socket.tls, socket.config.get_options()), (Tls::Off, Some("-c a=b")));
    }

    #[test]
    fn only_this_machine_is_talked_to_in_the_clear() {
        for local in ["localhost", "127.0.0.1", "127.8.8.8:99", "[::1]", "%2Ftmp"] {
            assert_eq!(good(&format!("postgres://{local}/d")).tls, Tls::Off, "{local}");
        }
        for far in ["db.example", "10.0.0.1", "localhost.example", "[fd00::1]"] {
            assert_eq!(good(&format!("postgres://{far}/d")).tls, Tls::Verified(None), "{far}");
            assert_eq!(good(&format!("postgres://{far}/d?sslmode=disable")).tls, Tls::Off, "{far}");
        }
        let own = good("postgres://localhost/d?sslmode=require&sslrootcert=/etc/ca.pem");
        assert_eq!(own.tls, Tls::Verified(Some("/etc/ca.pem".into())));
    }

    #[test]
    fn no_error_and_no_text_holds_a_part_of_the_password() {
        for (url, hint) in [
            ("postgres:u:hunter2@h/d", "write"),
            ("postgres://u:hunter2@h", "no database"),
            ("postgres://u:hunter2@/d", "no host"),
            ("postgres://u:hunter2/x@h/d", "percent-encoded"),
            ("postgres://u:hunter2/d", "port"),
            ("postgres://u:x@hunter2/hunter2@h/d", "percent-encoded"),
            ("postgres://u:x@y?hunter2@h/d", "no database"),
            ("postgres://u:x@y/z?hunter2@h/d", "no value"),
            ("postgres://u:x@y/z?hunter2=h", "not known"),
            ("postgres://u:hunter#2@h/d", "percent-encoded"),
            ("postgres://u:hunter 2@h/d", "percent-encoded"),
            ("postgres://u:%ffhunter2%ff@h%ff/d", "not text"),
            ("postgres://u:hunter2@h,i/d", "no host has"),
            ("postgres://u:hunter2@h:99999/d", "port"),
            ("postgres://u:hunter2@h:1/d?host=i", "two hosts"),
            ("postgres://u:hunter2@h/d?sslmode=prefer", "`sslmode`"),
            ("postgres://u:hunter2@%2Frun/d?sslmode=require", "socket"),
        ] {
            let error = Address::parse(url.split_once(':').unwrap().1).unwrap_err();
            assert!(error.contains(hint), "{url}: {error}");
            assert!(!error.contains("hunter"), "{error}");
        }
        let address = good("postgres://u:hunter2@h/d");
        assert!(!format!("{address} {address:?} {:?}", address.config).contains("hunter2"));
    }
}
