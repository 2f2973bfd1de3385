//! The JSON of authms, exactly as its page states it (vendor page 003; the other calls from its public specification).

use std::borrow::Cow;

use registrar_model::{Loss, RedirectUri, Scope};
use serde::Serialize;
use serde_json::{Map, Value};

use super::KIND;
use crate::shared::{answer::Members, says_nothing};

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

/// The canonical fields of the members of a client.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("name", "metadata.client_name"),
    ("redirect_uris", "metadata.redirect_uris"),
    ("client_auth_methods", "metadata.token_endpoint_auth_method"),
    ("is_confidential", "metadata.token_endpoint_auth_method"),
    ("grant_types", "metadata.grant_types"),
    ("fapi_profile", "policy.security_profile"),
    ("jwks", "metadata.jwks"),
    ("jwks_uri", "metadata.jwks_uri"),
    ("logo_url", "metadata.logo_uri"),
    ("privacy_policy", "metadata.policy_uri"),
    ("terms_url", "metadata.tos_uri"),
    ("website", "metadata.client_uri"),
    ("scopes", "metadata.scope"),
    ("cors_origins", "policy.allowed_cors_origins"),
    ("status", "policy.enabled"),
    ("client_secret", "client_secret"),
];

/// A client: the answer to a creation and the items of reads in one, since each lacks members of the other. Not
/// `Debug`: it may hold the secret.
pub(super) struct Client {
    pub client_id: String,
    pub name: Option<String>,
    pub redirect_uris: Option<Vec<String>>,
    pub client_auth_methods: Vec<String>,
    pub grant_types: Option<Vec<String>>,
    pub is_confidential: Option<bool>,
    pub fapi_profile: Option<String>,
    /// In the answer to a creation only (trap 22).
    pub jwks: Option<Map<String, Value>>,
    pub jwks_uri: Option<String>,
    pub logo_url: Option<String>,
    pub privacy_policy: Option<String>,
    pub terms_url: Option<String>,
    pub website: Option<String>,
    pub scopes: Option<Scope>,
    pub cors_origins: Option<Vec<String>>,
    pub status: Option<String>,
    pub client_secret: Option<String>,
    /// Unix seconds.
    pub created_at: Option<i64>,
    pub is_deleted: bool,
    pub rest: Map<String, Value>,
    /// Members that cannot be read.
    pub unread: Vec<Loss>,
}

impl Client {
    /// Reads the members.
    pub(super) fn read(mut members: Members) -> Self {
        let [client_secret] = members.secrets(["client_secret"]);
        // reads show the tenant, the answer to a creation does not: it says where the credential belongs, not what the
        // client is
        members.ignore(&["tenant_id", "id", "updated_at", "secret_last_four"]);
        let is_deleted = members.value("deleted_at").is_some_and(|at| !says_nothing(&at));
        let client_id = members.text("client_id").unwrap_or_default();
        let name = members.text("name");
        let redirect_uris = members.words("redirect_uris");
        // a list that comes back as JSON in a text (trap 3); also a real list, a bare word, nothing
        let client_auth_methods = members.words("client_auth_methods").unwrap_or_default();
        let grant_types = members.words("grant_types");
        let is_confidential = members.switch("is_confidential");
        let fapi_profile = members.text("fapi_profile");
        let jwks = members.object("jwks");
        let jwks_uri = members.text("jwks_uri");
        let logo_url = members.text("logo_url");
        let privacy_policy = members.text("privacy_policy");
        let terms_url = members.text("terms_url");
        let website = members.text("website");
        let scopes = members.scope("scopes");
        let cors_origins = members.words("cors_origins");
        let status = members.text("status");
        let created_at = members.time("created_at");
        let (rest, unread) = members.rest(KIND, FIELDS);
        Self {
            client_id,
            name,
            redirect_uris,
            client_auth_methods,
            grant_types,
            is_confidential,
            fapi_profile,
            jwks,
            jwks_uri,
            logo_url,
            privacy_policy,
            terms_url,
            website,
            scopes,
            cors_origins,
            status,
            client_secret,
            created_at,
            is_deleted,
            rest,
            unread,
        }
    }
}

/// Lists have their items at the top level (trap 4), and 1-based pages; `total` is not to be trusted (trap 45).
pub(super) struct Listed {
    pub items: Vec<Client>,
    pub page: u64,
    pub has_next: bool,
}

impl Listed {
    /// `None` without items, or without a page that can be read.
    pub(super) fn read(mut answer: Members) -> Option<Self> {
        let items = answer.items("items")?.into_iter().map(Client::read).collect();
        let mut pagination = answer.inner("pagination", "page")?;
        Some(Self { items, page: pagination.count("page")?, has_next: pagination.switch("has_next")? })
    }
}

/// `new_secret`, where a creation says `client_secret` (trap 5).
pub(super) struct Rotated {
    pub client_id: String,
    pub new_secret: Option<String>,
    /// Unix seconds.
    pub rotated_at: Option<i64>,
}

impl Rotated {
    pub(super) fn read(mut members: Members) -> Self {
        let [new_secret] = members.secrets(["new_secret"]);
        let client_id = members.text("client_id").unwrap_or_default();
        Self { client_id, new_secret, rotated_at: members.time("rotated_at") }
    }
}
