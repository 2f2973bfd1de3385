//! LoginRadius's JSON, exactly as its page shows it (vendor page 004; list and reset of the secret from its public
//! reference). Every name is written out, because its casing follows no rule: `LoginRedirectUri`,
//! `RedirectURIExactMatch`, `IdTokenTTL` (trap 33).

use registrar_model::{Loss, Scope};
use serde_json::{Map, Value};

use super::KIND;
use crate::shared::answer::Members;

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

/// The canonical fields of the members of a client.
pub(super) const FIELDS: &[(&str, &str)] = &[
    (name::APPLICATION_TYPE, "metadata.application_type"),
    (name::GRANT_TYPES, "metadata.grant_types"),
    (name::TOKEN_AUTH_METHOD, "metadata.token_endpoint_auth_method"),
    (name::LOGIN_REDIRECT_URI, "metadata.redirect_uris"),
    (name::LOGOUT_REDIRECT_URI, "metadata.post_logout_redirect_uris"),
    (name::LOGIN_URL, "metadata.initiate_login_uri"),
    (name::ALLOWED_SCOPES, "metadata.scope"),
    (name::ID_TOKEN_AUDIENCES, "policy.audiences"),
    (name::ALLOWED_CORS_ORIGIN, "policy.allowed_cors_origins"),
    (name::ENABLE_CORS_ORIGIN, "policy.allowed_cors_origins"),
    (name::ALLOWED_WEB_ORIGIN, "policy.allowed_web_origins"),
    (name::REFRESH_TOKEN_TTL, "policy.refresh_token_lifetime"),
    (name::SIGNED_USER_INFO, "metadata.userinfo_signed_response_alg"),
    (name::FORCE_REAUTHENTICATION, "metadata.default_max_age"),
    (name::BACK_CHANNEL_LOGOUT, "metadata.backchannel_logout_uri"),
    (name::ALGORITHM, "metadata.id_token_signed_response_alg"),
    (name::TOKEN_TTL, "policy.access_token_lifetime"),
    (name::ID_TOKEN_TTL, "policy.id_token_lifetime"),
    ("ClientSecret", "client_secret"),
];

/// A client in every answer. Not `Debug`: it may hold the secret.
#[derive(Default)]
pub(super) struct Client {
    pub app_name: String,
    pub client_id: String,
    pub client_secret: Option<String>,
    /// Unix seconds.
    pub created_date: Option<i64>,
    pub application_type: Option<String>,
    pub grant_types: Option<Vec<String>>,
    pub token_auth_method: Option<String>,
    pub login_redirect_uri: Option<Vec<String>>,
    pub redirect_uri_exact_match: Option<bool>,
    pub logout_redirect_uri: Option<Vec<String>>,
    pub login_url: Option<String>,
    pub allowed_scopes: Option<Scope>,
    pub id_token_audiences: Option<Vec<String>>,
    pub allowed_cors_origin: Option<Vec<String>>,
    pub enable_cors_origin: Option<bool>,
    pub allowed_web_origin: Option<Vec<String>>,
    pub jwt_token_config: JwtTokenConfig,
    /// Seconds.
    pub refresh_token_ttl: Option<u64>,
    pub signed_user_info: Option<bool>,
    pub force_reauthentication: Option<bool>,
    pub back_channel_logout: Option<Map<String, Value>>,
    /// Vendor-only members, and what later versions add.
    pub rest: Map<String, Value>,
    /// Members that cannot be read.
    pub unread: Vec<Loss>,
}

impl Client {
    /// Reads the members.
    pub(super) fn read(mut members: Members) -> Self {
        // the second secret has no documented use, and never leaves this function (trap 42)
        let [client_secret, _] = members.secrets(["ClientSecret", "Secret"]);
        // the id of the site, not of the client (trap 7); `OAuth2` in answers, `OAuth 2.0` in requests: never compared
        // (trap 11)
        members.ignore(&["AppId", name::PROTOCOL, "LastModifiedDate"]);
        let (jwt_token_config, odd) = JwtTokenConfig::read(members.object(name::JWT_TOKEN_CONFIG).unwrap_or_default());
        let mut client = Self {
            app_name: members.text(name::APP_NAME).unwrap_or_default(),
            client_id: members.text("ClientId").unwrap_or_default(),
            client_secret,
            created_date: members.time("CreatedDate"),
            application_type: members.text(name::APPLICATION_TYPE),
            grant_types: members.words(name::GRANT_TYPES),
            token_auth_method: members.text(name::TOKEN_AUTH_METHOD),
            login_redirect_uri: members.words(name::LOGIN_REDIRECT_URI),
            redirect_uri_exact_match: members.switch(name::REDIRECT_URI_EXACT_MATCH),
            logout_redirect_uri: members.words(name::LOGOUT_REDIRECT_URI),
            login_url: members.text(name::LOGIN_URL),
            allowed_scopes: members.scope(name::ALLOWED_SCOPES),
            id_token_audiences: members.words(name::ID_TOKEN_AUDIENCES),
            allowed_cors_origin: members.words(name::ALLOWED_CORS_ORIGIN),
            enable_cors_origin: members.switch(name::ENABLE_CORS_ORIGIN),
            allowed_web_origin: members.words(name::ALLOWED_WEB_ORIGIN),
            jwt_token_config,
            refresh_token_ttl: members.count(name::REFRESH_TOKEN_TTL),
            signed_user_info: members.switch(name::SIGNED_USER_INFO),
            force_reauthentication: members.switch(name::FORCE_REAUTHENTICATION),
            back_channel_logout: members.object(name::BACK_CHANNEL_LOGOUT),
            ..Self::default()
        };
        odd.iter().for_each(|name| members.not_understood(name));
        (client.rest, client.unread) = members.rest(KIND, FIELDS);
        client
    }
}

/// Lifetimes in seconds.
#[derive(Default)]
pub(super) struct JwtTokenConfig {
    pub algorithm: Option<String>,
    pub token_ttl: Option<u64>,
    pub id_token_ttl: Option<u64>,
    /// What later versions add.
    pub rest: Map<String, Value>,
}

impl JwtTokenConfig {
    /// The members, and the names of those that cannot be read.
    fn read(object: Map<String, Value>) -> (Self, Vec<&'static str>) {
        let mut members = Members::from(object);
        let algorithm = members.text(name::ALGORITHM);
        let token_ttl = members.count(name::TOKEN_TTL);
        let id_token_ttl = members.count(name::ID_TOKEN_TTL);
        let names = [name::ALGORITHM, name::TOKEN_TTL, name::ID_TOKEN_TTL];
        let odd = names.into_iter().filter(|name| members.is_unread(name)).collect();
        let rest = std::mem::take(members.as_map());
        (Self { algorithm, token_ttl, id_token_ttl, rest }, odd)
    }
}

/// The answer to a reset of the secret: the secret is at the top level (trap 5).
pub(super) struct Credentials {
    pub client_id: String,
    pub client_secret: Option<String>,
}

impl Credentials {
    pub(super) fn read(mut members: Members) -> Self {
        let [client_secret] = members.secrets(["ClientSecret"]);
        Self { client_id: members.text("ClientId").unwrap_or_default(), client_secret }
    }
}
