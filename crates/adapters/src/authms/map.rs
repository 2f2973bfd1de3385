//! Canonical ⇄ authms, pure.

use std::{borrow::Cow, time::Duration};

use registrar_core::{Error, ErrorKind, Outcome, Response, Result};
use registrar_model::{
    AuthMethod, ClientMetadata, ClientSpec, GrantType, IssueCode, Issues, Jwks, LossKind, Losses, Member, Policy,
    RedirectUri, Scope, Severity, decide, fields, member::StringMember,
};
use serde_json::{Map, Value, json};

use super::{Config, KIND, wire};
use crate::shared::{
    self,
    refusal::{self, Shape},
    same_set, same_uris,
};

/// The members of `vendor.authms` that are sent.
const TAKEN: [&str; 2] = ["client_auth_methods", "status"];

/// Grants of its token endpoint and its console.
const GRANTS: [GrantType; 5] = [
    GrantType::AuthorizationCode,
    GrantType::RefreshToken,
    GrantType::ClientCredentials,
    GrantType::Implicit,
    GrantType::DeviceCode,
];

/// The whole desired state of a client in the vendor's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Desired<'a> {
    pub name: Cow<'a, str>,
    pub redirect_uris: &'a [RedirectUri],
    pub client_auth_methods: Vec<String>,
    pub grant_types: Vec<String>,
    pub is_confidential: bool,
    pub fapi_profile: Option<&'a str>,
    pub jwks: Option<String>,
    pub jwks_uri: Option<&'a str>,
    pub logo_url: Option<&'a str>,
    pub privacy_policy: Option<&'a str>,
    pub scopes: Vec<&'a str>,
    pub terms_url: Option<&'a str>,
    pub website: Option<&'a str>,
    pub status: Option<String>,
}

impl<'a> Desired<'a> {
    /// The body of `POST`; `status` is not part of it.
    pub(super) fn into_create(self) -> wire::CreateClient<'a> {
        let Self {
            name,
            redirect_uris,
            client_auth_methods,
            grant_types,
            is_confidential,
            fapi_profile,
            jwks,
            jwks_uri,
            logo_url,
            privacy_policy,
            scopes,
            terms_url,
            website,
            status: _,
        } = self;
        wire::CreateClient {
            name,
            redirect_uris,
            client_auth_methods,
            grant_types,
            is_confidential,
            fapi_profile,
            jwks,
            jwks_uri,
            logo_url,
            privacy_policy,
            scopes,
            terms_url,
            website,
        }
    }

    /// The body of `PUT` that leads from `self` to `to`: only what changes (trap 22: a full body would lose what reads
    /// do not show). A removed text becomes `""` or `null`, as configured; a removed list `[]`.
    pub(super) fn put_to(&self, to: &Self, config: &Config) -> Map<String, Value> {
        let mut put = Map::new();
        let mut set = |name: &str, changed: bool, value: Value| {
            if changed {
                put.insert(name.to_owned(), value);
            }
        };
        let text = |value: Option<&str>| match value {
            Some(value) => json!(value),
            None => config.cleared.clone(),
        };
        set("name", self.name != to.name, json!(to.name));
        set("redirect_uris", !same_uris(self.redirect_uris, to.redirect_uris), json!(to.redirect_uris));
        let methods = self.client_auth_methods != to.client_auth_methods || self.is_confidential != to.is_confidential;
        set("client_auth_methods", methods, json!(to.client_auth_methods));
        set("is_confidential", methods, json!(to.is_confidential));
        set("grant_types", !same_set(&self.grant_types, &to.grant_types), json!(to.grant_types));
        set("fapi_profile", self.fapi_profile != to.fapi_profile, text(to.fapi_profile));
        set("jwks_uri", self.jwks_uri != to.jwks_uri, text(to.jwks_uri));
        set("jwks", self.jwks != to.jwks, text(to.jwks.as_deref()));
        set("logo_url", self.logo_url != to.logo_url, text(to.logo_url));
        set("privacy_policy", self.privacy_policy != to.privacy_policy, text(to.privacy_policy));
        set("scopes", !same_set(&self.scopes, &to.scopes), json!(to.scopes));
        set("terms_url", self.terms_url != to.terms_url, text(to.terms_url));
        set("website", self.website != to.website, text(to.website));
        set("status", to.status.is_some() && self.status != to.status, json!(to.status));
        put
    }
}

/// Maps a registration to the vendor, with everything that it cannot hold. `current` is what it showed last, on updates.
pub(super) fn to_wire<'a>(spec: &'a ClientSpec, current: Option<&ClientSpec>) -> Result<(Desired<'a>, Losses)> {
    let mut losses = Losses::of(spec);
    let ClientSpec { metadata, policy, vendor: _ } = spec;
    shared::foreign_vendor_members(spec, KIND, &mut losses);
    shared::unsent_vendor_members(spec, current, KIND, &TAKEN, &mut losses);
    shared::require_redirects(metadata, "authms")?;
    let members = spec.vendor_members(KIND);

    decide!(metadata: ClientMetadata = &**metadata, losses, "authms has no place for it";
        held { client_name, client_uri, logo_uri, scope, tos_uri, policy_uri, jwks_uri, jwks, localized, extra }
        elsewhere { redirect_uris, token_endpoint_auth_method, grant_types, response_types }
        unheld {
            token_endpoint_auth_signing_alg, application_type, contacts, software_id, software_version,
            software_statement, sector_identifier_uri, subject_type, id_token_signed_response_alg,
            id_token_encrypted_response_alg, id_token_encrypted_response_enc, userinfo_signed_response_alg,
            userinfo_encrypted_response_alg, userinfo_encrypted_response_enc, request_object_signing_alg,
            request_object_encryption_alg, request_object_encryption_enc, introspection_signed_response_alg,
            introspection_encrypted_response_alg, introspection_encrypted_response_enc,
            authorization_signed_response_alg, authorization_encrypted_response_alg,
            authorization_encrypted_response_enc, default_max_age, require_auth_time, default_acr_values,
            initiate_login_uri, request_uris, post_logout_redirect_uris, backchannel_logout_uri,
            backchannel_logout_session_required, frontchannel_logout_uri, frontchannel_logout_session_required,
            require_pushed_authorization_requests, require_signed_request_object, dpop_bound_access_tokens,
            tls_client_certificate_bound_access_tokens, use_mtls_endpoint_aliases, tls_client_auth_subject_dn,
            tls_client_auth_san_dns, tls_client_auth_san_uri, tls_client_auth_san_ip, tls_client_auth_san_email,
            authorization_details_types, backchannel_token_delivery_mode,
            backchannel_client_notification_endpoint, backchannel_authentication_request_signing_alg,
            backchannel_user_code_parameter, client_registration_types, signed_jwks_uri, organization_name,
            organization_uri, description, keywords, information_uri, claims_redirect_uris, response_modes,
            resources
        }
    );
    shared::unheld_maps(localized, extra, "authms", &mut losses);
    decide!(policy: Policy = policy, losses, "authms has no place for it";
        held { enabled, allowed_cors_origins, security_profile }
        elsewhere {}
        unheld {
            allowed_web_origins, redirect_domains, owner, tenant, organizations, first_party, access_token_lifetime,
            id_token_lifetime, refresh_token_lifetime, audiences
        }
    );
    let reason = "authms shows it but does not take it through this API";
    let origins = allowed_cors_origins.as_ref().map(Member::encode);
    shared::read_only(current, "policy.allowed_cors_origins", origins, reason, &mut losses);
    if jwks.is_some() {
        let reason = "authms holds the keys but never shows them again; the gateway's record keeps them";
        let wanted = jwks.as_ref().map(Member::encode);
        losses.changed("metadata.jwks", LossKind::LocalOnly, Severity::Info, wanted, None, reason);
    }

    let (client_auth_methods, is_confidential) = authentication(metadata, &members);
    let held = shared::known_grants(metadata, &GRANTS, "authms", &mut losses)?;
    shared::derived_response_types(metadata, &held, "authms", &mut losses);
    let grant_types = held.iter().map(|g| g.text().to_owned()).collect();
    let name = match client_name {
        Some(name) => Cow::Borrowed(name.as_str()),
        None => {
            let name = shared::derived_name(metadata);
            losses.defaulted(
                "metadata.client_name",
                json!(name),
                "authms demands a name; made from the first redirect URI",
            );
            Cow::Owned(name)
        }
    };
    let desired = Desired {
        name,
        redirect_uris: shared::redirect_uris(metadata),
        client_auth_methods,
        grant_types,
        is_confidential,
        fapi_profile: security_profile.as_deref(),
        jwks: jwks.as_ref().map(key_text),
        jwks_uri: jwks_uri.as_deref(),
        logo_url: logo_uri.as_deref(),
        privacy_policy: policy_uri.as_deref(),
        scopes: scope.iter().flat_map(Scope::tokens).collect(),
        terms_url: tos_uri.as_deref(),
        website: client_uri.as_deref(),
        status: status(*enabled, &members, current, &mut losses)?,
    };
    Ok((desired, losses))
}

/// T13: keys travel as JSON in a text.
fn key_text(jwks: &Jwks) -> String {
    Value::Object(jwks.as_object().clone()).to_string()
}

/// T6, T7: one method here, a list there.
fn authentication(metadata: &ClientMetadata, members: &Map<String, Value>) -> (Vec<String>, bool) {
    let method = metadata.auth_method();
    let listed = members.get("client_auth_methods").and_then(Value::as_array);
    let methods = listed.map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    (methods.unwrap_or_else(|| vec![method.text().to_owned()]), method != AuthMethod::None)
}

/// T19: `status` has three values, `enabled` two. A client that an administrator suspended is not activated unnoticed.
fn status(
    enabled: Option<bool>,
    members: &Map<String, Value>,
    current: Option<&ClientSpec>,
    losses: &mut Losses,
) -> Result<Option<String>> {
    let asked = members.get("status").and_then(Value::as_str);
    let Some(current) = current else {
        if enabled == Some(false) {
            let reason = "authms activates every new client; register it and then switch it off";
            losses.changed(
                "policy.enabled",
                LossKind::Widened,
                Severity::Security,
                Some(json!(false)),
                Some(json!(true)),
                reason,
            );
        }
        if let Some(asked) = asked.filter(|s| *s != "active") {
            let reason = "authms activates every new client; register it and then change its status";
            losses.changed(
                "vendor.authms.status",
                LossKind::Dropped,
                Severity::Security,
                Some(json!(asked)),
                None,
                reason,
            );
        }
        return Ok(None);
    };
    let shown = current.vendor_members(KIND).get("status").and_then(Value::as_str).map(str::to_owned);
    if let Some(asked) = asked.filter(|s| Some(*s) != shown.as_deref()) {
        if enabled.is_some_and(|e| e != (asked == "active")) {
            let detail = "policy.enabled and vendor.authms.status contradict each other";
            return Err(shared::unsupported_member("policy", "enabled", detail));
        }
        return Ok(Some(asked.to_owned()));
    }
    match (enabled, shown.as_deref()) {
        (None, _) => Ok(None),
        (Some(true), Some(special)) => {
            let detail = format!(
                "an administrator has set the status `{special}`; to lift that, set vendor.authms.status to \"active\""
            );
            Err(shared::unsupported_member("policy", "enabled", &detail))
        }
        // it is off already, in a way that must be remembered
        (Some(false), Some(_)) => Ok(None),
        (Some(true), None) => Ok(Some("active".to_owned())),
        (Some(false), None) => Ok(Some("inactive".to_owned())),
    }
}

/// What a client is, in canonical terms. Secret and keys are not part of it. `silent` is the method in force where authms
/// does not say it.
pub(super) fn from_wire(client: wire::Client, silent: Option<AuthMethod>) -> ClientSpec {
    let wire::Client {
        client_id: _,
        name,
        redirect_uris,
        client_auth_methods: methods,
        grant_types,
        is_confidential,
        fapi_profile,
        jwks: _,
        jwks_uri,
        logo_url,
        privacy_policy,
        terms_url,
        website,
        scopes,
        cors_origins,
        status,
        client_secret: _,
        created_at: _,
        is_deleted: _,
        rest,
        unread: _,
    } = client;
    let mut members = rest;
    let method = match (is_confidential, methods.as_slice()) {
        // a client without confidentiality proves nothing, whatever methods are listed (trap 23)
        (Some(false), _) => Some(AuthMethod::None),
        (_, [first, ..]) => Some(AuthMethod::read(first)),
        (_, []) => silent,
    };
    let single = methods.len() < 2;
    let agrees = is_confidential != Some(false) || methods.iter().all(|m| m == "none");
    if !single || !agrees {
        members.insert("client_auth_methods".to_owned(), json!(methods));
    }
    let grant_types = grant_types.as_deref().and_then(shared::grants);
    let response_types = grant_types.as_deref().map(shared::response_types_of).filter(|r| !r.is_empty());
    let enabled = match status.as_deref() {
        None => None,
        Some("active") => Some(true),
        Some("inactive") => Some(false),
        Some(special) => {
            members.insert("status".to_owned(), json!(special));
            Some(false)
        }
    };
    let metadata = ClientMetadata {
        client_name: name,
        redirect_uris: redirect_uris.and_then(shared::redirects),
        token_endpoint_auth_method: method,
        grant_types,
        response_types,
        jwks_uri,
        logo_uri: logo_url,
        policy_uri: privacy_policy,
        tos_uri: terms_url,
        client_uri: website,
        scope: scopes,
        ..ClientMetadata::default()
    };
    let policy =
        Policy { enabled, allowed_cors_origins: cors_origins, security_profile: fapi_profile, ..Policy::default() };
    ClientSpec::new(metadata, policy, shared::kept_members(KIND, members))
}

/// The state of a client as last seen, in the terms of [`Desired`].
pub(super) fn current(spec: &ClientSpec) -> Desired<'_> {
    let m = &spec.metadata;
    let members = spec.vendor_members(KIND);
    let listed = members.get("client_auth_methods").and_then(Value::as_array);
    let methods = listed.map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
    let single = m.token_endpoint_auth_method.iter().map(|a| a.text().to_owned()).collect();
    let status = members.get("status").and_then(Value::as_str).map(str::to_owned);
    Desired {
        name: Cow::Borrowed(m.client_name.as_deref().unwrap_or_default()),
        redirect_uris: shared::redirect_uris(m),
        client_auth_methods: methods.unwrap_or(single),
        grant_types: m.grant_types.iter().flatten().map(|g| g.text().to_owned()).collect(),
        is_confidential: !m.is_public(),
        fapi_profile: spec.policy.security_profile.as_deref(),
        jwks: m.jwks.as_ref().map(key_text),
        jwks_uri: m.jwks_uri.as_deref(),
        logo_url: m.logo_uri.as_deref(),
        privacy_policy: m.policy_uri.as_deref(),
        scopes: m.scope.iter().flat_map(Scope::tokens).collect(),
        terms_url: m.tos_uri.as_deref(),
        website: m.client_uri.as_deref(),
        status: status.or_else(|| spec.policy.enabled.map(|e| if e { "active" } else { "inactive" }.to_owned())),
    }
}

/// Errors have three shapes: `{code, message}`, problem details, and OAuth's `{error, error_description}`.
pub(super) const SHAPE: Shape = Shape {
    codes: &["/code", "/error"],
    sentences: &[],
    request_ids: &["/request_id", "/trace_id"],
    fields: wire::FIELDS,
    ids: &["client_id"],
};

/// Trap 6: a success of HTTP is one only when the envelope says so too. The code may be a number or a text.
pub(super) fn envelope(response: &Response, config: &Config) -> Result<()> {
    let body = response.value();
    let code = match body.as_ref().and_then(|body| body.get("code")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Ok(()),
    };
    if config.success_codes.iter().any(|success| success.to_string() == code) {
        return Ok(());
    }
    let detail = "authms answered with success and an error code in the envelope";
    let refused = refusal::classify(response, &SHAPE);
    let error =
        Error::new(ErrorKind::UpstreamRejected, detail).with_vendor(refused.vendor().cloned().unwrap_or_default());
    let error = refusal::with_client(error, response, SHAPE.ids);
    // an error that names a new client may have made it
    let outcome = if error.client().is_some() { Outcome::Unknown } else { Outcome::NotPerformed };
    Err(error.with_outcome(outcome))
}

/// Classifies an error answer by its status: the vendor's numbers do not encode it.
pub(super) fn error(response: &Response) -> Error {
    let error = refusal::classify(response, &SHAPE);
    let body = response.value();
    let wait = body.as_ref().and_then(|b| b.get("retry_after")).and_then(Value::as_u64).map(Duration::from_secs);
    if error.retry_after().is_none() { error.with_retry_after(wait) } else { error }
}

/// Whether the keys that the answer to a creation shows are those that were sent.
pub(super) fn same_keys(sent: &ClientMetadata, shown: Option<&Map<String, Value>>) -> bool {
    shown.is_none_or(|shown| sent.jwks.as_ref().is_some_and(|sent| sent.as_object() == shown))
}

/// The loss of keys that came back different.
pub(super) fn other_keys(losses: &mut [registrar_model::Loss]) {
    let field = fields::metadata::jwks().path;
    for loss in losses.iter_mut().filter(|l| l.field == field) {
        loss.kind = LossKind::Dropped;
        loss.severity = Severity::Security;
        loss.reason = "authms answered with other keys than were sent".into();
    }
}

/// Checks the members of `vendor.authms` that are sent.
pub(super) fn validate(spec: &ClientSpec, issues: &mut Issues) {
    let members = spec.vendor_members(KIND);
    let at = |member| shared::vendor_member(KIND, member);
    match members.get("client_auth_methods") {
        None => {}
        Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let method = spec.metadata.auth_method();
            if !items.iter().any(|i| i.as_str() == Some(method.text())) {
                let detail = format!("must contain token_endpoint_auth_method, which is {method}");
                issues.push(at("client_auth_methods"), IssueCode::Conflict, detail);
            }
        }
        Some(_) => {
            issues.push(at("client_auth_methods"), IssueCode::WrongType, "expected an array of at least one string");
        }
    }
    shared::vendor_text(&members, KIND, "status", issues);
    if let Some(Value::String(status)) = members.get("status")
        && !matches!(status.as_str(), "active" | "suspended" | "inactive")
    {
        issues.push(at("status"), IssueCode::InvalidValue, "must be active, suspended or inactive");
    }
}
