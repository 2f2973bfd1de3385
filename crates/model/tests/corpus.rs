//! The labelled URIs of `tests/corpus`: each is accepted or refused as the text in its last column says, with the error of
//! RFC 7591 §3.2.2 that its third column says.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeSet;

use registrar_model::{IssueCode, NewRegistration};
use serde_json::{Value, json};

/// The rows of a table, each with the number of its line and its five columns.
fn rows(table: &str) -> Vec<(usize, [&str; 5])> {
    let lines = table.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines.map(|(i, line)| (i + 1, line.split('\t').collect::<Vec<_>>().try_into().unwrap())).collect()
}

/// The error that RFC 7591 §3.2.2 has for this metadata; `-` when it is accepted.
fn verdict(metadata: &Value) -> &'static str {
    match NewRegistration::decode(&json!({ "metadata": metadata })).and_then(|asked| asked.validate()) {
        Ok(_) => "-",
        Err(issues) if issues.iter().all(|i| i.code == IssueCode::InvalidRedirectUri) => "invalid_redirect_uri",
        Err(_) => "invalid_client_metadata",
    }
}

fn metadata(application_type: &str, grant: &str, uri: &Value) -> Value {
    let response = if grant == "implicit" { "token" } else { "code" };
    json!({ "application_type": application_type, "grant_types": [grant], "response_types": [response], "redirect_uris": [uri] })
}

/// Every line that is wrong, and how many are.
#[track_caller]
fn none_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn redirect_uris_are_accepted_and_refused_as_labelled() {
    let rows = rows(include_str!("corpus/redirect_uris.tsv"));
    let mut distinct = BTreeSet::new();
    let mut wrong = Vec::new();
    for (line, [profile, label, error, uri, why]) in rows {
        let value: Value = serde_json::from_str(uri).unwrap();
        distinct.insert(value.as_str().unwrap().to_owned());
        assert!(matches!((label, error), ("accept", "-") | ("reject", "invalid_redirect_uri")), "line {line}");
        let profiles: &[(&str, &str)] = match profile {
            "any" => &[("web", "authorization_code"), ("native", "authorization_code")],
            "web-implicit" => &[("web", "implicit")],
            "native-implicit" => &[("native", "implicit")],
            other => panic!("line {line}: no such profile: {other}"),
        };
        for (application_type, grant) in profiles {
            let found = verdict(&metadata(application_type, grant, &value));
            if found != error {
                wrong.push(format!("line {line} {application_type} {grant}: {uri} is {found}, not {error}: {why}"));
            }
        }
    }
    none_wrong(&wrong);
    assert!(distinct.len() >= 250, "only {} URIs", distinct.len());
}

#[test]
fn url_members_are_accepted_and_refused_as_labelled() {
    let mut members = BTreeSet::new();
    let mut wrong = Vec::new();
    for (line, [member, label, error, url, why]) in rows(include_str!("corpus/url_members.tsv")) {
        let value: Value = serde_json::from_str(url).unwrap();
        assert!(matches!((label, error), ("accept", "-") | ("reject", "invalid_client_metadata")), "line {line}");
        members.insert(member);
        let mut metadata = metadata("web", "authorization_code", &json!("https://a.example/cb"));
        metadata[member] = if member.ends_with("_uris") { json!([value]) } else { value };
        let found = verdict(&metadata);
        if found != error {
            wrong.push(format!("line {line} {member}: {url} is {found}, not {error}: {why}"));
        }
    }
    none_wrong(&wrong);
    // a member that is added to the model is added to the table
    let typed = registrar_model::metadata::FIELDS.iter().map(|f| f.name);
    let urls = typed.filter(|n| n.ends_with("_uri") || n.ends_with("_uris") || n.ends_with("_endpoint"));
    for name in urls.filter(|n| !["redirect_uris", "tls_client_auth_san_uri"].contains(n)) {
        assert!(members.contains(name), "{name} is not in the table");
    }
}
