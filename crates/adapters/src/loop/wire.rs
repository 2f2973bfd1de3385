//! Loop's JSON, exactly as its pages state it (vendor page 000: `POST`, 001: `PATCH`; `GET` and `rotate-secret` from
//! its public reference).

use std::borrow::Cow;

use registrar_model::RedirectUri;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// A client in every answer. Members that later versions add are kept in `rest`.
#[derive(Debug, Deserialize)]
pub(super) struct Client {
    pub id: String,
    pub client_id: String,
    pub client_name: String,
    #[serde(default)]
    pub client_uri: Option<String>,
    #[serde(default)]
    pub logo_uri: Option<String>,
    pub client_type: String,
    pub redirect_uris: Vec<String>,
    pub allowed_scopes: Vec<String>,
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    #[serde(default)]
    pub owner_id: Option<String>,
    #[serde(default)]
    pub brand_id: Option<String>,
    #[serde(default)]
    pub is_first_party: Option<bool>,
    pub enabled: bool,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default, rename = "updated_at")]
    pub _updated_at: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `{client, client_secret}`: the secret is a sibling of the client (trap 5), `null` for public clients.
#[derive(Deserialize)]
pub(super) struct Created {
    pub client: Client,
    #[serde(default)]
    pub client_secret: Option<String>,
}

/// `{client}`
#[derive(Deserialize)]
pub(super) struct Updated {
    pub client: Client,
}

/// `{clients}`: the gateway's own clients only (trap 19), not paged.
#[derive(Deserialize)]
pub(super) struct Listed {
    pub clients: Vec<Client>,
    /// A paging member would mean that the list is not complete any more.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}
