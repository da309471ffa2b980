//! Where a subscription begins: the one rule for new, moved and resumed ones.

use tidewire_protocol::{
    Position,
    command::{Fallback, Mode},
    frame::Recovery,
};

use super::{Phase, Progress};
use crate::{broker::Head, channel::LocalHead};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct StartRequest {
    /// Deliver what comes after this.
    pub position: Option<Position>,
    /// Where to begin without a position or where it cannot be served.
    pub fallback: Fallback,
    pub mode: Mode,
}

/// How a subscription begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub recovery: Recovery,
    /// What `ok` names: where this delivery starts.
    pub position: Position,
    pub progress: Progress,
}

/// Plans a start.
///
/// `joined` is the node's head when the reader joined; `log` is the broker's
/// head at or after that moment, of which only what history holds is used. A position on
/// the log is always served from right behind it: what history no longer holds of that becomes
/// a `gap` in its place.
pub fn plan(request: &StartRequest, joined: &LocalHead, log: &Head) -> Start {
    let head = joined.position.offset;
    let at = |recovery, cursor, phase| Start {
        recovery,
        position: Position {
            epoch: joined.position.epoch.clone(),
            offset: cursor,
        },
        progress: Progress {
            life: joined.life,
            segment: joined.segment,
            cursor,
            begun: cursor,
            phase,
            replayed: 0,
        },
    };
    let recovery = match &request.position {
        None => Recovery::Fresh,
        Some(position) => {
            let on_log = position.epoch == joined.position.epoch && position.offset <= head;
            let whole = request.mode == Mode::Every || position.offset >= log.state_floor;
            if on_log && whole {
                return at(Recovery::Full, position.offset, Phase::Replay);
            }
            Recovery::Reset
        }
    };
    match request.fallback {
        Fallback::Now => at(recovery, head, Phase::Replay),
        Fallback::State => at(recovery, head, Phase::Snapshot { from: 1 }),
        Fallback::Last(n) => {
            let oldest = log.first.saturating_sub(1).min(head);
            at(
                recovery,
                head.saturating_sub(u64::from(n)).max(oldest),
                Phase::Replay,
            )
        }
    }
}
