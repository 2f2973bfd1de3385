//! The engine over a store and a vendor that fail at chosen moments, and beside a second gateway, without sockets.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod adoption;
mod answers;
mod evidence;
mod gone;
mod late;
mod own;
mod rig;
mod round;
mod spending;
mod token;
mod unused;
