//! The schemas of requests against the code: both have to say the same of every labelled URI.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use registrar_model::uri::{TAKEN_SCHEMES, UrlUse, redirect_fault, url_fault};
use serde_json::{Value, json};

const REDIRECT_URIS: &str = include_str!("../../crates/model/tests/corpus/redirect_uris.tsv");
const URL_MEMBERS: &str = include_str!("../../crates/model/tests/corpus/url_members.tsv");

/// What only a parser of URIs can tell from its plain form: those that the schema allows, and the code refuses.
const BEYOND_PATTERNS: [&str; 2] = ["its host is not written in its plain form", "it cannot be parsed"];

/// Whether the schema of a member allows this URI.
fn checks() -> impl Fn(&str, &Value) -> bool {
    let mut document = registrar_server::openapi::document("http://127.0.0.1:8080");
    let schemas = document["components"]["schemas"].take();
    let schema = json!({ "$ref": "#/components/schemas/NewClientMetadata", "components": { "schemas": schemas } });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    move |member, uri| {
        let value = if member.ends_with("_uris") { json!([uri]) } else { uri.clone() };
        validator.is_valid(&json!({ member: value }))
    }
}

/// The first and the fourth column of each row: a member, and a URI that is one or is to be none.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, Value)> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        (columns[0], serde_json::from_str(columns[3]).unwrap())
    })
}

fn compare(member: &str, uri: &Value, fault: Option<&str>, allowed: bool, wrong: &mut Vec<String>) {
    let beyond = fault.is_some_and(|fault| BEYOND_PATTERNS.contains(&fault));
    if allowed != fault.is_none() && !(allowed && beyond) {
        wrong.push(format!("{member} {uri}: allowed by its schema: {allowed}; by the code: {fault:?}"));
    }
}

#[test]
fn a_schema_allows_the_redirect_uris_that_the_code_allows() {
    let check = checks();
    let mut wrong = Vec::new();
    let schemes = TAKEN_SCHEMES.iter().flat_map(|scheme| {
        [scheme.to_string(), scheme.to_uppercase(), format!("{scheme}x")].map(|scheme| json!(format!("{scheme}:/cb")))
    });
    let more = [
        "http://127.0.0.2/cb",
        "http://127.1.2.3:8080/cb",
        "http://LOCALHOST/cb",
        "http://localhost./cb",
        "https://a!b.example/cb",
        "https://a_b.example/cb",
        "https://-a.example/",
        "https://a-.example/",
        "https://a.example/*",
        "https://a.example/?x=*",
        "https://a.1/",
        "https://a.0x1f/",
        "https://a.example:65535/",
        "https://a.example:65536/",
        "https://a.example:/",
        "https://a.example/%c0%ae",
        "https://a.example/%1f",
        "https://a.example/%7F",
        "https://a.example/%7e%C2%A0",
        "app:cb",
        "app:/",
        "app:/?x",
        "app://",
        "app:///",
        "app:?x",
        "app:8080",
        "app:8080x",
        "app:8080/x",
        "app://u@h/x",
        "app:u@h",
        "app://h:1/x",
        "app://h:99999/x",
        "app://h:a/x",
        "app:..",
        "app:../x",
        "app:a/../x",
        "app:/a/%2e%2e;x",
        "a:cb",
        "a.b:cb",
        "a..b:cb",
        ".a:cb",
        "a.:cb",
        "1a:cb",
        "app:/a*",
        "app:/a[b]",
        "app://a[b]/",
        "app:/a#b",
        "app://[::1]/x",
    ];
    let more = more.into_iter().map(|uri| json!(uri));
    let all: Vec<Value> = rows(REDIRECT_URIS).map(|(_, uri)| uri).chain(schemes).chain(more).collect();
    for uri in &all {
        compare("redirect_uris", uri, redirect_fault(uri.as_str().unwrap()), check("redirect_uris", uri), &mut wrong);
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn a_schema_allows_the_urls_that_the_code_allows() {
    let check = checks();
    let mut wrong = Vec::new();
    let more = [
        "https://a.example/x",
        "http://localhost/x",
        "http://127.0.0.1:80/x",
        "http://127.0.0.2/x",
        "http://[::1]/x",
        "https://intranet/x",
        "https://a.local/x",
        "https://a.LOCAL./x",
        "https://home.arpa/x",
        "https://a.home.arpa:1/x",
        "https://a.locale/x",
        "https://localhost.example/x",
        "https://a!b.example/x",
        "https://a.example/*",
        "https://a.example/#x",
        "https://10.0.0.1/x",
        "https://a.example/../x",
        "https:a.example://a.example/x",
    ];
    let members = [
        ("client_uri", UrlUse::Shown),
        ("initiate_login_uri", UrlUse::FollowedOverTls),
        ("frontchannel_logout_uri", UrlUse::Followed),
        ("jwks_uri", UrlUse::Fetched),
        ("request_uris", UrlUse::RequestObject),
    ];
    for (member, purpose) in members {
        let labelled = rows(URL_MEMBERS).map(|(_, uri)| uri).chain(rows(REDIRECT_URIS).map(|(_, uri)| uri));
        // an empty text is an absent member
        for uri in labelled.chain(more.into_iter().map(|uri| json!(uri))).filter(|uri| *uri != "") {
            let fault = url_fault(uri.as_str().unwrap(), purpose);
            compare(member, &uri, fault, check(member, &uri), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_standards_face_lists_what_it_reads() {
    let document = registrar_server::openapi::document("http://127.0.0.1:8080");
    let schemas = &document["components"]["schemas"];
    let lists: Vec<_> = registrar_engine::dcr::choices().collect();
    assert_eq!(lists.len(), 19);
    for (list, member) in lists {
        for name in ["NewClientMetadata", "OwnClientMetadata"] {
            let schema = &schemas[name]["properties"][list];
            let validator = jsonschema::draft202012::new(schema).unwrap();
            let word = match member {
                "token_endpoint_auth_method" => "client_secret_basic",
                "subject_type" => "public",
                _ => "ES256",
            };
            for good in [json!([word]), json!(["not understood", word]), json!(null)] {
                assert!(validator.is_valid(&good), "{name} {list}: {good}");
            }
            for bad in [json!([]), json!(word), json!(["not understood"]), json!([word, 1]), json!(vec![word; 33])] {
                assert!(!validator.is_valid(&bad), "{name} {list}: {bad}");
            }
        }
        // the administration face ignores them, whatever they are
        assert!(schemas["NewRegistrationMetadata"]["properties"].get(list).is_none());
    }
    for path in ["/register", "/{route}/register", "/{route}/register/{ticket}"] {
        let call = &document["paths"][path]["post"];
        let key = json!({ "$ref": "#/components/parameters/Idempotency-Key" });
        assert!(call["parameters"].as_array().unwrap().contains(&key), "{path}");
        for status in ["409", "422", "500"] {
            let schema = &call["responses"][status]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/RegistrationError", "{path} {status}");
        }
    }
}
