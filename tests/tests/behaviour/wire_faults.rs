//! What goes wrong on the wire gets its kind and its outcome; nothing is sent twice.

use registrar_core::{ErrorKind, Outcome};
use registrar_fakes::{Fault, ScriptedFault, When};
use registrar_tests::Rig;
use serde_json::json;

use super::{Law, block_on, ensure, laws::plain};

pub(super) const LAWS: &[Law] = &[
    ("errors_are_classified", classified),
    ("a_create_that_may_have_been_done_is_unknown_and_not_repeated", unknown),
    ("unknown_members_survive_and_do_not_disturb", future_members),
    ("another_clients_data_is_refused", other_client),
    ("a_redirect_is_not_followed", redirect),
];

fn on_post(when: When, fault: Fault) -> ScriptedFault {
    ScriptedFault {
        kind: None,
        method: Some("POST".to_owned()),
        path_contains: Some("client".to_owned()),
        skip: 0,
        times: 1,
        when,
        fault,
    }
}

/// Status → kind, outcome of a create.
fn classified(kind: &'static str) -> Result<(), String> {
    use ErrorKind as K;
    use Outcome::{NotPerformed as No, Unknown};
    block_on(async {
        let rig = Rig::new(kind).await?;
        // the token of an M2M credential is fetched before, so that the fault meets the API
        rig.adapter.check().await.map_err(|e| e.to_string())?;
        let table: [(u16, K, Outcome); 15] = [
            (400, K::Validation, No),
            (401, K::UpstreamAuthentication, No),
            (403, K::UpstreamAuthorization, No),
            (404, K::UpstreamRejected, No),
            (405, K::UpstreamRejected, No),
            (410, K::UpstreamRejected, No),
            (501, K::UpstreamRejected, No),
            (409, K::AlreadyExists, No),
            (418, K::UpstreamRejected, No),
            (422, K::Validation, No),
            (429, K::UpstreamRateLimited, No),
            (500, K::UpstreamError, Unknown),
            (502, K::UpstreamError, Unknown),
            (503, K::UpstreamUnavailable, Unknown),
            (202, K::UpstreamMalformed, Unknown),
        ];
        for (status, wanted, outcome) in table {
            for body in [Some(json!({ "message": "no" })), Some(json!("plain text")), Some(json!(["a list"])), None] {
                // 401 is answered once with a new token, 429 is proof and asked again
                let times = match status {
                    401 => 2,
                    429 => 3,
                    _ => 1,
                };
                rig.host.script(ScriptedFault {
                    times,
                    ..on_post(
                        When::Before,
                        Fault::Status { status, body: body.clone(), headers: serde_json::Map::new() },
                    )
                });
                let error = rig
                    .adapter
                    .create(&plain("Fault")?)
                    .await
                    .err()
                    .ok_or_else(|| format!("{status} was a success"))?;
                ensure(error.kind() == wanted && error.outcome() == outcome, || {
                    format!("{status} {body:?}: {error:?}")
                })?;
                rig.host.reset();
                rig.adapter.check().await.ok();
            }
        }
        for fault in [
            Fault::Html { status: 200 },
            Fault::Empty { status: 200 },
            Fault::Truncate { bytes: 10 },
            Fault::Oversize { bytes: 3 << 20 },
            Fault::FinMidBody {},
            Fault::Status { status: 201, body: Some(json!("text")), headers: serde_json::Map::new() },
            Fault::Status { status: 200, body: Some(json!({ "ok": true })), headers: serde_json::Map::new() },
        ] {
            rig.host.script(on_post(When::After, fault.clone()));
            let error =
                rig.adapter.create(&plain("Garbled")?).await.err().ok_or_else(|| format!("{fault:?} was a success"))?;
            ensure(error.outcome() == Outcome::Unknown, || format!("{fault:?}: {error:?}"))?;
            ensure(matches!(error.kind(), K::UpstreamMalformed | K::OutcomeUnknown), || {
                format!("{fault:?}: {error:?}")
            })?;
            ensure(!error.is_retryable(), || format!("{fault:?} is called retryable"))?;
            rig.host.reset();
            rig.adapter.check().await.ok();
        }
        Ok(())
    })
}

fn unknown(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        rig.adapter.check().await.map_err(|e| e.to_string())?;
        for (n, fault) in [Fault::Hang {}, Fault::Reset {}, Fault::FinMidHeaders {}].into_iter().enumerate() {
            rig.host.script(on_post(When::After, fault.clone()));
            let before = rig.calls();
            let error = rig.adapter.create(&plain(&format!("Unknown-{n}"))?).await.err().ok_or("a success")?;
            ensure(error.outcome() == Outcome::Unknown && error.kind() == ErrorKind::OutcomeUnknown, || {
                format!("{fault:?}: {error:?}")
            })?;
            ensure(rig.calls() == before + 1, || format!("{fault:?}: {} calls", rig.calls() - before))?;
        }
        Ok(())
    })
}

fn future_members(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        rig.adapter.check().await.map_err(|e| e.to_string())?;
        rig.host.script(on_post(When::After, Fault::ExtraMember {}));
        let created = rig.adapter.create(&plain("Future")?).await.map_err(|e| e.to_string())?;
        let kept = created.value.spec.vendor.get(kind).and_then(|m| m.get("x_future_member"));
        ensure(kept.is_some(), || format!("{:?}", created.value.spec.vendor))
    })
}

fn other_client(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let (a, b) = (plain("First")?, plain("Second")?);
        let first = rig.adapter.create(&a).await.map_err(|e| e.to_string())?.value;
        rig.adapter.create(&b).await.map_err(|e| e.to_string())?;
        if !rig.adapter.descriptor().operations.update.is_supported() {
            return Ok(());
        }
        // the answer to the second creation, where an update of the first is expected: other shapes do not decode
        let fault = ScriptedFault {
            kind: None,
            method: None,
            path_contains: Some("client".to_owned()),
            skip: 0,
            times: 1,
            when: When::Before,
            fault: Fault::OtherClient {},
        };
        rig.host.script(fault);
        let mut renamed = plain("First")?;
        renamed.metadata.redirect_uris =
            Some(vec![registrar_model::RedirectUri::from_unchecked("https://a.example/other")]);
        let error = rig.adapter.update(&first.target(), &first.spec, &renamed).await.err().ok_or("it was accepted")?;
        ensure(error.kind() == ErrorKind::UpstreamMalformed && error.outcome() == Outcome::Unknown, || {
            format!("{error:?}")
        })
    })
}

fn redirect(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        rig.adapter.check().await.map_err(|e| e.to_string())?;
        let location = format!("{}/elsewhere", rig.host.base_url(kind));
        rig.host.script(on_post(When::Before, Fault::Redirect { location }));
        let before = rig.calls();
        let error = rig.adapter.create(&plain("Redirected")?).await.err().ok_or("a success")?;
        ensure(error.kind() == ErrorKind::UpstreamMalformed && error.outcome() == Outcome::Unknown, || {
            format!("{error:?}")
        })?;
        ensure(rig.calls() == before + 1, || "the redirect was followed".to_owned())
    })
}
