//! Canonical ⇄ LoginRadius, pure. The wire side is a JSON object, because an update sends only the members that change.

use registrar_core::{Error, ErrorKind, Outcome, Response, Result, VendorDetail};
use registrar_model::{
    AuthMethod, ClientMetadata, ClientSpec, GrantType, Issue, IssueCode, Issues, LossKind, Losses, Member, Pointer, Policy,
    Severity, decide, member::StringMember,
};
use serde_json::{Map, Value, json};

use super::{Config, KIND, wire::{self, name}};
use crate::shared;

/// Members of `vendor.loginradius` that are sent, with the JSON type that the page shows.
pub(super) const TAKEN: [(&str, &str); 12] = [
    ("AppName", "string"),
    ("ApplicationType", "string"),
    ("BackChannelLogout", "object"),
    ("Connections", "object"),
    ("DeviceCodeConfig", "object"),
    ("AudienceScopes", "object"),
    ("Mapping", "object"),
    ("Metadata", "object"),
    ("AccessTokenMappingTemplate", "string"),
    ("IdTokenMappingTemplate", "string"),
    ("GlobalClient", "boolean"),
    ("TokenWebOriginMatch", "boolean"),
];

/// Grants of its console and metadata; the spelling of the console's others is not documented.
const GRANTS: [GrantType; 5] = [
    GrantType::AuthorizationCode,
    GrantType::ClientCredentials,
    GrantType::RefreshToken,
    GrantType::Implicit,
    GrantType::DeviceCode,
];

/// The whole desired state of a client as wire members, without `AppName` and `Protocol`.
pub(super) type Members = Map<String, Value>;

/// What a creation or an update is to send.
#[derive(Debug)]
pub(super) struct Desired {
    pub app_name: String,
    pub members: Members,
}

/// The body of `PUT` that leads from one state to another: only what changes; removed lists become `[]`, texts `""`,
/// switches `false`, objects `{}`.
pub(super) fn put(from: &Members, to: &Members) -> Members {
    let mut out = Members::new();
    for (name, value) in to {
        let unchanged = from.get(name).is_some_and(|old| old == value || same_set(old, value));
        if !unchanged {
            out.insert(name.clone(), value.clone());
        }
    }
    for (name, old) in from.iter().filter(|(n, _)| !to.contains_key(*n)) {
        let cleared = match old {
            Value::Array(_) => json!([]),
            Value::String(_) => json!(""),
            Value::Bool(_) => json!(false),
            Value::Object(_) => json!({}),
            // a lifetime cannot be removed, only changed; the account of the update shows what stays
            Value::Number(_) | Value::Null => continue,
        };
        out.insert(name.clone(), cleared);
    }
    out
}

fn same_set(a: &Value, b: &Value) -> bool {
    a.is_array() && b.is_array() && registrar_model::field::as_set(a).is_some_and(|a| Some(a) == registrar_model::field::as_set(b))
}

/// Maps a registration to LoginRadius, with everything that it cannot hold. `current` is the record and its `AppName`,
/// on updates.
pub(super) fn to_wire(spec: &ClientSpec, current: Option<(&ClientSpec, &str)>, config: &Config) -> Result<(Desired, Losses)> {
    let mut losses = Losses::new();
    let ClientSpec { metadata, policy, vendor: _ } = spec;
    shared::foreign_vendor_members(spec, KIND, &mut losses);
    let taken = TAKEN.map(|(name, _)| name);
    shared::unsent_vendor_members(spec, current.map(|(c, _)| c), KIND, &taken, &mut losses);
    // an empty list would mean the whitelist of the whole tenant (trap 9)
    shared::require_redirects(metadata, "LoginRadius")?;
    let own = spec.vendor_members(KIND);
    let mut members = Members::new();

    decide!(metadata: ClientMetadata = &**metadata, losses, "LoginRadius has no place for it";
        held {
            scope, post_logout_redirect_uris, initiate_login_uri, id_token_signed_response_alg,
            userinfo_signed_response_alg, default_max_age, backchannel_logout_uri, application_type, localized, extra
        }
        elsewhere { redirect_uris, token_endpoint_auth_method, grant_types, response_types, client_name }
        unheld {
            client_uri, logo_uri, token_endpoint_auth_signing_alg, contacts, tos_uri, policy_uri, jwks_uri,
            jwks, software_id, software_version, software_statement, sector_identifier_uri, subject_type,
            id_token_encrypted_response_alg, id_token_encrypted_response_enc, userinfo_encrypted_response_alg,
            userinfo_encrypted_response_enc, request_object_signing_alg, request_object_encryption_alg,
            request_object_encryption_enc, introspection_signed_response_alg,
            introspection_encrypted_response_alg, introspection_encrypted_response_enc,
            authorization_signed_response_alg, authorization_encrypted_response_alg,
            authorization_encrypted_response_enc, require_auth_time, default_acr_values, request_uris,
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
    shared::unheld_maps(localized, extra, "LoginRadius", &mut losses);
    decide!(policy: Policy = policy, losses, "LoginRadius has no place for it";
        held {
            allowed_cors_origins, allowed_web_origins, access_token_lifetime, id_token_lifetime, refresh_token_lifetime,
            audiences
        }
        elsewhere {}
        unheld { enabled, redirect_domains, owner, tenant, organizations, first_party, security_profile }
    );

    let app_name = app_name(metadata, &own, current.map(|(_, name)| name), &mut losses)?;
    let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
    set(name::LOGIN_REDIRECT_URI, json!(shared::redirect_texts(metadata)));
    set(name::EXACT_MATCH, json!(true));
    set(name::TOKEN_AUTH_METHOD, json!(authentication(metadata, &mut losses)));
    set(name::GRANT_TYPES, json!(grants(metadata, &mut losses)?));
    if let Some(scope) = scope.as_ref().filter(|s| !s.is_empty()) {
        set(name::ALLOWED_SCOPES, json!(scope.tokens()));
    }
    let lists = [
        (name::LOGOUT_REDIRECT_URI, post_logout_redirect_uris),
        (name::ALLOWED_WEB_ORIGIN, allowed_web_origins),
        (name::ID_TOKEN_AUDIENCES, audiences),
    ];
    for (name, list) in lists {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            set(name, json!(list));
        }
    }
    if let Some(origins) = allowed_cors_origins.as_ref().filter(|l| !l.is_empty()) {
        // the list works only with the switch (T18)
        set(name::ALLOWED_CORS_ORIGIN, json!(origins));
        set(name::ENABLE_CORS_ORIGIN, json!(true));
    }
    if let Some(uri) = initiate_login_uri {
        set(name::LOGIN_URL, json!(uri));
    }
    if let Some(ttl) = refresh_token_lifetime {
        set(name::REFRESH_TOKEN_TTL, json!(ttl));
    }
    if let Some(alg) = id_token_signed_response_alg.as_deref().filter(|a| *a != "RS256") {
        let reason = "LoginRadius signs ID Tokens with RS256 only";
        let field = "metadata.id_token_signed_response_alg";
        losses.changed(field, LossKind::Substituted, Severity::Security, Some(json!(alg)), Some(json!("RS256")), reason);
    }
    if id_token_signed_response_alg.is_some() || access_token_lifetime.is_some() || id_token_lifetime.is_some() {
        let mut jwt = Map::from_iter([("Algorithm".to_owned(), json!("RS256"))]);
        jwt.extend(access_token_lifetime.map(|ttl| ("TokenTTL".to_owned(), json!(ttl))));
        jwt.extend(id_token_lifetime.map(|ttl| ("IdTokenTTL".to_owned(), json!(ttl))));
        set(name::JWT_TOKEN_CONFIG, Value::Object(jwt));
    }
    if let Some(alg) = userinfo_signed_response_alg {
        set(name::SIGNED_USER_INFO, json!(true));
        if alg != "RS256" {
            let reason = "LoginRadius signs UserInfo responses with RS256 or not at all";
            let field = "metadata.userinfo_signed_response_alg";
            losses.changed(field, LossKind::Substituted, Severity::Security, Some(json!(alg)), Some(json!("RS256")), reason);
        }
    }
    match default_max_age {
        None => {}
        Some(0) => {
            set(name::FORCE_REAUTHENTICATION, json!(true));
        }
        Some(age) => {
            let reason = "LoginRadius knows only 0: authenticate every time";
            losses.changed("metadata.default_max_age", LossKind::Dropped, Severity::Security, Some(json!(age)), None, reason);
        }
    }
    if let Some(kind) = application_type {
        let spelling = config.application_types.iter().find(|(from, _)| from == kind).map(|(_, to)| to);
        if let Some(spelling) = spelling {
            set(name::APPLICATION_TYPE, json!(spelling));
        }
    }
    for (name, value) in own.iter().filter(|(n, _)| taken.contains(&n.as_str()) && *n != name::APP_NAME) {
        set(name, value.clone());
    }
    if let Some(uri) = backchannel_logout_uri {
        let mut logout = own.get(name::BACK_CHANNEL_LOGOUT).and_then(Value::as_object).cloned().unwrap_or_default();
        logout.insert("IsEnabled".to_owned(), json!(true));
        let keeps = logout.get("LogoutURIs").and_then(Value::as_array).and_then(|l| l.first()).and_then(Value::as_str) == Some(uri);
        if !keeps {
            logout.insert("LogoutURIs".to_owned(), json!([uri]));
        }
        set(name::BACK_CHANNEL_LOGOUT, Value::Object(logout));
    }
    Ok((Desired { app_name, members }, losses))
}

/// T2, trap 8: the name is a path segment here and part of the client's live endpoints.
fn app_name(metadata: &ClientMetadata, own: &Members, current: Option<&str>, losses: &mut Losses) -> Result<String> {
    let asked = own.get(name::APP_NAME).and_then(Value::as_str);
    if let (Some(asked), Some(current)) = (asked, current)
        && asked != current
    {
        let detail = "renaming would change the client's live endpoint URLs; register a new client";
        return Err(shared::unsupported_member("vendor", name::APP_NAME, detail));
    }
    let chosen = match (current, asked) {
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => match metadata.client_name.as_deref().map(slug).filter(|s| is_app_name(s)) {
            Some(slug) => slug,
            None => slug(&shared::derived_name(metadata)),
        },
    };
    if let Some(asked) = asked {
        let reason = "shown as the client's name";
        let (field, wanted) = ("vendor.loginradius.AppName", Some(json!(asked)));
        losses.changed(field, LossKind::LocalOnly, Severity::Info, wanted, None, reason);
    }
    match &metadata.client_name {
        None if current.is_none() => {
            let reason = "LoginRadius demands a name; made from the first redirect URI";
            losses.defaulted("metadata.client_name", json!(chosen), reason);
        }
        Some(wanted) if *wanted != chosen => {
            let reason = if current.is_some() {
                "LoginRadius's AppName is part of the client's live endpoint URLs and stays; only the gateway keeps the new name"
            } else {
                "LoginRadius has no display name, only AppName, a path segment; the gateway keeps the name"
            };
            let (wanted, got) = (Some(json!(wanted)), Some(json!(chosen)));
            losses.changed("metadata.client_name", LossKind::LocalOnly, Severity::Info, wanted, got, reason);
        }
        _ => {}
    }
    Ok(chosen)
}

/// Letters and digits stay, everything between them becomes one `-`.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches(['-', '.']).to_owned()
}

/// Safe as a path segment, and not the word that the API uses for something else (trap 8).
fn is_app_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=128).contains(&name.len()) && name.bytes().all(word) && !matches!(name, "." | "..") && !name.eq_ignore_ascii_case("credentials")
}

fn authentication(metadata: &ClientMetadata, losses: &mut Losses) -> String {
    const FIELD: &str = "metadata.token_endpoint_auth_method";
    match &metadata.token_endpoint_auth_method {
        None => {
            losses.defaulted(FIELD, json!("client_secret_basic"), "not sent; registered with the standard's default (RFC 7591 §2)");
            "client_secret_basic".to_owned()
        }
        Some(method @ (AuthMethod::None | AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost)) => method.text().to_owned(),
        Some(method) => {
            let reason = "LoginRadius knows none, client_secret_basic and client_secret_post";
            let (wanted, got) = (Some(method.encode()), Some(json!("client_secret_basic")));
            losses.changed(FIELD, LossKind::Substituted, Severity::Security, wanted, got, reason);
            "client_secret_basic".to_owned()
        }
    }
}

fn grants(metadata: &ClientMetadata, losses: &mut Losses) -> Result<Vec<String>> {
    let grants = metadata.effective_grant_types();
    if let Some(unknown) = grants.iter().find(|g| !GRANTS.contains(g)) {
        let detail = format!("LoginRadius documents no grant type `{unknown}`");
        let pointer = Pointer::root().child("metadata").child("grant_types");
        let issue = Issue { pointer, code: IssueCode::InvalidValue, detail: detail.clone() };
        return Err(Error::new(ErrorKind::UnsupportedValue, detail).with_issues(vec![issue]));
    }
    if metadata.grant_types.is_none() {
        let reason = "not sent; registered with the standard's default (RFC 7591 §2)";
        losses.defaulted("metadata.grant_types", json!(["authorization_code"]), reason);
    }
    shared::derived_response_types(metadata, &grants, "LoginRadius", losses);
    Ok(grants.iter().map(|g| g.text().to_owned()).collect())
}

/// What a client is, in canonical terms. Neither secret is part of it.
pub(super) fn from_wire(client: &wire::Client, config: &Config, response: &Response) -> Result<ClientSpec> {
    let wire::Client {
        app_name, client_id: _, client_secret: _, _secret, _app_id, _protocol, created_date: _, _last_modified_date,
        application_type, grant_types, token_auth_method, login_redirect_uri, redirect_uri_exact_match, logout_redirect_uri,
        login_url, allowed_scopes, id_token_audiences, allowed_cors_origin, enable_cors_origin, allowed_web_origin,
        jwt_token_config, refresh_token_ttl, signed_user_info, force_reauthentication, back_channel_logout, rest,
    } = client;
    let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    let list = |value: &Option<Vec<String>>| value.as_deref().and_then(shared::list);
    let mut own: Members = rest.iter().filter(|(_, v)| !is_nothing(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if *redirect_uri_exact_match == Some(false) {
        // looser than any redirect URI says: not to be overlooked
        own.insert(name::EXACT_MATCH.to_owned(), json!(false));
    }
    if *enable_cors_origin == Some(false) && allowed_cors_origin.as_ref().is_some_and(|l| !l.is_empty()) {
        own.insert(name::ENABLE_CORS_ORIGIN.to_owned(), json!(false));
    }
    let known_type = application_type.as_ref().and_then(|wire| {
        config.application_types.iter().find(|(_, to)| to == wire).map(|(from, _)| from.clone())
    });
    let application_type = match (text(application_type), known_type) {
        (Some(_), Some(known)) => Some(known),
        (Some(other), None) => {
            // a single page application is a web client (OIDC knows no third type)
            let web = other.eq_ignore_ascii_case("spa");
            own.insert(name::APPLICATION_TYPE.to_owned(), json!(other));
            web.then(|| "web".to_owned())
        }
        (None, _) => None,
    };
    let backchannel_logout_uri = back_channel_logout.as_ref().and_then(|logout| logout_uri(logout, &mut own));
    let grant_types = grant_types.as_deref().and_then(shared::grants);
    let response_types = grant_types.as_deref().map(shared::response_types_of).filter(|r| !r.is_empty());
    let metadata = ClientMetadata {
        client_name: Some(app_name.clone()),
        redirect_uris: login_redirect_uri.as_deref().and_then(shared::redirects),
        token_endpoint_auth_method: text(token_auth_method).map(|m| AuthMethod::read(&m)),
        grant_types,
        response_types,
        application_type,
        scope: shared::scope(allowed_scopes.as_deref().unwrap_or_default(), response)?,
        id_token_signed_response_alg: jwt_token_config.as_ref().and_then(|j| text(&j.algorithm)),
        userinfo_signed_response_alg: (*signed_user_info == Some(true)).then(|| "RS256".to_owned()),
        default_max_age: (*force_reauthentication == Some(true)).then_some(0),
        initiate_login_uri: text(login_url),
        post_logout_redirect_uris: list(logout_redirect_uri),
        backchannel_logout_uri,
        ..ClientMetadata::default()
    };
    let policy = Policy {
        allowed_cors_origins: list(allowed_cors_origin),
        allowed_web_origins: list(allowed_web_origin),
        access_token_lifetime: jwt_token_config.as_ref().and_then(|j| j.token_ttl),
        id_token_lifetime: jwt_token_config.as_ref().and_then(|j| j.id_token_ttl),
        refresh_token_lifetime: *refresh_token_ttl,
        audiences: list(id_token_audiences),
        ..Policy::default()
    };
    let mut spec = ClientSpec { metadata: Box::new(metadata), policy, ..ClientSpec::default() };
    if !own.is_empty() {
        spec.vendor.insert(KIND.to_owned(), own);
    }
    Ok(spec)
}

/// T17: one URI in canonical terms; whatever else the object says stays in `vendor.loginradius`.
fn logout_uri(logout: &Map<String, Value>, own: &mut Members) -> Option<String> {
    let uris: Vec<&str> = logout.get("LogoutURIs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let enabled = logout.get("IsEnabled") == Some(&json!(true));
    let plain = enabled && uris.len() == 1;
    let mut rest: Map<String, Value> = logout.iter().filter(|(_, v)| !is_nothing(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if plain {
        rest.remove("LogoutURIs");
        rest.remove("IsEnabled");
    }
    let says_nothing = rest.is_empty() || (rest.len() == 1 && rest.get("IsEnabled") == Some(&json!(false)));
    if !says_nothing {
        own.insert(name::BACK_CHANNEL_LOGOUT.to_owned(), Value::Object(rest));
    }
    uris.first().filter(|_| enabled).map(|u| (*u).to_owned())
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Classifies an error answer by `ErrorCode` first, because the page prints no statuses, then by status.
pub(super) fn error(response: &Response) -> Error {
    let body = response.value();
    let body = body.as_ref();
    let code = shared::text(body, "ErrorCode");
    let message = ["Description", "Message", "error_description"].iter().find_map(|m| shared::text(body, m));
    let detail = VendorDetail { code: code.clone(), message, ..shared::no_detail() };
    let error = response.error_by_status(detail);
    let refused = |error: Error, kind: ErrorKind| error.with_kind(kind).with_outcome(Outcome::NotPerformed);
    let error = match code.as_deref() {
        Some("7914" | "908") => refused(error, ErrorKind::Validation),
        Some("6002" | "901" | "902" | "920") => refused(error, ErrorKind::UpstreamAuthentication),
        Some("7981") => refused(error, ErrorKind::NotFound),
        Some("7982") => refused(error, ErrorKind::AlreadyExists),
        // "Global client is enabled": its secret cannot be reset (trap 27)
        Some("8014") => refused(error, ErrorKind::UnsupportedByBackend),
        Some("7909") => error.with_kind(ErrorKind::UpstreamError).with_outcome(response.effect.outcome_if_unanswered()),
        _ => error,
    };
    shared::refine_redirect(error, &["redirecturi", "redirect uri", "redirect_uri"])
}

/// Checks the members of `vendor.loginradius` that are sent.
pub(super) fn validate(spec: &ClientSpec, issues: &mut Issues) {
    let own = spec.vendor_members(KIND);
    let at = Pointer::root().child("vendor").child(KIND);
    for (name, kind) in TAKEN {
        let ok = own.get(name).is_none_or(|value| match kind {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            _ => value.is_object(),
        });
        if !ok {
            issues.push(&at.child(name), IssueCode::WrongType, format!("expected a JSON {kind}"));
        }
    }
    if own.get(name::APP_NAME).and_then(Value::as_str).is_some_and(|n| !is_app_name(n)) {
        let detail = "must be 1 to 128 of letters, digits, '-', '_' and '.', and not `credentials`: it is a path segment";
        issues.push(&at.child(name::APP_NAME), IssueCode::InvalidValue, detail);
    }
    let bad = own.get("Metadata").and_then(Value::as_object).is_some_and(|m| m.values().any(|v| !v.is_string()));
    if bad {
        issues.push(&at.child("Metadata"), IssueCode::WrongType, "expected an object of strings");
    }
    if own.contains_key("Secret") || own.contains_key("ClientSecret") {
        issues.push(&at, IssueCode::InvalidValue, "secrets are issued by the vendor and cannot be sent");
    }
}
