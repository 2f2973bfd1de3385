//! `registrar vendors`

use registrar_adapters::VENDORS;
use registrar_core::Support;
use serde_json::Value;

use crate::{args::Format, failure::Failure, output};

pub(crate) fn run(format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(&registrar_engine::matrix::vendors(VENDORS));
    }
    let mut header = vec!["".to_owned()];
    header.extend(VENDORS.iter().map(|v| v.descriptor.kind.to_owned()));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();

    let mut operations = output::table(&header);
    let words: Vec<Value> = VENDORS.iter().map(|v| serde_json::json!(v.descriptor.operations)).collect();
    for name in ["create", "read", "list", "update", "disable", "delete", "rotate_secret"] {
        let cells = words.iter().map(|w| w.get(name).and_then(Value::as_str).unwrap_or("").to_owned());
        operations.add_row(std::iter::once(name.to_owned()).chain(cells));
    }
    let mut fields = output::table(&header);
    // a note that several fields of a kind share is printed once
    let mut notes: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for field in registrar_model::field::all() {
        let support: Vec<Support> = VENDORS.iter().map(|v| v.descriptor.support(field.path)).collect();
        if support.iter().all(|s| *s == Support::Unsupported) {
            continue;
        }
        let mut row = vec![field.path.to_owned()];
        for (vendor, support) in VENDORS.iter().zip(&support) {
            let cell = match support.note() {
                Some(note) => {
                    let kind = vendor.descriptor.kind;
                    let place = notes.iter().position(|(k, n, _)| (*k, *n) == (kind, note)).unwrap_or(notes.len());
                    match notes.get_mut(place) {
                        Some((_, _, fields)) => fields.push(field.path),
                        None => notes.push((kind, note, vec![field.path])),
                    }
                    format!("partial [{}]", place + 1)
                }
                None => support.word().replace("unsupported", "-"),
            };
            row.push(cell);
        }
        fields.add_row(row);
    }
    let notes = notes.iter().enumerate().map(|(place, (kind, note, fields))| {
        let fields = match fields.as_slice() {
            [one] => one.to_string(),
            many => format!("{} fields", many.len()),
        };
        format!("[{}] {kind}, {fields}: {note}", place + 1)
    });
    let notes: Vec<String> = notes.collect();
    output::data(&format!(
        "{operations}\n\n{fields}\n\n{}\n\nFields that are not listed: no vendor holds them. -o json has everything.",
        notes.join("\n")
    ))
}
