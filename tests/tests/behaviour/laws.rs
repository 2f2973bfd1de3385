//! Accounting, previews, reads, lists, operations.

use std::collections::BTreeSet;

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use registrar_core::{ErrorKind, Management, OpSupport, SecretString, Support, Target, VendorClient};
use registrar_model::{
    ClientSpec, Loss, LossKind, NewRegistration, Severity,
    account::{account, diff, effective},
};
use registrar_tests::{Rig, generate, reveal};
use serde_json::{Value, json};

use super::{Law, block_on, ensure};

/// Generated registrations for each kind and law of accounting.
const CASES: usize = 2_000;

pub(super) const LAWS: &[Law] = &[
    ("accounting", accounting),
    ("a_minimal_registration_succeeds", minimal),
    ("preview_is_create", preview_is_create),
    ("local_only_losses_are_descriptive", local_only),
    ("declared_fields_survive_and_others_do_not", declared_fields),
    ("undeclared_operations_are_refused_without_a_call", undeclared),
    ("declared_operations_work", declared),
    ("an_unknown_client_is_not_found", unknown_client),
    ("the_list_is_complete", list_is_complete),
    ("a_bad_credential_is_the_operators_problem", bad_credential),
    ("secrets_stay_out_of_everything_else", canary),
    ("unicode_and_long_values", unicode),
];

/// A registration with a name of its own.
pub(super) fn spec(metadata: Value) -> Result<ClientSpec, String> {
    NewRegistration::decode(&json!({ "metadata": metadata })).map(|r| r.spec).map_err(|i| format!("{i:?}"))
}

pub(super) fn plain(name: &str) -> Result<ClientSpec, String> {
    spec(json!({ "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" }))
}

/// A runner with a fixed seed: every run sees the same cases.
pub(super) fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// The fields that a law says differ, against the fields that were reported.
pub(super) fn check_account(sent: &ClientSpec, read: &ClientSpec, losses: &[Loss]) -> Result<(), String> {
    let differ = diff(sent, read);
    let reported: BTreeSet<String> = losses.iter().map(|l| l.field.to_string()).collect();
    ensure(differ == reported, || {
        let silent: Vec<_> = differ.difference(&reported).collect();
        let invented: Vec<_> = reported.difference(&differ).collect();
        format!("lost silently: {silent:?}; reported without cause: {invented:?}; sent {:?}", sent.flatten())
    })
}

/// What a later read shows differs from what was sent in exactly the fields that were reported.
fn accounting(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        rig.host.without_ledger();
        let mut runner = runner();
        let strategy = generate::registration("");
        let (mut created, mut refused) = (0, 0);
        for case in 0..CASES {
            let mut sent = strategy.new_tree(&mut runner).map_err(|e| e.to_string())?.current().spec;
            // names may have to be unique; the case number makes them so
            if let Some(name) = &mut sent.metadata.client_name {
                let short: String = name.chars().take(240).collect();
                *name = format!("{short}-{case}");
            } else {
                rig.host.reset();
            }
            let outcome = rig.adapter.create(&sent).await;
            let mapped = match outcome {
                Ok(mapped) => mapped,
                // some cannot be represented at all: then nothing may have been sent
                Err(error) if error.vendor().is_none() => {
                    refused += 1;
                    ensure(!error.issues().is_empty(), || format!("a refusal without a pointer: {error}"))?;
                    continue;
                }
                // two names may become the same path segment
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    return Err(format!(
                        "case {case}: the fake refused what the mapping sent: {error} {:?}",
                        error.vendor()
                    ));
                }
            };
            created += 1;
            let losses = account(&sent, &mapped.value.spec, mapped.losses);
            let read = rig.adapter.read(&mapped.value.target()).await.map_err(|e| e.to_string())?;
            check_account(&sent, &read.spec, &losses).map_err(|e| format!("case {case}: {e}"))?;
            let record = effective(&sent, &read.spec, &losses).map_err(|e| format!("{e:?}"))?;
            let kept = losses.iter().filter(|l| l.kind == LossKind::LocalOnly);
            for loss in kept {
                let (record, sent) = (record.flatten(), sent.flatten());
                ensure(record.get(&*loss.field) == sent.get(&*loss.field), || {
                    format!("local_only {} is not in the record", loss.field)
                })?;
            }
        }
        ensure(created * 2 > CASES, || {
            format!("only {created} of {CASES} were created, {refused} refused: the law saw too little")
        })
    })
}

/// An ordinary registration needs no `allow_loss` anywhere.
fn minimal(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let minimal = [
            json!({ "redirect_uris": ["https://a.example/cb"] }),
            json!({ "redirect_uris": ["https://b.example/cb"], "client_name": "Plain" }),
            json!({ "redirect_uris": ["https://c.example/cb"], "client_name": "Usual", "scope": "openid profile",
                    "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"] }),
        ];
        for metadata in minimal {
            let sent = spec(metadata)?;
            let mapped = rig.adapter.create(&sent).await.map_err(|e| e.to_string())?;
            let losses = account(&sent, &mapped.value.spec, mapped.losses);
            let security: Vec<_> =
                losses.iter().filter(|l| l.severity == Severity::Security && l.is_refusable()).collect();
            ensure(security.is_empty(), || format!("{security:?}"))?;
            ensure(mapped.value.secret.is_some(), || "a confidential client without a secret".to_owned())?;
        }
        Ok(())
    })
}

/// What a preview shows is what is sent, and the same input gives the same bytes.
fn preview_is_create(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let mut runner = runner();
        let strategy = generate::registration("-p");
        for _ in 0..200 {
            rig.host.reset();
            let sent = strategy.new_tree(&mut runner).map_err(|e| e.to_string())?.current().spec;
            let before = rig.calls();
            let (first, second) = (rig.adapter.preview(&sent), rig.adapter.preview(&sent));
            ensure(rig.calls() == before, || "a preview sent something".to_owned())?;
            let created = rig.adapter.create(&sent).await;
            match (first, second, created) {
                (Ok(first), Ok(second), Ok(_)) => {
                    ensure(first == second, || "two previews differ".to_owned())?;
                    let sent: Vec<Value> = rig
                        .host
                        .ledger(None)
                        .into_iter()
                        .filter(|e| !e.path.ends_with("/oauth/token") && e.status != Some(401))
                        .filter_map(|e| e.request_body)
                        .collect();
                    let shown: Vec<Value> = first.value.into_iter().filter_map(|r| r.body()).collect();
                    ensure(sent == shown, || format!("shown {shown:?}, sent {sent:?}"))?;
                }
                (Err(preview), Err(_), Err(create)) => {
                    ensure(preview.kind() == create.kind() && rig.calls() == 0, || {
                        "preview and create refuse differently".to_owned()
                    })?;
                }
                other => return Err(format!("preview and create disagree: {other:?}")),
            }
        }
        Ok(())
    })
}

/// Only losses that nobody can be harmed by may be kept in the record alone.
fn local_only(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let mut runner = runner();
        let strategy = generate::registration("-l");
        for _ in 0..500 {
            let sent = strategy.new_tree(&mut runner).map_err(|e| e.to_string())?.current().spec;
            let Ok(mapped) = rig.adapter.preview(&sent) else { continue };
            for loss in mapped.losses.iter().filter(|l| l.kind == LossKind::LocalOnly) {
                ensure(loss.severity == Severity::Info, || format!("{loss:?}"))?;
            }
            let mut order: Vec<_> = mapped.losses.clone();
            registrar_model::loss::sort(&mut order);
            ensure(order == mapped.losses, || "losses are not in canonical order".to_owned())?;
        }
        Ok(())
    })
}

/// A field that the descriptor calls unsupported never survives; one that it calls full always does.
fn declared_fields(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        rig.host.without_ledger();
        let descriptor = rig.adapter.descriptor();
        let mut runner = runner();
        let strategy = generate::registration("-f");
        for case in 0..400 {
            rig.host.reset();
            let sent = strategy.new_tree(&mut runner).map_err(|e| e.to_string())?.current().spec;
            let Ok(mapped) = rig.adapter.create(&sent).await else { continue };
            let shown = mapped.value.spec.flatten();
            for (field, value) in sent.flatten() {
                let survived = shown.get(&field).is_some_and(|s| registrar_model::spec::same_value(&field, s, &value));
                // the table has no rows for tagged names: what is said of a member is the most that holds for them
                let row = registrar_model::field::lookup(&field).map_or(field.as_str(), |row| row.path);
                match descriptor.support(row) {
                    Support::Full if row != field => {}
                    Support::Full => {
                        ensure(survived, || format!("case {case}: {field} is declared full and did not survive"))?
                    }
                    Support::Unsupported => ensure(!shown.contains_key(&field), || {
                        format!("case {case}: {field} is declared unsupported and survived")
                    })?,
                    Support::Partial(_) | Support::NotImplemented => {}
                }
            }
        }
        Ok(())
    })
}

async fn created(rig: &Rig, name: &str) -> Result<VendorClient, String> {
    rig.adapter.create(&plain(name)?).await.map(|m| m.value).map_err(|e| e.to_string())
}

fn undeclared(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let client = created(&rig, "Undeclared").await?;
        let target = client.target();
        let before = rig.calls();
        let ops = rig.adapter.descriptor().operations;
        let mut errors = Vec::new();
        if ops.list == OpSupport::Unsupported {
            errors.push(("list", rig.adapter.list(None).await.err()));
        }
        if ops.update == OpSupport::Unsupported {
            errors.push(("update", rig.adapter.update(&target, &client.spec, &client.spec).await.err()));
        }
        if ops.disable == OpSupport::Unsupported {
            errors.push(("disable", rig.adapter.set_enabled(&target, false).await.err()));
        }
        if ops.delete == OpSupport::Unsupported {
            errors.push(("delete", rig.adapter.delete(&target).await.err()));
        }
        if ops.rotate_secret == OpSupport::Unsupported {
            errors.push(("rotate", rig.adapter.rotate_secret(&target).await.err()));
        }
        for (operation, error) in errors {
            ensure(error.as_ref().is_some_and(|e| e.kind() == ErrorKind::UnsupportedByBackend), || {
                format!("{operation}: {error:?}")
            })?;
        }
        ensure(rig.calls() == before, || "an undeclared operation sent something".to_owned())
    })
}

fn declared(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let client = created(&rig, "Declared").await?;
        let target = client.target();
        let ops = rig.adapter.descriptor().operations;
        let text = |e: registrar_core::Error| e.to_string();
        rig.adapter.check().await.map_err(text)?;
        let read = rig.adapter.read(&target).await.map_err(text)?;
        ensure(read.spec == client.spec, || format!("created {:?}, read {:?}", client.spec, read.spec))?;
        ensure(read.secret.is_none(), || "a read gave a secret".to_owned())?;
        if ops.rotate_secret.is_supported() {
            let old = client.secret.as_ref().map(|s| reveal(&s.value).to_owned());
            let new = rig.adapter.rotate_secret(&target).await.map_err(text)?;
            ensure(old.as_deref() != Some(reveal(&new.value)), || "rotation gave the old secret".to_owned())?;
            let valid = rig.host.fake(kind).map(|f| Value::Array(f.clients()).to_string()).unwrap_or_default();
            ensure(valid.contains(reveal(&new.value)), || "the new secret is not valid at the vendor".to_owned())?;
        }
        if ops.disable.is_supported() {
            for enabled in [false, true] {
                let shown = rig.adapter.set_enabled(&target, enabled).await.map_err(text)?;
                ensure(shown.spec.policy.enabled == Some(enabled), || format!("switching to {enabled}"))?;
                let read = rig.adapter.read(&target).await.map_err(text)?;
                ensure(read.spec.policy.enabled == Some(enabled), || format!("reading after switching to {enabled}"))?;
            }
        }
        if ops.delete.is_supported() {
            rig.adapter.delete(&target).await.map_err(text)?;
            let gone = rig.adapter.read(&target).await;
            ensure(gone.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound), || {
                format!("after deletion: {gone:?}")
            })?;
            let twice = rig.adapter.delete(&target).await;
            ensure(twice.is_err_and(|e| e.kind() == ErrorKind::NotFound), || "a second deletion".to_owned())?;
        }
        Ok(())
    })
}

fn unknown_client(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let client = created(&rig, "Known").await?;
        // where every client has a token of its own, nobody's is one that was never issued
        let management = client.management.clone().map(|m| Management { token: SecretString::from("nobody"), ..m });
        let nobody = Target {
            client_id: "nobody".parse().map_err(|_| "id")?,
            vendor_ref: "nobody".to_owned(),
            management,
            auth_method: None,
            scope: None,
        };
        let ops = rig.adapter.descriptor().operations;
        let read = rig.adapter.read(&nobody).await.err();
        ensure(read.as_ref().is_some_and(|e| e.kind() == ErrorKind::NotFound), || format!("read: {read:?}"))?;
        if ops.disable.is_supported() {
            let error = rig.adapter.set_enabled(&nobody, false).await.err();
            ensure(error.as_ref().is_some_and(|e| e.kind() == ErrorKind::NotFound), || format!("disable: {error:?}"))?;
        }
        if ops.rotate_secret.is_supported() {
            let error = rig.adapter.rotate_secret(&nobody).await.err();
            ensure(error.as_ref().is_some_and(|e| e.kind() == ErrorKind::NotFound), || format!("rotate: {error:?}"))?;
        }
        // an id that would climb out of the collection never reaches the vendor
        for hostile in ["..", ".", "", "a\r\nb"] {
            let target = Target {
                client_id: client.client_id.clone(),
                vendor_ref: hostile.to_owned(),
                management: None,
                auth_method: None,
                scope: None,
            };
            let before = rig.host.ledger(None).iter().filter(|e| e.method != "GET").count();
            let refused = rig.adapter.update(&target, &client.spec, &plain("Renamed")?).await;
            let after = rig.host.ledger(None).iter().filter(|e| e.method != "GET").count();
            ensure(refused.is_err() && before == after, || format!("the id {hostile:?} reached the vendor"))?;
        }
        Ok(())
    })
}

fn list_is_complete(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        if !rig.adapter.descriptor().operations.list.is_supported() {
            return Ok(());
        }
        let mut wanted = BTreeSet::new();
        for n in 0..230 {
            wanted.insert(created(&rig, &format!("Listed-{n}")).await?.client_id);
        }
        let (mut seen, mut page, mut pages) = (Vec::new(), None, 0);
        loop {
            let got = rig.adapter.list(page).await.map_err(|e| e.to_string())?;
            ensure(got.items.iter().all(|c| c.secret.is_none()), || "a list gave a secret".to_owned())?;
            seen.extend(got.items.into_iter().map(|c| c.client_id));
            pages += 1;
            page = got.next;
            if page.is_none() || pages > 50 {
                break;
            }
        }
        ensure(seen.len() == wanted.len() && seen.iter().cloned().collect::<BTreeSet<_>>() == wanted, || {
            format!("{} of {} in {pages} pages", seen.len(), wanted.len())
        })
    })
}

fn bad_credential(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::with(kind, |settings| {
            if let Some(m2m) = settings.get_mut("m2m") {
                m2m["client_secret"] = json!("CANARY-wrong");
            } else {
                settings["token"] = json!("CANARY-wrong");
            }
        })
        .await?;
        let error = rig.adapter.create(&plain("Nobody")?).await.err().ok_or("it was accepted")?;
        ensure(error.kind() == ErrorKind::UpstreamAuthentication, || format!("{error:?}"))?;
        ensure(error.outcome() == registrar_core::Outcome::NotPerformed && !error.is_retryable(), || {
            format!("{error:?}")
        })?;
        ensure(!format!("{error:?} {error}").contains("CANARY"), || "the token is in the error".to_owned())
    })
}

fn canary(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let sent = plain("Canary")?;
        let mapped = rig.adapter.create(&sent).await.map_err(|e| e.to_string())?;
        let secret = mapped.value.secret.as_ref().map(|s| reveal(&s.value).to_owned()).ok_or("no secret")?;
        let losses = account(&sent, &mapped.value.spec, mapped.losses.clone());
        let read = rig.adapter.read(&mapped.value.target()).await.map_err(|e| e.to_string())?;
        let everything =
            format!("{mapped:?} {losses:?} {read:?} {:?} {}", rig.adapter, json!(mapped.value.spec.encode()));
        ensure(!everything.contains(&secret), || "the client secret shows".to_owned())?;
        let own = mapped.value.management.as_ref().map(|m| reveal(&m.token));
        ensure(!own.is_some_and(|token| everything.contains(token)), || "the client's own token shows".to_owned())?;
        let token = rig.host.fake(kind).map(|f| f.settings("")).unwrap_or_default();
        let token = token
            .get("token")
            .or_else(|| token.pointer("/m2m/client_secret"))
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned();
        ensure(!everything.contains(&token), || "the admin credential shows".to_owned())
    })
}

fn unicode(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        for name in [
            "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{540d}\u{524d}",
            "Cr\u{e8}me Br\u{fb}l\u{e9}e",
            &"long ".repeat(50),
            "\u{1f600}",
            "a/b?c#d%20&<>\"'",
        ] {
            let sent = spec(
                json!({ "client_name": name.trim(), "redirect_uris": ["https://a.example/cb"], "contacts": ["\u{e9}@example"] }),
            )?;
            rig.host.reset();
            let mapped = rig.adapter.create(&sent).await.map_err(|e| format!("{name}: {e}"))?;
            let losses = account(&sent, &mapped.value.spec, mapped.losses);
            let read = rig.adapter.read(&mapped.value.target()).await.map_err(|e| format!("{name}: {e}"))?;
            check_account(&sent, &read.spec, &losses)?;
            let record = effective(&sent, &read.spec, &losses).map_err(|e| format!("{e:?}"))?;
            ensure(record.metadata.client_name == sent.metadata.client_name, || {
                format!("the record calls {name} {:?}", record.metadata.client_name)
            })?;
        }
        Ok(())
    })
}
