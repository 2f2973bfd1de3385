//! Parameters of the calls.

use serde_json::{Value, json};

use super::{requests::NAME, with};
use crate::clients::MAX_LABEL_FILTERS;

/// Text without control characters.
const PLAIN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
/// A string of RFC 8941, or the bare text.
const KEY: &str = r#"^(?:"[ -~]{1,255}"|[!#-~](?:[ -~]{0,253}[!-~])?)$"#;
const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

/// The parameters by the names that the calls use.
pub(super) fn all() -> Value {
    let query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let header = |name: &str, description: &str, pattern: &str| json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string", "pattern": pattern } });
    let path = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema });
    let text = json!({ "type": "string", "pattern": PLAIN });
    let id = |prefix: &str| json!({ "type": "string", "pattern": format!("^{prefix}{UUID}$") });
    json!({
        "registration": path("id", "The gateway's id of the client", id("reg_")),
        "operation": path("id", "The id of the operation", id("op_")),
        "token": path("id", "The id of the initial access token", json!({ "type": "string" })),
        "route": path("route", "The route's name", json!({ "type": "string" })),
        "ticket": path("ticket", "An initial access token", json!({ "type": "string" })),
        "name": path("name", "The backend's name", json!({ "type": "string", "pattern": NAME })),
        "dry_run": query("dry_run", "Only show what would be sent and lost", json!({ "type": "boolean", "default": false })),
        "strict": query("strict", "Refuse metadata names that no registry knows, instead of ignoring them", json!({ "type": "boolean", "default": false })),
        "backend": query("backend", "Only clients at this backend", json!({ "type": "string", "pattern": NAME })),
        "label": query("label", "Only clients with this label, as KEY:VALUE; may be repeated", json!({ "type": "array", "maxItems": MAX_LABEL_FILTERS, "items": { "type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f:]*:[^\x00-\x1f\x7f-\x9f]*$" } })),
        "q": query("q", "Only clients whose name or client_id has this text, in any case", text.clone()),
        "limit": query("limit", "How many a page", json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 })),
        "cursor": query("cursor", "`next_cursor` of the page before", text.clone()),
        "source": query("source", "`vendor` reads live and adds `drift`", json!({ "type": "string", "enum": ["registry", "vendor"], "default": "registry" })),
        "mode": query("mode", "`disable` switches the client off instead", json!({ "type": "string", "enum": ["delete", "disable"], "default": "delete" })),
        "state": query("state", "Only operations in this state", json!({ "type": "string", "enum": ["pending", "succeeded", "failed", "unknown"] })),
        "check": query("check", "Also make one cheap read at the vendor", json!({ "type": "boolean", "default": false })),
        "Idempotency-Key": header("Idempotency-Key", "The same request with the same key is one write; its answer, with the secret for a while, is repeated", KEY),
        "If-Match": with(
            &header("If-Match", "The ETag of the version that is to be changed; any other gets 412", r#"^(?:\*|"[0-9]+")$"#),
            json!({ "example": "\"1\"" })
        ),
        "If-None-Match": json!({ "name": "If-None-Match", "in": "header", "description": "The ETag of the version that the caller has", "schema": { "type": "string" } })
    })
}
