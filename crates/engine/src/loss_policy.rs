//! Whether a write that loses something may go ahead.

use registrar_core::{Error, ErrorKind};
use registrar_model::{Issue, IssueCode, Loss, Pointer, Severity};

use crate::{backend::Backend, config::OnLoss};

/// Makes the loss of scopes one of security where the operator says so.
pub(crate) fn weigh(backend: &Backend, losses: &mut [Loss]) {
    let lost = |loss: &&mut Loss| loss.field == "metadata.scope" && loss.is_refusable();
    if backend.strict_scopes {
        losses.iter_mut().filter(lost).for_each(|loss| loss.severity = Severity::Security);
    }
}

/// Refuses losses that the policy does not accept and the request does not allow by name.
///
/// # Errors
/// [`ErrorKind::UnsupportedByBackend`] with every loss, and an issue for each that is refused.
pub fn admit(policy: OnLoss, allow: &[String], losses: &[Loss]) -> Result<(), Error> {
    let refused: Vec<&Loss> =
        losses.iter().filter(|l| is_refused(policy, l) && !allow.iter().any(|field| *field == l.field)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = refused.iter().map(|l| &*l.field).collect();
    let what = match policy {
        OnLoss::RefuseAny => "would not survive",
        OnLoss::RefuseSecurity | OnLoss::Report => "would weaken security",
    };
    let detail = format!("the server cannot hold this registration as it is: {} {what}", names.join(", "));
    let issues = refused.iter().map(|l| Issue {
        pointer: pointer(&l.field),
        code: IssueCode::Unsupported,
        detail: l.reason.to_string(),
    });
    Err(Error::new(ErrorKind::UnsupportedByBackend, detail)
        .with_advice("to accept that, name the field in `allow_loss`")
        .with_issues(issues.collect())
        .with_losses(losses.to_vec()))
}

fn is_refused(policy: OnLoss, loss: &Loss) -> bool {
    loss.is_refusable()
        && match policy {
            OnLoss::Report => false,
            OnLoss::RefuseSecurity => loss.severity == Severity::Security,
            OnLoss::RefuseAny => true,
        }
}

fn pointer(field: &str) -> Pointer {
    match field.split_once('.') {
        Some(("vendor", rest)) => match rest.split_once('.') {
            Some((kind, member)) => Pointer::root().child("vendor").child(kind).child(member),
            None => Pointer::root().child("vendor").child(rest),
        },
        Some((layer, member)) => Pointer::root().child(layer).child(member),
        None => Pointer::root().child(field),
    }
}

#[cfg(test)]
mod tests {
    use registrar_model::LossKind;

    use super::*;

    fn loss(field: &str, kind: LossKind, severity: Severity) -> Loss {
        Loss { field: field.to_owned().into(), kind, severity, reason: "r".into(), wanted: None, got: None }
    }

    #[test]
    fn the_policies_differ_in_what_they_refuse() {
        use OnLoss::{RefuseAny, RefuseSecurity, Report};
        let security = [loss("metadata.jwks_uri", LossKind::Dropped, Severity::Security)];
        let info = [loss("metadata.contacts", LossKind::LocalOnly, Severity::Info)];
        let own = [loss("metadata.scope", LossKind::Defaulted, Severity::Functional)];
        assert!(admit(RefuseSecurity, &[], &security).is_err());
        assert!(admit(RefuseSecurity, &["metadata.jwks_uri".to_owned()], &security).is_ok());
        assert!(admit(RefuseSecurity, &["metadata.jwks".to_owned()], &security).is_err());
        assert!(admit(RefuseSecurity, &[], &info).is_ok());
        assert!(admit(RefuseAny, &[], &info).is_err());
        assert!(admit(RefuseAny, &[], &own).is_ok());
        assert!(admit(Report, &[], &security).is_ok());
    }

    #[test]
    fn refusals_name_the_members() {
        let losses = [loss("vendor.x.y", LossKind::Dropped, Severity::Security)];
        let error = admit(OnLoss::RefuseSecurity, &[], &losses).unwrap_err();
        assert_eq!(error.issues()[0].pointer.as_str(), "#/vendor/x/y");
        assert_eq!(error.losses().len(), 1);
    }
}
