//! Policy: where registrations go, what may be lost, and how a write becomes durable and known.

pub mod config;
pub mod routing;
