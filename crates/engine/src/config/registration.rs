//! The keys of the standards face: `[registration]` and those of `[[routes]]`.

use std::{collections::BTreeSet, time::Duration};

use registrar_core::settings::closest;
use registrar_model::uri::{UrlUse, url_fault};
use serde_json::{Map, Value};
use toml::{Spanned, de::DeValue};

use super::{
    BackendConfig, Environment, diagnostic::Collector, read::duration, section::Section, statement, to_json_table,
};
use crate::{
    dcr::{Access, Expiry, Manage, Rate, RegistrationConfig, RouteRegistration},
    routing::Rule,
};

/// The key of a route.
const EXPIRE_UNUSED: &str = "registration_expire_unused";
/// The longest that a client may be left alone; whoever wants longer wants `never`.
const LONGEST_EXPIRY: Duration = Duration::from_secs(10 * 31_557_600);

/// What the gateway itself says in a discovery document.
const OWN_DISCOVERY: [&str; 2] = ["issuer", "registration_endpoint"];

pub(super) fn defaults(
    root: &mut Section<'_, '_>,
    environment: Environment<'_>,
    out: &mut Collector<'_>,
) -> RegistrationConfig {
    let mut config = RegistrationConfig::default();
    let Some(mut s) = root.section("registration", out) else { return config };
    config.access = access(&mut s, "access", out).unwrap_or_default();
    config.root = s.get("root").is_some().then(|| s.flag("root", false, out));
    config.rate = rate(&mut s, "rate", out).unwrap_or(config.rate);
    config.quota = rate(&mut s, "quota", out);
    config.max_clients = max_clients(&mut s, "max_clients", out);
    config.expire_unused = expiry(&mut s, "expire_unused", out).unwrap_or_default();
    config.redirect_hosts = hosts(&mut s, "redirect_hosts", out);
    config.strict_schemes = s.flag("strict_schemes", false, out);
    config.single_instance = s.flag("single_instance", false, out);
    config.proxies = s.integer("proxies", 0..17, out).unwrap_or_default();
    config.rotate = s.flag("rotate_access_tokens", false, out);
    let day = Duration::from_hours(24);
    if let Some(Some(grace)) = duration(&mut s, "rotation_grace", Duration::ZERO..=day, out) {
        config.rotation_grace = grace;
    }
    if let Some(words) = words(&mut s, "manage", out) {
        let known = ["read", "update", "delete"];
        if let Some(word) = words.iter().find(|w| !known.contains(&w.as_str())) {
            let hint = closest(word, known).map(|w| format!("did you mean `{w}`?"));
            s.error("manage", out, format!("must be of {}", known.join(", ")), hint);
        }
        let has = |word: &str| words.contains(word);
        config.manage = Manage { read: has("read"), update: has("update"), delete: has("delete") };
    }
    config.software_statements = statement::issuers(&mut s, environment, out);
    s.finish(out);
    config
}

pub(super) fn of_route(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> RouteRegistration {
    RouteRegistration {
        access: access(s, "registration", out),
        rate: rate(s, "registration_rate", out),
        quota: rate(s, "registration_quota", out),
        max_clients: max_clients(s, "registration_max_clients", out),
        expire_unused: expiry(s, EXPIRE_UNUSED, out),
        redirect_hosts: hosts(s, "registration_redirect_hosts", out),
        single_instance: s
            .get("registration_single_instance")
            .is_some()
            .then(|| s.flag("registration_single_instance", false, out)),
        policy: policy(s, out),
        discovery: discovery(s, out),
    }
}

fn access(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<Access> {
    match s.text(key, out)?.as_str() {
        "closed" => Some(Access::Closed),
        "token" => Some(Access::Token),
        "open" => Some(Access::Open),
        other => {
            let words = ["closed", "token", "open"];
            let hint = closest(other, words).map(|w| format!("did you mean `{w}`?"));
            s.error(key, out, format!("must be one of {}", words.join(", ")), hint);
            None
        }
    }
}

fn rate(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<Rate> {
    let text = s.text(key, out)?;
    let rate = Rate::parse(&text);
    if rate.is_none() {
        let hint = Some("for example \"10/hour\"; also /second, /minute, /day".to_owned());
        s.error(key, out, "is not a rate", hint);
    }
    rate
}

fn max_clients(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<u64> {
    s.integer(key, 1..1_000_001, out).and_then(|count| u64::try_from(count).ok())
}

fn expiry(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<Expiry> {
    if s.get(key).is_some_and(|value| value.get_ref().as_str() == Some("never")) {
        return Some(Expiry::Never);
    }
    duration(s, key, Duration::from_mins(1)..=LONGEST_EXPIRY, out)?.map(Expiry::After)
}

/// Refuses a route whose clients would expire and could not be deleted.
pub(super) fn check_expiry(
    s: &Section<'_, '_>,
    own: &RouteRegistration,
    defaults: &RegistrationConfig,
    backend: &BackendConfig,
    out: &mut Collector<'_>,
) {
    let is_open = own.access.unwrap_or(defaults.access) == Access::Open;
    let in_force = if is_open { own.expire_unused.unwrap_or(defaults.expire_unused) } else { Expiry::Never };
    // a route that says so itself is told even while it is not open
    let expires = [own.expire_unused.unwrap_or_default(), in_force].iter().any(|e| *e != Expiry::Never);
    let operations = &backend.vendor.descriptor.operations;
    if !expires || operations.delete.is_supported() || operations.disable.is_supported() {
        return;
    }
    let message = format!(
        "unused clients cannot expire at backend `{}`: vendor kind `{}` documents neither deleting a client nor switching one \
         off",
        backend.name, backend.vendor.descriptor.kind
    );
    let hint = format!("set `{EXPIRE_UNUSED} = \"never\"` for this route");
    s.error(EXPIRE_UNUSED, out, message, Some(hint));
}

fn hosts(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<BTreeSet<String>> {
    let hosts = words(s, key, out)?;
    let plain = |h: &String| !h.is_empty() && !h.contains(['/', '*', '@', '?', '#']) && !h.contains("://");
    if !hosts.iter().all(plain) {
        let hint = Some("[\"app.example.com\", \"127.0.0.1\", \"com.example.app:\"]".to_owned());
        s.error(key, out, "must be host names without wildcards, or schemes that end with a colon", hint);
    }
    Some(hosts)
}

pub(super) fn words(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<BTreeSet<String>> {
    let read = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
    let words = match s.get(key)?.get_ref() {
        DeValue::Array(items) => items.iter().map(read).collect::<Option<BTreeSet<String>>>(),
        _ => None,
    };
    if words.is_none() {
        s.error(key, out, "must be a list of strings", None);
    }
    words
}

fn policy(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Option<Rule> {
    match Rule::compile(&s.text("policy", out)?) {
        Ok(rule) => Some(rule),
        Err(message) => {
            let hint = Some("the policy is CEL over `metadata`, as it will be".to_owned());
            s.error("policy", out, message, hint);
            None
        }
    }
}

fn discovery(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Map<String, Value> {
    let Some(value) = s.get("discovery") else { return Map::new() };
    let DeValue::Table(table) = value.get_ref() else {
        s.error("discovery", out, "must be a table of RFC 8414 members", None);
        return Map::new();
    };
    let members = to_json_table(table);
    if let Some(name) = OWN_DISCOVERY.iter().find(|n| members.contains_key(**n)) {
        s.error("discovery", out, format!("`{name}` is the gateway's own"), None);
    }
    // clients open these in a browser, some by a shell (CVE-2025-6514)
    for (name, value) in members.iter().filter(|(n, _)| n.ends_with("_endpoint") || n.ends_with("_uri")) {
        let fault = value.as_str().map_or(Some("it is not a string"), |url| url_fault(url, UrlUse::Followed));
        if let Some(fault) = fault {
            let hint = Some(format!("{name} = \"https://vendor.example/...\""));
            s.error("discovery", out, format!("`{name}` is not a URL for clients to open: {fault}"), hint);
        }
    }
    members
}
