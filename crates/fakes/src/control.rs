//! `/_control/`: looking at the ledger and scripting faults with curl.

use bytes::Bytes;
use registrar_core::{FakeRequest, FakeResponse};
use serde_json::{Map, Value, json};

use crate::{
    fault::{Fault, ScriptedFault},
    host::Shared,
};

/// The first path segment.
pub(crate) const SEGMENT: &str = "_control";

pub(crate) fn handle(shared: &Shared, request: &FakeRequest) -> FakeResponse {
    let segments = request.segments();
    let takes_kind = matches!((request.method.as_str(), segments.as_slice()), ("GET", ["ledger" | "clients"]));
    if let Some(name) = request.query.keys().find(|name| !takes_kind || *name != "kind") {
        return error(400, &format!("`{name}` is not a parameter of this call"));
    }
    let kind = request.query.get("kind").map(String::as_str);
    if let Some(kind) = kind.filter(|k| !shared.fakes.contains_key(k)) {
        return not_found(shared, &format!("there is no simulated vendor `{kind}`"));
    }
    match (request.method.as_str(), segments.as_slice()) {
        ("GET", []) => pretty(200, &help(shared, request.headers.get("host").map_or("ADDRESS", String::as_str))),
        ("GET", ["ledger"]) => pretty(200, &json!({ "items": shared.ledger(kind) })),
        ("GET", ["clients"]) => pretty(200, &json!({ "items": clients(shared, kind) })),
        ("GET", ["faults"]) => pretty(200, &json!({ "items": shared.faults() })),
        ("POST", ["faults"]) => script(shared, &request.body),
        ("DELETE", ["faults"]) => {
            shared.clear_faults();
            FakeResponse::empty(204)
        }
        ("POST", ["reset"]) => {
            shared.reset();
            FakeResponse::empty(204)
        }
        _ => not_found(shared, &format!("there is no {} /{SEGMENT}/{}", request.method, segments.join("/"))),
    }
}

/// 404, with what there is.
pub(crate) fn not_found(shared: &Shared, message: &str) -> FakeResponse {
    pretty(404, &json!({ "error": message, "vendors": kinds(shared), "controls": calls() }))
}

fn script(shared: &Shared, body: &Bytes) -> FakeResponse {
    let fault = match serde_json::from_slice::<ScriptedFault>(body) {
        Ok(fault) => fault,
        // the fault comes from whoever plays with the fakes: its text holds no secrets
        Err(problem) => return error(400, &format!("not a fault: {problem}")),
    };
    if let Some(kind) = fault.kind.as_deref().filter(|k| !shared.fakes.contains_key(k)) {
        let known = kinds(shared).join(", ");
        return error(400, &format!("not a fault: there is no simulated vendor `{kind}`, but there are {known}"));
    }
    shared.script(fault);
    pretty(201, &json!({ "items": shared.faults() }))
}

fn clients(shared: &Shared, kind: Option<&str>) -> Vec<Value> {
    let wanted = shared.fakes.iter().filter(|(k, _)| kind.is_none_or(|kind| kind == **k));
    wanted.flat_map(|(k, fake)| fake.clients().into_iter().map(move |c| json!({ "kind": k, "client": c }))).collect()
}

fn kinds(shared: &Shared) -> Vec<&'static str> {
    shared.fakes.keys().copied().collect()
}

fn calls() -> Value {
    json!({
        "GET /_control/": "this page",
        "GET /_control/ledger?kind=": "what reached the vendors",
        "GET /_control/clients?kind=": "what exists there now, secrets included",
        "GET /_control/faults": "faults that wait",
        "POST /_control/faults": "script a fault",
        "DELETE /_control/faults": "forget them",
        "POST /_control/reset": "forget everything: clients, ledger, faults"
    })
}

fn help(shared: &Shared, host: &str) -> Value {
    let kind = kinds(shared).first().copied().unwrap_or("KIND");
    let lost = json!({ "kind": kind, "method": "POST", "when": "after", "fault": Fault::Reset {} });
    let faults: Map<String, Value> = Fault::examples().iter().map(|f| (f.name(), json!(f))).collect();
    json!({
        "vendors": kinds(shared),
        "controls": calls(),
        "examples": [
            format!("curl http://{host}/_control/ledger?kind={kind}"),
            format!("curl http://{host}/_control/faults -d '{lost}'"),
            format!("curl -X DELETE http://{host}/_control/faults"),
            format!("curl -X POST http://{host}/_control/reset"),
        ],
        "fault": {
            "kind": "only this vendor", "method": "only this verb", "path_contains": "only paths with this text",
            "skip": "matching requests to let through first (0)", "times": "how many to spoil (1)",
            "when": "before: the vendor never sees the request; after: it does the work, then the answer is spoiled",
            "fault": "one of `faults`",
        },
        "faults": faults,
    })
}

fn error(status: u16, message: &str) -> FakeResponse {
    pretty(status, &json!({ "error": message }))
}

/// JSON for people.
fn pretty(status: u16, body: &Value) -> FakeResponse {
    FakeResponse { body: Bytes::from(format!("{body:#}\n")), ..FakeResponse::json(status, &Value::Null) }
}
