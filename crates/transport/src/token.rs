//! Tokens of the client credentials grant: one request at a time, kept until shortly before they expire.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::HeaderValue;
use registrar_core::{ClientCredentials, Error, ErrorKind, Result, Secrets, TokenLife, VendorDetail};
use reqwest::Client;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::grant::{Grant, Issued};

/// Between two attempts to renew a token that is still valid.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// A token in use.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) authorization: HeaderValue,
    /// The token and the client secret that it was bought with, which no answer may repeat.
    pub(crate) secrets: Secrets,
    /// Which one it is, to tell whether it has been replaced.
    pub(crate) number: u64,
    renew_at: Instant,
    expires_at: Instant,
}

/// The tokens of one backend.
pub(crate) struct Tokens {
    client: Client,
    backend: Arc<str>,
    grant: Grant,
    life: TokenLife,
    /// Of a whole call.
    timeout: Duration,
    state: RwLock<State>,
    /// Held while a token is being fetched; never while `state` is locked.
    flight: Mutex<()>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    issued: u64,
    failure: Option<Failure>,
}

/// An error that everyone gets who waited for the same attempt.
#[derive(Clone)]
struct Failure {
    at: Instant,
    kind: ErrorKind,
    detail: String,
    advice: Option<String>,
    vendor: Option<VendorDetail>,
    retry_after: Option<Duration>,
    retryable: bool,
}

impl Failure {
    fn of(error: &Error) -> Self {
        Self {
            at: Instant::now(),
            kind: error.kind(),
            detail: error.detail().to_owned(),
            advice: error.advice().map(str::to_owned),
            vendor: error.vendor().cloned(),
            retry_after: error.retry_after(),
            retryable: error.is_retryable(),
        }
    }

    fn to_error(&self) -> Error {
        let error = Error::new(self.kind, self.detail.clone()).with_retry_after(self.retry_after);
        let error = if self.retryable { error } else { error.never_retryable() };
        let error = match &self.advice {
            Some(advice) => error.with_advice(advice.clone()),
            None => error,
        };
        match &self.vendor {
            Some(vendor) => error.with_vendor(vendor.clone()),
            None => error,
        }
    }
}

impl State {
    fn usable(&self, now: Instant) -> Option<&Token> {
        self.token.as_ref().filter(|token| now < token.expires_at)
    }

    /// True for the one caller who should renew the token now; the next one is told only after the pause.
    fn claim_renewal(&mut self, number: u64, now: Instant) -> bool {
        match &mut self.token {
            Some(token) if token.number == number && now >= token.renew_at => {
                token.renew_at = now + RENEWAL_PAUSE;
                true
            }
            _ => false,
        }
    }
}

impl Tokens {
    pub(crate) fn new(client: Client, backend: Arc<str>, grant: ClientCredentials, timeout: Duration) -> Self {
        let (life, grant) = (grant.life, Grant::new(grant));
        Self { client, backend, grant, life, timeout, state: RwLock::default(), flight: Mutex::new(()) }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A token that is valid now. One past 80 % of its life is renewed in the background; without a valid one, all
    /// callers wait for the same request.
    ///
    /// Every error means that the caller's request was not sent.
    pub(crate) async fn get(self: &Arc<Self>, start_by: Instant) -> Result<Token> {
        let asked = Instant::now();
        if self.life == TokenLife::OneUse {
            return timeout_at(start_by, self.single(asked)).await.unwrap_or_else(|_| Err(too_late()));
        }
        if let Some(token) = self.read(|state| state.usable(asked).cloned()) {
            if asked >= token.renew_at && self.write(|state| state.claim_renewal(token.number, asked)) {
                tokio::spawn(Arc::clone(self).renew(token.number));
            }
            return Ok(token);
        }
        match timeout_at(start_by, self.wait(asked)).await {
            Ok(result) => result,
            Err(_) => Err(too_late()),
        }
    }

    /// A token that nobody else gets.
    async fn single(&self, asked: Instant) -> Result<Token> {
        let Issued { authorization, secrets, .. } = self.grant.request(&self.client, asked + self.timeout / 2).await?;
        Ok(Token { authorization, secrets, number: 0, renew_at: asked, expires_at: asked })
    }

    /// Whether the client secret's file holds another one now.
    pub(crate) async fn is_replaced(&self) -> bool {
        self.grant.is_replaced().await
    }

    /// The token in use and the client secret.
    pub(crate) fn secrets(&self) -> Secrets {
        self.read(|state| state.token.as_ref().map(|token| token.secrets.clone()))
            .unwrap_or_else(|| self.grant.secrets())
    }

    /// Forgets a token that the vendor refused, unless it has been replaced already.
    pub(crate) fn refused(&self, number: u64) {
        self.write(|state| {
            state.token.take_if(|token| token.number == number);
        });
    }

    async fn wait(&self, asked: Instant) -> Result<Token> {
        let _flight = self.flight.lock().await;
        // somebody else may have fetched one meanwhile, or have failed to: then a queue of callers must not repeat
        // the attempt one after the other, which looks like an attack to the vendor
        let found = self.read(|state| match (state.usable(Instant::now()), &state.failure) {
            (Some(token), _) => Some(Ok(token.clone())),
            (None, Some(failure)) if failure.at >= asked => Some(Err(failure.to_error())),
            _ => None,
        });
        match found {
            Some(result) => result,
            None => self.fetch().await,
        }
    }

    async fn renew(self: Arc<Self>, number: u64) {
        let _flight = self.flight.lock().await;
        let replaced = self.read(|state| state.token.as_ref().is_none_or(|token| token.number != number));
        if !replaced && let Err(error) = self.fetch().await {
            tracing::info!(
                backend = &*self.backend,
                code = error.kind().slug(),
                "the access token could not be renewed early; the present one is used until it expires"
            );
        }
    }

    /// Only with `flight` held.
    async fn fetch(&self) -> Result<Token> {
        let asked = Instant::now();
        // half of the time of a call: everyone who waits learns of the failure before giving up, and a call that gets
        // its token late still has time to be made
        let result = self.grant.request(&self.client, asked + self.timeout / 2).await;
        self.write(|state| match result {
            Ok(Issued { authorization, secrets, lifetime }) => {
                state.issued += 1;
                // counted from before the request, so that it errs on the safe side
                let token = Token {
                    authorization,
                    secrets,
                    number: state.issued,
                    renew_at: asked + lifetime.mul_f64(0.8),
                    expires_at: asked + lifetime,
                };
                state.token = Some(token.clone());
                state.failure = None;
                tracing::debug!(backend = &*self.backend, lifetime_s = lifetime.as_secs(), "access token issued");
                Ok(token)
            }
            Err(error) => {
                state.failure = Some(Failure::of(&error));
                Err(error)
            }
        })
    }
}

fn too_late() -> Error {
    let text = "the token endpoint did not answer in time; the request itself was not sent";
    Error::new(ErrorKind::UpstreamTimeout, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_claimed_by_one_and_again_after_the_pause() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let token = Token {
            authorization: HeaderValue::from_static("Bearer t"),
            secrets: Secrets::default(),
            number: 7,
            renew_at: after(80),
            expires_at: after(100),
        };
        let mut state = State { token: Some(token), ..State::default() };
        assert!(!state.claim_renewal(7, after(79)));
        assert!(!state.claim_renewal(6, after(80)), "an older token has been replaced");
        assert!(state.claim_renewal(7, after(80)));
        assert!(!state.claim_renewal(7, after(81)));
        assert!(state.claim_renewal(7, after(80) + RENEWAL_PAUSE));
        assert!(state.usable(after(99)).is_some());
        assert!(state.usable(after(100)).is_none());
    }
}
