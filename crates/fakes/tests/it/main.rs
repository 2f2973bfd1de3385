//! The host through plain sockets, because a client that understands HTTP hides what is on the wire.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not what they call: the client")]

mod controls;
mod faults;
mod hosting;
mod support;
