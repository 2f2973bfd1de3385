//! What answers hold. What a vendor sent is shown as it is, so the rules for requests do not hold here.

use registrar_core::ErrorKind;
use registrar_model::{FieldInfo, IssueCode, JsonType};
use serde_json::{Map, Value, json};

use super::{reference, with};

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

/// The members of a layer.
pub(super) fn layer(fields: &[&'static FieldInfo]) -> Map<String, Value> {
    fields.iter().map(|f| (f.name.to_owned(), field_schema(f))).collect()
}

/// The schemas of answers.
pub(super) fn schemas() -> Value {
    let metadata = layer(&registrar_model::metadata::FIELDS);
    let policy = layer(&registrar_model::policy::FIELDS);
    let text = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time" });
    let losses = json!({ "type": "array", "items": reference("Loss") });
    let written = json!({
        "metadata": reference("ClientMetadata"),
        "policy": reference("Policy"),
        "vendor": { "type": "object", "description": "Vendor-only members by vendor kind", "additionalProperties": { "type": "object" } },
        "labels": { "type": "object", "description": "The gateway's own labels", "additionalProperties": { "type": "string" } }
    });
    let identity = json!({
        "id": text, "backend": text, "kind": text, "client_id": text, "client_id_issued_at": { "type": "integer" },
        "version": { "type": "integer" }, "state": { "type": "string", "enum": ["active", "disabled", "unknown", "gone"] },
        "management": { "type": "string", "enum": ["lost"], "description": "The server no longer takes the gateway's token for this client; absent otherwise. That does not prove that the client is gone" },
        "created_at": time, "updated_at": time,
        "unused_until": { "type": "string", "format": "date-time", "description": "Registered without a token, and deleted then unless it is used before; a write keeps it" }
    });
    let registration = with(&identity, written);
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
        "ClientMetadata": { "type": "object", "properties": metadata, "description": "Client metadata (RFC 7591 §2) as the vendor has it" },
        "Policy": { "type": "object", "properties": policy, "additionalProperties": false },
        "Registration": { "type": "object", "required": required, "properties": with(&registration, json!({
            "source": { "type": "string", "enum": ["vendor"] },
            "drift": { "type": "array", "items": reference("Drift"), "description": "With source=vendor: what changed there since the last write" }
        })) },
        "WrittenRegistration": { "type": "object", "required": ["id", "backend", "client_id", "version", "state", "created_at", "updated_at", "metadata", "losses", "operation"],
            "properties": with(&with(&registration, secret.clone()), json!({
                "losses": losses, "operation": text,
                "warning": { "type": "string", "enum": ["not_recorded"], "description": "Done at the vendor; the gateway's record of it follows later" }
            })) },
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
            "retry_after": { "type": "integer", "minimum": 1, "description": "Seconds; the Retry-After field as a member" },
            "operation": text, "backend": text, "losses": losses,
            "vendor": { "type": "object", "properties": { "status": { "type": "integer" }, "code": text, "message": text, "request_id": text } },
            "errors": { "type": "array", "items": { "type": "object", "required": ["pointer", "code", "detail"], "properties": { "pointer": text, "code": { "type": "string", "enum": issue_codes }, "detail": text } } }
        } }
    })
}
