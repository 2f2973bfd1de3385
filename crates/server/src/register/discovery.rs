//! `/.well-known/oauth-authorization-server` (RFC 8414), also under the names that OpenID Connect and MCP clients try.
//! The document is about registration: where the vendor's own endpoints belong to it, the route's `discovery` has them.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use registrar_core::{Error, ErrorKind};
use registrar_engine::dcr::Access;
use registrar_model::{AuthMethod, ClientMetadata, GrantType, RedirectUri, ResponseType, member::StringMember as _};
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use crate::{App, clients::Id, problem::Context, query::escape, render};

/// The document of the endpoint without a name.
pub(super) async fn root(State(app): State<App>, Extension(context): Extension<Context>) -> Response {
    document(&app, None, &context)
}

/// The document of a route.
pub(super) async fn route(State(app): State<App>, Extension(context): Extension<Context>, name: Id) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    document(&app, Some(&name), &context)
}

fn document(app: &App, route: Option<&str>, context: &Context) -> Response {
    let engine = app.engine();
    if engine.access(route).is_none_or(|access| access == Access::Closed) {
        let error = Error::new(ErrorKind::RouteNotFound, "nothing can be registered here");
        return Refusal::from(error).answer(context);
    }
    let base = app.public_url();
    let issuer = route.map_or_else(|| base.to_string(), |name| format!("{base}/{}", escape(name)));
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        // RFC 8414 §3.2: empty lists are left out
        if value.as_array().is_none_or(|list| !list.is_empty()) {
            out.insert(name.to_owned(), value);
        }
    };
    let grants = engine.supported(route, "metadata.grant_types", &grants());
    let responses: &[&str] = if grants.contains(&"authorization_code") { &["code"] } else { &["none"] };
    put("registration_endpoint", json!(format!("{issuer}/register")));
    put("response_types_supported", json!(responses));
    put("grant_types_supported", json!(grants));
    let methods = engine.supported(route, "metadata.token_endpoint_auth_method", &methods());
    put("token_endpoint_auth_methods_supported", json!(methods));
    for (name, value) in engine.discovery(route) {
        put(&name, value);
    }
    put("issuer", json!(issuer));
    render::json(StatusCode::OK, &Value::Object(out))
}

fn plain() -> ClientMetadata {
    ClientMetadata {
        client_name: Some("x".to_owned()),
        redirect_uris: Some(vec![RedirectUri::from_unchecked("https://client.example.com/cb")]),
        ..ClientMetadata::default()
    }
}

/// One registration for each grant type.
fn grants() -> Vec<(&'static str, ClientMetadata)> {
    let with = |types: &[&str], responses: &[&str]| ClientMetadata {
        grant_types: Some(types.iter().map(|g| GrantType::read(g)).collect()),
        response_types: Some(responses.iter().map(|r| ResponseType::read(r)).collect()),
        ..plain()
    };
    vec![
        ("authorization_code", with(&["authorization_code"], &["code"])),
        ("refresh_token", with(&["authorization_code", "refresh_token"], &["code"])),
        ("client_credentials", with(&["client_credentials"], &[])),
        ("implicit", with(&["implicit"], &["token"])),
        ("urn:ietf:params:oauth:grant-type:device_code", with(&["urn:ietf:params:oauth:grant-type:device_code"], &[])),
    ]
}

/// One registration for each authentication method.
fn methods() -> Vec<(&'static str, ClientMetadata)> {
    let with = |method: &'static str| {
        let keys = (method == "private_key_jwt").then(|| "https://client.example.com/jwks.json".to_owned());
        let metadata =
            ClientMetadata { token_endpoint_auth_method: Some(AuthMethod::read(method)), jwks_uri: keys, ..plain() };
        (method, metadata)
    };
    ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"].map(with).to_vec()
}
