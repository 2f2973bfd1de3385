//! The work that the metrics need, whether somebody reads them or not.

use std::{convert::Infallible, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::App;

/// The exporter keeps every sample of a histogram until it is read or looked after.
const PERIOD: Duration = Duration::from_secs(5);

/// Looks after the metrics until it is dropped; `lost_lines` says how many lines of the log could not be written.
pub async fn upkeep(app: &App, lost_lines: impl Fn() -> u64) -> Infallible {
    let lost = metrics::counter!("registrar_log_lines_lost_total");
    let mut rounds = interval(PERIOD);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        lost.absolute(lost_lines());
        app.inner.metrics.run_upkeep();
    }
}
