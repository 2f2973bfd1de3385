//! LoginRadius's errors: `{ErrorCode, Message, Description}`, in any order.

use registrar_core::{Error, ErrorKind, Response, VendorDetail};
use serde_json::Value;

use crate::shared;

/// Classifies an error answer by `ErrorCode` first, because the page prints no statuses, then by status.
pub(super) fn classify(response: &Response) -> Error {
    let body = response.value();
    let body = body.as_ref();
    let code = code_of(body);
    // OAuth style where the M2M bearer is refused by something in front of the API
    let message =
        ["Message", "Description", "error_description"].into_iter().find_map(|member| shared::text(body, member));
    let known = code.clone();
    let code = code.or_else(|| shared::text(body, "error"));
    let vendor = VendorDetail { code, message, status: Some(response.status), ..shared::no_detail() };
    let error = response.error_by_status(vendor.clone());
    let refused = |kind: ErrorKind, detail: &'static str| {
        Error::new(kind, detail).with_vendor(vendor.clone()).with_retry_after(response.retry_after())
    };
    let error = match known.as_deref() {
        Some("7914" | "908") => refused(ErrorKind::Validation, "LoginRadius refused the registration"),
        Some("6002" | "901" | "902" | "920") => refused(
            ErrorKind::UpstreamAuthentication,
            "LoginRadius does not accept the gateway's credential; check the backend's `token` or `m2m`",
        ),
        Some("7981") => refused(ErrorKind::NotFound, "LoginRadius has no client of this name"),
        Some("7982") => refused(
            ErrorKind::AlreadyExists,
            "LoginRadius has a client of this name already; names are unique within a site",
        ),
        Some("8014") => refused(
            ErrorKind::UnsupportedByBackend,
            "LoginRadius does not reset the secret of a client whose GlobalClient is on",
        ),
        Some("7909") => Error::new(ErrorKind::UpstreamError, "LoginRadius failed")
            .with_vendor(vendor.clone())
            .with_outcome(response.effect.outcome_if_unanswered()),
        _ => error,
    };
    shared::refine_redirect(error, &["loginredirecturi", "redirect uri", "redirect_uri"])
}

/// An integer or a numeric string.
pub(super) fn code_of(body: Option<&Value>) -> Option<String> {
    shared::text(body, "ErrorCode")
}
