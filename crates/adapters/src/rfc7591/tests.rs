//! The standards, their traps, and the habits of servers.

mod errors;
mod management;
mod presets;
mod real;
mod settings;
mod support;
mod wire;
