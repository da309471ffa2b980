//! Watching a crowd come back: how many are connected, and since when all are again.
//!
//! Used by the scenarios that take connections away.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    sampler::{float, seconds},
    stage::Stage,
};

const POLL: Duration = Duration::from_millis(20);
/// Past it the run says that they did not come back; the judge says what it cost.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until so many sessions more than `before` have come back; how long that took.
pub async fn all_resumed(stage: &Arc<Stage>, before: u64, count: usize) -> Option<Duration> {
    let begun = stage.clock.elapsed();
    let wanted = before + u64::try_from(count).unwrap_or(u64::MAX);
    loop {
        let took = stage.clock.elapsed() - begun;
        if back(stage) >= wanted {
            return Some(took);
        }
        if took > PATIENCE {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sessions that have come back so far, as what they were or as new ones.
pub fn back(stage: &Stage) -> u64 {
    let meter = &stage.meter;
    meter.resumes.load(Ordering::Relaxed) + meter.forgotten.load(Ordering::Relaxed)
}

/// Says how long it took, or fails the run.
pub fn tell(stage: &Stage, what: &str, count: usize, took: Option<Duration>) {
    match took {
        Some(took) => stage.find(what, seconds(took), "s"),
        None => stage.fail(format!(
            "{what}: {count} sessions were not back within {PATIENCE:?}"
        )),
    }
}

/// The share of what was owed that came at least once, per cent.
pub fn tell_delivered(stage: &Stage) {
    let (owed, missing) = stage.balance();
    if owed > 0 {
        let share = 100.0 * (1.0 - float(missing) / float(owed));
        stage.find("delivered of what was owed", share, "%");
    }
}
