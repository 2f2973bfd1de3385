//! The transport against servers on loopback that behave, misbehave and hang.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not what they call: the servers and the requests")]

mod circuit;
mod faults;
mod limits;
mod observing;
mod renewal;
mod retries;
mod sending;
mod support;
mod tokens;
