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
    secret::Current,
    stack::{Authorised, Call},
    token::Tokens,
};

const UNAUTHORIZED: u16 = 401;

/// Where the `Authorization` comes from.
pub(crate) enum Auth {
    /// Nowhere: the API is open.
    Open,
    /// Ready; another one only once its file holds another one.
    Bearer(Current<Ready>),
    /// Fetched and renewed.
    Tokens(Arc<Tokens>),
}

impl Auth {
    pub(crate) fn new(client: &Client, options: &BackendOptions) -> Result<Self, TransportSetupError> {
        match &options.credential {
            Credential::None => Ok(Self::Open),
            Credential::Bearer(token) => Ready::of(token.expose_secret())
                .map(|first| Self::Bearer(Current::new(token.clone(), first, Ready::of)))
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
            Self::Bearer(current) => current.get().secrets,
            Self::Tokens(tokens) => tokens.secrets(),
        }
    }

    /// Whether the credential's file holds another one now.
    async fn is_replaced(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Bearer(current) => current.instead_of(&current.get()).await.is_some(),
            Self::Tokens(tokens) => tokens.is_replaced().await,
        }
    }
}

/// A ready token as it is sent.
#[derive(Clone)]
pub(crate) struct Ready {
    authorization: HeaderValue,
    secrets: Secrets,
}

impl Ready {
    fn of(token: &str) -> Option<Self> {
        Some(Self { authorization: bearer(token)?, secrets: Secrets::of(token) })
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.authorization == other.authorization
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
            if let Err(resting) = lockout.check(began) {
                if !auth.is_replaced().await {
                    return Err(resting);
                }
                lockout.accepted();
            }
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
        Auth::Bearer(current) => {
            let used = current.get();
            let response = send(inner.clone(), call.clone(), Some(used.authorization.clone())).await?;
            if response.status != UNAUTHORIZED {
                return Ok(response);
            }
            return match current.instead_of(&used).await {
                Some(new) => send(inner, call, Some(new.authorization)).await,
                None => Ok(response),
            };
        }
        Auth::Tokens(tokens) => tokens,
    };
    let no_token = |error| Fault::new(Cause::Token, error);
    let token = tokens.get(call.start_by).await.map_err(no_token)?;
    let mut response = send(inner.clone(), call.clone(), Some(token.authorization)).await?;
    response.secrets.extend(&token.secrets);
    if response.status != UNAUTHORIZED {
        return Ok(response);
    }
    tokens.refused(token.number);
    let token = tokens.get(call.start_by).await.map_err(no_token)?;
    let mut response = send(inner, call, Some(token.authorization)).await?;
    response.secrets.extend(&token.secrets);
    Ok(response)
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
