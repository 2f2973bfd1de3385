//! Warnings about the standards face: what works as written, and probably not as it is meant.

use serde_json::Value;

use super::{RegistrationConfig, RouteConfig, ServerConfig, diagnostic::Collector, section::Section};
use crate::dcr::{self, Access, RouteRegistration};

/// Warns of a route at which clients register and then cannot go on. A `discovery` that is there and empty says that another
/// document leads to this route.
pub(super) fn warn_of_route(
    s: &Section<'_, '_>,
    own: &RouteRegistration,
    defaults: &RegistrationConfig,
    out: &mut Collector<'_>,
) {
    if own.access.unwrap_or(defaults.access) == Access::Closed {
        return;
    }
    let missing = dcr::missing_for_oauth(&own.discovery);
    let is_elsewhere = s.has("discovery") && own.discovery.is_empty();
    if !missing.is_empty() && !is_elsewhere {
        let message = format!(
            "clients may register here, and the route's discovery document lacks {}: those that start from it cannot go on, and \
             leave a client behind with each try",
            missing.join(" and ")
        );
        let hint = "discovery = { authorization_endpoint = \"https://...\", token_endpoint = \"https://...\" }, as in wiring 4 of \
                    docs/clients.md; `discovery = {}` where clients come from another document or are given the URL";
        s.warn("discovery", out, message, Some(hint.to_owned()));
    }
    let named = own.discovery.get("grant_types_supported").and_then(Value::as_array);
    for grant in named.into_iter().flatten().filter_map(Value::as_str) {
        let lacks = dcr::unserved(grant, &own.discovery);
        if !lacks.is_empty() {
            let message = format!("names the grant `{grant}` without {}", lacks.join(" and "));
            s.warn("discovery", out, message, Some("clients register for what the document names".to_owned()));
        }
    }
}

/// Warns of an endpoint without a name that nobody decided about, and of rates that count the proxy instead of its clients.
pub(super) fn warn(
    root: &Section<'_, '_>,
    server: &ServerConfig,
    registration: &RegistrationConfig,
    routes: &[RouteConfig],
    out: &mut Collector<'_>,
) {
    let access = |route: &&RouteConfig| route.registration.access.unwrap_or(registration.access);
    let span = || root.span_of("registration");
    let registering: Vec<&RouteConfig> = routes.iter().filter(|r| access(r) != Access::Closed).collect();
    if registering.len() > 1 && registration.root.is_none() {
        let message = format!(
            "{} routes register clients, so POST /register is closed: a client that finds no document asks there, and would be \
             registered at whichever route matches",
            registering.len()
        );
        let hint = "write `root = false` in [registration] to keep it closed, or `root = true` where the rules of the routes decide";
        out.warn(span(), "registration.root", message, Some(hint.to_owned()));
    }
    let open = registering.iter().filter(|r| access(r) == Access::Open).count();
    if open > 0 && registration.proxies == 0 && server.public_url.scheme() == "https" {
        let message = "TLS ends in front of the gateway, so that every client has the address of the proxy: `rate` counts all of \
                       them together";
        let hint = "write `proxies = 1` in [registration]: how many proxies of yours append to X-Forwarded-For";
        out.warn(span(), "registration.proxies", message, Some(hint.to_owned()));
    }
}
