//! Laws of the model over generated values.

use std::collections::BTreeSet;

use proptest::prelude::*;
use registrar_model::{
    ClientSpec, Issues, LossKind, Pointer, Position,
    account::{account, diff, drift, effective},
    field::all,
    json, patch,
    uri::{UrlUse, redirect_fault, url_fault},
};
use serde_json::{Map, Value};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        proptest::collection::vec("[a-z]{0,6}", 0..4).prop_map(Value::from),
    ]
}

/// Any JSON under the names of the canonical members, right or wrong.
fn layers() -> impl Strategy<Value = Map<String, Value>> {
    let names: Vec<&'static str> = all().map(|f| f.path).collect();
    proptest::collection::vec((proptest::sample::select(names), scalar()), 0..20).prop_map(|members| {
        let (mut metadata, mut policy) = (Map::new(), Map::new());
        for (path, value) in members {
            match path.split_once('.') {
                Some(("metadata", name)) => metadata.insert(name.to_owned(), value),
                Some((_, name)) => policy.insert(name.to_owned(), value),
                None => None,
            };
        }
        Map::from_iter([("metadata".to_owned(), Value::Object(metadata)), ("policy".to_owned(), Value::Object(policy))])
    })
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

/// What is well typed of such an object.
fn spec(object: &Map<String, Value>) -> ClientSpec {
    ClientSpec::decode(object, &Position::root(), &mut Issues::lenient()).0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(object in layers()) {
        let first = spec(&object);
        let mut issues = Issues::lenient();
        let (second, unknown) = ClientSpec::decode(&first.encode(), &Position::root(), &mut issues);
        prop_assert_eq!(first, second);
        prop_assert!(issues.is_empty() && unknown.is_empty());
    }

    #[test]
    fn every_member_is_read_or_has_an_issue(object in layers()) {
        let mut issues = Issues::new();
        let (read, _) = ClientSpec::decode(&object, &Position::root(), &mut issues);
        let encoded = Value::Object(read.encode());
        for layer in ["metadata", "policy"] {
            for (name, value) in object[layer].as_object().into_iter().flatten().filter(|(_, v)| !is_empty(v)) {
                let kept = encoded[layer].get(name).is_some();
                let prefix = Pointer::root().child(layer).child(name);
                let found = issues.as_slice().iter().any(|i| i.pointer.as_str().starts_with(prefix.as_str()));
                prop_assert!(kept || found, "{}.{} = {} vanished", layer, name, value);
            }
        }
    }

    #[test]
    fn the_account_names_exactly_the_differences(a in layers(), b in layers()) {
        let (sent, read) = (spec(&a), spec(&b));
        let losses = account(&sent, &read, Vec::new());
        let reported: BTreeSet<String> = losses.iter().map(|l| l.field.to_string()).collect();
        prop_assert_eq!(reported.len(), losses.len(), "a field twice");
        prop_assert_eq!(&reported, &diff(&sent, &read));
        // what the vendor shows and nobody sent is drift, too; a default that it no longer shows is none
        prop_assert!(drift(&sent, &read).iter().all(|d| reported.contains(&d.field)));
        // the record shows the vendor's values, and the caller's where only the record keeps them
        let record = effective(&sent, &read, &losses).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        let (record, sent, read) = (record.flatten(), sent.flatten(), read.flatten());
        for (field, value) in &record {
            let local = losses.iter().any(|l| l.field == *field && l.kind == LossKind::LocalOnly);
            prop_assert_eq!(Some(value), if local { sent.get(field) } else { read.get(field) });
        }
        prop_assert!(account(&spec(&a), &spec(&a), Vec::new()).is_empty());
    }

    #[test]
    fn strict_json_agrees_with_the_library_or_refuses(text in "[\\[\\]{}:,\"a0 ]{0,24}|\\PC{0,24}") {
        match (json::parse(text.as_bytes()), serde_json::from_str::<Value>(&text)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (Ok(_), Err(_)) => return Err(TestCaseError::fail("accepted what is not JSON")),
            _ => {}
        }
    }

    #[test]
    fn a_patch_onto_itself_changes_nothing(object in layers()) {
        let target = Value::Object(spec(&object).encode());
        prop_assert_eq!(patch::merge(target.clone(), target.clone()), target.clone());
        prop_assert_eq!(patch::merge(target.clone(), Value::Object(Map::new())), target);
    }

    #[test]
    fn accepted_redirect_uris_are_harmless(uri in "(https|http|javascript|myapp|JAVASCRIPT)?(:|://)?[a-z0-9.@*\\[\\]:/#?%\\\\ \t-]{0,30}|\\PC{0,40}") {
        if redirect_fault(&uri).is_none() {
            let lower = uri.to_ascii_lowercase();
            prop_assert!(uri.is_ascii() && !uri.contains(['#', '\\', ' ', '\t', '\n']));
            prop_assert!(!["javascript:", "data:", "vbscript:", "file:"].iter().any(|s| lower.starts_with(s)));
            if let Some(rest) = lower.strip_prefix("http://") {
                let host = rest.split(['/', ':', '?']).next().unwrap_or("");
                prop_assert!(host == "localhost" || host == "127.0.0.1" || host.starts_with('['), "{}", uri);
            }
        }
        if url_fault(&uri, UrlUse::Fetched).is_none() {
            prop_assert!(uri.to_ascii_lowercase().starts_with("https://") && !uri.contains('@'));
        }
    }
}
