//! A removal that a vendor did not do is told.
//!
//! A member that an update leaves out is to go (RFC 7592 §2.2). Where the vendor shows the same value after it as before,
//! it was kept; unless nobody had asked for it in the first place: then the vendor has filled it in again.

use std::borrow::Cow;

use registrar_model::{
    ClientSpec, Loss, LossKind, Registration, Severity,
    account::{account, diff},
    field::lookup,
    spec::same_value,
};

/// The losses of an update, and which members nobody asked for and the vendor has filled in.
pub(crate) fn settle(
    before: &Registration,
    sent: &ClientSpec,
    shown: &ClientSpec,
    predicted: Vec<Loss>,
) -> (Vec<Loss>, Vec<String>) {
    let foretold: Vec<Cow<'static, str>> = predicted.iter().map(|loss| loss.field.clone()).collect();
    let mut losses = account(sent, shown, predicted);
    let mut defaulted = before.hidden.notes.defaulted.clone();
    // what was filled in and is sent back as it was shown is still nobody's wish
    defaulted.retain(|path| match (sent.field(path), before.observed.field(path)) {
        (Some(sent), Some(before)) => same_value(path, &sent, &before),
        (sent, _) => sent.is_none(),
    });
    for path in diff(sent, shown) {
        let (None, Some(got)) = (sent.field(&path), shown.field(&path)) else { continue };
        let row = lookup(&path);
        // members of the vendor's own are its own business
        let is_standard = row.is_none_or(|field| field.is_default(&got));
        if is_standard || foretold.iter().any(|known| *known == path) || defaulted.contains(&path) {
            continue;
        }
        if !before.observed.field(&path).is_some_and(|before| same_value(&path, &before, &got)) {
            defaulted.push(path);
            continue;
        }
        losses.retain(|loss| loss.field != path);
        losses.push(Loss {
            field: path.into(),
            kind: LossKind::Substituted,
            severity: row.map_or(Severity::Functional, |field| field.severity),
            reason: "asked to be removed; the vendor kept it".into(),
            wanted: None,
            got: Some(got),
        });
    }
    defaulted.retain(|path| shown.field(path).is_some());
    registrar_model::loss::sort(&mut losses);
    (losses, defaulted)
}

/// The members of a new client that nobody asked for and the vendor has filled in.
pub(crate) fn filled_in(losses: &[Loss]) -> Vec<String> {
    let is_ours = |loss: &&Loss| loss.field.starts_with("metadata.") || loss.field.starts_with("policy.");
    let filled = losses.iter().filter(|loss| loss.kind == LossKind::Defaulted).filter(is_ours);
    filled.map(|loss| loss.field.clone().into_owned()).collect()
}
