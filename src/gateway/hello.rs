//! The first frame of a connection: who the client is, which session it goes on with, and what
//! that session is subscribed to.

use std::{sync::Arc, time::Instant};

use tidewire_protocol::{
    ChannelName, CloseCode, ErrorCode, Frame, Name,
    command::{Fallback, Hello, Mode, ResumeKey, Sub},
    frame::{Maxima, Welcome},
    limits::{INTEGER_MAX, SUBSCRIPTIONS_MAX},
};

use super::{
    connection::Connection,
    gate::Guest,
    stale,
    subscribe::{self, Wanted},
};
use crate::{
    auth::Identity,
    clock,
    presence::Membership,
    random,
    session::{Events, Session, Stored, StoredSub, What, decode_checkpoint},
    store::{Fence, SessionId, StoreError},
    telemetry::labels::{ClaimOutcome, Rejection, ResumeOutcome},
};

/// Heartbeats a client may ask for, in seconds: a proxy's idle limit, a phone's battery.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u64> = 15..=240;
/// The heartbeat of clients that do not ask.
const HEARTBEAT_SECONDS_DEFAULT: u64 = 25;

/// What the reading task needs to know of an accepted hello.
#[derive(Debug)]
pub struct Opened {
    pub heartbeat_ms: u64,
    /// When the token ends, Unix ms.
    pub token_ms: Option<u64>,
}

/// A session that was claimed or begun.
struct Claimed {
    id: SessionId,
    fence: Fence,
    /// Its checkpoint; none for a new session.
    stored: Option<Stored>,
    /// The node that held it and is to be told.
    from: Option<Name>,
    /// What became of the session the client named, if it did.
    outcome: Option<ResumeOutcome>,
}

/// Opens a connection. None: it was refused, and told so.
pub async fn open(connection: &Arc<Connection>, hello: Hello) -> Option<Opened> {
    let gateway = Arc::clone(&connection.gateway);
    let begun = Instant::now();
    let guest = match hello.session {
        Some(_) => Guest::Resume,
        None => Guest::Newcomer,
    };
    let Some(_pass) = gateway.gate.enter(guest).await else {
        gateway.metrics.rejected.count(Rejection::Storm);
        let retry_ms = gateway.admission.pace_ms();
        connection.close(CloseCode::Overloaded, Some(retry_ms), None);
        return None;
    };
    let identity = identify(connection, hello.token.as_deref()).await?;
    let claimed = match claim(connection, hello.session.as_ref(), &identity).await {
        Ok(claimed) => claimed,
        Err(error) => {
            refuse_claim(connection, error);
            return None;
        }
    };
    let opened = Opened {
        heartbeat_ms: 1000
            * hello.heartbeat.map_or(HEARTBEAT_SECONDS_DEFAULT, |wish| {
                wish.clamp(*HEARTBEAT_SECONDS.start(), *HEARTBEAT_SECONDS.end())
            }),
        token_ms: identity.expires_ms,
    };
    let server_side = identity.subs.clone();
    let (session, resumed) = (claimed.id.clone(), claimed.stored.is_some());
    welcome(connection, &claimed, identity, &opened);
    gateway.register(&session, connection);
    // After the welcome: until the client has read it, the old connection is all it has.
    if let Some(node) = claimed.from {
        gateway
            .control
            .taken(node, session.clone(), claimed.fence.attempt);
    }
    // Whoever was told to end this token's connections may not have seen this one.
    if connection.with_session(|session| gateway.control.shuts_out(&session.identity)) == Some(true)
    {
        connection.close(CloseCode::Unauthenticated, None, None);
        return None;
    }
    stale::tell(connection);
    if let Some(outcome) = claimed.outcome {
        gateway.metrics.resumes.count(outcome);
    }
    tracing::debug!(connection_id = connection.id, session_id = %session.0, resumed, "a session is open");
    let stored = claimed.stored.unwrap_or_default();
    let before = stored.subs.clone();
    let (wanted, dropped) = wanted(hello.subs, stored.subs, server_side);
    let dropped = dropped.into_iter().filter_map(|sub| {
        let (channel, member) = (sub.channel, sub.member?);
        Some(Membership { channel, member })
    });
    subscribe::resume(connection, wanted, dropped.collect()).await;
    connection.with_session(|session| session.went_on_from(&before));
    if resumed {
        connection.with_session(|session| {
            let went = What::Resumed(session.recoveries);
            session.events.push(gateway.event(went));
        });
        let seconds = begun.elapsed().as_secs_f64();
        gateway.metrics.resume_seconds.record(seconds);
    }
    gateway.checkpoints.note_changed(connection);
    Some(opened)
}

/// Who the client is. None: it was refused, and told so.
async fn identify(connection: &Arc<Connection>, token: Option<&str>) -> Option<Identity> {
    let gateway = &connection.gateway;
    match gateway.identify(token).await {
        Ok(identity) => Some(identity),
        Err(error) => {
            tracing::debug!(connection_id = connection.id, %error, "a token was refused");
            gateway.metrics.rejected.count(Rejection::of(error.code()));
            if error.code() == ErrorCode::Unavailable {
                let retry_ms = gateway.admission.pace_ms();
                connection.close(CloseCode::Overloaded, Some(retry_ms), None);
            } else {
                connection.close(CloseCode::Unauthenticated, None, None);
            }
            None
        }
    }
}

fn refuse_claim(connection: &Arc<Connection>, error: StoreError) {
    let gateway = &connection.gateway;
    match error {
        StoreError::Fenced { attempt } => {
            gateway.metrics.resumes.count(ResumeOutcome::Fenced);
            connection.close(CloseCode::Replaced, None, Some(attempt));
        }
        StoreError::Unavailable => {
            gateway.metrics.rejected.count(Rejection::Unavailable);
            let retry_ms = gateway.admission.pace_ms();
            connection.close(CloseCode::Overloaded, Some(retry_ms), None);
        }
    }
}

fn welcome(connection: &Arc<Connection>, claimed: &Claimed, identity: Identity, opened: &Opened) {
    let gateway = &connection.gateway;
    let limits = &gateway.config.limits;
    let frame = Frame::Welcome(Box::new(Welcome {
        session: claimed.id.0.to_string(),
        key: gateway
            .session_keys
            .sign(&claimed.id.0, identity.user.as_ref()),
        ttl_ms: gateway.session_ttl_ms(),
        resumed: claimed.stored.is_some(),
        user: identity.user.clone(),
        heartbeat: opened.heartbeat_ms / 1000,
        ts: clock::now_ms(),
        max: Maxima {
            frame: limits.frame.bytes() as u64,
            data: limits.publication.bytes() as u64,
            subs: u64::from(limits.subscriptions.get()).min(SUBSCRIPTIONS_MAX as u64),
        },
        expires: identity.expires_ms,
        node: gateway.node.to_string(),
    }));
    let mut session = Session::new(claimed.id.clone(), claimed.fence, identity);
    match &claimed.stored {
        Some(stored) => session.events = Events::from_stored(stored.events.clone()),
        None => session.events.push(gateway.event(What::Began)),
    }
    connection.set_session(Box::new(session));
    connection.send(&[frame]);
}

/// Takes the session over that the client names, or begins one. A key that is not this user's
/// names no session.
async fn claim(
    connection: &Arc<Connection>,
    resume: Option<&ResumeKey>,
    identity: &Identity,
) -> Result<Claimed, StoreError> {
    let gateway = &connection.gateway;
    let ttl_ms = 2 * gateway.session_ttl_ms();
    let user = identity.user.as_ref();
    let verified = resume.filter(|resume| {
        resume.attempt <= INTEGER_MAX && gateway.session_keys.verify(&resume.id, user, &resume.key)
    });
    if let Some(resume) = verified {
        let id = SessionId(Arc::from(&*resume.id));
        let fence = Fence {
            attempt: resume.attempt,
            nonce: random::bits(),
        };
        let previous = gateway.write_down_for(&id, fence).await;
        let claimed = gateway.store.claim(&id, fence, ttl_ms).await;
        gateway.metrics.store_claims.count(match &claimed {
            Ok(_) => ClaimOutcome::Granted,
            Err(StoreError::Fenced { .. }) => ClaimOutcome::Fenced,
            Err(StoreError::Unavailable) => ClaimOutcome::Unavailable,
        });
        if let Some(taken) = claimed? {
            if let Some(previous) = previous {
                previous.close(CloseCode::Replaced, None, Some(fence.attempt));
            }
            let stored = decode_checkpoint(&taken.body).unwrap_or_default();
            return Ok(Claimed {
                id,
                fence,
                stored: Some(stored),
                from: taken.node,
                outcome: Some(ResumeOutcome::Resumed),
            });
        }
    }
    let id = SessionId(Arc::from(random::id()));
    let fence = Fence {
        attempt: clock::now_ms()
            .max(resume.map_or(0, |resume| resume.attempt))
            .min(INTEGER_MAX),
        nonce: random::bits(),
    };
    gateway.write_first(&id, fence).await?;
    Ok(Claimed {
        id,
        fence,
        stored: None,
        from: None,
        outcome: resume.map(|_| match verified {
            Some(_) => ResumeOutcome::Unknown,
            None => ResumeOutcome::Refused,
        }),
    })
}

/// What the session is to be subscribed to: the client's list, else the checkpoint's, and the
/// channels of its token; and what of the checkpoint is dropped.
fn wanted(
    listed: Option<Vec<Sub>>,
    mut stored: Vec<StoredSub>,
    server_side: Vec<ChannelName>,
) -> (Vec<Wanted>, Vec<StoredSub>) {
    let mut wanted = Vec::new();
    let by_client = listed.is_some();
    for sub in listed.unwrap_or_default() {
        let at = stored.iter().position(|held| held.channel == sub.channel);
        wanted.push(going_on(sub, at.map(|at| stored.swap_remove(at))));
    }
    if !by_client {
        wanted.extend(stored.drain(..).map(from_checkpoint));
    }
    for channel in server_side {
        if wanted.iter().any(|held| held.sub.channel == channel) {
            continue;
        }
        let held = stored
            .iter()
            .position(|held| held.channel == channel)
            .map(|at| stored.swap_remove(at));
        let fresh = Sub {
            i: None,
            channel,
            position: None,
            fallback: Fallback::Now,
            mode: Mode::Every,
            hz: None,
            me: None,
        };
        wanted.push(held.map_or(Wanted::from(fresh), from_checkpoint));
    }
    (wanted, stored)
}

/// An entry of the client's list; without a start it goes on from the checkpoint.
fn going_on(mut sub: Sub, held: Option<StoredSub>) -> Wanted {
    let (mut member, mut is_unheard) = (None, false);
    if let Some(held) = held {
        if sub.position.is_none() && sub.fallback == Fallback::Now {
            sub.position = Some(held.floor);
            is_unheard = held.is_unheard;
            sub.fallback = held.fallback;
        }
        member = held.member;
    }
    Wanted {
        sub,
        is_unheard,
        member,
    }
}

fn from_checkpoint(held: StoredSub) -> Wanted {
    Wanted {
        sub: Sub {
            i: None,
            channel: held.channel,
            position: Some(held.floor),
            fallback: held.fallback,
            mode: held.mode,
            hz: held.hz,
            me: held.member.as_ref().map(|member| member.me.clone()),
        },
        is_unheard: held.is_unheard,
        member: held.member,
    }
}
