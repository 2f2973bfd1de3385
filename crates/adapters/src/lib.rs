//! Every vendor kind that Registrar speaks: one folder and one word in `vendors!` each.
//!
//! A folder holds `mod.rs` (descriptor, settings, the thin async shell), `wire.rs` (the vendor's JSON, exactly as
//! documented), `map.rs` (pure mapping), `fake.rs` (the simulated vendor), `fixtures/` (the vendor's own examples) and
//! `docs.md`.

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "in a test, a panic is the report")]
mod harness;
mod shared;

/// Registers vendor kinds: the module, the entry in [`VENDORS`] and the fake in [`fakes`].
macro_rules! vendors {
    ($($(#[$attr:meta])* $module:ident),+ $(,)?) => {
        $($(#[$attr])* pub mod $module;)+

        /// Every vendor kind, in alphabetical order.
        pub static VENDORS: &[registrar_core::Vendor] = &[$($module::VENDOR),+];

        /// A fresh simulated vendor of every kind.
        #[cfg(feature = "fakes")]
        #[must_use]
        pub fn fakes() -> Vec<std::sync::Arc<dyn registrar_core::Fake>> {
            vec![$(std::sync::Arc::new($module::fake::FakeVendor::default())),+]
        }

        /// The folders that are registered.
        #[cfg(test)]
        const FOLDERS: &[&str] = &[$(stringify!($module)),+];
    };
}

vendors! { authms, bitgo, r#loop, loginradius, rfc7591 }

/// The vendor kind with this name.
#[must_use]
pub fn vendor(kind: &str) -> Option<&'static registrar_core::Vendor> {
    VENDORS.iter().find(|v| v.descriptor.kind == kind)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_folder_is_registered_once_and_named_after_its_kind() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let on_disk: BTreeSet<String> = std::fs::read_dir(src)
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| e.path().is_dir())
            .map(|e| e.file_name().into_string().unwrap())
            .filter(|name| name != "shared")
            .collect();
        let registered: BTreeSet<String> = FOLDERS.iter().map(|f| f.trim_start_matches("r#").to_owned()).collect();
        let kinds: BTreeSet<String> = VENDORS.iter().map(|v| v.descriptor.kind.to_owned()).collect();
        assert_eq!(on_disk, registered, "a folder without its word in `vendors!`, or a word without a folder");
        assert_eq!(kinds, registered, "a kind is named after its folder");
        assert_eq!(registered.len(), FOLDERS.len());
    }

    #[test]
    fn descriptors_name_canonical_fields_in_canonical_order() {
        for vendor in VENDORS {
            let fields: Vec<&str> = registrar_model::field::all().map(|f| f.path).collect();
            let places: Vec<Option<usize>> =
                vendor.descriptor.held.iter().map(|(row, _)| fields.iter().position(|f| f == row)).collect();
            assert!(places.iter().all(Option::is_some), "{}: a row that is no field", vendor.descriptor.kind);
            assert!(places.is_sorted(), "{}: rows out of order", vendor.descriptor.kind);
        }
    }
}
