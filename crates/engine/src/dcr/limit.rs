//! How often somebody may register: the generic cell rate algorithm, in memory, a process.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use registrar_core::{Error, ErrorKind, Result};

use super::Visitor;
use crate::engine::Engine;

/// How many callers are remembered; more than that are refused until some may ask again anyway.
const MAX_CALLERS: usize = 65_536;

/// How many refused requests count as much as one registration: whoever writes a client makes mistakes.
const REFUSALS: u32 = 10;

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which time.
    pub period: Duration,
}

impl Rate {
    /// Reads `10/hour`; also `/second`, `/minute`, `/day`. `None` when it is none of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let count = count.trim().parse().ok().filter(|n| *n > 0)?;
        let seconds = match unit.trim() {
            "second" => 1,
            "minute" => 60,
            "hour" => 60 * 60,
            "day" => 24 * 60 * 60,
            _ => return None,
        };
        Some(Self { count, period: Duration::from_secs(seconds) })
    }
}

/// Who is counted: a route as a whole, or one address at it.
type Counted = (Option<String>, Option<IpAddr>);

/// Counts registrations.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When each may be served as if it had never asked.
    full_at: Mutex<HashMap<Counted, Instant>>,
}

impl Limiter {
    /// Counts one more.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] with how long to wait; then it is not counted.
    pub(crate) fn take(&self, route: Option<&str>, address: Option<IpAddr>, rate: Rate, now: Instant) -> Result<()> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.map(str::to_owned), address.map(network));
        if full_at.len() >= MAX_CALLERS && !full_at.contains_key(&key) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= MAX_CALLERS {
                return Err(limited(Duration::from_secs(60)));
            }
        }
        let next = admitted(full_at.get(&key).copied(), rate, now)?;
        full_at.insert(key, next);
        Ok(())
    }

    /// Says what [`Self::take`] would say, and counts nothing.
    ///
    /// # Errors
    /// As [`Self::take`], except that a full table refuses nobody.
    pub(crate) fn check(&self, route: Option<&str>, address: Option<IpAddr>, rate: Rate, now: Instant) -> Result<()> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.map(str::to_owned), address.map(network));
        admitted(full_at.get(&key).copied(), rate, now).map(|_| ())
    }
}

/// When a caller may be served as if it had never asked, once it is served now.
fn admitted(full_at: Option<Instant>, rate: Rate, now: Instant) -> Result<Instant> {
    let next = full_at.unwrap_or(now).max(now) + rate.period / rate.count.max(1);
    let allowed = now + rate.period;
    if next > allowed { Err(limited(next.duration_since(allowed))) } else { Ok(next) }
}

impl Engine {
    /// Refuses a visitor without a token, before its body is read, whose address has registered as often as it may, or
    /// has sent [`REFUSALS`] times as much that was refused.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`].
    pub fn check_rate(&self, visitor: &Visitor) -> Result<()> {
        let Some((route, rate)) = self.counted(visitor) else { return Ok(()) };
        let now = Instant::now();
        self.refusals.check(route.as_deref(), visitor.address, refusals(rate), now)?;
        // where the body decides about the route, it is not known yet
        if route.is_some() { self.limiter.check(route.as_deref(), visitor.address, rate, now) } else { Ok(()) }
    }

    /// Counts a request for registration that was refused for what is in it: no registration, but work.
    pub fn count_refusal(&self, visitor: &Visitor) {
        if let Some((route, rate)) = self.counted(visitor) {
            // beyond the rate, the next one is refused
            let _ = self.refusals.take(route.as_deref(), visitor.address, refusals(rate), Instant::now());
        }
    }

    /// The named route that counts a visitor, and its rate; `None` for one that has shown a token.
    fn counted(&self, visitor: &Visitor) -> Option<(Option<String>, Rate)> {
        if visitor.token.is_some() {
            return None;
        }
        let runtime = self.runtime.load();
        let route = visitor.route.as_ref().and_then(|name| runtime.routes.iter().find(|r| r.name == *name));
        Some((visitor.route.clone(), self.door(route).rate))
    }
}

fn refusals(rate: Rate) -> Rate {
    Rate { count: rate.count.saturating_mul(REFUSALS), ..rate }
}

fn limited(wait: Duration) -> Error {
    let detail = "too many registrations; wait as long as Retry-After says";
    Error::new(ErrorKind::RateLimited, detail).with_retry_after(Some(wait.max(Duration::from_secs(1))))
}

/// One household has a whole IPv6 network (RFC 6177): its /64 counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_one_by_one() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let rate = Rate::parse("3/minute").unwrap();
        let ask = |address: &str, after: u64| {
            let later = now + Duration::from_secs(after);
            limiter.take(Some("r"), Some(address.parse().unwrap()), rate, later).is_ok()
        };
        assert_eq!(
            [ask("1.2.3.4", 0), ask("1.2.3.4", 0), ask("1.2.3.4", 0), ask("1.2.3.4", 0)],
            [true, true, true, false]
        );
        assert!(ask("1.2.3.5", 0) && ask("::ffff:1.2.3.5", 0), "another caller");
        assert!(!ask("1.2.3.4", 19));
        assert!(ask("1.2.3.4", 20));
        assert!(!ask("1.2.3.4", 20));
        assert!(ask("2001:db8::1", 0) && ask("2001:db8::2", 0) && ask("2001:db8::3", 0));
        assert!(!ask("2001:db8::4", 0), "the same network");
    }

    #[test]
    fn a_check_counts_nothing() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let (address, rate) = (Some("1.2.3.4".parse().unwrap()), Rate::parse("2/minute").unwrap());
        for taken in 0..2 {
            assert!(limiter.check(Some("r"), address, rate, now).is_ok());
            assert!(limiter.check(Some("r"), address, rate, now).is_ok());
            assert!(limiter.take(Some("r"), address, rate, now).is_ok(), "{taken}");
        }
        let (check, take) = (limiter.check(Some("r"), address, rate, now), limiter.take(Some("r"), address, rate, now));
        assert_eq!(check.unwrap_err().retry_after(), take.unwrap_err().retry_after());
        assert!(limiter.check(Some("other"), address, rate, now).is_ok());
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(Rate::parse("10/hour"), Some(Rate { count: 10, period: Duration::from_secs(3600) }));
        for bad in ["", "10", "0/hour", "-1/day", "1/week", "x/day"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }
}
