//! The accounting law: what a later read shows differs from what was sent in exactly the fields that were reported.

use std::{borrow::Cow, collections::BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    field::{Compare, FieldInfo, same},
    loss::{Loss, LossKind, Losses, Severity},
    severity::{self, Uses},
    spec::{ClientSpec, Difference},
};

/// The canonical paths in which two specs differ, in no particular order.
#[must_use]
pub fn diff(a: &ClientSpec, b: &ClientSpec) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    a.differences(b, |d| {
        paths.insert(d.path.into_owned());
    });
    paths
}

/// One difference between the gateway's record and the vendor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The canonical field.
    pub field: String,
    /// What was recorded after the last write; absent when nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Value>,
    /// What the vendor shows now; absent when it shows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Value>,
}

/// What changed at the vendor since the last write, in canonical order.
#[must_use]
pub fn drift(recorded: &ClientSpec, vendor: &ClientSpec) -> Vec<Drift> {
    let mut out = Vec::new();
    recorded.differences(vendor, |Difference { path, row, a, b }| {
        // a vendor that no longer shows what the standard assumes anyway has changed nothing
        let assumed = b.is_none() && a.as_ref().is_some_and(|a| severity::is_standard(row, a));
        if !assumed {
            out.push(Drift { field: path.into_owned(), recorded: a, vendor: b });
        }
    });
    out.sort_by(|a, b| crate::field::Key::of(&a.field).cmp(&crate::field::Key::of(&b.field)));
    out
}

/// Settles the account of a write: `sent` is what was asked, `read` what the vendor shows, `predicted` what the mapping
/// said would be lost. The result names exactly the fields that differ: predictions that did not come true are left
/// out, and differences that nobody predicted are added as `defaulted`, `narrowed`, `widened` or `substituted`. A
/// standard's default that the vendor shows and nobody asked for is no difference.
#[must_use]
pub fn account(sent: &ClientSpec, read: &ClientSpec, predicted: Vec<Loss>) -> Vec<Loss> {
    // few: a list is searched faster than a map is built
    let mut predicted = predicted;
    // room for what vendors mostly tell of their own accord as well
    let uses = Uses::of(&sent.metadata);
    let mut losses = Losses::with_capacity(predicted.len() + 4, uses);
    sent.differences(read, |Difference { path, row, a: wanted, b: got }| {
        let foretold = predicted.iter().position(|l| l.field == path).map(|at| predicted.swap_remove(at));
        losses.push(match foretold {
            None => unforeseen(uses, path, row, wanted, got),
            // as foretold
            Some(loss) if same_option(row, loss.got.as_ref(), got.as_ref()) => {
                Loss { wanted: wanted.or(loss.wanted), ..loss }
            }
            // foretold that it would not survive, but not what would be there instead
            Some(loss) => {
                let found = unforeseen(uses, path, row, wanted, got);
                let defaulted = loss.kind == LossKind::Defaulted;
                Loss {
                    kind: if loss.got.is_some() == found.got.is_some() { loss.kind } else { found.kind },
                    severity: if defaulted { loss.severity } else { loss.severity.max(found.severity) },
                    reason: loss.reason,
                    ..found
                }
            }
        });
    });
    // losses of things that are not fields of the spec (unknown names, labels) cannot be observed and stand as they are
    for loss in predicted {
        let observable = || sent.field(&loss.field).is_some() || read.field(&loss.field).is_some();
        if loss.kind != LossKind::Defaulted && loss.got.is_none() && !observable() {
            losses.push(loss);
        }
    }
    losses.finish()
}

fn same_option(row: Option<&FieldInfo>, a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(row.map_or(Compare::Exact, |f| f.compare), a, b),
        (None, None) => true,
        _ => false,
    }
}

fn unforeseen(
    uses: Uses,
    path: Cow<'static, str>,
    field: Option<&'static FieldInfo>,
    wanted: Option<Value>,
    got: Option<Value>,
) -> Loss {
    let (kind, severity, reason) = match (&wanted, &got) {
        (None, got) => {
            let severity = got.as_ref().map_or(Severity::Info, |got| severity::defaulting(&path, got));
            (LossKind::Defaulted, severity, "not sent; this is the vendor's own value")
        }
        (Some(wanted), None) => {
            let severity = field.map_or(Severity::Functional, |f| uses.dropping(f, wanted));
            let kind = if severity == Severity::Info { LossKind::LocalOnly } else { LossKind::Dropped };
            (kind, severity, "the vendor did not keep it")
        }
        (Some(wanted), Some(got)) => {
            let (kind, severity) = uses.changing(field, wanted, got);
            let reason = match kind {
                LossKind::Widened => "the vendor granted more than was asked",
                LossKind::Narrowed => "the vendor granted less than was asked",
                _ => "the vendor holds another value than was asked",
            };
            (kind, severity, reason)
        }
    };
    Loss { field: path, kind, severity, reason: reason.into(), wanted, got }
}

/// What the gateway's record shows after a write: the vendor's values, and the caller's for `local_only` losses; `read`
/// itself when there are none.
///
/// # Errors
/// Never in practice; a value that no longer decodes would be a defect, and its issues are returned.
pub fn effective<'r>(
    sent: &ClientSpec,
    read: &'r ClientSpec,
    losses: &[Loss],
) -> Result<Cow<'r, ClientSpec>, Vec<crate::Issue>> {
    if !losses.iter().any(|l| l.kind == LossKind::LocalOnly) {
        return Ok(Cow::Borrowed(read));
    }
    let mut metadata = read.metadata.encode();
    let mut policy = read.policy.encode();
    let mut vendor = read.vendor.clone();
    for path in losses.iter().filter(|l| l.kind == LossKind::LocalOnly).map(|l| &*l.field) {
        let Some(value) = sent.field(path) else { continue };
        if let Some(name) = path.strip_prefix("metadata.") {
            metadata.insert(name.to_owned(), value);
        } else if let Some(name) = path.strip_prefix("policy.") {
            policy.insert(name.to_owned(), value);
        } else if let Some((kind, member)) = path.strip_prefix("vendor.").and_then(|p| p.split_once('.')) {
            vendor.entry(kind.to_owned()).or_default().insert(member.to_owned(), value);
        }
    }
    let vendor: Map<String, Value> = vendor.into_iter().map(|(kind, members)| (kind, Value::Object(members))).collect();
    let object = Map::from_iter([
        ("metadata".to_owned(), Value::Object(metadata)),
        ("policy".to_owned(), Value::Object(policy)),
        ("vendor".to_owned(), Value::Object(vendor)),
    ]);
    let mut issues = crate::Issues::lenient();
    let (spec, _) = ClientSpec::decode(&object, &crate::Position::root(), &mut issues);
    issues.into_result(Cow::Owned(spec))
}
