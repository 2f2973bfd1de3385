//! Errors as `application/problem+json` (RFC 9457).

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use registrar_core::{Error, ErrorKind};
use registrar_engine::Failure;
use registrar_model::OperationId;
use serde_json::{Map, Value, json};

use crate::serve::Peer;

/// What is known of every request, and what it takes to turn an error into its answer.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) public_url: Arc<str>,
    pub(crate) request_id: Arc<str>,
    pub(crate) peer: Option<Peer>,
}

/// The HTTP status of each kind. No catch-all: a new kind must be decided here.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    use ErrorKind as K;
    match kind {
        K::MalformedBody | K::InvalidRequest => StatusCode::BAD_REQUEST,
        K::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        K::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        // the body was understood; its content cannot be used
        K::Validation
        | K::InvalidRedirectUri
        | K::UnsupportedValue
        | K::UnsupportedByBackend
        | K::NoRoute
        | K::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        K::Unauthenticated | K::InvalidToken => StatusCode::UNAUTHORIZED,
        K::Forbidden => StatusCode::FORBIDDEN,
        K::NotFound | K::OperationNotFound | K::TokenNotFound | K::BackendNotFound | K::RouteNotFound => {
            StatusCode::NOT_FOUND
        }
        K::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        K::AlreadyExists | K::IdempotencyInProgress => StatusCode::CONFLICT,
        K::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        K::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        K::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        // the vendor refuses us, not the caller: never the caller's 401 or 403
        K::UpstreamAuthentication
        | K::UpstreamAuthorization
        | K::UpstreamRejected
        | K::UpstreamMalformed
        | K::UpstreamError => StatusCode::BAD_GATEWAY,
        K::UpstreamRateLimited | K::UpstreamUnavailable | K::BackendDisabled | K::StoreUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        K::UpstreamTimeout | K::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        K::PartialFailure | K::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Context {
    /// The answer for an error before or without an operation.
    pub(crate) fn error(&self, error: &Error) -> Response {
        self.render(error, None)
    }

    /// The answer for a failed write.
    pub(crate) fn failure(&self, failure: &Failure) -> Response {
        self.render(&failure.error, failure.operation)
    }

    fn render(&self, error: &Error, operation: Option<OperationId>) -> Response {
        let status = status(error.kind());
        let code = error.kind().slug();
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("type", json!(format!("{}/problems/{code}", self.public_url)));
        put("title", json!(error.kind().title()));
        put("status", json!(status.as_u16()));
        put("detail", json!(error.detail_with_advice()));
        put("code", json!(code));
        put("outcome", json!(error.outcome()));
        put("retryable", json!(error.is_retryable()));
        put("request_id", json!(&*self.request_id));
        if let Some(operation) = operation {
            put("operation", json!(operation));
        }
        if let Some(backend) = error.backend() {
            put("backend", json!(backend));
        }
        if let Some(vendor) = error.vendor() {
            put("vendor", json!(vendor));
        }
        if !error.issues().is_empty() {
            put("errors", json!(error.issues()));
        }
        if !error.losses().is_empty() {
            put("losses", json!(error.losses()));
        }
        let retry_after = (matches!(status.as_u16(), 429 | 503) || error.kind() == ErrorKind::IdempotencyInProgress)
            .then(|| error.retry_after().map_or(1, |wait| wait.as_secs().max(1)));
        if let Some(seconds) = retry_after {
            body.insert("retry_after".to_owned(), json!(seconds));
        }
        let mut response = (status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // RFC 6750 §3: no error code when no credentials were sent
        match error.kind() {
            ErrorKind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"registrar\""));
            }
            ErrorKind::InvalidToken => {
                let value = HeaderValue::from_static("Bearer realm=\"registrar\", error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
            // the vendor has the client and takes no such write: it can be read
            ErrorKind::MethodNotAllowed if error.vendor().is_some() => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            _ => {}
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What each kind means and what to do about it, for the pages at `/problems/{code}`.
pub(crate) fn advice(kind: ErrorKind) -> &'static str {
    use ErrorKind as K;
    match kind {
        K::MalformedBody => "Send one JSON object (RFC 8259): no duplicate members, at most 32 levels deep.",
        K::UnsupportedMediaType => "Set Content-Type: application/json, or application/merge-patch+json for PATCH.",
        K::PayloadTooLarge => "A body may have 64 KiB.",
        K::InvalidRequest => "Look at the query parameters and headers; `detail` names the one at fault.",
        K::Validation => "Each entry of `errors` points at a member of the body and says what is wrong with it.",
        K::InvalidRedirectUri => {
            "Use https, http on loopback, or an application scheme; no fragment, wildcard or user information."
        }
        K::UnsupportedValue => "The backend's vendor does not know this value; `errors` names it.",
        K::UnsupportedByBackend => {
            "The vendor cannot do or hold this. Where `losses` says what would be lost, name the field in `allow_loss` to accept it."
        }
        K::Unauthenticated => "Send an API key: Authorization: Bearer rk_...; `registrar keys create` makes one.",
        K::InvalidToken => "The API key is unknown or its secret is wrong.",
        K::Forbidden => "The API key lacks the scope that this call needs.",
        K::NotFound => "The id is wrong, the client was deleted, or the vendor does not know it any more.",
        K::OperationNotFound | K::TokenNotFound => "The id is wrong.",
        K::BackendNotFound => "GET /v1/backends lists the backends.",
        K::RouteNotFound => "GET /openapi.json lists the paths.",
        K::MethodNotAllowed => "The Allow header lists the methods of this path.",
        K::AlreadyExists => "The vendor has a client with this name or id; choose another name.",
        K::PreconditionFailed => "Read the client again, apply your change to what it is now, and send the new ETag.",
        K::PreconditionRequired => "Read the client, and send the ETag that came with it as If-Match.",
        K::IdempotencyInProgress => "Wait for the first request with this key.",
        K::IdempotencyKeyReused => "Use a new key for a new payload.",
        K::RateLimited => "Wait as long as Retry-After says.",
        K::UpstreamRateLimited => "The vendor limits the gateway; wait as long as Retry-After says.",
        K::UpstreamAuthentication => "For the operator: the backend's credential is wrong or has expired.",
        K::UpstreamAuthorization => "For the operator: the backend's credential lacks an administrator's right.",
        K::UpstreamRejected => "`vendor` has what the vendor said.",
        K::UpstreamMalformed => {
            "The vendor answered with something that its documents do not have. If `outcome` is unknown, look at the operation before trying again."
        }
        K::UpstreamError => "The vendor failed. If `outcome` is unknown, look at the operation before trying again.",
        K::UpstreamUnavailable => "The vendor cannot be reached; nothing was done unless `outcome` says otherwise.",
        K::UpstreamTimeout => "The vendor did not answer a read in time; try again.",
        K::OutcomeUnknown => {
            "The request was sent and no answer came. Do not simply send it again: look at the operation, and at the vendor."
        }
        K::PartialFailure => "The vendor did it, the gateway could not record it; the operation has what is known.",
        K::NoRoute => "Name a backend, or add a route that matches; POST /v1/routes:evaluate explains.",
        K::BackendDisabled => "The backend is switched off or gone from the configuration.",
        K::StoreUnavailable => "For the operator: the gateway's database does not work; its log says why.",
        K::Internal => "A defect of the gateway; report it with the request id.",
    }
}
