//! End to end: the real binary, real sockets, simulated vendors.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test, a panic is the report")]
#![expect(clippy::print_stdout, reason = "the harnesses print their figures")]

mod api;
mod authentication;
mod canary;
mod command_line;
mod configuration;
mod dcr;
mod dcr_admin;
mod dcr_conformance;
mod dcr_corpus;
mod dcr_discovery;
mod dcr_errors;
mod dcr_extensions;
mod dcr_incidents;
mod dcr_management;
mod dcr_not_recorded;
mod dcr_registration;
mod dcr_statements;
mod dcr_tokens;
mod dcr_unused;
mod disk;
mod document_faults;
mod exactly_once;
mod fault_matrix;
mod gate;
mod hostile;
mod http;
mod issuer;
mod kill_loop;
mod lost_answers;
mod not_recorded;
mod real_clients;
mod running;
mod schemathesis;
mod store_damage;
mod store_faults;
mod store_place;
mod store_rebuild;
mod survival;
mod truths;
mod two_gateways;
