//! Where a subscription begins: the one rule for new, moved and resumed ones.

use tidewire_protocol::{
    Position,
    command::{Fallback, Mode},
    frame::Recovery,
};

use super::{Phase, Progress};
use crate::{
    broker::Head,
    channel::{Boundary, LocalHead, Standing},
};

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
    /// Where the client goes back to at once: its generation left no segment to read in.
    pub rewind: Option<Boundary>,
}

/// Plans a start.
///
/// `joined` is the node's head when the reader joined, and `standing` what its channel says of
/// the position; `log` is the broker's head at or after that moment, of which only what history
/// holds is used; none: the node's log was enough. A position on the log, or on one that was cut off, is always served from right
/// behind it: what history no longer holds of that becomes a `gap` in its place, and what the log
/// lost a `rewind`.
pub fn plan(
    request: &StartRequest,
    standing: &Standing,
    joined: &LocalHead,
    log: Option<&Head>,
) -> Start {
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
            left_out: cursor,
            begun: cursor,
            phase,
            replayed: 0,
        },
        rewind: None,
    };
    let mut recovery = Recovery::Fresh;
    if let Some(position) = &request.position {
        if let Some((segment, rewind)) = whole(request, position, standing, log) {
            let mut start = at(Recovery::Full, position.offset, Phase::Replay);
            start.position.epoch = position.epoch.clone();
            start.progress.segment = segment;
            start.rewind = rewind;
            // A snapshot leaves out what changed meanwhile as well.
            if request.mode == Mode::Latest || request.fallback == Fallback::State {
                start.progress.left_out = left_out(position, joined, log);
            }
            return start;
        }
        recovery = Recovery::Reset;
    }
    match request.fallback {
        Fallback::Now => at(recovery, head, Phase::Replay),
        Fallback::State => at(recovery, head, Phase::Snapshot { from: 1 }),
        Fallback::Last(n) => {
            let oldest = log.map_or(head, |log| log.first.saturating_sub(1).min(head));
            at(
                recovery,
                head.saturating_sub(u64::from(n)).max(oldest),
                Phase::Replay,
            )
        }
    }
}

/// Up to where values may have been left out for a client with keys that was at this position: it
/// does not say whether it had come to the end of what there was, which may be more than this node
/// has heard of.
fn left_out(position: &Position, joined: &LocalHead, log: Option<&Head>) -> u64 {
    let head = &joined.position;
    let Some(log) = log.filter(|_| position.epoch == head.epoch) else {
        return u64::MAX;
    };
    if log.position.epoch == head.epoch {
        return head.offset.max(log.position.offset);
    }
    head.offset
}

/// The segment a position is served from, and the boundary that comes first. None: it cannot be
/// served whole.
fn whole(
    request: &StartRequest,
    position: &Position,
    standing: &Standing,
    log: Option<&Head>,
) -> Option<(u32, Option<Boundary>)> {
    let (segment, rewind) = match standing {
        Standing::In { segment } => (*segment, None),
        Standing::Beside(boundary) | Standing::Newer(Some(boundary)) => {
            (boundary.segment, Some(boundary.clone()))
        }
        Standing::Newer(None) | Standing::Elsewhere => return None,
    };
    let from = rewind.as_ref().map_or(position.offset, |rewind| rewind.to);
    let floor = log.map_or(0, |log| log.state_floor);
    let is_whole = request.mode == Mode::Every || from >= floor;
    is_whole.then_some((segment, rewind))
}
