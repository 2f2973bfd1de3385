//! `store.url`.

use std::path::PathBuf;

use crate::StoreError;

/// Where a store is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In this process only.
    Memory,
    /// In one file.
    Sqlite(PathBuf),
}

impl Location {
    /// Reads a URL. The error never repeats it: a database URL may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        const FORMS: &str = "write `sqlite:PATH` or `memory:`";
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
            "sqlite" if rest.contains(['?', '#', '\0']) => {
                fail("`sqlite:` takes a path without `?`, `#` or NUL; it has no parameters".to_owned())
            }
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(rest))),
            "postgres" | "postgresql" => fail(format!("Postgres is not supported in this version; {FORMS}")),
            _ => fail(format!("this kind of store is not known; {FORMS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(Location::parse("memory:"), Ok(Location::Memory));
        assert_eq!(Location::parse("sqlite:a/b.db"), Ok(Location::Sqlite("a/b.db".into())));
        assert_eq!(Location::parse("sqlite:/a b.db"), Ok(Location::Sqlite("/a b.db".into())));
        let bad = [
            ("sqlite::memory:", "memory:"),
            ("sqlite:", "path"),
            ("sqlite://x.db", "right after"),
            ("sqlite:x.db?mode=rwc", "parameters"),
            ("memory:x", "nothing"),
            ("postgres://u:hunter2@h/db", "Postgres is not supported"),
            ("mysql://u:hunter2@h/db", "not known"),
            ("registrar.db", "scheme"),
            ("", "scheme"),
        ];
        for (url, hint) in bad {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(error.contains(hint), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
