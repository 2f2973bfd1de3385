//! What a write brings along from the standards face, kept in the journal beside what was asked for: whoever finds out
//! later what became of the write goes on from there.

use std::borrow::Cow;

use registrar_model::Hidden;
use registrar_store::{Action, Operation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Record, UpdateOptions};

/// The member of an operation's `desired` that holds it.
const MEMBER: &str = "dcr";

/// What is kept. Nothing in it is a secret, and no vendor sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept<'a> {
    /// What the registration is to know of the standards face; of an update, the software statement alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<Cow<'a, Record>>,
    /// The id of the initial access token that has paid for a create with a use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spent: Option<Cow<'a, str>>,
    /// As [`Hidden::open_route`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_route: Option<Cow<'a, str>>,
    /// As [`Hidden::unused_until`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unused_until: Option<i64>,
}

impl Kept<'_> {
    /// Adds it to the text of a JSON object, unless there is nothing to keep.
    pub(crate) fn join(&self, desired: &mut String) {
        if matches!(self, Self { record: None, spent: None, open_route: None, unused_until: None }) {
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

    /// What a registration keeps to itself whose answer was lost, and with that every secret in it.
    pub(crate) fn hidden(self) -> Hidden {
        let (open_route, unused_until) = (self.open_route.map(Cow::into_owned), self.unused_until);
        let mut hidden = Hidden { open_route, unused_until, ..Hidden::default() };
        if let Some(record) = self.record {
            record.into_owned().keep(&mut hidden);
        }
        hidden
    }

    /// Keeps what an update brings along that was found to be done.
    pub(crate) fn keep(self, hidden: &mut Hidden) {
        if let Some(record) = self.record {
            let statement = Some(record.into_owned().statement);
            UpdateOptions { statement, turn: None }.keep(hidden);
        }
    }

    /// Takes it out of what was asked for; `None` when it cannot be read, which is not the same as nothing to keep.
    pub(crate) fn take(desired: &mut Map<String, Value>) -> Option<Kept<'static>> {
        desired.remove(MEMBER).map_or(Some(Kept::default()), |kept| serde_json::from_value(kept).ok())
    }

    /// The same of a text, which is left as it is.
    pub(crate) fn of(desired: &str) -> Kept<'static> {
        #[derive(Deserialize)]
        struct Asked {
            #[serde(default)]
            dcr: Kept<'static>,
        }
        serde_json::from_str(desired).map(|Asked { dcr }| dcr).unwrap_or_else(|_| {
            // not its text: that may hold what the client sent
            tracing::warn!("what a registration at the standards face has brought along cannot be read");
            Kept::default()
        })
    }

    /// The initial access token whose use an operation has taken: it gets it back if that led to nothing.
    pub(crate) fn paid_by(operation: &Operation) -> Option<String> {
        let desired = operation.desired.as_deref().filter(|_| operation.action == Action::Create)?;
        Self::of(desired).spent.map(Cow::into_owned)
    }

    /// What was asked for, without the use that was taken for it.
    pub(crate) fn unpaid(desired: &str) -> Option<String> {
        let mut object = serde_json::from_str(desired).ok()?;
        let mut kept = Self::take(&mut object)?;
        kept.spent = None;
        let mut desired = Value::Object(object).to_string();
        kept.join(&mut desired);
        Some(desired)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_joined_is_taken_out_again() {
        let record = Record { route: Some("a\"}".to_owned()), ..Record::default() };
        let kept = Kept {
            record: Some(Cow::Owned(record)),
            spent: Some(Cow::Borrowed("0123")),
            open_route: Some(Cow::Borrowed("b\"")),
            unused_until: Some(7),
        };
        for asked in [r#"{}"#, r#"{"metadata":{"client_name":"}"}}"#] {
            let mut desired = asked.to_owned();
            Kept::default().join(&mut desired);
            assert_eq!(desired, asked, "nothing to keep");
            kept.join(&mut desired);
            let unpaid = Kept::unpaid(&desired).unwrap();
            for (text, spent) in [(&desired, Some("0123")), (&unpaid, None)] {
                let mut object = serde_json::from_str(text).unwrap();
                let taken = Kept::take(&mut object).unwrap();
                assert_eq!(Kept::of(text).unused_until, Some(7));
                assert_eq!((taken.open_route.as_deref(), taken.unused_until), (Some("b\""), Some(7)));
                assert_eq!(Value::Object(object).to_string(), asked);
                assert_eq!((taken.spent.as_deref(), taken.record.unwrap().route.as_deref()), (spent, Some("a\"}")));
            }
        }
    }

    #[test]
    fn what_another_version_has_kept_is_not_in_the_way() {
        let mut object = json!({ "dcr": { "spent": "0123", "of_2031": 1 } }).as_object().unwrap().clone();
        assert_eq!(Kept::take(&mut object).unwrap().spent.as_deref(), Some("0123"));
        let mut damaged = json!({ "dcr": { "spent": 7 } }).as_object().unwrap().clone();
        assert!(Kept::take(&mut damaged).is_none(), "not taken for nothing");
    }
}
