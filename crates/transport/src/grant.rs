//! One token request of the client credentials grant (RFC 6749 §4.4).

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use registrar_core::{
    ClientCredentials, Effect, Error, ErrorKind, ExposeSecret, Response, Result, SecretString, Secrets, TokenForm,
    VendorDetail,
};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::{auth::bearer, secret::Current, send::exchange};

/// Bytes of a token answer; a large JWT has 8 KiB.
const MAX_ANSWER: usize = 64 << 10;
/// What a token without a usable lifetime gets.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// Longer lifetimes are not believed; also keeps `Instant` from overflowing.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const GRANT: &str = "client_credentials";

/// How the client authenticates: not known yet, in `Authorization`, or in the body.
const UNKNOWN: u8 = 0;
const BASIC: u8 = 1;
const POST: u8 = 2;

/// The grant of one backend.
pub(crate) struct Grant {
    grant: ClientCredentials,
    secret: Current<ClientSecret>,
    /// What the token endpoint took.
    method: AtomicU8,
}

/// A client secret that can be compared with another one.
#[derive(Clone)]
struct ClientSecret(SecretString);

impl ClientSecret {
    fn of(text: &str) -> Self {
        Self(SecretString::from(text.to_owned()))
    }
}

impl PartialEq for ClientSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// A token, as it was issued.
pub(crate) struct Issued {
    pub(crate) authorization: HeaderValue,
    /// The token and the client secret that it was bought with.
    pub(crate) secrets: Secrets,
    pub(crate) lifetime: Duration,
}

impl Grant {
    pub(crate) fn new(grant: ClientCredentials) -> Self {
        let first = ClientSecret::of(grant.client_secret.expose_secret());
        let secret = Current::new(grant.client_secret.clone(), first, |text| Some(ClientSecret::of(text)));
        Self { grant, secret, method: AtomicU8::new(UNKNOWN) }
    }

    /// No answer may repeat the client secret.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::of(self.secret.get().0.expose_secret())
    }

    /// Whether the secret's file holds another one now.
    pub(crate) async fn is_replaced(&self) -> bool {
        self.secret.instead_of(&self.secret.get()).await.is_some()
    }

    /// Every error means that the caller's request was not sent.
    pub(crate) async fn request(&self, client: &Client, deadline: Instant) -> Result<Issued> {
        let secret = self.secret.get();
        let answer = self.ask(client, &secret, deadline).await?;
        if is_refused(&answer)
            && let Some(secret) = self.secret.instead_of(&secret).await
        {
            return self.read(&self.ask(client, &secret, deadline).await?, &secret);
        }
        self.read(&answer, &secret)
    }

    fn read(&self, answer: &Response, secret: &ClientSecret) -> Result<Issued> {
        let mut secrets = Secrets::of(secret.0.expose_secret());
        secrets.add(&basic(&self.grant.client_id, secret.0.expose_secret()));
        read_answer(answer, &secrets)
    }

    /// RFC 6749 §2.3.1: servers must support Basic for clients with a secret, and may support the body. Those that refuse
    /// the client in one way are asked in the other one, until one has worked.
    async fn ask(&self, client: &Client, secret: &ClientSecret, deadline: Instant) -> Result<Response> {
        let known = match self.grant.form {
            TokenForm::Json => return self.send(client, self.json(secret)?, deadline).await,
            TokenForm::Standard => self.method.load(Ordering::Relaxed),
        };
        let first = if known == POST { POST } else { BASIC };
        let answer = self.send(client, self.form(secret, first), deadline).await?;
        if answer.is_success() {
            self.method.store(first, Ordering::Relaxed);
        }
        if known != UNKNOWN || !is_unauthenticated(&answer) {
            return Ok(answer);
        }
        let other = self.send(client, self.form(secret, POST), deadline).await?;
        if !other.is_success() {
            return Ok(answer);
        }
        self.method.store(POST, Ordering::Relaxed);
        Ok(other)
    }

    async fn send(
        &self,
        client: &Client,
        (request, body): (reqwest::Request, Bytes),
        deadline: Instant,
    ) -> Result<Response> {
        // for the caller's request, whatever happens here is "not performed"; asking for a token twice does no harm
        exchange(client, request, Some(body), Effect::Read, MAX_ANSWER, deadline).await.map_err(|fault| {
            let error = no_token(fault.error.kind(), fault.error.detail());
            if fault.error.is_retryable() { error } else { error.never_retryable() }
        })
    }

    fn json(&self, secret: &ClientSecret) -> Result<(reqwest::Request, Bytes)> {
        let body = serde_json::to_vec(&JsonRequest {
            grant_type: GRANT,
            audience: self.grant.audience.as_deref(),
            scope: self.grant.scope.as_deref(),
            client_id: &self.grant.client_id,
            client_secret: secret.0.expose_secret(),
        })
        .map_err(|_| Error::new(ErrorKind::Internal, "the token request could not be written; nothing was sent"))?;
        Ok((reqwest::Request::new(Method::POST, self.grant.token_url.clone()), Bytes::from(body)))
    }

    fn form(&self, secret: &ClientSecret, method: u8) -> (reqwest::Request, Bytes) {
        let (id, secret) = (self.grant.client_id.as_str(), secret.0.expose_secret());
        let mut request = reqwest::Request::new(Method::POST, self.grant.token_url.clone());
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", GRANT);
        for (name, value) in [("scope", &self.grant.scope), ("audience", &self.grant.audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        if method == POST {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
        } else if let Ok(mut value) = HeaderValue::try_from(format!("Basic {}", basic(id, secret))) {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        (request, Bytes::from(form.finish()))
    }
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they are put together.
fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    STANDARD.encode(format!("{}:{}", encode(id), encode(secret)))
}

#[derive(Serialize)]
struct JsonRequest<'a> {
    grant_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
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

/// RFC 6749 §5.2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

fn refusal(response: &Response) -> Refusal {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// The client, or what it asks for.
fn is_refused(response: &Response) -> bool {
    matches!(response.status, 400 | 401 | 403)
}

/// The client did not prove itself, as far as the token endpoint could see.
fn is_unauthenticated(response: &Response) -> bool {
    match response.status {
        401 => true,
        400 => matches!(refusal(response).error.as_deref(), Some("invalid_client" | "invalid_request")),
        _ => false,
    }
}

fn no_token(kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, format!("no access token from the token endpoint, so that the request was not sent: {why}"))
}

fn read_answer(response: &Response, secrets: &Secrets) -> Result<Issued> {
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
            ErrorKind::UpstreamAuthentication => error.with_advice(
                "check `client_id`, `client_secret`, `scope` and `audience` in the backend's settings, as far as they are set",
            ),
            ErrorKind::UpstreamRejected => error.with_advice("check `token_url` in the backend's settings"),
            _ => error,
        };
        let said = refusal(response);
        let hidden = |text: Option<String>| text.map(|text| secrets.hide(&text).into_owned());
        return Err(error.with_retry_after(response.retry_after()).with_vendor(VendorDetail {
            status: Some(response.status),
            code: hidden(said.error),
            message: hidden(said.error_description),
            request_id: None,
        }));
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
    let mut secrets = secrets.clone();
    secrets.add(&answer.access_token);
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
            let issued = read_answer(&answer(200, &format!(r#"{{"access_token":"t"{members}}}"#)), &Secrets::default())
                .ok()
                .unwrap();
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
            let error = read_answer(&answer(status, body), &Secrets::default()).err().unwrap();
            assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotPerformed), "{status} {body}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn a_refusal_is_in_the_token_endpoints_own_words_without_secrets() {
        let secrets = Secrets::of("canary-secret");
        let body = r#"{"error":"invalid_client","error_description":"Bad secret canary-secret"}"#;
        let error = read_answer(&answer(401, body), &secrets).err().unwrap();
        let vendor = error.vendor().unwrap();
        assert_eq!(vendor.code.as_deref(), Some("invalid_client"));
        assert_eq!(vendor.message.as_deref(), Some("Bad secret [redacted]"));
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }

    #[test]
    fn basic_is_made_of_the_form_encoded_parts() {
        let decoded = STANDARD.decode(basic("a:b", "p w+%ü")).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "a%3Ab:p+w%2B%25%C3%BC");
    }
}
