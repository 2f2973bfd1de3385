//! What a rule can never mean, found before the gateway serves: a function or a member that does not exist, types that do
//! not fit, a bad pattern. At run time each of these would only make the rule not match.
//!
//! Invariant: a finding is an error for every registration that could come. Where only the registration decides, the type
//! is [`Type::Any`] and nothing is found.

use std::fmt;

use cel::{
    Context, IdedExpr, Program,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators as op},
};
use registrar_core::settings::closest;
use registrar_model::{
    field::{FieldInfo, JsonType},
    metadata::{self, REGISTERED_UNTYPED},
    policy,
};

/// The variables of a rule; `metadata` first.
pub(crate) const VARIABLES: [&str; 4] = ["metadata", "policy", "vendor", "labels"];

/// What a rule sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A registration: `metadata`, `policy`, `vendor` and `labels`.
    Registration,
    /// `metadata` alone, as the standards face will register it.
    Metadata,
}

/// One thing that is wrong.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The node of the expression.
    pub(crate) id: u64,
    /// What is wrong, and what to write instead.
    pub(crate) problem: String,
}

type Checked<T> = Result<T, Finding>;

fn finding<T>(at: &IdedExpr, problem: impl Into<String>) -> Checked<T> {
    Err(Finding { id: at.id, problem: problem.into() })
}

/// The type of an expression, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    Any,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Null,
    List(Box<Self>),
    /// An object whose members are not known.
    Object,
    Metadata,
    Policy,
    Labels,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "a value",
            Self::Bool => "true or false",
            Self::Int | Self::Uint | Self::Double => "a number",
            Self::Text => "a text",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::List(_) => "a list",
            Self::Object | Self::Metadata | Self::Policy | Self::Labels => "an object",
        })
    }
}

impl Type {
    fn of_member(field: &FieldInfo) -> Self {
        match field.json {
            JsonType::String => Self::Text,
            JsonType::Strings => Self::List(Box::new(Self::Text)),
            JsonType::Boolean => Self::Bool,
            JsonType::Integer => Self::Int,
            JsonType::Object => Self::Object,
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    fn is_object(&self) -> bool {
        matches!(self, Self::Object | Self::Metadata | Self::Policy | Self::Labels)
    }

    /// Whether values of the two types can be equal. A list may hold values of several types.
    fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(a), Self::List(b)) => a.may_equal(b),
            (a, b) => a == b || a.is_number() && b.is_number() || a.is_object() && b.is_object(),
        }
    }

    /// The type of a value that has one of two types.
    fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

/// Names that stand for themselves in CEL.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// Functions that are called with everything in parentheses: the name and how many arguments.
const FUNCTIONS: [(&str, usize); 10] = [
    ("bool", 1),
    ("bytes", 1),
    ("double", 1),
    ("dyn", 1),
    ("int", 1),
    ("matches", 2),
    ("size", 1),
    ("string", 1),
    ("type", 1),
    ("uint", 1),
];

/// Functions that are called on a value.
const METHODS: [(&str, usize); 9] = [
    ("contains", 1),
    ("endsWith", 1),
    ("hasValue", 0),
    ("matches", 1),
    ("or", 1),
    ("orValue", 1),
    ("size", 0),
    ("startsWith", 1),
    ("value", 0),
];

/// Macros, which are no calls any more where they are used rightly: the name and an example.
const MACROS: [(&str, &str); 6] = [
    ("has", "has(metadata.scope)"),
    ("all", "metadata.redirect_uris.all(u, u.startsWith(\"https:\"))"),
    ("exists", "metadata.redirect_uris.exists(u, u.startsWith(\"https:\"))"),
    ("exists_one", "metadata.redirect_uris.exists_one(u, u.startsWith(\"https:\"))"),
    ("map", "metadata.contacts.map(c, c.size())"),
    ("filter", "metadata.contacts.filter(c, c.size() > 3)"),
];

/// Checks a whole rule.
pub(crate) fn check(expression: &IdedExpr, scope: Scope) -> Checked<()> {
    let found = Checker { scope, variables: Vec::new() }.of(expression)?;
    match found {
        Type::Bool | Type::Any => Ok(()),
        other => finding(expression, format!("must be true or false, and is {other}")),
    }
}

/// The value of a rule that is the same for every registration.
pub(crate) fn constant(expression: &IdedExpr) -> Option<bool> {
    match &expression.expr {
        Expr::Literal(LiteralValue::Boolean(value)) => Some(*value.inner()),
        Expr::Call(CallExpr { func_name, target: None, args }) => match (func_name.as_str(), args.as_slice()) {
            (op::LOGICAL_NOT, [a]) => constant(a).map(|a| !a),
            (op::LOGICAL_AND, [a, b]) => match (constant(a), constant(b)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), other) | (other, Some(true)) => other,
                (None, None) => None,
            },
            (op::LOGICAL_OR, [a, b]) => match (constant(a), constant(b)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), other) | (other, Some(false)) => other,
                (None, None) => None,
            },
            _ => None,
        },
        _ => None,
    }
}

struct Checker<'e> {
    scope: Scope,
    /// Of comprehensions, innermost last.
    variables: Vec<(&'e str, Type)>,
}

impl<'e> Checker<'e> {
    fn of(&mut self, at: &'e IdedExpr) -> Checked<Type> {
        match &at.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Bytes(_) => Type::Bytes,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::Null => Type::Null,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::UInt(_) => Type::Uint,
            }),
            Expr::Ident(name) => self.variable(at, name),
            Expr::Select(select) => self.select(at, select),
            Expr::Call(call) => self.call(at, call),
            Expr::Comprehension(walk) => self.comprehension(walk),
            Expr::List(list) => {
                let mut element: Option<Type> = None;
                for item in &list.elements {
                    let item = self.of(item)?;
                    element = Some(match element {
                        None => item,
                        Some(before) => before.or(item),
                    });
                }
                Ok(Type::List(Box::new(element.unwrap_or(Type::Any))))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.of(&entry.key)?;
                        self.of(&entry.value)?;
                    }
                }
                Ok(Type::Object)
            }
            Expr::Struct(message) => finding(at, format!("`{}` is no type that a rule can make", message.type_name)),
            Expr::Unspecified => Ok(Type::Any),
        }
    }

    fn variable(&self, at: &IdedExpr, name: &str) -> Checked<Type> {
        if let Some((_, found)) = self.variables.iter().rev().find(|(known, _)| *known == name) {
            return Ok(found.clone());
        }
        let seen: &[&str] = match self.scope {
            Scope::Registration => &VARIABLES,
            Scope::Metadata => &VARIABLES[..1],
        };
        match name {
            "metadata" => return Ok(Type::Metadata),
            _ if !seen.contains(&name) => {}
            "policy" => return Ok(Type::Policy),
            "labels" => return Ok(Type::Labels),
            _ => return Ok(Type::Object),
        }
        if TYPES.contains(&name) {
            return Ok(Type::Any);
        }
        let inner = self.variables.iter().map(|(known, _)| *known).filter(|known| !known.starts_with(['@', '#']));
        let meant = closest(name, seen.iter().copied().chain(inner)).map(|m| format!("; did you mean `{m}`?"));
        let meant = meant.unwrap_or_default();
        finding(at, format!("names `{name}`, which does not exist; this rule sees {}{meant}", seen.join(", ")))
    }

    fn select(&mut self, at: &'e IdedExpr, select: &'e SelectExpr) -> Checked<Type> {
        let operand = self.of(&select.operand)?;
        let member = member(at, &operand, &select.field)?;
        Ok(if select.test { Type::Bool } else { member })
    }

    fn comprehension(&mut self, walk: &'e ComprehensionExpr) -> Checked<Type> {
        let element = match self.of(&walk.iter_range)? {
            Type::List(element) => *element,
            Type::Any => Type::Any,
            object if object.is_object() => Type::Text,
            other => return finding(&walk.iter_range, format!("is {other}, and only lists can be walked through")),
        };
        let known = self.variables.len();
        let accumulated = match self.of(&walk.accu_init)? {
            // elements are added to an empty one
            Type::List(_) => Type::List(Box::new(Type::Any)),
            Type::Bool => Type::Bool,
            other => other.or(Type::Any),
        };
        match &walk.iter_var2 {
            None => self.variables.push((&walk.iter_var, element)),
            Some(second) => {
                self.variables.push((&walk.iter_var, Type::Any));
                self.variables.push((second, Type::Any));
            }
        }
        self.variables.push((&walk.accu_var, accumulated));
        let result = (|| {
            self.of(&walk.loop_cond)?;
            self.of(&walk.loop_step)?;
            self.of(&walk.result)
        })();
        self.variables.truncate(known);
        result
    }

    fn call(&mut self, at: &'e IdedExpr, call: &'e CallExpr) -> Checked<Type> {
        let name = call.func_name.as_str();
        if let Some(target) = &call.target {
            let is_optional = matches!(&target.expr, Expr::Ident(name) if name == "optional");
            if is_optional && ["none", "of", "ofNonZeroValue"].contains(&name) {
                for argument in &call.args {
                    self.of(argument)?;
                }
                return Ok(Type::Any);
            }
            return self.method(at, name, target, &call.args);
        }
        if let Some(found) = self.operator(at, name, &call.args)? {
            return Ok(found);
        }
        let Some((_, arity)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            return finding(at, unknown_function(name, false));
        };
        arguments(at, name, *arity, call.args.len())?;
        let mut types = Vec::new();
        for argument in &call.args {
            types.push(self.of(argument)?);
        }
        match (name, types.as_slice(), call.args.as_slice()) {
            ("size", [found], _) => sized(at, found),
            ("matches", [text, pattern], [_, argument]) => {
                expect(at, name, text, &Type::Text)?;
                matching(argument, pattern)
            }
            ("bool", ..) => Ok(Type::Bool),
            ("int", ..) => Ok(Type::Int),
            ("uint", ..) => Ok(Type::Uint),
            ("double", ..) => Ok(Type::Double),
            ("string", ..) => Ok(Type::Text),
            ("bytes", ..) => Ok(Type::Bytes),
            _ => Ok(Type::Any),
        }
    }

    fn method(&mut self, at: &IdedExpr, name: &str, target: &'e IdedExpr, given: &'e [IdedExpr]) -> Checked<Type> {
        let target = self.of(target)?;
        let Some((_, arity)) = METHODS.iter().find(|(known, _)| *known == name) else {
            return finding(at, unknown_function(name, true));
        };
        arguments(at, name, *arity, given.len())?;
        let mut types = Vec::new();
        for argument in given {
            types.push(self.of(argument)?);
        }
        match (name, types.as_slice(), given) {
            ("size", ..) => sized(at, &target),
            ("contains" | "startsWith" | "endsWith", [argument], _) => {
                if name == "contains" && matches!(target, Type::List(_)) {
                    return finding(at, "`contains` looks into a text; write `\"...\" in` before the list instead");
                }
                expect(at, name, &target, &Type::Text)?;
                expect(at, name, argument, &Type::Text)?;
                Ok(Type::Bool)
            }
            ("matches", [pattern], [argument]) => {
                expect(at, name, &target, &Type::Text)?;
                matching(argument, pattern)
            }
            // of optional values, which only `?` makes
            _ if target != Type::Any => finding(at, format!("`{name}` cannot be applied to {target}")),
            ("hasValue", ..) => Ok(Type::Bool),
            _ => Ok(Type::Any),
        }
    }

    /// `None` when the name is no operator.
    fn operator(&mut self, at: &'e IdedExpr, name: &str, given: &'e [IdedExpr]) -> Checked<Option<Type>> {
        let found = match (name, given) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [a, b]) => {
                self.condition(a)?;
                self.condition(b)?;
                Type::Bool
            }
            (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [a]) => {
                self.condition(a)?;
                Type::Bool
            }
            (op::CONDITIONAL, [condition, a, b]) => {
                self.condition(condition)?;
                self.of(a)?.or(self.of(b)?)
            }
            (op::EQUALS | op::NOT_EQUALS, [a, b]) => {
                let (a, b) = (self.of(a)?, self.of(b)?);
                if !a.may_equal(&b) {
                    return finding(at, format!("compares {a} with {b}, which are never equal"));
                }
                Type::Bool
            }
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
                let (a, b) = (self.of(a)?, self.of(b)?);
                let ordered =
                    |t: &Type| t.is_number() || matches!(t, Type::Any | Type::Text | Type::Bytes | Type::Bool);
                if !(ordered(&a) && ordered(&b) && a.may_equal(&b)) {
                    return finding(at, format!("compares {a} with {b}, which have no order"));
                }
                Type::Bool
            }
            (op::IN, [a, b]) => {
                let (a, b) = (self.of(a)?, self.of(b)?);
                match &b {
                    Type::List(element) if !a.may_equal(element) => {
                        return finding(at, format!("looks for {a} in a list that never holds one"));
                    }
                    Type::Text => {
                        return finding(at, "`in` looks into a list; a text has `.contains(...)`");
                    }
                    Type::List(_) | Type::Any => {}
                    object if object.is_object() => {}
                    other => return finding(at, format!("`in` looks into a list, and this is {other}")),
                }
                Type::Bool
            }
            (op::INDEX | op::OPT_INDEX | op::OPT_SELECT, [container, key]) => {
                let found = self.indexed(container, key)?;
                if name == op::INDEX { found } else { Type::Any }
            }
            (op::ADD, [a, b]) => match (self.of(a)?, self.of(b)?) {
                (Type::List(a), Type::List(b)) => Type::List(Box::new(a.or(*b))),
                (a @ (Type::Text | Type::Bytes), b) if a == b => a,
                (a, b) => sum(at, "adds", &a, &b)?,
            },
            (op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) => {
                let (a, b) = (self.of(a)?, self.of(b)?);
                sum(at, "computes with", &a, &b)?
            }
            (op::NEGATE, [a]) => match self.of(a)? {
                number if number.is_number() || number == Type::Any => number,
                other => return finding(at, format!("negates {other}")),
            },
            _ => return Ok(None),
        };
        Ok(Some(found))
    }

    fn condition(&mut self, at: &'e IdedExpr) -> Checked<()> {
        match self.of(at)? {
            Type::Bool | Type::Any => Ok(()),
            other => finding(at, format!("must be true or false here, and is {other}")),
        }
    }

    fn indexed(&mut self, container: &'e IdedExpr, key: &'e IdedExpr) -> Checked<Type> {
        let container = self.of(container)?;
        let found = self.of(key)?;
        match (&container, &key.expr) {
            (Type::List(element), _) if found.is_number() || found == Type::Any => Ok((**element).clone()),
            (Type::List(_), _) => finding(key, format!("a list is indexed by a number, and this is {found}")),
            (_, Expr::Literal(LiteralValue::String(name))) => member(key, &container, name.inner()),
            (Type::Any, _) => Ok(Type::Any),
            (Type::Labels, _) if matches!(found, Type::Text | Type::Any) => Ok(Type::Text),
            (object, _) if object.is_object() && matches!(found, Type::Text | Type::Any) => Ok(Type::Any),
            (other, _) => finding(key, format!("{other} cannot be indexed by {found}")),
        }
    }
}

/// The type of a member of an object.
fn member(at: &IdedExpr, object: &Type, name: &str) -> Checked<Type> {
    let (what, fields): (&str, &[&FieldInfo]) = match object {
        Type::Any | Type::Object => return Ok(Type::Any),
        Type::Labels => return Ok(Type::Text),
        Type::Metadata => ("metadata", metadata::FIELDS.as_slice()),
        Type::Policy => ("policy", policy::FIELDS.as_slice()),
        other => return finding(at, format!("reads `{name}` of {other}, which has no members")),
    };
    let (base, is_localised) = name.split_once('#').map_or((name, false), |(base, _)| (base, true));
    if let Some(field) = fields.iter().find(|field| field.name == base && (field.localised || !is_localised)) {
        return Ok(Type::of_member(field));
    }
    let untyped: &[&str] = if *object == Type::Metadata { &REGISTERED_UNTYPED } else { &[] };
    if untyped.contains(&name) {
        return Ok(Type::Any);
    }
    let known = fields.iter().map(|field| field.name).chain(untyped.iter().copied());
    let meant = closest(base, known).map(|meant| format!("; did you mean `{what}.{meant}`?")).unwrap_or_default();
    finding(at, format!("`{what}` has no member `{name}`{meant}"))
}

fn unknown_function(name: &str, is_method: bool) -> String {
    if let Some((_, example)) = MACROS.iter().find(|(known, _)| *known == name) {
        return format!("`{name}` is used as in `{example}`");
    }
    let (same, other) = if is_method { (&METHODS[..], &FUNCTIONS[..]) } else { (&FUNCTIONS[..], &METHODS[..]) };
    if other.iter().any(|(known, _)| *known == name) {
        let form = if is_method { format!("{name}(...)") } else { format!("value.{name}(...)") };
        return format!("`{name}` is called as `{form}`");
    }
    let names = same.iter().chain(other).map(|(known, _)| *known).chain(MACROS.iter().map(|(known, _)| *known));
    let meant = closest(name, names).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    format!("the function `{name}` does not exist{meant}")
}

fn arguments(at: &IdedExpr, name: &str, wanted: usize, given: usize) -> Checked<()> {
    if wanted == given {
        return Ok(());
    }
    let plural = if wanted == 1 { "argument" } else { "arguments" };
    finding(at, format!("`{name}` takes {wanted} {plural}, and is given {given}"))
}

fn expect(at: &IdedExpr, name: &str, found: &Type, wanted: &Type) -> Checked<()> {
    if found == wanted || *found == Type::Any {
        return Ok(());
    }
    finding(at, format!("`{name}` needs {wanted}, and is given {found}"))
}

fn sized(at: &IdedExpr, found: &Type) -> Checked<Type> {
    match found {
        Type::Any | Type::Text | Type::Bytes | Type::List(_) => Ok(Type::Int),
        object if object.is_object() => Ok(Type::Int),
        other => finding(at, format!("`size` cannot be applied to {other}")),
    }
}

/// A pattern that stands in the rule is compiled now.
fn matching(at: &IdedExpr, pattern: &Type) -> Checked<Type> {
    expect(at, "matches", pattern, &Type::Text)?;
    if let Expr::Literal(LiteralValue::String(text)) = &at.expr {
        let text = text.inner();
        let mut context = Context::default();
        context.add_variable_from_value("pattern", text.to_owned());
        // the same engine as at run time decides
        let tried = Program::compile("''.matches(pattern)").map(|program| program.execute(&context));
        if let Ok(Err(_)) = tried {
            return finding(
                at,
                format!("`{text}` is not a regular expression; a `\\` is written twice in a rule's text"),
            );
        }
    }
    Ok(Type::Bool)
}

fn sum(at: &IdedExpr, verb: &str, a: &Type, b: &Type) -> Checked<Type> {
    match (a, b) {
        (Type::Any, _) | (_, Type::Any) => Ok(Type::Any),
        (a, b) if a.is_number() && a == b => Ok(a.clone()),
        _ => finding(at, format!("{verb} {a} and {b}, which do not fit")),
    }
}
