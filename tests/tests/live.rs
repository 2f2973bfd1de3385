//! The laws against servers that nobody here wrote: `LIVE=oidc-provider,canaille` (or `all`), after `tests/live/install`.
//! Each server runs on loopback, in memory, and is asked through the real adapter and the real transport.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use registrar_core::{Adapter, ErrorKind, Management, SecretString, Target, VendorClient};
use registrar_model::{
    ClientSpec, Loss, NewRegistration, RedirectUri, Severity,
    account::{account, diff, effective},
};
use registrar_tests::{adapter, generate, reveal};
use serde_json::{Value, json};

const KIND: &str = "rfc7591";

/// Generated registrations for each server.
const CASES: usize = 300;

/// Members for which no server has a value of its own: once removed, they are gone.
const REMOVABLE: [&str; 13] = [
    "client_uri",
    "logo_uri",
    "contacts",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "software_id",
    "software_version",
    "default_max_age",
    "default_acr_values",
    "initiate_login_uri",
    "post_logout_redirect_uris",
    "backchannel_logout_uri",
];

/// A server: its folder under `tests/live`, which is also its preset, and what starts it.
struct Server {
    name: &'static str,
    program: &'static str,
    script: &'static str,
    token: Option<&'static str>,
    /// Whether it manages what it has registered (RFC 7592).
    manages: bool,
    /// Whether an update makes the token before it invalid.
    rotates: bool,
    /// Whether it refuses grants that it does not know.
    checks_grants: bool,
    /// How many of the generated registrations it takes at least; the rest it refuses for reasons of its own.
    takes: usize,
}

const SERVERS: [Server; 5] = [
    Server {
        name: "oidc-provider",
        program: "node",
        script: "server.mjs",
        token: Some("live-initial-access-token"),
        manages: true,
        rotates: true,
        checks_grants: true,
        takes: 100,
    },
    Server {
        name: "django-oauth-toolkit",
        program: ".venv/bin/python",
        script: "server.py",
        token: None,
        manages: true,
        rotates: true,
        checks_grants: true,
        takes: 100,
    },
    Server {
        name: "canaille",
        program: ".venv/bin/python",
        script: "server.py",
        token: None,
        manages: true,
        rotates: false,
        checks_grants: true,
        takes: 90,
    },
    Server {
        name: "lemonldap",
        program: "perl",
        script: "server.pl",
        token: None,
        manages: false,
        rotates: false,
        checks_grants: true,
        takes: 250,
    },
    Server {
        name: "hydra",
        program: "bash",
        script: "server.sh",
        token: None,
        manages: true,
        rotates: true,
        checks_grants: false,
        takes: 100,
    },
];

type Law = (&'static str, fn(&Server) -> Result<(), String>);

const LAWS: [Law; 6] = [
    ("a_client_lives_from_creation_to_its_end", life),
    ("accounting", accounting),
    ("replace_is_exact", replace),
    ("an_unknown_client_is_not_found", unknown),
    ("refusals_are_classified", refusals),
    ("a_public_client_has_no_secret_until_it_is_confidential", public),
];

/// The laws about what happens after registration.
const OF_MANAGEMENT: [&str; 3] =
    ["replace_is_exact", "an_unknown_client_is_not_found", "a_public_client_has_no_secret_until_it_is_confidential"];

#[expect(clippy::print_stderr, reason = "says why nothing ran")]
fn main() {
    let arguments = Arguments::from_args();
    let chosen = std::env::var("LIVE").unwrap_or_default();
    let wanted: BTreeSet<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    let unknown = wanted.iter().find(|name| **name != "all" && SERVERS.iter().all(|s| s.name != **name));
    assert!(unknown.is_none(), "LIVE names no server of this test: {unknown:?}");
    let mut trials = Vec::new();
    for server in &SERVERS {
        let here = wanted.contains("all") || wanted.contains(server.name);
        for (name, law) in LAWS.into_iter().filter(|(name, _)| server.manages || !OF_MANAGEMENT.contains(name)) {
            let trial = Trial::test(format!("{}::{name}", server.name), move || law(server).map_err(Failed::from));
            trials.push(trial.with_ignored_flag(!here));
        }
    }
    if wanted.is_empty() {
        eprintln!("live servers are ignored; to ask them: tests/live/install, then LIVE=all");
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A running server, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // it may have ended by itself, which the test has noticed
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(&self) -> Result<(Running, Arc<dyn Adapter>), String> {
        self.start_with(|_| {})
    }

    fn start_with(&self, adjust: impl FnOnce(&mut Value)) -> Result<(Running, Arc<dyn Adapter>), String> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("live").join(self.name);
        let program = if self.program.contains('/') { folder.join(self.program) } else { self.program.into() };
        let child = Command::new(program)
            .arg(self.script)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}; run tests/live/install", self.name))?;
        let mut running = Running(child);
        let mut address = String::new();
        let out = running.0.stdout.take().ok_or("no output")?;
        let mut out = BufReader::new(out);
        out.read_line(&mut address).map_err(|e| e.to_string())?;
        // a server that cannot print fails its requests
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let base_url = address.trim();
        if !base_url.starts_with("http://127.0.0.1:") {
            return Err(format!("{} did not start; run tests/live/install", self.name));
        }
        let mut settings = json!({ "base_url": base_url, "preset": self.name });
        if let Some(token) = self.token {
            settings["token"] = json!(token);
        }
        adjust(&mut settings);
        let vendor = registrar_adapters::vendor(KIND).ok_or("no such kind")?;
        Ok((running, adapter(vendor, &settings, Duration::from_secs(20))?))
    }
}

fn block_on<T>(check: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?.block_on(check)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn text(error: registrar_core::Error) -> String {
    format!("{error:?}")
}

fn spec(metadata: Value) -> Result<ClientSpec, String> {
    NewRegistration::decode(&json!({ "metadata": metadata })).map(|r| r.spec).map_err(|i| format!("{i:?}"))
}

fn runner() -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// Registrations that differ from server to server only in what the servers make of them.
fn registrations(runner: &mut TestRunner) -> Result<ClientSpec, String> {
    let mut spec = generate::registration("").new_tree(runner).map_err(|e| e.to_string())?.current().spec;
    let metadata = &mut spec.metadata;
    // servers would fetch it, and nothing is there
    (metadata.sector_identifier_uri, metadata.subject_type) = (None, None);
    // encryption is switched on by nobody
    metadata.id_token_encrypted_response_alg = None;
    Ok(spec)
}

/// Exactly the reported fields differ. Notes about the answer as a whole are no fields.
fn settled(sent: &ClientSpec, read: &ClientSpec, predicted: Vec<Loss>) -> Result<Vec<Loss>, String> {
    let losses = account(sent, read, predicted);
    let differ = diff(sent, read);
    let reported: BTreeSet<String> =
        losses.iter().filter(|l| l.wanted.is_some() || l.got.is_some()).map(|l| l.field.to_string()).collect();
    ensure(differ == reported, || format!("differ {differ:?}, reported {reported:?}"))?;
    Ok(losses)
}

/// A refusal by the server itself, of this registration, with nothing done.
fn is_refusal(error: &registrar_core::Error) -> bool {
    let kinds = [ErrorKind::Validation, ErrorKind::InvalidRedirectUri, ErrorKind::UnsupportedValue];
    kinds.contains(&error.kind()) && error.outcome() == registrar_core::Outcome::NotPerformed
}

fn life(server: &Server) -> Result<(), String> {
    let (_running, adapter) = server.start()?;
    block_on(async {
        adapter.check().await.map_err(text)?;
        let sent = spec(json!({ "client_name": "Life \u{e9}\u{4e2d}", "redirect_uris": ["https://a.example/cb"] }))?;
        let created = adapter.create(&sent).await.map_err(text)?;
        let client = created.value;
        ensure(client.secret.as_ref().is_some_and(|s| !reveal(&s.value).is_empty()), || "no secret".to_owned())?;
        let losses = settled(&sent, &client.spec, created.losses)?;
        let harm = losses.iter().find(|l| l.severity == Severity::Security && l.is_refusable());
        ensure(harm.is_none(), || format!("an ordinary registration is harmed: {harm:?}"))?;
        ensure(client.management.is_some() == server.manages, || format!("{:?}", client.management))?;
        if !server.manages {
            for error in [adapter.read(&client.target()).await.err(), adapter.delete(&client.target()).await.err()] {
                let refused = error.as_ref().is_some_and(|e| e.kind() == ErrorKind::UnsupportedByBackend);
                ensure(refused, || format!("{error:?}"))?;
            }
            return Ok(());
        }
        let read = adapter.read(&client.target()).await.map_err(text)?;
        let drift = diff(&client.spec, &read.spec);
        ensure(drift.is_empty(), || format!("created and read differ in {drift:?}"))?;

        let mut wanted = sent.clone();
        wanted.metadata.redirect_uris = Some(vec![RedirectUri::from_unchecked("https://a.example/new")]);
        let updated = adapter.update(&read.target(), &read.spec, &wanted).await.map_err(text)?.value;
        let reread = adapter.read(&updated.target()).await.map_err(text)?;
        ensure(reread.spec.metadata.redirect_uris == wanted.metadata.redirect_uris, || format!("{:?}", reread.spec))?;
        let old = adapter.read(&client.target()).await;
        let dead = old.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound);
        ensure(dead == server.rotates, || format!("the token before the update: {old:?}"))?;

        adapter.delete(&reread.target()).await.map_err(text)?;
        for after in [adapter.read(&reread.target()).await.err(), adapter.delete(&reread.target()).await.err()] {
            ensure(after.as_ref().is_some_and(|e| e.kind() == ErrorKind::NotFound), || format!("{after:?}"))?;
        }
        Ok(())
    })
}

fn accounting(server: &Server) -> Result<(), String> {
    let (_running, adapter) = server.start()?;
    block_on(async {
        let (mut runner, mut taken) = (runner(), 0);
        for case in 0..CASES {
            let sent = registrations(&mut runner)?;
            let created = match adapter.create(&sent).await {
                Ok(created) => created,
                Err(error) if is_refusal(&error) => continue,
                Err(error) => return Err(format!("case {case}: {error:?} for {:?}", sent.flatten())),
            };
            taken += 1;
            let losses =
                settled(&sent, &created.value.spec, created.losses).map_err(|e| format!("case {case}: {e}"))?;
            effective(&sent, &created.value.spec, &losses).map_err(|e| format!("{e:?}"))?;
            if server.manages {
                let read = adapter.read(&created.value.target()).await.map_err(text)?;
                let drift = diff(&created.value.spec, &read.spec);
                ensure(drift.is_empty(), || format!("case {case}: created and read differ in {drift:?}"))?;
            }
        }
        ensure(taken >= server.takes, || format!("only {taken} of {CASES} were taken: the law saw too little"))
    })
}

fn replace(server: &Server) -> Result<(), String> {
    let (_running, adapter) = server.start()?;
    block_on(async {
        let (mut runner, mut taken) = (runner(), 0);
        for case in 0..CASES {
            let (first, second) = (registrations(&mut runner)?, registrations(&mut runner)?);
            let Ok(created) = adapter.create(&first).await else { continue };
            let losses = account(&first, &created.value.spec, created.losses);
            let record = effective(&first, &created.value.spec, &losses).map_err(|e| format!("{e:?}"))?;
            let updated = match adapter.update(&created.value.target(), &record, &second).await {
                Ok(updated) => updated,
                Err(error) if is_refusal(&error) => continue,
                Err(error) => return Err(format!("case {case}: {error:?}")),
            };
            taken += 1;
            let client: VendorClient = updated.value;
            settled(&second, &client.spec, updated.losses).map_err(|e| format!("case {case}: {e}"))?;
            let shown = client.spec.flatten();
            let kept: Vec<String> = REMOVABLE.iter().map(|name| format!("metadata.{name}")).collect();
            let kept: Vec<&String> =
                kept.iter().filter(|f| shown.contains_key(*f) && !second.flatten().contains_key(*f)).collect();
            ensure(kept.is_empty(), || format!("case {case}: removed and still there: {kept:?}"))?;
            let read = adapter.read(&client.target()).await.map_err(text)?;
            let drift = diff(&client.spec, &read.spec);
            ensure(drift.is_empty(), || format!("case {case}: updated and read differ in {drift:?}"))?;
        }
        ensure(taken * 3 >= server.takes, || format!("only {taken} of {CASES} were taken: the law saw too little"))
    })
}

fn unknown(server: &Server) -> Result<(), String> {
    let (_running, adapter) = server.start()?;
    block_on(async {
        let sent = spec(json!({ "client_name": "A", "redirect_uris": ["https://a.example/cb"] }))?;
        let client = adapter.create(&sent).await.map_err(text)?.value;
        let own = client.management.clone().ok_or("no management")?;
        let forged = Management { token: SecretString::from("nobodys"), ..own };
        let target = Target { management: Some(forged), ..client.target() };
        for error in [adapter.read(&target).await.err(), adapter.delete(&target).await.err()] {
            ensure(error.as_ref().is_some_and(|e| e.kind() == ErrorKind::NotFound), || format!("{error:?}"))?;
        }
        adapter.read(&client.target()).await.map_err(text).map(|_| ())
    })
}

fn refusals(server: &Server) -> Result<(), String> {
    let (_running, adapter) = server.start()?;
    block_on(async {
        if !server.manages {
            // it checks nothing but that there are redirect URIs, and refuses with a page
            let machine = spec(json!({ "grant_types": ["client_credentials"] }))?;
            let error = adapter.create(&machine).await.err().ok_or("a registration without redirect URIs was taken")?;
            return ensure(error.kind() == ErrorKind::Validation, || format!("{error:?}"));
        }
        let mut bad = spec(json!({ "client_name": "A", "redirect_uris": ["https://a.example/cb"] }))?;
        bad.metadata.redirect_uris = Some(vec![RedirectUri::from_unchecked("https://a.example/cb#fragment")]);
        let error = adapter.create(&bad).await.err().ok_or("a fragment was taken")?;
        ensure(error.kind() == ErrorKind::InvalidRedirectUri, || format!("{error:?}"))?;
        if !server.checks_grants {
            return Ok(());
        }
        let grants = spec(json!({ "grant_types": ["urn:ietf:params:oauth:grant-type:saml2-bearer"] }))?;
        let error = adapter.create(&grants).await.err().ok_or("an unknown grant was taken")?;
        ensure(is_refusal(&error), || format!("{error:?}"))
    })?;
    if server.token.is_none() {
        return Ok(());
    }
    let (_running, adapter) = server.start_with(|settings| settings["token"] = json!("CANARY-wrong"))?;
    block_on(async {
        let sent = spec(json!({ "redirect_uris": ["https://a.example/cb"] }))?;
        let error = adapter.create(&sent).await.err().ok_or("a wrong token was taken")?;
        ensure(error.kind() == ErrorKind::UpstreamAuthentication, || format!("{error:?}"))?;
        ensure(!format!("{error:?}").contains("CANARY"), || "the token shows".to_owned())
    })
}

fn public(server: &Server) -> Result<(), String> {
    let (_running, adapter) = server.start()?;
    block_on(async {
        let sent = spec(
            json!({ "client_name": "A", "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "none" }),
        )?;
        let created = adapter.create(&sent).await.map_err(text)?.value;
        ensure(created.secret.is_none(), || "a public client has a secret".to_owned())?;
        ensure(created.spec.metadata.is_public(), || format!("{:?}", created.spec))?;
        let confidential = spec(json!({ "client_name": "A", "redirect_uris": ["https://a.example/cb"],
            "token_endpoint_auth_method": "client_secret_basic" }))?;
        let updated = adapter.update(&created.target(), &created.spec, &confidential).await.map_err(text)?;
        let told = updated.losses.iter().any(|l| l.field == "client_secret");
        ensure(!updated.value.spec.metadata.is_public(), || format!("{:?}", updated.value.spec))?;
        ensure(updated.value.secret.is_some() != told, || "neither a secret nor a word about it".to_owned())
    })
}
