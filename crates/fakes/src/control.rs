//! `/_control`: looking at the ledger and scripting faults with curl.

use registrar_core::{FakeRequest, FakeResponse};
use serde_json::{Value, json};

use crate::{ScriptedFault, host::Shared};

/// The first path segment.
pub(crate) const SEGMENT: &str = "_control";

pub(crate) fn handle(shared: &Shared, request: &FakeRequest) -> FakeResponse {
    let kind = request.query.get("kind").map(String::as_str);
    if let Some(kind) = kind.filter(|k| !shared.fakes.contains_key(*k)) {
        return error(404, &format!("there is no simulated vendor `{kind}`"));
    }
    match (request.method.as_str(), request.segments().as_slice()) {
        ("GET", []) => FakeResponse::json(200, &help(shared)),
        ("GET", ["ledger"]) => FakeResponse::json(200, &json!({ "items": shared.ledger(kind) })),
        ("GET", ["clients"]) => {
            let of = |k: &str| kind.is_none_or(|wanted| wanted == k);
            let items: Vec<Value> = shared
                .fakes
                .iter()
                .filter(|(k, _)| of(k))
                .flat_map(|(k, fake)| fake.clients().into_iter().map(move |c| json!({ "kind": k, "client": c })))
                .collect();
            FakeResponse::json(200, &json!({ "items": items }))
        }
        ("GET", ["faults"]) => FakeResponse::json(200, &json!({ "items": shared.faults() })),
        ("POST", ["faults"]) => match serde_json::from_slice::<ScriptedFault>(&request.body) {
            Ok(fault) => {
                shared.script(fault);
                FakeResponse::json(201, &json!({ "items": shared.faults() }))
            }
            // the fault comes from whoever plays with the fakes: its text holds no secrets
            Err(problem) => error(400, &format!("not a fault: {problem}")),
        },
        ("DELETE", ["faults"]) => {
            shared.clear_faults();
            FakeResponse::empty(204)
        }
        ("POST", ["reset"]) => {
            shared.reset();
            FakeResponse::empty(204)
        }
        _ => error(404, "no such control; GET /_control lists them"),
    }
}

fn help(shared: &Shared) -> Value {
    let kinds: Vec<&str> = shared.fakes.keys().copied().collect();
    json!({
        "vendors": kinds,
        "controls": {
            "GET /_control/ledger?kind=": "what reached the vendors",
            "GET /_control/clients?kind=": "what exists there now, secrets included",
            "POST /_control/faults": "script a fault",
            "GET /_control/faults": "faults that wait",
            "DELETE /_control/faults": "forget them",
            "POST /_control/reset": "forget everything"
        },
        "example": {
            "kind": kinds.first(), "method": "POST", "when": "after", "times": 1, "fault": { "type": "hang" }
        },
        "faults": [
            "hang", "reset", "fin_mid_headers", "fin_mid_body", "status", "html", "empty", "truncate", "oversize", "slow_bytes",
            "delay", "wrong_type", "rename", "remove", "extra_member", "duplicate_key", "redirect", "unauthorized", "too_many",
            "other_client"
        ]
    })
}

fn error(status: u16, message: &str) -> FakeResponse {
    FakeResponse::json(status, &json!({ "error": message }))
}
