//! The thread that brings the log to the disk: at most every interval, or at once for all commits
//! that wait. Announces what waited for it; never writes.

use std::time::Duration;

use super::Shared;
use crate::config::Sync;

/// Runs until the storage stops; the last sync is its last act.
pub(super) fn run(shared: &Shared) {
    let pause = match shared.sync {
        Sync::Always => Duration::ZERO,
        Sync::Within(interval) => interval,
    };
    loop {
        let mut state = shared.lock();
        while !state.journal.is_dirty() && !shared.is_stopped() {
            shared.dirty.wait(&mut state);
        }
        drop(state);
        let go_on = pause.is_zero() || shared.pause(pause);
        if !sync_once(shared) || !go_on || shared.is_stopped() {
            break;
        }
    }
}

/// Syncs what is written; false: the storage failed.
fn sync_once(shared: &Shared) -> bool {
    let mut state = shared.lock();
    if state.journal.check().is_err() {
        return false;
    }
    let job = state.journal.begin_sync();
    let events = std::mem::take(&mut state.waiting);
    let announce = state.announce.clone();
    drop(state);
    let done = job.run();
    let mut state = shared.lock();
    match done {
        Ok(()) => state.journal.end_sync(&job),
        Err(error) => {
            state.journal.fail("the log cannot be synced", &error);
            drop(state);
            shared.fail();
            return false;
        }
    }
    shared.synced.notify_all();
    drop(state);
    shared.tell(announce.as_ref(), &events);
    shared.tell_durable(job.upto());
    true
}
