//! How a command fails: a text for people and an exit code.

use serde_json::Value;

/// Usage or something on this machine.
pub(crate) const LOCAL: u8 = 1;
/// The server or the way to it.
pub(crate) const REMOTE: u8 = 2;
/// Refused by policy or because something would be lost.
pub(crate) const REFUSED: u8 = 3;
/// Done, and something is lost.
pub(crate) const LOST: u8 = 4;
/// Nobody knows whether it was done.
pub(crate) const UNKNOWN: u8 = 6;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn local(text: impl Into<String>) -> Self {
        Self { code: LOCAL, text: format!("error: {}", text.into()) }
    }

    pub(crate) fn remote(text: impl Into<String>) -> Self {
        Self { code: REMOTE, text: format!("error: {}", text.into()) }
    }

    /// From an error of the gateway's own parts.
    pub(crate) fn of(error: &registrar_core::Error) -> Self {
        let mut text = format!("error: {}", error.detail_with_advice());
        for issue in error.issues() {
            text.push_str(&format!("\n  {}: {}", issue.pointer, issue.detail));
        }
        text.push_str(&format!("\n  code: {}, outcome: {}", error.kind().slug(), error.outcome().as_str()));
        Self { code: code_of(error.kind().slug()), text }
    }

    /// From a problem document (RFC 9457).
    pub(crate) fn problem(status: u16, problem: &Value) -> Self {
        let text_of = |name: &str| problem.get(name).and_then(Value::as_str);
        let code = text_of("code").unwrap_or("");
        let mut text =
            format!("error: {}", text_of("detail").or(text_of("title")).unwrap_or("the server refused the request"));
        for issue in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let part = |name: &str| issue.get(name).and_then(Value::as_str).unwrap_or("");
            text.push_str(&format!("\n  {}: {}", part("pointer"), part("detail")));
        }
        if let Some(vendor) = problem.get("vendor") {
            let said = ["code", "message"]
                .iter()
                .filter_map(|n| vendor.get(n).and_then(Value::as_str))
                .collect::<Vec<_>>()
                .join(": ");
            text.push_str(&format!("\n  the vendor said: {said}"));
        }
        if let Some(seconds) = problem.get("retry_after").and_then(Value::as_u64) {
            text.push_str(&format!("\n  try again in {seconds} s"));
        }
        let facts = [("outcome", "outcome"), ("operation", "operation"), ("request_id", "request")];
        let facts: Vec<String> =
            facts.iter().filter_map(|(n, label)| text_of(n).map(|v| format!("{label}: {v}"))).collect();
        text.push_str(&format!("\n  HTTP {status}, code: {code}, {}", facts.join(", ")));
        let code = if text_of("outcome") == Some("unknown") { UNKNOWN } else { code_of(code) };
        Self { code, text }
    }

    /// A write of which nobody knows whether it was done: how to find out, and how to repeat it as the same write.
    pub(crate) fn unknown(self, key: &str) -> Self {
        let text = format!(
            "{}\n  outcome unknown; repeat with `--idempotency-key {key}` (it stays one write), or look at `registrar operations list --state unknown`",
            self.text
        );
        Self { code: UNKNOWN, text }
    }
}

/// The exit code of a problem's `code`.
fn code_of(slug: &str) -> u8 {
    match slug {
        "unsupported-by-backend" | "no-route" | "forbidden" => REFUSED,
        "validation-error" | "invalid-redirect-uri" | "unsupported-value" | "malformed-body" | "invalid-request" => {
            LOCAL
        }
        _ => REMOTE,
    }
}
