//! A client of a running gateway.

use std::time::Duration;

use registrar_core::{ExposeSecret, SecretString};
use registrar_model::OperationId;
use reqwest::{Method, Url, redirect};
use serde_json::Value;

use crate::{
    args::GatewayArgs,
    failure::{Failure, UNKNOWN},
    output,
};

/// The largest answer.
const MAX_BODY: usize = 16 << 20;

/// A gateway and how to authenticate to it.
#[derive(Debug)]
pub(crate) struct Api {
    base: Url,
    key: Option<SecretString>,
    client: reqwest::Client,
    /// Of the one write of a command.
    idempotency_key: String,
}

/// Why there is no answer.
enum Lost {
    /// Nothing was sent.
    NotSent(Failure),
    /// The gateway may have done it.
    Unanswered(Failure),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotSent(failure) | Lost::Unanswered(failure) => failure,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Null` without a body.
    pub(crate) body: Value,
}

impl GatewayArgs {
    /// The gateway that the command line names, with the API key of the file or of the environment.
    pub(crate) fn api(&self) -> Result<Api, Failure> {
        let key = match &self.api_key_file {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|e| Failure::local(format!("{}: {e}", path.display())))?;
                Some(SecretString::from(text.trim().to_owned()))
            }
            None => std::env::var("REGISTRAR_API_KEY").ok().filter(|k| !k.is_empty()).map(SecretString::from),
        };
        let mut api = Api::new(&self.url, key)?;
        if api.key.is_some() && api.base.scheme() == "http" && !is_loopback(&api.base) && !self.insecure {
            return Err(Failure::local(format!(
                "the API key is not sent over plain http to {}: whoever is on the way can read it; use https, or `--insecure`",
                api.base
            )));
        }
        if let Some(key) = &self.idempotency_key {
            api.idempotency_key.clone_from(key);
        }
        Ok(api)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

impl Api {
    pub(crate) fn new(url: &str, key: Option<SecretString>) -> Result<Self, Failure> {
        let base = Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.host().is_some());
        let base = base.ok_or_else(|| Failure::local(format!("`{url}` is not an http or https URL")))?;
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .user_agent(concat!("registrar-cli/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::local(e.without_url().to_string()))?;
        let idempotency_key = format!("cli-{}", OperationId::generate());
        Ok(Self { base, key, client, idempotency_key })
    }

    /// The items of a list, page by page, at most `limit`; true when there are more.
    ///
    /// # Errors
    /// As [`Api::expect`].
    pub(crate) async fn items(
        &self,
        segments: &[&str],
        filter: &[(&str, String)],
        limit: usize,
    ) -> Result<(Vec<Value>, bool), Failure> {
        let size = limit.clamp(1, 200).to_string();
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        let more = loop {
            let mut query = vec![("limit", size.as_str())];
            query.extend(filter.iter().map(|(k, v)| (*k, v.as_str())));
            query.extend(cursor.as_deref().map(|c| ("cursor", c)));
            let page = self.expect(Method::GET, segments, &query, None, &[]).await?;
            items.extend(page.get("items").and_then(Value::as_array).into_iter().flatten().cloned());
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || items.len() >= limit {
                break cursor.is_some() || items.len() > limit;
            }
        };
        items.truncate(limit);
        Ok((items, more))
    }

    /// One call; any status is an answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
        headers: &[(&str, String)],
    ) -> Result<Answer, Failure> {
        Ok(self.attempt(method, segments, query, body, headers).await?)
    }

    async fn attempt(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
        headers: &[(&str, String)],
    ) -> Result<Answer, Lost> {
        let url = registrar_core::endpoint(&self.base, segments, query).map_err(|e| Lost::NotSent(Failure::of(&e)))?;
        let mut request = self.client.request(method, url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some((media_type, body)) = body {
            request = request.header("content-type", media_type).body(body.to_string());
        }
        let reach = |error: reqwest::Error| {
            let what = if error.is_connect() {
                "cannot be reached"
            } else if error.is_timeout() {
                "did not answer in time"
            } else {
                "failed"
            };
            let failure = Failure::remote(format!(
                "the gateway at {} {what}; is it running? (--url or REGISTRAR_URL)",
                self.base
            ));
            if error.is_connect() { Lost::NotSent(failure) } else { Lost::Unanswered(failure) }
        };
        let mut response = request.send().await.map_err(reach)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reach)? {
            if bytes.len() + chunk.len() > MAX_BODY {
                return Err(Lost::Unanswered(Failure::remote("the gateway's answer is too large")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
        Ok(Answer { status, body })
    }

    /// One call that must succeed.
    ///
    /// # Errors
    /// Also for a problem document.
    pub(crate) async fn expect(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
        headers: &[(&str, String)],
    ) -> Result<Value, Failure> {
        let answer = self.call(method, segments, query, body, headers).await?;
        self.successful(answer)
    }

    /// One write that must succeed, with an Idempotency-Key. It is repeated once with the same key when its answer is lost.
    ///
    /// # Errors
    /// As [`Api::expect`]; with [`UNKNOWN`] when nobody knows whether it was done.
    pub(crate) async fn write(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
        headers: &[(&str, String)],
    ) -> Result<Value, Failure> {
        let key = &self.idempotency_key;
        let mut headers = headers.to_vec();
        headers.push(("idempotency-key", key.clone()));
        let unknown = |failure: Failure| Failure { code: UNKNOWN, ..failure }.of_write(key);
        let answer = match self.attempt(method.clone(), segments, query, body, &headers).await {
            Err(Lost::NotSent(failure)) => return Err(failure),
            Err(Lost::Unanswered(_)) => {
                output::note("the answer was lost; asking again with the same Idempotency-Key");
                let again = self.attempt(method, segments, query, body, &headers).await;
                let again = again.map_err(|lost| unknown(lost.into()))?;
                let is_in_progress = again.body.get("code").and_then(Value::as_str) == Some("idempotency-in-progress");
                if is_in_progress {
                    return Err(unknown(Failure::problem(again.status, &again.body)));
                }
                again
            }
            Ok(answer) => answer,
        };
        self.successful(answer).map_err(|failure| failure.of_write(key))
    }

    fn successful(&self, answer: Answer) -> Result<Value, Failure> {
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        if answer.body.is_object() {
            return Err(Failure::problem(answer.status, &answer.body));
        }
        Err(Failure::remote(format!(
            "{} answered with status {} and no explanation; is it a Registrar gateway?",
            self.base, answer.status
        )))
    }
}

/// A small runtime for one command.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local(e.to_string()))?
        .block_on(work)
}

/// `registrar healthcheck`
pub(crate) fn healthcheck(url: &str) -> Result<(), Failure> {
    let parsed = Url::parse(url).map_err(|_| Failure::local(format!("`{url}` is not a URL")))?;
    let segments: Vec<&str> = parsed.path_segments().into_iter().flatten().filter(|s| !s.is_empty()).collect();
    let mut base = parsed.clone();
    base.set_path("");
    let api = Api::new(base.as_str(), None)?;
    block_on(async { api.expect(Method::GET, &segments, &[], None, &[]).await.map(|_| ()) })
}
