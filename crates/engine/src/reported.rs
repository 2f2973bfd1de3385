//! What a write reports.

use registrar_model::Loss;
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
