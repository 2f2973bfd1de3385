//! What a write brings along from the standards face, kept in the journal beside what was asked for: whoever finds out
//! later what became of the write goes on from there.

use std::borrow::Cow;

use registrar_store::{Action, Operation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The member of an operation's `desired` that holds it.
const MEMBER: &str = "dcr";

/// What is kept. Nothing in it is a secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept<'a> {
    /// The id of the initial access token that has paid for a create with a use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spent: Option<Cow<'a, str>>,
}

impl Kept<'_> {
    /// Adds it to the text of a JSON object, unless there is nothing to keep.
    pub(crate) fn join(&self, desired: &mut String) {
        if self.spent.is_none() {
            return;
        }
        // the object was written without a tree: this goes before its last brace
        if let (Ok(kept), true) = (serde_json::to_string(self), desired.ends_with('}')) {
            desired.pop();
            let comma = if desired.ends_with('{') { "" } else { "," };
            for part in [comma, "\"", MEMBER, "\":", &kept, "}"] {
                desired.push_str(part);
            }
        }
    }

    /// Takes it out of what was asked for.
    pub(crate) fn take(desired: &mut Map<String, Value>) -> Kept<'static> {
        desired.remove(MEMBER).and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default()
    }

    /// The initial access token whose use an operation has taken: it gets it back if that led to nothing.
    pub(crate) fn paid_by(operation: &Operation) -> Option<String> {
        let desired = operation.desired.as_deref().filter(|_| operation.action == Action::Create)?;
        Self::take(&mut serde_json::from_str(desired).ok()?).spent.map(Cow::into_owned)
    }

    /// What was asked for, without the use that was taken for it.
    pub(crate) fn unpaid(desired: &str) -> Option<String> {
        let mut object = serde_json::from_str(desired).ok()?;
        let mut kept = Self::take(&mut object);
        kept.spent = None;
        let mut desired = Value::Object(object).to_string();
        kept.join(&mut desired);
        Some(desired)
    }
}
