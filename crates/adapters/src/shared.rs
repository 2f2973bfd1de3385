//! What several kinds need while mapping; nothing here knows a vendor.

pub(crate) mod answer;
pub(crate) mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
#[cfg(feature = "fakes")]
use jiff::Timestamp;
use registrar_core::{
    Effect, Error, ErrorKind, IssuedSecret, Outcome, PlannedRequest, Request, Response, Result, SecretString, Settings,
    Subject, endpoint,
};
use registrar_model::{
    AuthMethod, ClientId, ClientMetadata, ClientSpec, GrantType, Issue, IssueCode, Issues, Loss, LossKind, Losses,
    Mapped, Member, Pointer, Position, RedirectUri, Severity, Uses, fields, jwk::holds_private_key,
    member::StringMember, spec::same_value,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use url::Url;

/// What the clock of a simulated vendor shows: the real time, because gateways compare it with their own.
#[cfg(feature = "fakes")]
pub(crate) fn fake_time() -> String {
    format!("{:.3}", Timestamp::now())
}

/// The same, some milliseconds later: for a vendor whose writes must not look simultaneous.
#[cfg(feature = "fakes")]
pub(crate) fn fake_time_after(milliseconds: u64) -> String {
    let later = jiff::SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(0));
    format!("{:.3}", Timestamp::now().saturating_add(later).unwrap_or_else(|_| Timestamp::now()))
}

/// The vendor's `client_id`, checked: an answer without a usable one is an error, never an empty string in the store.
pub(crate) fn client_id(text: &str, response: &Response) -> Result<ClientId> {
    text.parse().map_err(|_| response.malformed("the client id is missing, empty or not VSCHAR"))
}

/// The secret method in force where the answer to a creation leaves the method out: one silence has one reading. With a
/// secret it is the confidential method that was asked for, or else the standard's default; without one there is none,
/// unless keys or certificates were asked for.
///
/// Absent where nothing was asked for and nothing else than the standard's default is in force.
pub(crate) fn silent_method(asked: &ClientMetadata, has_secret: bool) -> Option<AuthMethod> {
    match asked.auth_method() {
        AuthMethod::None if has_secret => Some(AuthMethod::ClientSecretBasic),
        method if has_shared_secret(&method) && !has_secret => Some(AuthMethod::None),
        _ => asked.token_endpoint_auth_method.clone(),
    }
}

/// Whether clients with this method prove themselves with a secret that the vendor issues.
pub(crate) fn has_shared_secret(method: &AuthMethod) -> bool {
    match method {
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost | AuthMethod::ClientSecretJwt => true,
        AuthMethod::None
        | AuthMethod::PrivateKeyJwt
        | AuthMethod::TlsClientAuth
        | AuthMethod::SelfSignedTlsClientAuth
        | AuthMethod::Other(_) => false,
    }
}

/// The secret of a new client with this method, as the vendor names it, and what is told when the two do not fit: a public
/// client must not have one, and one that needs a secret may have got none.
pub(crate) fn fitting_secret(
    method: &AuthMethod,
    secret: Option<IssuedSecret>,
    losses: &mut Vec<Loss>,
) -> Option<IssuedSecret> {
    let (severity, reason) = match (method, &secret) {
        (AuthMethod::None, Some(_)) => (
            Severity::Info,
            "the vendor issued a secret to a public client, which must not have one; it was thrown away",
        ),
        (method, None) if has_shared_secret(method) => (
            Severity::Functional,
            "the client needs a secret, and the vendor told none; it can authenticate only after a new secret or a new \
             registration",
        ),
        _ => return secret,
    };
    losses.push(secret_loss(severity, reason));
    registrar_model::loss::sort(losses);
    None
}

/// A loss of the secret.
pub(crate) fn secret_loss(severity: Severity, reason: &'static str) -> Loss {
    Loss {
        field: "client_secret".into(),
        kind: LossKind::Dropped,
        severity,
        reason: reason.into(),
        wanted: None,
        got: None,
    }
}

/// A secret that does not expire, as vendors issue them that document no expiry.
pub(crate) fn lasting_secret(text: String) -> IssuedSecret {
    IssuedSecret { value: SecretString::from(text), expires_at: Some(0), previous_valid_until: None }
}

/// The request that an adapter would send, for people; bodies of the four kinds hold no secrets.
pub(crate) fn planned(request: Request) -> PlannedRequest {
    PlannedRequest { method: request.method, url: request.url, text: request.body }
}

/// The one request of a planned create, as it is sent, and what the mapping lost.
pub(crate) fn creation(plan: Mapped<Vec<PlannedRequest>>) -> Result<(Request, Vec<Loss>)> {
    let Mapped { value, losses } = plan;
    let planned = value.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal, "an empty plan"))?;
    let request = Request::new(planned.method, planned.url, Effect::Once, "create");
    Ok((Request { body: planned.text, ..request }, losses))
}

/// Where clients are made, below `base_url`.
pub(crate) fn collection(settings: &mut Settings<'_>, base_url: Option<&Url>, segments: &[&str]) -> Option<Url> {
    let url = endpoint(base_url?, segments, &[]);
    if url.is_err() {
        settings.reject("base_url", "does not lead to a usable URL of the vendor's clients", None);
    }
    url.ok()
}

/// A write with a JSON body.
pub(crate) fn write(
    method: Method,
    url: Url,
    effect: Effect,
    operation: &'static str,
    body: &impl Serialize,
) -> Result<Request> {
    Request::new(method, url, effect, operation).json(body)
}

/// Refuses a success that is not one of the documented statuses: 202 is not done yet, 204 has no client in it. A creation
/// with any other success is read all the same: if the answer names a client, there is one.
pub(crate) fn expect(response: &Response, statuses: &[u16]) -> Result<()> {
    let created = response.subject == Subject::NewClient && !matches!(response.status, 202 | 204 | 205);
    if created || statuses.contains(&response.status) {
        return Ok(());
    }
    let what = match response.status {
        202 => "it was accepted for later (202), so it is not known whether it will be done".to_owned(),
        other => format!("status {other} is not documented for this call"),
    };
    Err(response.malformed(&what))
}

/// A name for vendors that insist on one: the host of the first redirect URI, its scheme for application schemes.
pub(crate) fn derived_name(metadata: &ClientMetadata) -> String {
    let first = metadata.redirect_uris.iter().flatten().next().map(RedirectUri::as_str);
    let url = first.and_then(|uri| Url::parse(uri).ok());
    match url {
        Some(url) if matches!(url.scheme(), "http" | "https") => url.host_str().unwrap_or("client").to_owned(),
        Some(url) => url.scheme().to_owned(),
        None => "client".to_owned(),
    }
}

/// The redirect URIs; none when the member is absent.
pub(crate) fn redirect_uris(metadata: &ClientMetadata) -> &[RedirectUri] {
    metadata.redirect_uris.as_deref().unwrap_or_default()
}

/// Redirect URIs from a vendor, kept as they are.
pub(crate) fn redirects(texts: Vec<String>) -> Option<Vec<RedirectUri>> {
    (!texts.is_empty()).then(|| texts.into_iter().map(RedirectUri::from_unchecked).collect())
}

/// Whether two lists say the same where neither order nor repetition means anything.
pub(crate) fn same_set<T: AsRef<str>>(a: &[T], b: &[T]) -> bool {
    fn set<T: AsRef<str>>(list: &[T]) -> BTreeSet<&str> {
        list.iter().map(AsRef::as_ref).collect()
    }
    set(a) == set(b)
}

/// The same of redirect URIs, for vendors that look for one that is equal.
pub(crate) fn same_uris(a: &[RedirectUri], b: &[RedirectUri]) -> bool {
    let set = |uris: &[RedirectUri]| uris.iter().map(|uri| uri.as_str().to_owned()).collect::<BTreeSet<_>>();
    set(a) == set(b)
}

/// Grant types from a vendor, unknown ones kept.
pub(crate) fn grants(texts: &[String]) -> Option<Vec<GrantType>> {
    (!texts.is_empty()).then(|| texts.iter().map(|t| GrantType::read(t)).collect())
}

/// Response types that follow from the grants (RFC 7591 §2.1), for vendors that only hold grants.
pub(crate) fn response_types_of(grants: &[GrantType]) -> Vec<registrar_model::ResponseType> {
    let mut out = Vec::new();
    if grants.contains(&GrantType::AuthorizationCode) {
        out.push(registrar_model::ResponseType::read("code"));
    }
    if grants.contains(&GrantType::Implicit) {
        out.push(registrar_model::ResponseType::read("token"));
    }
    out
}

/// The refusal of a registration without redirect URIs by a vendor that demands at least one.
pub(crate) fn require_redirects(metadata: &ClientMetadata, vendor: &str) -> Result<()> {
    if metadata.redirect_uris.iter().flatten().next().is_some() {
        return Ok(());
    }
    Err(unsupported_member(
        "metadata",
        "redirect_uris",
        &format!("{vendor} demands at least one redirect URI, even for clients that never use one"),
    ))
}

/// A refusal, before any call, that names the member at fault.
pub(crate) fn unsupported_member(layer: &str, member: &str, detail: &str) -> Error {
    let pointer = Pointer::root().child(layer).child(member);
    Error::unsupported(format!("{pointer}: {detail}")).with_issues(vec![Issue {
        pointer,
        code: IssueCode::Unsupported,
        detail: detail.to_owned(),
    }])
}

/// Keeps vendor members that belong to other kinds in the gateway's record, and says so.
pub(crate) fn foreign_vendor_members(spec: &registrar_model::ClientSpec, kind: &str, losses: &mut Losses) {
    for (other, members) in spec.vendor.iter().filter(|(k, _)| *k != kind) {
        for (name, value) in members {
            losses.changed(
                format!("vendor.{other}.{name}"),
                registrar_model::LossKind::LocalOnly,
                registrar_model::Severity::Info,
                Some(value.clone()),
                None,
                format!("a member of vendor kind `{other}`; this backend is `{kind}`, so only the gateway keeps it"),
            );
        }
    }
}

/// Members that no kind but the RFC 7591 ones can hold: localised names and untyped registered names.
pub(crate) fn unheld_maps(
    localized: &BTreeMap<String, Value>,
    extra: &BTreeMap<String, Value>,
    vendor: &str,
    losses: &mut Losses,
) {
    for (name, value) in localized {
        let reason = format!("{vendor} holds no localised members; only the gateway keeps it");
        losses.changed(
            format!("metadata.{name}"),
            LossKind::LocalOnly,
            Severity::Info,
            Some(value.clone()),
            None,
            reason,
        );
    }
    for (name, value) in extra {
        let reason = format!("{vendor} has no place for it");
        losses.changed(
            format!("metadata.{name}"),
            LossKind::Dropped,
            Severity::Functional,
            Some(value.clone()),
            None,
            reason,
        );
    }
}

/// Where a member of `vendor.<kind>` is.
pub(crate) fn vendor_member(kind: &str, member: &str) -> Pointer {
    Position::root().child("vendor").child(kind).child(member).into()
}

/// Checks that a vendor member's value is a string.
pub(crate) fn vendor_text(members: &Map<String, Value>, kind: &str, member: &str, issues: &mut Issues) {
    if members.get(member).is_some_and(|v| !v.is_string()) {
        issues.push(vendor_member(kind, member), IssueCode::WrongType, "expected a string");
    }
}

/// Vendor members that the kind does not take: never sent, and reported unless the vendor shows the very same value
/// (a caller may send back what a read gave it).
pub(crate) fn unsent_vendor_members(
    spec: &ClientSpec,
    current: Option<&ClientSpec>,
    kind: &str,
    taken: &[&str],
    losses: &mut Losses,
) {
    let Some(members) = spec.vendor.get(kind) else { return };
    let shown = current.and_then(|c| c.vendor.get(kind));
    for (name, value) in members.iter().filter(|(name, _)| !taken.contains(&name.as_str())) {
        let got = shown.and_then(|s| s.get(name));
        if got == Some(value) {
            continue;
        }
        losses.changed(
            format!("vendor.{kind}.{name}"),
            if got.is_some() { LossKind::Substituted } else { LossKind::Dropped },
            Severity::Functional,
            Some(value.clone()),
            got.cloned(),
            "not a member that the vendor's API takes; it is not sent",
        );
    }
}

/// A member that the vendor shows but does not take.
pub(crate) fn read_only(
    current: Option<&ClientSpec>,
    field: &'static str,
    wanted: Option<Value>,
    reason: &'static str,
    losses: &mut Losses,
) {
    let Some(wanted) = wanted else { return };
    let got = current.and_then(|c| c.field(field));
    if got.as_ref().is_some_and(|got| same_value(field, &wanted, got)) {
        return;
    }
    let kind = if got.is_some() { LossKind::Substituted } else { LossKind::Dropped };
    losses.changed(field, kind, Severity::Functional, Some(wanted), got, reason);
}

/// The grants of vendors whose clients all have the same ones (trap 31).
pub(crate) const CODE_AND_REFRESH: [GrantType; 2] = [GrantType::AuthorizationCode, GrantType::RefreshToken];

/// T8: every client of such a vendor has exactly the grants authorization_code and refresh_token, and the response
/// type code.
pub(crate) fn code_and_refresh_only(metadata: &ClientMetadata, vendor: &str, losses: &mut Losses) {
    let field = fields::metadata::grant_types();
    let reason = format!("every {vendor} client has exactly the grants authorization_code and refresh_token");
    let got = json!(["authorization_code", "refresh_token"]);
    match &metadata.grant_types {
        Some(asked) => losses.replaced(field, asked.encode(), got, reason),
        None => losses.defaulted(field.path, got, reason),
    }
    let reason = format!("every {vendor} client has exactly the response type code");
    if let Some(asked) = &metadata.response_types {
        losses.replaced(fields::metadata::response_types(), asked.encode(), json!(["code"]), reason);
    }
}

/// The grants of a registration that the vendor has, reported where those are fewer. Without one that is of use by
/// itself there is nothing to register.
///
/// # Errors
/// [`ErrorKind::UnsupportedValue`], naming every grant that the vendor does not have.
pub(crate) fn known_grants(
    metadata: &ClientMetadata,
    known: &[GrantType],
    vendor: &str,
    losses: &mut Losses,
) -> Result<Vec<GrantType>> {
    let asked = metadata.effective_grant_types();
    let held: Vec<GrantType> = asked.iter().filter(|grant| known.contains(grant)).cloned().collect();
    let unknown: Vec<String> = asked.iter().filter(|g| !known.contains(g)).map(|g| format!("`{g}`")).collect();
    // refresh tokens come with another grant only (RFC 6749 §6)
    if !unknown.is_empty() && held.iter().all(|grant| *grant == GrantType::RefreshToken) {
        let detail = format!("{vendor} documents no grant type {}", named(&unknown));
        return Err(unsupported_value("grant_types", detail));
    }
    if metadata.grant_types.is_some() {
        let reason = format!("{vendor} documents no grant type {}", named(&unknown));
        losses.replaced(fields::metadata::grant_types(), json!(asked), json!(held), reason);
    }
    Ok(held)
}

/// How many values an error names.
const NAMED: usize = 8;

/// Some values, and how many more there are.
pub(crate) fn named(values: &[String]) -> String {
    let more = values.len().saturating_sub(NAMED);
    let mut names = values.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    names
}

/// A refusal, before any call, of what a metadata member has.
pub(crate) fn unsupported_value(member: &str, detail: String) -> Error {
    let pointer = Pointer::root().child("metadata").child(member);
    let issue = Issue { pointer, code: IssueCode::InvalidValue, detail: detail.clone() };
    Error::new(ErrorKind::UnsupportedValue, detail).with_issues(vec![issue])
}

/// T6: a confidential client whose vendor knows one way to present the shared secret, `method`. `why` is what the vendor
/// cannot hold.
pub(crate) fn shared_secret(metadata: &ClientMetadata, method: &str, why: &str, losses: &mut Losses) {
    let field = fields::metadata::token_endpoint_auth_method();
    let reason = match &metadata.token_endpoint_auth_method {
        None | Some(AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost) => {
            format!("{why}; this is how its confidential clients authenticate")
        }
        Some(AuthMethod::None) => format!("{why}; a public client would get a secret that it cannot keep"),
        Some(_) => format!("{why}; its confidential clients prove themselves with a shared secret only"),
    };
    match &metadata.token_endpoint_auth_method {
        None => losses.defaulted(field.path, json!(method), reason),
        Some(asked) => losses.replaced(field, asked.encode(), json!(method), reason),
    }
}

/// The answer is about another client than the one asked for: nothing of it may be used (reliability F49).
pub(crate) fn other_client(response: &Response) -> Error {
    response.malformed("it is about another client than the one asked for")
}

/// A write that the vendor confirmed without the secret that belongs to it.
pub(crate) fn no_secret(response: &Response, what: &str) -> Error {
    response.malformed(what).with_outcome(Outcome::Unknown)
}

/// T9: vendors that hold grants but no response types; the types follow from the grants.
pub(crate) fn derived_response_types(
    metadata: &ClientMetadata,
    grants: &[GrantType],
    vendor: &str,
    losses: &mut Losses,
) {
    let field = fields::metadata::response_types();
    let reason = || format!("{vendor} holds no response types; they follow from the grants");
    let got = response_types_of(grants);
    let shown = (!got.is_empty()).then(|| got.encode());
    match (&metadata.response_types, shown) {
        (None, Some(shown)) => losses.defaulted(field.path, shown, reason()),
        (Some(asked), Some(shown)) => {
            let wanted = asked.encode();
            if !same_value(field.path, &wanted, &shown) {
                // what the grants allow was asked for with them
                let kind = match Uses::default().changing(Some(field), &wanted, &shown).0 {
                    LossKind::Narrowed => LossKind::Narrowed,
                    _ => LossKind::Substituted,
                };
                losses.changed(field.path, kind, Severity::Functional, Some(wanted), Some(shown), reason());
            }
        }
        (Some(asked), None) if !asked.is_empty() => {
            losses.changed(field.path, LossKind::Dropped, Severity::Functional, Some(asked.encode()), None, reason());
        }
        _ => {}
    }
}

/// Whether a member is as good as absent: `null`, an empty text, list or object. Vendors add them freely, and they would
/// only show as drift.
pub(crate) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// How many members without a canonical place are kept of one answer.
pub(crate) const KEPT_MEMBERS: usize = 200;
/// Bytes of the name of such a member.
pub(crate) const KEPT_NAME: usize = 128;

/// The members that a vendor shows and that have no canonical place, for [`ClientSpec::vendor`], which does not name a
/// kind without any. Three sorts are left out: what says nothing (`null`, an empty text, list or object), since vendors
/// add it freely; the vendor's own times, which would show as drift with every write; and private keys.
pub(crate) fn kept_members(kind: &str, mut members: Map<String, Value>) -> BTreeMap<String, Map<String, Value>> {
    members.retain(|name, value| !says_nothing(value) && !is_own_time(name, value) && !holds_private_key(value));
    if members.is_empty() { BTreeMap::new() } else { BTreeMap::from([(kind.to_owned(), members)]) }
}

/// Whether a member says when the vendor made or changed the client: `created_at`, `UpdatedAt`, `lastModifiedDate`.
fn is_own_time(name: &str, value: &Value) -> bool {
    const EVENTS: [&str; 5] = ["created", "updated", "modified", "changed", "registered"];
    const MOMENTS: [&str; 6] = ["at", "on", "date", "time", "timestamp", ""];
    let plain = name.replace(['_', '-'], "").to_ascii_lowercase();
    let plain = plain.strip_prefix("last").unwrap_or(&plain);
    let named = EVENTS.iter().any(|event| plain.strip_prefix(event).is_some_and(|rest| MOMENTS.contains(&rest)))
        || matches!(plain, "creationdate" | "creationtime" | "modificationdate" | "updatedate" | "createdate");
    // `created_by` is another matter, and so is `updated: true`
    named
        && match value {
            Value::Number(_) => true,
            Value::String(text) => text.bytes().next().is_some_and(|b| b.is_ascii_digit()),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_vendor_shows_of_its_own_is_kept_but_for_times_empty_values_and_private_keys() {
        let shown = json!({
            "created_at": "2026-11-29T10:00:00Z", "UpdatedAt": 1_800_000_000, "lastModifiedDate": "2026-11-29",
            "creation_date": 1, "nothing": {}, "none": null, "key": {"kty": "OKP", "crv": "Ed25519", "x": "a", "d": "b"},
            "pem": "-----BEGIN PRIVATE KEY-----", "created_by": "ops", "updated": true, "first_seen": "2026-11-29"
        });
        let kept = kept_members("x", shown.as_object().cloned().unwrap());
        let names: Vec<&str> = kept["x"].keys().map(String::as_str).collect();
        assert_eq!(names, ["created_by", "first_seen", "updated"]);
    }

    #[test]
    fn a_collection_without_a_url_is_reported() {
        let (object, base_url) = (Map::new(), Url::parse("https://vendor.example/id/").unwrap());
        let mut settings = Settings::new(&object, &|_| Err(String::new()));
        let url = collection(&mut settings, Some(&base_url), &["v1", "clients"]);
        assert_eq!(url.unwrap().as_str(), "https://vendor.example/id/v1/clients");
        assert!(!settings.has_issues());
        assert_eq!(collection(&mut settings, Some(&base_url), &["v1", ".."]), None);
        let issues = settings.finish();
        assert_eq!(issues.iter().map(|issue| &*issue.path).collect::<Vec<_>>(), [["base_url"]]);
    }
}
