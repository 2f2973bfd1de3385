//! Canonical ⇄ BitGo, pure.

use registrar_core::{Error, ErrorKind, Response, Result, VendorDetail, adapter::vendor_issue};
use registrar_model::{
    AuthMethod, ClientId, ClientMetadata, ClientSpec, IssueCode, LossKind, Losses, Member, Policy, RedirectUri,
    ResponseType, Scope, Severity, decide, field::as_set, member::StringMember,
};
use serde_json::{Map, Value, json};

use super::{Config, KIND, wire};
use crate::shared::{
    self,
    refusal::{self, Shape},
    same_set, same_uris,
};

/// How BitGo's clients present their secret: in the body of the token request (its SDK does).
const AUTH_METHOD: &str = "client_secret_post";

/// The members of `vendor.bitgo` that are sent.
const TAKEN: [&str; 2] = ["clientIdPrefix", "clientType"];

/// The whole desired state of a client in BitGo's terms.
#[derive(Debug, PartialEq)]
pub(super) struct Desired<'a> {
    pub redirect_uri: &'a [RedirectUri],
    pub scope: Vec<String>,
    pub client_id_prefix: Option<String>,
    pub client_type: Option<String>,
    pub redirect_domain: &'a [String],
    pub enterprise: Option<&'a str>,
    pub client_organizations: &'a [String],
    pub is_active: Option<bool>,
}

impl<'a> Desired<'a> {
    /// The body of `POST`.
    pub(super) fn into_create(self, config: &Config) -> wire::CreateClient<'a> {
        let scope = config.scope_value(&self.scope);
        let Self {
            redirect_uri,
            scope: _,
            client_id_prefix,
            client_type,
            redirect_domain,
            enterprise,
            client_organizations,
            is_active,
        } = self;
        wire::CreateClient {
            redirect_uri,
            scope,
            client_id_prefix,
            client_type,
            redirect_domain,
            enterprise,
            client_organizations,
            is_active,
        }
    }

    /// The body of `PUT` that leads from `self` to `to`: only what changes, because unsent members stay (INFER: every
    /// member is optional); lists are emptied with `[]`, the enterprise with `""`.
    pub(super) fn put_to(&self, to: &Self, config: &Config) -> Map<String, Value> {
        let mut put = Map::new();
        let mut set = |name: &str, changed: bool, value: Value| {
            if changed {
                put.insert(name.to_owned(), value);
            }
        };
        set("redirectUri", !same_uris(self.redirect_uri, to.redirect_uri), json!(to.redirect_uri));
        set("scope", !same_set(&self.scope, &to.scope), config.scope_value(&to.scope));
        set("clientType", to.client_type.is_some() && self.client_type != to.client_type, json!(to.client_type));
        set("redirectDomain", !same_set(self.redirect_domain, to.redirect_domain), json!(to.redirect_domain));
        set("enterprise", self.enterprise != to.enterprise, json!(to.enterprise.unwrap_or_default()));
        let organizations = !same_set(self.client_organizations, to.client_organizations);
        set("clientOrganizations", organizations, json!(to.client_organizations));
        set("isActive", to.is_active.is_some() && self.is_active != to.is_active, json!(to.is_active));
        put
    }
}

/// Maps a registration to BitGo, with everything that BitGo cannot hold. `current` is what BitGo showed last, on
/// updates.
pub(super) fn to_wire<'a>(
    spec: &'a ClientSpec,
    current: Option<&ClientSpec>,
    config: &Config,
) -> Result<(Desired<'a>, Losses)> {
    let mut losses = Losses::of(spec);
    let ClientSpec { metadata, policy, vendor: _ } = spec;
    shared::foreign_vendor_members(spec, KIND, &mut losses);
    shared::unsent_vendor_members(spec, current, KIND, &TAKEN, &mut losses);
    shared::require_redirects(metadata, "BitGo")?;
    let why = "BitGo has no public clients and holds no method";
    shared::shared_secret(metadata, AUTH_METHOD, why, &mut losses);
    shared::code_and_refresh_only(metadata, "BitGo", &mut losses);

    decide!(metadata: ClientMetadata = &**metadata, losses, "BitGo has no place for it";
        held { scope, localized, extra }
        elsewhere { redirect_uris, token_endpoint_auth_method, grant_types, response_types }
        unheld {
            token_endpoint_auth_signing_alg, application_type, client_name, client_uri, logo_uri, contacts,
            tos_uri, policy_uri, jwks_uri, jwks, software_id, software_version, software_statement,
            sector_identifier_uri, subject_type, id_token_signed_response_alg, id_token_encrypted_response_alg,
            id_token_encrypted_response_enc, userinfo_signed_response_alg, userinfo_encrypted_response_alg,
            userinfo_encrypted_response_enc, request_object_signing_alg, request_object_encryption_alg,
            request_object_encryption_enc, introspection_signed_response_alg,
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
    shared::unheld_maps(localized, extra, "BitGo", &mut losses);
    decide!(policy: Policy = policy, losses, "BitGo has no place for it";
        held { enabled, redirect_domains, tenant, organizations }
        elsewhere {}
        unheld {
            allowed_cors_origins, allowed_web_origins, owner, first_party, security_profile, access_token_lifetime,
            id_token_lifetime, refresh_token_lifetime, audiences
        }
    );

    let scope = scopes(scope.as_ref(), config, &mut losses)?;
    let members = spec.vendor_members(KIND);
    let member = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
    let shown = current.map(|c| c.vendor_members(KIND)).unwrap_or_default();
    let client_type = member("clientType");
    if let (None, Some(old)) = (&client_type, shown.get("clientType")) {
        let reason = "BitGo documents no way to remove it; the old value stays";
        let field = "vendor.bitgo.clientType";
        losses.changed(field, LossKind::Substituted, Severity::Functional, None, Some(old.clone()), reason);
    }
    let client_id_prefix = member("clientIdPrefix");
    if let Some(prefix) = &client_id_prefix {
        let reason = "it becomes part of the client id and is not shown again; the gateway's record keeps it";
        let wanted = Some(json!(prefix));
        losses.changed("vendor.bitgo.clientIdPrefix", LossKind::LocalOnly, Severity::Info, wanted, None, reason);
    }
    let desired = Desired {
        redirect_uri: shared::redirect_uris(metadata),
        scope,
        client_id_prefix,
        client_type,
        redirect_domain: redirect_domains.as_deref().unwrap_or_default(),
        enterprise: tenant.as_deref(),
        client_organizations: organizations.as_deref().unwrap_or_default(),
        is_active: *enabled,
    };
    Ok((desired, losses))
}

/// T1: the prefix of a generated id is fixed once the client exists. `current` remembers the prefix only where this
/// gateway made the client; for any other, the id itself tells which prefixes are true.
pub(super) fn keep_prefix(client_id: &ClientId, current: &ClientSpec, desired: &ClientSpec) -> Result<()> {
    const MEMBER: &str = "clientIdPrefix";
    let prefix = |spec: &ClientSpec| spec.vendor_members(KIND).get(MEMBER).and_then(Value::as_str).map(str::to_owned);
    let Some(wanted) = prefix(desired) else { return Ok(()) };
    let same = prefix(current).is_none_or(|recorded| recorded == wanted);
    if same && client_id.as_str().starts_with(&wanted) {
        return Ok(());
    }
    let detail = "it is part of the client id, which BitGo cannot change";
    let issue = vendor_issue(KIND, MEMBER, IssueCode::Unsupported, detail.to_owned());
    Err(Error::unsupported(format!("{}: {detail}", issue.pointer)).with_issues(vec![issue]))
}

/// T11: BitGo's enumeration, exact names only. Names may be mapped or left out by configuration, never to more power.
fn scopes(asked: Option<&Scope>, config: &Config, losses: &mut Losses) -> Result<Vec<String>> {
    let Some(asked) = asked.filter(|s| !s.is_empty()) else {
        let got = json!(config.default_scopes.join(" "));
        losses.defaulted("metadata.scope", got, "BitGo demands a scope; `default_scopes` of the backend");
        return Ok(config.default_scopes.clone());
    };
    let mut out: Vec<String> = Vec::new();
    let mut unknown = Vec::new();
    for token in asked.tokens() {
        let mapped = config.scope_map.iter().find(|(from, _)| from == token).map_or(token, |(_, to)| to.as_str());
        if mapped.is_empty() {
            continue;
        }
        if !config.scopes.iter().any(|s| s == mapped) {
            unknown.push(format!("`{token}`"));
        } else if !out.iter().any(|s| s == mapped) {
            out.push(mapped.to_owned());
        }
    }
    if out.is_empty() {
        let detail = match unknown.as_slice() {
            [] => "BitGo demands a scope, and none of those that were asked for is sent to it".to_owned(),
            names => format!("BitGo knows no scope {}, and demands one", shared::named(names)),
        };
        return Err(shared::unsupported_value("scope", detail));
    }
    let reason = match unknown.as_slice() {
        [] => "other scopes are registered in place of these".to_owned(),
        names => format!("BitGo knows no scope {}", shared::named(names)),
    };
    let (wanted, got) = (asked.encode(), json!(out.join(" ")));
    if as_set(&wanted) != as_set(&got) {
        let narrowed = out.iter().all(|s| asked.tokens().any(|t| t == s));
        let kind = if narrowed { LossKind::Narrowed } else { LossKind::Substituted };
        losses.changed("metadata.scope", kind, Severity::Functional, Some(wanted), Some(got), reason);
    }
    Ok(out)
}

/// What a client at BitGo is, in canonical terms. The secret is not part of it.
pub(super) fn from_wire(client: wire::Client) -> ClientSpec {
    let wire::Client {
        client_id: _,
        redirect_uri,
        scope,
        client_type,
        client_secret: _,
        redirect_domain,
        enterprise,
        client_organizations,
        is_active,
        rest,
        unread: _,
    } = client;
    let metadata = ClientMetadata {
        redirect_uris: redirect_uri.and_then(shared::redirects),
        scope,
        token_endpoint_auth_method: Some(AuthMethod::read(AUTH_METHOD)),
        grant_types: Some(shared::CODE_AND_REFRESH.to_vec()),
        response_types: Some(vec![ResponseType::read("code")]),
        ..ClientMetadata::default()
    };
    let policy = Policy {
        // "Defaults to true when omitted"
        enabled: Some(is_active.unwrap_or(true)),
        redirect_domains: redirect_domain,
        tenant: enterprise,
        organizations: client_organizations,
        ..Policy::default()
    };
    let mut members = rest;
    members.extend(client_type.map(|t| ("clientType".to_owned(), Value::String(t))));
    ClientSpec::new(metadata, policy, shared::kept_members(KIND, members))
}

/// The state of a client as last seen, in the terms of [`Desired`].
pub(super) fn current(spec: &ClientSpec) -> Desired<'_> {
    let members = spec.vendor_members(KIND);
    Desired {
        redirect_uri: shared::redirect_uris(&spec.metadata),
        scope: spec.metadata.scope.iter().flat_map(Scope::tokens).map(str::to_owned).collect(),
        client_id_prefix: None,
        client_type: members.get("clientType").and_then(Value::as_str).map(str::to_owned),
        redirect_domain: spec.policy.redirect_domains.as_deref().unwrap_or_default(),
        enterprise: spec.policy.tenant.as_deref(),
        client_organizations: spec.policy.organizations.as_deref().unwrap_or_default(),
        is_active: spec.policy.enabled,
    }
}

/// Errors: `{name?, context?, error, requestId}`, but also a list of texts (the router's default for a body that does not
/// decode) and pages (trap 16).
pub(super) const SHAPE: Shape = Shape {
    codes: &["/name"],
    sentences: &["/error"],
    request_ids: &["/requestId"],
    fields: wire::FIELDS,
    ids: &["clientId"],
};

/// Classifies an error answer. The status decides: BitGo publishes no list of names.
pub(super) fn error(response: &Response) -> Error {
    let error = refusal::classify(response, &SHAPE);
    let vendor = error.vendor().cloned().unwrap_or_default();
    let from_header = || response.header("request-id").map(|id| response.secrets.hide(id).into_owned());
    let request_id = vendor.request_id.or_else(from_header);
    let error = error.with_vendor(VendorDetail { request_id, ..vendor });
    let body = response.value();
    let asks_otp = body.as_ref().and_then(|b| b.get("needsOTP"));
    let asks_otp = asks_otp.is_some_and(|v| !matches!(v, Value::Null | Value::Bool(false)));
    let bad_token = response.header("x-auth-required").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    match response.status {
        // an unlock is wanted, the token is not bad
        401 | 403 if asks_otp => {
            refusal::reworded(error, ErrorKind::UpstreamAuthorization, STEP_UP).with_advice(STEP_UP_ADVICE)
        }
        401 => refusal::reworded(error, ErrorKind::UpstreamAuthentication, BAD_TOKEN).with_advice(BAD_TOKEN_ADVICE),
        403 if bad_token => {
            refusal::reworded(error, ErrorKind::UpstreamAuthentication, BAD_TOKEN).with_advice(BAD_TOKEN_ADVICE)
        }
        _ => error,
    }
}

const STEP_UP: &str = "BitGo wants a step-up with a one-time password (OTP) for this call";
const STEP_UP_ADVICE: &str = "unlock the backend's session or use a token that needs none";

const BAD_TOKEN: &str = "BitGo does not accept the gateway's credential";
/// Trap 41: the same token works from one address and not from another.
const BAD_TOKEN_ADVICE: &str = "check the backend's `token`, and whether it is bound to another IP address (BitGo's \
    long-lived tokens are)";

/// Checks the members of `vendor.bitgo` that are sent.
pub(super) fn validate(members: &Map<String, Value>, issues: &mut registrar_model::Issues) {
    for name in TAKEN {
        shared::vendor_text(members, KIND, name, issues);
    }
    let at = |member| shared::vendor_member(KIND, member);
    if let Some(Value::String(kind)) = members.get("clientType")
        && !matches!(kind.as_str(), "dApp" | "scim")
    {
        issues.push(at("clientType"), IssueCode::InvalidValue, "must be dApp or scim");
    }
    if let Some(Value::String(prefix)) = members.get("clientIdPrefix") {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !(1..=64).contains(&prefix.len()) || !prefix.bytes().all(word) {
            let detail = "must be 1 to 64 of letters, digits, '-' and '_': it becomes part of the client id";
            issues.push(at("clientIdPrefix"), IssueCode::InvalidValue, detail);
        }
    }
}
