//! The rules between and inside members (RFC 7591 §2, OIDC Registration §2, RFC 8705, RFC 9700), all findings at once.

use std::net::IpAddr;

use crate::{
    hosts::Reach,
    issue::{IssueCode, Issues, Position},
    member::{AuthMethod, GrantType, StringMember},
    metadata::{BOTH_KEYS, ClientMetadata, check_untyped},
    policy::Policy,
    uri::{UrlUse, check_redirect, check_url, origin_fault, web_implicit_fault},
};

/// How long `client_name` may be, in characters (the shortest documented limit of a vendor).
pub const MAX_NAME: usize = 255;

/// Checks metadata that was decoded without issues, for callers who may name public hosts only.
pub fn metadata(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    metadata_within(m, Reach::Public, at, issues);
}

/// The same for callers who may name these private hosts, too.
pub fn metadata_within(m: &ClientMetadata, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
    redirects(m, reach, at, issues);
    grants(m, at, issues);
    authentication(m, at, issues);
    keys(m, at, issues);
    urls(m, reach, at, issues);
    algorithms(m, at, issues);
    words(m, at, issues);
    texts(m, at, issues);
}

/// Checks which private hosts the URLs name, and nothing else.
pub fn hosts(m: &ClientMetadata, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
    let mut found = Issues::new();
    redirects(m, reach, at, &mut found);
    urls(m, reach, at, &mut found);
    for issue in found.into_vec() {
        let hint = "; the operator can allow private hosts with `private_hosts` of the backend";
        issues.push(issue.pointer, issue.code, issue.detail + hint);
    }
}

/// Checks a policy that was decoded without issues.
pub fn policy(p: &Policy, at: &Position<'_>, issues: &mut Issues) {
    for (name, origins) in
        [("allowed_cors_origins", &p.allowed_cors_origins), ("allowed_web_origins", &p.allowed_web_origins)]
    {
        for (i, origin) in origins.iter().flatten().enumerate() {
            if let Some(fault) = origin_fault(origin) {
                issues.push(at.child(name).child(i), IssueCode::InvalidUrl, format!("not a web origin: {fault}"));
            }
        }
    }
    for (i, domain) in p.redirect_domains.iter().flatten().enumerate() {
        let labels = domain.split('.');
        let ok = domain.len() <= 253
            && domain.contains('.')
            && labels.into_iter().all(|l| {
                (1..=63).contains(&l.len())
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    && !l.starts_with('-')
                    && !l.ends_with('-')
            });
        if !ok {
            let detail = "not a domain name (no scheme, port, path or wildcard)";
            issues.push(at.child("redirect_domains").child(i), IssueCode::InvalidValue, detail);
        }
    }
    let lists = [("organizations", &p.organizations), ("audiences", &p.audiences)];
    for (name, list) in lists {
        non_empty(list.as_deref().unwrap_or_default(), &at.child(name), issues);
    }
}

fn redirects(m: &ClientMetadata, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
    let here = at.child("redirect_uris");
    let uris = m.redirect_uris.as_deref().unwrap_or_default();
    for (i, uri) in uris.iter().enumerate() {
        check_redirect(uri, reach, &here.child(i), issues);
    }
    if uris.is_empty() && m.effective_grant_types().iter().any(GrantType::uses_redirect) {
        let detail =
            "redirect_uris must have at least one entry for the authorization_code and implicit grants (RFC 7591 §5)";
        issues.push(here, IssueCode::InvalidRedirectUri, detail);
    }
}

fn grants(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    let grants = m.effective_grant_types();
    let has = |g: &GrantType| grants.contains(g);
    let (code, implicit) = (has(&GrantType::AuthorizationCode), has(&GrantType::Implicit));
    let here = at.child("grant_types");
    if has(&GrantType::Password) {
        let detail = "the password grant must not be used (RFC 9700 §2.4)";
        issues.push(here, IssueCode::InvalidValue, detail);
    }
    for (i, grant) in grants.iter().enumerate() {
        if matches!(grant, GrantType::Other(g) if g.is_empty() || g.contains(' ')) {
            issues.push(here.child(i), IssueCode::InvalidValue, "not a grant type");
        }
    }
    // RFC 7591 §2.1: authorization_code goes with code, implicit with token and id_token
    let responses_at = at.child("response_types");
    for (i, response) in m.effective_response_types().iter().enumerate() {
        let here = responses_at.child(i);
        let known = !response.text().is_empty()
            && response.text().split(' ').all(|w| matches!(w, "code" | "token" | "id_token" | "none"));
        if !known {
            issues.push(here, IssueCode::InvalidValue, "not a response type (words are code, token, id_token, none)");
            continue;
        }
        if response.has("code") && !code {
            let detail = "response type `code` needs the grant authorization_code (RFC 7591 §2.1)";
            issues.push(here, IssueCode::Conflict, detail);
        }
        if (response.has("token") || response.has("id_token")) && !implicit {
            let detail = "response types `token` and `id_token` need the grant implicit (RFC 7591 §2.1)";
            issues.push(here, IssueCode::Conflict, detail);
        }
    }
    if m.application_type.as_deref().unwrap_or("web") == "web" && implicit {
        for (i, uri) in m.redirect_uris.iter().flatten().enumerate() {
            if let Some(fault) = web_implicit_fault(uri.as_str()) {
                issues.push(at.child("redirect_uris").child(i), IssueCode::InvalidRedirectUri, fault);
            }
        }
    }
    if has(&GrantType::Ciba) {
        match m.backchannel_token_delivery_mode.as_deref() {
            None => issues.push(
                at.child("backchannel_token_delivery_mode"),
                IssueCode::Required,
                "the CIBA grant needs a delivery mode (CIBA §4)",
            ),
            Some("ping" | "push") if m.backchannel_client_notification_endpoint.is_none() => issues.push(
                at.child("backchannel_client_notification_endpoint"),
                IssueCode::Required,
                "delivery modes ping and push need a notification endpoint (CIBA §4)",
            ),
            Some(_) => {}
        }
    }
    if m.is_public() && has(&GrantType::ClientCredentials) {
        let detail = "a public client has no credentials for the client_credentials grant (RFC 6749 §4.4)";
        issues.push(here, IssueCode::Conflict, detail);
    }
}

fn authentication(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    let method = m.auth_method();
    if let AuthMethod::Other(name) = &method {
        // RFC 7591 §2: absolute URIs need no registration
        if url::Url::parse(name).is_err() {
            let detail = "neither a registered authentication method nor an absolute URI (RFC 7591 §2)";
            issues.push(at.child("token_endpoint_auth_method"), IssueCode::InvalidValue, detail);
        }
    }
    let has_keys = m.jwks.is_some() || m.jwks_uri.is_some() || m.signed_jwks_uri.is_some();
    if matches!(method, AuthMethod::PrivateKeyJwt | AuthMethod::SelfSignedTlsClientAuth) && !has_keys {
        let detail = format!("{method} needs `jwks` or `jwks_uri`");
        issues.push(at.child("jwks_uri"), IssueCode::Required, detail);
    }
    let subjects = [
        ("tls_client_auth_subject_dn", &m.tls_client_auth_subject_dn),
        ("tls_client_auth_san_dns", &m.tls_client_auth_san_dns),
        ("tls_client_auth_san_uri", &m.tls_client_auth_san_uri),
        ("tls_client_auth_san_ip", &m.tls_client_auth_san_ip),
        ("tls_client_auth_san_email", &m.tls_client_auth_san_email),
    ];
    let named: Vec<&str> = subjects.iter().filter(|(_, v)| v.is_some()).map(|(n, _)| *n).collect();
    if method == AuthMethod::TlsClientAuth && named.len() != 1 {
        let detail = "tls_client_auth needs exactly one tls_client_auth_* member (RFC 8705 §2.1.2)";
        issues.push(at.child(named.get(1).unwrap_or(&"tls_client_auth_subject_dn")), IssueCode::Conflict, detail);
    } else if method != AuthMethod::TlsClientAuth {
        for name in named {
            let detail = "this member goes only with token_endpoint_auth_method tls_client_auth (RFC 8705 §2.1.2)";
            issues.push(at.child(name), IssueCode::Conflict, detail);
        }
    }
    if m.tls_client_auth_san_ip.as_deref().is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
        issues.push(at.child("tls_client_auth_san_ip"), IssueCode::InvalidValue, "not an IP address");
    }
    if m.dpop_bound_access_tokens == Some(true) && m.tls_client_certificate_bound_access_tokens == Some(true) {
        let detail = "access tokens cannot be bound to a DPoP key and to a certificate at once";
        issues.push(at.child("dpop_bound_access_tokens"), IssueCode::Conflict, detail);
    }
}

fn keys(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    if m.jwks.is_some() && m.jwks_uri.is_some() {
        issues.push(at.child("jwks"), IssueCode::Conflict, BOTH_KEYS);
    }
}

fn urls(m: &ClientMetadata, reach: Reach<'_>, at: &Position<'_>, issues: &mut Issues) {
    use UrlUse::{Fetched, Followed, FollowedOverTls, RequestObject, Shown};
    let single = [
        ("client_uri", &m.client_uri, Shown),
        ("logo_uri", &m.logo_uri, Shown),
        ("tos_uri", &m.tos_uri, Shown),
        ("policy_uri", &m.policy_uri, Shown),
        ("organization_uri", &m.organization_uri, Shown),
        ("information_uri", &m.information_uri, Shown),
        ("jwks_uri", &m.jwks_uri, Fetched),
        ("signed_jwks_uri", &m.signed_jwks_uri, Fetched),
        ("sector_identifier_uri", &m.sector_identifier_uri, Fetched),
        ("initiate_login_uri", &m.initiate_login_uri, FollowedOverTls),
        ("backchannel_logout_uri", &m.backchannel_logout_uri, Fetched),
        ("frontchannel_logout_uri", &m.frontchannel_logout_uri, Followed),
        ("backchannel_client_notification_endpoint", &m.backchannel_client_notification_endpoint, Fetched),
    ];
    for (name, value, purpose) in single {
        if let Some(value) = value {
            check_url(value, purpose, reach, &at.child(name), issues);
        }
    }
    for (i, uri) in m.request_uris.iter().flatten().enumerate() {
        check_url(uri, RequestObject, reach, &at.child("request_uris").child(i), issues);
    }
    let lists = [
        ("post_logout_redirect_uris", &m.post_logout_redirect_uris),
        ("claims_redirect_uris", &m.claims_redirect_uris),
    ];
    for (name, list) in lists {
        for (i, uri) in list.iter().flatten().enumerate() {
            if let Some(fault) = crate::uri::redirect_fault(uri) {
                let detail = format!("not an acceptable redirect URI: {fault}");
                issues.push(at.child(name).child(i), IssueCode::InvalidUrl, detail);
            }
        }
    }
    for (key, value) in &m.localized {
        let base = key.split('#').next().unwrap_or(key);
        if let (true, Some(text)) = (base.ends_with("_uri"), value.as_str()) {
            check_url(text, Shown, reach, &at.child(key), issues);
        }
    }
}

fn algorithms(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    let pairs = [
        (
            ("id_token_encrypted_response_alg", &m.id_token_encrypted_response_alg),
            ("id_token_encrypted_response_enc", &m.id_token_encrypted_response_enc),
        ),
        (
            ("userinfo_encrypted_response_alg", &m.userinfo_encrypted_response_alg),
            ("userinfo_encrypted_response_enc", &m.userinfo_encrypted_response_enc),
        ),
        (
            ("request_object_encryption_alg", &m.request_object_encryption_alg),
            ("request_object_encryption_enc", &m.request_object_encryption_enc),
        ),
        (
            ("introspection_encrypted_response_alg", &m.introspection_encrypted_response_alg),
            ("introspection_encrypted_response_enc", &m.introspection_encrypted_response_enc),
        ),
        (
            ("authorization_encrypted_response_alg", &m.authorization_encrypted_response_alg),
            ("authorization_encrypted_response_enc", &m.authorization_encrypted_response_enc),
        ),
    ];
    for ((alg_name, alg), (enc_name, enc)) in pairs {
        if enc.is_some() && alg.is_none() {
            let detail = format!("`{enc_name}` needs `{alg_name}` (OIDC Registration §2)");
            issues.push(at.child(enc_name), IssueCode::Conflict, detail);
        }
    }
    if m.token_endpoint_auth_signing_alg.as_deref() == Some("none") {
        let detail = "`none` is not allowed here (OIDC Registration §2)";
        issues.push(at.child("token_endpoint_auth_signing_alg"), IssueCode::InvalidValue, detail);
    }
    if m.authorization_signed_response_alg.as_deref() == Some("none") {
        let detail = "`none` is not allowed here (JARM §3)";
        issues.push(at.child("authorization_signed_response_alg"), IssueCode::InvalidValue, detail);
    }
    if m.id_token_signed_response_alg.as_deref() == Some("none")
        && m.effective_response_types().iter().any(|r| r.has("id_token"))
    {
        let detail = "`none` is not allowed when the authorization endpoint returns ID Tokens (OIDC Registration §2)";
        issues.push(at.child("id_token_signed_response_alg"), IssueCode::InvalidValue, detail);
    }
    let algs = [
        ("token_endpoint_auth_signing_alg", &m.token_endpoint_auth_signing_alg),
        ("id_token_signed_response_alg", &m.id_token_signed_response_alg),
        ("userinfo_signed_response_alg", &m.userinfo_signed_response_alg),
        ("request_object_signing_alg", &m.request_object_signing_alg),
        ("introspection_signed_response_alg", &m.introspection_signed_response_alg),
        ("authorization_signed_response_alg", &m.authorization_signed_response_alg),
        ("backchannel_authentication_request_signing_alg", &m.backchannel_authentication_request_signing_alg),
    ];
    for (name, alg) in algs.into_iter().chain(pairs.into_iter().flat_map(|(alg, enc)| [alg, enc])) {
        let word = |a: &String| {
            (1..=64).contains(&a.len()) && a.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+_".contains(&b))
        };
        if alg.as_ref().is_some_and(|a| !word(a)) {
            issues.push(at.child(name), IssueCode::InvalidValue, "not the name of an algorithm (RFC 7518 §3.1)");
        }
    }
}

fn words(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    let closed: [(&str, &Option<String>, &[&str]); 3] = [
        ("application_type", &m.application_type, &["web", "native"]),
        ("subject_type", &m.subject_type, &["public", "pairwise"]),
        ("backchannel_token_delivery_mode", &m.backchannel_token_delivery_mode, &["poll", "ping", "push"]),
    ];
    for (name, value, allowed) in closed {
        if value.as_deref().is_some_and(|v| !allowed.contains(&v)) {
            issues.push(at.child(name), IssueCode::InvalidValue, format!("must be one of {}", allowed.join(", ")));
        }
    }
}

fn texts(m: &ClientMetadata, at: &Position<'_>, issues: &mut Issues) {
    let names = m.localized.iter().filter(|(k, _)| k.starts_with("client_name#"));
    let names = names.filter_map(|(k, v)| v.as_str().map(|v| (k.as_str(), v)));
    for (name, text) in m.client_name.iter().map(|v| ("client_name", v.as_str())).chain(names) {
        let length = text.chars().count();
        if length > MAX_NAME {
            issues.push(at.child(name), IssueCode::TooLong, format!("longer than {MAX_NAME} characters"));
        }
    }
    let lists = [
        ("contacts", &m.contacts),
        ("default_acr_values", &m.default_acr_values),
        ("authorization_details_types", &m.authorization_details_types),
        ("client_registration_types", &m.client_registration_types),
        ("keywords", &m.keywords),
        ("response_modes", &m.response_modes),
        ("resources", &m.resources),
    ];
    for (name, list) in lists {
        non_empty(list.as_deref().unwrap_or_default(), &at.child(name), issues);
    }
    for (name, value) in &m.extra {
        check_untyped(value, &at.child(name), issues);
    }
}

fn non_empty(list: &[String], at: &Position<'_>, issues: &mut Issues) {
    for (i, item) in list.iter().enumerate() {
        if item.trim().is_empty() {
            issues.push(at.child(i), IssueCode::InvalidValue, "must not be empty");
        }
    }
}
