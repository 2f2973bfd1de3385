//! Policy: where registrations go, what may be lost, and how a write becomes durable and known.

pub mod backend;
pub mod config;
pub mod engine;
pub mod keys;
pub mod loss_policy;
pub mod matrix;
pub mod routing;
pub mod writes;

pub use backend::{Backend, Connect, ConnectOptions, Connection};
pub use config::{AuthMode, Config, Diagnostics, Environment, OnLoss};
pub use engine::{Caller, DryRun, Engine, Failure, NewSecret, Written, store_error};
pub use keys::Scope;
