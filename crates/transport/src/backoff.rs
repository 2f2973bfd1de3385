//! How long to wait before trying again.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const BASE: Duration = Duration::from_millis(200);
const CAP: Duration = Duration::from_secs(5);

/// Exponential, with full jitter: anything from nothing to 200 ms × 2ⁿ, at most 5 s (reliability §1.5). Randomness only
/// keeps callers apart, so that a fast generator with a seed is enough: SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Debug)]
pub(crate) struct Backoff(AtomicU64);

impl Backoff {
    /// The same waits for the same seed; without one, others in every process.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(seed.unwrap_or_else(|| RandomState::new().hash_one(0))))
    }

    /// The wait after `earlier` others.
    pub(crate) fn wait(&self, earlier: u32) -> Duration {
        let longest = BASE.saturating_mul(1 << earlier.min(16)).min(CAP);
        // the 53 bits that a float from 0 to 1 holds
        longest.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_fill_the_whole_range() {
        let backoff = Backoff::new(Some(7));
        for (earlier, longest) in [(0, 200), (1, 400), (2, 800), (4, 3_200), (5, 5_000), (60, 5_000)] {
            let waits: Vec<_> = (0..1_000).map(|_| backoff.wait(earlier).as_millis()).collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*most <= longest && *most > longest * 9 / 10, "{earlier}: {most}");
            assert!(*least < longest / 10, "{earlier}: {least}");
        }
    }

    #[test]
    fn a_seed_decides_every_wait() {
        let waits = |seed| {
            let backoff = Backoff::new(seed);
            [0, 1, 2, 3].map(|n| backoff.wait(n))
        };
        assert_eq!(waits(Some(1)), waits(Some(1)));
        assert_ne!(waits(Some(1)), waits(Some(2)));
        assert_ne!(waits(None), waits(None));
    }

    /// The first outputs of the reference implementation for the seed 1234567.
    #[test]
    fn the_generator_is_splitmix64() {
        let backoff = Backoff::new(Some(1_234_567));
        assert_eq!([backoff.next(), backoff.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
