//! Policy: where registrations go, what may be lost, and how a write becomes durable and known.

pub mod backend;
mod clock;
pub mod config;
pub mod dcr;
mod delete;
pub mod engine;
mod failpoint;
mod gone;
pub mod idempotency;
mod journal;
pub mod keys;
mod late;
mod look;
pub mod loss_policy;
mod management;
pub mod matrix;
mod naming;
mod open;
pub mod rebuild;
mod reconcile;
mod record;
mod reported;
mod resolve;
mod rotate;
pub mod routing;
mod seal;
mod sightings;
mod unread;
pub mod writes;

pub use backend::{AlwaysOpen, Backend, Connect, ConnectOptions, Connection, Gate};
pub use config::{AuthMode, Config, Diagnostics, Environment, OnLoss};
pub use engine::{Caller, DryRun, Engine, EngineOptions, Failure, NewSecret, SecretState, Written, store_error};
pub use idempotency::Idempotency;
pub use keys::Scope;
pub use reported::Reported;
pub use resolve::Resolution;
