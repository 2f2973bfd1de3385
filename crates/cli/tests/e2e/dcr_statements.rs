//! Software statements (RFC 7591 §2.3) of an issuer that the operator trusts. They are signed here with the primitives, not
//! with the library that verifies them.

use std::path::Path;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    dcr::{OPEN, ROUTES, gateway, metadata, refused, register, with},
    running::{Gateway, binary},
};

const ISSUER: &str = "https://directory.example.com";

fn base64url(bytes: &[u8]) -> String {
    let digits: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']).collect();
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, i| bits << 8 | usize::from(*group.get(i).unwrap_or(&0)));
        out.extend((0..=group.len()).map(|i| digits[bits >> (18 - 6 * i) & 63]));
    }
    out
}

/// Who vouches for software.
pub(crate) struct Directory {
    pair: EcdsaKeyPair,
    folder: TempDir,
}

impl Directory {
    pub(crate) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let key = json!({"kty": "EC", "crv": "P-256", "kid": "2026", "use": "sig", "alg": "ES256",
            "x": base64url(&point[1..33]), "y": base64url(&point[33..])});
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jwks.json"), json!({ "keys": [key] }).to_string()).unwrap();
        Self { pair, folder }
    }

    fn jwks(&self) -> String {
        format!("file:{}", self.folder.path().join("jwks.json").display())
    }

    fn gateway(&self) -> Gateway {
        self.gateway_with("")
    }

    /// A gateway that believes it, with these lines in `[registration]`.
    pub(crate) fn gateway_with(&self, registration: &str) -> Gateway {
        gateway(&format!("{OPEN}\n{registration}\n{}", trusted(ISSUER, &self.jwks())), "")
    }

    pub(crate) fn sign(&self, claims: Value) -> String {
        let mut all = json!({ "iss": ISSUER, "software_id": "4NRB1-0XZABZI9E6-5SM3R" });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = json!({"alg": "ES256", "kid": "2026", "typ": "JWT"});
        let signed = [header, all].map(|part| base64url(part.to_string().as_bytes())).join(".");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(signature.as_ref()))
    }
}

fn trusted(issuer: &str, jwks: &str) -> String {
    format!("[[registration.software_statements]]\nissuer = \"{issuer}\"\njwks = \"{jwks}\"\n")
}

#[test]
fn ext_19_claims_outrank_the_members_beside_them() {
    let directory = Directory::new();
    let gateway = directory.gateway();
    let statement = directory.sign(json!({
        "client_name": "Vouched", "client_name#fr": "Garanti", "redirect_uris": ["https://vouched.example/cb"],
        "client_id": "chosen", "client_secret": "chosen", "exp": 4_000_000_000_u64, "not_a_member": 1,
    }));
    let body = with(json!({
        "client_name": "Claimed", "client_name#FR": "Pr\u{e9}tendu", "redirect_uris": ["https://claimed.example/cb"],
        "software_id": "another", "contacts": ["ops@a.example"], "software_statement": statement,
    }));
    let client = register(&gateway, "rfc7591", &body).json;
    assert_eq!(client["client_name"], "Vouched");
    assert_eq!(client["client_name#fr"], "Garanti");
    assert_eq!(client["redirect_uris"], json!(["https://vouched.example/cb"]));
    assert_eq!(client["software_id"], "4NRB1-0XZABZI9E6-5SM3R");
    assert_eq!(client["contacts"], json!(["ops@a.example"]), "what the statement does not say stays");
    assert_ne!(client["client_id"], "chosen");
    for about in ["iss", "exp", "not_a_member"] {
        assert!(client.get(about).is_none(), "{about}");
    }
    // the vendor gets what the claims say, and nothing of what they outrank
    let sent = gateway.fakes.ledger(Some("rfc7591")).pop().unwrap().request_body.unwrap().to_string();
    assert!(sent.contains("vouched.example") && !sent.contains("claimed.example") && !sent.contains("eyJ"), "{sent}");

    // a claim that is vouched for meets every rule all the same
    let bad = directory.sign(json!({"redirect_uris": ["javascript:alert(1)"]}));
    refused(&gateway, &with(json!({ "software_statement": bad })), "invalid_redirect_uri");
    let bad = directory.sign(json!({"jwks_uri": "http://169.254.169.254/"}));
    refused(&gateway, &with(json!({ "software_statement": bad })), "invalid_client_metadata");
    // and a list of choices is no way around one
    let chosen = directory.sign(json!({"id_token_signed_response_alg": "PS256"}));
    let body = json!({"id_token_signing_alg_values_supported": ["ES256"], "software_statement": chosen});
    assert_eq!(register(&gateway, "rfc7591", &with(body)).json["id_token_signed_response_alg"], "PS256");

    // what is not verified is refused, as without any issuer
    let stranger = Directory::new();
    let forged = stranger.sign(json!({}));
    refused(&gateway, &with(json!({ "software_statement": forged })), "invalid_software_statement");
    let unknown = directory.sign(json!({"iss": "https://nobody.example"}));
    refused(&gateway, &with(json!({ "software_statement": unknown })), "unapproved_software_statement");
    for claims in
        [json!({"exp": 1}), json!({"nbf": 4_000_000_000_u64}), json!({"iat": 4_000_000_000_u64}), json!({"aud": "x"})]
    {
        let statement = directory.sign(claims.clone());
        refused(&gateway, &with(json!({ "software_statement": statement })), "invalid_software_statement");
    }
}

#[test]
fn ext_20_a_statement_comes_back_unchanged() {
    let directory = Directory::new();
    let gateway = directory.gateway();
    let statement = directory.sign(json!({"client_name": "Vouched", "scope": "openid"}));
    for route in ROUTES {
        let own = register(&gateway, route, &with(json!({ "software_statement": statement })));
        assert_eq!(own.json["software_statement"], statement, "{route}");
        let shown = own.get(&gateway);
        assert_eq!((shown.status, shown.text("/software_statement")), (200, statement.clone()), "{route}");
    }
    let own = register(&gateway, "rfc7591", &with(json!({ "software_statement": statement })));
    // an update that leaves it out is held to it all the same, and shows it
    for members in
        [json!({"client_name": "Claimed"}), json!({"client_name": "Claimed", "software_statement": statement})]
    {
        let changed = own.call(&gateway, "PUT", &own.update(members));
        assert_eq!((changed.status, changed.text("/client_name")), (200, "Vouched".to_owned()));
        assert_eq!(changed.text("/software_statement"), statement);
    }
    // another one by the issuer takes its place, anything else does not
    let writes = gateway.vendor_writes();
    let forged =
        own.call(&gateway, "PUT", &own.update(json!({"software_statement": Directory::new().sign(json!({}))})));
    assert_eq!((forged.status, forged.text("/error")), (400, "invalid_software_statement".to_owned()));
    assert_eq!(gateway.vendor_writes(), writes);
    let newer = directory.sign(json!({"client_name": "Vouched 2"}));
    let changed = own.call(&gateway, "PUT", &own.update(json!({ "software_statement": newer })));
    assert_eq!((changed.status, changed.text("/client_name")), (200, "Vouched 2".to_owned()));
    for answer in [changed, own.get(&gateway)] {
        assert_eq!(answer.text("/software_statement"), newer);
    }
    // whoever has none is shown none
    assert!(register(&gateway, "rfc7591", &metadata()).json.get("software_statement").is_none());
}

fn check(folder: &Path, issuers: &str) -> (bool, String) {
    let file = folder.join("registrar.toml");
    let backend = "[[backends]]\nname = \"a\"\nkind = \"loop\"\nsettings = { base_url = \"https://a.example\", token = \"env:T\" }\n";
    std::fs::write(&file, format!("{backend}{issuers}")).unwrap();
    let out = binary().env("T", "x").args(["check", "--config"]).arg(&file).output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn issuers_of_statements_are_checked_with_hints() {
    let directory = Directory::new();
    let folder = directory.folder.path();
    let good = trusted(ISSUER, &directory.jwks());
    let all = "algorithms = [\"ES256\", \"PS512\"]\naudience = \"https://gw.example\"\nmax_age = \"90d\"\n";
    let (ok, said) = check(folder, &format!("{good}{all}"));
    assert!(ok, "{said}");
    for (name, text) in [
        ("private.json", r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"CANARY"}]}"#),
        ("shared.json", r#"{"keys":[{"kty":"oct","k":"CANARY"}]}"#),
        ("no.json", "CANARY"),
        ("list.json", "[]"),
        ("empty.json", r#"{"keys":[]}"#),
        ("new.json", r#"{"keys":[{"kty":"CANARY"}]}"#),
        ("odd.json", r#"{"keys":[{"kty":["CANARY"]}]}"#),
        ("bad.json", r#"{"keys":[{"kty":"EC","crv":"P-256","x":"CANARY"}]}"#),
        ("point.json", r#"{"keys":[{"kty":"EC","crv":"P-256","x":"!","y":"CANARY"}]}"#),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let file = |name: &str| trusted(ISSUER, &format!("file:{}", folder.join(name).display()));
    for (issuers, said) in [
        (
            "[[registration.software_statements]]\n".to_owned(),
            "registration.software_statements[0].issuer: is required",
        ),
        (file("private.json"), "key 0 is private or symmetric"),
        (file("shared.json"), "key 0 is private or symmetric"),
        (file("no.json"), "is not JSON"),
        (file("list.json"), "is not a JWK Set"),
        (file("empty.json"), "has no key for signatures"),
        (file("new.json"), "has no key for signatures"),
        (file("bad.json"), "key 0 "),
        (file("point.json"), "key 0 cannot be used"),
        (file("odd.json"), "key 0 "),
        (file("gone.json"), "cannot be read"),
        (trusted(ISSUER, "https://a.example/jwks"), "a reference, \"file:PATH\""),
        (format!("{good}algorithms = [\"HS256\"]\n"), "asymmetric algorithms only"),
        (format!("{good}algorithms = [\"none\"]\n"), "asymmetric algorithms only"),
        (format!("{good}algorithms = [\"ES265\"]\n"), "did you mean `ES256`?"),
        (format!("{good}algorithms = []\n"), "allows nothing"),
        (format!("{good}audiance = \"x\"\n"), "did you mean `audience`?"),
        (format!("{good}max_age = \"soon\"\n"), "max_age"),
        (format!("{good}{good}"), "this issuer has a table already"),
        ("[registration]\nsingle_instance = \"yes\"\n".to_owned(), "write `single_instance = true`"),
        ("[registration]\nsingle_instanc = true\n".to_owned(), "did you mean `single_instance`?"),
        ("[server]\nrequire_if_match = 1\n".to_owned(), "write `require_if_match = true`"),
    ] {
        let (ok, told) = check(folder, &issuers);
        assert!(!ok && told.contains(said), "{said} is not in {told}");
        assert!(!told.contains("CANARY"), "{told}");
    }
}
