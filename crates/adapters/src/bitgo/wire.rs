//! BitGo's JSON, exactly as its page states it (vendor page 002: create; get and update from its public reference).

use registrar_model::RedirectUri;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Request body of `POST /api/v2/admin/oauth/client`, sorted by name like every body that is sent. `redirectUri` is a list
/// under a singular name (trap 1).
#[derive(Debug, Serialize)]
pub(super) struct CreateClient<'a> {
    #[serde(rename = "clientIdPrefix", skip_serializing_if = "Option::is_none")]
    pub client_id_prefix: Option<String>,
    #[serde(rename = "clientOrganizations", skip_serializing_if = "<[String]>::is_empty")]
    pub client_organizations: &'a [String],
    #[serde(rename = "clientType", skip_serializing_if = "Option::is_none")]
    pub client_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<&'a str>,
    #[serde(rename = "isActive", skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
    #[serde(rename = "redirectDomain", skip_serializing_if = "<[String]>::is_empty")]
    pub redirect_domain: &'a [String],
    #[serde(rename = "redirectUri")]
    pub redirect_uri: &'a [RedirectUri],
    pub scope: Value,
}

/// A client in every answer, at the top level. Not `Debug`: it may hold the secret.
#[derive(Deserialize)]
pub(super) struct Client {
    #[serde(rename = "clientId")]
    pub client_id: String,
    #[serde(rename = "redirectUri")]
    pub redirect_uri: Vec<String>,
    pub scope: ScopeShape,
    #[serde(default, rename = "clientType")]
    pub client_type: Option<String>,
    /// Shown by reads as well (trap 17).
    #[serde(default, rename = "clientSecret")]
    pub client_secret: Option<String>,
    #[serde(default, rename = "redirectDomain")]
    pub redirect_domain: Option<Vec<String>>,
    #[serde(default)]
    pub enterprise: Option<String>,
    #[serde(default, rename = "organizationConfig")]
    pub organization_config: Option<Value>,
    #[serde(default, rename = "clientOrganizations")]
    pub client_organizations: Option<Vec<String>>,
    #[serde(default, rename = "isActive")]
    pub is_active: Option<bool>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// "One of": a list, or one string (trap 15).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum ScopeShape {
    List(Vec<String>),
    Text(String),
}

impl ScopeShape {
    pub(super) fn into_tokens(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Text(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        }
    }
}
