//! Places where a test lets the process die, as by `kill -9`: `REGISTRAR_FAILPOINT=NAME[:N]` ends it when the place is
//! reached for the N-th time. Builds without debug assertions have none.

#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let text = std::env::var("REGISTRAR_FAILPOINT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(nth.parse().ok()?)))
    });
    if let Some((wanted, left)) = &*WANTED
        && wanted == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // neither destructors nor exit handlers run: nothing is flushed, as when the kernel kills
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn reach(_name: &str) {}

/// The write path that everybody writes first: call the vendor, then store what it said (`REGISTRAR_NAIVE_WRITES=1`). It
/// is here so that the harness can show that it would notice.
#[cfg(debug_assertions)]
pub(crate) fn naive_writes() -> bool {
    static NAIVE: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var("REGISTRAR_NAIVE_WRITES").is_ok_and(|v| v == "1"));
    *NAIVE
}

#[cfg(not(debug_assertions))]
pub(crate) fn naive_writes() -> bool {
    false
}
