//! Whether the names of an open database still lead to it.

use std::path::{Path, PathBuf};

use super::salvage::beside;

/// The files of a database, as their names led to them once.
#[derive(Debug)]
pub(super) struct Place {
    files: Vec<(PathBuf, Identity)>,
}

/// The device and the number of a file. Neither is given to another file while this one is open.
type Identity = (u64, u64);

impl Place {
    /// Of a database by its name, which may be a symbolic link, and its path; with its log, which exists while the database
    /// is open.
    pub(super) fn of(name: &Path, path: &Path) -> Self {
        let names = [name.to_owned(), path.to_owned(), beside(path, "-wal")];
        Self { files: names.into_iter().filter_map(|name| found(&name).ok().flatten().map(|i| (name, i))).collect() }
    }

    /// Whether a name leads elsewhere by now, or nowhere. A folder that cannot be searched at the moment proves nothing.
    pub(super) fn is_lost(&self) -> bool {
        self.files.iter().any(|(name, was)| found(name).is_ok_and(|is| is != Some(*was)))
    }
}

#[cfg(unix)]
fn found(name: &Path) -> std::io::Result<Option<Identity>> {
    use std::{io::ErrorKind, os::unix::fs::MetadataExt as _};

    match std::fs::metadata(name) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn found(_name: &Path) -> std::io::Result<Option<Identity>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_lost_when_its_name_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("a.db"), at("link.db")).unwrap();
        for name in ["a.db", "a.db-wal"] {
            fs::write(at("a.db"), "x").unwrap();
            fs::write(at("a.db-wal"), "x").unwrap();
            let place = Place::of(&at("link.db"), &at("a.db"));
            assert!(!place.is_lost());
            fs::write(at(name), "longer").unwrap();
            assert!(!place.is_lost(), "written, not replaced");
            fs::rename(at(name), at("b")).unwrap();
            assert!(place.is_lost(), "{name} gone");
            fs::write(at(name), "x").unwrap();
            assert!(place.is_lost(), "{name} replaced");
            fs::remove_file(at(name)).unwrap();
            fs::rename(at("b"), at(name)).unwrap();
            assert!(!place.is_lost(), "{name} back");
        }
        let place = Place::of(&at("link.db"), &at("a.db"));
        fs::write(at("other.db"), "x").unwrap();
        fs::remove_file(at("link.db")).unwrap();
        std::os::unix::fs::symlink(at("other.db"), at("link.db")).unwrap();
        assert!(place.is_lost(), "the link leads elsewhere");
    }
}
