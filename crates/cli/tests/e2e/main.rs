//! End to end: the real binary, real sockets, simulated vendors.

mod api;
mod authentication;
mod command_line;
mod configuration;
mod hostile;
mod http;
mod running;
