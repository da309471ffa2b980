//! What happened to a session, written down with it: where it began, how each resume went, why
//! each connection ended.
//!
//! Owns the list and its bound. Filled by `gateway`, which knows nodes and close codes; read by
//! operators. Nothing is decided by it. PURE: the time is an argument.

use serde::{Deserialize, Serialize};
use tidewire_protocol::frame::Recovery;

/// Events kept of one session, the first and the newest: a phone in a lift resumes a few times,
/// and each costs some 30 bytes of memory and checkpoint.
pub const EVENTS_MAX: usize = 8;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unix ms.
    pub at: u64,
    /// On which node.
    pub node: Box<str>,
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The session began.
    Began,
    /// A connection resumed it.
    Resumed(Recoveries),
    /// Its connection ended; without a code: it was lost.
    Closed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
    },
}

/// How subscriptions went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recoveries {
    /// Nothing was missed.
    pub full: u16,
    /// Had to start over.
    pub reset: u16,
    /// Were new.
    pub fresh: u16,
}

impl Recoveries {
    /// None yet.
    pub const fn none() -> Self {
        Self {
            full: 0,
            reset: 0,
            fresh: 0,
        }
    }

    /// Counts one subscription.
    pub const fn count(&mut self, recovery: Recovery) {
        let counted = match recovery {
            Recovery::Full => &mut self.full,
            Recovery::Reset => &mut self.reset,
            Recovery::Fresh => &mut self.fresh,
        };
        *counted = counted.saturating_add(1);
    }
}

/// The events of one session, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events(Vec<Event>);

impl Events {
    /// Nothing happened yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Those that were written down.
    pub fn from_stored(mut events: Vec<Event>) -> Self {
        events.truncate(EVENTS_MAX);
        Self(events)
    }

    /// Adds one. Past the bound the oldest after the first goes: the beginning stays known.
    pub fn push(&mut self, event: Event) {
        if self.0.len() >= EVENTS_MAX {
            self.0.remove(1);
        }
        // Exactly: most sessions have one, and every idle one holds this memory.
        self.0.reserve_exact(1);
        self.0.push(event);
    }

    pub fn as_slice(&self) -> &[Event] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, what: What) -> Event {
        let node = Box::from("n-1");
        Event { at, node, what }
    }

    #[test]
    fn the_beginning_and_the_newest_stay() {
        let mut events = Events::new();
        events.push(event(0, What::Began));
        for at in 1..20 {
            events.push(event(at, What::Closed { code: None }));
        }
        let at: Vec<_> = events.as_slice().iter().map(|event| event.at).collect();
        assert_eq!(at, [0, 13, 14, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn operators_read_them_as_flat_objects() {
        let mut recoveries = Recoveries::none();
        recoveries.count(Recovery::Full);
        recoveries.count(Recovery::Full);
        recoveries.count(Recovery::Reset);
        for (what, wanted) in [
            (What::Began, r#"{"at":7,"node":"n-1","what":"began"}"#),
            (
                What::Resumed(recoveries),
                r#"{"at":7,"node":"n-1","what":"resumed","full":2,"reset":1,"fresh":0}"#,
            ),
            (
                What::Closed { code: Some(4512) },
                r#"{"at":7,"node":"n-1","what":"closed","code":4512}"#,
            ),
            (
                What::Closed { code: None },
                r#"{"at":7,"node":"n-1","what":"closed"}"#,
            ),
        ] {
            let event = event(7, what);
            assert_eq!(serde_json::to_string(&event).unwrap(), wanted);
            assert_eq!(serde_json::from_str::<Event>(wanted).unwrap(), event);
        }
    }
}
