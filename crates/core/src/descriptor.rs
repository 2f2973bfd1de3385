//! What a vendor kind can do, as data: served at `GET /v1/vendors`, and proved both ways by the behaviour suite.

use registrar_model::FieldInfo;
use serde::Serialize;

/// Everything that is known of a vendor kind without a backend.
#[derive(Debug, Serialize)]
pub struct Descriptor {
    /// The word in the configuration.
    pub kind: &'static str,
    /// The vendor's name for people.
    pub title: &'static str,
    /// What the claims below rest on.
    pub source: &'static str,
    /// How far they were checked.
    pub verified: Verified,
    /// The operations.
    pub operations: Ops,
    /// The canonical fields (`metadata.*`, `policy.*`) that the vendor holds, with how well; every other field is
    /// unsupported. [`Descriptor::support`] and [`Descriptor::matrix`] read it.
    #[serde(skip)]
    pub held: &'static [(&'static str, Support)],
    /// The vendor-only members that `vendor.<kind>` takes: name and meaning.
    pub vendor_members: &'static [(&'static str, &'static str)],
    /// The keys of `settings`: name and meaning.
    pub settings: &'static [(&'static str, &'static str)],
    /// Documented limits.
    pub limits: Limits,
    /// How the vendor's update treats members that are not sent.
    pub update_style: UpdateStyle,
    /// When secrets are shown.
    pub secret: SecretModel,
    /// What can be found out about a create whose answer was lost.
    pub idempotency: IdempotencyClass,
    /// What deleting means.
    pub delete: DeleteModel,
}

impl Descriptor {
    /// How well the field at a canonical path is held.
    #[must_use]
    pub fn support(&self, path: &str) -> Support {
        self.held.iter().find(|(field, _)| *field == path).map_or(Support::Unsupported, |(_, support)| *support)
    }

    /// Every canonical field with how well it is held, in canonical order.
    pub fn matrix(&self) -> impl Iterator<Item = (&'static FieldInfo, Support)> + '_ {
        registrar_model::field::all().map(|field| (field, self.support(field.path)))
    }
}

/// How far a descriptor's claims were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Against the vendor's documents, by a fake that enforces them.
    Documented,
    /// Against a running server.
    Live,
}

/// Whether an operation works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OpSupport {
    /// One documented call.
    #[serde(rename = "full")]
    Native,
    /// Made of other documented calls (reading one client by filtering the list).
    #[serde(rename = "partial")]
    Emulated,
    /// Not documented by the vendor; refused before any call.
    Unsupported,
}

impl OpSupport {
    /// True when it works.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self != Self::Unsupported
    }
}

/// The operations.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ops {
    /// Creating a client.
    pub create: OpSupport,
    /// Reading one.
    pub read: OpSupport,
    /// Listing all.
    pub list: OpSupport,
    /// Changing one.
    pub update: OpSupport,
    /// Switching one off and on.
    pub disable: OpSupport,
    /// Deleting one.
    pub delete: OpSupport,
    /// Issuing a new secret.
    pub rotate_secret: OpSupport,
}

/// How well a field is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As it is.
    Full,
    /// With the restriction in the note.
    Partial(&'static str),
    /// The vendor has no place for it.
    Unsupported,
    /// The vendor has a place, this adapter does not use it yet.
    NotImplemented,
}

impl Support {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial(_) => "partial",
            Self::Unsupported => "unsupported",
            Self::NotImplemented => "not_implemented",
        }
    }

    /// The restriction, where there is one.
    #[must_use]
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Partial(note) => Some(note),
            Self::Full | Self::Unsupported | Self::NotImplemented => None,
        }
    }
}

/// Documented limits; `None` where the vendor states none.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Characters of a name.
    pub name_max: Option<u32>,
    /// The least number of redirect URIs.
    pub redirect_uris_min: u32,
    /// The least number of scopes.
    pub scopes_min: u32,
    /// Requests a second.
    pub requests_per_second: Option<u32>,
}

/// How the vendor's update treats members that are not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStyle {
    /// They stay (`PATCH`, or a merging `PUT`).
    Merge,
    /// They are removed.
    Replace,
}

/// When secrets are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretModel {
    /// On create and on rotation only.
    ShownOnce,
    /// Reads show it too; the gateway discards it there.
    ReadableAtVendor,
}

/// What can be found out about a create whose answer was lost (reliability §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum IdempotencyClass {
    /// The caller chooses the id, or the vendor takes an idempotency key.
    A,
    /// A unique name finds it.
    B,
    /// A listing finds it by its contents.
    C,
    /// Nothing finds it: a person must look.
    D,
}

/// What deleting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteModel {
    /// Gone at once.
    Hard,
    /// Marked as deleted, no longer readable.
    Soft,
    /// Not documented; it can be switched off.
    DisableOnly,
    /// Not documented, and neither is switching off.
    None,
}
