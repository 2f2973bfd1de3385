//! No update makes a client confidential without a secret: where the update issues none, a rotation follows it.

use registrar_core::{Error, ErrorKind};
use registrar_model::{
    AuthMethod, ClientSpec, Issue, IssueCode, Loss, LossKind, Pointer, Severity, member::StringMember as _,
};
use serde_json::Value;

use crate::backend::Backend;

const METHOD: &str = "metadata.token_endpoint_auth_method";

/// Whether clients with this method prove themselves with a secret that the vendor has issued.
fn is_shared(method: &AuthMethod) -> bool {
    match method {
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost | AuthMethod::ClientSecretJwt => true,
        AuthMethod::None
        | AuthMethod::PrivateKeyJwt
        | AuthMethod::TlsClientAuth
        | AuthMethod::SelfSignedTlsClientAuth
        | AuthMethod::Other(_) => false,
    }
}

/// The method that an update will lead to, as far as the mapping foretells.
fn foretold(desired: &ClientSpec, predicted: &[Loss]) -> AuthMethod {
    let changed = predicted.iter().find(|loss| loss.field == METHOD).and_then(|loss| loss.got.as_ref());
    changed.and_then(Value::as_str).map_or_else(|| desired.metadata.auth_method(), AuthMethod::read)
}

/// Whether a client that had no secret has a method now that needs one.
pub(crate) fn is_needed(before: &ClientSpec, after: &ClientSpec) -> bool {
    !is_shared(&before.metadata.auth_method()) && is_shared(&after.metadata.auth_method())
}

/// Refuses an update that would leave a client without the secret that it needs, before any call.
///
/// # Errors
/// [`ErrorKind::UnsupportedByBackend`] where neither the update nor a rotation can issue one.
pub(crate) fn admit(
    backend: &Backend,
    before: &ClientSpec,
    desired: &ClientSpec,
    predicted: &[Loss],
) -> Result<(), Error> {
    let method = foretold(desired, predicted);
    if is_shared(&before.metadata.auth_method()) || !is_shared(&method) {
        return Ok(());
    }
    let mut after = desired.clone();
    after.metadata.token_endpoint_auth_method = Some(method.clone());
    let adapter = &backend.adapter;
    if adapter.descriptor().operations.rotate_secret.is_supported()
        || adapter.update_issued_secret(before, desired, &after)
    {
        return Ok(());
    }
    let detail = format!(
        "the client would need a secret for `{}`, and the vendor issues one only when a client is registered; register it \
         anew",
        method.text()
    );
    let pointer = Pointer::root().child("metadata").child("token_endpoint_auth_method");
    let issue = Issue { pointer, code: IssueCode::Unsupported, detail: detail.clone() };
    Err(Error::new(ErrorKind::UnsupportedByBackend, detail)
        .with_issues(vec![issue])
        .with_backend(backend.name.as_str()))
}

/// The update was done, and nobody has the secret that the client needs now.
pub(crate) fn missing() -> Loss {
    Loss {
        field: "client_secret".into(),
        kind: LossKind::Dropped,
        severity: Severity::Functional,
        reason:
            "the client needs a secret now, and none was issued: it can authenticate only after a new one was issued"
                .into(),
        wanted: None,
        got: None,
    }
}

/// Whether the adapter has told already that there is no secret.
pub(crate) fn is_told(losses: &[Loss]) -> bool {
    losses.iter().any(|loss| loss.field == "client_secret" || loss.field.ends_with(".client_secret"))
}
