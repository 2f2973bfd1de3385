//! How far this machine's clock is ahead of a vendor's, learnt from the `Date` of its answers.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, header};

/// How many answers count: one that was long on its way, or went through a cache that does not say so, changes nothing.
const SAMPLES: usize = 8;
/// In milliseconds. Clocks that differ by more are wrong in another way.
const LIMIT: i64 = 300_000;

/// What the last answers have shown.
#[derive(Debug, Default)]
pub(crate) struct Skew(Mutex<VecDeque<i64>>);

impl Skew {
    /// Learns from an answer that has just arrived.
    pub(crate) fn learn(&self, headers: &HeaderMap) {
        // an answer from a cache has the date of its making (RFC 9111 §5.1)
        if headers.contains_key(header::AGE) {
            return;
        }
        let date = headers.get(header::DATE).and_then(|value| value.to_str().ok());
        let Some(date) = date.and_then(|text| httpdate::parse_http_date(text).ok()) else { return };
        // the date is the begun second: on the average, half of it has passed
        let ahead = unix_millis(SystemTime::now()) - unix_millis(date + Duration::from_millis(500));
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(ahead.clamp(-LIMIT, LIMIT));
    }

    /// In milliseconds; `None` before the first answer with a date.
    pub(crate) fn learnt(&self) -> Option<i64> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<i64> = samples.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ahead: i64) -> HeaderMap {
        let now = SystemTime::now();
        let shift = Duration::from_secs(ahead.unsigned_abs());
        let date = if ahead > 0 { now - shift } else { now + shift };
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, httpdate::fmt_http_date(date).parse().unwrap());
        headers
    }

    fn seconds(skew: &Skew) -> Option<i64> {
        skew.learnt().map(|ms| (ms + 1_000).div_euclid(1_000) / 10 * 10)
    }

    #[test]
    fn the_median_of_the_last_answers_counts() {
        let skew = Skew::default();
        assert_eq!(skew.learnt(), None);
        skew.learn(&HeaderMap::new());
        let mut bad = HeaderMap::new();
        bad.insert(header::DATE, "yesterday".parse().unwrap());
        skew.learn(&bad);
        let mut cached = answer(200);
        cached.insert(header::AGE, "200".parse().unwrap());
        skew.learn(&cached);
        assert_eq!(skew.learnt(), None, "nothing that shows the vendor's clock");
        skew.learn(&answer(100));
        assert_eq!(seconds(&skew), Some(100));
        for _ in 0..3 {
            skew.learn(&answer(100));
        }
        skew.learn(&answer(250));
        assert_eq!(seconds(&skew), Some(100), "one that was long on its way");
        for _ in 0..8 {
            skew.learn(&answer(-50));
        }
        let now = skew.learnt().unwrap();
        assert!((-51_500..=-49_000).contains(&now), "{now}");
    }

    #[test]
    fn clocks_that_are_far_away_are_no_excuse() {
        for (ahead, wanted) in [(86_400, LIMIT), (-86_400, -LIMIT)] {
            let skew = Skew::default();
            skew.learn(&answer(ahead));
            assert_eq!(skew.learnt(), Some(wanted));
        }
    }
}
