//! The header fields of answers, and what their bodies lead to.

use serde_json::{Map, Value, json};

use super::Call;

/// Every header field that an answer may have.
pub(super) fn headers() -> Value {
    let text = |description: &str, required: bool, schema: Value| json!({ "description": description, "required": required, "schema": schema });
    let string = || json!({ "type": "string" });
    json!({
        "X-Request-Id": text("The request in the log; the caller's own if that was plain", true, json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$" })),
        "Cache-Control": text("Answers are not kept", true, json!({ "const": "no-store" })),
        "ETag": text("The version of the client, for If-Match", true, json!({ "type": "string", "pattern": "^\"[0-9]+\"$" })),
        "Location": text("Where the client is", true, json!({ "type": "string", "format": "uri" })),
        "Link": text("rel=\"next\": the next page", false, string()),
        "Idempotent-Replayed": text("The answer is that of an earlier request with the same Idempotency-Key", false, json!({ "const": "true" })),
        "WWW-Authenticate": text("RFC 6750 §3", true, json!({ "type": "string", "pattern": "^Bearer realm=" })),
        "Retry-After": text("Seconds", true, json!({ "type": "integer", "minimum": 1 })),
        "Accept-Patch": text("RFC 5789 §2.2", true, json!({ "const": crate::body::MERGE_PATCH })),
        "Allow": text("The methods of this path", true, string()),
        "Access-Control-Allow-Origin": text("Any web page may ask", true, json!({ "const": "*" }))
    })
}

/// The header fields of one answer.
pub(super) fn headers_of(call: &Call, status: u16, schema: Option<&str>) -> Value {
    let registration = matches!(schema, Some("WrittenRegistration" | "Registration"));
    let is_open = call.tag == "registration";
    let all = [
        ("X-Request-Id", true),
        ("Cache-Control", true),
        ("ETag", registration || status == 304),
        ("Location", matches!(schema, Some("ClientInformation")) && status == 201),
        ("Location", matches!(schema, Some("WrittenRegistration")) && status == 201),
        ("Link", schema == Some("RegistrationPage")),
        ("Idempotent-Replayed", schema == Some("WrittenRegistration")),
        ("WWW-Authenticate", status == 401),
        // a load balancer asks again by itself
        ("Retry-After", status == 429 || status == 503 && call.path != "/readyz"),
        // on the standards face, it is always another request that has not ended
        ("Retry-After", status == 409 && is_open),
        ("Accept-Patch", status == 415 && call.method == "patch"),
        ("Allow", status == 405),
        ("Access-Control-Allow-Origin", is_open),
    ];
    let named = all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name);
    Value::Object(
        named.map(|n| (n.to_owned(), json!({ "$ref": format!("#/components/headers/{n}") }))).collect::<Map<_, _>>(),
    )
}

const CLIENT: [&str; 6] = ["readClient", "replaceClient", "patchClient", "rotateSecret", "reportUse", "deleteClient"];
const OPERATION: [&str; 3] = ["readOperation", "acknowledgeOperation", "resolveOperation"];

/// Which calls an answer leads to: call, parameter, where its value is.
pub(super) fn links_of(call: &Call, status: u16) -> Value {
    let to = |calls: &[&'static str], parameter: &'static str, value: &'static str| {
        calls.iter().map(|c| (*c, parameter, value)).collect::<Vec<_>>()
    };
    let links = match (call.id, status) {
        ("createClient", 201) => {
            [to(&CLIENT, "id", "$response.body#/id"), to(&OPERATION, "id", "$response.body#/operation")].concat()
        }
        ("replaceClient" | "patchClient" | "rotateSecret", 200) => {
            to(&OPERATION[..2], "id", "$response.body#/operation")
        }
        // a page may be empty or the last: its items and its cursor lead nowhere for sure
        ("listBackends", 200) => to(&["readBackend"], "name", "$response.body#/items/0/name"),
        ("createInitialAccessToken", 201) => to(&["deleteInitialAccessToken"], "id", "$response.body#/id"),
        _ => Vec::new(),
    };
    let link = |(call, parameter, value): (&str, &str, &str)| {
        (call.to_owned(), json!({ "operationId": call, "parameters": { parameter: value } }))
    };
    Value::Object(links.into_iter().map(link).collect::<Map<_, _>>())
}

/// Bodies that every deployment understands.
pub(super) fn examples_of(schema: &str) -> Option<Value> {
    let metadata =
        json!({ "client_name": "Portal", "redirect_uris": ["https://client.example/callback"], "scope": "openid" });
    let public = json!({ "client_name": "Phone", "redirect_uris": ["com.example.phone:/callback"], "scope": "openid",
        "token_endpoint_auth_method": "none", "application_type": "native" });
    let examples = match schema {
        "NewClientMetadata" => json!({ "web": { "value": metadata }, "native": { "value": public } }),
        "NewRegistration" | "RegistrationReplacement" => {
            json!({ "web": { "value": { "metadata": metadata, "labels": { "team": "portal" } } }, "native": { "value": { "metadata": public } } })
        }
        "RegistrationPatch" => json!({ "rename": { "value": { "metadata": { "client_name": "Another name" } } } }),
        "Resolution" => json!({ "absent": { "value": { "absent": true } } }),
        "NewInitialAccessToken" => {
            json!({ "partners": { "value": { "name": "partners", "uses": 10, "expires_in": 86400 } } })
        }
        _ => return None,
    };
    Some(examples)
}
