//! The credential of every request.

use std::sync::Arc;

use http::HeaderValue;
use registrar_core::{Credential, Error, ErrorKind, ExposeSecret, Response};
use reqwest::Client;
use tower::{Service, ServiceExt, service_fn};

use crate::{
    BackendOptions, TransportSetupError,
    stack::{Authorised, Call},
    token::Tokens,
};

const UNAUTHORIZED: u16 = 401;

/// Where the `Authorization` comes from.
pub(crate) enum Auth {
    /// Nowhere: the API is open.
    Open,
    /// Fixed; made once.
    Bearer(HeaderValue),
    /// Fetched and renewed.
    Tokens(Arc<Tokens>),
}

impl Auth {
    pub(crate) fn new(client: &Client, options: &BackendOptions) -> Result<Self, TransportSetupError> {
        match &options.credential {
            Credential::None => Ok(Self::Open),
            Credential::Bearer(token) => bearer(token.expose_secret())
                .map(Self::Bearer)
                .ok_or_else(|| TransportSetupError::Token { backend: options.name.clone() }),
            Credential::ClientCredentials(grant) => Ok(Self::Tokens(Arc::new(Tokens::new(
                client.clone(),
                Arc::from(options.name.as_str()),
                grant.clone(),
                options.timeout,
            )))),
        }
    }
}

/// `Bearer <token>`, marked so that it prints as `Sensitive` and is not put into HTTP/2's compression tables. `None`
/// when a header field cannot hold it, or when there is nothing in it.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    if token.trim().is_empty() {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Gives every call its credential: its own token, or else the backend's. A 401 means that the vendor did nothing, so
/// that even a create may be sent again: once, with a new token. A second 401 is the adapter's to report, and so is the
/// refusal of a call's own token, which says nothing about the backend's.
pub(crate) fn layer<S>(
    auth: Arc<Auth>,
    inner: S,
) -> impl Service<Call, Response = Response, Error = Error, Future: Send> + Clone + Send + Sync
where
    S: Service<Authorised, Response = Response, Error = Error, Future: Send> + Clone + Send + Sync,
{
    service_fn(move |call: Call| {
        let (auth, inner) = (Arc::clone(&auth), inner.clone());
        async move {
            if let Some(token) = &call.request.bearer {
                let authorization = bearer(token.expose_secret()).ok_or_else(unsendable)?;
                return inner.oneshot(Authorised { call, authorization: Some(authorization) }).await;
            }
            match &*auth {
                Auth::Open => inner.oneshot(Authorised { call, authorization: None }).await,
                Auth::Bearer(value) => inner.oneshot(Authorised { call, authorization: Some(value.clone()) }).await,
                Auth::Tokens(tokens) => {
                    let token = tokens.get(call.deadline).await?;
                    let first = Authorised { call: call.clone(), authorization: Some(token.authorization) };
                    let response = inner.clone().oneshot(first).await?;
                    if response.status != UNAUTHORIZED {
                        return Ok(response);
                    }
                    tokens.refused(token.number);
                    let authorization = tokens.get(call.deadline).await?.authorization;
                    inner.oneshot(Authorised { call, authorization: Some(authorization) }).await
                }
            }
        }
    })
}

fn unsendable() -> Error {
    Error::new(ErrorKind::Internal, "the token of this call cannot stand in a header field; nothing was sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_no_header_can_hold_are_refused() {
        assert_eq!(bearer("abc").as_ref().map(HeaderValue::as_bytes), Some(&b"Bearer abc"[..]));
        assert_eq!(format!("{:?}", bearer("abc")), "Some(Sensitive)");
        for bad in ["", " ", "a\nb", "a\r\nX-Admin: 1", "a\0"] {
            assert!(bearer(bad).is_none(), "{bad:?}");
        }
    }
}
