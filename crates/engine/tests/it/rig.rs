//! A store and a way to a simulated vendor that do something else than usual when they are told to.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use registrar_core::{
    Error, ErrorKind, ExposeSecret as _, Fake, FakeRequest, Http, Outcome, Request, Response, Result, SecretString,
    Settings, VendorDetail,
};
use registrar_engine::{
    AlwaysOpen, Caller, Connect, ConnectOptions, Connection, Engine, EngineOptions, Gate, Idempotency, OnLoss,
    config::{BackendConfig, RouteConfig},
    dcr::{Access, RegistrationConfig, RouteRegistration},
};
use registrar_model::{BackendName, ClientId, NewRegistration, OperationId, Registration, RegistrationId};
use registrar_store::{
    ApiKey, Begun, InitialAccessToken, Intent, KeyUse, MemoryStore, Operation, OperationState, OperationUpdate, PageOf,
    PageRequest, RegistrationChange, RegistrationFilter, Sealed, Store, StoreError, Unused, Usage,
};
use serde_json::{Value, json};

/// Something that happens in the middle of a call.
pub(crate) type Meanwhile<T> = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>> + Send>;

/// What happens at the next calls, in order; afterwards everything is as usual.
struct Script<T>(Mutex<VecDeque<Meanwhile<T>>>);

impl<T> Default for Script<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Script<T> {
    fn next(&self) -> Option<Meanwhile<T>> {
        self.0.lock().unwrap().pop_front()
    }

    fn push(&self, step: Meanwhile<T>) {
        self.0.lock().unwrap().push_back(step);
    }
}

/// One gateway's view of a store that it may share with others.
pub(crate) struct Faulty {
    pub(crate) inner: Arc<MemoryStore>,
    begins: Script<Option<StoreError>>,
    finishes: Script<Option<StoreError>>,
    finished: AtomicUsize,
    recorded: Script<Option<StoreError>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

/// A step that comes to nothing but this.
pub(crate) fn just<T: Send + 'static>(value: T) -> Meanwhile<T> {
    Box::new(move || Box::pin(async move { value }))
}

impl Faulty {
    pub(crate) fn over(inner: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            begins: Script::default(),
            finishes: Script::default(),
            finished: AtomicUsize::new(0),
            recorded: Script::default(),
        })
    }

    /// How many results this gateway has tried to record.
    pub(crate) fn tries(&self) -> usize {
        self.finished.load(Ordering::Relaxed)
    }

    /// The next intent fails with what this says, and is not recorded.
    pub(crate) fn at_begin(&self, step: Meanwhile<Option<StoreError>>) {
        self.begins.push(step);
    }

    /// The next result is recorded, and this is what the gateway hears of it.
    pub(crate) fn after_finish(&self, step: Meanwhile<Option<StoreError>>) {
        self.recorded.push(step);
    }

    /// The next result fails with what this says, and is not recorded.
    pub(crate) fn at_finish(&self, step: Meanwhile<Option<StoreError>>) {
        self.finishes.push(step);
    }
}

macro_rules! as_usual {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        #[async_trait]
        impl Store for Faulty {
            async fn begin(&self, intent: Intent) -> Result<Begun, StoreError> {
                match self.begins.next() {
                    Some(step) => match step().await {
                        Some(error) => Err(error),
                        None => self.inner.begin(intent).await,
                    },
                    None => self.inner.begin(intent).await,
                }
            }

            async fn finish(
                &self,
                update: Arc<OperationUpdate>,
                change: Option<RegistrationChange>,
            ) -> Result<(), StoreError> {
                self.finished.fetch_add(1, Ordering::Relaxed);
                match self.finishes.next() {
                    Some(step) => match step().await {
                        Some(error) => Err(error),
                        None => self.inner.finish(update, change).await,
                    },
                    None => {
                        let done = self.inner.finish(update, change).await;
                        match self.recorded.next() {
                            Some(step) => step().await.map_or(done, Err),
                            None => done,
                        }
                    }
                }
            }

            async fn close(&self) {
                self.inner.close().await;
            }

            $(async fn $name(&self, $($arg: $type),*) -> Result<$out, StoreError> {
                self.inner.$name($($arg),*).await
            })+
        }
    };
}

as_usual! {
    amend(update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> ();
    key_use(key: &[u8; 32], since: i64) -> Option<KeyUse>;
    claim(owner: &str, now: i64, until: i64, limit: u32) -> Vec<Operation>;
    sealed(id: OperationId, now: i64) -> Option<Sealed>;
    destroy_sealed(id: OperationId) -> bool;
    purge(now: i64, keys_before: i64) -> ();
    once(name: &'static str, proposed: Vec<u8>) -> Vec<u8>;
    registration(id: RegistrationId) -> Option<Registration>;
    registered(backend: &BackendName, client_id: &ClientId) -> Option<RegistrationId>;
    registrations(filter: &RegistrationFilter, page: PageRequest) -> PageOf<Registration>;
    open_clients(route: &str) -> u64;
    used(id: RegistrationId, now: i64) -> Usage;
    unused(until: i64, after: Option<Unused>, limit: u32) -> Vec<Unused>;
    operation(id: OperationId) -> Option<Operation>;
    operations(state: Option<OperationState>, page: PageRequest) -> PageOf<Operation>;
    put_api_key(key: ApiKey) -> ();
    api_key(id: &str) -> Option<ApiKey>;
    api_keys() -> Vec<ApiKey>;
    delete_api_key(name: &str) -> bool;
    put_initial_access_token(token: InitialAccessToken) -> ();
    initial_access_token(id: &str) -> Option<InitialAccessToken>;
    initial_access_tokens() -> Vec<InitialAccessToken>;
    delete_initial_access_token(id: &str) -> bool;
    ping() -> ();
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Arrives,
    Lost,
    /// The vendor has not done it, and asks to come back later.
    Refused,
}

/// A simulated vendor, and what happens between its work and its answer.
pub(crate) struct Line {
    pub(crate) fake: Arc<dyn Fake>,
    token: String,
    reads: AtomicUsize,
    requests: Script<Answer>,
    answers: Script<Answer>,
    /// In front of the vendor: what answers in its place.
    front: Mutex<Option<Front>>,
    /// Behind it: what becomes of the body of its answer.
    echo: Mutex<Option<Echo>>,
    sent: Mutex<Vec<(String, String)>>,
    skew: Mutex<Option<i64>>,
}

/// Answers a request (method, path) with this status and text, or lets the vendor answer.
pub(crate) type Front = Box<dyn Fn(&str, &str) -> Option<(u16, &'static str)> + Send>;
/// Changes the JSON body of an answer to a request with this method.
pub(crate) type Echo = Box<dyn Fn(&str, &mut Value) + Send>;

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl Line {
    /// How many reads the vendor was sent.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// What the way has learnt of the vendor's clock.
    pub(crate) fn clock(&self, skew: Option<i64>) {
        *self.skew.lock().unwrap() = skew;
    }

    /// From now on this answers first.
    pub(crate) fn in_front(&self, front: impl Fn(&str, &str) -> Option<(u16, &'static str)> + Send + 'static) {
        *self.front.lock().unwrap() = Some(Box::new(front));
    }

    /// From now on the vendor answers itself.
    pub(crate) fn clear(&self) {
        *self.front.lock().unwrap() = None;
    }

    /// From now on this changes every answer of the vendor.
    pub(crate) fn echoes(&self, echo: impl Fn(&str, &mut Value) + Send + 'static) {
        *self.echo.lock().unwrap() = Some(Box::new(echo));
    }

    /// The requests so far, as method and path.
    pub(crate) fn sent(&self) -> Vec<(String, String)> {
        self.sent.lock().unwrap().clone()
    }

    /// Before the next write arrives at the vendor, this happens.
    pub(crate) fn before_write(&self, step: Meanwhile<Answer>) {
        self.requests.push(step);
    }

    /// The vendor's next write is done, and then this happens.
    pub(crate) fn after_write(&self, step: Meanwhile<Answer>) {
        self.answers.push(step);
    }
}

#[async_trait]
impl Http for Line {
    async fn send(&self, request: Request) -> Result<Response> {
        let is_write = request.method != http::Method::GET;
        self.reads.fetch_add(usize::from(!is_write), Ordering::Relaxed);
        if is_write
            && let Some(step) = self.requests.next()
            && step().await == Answer::Refused
        {
            let (headers, body) = (http::HeaderMap::new(), Bytes::new());
            return Ok(Response::new(429, headers, body, request.effect).about(request.subject()));
        }
        let (method, path) = (request.method.as_str(), request.url.path());
        self.sent.lock().unwrap().push((method.to_owned(), path.to_owned()));
        if let Some((status, text)) = self.front.lock().unwrap().as_ref().and_then(|front| front(method, path)) {
            let (headers, body) = (http::HeaderMap::new(), Bytes::from_static(text.as_bytes()));
            return Ok(Response::new(status, headers, body, request.effect).about(request.subject()));
        }
        let token = request.bearer.as_ref().map_or(self.token.as_str(), |own| own.expose_secret());
        let answer = self.fake.handle(&FakeRequest {
            method: request.method.to_string(),
            path: request.url.path_segments().unwrap().map(str::to_owned).collect(),
            query: request.url.query_pairs().into_owned().collect(),
            headers: BTreeMap::from([("authorization".to_owned(), format!("Bearer {token}"))]),
            body: request.body.clone().unwrap_or_default(),
        });
        if is_write
            && let Some(step) = self.answers.next()
            && step().await == Answer::Lost
        {
            let outcome = request.effect.outcome_if_unanswered();
            return Err(Error::new(ErrorKind::OutcomeUnknown, "cut off").with_outcome(outcome));
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in answer.headers {
            headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let mut body = answer.body;
        if let Some(echo) = self.echo.lock().unwrap().as_ref()
            && let Ok(mut value) = serde_json::from_slice::<Value>(&body)
        {
            echo(method, &mut value);
            body = Bytes::from(value.to_string());
        }
        Ok(Response::new(answer.status, headers, body, request.effect).about(request.subject()))
    }
}

/// A gate that is always open and knows the vendor's clock.
struct Clock(Arc<Line>);

impl Gate for Clock {
    fn admits_writes(&self) -> Result<()> {
        AlwaysOpen.admits_writes()
    }

    fn wants_probe(&self) -> bool {
        AlwaysOpen.wants_probe()
    }

    fn skew(&self) -> Option<i64> {
        *self.0.skew.lock().unwrap()
    }
}

struct To(Arc<Line>);

impl Connect for To {
    fn connect(&self, _options: ConnectOptions) -> Result<Connection, String> {
        let http: Arc<dyn Http> = Arc::<Line>::clone(&self.0);
        Ok(Connection { http, health: Arc::new(|| json!({})), gate: Arc::new(Clock(Arc::clone(&self.0))) })
    }
}

/// A line to a new vendor of this kind.
pub(crate) fn vendor(kind: &str) -> Arc<Line> {
    let fake = registrar_adapters::fakes().into_iter().find(|fake| fake.kind() == kind).unwrap();
    line_to(fake)
}

/// Another line to the same vendor.
pub(crate) fn line_to(fake: Arc<dyn Fake>) -> Arc<Line> {
    let settings = fake.settings("https://vendor.example");
    // where the vendor has tokens of its own making, this one is accepted beside them
    let token = settings["token"].as_str().unwrap_or("fake-loginradius-admin-token").to_owned();
    Arc::new(Line {
        fake,
        token,
        reads: AtomicUsize::new(0),
        requests: Script::default(),
        answers: Script::default(),
        front: Mutex::default(),
        echo: Mutex::default(),
        sent: Mutex::default(),
        skew: Mutex::new(Some(0)),
    })
}

/// A gateway over this store, with one backend that is named after its kind.
pub(crate) fn gateway(store: &Arc<Faulty>, line: &Arc<Line>) -> Arc<Engine> {
    let registration = RegistrationConfig { access: Access::Open, rotate: true, ..RegistrationConfig::default() };
    gateway_with(store, line, registration)
}

/// The same with other terms for registration at its one route, `all`.
pub(crate) fn gateway_with(store: &Arc<Faulty>, line: &Arc<Line>, registration: RegistrationConfig) -> Arc<Engine> {
    // what a simulated vendor has done is seen at once
    gateway_over(store, line, registration, Duration::ZERO)
}

/// The same in front of a vendor that may need this long to show what it has done.
pub(crate) fn gateway_over(
    store: &Arc<Faulty>,
    line: &Arc<Line>,
    registration: RegistrationConfig,
    visibility_grace: Duration,
) -> Arc<Engine> {
    let kind = line.fake.kind();
    let vendor = registrar_adapters::vendor(kind).unwrap();
    let settings = line.fake.settings("https://vendor.example");
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let mut cursor = Settings::new(settings.as_object().unwrap(), &literal);
    let blueprint = (vendor.configure)(&mut cursor).unwrap();
    let backend = BackendConfig {
        name: kind.parse().unwrap(),
        vendor,
        enabled: true,
        on_loss: OnLoss::default(),
        timeout: Duration::from_secs(5),
        max_in_flight: 8,
        rate_limit: None,
        not_processed: Vec::new(),
        visibility_grace,
        blueprint,
    };
    let store: Arc<dyn Store> = Arc::<Faulty>::clone(store);
    let vendors = registrar_adapters::VENDORS;
    let route = RouteConfig {
        name: "all".to_owned(),
        when: None,
        backend: kind.parse().unwrap(),
        on_loss: None,
        registration: RouteRegistration::default(),
    };
    let engine = Engine::new(store, vendors, vec![backend], vec![route], &To(Arc::clone(line))).unwrap();
    Arc::new(engine.with_options(EngineOptions { registration, ..EngineOptions::default() }))
}

/// Another process on the same store and in front of the same vendor takes over what is open, and looks into it for as
/// long as that settles anything.
pub(crate) async fn taken_over(inner: &Arc<MemoryStore>, fake: &Arc<dyn Fake>) {
    let other = gateway(&Faulty::over(inner), &line_to(Arc::clone(fake)));
    other.recover().await.unwrap();
    for _ in 0..3 {
        other.reconcile().await.unwrap();
    }
}

pub(crate) fn caller(key: Option<&str>) -> Caller {
    Caller {
        principal: "test".into(),
        request_id: "".into(),
        // as long as one must be that brings back what an open registration was given
        idempotency: key.map(|key| {
            let key = format!("{key}-8e03978e40d543e8bc936894a57f9324");
            Idempotency::sent("test", &key, b"the request").unwrap()
        }),
    }
}

/// A registration, whose client is called so.
pub(crate) fn request(kind: &str, name: &str) -> NewRegistration {
    let metadata = json!({ "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" });
    NewRegistration::decode(&json!({ "backend": kind, "metadata": metadata })).unwrap()
}

/// Every operation in a state.
pub(crate) async fn operations(store: &Arc<MemoryStore>, state: OperationState) -> Vec<Operation> {
    store.operations(Some(state), PageRequest { limit: 200, after: None }).await.unwrap().items
}

pub(crate) fn needs_a_person(operation: &Operation) -> bool {
    operation.state == OperationState::Unknown && operation.evidence["needs"] == json!("a person")
}

/// The status of the vendor's answer behind an error.
pub(crate) fn status(vendor: Option<&VendorDetail>) -> Option<u16> {
    vendor.and_then(|detail| detail.status)
}

/// The `client_id`s that the vendor has.
pub(crate) fn at(line: &Line) -> Vec<String> {
    line.fake.clients().iter().map(|c: &Value| c["client_id"].as_str().unwrap().to_owned()).collect()
}

pub(crate) const NOT_PERFORMED: Outcome = Outcome::NotPerformed;

/// The intent to change a client.
pub(crate) fn pending(registration: RegistrationId) -> Operation {
    Operation {
        id: OperationId::generate(),
        action: registrar_store::Action::Update,
        backend: "any".to_owned(),
        registration: Some(registration),
        state: OperationState::Pending,
        outcome: Outcome::Unknown,
        summary: "".into(),
        created_at: 0,
        updated_at: 0,
        attempts: 1,
        evidence: json!({}),
        request_id: "".into(),
        principal: "".into(),
        desired: None,
        lease: registrar_store::Lease::default(),
    }
}

/// Another record of a client, one version up.
pub(crate) async fn put(store: &Arc<MemoryStore>, registration: Registration) {
    let operation = pending(registration.id);
    let (state, outcome) = (OperationState::Succeeded, Outcome::Performed);
    let update = OperationUpdate::of(&operation, state, outcome, "", 0);
    store.begin(Intent { operation: operation.into(), key: None, spend: None }).await.unwrap();
    let expected_version = registration.version - 1;
    let change = RegistrationChange::Update { registration: Arc::new(registration), expected_version };
    store.finish(update.into(), Some(change)).await.unwrap();
}

/// A server that does not replace the tokens of its clients: it takes every token for the client's own.
struct StableToken(Arc<dyn Fake>);

impl Fake for StableToken {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn handle(&self, request: &FakeRequest) -> registrar_core::FakeResponse {
        let mut request = request.clone();
        if let Some(client) =
            self.clients().into_iter().find(|c| c["client_id"].as_str() == request.path.last().map(String::as_str))
        {
            let own = format!("Bearer {}", client["_token"].as_str().unwrap());
            request.headers.insert("authorization".to_owned(), own);
        }
        self.0.handle(&request)
    }

    fn settings(&self, base_url: &str) -> Value {
        self.0.settings(base_url)
    }

    fn clients(&self) -> Vec<Value> {
        self.0.clients()
    }

    fn reset(&self) {
        self.0.reset();
    }
}

/// A line to a new vendor of this kind that never replaces a client's token.
pub(crate) fn stable_token(kind: &str) -> Arc<Line> {
    line_to(Arc::new(StableToken(Arc::clone(&vendor(kind).fake))))
}
