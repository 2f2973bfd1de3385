//! The three truths and their checker: what the vendors did, what the registry and the journal say, and what callers were
//! told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::running::Gateway;

pub(crate) const KINDS: [&str; 4] = ["authms", "bitgo", "loop", "loginradius"];
/// The vendor at which a lost create cannot be found.
pub(crate) const BLIND: &str = "bitgo";

/// A create and the last thing that its caller heard of it.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) answer: Option<(u16, Value)>,
}

/// A small generator, so that a run can be repeated (xorshift64*).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }
}

/// By which a client is recognised: not every vendor has names, all have redirect URIs.
pub(crate) fn mark(name: &str) -> String {
    format!("https://a.example/{name}")
}

/// One create whose key is its name; nothing when the gateway dies before it has answered.
pub(crate) fn create(address: SocketAddr, kind: &str, name: &str) -> Option<(u16, Value)> {
    let body = json!({ "backend": kind, "metadata": {
        "client_name": name, "redirect_uris": [mark(name)], "scope": "openid profile",
    } })
    .to_string();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "POST /v1/clients HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\nidempotency-key: {name}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // cut inside its body it is no answer
    Some((status, serde_json::from_str(body).ok()?))
}

pub(crate) fn pages(gateway: &Gateway, path: &str) -> Vec<Value> {
    let mut out = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.get(&format!("{path}limit=200{cursor}")).json();
        out.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return out,
        }
    }
}

/// Waits until nothing is open but what waits for a person; those operations.
pub(crate) fn quiet(gateway: &Gateway) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        let pending = pages(gateway, "/v1/operations?state=pending&");
        let unknown = pages(gateway, "/v1/operations?state=unknown&");
        if pending.is_empty() && unknown.iter().all(|o| o["evidence"]["needs"] == json!("a person")) {
            return unknown;
        }
        assert!(
            Instant::now() < deadline,
            "{} pending, {} unknown: {:?}",
            pending.len(),
            unknown.len(),
            unknown.first()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The clients of a vendor: id and name, by the vendor's own state.
pub(crate) fn at_vendor(gateway: &Gateway, kind: &str) -> Vec<(String, String)> {
    let member = |client: &Value, names: &[&str]| {
        let found = names.iter().find_map(|name| client.get(*name));
        found.unwrap_or_else(|| panic!("{client}")).clone()
    };
    let clients = gateway.fakes.fake(kind).unwrap().clients();
    let id = ["client_id", "clientId", "ClientId"];
    let uris = ["redirect_uris", "redirectUri", "LoginRedirectUri"];
    clients
        .iter()
        .map(|c| {
            let uri = member(c, &uris)[0].as_str().unwrap().to_owned();
            (member(c, &id).as_str().unwrap().to_owned(), uri.rsplit('/').next().unwrap().to_owned())
        })
        .collect()
}

/// Whether a person is asked about this create.
fn is_listed(parked: &[Value], kind: &str, name: &str) -> bool {
    parked.iter().any(|o| o["backend"] == kind && o["evidence"]["look_for"]["redirect_uris"] == json!([mark(name)]))
}

/// Every disagreement of the three truths. Operations that are open are not looked at: this is for when all is quiet.
pub(crate) fn disagreements(gateway: &Gateway, told: &[Told], parked: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let registry: BTreeSet<(String, String)> = pages(gateway, "/v1/clients?")
        .iter()
        .map(|r| (r["backend"].as_str().unwrap().to_owned(), r["client_id"].as_str().unwrap().to_owned()))
        .collect();
    for kind in KINDS {
        let vendor = at_vendor(gateway, kind);
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, name) in &vendor {
            *names.entry(name).or_default() += 1;
            let known = registry.contains(&(kind.to_owned(), id.clone()));
            let listed = is_listed(parked, kind, name);
            match (known, kind == BLIND) {
                (true, _) => {}
                (false, true) if listed => {}
                (false, _) => found.push(format!("orphan at {kind}: {name}")),
            }
        }
        found.extend(names.iter().filter(|(_, n)| **n > 1).map(|(name, n)| format!("{n} of {name} at {kind}")));
        for (_, id) in registry.iter().filter(|(backend, _)| backend == kind) {
            if !vendor.iter().any(|(v, _)| v == id) {
                found.push(format!("the registry has {id}, {kind} does not"));
            }
        }
    }
    for Told { kind, name, answer } in told {
        let exists = at_vendor(gateway, kind).iter().any(|(_, n)| n == name);
        if let Some((201, body)) = answer
            && let Some(secret) = body["client_secret"].as_str()
            && !gateway.fakes.fake(kind).unwrap().clients().iter().any(|c| c.to_string().contains(secret))
        {
            found.push(format!("{name} was given a secret that {kind} does not know"));
        }
        match answer {
            Some((201, body))
                if !(registry.contains(&((*kind).to_owned(), body["client_id"].as_str().unwrap().to_owned()))
                    || *kind == BLIND && body["warning"] == "not_recorded" && is_listed(parked, kind, name)) =>
            {
                found.push(format!("{name} was told 201 and is not registered"));
            }
            Some((201, _)) if !exists => found.push(format!("{name} was told 201 and does not exist")),
            Some((_, body)) if body["outcome"] == "not_performed" && exists => {
                found.push(format!("{name} was told not_performed and exists"));
            }
            _ => {}
        }
    }
    found
}

/// Callers come back with their keys; afterwards each has exactly one client, but where nobody can know.
pub(crate) fn come_back(gateway: &Gateway, told: &mut [Told]) {
    for told in told.iter_mut().filter(|t| !matches!(t.answer, Some((201, _)))) {
        told.answer = create(gateway.address, told.kind, &told.name);
        let (status, body) = told.answer.as_ref().unwrap();
        let unknowable = told.kind == BLIND && body["code"] == "outcome-unknown";
        assert!(*status == 201 || unknowable, "{}: {body}", told.name);
    }
}
