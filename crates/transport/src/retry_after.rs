//! `Retry-After` (RFC 9110 §10.2.3).

use std::time::{Duration, SystemTime};

/// Nobody waits longer than this for a vendor; a larger value is a mistake or a trap (reliability F25).
pub(crate) const MAX: Duration = Duration::from_secs(300);

/// How long to wait, from seconds or an HTTP date: 0 to 300 s, a date in the past being 0. `None` for anything else,
/// negative numbers included.
#[must_use]
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // more digits than fit are a very long time
        value.parse().map_or(MAX, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_garbage_is_not() {
        // RFC 9110 §5.6.7: the same instant in the three formats
        let instant = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let before = |seconds| instant - Duration::from_secs(seconds);
        let after = |seconds| instant + Duration::from_secs(seconds);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (value, now, want) in [
            ("0", instant, seconds(0)),
            (" 120 ", instant, seconds(120)),
            ("301", instant, seconds(300)),
            ("1000000000", instant, seconds(300)),
            ("99999999999999999999999999", instant, seconds(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", before(30), seconds(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", before(30), seconds(30)),
            ("Sun Nov  6 08:49:37 1994", before(30), seconds(30)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", before(86_400), seconds(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", after(30), seconds(0)),
            ("", instant, None),
            ("-5", instant, None),
            ("+5", instant, None),
            ("1.5", instant, None),
            ("soon", instant, None),
            ("5 s", instant, None),
            ("\u{661}\u{662}", instant, None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", instant, None),
        ] {
            assert_eq!(parse_retry_after(value, now), want, "{value:?}");
        }
    }
}
