//! Tokens of the client credentials grant: one request at a time, kept until shortly before they expire.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method};
use registrar_core::{
    ClientCredentials, Effect, Error, ErrorKind, ExposeSecret, Response, Result, Secrets, VendorDetail,
};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

use crate::{auth::bearer, send::exchange};

/// Bytes of a token answer; a large JWT has 8 KiB.
const MAX_ANSWER: usize = 64 << 10;
/// What a token without a usable lifetime gets.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// Longer lifetimes are not believed; also keeps `Instant` from overflowing.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
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
    grant: ClientCredentials,
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
        Self { client, backend, grant, timeout, state: RwLock::default(), flight: Mutex::new(()) }
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
        if let Some(token) = self.read(|state| state.usable(asked).cloned()) {
            if asked >= token.renew_at && self.write(|state| state.claim_renewal(token.number, asked)) {
                tokio::spawn(Arc::clone(self).renew(token.number));
            }
            return Ok(token);
        }
        match timeout_at(start_by, self.wait(asked)).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::UpstreamTimeout,
                "the token endpoint did not answer in time; the request itself was not sent",
            )),
        }
    }

    /// The token in use and the client secret.
    pub(crate) fn secrets(&self) -> Secrets {
        self.read(|state| state.token.as_ref().map(|token| token.secrets.clone())).unwrap_or_default()
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
        let result = self.request(asked + self.timeout / 2).await;
        self.write(|state| match result {
            Ok(Issued { authorization, mut secrets, lifetime }) => {
                secrets.add(self.grant.client_secret.expose_secret());
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

    async fn request(&self, deadline: Instant) -> Result<Issued> {
        let body = serde_json::to_vec(&TokenRequest {
            grant_type: "client_credentials",
            audience: &self.grant.audience,
            client_id: &self.grant.client_id,
            client_secret: self.grant.client_secret.expose_secret(),
        })
        .map_err(|_| Error::new(ErrorKind::Internal, "the token request could not be written; nothing was sent"))?;
        let request = reqwest::Request::new(Method::POST, self.grant.token_url.clone());
        // for the caller's request, whatever happens here is "not performed"; asking for a token twice does no harm
        exchange(&self.client, request, Some(Bytes::from(body)), Effect::Read, MAX_ANSWER, deadline)
            .await
            .map_err(|fault| {
                let error = no_token(fault.error.kind(), fault.error.detail());
                if fault.error.is_retryable() { error } else { error.never_retryable() }
            })
            .and_then(|response| read_answer(&response))
    }
}

#[derive(Serialize)]
struct TokenRequest<'a> {
    grant_type: &'static str,
    audience: &'a str,
    client_id: &'a str,
    client_secret: &'a str,
}

/// RFC 6749 §5.1, and `expire_in` for vendors that spell it so. No `Debug`: it holds the token.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
    expire_in: Option<Value>,
}

struct Issued {
    authorization: HeaderValue,
    secrets: Secrets,
    lifetime: Duration,
}

fn no_token(kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, format!("no access token from the token endpoint, so that the request was not sent: {why}"))
}

fn read_answer(response: &Response) -> Result<Issued> {
    if !response.is_success() {
        let (kind, why) = match response.status {
            400 | 401 | 403 => (ErrorKind::UpstreamAuthentication, "it refused the gateway's client credentials"),
            404 | 405 | 410 | 501 => (ErrorKind::UpstreamRejected, "there is no token endpoint at this address"),
            429 => (ErrorKind::UpstreamRateLimited, "it limits the rate of requests"),
            500..600 => (ErrorKind::UpstreamUnavailable, "it failed"),
            300..400 => (ErrorKind::UpstreamMalformed, "it answered with a redirect, which is never followed"),
            _ => (ErrorKind::UpstreamMalformed, "it answered with an unexpected status"),
        };
        let error = no_token(kind, why);
        let error = match kind {
            ErrorKind::UpstreamAuthentication => {
                error.with_advice("check `client_id`, `client_secret` and `audience` of the backend's settings")
            }
            ErrorKind::UpstreamRejected => error.with_advice("check `token_url` in the backend's settings"),
            _ => error,
        };
        return Err(error
            .with_retry_after(response.retry_after())
            .with_vendor(VendorDetail { status: Some(response.status), ..VendorDetail::default() }));
    }
    // the text of a serde error may quote the token
    let malformed = |why| no_token(ErrorKind::UpstreamMalformed, why);
    let answer: TokenAnswer = serde_json::from_slice(&response.body)
        .map_err(|_| malformed("its answer is not the documented JSON object with an access_token"))?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(malformed("it issued a token of another type than Bearer"));
    }
    let authorization = bearer(&answer.access_token)
        .ok_or_else(|| malformed("it issued a token that is empty or that a header field cannot hold"))?;
    let lifetime = answer.expires_in.as_ref().and_then(lifetime).or(answer.expire_in.as_ref().and_then(lifetime));
    let secrets = Secrets::of(&answer.access_token);
    Ok(Issued { authorization, secrets, lifetime: lifetime.unwrap_or(DEFAULT_LIFETIME) })
}

/// Seconds as a number or as text; `None` for anything that is not a positive time.
fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // `as_f64` and `parse` may give infinity and NaN
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_LIFETIME.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use registrar_core::Outcome;
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Response::new(status, HeaderMap::new(), body, Effect::Read)
    }

    #[test]
    fn lifetimes_come_in_every_spelling() {
        for (value, seconds) in [
            (json!(3600), Some(3600)),
            (json!("3600"), Some(3600)),
            (json!(" 60 "), Some(60)),
            (json!(60.0), Some(60)),
            (json!(1e300), Some(86_400)),
            (json!("inf"), Some(86_400)),
            (json!(0), None),
            (json!(-1), None),
            (json!("NaN"), None),
            (json!("soon"), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(lifetime(&value), seconds.map(Duration::from_secs), "{value}");
        }
        for (members, seconds) in [
            (r#","expires_in":60"#, 60),
            (r#","expire_in":"60""#, 60),
            (r#","expires_in":null,"expire_in":60"#, 60),
            ("", 300),
            (r#","expires_in":0"#, 300),
        ] {
            let issued = read_answer(&answer(200, &format!(r#"{{"access_token":"t"{members}}}"#))).ok().unwrap();
            assert_eq!(issued.lifetime, Duration::from_secs(seconds), "{members}");
        }
    }

    #[test]
    fn answers_without_a_token_are_errors_and_nothing_was_sent() {
        use ErrorKind as K;
        for (status, body, kind) in [
            (400, r#"{"error":"invalid_request"}"#, K::UpstreamAuthentication),
            (401, "canary", K::UpstreamAuthentication),
            (403, "", K::UpstreamAuthentication),
            (404, "", K::UpstreamRejected),
            (501, "", K::UpstreamRejected),
            (302, "", K::UpstreamMalformed),
            (429, "", K::UpstreamRateLimited),
            (500, "", K::UpstreamUnavailable),
            (200, "", K::UpstreamMalformed),
            (200, "<html>canary</html>", K::UpstreamMalformed),
            (200, r#"{"access_token":42,"canary":"canary"}"#, K::UpstreamMalformed),
            (200, r#"{"access_token":""}"#, K::UpstreamMalformed),
            (200, r#"{"access_token":"canary\n"}"#, K::UpstreamMalformed),
            (200, r#"{"access_token":"canary","token_type":"DPoP"}"#, K::UpstreamMalformed),
        ] {
            let error = read_answer(&answer(status, body)).err().unwrap();
            assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotPerformed), "{status} {body}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

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
