//! Rules for free text.

use crate::issue::{IssueCode, Issues, Position};

/// How long a text member may be, in bytes.
pub const MAX_TEXT: usize = 4096;

/// Checks a text for control characters (they forge log lines and terminals) and for length.
/// Returns true when it is acceptable.
pub fn check(text: &str, at: &Position<'_>, issues: &mut Issues) -> bool {
    if issues.is_lenient() {
        return true;
    }
    let before = issues.as_slice().len();
    if text.chars().any(char::is_control) {
        issues.push(at, IssueCode::ForbiddenCharacter, "control characters are not allowed");
    }
    if text.chars().any(is_bidi_control) {
        issues.push(at, IssueCode::ForbiddenCharacter, "bidirectional control characters are not allowed");
    }
    if text.len() > MAX_TEXT {
        issues.push(at, IssueCode::TooLong, format!("longer than {MAX_TEXT} bytes"));
    }
    issues.as_slice().len() == before
}

/// Characters that reorder the text around them, and so make a name look like another (UAX #9).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
