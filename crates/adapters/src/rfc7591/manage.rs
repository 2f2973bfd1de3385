//! A client's own URL and token (RFC 7592 §3): which may be used, and what is said where there are none.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use registrar_core::{Error, ExposeSecret as _, Management, Result, SecretString, Target};
use registrar_model::{Loss, LossKind, Severity};
use serde_json::Value;
use url::Url;

use super::{KIND, preset::Managed, wire};

/// How a new client is managed.
///
/// # Errors
/// The loss of the ability to, for the caller: the client exists all the same.
pub(super) fn given(registration: &Url, answer: &wire::Client) -> Result<Management, Loss> {
    let (Some(uri), Some(token)) = (&answer.management_uri, &answer.management_token) else {
        let reason = "the server gave no registration_client_uri and registration_access_token (RFC 7592 is optional), so \
                      that the gateway cannot read, change or delete this client";
        return Err(unmanageable(reason));
    };
    let Some(uri) = own(registration, uri) else {
        let reason = "the server's registration_client_uri leads to another origin than the server's own, and a token is sent \
                      nowhere else, so that the gateway cannot read, change or delete this client";
        return Err(unmanageable(reason));
    };
    if !is_bearer(token.expose_secret()) {
        let reason = "the server's registration_access_token is not a bearer token (RFC 6750 §2.1), so that the gateway \
                      cannot read, change or delete this client";
        return Err(unmanageable(reason));
    }
    Ok(Management { uri, token: token.clone() })
}

/// How a known client is managed after an answer: either part may be new, and a part that is absent or unusable is as it
/// was (OIDC Registration §4.3).
pub(super) fn renewed(registration: &Url, before: &Management, answer: &wire::Client) -> Management {
    let uri = answer.management_uri.as_deref().and_then(|uri| own(registration, uri));
    let token = answer.management_token.clone().filter(|token| is_bearer(token.expose_secret()));
    Management { uri: uri.unwrap_or_else(|| before.uri.clone()), token: token.unwrap_or_else(|| before.token.clone()) }
}

/// How a client is managed, if it can be.
///
/// # Errors
/// `unsupported-by-backend`.
pub(super) fn usable<'t>(base_url: &Url, target: &'t Target, what: &str) -> Result<&'t Management> {
    let Some(management) = &target.management else {
        return Err(Error::unsupported(format!(
            "{what} needs the registration access token that the server issues with it (RFC 7592 §3), and the gateway has \
             none for this client: the server gave none, or one for another origin than base_url; nothing was sent"
        )));
    };
    if !same_origin(base_url, &management.uri) {
        return Err(Error::unsupported(format!(
            "{what} would send its token to another origin than base_url, which has changed since; nothing was sent"
        )));
    }
    Ok(management)
}

/// A server's URL, if it is of the server's own origin. Any other could be an address inside our network, and would get
/// the token. A relative one counts from the registration endpoint, and is never that endpoint itself.
fn own(registration: &Url, text: &str) -> Option<Url> {
    let mut url = Url::options().base_url(Some(registration)).parse(text).ok()?;
    url.set_fragment(None);
    (same_origin(registration, &url) && url != *registration).then_some(url)
}

/// How long the server's token for this client is good, where the token itself says so (RFC 7519 §4.1).
pub(super) fn lifetime(token: &SecretString) -> Option<i64> {
    let claims = token.expose_secret().split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let time = |name: &str| claims.get(name)?.as_f64().map(|seconds| seconds as i64);
    Some(time("exp")?.saturating_sub(time("iat")?)).filter(|seconds| *seconds > 0)
}

/// The server's token for this client ends by itself.
pub(super) fn ending(seconds: i64, managed: Managed) -> Loss {
    let until = if managed.updates() { "" } else { "the server neither changes nor deletes registered clients, and " };
    let reason = format!(
        "{until}the server's own token for this client is good for {seconds} s after the registration; after that the \
         gateway cannot even read the client"
    );
    Loss { reason: reason.into(), ..unmanageable("") }
}

/// The server only shows registered clients.
pub(super) fn only_shown() -> Loss {
    unmanageable(
        "servers of this preset show registered clients and neither change nor delete them (RFC 7592 is optional)",
    )
}

fn same_origin(base_url: &Url, url: &Url) -> bool {
    url.origin() == base_url.origin() && url.username().is_empty() && url.password().is_none()
}

/// RFC 6750 §2.1: what an `Authorization` can hold.
fn is_bearer(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The server of this preset manages no clients, whatever it answers.
pub(super) fn not_offered() -> Loss {
    unmanageable(
        "servers of this preset offer no management of clients (RFC 7592 is optional), so that the gateway cannot read, change \
         or delete this client",
    )
}

fn unmanageable(reason: &'static str) -> Loss {
    Loss { field: "management".into(), ..note("", Severity::Functional, reason) }
}

/// The server made a public client confidential without telling the secret.
pub(super) fn missing_secret() -> Loss {
    crate::shared::secret_loss(
        Severity::Functional,
        "the client now needs a secret, and the server told none; it can authenticate only after a new registration",
    )
}

fn note(member: &str, severity: Severity, reason: &'static str) -> Loss {
    Loss {
        field: format!("vendor.{KIND}.{member}").into(),
        kind: LossKind::Dropped,
        severity,
        reason: reason.into(),
        wanted: None,
        got: None,
    }
}
