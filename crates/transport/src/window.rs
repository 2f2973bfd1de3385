//! Calls and failures of the last 30 seconds.

use tokio::time::Instant;

/// Seconds, one slot for each (reliability §1.5).
const SLOTS: u64 = 30;

/// A sliding window.
#[derive(Debug)]
pub(crate) struct Window {
    start: Instant,
    /// Seconds from `start` to the newest slot.
    newest: u64,
    /// Calls, and the failures among them.
    slots: [(u32, u32); SLOTS as usize],
}

impl Window {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, newest: 0, slots: [(0, 0); SLOTS as usize] }
    }

    /// `now` must not go back by more than a slot, which monotonic time under a lock does not.
    pub(crate) fn record(&mut self, now: Instant, failed: bool) {
        let second = now.saturating_duration_since(self.start).as_secs();
        for passed in (self.newest + 1..=second).take(SLOTS as usize) {
            self.slots[(passed % SLOTS) as usize] = (0, 0);
        }
        self.newest = self.newest.max(second);
        let slot = &mut self.slots[(second % SLOTS) as usize];
        *slot = (slot.0 + 1, slot.1 + u32::from(failed));
    }

    /// Calls and failures, as of the last record.
    pub(crate) fn sums(&self) -> (u32, u32) {
        self.slots.iter().fold((0, 0), |sum, slot| (sum.0 + slot.0, sum.1 + slot.1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let mut at = |millis, failed| {
            window.record(start + Duration::from_millis(millis), failed);
            window.sums()
        };
        assert_eq!(at(0, true), (1, 1));
        assert_eq!(at(500, true), (2, 2));
        assert_eq!(at(1_000, false), (3, 2));
        assert_eq!(at(29_999, false), (4, 2));
        assert_eq!(at(30_000, false), (3, 0), "the first second is over");
        assert_eq!(at(31_000, true), (3, 1), "and the second one");
        assert_eq!(at(1_000_000, true), (1, 1));
    }
}
