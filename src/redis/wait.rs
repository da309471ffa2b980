//! Waits between attempts to connect: at once after a connection that held, then longer, jittered,
//! so that the nodes of a hub do not knock together.

use std::time::Duration;

use crate::random;

/// The first wait.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// The longest wait: a server that is back is used again within this and a connection's time.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long was sound: the next attempt is made at once.
const HELD_MIN: Duration = Duration::from_secs(2);

/// The waits of one connection.
#[derive(Debug)]
pub(super) struct Waits {
    next: Duration,
    at_once: bool,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            next: WAIT_MIN,
            at_once: false,
        }
    }
}

impl Waits {
    /// A connection ended that had been used this long.
    pub(super) fn held(&mut self, this_long: Duration) {
        if this_long >= HELD_MIN {
            *self = Self::default();
            self.at_once = true;
        }
    }

    /// Whether no attempt has failed since it was sound: what is said once is said now.
    pub(super) fn is_first(&self) -> bool {
        self.next == WAIT_MIN
    }

    /// Waits before the next attempt: between half of the time and all of it.
    pub(super) async fn next(&mut self) {
        if std::mem::take(&mut self.at_once) {
            return;
        }
        let half = self.next / 2;
        let part = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        let wait = half + Duration::from_millis(random::below(part));
        self.next = (self.next * 2).min(WAIT_MAX);
        tokio::time::sleep(wait).await;
    }
}
