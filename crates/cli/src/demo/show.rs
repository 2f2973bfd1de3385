//! How the demo prints.

use registrar_fakes::FakeHost;
use serde_json::Value;

use crate::{api::Answer, failure::Failure, output};

/// Fields by backends: `=` kept, `~` changed, `x` lost, with the reasons below.
pub(super) fn comparison(sent: &Value, backends: &[String], answers: &[Value]) -> Result<(), Failure> {
    let mut header = vec!["field"];
    header.extend(backends.iter().map(String::as_str));
    let mut table = output::table(&header);
    let mut reasons: Vec<String> = Vec::new();
    for name in sent.as_object().into_iter().flatten().map(|(name, _)| name) {
        let field = format!("metadata.{name}");
        let mut row = vec![field.clone()];
        for (backend, answer) in backends.iter().zip(answers) {
            let losses = answer.get("losses").and_then(Value::as_array);
            let loss = losses.into_iter().flatten().find(|l| l.get("field").and_then(Value::as_str) == Some(&field));
            row.push(match loss {
                None => "= kept".to_owned(),
                Some(loss) => {
                    let part = |name: &str| loss.get(name).and_then(Value::as_str).unwrap_or("");
                    reasons.push(format!("     [{}] {field} at {backend}: {}", reasons.len() + 1, part("reason")));
                    let mark = if loss.get("got").is_some() { "~" } else { "x" };
                    let got = loss.get("got").map(|g| format!(" -> {}", output::short(g))).unwrap_or_default();
                    format!("{mark} {}{got} [{}]", part("kind").replace('_', " "), reasons.len())
                }
            });
        }
        table.add_row(row);
    }
    output::data(&table.to_string())?;
    output::data(&reasons.join("\n"))
}

/// A problem document, without what repeats.
pub(super) fn problem(answer: &Answer) -> Result<(), Failure> {
    let mut body = answer.body.clone();
    if let Some(object) = body.as_object_mut() {
        for name in ["losses", "type", "request_id", "title", "status"] {
            object.remove(name);
        }
    }
    let text = serde_json::to_string_pretty(&body).unwrap_or_default();
    output::data(&format!(
        "     HTTP {}\n{}",
        answer.status,
        text.lines().map(|l| format!("     {l}")).collect::<Vec<_>>().join("\n")
    ))
}

pub(super) fn what_next(url: &str, fakes: &FakeHost) -> Result<(), Failure> {
    output::data(&format!(
        "\nStill serving on {url}; its API is at {url}/docs. Ctrl-C ends everything. Try:\n\n  \
         curl -s {url}/v1/clients -H 'content-type: application/json' -d '{{\"metadata\":{{\"client_name\":\"Mine\",\"redirect_uris\":[\"https://app.example/cb\"]}}}}'\n  \
         curl -s '{url}/v1/clients?q=acme'\n  \
         curl -s http://{}/_control/ledger\n",
        fakes.addr()
    ))
}
