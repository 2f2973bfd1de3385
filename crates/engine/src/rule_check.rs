//! Checks a rule without a registration: its functions, its members, its regular expressions and its value.
//!
//! A rule that names something that cannot exist never matches, and the request would go elsewhere without a word. What
//! only a registration can decide (a label, a vendor's member) is of any type here.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};
use registrar_core::settings::closest;
use registrar_model::{FieldInfo, field, field::JsonType, metadata::REGISTERED_UNTYPED};

/// What is known of a value before a rule is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    /// Nothing.
    Any,
    Null,
    Bool,
    Number,
    Text,
    Bytes,
    List(Box<Type>),
    /// A map from texts to values of one type.
    Map(Box<Type>),
    /// `metadata` or `policy`: the members are those of the canonical table.
    Layer(&'static str),
}

use Type::{Any, Bool, Bytes, Layer, List, Null, Number, Text};

impl Type {
    fn of(field: &FieldInfo) -> Self {
        match field.json {
            JsonType::String => Text,
            JsonType::Strings => List(Box::new(Text)),
            JsonType::Boolean => Bool,
            JsonType::Integer => Number,
            JsonType::Object => Any,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Any => "a value",
            Null => "null",
            Bool => "true or false",
            Number => "a number",
            Text => "a text",
            Bytes => "bytes",
            List(_) => "a list",
            Type::Map(_) | Layer(_) => "an object",
        }
    }

    /// Whether a value of one type can be a value of the other.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Any, _) | (_, Any) => true,
            (List(a), List(b)) | (Type::Map(a), Type::Map(b)) => a.meets(b),
            (Layer(_), Type::Map(_)) | (Type::Map(_), Layer(_)) => true,
            (a, b) => a == b,
        }
    }

    /// The type of a value that is of one of the two.
    fn or(self, other: Self) -> Self {
        if self == other { self } else { Any }
    }
}

type Checked = Result<Type, String>;

/// The functions of one value, or of a value and one argument, that a rule can call: name, what it is called on, its
/// argument, its result. A function of a value can be written both ways where `prefix` says so: `size(x)`, `x.size()`.
struct Callable {
    name: &'static str,
    receiver: &'static [Type],
    argument: Option<Type>,
    result: Type,
    member: bool,
    prefix: bool,
}

const fn text_test(name: &'static str, prefix: bool) -> Callable {
    Callable { name, receiver: &[Text], argument: Some(Text), result: Bool, member: true, prefix }
}

const fn conversion(name: &'static str, receiver: &'static [Type], result: Type) -> Callable {
    Callable { name, receiver, argument: None, result, member: false, prefix: true }
}

/// The library of the rules' environment that makes sense for registrations; a test calls each of them.
static CALLABLE: [Callable; 13] = [
    text_test("contains", false),
    text_test("startsWith", false),
    text_test("endsWith", false),
    text_test("matches", true),
    Callable { name: "size", receiver: &[], argument: None, result: Number, member: true, prefix: true },
    conversion("string", &[Text, Bool, Number, Bytes], Text),
    conversion("int", &[Text, Number], Number),
    conversion("uint", &[Text, Number], Number),
    conversion("double", &[Text, Number], Number),
    conversion("bool", &[Text, Bool], Bool),
    conversion("bytes", &[Text, Bytes], Bytes),
    conversion("dyn", &[], Any),
    conversion("type", &[], Any),
];

/// Names of types, which `type(x)` is compared with.
const TYPE_NAMES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// Checks a whole rule; `regex` says what is wrong with a regular expression.
///
/// # Errors
/// The first thing that cannot work, as the end of a sentence whose subject is the rule.
pub(crate) fn check(rule: &Expr, regex: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    let mut checker = Checker { regex, variables: Vec::new() };
    let value = checker.of(rule)?;
    if value.meets(&Bool) {
        return Ok(());
    }
    Err(format!("must be true or false, but its value is {}", value.word()))
}

struct Checker<'r> {
    regex: &'r dyn Fn(&str) -> Option<String>,
    /// Those of the macros around the expression, the innermost last.
    variables: Vec<(String, Type)>,
}

impl Checker<'_> {
    fn of(&mut self, expr: &Expr) -> Checked {
        match expr {
            Expr::Unspecified => Ok(Any),
            Expr::Literal(literal) => Ok(literal_type(literal)),
            Expr::Ident(name) => self.named(name),
            Expr::List(list) => {
                let mut element = None;
                for item in &list.elements {
                    let item = self.of(&item.expr)?;
                    element = Some(element.map_or(item.clone(), |before: Type| before.or(item)));
                }
                Ok(List(Box::new(element.unwrap_or(Any))))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.of(&entry.key.expr)?;
                        self.of(&entry.value.expr)?;
                    }
                }
                Ok(Type::Map(Box::new(Any)))
            }
            Expr::Struct(made) => Err(format!("makes a `{}`, which does not exist", made.type_name)),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn named(&self, name: &str) -> Checked {
        if let Some((_, known)) = self.variables.iter().rev().find(|(variable, _)| variable == name) {
            return Ok(known.clone());
        }
        match name {
            "metadata" => Ok(Layer("metadata")),
            "policy" => Ok(Layer("policy")),
            "labels" => Ok(Type::Map(Box::new(Text))),
            "vendor" => Ok(Any),
            _ if TYPE_NAMES.contains(&name) => Ok(Any),
            _ => {
                let known = ["metadata", "policy", "vendor", "labels"];
                let hint = closest(name, known).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
                Err(format!("names `{name}`, which does not exist; a rule sees {}{hint}", known.join(", ")))
            }
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Checked {
        let operand = self.of(&select.operand.expr)?;
        let member = member_of(&operand, &select.field)?;
        Ok(if select.test { Bool } else { member })
    }

    fn call(&mut self, call: &CallExpr) -> Checked {
        if let Some(target) = &call.target {
            return self.method(&target.expr, call);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [a, b]) => {
                self.expect(&a.expr, &Bool, "`&&` and `||` join conditions")?;
                self.expect(&b.expr, &Bool, "`&&` and `||` join conditions")?;
                Ok(Bool)
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [a]) => {
                self.expect(&a.expr, &Bool, "`!` negates a condition")?;
                Ok(Bool)
            }
            (operators::NEGATE, [a]) => {
                self.expect(&a.expr, &Number, "`-` negates a number")?;
                Ok(Number)
            }
            (operators::CONDITIONAL, [test, yes, no]) => {
                self.expect(&test.expr, &Bool, "`?` follows a condition")?;
                let (yes, no) = (self.of(&yes.expr)?, self.of(&no.expr)?);
                if !yes.meets(&no) {
                    return Err(format!(
                        "is {} or {}, as its condition says; it must always be one",
                        yes.word(),
                        no.word()
                    ));
                }
                Ok(yes.or(no))
            }
            (operators::EQUALS | operators::NOT_EQUALS, [a, b]) => {
                let (a, b) = (self.of(&a.expr)?, self.of(&b.expr)?);
                if a.meets(&b) || a == Null || b == Null {
                    return Ok(Bool);
                }
                Err(format!("compares {} with {}, which are never equal", a.word(), b.word()))
            }
            (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [a, b]) => {
                let (a, b) = (self.of(&a.expr)?, self.of(&b.expr)?);
                let ordered = |t: &Type| matches!(t, Any | Number | Text | Bytes | Bool);
                if a.meets(&b) && ordered(&a) && ordered(&b) {
                    return Ok(Bool);
                }
                Err(format!("compares the order of {} and {}", a.word(), b.word()))
            }
            (operators::ADD, [a, b]) => {
                let (a, b) = (self.of(&a.expr)?, self.of(&b.expr)?);
                let adds = |t: &Type| matches!(t, Any | Number | Text | Bytes | List(_));
                if adds(&a) && adds(&b) && (a.meets(&b) || matches!((&a, &b), (List(_), List(_)))) {
                    return Ok(match (a, b) {
                        (Any, other) | (other, Any) => other,
                        (a, b) => a.or(b),
                    });
                }
                Err(format!("adds {} and {}", a.word(), b.word()))
            }
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [a, b]) => {
                self.expect(&a.expr, &Number, "arithmetic is for numbers")?;
                self.expect(&b.expr, &Number, "arithmetic is for numbers")?;
                Ok(Number)
            }
            (operators::IN, [element, all]) => {
                let (element, all) = (self.of(&element.expr)?, self.of(&all.expr)?);
                match &all {
                    Any => Ok(Bool),
                    List(of) if element.meets(of) => Ok(Bool),
                    List(of) => Err(format!("looks for {} in a list of which each is {}", element.word(), of.word())),
                    Type::Map(_) | Layer(_) if element.meets(&Text) => Ok(Bool),
                    other => Err(format!("uses `in` with {}; it needs a list, or an object and a name", other.word())),
                }
            }
            (operators::INDEX, [operand, key]) => self.indexed(&operand.expr, &key.expr),
            (name, args) => self.function(name, args),
        }
    }

    fn indexed(&mut self, operand: &Expr, key: &Expr) -> Checked {
        let operand = self.of(operand)?;
        if let Expr::Literal(LiteralValue::String(name)) = key {
            return member_of(&operand, name.inner());
        }
        let key = self.of(key)?;
        match operand {
            Any => Ok(Any),
            List(of) if key.meets(&Number) => Ok(*of),
            Type::Map(of) if key.meets(&Text) => Ok(*of),
            Layer(_) if key.meets(&Text) => Ok(Any),
            other => Err(format!("takes an element of {} by {}", other.word(), key.word())),
        }
    }

    /// A function that is written before its arguments.
    fn function(&mut self, name: &str, args: &[cel::common::ast::IdedExpr]) -> Checked {
        let Some(callable) = CALLABLE.iter().find(|c| c.name == name) else { return Err(unknown(name)) };
        if !callable.prefix {
            return Err(format!("calls `{name}` on nothing; write `x.{name}(…)`"));
        }
        match args {
            [receiver, rest @ ..] => self.apply(callable, &receiver.expr, rest),
            [] => Err(arity(callable, 0, callable.argument.is_some().into(), true)),
        }
    }

    fn method(&mut self, target: &Expr, call: &CallExpr) -> Checked {
        let name = call.func_name.as_str();
        match CALLABLE.iter().find(|c| c.name == name) {
            Some(callable) if callable.member => self.apply(callable, target, &call.args),
            Some(_) => Err(format!("calls `.{name}()`; write `{name}(x)`")),
            None => Err(unknown(name)),
        }
    }

    fn apply(&mut self, callable: &Callable, receiver: &Expr, args: &[cel::common::ast::IdedExpr]) -> Checked {
        let name = callable.name;
        let on = self.of(receiver)?;
        if args.len() != usize::from(callable.argument.is_some()) {
            return Err(arity(callable, args.len(), callable.argument.is_some().into(), false));
        }
        let fits = match name {
            "size" => matches!(on, Any | Text | Bytes | List(_) | Type::Map(_) | Layer(_)),
            _ => callable.receiver.is_empty() || callable.receiver.iter().any(|t| on.meets(t)),
        };
        if !fits {
            let hint = match (&on, name) {
                (List(_), "contains") => "; for a list write `\"x\" in list`",
                (List(_), "startsWith" | "endsWith" | "matches") => "; for a list write `list.exists(x, …)`",
                _ => "",
            };
            return Err(format!("calls `{name}` on {}{hint}", on.word()));
        }
        if let (Some(argument), [arg]) = (&callable.argument, args) {
            let given = self.of(&arg.expr)?;
            if !given.meets(argument) {
                return Err(format!("gives {} to `{name}`, which takes {}", given.word(), argument.word()));
            }
            if let (Expr::Literal(LiteralValue::String(pattern)), "matches") = (&arg.expr, name)
                && let Some(problem) = (self.regex)(pattern.inner())
            {
                return Err(format!("has the regular expression `{}`, {problem}", pattern.inner()));
            }
        }
        Ok(callable.result.clone())
    }

    /// What a macro (`all`, `exists`, `exists_one`, `map`, `filter`) was made into.
    fn comprehension(&mut self, made: &ComprehensionExpr) -> Checked {
        let element = match self.of(&made.iter_range.expr)? {
            Any => Any,
            List(of) => *of,
            Type::Map(_) | Layer(_) => Text,
            other => return Err(format!("goes through {} as if it were a list", other.word())),
        };
        let start = match self.of(&made.accu_init.expr)? {
            List(_) => List(Box::new(Any)),
            other => other,
        };
        let before = self.variables.len();
        if let Some(second) = &made.iter_var2 {
            self.variables.push((second.clone(), Any));
            self.variables.push((made.iter_var.clone(), Any));
        } else {
            self.variables.push((made.iter_var.clone(), element));
        }
        self.variables.push((made.accu_var.clone(), start));
        self.of(&made.loop_cond.expr)?;
        let step = self.of(&made.loop_step.expr)?;
        // only the accumulator is visible in the result
        if let Some((_, accumulated)) = self.variables.last_mut()
            && matches!(accumulated, List(_))
        {
            *accumulated = step;
        }
        let result = self.of(&made.result.expr);
        self.variables.truncate(before);
        result
    }

    fn expect(&mut self, expr: &Expr, wanted: &Type, why: &str) -> Result<(), String> {
        let found = self.of(expr)?;
        if found.meets(wanted) {
            return Ok(());
        }
        Err(format!("has {} where {} is needed: {why}", found.word(), wanted.word()))
    }
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Bool,
        LiteralValue::Bytes(_) => Bytes,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Number,
        LiteralValue::Null => Null,
        LiteralValue::String(_) => Text,
    }
}

fn member_of(operand: &Type, name: &str) -> Checked {
    match operand {
        Any => Ok(Any),
        Type::Map(of) => Ok((**of).clone()),
        Layer(layer) => canonical(layer, name),
        other => Err(format!("asks for `{name}` of {}, which has no members", other.word())),
    }
}

/// A member of `metadata` or `policy`.
fn canonical(layer: &'static str, name: &str) -> Checked {
    if let Some(field) = field::lookup(&format!("{layer}.{name}"))
        && (field.localised || !name.contains('#'))
    {
        return Ok(Type::of(field));
    }
    let base = name.split_once('#').map_or(name, |(base, _)| base);
    if layer == "metadata" && REGISTERED_UNTYPED.contains(&base) {
        return Ok(Any);
    }
    let known: Vec<&str> =
        field::all().filter(|f| f.path.split_once('.').is_some_and(|(of, _)| of == layer)).map(|f| f.name).collect();
    let hint = closest(name, known.iter().copied()).map(|word| format!("; did you mean `{word}`?"));
    Err(format!("names `{layer}.{name}`, which does not exist{}", hint.unwrap_or_default()))
}

fn unknown(name: &str) -> String {
    let known = CALLABLE.iter().map(|c| c.name).chain(["all", "exists", "exists_one", "filter", "map", "has"]);
    let hint = closest(name, known).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
    format!("calls `{name}`, which does not exist{hint}")
}

fn arity(callable: &Callable, given: usize, wanted: usize, prefix: bool) -> String {
    let (given, wanted) = if prefix { (given, wanted + 1) } else { (given, wanted) };
    format!("gives {given} arguments to `{}`, which takes {wanted}", callable.name)
}

#[cfg(test)]
mod tests {
    use cel::{Context, Env, Program};

    use super::*;

    fn said(rule: &str) -> Result<(), String> {
        check(&Program::compile(rule).unwrap().expression().expr, &|_| None)
    }

    #[test]
    fn rules_that_can_never_work_are_told() {
        for (rule, word) in [
            (r#"metadata.scope.contans("wallet_")"#, "did you mean `contains`"),
            (r#"metadata.scopes == "x""#, "did you mean `scope`"),
            (r#"metadata["scopes"] == "x""#, "`metadata.scopes`"),
            (r#"has(metadata.scop)"#, "`metadata.scop`"),
            ("policy.enabld", "did you mean `enabled`"),
            (r#"metadta.scope == "x""#, "did you mean `metadata`"),
            ("metadata.client_name", "must be true or false"),
            ("!metadata.client_name", "`!` negates a condition"),
            ("metadata.client_name && true", "true or false is needed"),
            ("true ? metadata.client_name : metadata.scope", "must be true or false"),
            ("true ? metadata.client_name : false", "it must always be one"),
            (r#""x""#, "must be true or false"),
            ("size(metadata.redirect_uris)", "its value is a number"),
            ("metadata.scope.contains()", "takes 1"),
            (r#"metadata.scope.contains("a", "b")"#, "gives 2 arguments"),
            ("metadata.scope.contains(1)", "gives a number"),
            (r#"metadata.grant_types.contains("implicit")"#, "write `\"x\" in list`"),
            (r#"metadata.redirect_uris.startsWith("https")"#, "list.exists"),
            (r#"metadata.redirect_uris.exists(u, u.startWith("x"))"#, "did you mean `startsWith`"),
            ("metadata.grant_types.all(g, g)", "true or false is needed"),
            ("metadata.client_name.all(c, c == 'x')", "goes through a text"),
            ("metadata.default_max_age == '60'", "never equal"),
            ("metadata.default_max_age > '60'", "order"),
            ("1 in metadata.grant_types", "looks for a number"),
            ("'x' in metadata.scope", "uses `in` with a text"),
            ("metadata.scope + 1 == 'x'", "adds"),
            ("labels.team == 1", "never equal"),
            ("metadata.require_auth_time == 'true'", "never equal"),
            ("nosuch(metadata.scope)", "calls `nosuch`"),
            ("metadata['jwks_uri#de'] == 'x'", "`metadata.jwks_uri#de`"),
            ("contains(metadata.scope, 'x')", "write `x.contains"),
        ] {
            let told = said(rule).expect_err(rule);
            assert!(told.contains(word), "{rule}: {told}");
        }
    }

    #[test]
    fn rules_that_can_work_pass() {
        for rule in [
            r#"metadata.scope.contains("wallet_") || labels.team == "treasury""#,
            r#"has(metadata.scope) && metadata.scope.matches("^a")"#,
            r#""implicit" in metadata.grant_types"#,
            r#""team" in labels && labels["team"] != "x""#,
            "size(metadata.redirect_uris) > 2 && metadata.redirect_uris.size() < 9",
            r#"metadata.redirect_uris.all(u, u.startsWith("https://"))"#,
            "metadata.redirect_uris.exists_one(u, u == 'x')",
            "metadata.redirect_uris.filter(u, u.contains('x')).size() == 0",
            "metadata.redirect_uris.map(u, size(u)).all(n, n < 200)",
            r#"metadata["client_name#de"] == "x""#,
            "vendor.acme.anything == 1 && vendor.x.y.startsWith('z')",
            "vendor.acme.flag",
            "policy.enabled && policy.first_party == false",
            "policy.access_token_lifetime > 60 && metadata.default_max_age + 1 < 100",
            "type(vendor.acme.n) == int",
            "metadata.jwks.keys.size() == 1",
            "metadata.scope == null || true",
            "labels.all(k, k != 'x')",
            "true ? policy.enabled : false",
            "string(metadata.default_max_age) == '60'",
            "['a', 'b'].exists(x, x in metadata.contacts)",
            "{'a': 1}.a == 1",
        ] {
            assert_eq!(said(rule), Ok(()), "{rule}");
        }
    }

    /// What the table says exists must exist, and give what it says.
    #[test]
    fn every_function_of_the_table_can_be_called() {
        let environment = std::sync::Arc::new(Env::stdlib());
        for (call, value) in [
            ("'ab'.contains('a')", "true"),
            ("'ab'.startsWith('a')", "true"),
            ("'ab'.endsWith('b')", "true"),
            ("'ab'.matches('^a')", "true"),
            ("matches('ab', '^a')", "true"),
            ("size('ab') + 'ab'.size() + size([1]) + size({'a': 1})", "6"),
            ("string(1) + string(true)", "'1true'"),
            ("int('7')", "7"),
            ("int(uint('7'))", "7"),
            ("double('1.5') > 1.0", "true"),
            ("bool('true')", "true"),
            ("size(bytes('ab'))", "2"),
            ("dyn(1)", "1"),
            ("type(1) == int", "true"),
        ] {
            let program = Program::compile(&format!("({call}) == ({value})")).unwrap();
            let context = Context::with_env(std::sync::Arc::clone(&environment));
            assert_eq!(program.execute(&context), Ok(cel::Value::Bool(true)), "{call}");
        }
        let called: Vec<&str> =
            "contains startsWith endsWith matches size string int uint double bool bytes dyn type".split(' ').collect();
        assert_eq!(CALLABLE.iter().map(|c| c.name).collect::<Vec<&str>>(), called, "call each of them above");
    }
}
