//! `/.well-known/oauth-authorization-server` (RFC 8414), also under the names that OpenID Connect and MCP clients try.
//! The document is about registration: where the vendor's own endpoints belong to it, the route's `discovery` has them.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use registrar_core::{Error, ErrorKind};
use registrar_engine::dcr::{self, Access};
use registrar_model::{AuthMethod, ClientMetadata, GrantType, RedirectUri, ResponseType, member::StringMember as _};
use serde_json::{Map, Value, json};

use super::{answer::Refusal, elsewhere::Inserted};
use crate::{App, clients::Id, problem::Context, render};

/// The document of the endpoint without a name.
pub(super) async fn root(State(app): State<App>, Extension(context): Extension<Context>) -> Response {
    answer(document(&app, None), &context)
}

/// The document of a route.
pub(super) async fn route(State(app): State<App>, Extension(context): Extension<Context>, name: Id) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    answer(document(&app, Some(&name)), &context)
}

/// As [`root`], under the name of OpenID Connect Discovery.
pub(super) async fn openid_root(State(app): State<App>, Extension(context): Extension<Context>) -> Response {
    answer(document(&app, None).filter(is_for_openid), &context)
}

/// As [`route`], under the name of OpenID Connect Discovery.
pub(super) async fn openid_route(State(app): State<App>, Extension(context): Extension<Context>, name: Id) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    answer(document(&app, Some(&name)).filter(is_for_openid), &context)
}

/// The document at a path that no route of the router has.
pub(super) fn inserted(app: &App, context: &Context, asked: &Inserted) -> Response {
    let document = document(app, asked.route.as_deref());
    answer(document.filter(|document| !asked.is_for_openid || is_for_openid(document)), context)
}

fn answer(document: Option<Map<String, Value>>, context: &Context) -> Response {
    match document {
        Some(document) => render::json(StatusCode::OK, &Value::Object(document)),
        None => {
            let error = Error::new(ErrorKind::RouteNotFound, "there is no discovery document at this path");
            Refusal::from(error).answer(context)
        }
    }
}

/// Some clients give up at an OpenID document that lacks a required member, where they would go on without one. A document
/// without any endpoint but the registration endpoint is for clients that only register; they may ask by either name.
fn is_for_openid(document: &Map<String, Value>) -> bool {
    let endpoints = document.keys().filter(|name| name.ends_with("_endpoint") || *name == "jwks_uri");
    endpoints.count() == 1 || dcr::missing_for_openid(document).is_empty()
}

/// `None` where nothing can be registered.
fn document(app: &App, route: Option<&str>) -> Option<Map<String, Value>> {
    let engine = app.engine();
    engine.access(route).filter(|access| *access != Access::Closed)?;
    let members = engine.discovery(route);
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        // RFC 8414 §3.2: empty lists are left out
        if value.as_array().is_none_or(|list| !list.is_empty()) {
            out.insert(name.to_owned(), value);
        }
    };
    let grants = dcr::servable(engine.supported(route, "metadata.grant_types", &grants()), &members);
    let responses: &[&str] = if grants.contains(&"authorization_code") { &["code"] } else { &["none"] };
    put("registration_endpoint", json!(super::endpoint(app, route)));
    put("response_types_supported", json!(responses));
    put("grant_types_supported", json!(grants));
    let methods = engine.supported(route, "metadata.token_endpoint_auth_method", &methods());
    put("token_endpoint_auth_methods_supported", json!(methods));
    for (name, value) in members {
        put(&name, value);
    }
    put("issuer", json!(super::issuer(app, route)));
    Some(out)
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
