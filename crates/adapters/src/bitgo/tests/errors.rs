//! Every error that is known, and answers that are none.

use registrar_core::{Effect, ErrorKind as K, Outcome, Response};
use serde_json::{Value, json};

use super::VENDOR;
use crate::harness::{now, over_answers, portal};

/// An error answer to a creation, classified.
fn refusal(status: u16, headers: &Value, body: &str) -> registrar_core::Error {
    let headers = headers.as_object().into_iter().flatten();
    let headers = headers.map(|(k, v)| (k.parse::<http::HeaderName>().unwrap(), v.as_str().unwrap().parse().unwrap()));
    crate::bitgo::map::error(&Response::new(status, headers.collect(), body.to_owned().into(), Effect::Once))
}

#[test]
fn trap_16_every_known_error_has_its_kind() {
    let errors: Vec<Value> = serde_json::from_str(include_str!("../fixtures/errors.json")).unwrap();
    for case in errors {
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        let error = refusal(status, &case["headers"], &case["body"].to_string());
        let vendor = error.vendor().unwrap();
        assert_eq!(
            (error.kind().slug(), error.outcome().as_str()),
            (case["kind"].as_str().unwrap(), case["outcome"].as_str().unwrap()),
            "{case}"
        );
        assert_eq!((vendor.status, vendor.code.as_deref()), (Some(status), case["code"].as_str()), "{case}");
        assert_eq!(vendor.request_id.as_deref(), case["body"]["requestId"].as_str(), "{case}");
        assert_eq!(error.retry_after().map(|w| w.as_secs()), (status == 429).then_some(7), "{case}");
    }
}

#[test]
fn trap_16_bodies_that_are_no_json_are_classified_by_status_and_not_repeated() {
    for body in ["", "<html><body>CANARY</body></html>", "[", r#"{"error":"CANA"#, "[1]", "null", "\u{fffd}"] {
        for (status, kind) in
            [(400, K::Validation), (401, K::UpstreamAuthentication), (404, K::NotFound), (502, K::UpstreamError)]
        {
            let error = refusal(status, &Value::Null, body);
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert!(error.vendor().unwrap().message.is_none() && !format!("{error:?}").contains("CANA"), "{body}");
        }
        let (adapter, _) = over_answers(&VENDOR, &[(200, body)]);
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (K::UpstreamMalformed, Outcome::Unknown), "{body}");
        assert!(!format!("{error:?}").contains("CANA"));
    }
}

#[test]
fn trap_16_the_request_id_is_in_the_body_or_in_the_header() {
    let header = json!({ "request-id": "from-header" });
    let id = |body| refusal(400, &header, body).vendor().unwrap().request_id.clone();
    assert_eq!(id(r#"{"error":"x"}"#).as_deref(), Some("from-header"));
    assert_eq!(id(r#"{"error":"x","requestId":"from-body"}"#).as_deref(), Some("from-body"));
    assert_eq!(id("<html>").as_deref(), Some("from-header"));
}

#[test]
fn trap_16_a_wanted_otp_is_no_bad_token() {
    for status in [401, 403] {
        for headers in [Value::Null, json!({ "x-auth-required": "true" })] {
            let otp = refusal(status, &headers, r#"{"needsOTP":true}"#);
            assert_eq!(otp.kind(), K::UpstreamAuthorization, "{status} {headers}");
            assert!(otp.detail().contains("OTP") && !otp.is_retryable(), "{status} {headers}");
        }
    }
}

#[test]
fn trap_41_a_refused_token_may_be_bound_to_another_address() {
    let error = refusal(401, &Value::Null, r#"{"error":"unauthorized"}"#);
    let advice = error.advice().unwrap();
    assert!(advice.contains("token") && advice.contains("IP address") && !error.detail().contains("token"));
}

#[test]
fn trap_36_the_vendors_401_is_ours_and_its_text_is_scrubbed() {
    let error = refusal(
        401,
        &Value::Null,
        r#"{"error":"bad token: v2x0123456789abcdef0123456789abcdef0123456789abcdef\u0007"}"#,
    );
    assert_eq!(error.kind(), K::UpstreamAuthentication);
    assert!(!format!("{error:?}").contains("v2x0123"), "{error:?}");
}

#[test]
fn trap_37_a_creation_is_never_marked_as_repeatable() {
    let (adapter, _) = over_answers(&VENDOR, &[(500, "{}"), (503, "{}"), (408, "{}")]);
    for _ in 0..3 {
        let error = now(adapter.create(&portal())).unwrap_err();
        assert_eq!((error.outcome(), error.is_retryable()), (Outcome::Unknown, false), "{error:?}");
    }
}
