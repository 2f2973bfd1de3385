//! Software statements (RFC 7591 §2.3). No issuer of statements is trusted: a statement is either unacceptable as such,
//! or by somebody who is not approved. It is never ignored, because its claims would outrank the metadata beside it.

use registrar_core::{Error, ErrorKind, Result};
use registrar_model::{Issue, IssueCode, Pointer};
use serde_json::{Map, Value};

/// What is wrong with a software statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// It is no signed JWT with an issuer.
    Invalid,
    /// Its issuer is not approved.
    Unapproved,
}

/// Refuses a software statement.
///
/// # Errors
/// What is wrong with it, and an error with an issue that says so.
pub fn check(body: &Map<String, Value>) -> Result<(), (Statement, Error)> {
    let statement = match body.get("software_statement") {
        None | Some(Value::Null) => return Ok(()),
        Some(value) => value.as_str().unwrap_or_default(),
    };
    let (what, detail) = if is_signed(statement) {
        (Statement::Unapproved, "the issuer of this software statement is not approved here")
    } else {
        (Statement::Invalid, "not a signed JWT with an `iss` claim (RFC 7591 section 2.3)")
    };
    let pointer = Pointer::root().child("metadata").child("software_statement");
    let issue = Issue { pointer, code: IssueCode::InvalidValue, detail: detail.to_owned() };
    Err((what, Error::new(ErrorKind::Validation, detail).with_issues(vec![issue])))
}

/// Three parts, a header with an algorithm that signs, claims with an issuer.
fn is_signed(statement: &str) -> bool {
    let parts: Vec<&str> = statement.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return false };
    let object = |part: &str| decode(part).and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
    let (Some(header), Some(claims)) = (object(header), object(claims)) else { return false };
    let text = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let (alg, issuer) = (text(&header, "alg"), text(&claims, "iss"));
    !alg.is_empty()
        && !alg.eq_ignore_ascii_case("none")
        && !issuer.is_empty()
        && decode(signature).is_some_and(|s| !s.is_empty())
}

/// Base64url without padding (RFC 7515 §2).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held).to_be_bytes()[3]);
        }
    }
    (text.len() % 4 != 1).then_some(out)
}
