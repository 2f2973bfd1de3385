//! `vendor.loginradius`: the members without a canonical name, their types, and what of them a read shows.

use registrar_model::{
    ClientSpec, IssueCode, Issues, Position, Reach,
    issue::type_name,
    uri::{UrlUse, check_url},
};
use serde_json::{Map, Value, json};

use super::{ApplicationTypes, KIND, app_name, wire::name};

/// Wire members by name.
pub(super) type Members = Map<String, Value>;

/// The JSON that a member takes, as the documented example shows it.
pub(super) enum Shape {
    Text,
    Switch,
    /// A whole number, not negative.
    Count,
    Texts,
    Url(UrlUse),
    Urls(UrlUse),
    /// An object of texts.
    TextMap,
    /// An object of lists of texts.
    TextsMap,
    Object(&'static [(&'static str, Shape)]),
    /// A list of objects.
    Objects(&'static [(&'static str, Shape)]),
}

use Shape::{Count, Object, Objects, Switch, Text, TextMap, Texts, TextsMap};

const PROVIDERS: Shape = Objects(&[("IsEnabled", Switch), ("ProviderName", Text)]);

/// Every member that is taken, in alphabetical order.
pub(super) static TAKEN: &[(&str, Shape)] = &[
    ("AccessTokenMappingTemplate", Text),
    (name::ALLOWED_CORS_ORIGIN, Texts),
    (name::APP_NAME, Text),
    (name::APPLICATION_TYPE, Text),
    ("AudienceScopes", TextsMap),
    (
        name::BACK_CHANNEL_LOGOUT,
        Object(&[
            (name::IS_ENABLED, Switch),
            (
                "LogoutInitiator",
                Object(&[
                    ("Mode", Text),
                    // misspelt on the wire (trap 12)
                    (
                        "Intiators",
                        Object(&[
                            ("RPLogout", Switch),
                            ("IDPLogout", Switch),
                            ("PasswordChange", Switch),
                            ("AccountDelete", Switch),
                        ]),
                    ),
                ]),
            ),
            ("LogoutTokenTTL", Count),
            (name::LOGOUT_URIS, Shape::Urls(UrlUse::Fetched)),
        ]),
    ),
    (
        "Connections",
        Object(&[
            ("Enabled", Switch),
            ("PasswordlessLogin", Object(&[("Enabled", Switch), ("Email", Switch), ("SMS", Switch)])),
            ("TraditionalLogin", Switch),
            ("SocialLogins", PROVIDERS),
            ("CustomIdp", PROVIDERS),
            ("Enterprise", PROVIDERS),
        ]),
    ),
    (
        "DeviceCodeConfig",
        Object(&[
            ("AfterVerificationUrl", Shape::Url(UrlUse::Followed)),
            ("DeviceCodeExpire", Count),
            ("PollingInterval", Count),
            ("UserCodeCharacterSet", Text),
            ("UserCodeMask", Text),
            ("VerificationUrl", Shape::Url(UrlUse::Followed)),
        ]),
    ),
    (name::FORCE_REAUTHENTICATION, Switch),
    ("GlobalClient", Switch),
    ("IdTokenMappingTemplate", Text),
    (name::JWT_TOKEN_CONFIG, Object(&[])),
    ("Mapping", TextMap),
    // it is emitted in every ID Token, so nothing of the gateway's is ever put there (trap 10)
    ("Metadata", TextMap),
    (name::REDIRECT_URI_EXACT_MATCH, Switch),
    ("TokenWebOriginMatch", Switch),
];

/// Members that are sent from canonical fields and therefore not taken here.
const CANONICAL: [(&str, &str); 12] = [
    (name::ALLOWED_SCOPES, "metadata.scope"),
    (name::ALLOWED_WEB_ORIGIN, "policy.allowed_web_origins"),
    (name::ENABLE_CORS_ORIGIN, "policy.allowed_cors_origins"),
    (name::GRANT_TYPES, "metadata.grant_types"),
    (name::ID_TOKEN_AUDIENCES, "policy.audiences"),
    (name::LOGIN_REDIRECT_URI, "metadata.redirect_uris"),
    (name::LOGIN_URL, "metadata.initiate_login_uri"),
    (name::LOGOUT_REDIRECT_URI, "metadata.post_logout_redirect_uris"),
    (name::PROTOCOL, "the setting `protocol`"),
    (name::REFRESH_TOKEN_TTL, "policy.refresh_token_lifetime"),
    (name::SIGNED_USER_INFO, "metadata.userinfo_signed_response_alg"),
    (name::TOKEN_AUTH_METHOD, "metadata.token_endpoint_auth_method"),
];

/// The same for `JwtTokenConfig`.
const CANONICAL_JWT: [(&str, &str); 3] = [
    (name::ALGORITHM, "metadata.id_token_signed_response_alg"),
    (name::TOKEN_TTL, "policy.access_token_lifetime"),
    (name::ID_TOKEN_TTL, "policy.id_token_lifetime"),
];

/// True for members that are sent.
pub(super) fn is_taken(member: &str) -> bool {
    TAKEN.iter().any(|(taken, _)| *taken == member)
}

/// Null, `""`, `[]` and `{}` say nothing.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The members that say something.
pub(super) fn telling(members: &Members) -> Members {
    members.iter().filter(|(_, v)| !is_nothing(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A member of the vendor layer as an object.
pub(super) fn object(own: &Members, member: &str) -> Members {
    own.get(member).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// T17: the object that holds the canonical URI and the vendor's own settings of the back channel; empty for none.
pub(super) fn logout_of(uri: Option<&String>, own: &Members) -> Members {
    let mut logout = telling(&object(own, name::BACK_CHANNEL_LOGOUT));
    if let Some(uri) = uri {
        logout.insert(name::IS_ENABLED.to_owned(), json!(true));
        if logout_uris(&logout).first() != Some(&uri.as_str()) {
            logout.insert(name::LOGOUT_URIS.to_owned(), json!([uri]));
        }
    }
    logout
}

/// T17, the way back: the canonical URI, and what it does not say. Several URIs, and URIs of a back channel that is
/// switched off, keep the object whole.
pub(super) fn split_logout(logout: &Members) -> (Option<String>, Members) {
    let mut rest = telling(logout);
    let uris = logout_uris(logout);
    let enabled = logout.get(name::IS_ENABLED) == Some(&json!(true));
    let uri = uris.first().filter(|_| enabled).map(|u| (*u).to_owned());
    let plain = match uris.len() {
        0 => !enabled,
        1 => enabled,
        _ => false,
    };
    if plain {
        rest.remove(name::IS_ENABLED);
        rest.remove(name::LOGOUT_URIS);
    }
    (uri, rest)
}

fn logout_uris(logout: &Members) -> Vec<&str> {
    logout.get(name::LOGOUT_URIS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Checks names, types and contradictions with the canonical layers.
pub(super) fn validate(spec: &ClientSpec, types: &ApplicationTypes, issues: &mut Issues) {
    let Some(own) = spec.vendor.get(KIND) else { return };
    let root = Position::root();
    let vendor = root.child("vendor");
    let at = vendor.child(KIND);
    for (member, shape) in TAKEN {
        if let Some(value) = own.get(*member) {
            shape.check(value, &at.child(member), issues);
        }
    }
    for (member, place) in CANONICAL.iter().filter(|(member, _)| own.contains_key(*member)) {
        issues.push(at.child(member), IssueCode::UnknownMember, format!("send {place} instead"));
    }
    let jwt_at = at.child(name::JWT_TOKEN_CONFIG);
    let jwt = object(own, name::JWT_TOKEN_CONFIG);
    for (member, place) in CANONICAL_JWT.iter().filter(|(member, _)| jwt.contains_key(*member)) {
        issues.push(jwt_at.child(member), IssueCode::UnknownMember, format!("send {place} instead"));
    }
    for secret in own.keys().filter(|member| is_secret(member)) {
        let detail = "secrets are issued by LoginRadius and cannot be sent";
        issues.push(at.child(secret), IssueCode::InvalidValue, detail);
    }
    if own.get(name::APP_NAME).and_then(Value::as_str).is_some_and(|text| !app_name::is_usable(text)) {
        let detail = format!(
            "must be 1 to {} letters, digits, `-`, `_` and `.`, begin with a letter or digit, and not be \
             `credentials`: it is a segment of URLs",
            app_name::MAX
        );
        issues.push(at.child(name::APP_NAME), IssueCode::InvalidValue, detail);
    }
    for conflict in conflicts(spec, own, types) {
        issues.push(at.child(conflict.0), IssueCode::Conflict, conflict.1);
    }
}

/// Members that contradict a canonical one.
fn conflicts(spec: &ClientSpec, own: &Members, types: &ApplicationTypes) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let (metadata, policy) = (&spec.metadata, &spec.policy);
    if let Some(uri) = &metadata.backchannel_logout_uri {
        let logout = object(own, name::BACK_CHANNEL_LOGOUT);
        let uris = logout_uris(&logout);
        if logout.get(name::IS_ENABLED) == Some(&json!(false)) || uris.first().is_some_and(|first| first != uri) {
            let detail =
                "metadata.backchannel_logout_uri is the first of `LogoutURIs` and switches the back channel on";
            out.push((name::BACK_CHANNEL_LOGOUT, detail.to_owned()));
        }
    }
    if let (Some(asked), Some(spelling)) =
        (&metadata.application_type, own.get(name::APPLICATION_TYPE).and_then(Value::as_str))
    {
        let meant = types.read(spelling).0;
        if meant != Some(asked.as_str()) {
            out.push((name::APPLICATION_TYPE, format!("contradicts metadata.application_type `{asked}`")));
        }
    }
    if let (Some(age), Some(forced)) =
        (metadata.default_max_age, own.get(name::FORCE_REAUTHENTICATION).and_then(Value::as_bool))
        && forced != (age == 0)
    {
        out.push((name::FORCE_REAUTHENTICATION, format!("contradicts metadata.default_max_age {age}")));
    }
    let origins = policy.allowed_cors_origins.as_deref().unwrap_or_default();
    if !origins.is_empty() && own.get(name::ALLOWED_CORS_ORIGIN).is_some_and(|v| !is_nothing(v)) {
        let detail = "is the list of a switched-off `EnableCorsOrigin`; policy.allowed_cors_origins switches it on";
        out.push((name::ALLOWED_CORS_ORIGIN, detail.to_owned()));
    }
    out
}

/// Names under which a vendor may show a secret, now or in a later version (trap 42).
pub(super) fn is_secret(member: &str) -> bool {
    let lower = member.to_ascii_lowercase();
    ["secret", "password", "privatekey"].iter().any(|word| lower.contains(word)) && !is_taken(member)
}

impl Shape {
    /// A null counts as absent; nested members that the example does not have pass, so that what a read shows can be
    /// sent back.
    fn check(&self, value: &Value, at: &Position<'_>, issues: &mut Issues) {
        match (self, value) {
            (_, Value::Null) | (Text, Value::String(_)) | (Switch, Value::Bool(_)) => {}
            (Count, Value::Number(n)) if n.is_u64() => {}
            (Shape::Url(purpose), Value::String(url)) => check_url(url, *purpose, Reach::Public, at, issues),
            (Texts, Value::Array(items)) => Text.check_each(items, at, issues),
            (Shape::Urls(purpose), Value::Array(items)) => Shape::Url(*purpose).check_each(items, at, issues),
            (Objects(members), Value::Array(items)) => Object(members).check_each(items, at, issues),
            (TextMap, Value::Object(map)) => map.iter().for_each(|(k, v)| Text.check(v, &at.child(k), issues)),
            (TextsMap, Value::Object(map)) => map.iter().for_each(|(k, v)| Texts.check(v, &at.child(k), issues)),
            (Object(members), Value::Object(map)) => {
                for (member, shape) in *members {
                    if let Some(value) = map.get(*member) {
                        shape.check(value, &at.child(member), issues);
                    }
                }
                if map.contains_key("Initiators") {
                    let detail = "LoginRadius spells it `Intiators`; it would ignore this spelling without a word";
                    issues.push(at.child("Initiators"), IssueCode::UnknownMember, detail);
                }
            }
            _ => self.wrong_type(value, at, issues),
        }
    }

    fn check_each(&self, items: &[Value], at: &Position<'_>, issues: &mut Issues) {
        for (i, item) in items.iter().enumerate() {
            if item.is_null() {
                self.wrong_type(item, &at.child(i), issues);
            } else {
                self.check(item, &at.child(i), issues);
            }
        }
    }

    fn wrong_type(&self, value: &Value, at: &Position<'_>, issues: &mut Issues) {
        let wanted = match self {
            Text | Shape::Url(_) => "a string",
            Switch => "true or false",
            Count => "a whole number, not negative",
            Texts | Shape::Urls(_) => "an array of strings",
            TextMap => "an object of strings",
            TextsMap => "an object of arrays of strings",
            Object(_) => "an object",
            Objects(_) => "an array of objects",
        };
        issues.push(at, IssueCode::WrongType, format!("expected {wanted}, found {}", type_name(value)));
    }
}
