//! The transport against servers on loopback that behave, misbehave and hang.

mod faults;
mod observing;
mod sending;
mod support;
mod tokens;
