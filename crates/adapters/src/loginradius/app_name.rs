//! `AppName`: the key of management calls, and a segment of the client's own live endpoint URLs (T2, trap 8).

use registrar_core::{Error, Naming, Result};
use registrar_model::{ClientSpec, Issue, IssueCode, LossKind, Losses, Pointer, Severity};
use serde_json::{Value, json};

use super::{KIND, wire::name};
use crate::shared;

/// The name of a new client, or of the one that is to be changed, which keeps its own.
///
/// # Errors
/// When a client is to be renamed.
pub(super) fn choose(
    spec: &ClientSpec,
    current: Option<&str>,
    naming: Naming<'_>,
    losses: &mut Losses,
) -> Result<String> {
    const FIELD: &str = "metadata.client_name";
    let sent = spec.vendor.get(KIND).and_then(|own| own.get(name::APP_NAME)).and_then(Value::as_str);
    let wanted = spec.metadata.client_name.as_deref();
    let chosen = match (current, sent) {
        (Some(current), Some(sent)) if sent != current => {
            let pointer = Pointer::root().child("vendor").child(KIND).child(name::APP_NAME);
            let detail = "another name would change the client's live endpoint URLs; register a new client instead";
            let issue = Issue { pointer, code: IssueCode::Unsupported, detail: detail.to_owned() };
            return Err(Error::unsupported(format!("{}: {detail}", issue.pointer)).with_issues(vec![issue]));
        }
        (Some(current), _) => current.to_owned(),
        (None, Some(sent)) => sent.to_owned(),
        (None, None) => {
            let plain = wanted.and_then(segment_of).unwrap_or_else(|| {
                let derived = shared::derived_name(&spec.metadata);
                let slug = || format!("client-{}", slug(&derived)).trim_matches('-').to_owned();
                segment_of(&derived).unwrap_or_else(slug)
            });
            match naming {
                Naming::Plain => plain,
                Naming::Distinct(mark) => marked(&plain, mark),
            }
        }
    };
    match wanted {
        Some(wanted) if wanted != chosen => {
            let renamed = current.is_some() && segment_of(wanted).is_some_and(|segment| segment != chosen);
            let reason = if renamed {
                "renaming would change the client's live endpoint URLs; only the gateway's name changes"
            } else {
                "LoginRadius has no display name, only AppName, a segment of URLs; the gateway keeps the name"
            };
            let (wanted, got) = (Some(json!(wanted)), Some(json!(chosen)));
            losses.changed(FIELD, LossKind::LocalOnly, Severity::Info, wanted, got, reason);
        }
        Some(_) => {}
        None => losses.defaulted(FIELD, json!(chosen), "LoginRadius demands a name, AppName, and shows it"),
    }
    Ok(chosen)
}

/// A name and what makes it one of its own, within the limit. Names have ASCII characters only.
fn marked(plain: &str, mark: &str) -> String {
    let room = MAX.saturating_sub(mark.len() + 1);
    format!("{}-{mark}", plain.get(..room).unwrap_or(plain))
}

/// A text as it is where it may be an `AppName`, or else its slug; `None` when nothing usable is left.
fn segment_of(text: &str) -> Option<String> {
    if is_usable(text) {
        return Some(text.to_owned());
    }
    Some(slug(text)).filter(|slug| is_usable(slug))
}

/// ASCII letters and digits stay; what stands between them becomes one `-`.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Safe as a path segment of management and of the client's own endpoints, and not the word that the management API
/// uses itself (trap 8).
pub(super) fn is_usable(text: &str) -> bool {
    (1..=MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.eq_ignore_ascii_case("credentials")
}

/// LoginRadius states no limit; this is the one of [`registrar_core::endpoint`], so that what can be created can be
/// read.
pub(super) const MAX: usize = 255;
