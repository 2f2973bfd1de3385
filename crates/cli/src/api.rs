//! A client of a running gateway.

use std::time::Duration;

use registrar_core::{ExposeSecret, SecretString};
use registrar_model::OperationId;
use reqwest::{Method, Url, redirect};
use serde_json::Value;

use crate::{args::GatewayArgs, failure::Failure};

/// The largest answer.
const MAX_BODY: usize = 16 << 20;
/// How often a write asks again while the first request with its key is still at work, and how long it waits each time.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// A write as it is sent.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) method: Method,
    pub(crate) segments: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// Media type and document.
    pub(crate) body: Option<(&'a str, &'a Value)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The caller's own `Idempotency-Key`; a new one is made when absent.
    pub(crate) key: Option<&'a str>,
}

/// Why there is no answer.
enum Silence {
    /// Nothing was sent.
    Unreached(Failure),
    /// The request was sent, and the answer was lost.
    Lost(Failure),
}

impl From<Silence> for Failure {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Unreached(failure) | Silence::Lost(failure) => failure,
        }
    }
}

/// A gateway and how to authenticate to it.
#[derive(Debug)]
pub(crate) struct Api {
    base: Url,
    key: Option<SecretString>,
    client: reqwest::Client,
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
        let api = Api::new(&self.url, key)?;
        if api.key.is_some() && api.base.scheme() == "http" && !is_loopback(&api.base) && !self.insecure {
            return Err(Failure::local(format!(
                "the API key is not sent over plain http to {}: whoever is on the way can read it; use https, or `--insecure`",
                api.base
            )));
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
        Ok(Self { base, key, client })
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
        Ok(self.ask(method, segments, query, body, headers).await?)
    }

    async fn ask(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<(&str, &Value)>,
        headers: &[(&str, String)],
    ) -> Result<Answer, Silence> {
        let unsendable = |error: registrar_core::Error| Silence::Unreached(Failure::of(&error));
        let url = registrar_core::endpoint(&self.base, segments, query).map_err(unsendable)?;
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
            let failed = |what: &str| Failure::remote(format!("the gateway at {} {what}", self.base));
            if error.is_connect() {
                Silence::Unreached(failed("cannot be reached; is it running? (--url or REGISTRAR_URL)"))
            } else if error.is_builder() {
                Silence::Unreached(failed("was not asked: the request cannot be sent"))
            } else if error.is_timeout() {
                Silence::Lost(failed("did not answer in time"))
            } else {
                Silence::Lost(failed("ended the connection before its answer was complete"))
            }
        };
        let mut response = request.send().await.map_err(reach)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reach)? {
            if bytes.len() + chunk.len() > MAX_BODY {
                return Err(Silence::Lost(Failure::remote("the gateway's answer is too large")));
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
        self.succeeded(answer)
    }

    /// One write that must succeed. It carries an `Idempotency-Key`, so that it stays one write when its answer is lost
    /// and it is repeated, which happens once.
    ///
    /// # Errors
    /// As [`Api::expect`]. Where nobody knows whether the write was done, the exit code is 6 and the text has the key.
    pub(crate) async fn write(&self, write: Write<'_>) -> Result<Value, Failure> {
        let key =
            write.key.map_or_else(|| OperationId::generate().to_string().replacen("op_", "cli_", 1), str::to_owned);
        let mut headers = write.headers;
        headers.push(("idempotency-key", key.clone()));
        let send = || self.ask(write.method.clone(), write.segments, write.query, write.body, &headers);
        let mut answer = send().await;
        if matches!(answer, Err(Silence::Lost(_))) {
            // a request that cannot be sent now says nothing about the first
            answer = send().await.map_err(|silence| Silence::Lost(silence.into()));
        }
        let in_progress = |answer: &Answer| text(&answer.body, "code") == Some("idempotency-in-progress");
        for _ in 0..LOOKS {
            if !answer.as_ref().is_ok_and(in_progress) {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
            answer = send().await.map_err(|silence| Silence::Lost(silence.into()));
        }
        match answer {
            Ok(answer) => {
                let undecided = in_progress(&answer) || text(&answer.body, "outcome") == Some("unknown");
                self.succeeded(answer).map_err(|failure| if undecided { failure.unknown(&key) } else { failure })
            }
            Err(Silence::Unreached(failure)) => Err(failure),
            Err(Silence::Lost(failure)) => Err(failure.unknown(&key)),
        }
    }

    fn succeeded(&self, answer: Answer) -> Result<Value, Failure> {
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

fn text<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str)
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
