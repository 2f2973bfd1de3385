//! The canonical model of Registrar: one OAuth client registration, whoever the vendor is.
//!
//! Everything here is pure: no I/O, no clock, no randomness except in the id constructors. The layers are
//! [`ClientMetadata`] (RFC 7591 names, exactly), [`Policy`] (admin-only members that RFC 7591 lacks), vendor
//! extensions, and the gateway-owned identity in [`Registration`].
//!
//! Loss is data: [`Loss`], [`Losses`] and [`account`](account::account) say, field by field, what did not survive.

pub mod account;
pub mod field;
pub mod hosts;
pub mod id;
pub mod issue;
pub mod json;
pub mod jwk;
pub mod loss;
pub mod member;
pub mod metadata;
pub mod patch;
pub mod policy;
pub mod registration;
pub mod request;
mod scheme;
mod scope;
pub mod severity;
pub mod spec;
pub mod text;
pub mod uri;
pub mod validate;

pub use field::{Compare, FieldInfo, JsonType, fields};
pub use hosts::{PrivateHosts, Reach};
pub use id::{BackendName, ClientId, OperationId, RegistrationId};
pub use issue::{Issue, IssueCode, Issues, Pointer, Position, ReferenceToken};
pub use loss::{Loss, LossKind, Losses, Mapped, Severity};
pub use member::{AuthMethod, GrantType, Jwks, Member, ResponseType, Scope};
pub use metadata::ClientMetadata;
pub use policy::Policy;
pub use registration::{Hidden, Notes, Registration, State};
pub use request::NewRegistration;
pub use severity::Uses;
pub use spec::ClientSpec;
pub use uri::RedirectUri;
