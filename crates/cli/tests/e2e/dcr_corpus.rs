//! The labelled URIs of the model's `tests/corpus`, over HTTP: what is refused reaches no vendor, what is accepted reaches
//! it byte for byte.

use serde_json::{Value, json};

use crate::dcr::{metadata, open, register, with};

const REDIRECT_URIS: &str = include_str!("../../../model/tests/corpus/redirect_uris.tsv");
const URL_MEMBERS: &str = include_str!("../../../model/tests/corpus/url_members.tsv");

/// The rows of a table: profile or member, verdict, error, the value, why.
fn rows(table: &'static str) -> Vec<([&'static str; 3], Value)> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let [profile, label, error, uri, _] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        ([profile, label, error], serde_json::from_str(uri).unwrap())
    };
    lines.map(row).collect()
}

/// The members of a profile; `any` is a native client with POST and a web client with PUT, the model's test has all four.
fn client(profile: &str, method: &str, uri: &Value) -> Value {
    let application_type = match (profile, method) {
        ("any", "POST") | ("native-implicit", _) => "native",
        _ => "web",
    };
    let implicit = profile.ends_with("-implicit");
    let (grant, response) = if implicit { ("implicit", "token") } else { ("authorization_code", "code") };
    with(
        json!({ "application_type": application_type, "grant_types": [grant], "response_types": [response], "redirect_uris": [uri] }),
    )
}

#[test]
fn cve_2026_22752_cve_2026_59354_redirect_uris_over_http_are_refused_and_accepted_as_labelled() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    let (refused, accepted): (Vec<_>, Vec<_>) =
        rows(REDIRECT_URIS).into_iter().partition(|([_, label, _], _)| *label == "reject");
    assert!(refused.len() > 200 && accepted.len() > 100);
    let before = gateway.fakes.ledger(None).len();
    for ([profile, _, error], uri) in &refused {
        for method in ["POST", "PUT"] {
            let body = client(profile, method, uri);
            let answer = match method {
                "POST" => gateway.post("/register", &body),
                _ => own.call(&gateway, method, &own.update(body)),
            };
            assert_eq!((answer.status, answer.text("/error")), (400, (*error).to_owned()), "{method} {profile} {uri}");
            assert!(answer.text("/error_description").is_ascii(), "{uri}");
        }
    }
    assert_eq!(gateway.fakes.ledger(None).len(), before, "a refused registration reached a vendor");

    for ([profile, ..], uri) in &accepted {
        let made = gateway.post("/register", &client(profile, "POST", uri));
        assert_eq!((made.status, &made.json()["redirect_uris"]), (201, &json!([uri])), "{uri}: {}", made.json());
        let changed = own.call(&gateway, "PUT", &own.update(client(profile, "PUT", uri)));
        assert_eq!((changed.status, &changed.json()["redirect_uris"]), (200, &json!([uri])), "{uri}");
        assert_eq!(own.get(&gateway).json()["redirect_uris"], json!([uri]), "{uri}");
    }
    let entries = gateway.fakes.ledger(Some("rfc7591"));
    let sent = |method: &str| -> Vec<Value> {
        let bodies = entries[before..].iter().filter(|e| e.method == method).filter_map(|e| e.request_body.clone());
        bodies.map(|mut body| body["redirect_uris"].take()).collect()
    };
    let wanted: Vec<Value> = accepted.iter().map(|(_, uri)| json!([uri])).collect();
    assert_eq!(sent("POST"), wanted);
    assert_eq!(sent("PUT"), wanted);
}

#[test]
fn other_urls_over_http_are_refused_as_labelled() {
    let gateway = open();
    let own = register(&gateway, "rfc7591", &metadata());
    let before = gateway.fakes.ledger(None).len();
    for ([member, label, error], url) in rows(URL_MEMBERS) {
        if label == "accept" {
            // which of them a vendor holds is the vendor's affair; the model's test has them all
            continue;
        }
        let value = if member.ends_with("_uris") { json!([url]) } else { url };
        let body = with(json!({ member: value }));
        for answer in [gateway.post("/register", &body), own.call(&gateway, "PUT", &own.update(body.clone()))] {
            assert_eq!((answer.status, answer.text("/error")), (400, error.to_owned()), "{body}");
        }
    }
    assert_eq!(gateway.fakes.ledger(None).len(), before, "a refused registration reached a vendor");
}
