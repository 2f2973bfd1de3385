//! What `q` searches in.

use registrar_model::Registration;

/// Stands between the name and the id, so that no ordinary text matches across them.
const SEPARATOR: char = '\u{1f}';

/// A text without regard to case. Character by character, unlike `str::to_lowercase`, whose final sigma depends on what
/// follows and so makes a part differ from the whole; by way of upper case, so that `ß` and `SS` meet.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The text in which a folded `q` is looked for.
pub(crate) fn haystack(registration: &Registration) -> String {
    let name = registration.spec.metadata.client_name.as_deref().unwrap_or_default();
    let mut text = fold(name);
    text.push(SEPARATOR);
    text.push_str(&fold(registration.client_id.as_str()));
    text
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn parts_match_in_whatever_case() {
        for (whole, part) in
            [("Straße 7", "STRASSE"), ("ΟΔΟΣΑ", "οδος"), ("Zürich", "ZÜR"), ("100%_a", "%_A"), ("İzmir", "İZ")]
        {
            assert!(fold(whole).contains(&fold(part)), "{whole} {part}");
        }
        assert!(!fold("Zürich").contains(&fold("zur")));
    }
}
