//! Loop's JSON, exactly as its pages state it (vendor page 000: `POST`, 001: `PATCH`; `GET` and `rotate-secret` from
//! its public reference).

use std::borrow::Cow;

use registrar_model::{Loss, RedirectUri, Scope};
use serde::Serialize;
use serde_json::{Map, Value};

use super::KIND;
use crate::shared::answer::Members;

/// Request body of `POST /v1/admin/oauth-clients`, sorted by name like every body that is sent. Optional members are left
/// out, never `null` (trap 18).
#[derive(Debug, Serialize)]
pub(super) struct CreateClient<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub allowed_origins: &'a [String],
    pub allowed_scopes: Vec<&'a str>,
    pub client_name: Cow<'a, str>,
    pub client_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<&'a str>,
    pub redirect_uris: Vec<&'a RedirectUri>,
}

/// The canonical fields of the members of a client.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("client_name", "metadata.client_name"),
    ("client_uri", "metadata.client_uri"),
    ("logo_uri", "metadata.logo_uri"),
    ("client_type", "metadata.token_endpoint_auth_method"),
    ("redirect_uris", "metadata.redirect_uris"),
    ("allowed_scopes", "metadata.scope"),
    ("allowed_origins", "policy.allowed_cors_origins"),
    ("owner_id", "policy.owner"),
    ("brand_id", "policy.tenant"),
    ("is_first_party", "policy.first_party"),
    ("enabled", "policy.enabled"),
    ("client_secret", "client_secret"),
];

/// A client in every answer.
#[derive(Debug)]
pub(super) struct Client {
    pub id: Option<String>,
    pub client_id: String,
    pub client_name: Option<String>,
    pub client_uri: Option<String>,
    pub logo_uri: Option<String>,
    pub client_type: ClientType,
    pub redirect_uris: Option<Vec<String>>,
    pub allowed_scopes: Option<Scope>,
    pub allowed_origins: Option<Vec<String>>,
    pub owner_id: Option<String>,
    pub brand_id: Option<String>,
    pub is_first_party: Option<bool>,
    pub enabled: Option<bool>,
    /// Unix seconds.
    pub created_at: Option<i64>,
    /// Members that later versions add.
    pub rest: Map<String, Value>,
    /// Members that cannot be read.
    pub unread: Vec<Loss>,
}

/// `client_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientType {
    Confidential,
    Public,
    /// It is not there, or it is neither of the two.
    Unsaid,
}

impl Client {
    /// Reads the members; no secret is among them.
    pub(super) fn read(mut members: Members) -> Self {
        let [] = members.secrets([]);
        let client_type = match members.text("client_type").as_deref() {
            Some("confidential") => ClientType::Confidential,
            Some("public") => ClientType::Public,
            None => ClientType::Unsaid,
            Some(_) => {
                members.not_understood("client_type");
                ClientType::Unsaid
            }
        };
        members.ignore(&["updated_at"]);
        let id = members.text("id");
        let client_id = members.text("client_id").unwrap_or_default();
        let client_name = members.text("client_name");
        let client_uri = members.text("client_uri");
        let logo_uri = members.text("logo_uri");
        let redirect_uris = members.words("redirect_uris");
        let allowed_scopes = members.scope("allowed_scopes");
        let allowed_origins = members.words("allowed_origins");
        let owner_id = members.text("owner_id");
        let brand_id = members.text("brand_id");
        let is_first_party = members.switch("is_first_party");
        let enabled = members.switch("enabled");
        let created_at = members.time("created_at");
        let (rest, unread) = members.rest(KIND, FIELDS);
        Self {
            id,
            client_id,
            client_name,
            client_uri,
            logo_uri,
            client_type,
            redirect_uris,
            allowed_scopes,
            allowed_origins,
            owner_id,
            brand_id,
            is_first_party,
            enabled,
            created_at,
            rest,
            unread,
        }
    }
}

/// `{client, client_secret}`: the secret is a sibling of the client (trap 5), `null` for public clients. `None` without a
/// client.
pub(super) fn written(mut answer: Members) -> Option<(Client, Option<String>)> {
    let [secret] = answer.secrets(["client_secret"]);
    Some((Client::read(answer.inner("client", "client_id")?), secret))
}
