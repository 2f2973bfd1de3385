//! What a vendor says of its rate limit before it refuses anything: `X-RateLimit-*`, and `RateLimit` in the forms of
//! draft-ietf-httpapi-ratelimit-headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header::DATE};

use crate::retry_after::MAX;

/// Smaller numbers are seconds from now, larger ones seconds since 1970. The first is September 2001 or 31 years.
const EPOCH: u64 = 1_000_000_000;
/// From here on they are milliseconds since 1970.
const EPOCH_MILLIS: u64 = 1_000_000_000_000;

/// The pairs of fields, by what their names begin with.
const PAIRS: [(&str, &str); 3] = [
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
];

/// How long the vendor will take no further request, 0 to 300 s; `None` where it says nothing of the kind that can be read.
/// `refused` is a 429, in which a time without a number of requests left says the same.
pub(crate) fn pause(headers: &HeaderMap, refused: bool) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    // the vendor's times are by the vendor's clock
    let now = || text(DATE.as_str()).and_then(|d| httpdate::parse_http_date(d).ok()).unwrap_or_else(SystemTime::now);
    let pairs = PAIRS.iter().filter_map(|(remaining, reset)| {
        let wait = until(text(reset)?, now())?;
        is_spent(text(remaining), refused).then_some(wait)
    });
    let fields = headers.get_all("ratelimit").iter().filter_map(|v| v.to_str().ok()).flat_map(items);
    let policies = headers.get_all("ratelimit-policy").iter().filter_map(|v| v.to_str().ok());
    let windows: Vec<Item<'_>> = policies.flat_map(items).collect();
    let named = fields.filter_map(|item| {
        let window = || windows.iter().find(|w| w.name == item.name).and_then(|w| w.parameter("w"));
        let wait = until(item.parameter("t").or_else(window)?, now())?;
        is_spent(item.parameter("r"), refused).then_some(wait)
    });
    // `limit=10, remaining=0, reset=5`, of the drafts before
    let all = text("ratelimit").map(members).unwrap_or_default();
    let member = |name: &str| all.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let single =
        member("reset").and_then(|reset| until(reset, now())).filter(|_| is_spent(member("remaining"), refused));
    pairs.chain(named).chain(single).max().filter(|wait| !wait.is_zero())
}

fn is_spent(remaining: Option<&str>, refused: bool) -> bool {
    match remaining {
        Some(number) => number.trim().parse::<u64>().is_ok_and(|left| left == 0),
        None => refused,
    }
}

/// The time until a reset, as seconds from now, as seconds or milliseconds since 1970, or as an HTTP date.
fn until(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let at = match whole_seconds(value) {
        Some(number) if number < EPOCH => return Some(Duration::from_secs(number).min(MAX)),
        Some(number) if number < EPOCH_MILLIS => UNIX_EPOCH.checked_add(Duration::from_secs(number))?,
        Some(number) => UNIX_EPOCH.checked_add(Duration::from_millis(number))?,
        None => httpdate::parse_http_date(value).ok()?,
    };
    Some(at.duration_since(now).unwrap_or_default().min(MAX))
}

/// A number of decimal digits; a fraction is rounded up.
fn whole_seconds(value: &str) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let more = u64::from(fraction.bytes().any(|b| b != b'0'));
    whole.parse::<u64>().ok()?.checked_add(more)
}

/// An item of a list with its parameters (RFC 9651 §3.1), as far as limits use them: `"name";r=0;t=30`.
struct Item<'v> {
    name: &'v str,
    parameters: Vec<(&'v str, &'v str)>,
}

impl<'v> Item<'v> {
    fn parameter(&self, name: &str) -> Option<&'v str> {
        self.parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }
}

fn items(value: &str) -> impl Iterator<Item = Item<'_>> {
    value.split(',').map(|item| {
        let mut parts = item.split(';');
        let name = parts.next().unwrap_or_default().trim().trim_matches('"');
        let parameters = parts.filter_map(|p| p.split_once('=')).map(|(n, v)| (n.trim(), v.trim())).collect();
        Item { name, parameters }
    })
}

fn members(value: &str) -> Vec<(&str, &str)> {
    value.split(',').filter_map(|m| m.split_once('=')).map(|(n, v)| (n.trim(), v.trim())).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        // Sun, 06 Nov 1994 08:49:37 GMT, or 784 111 777; later than EPOCH where a test needs it
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn seconds(fields: &[(&'static str, &str)], refused: bool) -> Option<u64> {
        pause(&headers(fields), refused).map(|wait| wait.as_secs())
    }

    /// 1 700 000 000
    const NOW: (&str, &str) = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");

    #[test]
    fn a_spent_limit_is_a_pause_in_every_form() {
        for (fields, wait) in [
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "42")][..], 42),
            (&[NOW, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000042")], 42),
            (&[NOW, ("x-ratelimit-remaining", " 0 "), ("x-ratelimit-reset", "1700000041.5")], 42),
            (&[NOW, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000042000")], 42),
            (&[NOW, ("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1700000042")], 42),
            (&[NOW, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "Tue, 14 Nov 2023 22:14:02 GMT")], 42),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "42")], 42),
            (&[("ratelimit", "limit=100, remaining=0, reset=42")], 42),
            (&[("ratelimit", "\"default\";r=0;t=42")], 42),
            (&[("ratelimit", "\"burst\";r=5;t=1, \"day\";r=0;t=42")], 42),
            (&[("ratelimit", "\"a\";r=0;t=1"), ("ratelimit", "\"b\"; r=0; t=42")], 42),
            (&[("ratelimit", "\"day\";r=0"), ("ratelimit-policy", "\"burst\";q=9;w=1, \"day\";q=100;w=42")], 42),
            // the longest counts, and no pause is longer than this
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "3"), ("ratelimit", "\"d\";r=0;t=42")], 42),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "86400")], 300),
            (&[NOW, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800000000")], 300),
            (&[NOW, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "18446744073709551615")], 300),
        ] {
            assert_eq!(seconds(fields, false), Some(wait), "{fields:?}");
        }
    }

    #[test]
    fn what_leaves_requests_or_cannot_be_read_is_none() {
        for fields in [
            &[][..],
            &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "42")],
            &[("x-ratelimit-remaining", "0")],
            &[("x-ratelimit-reset", "42")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "-1")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "")],
            &[("x-ratelimit-remaining", "none"), ("x-ratelimit-reset", "42")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999999999999999")],
            // a time that has passed by the vendor's own clock
            &[NOW, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1699999999")],
            // another form's time
            &[("x-ratelimit-remaining", "0"), ("ratelimit-reset", "42")],
            &[("ratelimit", "\"day\";r=0")],
            &[("ratelimit", "\"day\";r=0"), ("ratelimit-policy", "\"burst\";q=9;w=1")],
            &[("ratelimit", "r=0;t=42;;=,\"")],
            &[("ratelimit", ";;;,,,==")],
            &[("ratelimit", "limit=100, remaining=1, reset=42")],
        ] {
            assert_eq!(seconds(fields, false), None, "{fields:?}");
        }
    }

    #[test]
    fn a_refusal_needs_no_number() {
        assert_eq!(seconds(&[NOW, ("x-ratelimit-reset", "1700000042")], true), Some(42));
        assert_eq!(seconds(&[("ratelimit", "\"day\";t=42")], true), Some(42));
        assert_eq!(seconds(&[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "42")], true), None);
    }
}
