//! The pace of one backend: so many requests a second, and none while the vendor asks for a pause.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use registrar_core::{Error, ErrorKind, Response};
use tokio::time::{Instant, sleep_until};
use tower::{Service, ServiceExt, service_fn};

use crate::{
    backoff::Backoff,
    fault::{Cause, Fault},
    meters::Meters,
    rate_headers,
    stack::Authorised,
};

const TOO_MANY_REQUESTS: u16 = 429;

/// The generic cell rate algorithm (ITU-T I.371), whose whole state is one instant, and the pause beside it. governor
/// does the first only, and what waits for it would have to ask for the second anyway.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Between two requests; nothing without a limit.
    interval: Duration,
    /// How much too early one may be: a tenth of a second's requests at once.
    tolerance: Duration,
    backoff: Arc<Backoff>,
    meters: Arc<Meters>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next request would be due at an even pace.
    due: Instant,
    paused_until: Instant,
    /// Pauses since the last answer that was no 429, for the exponential ones.
    pauses: u32,
}

impl Limit {
    pub(crate) fn new(per_second: Option<u32>, backoff: Arc<Backoff>, meters: Arc<Meters>) -> Self {
        let interval = per_second.and_then(|n| Duration::from_secs(1).checked_div(n)).unwrap_or_default();
        let now = Instant::now();
        Self {
            interval,
            tolerance: interval * (per_second.unwrap_or(0) / 10),
            backoff,
            meters,
            state: Mutex::new(State { due: now, paused_until: now, pauses: 0 }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the pause still lasts.
    pub(crate) fn pause_left(&self, now: Instant) -> Duration {
        self.state().paused_until.saturating_duration_since(now)
    }

    /// # Errors
    /// When a call would have to start later than that, because of the pause.
    pub(crate) fn check(&self, now: Instant, start_by: Instant) -> Result<(), Fault> {
        let until = self.state().paused_until;
        if until > now && until > start_by { Err(paused(until - now)) } else { Ok(()) }
    }

    /// Waits until the request may be sent.
    ///
    /// # Errors
    /// At once, when that would be too late.
    async fn turn(&self, start_by: Instant) -> Result<(), Fault> {
        loop {
            let now = Instant::now();
            let turn = self.reserve(now, start_by)?;
            if turn <= now {
                return Ok(());
            }
            sleep_until(turn).await;
            // a pause may have begun meanwhile; a place in the even pace is then taken anew, so that those who waited
            // do not all start in the moment when it ends
            if self.pause_left(Instant::now()).is_zero() {
                return Ok(());
            }
        }
    }

    /// When the request may be sent; its place is taken.
    fn reserve(&self, now: Instant, start_by: Instant) -> Result<Instant, Fault> {
        let mut state = self.state();
        let earliest = now.max(state.paused_until);
        let early = state.due > earliest + self.tolerance;
        let turn = if early { state.due - self.tolerance } else { earliest };
        if turn > now && turn > start_by {
            return Err(if state.paused_until > now { paused(turn - now) } else { paced(turn - now) });
        }
        state.due = state.due.max(turn) + self.interval;
        Ok(turn)
    }

    /// A 429 stops everyone, not only who got it (reliability F25, F26); so does an answer that says that no request is
    /// left until later.
    fn learn(&self, response: &Response) {
        let refused = response.status == TOO_MANY_REQUESTS;
        let told = rate_headers::pause(&response.headers, refused);
        let mut state = self.state();
        let now = Instant::now();
        if !refused {
            state.pauses = 0;
            if let Some(wait) = told {
                self.pause(&mut state, now, wait);
            }
            return;
        }
        let asked = response.retry_after().or(told);
        // answers to what was under way when the pause began are no further step
        if asked.is_none() && now < state.paused_until {
            return;
        }
        let wait = asked.unwrap_or_else(|| self.backoff.wait(state.pauses));
        state.pauses = state.pauses.saturating_add(1);
        self.pause(&mut state, now, wait);
    }

    fn pause(&self, state: &mut State, now: Instant, wait: Duration) {
        if now + wait > state.paused_until.max(now) {
            state.paused_until = now + wait;
            self.meters.paused();
            tracing::info!(
                backend = &*self.meters.backend,
                ms = wait.as_millis(),
                "the vendor limits the rate; all its calls pause"
            );
        }
    }
}

fn paused(left: Duration) -> Fault {
    refused("the vendor asked for a pause that leaves this call no time; nothing was sent", left)
}

fn paced(left: Duration) -> Fault {
    refused("the backend's rate_limit leaves no turn within the time of this call; nothing was sent", left)
}

fn refused(detail: &'static str, left: Duration) -> Fault {
    let error = Error::new(ErrorKind::UpstreamRateLimited, detail).with_retry_after(Some(left));
    Fault::new(Cause::Refused("paused"), error)
}

/// Gives every request its turn and learns from the answers.
pub(crate) fn layer<S>(
    limit: Arc<Limit>,
    inner: S,
) -> impl Service<Authorised, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync
where
    S: Service<Authorised, Response = Response, Error = Fault, Future: Send> + Clone + Send + Sync,
{
    service_fn(move |authorised: Authorised| {
        let (limit, inner) = (Arc::clone(&limit), inner.clone());
        async move {
            limit.turn(authorised.call.start_by).await?;
            let response = inner.oneshot(authorised).await?;
            limit.learn(&response);
            Ok(response)
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use registrar_core::{Effect, Outcome};

    use super::*;

    fn limit(per_second: Option<u32>) -> Limit {
        Limit::new(per_second, Arc::new(Backoff::new(Some(1))), Arc::new(Meters::new(Arc::from("v"))))
    }

    fn answer(status: u16, retry_after: Option<&'static str>) -> Response {
        let headers = retry_after.map(|value| ("retry-after".parse().unwrap(), HeaderValue::from_static(value)));
        Response::new(status, HeaderMap::from_iter(headers), Bytes::new(), Effect::Read)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_the_pace_and_a_tenth_of_a_second_at_once() {
        let (limit, start) = (limit(Some(20)), Instant::now());
        let mut at = Vec::new();
        for _ in 0..43 {
            limit.turn(start + Duration::from_secs(60)).await.unwrap();
            at.push(start.elapsed().as_millis());
        }
        assert_eq!(at[..5], [0, 0, 0, 50, 100], "three: one due now, two early");
        assert_eq!(at.last(), Some(&2_000));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_have_a_turn_in_time_is_refused_at_once() {
        let (limit, start) = (limit(Some(2)), Instant::now());
        let start_by = start + Duration::from_millis(1_999);
        for _ in 0..4 {
            limit.reserve(start, start_by).unwrap();
        }
        for _ in 0..3 {
            let fault = limit.turn(start_by).await.unwrap_err();
            assert_eq!((start.elapsed(), fault.cause), (Duration::ZERO, Cause::Refused("paused")));
            assert_eq!(fault.error.kind(), ErrorKind::UpstreamRateLimited);
            assert_eq!((fault.error.outcome(), fault.error.is_retryable()), (Outcome::NotPerformed, true));
            assert_eq!(fault.error.retry_after(), Some(Duration::from_secs(2)), "the refused take no place");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_stops_all_and_refuses_those_it_outlasts() {
        let (limit, start) = (limit(None), Instant::now());
        limit.learn(&answer(429, Some("10")));
        let fault = limit.turn(start + Duration::from_secs(9)).await.unwrap_err();
        assert_eq!((start.elapsed(), fault.error.retry_after()), (Duration::ZERO, Some(Duration::from_secs(10))));
        let start_by = start + Duration::from_secs(60);
        let (first, longer) = tokio::join!(limit.turn(start_by), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            limit.learn(&answer(429, Some("15")));
            limit.learn(&answer(429, Some("1")));
        });
        assert_eq!((first.is_ok(), longer), (true, ()));
        assert_eq!(start.elapsed(), Duration::from_secs(20), "the longest counts, also for who is waiting");
    }

    fn says(status: u16, fields: &[(&'static str, &'static str)]) -> Response {
        let headers = fields.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v)));
        Response::new(status, headers.collect(), Bytes::new(), Effect::Read)
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_left_is_a_pause_before_the_first_429() {
        let (limit, start) = (limit(None), Instant::now());
        limit.learn(&says(200, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "20")]));
        assert!(limit.pause_left(start).is_zero());
        limit.learn(&says(201, &[("ratelimit", "\"hour\";r=0;t=20")]));
        let fault = limit.turn(start + Duration::from_secs(19)).await.unwrap_err();
        assert_eq!((start.elapsed(), fault.error.retry_after()), (Duration::ZERO, Some(Duration::from_secs(20))));
        limit.turn(start + Duration::from_secs(60)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(20));
        limit.learn(&says(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "86400")]));
        assert_eq!(limit.pause_left(Instant::now()), Duration::from_secs(300), "no longer than five minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_with_a_reset_is_obeyed_and_retry_after_goes_before_it() {
        let date = ("date", "Tue, 14 Nov 2023 22:13:20 GMT");
        for (fields, seconds) in [
            (&[date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000030")][..], 30),
            (&[date, ("x-ratelimit-reset", "1700000030"), ("retry-after", "7")], 7),
            (&[("ratelimit-reset", "30")], 30),
        ] {
            let limit = limit(None);
            limit.learn(&says(429, fields));
            assert_eq!(limit.pause_left(Instant::now()), Duration::from_secs(seconds), "{fields:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_the_pauses_grow_and_an_answer_ends_that() {
        let limit = limit(None);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            limit.learn(&answer(429, Some("soon")));
            let left = limit.pause_left(Instant::now());
            limit.learn(&answer(429, None));
            assert_eq!(limit.pause_left(Instant::now()), left, "one burst is one step");
            longest = longest.max(left);
            tokio::time::advance(left + Duration::from_millis(1)).await;
        }
        assert!(longest > Duration::from_secs(1) && longest <= Duration::from_secs(5), "{longest:?}");
        limit.learn(&answer(200, None));
        limit.learn(&answer(429, None));
        assert!(limit.pause_left(Instant::now()) <= Duration::from_millis(200));
    }
}
