//! Scripted faults: what may go wrong between a vendor and the gateway, and for which requests.

use http::{HeaderName, HeaderValue, StatusCode};
use registrar_core::FakeRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A fault and the requests that it is for.
///
/// Scripts are asked in the order in which they were given, and the first that is due spoils the request; those behind
/// it neither play nor count it. As JSON, a script that cannot play is refused, and `when` may be left out: it is
/// `after` for faults that change the vendor's own answer, `before` for all others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Script")]
pub struct ScriptedFault {
    /// Only this vendor kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only this verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only paths with this text: below the vendor's base URL, decoded, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_contains: Option<String>,
    /// Matching requests to let through first.
    pub skip: u32,
    /// How many requests it spoils; 0 is none.
    pub times: u32,
    /// Whether the vendor still does the work.
    pub when: When,
    /// What goes wrong.
    pub fault: Fault,
}

/// A [`ScriptedFault`] as JSON, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "ScriptedFault")]
struct Script {
    kind: Option<String>,
    method: Option<String>,
    path_contains: Option<String>,
    #[serde(default)]
    skip: u32,
    #[serde(default = "one")]
    times: u32,
    when: Option<When>,
    fault: Fault,
}

fn one() -> u32 {
    1
}

impl TryFrom<Script> for ScriptedFault {
    type Error = String;

    fn try_from(script: Script) -> Result<Self, String> {
        let Script { kind, method, path_contains, skip, times, when, fault } = script;
        if times == 0 {
            return Err("`times` is at least 1".to_owned());
        }
        let needs_answer = fault.changes_the_answer();
        if needs_answer && when == Some(When::Before) {
            return Err(format!("`{}` changes the vendor's answer: `when` can only be `after`", fault.name()));
        }
        fault.check()?;
        let when = when.unwrap_or(if needs_answer { When::After } else { When::Before });
        Ok(Self { kind, method, path_contains, skip, times, when, fault })
    }
}

/// Whether the vendor does the work before things go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It never sees the request. A fault that needs an answer to spoil gets `200 {}`.
    #[default]
    Before,
    /// It does the work; then the answer is spoiled.
    After,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// No answer, until the caller gives up or the host stops.
    Hang {},
    /// No answer, and then the connection ends.
    HangUp {
        /// Milliseconds until then.
        ms: u64,
    },
    /// The connection is reset (TCP RST).
    Reset {},
    /// The connection ends inside the header.
    FinMidHeaders {},
    /// The connection ends inside the body; inside the header if the answer has no body.
    FinMidBody {},
    /// Another status, with a body of one's choice.
    Status {
        /// The status, 200 to 999.
        status: u16,
        /// A JSON body; a string is sent as text.
        #[serde(default)]
        body: Option<Value>,
        /// Header fields; their values are strings.
        #[serde(default)]
        headers: Map<String, Value>,
    },
    /// A page of a firewall.
    Html {
        /// The status, 200 to 999.
        status: u16,
    },
    /// A status and nothing else.
    Empty {
        /// The status, 200 to 999.
        status: u16,
    },
    /// The first bytes of the body under the length of the whole, and then the connection ends. It is never complete:
    /// if all of it is sent, a greater length is claimed.
    Truncate {
        /// How many bytes of the body.
        bytes: usize,
    },
    /// The answer with one more member that is this long. It is streamed and its length is not told.
    Oversize {
        /// How many bytes.
        bytes: usize,
    },
    /// The answer, a byte at a time.
    SlowBytes {
        /// Milliseconds before each byte.
        #[serde(alias = "ms_per_byte")]
        ms: u64,
    },
    /// The answer, later.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The value at a JSON pointer becomes an array with a number in it; an array becomes a number.
    WrongType {
        /// Where.
        pointer: String,
    },
    /// The member at a JSON pointer gets another name.
    Rename {
        /// Where.
        pointer: String,
        /// The new name.
        to: String,
    },
    /// The member at a JSON pointer is left out.
    Remove {
        /// Where.
        pointer: String,
    },
    /// A member that no document knows, `x_future_member`, in every object.
    ExtraMember {},
    /// A member twice, with the same value.
    DuplicateKey {
        /// Where; the first member if it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pointer: Option<String>,
    },
    /// A redirect that asks for the same request elsewhere (307).
    Redirect {
        /// Where to.
        location: String,
    },
    /// 401.
    #[serde(alias = "unauthorized_once")]
    Unauthorized {},
    /// 429.
    TooMany {
        /// `Retry-After`, in whatever form.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// No answer; the vendor does the work after a while, so that for some time nobody sees that it will.
    CommitLater {
        /// Milliseconds until then.
        ms: u64,
    },
    /// `Content-Encoding: gzip` and a small body that decompresses to a huge one.
    GzipBomb {
        /// How many bytes it decompresses to, at most 1 GiB.
        bytes: u64,
    },
    /// The answer to another request to the same vendor: the last success before this one.
    OtherClient {},
}

impl Fault {
    /// The `type`.
    pub(crate) fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value.get("type").and_then(Value::as_str).unwrap_or("fault").to_owned()
    }

    /// Whether it makes no sense without an answer of the vendor.
    fn changes_the_answer(&self) -> bool {
        match self {
            Self::SlowBytes { .. }
            | Self::Delay { .. }
            | Self::WrongType { .. }
            | Self::Rename { .. }
            | Self::Remove { .. }
            | Self::ExtraMember {}
            | Self::DuplicateKey { .. } => true,
            Self::Hang {}
            | Self::HangUp { .. }
            | Self::Reset {}
            | Self::FinMidHeaders {}
            | Self::FinMidBody {}
            | Self::Status { .. }
            | Self::Html { .. }
            | Self::Empty { .. }
            | Self::Truncate { .. }
            | Self::Oversize { .. }
            | Self::Redirect { .. }
            | Self::Unauthorized {}
            | Self::TooMany { .. }
            | Self::CommitLater { .. }
            | Self::GzipBomb { .. }
            | Self::OtherClient {} => false,
        }
    }

    /// Whether it can be played as it is written.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Status { status, headers, .. } => {
                check_status(*status)?;
                headers.iter().try_for_each(|(name, value)| {
                    if name.parse::<HeaderName>().is_err() || is_framing(name) {
                        return Err(format!("`{name}` is not a header field that a fault can set"));
                    }
                    value
                        .as_str()
                        .ok_or_else(|| format!("the header field `{name}` is not a string"))
                        .and_then(|text| check_header_value(name, text))
                })
            }
            Self::Html { status } | Self::Empty { status } => check_status(*status),
            Self::WrongType { pointer } | Self::DuplicateKey { pointer: Some(pointer) } => check_pointer(pointer),
            Self::Rename { pointer, .. } | Self::Remove { pointer } => check_pointer(pointer),
            Self::GzipBomb { bytes } if *bytes > 1 << 30 => Err("a bomb has at most 1 GiB".to_owned()),
            Self::Redirect { location } => check_header_value("location", location),
            Self::TooMany { retry_after: Some(text) } => check_header_value("retry_after", text),
            _ => Ok(()),
        }
    }

    /// One of each, for those who look for an example.
    pub(crate) fn examples() -> Vec<Self> {
        let pointer = || "/client_id".to_owned();
        vec![
            Self::Hang {},
            Self::HangUp { ms: 1000 },
            Self::Reset {},
            Self::FinMidHeaders {},
            Self::FinMidBody {},
            Self::Status { status: 503, body: Some(serde_json::json!({ "message": "no" })), headers: Map::new() },
            Self::Html { status: 403 },
            Self::Empty { status: 200 },
            Self::Truncate { bytes: 10 },
            Self::Oversize { bytes: 8 << 20 },
            Self::SlowBytes { ms: 100 },
            Self::Delay { ms: 1000 },
            Self::WrongType { pointer: pointer() },
            Self::Rename { pointer: pointer(), to: "clientId".to_owned() },
            Self::Remove { pointer: pointer() },
            Self::ExtraMember {},
            Self::DuplicateKey { pointer: Some(pointer()) },
            Self::Redirect { location: "https://elsewhere.example/".to_owned() },
            Self::Unauthorized {},
            Self::TooMany { retry_after: Some("7".to_owned()) },
            Self::CommitLater { ms: 1000 },
            Self::GzipBomb { bytes: 64 << 20 },
            Self::OtherClient {},
        ]
    }
}

/// Header fields that say where a message ends: the host's own.
pub(crate) fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "connection"].iter().any(|f| f.eq_ignore_ascii_case(name))
}

fn check_status(status: u16) -> Result<(), String> {
    let ok = StatusCode::from_u16(status).is_ok_and(|s| !s.is_informational());
    ok.then_some(()).ok_or_else(|| format!("{status} is not the status of an answer: 200 to 999"))
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    let ok = pointer.starts_with('/');
    ok.then_some(()).ok_or_else(|| format!("`{pointer}` is not a JSON pointer to a member: it starts with `/`"))
}

fn check_header_value(name: &str, text: &str) -> Result<(), String> {
    HeaderValue::from_str(text).map(drop).map_err(|_| format!("`{name}` cannot be sent as a header field"))
}

impl ScriptedFault {
    pub(crate) fn matches(&self, kind: &str, request: &FakeRequest) -> bool {
        self.kind.as_deref().is_none_or(|k| k == kind)
            && self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(&request.method))
            && self.path_contains.as_deref().is_none_or(|p| format!("/{}", request.path.join("/")).contains(p))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(script: &Value) -> Result<ScriptedFault, String> {
        serde_json::from_value(script.clone()).map_err(|e| e.to_string())
    }

    #[test]
    fn there_is_an_example_of_every_fault() {
        let problem = parse(&json!({ "fault": { "type": "?" } })).unwrap_err();
        let names: Vec<String> = Fault::examples().iter().map(Fault::name).collect();
        let expected = problem.split("expected one of").nth(1).unwrap();
        for known in expected.split('`').skip(1).step_by(2).filter(|n| *n != "unauthorized_once") {
            assert!(names.iter().any(|n| n == known), "no example of {known}");
        }
        for example in Fault::examples() {
            let parsed = parse(&json!({ "fault": example })).unwrap();
            assert_eq!(parsed.fault, example);
        }
    }

    #[test]
    fn what_is_left_out_has_the_defaults_of_the_fault() {
        let before = parse(&json!({ "fault": { "type": "reset" } })).unwrap();
        assert_eq!((before.when, before.skip, before.times), (When::Before, 0, 1));
        let after = parse(&json!({ "fault": { "type": "delay", "ms": 1 } })).unwrap();
        assert_eq!(after.when, When::After);
        let alias = parse(&json!({ "fault": { "type": "slow_bytes", "ms_per_byte": 2 } })).unwrap();
        assert_eq!(alias.fault, Fault::SlowBytes { ms: 2 });
        assert_eq!(parse(&json!({ "fault": { "type": "unauthorized_once" } })).unwrap().fault, Fault::Unauthorized {});
    }

    #[test]
    fn a_script_that_cannot_play_is_refused() {
        for (script, why) in [
            (json!({ "fault": { "type": "reset" }, "times": 0 }), "times"),
            (json!({ "fault": { "type": "reset" }, "tmies": 1 }), "tmies"),
            (json!({ "fault": { "type": "reset", "ms": 1 } }), "ms"),
            (json!({ "fault": { "type": "delay", "ms": 1 }, "when": "before" }), "after"),
            (json!({ "fault": { "type": "status", "status": 100 } }), "100"),
            (json!({ "fault": { "type": "html", "status": 1000 } }), "1000"),
            (json!({ "fault": { "type": "empty", "status": 0 } }), "0 is not"),
            (json!({ "fault": { "type": "status", "status": 200, "headers": { "a": 1 } } }), "not a string"),
            (json!({ "fault": { "type": "status", "status": 200, "headers": { "a b": "c" } } }), "a b"),
            (json!({ "fault": { "type": "status", "status": 200, "headers": { "Content-Length": "1" } } }), "Length"),
            (json!({ "fault": { "type": "redirect", "location": "a\nb" } }), "location"),
            (json!({ "fault": { "type": "too_many", "retry_after": "\u{0}" } }), "retry_after"),
            (json!({ "fault": { "type": "remove", "pointer": "client_id" } }), "client_id"),
            (json!({ "when": "before" }), "fault"),
        ] {
            let problem = parse(&script).unwrap_err();
            assert!(problem.contains(why), "{script}: {problem}");
        }
    }
}
