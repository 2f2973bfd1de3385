//! What the server refused, classified: RFC 7591 §3.2.2, RFC 7592 §2, RFC 6750 §3.1, and what servers make of them.

use registrar_core::{Error, ErrorKind, Outcome, Response, VendorDetail};

use super::{preset::Preset, wire::name};
use crate::shared::refusal::{self, Shape};

/// The name of the client id.
pub(super) const IDS: &[&str] = &[name::CLIENT_ID];

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

fn shape(preset: &Preset) -> Shape {
    Shape { codes: preset.error_code, sentences: preset.error_text, ids: IDS, ..Shape::default() }
}

/// The server's code and sentence.
pub(super) fn detail(response: &Response, preset: &Preset) -> VendorDetail {
    refusal::classify(response, &shape(preset)).vendor().cloned().unwrap_or_default()
}

/// Classifies a refusal.
pub(super) fn classify(response: &Response, preset: &Preset, call: Call) -> Error {
    let error = refusal::classify(response, &shape(preset));
    let code = refusal::code(&error).unwrap_or_default();
    let token_refused = response.status == 401 || (response.status == 400 && preset.token_codes.contains(&code));
    let refused = |error, kind, text| refusal::reworded(error, kind, text).with_outcome(Outcome::NotPerformed);
    match (call, response.status) {
        (Call::Register { open: true }, _) if token_refused => {
            let text = "the server registers nobody without an initial access token";
            refused(error, ErrorKind::UpstreamAuthentication, text).with_advice("set the backend's `token`")
        }
        (Call::Register { open: false }, _) if token_refused => {
            let text = "the server does not accept the initial access token";
            refused(error, ErrorKind::UpstreamAuthentication, text).with_advice("check the backend's `token`")
        }
        // RFC 7592 §2 has one answer for a client that is gone and for a token that is not its own
        (Call::Manage, _) if token_refused => refused(
            error,
            ErrorKind::NotFound,
            "the server does not know this client any more, or its registration access token is no longer valid",
        ),
        (Call::Manage, 403) if error.kind() == ErrorKind::UpstreamAuthorization => refused(
            error,
            ErrorKind::UpstreamAuthorization,
            "the server does not allow this for the registration access token of this client",
        ),
        (Call::Manage, 405 | 501) => {
            let text = "the server does not offer this for registered clients";
            refused(error, ErrorKind::UnsupportedByBackend, text)
        }
        (Call::Manage, 404 | 410) if !preset.gone.contains(&response.status) => {
            let text = "the server does not serve the URL that it gave for managing this client, which does not say that \
                        the client is gone";
            refused(error, ErrorKind::UpstreamRejected, text)
                .with_advice("check the backend's `base_url`, and whether registration is switched on at the server")
        }
        (Call::Manage, 410) => refused(error, ErrorKind::NotFound, "the server has deleted this client"),
        (Call::Register { .. }, 404 | 405 | 410 | 501) => refused(
            error,
            ErrorKind::UpstreamRejected,
            "there is no registration endpoint at this address",
        )
        .with_advice(
            "check the backend's `base_url` and `registration_path`, and whether registration is switched on there",
        ),
        (Call::Discover, 404 | 405 | 410 | 501) => {
            refused(error, ErrorKind::UpstreamRejected, "there is no server metadata at this address")
                .with_advice("check the backend's `base_url` and `discovery_path`")
        }
        _ => error,
    }
}
