//! Loss as data: one [`Loss`] for each field that did not survive on its way to a vendor.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{FieldInfo, Key, lookup},
    severity::{self, Uses},
    spec::ClientSpec,
};

/// What happened to the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// The vendor cannot hold it; it is nowhere.
    Dropped,
    /// The vendor cannot hold (or show) it; the gateway's record keeps it and returns it.
    LocalOnly,
    /// The vendor holds less than was asked.
    Narrowed,
    /// The vendor grants more than was asked.
    Widened,
    /// The caller did not send it; the vendor has a value of its own.
    Defaulted,
    /// The vendor holds another value.
    Substituted,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing works differently.
    Info,
    /// Something works differently or not at all.
    Functional,
    /// More parties or weaker proof are let in. Refused unless the caller allows that very field.
    Security,
}

/// One field that did not survive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// The canonical field: `metadata.jwks_uri`, `policy.enabled`, `vendor.<kind>.<member>`, `management`.
    pub field: Cow<'static, str>,
    /// What happened to it.
    pub kind: LossKind,
    /// How much it matters.
    pub severity: Severity,
    /// Why, in a sentence.
    pub reason: Cow<'static, str>,
    /// What the caller asked for; absent when the caller asked for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Value>,
    /// What the vendor has (or will have); absent when it has nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<Value>,
}

impl Loss {
    /// True when a policy may refuse it: it concerns something that the caller sent or asked to remove.
    #[must_use]
    pub fn is_refusable(&self) -> bool {
        self.kind != LossKind::Defaulted && self.field != "management"
    }
}

/// A mapped value together with everything that the mapping lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped<T> {
    /// The value on the other side.
    pub value: T,
    /// What did not survive, in canonical field order.
    pub losses: Vec<Loss>,
}

impl<T> Mapped<T> {
    /// The same losses around another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Mapped<U> {
        Mapped { value: f(self.value), losses: self.losses }
    }
}

/// Collects losses while mapping; at most one for each field (the first stands), sorted when finished.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    found: Vec<Loss>,
    uses: Uses,
}

impl Losses {
    /// No losses yet, of a registration that uses every protection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No losses yet, of this registration.
    #[must_use]
    pub fn of(spec: &ClientSpec) -> Self {
        Self { found: Vec::new(), uses: Uses::of(&spec.metadata) }
    }

    /// No losses yet, with room for `size` of them.
    pub(crate) fn with_capacity(size: usize, uses: Uses) -> Self {
        Self { found: Vec::with_capacity(size), uses }
    }

    /// Records a loss, unless the field has one already, or nothing was asked for: an empty list or text is as good as
    /// absent (see [`crate::ClientSpec::flatten`]).
    pub fn push(&mut self, loss: Loss) {
        let asks_for_nothing = loss.got.is_none() && loss.wanted.as_ref().is_some_and(crate::spec::is_empty);
        if !asks_for_nothing && !self.found.iter().any(|l| l.field == loss.field) {
            self.found.push(loss);
        }
    }

    /// The vendor cannot hold this member. Nothing is recorded for an absent or empty member. The kind and severity follow
    /// from the field and from what the registration uses ([`Uses::dropping`]): descriptive members and values that ask
    /// for nothing become `local_only`/`info`, everything else is `dropped`.
    pub fn unheld(&mut self, field: &'static FieldInfo, wanted: Option<Value>, reason: impl Into<Cow<'static, str>>) {
        let Some(wanted) = wanted else { return };
        let severity = self.uses.dropping(field, &wanted);
        self.push(Loss {
            field: field.path.into(),
            kind: if severity == Severity::Info { LossKind::LocalOnly } else { LossKind::Dropped },
            severity,
            reason: reason.into(),
            wanted: Some(wanted),
            got: None,
        });
    }

    /// The caller sent nothing and the vendor must have something. Nothing is recorded for the standard's own default.
    pub fn defaulted(&mut self, field: impl Into<Cow<'static, str>>, got: Value, reason: impl Into<Cow<'static, str>>) {
        let field = field.into();
        if severity::is_standard(lookup(&field), &got) {
            return;
        }
        self.push(Loss {
            severity: severity::defaulting(&field, &got),
            field,
            kind: LossKind::Defaulted,
            reason: reason.into(),
            wanted: None,
            got: Some(got),
        });
    }

    /// The vendor will hold something else than what was asked.
    pub fn changed(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        kind: LossKind,
        severity: Severity,
        wanted: Option<Value>,
        got: Option<Value>,
        reason: impl Into<Cow<'static, str>>,
    ) {
        self.push(Loss { field: field.into(), kind, severity, reason: reason.into(), wanted, got });
    }

    /// The vendor will hold this value instead of what was asked; [`Uses::changing`] says what kind of loss that is.
    /// Nothing is recorded where the two mean the same.
    pub fn replaced(
        &mut self,
        field: &'static FieldInfo,
        wanted: Value,
        got: Value,
        reason: impl Into<Cow<'static, str>>,
    ) {
        if !crate::field::same(field.compare, &wanted, &got) {
            let (kind, severity) = self.uses.changing(Some(field), &wanted, &got);
            self.changed(field.path, kind, severity, Some(wanted), Some(got), reason);
        }
    }

    /// The losses around the mapped value, in canonical field order.
    #[must_use]
    pub fn with<T>(self, value: T) -> Mapped<T> {
        Mapped { value, losses: self.finish() }
    }

    /// The losses, in canonical field order.
    #[must_use]
    pub fn finish(self) -> Vec<Loss> {
        let mut losses = self.found;
        sort(&mut losses);
        losses
    }
}

/// Adds losses that no mapping sees to those of one, in canonical field order. A field has one loss: the severer one.
pub fn join(losses: &mut Vec<Loss>, own: Vec<Loss>) {
    for loss in own {
        match losses.iter_mut().find(|l| l.field == loss.field) {
            Some(known) if known.severity < loss.severity => *known = loss,
            Some(_) => {}
            None => losses.push(loss),
        }
    }
    sort(losses);
}

/// Sorts losses into canonical field order, so that plans and snapshots are stable.
pub fn sort(losses: &mut [Loss]) {
    // they mostly are in order already, being made and settled in it
    if !losses.is_sorted_by_key(|l| Key::of(&l.field)) {
        losses.sort_by(|a, b| Key::of(&a.field).cmp(&Key::of(&b.field)));
    }
}

/// Records an [`Losses::unheld`] for each named member of the canonical struct:
/// `unheld!(losses, metadata, "reason"; jwks_uri, contacts)` with one `Option<_>` variable a member. The reason is
/// evaluated for each member: a literal, or an expression that makes a `String`.
#[macro_export]
macro_rules! unheld {
    ($losses:expr, $layer:ident, $reason:expr; $($member:ident),+ $(,)?) => {
        $(
            $losses.unheld(
                $crate::fields::$layer::$member(),
                $member.as_ref().map($crate::Member::encode),
                $reason,
            );
        )+
    };
}

/// Takes a canonical struct apart, member by member and without `..`, so that a new member does not compile until it is
/// decided about: `held` members become variables, `elsewhere` ones are mapped by another function, and `unheld` ones
/// are recorded by [`unheld!`], which evaluates the reason for each of them.
#[macro_export]
macro_rules! decide {
    (
        $layer:ident : $type:ident = $value:expr, $losses:expr, $reason:expr;
        held { $($held:ident),* $(,)? }
        elsewhere { $($elsewhere:ident),* $(,)? }
        unheld { $($unheld:ident),+ $(,)? }
    ) => {
        let $type { $($held,)* $($elsewhere: _,)* $($unheld),+ } = $value;
        $crate::unheld!($losses, $layer, $reason; $($unheld),+);
    };
}
