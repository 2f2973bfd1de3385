//! The contract between Registrar and its adapters.
//!
//! An adapter is pure mapping plus a thin async shell: it speaks to its vendor only through the injected [`Http`]
//! handle. This crate has no HTTP client and no server, and names no vendor.

pub mod adapter;
pub mod credential;
pub mod descriptor;
pub mod error;
pub mod fake;
pub mod http;
pub mod path;
pub mod secrets;
pub mod settings;
pub mod vendor;

pub use adapter::{Adapter, IssuedSecret, Management, Offers, Page, PageToken, PlannedRequest, Target, VendorClient};
pub use credential::{ClientCredentials, Credential, Secret, TokenForm, TokenLife};
pub use descriptor::{
    DeleteModel, Descriptor, IdempotencyClass, Limits, OpSupport, Ops, SecretModel, Support, UpdateStyle, Verified,
};
pub use error::{Error, ErrorKind, NamedClient, Outcome, Result, VendorDetail};
pub use fake::{Fake, FakeRequest, FakeResponse};
pub use http::{Effect, Http, Request, Response, Subject};
pub use path::endpoint;
pub use secrecy::{ExposeSecret, SecretString};
pub use secrets::Secrets;
pub use settings::{SettingIssue, Settings};
pub use vendor::{Blueprint, Vendor};
