//! A secret of the configuration that may be replaced while the gateway runs: it is read from its file again once the
//! vendor has refused it.

use std::{
    io::Read as _,
    path::Path,
    sync::{PoisonError, RwLock},
};

use registrar_core::{ExposeSecret, Secret, SecretString};

/// Bytes of a file with a secret; a large JWT has 8 KiB.
const MAX_FILE: u64 = 64 << 10;

/// The secret in use, in the form in which it is sent.
pub(crate) struct Current<T> {
    secret: Secret,
    /// `None` when a secret cannot be sent.
    form: fn(&str) -> Option<T>,
    value: RwLock<T>,
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Current<T> {
    /// `first` is the present secret's form.
    pub(crate) fn new(secret: Secret, first: T, form: fn(&str) -> Option<T>) -> Self {
        Self { secret, form, value: RwLock::new(first) }
    }

    pub(crate) fn get(&self) -> T {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The secret that has taken the place of a refused one, if any has. A file that cannot be read, is empty or holds what
    /// cannot be sent changes nothing.
    pub(crate) async fn instead_of(&self, refused: &T) -> Option<T> {
        let known = self.get();
        if known != *refused {
            return Some(known);
        }
        let file = self.secret.file()?.to_owned();
        let text = tokio::task::spawn_blocking(move || read(&file)).await.ok()??;
        let new = (self.form)(text.expose_secret()).filter(|new| new != refused)?;
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
        Some(new)
    }
}

/// What the file holds now. A text that fills the cap is no secret, and would be cut.
fn read(file: &Path) -> Option<SecretString> {
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    let trimmed = text.trim();
    (!trimmed.is_empty() && (text.len() as u64) < MAX_FILE).then(|| SecretString::from(trimmed.to_owned()))
}
