//! How often somebody may register: the generic cell rate algorithm, in memory, a process.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use registrar_core::{Error, ErrorKind, Result};

use super::Visitor;
use crate::engine::Engine;

/// How many askers are remembered one by one.
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

/// Somebody who asks without a token, as far as they can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A client address.
    Address(IpAddr),
    /// The name that a proxy of ours has for an address that it does not tell (RFC 7239 §6.3).
    Named(Arc<str>),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Asker {
    /// As it is counted by itself.
    fn alone(&self) -> Self {
        match self {
            Self::Address(address) => Self::Address(network(*address)),
            Self::Named(_) => self.clone(),
        }
    }

    /// As it is counted together with its neighbours; names have none that could be told.
    fn crowd(&self) -> Self {
        match self {
            Self::Address(address) => Self::Address(crowd(*address)),
            Self::Named(_) => Self::Named("_".into()),
        }
    }
}

/// Who is counted: a route as a whole, or one asker at it.
type Counted = (Option<String>, Option<Asker>);

/// Counts registrations.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When each may be served as if it had never asked.
    full_at: Mutex<HashMap<Counted, Instant>>,
    /// The same of larger networks, for those that find the table above full.
    crowded: Mutex<HashMap<Counted, Instant>>,
}

impl Limiter {
    /// Counts one more. Where more askers are remembered than there is room for, the new ones of a network (IPv4 /24, IPv6
    /// /32) share one bucket of [`CROWD`] times the rate: those who fill the table do not shut out everybody else.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] with how long to wait; then it is not counted.
    pub(crate) fn take(&self, route: Option<&str>, asker: Option<&Asker>, rate: Rate, now: Instant) -> Result<()> {
        let key = |asker: Option<Asker>| (route.map(str::to_owned), asker);
        if let Some(result) = count(&self.full_at, key(asker.map(Asker::alone)), rate, now) {
            return result;
        }
        let shared = Rate { count: rate.count.saturating_mul(CROWD), ..rate };
        let crowded = count(&self.crowded, key(asker.map(Asker::crowd)), shared, now);
        crowded.unwrap_or_else(|| Err(limited(Duration::from_secs(60))))
    }

    /// Says what [`Self::take`] would say, and counts nothing.
    ///
    /// # Errors
    /// As [`Self::take`], except that a full table refuses nobody.
    pub(crate) fn check(&self, route: Option<&str>, asker: Option<&Asker>, rate: Rate, now: Instant) -> Result<()> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.map(str::to_owned), asker.map(Asker::alone));
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
    /// has sent `REFUSALS` times as much that was refused.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`].
    pub fn check_rate(&self, visitor: &Visitor) -> Result<()> {
        let Some((route, rate)) = self.counted(visitor) else { return Ok(()) };
        let now = Instant::now();
        self.refusals.check(route.as_deref(), visitor.asker.as_ref(), refusals(rate), now)?;
        // where the body decides about the route, it is not known yet
        if route.is_some() { self.limiter.check(route.as_deref(), visitor.asker.as_ref(), rate, now) } else { Ok(()) }
    }

    /// Counts a request for registration that was refused for what is in it: no registration, but work.
    pub fn count_refusal(&self, visitor: &Visitor) {
        if let Some((route, rate)) = self.counted(visitor) {
            // beyond the rate, the next one is refused
            let _ = self.refusals.take(route.as_deref(), visitor.asker.as_ref(), refusals(rate), Instant::now());
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

/// How many askers a crowded network is taken for.
const CROWD: u32 = 16;

/// Counts one more in a table; `None` when it is full and does not know this one.
fn count(table: &Mutex<HashMap<Counted, Instant>>, key: Counted, rate: Rate, now: Instant) -> Option<Result<()>> {
    let mut full_at = table.lock().unwrap_or_else(PoisonError::into_inner);
    if full_at.len() >= MAX_CALLERS && !full_at.contains_key(&key) {
        full_at.retain(|_, at| *at > now);
        if full_at.len() >= MAX_CALLERS {
            return None;
        }
    }
    Some(admitted(full_at.get(&key).copied(), rate, now).map(|next| {
        full_at.insert(key, next);
    }))
}

fn limited(wait: Duration) -> Error {
    let wait = wait.max(Duration::from_secs(1));
    // rounded up: whoever comes back then is served
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let detail = format!("too many registrations; ask again in {seconds} seconds");
    Error::new(ErrorKind::RateLimited, detail).with_retry_after(Some(Duration::from_secs(seconds)))
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

/// The network that a provider has.
fn crowd(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            IpAddr::from([a, b, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
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
            limiter.take(Some("r"), Some(&Asker::Address(address.parse().unwrap())), rate, later).is_ok()
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
    fn whoever_fills_the_table_does_not_shut_out_the_others() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let rate = Rate::parse("1/hour").unwrap();
        let ask = |address: IpAddr| limiter.take(Some("r"), Some(&Asker::Address(address)), rate, now);
        // one /32 of IPv6 has more networks than the table has room for
        for n in 0..u32::try_from(MAX_CALLERS).unwrap() {
            let [a, b] = [u16::try_from(n >> 16).unwrap(), u16::try_from(n & 0xffff).unwrap()];
            ask(IpAddr::from([0x2001, 0xdb8, a, b, 0, 0, 0, 1])).unwrap();
        }
        for n in 0..CROWD {
            ask(IpAddr::from([0x2001, 0xdb8, 0xffff, u16::try_from(n).unwrap(), 0, 0, 0, 1])).unwrap();
        }
        let refused = ask(IpAddr::from([0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1])).unwrap_err();
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(225)), "a sixteenth of an hour");
        assert!(refused.detail().contains("225 seconds"), "{}", refused.detail());
        ask("203.0.113.8".parse().unwrap()).unwrap();
        assert!(limiter.take(Some("r"), Some(&Asker::Named("_a".into())), rate, now).is_ok());
        // whoever was counted before is counted as before
        assert!(ask(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])).is_err());
    }

    #[test]
    fn a_check_counts_nothing() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let asker = Asker::Address("1.2.3.4".parse().unwrap());
        let (address, rate) = (Some(&asker), Rate::parse("2/minute").unwrap());
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
