//! The accounting law over generated registrations: what a read shows differs from what was sent in exactly the fields
//! that were reported, and every prediction of the mapping comes true to the letter.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    option::weighted,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use registrar_core::VendorClient;
use registrar_model::{
    ClientSpec, Loss, LossKind, Mapped, NewRegistration,
    account::{account, diff, effective},
};
use serde_json::{Map, Value, json};

use super::support::{now, over_fake};

type Members = Vec<(&'static str, BoxedStrategy<Option<Value>>)>;

fn some(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(values).prop_map(|v| json!(v)).boxed()
}

fn sets(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    subsequence(values, 1..=values.len()).prop_shuffle().prop_map(|v| json!(v)).boxed()
}

fn layer(members: Members) -> BoxedStrategy<Map<String, Value>> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    values
        .prop_map(move |values| {
            names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect()
        })
        .boxed()
}

fn maybe(share: f64, value: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    weighted(share, value).boxed()
}

fn metadata() -> BoxedStrategy<Map<String, Value>> {
    let uris = || some(&["https://a.example/x", "https://b.example/y"]);
    let redirects = vec(select(vec!["https://a.example/1", "https://b.example/2", "com.example.app:/cb"]), 1..4)
        .prop_map(|mut list| {
            let mut seen = std::collections::BTreeSet::new();
            list.retain(|uri| seen.insert(*uri));
            Some(json!(list))
        })
        .boxed();
    let names = prop_oneof![
        "[A-Za-z][A-Za-z0-9._ -]{0,20}".prop_map(|name| json!(name)),
        "\\PC{1,40}".prop_map(|name| json!(name)),
    ]
    .boxed();
    layer(vec![
        ("redirect_uris", redirects),
        ("client_name", maybe(0.8, names)),
        (
            "token_endpoint_auth_method",
            maybe(0.5, some(&["none", "client_secret_basic", "client_secret_post", "client_secret_jwt"])),
        ),
        ("grant_types", maybe(0.5, sets(&["authorization_code", "refresh_token", "client_credentials", "implicit"]))),
        ("response_types", maybe(0.3, sets(&["code", "token", "id_token"]))),
        ("application_type", maybe(0.4, some(&["web", "native"]))),
        ("scope", maybe(0.6, sets(&["openid", "profile", "email"]).prop_map(words).boxed())),
        ("id_token_signed_response_alg", maybe(0.3, some(&["RS256", "ES256"]))),
        ("userinfo_signed_response_alg", maybe(0.3, some(&["RS256", "PS256"]))),
        ("default_max_age", maybe(0.3, select(vec![0, 300]).prop_map(|n| json!(n)).boxed())),
        ("initiate_login_uri", maybe(0.3, uris())),
        ("post_logout_redirect_uris", maybe(0.3, sets(&["https://a.example/x", "https://b.example/y"]))),
        ("backchannel_logout_uri", maybe(0.4, uris())),
        ("client_uri", maybe(0.2, uris())),
        ("contacts", maybe(0.2, sets(&["x@a.example", "y@a.example"]))),
        ("jwks_uri", maybe(0.1, uris())),
        ("client_name#fr", maybe(0.1, some(&["Portail"]))),
        ("vp_formats_supported", maybe(0.1, Just(json!({ "jwt_vp": {} })).boxed())),
    ])
}

fn words(list: Value) -> Value {
    json!(list.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect::<Vec<_>>().join(" "))
}

fn policy() -> BoxedStrategy<Map<String, Value>> {
    let origins = || sets(&["https://a.example", "https://b.example"]);
    let seconds = || (60_u64..90_000).prop_map(|n| json!(n)).boxed();
    layer(vec![
        ("enabled", maybe(0.2, any::<bool>().prop_map(|b| json!(b)).boxed())),
        ("allowed_cors_origins", maybe(0.4, origins())),
        ("allowed_web_origins", maybe(0.3, origins())),
        ("access_token_lifetime", maybe(0.3, seconds())),
        ("id_token_lifetime", maybe(0.3, seconds())),
        ("refresh_token_lifetime", maybe(0.3, seconds())),
        ("audiences", maybe(0.3, sets(&["api", "web"]))),
        ("tenant", maybe(0.1, some(&["123456"]))),
    ])
}

fn own() -> BoxedStrategy<Map<String, Value>> {
    let switch = || any::<bool>().prop_map(|b| json!(b)).boxed();
    let logout = layer(vec![
        ("IsEnabled", maybe(0.5, switch())),
        ("LogoutURIs", maybe(0.5, sets(&["https://a.example/x", "https://b.example/y"]))),
        ("LogoutTokenTTL", maybe(0.5, Just(json!(60)).boxed())),
    ]);
    layer(vec![
        ("AppName", maybe(0.2, some(&["acme", "Acme_2.x"]))),
        ("ApplicationType", maybe(0.3, some(&["Web", "Native", "SPA", "Machine"]))),
        ("BackChannelLogout", maybe(0.4, logout.prop_map(Value::Object).boxed())),
        ("AllowedCorsOrigin", maybe(0.1, Just(json!(["https://c.example"])).boxed())),
        ("ForceReAuthentication", maybe(0.2, switch())),
        ("GlobalClient", maybe(0.2, switch())),
        ("TokenWebOriginMatch", maybe(0.2, switch())),
        ("RedirectURIExactMatch", maybe(0.1, switch())),
        ("Metadata", maybe(0.2, Just(json!({ "a": "b" })).boxed())),
        ("Mapping", maybe(0.2, Just(json!({})).boxed())),
        ("IdTokenMappingTemplate", maybe(0.2, some(&["", "{}"]))),
        ("AudienceScopes", maybe(0.2, Just(json!({ "api": ["a", "b"] })).boxed())),
        ("NotDocumented", maybe(0.1, switch())),
    ])
}

/// Valid registrations, with and without vendor members.
fn registration() -> impl Strategy<Value = ClientSpec> {
    let layers = (metadata(), weighted(0.6, policy()), weighted(0.5, own()));
    layers.prop_filter_map("not valid", |(metadata, policy, own)| {
        let body = json!({ "metadata": metadata, "policy": policy, "vendor": { "loginradius": own } });
        NewRegistration::decode(&body).ok().map(|new| new.spec)
    })
}

/// The same cases in every run.
fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Checks one write, and returns its account.
fn settle(sent: &ClientSpec, written: &Mapped<VendorClient>, read: &ClientSpec) -> Vec<Loss> {
    assert_eq!(&written.value.spec, read, "the answer to the write and a later read agree");
    let settled = account(sent, read, written.losses.clone());
    let fields: Vec<&str> = settled.iter().map(|l| &*l.field).collect();
    let mut differ: Vec<String> = diff(sent, read).into_iter().collect();
    differ.sort_unstable();
    let mut reported = fields.clone();
    reported.sort_unstable();
    assert_eq!(reported, differ, "{sent:?}");

    // not only the fields: what was foretold is what is there, and what was not foretold was not asked for
    let mut foretold: BTreeMap<&str, &Loss> = written.losses.iter().map(|l| (&*l.field, l)).collect();
    for loss in &settled {
        match foretold.remove(&*loss.field) {
            Some(told) => {
                assert_eq!((loss.kind, loss.severity, &loss.got), (told.kind, told.severity, &told.got), "{loss:?}")
            }
            None => assert_eq!(loss.kind, LossKind::Defaulted, "a surprise: {loss:?} of {sent:?}"),
        }
    }
    assert!(foretold.is_empty(), "foretold in vain: {foretold:?} of {sent:?}");
    settled
}

#[test]
fn the_accounting_law_of_creations() {
    let (mut runner, strategy, mut created) = (runner(), registration(), 0);
    for _ in 0..600 {
        let sent = strategy.new_tree(&mut runner).unwrap().current();
        let (adapter, wire) = over_fake();
        let written = match now(adapter.create(&sent)) {
            Ok(written) => written,
            // a contradiction between the layers: refused with a pointer before any call
            Err(error) => {
                assert!(!error.issues().is_empty() && wire.sent().is_empty(), "{error}");
                continue;
            }
        };
        assert_eq!(wire.sent()[0].body, adapter.preview(&sent).unwrap().value[0].body().unwrap());
        let read = now(adapter.read(&written.value.target())).unwrap().spec;
        settle(&sent, &written, &read);
        created += 1;
    }
    assert!(created >= 200, "only {created} could be created");
}

#[test]
fn the_accounting_law_of_updates_and_replace_is_exact() {
    let (mut runner, strategy, mut updated) = (runner(), registration(), 0);
    for _ in 0..1500 {
        let mut next = || strategy.new_tree(&mut runner).unwrap().current();
        let (first, mut second) = (next(), next());
        let (adapter, _) = over_fake();
        let Ok(created) = now(adapter.create(&first)) else { continue };
        let target = created.value.target();
        if let Some(own) = second.vendor.get_mut("loginradius") {
            own.remove("AppName");
        }
        let settled = account(&first, &created.value.spec, created.losses.clone());
        let record = effective(&first, &created.value.spec, &settled).unwrap();
        let Ok(written) = now(adapter.update(&target, &record, &second)) else { continue };
        let read = now(adapter.read(&target)).unwrap().spec;
        settle(&second, &written, &read);

        // as if it had been created so, but for what cannot be unset
        let fresh = now(over_fake().0.create(&second)).unwrap().value.spec;
        for path in diff(&fresh, &read) {
            let kept = matches!(path.as_str(), "metadata.client_name" | "vendor.loginradius.AppName")
                || (path.starts_with("policy.") && path.ends_with("_lifetime"))
                // a type that was said once is said as web from then on
                || (path == "metadata.application_type" && second.metadata.application_type.is_none());
            assert!(kept, "{path}: {:?} {:?}", fresh.flatten().get(&path), read.flatten().get(&path));
        }
        updated += 1;
        // and nothing is left to do
        let settled = account(&second, &read, written.losses);
        let record = effective(&second, &read, &settled).unwrap();
        let again = adapter.preview_update(&target, &record, &second).unwrap();
        assert!(again.value.is_empty(), "{:?}", again.value);
    }
    assert!(updated >= 200, "only {updated} could be updated");
}

#[test]
fn an_ordinary_registration_loses_nothing_that_weakens_it() {
    for metadata in [
        json!({ "redirect_uris": ["https://a.example/cb"] }),
        json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "Acme Portal", "scope": "openid profile email" }),
    ] {
        let sent = NewRegistration::decode(&json!({ "metadata": metadata })).unwrap().spec;
        let (adapter, _) = over_fake();
        let created = now(adapter.create(&sent)).unwrap();
        let settled = account(&sent, &created.value.spec, created.losses);
        assert!(settled.iter().all(|l| l.severity == registrar_model::Severity::Info), "{settled:?}");
    }
}
