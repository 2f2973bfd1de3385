//! The entry of a vendor kind in the one list of kinds.

use std::{fmt, sync::Arc};

use url::Url;

use crate::{adapter::DynAdapter, credential::Credential, descriptor::Descriptor, http::Http, settings::Settings};

/// A vendor kind: what it can do, and how a backend of it is made from `settings`.
#[derive(Clone, Copy)]
pub struct Vendor {
    /// What it can do.
    pub descriptor: &'static Descriptor,
    /// Reads `settings`; issues are collected in it, and `None` is returned when there were any.
    pub configure: fn(&mut Settings<'_>) -> Option<Blueprint>,
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vendor").field("kind", &self.descriptor.kind).finish_non_exhaustive()
    }
}

/// Makes the adapter once the way to the vendor exists.
pub type Build = Box<dyn FnOnce(Arc<dyn Http>) -> DynAdapter + Send>;

/// A checked configuration of a backend, before anything is opened.
pub struct Blueprint {
    /// Where the vendor is; the transport refuses any other origin.
    pub base_url: Url,
    /// How to authenticate.
    pub credential: Credential,
    /// Makes the adapter.
    pub build: Build,
}

impl fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blueprint").field("base_url", &self.base_url.as_str()).finish_non_exhaustive()
    }
}
