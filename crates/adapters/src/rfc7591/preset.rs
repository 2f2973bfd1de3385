//! What servers do otherwise than RFC 7591 and RFC 7592 say, as data: `settings.preset` chooses one row.

/// One server's habits.
#[derive(Debug)]
pub(super) struct Preset {
    /// The word in `settings`.
    pub name: &'static str,
    /// Default of `settings.registration_path`.
    pub registration_path: &'static str,
    /// Default of `settings.discovery_path`.
    pub discovery_path: &'static str,
    /// The metadata that it keeps, where that is known; everything else is not sent.
    pub keeps: Option<&'static [&'static str]>,
    /// Whether it keeps `name#tag` members (RFC 7591 §2.2).
    pub localized: bool,
    /// Members that it keeps and never shows.
    pub unshown: &'static [&'static str],
    /// Its own names in answers: `(its name, the standard's)`.
    pub renamed: &'static [(&'static str, &'static str)],
    /// The member of an answer that holds the client; flat answers are read as well.
    pub envelope: Option<&'static str>,
    /// The JWK Set travels as JSON in a text.
    pub jwks_text: bool,
    /// It takes one grant besides `refresh_token`, and adds that one to `authorization_code` by itself.
    pub one_grant: bool,
    /// The one method that it says every confidential client has.
    pub secret_method: Option<&'static str>,
    /// How an update removes a member.
    pub removal: Removal,
    /// Members that an update can change and not remove.
    pub fixed: &'static [&'static str],
    /// How much of RFC 7592 it speaks.
    pub management: Managed,
    /// Every update issues a new secret; the one before is dead.
    pub rotates_secret: bool,
    /// Scopes that every client has: it takes them for unknown ones and never shows them.
    pub always: &'static [&'static str],
    /// It takes a client without redirect grants only with an empty `response_types`, because it assumes `code` otherwise.
    pub empty_response_types: bool,
    /// Its initial access token is good for one registration.
    pub one_use_token: bool,
    /// The scope that such a token needs, where `client` names none.
    pub grant_scope: Option<&'static str>,
    /// An update that makes a public client confidential issues a secret.
    pub late_secret: bool,
    /// Values that say what an absent member says.
    pub empty: &'static [(&'static str, &'static str)],
    /// What it refuses for certain, and only after it has looked at the token.
    pub probe: &'static str,
    /// Statuses of a read that prove that the client is gone. A server that answers 401 for such a client has none: its
    /// 404 is about something else, and the client may live on.
    pub gone: &'static [u16],
    /// Codes with which it refuses a token in an answer of status 400.
    pub token_codes: &'static [&'static str],
    /// Where an error has its code (JSON Pointers, the first that leads to a text or number).
    pub error_code: &'static [&'static str],
    /// Where an error has its sentence.
    pub error_text: &'static [&'static str],
}

/// How an update removes a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// By leaving it out (RFC 7592 §2.2).
    Omitted,
    /// What is left out stays; the standard's default, an empty text or list, or `null` takes its place.
    Emptied,
}

/// How much of RFC 7592 a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Managed {
    /// Reading, updating, deleting.
    Whole,
    /// Reading and updating.
    Undeletable,
    /// Reading.
    Readable,
    /// Nothing.
    Not,
}

impl Managed {
    pub(super) fn reads(self) -> bool {
        self != Self::Not
    }

    pub(super) fn updates(self) -> bool {
        matches!(self, Self::Whole | Self::Undeletable)
    }

    pub(super) fn deletes(self) -> bool {
        self == Self::Whole
    }
}

/// No JSON, so that no server can make a client of it.
const NO_JSON: &str = "{";
/// RFC 6749 §3.1.2: a redirection URI has no fragment.
const FRAGMENT: &str = r##"{"redirect_uris":["https://probe.invalid/#never"]}"##;

/// RFC 7591 and RFC 7592 to the letter.
const STANDARD: Preset = Preset {
    name: "standard",
    registration_path: "/register",
    discovery_path: "/.well-known/openid-configuration",
    keeps: None,
    localized: true,
    unshown: &[],
    renamed: &[],
    envelope: None,
    jwks_text: false,
    one_grant: false,
    secret_method: None,
    removal: Removal::Omitted,
    fixed: &[],
    management: Managed::Whole,
    rotates_secret: false,
    always: &[],
    empty_response_types: false,
    one_use_token: false,
    grant_scope: None,
    late_secret: true,
    empty: &[],
    probe: NO_JSON,
    gone: &[404, 410],
    token_codes: &["invalid_token"],
    error_code: &["/error"],
    error_text: &["/error_description", "/message"],
};

/// Every preset; the first is the default.
pub(super) static PRESETS: &[Preset] = &[
    STANDARD,
    // standards §12, measured with 9.13.3
    Preset {
        name: "oidc-provider",
        registration_path: "/reg",
        localized: false,
        empty_response_types: true,
        ..STANDARD
    },
    // its sources and measured, 3.4.1; base_url ends where its URLs are mounted
    Preset {
        name: "django-oauth-toolkit",
        registration_path: "/register/",
        discovery_path: "/.well-known/oauth-authorization-server",
        keeps: Some(&["redirect_uris", "client_name", "grant_types", "token_endpoint_auth_method"]),
        localized: false,
        one_grant: true,
        secret_method: Some("client_secret_basic"),
        ..STANDARD
    },
    // standards §12, measured with 0.3.6 and authlib 1.7.0
    Preset {
        name: "canaille",
        registration_path: "/oauth/register",
        keeps: Some(CANAILLE),
        localized: false,
        removal: Removal::Emptied,
        // it fails (500) on a scope that is absent or empty
        fixed: &["scope"],
        token_codes: &["access_denied"],
        ..STANDARD
    },
    // measured and in Issuer/OpenIDConnect.pm of 2.16.1
    Preset {
        name: "lemonldap",
        registration_path: "/oauth2/register",
        keeps: Some(&[
            "redirect_uris",
            "client_name",
            "logo_uri",
            "id_token_signed_response_alg",
            "userinfo_signed_response_alg",
            "request_uris",
        ]),
        localized: false,
        renamed: &[("client_id_expires_at", "client_secret_expires_at")],
        management: Managed::Not,
        ..STANDARD
    },
    // vendors §3.9
    Preset {
        name: "autional",
        registration_path: "/oauth/register",
        keeps: Some(AUTIONAL),
        localized: false,
        unshown: &["jwks", "jwks_uri", "software_id", "software_version"],
        envelope: Some("data"),
        jwks_text: true,
        error_code: &["/code", "/error"],
        error_text: &["/message", "/error_description"],
        ..STANDARD
    },
    // standards §14.2; a secret in an update is refused with an error inside an object
    Preset {
        name: "hydra",
        registration_path: "/oauth2/register",
        // measured with 2.3.0
        late_secret: false,
        empty: &[("userinfo_signed_response_alg", "none")],
        // 404 says that registration is switched off
        gone: &[],
        error_code: &["/error", "/error/status", "/error/code"],
        error_text: &["/error_description", "/error/reason", "/error/message"],
        ..STANDARD
    },
    // standards §14.2
    Preset {
        name: "rauthy",
        registration_path: "/clients_dyn",
        management: Managed::Undeletable,
        rotates_secret: true,
        ..STANDARD
    },
    // peers §3: base_url ends with /realms/NAME
    // measured with 26.7.3: it refuses members that its representation lacks, and `openid`, which is no client scope there
    Preset {
        name: "keycloak",
        // 404 says that there is no such realm, which may have been renamed
        gone: &[],
        registration_path: "/clients-registrations/openid-connect",
        keeps: Some(KEYCLOAK),
        localized: false,
        always: &["openid"],
        // it reads the body first
        probe: FRAGMENT,
        ..STANDARD
    },
    SPRING,
    Preset {
        name: "spring-oidc",
        registration_path: "/connect/register",
        discovery_path: "/.well-known/openid-configuration",
        management: Managed::Readable,
        ..SPRING
    },
];

/// Spring Authorization Server, measured with 7.1.2: a token has exactly one scope and is spent by one registration.
const SPRING: Preset = Preset {
    name: "spring",
    registration_path: "/oauth2/register",
    discovery_path: "/.well-known/oauth-authorization-server",
    localized: false,
    management: Managed::Not,
    one_use_token: true,
    grant_scope: Some("client.create"),
    // a spent token is found out only once the body has been read
    probe: FRAGMENT,
    ..STANDARD
};

/// The registered members of `OIDCClientRepresentation`, 26.7.3.
const KEYCLOAK: &[&str] = &[
    "redirect_uris",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "grant_types",
    "response_types",
    "application_type",
    "client_name",
    "client_uri",
    "logo_uri",
    "scope",
    "contacts",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "jwks",
    "sector_identifier_uri",
    "subject_type",
    "id_token_signed_response_alg",
    "id_token_encrypted_response_alg",
    "id_token_encrypted_response_enc",
    "userinfo_signed_response_alg",
    "userinfo_encrypted_response_alg",
    "userinfo_encrypted_response_enc",
    "request_object_signing_alg",
    "request_object_encryption_alg",
    "request_object_encryption_enc",
    "default_max_age",
    "require_auth_time",
    "default_acr_values",
    "initiate_login_uri",
    "request_uris",
    "tls_client_certificate_bound_access_tokens",
    "tls_client_auth_subject_dn",
    "dpop_bound_access_tokens",
    "post_logout_redirect_uris",
    "software_id",
    "software_version",
    "backchannel_logout_uri",
    "backchannel_logout_session_required",
    "backchannel_token_delivery_mode",
    "backchannel_client_notification_endpoint",
    "backchannel_authentication_request_signing_alg",
    "authorization_signed_response_alg",
    "authorization_encrypted_response_alg",
    "authorization_encrypted_response_enc",
    "require_pushed_authorization_requests",
    "frontchannel_logout_uri",
    "frontchannel_logout_session_required",
];

/// `client_metadata_attributes` of its model.
const CANAILLE: &[&str] = &[
    "client_name",
    "contacts",
    "client_uri",
    "redirect_uris",
    "logo_uri",
    "grant_types",
    "response_types",
    "scope",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "jwks",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "software_id",
    "software_version",
    "sector_identifier_uri",
    "subject_type",
    "application_type",
    "id_token_signed_response_alg",
    "id_token_encrypted_response_alg",
    "id_token_encrypted_response_enc",
    "userinfo_signed_response_alg",
    "userinfo_encrypted_response_alg",
    "userinfo_encrypted_response_enc",
    "default_max_age",
    "require_auth_time",
    "default_acr_values",
    "initiate_login_uri",
    "request_object_signing_alg",
    "request_object_encryption_alg",
    "request_object_encryption_enc",
    "request_uris",
    "require_signed_request_object",
    "post_logout_redirect_uris",
];

const AUTIONAL: &[&str] = &[
    "redirect_uris",
    "client_name",
    "grant_types",
    "scope",
    "token_endpoint_auth_method",
    "application_type",
    "client_uri",
    "logo_uri",
    "policy_uri",
    "tos_uri",
    "contacts",
    "jwks",
    "jwks_uri",
    "software_id",
    "software_version",
];
