//! LoginRadius's traps, transformations, errors and accounts. Names lead to `reference/vendors.md`: traps to §8,
//! transformations (`t05`) to §5.2.

mod errors;
mod laws;
mod mapping;
mod settings;
mod simulated;
mod support;
mod traps;
mod updates;
