//! Paths below the standards face that do not exist: they are answered as the face answers, so that a client that has
//! mistaken the path can read why, in a browser too.

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use http::Method;
use registrar_core::{Error, ErrorKind};

use super::{answer::Refusal, discovery, open_to_pages, preflight};
use crate::{App, problem::Context, system};

/// Any path that does not exist, on either face.
pub(crate) async fn not_found(State(app): State<App>, context: Extension<Context>, request: Request) -> Response {
    if !is_below(request.uri().path()) {
        return system::not_found(context).await;
    }
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let document = is_read.then(|| inserted(app.public_url(), request.uri().path())).flatten();
    let mut response = match document {
        Some(document) => discovery::inserted(&app, &context, &document),
        None => {
            let detail =
                "there is nothing at this path; registration is at /ROUTE/register, and ROUTE is the name of a route";
            Refusal::from(Error::new(ErrorKind::RouteNotFound, detail)).answer(&context)
        }
    };
    open_to_pages(&mut response);
    response
}

/// A discovery document as it is asked for where the public URL has a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inserted {
    pub(super) is_for_openid: bool,
    pub(super) route: Option<String>,
}

/// The well-known segment stands between the host and the path of the issuer (RFC 8414 §3.1); the path of the public URL is
/// the first part of that.
fn inserted(public_url: &str, path: &str) -> Option<Inserted> {
    let (_, rest) = public_url.split_once("://")?;
    let (_, base) = rest.split_once('/').filter(|(_, base)| !base.is_empty())?;
    let (document, issuer) = path.strip_prefix("/.well-known/")?.split_once('/')?;
    let is_for_openid = match document {
        "oauth-authorization-server" => false,
        "openid-configuration" => true,
        _ => return None,
    };
    let name = issuer.strip_prefix(base)?;
    let name = name.strip_suffix('/').unwrap_or(name);
    let route = match name.strip_prefix('/') {
        None if name.is_empty() => None,
        Some(name) if !name.is_empty() && !name.contains('/') => {
            Some(percent_encoding::percent_decode_str(name).decode_utf8().ok()?.into_owned())
        }
        _ => return None,
    };
    Some(Inserted { is_for_openid, route })
}

/// Whether a path is about registration or its discovery: one of its first two segments says so.
fn is_below(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let first = segments.next();
    let ours = |segment: Option<&str>| matches!(segment, Some("register" | ".well-known"));
    first != Some("v1") && (ours(first) || ours(segments.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_public_url_stands_after_the_well_known_segment() {
        let at = |path: &str| inserted("https://gw.example/idp/eu", path);
        let found =
            |is_for_openid, route: Option<&str>| Some(Inserted { is_for_openid, route: route.map(str::to_owned) });
        assert_eq!(at("/.well-known/oauth-authorization-server/idp/eu"), found(false, None));
        assert_eq!(at("/.well-known/oauth-authorization-server/idp/eu/loop-eu/"), found(false, Some("loop-eu")));
        assert_eq!(at("/.well-known/openid-configuration/idp/eu/a%2Db"), found(true, Some("a-b")));
        for other in ["idp", "idp/eux", "idp/eu/a/b", "idp/eu//", "other"] {
            assert_eq!(at(&format!("/.well-known/oauth-authorization-server/{other}")), None, "{other}");
        }
        assert_eq!(inserted("https://gw.example", "/.well-known/oauth-authorization-server/a"), None);
    }

    #[test]
    fn what_is_below_the_face() {
        for ours in [
            "/register/a/b",
            "/loop/register/t/x",
            "//register",
            "/loop/register/t//",
            "/.well-known/oauth-protected-resource",
            "/loop/.well-known/jwks.json",
        ] {
            assert!(is_below(ours), "{ours}");
        }
        for other in ["/", "/v1/register", "/v1/clients/register", "/a/b/register", "/registers", "/docs/x"] {
            assert!(!is_below(other), "{other}");
        }
    }
}
