//! `POST /v1/clients/{id}:used`, and what the other methods of that path are told.

use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Uri, header};
use registrar_core::{Error, ErrorKind};
use registrar_engine::Scope;

use crate::{App, auth::Principal, clients, clients::Id, problem::Context, query::Query};

/// What stands behind the id.
const VERB: &str = ":used";

/// `POST /v1/clients/{id}:used`
///
/// One route with `/v1/clients/{id}`, because a path segment is either a parameter or a word for the router.
pub(crate) async fn act(
    State(app): State<App>,
    Extension(context): Extension<Context>,
    principal: Principal,
    id: Id,
    uri: Uri,
) -> Response {
    let segment = id.map(|Path(text)| text).unwrap_or_default();
    if !segment.contains(':') {
        return not_allowed(&context, &segment);
    }
    let answer = async {
        principal.require(Scope::ClientsWrite)?;
        Query::read(&uri, &[])?;
        let Some(id) = segment.strip_suffix(VERB) else {
            return Err(Error::new(ErrorKind::RouteNotFound, "a client takes POST only as ID:used and ID/secret"));
        };
        app.engine().report_use(clients::parse(Ok(Path(id.to_owned())))?).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answer.await.unwrap_or_else(|error| context.error(&error))
}

/// A method that neither a client nor what can be said of it has.
pub(crate) async fn method_not_allowed(Extension(context): Extension<Context>, _anyone: Principal, id: Id) -> Response {
    not_allowed(&context, &id.map(|Path(text)| text).unwrap_or_default())
}

/// The answer to a method of a client that this path has not, because a verb stands behind the id.
pub(crate) fn refused(context: &Context, id: &Id) -> Option<Response> {
    let Ok(Path(segment)) = id else { return None };
    segment.ends_with(VERB).then(|| not_allowed(context, segment))
}

/// 405 with the methods of this very path: the router takes `ID` and `ID:used` for one.
fn not_allowed(context: &Context, segment: &str) -> Response {
    let detail = "this path does not have this method; `Allow` lists those that it has";
    let mut response = context.error(&Error::new(ErrorKind::MethodNotAllowed, detail));
    let methods = if segment.ends_with(VERB) { "POST" } else { "GET,HEAD,PUT,PATCH,DELETE" };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
