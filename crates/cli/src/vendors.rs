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
    let mut notes = Vec::new();
    for field in registrar_model::field::all() {
        let support: Vec<Support> = VENDORS.iter().map(|v| v.descriptor.support(field.path)).collect();
        if support.iter().all(|s| *s == Support::Unsupported) {
            continue;
        }
        let mut row = vec![field.path.to_owned()];
        for (vendor, support) in VENDORS.iter().zip(&support) {
            let cell = match support.note() {
                Some(note) => {
                    notes.push(format!("[{}] {}, {}: {note}", notes.len() + 1, vendor.descriptor.kind, field.path));
                    format!("partial [{}]", notes.len())
                }
                None => support.word().replace("unsupported", "-"),
            };
            row.push(cell);
        }
        fields.add_row(row);
    }
    output::data(&format!(
        "{operations}\n\n{fields}\n\n{}\n\nFields that are not listed: no vendor holds them. -o json has everything.",
        notes.join("\n")
    ))
}
