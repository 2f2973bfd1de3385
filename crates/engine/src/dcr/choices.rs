//! OpenID Connect RP Metadata Choices 1.0: a client lists what it can do, the server picks one value of each list and
//! answers with that.

use std::collections::BTreeMap;

use registrar_core::{Adapter, Error, ErrorKind, Result};
use registrar_model::{
    AuthMethod, ClientMetadata, ClientSpec, Issue, IssueCode, Issues, Loss, LossKind, NewRegistration, Pointer, Policy,
    Position, Severity, field, validate,
};
use serde_json::{Value, json};

/// How many values a list may have.
pub const MAX_CHOICES: usize = 32;

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

/// What is in force with every client, whether it asks for it or not. All other members are of something that a client
/// may do without.
const IN_FORCE: [&str; 2] = ["token_endpoint_auth_method", "id_token_signed_response_alg"];

/// The names of the lists and of the members that they are choices for.
pub fn choices() -> impl Iterator<Item = (&'static str, &'static str)> {
    CHOICES.into_iter()
}

/// Whether there is anything to choose among these members.
pub(super) fn are_offered(unregistered: &[(String, Value)]) -> bool {
    unregistered.iter().any(|(name, _)| member_of(name).is_some())
}

/// Sets each member for which there is a list to the first value of the list that the rules between members allow and
/// the vendor can hold. The member itself, beside the list, is the value that the client likes best. Then everything is
/// validated: before, members that go only with what was chosen could not be judged.
///
/// A list says what the client can do, and demands nothing: where the vendor can hold none of it, nothing is chosen. Only
/// where something else on the vendor's side would be in force then is the first asked for, so that the loss policy
/// decides as always.
///
/// # Errors
/// [`ErrorKind::Validation`]: something that is no list of words, of which the rules allow nothing, or that is not valid
/// otherwise.
pub(super) fn resolve(
    adapter: &dyn Adapter,
    request: &mut NewRegistration,
    current: Option<&ClientSpec>,
) -> Result<()> {
    let metadata = &mut *request.spec.metadata;
    let mut wishes = Vec::new();
    for (plural, singular) in CHOICES {
        let Some((_, value)) = request.unknown.iter().find(|(name, _)| name == plural) else { continue };
        let choices = words(value).ok_or_else(|| {
            let detail = format!("must be a list of 1 to {MAX_CHOICES} words");
            refusal(plural, IssueCode::WrongType, detail)
        })?;
        let liked = metadata.get(singular).and_then(|v| v.as_str().map(str::to_owned));
        if liked.as_ref().is_some_and(|liked| !choices.contains(liked)) {
            return Err(refusal(singular, IssueCode::Conflict, format!("is not one of `{plural}`")));
        }
        let mut allowed = allowed(metadata, singular, liked.iter().chain(&choices))?;
        let path = format!("metadata.{singular}");
        let held = match liked {
            None if !has_use(metadata, singular) => continue,
            _ => allowed.iter().position(|chosen| holds(adapter, chosen, &path)),
        };
        let default = field::lookup(&path).and_then(|f| f.default).and_then(|d| serde_json::from_str::<String>(d).ok());
        let is_wish = liked.is_none() && !IN_FORCE.contains(&singular);
        let chosen = match held {
            None if liked.is_none() && !IN_FORCE.contains(&singular) => continue,
            None if liked.is_none() && default.is_some_and(|d| choices.contains(&d)) => continue,
            held => held.unwrap_or(0),
        };
        *metadata = allowed.swap_remove(chosen);
        if is_wish {
            wishes.push(path);
        }
    }
    // whether a server keeps it may show in its answer only
    request.allow_loss.extend(wishes);
    let valid = match current {
        Some(current) => request.validate_change(current, false),
        None => request.validate(),
    };
    valid.map_err(Error::validation)
}

/// Whether a choice of this member means anything: how assertions are signed where the client authenticates with one,
/// and how content is encrypted where keys are.
fn has_use(metadata: &ClientMetadata, member: &str) -> bool {
    match member.strip_suffix("_enc") {
        Some(stem) => metadata.get(&format!("{stem}_alg")).is_some(),
        None if member == "token_endpoint_auth_signing_alg" => {
            matches!(metadata.auth_method(), AuthMethod::PrivateKeyJwt | AuthMethod::ClientSecretJwt)
        }
        None => true,
    }
}

/// The metadata with each of the values that break no rule by themselves; of these the ones with which the fewest rules
/// are broken, for others may be mended by a later choice.
fn allowed<'c>(
    metadata: &ClientMetadata,
    member: &str,
    choices: impl Iterator<Item = &'c String>,
) -> Result<Vec<ClientMetadata>> {
    let (_, before) = with(metadata, member, Value::Null);
    let (mut allowed, mut faults) = (Vec::new(), Vec::new());
    for choice in choices {
        let (chosen, issues) = with(metadata, member, json!(choice));
        let is_new = |issue: &&Issue| !before.iter().any(|b| (&b.pointer, b.code) == (&issue.pointer, issue.code));
        // one that is for something that the client does without is no contradiction
        let counts = |issue: &&Issue| issue.code != IssueCode::Conflict || has_use(metadata, member);
        let own: Vec<Issue> = issues.iter().filter(is_new).filter(counts).cloned().collect();
        if own.is_empty() {
            allowed.push((issues.len(), chosen));
        } else if faults.is_empty() {
            faults = own;
        }
    }
    let Some(fewest) = allowed.iter().map(|(broken, _)| *broken).min() else {
        return Err(Error::validation(faults));
    };
    Ok(allowed.into_iter().filter(|(broken, _)| *broken == fewest).map(|(_, chosen)| chosen).collect())
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

/// The metadata with one member set, and the rules that it breaks then.
fn with(metadata: &ClientMetadata, member: &str, value: Value) -> (ClientMetadata, Vec<Issue>) {
    let (root, mut issues) = (Position::root(), Issues::new());
    let at = root.child("metadata");
    let mut object = metadata.encode();
    object.insert(member.to_owned(), value);
    let (chosen, _) = ClientMetadata::decode(&object, &at, &mut issues);
    validate::metadata(&chosen, &at, &mut issues);
    (chosen, issues.into_vec())
}

/// Whether the vendor holds what the metadata has at `path`.
pub(super) fn holds(adapter: &dyn Adapter, metadata: &ClientMetadata, path: &str) -> bool {
    let spec = ClientSpec::new(metadata.clone(), Policy::default(), BTreeMap::new());
    // more than was asked for, as by vendors that always add refresh_token, is not a lack
    let lacks = |l: &Loss| l.severity == Severity::Security || l.kind != LossKind::Widened;
    let lost = |l: &Loss| l.field == path && l.is_refusable() && lacks(l);
    adapter.preview(&spec).is_ok_and(|mapped| !mapped.losses.iter().any(lost))
}

fn refusal(member: &str, code: IssueCode, detail: String) -> Error {
    let pointer = Pointer::root().child("metadata").child(member);
    Error::new(ErrorKind::Validation, format!("{member}: {detail}")).with_issues(vec![Issue { pointer, code, detail }])
}
