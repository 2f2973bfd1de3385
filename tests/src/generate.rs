//! Generated registrations: valid ones, with every canonical member present in some of them.

use proptest::{
    collection::{btree_map, btree_set, vec},
    option::{self, weighted},
    prelude::*,
    sample::{select, subsequence},
};
use registrar_model::NewRegistration;
use serde_json::{Map, Value, json};

/// A valid registration, as the envelope of `POST /v1/clients`. Names carry `salt`, because some vendors want them
/// unique.
pub fn registration(salt: &'static str) -> impl Strategy<Value = NewRegistration> {
    (metadata(salt), weighted(0.6, policy()), weighted(0.2, labels())).prop_filter_map(
        "not valid",
        |(metadata, policy, labels)| {
            let mut body = Map::from_iter([("metadata".to_owned(), metadata)]);
            body.extend(policy.map(|p| ("policy".to_owned(), p)));
            body.extend(labels.map(|l| ("labels".to_owned(), l)));
            NewRegistration::decode(&Value::Object(body)).ok()
        },
    )
}

fn labels() -> impl Strategy<Value = Value> {
    btree_map("[a-z]{1,8}", "[ -~]{0,20}", 1..3).prop_map(|m| json!(m))
}

fn https() -> impl Strategy<Value = String> {
    ("[a-z]{1,8}", "[a-z0-9]{1,8}(/[a-zA-Z0-9._~%20-]{1,6}){0,2}")
        .prop_map(|(host, path)| format!("https://{host}.example/{}", path.replace('%', "")))
}

fn redirect() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => https(),
        1 => Just("http://127.0.0.1:8080/cb".to_owned()),
        1 => "[a-z]{2,6}".prop_map(|s| format!("com.example.{s}:/cb")),
    ]
}

fn name(salt: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z][A-Za-z0-9 ]{0,20}",
        1 => "[A-Za-z\u{e9}\u{4e2d}\u{1f600}] {0,1}[\u{e0}-\u{ff}]{1,30}",
        1 => "[a-z]{240,250}",
    ]
    .prop_map(move |n| {
        let name: String = n.trim().chars().take(255 - salt.len()).collect();
        format!("{name}{salt}")
    })
}

/// A member that is there in a fifth of the cases.
fn rare(strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    weighted(0.2, strategy).boxed()
}

fn texts(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    subsequence(values, 1..=values.len()).prop_map(|v| json!(v))
}

fn text(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    select(values).prop_map(|v| json!(v))
}

fn flag() -> impl Strategy<Value = Value> {
    any::<bool>().prop_map(|b| json!(b))
}

fn url() -> impl Strategy<Value = Value> {
    https().prop_map(|u| json!(u))
}

fn metadata(salt: &'static str) -> impl Strategy<Value = Value> {
    let members: Vec<(&'static str, BoxedStrategy<Option<Value>>)> = vec![
        (
            "token_endpoint_auth_method",
            option::of(text(&["none", "client_secret_basic", "client_secret_post", "client_secret_jwt"])).boxed(),
        ),
        ("grant_types", option::of(texts(&["authorization_code", "refresh_token", "client_credentials"])).boxed()),
        ("client_name", weighted(0.8, name(salt).prop_map(|n| json!(n))).boxed()),
        ("client_uri", option::of(url()).boxed()),
        ("logo_uri", option::of(url()).boxed()),
        (
            "scope",
            option::of(texts(&["openid", "profile", "wallet_view", "trade_view"]).prop_map(|l| {
                json!(l.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
            }))
            .boxed(),
        ),
        (
            "contacts",
            rare(vec("[a-z]{1,8}@[a-z]{1,8}\\.example", 1..3).prop_map(|mut v| {
                v.sort();
                v.dedup();
                json!(v)
            })),
        ),
        ("tos_uri", rare(url())),
        ("policy_uri", rare(url())),
        ("jwks_uri", rare(url())),
        ("application_type", rare(text(&["web", "native"]))),
        ("software_id", rare("[a-z0-9-]{1,20}".prop_map(|s| json!(s)))),
        ("software_version", rare("[0-9]\\.[0-9]".prop_map(|s| json!(s)))),
        ("subject_type", rare(text(&["public", "pairwise"]))),
        ("sector_identifier_uri", rare(url())),
        ("id_token_signed_response_alg", rare(text(&["RS256", "ES256"]))),
        ("userinfo_signed_response_alg", rare(text(&["RS256", "PS256"]))),
        ("request_object_signing_alg", rare(text(&["RS256", "none"]))),
        ("id_token_encrypted_response_alg", rare(text(&["RSA-OAEP", "ECDH-ES"]))),
        ("default_max_age", rare((0_u64..100_000).prop_map(|n| json!(n)))),
        ("default_max_age_zero", rare(Just(json!(0)))),
        ("require_auth_time", rare(flag())),
        ("default_acr_values", rare(texts(&["urn:mace:incommon:iap:silver", "phr"]))),
        ("initiate_login_uri", rare(url())),
        (
            "post_logout_redirect_uris",
            rare(vec(https(), 1..3).prop_map(|mut v| {
                v.sort();
                v.dedup();
                json!(v)
            })),
        ),
        ("backchannel_logout_uri", rare(url())),
        ("backchannel_logout_session_required", rare(flag())),
        ("frontchannel_logout_uri", rare(url())),
        ("require_pushed_authorization_requests", rare(flag())),
        ("dpop_bound_access_tokens", rare(flag())),
        ("authorization_details_types", rare(texts(&["payment", "account"]))),
        ("organization_name", rare("[A-Z][a-z]{1,10}".prop_map(|s| json!(s)))),
        ("keywords", rare(texts(&["a", "b"]))),
        ("client_name#fr", rare("[A-Z][a-z\u{e9}]{1,10}".prop_map(|s| json!(s)))),
        ("vp_formats_supported", rare(Just(json!({"jwt_vp": {"alg": ["ES256"]}})))),
    ];
    let (names, strategies): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    (btree_set(redirect(), 1..4), strategies).prop_map(move |(redirects, values)| {
        let mut out = Map::from_iter([("redirect_uris".to_owned(), json!(redirects))]);
        for (name, value) in names.iter().zip(values) {
            if let Some(value) = value {
                out.insert(name.trim_end_matches("_zero").to_owned(), value);
            }
        }
        Value::Object(out)
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let origins = || {
        vec("https://[a-z]{1,8}\\.example", 0..3).prop_map(|mut v| {
            v.sort();
            v.dedup();
            json!(v)
        })
    };
    let members: Vec<(&'static str, BoxedStrategy<Option<Value>>)> = vec![
        ("enabled", rare(flag())),
        ("allowed_cors_origins", option::of(origins()).boxed()),
        ("allowed_web_origins", rare(origins())),
        (
            "redirect_domains",
            rare(vec("[a-z]{1,8}\\.example", 1..3).prop_map(|mut v| {
                v.sort();
                v.dedup();
                json!(v)
            })),
        ),
        ("owner", rare("[a-z0-9]{1,10}".prop_map(|s| json!(s)))),
        ("tenant", rare("[a-f0-9]{32}".prop_map(|s| json!(s)))),
        ("organizations", rare(texts(&["org-1", "org-2"]))),
        ("first_party", rare(flag())),
        ("security_profile", rare(text(&["fapi1"]))),
        ("access_token_lifetime", rare((60_u64..100_000).prop_map(|n| json!(n)))),
        ("id_token_lifetime", rare((60_u64..100_000).prop_map(|n| json!(n)))),
        ("refresh_token_lifetime", rare((60_u64..100_000).prop_map(|n| json!(n)))),
        ("audiences", rare(texts(&["https://api.example", "other"]))),
    ];
    let (names, strategies): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    strategies.prop_map(move |values| {
        let present = names.iter().zip(values).filter_map(|(n, v)| v.map(|v| ((*n).to_owned(), v)));
        Value::Object(present.collect())
    })
}
