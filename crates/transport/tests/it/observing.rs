//! What is seen of the calls: metrics and health; and what is never seen: secrets.

use std::sync::Arc;

use registrar_core::Effect;

use crate::support::{
    CANARY, Reply, Server, answer, bearer, closed_port, get, logged, m2m, measured, on_this_thread, open, options, post,
};

#[test]
fn every_ending_is_counted_once() {
    let text = measured(async {
        let server = Server::start(|seen| match seen.head.split(' ').nth(1) {
            Some("/hang") => Reply::Hang(String::new()),
            Some("/close") => Reply::Close(String::new()),
            Some("/500") => Reply::Keep(answer(500, "", "")),
            _ => Reply::Keep(answer(201, "", "{}")),
        })
        .await;
        let backend = open(options(&server.url, bearer()));
        for path in ["/", "/", "/500"] {
            backend.http.send(post(server.at(path), Effect::Once)).await.unwrap();
        }
        backend.http.send(post(server.at("/close"), Effect::Once)).await.unwrap_err();
        backend.http.send(get(server.at("/close"))).await.unwrap_err();
        let failed = backend.health.snapshot();
        assert_eq!(failed.consecutive_failures, 3);
        assert_eq!(failed.last_failure.map(|f| f.code), Some("upstream-unavailable"));

        server.wait_for(7).await;
        let (http, request) = (Arc::clone(&backend.http), get(server.at("/hang")));
        let dropped = tokio::spawn(async move { http.send(request).await });
        server.wait_for(1).await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
    });
    for (operation, outcome, count) in [
        ("create", "2xx", 2),
        ("create", "5xx", 1),
        ("create", "outcome-unknown", 1),
        ("read", "upstream-unavailable", 1),
        ("read", "cancelled", 1),
    ] {
        let line = format!(
            "registrar_vendor_requests_total{{backend=\"vendor-eu\",operation=\"{operation}\",outcome=\"{outcome}\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    }
    for (operation, count) in [("create", 4), ("read", 2)] {
        let line = format!(
            "registrar_vendor_request_duration_seconds_count{{backend=\"vendor-eu\",operation=\"{operation}\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}{text}");
    }
}

/// Reliability T14: tokens, client secrets, bodies, queries and header fields, in every log level of every crate,
/// in this test and in every other that has run until now.
#[test]
fn no_log_line_and_no_debug_text_holds_a_secret() {
    let mut shown = String::new();
    on_this_thread(async {
        let header = format!("set-cookie: {CANARY}\r\n");
        let server = Server::start(move |seen| match seen.head.split([' ', '?']).nth(1) {
            Some("/token") => Reply::Keep(answer(200, "", &format!(r#"{{"access_token":"{CANARY}"}}"#))),
            Some("/bad-token") => Reply::Keep(answer(400, "", CANARY)),
            Some("/odd-token") => Reply::Keep(answer(200, "", &format!(r#"{{"access_token":["{CANARY}"]}}"#))),
            Some("/close") => Reply::Close(String::new()),
            Some("/cut") => Reply::Close(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{CANARY}")),
            Some("/garbage") => Reply::Close(format!("{CANARY}\r\n\r\n")),
            Some("/401") => Reply::Keep(answer(401, &header, CANARY)),
            _ => Reply::Keep(answer(200, &header, CANARY)),
        })
        .await;
        let credentials =
            [bearer(), m2m(server.at("/token")), m2m(server.at("/bad-token")), m2m(server.at("/odd-token"))];
        for credential in credentials {
            let options = options(&server.url, credential);
            shown += &format!("{options:?}");
            let backend = open(options);
            for path in ["/", "/401", "/close", "/cut", "/garbage"] {
                let mut url = server.at(path);
                url.set_query(Some(&format!("key={CANARY}")));
                match backend.http.send(post(url, Effect::Once)).await {
                    Ok(response) => shown += &format!("{response:?}"),
                    Err(error) => shown += &format!("{error} {error:?}"),
                }
            }
            shown += &format!("{backend:?}");
        }
        let (_held, mut gone) = closed_port();
        gone.set_query(Some(&format!("key={CANARY}")));
        let backend = open(options(&gone, bearer()));
        let error = backend.http.send(get(gone)).await.unwrap_err();
        shown += &format!("{error} {error:?}");
    });
    let log = logged();
    for (what, text) in [("log", &log), ("debug", &shown)] {
        let found = text.lines().find(|line| line.contains(CANARY));
        assert_eq!(found, None, "{what}");
    }
    for line in ["vendor call", "access token issued", "cannot connect to the vendor"] {
        assert!(log.contains(line), "the log is complete: {line}\n{log}");
    }
    assert!(shown.contains("outcome-unknown") && shown.contains("upstream-authentication"), "{shown}");
}
