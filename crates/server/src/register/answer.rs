//! Answers of the standards face: client information (RFC 7591 §3.2.1, RFC 7592 §3) and errors (RFC 7591 §3.2.2).
//! Always `application/json`, never a problem document: real clients lose the code of one.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use registrar_core::{Error, ErrorKind, ExposeSecret as _, SecretString};
use registrar_engine::{
    Failure, NewSecret,
    dcr::{self, Statement},
};
use registrar_model::{ClientMetadata, Loss, LossKind, OperationId, Registration, member::StringMember as _};
use serde_json::{Map, Value, json};

use crate::{App, problem, problem::Context, render};

/// What a client learns about itself.
pub(super) struct Information<'a> {
    pub(super) registration: &'a Registration,
    pub(super) metadata: &'a ClientMetadata,
    pub(super) secret: Option<&'a NewSecret>,
    pub(super) access_token: &'a SecretString,
    pub(super) losses: &'a [Loss],
    /// The operation whose result could not be recorded.
    pub(super) not_recorded: Option<OperationId>,
}

/// Where a client manages itself.
pub(super) fn client_uri(app: &App, registration: &Registration) -> String {
    format!("{}/register/{}", app.public_url(), registration.id)
}

impl Information<'_> {
    pub(super) fn answer(&self, app: &App, status: StatusCode) -> Response {
        let uri = client_uri(app, self.registration);
        let mut response = render::json(status, &Value::Object(self.members(&uri)));
        // RFC 9110 §10.2.2
        if let (StatusCode::CREATED, Ok(value)) = (status, HeaderValue::from_str(&uri)) {
            response.headers_mut().insert(header::LOCATION, value);
        }
        response
    }

    fn members(&self, uri: &str) -> Map<String, Value> {
        let (r, m) = (self.registration, self.metadata);
        let mut out = Map::new();
        out.insert("client_id".to_owned(), json!(r.client_id));
        // a public client has no secret, whatever a vendor sends (CVE-2026-44476)
        if let Some(secret) = self.secret.filter(|_| !m.is_public()) {
            out.insert("client_secret".to_owned(), json!(secret.value.expose_secret()));
            if let Some(end) = secret.expires_at {
                out.insert("client_secret_expires_at".to_owned(), json!(end));
            }
        }
        if let Some(issued_at) = r.client_id_issued_at {
            out.insert("client_id_issued_at".to_owned(), json!(issued_at));
        }
        // in whole seconds, and never later than it does
        if let Some(until) = r.hidden.unused_until {
            out.insert("registration_expires_at".to_owned(), json!(until.div_euclid(1000)));
        }
        out.insert("registration_access_token".to_owned(), json!(self.access_token.expose_secret()));
        out.insert("registration_client_uri".to_owned(), json!(uri));
        // what is in force because nothing else was said is shown, too (RFC 7591 §2)
        out.insert("redirect_uris".to_owned(), json!([]));
        out.insert("token_endpoint_auth_method".to_owned(), json!(m.auth_method().text()));
        let grants: Vec<String> = m.effective_grant_types().iter().map(|g| g.text().to_owned()).collect();
        let responses: Vec<String> = m.effective_response_types().iter().map(|t| t.text().to_owned()).collect();
        out.insert("grant_types".to_owned(), json!(grants));
        out.insert("response_types".to_owned(), json!(responses));
        for (name, value) in m.encode() {
            // some clients refuse an answer for a single empty member, others for one of the lists that is not there
            if ALWAYS.contains(&name.as_str()) || !is_empty(&value) {
                out.insert(name, value);
            }
        }
        // RFC 7591 §3.2.1: unmodified
        if let Some(statement) = dcr::statement_of(r) {
            out.insert("software_statement".to_owned(), json!(statement));
        }
        for stem in ["id_token_encrypted_response", "userinfo_encrypted_response", "request_object_encryption"] {
            // OIDC Registration §2
            if out.contains_key(&format!("{stem}_alg")) {
                out.entry(format!("{stem}_enc")).or_insert_with(|| json!("A128CBC-HS256"));
            }
        }
        let uris = m.redirect_uris.iter().flatten().map(registrar_model::RedirectUri::as_str);
        let claimable = uris.filter(|uri| dcr::is_claimable(uri)).map(warning);
        let odd = self.losses.iter().filter(|loss| loss.field == "client_secret_expires_at").map(unread);
        let warnings: Vec<String> = self.not_recorded.map(unrecorded).into_iter().chain(claimable).chain(odd).collect();
        if !warnings.is_empty() {
            out.insert("registrar_warnings".to_owned(), json!(warnings));
        }
        let losses: Vec<Value> = self.losses.iter().filter_map(reported).collect();
        if !losses.is_empty() {
            out.insert("registrar_losses".to_owned(), Value::Array(losses));
        }
        out
    }
}

/// The members that clients insist on.
const ALWAYS: [&str; 3] = ["redirect_uris", "grant_types", "response_types"];

/// Whether a member says nothing, also where a vendor says it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn warning(uri: &str) -> String {
    format!("{uri}: another application may claim this scheme; use a reversed domain name (RFC 8252 section 7.1)")
}

/// RFC 7591 §3.2.1 requires the time; one that nobody can read is neither 0 nor any other.
fn unread(loss: &Loss) -> String {
    format!("client_secret_expires_at is left out: {}", loss.reason)
}

/// The same word as in the answers of `/v1`.
fn unrecorded(operation: OperationId) -> String {
    format!(
        "not_recorded: the vendor did this, and the gateway could not record it yet: operation {operation} stays open; until it has, \
         registration_client_uri may refuse the registration_access_token or show what was before"
    )
}

/// A loss of something that the client asked for, and that it can see; without the values, which stand beside it.
fn reported(loss: &Loss) -> Option<Value> {
    // `client_secret` and the like are no metadata, and have no layer before their names
    let own = !loss.field.contains('.') && loss.field != "labels";
    let name = if own { &loss.field } else { loss.field.strip_prefix("metadata.")? };
    (!matches!(loss.kind, LossKind::LocalOnly | LossKind::Defaulted))
        .then(|| json!({ "field": name, "kind": loss.kind, "severity": loss.severity, "reason": loss.reason }))
}

/// An error and what RFC 7591 §3.2.2 calls it.
pub(super) struct Refusal {
    error: Error,
    operation: Option<String>,
    statement: Option<Statement>,
    /// The methods that are allowed instead.
    allow: Option<&'static str>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, operation: None, statement: None, allow: None }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { operation: failure.operation.map(|id| id.to_string()), ..failure.error.into() }
    }
}

impl From<(Statement, Error)> for Refusal {
    fn from((statement, error): (Statement, Error)) -> Self {
        Self { statement: Some(statement), ..error.into() }
    }
}

/// Status and `error`. No catch-all: a new kind must be decided here, too.
fn code(kind: ErrorKind) -> (StatusCode, &'static str) {
    use ErrorKind as K;
    let status = problem::status(kind);
    match kind {
        K::InvalidRedirectUri => (StatusCode::BAD_REQUEST, "invalid_redirect_uri"),
        K::MalformedBody
        | K::Validation
        | K::UnsupportedValue
        | K::UnsupportedByBackend
        | K::AlreadyExists
        | K::NoRoute
        | K::BackendNotFound => (StatusCode::BAD_REQUEST, "invalid_client_metadata"),
        K::UnsupportedMediaType
        | K::PayloadTooLarge
        | K::InvalidRequest
        | K::MethodNotAllowed
        | K::RouteNotFound
        | K::OperationNotFound
        | K::TokenNotFound
        | K::PreconditionFailed
        | K::PreconditionRequired
        | K::IdempotencyKeyReused => (status, "invalid_request"),
        // a client that does not exist and a token that is not its own are the same (RFC 7592 §2.1)
        K::Unauthenticated | K::InvalidToken | K::NotFound => (StatusCode::UNAUTHORIZED, "invalid_token"),
        K::Forbidden => (status, "access_denied"),
        K::IdempotencyInProgress
        | K::RateLimited
        | K::UpstreamRateLimited
        | K::UpstreamUnavailable
        | K::UpstreamTimeout
        | K::BackendDisabled
        | K::StoreUnavailable => (status, "temporarily_unavailable"),
        K::UpstreamAuthentication
        | K::UpstreamAuthorization
        | K::UpstreamRejected
        | K::UpstreamMalformed
        | K::UpstreamError
        | K::OutcomeUnknown
        | K::PartialFailure
        | K::Internal => (status, "server_error"),
    }
}

impl Refusal {
    /// The same refusal, of a method; these are allowed.
    pub(super) fn with_allow(self, methods: &'static str) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// Whether the request was refused for what is in it.
    pub(super) fn is_for_content(&self) -> bool {
        use StatusCode as S;
        matches!(code(self.error.kind()).0, S::BAD_REQUEST | S::PAYLOAD_TOO_LARGE | S::UNSUPPORTED_MEDIA_TYPE)
    }

    pub(super) fn answer(&self, context: &Context) -> Response {
        let kind = self.error.kind();
        let (mut status, mut error) = code(kind);
        // the token of this client that the gateway has, not the caller's own; or what passes by itself
        if self.error.is_management_lost() || self.error.is_passing() {
            (status, error) = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
        }
        error = match self.statement {
            Some(Statement::Invalid) => "invalid_software_statement",
            Some(Statement::Unapproved) => "unapproved_software_statement",
            None => error,
        };
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(error));
        body.insert("error_description".to_owned(), json!(self.description()));
        body.insert("request_id".to_owned(), json!(&*context.request_id));
        if let Some(operation) = &self.operation {
            body.insert("operation".to_owned(), json!(operation));
        }
        let mut response = render::json(status, &Value::Object(body));
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 §3: no error code when no token was sent
            let challenge = match kind {
                ErrorKind::Unauthenticated => "Bearer realm=\"registrar\"",
                _ => "Bearer realm=\"registrar\", error=\"invalid_token\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(methods) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        if matches!(status.as_u16(), 429 | 503) || kind == ErrorKind::IdempotencyInProgress {
            let seconds = self.error.retry_after().map_or(1, |w| w.as_secs().max(1));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// The vendor's own words for refusing the request: for the developer. What it says of the gateway's credential, or while
    /// it fails, is for the operator.
    fn reason(&self) -> Option<&str> {
        use ErrorKind as K;
        let status = self.error.vendor().and_then(|vendor| vendor.status);
        let is_refusal = match self.error.kind() {
            K::Validation
            | K::InvalidRedirectUri
            | K::UnsupportedValue
            | K::UnsupportedByBackend
            | K::AlreadyExists => true,
            // no more clients, or an error with the status of a success; any other is about the gateway
            K::UpstreamRejected => self.error.is_passing() || status.is_some_and(|status| status < 300),
            _ => false,
        };
        let said = self.error.vendor().filter(|_| is_refusal);
        said.and_then(|vendor| vendor.message.as_deref().or(vendor.code.as_deref()))
    }

    /// One ASCII sentence (RFC 7591 §3.2.2) that names every member at fault as this face knows it.
    fn description(&self) -> String {
        let issues = || {
            let one = |i: &registrar_model::Issue| {
                let at = i.pointer.as_str().trim_start_matches("#/metadata").trim_start_matches(['#', '/']);
                if at.is_empty() { i.detail.clone() } else { format!("{at}: {}", i.detail) }
            };
            self.error.issues().iter().take(8).map(one).collect::<Vec<_>>().join("; ")
        };
        let text = match (self.error.kind(), self.reason()) {
            _ if self.error.is_management_lost() => {
                "the server that holds this client does not let the gateway manage it at present".to_owned()
            }
            (ErrorKind::NotFound, _) => "the registration access token is not valid for this client".to_owned(),
            // whose credential is refused is nothing that a client could use
            (ErrorKind::UpstreamAuthentication | ErrorKind::UpstreamAuthorization, _) => {
                "the server cannot do this at present: its operator has to look into it".to_owned()
            }
            (_, Some(reason)) => format!("{}: {reason}", self.error.detail()),
            (_, None) if self.error.issues().is_empty() => self.error.detail().to_owned(),
            (_, None) => issues(),
        };
        let plain = text.replace('\u{a7}', "section ");
        let allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
        plain
            .chars()
            .map(|c| {
                if allowed(c) {
                    c
                } else if c == '"' {
                    '\''
                } else {
                    '?'
                }
            })
            .take(1024)
            .collect()
    }
}
