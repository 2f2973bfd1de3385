//! Which backend a registration goes to: the first route whose rule matches.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cel::{Context, Env, ExecutionError, Program, objects::Key};
use registrar_model::{BackendName, NewRegistration};
use serde::Serialize;
use serde_json::{Map, Value};

pub use crate::rule_check::Scope;
use crate::{
    config::{OnLoss, RouteConfig},
    rule_check::{self, VARIABLES},
};

/// Between two warnings about one rule.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

/// A compiled rule in the Common Expression Language.
pub struct Rule {
    source: String,
    program: Program,
    environment: Arc<Env>,
    /// Its value, where that is the same for every registration.
    constant: Option<bool>,
    /// When it was last warned of.
    warned: Mutex<Option<Instant>>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rule").field(&self.source).finish()
    }
}

/// What a rule said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches.
    Matched,
    /// It is false.
    NotMatched,
    /// It cannot be evaluated for this registration, which counts as not matching; the sentence says why.
    NotEvaluable(String),
    /// It fails for another reason than a missing member, which counts as not matching, too, and is probably not meant.
    Failed(String),
}

impl Rule {
    /// Compiles a rule and checks it against what it will see.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn compile(source: &str, scope: Scope) -> Result<Self, String> {
        let program = Program::compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let place = first.map(|e| format!(" at column {}", e.pos.1.max(1))).unwrap_or_default();
            let what =
                first.map_or_else(|| "syntax error".to_owned(), |e| e.msg.lines().next().unwrap_or("").to_owned());
            format!("is not a valid rule{place}: {what}")
        })?;
        if let Err(found) = rule_check::check(program.expression(), scope) {
            let start = program.source_info().offset_for(found.id).map(|(start, _)| start);
            let column = start.and_then(|start| usize::try_from(start).ok()).filter(|start| *start < source.len());
            let place = column.map(|start| format!(" at column {}", start + 1)).unwrap_or_default();
            return Err(format!("is wrong{place}: {}", found.problem));
        }
        let constant = rule_check::constant(program.expression());
        let is_fixed = program.references().variables().is_empty();
        let rule = Self {
            source: source.to_owned(),
            program,
            environment: Arc::new(Env::stdlib()),
            constant,
            warned: Mutex::new(None),
        };
        if !is_fixed {
            return Ok(rule);
        }
        // nothing in it depends on a registration: it is what it is now
        match rule.execute(&Map::new()) {
            Ok(cel::Value::Bool(value)) => Ok(Self { constant: Some(value), ..rule }),
            Ok(_) => Err("must be true or false, and is something else".to_owned()),
            Err(error) => Err(format!("can never be evaluated: {}", explain(&error))),
        }
    }

    /// Its value, where that is the same for every registration.
    #[must_use]
    pub fn constant(&self) -> Option<bool> {
        self.constant
    }

    /// Tells the operator that the rule failed: in the log, at most once a minute, and in
    /// `registrar_rule_errors_total{route}`.
    pub(crate) fn report(&self, route: &str, why: &str) {
        metrics::counter!("registrar_rule_errors_total", "route" => route.to_owned()).increment(1);
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|last| now.duration_since(last) >= WARNING_PAUSE) {
            *warned = Some(now);
            tracing::warn!(route, why, rule = self.source, "a rule cannot be evaluated, and counts as not matching");
        }
    }

    /// The rule as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    fn execute(&self, variables: &Map<String, Value>) -> Result<cel::Value, ExecutionError> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        for name in VARIABLES {
            let value = variables.get(name).map_or_else(|| to_cel(&Value::Object(Map::new())), to_cel);
            context.add_variable_from_value(name, value);
        }
        self.program.execute(&context)
    }

    /// Evaluates the rule for a registration.
    #[must_use]
    pub fn evaluate(&self, variables: &Map<String, Value>) -> Verdict {
        match self.execute(variables) {
            Ok(cel::Value::Bool(true)) => Verdict::Matched,
            Ok(cel::Value::Bool(false)) => Verdict::NotMatched,
            Ok(_) => Verdict::Failed("its value is neither true nor false".to_owned()),
            Err(error) if is_missing(&error) => Verdict::NotEvaluable(explain(&error)),
            Err(error) => Verdict::Failed(explain(&error)),
        }
    }
}

/// Whether an evaluation failed because the registration does not have what the rule looks at.
fn is_missing(error: &ExecutionError) -> bool {
    matches!(error, ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_))
}

/// Why an evaluation failed, without any value of the registration.
fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("the registration has no `{name}`"),
        ExecutionError::IndexOutOfBounds(_) => "a list has no element with this number".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
        ExecutionError::Overflow(..) => "a number is too large".to_owned(),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` does not exist"),
        ExecutionError::FunctionError { function, .. } => format!("`{function}` cannot be applied"),
        _ => "a member is of another type than the rule expects".to_owned(),
    }
}

fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Number(n) => {
            n.as_i64().map_or_else(|| cel::Value::Float(n.as_f64().unwrap_or(f64::NAN)), cel::Value::Int)
        }
        Value::String(s) => cel::Value::String(Arc::new(s.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let map: std::collections::HashMap<Key, cel::Value> =
                map.iter().map(|(k, v)| (Key::String(Arc::new(k.clone())), to_cel(v))).collect();
            cel::Value::Map(map.into())
        }
    }
}

/// A route that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Its name.
    pub route: String,
    /// Whether it matched.
    pub matched: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Where a registration goes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    /// The backend; absent when no route matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// The route that decided; absent when the request names its backend, or no route matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The routes that were looked at, in order, up to the one that matched.
    pub considered: Vec<Considered>,
    /// The route's own loss policy.
    #[serde(skip)]
    pub on_loss: Option<OnLoss>,
}

/// Finds the route of a registration. An explicit backend overrides every route.
#[must_use]
pub fn evaluate(routes: &[RouteConfig], registration: &NewRegistration) -> Evaluation {
    if let Some(backend) = &registration.backend {
        return Evaluation { backend: Some(backend.clone()), route: None, considered: Vec::new(), on_loss: None };
    }
    let mut variables: Option<Map<String, Value>> = None;
    let mut considered = Vec::new();
    for route in routes {
        let (matched, reason) = match &route.when {
            None => (true, "it has no rule, so it always matches".to_owned()),
            Some(rule) => match rule.evaluate(variables.get_or_insert_with(|| variables_of(registration))) {
                Verdict::Matched => (true, format!("its rule is true: {}", rule.source())),
                Verdict::NotMatched => (false, format!("its rule is false: {}", rule.source())),
                Verdict::Failed(why) => {
                    rule.report(&route.name, &why);
                    (false, format!("its rule fails ({why}): {}", rule.source()))
                }
                Verdict::NotEvaluable(why) => {
                    (false, format!("its rule cannot be evaluated ({why}): {}", rule.source()))
                }
            },
        };
        considered.push(Considered { route: route.name.clone(), matched, reason });
        if matched {
            return Evaluation {
                backend: Some(route.backend.clone()),
                route: Some(route.name.clone()),
                considered,
                on_loss: route.on_loss,
            };
        }
    }
    Evaluation { backend: None, route: None, considered, on_loss: None }
}

/// What a rule sees.
fn variables_of(registration: &NewRegistration) -> Map<String, Value> {
    let mut variables = registration.spec.encode();
    let labels = registration.labels.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    variables.insert("labels".to_owned(), Value::Object(labels));
    variables
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(name: &str, when: Option<&str>, backend: &str) -> RouteConfig {
        RouteConfig {
            name: name.to_owned(),
            when: when.map(|w| Rule::compile(w, Scope::Registration).unwrap()),
            backend: backend.parse().unwrap(),
            on_loss: None,
            default_scopes: None,
            registration: crate::dcr::RouteRegistration::default(),
        }
    }

    fn registration(body: Value) -> NewRegistration {
        NewRegistration::decode(&body).unwrap()
    }

    #[test]
    fn the_first_match_wins_and_missing_members_do_not_match() {
        let routes = [
            route("wallets", Some(r#"metadata.scope.contains("wallet_") || labels.team == "treasury""#), "b"),
            route("default", None, "l"),
        ];
        let cb = json!(["https://a.example/cb"]);
        let e = evaluate(&routes, &registration(json!({"metadata": {"redirect_uris": cb, "scope": "wallet_view"}})));
        assert_eq!(
            (e.backend.as_ref().map(BackendName::as_str), e.route.as_deref(), e.considered.len()),
            (Some("b"), Some("wallets"), 1)
        );
        let e = evaluate(
            &routes,
            &registration(json!({"metadata": {"redirect_uris": cb}, "labels": {"team": "treasury"}})),
        );
        assert_eq!(e.route.as_deref(), Some("wallets"));
        let e = evaluate(&routes, &registration(json!({"metadata": {"redirect_uris": cb}})));
        assert_eq!(e.route.as_deref(), Some("default"));
        assert!(!e.considered[0].matched);
        assert!(e.considered[0].reason.contains("cannot be evaluated"), "{}", e.considered[0].reason);
        let e = evaluate(&routes, &registration(json!({"backend": "x", "metadata": {"redirect_uris": cb}})));
        assert_eq!((e.backend.as_ref().map(BackendName::as_str), e.route), (Some("x"), None));
    }

    fn problem(source: &str) -> String {
        Rule::compile(source, Scope::Registration).err().unwrap_or_else(|| panic!("accepted: {source}"))
    }

    #[test]
    fn rules_that_mean_something_are_accepted() {
        for source in [
            "metadata.redirect_uris.exists(u, u.startsWith('https://'))",
            "has(metadata.scope) && metadata.scope.matches('^a')",
            "matches(metadata.scope, '^a')",
            "!has(labels.team) || labels['team'] in ['a', 'b']",
            "metadata['client_name#fr'] == 'Caisse' || has(metadata.vp_formats_supported)",
            "size(metadata.redirect_uris) > 1 && metadata.redirect_uris[0].endsWith('/cb')",
            "metadata.contacts.size() >= 1u || metadata.default_max_age < 3600.0",
            "vendor.anything.goes[0].at + 1 == all.that_is",
            "policy.first_party ? policy.owner == 'a' : policy.enabled",
            "metadata.contacts.map(c, c.size()).exists_one(n, n == 3)",
            "metadata.contacts.filter(c, c != '').all(c, c.contains('@'))",
            "metadata.exists(name, name == 'scope') && type(metadata) == map",
            "string(metadata.default_max_age) == '1' && int('1') == 1 && dyn(1) == 'a'",
            "metadata.jwks.keys.exists(k, k.kty == 'RSA')",
            "metadata.client_name == null",
            "'a' in labels && \"\" in metadata.grant_types",
            "optional.of(1).hasValue()",
            "true",
        ] {
            let source = source.replace("all.that_is", "vendor.x");
            if let Err(problem) = Rule::compile(&source, Scope::Registration) {
                panic!("{source}: {problem}");
            }
        }
    }

    #[test]
    fn rules_that_can_never_mean_anything_are_refused() {
        for (source, told) in [
            ("metadata.scope ==", "column"),
            ("metdata.scope == 'x'", "did you mean `metadata`"),
            ("'x'", "is a text"),
            ("metadata.client_name", "is a text"),
            ("metadata.default_max_age", "is a number"),
            ("size(metadata.scope)", "is a number"),
            ("metadata.scope.contans('wallet_')", "`contans` does not exist; did you mean `contains`"),
            ("sise(metadata.scope) > 1", "did you mean `size`"),
            ("metadata.scopes.contains('a')", "did you mean `metadata.scope`"),
            ("has(metadata.scopes)", "did you mean `metadata.scope`"),
            ("metadata['scopes'] == 'a'", "did you mean `metadata.scope`"),
            ("metadata.client_id == 'a'", "no member `client_id`"),
            ("metadata['redirect_uris#fr'] == []", "no member"),
            ("policy.tennant == 'a'", "did you mean `policy.tenant`"),
            ("labels.team.matches('[')", "not a regular expression"),
            ("matches(labels.team, '(?<')", "not a regular expression"),
            ("labels.team.matches('a', 'b')", "takes 1 argument, and is given 2"),
            ("metadata.scope.contains()", "takes 1 argument, and is given 0"),
            ("contains(metadata.scope, 'a')", "is called as `value.contains(...)`"),
            ("metadata.scope.int() == 1", "is called as `int(...)`"),
            ("metadata.redirect_uris.exists('a')", "is used as in"),
            ("metadata.redirect_uris.contains('a')", "write `\"...\" in`"),
            ("'a' in metadata.scope", "`.contains(...)`"),
            ("1 in metadata.grant_types", "never holds one"),
            ("metadata.scope == 1", "never equal"),
            ("labels.team == ['a']", "never equal"),
            ("metadata.grant_types == 'a'", "never equal"),
            ("metadata.scope > 1", "no order"),
            ("metadata.scope && true", "must be true or false here"),
            ("!metadata.scope", "must be true or false here"),
            ("metadata.scope.size", "which has no members"),
            ("metadata.scope.exists(s, s == 'a')", "only lists can be walked through"),
            ("metadata.redirect_uris.exists(u, v == 'a')", "names `v`"),
            ("metadata.redirect_uris.exists(u, u == 1)", "never equal"),
            ("metadata.redirect_uris.map(u, u) == 'a'", "never equal"),
            ("metadata.redirect_uris['a'] == 'a'", "indexed by a number"),
            ("timestamp('2026-01-01T00:00:00Z') == 1", "`timestamp` does not exist"),
            ("1 / 0 == 1", "can never be evaluated"),
            ("metadata.scope + 1 == 'a'", "do not fit"),
            ("Thing{a: 1} == 1", "no type that a rule can make"),
        ] {
            let problem = problem(source);
            assert!(problem.contains(told), "{source}: {problem}");
        }
        let seen = |source| Rule::compile(source, Scope::Metadata).map(drop);
        assert!(seen("metadata.scope == 'a'").is_ok());
        for source in ["labels.team == 'a'", "policy.enabled", "has(vendor.x)"] {
            assert!(seen(source).unwrap_err().contains("this rule sees metadata"), "{source}");
        }
    }

    #[test]
    fn what_never_changes_is_known() {
        let constant = |source| Rule::compile(source, Scope::Registration).unwrap().constant();
        for (source, value) in [
            ("true", Some(true)),
            ("1 < 2", Some(true)),
            ("'a'.contains('b')", Some(false)),
            ("true || metadata.scope == 'a'", Some(true)),
            ("!(metadata.scope == 'a' && false)", Some(true)),
            ("metadata.scope == 'a' && !true", Some(false)),
            ("has(metadata.scope)", None),
            ("!has(metadata.scope) || has(metadata.scope)", None),
        ] {
            assert_eq!(constant(source), value, "{source}");
        }
    }

    #[test]
    fn a_rule_that_fails_is_told_apart_from_a_missing_member() {
        let cb = json!(["https://a.example/cb"]);
        let verdict = |source: &str, body: Value| {
            Rule::compile(source, Scope::Registration).unwrap().evaluate(&variables_of(&registration(body)))
        };
        let body = json!({"metadata": {"redirect_uris": cb, "scope": "["}, "labels": {"n": "0"}});
        for source in ["labels.team == 'a'", "metadata.redirect_uris[3] == 'a'", "vendor.x.y == 1"] {
            assert!(matches!(verdict(source, body.clone()), Verdict::NotEvaluable(_)), "{source}");
        }
        for source in ["'a'.matches(metadata.scope)", "int(metadata.scope) == 1", "1 / int(labels.n) == 1"] {
            assert!(matches!(verdict(source, body.clone()), Verdict::Failed(_)), "{source}");
        }
    }
}
