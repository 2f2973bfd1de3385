//! What a relative path in the file counts from: the folder of the file, as its path was given. A symbolic link to the file
//! changes nothing: configurations are often mounted that way, and the link stays where the file behind it moves.

use std::path::{Path, PathBuf};

use registrar_core::Secret;

/// The folder of a configuration file, absolute.
#[derive(Debug)]
pub(super) struct Folder {
    folder: PathBuf,
    /// The folder that paths counted from before 0.2.
    working: PathBuf,
}

/// Where the store is.
pub(super) enum Place {
    /// `store.url` with an absolute path.
    Here(String),
    /// It is not there, and a store stands where older versions looked for it: the two paths.
    Elsewhere(PathBuf, PathBuf),
}

impl Folder {
    /// Of a configuration file, by its path from the working directory.
    pub(super) fn of(file: &Path) -> Self {
        let working = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let folder = file.parent().map_or_else(|| working.clone(), |parent| working.join(parent));
        Self { folder, working }
    }

    /// Makes the path of `store.url` absolute.
    pub(super) fn store(&self, url: &str) -> Result<Place, String> {
        let absolute = |folder: &Path| {
            registrar_store::absolute(url, folder).map_err(|error| match error {
                registrar_store::StoreError::Url(problem) => problem,
                error => error.to_string(),
            })
        };
        let here = absolute(&self.folder)?;
        let file = |url: &str| url.strip_prefix("sqlite:").map(PathBuf::from);
        let before = absolute(&self.working).ok().filter(|before| *before != here);
        Ok(match (file(&here), before.as_deref().and_then(file)) {
            (Some(path), Some(before)) if !path.exists() && before.is_file() => Place::Elsewhere(path, before),
            _ => Place::Here(here),
        })
    }

    /// Resolves a reference whose relative path counts from the folder.
    pub(super) fn secret(
        &self,
        reference: &str,
        resolve: &dyn Fn(&str) -> Result<Secret, String>,
    ) -> Result<Secret, String> {
        let relative =
            reference.strip_prefix("file:").filter(|path| !path.is_empty() && !Path::new(path).is_absolute());
        let Some(relative) = relative else { return resolve(reference) };
        let whole: PathBuf = self.folder.join(relative).components().collect();
        let Some(path) = whole.to_str() else {
            return Err(format!(
                "the folder `{}` is not named in UTF-8; write an absolute path",
                self.folder.display()
            ));
        };
        resolve(&format!("file:{path}")).map_err(|problem| {
            let before = self.working.join(relative);
            if whole.exists() || !before.is_file() {
                return problem;
            }
            format!(
                "{problem}; a relative path counts from the configuration file (there is one at {})",
                before.display()
            )
        })
    }
}
