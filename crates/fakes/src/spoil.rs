//! What a fault makes of an answer.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::StatusCode;
use registrar_core::FakeResponse;
use serde_json::{Map, Value, json};

use crate::{
    body::Payload,
    fault::{Fault, is_framing},
    wire::Instead,
};

/// How an answer is put on the wire.
pub(crate) enum Delivery {
    /// As a normal answer.
    Whole(FakeResponse),
    /// The status and the header of this answer, with another body.
    Streamed(FakeResponse, Payload),
    /// As a normal answer, later.
    Late(FakeResponse, Duration),
    /// Never.
    Never,
    /// Never, and the vendor does the work then.
    CommitLater(Duration),
    /// Something else, and then the connection ends; the pause comes first.
    Instead(Instead, Duration),
}

/// A spoiled answer.
pub(crate) struct Spoiled {
    pub(crate) delivery: Delivery,
    /// There was nothing to spoil.
    pub(crate) missed: bool,
}

/// The answer of a vendor, and what a fault needs to know besides.
pub(crate) struct Answer {
    pub(crate) response: FakeResponse,
    /// The last success of the same vendor before this request.
    pub(crate) last_success: Option<FakeResponse>,
    /// Whether the request was a HEAD, whose answer has no body.
    pub(crate) to_head: bool,
}

/// Spoils an answer.
pub(crate) fn spoil(fault: &Fault, answer: Answer) -> Spoiled {
    let Answer { response, last_success, to_head } = answer;
    let delivery = match fault {
        Fault::Hang {} => Delivery::Never,
        Fault::HangUp { ms } => end(Bytes::new(), false, Duration::from_millis(*ms)),
        Fault::Reset {} => end(Bytes::new(), true, Duration::ZERO),
        Fault::FinMidHeaders {} => {
            end(Bytes::from_static(b"HTTP/1.1 201 Created\r\ncontent-ty"), false, Duration::ZERO)
        }
        Fault::FinMidBody {} => end(cut(&response, response.body.len() / 2, to_head), false, Duration::ZERO),
        Fault::Truncate { bytes } => end(cut(&response, *bytes, to_head), false, Duration::ZERO),
        Fault::Status { status, body, headers } => Delivery::Whole(status_of_choice(*status, body.as_ref(), headers)),
        Fault::Html { status } => Delivery::Whole(FakeResponse {
            status: *status,
            headers: vec![("content-type".to_owned(), "text/html".to_owned())],
            body: Bytes::from_static(b"<!doctype html><title>Blocked</title><p>Your request was blocked."),
        }),
        Fault::Empty { status } => Delivery::Whole(FakeResponse::empty(*status)),
        Fault::Oversize { bytes } => {
            let body = Payload::oversize(&response.body, *bytes as u64);
            Delivery::Streamed(response, body)
        }
        Fault::SlowBytes { ms } => {
            let body = Payload::drip(response.body.clone(), Duration::from_millis(*ms));
            Delivery::Streamed(response, body)
        }
        Fault::CommitLater { ms } => Delivery::CommitLater(Duration::from_millis(*ms)),
        Fault::GzipBomb { bytes } => Delivery::Whole(FakeResponse {
            status: 200,
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("content-encoding".to_owned(), "gzip".to_owned()),
            ],
            body: bomb(*bytes),
        }),
        Fault::Delay { ms } => Delivery::Late(response, Duration::from_millis(*ms)),
        Fault::WrongType { pointer } => return edited(response, |body| wrong_type(body, pointer)),
        Fault::Rename { pointer, to } => return edited(response, |body| rename(body, pointer, to)),
        Fault::Remove { pointer } => {
            return edited(response, |body| {
                parent_of(body, pointer).is_some_and(|(parent, name)| parent.remove(&name).is_some())
            });
        }
        Fault::ExtraMember {} => return edited(response, extra_member),
        Fault::DuplicateKey { pointer } => return duplicated(response, pointer.as_deref()),
        Fault::Redirect { location } => Delivery::Whole(FakeResponse {
            status: 307,
            headers: vec![("location".to_owned(), location.clone())],
            body: Bytes::new(),
        }),
        Fault::Unauthorized {} => Delivery::Whole(FakeResponse::json(401, &json!({ "message": "Unauthorized" }))),
        Fault::TooMany { retry_after } => {
            let mut out = FakeResponse::json(429, &json!({ "message": "Too many requests" }));
            out.headers.extend(retry_after.iter().map(|v| ("retry-after".to_owned(), v.clone())));
            Delivery::Whole(out)
        }
        Fault::OtherClient {} => {
            let missed = last_success.is_none();
            return Spoiled { delivery: Delivery::Whole(last_success.unwrap_or(response)), missed };
        }
    };
    Spoiled { delivery, missed: false }
}

/// `bytes` zeros, compressed; nothing if memory cannot be written, which does not happen.
fn bomb(bytes: u64) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = io::copy(&mut io::repeat(b' ').take(bytes), &mut encoder).and_then(|_| encoder.finish());
    written.map(Bytes::from).unwrap_or_default()
}

fn end(bytes: Bytes, reset: bool, pause: Duration) -> Delivery {
    Delivery::Instead(Instead { bytes, reset }, pause)
}

fn status_of_choice(status: u16, body: Option<&Value>, headers: &Map<String, Value>) -> FakeResponse {
    let mut out = match body {
        None => FakeResponse::empty(status),
        Some(Value::String(text)) => FakeResponse {
            status,
            headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
            body: Bytes::from(text.clone()),
        },
        Some(body) => FakeResponse::json(status, body),
    };
    for (name, value) in headers.iter().filter_map(|(n, v)| v.as_str().map(|v| (n.to_ascii_lowercase(), v))) {
        // the chosen content type instead of ours, not beside it
        out.headers.retain(|(existing, _)| *existing != name);
        out.headers.push((name, value.to_owned()));
    }
    out
}

/// The start of an answer as bytes: `bytes` of the body under the length of the whole, and always less than what the
/// header promises, because an answer that is complete would be no fault.
fn cut(response: &FakeResponse, bytes: usize, to_head: bool) -> Bytes {
    let mut out = format!("HTTP/1.1 {} Cut\r\n", response.status).into_bytes();
    for (name, value) in response.headers.iter().filter(|(name, _)| !is_framing(name)) {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let no_body = StatusCode::NO_CONTENT == response.status || StatusCode::NOT_MODIFIED == response.status;
    if to_head || no_body {
        // such an answer is complete after its header: it can only be cut inside
        return Bytes::from(out);
    }
    let sent = response.body.get(..bytes).unwrap_or(&response.body);
    let claimed = response.body.len().max(sent.len() + 1);
    out.extend_from_slice(format!("content-length: {claimed}\r\n\r\n").as_bytes());
    out.extend_from_slice(sent);
    Bytes::from(out)
}

/// The answer with a changed JSON body; as it was if `edit` finds nothing to change.
fn edited(response: FakeResponse, edit: impl FnOnce(&mut Value) -> bool) -> Spoiled {
    let body =
        serde_json::from_slice::<Value>(&response.body).ok().and_then(|mut body| edit(&mut body).then_some(body));
    replaced(response, body.map(|body| body.to_string()))
}

fn replaced(response: FakeResponse, body: Option<String>) -> Spoiled {
    let missed = body.is_none();
    let body = body.map_or_else(|| response.body.clone(), Bytes::from);
    Spoiled { delivery: Delivery::Whole(FakeResponse { body, ..response }), missed }
}

fn wrong_type(body: &mut Value, pointer: &str) -> bool {
    body.pointer_mut(pointer).map(|slot| *slot = if slot.is_array() { json!(7) } else { json!([7]) }).is_some()
}

fn rename(body: &mut Value, pointer: &str, to: &str) -> bool {
    let Some((parent, name)) = parent_of(body, pointer) else { return false };
    let Some(value) = parent.remove(&name) else { return false };
    parent.insert(to.to_owned(), value);
    true
}

/// The object that has the member at a pointer, and the member's name.
fn parent_of<'v>(body: &'v mut Value, pointer: &str) -> Option<(&'v mut Map<String, Value>, String)> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let parent = body.pointer_mut(parent)?.as_object_mut()?;
    Some((parent, name.replace("~1", "/").replace("~0", "~")))
}

/// Adds the unknown member to every object; says whether there was one.
fn extra_member(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            for member in map.values_mut() {
                extra_member(member);
            }
            map.insert("x_future_member".to_owned(), json!("from a later version"));
            true
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| extra_member(item) | any),
        _ => false,
    }
}

/// The answer with one member twice: [`Value`] cannot hold that, so it is written by hand.
fn duplicated(response: FakeResponse, pointer: Option<&str>) -> Spoiled {
    let body = serde_json::from_slice::<Value>(&response.body).ok().and_then(|body| {
        let target = pointer.map_or_else(|| first_member(&body, String::new()), |p| Some(p.to_owned()))?;
        let parent = target.rsplit_once('/').and_then(|(parent, _)| body.pointer(parent))?;
        let found = parent.is_object() && body.pointer(&target).is_some();
        found.then(|| {
            let mut out = String::with_capacity(response.body.len() * 2);
            write_twice(&body, "", &target, &mut out);
            out
        })
    });
    replaced(response, body)
}

/// The pointer to the first member of the first object that has one.
fn first_member(value: &Value, at: String) -> Option<String> {
    match value {
        Value::Object(map) => map.keys().next().map(|name| below(&at, name)),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| first_member(item, format!("{at}/{i}"))),
        _ => None,
    }
}

fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Writes `value`, which is at the pointer `at`, with the member at `target` twice.
fn write_twice(value: &Value, at: &str, target: &str, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut separator = '{';
            for (name, member) in map {
                let here = below(at, name);
                for _ in 0..if here == target { 2 } else { 1 } {
                    out.push(std::mem::replace(&mut separator, ','));
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push(':');
                    write_twice(member, &here, target, out);
                }
            }
            out.push_str(if map.is_empty() { "{}" } else { "}" });
        }
        Value::Array(items) => {
            let mut separator = '[';
            for (i, item) in items.iter().enumerate() {
                out.push(std::mem::replace(&mut separator, ','));
                write_twice(item, &format!("{at}/{i}"), target, out);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_small_until_it_is_opened() {
        let small = bomb(4 << 20);
        assert!(small.len() < 8 << 10, "{}", small.len());
        let mut opened = flate2::read::GzDecoder::new(small.as_ref());
        assert_eq!(io::copy(&mut opened, &mut io::sink()).unwrap(), 4 << 20);
    }

    fn play(fault: &Fault, body: &Value) -> (String, bool) {
        let response = FakeResponse::json(200, body);
        let spoiled = spoil(fault, Answer { response, last_success: None, to_head: false });
        match spoiled.delivery {
            Delivery::Whole(r) => (String::from_utf8(r.body.to_vec()).unwrap(), spoiled.missed),
            _ => panic!("{fault:?} has no body to look at"),
        }
    }

    fn at(pointer: &str) -> String {
        pointer.to_owned()
    }

    #[test]
    fn members_change_where_the_pointer_says_and_nowhere_else() {
        let body = json!({ "a": { "b/c": "x", "l": [1] }, "b/c": "y" });
        for (fault, expected) in [
            (Fault::WrongType { pointer: at("/a/b~1c") }, json!({ "a": { "b/c": [7], "l": [1] }, "b/c": "y" })),
            (Fault::WrongType { pointer: at("/a/l") }, json!({ "a": { "b/c": "x", "l": 7 }, "b/c": "y" })),
            (Fault::Rename { pointer: at("/a/l"), to: at("m") }, json!({ "a": { "b/c": "x", "m": [1] }, "b/c": "y" })),
            (Fault::Remove { pointer: at("/b~1c") }, json!({ "a": { "b/c": "x", "l": [1] } })),
        ] {
            let (text, missed) = play(&fault, &body);
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected, "{fault:?}");
            assert!(!missed);
        }
    }

    #[test]
    fn a_fault_that_finds_nothing_says_so() {
        let body = json!({ "a": [1] });
        for fault in [
            Fault::WrongType { pointer: at("/b") },
            Fault::Rename { pointer: at("/b"), to: at("c") },
            Fault::Remove { pointer: at("/a/0") },
            Fault::DuplicateKey { pointer: Some(at("/a/0")) },
            Fault::DuplicateKey { pointer: Some(at("/b")) },
            Fault::OtherClient {},
        ] {
            assert_eq!(play(&fault, &body), (body.to_string(), true), "{fault:?}");
        }
        let (text, missed) = play(&Fault::ExtraMember {}, &json!([1, "x"]));
        assert_eq!((text.as_str(), missed), (r#"[1,"x"]"#, true));
    }

    #[test]
    fn every_object_gets_an_unknown_member() {
        let (text, missed) = play(&Fault::ExtraMember {}, &json!({ "data": [{ "n": 1 }, 2] }));
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(body["x_future_member"].is_string() && body["data"][0]["x_future_member"].is_string());
        assert_eq!((&body["data"][0]["n"], &body["data"][1], missed), (&json!(1), &json!(2), false));
    }

    #[test]
    fn a_member_stands_in_the_text_twice() {
        let body = json!({ "a": { "q\"": 1.5, "z": [] }, "b": [{}, { "c": null }] });
        for (pointer, expected) in [
            (None, r#"{"a":{"q\"":1.5,"z":[]},"a":{"q\"":1.5,"z":[]},"b":[{},{"c":null}]}"#),
            (Some("/a/z"), r#"{"a":{"q\"":1.5,"z":[],"z":[]},"b":[{},{"c":null}]}"#),
            (Some("/b/1/c"), r#"{"a":{"q\"":1.5,"z":[]},"b":[{},{"c":null,"c":null}]}"#),
        ] {
            let fault = Fault::DuplicateKey { pointer: pointer.map(str::to_owned) };
            assert_eq!(play(&fault, &body), (expected.to_owned(), false));
        }
        assert_eq!(play(&Fault::DuplicateKey { pointer: None }, &json!([[], { "a": 1 }])).0, r#"[[],{"a":1,"a":1}]"#);
    }

    #[test]
    fn a_cut_answer_is_never_complete() {
        let text = |response: &FakeResponse, bytes, to_head| {
            String::from_utf8(cut(response, bytes, to_head).to_vec()).unwrap()
        };
        let some = FakeResponse::json(200, &json!({ "a": 1 }));
        assert!(text(&some, 3, false).ends_with("content-length: 7\r\n\r\n{\"a"));
        assert!(text(&some, 99, false).ends_with("content-length: 8\r\n\r\n{\"a\":1}"));
        assert!(text(&FakeResponse::empty(200), 0, false).ends_with("content-length: 1\r\n\r\n"));
        for (response, to_head) in [(FakeResponse::empty(204), false), (some, true)] {
            assert!(!text(&response, 0, to_head).contains("\r\n\r\n"));
        }
    }
}
