//! What may be sent: the rules of `registrar_model::validate` as far as JSON Schema can say them. Beyond it are the rules
//! between members (`conflict`) and those for the host of a URI, which a pattern can only approach.

use registrar_engine::dcr;
use registrar_model::{
    FieldInfo, JsonType,
    jwk::{PRIVATE_MEMBERS, PUBLIC_KEY_TYPES},
    request::MAX_LABELS,
    text::MAX_TEXT,
    uri::MAX_URI,
    validate::MAX_NAME,
};
use serde_json::{Map, Value, json};

use super::{uris, with};

/// No control characters, no bidirectional ones.
const TEXT: &str = r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$";
/// The same with something to see.
const WORD: &str = r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*[^\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069][^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$";
/// The name of a backend.
pub(super) const NAME: &str = r"^[a-z0-9][a-z0-9._-]{0,62}$";
/// The name of an algorithm (RFC 7518 §3.1).
const ALGORITHM: &str = r"^[A-Za-z0-9+_-]{1,64}$";
/// RFC 6749 §3.3.
const SCOPE: &str = r"^ *(?:[!#-\[\]-~]+ *)*$";
/// Words in any order (OAuth 2.0 Multiple Response Type Encoding Practices §3).
const RESPONSE_TYPE: &str = r"^(?:code|token|id_token|none)(?: (?:code|token|id_token|none))*$";
const DOMAIN: &str =
    r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$";
const LABEL: &str = r"^[A-Za-z0-9._/-]{1,63}$";

fn uri(pattern: String) -> Value {
    json!({ "pattern": pattern, "maxLength": MAX_URI })
}

/// What a text or an entry of a list has to be.
fn text_rule(field: &FieldInfo) -> Value {
    match field.path {
        "metadata.client_name" => json!({ "pattern": TEXT, "maxLength": MAX_NAME }),
        "metadata.application_type" => json!({ "enum": ["web", "native"] }),
        "metadata.subject_type" => json!({ "enum": ["public", "pairwise"] }),
        "metadata.backchannel_token_delivery_mode" => json!({ "enum": ["poll", "ping", "push"] }),
        "metadata.scope" => json!({ "pattern": SCOPE }),
        "metadata.token_endpoint_auth_method" => json!({ "anyOf": [
            { "enum": ["none", "client_secret_post", "client_secret_basic", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"] },
            { "pattern": "^[A-Za-z][A-Za-z0-9+.-]*:", "format": "uri", "description": "RFC 7591 §2: or an absolute URI" }
        ], "maxLength": MAX_TEXT }),
        "metadata.tls_client_auth_san_ip" => json!({ "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] }),
        "metadata.jwks_uri"
        | "metadata.signed_jwks_uri"
        | "metadata.sector_identifier_uri"
        | "metadata.backchannel_logout_uri"
        | "metadata.backchannel_client_notification_endpoint" => uri(uris::fetched()),
        "metadata.initiate_login_uri" => uri(uris::followed_over_tls()),
        "metadata.frontchannel_logout_uri" => uri(uris::followed()),
        "metadata.client_uri"
        | "metadata.logo_uri"
        | "metadata.tos_uri"
        | "metadata.policy_uri"
        | "metadata.organization_uri"
        | "metadata.information_uri" => uri(uris::shown()),
        "metadata.redirect_uris" | "metadata.post_logout_redirect_uris" | "metadata.claims_redirect_uris" => {
            json!({ "$ref": "#/components/schemas/RedirectUri" })
        }
        "metadata.request_uris" => uri(uris::request_object()),
        "metadata.response_types" => json!({ "pattern": RESPONSE_TYPE }),
        // RFC 9700 §2.4
        "metadata.grant_types" => {
            json!({ "pattern": r"^[^ \x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+$", "not": { "const": "password" }, "maxLength": MAX_TEXT })
        }
        "metadata.token_endpoint_auth_signing_alg" | "metadata.authorization_signed_response_alg" => {
            json!({ "pattern": ALGORITHM, "not": { "const": "none" } })
        }
        path if path.ends_with("_alg") || path.ends_with("_enc") => json!({ "pattern": ALGORITHM }),
        "policy.allowed_cors_origins" | "policy.allowed_web_origins" => uri(uris::origin()),
        "policy.redirect_domains" => json!({ "pattern": DOMAIN, "maxLength": 253 }),
        _ if field.json == JsonType::Strings => json!({ "pattern": WORD, "maxLength": MAX_TEXT }),
        _ => json!({ "pattern": TEXT, "maxLength": MAX_TEXT }),
    }
}

/// One member; null and what is empty are the same as leaving it out (RFC 7592 §2.2). A value that is there twice counts
/// once.
fn member(field: &FieldInfo) -> Value {
    let rule = match field.json {
        JsonType::String => with(&text_rule(field), json!({ "type": "string" })),
        JsonType::Strings => json!({ "type": "array", "items": with(&text_rule(field), json!({ "type": "string" })) }),
        JsonType::Boolean => json!({ "type": "boolean" }),
        // beyond 2^53 - 1 JSON readers disagree (RFC 8259 §6)
        JsonType::Integer => json!({ "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 }),
        JsonType::Object => jwks(),
    };
    let absent = match field.json {
        JsonType::Strings => "AbsentList",
        JsonType::Object => "AbsentObject",
        JsonType::String | JsonType::Boolean | JsonType::Integer => "Absent",
    };
    json!({ "anyOf": [rule, super::reference(absent)], "description": format!("{} ({})", field.doc, field.source) })
}

/// A JWK Set of public keys (RFC 7517 §5).
fn jwks() -> Value {
    let private: Map<String, Value> = PRIVATE_MEMBERS.iter().map(|m| ((*m).to_owned(), json!(false))).collect();
    let key = with(&Value::Object(private), json!({ "kty": { "enum": PUBLIC_KEY_TYPES } }));
    json!({
        "type": "object", "required": ["keys"],
        "properties": { "keys": { "type": "array", "items": { "type": "object", "required": ["kty"], "properties": key } } }
    })
}

fn layer(fields: &[&'static FieldInfo]) -> Map<String, Value> {
    fields.iter().map(|f| (f.name.to_owned(), member(f))).collect()
}

/// The lists of RP Metadata Choices §2, which the standards face reads: what no vendor knows may stand in them, beside
/// something that the member may be.
fn choices() -> Map<String, Value> {
    let list = |(list, member): (&str, &str)| {
        let field = registrar_model::metadata::FIELDS.iter().find(|f| f.name == member)?;
        let rule = with(&text_rule(field), json!({ "type": "string" }));
        let description = format!("What the client can do, best first; the server picks one as `{member}`");
        let schema = json!({
            "type": ["array", "null"], "minItems": 1, "maxItems": dcr::MAX_CHOICES,
            "items": { "type": "string", "minLength": 1 }, "contains": rule, "description": description
        });
        Some((list.to_owned(), schema))
    };
    dcr::choices().filter_map(list).collect()
}

/// The schemas of requests.
pub(super) fn schemas() -> Value {
    let metadata = layer(&registrar_model::metadata::FIELDS);
    let localized: Map<String, Value> = registrar_model::metadata::FIELDS
        .iter()
        .filter(|f| f.localised)
        // RFC 5646 §2.1
        .map(|f| (format!("^{}#[A-Za-z]{{1,8}}(?:-[A-Za-z0-9]{{1,8}})*$", f.name), member(f)))
        .collect();
    let admin = json!({
        "type": "object", "properties": metadata, "patternProperties": localized,
        "description": "Client metadata; names that no registry knows are ignored (RFC 7591 §2)"
    });
    let mut metadata = admin.clone();
    metadata["description"] = json!(
        "Client metadata; names that no registry knows are ignored (RFC 7591 §2). From each list `*_supported` the server picks one value (OpenID Connect RP Metadata Choices 1.0)"
    );
    metadata["properties"] = with(&metadata["properties"], Value::Object(choices()));
    let mut own = metadata.clone();
    own["required"] = json!(["client_id"]);
    own["properties"]["client_id"] = json!({ "type": "string", "description": "The client's own" });
    own["properties"]["client_secret"] =
        json!({ "type": ["string", "null"], "description": "The current one, or absent" });
    for name in
        ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"]
    {
        // RFC 7592 §2.2
        own["properties"][name] = json!(false);
    }
    let policy = json!({ "type": ["object", "null"], "properties": layer(&registrar_model::policy::FIELDS), "additionalProperties": false });
    let label = json!({ "type": "string", "pattern": TEXT, "maxLength": 255 });
    let policies: Vec<&str> = registrar_model::policy::FIELDS.iter().map(|f| f.name).collect();
    let lossy = format!(
        r"^(?:labels|(?:metadata|vendor)\.[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+|policy\.(?:{}))$",
        policies.join("|")
    );
    let fields = json!({ "type": ["array", "null"], "items": { "type": "string", "pattern": lossy, "maxLength": MAX_TEXT },
        "description": "Fields whose loss is accepted, such as metadata.jwks_uri" });
    let vendor = json!({ "type": ["object", "null"], "description": "Vendor-only members by vendor kind", "additionalProperties": { "type": ["object", "null"] } });
    let envelope = json!({
        "backend": { "type": ["string", "null"], "pattern": NAME, "description": "Where to register; the routes decide when absent" },
        "metadata": super::reference("NewRegistrationMetadata"),
        "policy": super::reference("NewPolicy"),
        "vendor": vendor,
        "labels": { "type": ["object", "null"], "description": "The gateway's own labels", "maxProperties": MAX_LABELS, "propertyNames": { "pattern": LABEL }, "additionalProperties": label },
        "allow_loss": fields
    });
    let identity: Map<String, Value> = crate::clients::IDENTITY
        .into_iter()
        .map(|n| (n.to_owned(), json!({ "description": "As GET showed it; ignored" })))
        .collect();
    // here null removes; so it may stand where nothing is
    let mut removable = label;
    removable["type"] = json!(["string", "null"]);
    let mut patch_policy = policy.clone();
    patch_policy["additionalProperties"] = json!({ "type": "null" });
    let changes = with(
        &envelope,
        json!({
            "policy": patch_policy,
            "labels": { "type": ["object", "null"], "patternProperties": { LABEL: removable }, "additionalProperties": { "type": "null" } }
        }),
    );
    json!({
        "Absent": { "enum": [null, ""], "description": "As if the member were left out" },
        "AbsentList": { "enum": [null, "", []], "description": "As if the member were left out" },
        "AbsentObject": { "enum": [null, "", [], {}], "description": "As if the member were left out" },
        "RedirectUri": with(&uri(uris::redirect()), json!({ "type": "string" })),
        "NewClientMetadata": metadata,
        "NewRegistrationMetadata": admin,
        "OwnClientMetadata": own,
        "NewPolicy": policy,
        "NewRegistration": { "type": "object", "required": ["metadata"], "properties": envelope, "additionalProperties": false },
        "RegistrationReplacement": { "type": "object", "required": ["metadata"], "properties": with(&envelope, Value::Object(identity)), "additionalProperties": false },
        "RegistrationPatch": { "type": "object", "description": "A merge patch (RFC 7396) of a NewRegistration", "properties": changes, "additionalProperties": { "type": "null" } },
        "Resolution": { "type": "object", "description": "One of `adopt`, `absent` and `gone`", "oneOf": [{ "required": ["adopt"] }, { "required": ["absent"] }, { "required": ["gone"] }], "dependentRequired": { "force": ["adopt"] }, "additionalProperties": false, "properties": {
            "adopt": { "type": "object", "required": ["client_id"], "additionalProperties": false, "properties": {
                "client_id": { "type": "string", "pattern": "^[ -~]{1,512}$" }, "vendor_ref": { "type": "string", "minLength": 1 }, "force": { "type": "boolean" }
            } },
            "force": { "type": "boolean", "description": "Adopt it although it is not like what was asked for; the journal says who did" },
            "absent": { "type": "boolean", "const": true, "description": "The vendor did nothing" },
            "gone": { "type": "boolean", "const": true, "description": "The vendor does not have the client any more that was to be changed or deleted" }
        } },
        "NewInitialAccessToken": { "type": "object", "additionalProperties": false, "properties": {
            "name": { "type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$", "minLength": 1, "maxLength": 255 },
            "uses": { "type": ["integer", "null"], "minimum": 1, "maximum": u32::MAX },
            "expires_in": { "type": ["integer", "null"], "minimum": 1, "maximum": crate::register::tokens::MAX_LIFE, "description": "Seconds" },
            "routes": { "type": ["array", "null"], "items": { "type": "string" } },
            "scopes": { "type": ["array", "null"], "items": { "type": "string" } },
            "redirect_hosts": { "type": ["array", "null"], "items": { "type": "string" }, "description": "Host names; or schemes that end with a colon" }
        } }
    })
}
