//! `store.url`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{StoreError, postgres::Address};

/// Where a store is.
#[derive(Debug)]
pub(crate) enum Location {
    /// In this process only.
    Memory,
    /// In one file.
    Sqlite(PathBuf),
    /// In a database that other processes use too.
    Postgres(Box<Address>),
}

impl Location {
    /// Reads a URL. The error never repeats it: a database URL may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        const FORMS: &str = "write `sqlite:PATH`, `postgres://USER:PASSWORD@HOST/DATABASE` or `memory:`";
        let fail = |why: String| Err(StoreError::Url(why));
        let Some((scheme, rest)) = url.split_once(':') else { return fail(format!("it has no scheme; {FORMS}")) };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "memory" => fail("`memory:` takes nothing after the colon".to_owned()),
            "sqlite" if rest == ":memory:" => fail("`sqlite::memory:` is not supported; write `memory:`".to_owned()),
            "sqlite" if rest.is_empty() => fail("`sqlite:` needs a path, as in `sqlite:registrar.db`".to_owned()),
            // `sqlite://a.db` would quietly mean `/a.db`, and a query would become part of the file's name
            "sqlite" if rest.starts_with("//") => {
                fail("write the path right after `sqlite:`, as in `sqlite:/var/lib/registrar.db`".to_owned())
            }
            "sqlite"
                if rest.contains('\0') || rest.rsplit('/').next().is_some_and(|name| name.contains(['?', '#'])) =>
            {
                fail("`sqlite:` takes a file name without `?`, `#` or NUL; it has no parameters".to_owned())
            }
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(rest))),
            "postgres" | "postgresql" => {
                Address::parse(rest).map(|address| Self::Postgres(Box::new(address))).map_err(StoreError::Url)
            }
            _ => fail(format!("this kind of store is not known; {FORMS}")),
        }
    }
}

/// For people and logs: without user, password and parameters.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(address) => write!(f, "{address}"),
        }
    }
}

/// What is wrong with `store.url`, if it names nothing that can be opened; nothing is opened.
///
/// # Errors
/// A sentence that does not repeat the URL.
pub fn check_url(url: &str) -> Result<(), String> {
    match Location::parse(url) {
        Ok(_) => Ok(()),
        Err(StoreError::Url(problem)) => Err(problem),
        Err(error) => Err(error.to_string()),
    }
}

/// The same URL with an absolute path where it names a file by a relative one, which counts from `folder`. Every other URL
/// stays as it is.
///
/// # Errors
/// [`StoreError::Url`]; also when the folder's name is not UTF-8, which a URL in a text file cannot hold.
pub fn absolute(url: &str, folder: &Path) -> Result<String, StoreError> {
    let Location::Sqlite(path) = Location::parse(url)? else { return Ok(url.to_owned()) };
    // collected: without a `.` or a second `/` in between
    let whole: PathBuf = folder.join(path).components().collect();
    match whole.to_str() {
        Some(path) => Ok(format!("sqlite:{path}")),
        None => Err(StoreError::Url(format!(
            "the folder `{}` is not named in UTF-8; write an absolute path",
            folder.display()
        ))),
    }
}

/// `store.url` for people and logs, without user, password and parameters; of one that cannot be read, nothing but its
/// scheme.
#[must_use]
pub fn redacted(url: &str) -> String {
    match (Location::parse(url), url.split_once(':')) {
        (Ok(location), _) => location.to_string(),
        (Err(_), Some((scheme @ ("postgres" | "postgresql" | "sqlite" | "memory"), _))) => format!("{scheme}:..."),
        _ => "...".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let shown = |url: &str| Location::parse(url).map(|location| format!("{location} {location:?}"));
        assert_eq!(shown("memory:").unwrap(), "memory: Memory");
        assert_eq!(shown("sqlite:a/b.db").unwrap(), "sqlite:a/b.db Sqlite(\"a/b.db\")");
        assert_eq!(shown("sqlite:/a b.db").unwrap(), "sqlite:/a b.db Sqlite(\"/a b.db\")");
        for scheme in ["postgres", "postgresql"] {
            let shown = shown(&format!("{scheme}://u:hunter2@h/db")).unwrap();
            assert_eq!(shown, "postgres://h/db Postgres(postgres://h/db)");
        }
        let bad = [
            ("sqlite::memory:", "memory:"),
            ("sqlite:", "path"),
            ("sqlite://x.db", "right after"),
            ("sqlite:x.db?mode=rwc", "parameters"),
            ("memory:x", "nothing"),
            ("postgres://u:hunter2@h", "no database"),
            ("mysql://u:hunter2@h/db", "not known"),
            ("registrar.db", "scheme"),
            ("", "scheme"),
        ];
        for (url, hint) in bad {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(error.contains(hint), "{url}: {error}");
            assert_eq!(error, format!("store.url: {}", check_url(url).unwrap_err()));
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_relative_path_counts_from_a_folder() {
        let at = |folder: &str, url: &str| absolute(url, Path::new(folder)).map_err(|error| error.to_string());
        for (folder, url, whole) in [
            ("/etc/registrar", "sqlite:registrar.db", "sqlite:/etc/registrar/registrar.db"),
            ("/etc/registrar/", "sqlite:./a//b.db", "sqlite:/etc/registrar/a/b.db"),
            ("/etc/registrar", "sqlite:../b.db", "sqlite:/etc/registrar/../b.db"),
            ("//etc", "sqlite:b.db", "sqlite:/etc/b.db"),
            ("/what?#", "sqlite:b.db", "sqlite:/what?#/b.db"),
            ("/etc", "sqlite:/var/b.db", "sqlite:/var/b.db"),
            ("/etc", "memory:", "memory:"),
            ("/etc", "postgres://u:hunter2@h/db", "postgres://u:hunter2@h/db"),
        ] {
            assert_eq!(at(folder, url), Ok(whole.to_owned()));
            assert!(check_url(whole).is_ok(), "{whole}");
        }
        assert!(at("/etc", "sqlite:b.db?x").is_err());
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("memory:", "memory:"),
            ("sqlite:a b.db", "sqlite:a b.db"),
            ("postgres://u:hunter2@h:1/db?sslmode=disable", "postgres://h:1/db"),
            ("postgres://u:hunter2@h", "postgres:..."),
            ("mysql://u:hunter2@h/db", "..."),
            ("hunter2", "..."),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
        }
    }
}
