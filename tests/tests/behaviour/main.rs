//! The behaviour suite: the same laws for every vendor kind, through the real transport against its fake. Which laws
//! apply is read from the descriptor.

mod laws;
mod updates;
mod wire_faults;

use libtest_mimic::{Arguments, Failed, Trial};
use registrar_adapters::VENDORS;

/// A law: a name and a check that starts its own fake.
type Law = (&'static str, fn(&'static str) -> Result<(), String>);

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for vendor in VENDORS {
        let kind = vendor.descriptor.kind;
        for (name, law) in laws::LAWS.iter().chain(updates::LAWS).chain(wire_faults::LAWS) {
            let law = *law;
            trials.push(Trial::test(format!("{kind}::{name}"), move || law(kind).map_err(Failed::from)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Runs an asynchronous check on a runtime of its own.
fn block_on<T>(check: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?.block_on(check)
}

/// A condition that must hold.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
