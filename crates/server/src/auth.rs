//! Who is asking.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use registrar_core::{Error, ErrorKind, Result};
use registrar_engine::{AuthMode, Caller, Idempotency, Scope, keys};
use serde_json::Value;

use crate::{App, host, problem::Context};

/// draft-ietf-httpapi-idempotency-key-header
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Everything that makes a write what it is.
pub(crate) struct Write<'r> {
    pub(crate) headers: &'r HeaderMap,
    pub(crate) method: Method,
    pub(crate) uri: &'r Uri,
    /// Null without a body.
    pub(crate) body: &'r Value,
}

impl Write<'_> {
    /// One form for all spellings of the same request.
    fn canonical(&self) -> Vec<u8> {
        let mut body = self.body.clone();
        body.sort_all_objects();
        let target = self.uri.path_and_query().map_or("", |p| p.as_str());
        format!("{} {target}\n{body}", self.method).into_bytes()
    }
}

/// The authenticated caller and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) name: Arc<str>,
    scopes: Cow<'static, [Scope]>,
}

impl Principal {
    /// Refuses a caller without the scope.
    pub(crate) fn require(&self, scope: Scope) -> Result<()> {
        if self.scopes.iter().any(|s| s.covers(scope)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forbidden, format!("this call needs the scope {}", scope.as_str())))
    }

    /// The caller of a write, with the idempotency key of the request: the one that it sent, or the one that the
    /// configuration makes for equal requests.
    pub(crate) fn caller(&self, app: &App, context: &Context, write: Write<'_>) -> Result<Caller> {
        let idempotency = match (idempotency(&self.name, &write)?, app.engine().options().implicit_window) {
            (None, Some(window)) => Some(Idempotency::implicit(&self.name, &write.canonical(), window)),
            (sent, _) => sent,
        };
        Ok(Caller { principal: Arc::clone(&self.name), request_id: Arc::clone(&context.request_id), idempotency })
    }
}

/// The idempotency key that was sent.
pub(crate) fn idempotency(principal: &str, write: &Write<'_>) -> Result<Option<Idempotency>> {
    let mut sent = write.headers.get_all(IDEMPOTENCY_KEY).iter();
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => Err(Error::new(ErrorKind::InvalidRequest, "send one Idempotency-Key, not several")),
        (Some(key), None) => {
            Idempotency::sent(principal, key.to_str().unwrap_or_default(), &write.canonical()).map(Some)
        }
        (None, _) => Ok(None),
    }
}

/// Finds out who is asking before the handler looks at anything else. There is no other way to a [`Principal`], so a
/// handler that asks for a scope is behind authentication.
impl FromRequestParts<App> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> std::result::Result<Self, Response> {
        let Some(context) = parts.extensions.get::<Context>() else {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let principal = match app.inner.auth {
            AuthMode::None => local(app, parts),
            AuthMode::Keys => match token(&parts.headers) {
                Ok(token) => keys::verify(app.engine().store().as_ref(), &token)
                    .await
                    .map(|(name, scopes)| Self { name: name.into(), scopes: scopes.into() }),
                Err(error) => Err(error),
            },
        };
        principal.map_err(|error| context.error(&error))
    }
}

/// Without authentication only this machine may ask, and not through a browser that was told that some name is this
/// machine (DNS rebinding): the `Host` must be a loopback one or that of the public URL.
fn local(app: &App, request: &Parts) -> Result<Principal> {
    let host = host::of(&request.uri, &request.headers);
    let name = host.map(|h| match h.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => h,
    });
    let public = app.public_url().split_once("://").map(|(_, rest)| rest.split(['/', ':']).next().unwrap_or(rest));
    let is_local = name.is_none_or(|name| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || Some(name) == public
            || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if is_local && is_from_elsewhere(request, host, app.public_url()) {
        let detail = "without authentication no page of another origin is served; set auth.mode = \"keys\" to serve it";
        return Err(Error::new(ErrorKind::Forbidden, detail));
    }
    if is_local {
        return Ok(Principal { name: Arc::clone(&app.inner.anonymous), scopes: Cow::Borrowed(&Scope::ALL) });
    }
    let detail = "without authentication only loopback host names are served; set auth.mode = \"keys\" to serve others";
    Err(Error::new(ErrorKind::Forbidden, detail))
}

/// Whether a browser says that a page of another origin asks, or sent its user here. A browser says one of the two, and no
/// page can keep it from that; other clients say neither.
fn is_from_elsewhere(request: &Parts, host: Option<&str>, public_url: &str) -> bool {
    let cross_site = request.headers.get_all("sec-fetch-site").iter().any(|site| site == "cross-site");
    let authority =
        |url: &str| url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest).to_owned());
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(authority);
        let same = |own: &str| origin.as_deref().is_some_and(|origin| origin.eq_ignore_ascii_case(own));
        host.is_some_and(same) || authority(public_url).is_some_and(|public| same(&public))
    };
    cross_site || !request.headers.get_all(header::ORIGIN).iter().all(is_own)
}

/// The one bearer token of a request.
fn token(headers: &HeaderMap) -> Result<String> {
    match bearer(headers) {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(Error::new(ErrorKind::Unauthenticated, "send an API key: `Authorization: Bearer rk_...`")),
        Err(()) => Err(Error::new(ErrorKind::InvalidToken, "the API key is not valid")),
    }
}

/// The one bearer token among header fields; `None` without an `Authorization` field, an error for any other content
/// of it.
pub(crate) fn bearer(headers: &HeaderMap) -> std::result::Result<Option<String>, ()> {
    let mut presented = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = presented.next() else { return Ok(None) };
    if presented.next().is_some() {
        return Err(());
    }
    let (scheme, token) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or(())?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim().to_owned())) } else { Err(()) }
}
