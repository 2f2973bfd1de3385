//! Sending one request and reading its whole answer, by a deadline and under a cap.

use std::{sync::Arc, time::SystemTime};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use registrar_core::{Effect, ExposeSecret as _, Response};
use reqwest::Client;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::{
    BackendOptions,
    fault::{self, Fault},
    retry_after,
    stack::{Authorised, Call},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The adapters' word for a call whose answer holds many clients.
const LIST: &str = "list";

/// Sends to one backend.
pub(crate) struct Sender {
    client: Client,
    base_url: Url,
    max_body: usize,
    max_list_body: usize,
}

impl Sender {
    pub(crate) fn new(client: &Client, options: &BackendOptions) -> Self {
        Self {
            client: client.clone(),
            base_url: options.base_url.clone(),
            max_body: options.max_body,
            max_list_body: options.max_list_body,
        }
    }

    pub(crate) async fn send(&self, authorised: Authorised) -> Result<Response, Fault> {
        let Authorised { call: Call { request, deadline, .. }, authorization } = authorised;
        let request = Arc::unwrap_or_clone(request);
        if !same_origin(&self.base_url, &request.url) {
            let refusal = "a request to another origin than the backend's own was refused; nothing was sent";
            return Err(fault::defect(refusal));
        }
        if Instant::now() >= deadline {
            return Err(fault::too_late());
        }
        let cap = if request.operation == LIST { self.max_list_body } else { self.max_body };
        let (subject, own) = (request.subject(), request.bearer);
        let mut outgoing = reqwest::Request::new(request.method, request.url);
        if let Some(authorization) = authorization {
            outgoing.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let answer = exchange(&self.client, outgoing, request.body, request.effect, cap, deadline).await?;
        let mut answer = answer.about(subject);
        if let Some(own) = own {
            answer.secrets.add(own.expose_secret());
        }
        Ok(answer)
    }
}

/// Scheme, host and port. A user name or password in the URL would become another `Authorization`.
fn same_origin(base: &Url, url: &Url) -> bool {
    url.scheme() == base.scheme()
        && url.host_str() == base.host_str()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
}

/// Sends a request with a body, if any, which is JSON unless the request says otherwise, and reads the answer: at most `cap` bytes, by the deadline.
pub(crate) async fn exchange(
    client: &Client,
    mut request: reqwest::Request,
    body: Option<Bytes>,
    effect: Effect,
    cap: usize,
    deadline: Instant,
) -> Result<Response, Fault> {
    request.headers_mut().insert(ACCEPT, JSON);
    if let Some(body) = body {
        request.headers_mut().entry(CONTENT_TYPE).or_insert(JSON);
        *request.body_mut() = Some(body.into());
    }
    // what was known when the deadline struck
    let mut status = None;
    let answer = async {
        let mut response = client.execute(request).await.map_err(|error| fault::unanswered(error, effect))?;
        status = Some(response.status());
        let body = read(&mut response, effect, cap).await?;
        let status = response.status();
        let mut headers = std::mem::take(response.headers_mut());
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            normalise_retry_after(&mut headers);
        }
        Ok(Response::new(status.as_u16(), headers, body, effect))
    };
    let ended = timeout_at(deadline, answer).await;
    ended.unwrap_or_else(|_| Err(fault::timed_out(effect, status)))
}

/// Reads the body frame by frame, counting.
async fn read(response: &mut reqwest::Response, effect: Effect, cap: usize) -> Result<Bytes, Fault> {
    let status = response.status();
    if response.content_length().is_some_and(|length| length > cap as u64) {
        return Err(fault::too_large(effect, status, cap));
    }
    // one frame is the usual case and needs no copy
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = response.chunk().await.map_err(|_| fault::truncated(effect, status))? {
        if whole.len().max(joined.len()) + frame.len() > cap {
            return Err(fault::too_large(effect, status, cap));
        }
        if whole.is_empty() && joined.is_empty() {
            whole = frame;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&frame);
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}

/// Puts seconds in the place of an HTTP date, so that [`Response::retry_after`] sees it.
fn normalise_retry_after(headers: &mut HeaderMap) {
    let Some(wait) = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| parse_by_vendor_clock(value, headers))
    else {
        return;
    };
    headers.insert(RETRY_AFTER, HeaderValue::from(wait));
}

/// Whole seconds, rounded up. The date is the vendor's, so it is compared with the vendor's own `Date` where there is
/// one: the difference between the two clocks does not matter then (reliability F24).
fn parse_by_vendor_clock(value: &str, headers: &HeaderMap) -> Option<u64> {
    let now = headers
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or_else(SystemTime::now);
    let wait = retry_after::parse_retry_after(value, now)?;
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use registrar_core::{ErrorKind, Outcome};

    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let url = |text: &str| Url::parse(text).unwrap();
        let base = url("https://v.example/prefix");
        for same in ["https://v.example/other", "https://V.EXAMPLE:443/x?y#z"] {
            assert!(same_origin(&base, &url(same)), "{same}");
        }
        for other in [
            "http://v.example/prefix",
            "https://v.example:444/prefix",
            "https://v.example./prefix",
            "https://w.example/prefix",
            "https://v.example.evil.example/prefix",
            "https://user@v.example/prefix",
            "https://:pass@v.example/prefix",
        ] {
            assert!(!same_origin(&base, &url(other)), "{other}");
        }
    }

    #[test]
    fn retry_dates_are_read_by_the_vendors_clock() {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        headers.insert("retry-after", HeaderValue::from_static("Sun, 06 Nov 1994 08:50:07 GMT"));
        normalise_retry_after(&mut headers);
        assert_eq!(headers["retry-after"], "30");
        headers.insert("retry-after", HeaderValue::from_static("soon"));
        normalise_retry_after(&mut headers);
        assert_eq!(headers["retry-after"], "soon", "garbage is left for the adapter to ignore");
    }

    #[tokio::test]
    async fn what_is_too_late_is_not_sent_and_not_unknown() {
        let base_url: Url = "http://127.0.0.1:1/".parse().unwrap();
        let client = Client::builder().build().unwrap();
        let sender = Sender { client, base_url: base_url.clone(), max_body: 1, max_list_body: 1 };
        let request = Arc::new(registrar_core::Request::new(http::Method::POST, base_url, Effect::Once, "create"));
        let now = Instant::now();
        let call = Call { request, deadline: now, start_by: now };
        let authorised = Authorised { call, authorization: Some(HeaderValue::from_static("Bearer t")) };
        let error = sender.send(authorised).await.unwrap_err().error;
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::UpstreamTimeout, Outcome::NotPerformed));
    }
}
