//! The standards face and its tokens in the API document.

use registrar_core::ErrorKind as K;
use serde_json::{Map, Value, json};

use super::{Call, answers, reference, with};

/// How the standards face refuses (RFC 7591 §3.2.2).
const REFUSALS: [(u16, &str); 8] = [
    (400, "The metadata is not acceptable"),
    (401, "A token is needed, or the one that was sent is not valid"),
    (403, "Registration is closed, or this is not permitted"),
    (429, "Too many registrations; see Retry-After"),
    (500, "A defect of the gateway, or a write that succeeded in part"),
    (502, "The vendor failed"),
    (503, "Not available now; see Retry-After"),
    (504, "The vendor did not answer; whether it did anything is not known"),
];

/// How it refuses a body.
const BODY_REFUSALS: [(u16, &str); 2] = [(413, "A body may have 64 KiB"), (415, "Send Content-Type: application/json")];

/// How it refuses a key for repetitions.
const KEY_REFUSALS: [(u16, &str); 2] = [
    (409, "The first request with this Idempotency-Key has not ended; see Retry-After"),
    (422, "This Idempotency-Key was used for another request"),
];

/// Its paths, and those that make its tokens.
pub(super) const CALLS: &[Call] = &[
    Call {
        method: "post",
        path: "/v1/initial-access-tokens",
        tag: "tokens",
        id: "createInitialAccessToken",
        summary: "Make a token that allows registrations (RFC 7591)",
        scope: Some("clients:write"),
        parameters: &[],
        request: Some(("application/json", "NewInitialAccessToken")),
        responses: &[(201, "The token, shown once", Some("IssuedInitialAccessToken"))],
        errors: &[K::MalformedBody, K::UnsupportedMediaType, K::PayloadTooLarge, K::Validation, K::InvalidRequest],
    },
    Call {
        method: "get",
        path: "/v1/initial-access-tokens",
        tag: "tokens",
        id: "listInitialAccessTokens",
        summary: "List initial access tokens, oldest first",
        scope: Some("clients:write"),
        parameters: &[],
        request: None,
        responses: &[(200, "The tokens, without what is secret", Some("InitialAccessTokenList"))],
        errors: &[K::InvalidRequest],
    },
    Call {
        method: "delete",
        path: "/v1/initial-access-tokens/{id}",
        tag: "tokens",
        id: "deleteInitialAccessToken",
        summary: "Forget an initial access token: it stops working at once",
        scope: Some("clients:write"),
        parameters: &["token"],
        request: None,
        responses: &[(204, "It is forgotten", None)],
        errors: &[K::TokenNotFound, K::InvalidRequest],
    },
    Call {
        method: "post",
        path: "/register",
        tag: "registration",
        id: "register",
        summary: "Register a client (RFC 7591); the routes decide where",
        scope: Some("iat"),
        parameters: &["Idempotency-Key"],
        request: Some(("application/json", "NewClientMetadata")),
        responses: &[(
            201,
            "The client and how it manages itself; its secret is shown once",
            Some("ClientInformation"),
        )],
        errors: &[],
    },
    Call {
        method: "post",
        path: "/{route}/register",
        tag: "registration",
        id: "registerAt",
        summary: "Register a client at a route (RFC 7591)",
        scope: Some("iat"),
        parameters: &["route", "Idempotency-Key"],
        request: Some(("application/json", "NewClientMetadata")),
        responses: &[(
            201,
            "The client and how it manages itself; its secret is shown once",
            Some("ClientInformation"),
        )],
        errors: &[],
    },
    Call {
        method: "post",
        path: "/{route}/register/{ticket}",
        tag: "registration",
        id: "registerWithTicket",
        summary: "Register a client with the initial access token in the path",
        scope: Some("iat"),
        parameters: &["route", "ticket", "Idempotency-Key"],
        request: Some(("application/json", "NewClientMetadata")),
        responses: &[(
            201,
            "The client and how it manages itself; its secret is shown once",
            Some("ClientInformation"),
        )],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/register/{id}",
        tag: "registration",
        id: "readOwnRegistration",
        summary: "What is registered (RFC 7592)",
        scope: Some("rat"),
        parameters: &["registration"],
        request: None,
        responses: &[(200, "The client", Some("ClientInformation"))],
        errors: &[],
    },
    Call {
        method: "put",
        path: "/register/{id}",
        tag: "registration",
        id: "replaceOwnRegistration",
        summary: "Make the metadata be exactly this (RFC 7592)",
        scope: Some("rat"),
        parameters: &["registration"],
        request: Some(("application/json", "OwnClientMetadata")),
        responses: &[
            (200, "The client as it is now", Some("ClientInformation")),
            (405, "The vendor manages no clients", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "delete",
        path: "/register/{id}",
        tag: "registration",
        id: "deleteOwnRegistration",
        summary: "Delete the client (RFC 7592)",
        scope: Some("rat"),
        parameters: &["registration"],
        request: None,
        responses: &[
            (204, "The vendor has deleted it", None),
            (405, "The vendor documents no deletion, or manages no clients", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/.well-known/oauth-authorization-server",
        tag: "registration",
        id: "discover",
        summary: "Where clients are registered (RFC 8414)",
        scope: None,
        parameters: &[],
        request: None,
        responses: &[
            (200, "The document", Some("Discovery")),
            (404, "There is no document", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/.well-known/oauth-authorization-server/{route}",
        tag: "registration",
        id: "discoverRoute",
        summary: "Where clients are registered (RFC 8414)",
        scope: None,
        parameters: &["route"],
        request: None,
        responses: &[
            (200, "The document", Some("Discovery")),
            (404, "There is no document", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/.well-known/openid-configuration",
        tag: "registration",
        id: "discoverOpenid",
        summary: "Where clients are registered (RFC 8414)",
        scope: None,
        parameters: &[],
        request: None,
        responses: &[
            (200, "The document", Some("Discovery")),
            (404, "There is no document", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/.well-known/openid-configuration/{route}",
        tag: "registration",
        id: "discoverOpenidRoute",
        summary: "Where clients are registered (RFC 8414)",
        scope: None,
        parameters: &["route"],
        request: None,
        responses: &[
            (200, "The document", Some("Discovery")),
            (404, "There is no document", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/{route}/.well-known/openid-configuration",
        tag: "registration",
        id: "discoverOpenidAppended",
        summary: "Where clients are registered (RFC 8414)",
        scope: None,
        parameters: &["route"],
        request: None,
        responses: &[
            (200, "The document", Some("Discovery")),
            (404, "There is no document", Some("RegistrationError")),
        ],
        errors: &[],
    },
    Call {
        method: "get",
        path: "/{route}/.well-known/oauth-authorization-server",
        tag: "registration",
        id: "discoverAppended",
        summary: "Where clients are registered (RFC 8414)",
        scope: None,
        parameters: &["route"],
        request: None,
        responses: &[
            (200, "The document", Some("Discovery")),
            (404, "There is no document", Some("RegistrationError")),
        ],
        errors: &[],
    },
];

/// Adds how a call of the standards face refuses.
pub(super) fn refusals(call: &Call, responses: &mut Map<String, Value>) {
    if matches!(call.scope, Some("iat" | "rat")) {
        let of_body = BODY_REFUSALS.iter().filter(|_| call.request.is_some());
        let of_key = KEY_REFUSALS.iter().filter(|_| call.parameters.contains(&"Idempotency-Key"));
        for (status, description) in REFUSALS.iter().chain(of_body).chain(of_key) {
            responses.insert(
                status.to_string(),
                json!({ "description": description, "headers": answers::headers_of(call, *status, None), "content": { "application/json": { "schema": reference("RegistrationError") } } }),
            );
        }
    }
}

/// What its answers look like.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let metadata = Value::Object(super::schemas::layer(&registrar_model::metadata::FIELDS));
    let time = json!({ "type": "string", "format": "date-time" });
    let token = json!({
        "id": text, "name": text, "created_at": time, "expires_at": time, "uses_left": { "type": "integer" },
        "routes": { "type": "array", "items": text }, "scopes": { "type": "array", "items": text }, "redirect_hosts": { "type": "array", "items": text }
    });
    json!({
        "ClientInformation": { "type": "object", "description": "Client metadata at the top level, with what the server assigns (RFC 7591 §3.2.1, RFC 7592 §3)",
            "required": ["client_id", "redirect_uris", "token_endpoint_auth_method", "grant_types", "response_types", "registration_access_token", "registration_client_uri"],
            "properties": with(&metadata, json!({
                "client_id": text, "client_secret": text, "client_secret_expires_at": { "type": "integer" }, "client_id_issued_at": { "type": "integer" },
                "registration_access_token": text, "registration_client_uri": { "type": "string", "format": "uri" },
                "registration_expires_at": { "type": "integer", "description": "Unix seconds. The client is deleted then unless it is used before: one GET at `registration_client_uri` is enough. Absent when it does not expire" },
                "registrar_warnings": { "type": "array", "items": text, "description": "Sentences for people. One that begins with `not_recorded: ` names the operation of a registration or an update that the vendor has done and the gateway could not record yet: until it has, `registration_client_uri` may refuse the token or show what was before" },
                "registrar_losses": { "type": "array", "description": "What the vendor could not hold as asked", "items": {
                    "type": "object", "required": ["field", "kind", "severity", "reason"], "properties": { "field": text, "kind": text, "severity": text, "reason": text }
                } }
            }))
        },
        "RegistrationError": { "type": "object", "description": "RFC 7591 §3.2.2", "required": ["error", "error_description", "request_id"],
            "properties": { "error": text, "error_description": text, "request_id": text, "operation": text } },
        "Discovery": { "type": "object", "description": "RFC 8414", "required": ["issuer", "registration_endpoint"],
            "properties": { "issuer": text, "registration_endpoint": { "type": "string", "format": "uri" } } },
        "InitialAccessToken": { "type": "object", "required": ["id", "name", "created_at"], "properties": token },
        "IssuedInitialAccessToken": { "type": "object", "required": ["id", "name", "created_at", "token"], "properties": with(&token, json!({ "token": text })) },
        "InitialAccessTokenList": { "type": "object", "required": ["items"], "properties": { "items": { "type": "array", "items": reference("InitialAccessToken") } } }
    })
}
