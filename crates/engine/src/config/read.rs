//! Reading the whole file.

use std::{
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::Path,
    time::Duration,
};

use registrar_core::{ExposeSecret, Secret, SecretString, Settings, settings::closest};
use registrar_model::{BackendName, PrivateHosts, Scope};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use url::Url;

use super::{
    AuthMode, BackendConfig, Config, Diagnostics, Environment, IdempotencyConfig, OnLoss, RegistrationConfig,
    RouteConfig, Secrets, ServerConfig, StoreConfig,
    diagnostic::Collector,
    front,
    place::{Folder, Place},
    reach::Reach,
    registration,
    section::Section,
    to_json_table,
};
use crate::routing::Rule;

pub(super) fn config(
    text: &str,
    file: &Path,
    environment: Environment<'_>,
    secrets: Secrets,
) -> Result<Config, Diagnostics> {
    let folder = Folder::of(file);
    let resolve = |reference: &str| folder.secret(reference, environment.secrets);
    let placeholder = |_: &str| Ok(SecretString::from("not needed").into());
    let (of_store, others): (&Resolve<'_>, &Resolve<'_>) = match secrets {
        Secrets::All => (&resolve, &resolve),
        Secrets::OfStore => (&resolve, &placeholder),
        Secrets::None => (&placeholder, &placeholder),
    };
    let store_of = Source { folder: &folder, secrets: (secrets != Secrets::None).then_some(of_store) };
    let is_complete = secrets == Secrets::All;
    let environment = Environment { secrets: others, ..environment };
    let mut out = Collector::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        out.push(error.span(), "", error.message().to_owned(), None);
    }
    let span = document.span();
    let mut root = Section::new(document.get_ref(), Some(span.start..span.start), "");
    let server = server(&mut root, &mut out);
    let store = store(&mut root, &store_of, &mut out);
    let auth = auth(&mut root, server.as_ref(), &mut out);
    let idempotency = idempotency(&mut root, environment, &mut out);
    let registration = registration::defaults(&mut root, environment, is_complete, &mut out);
    let (names, backends) = backends(&mut root, environment, &mut out);
    let routes = routes(&mut root, &names, &backends, &registration, &mut out);
    if let Some(server) = &server {
        front::warn(&root, server, &registration, &routes, &mut out);
    }
    root.finish(&mut out);
    match (server, store, auth) {
        (Some(server), Some(store), Some(auth)) if out.is_empty() => {
            let warnings = out.warnings();
            Ok(Config { server, store, auth, idempotency, registration, backends, routes, warnings })
        }
        _ => Err(out.finish(file)),
    }
}

fn server(root: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Option<ServerConfig> {
    let mut listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut workers = None;
    let mut require_if_match = false;
    let mut public_url = None;
    let mut ok = true;
    if let Some(mut s) = root.section("server", out) {
        if let Some(text) = s.text("listen", out) {
            match text.parse() {
                Ok(address) => listen = address,
                Err(_) => {
                    ok = false;
                    let hint = Some("for example \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned());
                    s.error("listen", out, "must be an IP address and a port", hint);
                }
            }
        }
        if let Some(text) = s.text("public_url", out) {
            match Url::parse(&text) {
                Ok(url)
                    if matches!(url.scheme(), "http" | "https")
                        && url.host().is_some()
                        && url.query().is_none()
                        && url.fragment().is_none() =>
                {
                    public_url = Some(url);
                }
                _ => {
                    ok = false;
                    let hint = Some("for example \"https://registrar.example.com\"".to_owned());
                    s.error("public_url", out, "must be an http or https URL without query or fragment", hint);
                }
            }
        }
        workers = s.integer("workers", 1..257, out);
        require_if_match = s.flag("require_if_match", false, out);
        s.finish(out);
    }
    // the default names the address that is listened on
    let public_url = public_url.or_else(|| Url::parse(&format!("http://{listen}")).ok())?;
    ok.then_some(ServerConfig { listen, public_url, workers, require_if_match })
}

type Resolve<'a> = dyn Fn(&str) -> Result<Secret, String> + 'a;

/// What the place of the store is read with.
struct Source<'a> {
    folder: &'a Folder,
    /// Absent where no secret is resolved.
    secrets: Option<&'a Resolve<'a>>,
}

fn store(root: &mut Section<'_, '_>, source: &Source<'_>, out: &mut Collector<'_>) -> Option<StoreConfig> {
    const DEFAULT: &str = "sqlite:registrar.db";

    let Some(mut s) = root.section("store", out) else {
        let s = Section::new(root.table(), None, "store");
        return placed(&s, DEFAULT, source, out).map(|url| StoreConfig { url, ballast: BALLAST });
    };
    let mut url = s.required("url", out, "\"sqlite:registrar.db\"");
    if let Some(reference) = url.as_deref().filter(|url| url.starts_with("env:") || url.starts_with("file:")) {
        // the URL of a database may hold a password
        url = match source.secrets.map(|resolve| resolve(reference)) {
            Some(Ok(secret)) => Some(secret.expose_secret().trim().to_owned()),
            Some(Err(message)) => {
                s.error("url", out, message, None);
                None
            }
            // not to be opened
            None => Some("sqlite:/not-resolved".to_owned()),
        };
    }
    let url = url.and_then(|url| placed(&s, &url, source, out).or(Some(url)));
    let ballast = ballast(&mut s, url.as_deref(), out);
    s.finish(out);
    url.map(|url| StoreConfig { url, ballast })
}

/// The URL with an absolute path.
fn placed(s: &Section<'_, '_>, url: &str, source: &Source<'_>, out: &mut Collector<'_>) -> Option<String> {
    match source.folder.store(url) {
        Ok(Place::Here(url)) => return Some(url),
        Ok(Place::Elsewhere(here, before)) => {
            let message = format!(
                "a relative path counts from the configuration file: there is no store at {}, and there is one at {}, where \
                 older versions looked",
                here.display(),
                before.display()
            );
            let hint = format!(
                "stop the gateway and move it there, with its `-wal` if it has one; or write url = \"sqlite:{}\"",
                before.display()
            );
            s.error("url", out, message, Some(hint));
        }
        Err(problem) => {
            let hint = "it may be a reference to a URL: \"env:NAME\" or \"file:PATH\"";
            s.error("url", out, problem, Some(hint.to_owned()));
        }
    }
    None
}

/// The default of `store.ballast`, in bytes: many times what the results of everything under way take.
const BALLAST: u64 = 64 << 20;

/// In bytes. Only what is beside a file of our own can be given up when its disk is full.
fn ballast(s: &mut Section<'_, '_>, url: Option<&str>, out: &mut Collector<'_>) -> u64 {
    let no_file = match url.and_then(|url| url.split_once(':')) {
        Some(("postgres" | "postgresql", _)) => {
            Some("is for SQLite files: the disk of a database server is the business of whoever operates it")
        }
        Some(("memory", _)) => Some("is for SQLite files: a store in memory has no disk that could be full"),
        _ => None,
    };
    match (size(s, "ballast", 1 << 20..=64 << 30, out), no_file) {
        (Some(Some(1..)), Some(why)) => {
            s.error("ballast", out, why, Some("leave it out, or write \"0\"".to_owned()));
            0
        }
        (Some(size), _) => size.unwrap_or(0),
        (None, Some(_)) => 0,
        (None, None) => BALLAST,
    }
}

/// Bytes: 0, or a whole number of KiB, MiB or GiB within the bounds. `None` when the key is absent, `Some(None)` when its
/// value is wrong.
fn size(
    s: &mut Section<'_, '_>,
    key: &'static str,
    bounds: RangeInclusive<u64>,
    out: &mut Collector<'_>,
) -> Option<Option<u64>> {
    const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    // a text that is wrong is not an absent one
    s.get(key)?;
    let Some(text) = s.text(key, out) else { return Some(None) };
    if text == "0" {
        return Some(Some(0));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (Some((_, shift)), false) = (unit, number.is_empty()) else {
        let hint = "write a whole number and KiB, MiB or GiB, as in \"64MiB\"; \"0\" for none";
        s.error(key, out, "is not a size", Some(hint.to_owned()));
        return Some(None);
    };
    // what is too big to be read is out of bounds, too
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| bounds.contains(bytes));
    if bytes.is_none() {
        let mib = |bytes: &u64| bytes >> 20;
        let message = format!("must be \"0\", or from {}MiB to {}MiB", mib(bounds.start()), mib(bounds.end()));
        s.error(key, out, message, None);
    }
    Some(bytes)
}

fn auth(root: &mut Section<'_, '_>, server: Option<&ServerConfig>, out: &mut Collector<'_>) -> Option<AuthMode> {
    let section = root.section("auth", out);
    let Some(mut s) = section else {
        return check_loopback(AuthMode::None, server, |message, hint| out.push(None, "auth.mode", message, hint));
    };
    let mode = match s.required("mode", out, "\"keys\"")?.as_str() {
        "none" => Some(AuthMode::None),
        "keys" => Some(AuthMode::Keys),
        "jwt" => {
            let hint = Some("use \"keys\" and `registrar keys create`".to_owned());
            s.error("mode", out, "JWT authentication is not supported in this version", hint);
            None
        }
        _ => {
            s.error("mode", out, "must be \"none\" or \"keys\"", None);
            None
        }
    };
    let mode = mode.and_then(|m| check_loopback(m, server, |message, hint| s.error("mode", out, message, hint)));
    s.finish(out);
    mode
}

fn check_loopback(
    mode: AuthMode,
    server: Option<&ServerConfig>,
    error: impl FnOnce(String, Option<String>),
) -> Option<AuthMode> {
    match server {
        Some(server) if mode == AuthMode::None && !server.listen.ip().is_loopback() => {
            let message = format!(
                "\"none\" is refused because {} is not a loopback address: everyone who reaches it would be an administrator",
                server.listen
            );
            error(message, Some("set `mode = \"keys\"` in [auth], or listen on 127.0.0.1".to_owned()));
            None
        }
        _ => Some(mode),
    }
}

fn backends(
    root: &mut Section<'_, '_>,
    environment: Environment<'_>,
    out: &mut Collector<'_>,
) -> (Vec<String>, Vec<BackendConfig>) {
    let mut names: Vec<String> = Vec::new();
    let mut backends = Vec::new();
    let sections = root.sections("backends", out);
    if sections.is_empty() && out.is_empty() {
        let hint = Some("add a [[backends]] table with name, kind and settings".to_owned());
        out.push(None, "backends", "at least one backend is required", hint);
    }
    for mut s in sections {
        let name = s.required("name", out, "\"my-backend\"");
        let parsed = name.as_deref().map(str::parse::<BackendName>);
        if let Some(Err(error)) = &parsed {
            s.error("name", out, error.to_string(), None);
        }
        if let Some(name) = name {
            if names.contains(&name) {
                s.error("name", out, format!("another backend is called `{name}` already"), None);
            }
            names.push(name);
        }
        let kind = s.required("kind", out, "\"...\"");
        let vendor = kind.as_deref().and_then(|k| environment.vendors.iter().find(|v| v.descriptor.kind == k));
        if let (Some(kind), None) = (&kind, vendor) {
            let known: Vec<&str> = environment.vendors.iter().map(|v| v.descriptor.kind).collect();
            let hint = closest(kind, known.iter().copied()).map(|w| format!("did you mean `{w}`?"));
            s.error("kind", out, format!("there is no vendor kind `{kind}`; there are {}", known.join(", ")), hint);
        }
        let enabled = s.flag("enabled", true, out);
        let on_loss = on_loss(&mut s, out).unwrap_or_default();
        let strict_scopes = scope_loss(&mut s, out);
        let default_scopes = scopes(&mut s, out);
        let private_hosts = private_hosts(&mut s, out);
        let timeout = duration(&mut s, "timeout", Duration::from_millis(10)..=Duration::from_mins(5), out)
            .unwrap_or(Some(Duration::from_secs(15)));
        let visibility_grace = duration(&mut s, "visibility_grace", Duration::ZERO..=Duration::from_hours(1), out)
            .unwrap_or(Some(Duration::from_secs(30)));
        let rate_limit = s.integer("rate_limit", 1..100_001, out).and_then(|n| u32::try_from(n).ok());
        let not_processed = not_processed(&mut s, out);
        let max_in_flight = s.integer("max_in_flight", 1..100_001, out).unwrap_or(64);
        let blueprint = settings(&mut s, vendor, environment, out);
        s.finish(out);
        if let (Some(Ok(name)), Some(vendor), Some(blueprint), Some(timeout), Some(visibility_grace)) =
            (parsed, vendor, blueprint, timeout, visibility_grace)
        {
            backends.push(BackendConfig {
                name,
                vendor,
                enabled,
                on_loss,
                strict_scopes,
                default_scopes,
                private_hosts,
                timeout,
                max_in_flight,
                rate_limit,
                not_processed,
                visibility_grace,
                blueprint,
            });
        }
    }
    (names, backends)
}

/// `scope_loss = "security"`: scopes that the vendor does not take are no detail here.
fn scope_loss(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> bool {
    match s.text("scope_loss", out).as_deref() {
        None | Some("functional") => false,
        Some("security") => true,
        Some(_) => {
            s.error("scope_loss", out, "must be one of functional, security", None);
            false
        }
    }
}

/// `default_scopes`: at least one scope token each.
fn scopes(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Option<Scope> {
    let texts = texts(s, "default_scopes", out)?;
    let scope = Scope::from_tokens(&texts).filter(|scope| !scope.is_empty());
    if scope.is_none() {
        let hint = Some("for example [\"openid\", \"profile\"]".to_owned());
        s.error("default_scopes", out, "must name at least one scope, one an entry (RFC 6749 §3.3)", hint);
    }
    scope
}

fn private_hosts(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> PrivateHosts {
    let mut hosts = PrivateHosts::default();
    for entry in texts(s, "private_hosts", out).unwrap_or_default() {
        if let Err(problem) = hosts.add(&entry) {
            let hint = Some("for example [\"*.corp.internal\", \"10.0.0.0/8\"]".to_owned());
            s.error("private_hosts", out, format!("`{entry}` {problem}"), hint);
        }
    }
    hosts
}

/// A list of strings; `None` when the key is absent or its value is wrong.
fn texts(s: &mut Section<'_, '_>, key: &'static str, out: &mut Collector<'_>) -> Option<Vec<String>> {
    let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    };
    let read = match s.get(key)?.get_ref() {
        DeValue::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    if read.is_none() {
        s.error(key, out, "must be a list of strings", None);
    }
    read
}

fn on_loss(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Option<OnLoss> {
    match s.text("on_loss", out)?.as_str() {
        "refuse-security" => Some(OnLoss::RefuseSecurity),
        "refuse-any" => Some(OnLoss::RefuseAny),
        "report" => Some(OnLoss::Report),
        other => {
            let words = ["refuse-security", "refuse-any", "report"];
            let hint = closest(other, words).map(|w| format!("did you mean `{w}`?"));
            s.error("on_loss", out, format!("must be one of {}", words.join(", ")), hint);
            None
        }
    }
}

/// `None` when the key is absent, `Some(None)` when its value is wrong.
pub(super) fn duration(
    s: &mut Section<'_, '_>,
    key: &'static str,
    bounds: RangeInclusive<Duration>,
    out: &mut Collector<'_>,
) -> Option<Option<Duration>> {
    let text = s.text(key, out)?;
    Some(match humantime::parse_duration(&text) {
        Ok(duration) if bounds.contains(&duration) => Some(duration),
        Ok(_) => {
            let (from, to) = (humantime::format_duration(*bounds.start()), humantime::format_duration(*bounds.end()));
            s.error(key, out, format!("must be from {from} to {to}"), None);
            None
        }
        Err(_) => {
            s.error(key, out, "is not a duration", Some("for example \"15s\" or \"500ms\"".to_owned()));
            None
        }
    })
}

/// 429 is proof by itself; a vendor may document more.
fn not_processed(s: &mut Section<'_, '_>, out: &mut Collector<'_>) -> Vec<u16> {
    let mut statuses = vec![429];
    let Some(value) = s.get("not_processed") else { return statuses };
    let read = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::Integer(n) => n.as_str().parse::<u16>().ok().filter(|n| (400..600).contains(n)),
        _ => None,
    };
    match value.get_ref() {
        DeValue::Array(items) if items.iter().all(|i| read(i).is_some()) => {
            statuses.extend(items.iter().filter_map(read))
        }
        _ => s.error("not_processed", out, "must be a list of statuses from 400 to 599", Some("[503]".to_owned())),
    }
    statuses
}

fn idempotency(root: &mut Section<'_, '_>, environment: Environment<'_>, out: &mut Collector<'_>) -> IdempotencyConfig {
    let mut config = IdempotencyConfig::default();
    let Some(mut s) = root.section("idempotency", out) else { return config };
    let day = Duration::from_hours(24);
    if let Some(Some(window)) = duration(&mut s, "secret_window", Duration::ZERO..=day, out) {
        config.secret_window = window;
    }
    config.implicit_window = duration(&mut s, "implicit_window", Duration::from_secs(1)..=day, out).flatten();
    if let Some(reference) = s.text("seal_key", out) {
        match (environment.secrets)(&reference) {
            Ok(key) => config.seal_key = Some(key.into_value()),
            Err(message) => s.error("seal_key", out, message, None),
        }
    }
    s.finish(out);
    config
}

fn settings(
    s: &mut Section<'_, '_>,
    vendor: Option<&'static registrar_core::Vendor>,
    environment: Environment<'_>,
    out: &mut Collector<'_>,
) -> Option<registrar_core::Blueprint> {
    let empty = DeTable::new();
    let (table, span) = match s.get("settings").map(|v| (v.get_ref(), v.span())) {
        Some((DeValue::Table(table), span)) => (table, Some(span)),
        Some(_) => {
            s.error("settings", out, "must be a table", None);
            return None;
        }
        None => (&empty, s.span.clone()),
    };
    let vendor = vendor?;
    let object = to_json_table(table);
    let mut cursor = Settings::new(&object, environment.secrets);
    let blueprint = (vendor.configure)(&mut cursor);
    let issues = cursor.finish();
    let faulty = !issues.is_empty();
    for issue in issues {
        let path = format!("{}.{}", s.path_of("settings"), issue.path.join("."));
        out.push(deepest(table, &issue.path).or_else(|| span.clone()), &path, issue.message, issue.hint);
    }
    blueprint.filter(|_| !faulty)
}

/// Where the value at a path stands, or the deepest table on the way to it.
fn deepest(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(k, _)| k.get_ref().as_ref() == first.as_str())?;
    match value.get_ref() {
        DeValue::Table(inner) => deepest(inner, rest).or_else(|| Some(Spanned::span(key))),
        _ => Some(value.span()),
    }
}

/// First segments of the server's own paths: a route of that name would have no endpoint at `/NAME/register`, or take one.
pub(crate) const RESERVED_ROUTE_NAMES: [&str; 10] =
    [".well-known", "docs", "healthz", "metrics", "openapi.json", "problems", "readyz", "register", "v1", "version"];

/// A route's name is a segment of `/NAME/register`, of documents and of metrics: it follows the rule of backends' names.
fn check_route_name(s: &Section<'_, '_>, name: &str, out: &mut Collector<'_>) {
    let hint = || Some("for example \"default\"".to_owned());
    if RESERVED_ROUTE_NAMES.contains(&name) {
        let message = format!("`{name}` is a path of the gateway's own; choose another name");
        s.error("name", out, message, hint());
    } else if let Err(error) = name.parse::<BackendName>() {
        s.error("name", out, error.to_string(), hint());
    }
}

fn routes(
    root: &mut Section<'_, '_>,
    names_of_backends: &[String],
    backends: &[BackendConfig],
    defaults: &RegistrationConfig,
    out: &mut Collector<'_>,
) -> Vec<RouteConfig> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut reach = Reach::default();
    for mut s in root.sections("routes", out) {
        let name = s.required("name", out, "\"default\"");
        if let Some(name) = &name {
            if names.contains(name) {
                s.error("name", out, format!("another route is called `{name}` already"), None);
            }
            check_route_name(&s, name, out);
            names.push(name.clone());
        }
        let when = s.text("when", out);
        let rule = when.as_deref().map(Rule::compile);
        if let Some(Err(message)) = &rule {
            let hint = Some("the rule is CEL over metadata, policy, vendor and labels".to_owned());
            s.error("when", out, message.clone(), hint);
        }
        let backend = s.required("backend", out, "\"...\"");
        if let Some(backend) = backend.as_ref().filter(|b| !names_of_backends.contains(b)) {
            let hint =
                closest(backend, names_of_backends.iter().map(String::as_str)).map(|w| format!("did you mean `{w}`?"));
            s.error("backend", out, format!("there is no backend `{backend}`"), hint);
        }
        let on_loss = on_loss(&mut s, out);
        let default_scopes = scopes(&mut s, out);
        let registration = registration::of_route(&mut s, out);
        front::warn_of_route(&s, &registration, defaults, out);
        let backend = backend.and_then(|b| b.parse().ok());
        // one that is wrong itself is not among them
        if let Some(leads_to) = backends.iter().find(|b| Some(&b.name) == backend.as_ref()) {
            registration::check_expiry(&s, &registration, defaults, leads_to, out);
        }
        let rule = match rule {
            None => Some(None),
            Some(Ok(rule)) => Some(Some(rule)),
            Some(Err(_)) => None,
        };
        if let (Some(name), Some(when), Some(backend)) = (name, rule, backend) {
            reach.route(&s, &name, when.as_ref(), registration.access.unwrap_or(defaults.access), out);
            routes.push(RouteConfig { name, when, backend, on_loss, default_scopes, registration });
        }
        s.finish(out);
    }
    reach.end(root.span_of("routes"), routes.len(), out);
    routes
}
