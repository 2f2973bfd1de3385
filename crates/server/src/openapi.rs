//! The API document (OpenAPI 3.1): paths from one table, schemas from the model's own field tables, so that neither
//! can be forgotten.

mod registration;

use registrar_core::ErrorKind;
use registrar_model::{FieldInfo, IssueCode, JsonType};
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
        parameters: &["dry_run", "Idempotency-Key"],
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
        parameters: &["id", "source", "If-None-Match"],
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
        parameters: &["id", "If-Match", "Idempotency-Key"],
        request: Some(("application/json", "NewRegistration")),
        responses: &[(200, "The client as it is now", Some("WrittenRegistration"))],
        errors: &join::<10, 4, 14>(
            WRITE,
            [K::NotFound, K::PreconditionFailed, K::UnsupportedByBackend, K::InvalidRequest],
        ),
    },
    Call {
        method: "patch",
        path: "/v1/clients/{id}",
        tag: "clients",
        id: "patchClient",
        summary: "Change some members (RFC 7396): null removes, absent keeps, arrays are replaced",
        scope: Some("clients:write"),
        parameters: &["id", "If-Match", "Idempotency-Key"],
        request: Some(("application/merge-patch+json", "RegistrationPatch")),
        responses: &[(200, "The client as it is now", Some("WrittenRegistration"))],
        errors: &join::<10, 4, 14>(
            WRITE,
            [K::NotFound, K::PreconditionFailed, K::UnsupportedByBackend, K::InvalidRequest],
        ),
    },
    Call {
        method: "delete",
        path: "/v1/clients/{id}",
        tag: "clients",
        id: "deleteClient",
        summary: "Delete the client at the vendor, or with mode=disable switch it off",
        scope: Some("clients:write"),
        parameters: &["id", "mode", "If-Match", "Idempotency-Key"],
        request: None,
        responses: &[
            (204, "The vendor has deleted it", None),
            (200, "With mode=disable: the client, switched off", Some("WrittenRegistration")),
        ],
        errors: &join::<6, 4, 10>(
            VENDOR,
            [K::NotFound, K::PreconditionFailed, K::UnsupportedByBackend, K::InvalidRequest],
        ),
    },
    Call {
        method: "post",
        path: "/v1/clients/{id}/secret",
        tag: "clients",
        id: "rotateSecret",
        summary: "Issue a new secret",
        scope: Some("clients:write"),
        parameters: &["id", "Idempotency-Key"],
        request: None,
        responses: &[(200, "The new secret, shown once", Some("IssuedSecret"))],
        errors: &join::<6, 3, 9>(VENDOR, [K::NotFound, K::UnsupportedByBackend, K::InvalidRequest]),
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
        parameters: &["id"],
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
        scope: Some("clients:write"),
        parameters: &["id"],
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
        scope: Some("clients:write"),
        parameters: &["id"],
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
        scope: Some("any"),
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
        "servers": [{ "url": public_url }],
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
            "schemas": with(&schemas(), registration::schemas()),
            "parameters": parameters(),
            "headers": {
                "ETag": { "description": "The version of the client, for If-Match", "schema": { "type": "string" } },
                "Location": { "description": "Where the client is", "schema": { "type": "string" } },
                "Link": { "description": "rel=\"next\": the next page", "schema": { "type": "string" } }
            },
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
        let mut headers = Map::new();
        if matches!(*schema, Some("WrittenRegistration" | "Registration")) {
            headers.insert("ETag".to_owned(), json!({ "$ref": "#/components/headers/ETag" }));
        }
        if *status == 201 {
            headers.insert("Location".to_owned(), json!({ "$ref": "#/components/headers/Location" }));
        }
        if *schema == Some("RegistrationPage") {
            headers.insert("Link".to_owned(), json!({ "$ref": "#/components/headers/Link" }));
        }
        if !headers.is_empty() {
            response["headers"] = Value::Object(headers);
        }
        responses.insert(status.to_string(), response);
    }
    registration::refusals(call, &mut responses);
    let mut errors: Vec<ErrorKind> = call.errors.to_vec();
    // the standards face has errors of its own, listed among its answers
    if call.scope.is_some() && call.tag != "registration" {
        errors.extend([K::Unauthenticated, K::InvalidToken, K::Forbidden, K::Internal, K::StoreUnavailable]);
    }
    if call.parameters.contains(&"Idempotency-Key") {
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
            json!({ "description": format!("`code`: {}", codes.join(", ")), "content": { "application/problem+json": { "schema": reference("Problem") } } }),
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
        out["requestBody"] = json!({ "required": true, "content": { media_type: { "schema": reference(schema) } } });
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

fn parameters() -> Value {
    let query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string" } });
    json!({
        "id": { "name": "id", "in": "path", "required": true, "description": "The gateway's id", "schema": { "type": "string" } },
        "route": { "name": "route", "in": "path", "required": true, "description": "The route's name", "schema": { "type": "string" } },
        "ticket": { "name": "ticket", "in": "path", "required": true, "description": "An initial access token", "schema": { "type": "string" } },
        "name": { "name": "name", "in": "path", "required": true, "description": "The backend's name", "schema": { "type": "string" } },
        "dry_run": query("dry_run", "Only show what would be sent and lost", json!({ "type": "boolean", "default": false })),
        "backend": query("backend", "Only clients at this backend", json!({ "type": "string" })),
        "label": query("label", "Only clients with this label, as KEY:VALUE; may be repeated", json!({ "type": "array", "items": { "type": "string" } })),
        "q": query("q", "Only clients whose name or client_id has this text, in any case", json!({ "type": "string" })),
        "limit": query("limit", "How many a page", json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 })),
        "cursor": query("cursor", "`next_cursor` of the page before", json!({ "type": "string" })),
        "source": query("source", "`vendor` reads live and adds `drift`", json!({ "type": "string", "enum": ["registry", "vendor"], "default": "registry" })),
        "mode": query("mode", "`disable` switches the client off instead", json!({ "type": "string", "enum": ["delete", "disable"], "default": "delete" })),
        "state": query("state", "Only operations in this state", json!({ "type": "string", "enum": ["pending", "succeeded", "failed", "unknown"] })),
        "check": query("check", "Also make one cheap read at the vendor", json!({ "type": "boolean", "default": false })),
        "Idempotency-Key": header("Idempotency-Key", "The same request with the same key is one write; its answer, with the secret for a while, is repeated"),
        "If-Match": header("If-Match", "The ETag of the version that is to be changed"),
        "If-None-Match": header("If-None-Match", "The ETag of the version that the caller has")
    })
}

fn field_schema(field: &FieldInfo) -> Value {
    let mut out = match field.json {
        JsonType::String => json!({ "type": "string" }),
        JsonType::Strings => json!({ "type": "array", "items": { "type": "string" } }),
        JsonType::Boolean => json!({ "type": "boolean" }),
        JsonType::Integer => json!({ "type": "integer", "minimum": 0 }),
        JsonType::Object => json!({ "type": "object" }),
    };
    out["description"] = json!(format!("{} ({})", field.doc, field.source));
    out
}

fn layer(fields: &[&'static FieldInfo], open: bool) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|f| (f.name.to_owned(), field_schema(f))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": open })
}

fn schemas() -> Value {
    let metadata = layer(&registrar_model::metadata::FIELDS, true);
    let policy = layer(&registrar_model::policy::FIELDS, false);
    let text = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time" });
    let losses = json!({ "type": "array", "items": reference("Loss") });
    let writable = json!({
        "metadata": reference("ClientMetadata"),
        "policy": reference("Policy"),
        "vendor": { "type": "object", "description": "Vendor-only members by vendor kind", "additionalProperties": { "type": "object" } },
        "labels": { "type": "object", "description": "The gateway's own labels", "additionalProperties": { "type": "string" } }
    });
    let request = with(
        &writable,
        json!({
            "backend": { "type": "string", "description": "Where to register; the routes decide when absent" },
            "allow_loss": { "type": "array", "items": { "type": "string" }, "description": "Fields whose loss is accepted, such as metadata.jwks_uri" }
        }),
    );
    let identity = json!({
        "id": text, "backend": text, "kind": text, "client_id": text, "client_id_issued_at": { "type": "integer" },
        "version": { "type": "integer" }, "state": { "type": "string", "enum": ["active", "disabled", "unknown", "gone"] },
        "created_at": time, "updated_at": time
    });
    let registration = with(&identity, writable.clone());
    let secret = json!({
        "client_secret": { "type": "string", "description": "Shown once" },
        "client_secret_expires_at": { "type": "integer", "description": "Unix seconds; 0 means never" },
        "previous_secret_valid_until": { "type": "integer", "description": "Unix seconds, where the vendor documents it" },
        "secret_state": { "type": "string", "enum": ["expired", "undelivered"], "description": "Why a repeated answer has no secret; issue a new one" }
    });
    let required = ["id", "backend", "client_id", "version", "state", "created_at", "updated_at", "metadata"];
    let page = |item: &str| json!({ "type": "object", "required": ["items"], "properties": { "items": { "type": "array", "items": reference(item) }, "next_cursor": text } });
    let issue_codes: Vec<Value> = [
        IssueCode::WrongType,
        IssueCode::Required,
        IssueCode::UnknownMember,
        IssueCode::DuplicateMember,
        IssueCode::InvalidValue,
        IssueCode::InvalidRedirectUri,
        IssueCode::InvalidUrl,
        IssueCode::TooLong,
        IssueCode::ForbiddenCharacter,
        IssueCode::Conflict,
        IssueCode::PrivateKey,
        IssueCode::Unsupported,
    ]
    .iter()
    .map(|c| json!(c))
    .collect();
    let codes: Vec<&str> = ErrorKind::ALL.iter().map(|k| k.slug()).collect();
    let outcome = json!({ "type": "string", "enum": ["not_performed", "performed", "unknown"], "description": "Whether the vendor was changed" });
    json!({
        "ClientMetadata": metadata,
        "Policy": policy,
        "NewRegistration": { "type": "object", "required": ["metadata"], "properties": request, "additionalProperties": false },
        "RegistrationPatch": { "type": "object", "description": "A merge patch (RFC 7396) of a NewRegistration" },
        "Registration": { "type": "object", "required": required, "properties": with(&registration, json!({
            "source": { "type": "string", "enum": ["vendor"] },
            "drift": { "type": "array", "items": reference("Drift"), "description": "With source=vendor: what changed there since the last write" }
        })) },
        "WrittenRegistration": { "type": "object", "required": ["id", "backend", "client_id", "version", "state", "created_at", "updated_at", "metadata", "losses", "operation"],
            "properties": with(&with(&registration, secret.clone()), json!({
                "losses": losses, "operation": text,
                "warning": { "type": "string", "enum": ["not_recorded"], "description": "Done at the vendor; the gateway's record of it follows later" }
            })) },
        "Resolution": { "type": "object", "description": "One of the two members", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": {
            "adopt": { "type": "object", "required": ["client_id"], "additionalProperties": false, "properties": { "client_id": text, "vendor_ref": text } },
            "absent": { "type": "boolean", "const": true }
        } },
        "IssuedSecret": { "type": "object", "required": ["operation"], "properties": with(&secret, json!({ "operation": text, "warning": { "type": "string", "enum": ["not_recorded"] } })) },
        "RegistrationPage": page("Registration"),
        "DryRun": { "type": "object", "required": ["backend", "requests", "losses", "would"], "properties": {
            "backend": text, "route": text, "losses": losses, "would": { "type": "string", "enum": ["create", "refuse"] }, "reason": text,
            "requests": { "type": "array", "items": { "type": "object", "required": ["method", "url"], "properties": { "method": text, "url": text, "body": {} } } }
        } },
        "Loss": { "type": "object", "required": ["field", "kind", "severity", "reason"], "properties": {
            "field": text, "kind": { "type": "string", "enum": ["dropped", "local_only", "narrowed", "widened", "defaulted", "substituted"] },
            "severity": { "type": "string", "enum": ["info", "functional", "security"] }, "reason": text,
            "wanted": { "description": "What was asked for" }, "got": { "description": "What the vendor has" }
        } },
        "Drift": { "type": "object", "required": ["field"], "properties": { "field": text, "recorded": {}, "vendor": {} } },
        "Operation": { "type": "object", "required": ["id", "action", "backend", "state", "outcome", "summary", "created_at", "updated_at", "attempts", "evidence"], "properties": {
            "id": text, "action": { "type": "string", "enum": ["create", "update", "delete", "rotate"] }, "backend": text, "registration": text,
            "state": { "type": "string", "enum": ["pending", "succeeded", "failed", "unknown"] }, "outcome": outcome, "summary": text,
            "created_at": time, "updated_at": time, "attempts": { "type": "integer" }, "evidence": { "type": "object" }
        } },
        "OperationPage": page("Operation"),
        "Backend": { "type": "object", "required": ["name", "kind", "enabled", "health", "capabilities"], "properties": {
            "name": text, "kind": text, "title": text, "enabled": { "type": "boolean" }, "on_loss": text, "health": { "type": "object" },
            "capabilities": reference("Vendor"), "check": { "type": "object" }
        } },
        "BackendList": page("Backend"),
        "Vendor": { "type": "object", "required": ["kind", "operations", "fields", "limits", "secret", "source"], "properties": {
            "kind": text, "title": text, "source": text, "verified": text, "operations": { "type": "object", "additionalProperties": { "type": "string", "enum": ["full", "partial", "unsupported"] } },
            "fields": { "type": "object", "additionalProperties": { "type": "string", "enum": ["full", "partial", "unsupported", "not_implemented"] } },
            "notes": { "type": "object", "additionalProperties": text }, "vendor_members": { "type": "object", "additionalProperties": text },
            "settings": { "type": "object", "additionalProperties": text }, "limits": { "type": "object" }, "update_style": text, "secret": text, "idempotency": text, "delete": text
        } },
        "VendorList": page("Vendor"),
        "Evaluation": { "type": "object", "required": ["considered"], "properties": {
            "backend": text, "route": text,
            "considered": { "type": "array", "items": { "type": "object", "required": ["route", "matched", "reason"], "properties": { "route": text, "matched": { "type": "boolean" }, "reason": text } } }
        } },
        "Status": { "type": "object", "required": ["status"], "properties": { "status": text, "reason": text } },
        "Problem": { "type": "object", "description": "RFC 9457", "required": ["type", "title", "status", "detail", "code", "outcome", "retryable", "request_id"], "properties": {
            "type": { "type": "string", "format": "uri" }, "title": text, "status": { "type": "integer" }, "detail": text,
            "code": { "type": "string", "enum": codes }, "outcome": outcome, "retryable": { "type": "boolean" }, "request_id": text,
            "operation": text, "backend": text, "losses": losses,
            "vendor": { "type": "object", "properties": { "status": { "type": "integer" }, "code": text, "message": text, "request_id": text } },
            "errors": { "type": "array", "items": { "type": "object", "required": ["pointer", "code", "detail"], "properties": { "pointer": text, "code": { "type": "string", "enum": issue_codes }, "detail": text } } }
        } }
    })
}
