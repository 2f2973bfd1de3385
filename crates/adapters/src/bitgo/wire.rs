//! BitGo's JSON, exactly as its page states it (vendor page 002: create; get and update from its public reference).

use registrar_model::{Loss, RedirectUri, Scope};
use serde::Serialize;
use serde_json::{Map, Value};

use super::KIND;
use crate::shared::answer::Members;

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

/// The canonical fields of the members of a client.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("redirectUri", "metadata.redirect_uris"),
    ("scope", "metadata.scope"),
    ("redirectDomain", "policy.redirect_domains"),
    ("enterprise", "policy.tenant"),
    ("clientOrganizations", "policy.organizations"),
    ("isActive", "policy.enabled"),
    ("clientSecret", "client_secret"),
];

/// A client in every answer, at the top level. Not `Debug`: it may hold the secret.
pub(super) struct Client {
    pub client_id: String,
    pub redirect_uri: Option<Vec<String>>,
    /// "One of": a list, or one string (trap 15).
    pub scope: Option<Scope>,
    pub client_type: Option<String>,
    /// Shown by reads as well (trap 17).
    pub client_secret: Option<String>,
    pub redirect_domain: Option<Vec<String>>,
    pub enterprise: Option<String>,
    pub client_organizations: Option<Vec<String>>,
    pub is_active: Option<bool>,
    pub rest: Map<String, Value>,
    /// Members that cannot be read.
    pub unread: Vec<Loss>,
}

impl Client {
    /// Reads the members.
    pub(super) fn read(mut members: Members) -> Self {
        let [client_secret] = members.secrets(["clientSecret"]);
        let client_id = members.text("clientId").unwrap_or_default();
        let redirect_uri = members.words("redirectUri");
        let scope = members.scope("scope");
        let client_type = members.text("clientType");
        let redirect_domain = members.words("redirectDomain");
        let enterprise = members.text("enterprise");
        let client_organizations = members.words("clientOrganizations");
        let is_active = members.switch("isActive");
        let (rest, unread) = members.rest(KIND, FIELDS);
        Self {
            client_id,
            redirect_uri,
            scope,
            client_type,
            client_secret,
            redirect_domain,
            enterprise,
            client_organizations,
            is_active,
            rest,
            unread,
        }
    }
}
