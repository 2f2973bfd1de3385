//! OpenID Connect RP Metadata Choices 1.0: a client lists what it can do, the server picks one value of each list and
//! answers with that.

use registrar_core::{Adapter, Error, ErrorKind, Result};
use registrar_model::{
    ClientMetadata, ClientSpec, Issue, IssueCode, Issues, Loss, LossKind, Pointer, Severity, field, validate,
};
use serde_json::{Value, json};

/// How many values a list may have.
const MAX_CHOICES: usize = 32;

/// The lists (RP Metadata Choices §2) and the members that they are choices for, in an order in which no choice depends
/// on a later one.
const CHOICES: [(&str, &str); 19] = [
    ("token_endpoint_auth_methods_supported", "token_endpoint_auth_method"),
    ("token_endpoint_auth_signing_alg_values_supported", "token_endpoint_auth_signing_alg"),
    ("subject_types_supported", "subject_type"),
    ("id_token_signing_alg_values_supported", "id_token_signed_response_alg"),
    ("id_token_encryption_alg_values_supported", "id_token_encrypted_response_alg"),
    ("id_token_encryption_enc_values_supported", "id_token_encrypted_response_enc"),
    ("userinfo_signing_alg_values_supported", "userinfo_signed_response_alg"),
    ("userinfo_encryption_alg_values_supported", "userinfo_encrypted_response_alg"),
    ("userinfo_encryption_enc_values_supported", "userinfo_encrypted_response_enc"),
    ("request_object_signing_alg_values_supported", "request_object_signing_alg"),
    ("request_object_encryption_alg_values_supported", "request_object_encryption_alg"),
    ("request_object_encryption_enc_values_supported", "request_object_encryption_enc"),
    ("introspection_signing_alg_values_supported", "introspection_signed_response_alg"),
    ("introspection_encryption_alg_values_supported", "introspection_encrypted_response_alg"),
    ("introspection_encryption_enc_values_supported", "introspection_encrypted_response_enc"),
    ("authorization_signing_alg_values_supported", "authorization_signed_response_alg"),
    ("authorization_encryption_alg_values_supported", "authorization_encrypted_response_alg"),
    ("authorization_encryption_enc_values_supported", "authorization_encrypted_response_enc"),
    (
        "backchannel_authentication_request_signing_alg_values_supported",
        "backchannel_authentication_request_signing_alg",
    ),
];

/// Sets each member for which there is a list to the first value of the list that the rules between members allow and
/// the vendor can hold. The member itself, beside the list, is the value that the client likes best.
///
/// Where the vendor can hold none of them, the first is asked for, so that the loss policy decides as always; unless the
/// value in force without asking is on the list.
///
/// # Errors
/// [`ErrorKind::Validation`]: something that is no list of words, or of which the rules allow nothing.
pub(super) fn resolve(
    adapter: &dyn Adapter,
    metadata: &mut ClientMetadata,
    unregistered: &[(String, Value)],
) -> Result<()> {
    for (plural, singular) in CHOICES {
        let Some((_, value)) = unregistered.iter().find(|(name, _)| name == plural) else { continue };
        let choices = words(value).ok_or_else(|| {
            let detail = format!("must be a list of 1 to {MAX_CHOICES} words");
            refusal(plural, IssueCode::WrongType, detail)
        })?;
        let liked = metadata.get(singular).and_then(|v| v.as_str().map(str::to_owned));
        if liked.as_ref().is_some_and(|liked| !choices.contains(liked)) {
            return Err(refusal(singular, IssueCode::Conflict, format!("is not one of `{plural}`")));
        }
        let mut allowed = Vec::new();
        let mut faults = Vec::new();
        for choice in liked.iter().chain(&choices) {
            match with(metadata, singular, choice) {
                Ok(chosen) => allowed.push(chosen),
                Err(issues) if faults.is_empty() => faults = issues,
                Err(_) => {}
            }
        }
        let path = format!("metadata.{singular}");
        let default = field::lookup(&path).and_then(|f| f.default).and_then(|d| serde_json::from_str::<String>(d).ok());
        match allowed.iter().position(|chosen| holds(adapter, chosen, &path)) {
            Some(held) => *metadata = allowed.swap_remove(held),
            None if liked.is_none() && default.is_some_and(|d| choices.contains(&d)) => {}
            None if allowed.is_empty() => return Err(Error::validation(faults)),
            None => *metadata = allowed.swap_remove(0),
        }
    }
    Ok(())
}

/// The member that a list is choices for.
pub(super) fn member_of(list: &str) -> Option<&'static str> {
    CHOICES.iter().find(|(plural, _)| *plural == list).map(|(_, singular)| *singular)
}

fn words(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array().filter(|items| (1..=MAX_CHOICES).contains(&items.len()))?;
    let word = |item: &Value| item.as_str().filter(|w| !w.is_empty()).map(str::to_owned);
    items.iter().map(word).collect()
}

/// The metadata with one member set, if the rules allow it.
fn with(metadata: &ClientMetadata, member: &str, value: &str) -> std::result::Result<ClientMetadata, Vec<Issue>> {
    let (at, mut issues) = (Pointer::root().child("metadata"), Issues::new());
    let mut object = metadata.encode();
    object.insert(member.to_owned(), json!(value));
    let (chosen, _) = ClientMetadata::decode(&object, &at, &mut issues);
    if issues.is_empty() {
        validate::metadata(&chosen, &at, &mut issues);
    }
    issues.into_result(chosen)
}

/// Whether the vendor holds what the metadata has at `path`.
pub(super) fn holds(adapter: &dyn Adapter, metadata: &ClientMetadata, path: &str) -> bool {
    let spec = ClientSpec { metadata: Box::new(metadata.clone()), ..Default::default() };
    // more than was asked for, as by vendors that always add refresh_token, is not a lack
    let lacks = |l: &Loss| l.severity == Severity::Security || l.kind != LossKind::Widened;
    let lost = |l: &Loss| l.field == path && l.is_refusable() && lacks(l);
    adapter.preview(&spec).is_ok_and(|mapped| !mapped.losses.iter().any(lost))
}

fn refusal(member: &str, code: IssueCode, detail: String) -> Error {
    let pointer = Pointer::root().child("metadata").child(member);
    Error::new(ErrorKind::Validation, format!("{member}: {detail}")).with_issues(vec![Issue { pointer, code, detail }])
}
