use registrar_core::{ErrorKind as K, Outcome};
use serde_json::json;

use super::support::{CLIENT, client_with, now, over_answers, over_fake, portal, target};

#[test]
fn every_documented_error_has_its_kind_by_code_first_and_status_second() {
    use Outcome::{NotPerformed as No, Unknown};
    let documented = [
        (include_str!("../fixtures/error_7914.json").to_owned(), K::Validation, No),
        (include_str!("../fixtures/error_6002.json").to_owned(), K::UpstreamAuthentication, No),
        (include_str!("../fixtures/error_7982.json").to_owned(), K::AlreadyExists, No),
        (include_str!("../fixtures/error_7909.json").to_owned(), K::UpstreamError, Unknown),
        (json!({ "ErrorCode": 7981, "Message": "OAuth configuration not found" }).to_string(), K::UpstreamRejected, No),
        (
            json!({ "ErrorCode": 8014, "Message": "Oauth config client credentials reset failed." }).to_string(),
            K::UnsupportedByBackend,
            No,
        ),
        (json!({ "ErrorCode": 901, "Message": "API key unauthorized" }).to_string(), K::UpstreamAuthentication, No),
        (json!({ "ErrorCode": 902, "Message": "API secret unauthorized" }).to_string(), K::UpstreamAuthentication, No),
        (json!({ "ErrorCode": 920, "Message": "API key is invalid" }).to_string(), K::UpstreamAuthentication, No),
        (
            json!({ "ErrorCode": 908, "Message": "A parameter is not formatted correctly" }).to_string(),
            K::Validation,
            No,
        ),
    ];
    for (body, kind, outcome) in documented {
        let code = serde_json::from_str::<serde_json::Value>(&body).unwrap()["ErrorCode"].as_u64().unwrap();
        // the page prints no statuses: the code decides under any, also under a success
        for status in [200, 400, 401, 404, 409, 500] {
            for body in [
                body.clone(),
                body.replace(&format!(": {code}"), &format!(": \"{code}\""))
                    .replace(&format!(":{code}"), &format!(":\"{code}\"")),
            ] {
                let adapter = over_answers([(status, &*body)]);
                let error = now(adapter.create(&portal())).unwrap_err();
                assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {body}");
                let vendor = error.vendor().unwrap();
                assert_eq!((vendor.status, vendor.code.clone()), (Some(status), Some(code.to_string())));
                assert!(vendor.message.is_some());
            }
        }
    }
}

#[test]
fn an_internal_error_of_a_read_did_nothing() {
    let adapter = over_answers([(500, include_str!("../fixtures/error_7909.json"))]);
    let error = now(adapter.read(&target())).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (K::UpstreamError, Outcome::NotPerformed));
    assert!(error.is_retryable());
}

#[test]
fn unknown_codes_and_no_codes_are_classified_by_status() {
    use Outcome::{NotPerformed as No, Unknown};
    for (status, body, kind, outcome) in [
        (
            400,
            r#"{"ErrorCode":1132,"Message":"?","IsProviderError":false,"ProviderErrorResponse":null}"#,
            K::Validation,
            No,
        ),
        (401, r#"{"error":"invalid_token","error_description":"expired"}"#, K::UpstreamAuthentication, No),
        (403, "", K::UpstreamAuthorization, No),
        (404, "<html>not found</html>", K::UpstreamRejected, No),
        (409, "{}", K::AlreadyExists, No),
        (413, "", K::UpstreamRejected, No),
        (429, r#"{"Message":"Too many requests"}"#, K::UpstreamRateLimited, No),
        (500, "[\"boom\"]", K::UpstreamError, Unknown),
        (502, "<html>bad gateway</html>", K::UpstreamError, Unknown),
        (503, "", K::UpstreamUnavailable, Unknown),
        (302, "", K::UpstreamMalformed, Unknown),
        (200, r#"{"ErrorCode":1132,"Message":"?"}"#, K::UpstreamMalformed, Unknown),
    ] {
        let adapter = over_answers([(status, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{status} {body}");
    }
    let adapter = over_answers([(401, r#"{"error":"invalid_token","error_description":"expired"}"#)]);
    let error = now(adapter.create(&portal())).unwrap_err();
    assert_eq!(error.vendor().unwrap().code.as_deref(), Some("invalid_token"));
    let adapter = over_answers([(400, r#"{"ErrorCode":7914,"Message":"LoginRedirectUri is not valid"}"#)]);
    assert_eq!(now(adapter.create(&portal())).unwrap_err().kind(), K::InvalidRedirectUri);
}

#[test]
fn successes_that_cannot_be_read_are_errors_and_may_have_been_done() {
    let truncated = &CLIENT[..CLIENT.len() / 2];
    for body in ["", " ", "<html>ok</html>", "[\"a\",\"b\"]", "\"done\"", "null", truncated] {
        let adapter = over_answers([(200, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamMalformed, Outcome::Unknown), "{body}");
        let adapter = over_answers([(200, body)]);
        let error = now(adapter.read(&target())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamMalformed, Outcome::NotPerformed), "{body}");
        let adapter = over_answers([(200, body)]);
        assert_eq!(now(adapter.list(None)).unwrap_err().kind(), K::UpstreamMalformed, "{body}");
        let adapter = over_answers([(200, body)]);
        let rotated = now(adapter.rotate_secret(&target()));
        assert_eq!(rotated.unwrap_err().outcome(), Outcome::Unknown, "{body}");
    }
    for status in [202, 204] {
        let adapter = over_answers([(status, CLIENT)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamMalformed, Outcome::Unknown));
    }
}

#[test]
fn another_clients_data_is_refused() {
    let other = client_with(json!({ "ClientId": "99999999-e89b-12d3-a456-426614174000" }));
    let known = super::support::shown(CLIENT).spec;
    let mut changed = known.clone();
    changed.metadata.initiate_login_uri = None;
    for call in ["read", "update", "rotate"] {
        let adapter = over_answers([(200, &*other)]);
        let error = match call {
            "read" => now(adapter.read(&target())).unwrap_err(),
            "update" => now(adapter.update(&target(), &known, &changed)).unwrap_err(),
            _ => now(adapter.rotate_secret(&target())).unwrap_err(),
        };
        assert_eq!(error.kind(), K::UpstreamMalformed, "{call}");
        assert!(error.detail().contains("another client"), "{}", error.detail());
    }
}

#[test]
fn a_list_that_may_go_on_is_an_error_and_not_a_shorter_list() {
    let of = |more: &str| format!("{{\"Data\":[{CLIENT}]{more}}}");
    for fine in ["", ",\"Version\":\"2\"", ",\"Next\":null", ",\"HasMore\":false"] {
        let adapter = over_answers([(200, &*of(fine))]);
        let page = now(adapter.list(None)).unwrap();
        assert_eq!((page.items.len(), page.next), (1, None), "{fine}");
    }
    for paging in [",\"TotalCount\":5", ",\"NextCursor\":\"x\"", ",\"Page\":1", ",\"HasMore\":true", ",\"PageSize\":10"]
    {
        let adapter = over_answers([(200, &*of(paging))]);
        assert_eq!(now(adapter.list(None)).unwrap_err().kind(), K::UpstreamMalformed, "{paging}");
    }
    let adapter = over_answers([(200, "{\"Data\":null}")]);
    assert!(now(adapter.list(None)).is_err());
    // one item that cannot be read spoils the list: it would be shorter without a word
    let adapter = over_answers([(200, &*format!("{{\"Data\":[{CLIENT},{{}}]}}"))]);
    assert!(now(adapter.list(None)).is_err());
}

#[test]
fn undocumented_operations_are_refused_without_a_call() {
    let (adapter, wire) = over_fake();
    let errors = [now(adapter.delete(&target())).unwrap_err(), now(adapter.set_enabled(&target(), false)).unwrap_err()];
    for error in errors {
        assert_eq!((error.kind(), error.outcome()), (K::UnsupportedByBackend, Outcome::NotPerformed));
    }
    for vendor_ref in ["", ".", "..", "a\nb"] {
        let target = registrar_core::Target { vendor_ref: vendor_ref.to_owned(), ..target() };
        assert!(now(adapter.read(&target)).is_err() && now(adapter.rotate_secret(&target)).is_err(), "{vendor_ref:?}");
    }
    assert!(wire.sent().is_empty());
}
