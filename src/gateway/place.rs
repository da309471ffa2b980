//! The place of a subscription: its slot in the session, its reader in the channel, and where its
//! delivery starts.
//!
//! Called by `subscribe` under no lock; takes the connection's, so that the answer stands before
//! what the first read finds. Never asks the broker.

use std::sync::Arc;

use tidewire_protocol::{
    Frame,
    command::{Fallback, Mode},
    frame::Recovery,
};

use super::{
    connection::{Connection, Out},
    subscribe::Wanted,
};
use crate::{
    broker::Head,
    channel::{Boundary, Channel, Joined, Message, Reader, ReaderKey, Standing, View},
    clock,
    session::{Member, Start, StartRequest, Step, Wishes, plan},
};

/// What became of a subscription that was to be put into the session.
pub enum Placed {
    /// It is in, and answered.
    Done,
    /// The session ended meanwhile.
    Ended,
    /// The session holds as many as it may.
    Full,
    /// The feed let go of the channel meanwhile.
    Closed,
}

/// Puts a subscription into the session, answers it, and lets it read.
pub fn place(
    connection: &Arc<Connection>,
    wanted: &Wanted,
    channel: &Arc<Channel>,
    head: Option<&Head>,
    member: Option<Box<Member>>,
) -> Placed {
    let sub = &wanted.sub;
    let mut out = connection.lock();
    let limit = connection.gateway.config.limits.subscriptions.get();
    let Some(session) = &mut out.session else {
        return Placed::Ended;
    };
    let held = session.slot_of(channel.name());
    if held.is_none() && session.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
        return Placed::Full;
    }
    let Some(slot) = held.or_else(|| session.free_slot()) else {
        return Placed::Full;
    };
    let wishes = Wishes {
        mode: sub.mode,
        fallback: sub.fallback,
        hz: sub.hz,
        member,
    };
    let view = View {
        encoding: connection.encoding,
        mode: sub.mode,
    };
    let reader: Arc<dyn Reader> = Arc::clone(connection) as Arc<dyn Reader>;
    let Some(joined) = channel.join(reader, slot, view) else {
        return Placed::Closed;
    };
    channel.touch(clock::now_ms());
    if let Some(old) = session.sub(slot) {
        leave_channel(connection, &old.channel, old.reader, old.wishes.mode);
    }
    let has_start = sub.position.is_some() || sub.fallback != Fallback::Now;
    let (position, recovery, rewind) = match session.sub(slot) {
        Some(old) if !has_start => {
            let mut position = joined.head.position;
            position.offset = old.progress.cursor;
            // A segment that was forgotten is told of by the pull.
            if let Some(epoch) = channel.epoch_at(old.progress.place()) {
                position.epoch = epoch;
            }
            session.change(slot, wishes, joined.key);
            (position, Recovery::Full, None)
        }
        Some(_) | None => {
            let start = start(wanted, channel, &joined, head);
            session.remove(slot);
            session.insert(slot, Arc::clone(channel), joined.key, wishes, &start);
            (start.position, start.recovery, start.rewind)
        }
    };
    session.recoveries.count(recovery);
    let frame = Frame::Subscribed {
        i: sub.i,
        channel: channel.name().clone(),
        position,
        recovery,
    };
    out.push(connection.encoding, &frame);
    if let Some(boundary) = rewind {
        rewind_at_once(connection, &mut out, slot, boundary);
    }
    connection
        .gateway
        .metrics
        .subscriptions
        .increment(if held.is_some() { 0.0 } else { 1.0 });
    connection.mark_ready(slot);
    connection.pull_under(&mut out);
    Placed::Done
}

/// Where a new or moved subscription starts.
fn start(wanted: &Wanted, channel: &Channel, joined: &Joined, head: Option<&Head>) -> Start {
    let sub = &wanted.sub;
    let request = StartRequest {
        position: sub.position.clone(),
        fallback: sub.fallback,
        mode: sub.mode,
    };
    let known = head.map_or(&joined.head.position, |head| &head.position);
    let standing = sub
        .position
        .as_ref()
        .map_or(Standing::Elsewhere, |position| {
            channel.stand(position, known)
        });
    let mut start = plan(&request, &standing, &joined.head, head);
    if wanted.is_unheard {
        start.recovery = Recovery::Reset;
    }
    start
}

/// Goes back to where the log and the client's part, right behind the answer.
fn rewind_at_once(connection: &Connection, out: &mut Out, slot: u8, boundary: Boundary) {
    let mut message = Message::reusing(connection.encoding, Vec::new());
    if let Some(sub) = out
        .session
        .as_mut()
        .and_then(|session| session.sub_mut(slot))
    {
        let mut step = Step::at(slot, sub);
        step.cross(sub, boundary, &mut message);
        let rewind = step.takes_back(sub);
        step.take_effect(sub);
        if rewind {
            sub.channel.tell(false, true);
        }
        out.push_message(message);
    }
}

/// Takes a reader off a channel.
pub fn leave_channel(connection: &Connection, channel: &Channel, reader: ReaderKey, mode: Mode) {
    channel.leave(
        reader,
        View {
            encoding: connection.encoding,
            mode,
        },
    );
    channel.touch(clock::now_ms());
}
