//! The API document (OpenAPI 3.1): paths from one table, schemas from the model's own field tables, so that neither
//! can be forgotten.

mod answers;
mod parameters;
mod registration;
mod requests;
mod schemas;
mod uris;

use registrar_core::ErrorKind;
use serde_json::{Map, Value, json};

use crate::problem;

/// One call of the API.
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    /// Scope that the caller needs; `None` for open paths.
    scope: Option<&'static str>,
    parameters: &'static [&'static str],
    request: Option<(&'static str, &'static str)>,
    responses: &'static [(u16, &'static str, Option<&'static str>)],
    errors: &'static [ErrorKind],
}

use ErrorKind as K;

const BODY: [ErrorKind; 4] = [K::MalformedBody, K::UnsupportedMediaType, K::PayloadTooLarge, K::Validation];
const VENDOR: [ErrorKind; 6] = [
    K::UpstreamError,
    K::UpstreamMalformed,
    K::UpstreamUnavailable,
    K::UpstreamTimeout,
    K::OutcomeUnknown,
    K::StoreUnavailable,
];

const fn join<const A: usize, const B: usize, const N: usize>(a: [ErrorKind; A], b: [ErrorKind; B]) -> [ErrorKind; N] {
    let mut out = [K::Internal; N];
    let mut i = 0;
    while i < A + B {
        out[i] = if i < A { a[i] } else { b[i - A] };
        i += 1;
    }
    out
}

const WRITE: [ErrorKind; 10] = join(BODY, VENDOR);

/// Every path of the API, for the document and for the test that holds it against the router.
pub(crate) const CALLS: &[Call] = &[
    Call {
        method: "post",
        path: "/v1/clients",
        tag: "clients",
        id: "createClient",
        summary: "Register a client, or with dry_run=true see what would be sent and lost",
        scope: Some("clients:write"),
        parameters: &["dry_run", "strict", "Idempotency-Key"],
        request: Some(("application/json", "NewRegistration")),
        responses: &[
            (201, "The client; its secret is shown once", Some("WrittenRegistration")),
            (200, "With dry_run: what would happen; nothing was sent", Some("DryRun")),
        ],
        errors: &join::<10, 3, 13>(WRITE, [K::UnsupportedByBackend, K::AlreadyExists, K::InvalidRequest]),
    },
    Call {
        method: "get",
        path: "/v1/clients",
        tag: "clients",
        id: "listClients",
        summary: "List clients, oldest first",
        scope: Some("clients:read"),
        parameters: &["backend", "label", "q", "limit", "cursor"],
        request: None,
        responses: &[(200, "A page of clients, never with secrets", Some("RegistrationPage"))],
        errors: &[K::InvalidRequest, K::StoreUnavailable],
    },
    Call {
        method: "get",
        path: "/v1/clients/{id}",
        tag: "clients",
        id: "readClient",
        summary: "Read a client from the registry, or live from the vendor with its drift",
        scope: Some("clients:read"),
        parameters: &["registration", "source", "If-None-Match"],
        request: None,
        responses: &[
            (200, "The client", Some("Registration")),
            (304, "Not changed since the ETag in If-None-Match", None),
        ],
        errors: &join::<6, 2, 8>(VENDOR, [K::NotFound, K::InvalidRequest]),
    },
    Call {
        method: "put",
        path: "/v1/clients/{id}",
        tag: "clients",
        id: "replaceClient",
        summary: "Make the client be exactly this: members left out are removed",
        scope: Some("clients:write"),
        parameters: &["registration", "strict", "If-Match", "Idempotency-Key"],
        request: Some(("application/json", "RegistrationReplacement")),
        responses: &[(200, "The client as it is now", Some("WrittenRegistration"))],
        errors: &join::<10, 5, 15>(
            WRITE,
            [K::NotFound, K::PreconditionFailed, K::PreconditionRequired, K::UnsupportedByBackend, K::InvalidRequest],
        ),
    },
    Call {
        method: "patch",
        path: "/v1/clients/{id}",
        tag: "clients",
        id: "patchClient",
        summary: "Change some members (RFC 7396): null removes, absent keeps, arrays are replaced",
        scope: Some("clients:write"),
        parameters: &["registration", "strict", "If-Match", "Idempotency-Key"],
        request: Some(("application/merge-patch+json", "RegistrationPatch")),
        responses: &[(200, "The client as it is now", Some("WrittenRegistration"))],
        errors: &join::<10, 5, 15>(
            WRITE,
            [K::NotFound, K::PreconditionFailed, K::PreconditionRequired, K::UnsupportedByBackend, K::InvalidRequest],
        ),
    },
    Call {
        method: "delete",
        path: "/v1/clients/{id}",
        tag: "clients",
        id: "deleteClient",
        summary: "Delete the client at the vendor, or with mode=disable switch it off",
        scope: Some("clients:delete"),
        parameters: &["registration", "mode", "If-Match", "Idempotency-Key"],
        request: None,
        responses: &[
            (204, "The vendor has deleted it", None),
            (200, "With mode=disable: the client, switched off", Some("WrittenRegistration")),
        ],
        errors: &join::<6, 5, 11>(
            VENDOR,
            [K::NotFound, K::PreconditionFailed, K::PreconditionRequired, K::UnsupportedByBackend, K::InvalidRequest],
        ),
    },
    Call {
        method: "post",
        path: "/v1/clients/{id}/secret",
        tag: "clients",
        id: "rotateSecret",
        summary: "Issue a new secret",
        scope: Some("clients:rotate"),
        parameters: &["registration", "Idempotency-Key"],
        request: None,
        responses: &[(200, "The new secret, shown once", Some("IssuedSecret"))],
        errors: &join::<6, 3, 9>(VENDOR, [K::NotFound, K::UnsupportedByBackend, K::InvalidRequest]),
    },
    Call {
        method: "post",
        path: "/v1/clients/{id}:used",
        tag: "clients",
        id: "reportUse",
        summary: "Say that the client was seen at work: it does not expire",
        scope: Some("clients:write"),
        parameters: &["registration"],
        request: None,
        responses: &[(204, "It does not expire, now or anyway", None)],
        errors: &[K::NotFound, K::InvalidRequest, K::StoreUnavailable],
    },
    Call {
        method: "get",
        path: "/v1/operations",
        tag: "operations",
        id: "listOperations",
        summary: "The journal of writes, oldest first",
        scope: Some("ops:read"),
        parameters: &["state", "limit", "cursor"],
        request: None,
        responses: &[(200, "A page of operations", Some("OperationPage"))],
        errors: &[K::InvalidRequest, K::StoreUnavailable],
    },
    Call {
        method: "get",
        path: "/v1/operations/{id}",
        tag: "operations",
        id: "readOperation",
        summary: "One journalled write",
        scope: Some("ops:read"),
        parameters: &["operation"],
        request: None,
        responses: &[(200, "The operation", Some("Operation"))],
        errors: &[K::OperationNotFound, K::InvalidRequest, K::StoreUnavailable],
    },
    Call {
        method: "post",
        path: "/v1/operations/{id}:acknowledge",
        tag: "operations",
        id: "acknowledgeOperation",
        summary: "Destroy the sealed secret of a write: the caller has it",
        scope: Some("ops:write"),
        parameters: &["operation"],
        request: None,
        responses: &[(204, "It is destroyed, or there was none", None)],
        errors: &[K::OperationNotFound, K::InvalidRequest],
    },
    Call {
        method: "post",
        path: "/v1/operations/{id}:resolve",
        tag: "operations",
        id: "resolveOperation",
        summary: "Say what became of a write that the gateway cannot find out about",
        scope: Some("ops:resolve"),
        parameters: &["operation"],
        request: Some(("application/json", "Resolution")),
        responses: &[(200, "The operation, settled", Some("Operation"))],
        errors: &join::<10, 3, 13>(WRITE, [K::OperationNotFound, K::NotFound, K::InvalidRequest]),
    },
    Call {
        method: "get",
        path: "/v1/backends",
        tag: "backends",
        id: "listBackends",
        summary: "The configured backends: health, policy, capabilities",
        scope: Some("ops:read"),
        parameters: &[],
        request: None,
        responses: &[(200, "The backends", Some("BackendList"))],
        errors: &[K::InvalidRequest],
    },
    Call {
        method: "get",
        path: "/v1/backends/{name}",
        tag: "backends",
        id: "readBackend",
        summary: "One backend; with check=true also one cheap read at the vendor",
        scope: Some("ops:read"),
        parameters: &["name", "check"],
        request: None,
        responses: &[(200, "The backend", Some("Backend"))],
        errors: &[K::BackendNotFound, K::InvalidRequest],
    },
    Call {
        method: "get",
        path: "/v1/vendors",
        tag: "backends",
        id: "listVendors",
        summary: "The capability matrix: what each vendor kind can do and hold",
        scope: Some("any"),
        parameters: &[],
        request: None,
        responses: &[(200, "The vendor kinds", Some("VendorList"))],
        errors: &[K::InvalidRequest],
    },
    Call {
        method: "post",
        path: "/v1/routes:evaluate",
        tag: "backends",
        id: "evaluateRoutes",
        summary: "Where this registration would go, and why",
        scope: Some("clients:read"),
        parameters: &[],
        request: Some(("application/json", "NewRegistration")),
        responses: &[(200, "The route and those that were looked at", Some("Evaluation"))],
        errors: &[K::MalformedBody, K::UnsupportedMediaType, K::PayloadTooLarge, K::Validation, K::InvalidRequest],
    },
    Call {
        method: "get",
        path: "/healthz",
        tag: "system",
        id: "healthz",
        summary: "The process answers",
        scope: None,
        parameters: &[],
        request: None,
        responses: &[(200, "It does", Some("Status"))],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/readyz",
        tag: "system",
        id: "readyz",
        summary: "The store works and the process is not stopping",
        scope: None,
        parameters: &[],
        request: None,
        responses: &[(200, "Ready", Some("Status")), (503, "Not ready", Some("Status"))],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/metrics",
        tag: "system",
        id: "metrics",
        summary: "Prometheus metrics",
        scope: Some("ops:read"),
        parameters: &[],
        request: None,
        responses: &[(200, "The text exposition format", Some("text"))],
        errors: &[],
    },
];

/// The document.
#[must_use]
pub fn document(public_url: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for call in CALLS.iter().chain(registration::CALLS) {
        let item = paths.entry(call.path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(call.method.to_owned(), operation(call));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Registrar",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "One API in front of every identity vendor's OAuth client registration",
            "description": "Whatever a vendor cannot hold is reported field by field; what weakens security is refused unless the request allows that very field. Every error says whether anything was done.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        // relative first: the page works under whatever name it was opened
        "servers": [{ "url": "/" }, { "url": public_url }],
        "tags": [
            { "name": "clients", "description": "OAuth clients, wherever they live" },
            { "name": "operations", "description": "The journal of writes" },
            { "name": "backends", "description": "Vendors, backends and routes" },
            { "name": "registration", "description": "The standards face: RFC 7591, RFC 7592, RFC 8414" },
            { "name": "tokens", "description": "Initial access tokens" },
            { "name": "system", "description": "Health and metrics" }
        ],
        "paths": paths,
        "components": {
            "schemas": with(&with(&schemas::schemas(), requests::schemas()), registration::schemas()),
            "parameters": parameters::all(),
            "headers": answers::headers(),
            "securitySchemes": { "apiKey": { "type": "http", "scheme": "bearer", "description": "An API key made by `registrar keys create`" },
                "initialAccessToken": { "type": "http", "scheme": "bearer", "description": "RFC 7591 §3; made by `registrar initial-access-tokens create`" },
                "registrationAccessToken": { "type": "http", "scheme": "bearer", "description": "RFC 7592 §3; comes with the registration" } }
        }
    })
}

fn operation(call: &Call) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for (status, description, schema) in call.responses {
        let mut response = json!({ "description": description });
        match schema {
            Some("text") => response["content"] = json!({ "text/plain": { "schema": { "type": "string" } } }),
            Some(name) => response["content"] = json!({ "application/json": { "schema": reference(name) } }),
            None => {}
        }
        let links = answers::links_of(call, *status);
        if links.as_object().is_some_and(|links| !links.is_empty()) {
            response["links"] = links;
        }
        response["headers"] = answers::headers_of(call, *status, *schema);
        responses.insert(status.to_string(), response);
    }
    registration::refusals(call, &mut responses);
    let mut errors: Vec<ErrorKind> = call.errors.to_vec();
    // the standards face has errors of its own, listed among its answers
    if call.scope.is_some() && call.tag != "registration" {
        errors.extend([K::Unauthenticated, K::InvalidToken, K::Forbidden, K::Internal, K::StoreUnavailable]);
    }
    if call.parameters.contains(&"Idempotency-Key") && call.tag != "registration" {
        errors.extend([K::IdempotencyInProgress, K::IdempotencyKeyReused]);
    }
    if errors.contains(&K::UpstreamError) {
        errors.extend([
            K::UpstreamAuthentication,
            K::UpstreamAuthorization,
            K::UpstreamRejected,
            K::UpstreamRateLimited,
            K::BackendDisabled,
            K::PartialFailure,
        ]);
    }
    if errors.contains(&K::Validation) {
        errors.extend([K::InvalidRedirectUri, K::UnsupportedValue, K::NoRoute]);
    }
    let mut by_status: std::collections::BTreeMap<u16, Vec<&'static str>> = std::collections::BTreeMap::new();
    for kind in errors {
        let codes = by_status.entry(problem::status(kind).as_u16()).or_default();
        if !codes.contains(&kind.slug()) {
            codes.push(kind.slug());
        }
    }
    for (status, codes) in by_status {
        responses.insert(
            status.to_string(),
            json!({ "description": format!("`code`: {}", codes.join(", ")), "headers": answers::headers_of(call, status, None), "content": { "application/problem+json": { "schema": reference("Problem") } } }),
        );
    }
    let mut out = json!({
        "operationId": call.id,
        "tags": [call.tag],
        "summary": call.summary,
        "responses": responses
    });
    match call.scope {
        None => out["security"] = json!([]),
        Some("iat") => out["security"] = json!([{ "initialAccessToken": [] }, {}]),
        Some("rat") => out["security"] = json!([{ "registrationAccessToken": [] }]),
        Some("any") => out["security"] = json!([{ "apiKey": [] }]),
        Some(scope) => {
            out["security"] = json!([{ "apiKey": [scope] }]);
            out["description"] = json!(format!("Needs the scope `{scope}`."));
        }
    }
    if !call.parameters.is_empty() {
        out["parameters"] =
            call.parameters.iter().map(|p| json!({ "$ref": format!("#/components/parameters/{p}") })).collect();
    }
    if let Some((media_type, schema)) = call.request {
        let mut content = json!({ "schema": reference(schema) });
        if let Some(examples) = answers::examples_of(schema) {
            content["examples"] = examples;
        }
        out["requestBody"] = json!({ "required": true, "content": { media_type: content } });
    }
    out
}

/// An object with the members of another.
fn with(base: &Value, more: Value) -> Value {
    let mut out = base.as_object().cloned().unwrap_or_default();
    if let Value::Object(more) = more {
        out.extend(more);
    }
    Value::Object(out)
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
