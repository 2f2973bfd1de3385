//! The JSON of authms, exactly as its page states it (vendor page 003; the other calls from its public specification).

use std::borrow::Cow;

use registrar_model::RedirectUri;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Request body of `POST /admin/oauth/clients`, sorted by name like every body that is sent.
#[derive(Debug, Serialize)]
pub(super) struct CreateClient<'a> {
    /// A list here, a text in every answer (trap 3).
    pub client_auth_methods: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fapi_profile: Option<&'a str>,
    pub grant_types: Vec<String>,
    /// Always sent: an omitted one may mean false, a public client (trap 23).
    pub is_confidential: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<&'a str>,
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy_policy: Option<&'a str>,
    pub redirect_uris: &'a [RedirectUri],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<&'a str>,
}

/// A client: the answer to a creation and the items of reads in one, since each lacks members of the other. Not
/// `Debug`: it may hold the secret.
#[derive(Deserialize)]
pub(super) struct Client {
    pub client_id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub redirect_uris: Option<Vec<String>>,
    #[serde(default)]
    pub client_auth_methods: Option<Value>,
    #[serde(default)]
    pub grant_types: Option<Vec<String>>,
    #[serde(default)]
    pub is_confidential: Option<bool>,
    #[serde(default)]
    pub fapi_profile: Option<String>,
    /// In the answer to a creation only (trap 22).
    #[serde(default)]
    pub jwks: Option<String>,
    #[serde(default)]
    pub jwks_uri: Option<String>,
    #[serde(default)]
    pub logo_url: Option<String>,
    #[serde(default)]
    pub privacy_policy: Option<String>,
    #[serde(default)]
    pub terms_url: Option<String>,
    #[serde(default)]
    pub website: Option<String>,
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    #[serde(default)]
    pub cors_origins: Option<Vec<String>>,
    #[serde(default)]
    pub status: Option<String>,
    /// Reads show it, the answer to a creation does not: it says where the credential belongs, not what the client is.
    #[serde(default, rename = "tenant_id")]
    pub _tenant_id: Option<Value>,
    #[serde(default)]
    pub client_secret: Option<String>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub deleted_at: Option<String>,
    #[serde(default, rename = "id")]
    pub _id: Option<Value>,
    #[serde(default, rename = "updated_at")]
    pub _updated_at: Option<Value>,
    #[serde(default, rename = "secret_last_four")]
    pub _secret_last_four: Option<Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `{code, data, message}`; some answers add `timestamp` (trap 2).
#[derive(Deserialize)]
pub(super) struct Enveloped<T> {
    pub data: T,
}

/// Lists have their items at the top level (trap 4).
#[derive(Deserialize)]
pub(super) struct Listed {
    pub items: Vec<Client>,
    pub pagination: Pagination,
}

/// 1-based; `total` is not to be trusted (trap 45).
#[derive(Deserialize)]
pub(super) struct Pagination {
    pub page: u64,
    pub has_next: bool,
}

/// `new_secret`, where a creation says `client_secret` (trap 5).
#[derive(Deserialize)]
pub(super) struct Rotated {
    pub client_id: String,
    #[serde(default)]
    pub new_secret: Option<String>,
    #[serde(default)]
    pub rotated_at: Option<String>,
}
