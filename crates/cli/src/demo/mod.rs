//! `registrar demo`: the main job in front of simulated vendors, printed readably, checked by itself.

mod show;
mod steps;

use std::{net::SocketAddr, path::Path};

use registrar_adapters::VENDORS;
use registrar_core::SecretString;
use registrar_engine::{Config, Environment};
use registrar_fakes::FakeHost;
use serde_json::Value;

use crate::{
    api::Api,
    args::DemoArgs,
    failure::{Failure, LOCAL},
    output,
    serve::Gateway,
};

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::local("the demo has no authentication and listens on loopback addresses only"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| Failure::local(e.to_string()))?.block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|e| Failure::local(format!("no temporary folder: {e}")))?;
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let fakes =
        FakeHost::start(anywhere, registrar_adapters::fakes()).await.map_err(|e| Failure::local(e.to_string()))?;
    let listen = if args.once || !is_free(args.listen) { anywhere } else { args.listen };
    let gateway = Gateway::open(configuration(&fakes, folder.path(), listen)?).await?;
    let address = gateway.listener.local_addr().map_err(|e| Failure::local(e.to_string()))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(gateway.run(async move {
        // a dropped sender stops as well
        let _ = stopped.await;
    }));
    let url = format!("http://{address}");
    output::data(&format!(
        "Registrar on {url}, {} simulated vendors on http://{}, SQLite in a temporary folder.",
        VENDORS.len(),
        fakes.addr()
    ))?;
    let api = Api::new(&url, None)?;
    let result = steps::run(&api, &fakes).await;
    match (&result, args.once) {
        (Ok(()), false) => {
            show::what_next(&url, &fakes)?;
            crate::serve::stop_signal().await;
        }
        (Ok(()), true) => output::data("\nAll results are as they should be.")?,
        (Err(_), _) => {}
    }
    drop(stop);
    match serving.await {
        Ok(served) => served?,
        Err(error) => return Err(Failure::local(format!("the gateway ended abnormally: {error}"))),
    }
    result
}

fn is_free(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_ok()
}

/// One backend for each simulated vendor, one rule, one default.
fn configuration(fakes: &FakeHost, folder: &Path, listen: SocketAddr) -> Result<Config, Failure> {
    let mut text = format!(
        "[server]\nlisten = \"{listen}\"\npublic_url = \"http://{listen}\"\n[store]\nurl = {}\nballast = \"0\"\n[auth]\nmode = \"none\"\n",
        quoted(&format!("sqlite:{}", folder.join("registrar.db").display()))
    );
    for kind in fakes.kinds() {
        let settings = fakes.fake(kind).map(|f| f.settings(&fakes.base_url(kind))).unwrap_or_default();
        text.push_str(&format!(
            "[[backends]]\nname = \"{kind}-demo\"\nkind = \"{kind}\"\nsettings = {}\n",
            inline(&settings)
        ));
    }
    // vendors that can be looked through; the standard itself cannot
    let listed =
        |kind: &&str| registrar_adapters::vendor(kind).is_some_and(|v| v.descriptor.operations.list.is_supported());
    let kinds: Vec<&str> = fakes.kinds().filter(listed).collect();
    let (first, last) = (kinds.first().copied().unwrap_or_default(), kinds.last().copied().unwrap_or_default());
    text.push_str(&format!("[[routes]]\nname = \"partners\"\nwhen = 'has(labels.team) && labels.team == \"partners\"'\nbackend = \"{last}-demo\"\n"));
    text.push_str(&format!("[[routes]]\nname = \"default\"\nbackend = \"{first}-demo\"\n"));
    // the fakes' secrets are no secrets: here, and only here, they stand in the configuration itself
    let literal = |text: &str| Ok(SecretString::from(text.to_owned()).into());
    let environment = Environment { vendors: VENDORS, secrets: &literal };
    Config::parse(&text, Path::new("demo.toml"), environment).map_err(|d| Failure { code: LOCAL, text: d.to_string() })
}

/// A JSON object as a TOML inline table.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let members: Vec<String> = object.iter().map(|(k, v)| format!("{k} = {}", inline(v))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's too
    Value::String(text.to_owned()).to_string()
}
