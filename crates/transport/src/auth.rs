//! The credential of every request.

use std::sync::Arc;

use http::HeaderValue;
use registrar_core::{Credential, ErrorKind, ExposeSecret, Response, Secrets};
use reqwest::Client;
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};

use crate::{
    BackendOptions, TransportSetupError,
    fault::{self, Cause, Fault},
    lockout::Lockout,
    stack::{Authorised, Call},
    token::Tokens,
};

const UNAUTHORIZED: u16 = 401;

/// Where the `Authorization` comes from.
pub(crate) enum Auth {
    /// Nowhere: the API is open.
    Open,
    /// Fixed; made once.
    Bearer(HeaderValue, Secrets),
    /// Fetched and renewed.
    Tokens(Arc<Tokens>),
}

impl Auth {
    pub(crate) fn new(client: &Client, options: &BackendOptions) -> Result<Self, TransportSetupError> {
        match &options.credential {
            Credential::None => Ok(Self::Open),
            Credential::Bearer(token) => bearer(token.expose_secret())
                .map(|value| Self::Bearer(value, Secrets::of(token.expose_secret())))
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

impl Auth {
    /// The backend's credential as it is now: no answer may repeat it, whatever it was to.
    fn secrets(&self) -> Secrets {
        match self {
            Self::Open => Secrets::default(),
            Self::Bearer(_, secrets) => secrets.clone(),
            Self::Tokens(tokens) => tokens.secrets(),
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
/// that even a create may be sent again: once, with a new token. A second 401 is the adapter's to report, and after two
/// such calls the credential rests. The refusal of a call's own token says nothing about the backend's.
pub(crate) fn layer<S>(
    auth: Arc<Auth>,
    lockout: Arc<Lockout>,
    inner: S,
) -> impl Service<Call, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync
where
    S: Service<Authorised, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync,
{
    service_fn(move |call: Call| {
        let (auth, lockout, inner) = (Arc::clone(&auth), Arc::clone(&lockout), inner.clone());
        async move {
            if let Some(token) = &call.request.bearer {
                let authorization = bearer(token.expose_secret()).ok_or_else(unsendable)?;
                let answer = inner.oneshot(Authorised { call, authorization: Some(authorization) }).await;
                return answer.map(|answer| scrubbed(answer, &auth));
            }
            if matches!(*auth, Auth::Open) {
                // there is no credential that could be refused
                return authorised(&auth, inner, call).await;
            }
            let began = Instant::now();
            lockout.check(began)?;
            let result = authorised(&auth, inner, call).await.map(|answer| scrubbed(answer, &auth));
            match &result {
                Ok(response) if response.status != UNAUTHORIZED => lockout.accepted(),
                Ok(_) => lockout.refused(began, Instant::now()),
                // the token endpoint refuses the client credentials
                Err(fault) if fault.error.kind() == ErrorKind::UpstreamAuthentication => {
                    lockout.refused(began, Instant::now());
                }
                Err(_) => {}
            }
            result
        }
    })
}

fn scrubbed(mut answer: Response, auth: &Auth) -> Response {
    answer.secrets.extend(&auth.secrets());
    answer
}

fn unsendable() -> Fault {
    fault::defect("the token of this call cannot stand in a header field; nothing was sent")
}

async fn authorised<S>(auth: &Auth, inner: S, call: Call) -> Result<Response, Fault>
where
    S: Service<Authorised, Response = Response, Error = Fault> + Clone,
{
    let send = |inner: S, call, authorization| inner.oneshot(Authorised { call, authorization });
    let tokens = match auth {
        Auth::Open => return send(inner, call, None).await,
        Auth::Bearer(value, _) => return send(inner, call, Some(value.clone())).await,
        Auth::Tokens(tokens) => tokens,
    };
    let no_token = |error| Fault::new(Cause::Token, error);
    let token = tokens.get(call.start_by).await.map_err(no_token)?;
    let response = send(inner.clone(), call.clone(), Some(token.authorization)).await?;
    if response.status != UNAUTHORIZED {
        return Ok(response);
    }
    tokens.refused(token.number);
    let authorization = tokens.get(call.start_by).await.map_err(no_token)?.authorization;
    send(inner, call, Some(authorization)).await
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
