//! What the process asks of the operating system: descriptors enough, and no copy of its memory.

use registrar_engine::Config;
use registrar_server::serve::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More connections than this one process does not serve.
const MOST_CONNECTIONS: usize = 8192;
/// Descriptors beside connections: the store, its journal and ballast, the log, the runtime.
const OWN_DESCRIPTORS: usize = 64;

/// Raises the number of descriptors to the most that is allowed, and says how many connections they are for: what the
/// vendors' connections and the store need is kept, up to a half of all.
pub(crate) fn limits(config: &Config) -> Limits {
    let descriptors = descriptors();
    let vendors = config.backends.iter().map(|b| b.max_in_flight).fold(0, usize::saturating_add);
    let limits = budget(descriptors, vendors, config.registration.proxies);
    tracing::info!(
        descriptors,
        connections = limits.connections,
        connections_per_address = limits.per_address,
        "connections are limited"
    );
    limits
}

fn budget(descriptors: usize, vendors: usize, proxies: usize) -> Limits {
    let kept = vendors.saturating_add(OWN_DESCRIPTORS).min(descriptors / 2);
    let connections = descriptors.saturating_sub(kept).clamp(1, MOST_CONNECTIONS);
    // behind a proxy, all are the proxy's
    let per_address = (proxies == 0).then(|| (connections / 8).max(32).min(connections));
    Limits { connections, per_address }
}

fn descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    limit.current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Keeps secrets in memory from core files and from debuggers of the same user.
pub(crate) fn harden() {
    let core = getrlimit(Resource::Core);
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum }) {
        tracing::warn!(%error, "core files cannot be switched off");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the memory of this process can be read by debuggers of the same user");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_vendors_and_the_store() {
        for (descriptors, vendors, proxies, connections, per_address) in [
            (1 << 20, 64, 0, 8192, Some(1024)),
            (1024, 64, 0, 896, Some(112)),
            (1024, 64, 1, 896, None),
            // not at the expense of whoever calls
            (1024, 100_000, 0, 512, Some(64)),
            (64, 64, 0, 32, Some(32)),
            (usize::MAX, usize::MAX, 2, 8192, None),
        ] {
            assert_eq!(budget(descriptors, vendors, proxies), Limits { connections, per_address }, "{descriptors}");
        }
    }
}
