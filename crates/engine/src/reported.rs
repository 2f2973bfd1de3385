//! What a write reports.

use registrar_model::{Loss, LossKind, Severity};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// The losses of a write. Their JSON goes into the journal and into the answer, and is made once.
#[derive(Debug)]
pub struct Reported {
    losses: Vec<Loss>,
    json: Option<Box<RawValue>>,
}

impl From<Vec<Loss>> for Reported {
    fn from(losses: Vec<Loss>) -> Self {
        Self { json: to_raw_value(&losses).ok(), losses }
    }
}

impl std::ops::Deref for Reported {
    type Target = [Loss];

    fn deref(&self) -> &[Loss] {
        &self.losses
    }
}

impl Serialize for Reported {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.json {
            Some(json) => json.serialize(serializer),
            None => self.losses.serialize(serializer),
        }
    }
}

impl Reported {
    /// The losses for a journal that nobody asks for the answer again: values of the vendor's own, for members that were not
    /// sent, are in the record of the client, and are three quarters of the text.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Loss> {
        self.losses.iter().filter(|loss| !is_default(loss))
    }

    /// The fields of the others.
    pub(crate) fn defaulted(&self) -> impl Iterator<Item = &str> {
        self.losses.iter().filter(|loss| is_default(loss)).map(|loss| loss.field.as_str())
    }
}

fn is_default(loss: &Loss) -> bool {
    loss.kind == LossKind::Defaulted && loss.severity == Severity::Info
}
