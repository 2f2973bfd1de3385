//! Canonical ⇄ RFC 7591, pure. The canonical names are the standard's own, so that nothing is renamed; what a server makes
//! of the members is in its answer, and the accounting compares the two.

use std::collections::BTreeMap;

use registrar_core::{Error, ErrorKind, Result};
use registrar_model::{
    AuthMethod, ClientMetadata, ClientSpec, GrantType, Issue, IssueCode, Issues, LossKind, Losses, Member, Pointer,
    Policy, Position, Scope, Severity, decide,
    field::{JsonType, lookup},
    metadata::{REGISTERED_UNTYPED, SERVER_ASSIGNED},
};
use serde_json::{Map, Value, json};

use super::{
    KIND,
    preset::{Preset, Removal},
    wire::{self, is_secret},
};
use crate::shared::{self, says_nothing};

/// Why a preset's server gets less than it is asked.
const NOT_KEPT: &str = "this server is known not to keep it, so it is not sent";

/// The metadata of a registration as it is sent, with everything that is known to be lost.
///
/// # Errors
/// [`ErrorKind::Validation`] for members of `vendor.rfc7591` that belong elsewhere, [`ErrorKind::UnsupportedValue`] for
/// what the server is known to refuse.
pub(super) fn to_wire(spec: &ClientSpec, preset: &Preset) -> Result<(Map<String, Value>, Losses)> {
    let mut issues = Issues::new();
    validate(spec, &mut issues);
    issues.into_result(()).map_err(Error::validation)?;
    let mut losses = Losses::of(spec);
    shared::foreign_vendor_members(spec, KIND, &mut losses);
    policy_losses(&spec.policy, &mut losses);
    grants(&spec.metadata, preset, &mut losses)?;
    authentication(&spec.metadata, preset, &mut losses);

    let mut body = spec.vendor_members(KIND);
    // every member, whatever it is: `encode` and the struct come from one list
    let metadata = spec.metadata.encode();
    for (name, value) in metadata.into_iter().filter(|(_, value)| value.is_object() || !says_nothing(value)) {
        if keeps(preset, &name) {
            if preset.unshown.contains(&name.as_str()) {
                let reason = "the server holds it and never shows it; the gateway's record keeps it";
                let field = format!("metadata.{name}");
                losses.changed(field, LossKind::LocalOnly, Severity::Info, Some(value.clone()), None, reason);
            }
            body.insert(name, value);
        } else {
            not_kept(name, value, &mut losses);
        }
    }
    let metadata = &spec.metadata;
    if preset.empty_response_types && metadata.effective_response_types().is_empty() {
        // RFC 7591 §2.1: the default, code, would contradict grants without an authorization endpoint
        body.insert("response_types".to_owned(), json!([]));
    }
    if let Some(Value::String(scope)) = body.get_mut("scope") {
        // an empty scope says that nothing else is wanted; none at all asks for what the server gives everyone
        let words = scope.split(' ').filter(|word| !preset.always.contains(word));
        *scope = words.collect::<Vec<_>>().join(" ");
    }
    if preset.jwks_text
        && let Some(jwks) = body.get_mut("jwks")
    {
        *jwks = Value::String(jwks.to_string());
    }
    defaults(metadata, preset, &mut losses);
    body.retain(|_, value| !value.is_null());
    Ok((body, losses))
}

/// The members of an update that leads from `current` to `desired`; nothing when that is the same. RFC 7592 §2.2 wants the
/// whole client, its id, and none of what only the server says; a secret is never among them.
pub(super) fn to_update(
    client_id: &str,
    current: &ClientSpec,
    desired: &ClientSpec,
    preset: &Preset,
) -> Result<(Option<Map<String, Value>>, Losses)> {
    let (mut body, mut losses) = to_wire(desired, preset)?;
    // what was recorded may be anything that a server showed, so that its losses and faults are of no interest here
    let before = to_wire(&recorded(current), preset).map(|(before, _)| before).unwrap_or_default();
    if before == body {
        return Ok((None, losses));
    }
    for (name, shown) in before.iter().filter(|(name, _)| !body.contains_key(*name)) {
        if preset.fixed.contains(&name.as_str()) {
            let reason = "this server cannot remove it; give it another value instead";
            let field = format!("metadata.{name}");
            let (wanted, got) = (Some(Value::Null), Some(shown.clone()));
            losses.changed(field, LossKind::Widened, Severity::Security, wanted, got, reason);
        }
    }
    if preset.removal == Removal::Emptied {
        let gone = before.keys().filter(|name| !body.contains_key(*name) && !preset.fixed.contains(&name.as_str()));
        let gone: Map<String, Value> = gone.map(|name| (name.clone(), nothing(name))).collect();
        body.extend(gone);
    }
    if !preset.always.is_empty() && before.contains_key("scope") {
        // measured at Keycloak 26.7.3: a PUT without a scope keeps the one before
        body.entry("scope").or_insert_with(|| json!(""));
    }
    body.insert(wire::name::CLIENT_ID.to_owned(), json!(client_id));
    Ok((Some(body), losses))
}

/// A record without what could not be sent.
fn recorded(current: &ClientSpec) -> ClientSpec {
    let mut spec = current.clone();
    if let Some(own) = spec.vendor.get_mut(KIND) {
        own.retain(|name, _| fault(name).is_none());
    }
    spec
}

/// What takes the place of a member where leaving it out does not remove it.
fn nothing(name: &str) -> Value {
    let Some(field) = lookup(&format!("metadata.{name}")) else { return Value::Null };
    field.default_value().unwrap_or_else(|| match field.json {
        JsonType::String => json!(""),
        JsonType::Strings => json!([]),
        JsonType::Boolean => json!(false),
        JsonType::Integer | JsonType::Object => Value::Null,
    })
}

/// Whether a member is sent.
pub(super) fn keeps(preset: &Preset, name: &str) -> bool {
    match preset.keeps {
        _ if name.contains('#') => preset.localized,
        Some(kept) => kept.contains(&name),
        None => true,
    }
}

fn not_kept(name: String, value: Value, losses: &mut Losses) {
    match lookup(&format!("metadata.{name}")) {
        Some(field) if field.name == name => losses.unheld(field, Some(value), NOT_KEPT),
        _ => {
            let one = BTreeMap::from([(name, value)]);
            let tagged = one.keys().any(|name| name.contains('#'));
            let (localized, extra) = if tagged { (one, BTreeMap::new()) } else { (BTreeMap::new(), one) };
            shared::unheld_maps(&localized, &extra, "this server", losses);
        }
    }
}

fn policy_losses(policy: &Policy, losses: &mut Losses) {
    decide!(policy: Policy = policy, losses, "client metadata (RFC 7591) has no member for it";
        held {}
        elsewhere {}
        unheld {
            enabled, allowed_cors_origins, allowed_web_origins, redirect_domains, owner, tenant, organizations,
            first_party, security_profile, access_token_lifetime, id_token_lifetime, refresh_token_lifetime, audiences
        }
    );
}

fn grants(metadata: &ClientMetadata, preset: &Preset, losses: &mut Losses) -> Result<()> {
    let grants = metadata.effective_grant_types();
    if !preset.one_grant {
        return Ok(());
    }
    let own: Vec<&GrantType> = grants.iter().filter(|grant| **grant != GrantType::RefreshToken).collect();
    if own.len() != 1 {
        let detail = "this server takes exactly one grant type besides refresh_token";
        let pointer = Pointer::root().child("metadata").child("grant_types");
        let issue = Issue { pointer, code: IssueCode::InvalidValue, detail: detail.to_owned() };
        return Err(Error::new(ErrorKind::UnsupportedValue, detail).with_issues(vec![issue]));
    }
    let (field, refresh) = ("metadata.grant_types", grants.len() > 1);
    let got = if own == [&GrantType::AuthorizationCode] {
        vec![GrantType::AuthorizationCode, GrantType::RefreshToken]
    } else {
        own.into_iter().cloned().collect()
    };
    match &metadata.grant_types {
        None => losses.defaulted(field, got.encode(), "this server adds refresh_token to authorization_code"),
        Some(asked) if got.len() > 1 && !refresh => {
            let reason = "this server adds refresh_token to authorization_code";
            let (wanted, got) = (Some(asked.encode()), Some(got.encode()));
            losses.changed(field, LossKind::Widened, Severity::Functional, wanted, got, reason);
        }
        Some(asked) if got.len() == 1 && refresh => {
            let reason = "this server knows refresh_token only beside authorization_code";
            let (wanted, got) = (Some(asked.encode()), Some(got.encode()));
            losses.changed(field, LossKind::Narrowed, Severity::Functional, wanted, got, reason);
        }
        Some(_) => {}
    }
    Ok(())
}

fn authentication(metadata: &ClientMetadata, preset: &Preset, losses: &mut Losses) {
    if let Some(method) = preset.secret_method.filter(|_| !metadata.is_public()) {
        let why = "this server tells only confidential clients from public ones";
        shared::shared_secret(metadata, method, why, losses);
    }
}

/// What the standard assumes for members that were not sent; a server that does not say so keeps its own counsel.
fn defaults(metadata: &ClientMetadata, preset: &Preset, losses: &mut Losses) {
    let reason = "not sent; this is the standard's default (RFC 7591 §2)";
    let mut assume = |name: &str, absent: bool, value: Value| {
        if absent && keeps(preset, name) && !says_nothing(&value) {
            losses.defaulted(format!("metadata.{name}"), value, reason);
        }
    };
    let method = metadata.token_endpoint_auth_method.is_none();
    assume("token_endpoint_auth_method", method, AuthMethod::ClientSecretBasic.encode());
    assume("grant_types", metadata.grant_types.is_none(), json!(metadata.effective_grant_types()));
    assume("response_types", metadata.response_types.is_none(), json!(metadata.effective_response_types()));
}

/// What a client is, in canonical terms. What no registry knows is in `vendor.rfc7591`, except what could not be
/// sent back, above all what may be a secret.
pub(super) fn from_wire(client: &wire::Client) -> ClientSpec {
    // what could not be decoded is not among the members any more
    let mut issues = Issues::lenient();
    let (metadata, unknown) = ClientMetadata::decode(&client.metadata, &Position::root(), &mut issues);
    let rest = client.rest.iter().map(|(name, value)| (name.clone(), value.clone())).chain(unknown);
    let kept: Map<String, Value> = rest.filter(|(name, _)| fault(name).is_none()).collect();
    ClientSpec::new(metadata, Policy::default(), shared::kept_members(KIND, kept))
}

/// The scopes that every client of this server has, shown where they were asked for.
pub(super) fn show_always(shown: &mut ClientSpec, asked: Option<&Scope>, preset: &Preset) {
    let held = shown.metadata.scope.iter().flat_map(Scope::tokens);
    let always = asked.into_iter().flat_map(Scope::tokens).filter(|word| preset.always.contains(word));
    let all: Vec<&str> = always.chain(held).collect();
    if !all.is_empty() && !preset.always.is_empty() {
        shown.metadata.scope = Scope::from_tokens(all);
    }
}

/// Checks `vendor.rfc7591`: it is for members that the standards do not have.
pub(super) fn validate(spec: &ClientSpec, issues: &mut Issues) {
    for name in spec.vendor_members(KIND).keys() {
        if let Some((code, detail)) = fault(name) {
            issues.push(shared::vendor_member(KIND, name), code, detail);
        }
    }
}

/// Why a name cannot stand in `vendor.rfc7591`.
fn fault(name: &str) -> Option<(IssueCode, String)> {
    let base = name.split('#').next().unwrap_or(name);
    if SERVER_ASSIGNED.contains(&base) {
        Some((IssueCode::InvalidValue, "only the server says it (RFC 7591 §3.2.1, RFC 7592 §3)".to_owned()))
    } else if lookup(&format!("metadata.{base}")).is_some() || REGISTERED_UNTYPED.contains(&base) {
        Some((IssueCode::Conflict, format!("it is a registered member: put it into `metadata.{name}`")))
    } else if is_secret(name) {
        Some((IssueCode::InvalidValue, "secrets are issued by the server and cannot be sent".to_owned()))
    } else {
        None
    }
}
