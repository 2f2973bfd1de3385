//! Canonical ⇄ Loop, pure.

use std::{borrow::Cow, collections::BTreeSet};

use registrar_core::{Error, ErrorKind, Outcome, Response, Result};
use registrar_model::{
    AuthMethod, ClientMetadata, ClientSpec, Issue, IssueCode, LossKind, Losses, Member, Pointer, Policy, RedirectUri,
    ResponseType, Scope, Severity, decide, fields, member::StringMember,
};
use serde_json::{Map, Value, json};

use super::{
    Config, KIND,
    wire::{self, ClientType},
};
use crate::shared::{
    self,
    refusal::{self, Shape},
    same_set,
};

/// The whole desired state of a client in Loop's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Desired<'a> {
    pub client_name: Cow<'a, str>,
    pub client_type: &'static str,
    pub redirect_uris: Vec<&'a RedirectUri>,
    pub allowed_scopes: Vec<&'a str>,
    pub allowed_origins: &'a [String],
    pub client_uri: Option<&'a str>,
    pub logo_uri: Option<&'a str>,
    pub enabled: Option<bool>,
}

impl<'a> Desired<'a> {
    /// The body of `POST`; `enabled` is not part of it (trap 18).
    pub(super) fn into_create(self) -> wire::CreateClient<'a> {
        let Self {
            client_name,
            client_type,
            redirect_uris,
            allowed_scopes,
            allowed_origins,
            client_uri,
            logo_uri,
            enabled: _,
        } = self;
        wire::CreateClient {
            allowed_origins,
            allowed_scopes,
            client_name,
            client_type,
            client_uri,
            logo_uri,
            redirect_uris,
        }
    }

    /// The body of `PATCH` that leads from `self` to `to`: only what changes, `null` where a URI is removed (T12).
    pub(super) fn patch_to(&self, to: &Self) -> Map<String, Value> {
        let mut patch = Map::new();
        let mut set = |name: &str, changed: bool, value: Value| {
            if changed {
                patch.insert(name.to_owned(), value);
            }
        };
        set("client_name", self.client_name != to.client_name, json!(to.client_name));
        set("redirect_uris", !same_uris(&self.redirect_uris, &to.redirect_uris), json!(to.redirect_uris));
        set("allowed_scopes", !same_set(&self.allowed_scopes, &to.allowed_scopes), json!(to.allowed_scopes));
        set("allowed_origins", !same_set(self.allowed_origins, to.allowed_origins), json!(to.allowed_origins));
        set("client_uri", self.client_uri != to.client_uri, json!(to.client_uri));
        set("logo_uri", self.logo_uri != to.logo_uri, json!(to.logo_uri));
        set("enabled", to.enabled.is_some() && self.enabled != to.enabled, json!(to.enabled));
        patch
    }
}

/// Maps a registration to Loop, with everything that Loop cannot hold. `current` is what Loop showed last, on updates.
pub(super) fn to_wire<'a>(
    spec: &'a ClientSpec,
    current: Option<&ClientSpec>,
    config: &'a Config,
) -> Result<(Desired<'a>, Losses)> {
    let mut losses = Losses::of(spec);
    let ClientSpec { metadata, policy, vendor: _ } = spec;
    shared::foreign_vendor_members(spec, KIND, &mut losses);
    shared::unsent_vendor_members(spec, current, KIND, &[], &mut losses);
    shared::require_redirects(metadata, "Loop")?;
    let redirect_uris = redirects(metadata, &mut losses)?;

    let client_type = authentication(metadata, config, &mut losses);
    shared::code_and_refresh_only(metadata, "Loop", &mut losses);

    decide!(metadata: ClientMetadata = &**metadata, losses, "Loop has no place for it";
        held { client_name, client_uri, logo_uri, scope, localized, extra }
        elsewhere { redirect_uris, token_endpoint_auth_method, grant_types, response_types }
        unheld {
            token_endpoint_auth_signing_alg, application_type, contacts, tos_uri, policy_uri, jwks_uri, jwks,
            software_id, software_version, software_statement, sector_identifier_uri, subject_type,
            id_token_signed_response_alg, id_token_encrypted_response_alg, id_token_encrypted_response_enc,
            userinfo_signed_response_alg, userinfo_encrypted_response_alg, userinfo_encrypted_response_enc,
            request_object_signing_alg, request_object_encryption_alg, request_object_encryption_enc,
            introspection_signed_response_alg, introspection_encrypted_response_alg,
            introspection_encrypted_response_enc, authorization_signed_response_alg,
            authorization_encrypted_response_alg, authorization_encrypted_response_enc, default_max_age,
            require_auth_time, default_acr_values, initiate_login_uri, request_uris, post_logout_redirect_uris,
            backchannel_logout_uri, backchannel_logout_session_required, frontchannel_logout_uri,
            frontchannel_logout_session_required, require_pushed_authorization_requests,
            require_signed_request_object, dpop_bound_access_tokens, tls_client_certificate_bound_access_tokens,
            use_mtls_endpoint_aliases, tls_client_auth_subject_dn, tls_client_auth_san_dns,
            tls_client_auth_san_uri, tls_client_auth_san_ip, tls_client_auth_san_email,
            authorization_details_types, backchannel_token_delivery_mode,
            backchannel_client_notification_endpoint, backchannel_authentication_request_signing_alg,
            backchannel_user_code_parameter, client_registration_types, signed_jwks_uri, organization_name,
            organization_uri, description, keywords, information_uri, claims_redirect_uris, response_modes,
            resources
        }
    );
    shared::unheld_maps(localized, extra, "Loop", &mut losses);

    decide!(policy: Policy = policy, losses, "Loop has no place for it";
        held { enabled, allowed_cors_origins, owner, tenant, first_party }
        elsewhere {}
        unheld {
            allowed_web_origins, redirect_domains, organizations, security_profile, access_token_lifetime,
            id_token_lifetime, refresh_token_lifetime, audiences
        }
    );
    shared::read_only(
        current,
        "policy.owner",
        owner.as_ref().map(Member::encode),
        "assigned by Loop; its API does not take it",
        &mut losses,
    );
    shared::read_only(
        current,
        "policy.tenant",
        tenant.as_ref().map(Member::encode),
        "assigned by Loop; its API does not take it",
        &mut losses,
    );
    if *first_party == Some(true) && current.is_none_or(|c| c.policy.first_party != Some(true)) {
        let reason = "first-party clients are registered by Loop's platform team";
        losses.changed(
            "policy.first_party",
            LossKind::Substituted,
            Severity::Functional,
            Some(json!(true)),
            Some(json!(false)),
            reason,
        );
    }
    if current.is_none() && *enabled == Some(false) {
        let reason = "Loop enables every new client; register it and then switch it off";
        losses.changed(
            "policy.enabled",
            LossKind::Widened,
            Severity::Security,
            Some(json!(false)),
            Some(json!(true)),
            reason,
        );
    }

    let client_name = match client_name {
        Some(name) => Cow::Borrowed(name.as_str()),
        None => {
            let name = shared::derived_name(metadata);
            losses.defaulted(
                "metadata.client_name",
                json!(name),
                "Loop demands a name; made from the first redirect URI",
            );
            Cow::Owned(name)
        }
    };
    let allowed_scopes = match scope.as_ref().filter(|s| !s.is_empty()) {
        Some(scope) => scope.tokens().collect(),
        None => {
            let got = json!(config.default_scopes.join(" "));
            losses.defaulted("metadata.scope", got, "Loop demands at least one scope; `default_scopes` of the backend");
            config.default_scopes.iter().map(String::as_str).collect()
        }
    };
    let desired = Desired {
        client_name,
        client_type,
        redirect_uris,
        allowed_scopes,
        allowed_origins: allowed_cors_origins.as_deref().unwrap_or_default(),
        client_uri: client_uri.as_deref(),
        logo_uri: logo_uri.as_deref(),
        enabled: *enabled,
    };
    Ok((desired, losses))
}

/// Loop refuses query strings and fragments, which RFC 6749 allows and forbids (trap 20). The others are registered.
fn redirects<'a>(metadata: &'a ClientMetadata, losses: &mut Losses) -> Result<Vec<&'a RedirectUri>> {
    const WHY: &str = "Loop takes no query string, fragment or wildcard in a redirect URI";
    let asked = shared::redirect_uris(metadata);
    let is_taken = |uri: &RedirectUri| !uri.as_str().contains(['?', '#', '*']);
    let held: Vec<&RedirectUri> = asked.iter().filter(|uri| is_taken(uri)).collect();
    if held.is_empty() {
        let issue = |(i, _)| Issue {
            pointer: Pointer::root().child("metadata").child("redirect_uris").child(i),
            code: IssueCode::InvalidRedirectUri,
            detail: WHY.to_owned(),
        };
        return Err(Error::validation(asked.iter().enumerate().map(issue).collect()));
    }
    losses.replaced(fields::metadata::redirect_uris(), json!(asked), json!(held), WHY);
    Ok(held)
}

fn same_uris(a: &[&RedirectUri], b: &[&RedirectUri]) -> bool {
    let set = |uris: &[&RedirectUri]| uris.iter().map(|uri| uri.as_str().to_owned()).collect::<BTreeSet<_>>();
    set(a) == set(b)
}

/// T6: Loop knows confidential and public, not methods.
fn authentication(metadata: &ClientMetadata, config: &Config, losses: &mut Losses) -> &'static str {
    if metadata.token_endpoint_auth_method == Some(AuthMethod::None) {
        return "public";
    }
    let why = "Loop holds only confidential or public";
    shared::shared_secret(metadata, &config.confidential_auth_method, why, losses);
    "confidential"
}

/// What a client at Loop is, in canonical terms. `method` is the one in force where Loop does not say it.
pub(super) fn from_wire(client: wire::Client, config: &Config, method: Option<AuthMethod>) -> ClientSpec {
    let wire::Client {
        id: _,
        client_id: _,
        client_name,
        client_uri,
        logo_uri,
        client_type,
        redirect_uris,
        allowed_scopes,
        allowed_origins,
        owner_id,
        brand_id,
        is_first_party,
        enabled,
        created_at: _,
        rest,
        unread: _,
    } = client;
    let auth_method = match client_type {
        ClientType::Public => Some(AuthMethod::None),
        ClientType::Confidential => Some(AuthMethod::read(&config.confidential_auth_method)),
        ClientType::Unsaid => method,
    };
    let metadata = ClientMetadata {
        client_name,
        client_uri,
        logo_uri,
        redirect_uris: redirect_uris.and_then(shared::redirects),
        scope: allowed_scopes,
        token_endpoint_auth_method: auth_method,
        grant_types: Some(shared::CODE_AND_REFRESH.to_vec()),
        response_types: Some(vec![ResponseType::read("code")]),
        ..ClientMetadata::default()
    };
    let policy = Policy {
        enabled,
        allowed_cors_origins: allowed_origins,
        owner: owner_id,
        tenant: brand_id,
        first_party: is_first_party,
        ..Policy::default()
    };
    ClientSpec::new(metadata, policy, shared::kept_members(KIND, rest))
}

/// The state of a client as last seen, in the terms of [`Desired`], for computing a patch.
pub(super) fn current(spec: &ClientSpec) -> Desired<'_> {
    let m = &spec.metadata;
    Desired {
        client_name: Cow::Borrowed(m.client_name.as_deref().unwrap_or_default()),
        client_type: if m.is_public() { "public" } else { "confidential" },
        redirect_uris: shared::redirect_uris(m).iter().collect(),
        allowed_scopes: m.scope.iter().flat_map(Scope::tokens).collect(),
        allowed_origins: spec.policy.allowed_cors_origins.as_deref().unwrap_or_default(),
        client_uri: m.client_uri.as_deref(),
        logo_uri: m.logo_uri.as_deref(),
        enabled: spec.policy.enabled,
    }
}

/// Loop's own documents show three envelopes (trap 35): `{error, message}`, `{error, error_description}` and `{success,
/// error: {code, message}, meta: {requestId}}`.
pub(super) const SHAPE: Shape = Shape {
    codes: &["/error/code"],
    sentences: &[],
    request_ids: &["/meta/requestId"],
    fields: wire::FIELDS,
    ids: &["client_id"],
};

/// Classifies an error answer.
pub(super) fn error(response: &Response) -> Error {
    let error = refusal::classify(response, &SHAPE);
    // a policy refused the request
    if response.status == 403 && error.kind() != ErrorKind::UpstreamAuthorization {
        return error;
    }
    match refusal::code(&error) {
        // documented with 401 on one page and with 403 on another
        Some("insufficient_scope" | "forbidden") => error.with_kind(ErrorKind::UpstreamAuthorization),
        Some("unauthenticated" | "invalid_token") => error.with_kind(ErrorKind::UpstreamAuthentication),
        Some("rate_limited") => error.with_kind(ErrorKind::UpstreamRateLimited).with_outcome(Outcome::NotPerformed),
        Some("invalid_scope") => error.with_kind(ErrorKind::UnsupportedValue),
        _ => error,
    }
}
