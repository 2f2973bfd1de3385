//! Scripted faults: what may go wrong between a vendor and the gateway.

use bytes::Bytes;
use registrar_core::{FakeRequest, FakeResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A fault and the requests that it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedFault {
    /// Only this vendor kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only this verb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only paths with this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_contains: Option<String>,
    /// Matching requests to let through first.
    #[serde(default)]
    pub skip: u32,
    /// How many requests it spoils.
    #[serde(default = "one")]
    pub times: u32,
    /// Whether the vendor still does the work.
    #[serde(default)]
    pub when: When,
    /// What goes wrong.
    pub fault: Fault,
}

fn one() -> u32 {
    1
}

/// Whether the vendor does the work before things go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It never sees the request.
    #[default]
    Before,
    /// It does the work; then the answer is spoiled.
    After,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// No answer, until the caller gives up.
    Hang {},
    /// The connection is reset.
    Reset {},
    /// The connection ends inside the header.
    FinMidHeaders {},
    /// The connection ends inside the body.
    FinMidBody {},
    /// Another status, with a body of one's choice.
    Status {
        /// The status.
        status: u16,
        /// A JSON body, or text.
        #[serde(default)]
        body: Option<Value>,
        /// Header fields.
        #[serde(default)]
        headers: Map<String, Value>,
    },
    /// A page of a firewall.
    Html {
        /// The status.
        status: u16,
    },
    /// A status and nothing else.
    Empty {
        /// The status.
        status: u16,
    },
    /// The first bytes of the answer, under the length of the whole.
    Truncate {
        /// How many bytes.
        bytes: usize,
    },
    /// A body that does not end before this many bytes.
    Oversize {
        /// How many bytes.
        bytes: usize,
    },
    /// The answer, a byte at a time.
    SlowBytes {
        /// Milliseconds between bytes.
        ms: u64,
    },
    /// The answer, later.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The member at a JSON pointer becomes a number in an array.
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
    /// A member that no document knows, in every object.
    ExtraMember {},
    /// The first member twice.
    DuplicateKey {},
    /// A redirect.
    Redirect {
        /// Where to.
        location: String,
    },
    /// 401.
    Unauthorized {},
    /// 429.
    TooMany {
        /// `Retry-After`, in whatever form.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The answer to another request of the same kind: the last success before this one.
    OtherClient {},
}

impl Fault {
    pub(crate) fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value.get("type").and_then(Value::as_str).unwrap_or("fault").to_owned()
    }
}

impl ScriptedFault {
    pub(crate) fn matches(&self, kind: &str, request: &FakeRequest) -> bool {
        let path = format!("/{}", request.path.join("/"));
        self.kind.as_deref().is_none_or(|k| k == kind)
            && self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(&request.method))
            && self.path_contains.as_deref().is_none_or(|p| path.contains(p))
    }
}

/// How an answer is put on the wire.
pub(crate) enum Delivery {
    /// As a normal answer.
    Whole(FakeResponse),
    /// Never.
    Never,
    /// These bytes, and then the connection ends, orderly or with a reset.
    Raw { bytes: Bytes, reset: bool },
    /// These bytes one by one.
    Drip { response: FakeResponse, ms: u64 },
    /// Later.
    Late { response: FakeResponse, ms: u64 },
}

/// Spoils an answer. `last` is the last success of the same vendor.
pub(crate) fn spoil(fault: &Fault, response: Option<FakeResponse>, last: Option<FakeResponse>) -> Delivery {
    let response = response.unwrap_or_else(|| FakeResponse::json(200, &Value::Object(Map::new())));
    let json = |response: &FakeResponse| serde_json::from_slice::<Value>(&response.body).unwrap_or_default();
    let with = |response: &FakeResponse, body: &Value| FakeResponse {
        body: Bytes::from(body.to_string()),
        ..response.clone()
    };
    match fault {
        Fault::Hang {} => Delivery::Never,
        Fault::Reset {} => Delivery::Raw { bytes: Bytes::new(), reset: true },
        Fault::FinMidHeaders {} => {
            Delivery::Raw { bytes: Bytes::from_static(b"HTTP/1.1 201 Created\r\ncontent-ty"), reset: false }
        }
        Fault::FinMidBody {} => {
            let half = response.body.len() / 2;
            Delivery::Raw { bytes: raw(&response, response.body.len(), &response.body[..half]), reset: false }
        }
        Fault::Truncate { bytes } => {
            let end = (*bytes).min(response.body.len());
            Delivery::Raw { bytes: raw(&response, response.body.len(), &response.body[..end]), reset: false }
        }
        Fault::Status { status, body, headers } => {
            let mut out = match body {
                None => FakeResponse::empty(*status),
                Some(Value::String(text)) => FakeResponse {
                    status: *status,
                    headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
                    body: Bytes::from(text.clone()),
                },
                Some(body) => FakeResponse::json(*status, body),
            };
            out.headers
                .extend(headers.iter().filter_map(|(k, v)| v.as_str().map(|v| (k.to_ascii_lowercase(), v.to_owned()))));
            Delivery::Whole(out)
        }
        Fault::Html { status } => Delivery::Whole(FakeResponse {
            status: *status,
            headers: vec![("content-type".to_owned(), "text/html".to_owned())],
            body: Bytes::from_static(b"<!doctype html><title>Blocked</title><p>Your request was blocked."),
        }),
        Fault::Empty { status } => Delivery::Whole(FakeResponse::empty(*status)),
        Fault::Oversize { bytes } => {
            let mut body = Vec::with_capacity(bytes + 16);
            body.extend_from_slice(b"{\"filler\":\"");
            body.resize(bytes + 11, b'x');
            body.extend_from_slice(b"\"}");
            Delivery::Whole(FakeResponse { body: Bytes::from(body), ..response })
        }
        Fault::SlowBytes { ms } => Delivery::Drip { response, ms: *ms },
        Fault::Delay { ms } => Delivery::Late { response, ms: *ms },
        Fault::WrongType { pointer } => {
            let mut body = json(&response);
            if let Some(slot) = body.pointer_mut(pointer) {
                *slot = serde_json::json!([7]);
            }
            Delivery::Whole(with(&response, &body))
        }
        Fault::Rename { pointer, to } => {
            let mut body = json(&response);
            if let Some((parent, name)) = parent_of(&mut body, pointer)
                && let Some(value) = parent.remove(&name)
            {
                parent.insert(to.clone(), value);
            }
            Delivery::Whole(with(&response, &body))
        }
        Fault::Remove { pointer } => {
            let mut body = json(&response);
            if let Some((parent, name)) = parent_of(&mut body, pointer) {
                parent.remove(&name);
            }
            Delivery::Whole(with(&response, &body))
        }
        Fault::ExtraMember {} => {
            let mut body = json(&response);
            add_everywhere(&mut body);
            Delivery::Whole(with(&response, &body))
        }
        Fault::DuplicateKey {} => {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            let first = json(&response).as_object().and_then(|o| o.iter().next().map(|(k, v)| (k.clone(), v.clone())));
            let body = match first {
                Some((name, value)) => text.replacen('{', &format!("{{{}:{value},", Value::String(name)), 1),
                None => text,
            };
            Delivery::Whole(FakeResponse { body: Bytes::from(body), ..response })
        }
        Fault::Redirect { location } => Delivery::Whole(FakeResponse {
            status: 307,
            headers: vec![("location".to_owned(), location.clone())],
            body: Bytes::new(),
        }),
        Fault::Unauthorized {} => {
            Delivery::Whole(FakeResponse::json(401, &serde_json::json!({ "message": "Unauthorized" })))
        }
        Fault::TooMany { retry_after } => {
            let mut out = FakeResponse::json(429, &serde_json::json!({ "message": "Too many requests" }));
            out.headers.extend(retry_after.iter().map(|v| ("retry-after".to_owned(), v.clone())));
            Delivery::Whole(out)
        }
        Fault::OtherClient {} => Delivery::Whole(last.unwrap_or(response)),
    }
}

fn parent_of<'v>(body: &'v mut Value, pointer: &str) -> Option<(&'v mut Map<String, Value>, String)> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let parent = body.pointer_mut(parent)?.as_object_mut()?;
    Some((parent, name.replace("~1", "/").replace("~0", "~")))
}

fn add_everywhere(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(add_everywhere);
            map.insert("x_future_member".to_owned(), Value::String("from a later version".to_owned()));
        }
        Value::Array(items) => items.iter_mut().for_each(add_everywhere),
        _ => {}
    }
}

/// An answer as bytes, with a claimed length and a part of the body.
fn raw(response: &FakeResponse, length: usize, body: &[u8]) -> Bytes {
    let mut out = format!("HTTP/1.1 {} Status\r\ncontent-length: {length}\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Bytes::from(out)
}
