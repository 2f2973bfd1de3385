//! The four steps, each with its own check.

use registrar_fakes::{FakeHost, Fault, ScriptedFault, When};
use reqwest::Method;
use serde_json::{Value, json};

use super::show;
use crate::{
    api::{Answer, Api},
    failure::Failure,
    output,
};

const JSON: &str = "application/json";

/// A registration with something for every vendor to lose.
fn acme() -> Value {
    json!({
        "client_name": "Acme Portal",
        "redirect_uris": ["https://portal.acme.example/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid profile",
        "client_uri": "https://portal.acme.example",
        "tos_uri": "https://portal.acme.example/terms",
        "contacts": ["identity@acme.example"]
    })
}

pub(super) async fn run(api: &Api, fakes: &FakeHost) -> Result<(), Failure> {
    routed(api).await?;
    everywhere(api).await?;
    refused(api, fakes).await?;
    normalised(api, fakes).await
}

fn wrong(step: u8, what: &str) -> Failure {
    Failure::local(format!("step {step} did not go as it should: {what}"))
}

async fn create(api: &Api, body: &Value) -> Result<Answer, Failure> {
    api.call(Method::POST, &["v1", "clients"], &[], Some((JSON, body)), &[]).await
}

async fn routed(api: &Api) -> Result<(), Failure> {
    let body = json!({ "metadata": acme(), "labels": { "team": "partners" } });
    let explained = api.expect(Method::POST, &["v1", "routes:evaluate"], &[], Some((JSON, &body)), &[]).await?;
    let answer = create(api, &body).await?;
    let text = |name: &str| answer.body.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    if answer.status != 201 || text("client_id").is_empty() || text("client_secret").is_empty() {
        return Err(wrong(1, &format!("status {}", answer.status)));
    }
    if explained.get("backend") != answer.body.get("backend") {
        return Err(wrong(1, "it did not go where the routes say"));
    }
    let route = explained.get("route").and_then(Value::as_str).unwrap_or("");
    output::data(&format!(
        "\n1/4  One registration, routed and created\n     POST /v1/clients \"Acme Portal\" -> route `{route}` -> backend `{}` -> 201",
        text("backend")
    ))?;
    output::data(&format!(
        "     client_id {}, secret {}... (shown once), {} losses reported",
        text("client_id"),
        text("client_secret").chars().take(4).collect::<String>(),
        count(&answer.body)
    ))?;
    let id = text("id");
    let read = api.expect(Method::GET, &["v1", "clients", &id], &[("source", "vendor")], None, &[]).await?;
    if read.get("drift") != Some(&json!([])) || read.to_string().contains(&text("client_secret")) {
        return Err(wrong(1, "a read shows drift or the secret"));
    }
    output::data("     GET ?source=vendor -> no drift, no secret")
}

fn count(body: &Value) -> usize {
    body.get("losses").and_then(Value::as_array).map_or(0, Vec::len)
}

async fn everywhere(api: &Api) -> Result<(), Failure> {
    let backends = names(api).await?;
    let mut answers = Vec::new();
    for backend in &backends {
        let mut metadata = acme();
        metadata["client_name"] = json!("Acme Portal 2");
        let answer = create(api, &json!({ "backend": backend, "metadata": metadata })).await?;
        if answer.status != 201 {
            return Err(wrong(2, &format!("{backend} answered {}", answer.status)));
        }
        answers.push(answer.body);
    }
    output::data("\n2/4  The same registration at every backend: what was kept, changed, lost")?;
    show::comparison(&acme(), &backends, &answers)
}

async fn names(api: &Api) -> Result<Vec<String>, Failure> {
    let listed = api.expect(Method::GET, &["v1", "backends"], &[], None, &[]).await?;
    let items = listed.get("items").and_then(Value::as_array);
    Ok(items.into_iter().flatten().filter_map(|b| b.get("name")?.as_str().map(str::to_owned)).collect())
}

async fn refused(api: &Api, fakes: &FakeHost) -> Result<(), Failure> {
    let mut metadata = acme();
    metadata["client_name"] = json!("Acme Vault");
    metadata["token_endpoint_auth_method"] = json!("private_key_jwt");
    metadata["jwks_uri"] = json!("https://portal.acme.example/jwks.json");
    for backend in names(api).await? {
        let body = json!({ "backend": backend, "metadata": metadata });
        let plan =
            api.expect(Method::POST, &["v1", "clients"], &[("dry_run", "true")], Some((JSON, &body)), &[]).await?;
        if plan.get("would") != Some(&json!("refuse")) {
            continue;
        }
        let before = fakes.ledger(None).len();
        let answer = create(api, &body).await?;
        if answer.status != 422
            || answer.body.get("code") != Some(&json!("unsupported-by-backend"))
            || fakes.ledger(None).len() != before
        {
            return Err(wrong(3, &format!("status {}, or something was sent", answer.status)));
        }
        output::data(&format!("\n3/4  Refused: `{backend}` cannot bind this client to its key, so nothing was sent"))?;
        return show::problem(&answer);
    }
    Err(wrong(3, "no backend refuses a client with a key"))
}

async fn normalised(api: &Api, fakes: &FakeHost) -> Result<(), Failure> {
    // the lines that the demo prints at its end go through the routes: the pause is for a backend that none leads to
    let mut routed = Vec::new();
    for labels in [json!({}), json!({ "team": "partners" })] {
        let body = json!({ "metadata": acme(), "labels": labels });
        let explained = api.expect(Method::POST, &["v1", "routes:evaluate"], &[], Some((JSON, &body)), &[]).await?;
        routed.extend(explained.get("backend").and_then(Value::as_str).map(str::to_owned));
    }
    let spare = names(api).await?.into_iter().find(|backend| !routed.contains(backend));
    let backend = spare.ok_or_else(|| wrong(4, "every backend has a route"))?;
    fakes.script(ScriptedFault {
        kind: backend.strip_suffix("-demo").map(str::to_owned),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times: 1,
        when: When::Before,
        fault: Fault::TooMany { retry_after: Some("60".to_owned()) },
    });
    let mut metadata = acme();
    metadata["client_name"] = json!("Acme Once More");
    let answer = create(api, &json!({ "backend": backend, "metadata": metadata })).await?;
    let expected =
        [("code", json!("upstream-rate-limited")), ("outcome", json!("not_performed")), ("retryable", json!(true))];
    if answer.status != 503 || expected.iter().any(|(name, value)| answer.body.get(name) != Some(value)) {
        return Err(wrong(4, &format!("status {}: {}", answer.status, answer.body)));
    }
    output::data(&format!("\n4/4  A vendor's error, normalised: `{backend}` answered 429 in its own words"))?;
    show::problem(&answer)
}
