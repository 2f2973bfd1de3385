//! What the server refused, classified: RFC 7591 §3.2.2, RFC 7592 §2, RFC 6750 §3.1, and what servers make of them.

use registrar_core::{Error, ErrorKind, Outcome, Response, VendorDetail};
use registrar_model::{Issue, IssueCode, Pointer};
use serde_json::Value;

use super::preset::Preset;
use crate::shared;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `POST` to the registration endpoint, with or without an initial access token.
    Register { open: bool },
    /// A request to a client's own URL with its own token.
    Manage,
    /// Reading the server's metadata.
    Discover,
}

/// The server's code and sentence.
pub(super) fn detail(response: &Response, preset: &Preset) -> VendorDetail {
    let body = response.value();
    VendorDetail {
        status: Some(response.status),
        code: first(body.as_ref(), preset.error_code),
        message: first(body.as_ref(), preset.error_text),
        request_id: None,
    }
}

/// The first text or number that a pointer leads to.
fn first(body: Option<&Value>, pointers: &[&str]) -> Option<String> {
    pointers.iter().find_map(|pointer| match body?.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Classifies a refusal.
pub(super) fn classify(response: &Response, preset: &Preset, call: Call) -> Error {
    let detail = detail(response, preset);
    let code = detail.code.as_deref().unwrap_or("");
    let refused = |kind: ErrorKind, text: &'static str| {
        Error::new(kind, text).with_outcome(Outcome::NotPerformed).with_vendor(detail.clone())
    };
    let token_refused = response.status == 401 || (response.status == 400 && preset.token_codes.contains(&code));
    match (call, response.status) {
        (Call::Register { open: true }, _) if token_refused => refused(
            ErrorKind::UpstreamAuthentication,
            "the server registers nobody without an initial access token; set the backend's `token`",
        ),
        (Call::Register { open: false }, _) if token_refused => refused(
            ErrorKind::UpstreamAuthentication,
            "the server does not accept the initial access token; check the backend's `token`",
        ),
        // RFC 7592 §2 has one answer for a client that is gone and for a token that is not its own
        (Call::Manage, _) if token_refused => refused(
            ErrorKind::NotFound,
            "the server does not know this client any more, or its registration access token is no longer valid",
        ),
        (Call::Manage, 403) => refused(
            ErrorKind::UpstreamAuthorization,
            "the server does not allow this for the registration access token of this client",
        ),
        (Call::Manage, 405 | 501) => {
            refused(ErrorKind::UnsupportedByBackend, "the server does not offer this for registered clients")
        }
        (Call::Manage, 410) => refused(ErrorKind::NotFound, "the server has deleted this client"),
        (Call::Register { .. }, 404) => refused(
            ErrorKind::NotFound,
            "there is no registration endpoint here; check `registration_path`, and whether registration is switched on",
        ),
        (Call::Discover, 404) => {
            refused(ErrorKind::NotFound, "there is no server metadata here; check `base_url` and `discovery_path`")
        }
        (Call::Register { .. } | Call::Manage, 400 | 422) => {
            let error = response.error_by_status(detail.clone());
            match code {
                "invalid_redirect_uri" => error.with_kind(ErrorKind::InvalidRedirectUri),
                "invalid_software_statement" | "unapproved_software_statement" => error.with_issues(vec![Issue {
                    pointer: Pointer::root().child("metadata").child("software_statement"),
                    code: IssueCode::InvalidValue,
                    detail: "the server does not accept the software statement".to_owned(),
                }]),
                _ => shared::refine_redirect(error, &["redirect_uri", "redirect uri"]),
            }
        }
        _ => response.error_by_status(detail),
    }
}
