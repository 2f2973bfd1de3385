//! What went wrong between here and the vendor, and what that says about a write. Nothing of `reqwest::Error` is
//! repeated: its texts hold the URL (reliability E3).

use std::{error::Error as StdError, io, time::Duration};

use http::StatusCode;
use registrar_core::{Effect, Error, ErrorKind, Outcome, VendorDetail};

/// What the layers tell each other: the error for the caller, and what the error alone does not say.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) cause: Cause,
}

/// Why there is no answer; retries, the circuit and health decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No connection: the name, the port, or the time for it. Nothing was sent.
    Connect,
    /// A certificate or handshake; trying again does not mend it. Nothing was sent.
    Tls,
    /// Sent, and no whole answer in time.
    Timeout,
    /// Sent, and the connection or the answer broke off.
    Lost,
    /// An answer beyond the limit, the same each time.
    TooLarge,
    /// No access token. Nothing was sent.
    Token,
    /// Refused here, by the layer of this name. Nothing was sent, and it says nothing new about the vendor.
    Refused(&'static str),
    /// A defect of the gateway. Nothing was sent.
    Defect,
}

impl Fault {
    pub(crate) fn new(cause: Cause, error: Error) -> Self {
        Self { error, cause }
    }

    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.cause, Cause::Refused(_))
    }

    /// Whether it counts against the vendor in the circuit breaker (reliability F27).
    pub(crate) fn is_outage(&self) -> bool {
        match self.cause {
            Cause::Connect | Cause::Tls | Cause::Timeout | Cause::Lost => true,
            Cause::Token => matches!(
                self.error.kind(),
                ErrorKind::UpstreamUnavailable | ErrorKind::UpstreamTimeout | ErrorKind::UpstreamMalformed
            ),
            Cause::TooLarge | Cause::Refused(_) | Cause::Defect => false,
        }
    }
}

/// A request that cannot be or must not be sent, by a mistake of the gateway.
pub(crate) fn defect(detail: &'static str) -> Fault {
    Fault::new(Cause::Defect, Error::new(ErrorKind::Internal, detail))
}

/// No status arrived.
pub(crate) fn unanswered(error: reqwest::Error, effect: Effect) -> Fault {
    if error.is_builder() {
        return defect("the request to the vendor could not be built; nothing was sent");
    }
    if error.is_connect() {
        // the innermost cause comes from the system, the resolver or TLS; none of them knows the request
        if let Some(cause) = root_cause(&error) {
            tracing::debug!(cause = %cause, "cannot connect to the vendor");
        }
        return cannot_connect(&error);
    }
    if error.is_timeout() {
        return timed_out(effect, None);
    }
    let error = match effect {
        Effect::Read => {
            Error::new(ErrorKind::UpstreamUnavailable, "the vendor closed the connection without an answer")
        }
        Effect::Idempotent | Effect::Once => Error::new(
            ErrorKind::OutcomeUnknown,
            "the connection was lost after the request was sent and before the vendor's answer arrived",
        )
        .with_outcome(effect.outcome_if_unanswered()),
    };
    Fault::new(Cause::Lost, error)
}

fn cannot_connect(error: &reqwest::Error) -> Fault {
    let (cause, detail) = if error.is_dns() {
        (Cause::Connect, "cannot connect to the vendor: its host name does not resolve; nothing was sent")
    } else if error.is_timeout() {
        (Cause::Connect, "cannot connect to the vendor: no connection within the time allowed; nothing was sent")
    } else if is_tls(error) {
        (Cause::Tls, "cannot connect to the vendor: certificate or TLS problem; nothing was sent")
    } else {
        (Cause::Connect, "cannot connect to the vendor; nothing was sent")
    };
    let error = Error::new(ErrorKind::UpstreamUnavailable, detail);
    Fault::new(cause, if cause == Cause::Tls { error.never_retryable() } else { error })
}

/// rustls reports what it refuses as [`io::ErrorKind::InvalidData`], and a peer that hangs up during the handshake
/// ends early; plain TCP knows neither while connecting. An `io::Error` around another one hides it from `source()`.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        next = match error.downcast_ref::<io::Error>() {
            Some(io) if matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => return true,
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    false
}

fn root_cause(error: &reqwest::Error) -> Option<&(dyn StdError + 'static)> {
    let mut cause = error.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause)
}

/// The deadline struck after the request was handed over; the status may have arrived by then.
pub(crate) fn timed_out(effect: Effect, status: Option<StatusCode>) -> Fault {
    let outcome = status.map_or(effect.outcome_if_unanswered(), |status| outcome_of_unread(effect, status));
    let error = match outcome {
        Outcome::Unknown => Error::new(
            ErrorKind::OutcomeUnknown,
            "the request was sent, and the vendor's answer did not arrive completely in time",
        ),
        Outcome::NotPerformed | Outcome::Performed => {
            Error::new(ErrorKind::UpstreamTimeout, "the vendor did not answer completely in time")
        }
    };
    Fault::new(Cause::Timeout, with_status(error.with_outcome(outcome), status))
}

/// The body ended before its end.
pub(crate) fn truncated(effect: Effect, status: StatusCode) -> Fault {
    let error = Error::new(ErrorKind::UpstreamMalformed, "the vendor's answer was cut off");
    let error = error.with_outcome(outcome_of_unread(effect, status));
    Fault::new(Cause::Lost, with_status(error, Some(status)))
}

/// The body is larger than anything that the vendor documents.
pub(crate) fn too_large(effect: Effect, status: StatusCode, cap: usize) -> Fault {
    let error = Error::new(ErrorKind::UpstreamMalformed, format!("the vendor's answer is larger than {cap} bytes"));
    let error = error.with_outcome(outcome_of_unread(effect, status));
    Fault::new(Cause::TooLarge, with_status(error, Some(status)))
}

/// The time was over before the request was handed to the HTTP client.
pub(crate) fn too_late() -> Fault {
    let detail = "the time of this call was over before the request could be sent; nothing was sent";
    Fault::new(Cause::Refused("late"), Error::new(ErrorKind::UpstreamTimeout, detail))
}

/// The bulkhead is full.
pub(crate) fn shed(max_in_flight: usize) -> Error {
    Error::new(
        ErrorKind::UpstreamUnavailable,
        format!("{max_in_flight} requests to this backend are in flight already, which is its limit; nothing was sent"),
    )
    .with_retry_after(Some(Duration::from_secs(1)))
}

/// A refusal stays one when only its status could be read; 408 is not a refusal but a report of a timeout. The same
/// rule as [`registrar_core::Response::error_by_status`].
fn outcome_of_unread(effect: Effect, status: StatusCode) -> Outcome {
    if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT {
        Outcome::NotPerformed
    } else {
        effect.outcome_if_unanswered()
    }
}

fn with_status(error: Error, status: Option<StatusCode>) -> Error {
    match status {
        Some(status) => error.with_vendor(VendorDetail { status: Some(status.as_u16()), ..VendorDetail::default() }),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_errors_are_found_inside_io_errors() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, "certificate expired");
        assert!(is_tls(&io::Error::other(inner)));
        assert!(!is_tls(&io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(!is_tls(&io::Error::other("name does not resolve")));
    }

    #[test]
    fn a_refusal_is_not_performed_even_if_its_body_is_lost() {
        for effect in [Effect::Idempotent, Effect::Once] {
            assert_eq!(truncated(effect, StatusCode::BAD_REQUEST).error.outcome(), Outcome::NotPerformed);
            assert_eq!(truncated(effect, StatusCode::CREATED).error.outcome(), Outcome::Unknown);
            assert_eq!(truncated(effect, StatusCode::REQUEST_TIMEOUT).error.outcome(), Outcome::Unknown);
            assert_eq!(truncated(effect, StatusCode::BAD_GATEWAY).error.outcome(), Outcome::Unknown);
            let late = timed_out(effect, Some(StatusCode::CONFLICT)).error;
            assert_eq!((late.kind(), late.outcome()), (ErrorKind::UpstreamTimeout, Outcome::NotPerformed));
        }
        assert_eq!(truncated(Effect::Read, StatusCode::OK).error.outcome(), Outcome::NotPerformed);
    }
}
