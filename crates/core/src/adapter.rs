//! What an adapter does.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use registrar_model::{AuthMethod, ClientId, ClientSpec, Issue, Issues, Loss, Mapped, Scope};
use secrecy::SecretString;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::Value;
use url::Url;

use crate::{
    descriptor::Descriptor,
    error::{Error, Result},
};

/// Which client, for the vendor.
#[derive(Clone, Debug)]
pub struct Target {
    /// As issued.
    pub client_id: ClientId,
    /// What the vendor's paths address it by (an id of its own, a name); opaque to everyone but the adapter.
    pub vendor_ref: String,
    /// As the vendor gave it last, where it gives one ([`VendorClient::management`]).
    pub management: Option<Management>,
    /// The authentication method on record: what an answer that leaves the method out means.
    pub auth_method: Option<AuthMethod>,
    /// The scope on record: it tells which words a server that never shows them was asked for.
    pub scope: Option<Scope>,
}

/// Where and with which token one client is managed (RFC 7592 §3), where the vendor issues both with the client.
#[derive(Clone)]
pub struct Management {
    /// `registration_client_uri`.
    pub uri: Url,
    /// `registration_access_token`.
    pub token: SecretString,
}

/// The query is not shown: it may hold a secret.
impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Management").field("path", &self.uri.path()).finish_non_exhaustive()
    }
}

/// A secret as just issued.
#[derive(Clone, Debug)]
pub struct IssuedSecret {
    /// The secret; shown once.
    pub value: SecretString,
    /// Unix seconds; 0 means never (RFC 7591 §3.2.1). `None` where the vendor shows a time that cannot be read: never 0
    /// then.
    pub expires_at: Option<i64>,
    /// Unix seconds until which the secret before this one still works, where the vendor documents it.
    pub previous_valid_until: Option<i64>,
}

/// What the gateway can do with one client beside creating it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// Reading it.
    pub read: bool,
    /// Changing it.
    pub update: bool,
    /// Deleting it.
    pub delete: bool,
}

/// A client as the vendor shows it.
#[derive(Clone, Debug)]
pub struct VendorClient {
    /// Its `client_id`.
    pub client_id: ClientId,
    /// See [`Target::vendor_ref`].
    pub vendor_ref: String,
    /// Unix seconds (RFC 7591 §3.2.1).
    pub client_id_issued_at: Option<i64>,
    /// Everything that the vendor shows, in canonical terms; members that have none are in `vendor`.
    pub spec: ClientSpec,
    /// What the answer shows and the gateway cannot read or keep, as losses of nothing that was asked; `spec` does not
    /// have it.
    pub unread: Vec<Loss>,
    /// Present only where the vendor issues one at that moment.
    pub secret: Option<IssuedSecret>,
    /// How the client is managed from now on; any answer may replace what was given before (RFC 7592 §2.1, §2.2), and the
    /// old token may be dead then. Absent where the vendor has one credential for all clients, or gave none for this one.
    pub management: Option<Management>,
}

impl VendorClient {
    /// How to address it from now on.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            client_id: self.client_id.clone(),
            vendor_ref: self.vendor_ref.clone(),
            management: self.management.clone(),
            auth_method: self.spec.metadata.token_endpoint_auth_method.clone(),
            scope: self.spec.metadata.scope.clone(),
        }
    }
}

/// Where a listing continues; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// One page of clients.
#[derive(Clone, Debug)]
pub struct Page {
    /// The clients; never with secrets.
    pub items: Vec<VendorClient>,
    /// Where to continue; `None` at the end.
    pub next: Option<PageToken>,
}

/// A request that would be sent. Made for every write, shown for few: the body stays text until it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRequest {
    /// The verb.
    pub method: Method,
    /// The whole URL.
    pub url: Url,
    /// The JSON text of the body, if there is one; the adapters' bodies hold no secrets.
    pub text: Option<Bytes>,
}

impl PlannedRequest {
    /// The body as JSON.
    #[must_use]
    pub fn body(&self) -> Option<Value> {
        self.text.as_ref().and_then(|text| serde_json::from_slice(text).ok())
    }
}

/// `{method, url, body?}`
impl Serialize for PlannedRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let body = self.body();
        let mut out = serializer.serialize_struct("PlannedRequest", if body.is_some() { 3 } else { 2 })?;
        out.serialize_field("method", self.method.as_str())?;
        out.serialize_field("url", self.url.as_str())?;
        if let Some(body) = &body {
            out.serialize_field("body", body)?;
        }
        out.end()
    }
}

/// One vendor kind behind the canonical model.
///
/// # Contract
/// The behaviour suite holds every adapter to this, by its [`Descriptor`]:
/// - an operation that the descriptor does not declare is refused without a call;
/// - `preview` is pure, and `create` sends exactly what `preview` showed;
/// - losses returned by a write are predictions of the mapping; [`registrar_model::account::account`] settles them
///   against what the vendor shows;
/// - every documented error of the vendor gets its kind; a write that may have been done says so in its outcome;
/// - where clients are managed with a token of their own, every answer says how from then on, and nothing is sent to any
///   origin but the backend's;
/// - nothing is sent when the request cannot be represented at all (the error says why, with a pointer).
#[async_trait]
pub trait Adapter: fmt::Debug + Send + Sync + 'static {
    /// What this kind can do; readable without a backend.
    fn descriptor(&self) -> &'static Descriptor;

    /// Checks `vendor.<kind>` members: names, types, enumerations. Pointers begin at `#/vendor/<kind>`.
    fn validate_vendor(&self, spec: &ClientSpec, issues: &mut Issues);

    /// Pure. The requests that [`Self::create`] would send, and what would be lost.
    ///
    /// # Errors
    /// When the registration cannot be represented at all.
    fn preview(&self, desired: &ClientSpec) -> Result<Mapped<Vec<PlannedRequest>>>;

    /// Pure. The requests that [`Self::update`] would send (none when nothing changes), and what would be lost.
    ///
    /// # Errors
    /// As [`Self::update`], without calls.
    fn preview_update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Vec<PlannedRequest>>>;

    /// Creates a client by the plan that [`Self::preview`] made for `desired`, so that what is sent is what was shown.
    ///
    /// # Errors
    /// The vendor's, classified.
    async fn create_as_planned(
        &self,
        desired: &ClientSpec,
        plan: Mapped<Vec<PlannedRequest>>,
    ) -> Result<Mapped<VendorClient>>;

    /// Plans and creates a client.
    ///
    /// # Errors
    /// The vendor's, classified; or the request's, before any call.
    async fn create(&self, desired: &ClientSpec) -> Result<Mapped<VendorClient>> {
        let plan = self.preview(desired)?;
        self.create_as_planned(desired, plan).await
    }

    /// Pure. What this client offers: what the descriptor declares, or less where clients are managed with a token of their
    /// own and there is none for this one.
    fn offers(&self, _target: &Target) -> Offers {
        let declared = &self.descriptor().operations;
        Offers {
            read: declared.read.is_supported(),
            update: declared.update.is_supported(),
            delete: declared.delete.is_supported(),
        }
    }

    /// Reads a client.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when the vendor does not know it.
    async fn read(&self, target: &Target) -> Result<VendorClient>;

    /// Lists clients, a page at a time.
    ///
    /// # Errors
    /// Also when a page is not complete: never a silently shorter list.
    async fn list(&self, _page: Option<PageToken>) -> Result<Page> {
        Err(undeclared(self.descriptor(), "listing clients"))
    }

    /// Makes the client be exactly `desired`, whatever verb the vendor has: members of `current` (the gateway's record:
    /// what the vendor showed last, with what it holds but does not show) that `desired` does not have are removed.
    ///
    /// # Errors
    /// As [`Self::create`].
    async fn update(
        &self,
        _target: &Target,
        _current: &ClientSpec,
        _desired: &ClientSpec,
    ) -> Result<Mapped<VendorClient>> {
        Err(undeclared(self.descriptor(), "updating a client"))
    }

    /// Pure. Whether the answer to an [`Self::update`] that sent something held a secret that the client did not have
    /// before; `shown` is the client as the vendor shows it since.
    fn update_issued_secret(&self, _current: &ClientSpec, _desired: &ClientSpec, _shown: &ClientSpec) -> bool {
        false
    }

    /// Switches a client on or off.
    ///
    /// # Errors
    /// As [`Self::update`].
    async fn set_enabled(&self, _target: &Target, _enabled: bool) -> Result<VendorClient> {
        Err(undeclared(self.descriptor(), "switching a client on or off"))
    }

    /// Deletes a client at the vendor.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when it was not there.
    async fn delete(&self, _target: &Target) -> Result<()> {
        Err(undeclared(self.descriptor(), "deleting a client"))
    }

    /// Issues a new secret.
    ///
    /// # Errors
    /// Also when the answer holds no usable secret: never a success without one.
    async fn rotate_secret(&self, _target: &Target) -> Result<IssuedSecret> {
        Err(undeclared(self.descriptor(), "rotating a secret"))
    }

    /// Makes one cheap read, to see whether the vendor and the credential work.
    ///
    /// # Errors
    /// Whatever that read meets.
    async fn check(&self) -> Result<()>;
}

/// The refusal of an operation that the vendor does not document.
#[must_use]
pub fn undeclared(descriptor: &Descriptor, what: &str) -> Error {
    Error::unsupported(format!("{what} is not documented by vendor kind `{}`; nothing was sent", descriptor.kind))
}

/// An issue of a member of `vendor.<kind>`.
#[must_use]
pub fn vendor_issue(kind: &str, member: &str, code: registrar_model::IssueCode, detail: String) -> Issue {
    Issue { pointer: registrar_model::Pointer::root().child("vendor").child(kind).child(member), code, detail }
}

/// A shared adapter.
pub type DynAdapter = Arc<dyn Adapter>;
