//! What a write reports.

use registrar_model::{Loss, LossKind, Severity};
use serde::Serialize;

/// The losses of a write.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Reported(Vec<Loss>);

impl From<Vec<Loss>> for Reported {
    fn from(losses: Vec<Loss>) -> Self {
        Self(losses)
    }
}

impl std::ops::Deref for Reported {
    type Target = [Loss];

    fn deref(&self) -> &[Loss] {
        &self.0
    }
}

impl Reported {
    /// The losses for a journal that nobody asks for the answer again: values of the vendor's own, for members that were not
    /// sent, are in the record of the client, and are three quarters of the text.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter().filter(|loss| !is_default(loss))
    }

    /// The fields of the others.
    pub(crate) fn defaulted(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|loss| is_default(loss)).map(|loss| &*loss.field)
    }
}

fn is_default(loss: &Loss) -> bool {
    loss.kind == LossKind::Defaulted && loss.severity == Severity::Info
}
