//! Canonical ⇄ LoginRadius, pure. The wire side of a write is a JSON object, because an update sends only what changes.

use registrar_core::{Error, Naming, Result};
use registrar_model::{
    AuthMethod, ClientMetadata, ClientSpec, GrantType, Issues, LossKind, Losses, Member, Policy, Severity, decide,
    field::as_set, fields, member::StringMember, unheld,
};
use serde_json::{Value, json};

use super::{
    Config, KIND, app_name,
    members::{self, Members, is_nothing, telling},
    wire::{self, name},
};
use crate::shared;

/// Grants that its console and its metadata know. The spellings of `implicit` on the wire and of the console's password
/// grant are not documented; RFC 9700 §2.4 forbids the latter anyway.
const GRANTS: [GrantType; 5] = [
    GrantType::AuthorizationCode,
    GrantType::ClientCredentials,
    GrantType::RefreshToken,
    GrantType::Implicit,
    GrantType::DeviceCode,
];

/// "RS256 is currently the only algorithm supported".
const ALGORITHM: &str = "RS256";

/// What a write is to lead to.
#[derive(Debug)]
pub(super) struct Desired {
    /// The client's key.
    pub app_name: String,
    /// Its wire members, without `AppName` and `Protocol`.
    pub members: Members,
}

/// The client that is to be changed.
#[derive(Clone, Copy)]
pub(super) struct Current<'a> {
    /// As last recorded.
    pub spec: &'a ClientSpec,
    /// Its key.
    pub app_name: &'a str,
}

/// Maps a registration to LoginRadius, with everything that it cannot hold.
pub(super) fn to_wire(
    spec: &ClientSpec,
    current: Option<Current<'_>>,
    naming: Naming<'_>,
    config: &Config,
) -> Result<(Desired, Losses)> {
    let mut issues = Issues::new();
    members::validate(spec, &config.application_types, &mut issues);
    issues.into_result(()).map_err(Error::validation)?;
    if spec.metadata.redirect_uris.iter().flatten().next().is_none() {
        // trap 9, T5
        let detail = "LoginRadius takes an empty list for the redirect whitelist of the whole tenant; name at least one \
                      URI, even for a client that never redirects";
        return Err(shared::unsupported_member("metadata", "redirect_uris", detail));
    }
    let mut losses = Losses::of(spec);
    shared::foreign_vendor_members(spec, KIND, &mut losses);
    metadata_losses(&spec.metadata, &mut losses);
    policy_losses(&spec.policy, &mut losses);
    let app_name = app_name::choose(spec, current.map(|c| c.app_name), naming, &mut losses)?;

    let mut members = members_of(spec, config);
    // trap 9
    members.insert(name::REDIRECT_URI_EXACT_MATCH.to_owned(), json!(true));
    members.insert(name::TOKEN_AUTH_METHOD.to_owned(), json!(auth_method(&spec.metadata, &mut losses)));
    members.insert(name::GRANT_TYPES.to_owned(), grant_types(&spec.metadata, &mut losses)?.encode());
    if let Some(algorithm) = members.get_mut(name::JWT_TOKEN_CONFIG).and_then(|jwt| jwt.get_mut(name::ALGORITHM)) {
        *algorithm = json!(ALGORITHM);
    }
    own_losses(spec, &members, current, config, &mut losses);
    if let Some(current) = current {
        keep(&members_of(current.spec, config), &mut members, config);
        lifetime_losses(&current.spec.policy, &spec.policy, &mut losses);
    }
    Ok((Desired { app_name, members }, losses))
}

/// The plain part of the mapping: what needs no decision. It takes anything that a vendor may have shown, so that it
/// also says what a client was when it was last seen.
pub(super) fn members_of(spec: &ClientSpec, config: &Config) -> Members {
    let (metadata, policy) = (&spec.metadata, &spec.policy);
    let own = spec.vendor_members(KIND);
    let mut out: Members = telling(&own).into_iter().filter(|(member, _)| members::is_taken(member)).collect();
    for computed in [name::APP_NAME, name::BACK_CHANNEL_LOGOUT, name::JWT_TOKEN_CONFIG] {
        out.remove(computed);
    }
    let mut set = |member: &str, value: Value| {
        if !is_nothing(&value) {
            out.insert(member.to_owned(), value);
        }
    };
    // a read shows it only where it is false
    set(name::REDIRECT_URI_EXACT_MATCH, json!(own.get(name::REDIRECT_URI_EXACT_MATCH) != Some(&json!(false))));
    // T5, trap 1: a list
    set(name::LOGIN_REDIRECT_URI, json!(shared::redirect_uris(metadata)));
    set(name::TOKEN_AUTH_METHOD, json!(metadata.token_endpoint_auth_method.as_ref().map(StringMember::text)));
    set(name::GRANT_TYPES, json!(metadata.grant_types.as_ref().map(Member::encode)));
    set(name::ALLOWED_SCOPES, json!(metadata.scope.as_ref().map(|s| s.tokens().collect::<Vec<_>>())));
    set(name::LOGOUT_REDIRECT_URI, json!(metadata.post_logout_redirect_uris));
    set(name::LOGIN_URL, json!(metadata.initiate_login_uri));
    set(name::ALLOWED_WEB_ORIGIN, json!(policy.allowed_web_origins));
    set(name::ID_TOKEN_AUDIENCES, json!(policy.audiences));
    set(name::REFRESH_TOKEN_TTL, json!(policy.refresh_token_lifetime));
    set(name::BACK_CHANNEL_LOGOUT, Value::Object(members::logout_of(metadata.backchannel_logout_uri.as_ref(), &own)));
    // T15
    set(
        name::SIGNED_USER_INFO,
        json!(metadata.userinfo_signed_response_alg.as_ref().filter(|alg| *alg != "none").map(|_| true)),
    );
    if metadata.default_max_age == Some(0) {
        // T16
        set(name::FORCE_REAUTHENTICATION, json!(true));
    }
    if !own.contains_key(name::APPLICATION_TYPE) {
        // T14
        let spelling = metadata.application_type.as_deref().and_then(|t| config.application_types.spelling(t));
        set(name::APPLICATION_TYPE, json!(spelling));
    }
    let origins = policy.allowed_cors_origins.as_deref().unwrap_or_default();
    if !origins.is_empty() {
        // T18: the list works only with the switch
        set(name::ALLOWED_CORS_ORIGIN, json!(origins));
        set(name::ENABLE_CORS_ORIGIN, json!(true));
    } else if own.get(name::ALLOWED_CORS_ORIGIN).is_some_and(|list| !is_nothing(list)) {
        set(name::ENABLE_CORS_ORIGIN, json!(false));
    }
    let mut jwt = telling(&members::object(&own, name::JWT_TOKEN_CONFIG));
    jwt.extend([
        (name::ALGORITHM.to_owned(), json!(metadata.id_token_signed_response_alg)),
        (name::TOKEN_TTL.to_owned(), json!(policy.access_token_lifetime)),
        (name::ID_TOKEN_TTL.to_owned(), json!(policy.id_token_lifetime)),
    ]);
    set(name::JWT_TOKEN_CONFIG, Value::Object(telling(&jwt)));
    out
}

/// What an update leaves as it is although the caller does not name it, because there is no way to unset it.
fn keep(current: &Members, desired: &mut Members, config: &Config) {
    if let Some(Value::Object(held)) = current.get(name::JWT_TOKEN_CONFIG) {
        // the whole object is sent, so that the vendor's own values stay whether it replaces or merges objects
        let mut jwt = members::object(desired, name::JWT_TOKEN_CONFIG);
        for lifetime in [name::TOKEN_TTL, name::ID_TOKEN_TTL] {
            if let (false, Some(seconds)) = (jwt.contains_key(lifetime), held.get(lifetime)) {
                jwt.insert(lifetime.to_owned(), seconds.clone());
            }
        }
        if held.contains_key(name::ALGORITHM) {
            jwt.insert(name::ALGORITHM.to_owned(), json!(ALGORITHM));
        }
        desired.insert(name::JWT_TOKEN_CONFIG.to_owned(), Value::Object(jwt));
    }
    if current.contains_key(name::APPLICATION_TYPE) {
        // absent means web (OIDC Registration §2)
        desired.entry(name::APPLICATION_TYPE).or_insert_with(|| json!(config.application_types.web));
    }
}

/// The body of `PUT` that leads from one state to another: only what changes (trap 21). What is removed is cleared.
pub(super) fn put(from: &Members, to: &Members) -> Members {
    let mut out = Members::new();
    for (member, value) in to.iter().filter(|(member, value)| !unchanged(member, from.get(*member), value)) {
        out.insert(member.clone(), value.clone());
    }
    for (member, old) in from.iter().filter(|(member, _)| !to.contains_key(*member)) {
        let cleared = match old {
            Value::Object(_) => json!({}),
            Value::Array(_) => json!([]),
            Value::String(_) => json!(""),
            Value::Bool(_) => json!(false),
            // a lifetime cannot be unset
            Value::Number(_) | Value::Null => continue,
        };
        if cleared != *old {
            out.insert(member.clone(), cleared);
        }
    }
    if let Some(Value::Object(logout)) = out.get_mut(name::BACK_CHANNEL_LOGOUT)
        && !logout.contains_key(name::LOGOUT_URIS)
    {
        // said in full, because it is not documented whether members of an object are merged
        logout.entry(name::IS_ENABLED).or_insert(json!(false));
        logout.insert(name::LOGOUT_URIS.to_owned(), json!([]));
    }
    out
}

/// Lists are sets (trap 43), but for the redirect URIs: the first may be a default.
fn unchanged(member: &str, old: Option<&Value>, new: &Value) -> bool {
    match old {
        Some(old) if old.is_array() && member != name::LOGIN_REDIRECT_URI => as_set(old) == as_set(new),
        old => old == Some(new),
    }
}

fn auth_method(metadata: &ClientMetadata, losses: &mut Losses) -> String {
    let default = AuthMethod::ClientSecretBasic;
    match &metadata.token_endpoint_auth_method {
        Some(method @ (AuthMethod::None | AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost)) => {
            return method.text().to_owned();
        }
        Some(method) => {
            let reason = "LoginRadius knows none, client_secret_basic and client_secret_post";
            let field = fields::metadata::token_endpoint_auth_method();
            losses.replaced(field, method.encode(), default.encode(), reason);
        }
        // the default of RFC 7591 §2, sent so that it is certain
        None => {}
    }
    default.text().to_owned()
}

/// Always sent: the vendor's default is not documented, and absent does not mean every grant (trap 31).
fn grant_types(metadata: &ClientMetadata, losses: &mut Losses) -> Result<Vec<GrantType>> {
    let grants = shared::known_grants(metadata, &GRANTS, "LoginRadius", losses)?;
    shared::derived_response_types(metadata, &grants, "LoginRadius", losses);
    Ok(grants)
}

/// An update cannot unset a lifetime.
fn lifetime_losses(current: &Policy, desired: &Policy, losses: &mut Losses) {
    let lifetimes = [
        ("policy.access_token_lifetime", current.access_token_lifetime, desired.access_token_lifetime),
        ("policy.id_token_lifetime", current.id_token_lifetime, desired.id_token_lifetime),
        ("policy.refresh_token_lifetime", current.refresh_token_lifetime, desired.refresh_token_lifetime),
    ];
    for (field, held, wanted) in lifetimes {
        if let (Some(held), None) = (held, wanted) {
            let reason = "LoginRadius documents no way to unset a lifetime; it stays as it is";
            let (wanted, got) = (Some(Value::Null), Some(json!(held)));
            losses.changed(field, LossKind::Substituted, Severity::Functional, wanted, got, reason);
        }
    }
}

/// Members of `vendor.loginradius` that a read shows in another way, or not at all. `members` is what is sent.
fn own_losses(
    spec: &ClientSpec,
    members: &Members,
    current: Option<Current<'_>>,
    config: &Config,
    losses: &mut Losses,
) {
    let own = spec.vendor_members(KIND);
    for (member, value) in own.iter().filter(|(member, _)| members::is_taken(member)) {
        let local = |got, reason| (LossKind::LocalOnly, Severity::Info, got, reason);
        let (kind, severity, got, reason) = match (member.as_str(), value) {
            (_, value) if is_nothing(value) => continue,
            (name::REDIRECT_URI_EXACT_MATCH, Value::Bool(true)) => local(None, "what every write asks for"),
            (name::REDIRECT_URI_EXACT_MATCH, _) => {
                let reason = "every write asks for exact matching of redirect URIs (RFC 9700 §2.1)";
                (LossKind::Narrowed, Severity::Functional, None, reason)
            }
            (name::FORCE_REAUTHENTICATION, _) => local(None, "shown as metadata.default_max_age 0, or not at all"),
            (name::APPLICATION_TYPE, Value::String(text)) if config.application_types.read(text).1 => {
                local(None, "shown as metadata.application_type")
            }
            (name::BACK_CHANNEL_LOGOUT, Value::Object(sent)) => {
                let (_, rest) = members::split_logout(&members::object(members, name::BACK_CHANNEL_LOGOUT));
                if rest == *sent {
                    continue;
                }
                let got = (!rest.is_empty()).then_some(Value::Object(rest));
                local(got, "shown in part as metadata.backchannel_logout_uri")
            }
            _ => continue,
        };
        losses.changed(format!("vendor.{KIND}.{member}"), kind, severity, Some(value.clone()), got, reason);
    }
    let taken: Vec<&str> = members::TAKEN.iter().map(|(member, _)| *member).collect();
    shared::unsent_vendor_members(spec, current.map(|c| c.spec), KIND, &taken, losses);
    let shown = current.map(|c| c.spec.vendor_members(KIND)).unwrap_or_default();
    for (member, held) in shown.iter().filter(|(m, _)| !members::is_taken(m) && !own.contains_key(*m)) {
        let (wanted, got) = (Some(Value::Null), Some(held.clone()));
        let reason = "not a documented member; it is not known how to clear it";
        let field = format!("vendor.{KIND}.{member}");
        losses.changed(field, LossKind::Substituted, Severity::Functional, wanted, got, reason);
    }
}

#[rustfmt::skip]
fn metadata_losses(metadata: &ClientMetadata, losses: &mut Losses) {
    decide!(metadata: ClientMetadata = metadata, losses, "LoginRadius has no place for it";
        held { id_token_signed_response_alg, userinfo_signed_response_alg, default_max_age, localized, extra }
        // `members_of`, `auth_method`, `grant_types`, `app_name`
        elsewhere {
            redirect_uris, token_endpoint_auth_method, grant_types, response_types, application_type, client_name, scope,
            initiate_login_uri, post_logout_redirect_uris, backchannel_logout_uri
        }
        unheld {
            token_endpoint_auth_signing_alg, client_uri, logo_uri, contacts, tos_uri, policy_uri, jwks_uri, jwks,
            software_id, software_version, software_statement, sector_identifier_uri, subject_type,
            id_token_encrypted_response_alg, id_token_encrypted_response_enc, userinfo_encrypted_response_alg,
            userinfo_encrypted_response_enc, request_object_signing_alg, request_object_encryption_alg,
            request_object_encryption_enc, introspection_signed_response_alg, introspection_encrypted_response_alg,
            introspection_encrypted_response_enc, authorization_signed_response_alg,
            authorization_encrypted_response_alg, authorization_encrypted_response_enc, require_auth_time,
            default_acr_values, request_uris, backchannel_logout_session_required, frontchannel_logout_uri,
            frontchannel_logout_session_required, require_pushed_authorization_requests,
            require_signed_request_object, dpop_bound_access_tokens, tls_client_certificate_bound_access_tokens,
            use_mtls_endpoint_aliases, tls_client_auth_subject_dn, tls_client_auth_san_dns, tls_client_auth_san_uri,
            tls_client_auth_san_ip, tls_client_auth_san_email, authorization_details_types,
            backchannel_token_delivery_mode, backchannel_client_notification_endpoint,
            backchannel_authentication_request_signing_alg, backchannel_user_code_parameter,
            client_registration_types, signed_jwks_uri, organization_name, organization_uri, description, keywords,
            information_uri, claims_redirect_uris, response_modes, resources
        }
    );
    shared::unheld_maps(localized, extra, "LoginRadius", losses);

    for (field, wanted, reason) in [
        ("metadata.id_token_signed_response_alg", id_token_signed_response_alg, "LoginRadius signs ID Tokens with RS256 only"),
        // T15
        ("metadata.userinfo_signed_response_alg", userinfo_signed_response_alg, "LoginRadius signs UserInfo responses with RS256 or not at all"),
    ] {
        if let Some(wanted) = wanted.as_deref().filter(|alg| *alg != ALGORITHM && *alg != "none") {
            let (wanted, got) = (Some(json!(wanted)), Some(json!(ALGORITHM)));
            losses.changed(field, LossKind::Substituted, Severity::Security, wanted, got, reason);
        }
    }
    if let Some(age) = default_max_age.filter(|age| *age != 0) {
        // T16
        let reason = "LoginRadius knows only 0: authenticate for every request";
        losses.changed("metadata.default_max_age", LossKind::Dropped, Severity::Security, Some(json!(age)), None, reason);
    }
}

#[rustfmt::skip]
fn policy_losses(policy: &Policy, losses: &mut Losses) {
    decide!(policy: Policy = policy, losses, "LoginRadius has no place for it";
        held { enabled }
        elsewhere {
            allowed_cors_origins, allowed_web_origins, access_token_lifetime, id_token_lifetime, refresh_token_lifetime,
            audiences
        }
        unheld { redirect_domains, owner, tenant, organizations, first_party, security_profile }
    );
    unheld!(losses, policy, "LoginRadius documents no way to switch a client off"; enabled);
}

/// What a client is, in canonical terms. Neither secret is part of it. `silent` is the method in force where the answer does
/// not say it.
pub(super) fn from_wire(client: wire::Client, config: &Config, silent: Option<AuthMethod>) -> ClientSpec {
    let wire::Client {
        app_name,
        client_id: _,
        client_secret: _,
        created_date: _,
        application_type,
        grant_types,
        token_auth_method,
        login_redirect_uri,
        redirect_uri_exact_match,
        logout_redirect_uri,
        login_url,
        allowed_scopes,
        id_token_audiences,
        allowed_cors_origin,
        enable_cors_origin,
        allowed_web_origin,
        jwt_token_config,
        refresh_token_ttl,
        signed_user_info,
        force_reauthentication,
        back_channel_logout,
        rest,
        unread: _,
    } = client;
    let mut own = rest;
    own.retain(|member, _| !members::is_secret(member));
    let mut show = |member: &str, value: Value| own.insert(member.to_owned(), value);
    if redirect_uri_exact_match == Some(false) {
        // looser than what the redirect URIs say: not to be overlooked (trap 9)
        show(name::REDIRECT_URI_EXACT_MATCH, json!(false));
    }
    let spelling = application_type;
    let (application_type, known) = spelling.as_deref().map_or((None, true), |s| config.application_types.read(s));
    if !known {
        show(name::APPLICATION_TYPE, json!(spelling));
    }
    let mut origins = allowed_cors_origin;
    if enable_cors_origin == Some(false) {
        // a list without effect (T18)
        show(name::ALLOWED_CORS_ORIGIN, json!(origins.take()));
    }
    // a segment of the client's live URLs: whoever is to use them has to know it
    show(name::APP_NAME, json!(app_name));
    let (logout_uri, logout) = back_channel_logout.as_ref().map(members::split_logout).unwrap_or_default();
    show(name::BACK_CHANNEL_LOGOUT, Value::Object(logout));
    let jwt = jwt_token_config;
    show(name::JWT_TOKEN_CONFIG, Value::Object(telling(&jwt.rest)));

    let grant_types = grant_types.as_deref().and_then(shared::grants);
    let metadata = ClientMetadata {
        redirect_uris: login_redirect_uri.and_then(shared::redirects),
        token_endpoint_auth_method: token_auth_method.map(|method| AuthMethod::read(&method)).or(silent),
        response_types: grant_types.as_deref().map(shared::response_types_of).filter(|types| !types.is_empty()),
        grant_types,
        application_type: application_type.map(str::to_owned),
        client_name: Some(app_name),
        scope: allowed_scopes,
        id_token_signed_response_alg: jwt.algorithm,
        userinfo_signed_response_alg: (signed_user_info == Some(true)).then(|| ALGORITHM.to_owned()),
        default_max_age: (force_reauthentication == Some(true)).then_some(0),
        initiate_login_uri: login_url,
        post_logout_redirect_uris: logout_redirect_uri,
        backchannel_logout_uri: logout_uri,
        ..ClientMetadata::default()
    };
    let policy = Policy {
        allowed_cors_origins: origins,
        allowed_web_origins: allowed_web_origin,
        access_token_lifetime: jwt.token_ttl,
        id_token_lifetime: jwt.id_token_ttl,
        refresh_token_lifetime: refresh_token_ttl,
        audiences: id_token_audiences,
        ..Policy::default()
    };
    ClientSpec::new(metadata, policy, shared::kept_members(KIND, own))
}
