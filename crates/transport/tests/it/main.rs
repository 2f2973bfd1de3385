//! The transport against servers on loopback that behave, misbehave and hang.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not what they call: the servers and the requests")]

mod faults;
mod observing;
mod sending;
mod support;
mod tokens;
