//! Which backend a registration goes to: the first route whose rule matches.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use cel::{Context, Env, ExecutionError, Program, objects::Key};
use registrar_model::{BackendName, NewRegistration};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    clock::now_ms,
    config::{OnLoss, RouteConfig},
    rule_check,
};

/// A compiled rule in the Common Expression Language.
pub struct Rule {
    source: String,
    program: Program,
    environment: Arc<Env>,
    /// When the log last told of a failure, Unix milliseconds.
    told: AtomicI64,
}

/// The least time between two warnings of one rule that fails, in milliseconds. Every failure is counted.
const QUIET: i64 = 60_000;

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
    /// The registration lacks a member that it asks for, which counts as not matching; the sentence says which.
    Missing(String),
    /// It cannot be evaluated for another reason, which counts as not matching; the sentence says why.
    Failed(String),
}

/// The variables of a rule.
const VARIABLES: [&str; 4] = ["metadata", "policy", "vendor", "labels"];

impl Rule {
    /// Compiles a rule.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn compile(source: &str) -> Result<Self, String> {
        let program = Program::compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let place = first.map(|e| format!(" at column {}", e.pos.1.max(1))).unwrap_or_default();
            let what =
                first.map_or_else(|| "syntax error".to_owned(), |e| e.msg.lines().next().unwrap_or("").to_owned());
            format!("is not a valid rule{place}: {what}")
        })?;
        let environment = Arc::new(Env::stdlib());
        rule_check::check(&program.expression().expr, &|pattern| regex_fault(&environment, pattern))?;
        Ok(Self { source: source.to_owned(), program, environment, told: AtomicI64::new(i64::MIN) })
    }

    /// Whether the rule is true for every registration.
    #[must_use]
    pub fn always_matches(&self) -> bool {
        self.constant() == Some(Verdict::Matched)
    }

    /// What the rule says of every registration, where it asks for nothing of one.
    pub(crate) fn constant(&self) -> Option<Verdict> {
        self.program.references().variables().is_empty().then(|| self.evaluate(&Map::new()))
    }

    /// Tells the operator that the rule failed: it counts each failure of `route`, and warns once a minute.
    pub(crate) fn tell_failure(&self, route: &str, why: &str) {
        metrics::counter!("registrar_rule_failures_total", "route" => route.to_owned()).increment(1);
        let (now, told) = (now_ms(), self.told.load(Ordering::Relaxed));
        let due = now.saturating_sub(told) >= QUIET;
        if due && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(route, rule = %self.source, reason = why, "a rule cannot be evaluated, which counts as not matching");
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
            Err(error @ ExecutionError::NoSuchKey(_)) => Verdict::Missing(explain(&error)),
            Err(error) => Verdict::Failed(explain(&error)),
        }
    }
}

/// Why an evaluation failed, without any value of the registration.
fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("the registration has no `{name}`"),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` does not exist"),
        ExecutionError::FunctionError { function, .. } => format!("`{function}` cannot be applied"),
        _ => "a member is missing or of another type than the rule expects".to_owned(),
    }
}

/// What is wrong with a regular expression, in the words of the library that rules use.
fn regex_fault(environment: &Arc<Env>, pattern: &str) -> Option<String> {
    let program = Program::compile("''.matches(pattern)").ok()?;
    let mut context = Context::with_env(Arc::clone(environment));
    context.add_variable_from_value("pattern", pattern.to_owned());
    let error = program.execute(&context).err()?;
    let text = match &error {
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let reason = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it cannot be read").to_owned();
    Some(format!("which is not valid: {}", reason.trim_start_matches("error: ")))
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
                Verdict::Missing(why) => (false, format!("its rule cannot be evaluated ({why}): {}", rule.source())),
                Verdict::Failed(why) => {
                    rule.tell_failure(&route.name, &why);
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
            when: when.map(|w| Rule::compile(w).unwrap()),
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

    #[test]
    fn rules_are_checked_when_compiled() {
        assert!(Rule::compile("metadata.scope ==").is_err());
        assert!(Rule::compile("metdata.scope == 'x'").unwrap_err().contains("metdata"));
        assert!(Rule::compile("'x'").is_err());
        assert!(Rule::compile("metadata.redirect_uris.exists(u, u.startsWith('https://'))").is_ok());
        assert!(Rule::compile("has(metadata.scope) && metadata.scope.matches('^a')").is_ok());
        let said = |rule: &str| Rule::compile(rule).unwrap_err();
        assert!(said("metadata.scope.matches('[')").contains("unclosed"), "{}", said("metadata.scope.matches('[')"));
    }

    #[test]
    fn only_a_rule_without_variables_can_match_always() {
        for (rule, always) in [("true", true), ("1 < 2", true), ("false", false), ("metadata.scope == 'x'", false)] {
            assert_eq!(Rule::compile(rule).unwrap().always_matches(), always, "{rule}");
        }
    }

    #[test]
    fn a_missing_member_is_no_failure_and_another_reason_is() {
        let rule = |text: &str| Rule::compile(text).unwrap();
        let variables = registration(json!({"metadata": {"redirect_uris": ["https://a.example/cb"]},
            "vendor": {"acme": {"n": 1}}}));
        let variables = variables_of(&variables);
        assert!(matches!(rule("metadata.scope == 'x'").evaluate(&variables), Verdict::Missing(_)));
        assert!(matches!(rule("labels.team == 'x'").evaluate(&variables), Verdict::Missing(_)));
        assert!(matches!(rule("vendor.acme.n.startsWith('x')").evaluate(&variables), Verdict::Failed(_)));
        assert!(matches!(rule("vendor.acme.n").evaluate(&variables), Verdict::Failed(_)));
        assert!(matches!(rule("1 / 0 == 1").evaluate(&variables), Verdict::Failed(_)));
    }
}
