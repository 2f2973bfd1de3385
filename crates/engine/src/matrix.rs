//! The capability matrix: what each vendor kind can do, as JSON.

use registrar_core::{Descriptor, Vendor};
use serde_json::{Map, Value, json};

/// One vendor kind: operations, every canonical field with how well it is held, limits, models, source of the claims.
#[must_use]
pub fn vendor(descriptor: &Descriptor) -> Value {
    let mut out = match serde_json::to_value(descriptor) {
        Ok(Value::Object(out)) => out,
        _ => Map::new(),
    };
    let named = |list: &[(&str, &str)]| -> Map<String, Value> {
        list.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect()
    };
    out.insert("vendor_members".to_owned(), Value::Object(named(descriptor.vendor_members)));
    out.insert("settings".to_owned(), Value::Object(named(descriptor.settings)));
    let words = descriptor.matrix().map(|(field, support)| (field.path.to_owned(), json!(support.word())));
    out.insert("fields".to_owned(), Value::Object(words.collect()));
    let notes =
        descriptor.matrix().filter_map(|(field, support)| Some((field.path.to_owned(), json!(support.note()?))));
    out.insert("notes".to_owned(), Value::Object(notes.collect()));
    Value::Object(out)
}

/// Every vendor kind.
#[must_use]
pub fn vendors(vendors: &[Vendor]) -> Vec<Value> {
    vendors.iter().map(|v| vendor(v.descriptor)).collect()
}
