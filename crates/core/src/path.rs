//! The one way to put an id into a vendor's URL. `Url::push("..")` drops the segment and `format!` climbs out of the
//! collection; both turn an operation on a client into one on all of them (reliability T5).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// Everything but the unreserved characters of RFC 3986 §2.3, and the colon, which a segment may have (§3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A text as one segment of a path. Unreserved characters stay as they are (RFC 3986 §2.3).
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Appends segments to a base URL, each percent-encoded, and query parameters.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] when a segment is empty, `.`, `..`, longer than 255 bytes or has a control character.
pub fn endpoint(base: &Url, segments: &[&str], query: &[(&str, &str)]) -> Result<Url> {
    let prefix = base.path().trim_end_matches('/');
    let mut path =
        String::with_capacity(prefix.len() + segments.iter().map(|segment| segment.len() + 1).sum::<usize>());
    path.push_str(prefix);
    for segment in segments {
        let refused = segment.is_empty()
            || *segment == "."
            || *segment == ".."
            || segment.len() > 255
            || segment.chars().any(char::is_control);
        if refused {
            return Err(Error::new(ErrorKind::InvalidRequest, "an identifier cannot be used in a vendor's URL"));
        }
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
    }
    let mut url = base.clone();
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("https://v.example/prefix/").unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn segments_stay_segments() {
        let url = endpoint(&base(), &["v1", "clients", "a/b?c#d e\u{e9}"], &[("page", "1&2")]);
        assert_eq!(
            url.map(|u| u.to_string()).ok().as_deref(),
            Some("https://v.example/prefix/v1/clients/a%2Fb%3Fc%23d%20e%C3%A9?page=1%262")
        );
        for bad in ["", ".", "..", "\t..", "a\r\nb"] {
            assert!(endpoint(&base(), &["v1", bad], &[]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_id_gives_its_own_segment_or_is_refused(id in "\\PC{0,40}|[.%/\\\\a2eE]{0,8}") {
            if let Ok(url) = endpoint(&base(), &["v1", "clients", &id], &[]) {
                let parsed = Url::parse(url.as_str()).map_err(|e| TestCaseError::fail(e.to_string()))?;
                let segments: Vec<&str> = parsed.path_segments().into_iter().flatten().collect();
                prop_assert_eq!(&segments[..3], &["prefix", "v1", "clients"]);
                prop_assert_eq!(segments.len(), 4);
                let decoded = percent_encoding::percent_decode_str(segments[3]).decode_utf8().map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(decoded.as_ref(), id.as_str());
            }
        }
    }
}
