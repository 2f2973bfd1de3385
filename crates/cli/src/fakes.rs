//! `registrar fakes`: the simulated vendors, to play with.

use registrar_fakes::FakeHost;
use serde_json::Value;

use crate::{api, args::FakesArgs, failure::Failure, output};

pub(crate) fn run(args: &FakesArgs) -> Result<(), Failure> {
    api::block_on(async {
        let host = FakeHost::start(args.listen, registrar_adapters::fakes())
            .await
            .map_err(|e| Failure::local(format!("{}: {e}", args.listen)))?;
        output::data(&format!("simulated vendors on http://{}", host.addr()))?;
        for kind in host.kinds() {
            let settings = host.fake(kind).map(|f| f.settings(&host.base_url(kind))).unwrap_or_default();
            output::note(&format!("\n# {kind}"));
            describe("", &settings);
        }
        output::note(&format!("\nledger, faults, reset: curl http://{}/_control", host.addr()));
        crate::serve::stop_signal().await;
        Ok(())
    })
}

/// The settings of a backend that talks to a fake: secrets as the variables to export.
fn describe(prefix: &str, settings: &Value) {
    for (name, value) in settings.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => describe(&format!("{prefix}{name}."), value),
            Value::String(text) => output::note(&format!("{prefix}{name} = {text}")),
            other => output::note(&format!("{prefix}{name} = {other}")),
        }
    }
}
