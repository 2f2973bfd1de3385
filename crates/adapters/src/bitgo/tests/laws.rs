//! The accounting law and exact replacement, with generated registrations.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    option::weighted,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use registrar_model::{
    ClientSpec, LossKind, NewRegistration,
    account::{account, diff, effective},
};
use serde_json::{Value, json};

use super::faked;
use crate::harness::now;

fn object(members: Vec<(&'static str, Option<Value>)>) -> Value {
    members.into_iter().filter_map(|(name, value)| value.map(|v| (name.to_owned(), v))).collect()
}

fn metadata() -> impl Strategy<Value = Value> {
    let redirects = subsequence(vec!["https://a.example/cb", "https://b.example/cb?x=1", "com.example.app:/cb"], 1..=3);
    let scopes = subsequence(vec!["openid", "profile", "wallet_view", "all", "email", "address"], 0..=3);
    let methods = select(vec!["none", "client_secret_basic", "client_secret_post"]);
    let grants = subsequence(vec!["authorization_code", "refresh_token", "client_credentials"], 1..=3);
    let described =
        (weighted(0.5, "[a-zA-Z ]{1,12}x"), weighted(0.2, "[a-z]{1,8}@example\\.org"), weighted(0.2, any::<bool>()));
    (redirects, weighted(0.8, scopes), weighted(0.4, methods), weighted(0.4, grants), described).prop_map(
        |(redirects, scopes, method, grants, (name, contact, dpop))| {
            object(vec![
                ("redirect_uris", Some(json!(redirects))),
                ("scope", scopes.map(|s| json!(s.join(" ")))),
                ("token_endpoint_auth_method", method.map(|m| json!(m))),
                ("grant_types", grants.map(|g| json!(g))),
                ("client_name", name.clone().map(|n| json!(n))),
                ("client_name#fr", name.map(|n| json!(format!("{n} fr")))),
                ("contacts", contact.map(|c| json!([c]))),
                ("dpop_bound_access_tokens", dpop.map(|d| json!(d))),
            ])
        },
    )
}

fn policy() -> impl Strategy<Value = Value> {
    let names = |least| weighted(0.5, subsequence(vec!["a.example", "b.example", "c.example"], least..=3));
    (weighted(0.5, any::<bool>()), names(0), names(0), names(1), weighted(0.5, "[0-9a-f]{32}")).prop_map(
        |(enabled, domains, organizations, origins, tenant)| {
            let origins = origins.map(|o| json!(o.iter().map(|o| format!("https://{o}")).collect::<Vec<_>>()));
            object(vec![
                ("enabled", enabled.map(|e| json!(e))),
                ("redirect_domains", domains.map(|d| json!(d))),
                ("organizations", organizations.map(|o| json!(o))),
                ("allowed_cors_origins", origins),
                ("tenant", tenant.map(|t| json!(t))),
            ])
        },
    )
}

fn vendor() -> impl Strategy<Value = Value> {
    let types = select(vec!["dApp", "scim"]);
    (weighted(0.3, "[a-z]{1,6}"), weighted(0.5, types), weighted(0.2, any::<u8>()), weighted(0.2, any::<bool>()))
        .prop_map(|(prefix, client_type, unknown, foreign)| {
            let own = object(vec![
                ("clientIdPrefix", prefix.map(|p| json!(p))),
                ("clientType", client_type.map(|t| json!(t))),
                ("notDocumented", unknown.map(|u| json!(u))),
            ]);
            object(vec![("bitgo", Some(own)), ("another", foreign.map(|f| json!({ "member": f })))])
        })
}

fn registration() -> impl Strategy<Value = ClientSpec> {
    (metadata(), policy(), vendor()).prop_filter_map("not valid", |(metadata, policy, vendor)| {
        NewRegistration::decode(&json!({ "metadata": metadata, "policy": policy, "vendor": vendor }))
            .ok()
            .map(|r| r.spec)
    })
}

/// The same cases in every run.
fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]))
}

/// `email` is left out, `address` becomes another scope.
fn mapped_scopes() -> Value {
    json!({ "scope_map": { "email": "", "address": "profile" } })
}

/// Every difference between what was sent and what a read shows was foretold, with what would be there instead.
/// `policy.enabled` alone need not be: true is the default of the standard model and of BitGo.
#[test]
fn the_accounting_law_holds() {
    let (mut runner, strategy) = (runner(), registration());
    let (mut created, mut lossy) = (0, BTreeSet::new());
    for case in 0..400 {
        let sent = strategy.new_tree(&mut runner).unwrap().current();
        let (adapter, _) = faked(mapped_scopes());
        let Ok(mapped) = now(adapter.create(&sent)) else { continue };
        created += 1;
        let read = now(adapter.read(&mapped.value.target())).unwrap().spec;
        assert_eq!(read, mapped.value.spec, "case {case}: the answer and a read differ");
        let foretold: BTreeMap<String, _> =
            mapped.losses.iter().map(|l| (l.field.to_string(), (l.kind, l.got.clone()))).collect();
        let losses = account(&sent, &read, mapped.losses);
        let reported: BTreeSet<String> = losses.iter().map(|l| l.field.to_string()).collect();
        assert_eq!(diff(&sent, &read), reported, "case {case}");
        let settled: BTreeMap<String, _> = losses
            .iter()
            .filter(|l| !(l.field == "policy.enabled" && l.kind == LossKind::Defaulted))
            .map(|l| (l.field.to_string(), (l.kind, l.got.clone())))
            .collect();
        assert_eq!(settled, foretold, "case {case}: {sent:?}");
        lossy.extend(losses.into_iter().map(|l| (l.field.to_string(), l.kind as u8)));
    }
    assert!(created >= 200, "only {created} were created");
    for (field, kind) in [
        ("metadata.scope", LossKind::Narrowed),
        ("metadata.scope", LossKind::Substituted),
        ("metadata.scope", LossKind::Defaulted),
        ("metadata.grant_types", LossKind::Widened),
        ("metadata.client_name#fr", LossKind::LocalOnly),
        ("policy.allowed_cors_origins", LossKind::Dropped),
        ("vendor.bitgo.clientIdPrefix", LossKind::LocalOnly),
        ("vendor.bitgo.notDocumented", LossKind::Dropped),
    ] {
        assert!(lossy.contains(&(field.to_owned(), kind as u8)), "no case met {field} {kind:?}");
    }
}

/// An update leads to what a creation would have made, whatever was there before. Only an absent switch keeps its
/// state, and a client type cannot be taken away.
#[test]
fn replacing_is_exact() {
    let (mut runner, strategy) = (runner(), registration());
    let mut updated = 0;
    for case in 0..400 {
        let mut next = || strategy.new_tree(&mut runner).unwrap().current();
        let (first, mut second) = (next(), next());
        // an id that exists cannot get another prefix
        if let Some(own) = second.vendor.get_mut("bitgo") {
            own.remove("clientIdPrefix");
        }
        let (adapter, wire) = faked(mapped_scopes());
        let (Ok(one), Ok(other)) = (now(adapter.create(&first)), now(adapter.create(&second))) else { continue };
        let losses = account(&first, &one.value.spec, one.losses);
        let record = effective(&first, &one.value.spec, &losses).unwrap();
        let target = one.value.target();
        let plan = adapter.preview_update(&target, &record, &second).unwrap();
        wire.sent.lock().unwrap().clear();
        let mapped = now(adapter.update(&target, &record, &second)).unwrap();
        updated += 1;
        let sent: Vec<Value> = wire.sent.lock().unwrap().iter().filter(|r| r.0 != "GET").map(|r| r.2.clone()).collect();
        assert_eq!(
            plan.value.into_iter().filter_map(|r| r.body()).collect::<Vec<_>>(),
            sent,
            "case {case}: the preview"
        );
        assert_eq!(plan.losses, mapped.losses, "case {case}: the preview's losses");

        let mut expected = other.value.spec;
        if second.policy.enabled.is_none() {
            expected.policy.enabled = one.value.spec.policy.enabled;
        }
        let kept = one.value.spec.vendor.get("bitgo").and_then(|m| m.get("clientType"));
        if let Some(kept) = kept {
            expected.vendor.entry("bitgo".to_owned()).or_default().entry("clientType").or_insert_with(|| kept.clone());
        }
        let read = now(adapter.read(&target)).unwrap().spec;
        assert!(diff(&expected, &read).is_empty(), "case {case}: expected {expected:?}, found {read:?}");
        let reported: BTreeSet<String> =
            account(&second, &read, mapped.losses).into_iter().map(|l| l.field.to_string()).collect();
        assert_eq!(diff(&second, &read), reported, "case {case}");
    }
    assert!(updated >= 200, "only {updated} were updated");
}
