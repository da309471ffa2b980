//! Beginning, moving and ending subscriptions of a connection's session.

use std::sync::Arc;

use aws_lc_rs::digest;
use tidewire_protocol::{
    ChannelName, ErrorCode, Frame, Name,
    command::{Fallback, Mode, Sub},
};

use super::{
    answer::Refusal,
    connection::Connection,
    place::{Placed, leave_channel, place},
};
use crate::{
    auth::Right,
    broker::Head,
    channel::{Channel, ChannelOptions, Standing},
    clock,
    config::{Namespace, Presence},
    feed::Attached,
    presence::{Change, Membership, Owner},
    session::{Member, Session},
    telemetry::labels::Rejection,
};

/// A subscription that is asked for, with the membership it already has.
#[derive(Debug)]
pub struct Wanted {
    pub sub: Sub,
    /// Its position is where it begins after a reset that may never have been heard.
    pub is_unheard: bool,
    pub member: Option<Box<Member>>,
}

impl From<Sub> for Wanted {
    fn from(sub: Sub) -> Self {
        Self {
            sub,
            is_unheard: false,
            member: None,
        }
    }
}

const NO_BROKER: Refusal = (ErrorCode::Unavailable, "the broker does not answer");
const BEHIND: Refusal = (ErrorCode::Unavailable, "the broker is behind this position");
const UNVERIFIED: Refusal = (
    ErrorCode::Unavailable,
    "the node cannot tell at present which tokens were withdrawn",
);
const FULL: Refusal = (
    ErrorCode::TooLarge,
    "the session holds as many subscriptions as it may",
);

/// Tries of joining a channel that the feed lets go of at the same moment.
const JOINS_MAX: usize = 3;

/// Begins or moves subscriptions, in order, with one step of the broker for all; each is
/// answered on its own.
pub async fn subscribe(connection: &Arc<Connection>, wanted: Vec<Wanted>) {
    resume(connection, wanted, Vec::new()).await;
}

/// The same for a session that goes on without some of its memberships: all changes of presence
/// are one step too.
pub async fn resume(connection: &Arc<Connection>, wanted: Vec<Wanted>, dropped: Vec<Membership>) {
    let Some(owner) = owner_of(connection) else {
        return;
    };
    let mut changes: Vec<_> = dropped.into_iter().map(Change::Leave).collect();
    if connection.gateway.control.verified().await {
        begin_all(connection, wanted, &mut changes).await;
    } else {
        for wanted in wanted {
            refuse(connection, wanted, UNVERIFIED, &mut changes);
        }
    }
    if !changes.is_empty() {
        connection.gateway.presence.apply(&owner, changes).await;
    }
}

/// The claim that memberships of this connection belong to.
fn owner_of(connection: &Connection) -> Option<Owner> {
    connection.with_session(|session| Owner {
        session: session.id.clone(),
        fence: session.fence,
    })
}

async fn begin_all(connection: &Arc<Connection>, wanted: Vec<Wanted>, changes: &mut Vec<Change>) {
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
            Err(refusal) => refuse(connection, wanted, refusal, changes),
        }
    }
    if accepted.is_empty() {
        return;
    }
    let attached = connection.gateway.feed.attach(&options).await;
    // A log that is followed from here on was just read; what was followed before is met, where
    // the node's log is not enough.
    let is_met = |wanted: &Wanted, attached: &Attached| {
        attached.cut.is_none() && needs_head(connection, &wanted.sub, &attached.channel)
    };
    let are_met: Vec<bool> = accepted
        .iter()
        .zip(&attached)
        .map(|(wanted, attached)| attached.as_ref().is_ok_and(|held| is_met(wanted, held)))
        .collect();
    let met: Vec<_> = attached
        .iter()
        .zip(&are_met)
        .filter_map(|(attached, is_met)| attached.as_ref().ok().filter(|_| *is_met))
        .map(|attached| Arc::clone(&attached.channel))
        .collect();
    let heads = connection.gateway.feed.meet(&met).await;
    let mut heads = heads.into_iter().flatten();
    let all = accepted.into_iter().zip(attached).zip(are_met).zip(options);
    for (((wanted, attached), is_met), option) in all {
        let attached = attached.map(|attached| {
            let head = if is_met { heads.next() } else { attached.cut };
            (attached.channel, head)
        });
        match attached {
            Ok((channel, head)) if is_behind(connection, &wanted.sub, &channel, head.as_ref()) => {
                refuse(connection, wanted, BEHIND, changes);
            }
            Ok((channel, head)) if head.is_some() || !is_met => {
                begin(connection, wanted, (channel, head, option.1), changes).await;
            }
            Ok(_) | Err(_) => refuse(connection, wanted, NO_BROKER, changes),
        }
    }
}

/// Whether the client knows more of the channel than the broker: that may be a primary that
/// others have left, and is not believed for a while.
fn is_behind(connection: &Connection, sub: &Sub, channel: &Channel, head: Option<&Head>) -> bool {
    let (Some(position), Some(head)) = (&sub.position, head) else {
        return false;
    };
    matches!(channel.stand(position, &head.position), Standing::Newer(_))
        && connection
            .gateway
            .feed
            .distrusts(channel.name(), clock::now_ms())
}

/// Whether the start depends on what only the broker knows: what history holds, or where a position
/// stands that this node's log does not reach.
fn needs_head(connection: &Connection, sub: &Sub, channel: &Channel) -> bool {
    match &sub.position {
        Some(position) => !channel.serves(position, sub.mode, connection.encoding),
        None => matches!(sub.fallback, Fallback::Last(_)),
    }
}

fn options_of(connection: &Connection, namespace: &Namespace) -> ChannelOptions {
    ChannelOptions {
        counts: connection.gateway.metrics.namespace(namespace).cloned(),
        keeps_history: namespace.history_size > 0,
        tail_bytes: connection.gateway.config.limits.tail_bytes.bytes(),
    }
}

/// Whether the session may have this subscription.
fn permit<'a>(connection: &'a Connection, sub: &Sub) -> Result<&'a Namespace, Refusal> {
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

/// Answers that a subscription was refused. A membership it resumed ends with it.
fn refuse(
    connection: &Arc<Connection>,
    wanted: Wanted,
    (code, text): Refusal,
    changes: &mut Vec<Change>,
) {
    let Wanted { sub, member, .. } = wanted;
    let gateway = &connection.gateway;
    gateway.metrics.rejected.count(Rejection::of(code));
    let frame = match sub.i {
        Some(_) => connection.error(sub.i, code, text),
        None => Frame::Unsubscribed {
            channel: sub.channel.clone(),
            code,
        },
    };
    connection.send(&[frame]);
    if let Some(member) = member {
        let channel = sub.channel;
        changes.push(Change::Leave(Membership { channel, member }));
    }
}

/// Puts one subscription into the session and answers it.
async fn begin(
    connection: &Arc<Connection>,
    wanted: Wanted,
    (mut channel, head, options): (Arc<Channel>, Option<Head>, ChannelOptions),
    changes: &mut Vec<Change>,
) {
    let sub = &wanted.sub;
    let Some((held, member)) = connection.with_session(|session| membership(session, &wanted))
    else {
        return;
    };
    for _ in 0..JOINS_MAX {
        match place(connection, &wanted, &channel, head.as_ref(), member.clone()) {
            Placed::Done => {
                changes.extend(change(wanted.sub.channel, held, member));
                return;
            }
            Placed::Ended => return,
            Placed::Full => return refuse(connection, wanted, FULL, changes),
            Placed::Closed => {
                let attached = connection
                    .gateway
                    .feed
                    .attach(&[(sub.channel.clone(), options.clone())])
                    .await
                    .pop();
                match attached {
                    Some(Ok(again)) => channel = again.channel,
                    Some(Err(_)) | None => break,
                }
            }
        }
    }
    refuse(connection, wanted, NO_BROKER, changes);
}

/// What a subscription changes of its channel's presence.
fn change(
    channel: ChannelName,
    held: Option<Box<Member>>,
    member: Option<Box<Member>>,
) -> Option<Change> {
    match (held, member) {
        (held, Some(member)) => Some(Change::Enter {
            held: held.as_ref() == Some(&member),
            membership: Membership { channel, member },
        }),
        (Some(member), None) => Some(Change::Leave(Membership { channel, member })),
        (None, None) => None,
    }
}

/// The membership the subscription has, and the one it is to have: under the same key, so that a member who says something else of itself stays the same one.
fn membership(session: &Session, wanted: &Wanted) -> (Option<Box<Member>>, Option<Box<Member>>) {
    let present = || {
        let slot = session.slot_of(&wanted.sub.channel)?;
        session.sub(slot)?.wishes.member.clone()
    };
    let held = wanted.member.clone().or_else(present);
    let member = wanted.sub.me.clone().map(|me| {
        let key = match &held {
            Some(held) => held.key.clone(),
            None => member_key(session, &wanted.sub.channel),
        };
        Box::new(Member { key, me })
    });
    (held, member)
}

/// A member's key: the user and a number that tells its sessions apart, never the session's id.
/// The number is a digest of both, so that a session that enters again after a node was killed
/// before it wrote the membership down is the same member.
fn member_key(session: &Session, channel: &ChannelName) -> Name {
    let user = session.identity.user.as_ref();
    let user = user.map_or("anonymous", Name::as_str);
    let mut cut = user.len().min(100);
    while !user.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(session.id.0.as_bytes());
    context.update(channel.as_str().as_bytes());
    let digest = context.finish();
    let mut number = [0; 4];
    number.copy_from_slice(&digest.as_ref()[..4]);
    let text = format!("{}/{:08x}", &user[..cut], u32::from_be_bytes(number));
    Name::new(&text)
        .unwrap_or_else(|_user_was_valid| unreachable!("a user and a number make a valid name"))
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
    if let (Some(member), Some(owner)) = (sub.wishes.member, owner_of(connection)) {
        let channel = channel.clone();
        let leave = Change::Leave(Membership { channel, member });
        connection.gateway.presence.apply(&owner, vec![leave]).await;
    }
    true
}

/// Takes every subscription of an ended session off its channel; answers the memberships.
pub fn detach(connection: &Connection, session: &mut Session) -> Vec<(ChannelName, Box<Member>)> {
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
