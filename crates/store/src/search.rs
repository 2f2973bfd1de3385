//! What `q` searches in.

use registrar_model::Registration;

/// Stands between the name and the id, so that no ordinary text matches across them.
const SEPARATOR: char = '\u{1f}';

/// A text without regard to case.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    push_folded(&mut folded, text);
    folded
}

/// Character by character, unlike `str::to_lowercase`, whose final sigma depends on what follows and so makes a part
/// differ from the whole; by way of upper case, so that `ß` and `SS` meet.
fn push_folded(out: &mut String, text: &str) {
    if text.is_ascii() {
        out.extend(text.chars().map(|c| c.to_ascii_lowercase()));
        return;
    }
    out.extend(text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase));
}

/// The text in which a folded `q` is looked for.
pub(crate) fn haystack(registration: &Registration) -> String {
    let name = registration.spec.metadata.client_name.as_deref().unwrap_or_default();
    let id = registration.client_id.as_str();
    let mut text = String::with_capacity(name.len() + SEPARATOR.len_utf8() + id.len());
    push_folded(&mut text, name);
    text.push(SEPARATOR);
    push_folded(&mut text, id);
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
