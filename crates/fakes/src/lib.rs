//! The loopback host of simulated vendors: `registrar demo`, `registrar fakes`, the behaviour suite and the end-to-end
//! tests talk to vendors through it. It adds sockets, a ledger of what reached each vendor, and scripted faults.

mod body;
mod control;
mod fault;
mod host;
mod ledger;
mod serve;
mod spoil;
mod wire;

pub use fault::{Fault, ScriptedFault, When};
pub use host::FakeHost;
pub use ledger::LedgerEntry;
