//! A client's own URL and token (RFC 7592 §3): which may be used, and what is said where there are none.

use registrar_core::{Error, ExposeSecret as _, Management, Result, Target};
use registrar_model::{Loss, LossKind, Severity};
use url::Url;

use super::{KIND, wire};

/// How a new client is managed.
///
/// # Errors
/// The loss of the ability to, for the caller: the client exists all the same.
pub(super) fn given(base_url: &Url, answer: &wire::Client) -> Result<Management, Loss> {
    let (Some(uri), Some(token)) = (&answer.management_uri, &answer.management_token) else {
        let reason = "the server gave no registration_client_uri and registration_access_token (RFC 7592 is optional), so \
                      that the gateway cannot read, change or delete this client";
        return Err(unmanageable(reason));
    };
    let Some(uri) = own(base_url, uri) else {
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
pub(super) fn renewed(base_url: &Url, before: &Management, answer: &wire::Client) -> Management {
    let uri = answer.management_uri.as_deref().and_then(|uri| own(base_url, uri));
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
/// the token.
fn own(base_url: &Url, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    same_origin(base_url, &url).then_some(url)
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
