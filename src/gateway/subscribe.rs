//! Beginning, moving and ending subscriptions of a connection's session.

use std::sync::Arc;

use tidewire_protocol::{
    ChannelName, ErrorCode, Frame, Name,
    command::{Fallback, Mode, Sub},
    frame::Recovery,
};

use super::connection::{Connection, Out};
use crate::{
    auth::Right,
    broker::Head,
    channel::{Channel, ChannelOptions, Joined, Reader, View},
    config::{Namespace, Presence},
    random,
    session::{Member, Start, StartRequest, Wishes, plan},
    telemetry::labels::Rejection,
};

/// A subscription that is asked for, with the membership it already has.
#[derive(Debug)]
pub struct Wanted {
    pub sub: Sub,
    pub member: Option<Box<Member>>,
}

/// Tries of joining a channel that the feed lets go of at the same moment.
const JOINS_MAX: usize = 3;

/// Begins or moves subscriptions, in order, with one step of the broker for all; each is
/// answered on its own.
pub async fn subscribe(connection: &Arc<Connection>, wanted: Vec<Wanted>) {
    let mut accepted = Vec::with_capacity(wanted.len());
    let mut options = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        match permit(connection, &wanted.sub) {
            Ok(namespace) => {
                options.push((
                    wanted.sub.channel.clone(),
                    options_of(connection, namespace),
                ));
                accepted.push(wanted);
            }
            Err((code, text)) => refuse(connection, &wanted.sub, code, text),
        }
    }
    if accepted.is_empty() {
        return;
    }
    let channels = connection.gateway.feed.attach(&options).await;
    let names: Vec<_> = accepted
        .iter()
        .filter(|wanted| needs_head(&wanted.sub))
        .map(|wanted| wanted.sub.channel.clone())
        .collect();
    let heads = if names.is_empty() {
        Ok(Vec::new())
    } else {
        connection.gateway.feed.heads(&names).await
    };
    let mut heads = heads.into_iter().flatten();
    for ((wanted, channel), option) in accepted.into_iter().zip(channels).zip(options) {
        let head = if needs_head(&wanted.sub) {
            heads.next()
        } else {
            None
        };
        match channel {
            Ok(channel) if head.is_some() || !needs_head(&wanted.sub) => {
                begin(connection, wanted, channel, head, option.1).await
            }
            Ok(_) | Err(_) => refuse(
                connection,
                &wanted.sub,
                ErrorCode::Unavailable,
                "the broker does not answer",
            ),
        }
    }
}

/// Whether the start depends on what history holds.
const fn needs_head(sub: &Sub) -> bool {
    sub.position.is_some() || matches!(sub.fallback, Fallback::Last(_))
}

fn options_of(connection: &Connection, namespace: &Namespace) -> ChannelOptions {
    ChannelOptions {
        counts: connection.gateway.metrics.namespace(namespace).cloned(),
        keeps_history: namespace.history_size > 0,
        tail_bytes: connection.gateway.config.limits.tail_bytes.bytes(),
    }
}

/// Whether the session may have this subscription.
fn permit<'a>(
    connection: &'a Connection,
    sub: &Sub,
) -> Result<&'a Namespace, (ErrorCode, &'static str)> {
    let namespace = connection.permit(&sub.channel, Right::Sub)?;
    if sub.mode == Mode::Latest && !namespace.state {
        return Err((
            ErrorCode::BadRequest,
            "mode latest needs a channel with state",
        ));
    }
    if sub.fallback == Fallback::State && !namespace.state {
        return Err((ErrorCode::BadRequest, "the channel keeps no state"));
    }
    if sub.me.is_some() && namespace.presence == Presence::Off {
        return Err((ErrorCode::BadRequest, "the channel has no presence"));
    }
    Ok(namespace)
}

fn refuse(connection: &Arc<Connection>, sub: &Sub, code: ErrorCode, text: &str) {
    connection
        .gateway
        .metrics
        .rejected
        .count(Rejection::of(code));
    let frame = match sub.i {
        Some(_) => connection.error(sub.i, code, text),
        None => Frame::Unsubscribed {
            channel: sub.channel.clone(),
            code,
        },
    };
    connection.send(&[frame]);
}

/// Puts one subscription into the session and answers it.
async fn begin(
    connection: &Arc<Connection>,
    wanted: Wanted,
    channel: Arc<Channel>,
    head: Option<Head>,
    options: ChannelOptions,
) {
    let Wanted { sub, member } = wanted;
    let held = member.is_some();
    let identity =
        connection.with_session(|session| (session.identity.user.clone(), session.fence.nonce));
    let Some((user, owner)) = identity else {
        return;
    };
    let member = sub.me.clone().map(|me| match member {
        Some(held) => Box::new(Member { key: held.key, me }),
        None => Box::new(Member {
            key: member_key(user.as_ref()),
            me,
        }),
    });
    let mut channel = channel;
    for _ in 0..JOINS_MAX {
        match place(connection, &sub, &channel, head.as_ref(), member.clone()) {
            Placed::Done { left } => {
                let presence = &connection.gateway.presence;
                if let Some(left) = left {
                    presence.leave(channel.name(), &left).await;
                }
                if let Some(member) = member {
                    presence.enter(owner, channel.name(), &member, held).await;
                }
                return;
            }
            Placed::Full => {
                refuse(
                    connection,
                    &sub,
                    ErrorCode::TooLarge,
                    "the session holds as many subscriptions as it may",
                );
                return;
            }
            Placed::Closed => {
                let attached = connection
                    .gateway
                    .feed
                    .attach(&[(sub.channel.clone(), options.clone())])
                    .await
                    .pop();
                match attached {
                    Some(Ok(again)) => channel = again,
                    Some(Err(_)) | None => break,
                }
            }
        }
    }
    refuse(
        connection,
        &sub,
        ErrorCode::Unavailable,
        "the broker does not answer",
    );
}

enum Placed {
    /// It is in the session; the membership it had before, if that changed.
    Done {
        left: Option<Box<Member>>,
    },
    Full,
    /// The feed let go of the channel meanwhile.
    Closed,
}

fn place(
    connection: &Arc<Connection>,
    sub: &Sub,
    channel: &Arc<Channel>,
    head: Option<&Head>,
    member: Option<Box<Member>>,
) -> Placed {
    let mut out = connection.lock();
    let limit = connection.gateway.config.limits.subscriptions.get();
    let Some(session) = &mut out.session else {
        return Placed::Done { left: None };
    };
    let held = session.slot_of(channel.name());
    let wishes = Wishes {
        mode: sub.mode,
        fallback: sub.fallback,
        hz: sub.hz,
        member,
    };
    let has_start = sub.position.is_some() || sub.fallback != Fallback::Now;
    if let Some(slot) = held
        && !has_start
        && session
            .sub(slot)
            .is_some_and(|sub| sub.wishes.mode == wishes.mode)
    {
        return change(connection, &mut out, sub, slot, wishes);
    }
    if held.is_none() && session.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
        return Placed::Full;
    }
    let Some(slot) = held.or_else(|| session.free_slot()) else {
        return Placed::Full;
    };
    let view = View {
        encoding: connection.encoding,
        mode: sub.mode,
    };
    let reader: Arc<dyn Reader> = Arc::clone(connection) as Arc<dyn Reader>;
    let Some(Joined {
        key,
        life,
        position,
    }) = channel.join(reader, slot, view)
    else {
        return Placed::Closed;
    };
    let (mut left, mut floor) = (None, None);
    let mut start = match head {
        Some(head) => plan(&request(sub), life, &position, head),
        None => plan(
            &request(sub),
            life,
            &position,
            &Head {
                position: position.clone(),
                first: position.offset + 1,
                state_floor: 0,
            },
        ),
    };
    if let Some(old) = session.remove(slot) {
        leave_channel(connection, &old.channel, old.reader, old.wishes.mode);
        if !has_start {
            // Another mode without a start: the cursor stays where it is.
            start = Start {
                recovery: Recovery::Full,
                position: start.position,
                progress: old.progress,
            };
            start.position.offset = old.progress.cursor;
            floor = Some(old.floor);
        }
        left = old
            .wishes
            .member
            .filter(|old| wishes.member.as_ref().is_none_or(|new| new.key != old.key));
    }
    session.insert(slot, Arc::clone(channel), key, wishes, &start);
    if let (Some(sub), Some(floor)) = (session.sub_mut(slot), floor) {
        sub.floor = floor;
    }
    let frame = Frame::Subscribed {
        i: sub.i,
        channel: channel.name().clone(),
        position: start.position,
        recovery: start.recovery,
    };
    out.push(connection.encoding, &frame);
    connection
        .gateway
        .metrics
        .subscriptions
        .increment(if held.is_some() { 0.0 } else { 1.0 });
    connection.mark_ready(slot);
    connection.pull_under(&mut out);
    Placed::Done { left }
}

/// Replaces the wishes of a subscription that stays where it is.
fn change(
    connection: &Arc<Connection>,
    out: &mut Out,
    sub: &Sub,
    slot: u8,
    wishes: Wishes,
) -> Placed {
    let Some(session) = &mut out.session else {
        return Placed::Done { left: None };
    };
    session.changed();
    let Some(held) = session.sub_mut(slot) else {
        return Placed::Done { left: None };
    };
    let mut position = held.channel.position().1;
    position.offset = held.progress.cursor;
    let fallback = held.wishes.fallback;
    let old = std::mem::replace(&mut held.wishes, Wishes { fallback, ..wishes });
    let left = old.member.filter(|old| {
        held.wishes
            .member
            .as_ref()
            .is_none_or(|new| new.key != old.key)
    });
    let frames = [
        Frame::Subscribed {
            i: sub.i,
            channel: sub.channel.clone(),
            position: position.clone(),
            recovery: Recovery::Full,
        },
        Frame::Live {
            channel: sub.channel.clone(),
            offset: position.offset,
            replayed: 0,
        },
    ];
    for frame in &frames {
        out.push(connection.encoding, frame);
    }
    connection.mark_ready(slot);
    connection.pull_under(out);
    Placed::Done { left }
}

fn request(sub: &Sub) -> StartRequest {
    StartRequest {
        position: sub.position.clone(),
        fallback: sub.fallback,
        mode: sub.mode,
    }
}

/// A member's key: the user and a number that tells its sessions apart, never the session's id.
fn member_key(user: Option<&Name>) -> Name {
    let user = user.map_or("anonymous", Name::as_str);
    let mut cut = user.len().min(100);
    while !user.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = format!("{}/{:08x}", &user[..cut], random::bits() >> 32);
    Name::new(&text)
        .unwrap_or_else(|_user_was_valid| unreachable!("a user and a number make a valid name"))
}

fn leave_channel(
    connection: &Connection,
    channel: &Channel,
    reader: crate::channel::ReaderKey,
    mode: Mode,
) {
    channel.leave(
        reader,
        View {
            encoding: connection.encoding,
            mode,
        },
    );
    channel.touch(crate::clock::now_ms());
}

/// Ends one subscription. Nothing of the channel follows. True: there was one.
pub async fn unsubscribe(connection: &Arc<Connection>, channel: &ChannelName) -> bool {
    let removed = connection
        .with_session(|session| {
            session
                .slot_of(channel)
                .and_then(|slot| session.remove(slot))
        })
        .flatten();
    let Some(sub) = removed else { return false };
    leave_channel(connection, &sub.channel, sub.reader, sub.wishes.mode);
    connection.gateway.metrics.subscriptions.decrement(1.0);
    if let Some(member) = sub.wishes.member {
        connection.gateway.presence.leave(channel, &member).await;
    }
    true
}

/// Takes every subscription of an ended session off its channel; answers the memberships.
pub fn detach(
    connection: &Connection,
    session: &mut crate::session::Session,
) -> Vec<(ChannelName, Box<Member>)> {
    let mut members = Vec::new();
    for sub in session.remove_all() {
        leave_channel(connection, &sub.channel, sub.reader, sub.wishes.mode);
        connection.gateway.metrics.subscriptions.decrement(1.0);
        if let Some(member) = sub.wishes.member {
            members.push((sub.channel.name().clone(), member));
        }
    }
    members
}
