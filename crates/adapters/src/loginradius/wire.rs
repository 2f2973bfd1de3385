//! LoginRadius's JSON, exactly as its page shows it (vendor page 004; list and reset of the secret from its public
//! reference). Every name is written out, because its casing follows no rule: `LoginRedirectUri`,
//! `RedirectURIExactMatch`, `IdTokenTTL` (trap 33).

use serde::Deserialize;
use serde_json::{Map, Value};

/// The names of the members that are written.
pub(super) mod name {
    pub(crate) const ALLOWED_CORS_ORIGIN: &str = "AllowedCorsOrigin";
    pub(crate) const ALLOWED_SCOPES: &str = "AllowedScopes";
    pub(crate) const ALLOWED_WEB_ORIGIN: &str = "AllowedWebOrigin";
    pub(crate) const APP_NAME: &str = "AppName";
    pub(crate) const APPLICATION_TYPE: &str = "ApplicationType";
    pub(crate) const BACK_CHANNEL_LOGOUT: &str = "BackChannelLogout";
    pub(crate) const ENABLE_CORS_ORIGIN: &str = "EnableCorsOrigin";
    pub(crate) const FORCE_REAUTHENTICATION: &str = "ForceReAuthentication";
    pub(crate) const GRANT_TYPES: &str = "GrantTypes";
    pub(crate) const ID_TOKEN_AUDIENCES: &str = "IdTokenAudiences";
    pub(crate) const JWT_TOKEN_CONFIG: &str = "JwtTokenConfig";
    pub(crate) const LOGIN_REDIRECT_URI: &str = "LoginRedirectUri";
    pub(crate) const LOGIN_URL: &str = "LoginUrl";
    pub(crate) const LOGOUT_REDIRECT_URI: &str = "LogoutRedirectUri";
    pub(crate) const PROTOCOL: &str = "Protocol";
    pub(crate) const REDIRECT_URI_EXACT_MATCH: &str = "RedirectURIExactMatch";
    pub(crate) const REFRESH_TOKEN_TTL: &str = "RefreshTokenTTL";
    pub(crate) const SIGNED_USER_INFO: &str = "SignedUserInfo";
    pub(crate) const TOKEN_AUTH_METHOD: &str = "TokenAuthMethod";

    /// Members of `JwtTokenConfig`.
    pub(crate) const ALGORITHM: &str = "Algorithm";
    pub(crate) const TOKEN_TTL: &str = "TokenTTL";
    pub(crate) const ID_TOKEN_TTL: &str = "IdTokenTTL";

    /// Members of `BackChannelLogout`.
    pub(crate) const IS_ENABLED: &str = "IsEnabled";
    pub(crate) const LOGOUT_URIS: &str = "LogoutURIs";
}

/// A client in every answer. Not `Debug`: it holds two secrets (trap 42).
#[derive(Deserialize)]
pub(super) struct Client {
    #[serde(rename = "AppName")]
    pub app_name: String,
    #[serde(rename = "ClientId")]
    pub client_id: String,
    #[serde(default, rename = "ClientSecret")]
    pub client_secret: Option<String>,
    /// A second secret of undocumented use; it never leaves this struct.
    #[serde(default, rename = "Secret")]
    pub _secret: Option<Value>,
    /// The id of the site, not of the client (trap 7).
    #[serde(default, rename = "AppId")]
    pub _app_id: Option<Value>,
    /// `OAuth2` in answers, `OAuth 2.0` in requests: never compared (trap 11).
    #[serde(default, rename = "Protocol")]
    pub _protocol: Option<Value>,
    #[serde(default, rename = "CreatedDate")]
    pub created_date: Option<String>,
    #[serde(default, rename = "LastModifiedDate")]
    pub _last_modified_date: Option<Value>,
    #[serde(default, rename = "ApplicationType")]
    pub application_type: Option<String>,
    #[serde(default, rename = "GrantTypes")]
    pub grant_types: Option<Vec<String>>,
    #[serde(default, rename = "TokenAuthMethod")]
    pub token_auth_method: Option<String>,
    #[serde(default, rename = "LoginRedirectUri")]
    pub login_redirect_uri: Option<Vec<String>>,
    #[serde(default, rename = "RedirectURIExactMatch")]
    pub redirect_uri_exact_match: Option<bool>,
    #[serde(default, rename = "LogoutRedirectUri")]
    pub logout_redirect_uri: Option<Vec<String>>,
    #[serde(default, rename = "LoginUrl")]
    pub login_url: Option<String>,
    #[serde(default, rename = "AllowedScopes")]
    pub allowed_scopes: Option<Vec<String>>,
    #[serde(default, rename = "IdTokenAudiences")]
    pub id_token_audiences: Option<Vec<String>>,
    #[serde(default, rename = "AllowedCorsOrigin")]
    pub allowed_cors_origin: Option<Vec<String>>,
    #[serde(default, rename = "EnableCorsOrigin")]
    pub enable_cors_origin: Option<bool>,
    #[serde(default, rename = "AllowedWebOrigin")]
    pub allowed_web_origin: Option<Vec<String>>,
    #[serde(default, rename = "JwtTokenConfig")]
    pub jwt_token_config: Option<JwtTokenConfig>,
    /// Seconds.
    #[serde(default, rename = "RefreshTokenTTL")]
    pub refresh_token_ttl: Option<u64>,
    #[serde(default, rename = "SignedUserInfo")]
    pub signed_user_info: Option<bool>,
    #[serde(default, rename = "ForceReAuthentication")]
    pub force_reauthentication: Option<bool>,
    #[serde(default, rename = "BackChannelLogout")]
    pub back_channel_logout: Option<Map<String, Value>>,
    /// Vendor-only members, and what later versions add.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Lifetimes in seconds.
#[derive(Default, Deserialize)]
pub(super) struct JwtTokenConfig {
    #[serde(default, rename = "Algorithm")]
    pub algorithm: Option<String>,
    #[serde(default, rename = "TokenTTL")]
    pub token_ttl: Option<u64>,
    #[serde(default, rename = "IdTokenTTL")]
    pub id_token_ttl: Option<u64>,
    /// What later versions add.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `{Data: [...]}`
#[derive(Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Data")]
    pub data: Vec<Client>,
    /// A paging member would mean that the list is not complete.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The answer to a reset of the secret: the secret is at the top level (trap 5).
#[derive(Deserialize)]
pub(super) struct Credentials {
    #[serde(rename = "ClientId")]
    pub client_id: String,
    #[serde(default, rename = "ClientSecret")]
    pub client_secret: Option<String>,
}
