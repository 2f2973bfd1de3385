//! End to end: the real binary, real sockets, simulated vendors.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test, a panic is the report")]
#![expect(clippy::print_stdout, reason = "the harnesses print their figures")]

mod api;
mod authentication;
mod canary;
mod command_line;
mod configuration;
mod exactly_once;
mod fault_matrix;
mod hostile;
mod http;
mod kill_loop;
mod running;
mod survival;
