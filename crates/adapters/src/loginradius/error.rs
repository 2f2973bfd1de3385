//! LoginRadius's errors: `{ErrorCode, Message, Description}`, in any order; OAuth style where the M2M bearer is refused by
//! something in front of the API.

use registrar_core::{Error, ErrorKind, Outcome, Response, Subject};

use super::wire;
use crate::shared::refusal::{self, Shape};

pub(super) const SHAPE: Shape = Shape {
    codes: &["/ErrorCode"],
    sentences: &["/Message", "/Description"],
    request_ids: &[],
    fields: wire::FIELDS,
    ids: &["ClientId"],
};

/// Classifies an error answer by `ErrorCode` first, because the page prints no statuses, then by status.
pub(super) fn classify(response: &Response) -> Error {
    let error = refusal::classify(response, &SHAPE);
    let reword = |error, kind, detail| refusal::reworded(error, kind, detail).with_outcome(Outcome::NotPerformed);
    match known(response).as_deref() {
        Some("7914" | "908") => {
            let refused = error.with_kind(ErrorKind::Validation).with_outcome(Outcome::NotPerformed);
            let refused = refusal::with_reason(refused, response, &SHAPE);
            let kind = refused.kind();
            reword(refused, kind, "LoginRadius refused the registration")
        }
        Some("6002" | "901" | "902" | "920") => {
            let detail = "LoginRadius does not accept the gateway's credential";
            reword(error, ErrorKind::UpstreamAuthentication, detail).with_advice("check the backend's `token` or `m2m`")
        }
        Some("7981") if response.subject == Subject::Client => {
            reword(error, ErrorKind::NotFound, "LoginRadius has no client of this name")
        }
        Some("7981") => {
            let detail = "LoginRadius says that there is no client, although none was asked for";
            reword(error, ErrorKind::UpstreamRejected, detail).with_advice("check the backend's `base_url`")
        }
        Some("7982") => reword(
            error,
            ErrorKind::AlreadyExists,
            "LoginRadius has a client of this name already; names are unique within a site",
        )
        .with_advice("name another one in `vendor.loginradius.AppName`; it becomes part of the client's live URLs"),
        Some("8014") => reword(
            error,
            ErrorKind::UnsupportedByBackend,
            "LoginRadius does not reset the secret of a client whose GlobalClient is on",
        ),
        Some("7909") => refusal::reworded(error, ErrorKind::UpstreamError, "LoginRadius failed")
            .with_outcome(response.effect.outcome_if_unanswered()),
        _ => error,
    }
}

/// The vendor's own number.
fn known(response: &Response) -> Option<String> {
    let body = response.value()?;
    match body.get("ErrorCode")? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a success is an error by its content.
pub(super) fn is_error(response: &Response) -> bool {
    known(response).is_some()
}
