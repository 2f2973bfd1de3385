//! Refusals: the vendor's own reason in every common shape, the members that it names, and what its status means.

use registrar_core::{Effect, Error, ErrorKind, Outcome, Response, Subject, VendorDetail, error::sanitise};
use registrar_model::{Issue, IssueCode, Pointer, field::lookup};
use serde_json::{Map, Value};

use super::answer;

/// At most so many parts of a reason are repeated.
const PARTS: usize = 8;
/// Characters of one part.
const PART: usize = 240;
/// Bytes of a body that is plain text.
const PLAIN: usize = 1024;

/// Where a kind's answers differ from what is common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// JSON Pointers to the code, before the common places.
    pub codes: &'static [&'static str],
    /// JSON Pointers to the sentence, before the common places.
    pub sentences: &'static [&'static str],
    /// JSON Pointers to the id of the request.
    pub request_ids: &'static [&'static str],
    /// The kind's own names and the canonical fields.
    pub fields: &'static [(&'static str, &'static str)],
    /// Names of the client id.
    pub ids: &'static [&'static str],
}

/// Where the parts of a list say what is wrong, and with which member.
const ITEM_TEXT: &[&str] =
    &["errorsummary", "message", "msg", "detail", "description", "errormessage", "reason", "error", "title", "code"];
const ITEM_MEMBER: &[&str] = &[
    "field",
    "fieldname",
    "pointer",
    "path",
    "propertypath",
    "property",
    "param",
    "parameter",
    "member",
    "attribute",
    "name",
    "loc",
    "location",
    "key",
];
/// Lists and objects of parts.
const LISTS: &[&str] = &[
    "errors",
    "errorcauses",
    "details",
    "invalidparams",
    "fielderrors",
    "validationerrors",
    "violations",
    "detail",
    "nonfielderrors",
    "causes",
    "error",
    "message",
    "messages",
];

/// What a vendor said about a refusal.
#[derive(Debug, Default)]
struct Reason {
    code: Option<String>,
    sentences: Vec<String>,
    /// Members as the vendor calls them, and what it says of each.
    members: Vec<(String, String)>,
}

/// Classifies an answer that is no success, with the vendor's own reason.
pub(crate) fn classify(response: &Response, shape: &Shape) -> Error {
    let body = response.value();
    let reason = Reason::of(response, body.as_ref(), shape);
    let detail = VendorDetail {
        status: Some(response.status),
        code: reason.code.clone(),
        message: reason.message(),
        request_id: at(body.as_ref(), shape.request_ids),
    };
    let message = detail.message.clone().unwrap_or_default();
    let error = response.error_by_status(detail);
    let error = match response.status {
        403 if response.effect != Effect::Read => refused_by_policy(error, reason.code.as_deref(), &message),
        _ => error,
    };
    let error = match error.kind() {
        ErrorKind::Validation => with_members(error, &reason, &message, shape),
        _ => error,
    };
    with_client(error, response, shape.ids)
}

/// The same refusal of a request, with pointers to the members that the vendor names: for adapters that know it by a code
/// and not by its status.
pub(crate) fn with_reason(error: Error, response: &Response, shape: &Shape) -> Error {
    let reason = Reason::of(response, response.value().as_ref(), shape);
    let message = reason.message().unwrap_or_default();
    with_members(error, &reason, &message, shape)
}

/// The vendor's code, where it has one: for adapters that know more of its codes.
pub(crate) fn code(error: &Error) -> Option<&str> {
    error.vendor()?.code.as_deref()
}

/// The same error as another kind with another sentence and advice.
pub(crate) fn reworded(error: Error, kind: ErrorKind, detail: &'static str) -> Error {
    let reworded = Error::new(kind, detail)
        .with_outcome(error.outcome())
        .with_retry_after(error.retry_after())
        .with_vendor(error.vendor().cloned().unwrap_or_default());
    let reworded = match error.client() {
        Some(client) => reworded.with_client(client.client_id.clone(), client.management.clone()),
        None => reworded,
    };
    if matches!(kind, ErrorKind::Validation | ErrorKind::InvalidRedirectUri) {
        reworded.with_issues(error.issues().to_vec())
    } else {
        reworded
    }
}

/// The error with the client that the answer to a creation names. It may exist, whatever the status.
pub(crate) fn with_client(error: Error, response: &Response, ids: &[&str]) -> Error {
    if response.subject != Subject::NewClient || error.client().is_some() {
        return error;
    }
    match answer::find_text(response.text(), ids).and_then(|id| id.parse().ok()) {
        Some(id) => error.with_client(id, None),
        None => error,
    }
}

/// A policy of the vendor refuses the request, not the gateway's credential (DESIGN §6).
fn refused_by_policy(error: Error, code: Option<&str>, message: &str) -> Error {
    const CODES: [&str; 4] = [
        "invalid_client_metadata",
        "invalid_redirect_uri",
        "invalid_software_statement",
        "unapproved_software_statement",
    ];
    let lower = message.to_ascii_lowercase();
    let is_policy =
        lower.contains("policy") && (lower.contains("rejected request") || lower.contains("rejects the request"));
    if !is_policy && !code.is_some_and(|code| CODES.contains(&code)) {
        return error;
    }
    const CAPACITY: [&str; 8] = [
        "max client",
        "max number",
        "maximum number",
        "maximum of",
        "too many clients",
        "quota",
        "clients limit",
        "allowed to have max",
    ];
    if CAPACITY.iter().any(|words| lower.contains(words)) {
        return reworded(error, ErrorKind::UpstreamRejected, "the vendor takes no more clients at present")
            .with_outcome(Outcome::NotPerformed)
            .with_advice("remove clients there, or raise the vendor's limit; `vendor.message` has its words")
            .passing();
    }
    reworded(error, ErrorKind::Validation, "the vendor refused the registration")
}

/// A refusal with pointers to the members that the vendor names.
fn with_members(error: Error, reason: &Reason, message: &str, shape: &Shape) -> Error {
    let mut issues: Vec<Issue> = Vec::new();
    let mut tell = |pointer: Pointer, detail: &str| {
        if !issues.iter().any(|issue| issue.pointer == pointer) {
            let redirect = pointer.as_str().starts_with("#/metadata/redirect_uris");
            let code = if redirect { IssueCode::InvalidRedirectUri } else { IssueCode::InvalidValue };
            issues.push(Issue { pointer, code, detail: sanitise(detail, PART) });
        }
    };
    for (member, detail) in &reason.members {
        if let Some(pointer) = pointer_to(member, shape) {
            tell(pointer, detail);
        }
    }
    let code = reason.code.as_deref().unwrap_or_default();
    if let Some(field) = FIELD_OF_CODE.iter().find(|(known, _)| *known == code).map(|(_, field)| *field) {
        tell(pointer_of(field), if message.is_empty() { "the vendor does not accept it" } else { message });
    }
    if issues.is_empty() {
        let named = words(message).find_map(|word| field_in_sentence(word, shape));
        let named = named.or_else(|| says_redirect_uri(message).then(|| "metadata.redirect_uris".to_owned()));
        if let Some(field) = named {
            let redirect = field == "metadata.redirect_uris";
            let code = if redirect { IssueCode::InvalidRedirectUri } else { IssueCode::InvalidValue };
            issues.push(Issue { pointer: pointer_of(&field), code, detail: sanitise(message, PART) });
        }
    }
    let redirects = !issues.is_empty() && issues.iter().all(|issue| issue.code == IssueCode::InvalidRedirectUri);
    let error = if redirects { error.with_kind(ErrorKind::InvalidRedirectUri) } else { error };
    error.with_issues(issues)
}

/// Codes that name a member by themselves.
const FIELD_OF_CODE: &[(&str, &str)] = &[
    ("invalid_redirect_uri", "metadata.redirect_uris"),
    ("invalid_software_statement", "metadata.software_statement"),
    ("unapproved_software_statement", "metadata.software_statement"),
    ("invalid_scope", "metadata.scope"),
    ("insufficient_scope", "metadata.scope"),
];

fn says_redirect_uri(message: &str) -> bool {
    message.to_ascii_lowercase().contains("redirect uri")
}

fn pointer_of(field: &str) -> Pointer {
    field.split('.').fold(Pointer::root(), |pointer, token| pointer.child(token))
}

/// `redirect_uris[0]`, `/redirect_uris/0`, `body.redirect_uris`, `redirectUris`: the first part that is a member of the
/// canonical model, and the index after it.
fn pointer_to(member: &str, shape: &Shape) -> Option<Pointer> {
    let mut parts = member.split(['/', '.', '[', ']', '#']).filter(|part| !part.is_empty());
    let field = parts.find_map(|part| canonical(part, shape))?;
    let pointer = pointer_of(&field);
    Some(match parts.next().and_then(|part| part.parse::<usize>().ok()) {
        Some(index) => pointer.child(index),
        None => pointer,
    })
}

/// The canonical field of a vendor's name for a member.
fn canonical(name: &str, shape: &Shape) -> Option<String> {
    if let Some((_, field)) = shape.fields.iter().find(|(wire, _)| wire.eq_ignore_ascii_case(name)) {
        return (!field.is_empty()).then(|| (*field).to_owned());
    }
    let (base, tag) = name.split_once('#').map_or((name, None), |(base, tag)| (base, Some(tag)));
    let snake = snake_case(base);
    let singular = snake.strip_suffix('s').unwrap_or(&snake).to_owned();
    let known = [format!("{snake}s"), singular, snake]
        .into_iter()
        .rev()
        .find(|name| lookup(&format!("metadata.{name}")).is_some())?;
    Some(match tag {
        Some(tag) => format!("metadata.{known}#{tag}"),
        None => format!("metadata.{known}"),
    })
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            out.push('_');
        }
        out.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
        before = c;
    }
    out
}

/// The words of a sentence in which a member can be named.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '#' | '-' | '.' | '[' | ']' | '/');
    text.split(move |c: char| !inside(c))
        .map(|word| word.trim_matches(['.', '-', '/', '[', ']']))
        .filter(|word| !word.is_empty())
}

/// The field that a word of a sentence names: a word that is nothing but a name, or the scope.
fn field_in_sentence(word: &str, shape: &Shape) -> Option<String> {
    let word = word.split(['.', '[', '/']).next().unwrap_or(word);
    let is_name = word.contains('_') || word.chars().skip(1).any(|c| c.is_ascii_uppercase()) || word == "jwks";
    if matches!(snake_case(word).as_str(), "scope" | "scopes" | "client_scope" | "client_scopes") {
        return Some("metadata.scope".to_owned());
    }
    if is_name { canonical(word, shape) } else { None }
}

impl Reason {
    fn of(response: &Response, body: Option<&Value>, shape: &Shape) -> Self {
        let code = |pointer: &&str| body?.pointer(pointer).and_then(code_text);
        let mut reason = Self { code: shape.codes.iter().find_map(code), ..Self::default() };
        if let Some(sentence) = at(body, shape.sentences) {
            reason.say(&sentence);
        }
        match body {
            Some(Value::Object(object)) => {
                reason.read(object, shape);
                // by member, without anything around; a failure may hold a client instead
                if (400..500).contains(&response.status) && !shape.ids.iter().any(|id| object.contains_key(*id)) {
                    reason.members_of(object, shape);
                }
            }
            Some(Value::String(text)) => reason.say(text),
            Some(Value::Array(items)) => items.iter().for_each(|item| reason.part(item, None)),
            Some(_) => {}
            None => reason.sentences.extend(plain(response)),
        }
        reason
    }

    fn read(&mut self, object: &Map<String, Value>, shape: &Shape) {
        let text = |name: &str| member(object, name).and_then(Value::as_str).filter(|text| !text.is_empty());
        // a kind that has its sentences there has no codes there
        let usual = ["error", "code", "errorCode", "error_code"];
        for name in usual.into_iter().filter(|name| !shape.sentences.contains(&format!("/{name}").as_str())) {
            if self.code.is_none() {
                self.code = member(object, name).and_then(code_text);
            }
        }
        let inner = member(object, "error").and_then(Value::as_object);
        if let Some(inner) = inner {
            for name in ["code", "status", "type"] {
                if self.code.is_none() {
                    self.code = member(inner, name).and_then(code_text);
                }
            }
        }
        const SENTENCES: [&str; 10] = [
            "error_description",
            "message",
            "errorsummary",
            "title",
            "detail",
            "reason",
            "description",
            "msg",
            "errormessage",
            "error_hint",
        ];
        SENTENCES.iter().filter_map(|name| text(name)).for_each(|sentence| self.say(sentence));
        if let Some(inner) = inner {
            let text = |name: &str| member(inner, name).and_then(Value::as_str);
            ["reason", "message", "detail", "description"]
                .iter()
                .filter_map(|name| text(name))
                .for_each(|s| self.say(s));
            self.lists(inner);
        }
        // a sentence where others have a code
        if let Some(sentence) = text("error").filter(|text| !is_code(text)) {
            self.say(sentence);
        }
        self.lists(object);
    }

    fn members_of(&mut self, object: &Map<String, Value>, shape: &Shape) {
        for (name, value) in object {
            if value.is_array() && !is_list(name) && canonical(name, shape).is_some() {
                self.part(value, Some(name));
            }
        }
    }

    fn lists(&mut self, object: &Map<String, Value>) {
        for (name, value) in object.iter().filter(|(name, _)| is_list(name)) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| self.part(item, None)),
                Value::Object(members) if flat(name) != "error" => {
                    members.iter().for_each(|(name, value)| self.part(value, Some(name)));
                }
                _ => {}
            }
        }
    }

    /// One part of a reason, about a member or not.
    fn part(&mut self, value: &Value, about: Option<&str>) {
        if self.members.len() + self.sentences.len() >= 2 * PARTS {
            return;
        }
        match value {
            Value::String(text) => match about {
                Some(name) => self.members.push((name.to_owned(), text.clone())),
                None => self.say(text),
            },
            Value::Array(items) => items.iter().take(PARTS).for_each(|item| self.part(item, about)),
            Value::Object(item) => {
                let found = |names: &[&str]| {
                    names
                        .iter()
                        .find_map(|wanted| item.iter().find(|(name, _)| flat(name) == *wanted).map(|(_, value)| value))
                };
                let text = found(ITEM_TEXT).and_then(Value::as_str).unwrap_or_default();
                let source = item.get("source").and_then(Value::as_object);
                let source = source.and_then(|source| source.get("pointer").or_else(|| source.get("parameter")));
                let place = found(ITEM_MEMBER).or(source).and_then(place).or_else(|| about.map(str::to_owned));
                match place {
                    Some(place) if !text.is_empty() && place != text => self.members.push((place, text.to_owned())),
                    _ => self.say(text),
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn say(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() && !self.sentences.iter().any(|said| said.contains(text)) {
            self.sentences.push(text.to_owned());
        }
    }

    /// The whole reason in one line.
    fn message(&self) -> Option<String> {
        let sentences = self.sentences.iter().cloned();
        let members = self.members.iter().map(|(name, text)| format!("{}: {text}", sanitise(name, 64)));
        let mut out = String::new();
        let (mut told, mut between) = (1, "");
        for part in sentences.chain(members).take(PARTS) {
            if out.contains(&part) {
                continue;
            }
            if !out.is_empty() {
                let ends = out.ends_with(['.', ':', ';', '!', '?']);
                out.push_str(if ends { " " } else { between });
            }
            between = if told < self.sentences.len() { ": " } else { "; " };
            told += 1;
            // the secrets of the call are hidden already, so that cutting leaves no half of one
            out.extend(part.chars().take(PART * 2));
        }
        (!out.is_empty()).then_some(out)
    }
}

/// A member by its name in small letters and without separators.
fn member<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    object.get(name).or_else(|| {
        let wanted = flat(name);
        object.iter().find(|(name, _)| flat(name) == wanted).map(|(_, value)| value)
    })
}

fn flat(name: &str) -> String {
    name.chars().take(64).filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_list(name: &str) -> bool {
    LISTS.contains(&flat(name).as_str())
}

/// A code is a word or a number; a sentence in its place is none.
fn code_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if is_code(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/'))
}

/// A place as a text or as a path of its parts.
fn place(value: &Value) -> Option<String> {
    let part = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        Value::Array(parts) => {
            let parts: Vec<String> = parts.iter().filter_map(part).filter(|part| part != "body").collect();
            (!parts.is_empty()).then(|| parts.join("."))
        }
        other => part(other),
    }
}

/// The first text or number that a pointer leads to.
fn at(body: Option<&Value>, pointers: &[&str]) -> Option<String> {
    let body = body?;
    pointers.iter().find_map(|pointer| match body.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A short body that is a sentence, and no page and no broken JSON.
fn plain(response: &Response) -> Option<String> {
    let text = std::str::from_utf8(response.text()).ok()?.trim();
    let sentence = (1..=PLAIN).contains(&text.len())
        && !text.starts_with(['<', '{', '[', '"'])
        && text.chars().any(char::is_alphabetic)
        && !text.to_ascii_lowercase().contains("<html");
    sentence.then(|| response.secrets.hide(text).into_owned())
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests;
