//! The wall clock: for records, leases and windows. Timeouts use the monotonic one.

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
