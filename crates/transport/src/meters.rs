//! Metrics handles that are looked up once and not once a request.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, Unit};

const RETRIES: &str = "registrar_vendor_retries_total";
const PAUSES: &str = "registrar_vendor_pauses_total";
const CIRCUIT: &str = "registrar_vendor_circuit_state";

pub(crate) fn describe_metrics() {
    metrics::describe_counter!(RETRIES, Unit::Count, "Requests to vendors that were sent again, by why");
    metrics::describe_counter!(PAUSES, Unit::Count, "Pauses of a whole backend because its vendor asked for it");
    metrics::describe_gauge!(CIRCUIT, "The circuit of a backend: 0 closed, 1 probed, 2 open");
}

/// What the layers below the observer count, for one backend.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) backend: Arc<str>,
    retries: Slots<Counter, 8>,
    pauses: OnceLock<Counter>,
    circuit: OnceLock<Gauge>,
}

impl Meters {
    pub(crate) fn new(backend: Arc<str>) -> Self {
        Self { backend, retries: Slots::default(), pauses: OnceLock::new(), circuit: OnceLock::new() }
    }

    pub(crate) fn retried(&self, reason: &'static str) {
        let make = || metrics::counter!(RETRIES, "backend" => Arc::clone(&self.backend), "reason" => reason);
        self.retries.get(reason, make).increment(1);
    }

    pub(crate) fn paused(&self) {
        let make = || metrics::counter!(PAUSES, "backend" => Arc::clone(&self.backend));
        self.pauses.get_or_init(make).increment(1);
    }

    pub(crate) fn circuit(&self) -> &Gauge {
        self.circuit.get_or_init(|| metrics::gauge!(CIRCUIT, "backend" => Arc::clone(&self.backend)))
    }
}

/// An append-only table of metrics handles: a name is registered (allocation, hashing, locks) once and not once a
/// request. Names are few and static; one that no longer fits is registered each time.
#[derive(Debug)]
pub(crate) struct Slots<V, const N: usize>([OnceLock<(&'static str, V)>; N]);

impl<V, const N: usize> Default for Slots<V, N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<V: Clone, const N: usize> Slots<V, N> {
    pub(crate) fn get(&self, name: &'static str, make: impl Fn() -> V) -> V {
        for slot in &self.0 {
            let (taken, value) = slot.get_or_init(|| (name, make()));
            if *taken == name {
                return value.clone();
            }
        }
        make()
    }
}
