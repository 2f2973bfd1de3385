//! What a vendor's answer shows and the gateway cannot read: told as losses of a write.

use registrar_core::VendorClient;
use registrar_model::{ClientSpec, Loss, LossKind, Severity, field::lookup};

const EXPIRY: &str = "client_secret_expires_at";

/// What the mapping foretold, and what could not be read of the answer. Where something was asked for, it is told what,
/// with the severity of that field.
pub(crate) fn with_unread(asked: &ClientSpec, client: &VendorClient, mut predicted: Vec<Loss>) -> Vec<Loss> {
    for unread in client.unread.iter().filter(|loss| loss.field != EXPIRY) {
        let wanted = asked.field(&unread.field);
        let known = lookup(&unread.field).map_or(Severity::Functional, |field| field.severity);
        let severity = if wanted.is_some() { known } else { unread.severity };
        predicted.retain(|loss| loss.field != unread.field || loss.wanted.is_none() && wanted.is_none());
        if !predicted.iter().any(|loss| loss.field == unread.field) {
            predicted.push(Loss { wanted, severity, ..unread.clone() });
        }
    }
    if client.secret.as_ref().is_some_and(|secret| secret.expires_at.is_none()) {
        predicted.push(Loss {
            field: EXPIRY.into(),
            kind: LossKind::Dropped,
            severity: Severity::Functional,
            reason: "the vendor's answer shows it in a form that cannot be read: the secret may expire".into(),
            wanted: None,
            got: None,
        });
    }
    predicted
}

#[cfg(test)]
mod tests {
    use registrar_core::{IssuedSecret, SecretString};
    use registrar_model::ClientMetadata;

    use super::*;

    fn loss(field: &'static str) -> Loss {
        Loss {
            field: field.into(),
            kind: LossKind::Dropped,
            severity: Severity::Info,
            reason: "odd".into(),
            wanted: None,
            got: None,
        }
    }

    fn client(unread: &[&'static str], expires_at: Option<i64>) -> VendorClient {
        VendorClient {
            client_id: "c".parse().unwrap(),
            vendor_ref: "c".to_owned(),
            client_id_issued_at: None,
            spec: ClientSpec::default(),
            unread: unread.iter().map(|field| loss(field)).collect(),
            secret: Some(IssuedSecret { value: SecretString::from("s"), expires_at, previous_valid_until: None }),
            management: None,
        }
    }

    #[test]
    fn what_was_asked_for_is_told_with_its_weight() {
        let metadata = ClientMetadata { default_max_age: Some(60), ..ClientMetadata::default() };
        let asked = ClientSpec { metadata: Box::new(metadata), ..ClientSpec::default() };
        let shown = client(&["metadata.default_max_age", "vendor.kind.x", EXPIRY], Some(0));
        let told = with_unread(&asked, &shown, vec![loss("metadata.default_max_age")]);
        let told: Vec<_> = told.iter().map(|l| (&*l.field, l.severity, l.wanted.is_some())).collect();
        let age = ("metadata.default_max_age", Severity::Security, true);
        assert_eq!(told, [age, ("vendor.kind.x", Severity::Info, false)]);
    }

    #[test]
    fn an_expiry_is_told_only_with_a_secret() {
        let told = |client: &VendorClient| with_unread(&ClientSpec::default(), client, Vec::new());
        assert_eq!(told(&client(&[EXPIRY], None)).len(), 1);
        assert_eq!(told(&VendorClient { secret: None, ..client(&[EXPIRY], None) }).len(), 0);
    }
}
