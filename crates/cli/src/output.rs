//! Printing: data to stdout, notes to stderr.

use std::io::Write as _;

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

use crate::failure::Failure;

/// A line for people, on stderr.
pub(crate) fn note(text: &str) {
    // nothing can be said when stderr is gone
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Data, on stdout. A closed pipe (`| head`) is not an error.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::local(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// A value as JSON, on stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::local(e.to_string()))?;
    data(&text)
}

/// A rule below the header and nothing else: easy to read, easy to cut.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table for people. It fits the terminal; in a pipe, lines are as long as they need to be.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = std::env::var("COLUMNS").ok().and_then(|c| c.parse::<u16>().ok()) {
        table.set_width(width);
    }
    table.set_header(header.iter().copied());
    table
}

/// A table of losses.
pub(crate) fn losses(losses: &[registrar_model::Loss]) -> String {
    let mut out = table(&["field", "what happens", "severity", "wanted", "got", "why"]);
    for loss in losses {
        let show = |v: &Option<serde_json::Value>| v.as_ref().map(short).unwrap_or_default();
        let word = |v: serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        out.add_row([
            loss.field.to_string(),
            word(serde_json::json!(loss.kind)),
            word(serde_json::json!(loss.severity)),
            show(&loss.wanted),
            show(&loss.got),
            loss.reason.to_string(),
        ]);
    }
    out.to_string()
}

/// A number of things, in words: "1 backend", "2 backends".
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A value in a cell.
pub(crate) fn short(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::String(s) => s.clone(),
        serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_string) => {
            items.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    if text.chars().count() > 60 { format!("{}…", text.chars().take(59).collect::<String>()) } else { text }
}
