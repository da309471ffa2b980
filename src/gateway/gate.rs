//! How many hellos are worked on at once: resumes before newcomers, each waiting only so long.
//!
//! Called at every hello. After a node was killed all its clients come within seconds; what they
//! ask of broker and store is bounded here, and who would wait too long is told when to return.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

/// Longest wait: a client that is refused by then comes back at a better moment.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Most waiting of each kind: what 256 at a time serve within the longest wait.
const WAITING_MAX: usize = 8_192;

/// Who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// A client that goes on with its session.
    Resume,
    /// A client without one.
    Newcomer,
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    free: usize,
    resumes: VecDeque<oneshot::Sender<Pass>>,
    newcomers: VecDeque<oneshot::Sender<Pass>>,
}

/// Leave to go on; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Option<Arc<Gate>>,
}

impl Gate {
    /// Lets `most` in at once.
    pub fn new(most: usize) -> Self {
        Self {
            inside: Mutex::new(Inside {
                free: most,
                resumes: VecDeque::new(),
                newcomers: VecDeque::new(),
            }),
        }
    }

    /// Waits for leave to go on. None: not in time. Cancel-safe.
    pub async fn enter(self: &Arc<Self>, guest: Guest) -> Option<Pass> {
        let turn = {
            let mut inside = self.inside.lock();
            if inside.free > 0 {
                inside.free -= 1;
                return Some(self.pass());
            }
            let waiting = match guest {
                Guest::Resume => &mut inside.resumes,
                Guest::Newcomer => &mut inside.newcomers,
            };
            if waiting.len() >= WAITING_MAX {
                return None;
            }
            let (sender, turn) = oneshot::channel();
            waiting.push_back(sender);
            turn
        };
        timeout(WAIT_MAX, turn).await.ok()?.ok()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let inside = self.inside.lock();
        let here = |waiting: &VecDeque<oneshot::Sender<Pass>>| {
            waiting.iter().filter(|turn| !turn.is_closed()).count()
        };
        here(&inside.resumes) + here(&inside.newcomers)
    }

    fn pass(self: &Arc<Self>) -> Pass {
        Pass {
            gate: Some(Arc::clone(self)),
        }
    }

    /// Hands a pass on to who waits longest, resumes first.
    fn hand_on(self: &Arc<Self>) {
        loop {
            let mut inside = self.inside.lock();
            let next = inside.resumes.pop_front();
            let Some(turn) = next.or_else(|| inside.newcomers.pop_front()) else {
                inside.free += 1;
                return;
            };
            drop(inside);
            match turn.send(self.pass()) {
                Ok(()) => return,
                // Whoever waited has gone: the next one.
                Err(mut pass) => pass.gate = None,
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.hand_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn resumes_go_before_newcomers_and_nobody_waits_long() {
        let gate = Arc::new(Gate::new(1));
        let first = gate.enter(Guest::Newcomer).await.unwrap();
        let wait = |guest| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.enter(guest).await })
        };
        let newcomer = wait(Guest::Newcomer);
        tokio::task::yield_now().await;
        let resume = wait(Guest::Resume);
        tokio::task::yield_now().await;
        assert_eq!(gate.waiting(), 2);
        drop(first);
        let second = resume.await.unwrap().unwrap();
        assert!(newcomer.await.unwrap().is_none(), "not within two seconds");
        drop(second);
        assert!(gate.enter(Guest::Newcomer).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_on_its_way_to_who_has_gone_is_not_lost() {
        let gate = Arc::new(Gate::new(1));
        for _ in 0..3 {
            let held = gate.enter(Guest::Resume).await.unwrap();
            let asked = Arc::clone(&gate);
            let waits = tokio::spawn(async move { asked.enter(Guest::Resume).await });
            tokio::task::yield_now().await;
            drop(held);
            waits.abort();
            let gone = waits.await.is_err();
            assert!(gone || gate.waiting() == 0);
        }
        assert!(gate.enter(Guest::Newcomer).await.is_some());
    }
}
