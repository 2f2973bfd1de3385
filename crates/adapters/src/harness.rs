//! For the tests of the folders: an adapter over canned answers or over its fake, without sockets.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use registrar_core::{
    Adapter, ExposeSecret as _, Fake, FakeRequest, Http, Request, Response, Result, SecretString, SettingIssue,
    Settings, Vendor,
};
use registrar_model::{ClientSpec, NewRegistration};
use serde_json::{Value, json};

/// Futures here never wait: one poll ends them.
pub(crate) fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(out) => out,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// A way to a fake, or to answers in order.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    canned: Mutex<Vec<(u16, HeaderMap, Bytes)>>,
    pub(crate) sent: Mutex<Vec<(String, String, Value)>>,
    /// The tokens that requests brought themselves, in the order of `sent`.
    pub(crate) tokens: Mutex<Vec<Option<String>>>,
}

struct ToFake {
    fake: Box<dyn Fake>,
    token: &'static str,
    wire: Arc<Wire>,
}

impl std::fmt::Debug for ToFake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToFake")
    }
}

impl Wire {
    fn record(&self, request: &Request) {
        let body: Option<Value> = request.body.as_ref().and_then(|text| serde_json::from_slice(text).ok());
        if let (Some(text), Some(body)) = (&request.body, &body) {
            assert_eq!(String::from_utf8_lossy(text), body.to_string(), "members of a body are sorted by name");
        }
        let path = request.url[url::Position::BeforePath..].to_owned();
        self.sent.lock().unwrap().push((request.method.to_string(), path, body.unwrap_or_default()));
        self.tokens.lock().unwrap().push(request.bearer.as_ref().map(|own| own.expose_secret().to_owned()));
    }
}

#[async_trait]
impl Http for ToFake {
    async fn send(&self, request: Request) -> Result<Response> {
        self.wire.record(&request);
        let decode = |s: &str| {
            let bytes: Vec<u8> = url::form_urlencoded::parse(format!("x={}", s.replace('+', "%2B")).as_bytes())
                .next()
                .unwrap()
                .1
                .bytes()
                .collect();
            String::from_utf8(bytes).unwrap()
        };
        let token = request.bearer.as_ref().map_or(self.token, |own| own.expose_secret());
        let answer = self.fake.handle(&FakeRequest {
            method: request.method.to_string(),
            path: request.url.path_segments().unwrap().map(decode).collect(),
            query: request.url.query_pairs().into_owned().collect(),
            headers: BTreeMap::from([("authorization".to_owned(), format!("Bearer {token}"))]),
            body: request.body.clone().unwrap_or_default(),
        });
        let mut headers = HeaderMap::new();
        for (name, value) in answer.headers {
            headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        Ok(Response::new(answer.status, headers, answer.body, request.effect).about(request.subject()))
    }
}

#[derive(Debug)]
struct Canned(Arc<Wire>);

#[async_trait]
impl Http for Canned {
    async fn send(&self, request: Request) -> Result<Response> {
        self.0.record(&request);
        let (status, headers, body) = self.0.canned.lock().unwrap().remove(0);
        Ok(Response::new(status, headers, body, request.effect).about(request.subject()))
    }
}

/// What a backend's settings come to: the adapter, or the issues.
pub(crate) fn configure(
    vendor: &Vendor,
    settings: &Value,
    http: Arc<dyn Http>,
) -> std::result::Result<Arc<dyn Adapter>, Vec<SettingIssue>> {
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let mut cursor = Settings::new(settings.as_object().unwrap(), &literal);
    let blueprint = (vendor.configure)(&mut cursor);
    let issues = cursor.finish();
    if issues.is_empty() { Ok((blueprint.unwrap().build)(http)) } else { Err(issues) }
}

pub(crate) fn settings() -> Value {
    json!({ "base_url": "https://vendor.example", "token": "t" })
}

/// An adapter over its fake, with settings of its own.
pub(crate) fn over_fake(
    vendor: &Vendor,
    fake: impl Fake + 'static,
    token: &'static str,
    more: Value,
) -> (Arc<dyn Adapter>, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let mut all = settings();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let http = ToFake { fake: Box::new(fake), token, wire: Arc::clone(&wire) };
    (configure(vendor, &all, Arc::new(http)).unwrap(), wire)
}

/// An adapter over answers in order: `(status, body)`.
pub(crate) fn over_answers(vendor: &Vendor, answers: &[(u16, &str)]) -> (Arc<dyn Adapter>, Arc<Wire>) {
    over_answers_with(vendor, answers, &settings())
}

/// [`over_answers`] with settings of its own.
pub(crate) fn over_answers_with(
    vendor: &Vendor,
    answers: &[(u16, &str)],
    settings: &Value,
) -> (Arc<dyn Adapter>, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    *wire.canned.lock().unwrap() =
        answers.iter().map(|(s, b)| (*s, HeaderMap::new(), Bytes::from((*b).to_owned()))).collect();
    let adapter = configure(vendor, settings, Arc::new(Canned(Arc::clone(&wire)))).unwrap();
    (adapter, wire)
}

/// A spec as the API would read it.
pub(crate) fn spec(body: Value) -> ClientSpec {
    NewRegistration::decode(&body).unwrap_or_else(|i| panic!("{i:?}")).spec
}

/// Ordinary client metadata.
pub(crate) fn portal() -> ClientSpec {
    spec(
        json!({ "metadata": { "client_name": "Portal", "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" } }),
    )
}

/// The loss of a field.
pub(crate) fn loss<'l>(losses: &'l [registrar_model::Loss], field: &str) -> &'l registrar_model::Loss {
    losses.iter().find(|l| l.field == field).unwrap_or_else(|| panic!("no loss of {field} in {losses:?}"))
}
