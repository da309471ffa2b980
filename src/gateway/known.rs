//! What this node knows of sessions and channels, in the form operators read it, and the same of
//! all nodes.
//!
//! Called by `api`, and by `orders` for other nodes' questions. Looks, and changes nothing. A
//! look at all sessions takes each connection's lock for a moment, one after the other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewire_protocol::{ChannelName, Name, Position, command::Mode};

use super::Gateway;
use crate::{
    control::{Answers, Question, Wanted},
    session::{Event, Phase, Session, Sub},
    store::SessionId,
};

/// Most sessions one node answers with.
pub const FOUND_MAX: usize = 100;

/// A session with a connection, as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Living {
    pub node: String,
    /// None for an anonymous one.
    pub user: Option<String>,
    pub attempt: u64,
    /// What its client was told since it connected here.
    pub gaps: u32,
    pub rewinds: u32,
    pub events: Vec<Event>,
    pub subscriptions: Vec<Subscription>,
}

/// A subscription: where the client stands in a channel's log, and where the log stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscription {
    pub channel: String,
    pub mode: String,
    /// What it is doing; only of a live session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The epoch of cursor and floor; none when the log began another life since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// The last offset given to the client; only of a live session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
    /// The last offset the application acknowledged.
    pub floor: u64,
    pub head: HeadAt,
}

/// Where a log stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeadAt {
    pub epoch: String,
    pub offset: u64,
}

impl From<Position> for HeadAt {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch.to_string(),
            offset: position.offset,
        }
    }
}

/// A session that was looked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    pub session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub node: String,
    /// When it connected there, Unix ms.
    pub since: u64,
    pub subscriptions: usize,
    /// Publications between its cursors and the heads.
    pub lag: u64,
}

/// Sessions that were looked for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FoundAll {
    pub sessions: Vec<Found>,
    /// Whether there are more.
    pub more: bool,
}

/// What a node holds of a channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Followed {
    pub node: String,
    pub subscribers: usize,
    pub tail_bytes: usize,
    /// What its readers here were told since it is followed.
    pub gaps: u32,
    pub rewinds: u32,
}

/// The name of a mode.
pub const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Every => "every",
        Mode::Latest => "latest",
    }
}

impl Gateway {
    /// What this node has to say to a question; none: nothing.
    pub fn answer(&self, question: &Question) -> Option<serde_json::Value> {
        let said = match question {
            Question::Sessions(wanted) => serde_json::to_value(self.find(wanted)).ok(),
            Question::Session { session } => {
                let living = self.living(&SessionId(Arc::from(&**session)));
                living.and_then(|living| serde_json::to_value(living).ok())
            }
            Question::Channel { channel } => {
                let channel = ChannelName::new(channel).ok()?;
                let followed = self.followed(&channel);
                followed.and_then(|followed| serde_json::to_value(followed).ok())
            }
        };
        said.filter(|said| !said.is_null())
    }

    /// Asks every other node that lives.
    pub async fn ask_others(&self, question: Question) -> Answers {
        let others = self.control.nodes.leases().into_keys();
        let others = others.filter(|node| *node != self.node).collect();
        self.control.ask(question, others).await
    }

    /// A session with a connection here.
    pub fn living(&self, session: &SessionId) -> Option<Living> {
        let connection = self.connection_of(session)?;
        connection.with_session(|session| Living {
            node: self.node.to_string(),
            user: session.identity.user.as_ref().map(ToString::to_string),
            attempt: session.fence.attempt,
            gaps: session.told.gaps,
            rewinds: session.told.rewinds,
            events: session.events.as_slice().to_vec(),
            subscriptions: session.subs().map(|(_, sub)| subscription(sub)).collect(),
        })
    }

    /// Sessions with a connection here, those that connected last first.
    pub fn find(&self, wanted: &Wanted) -> FoundAll {
        let limit = wanted.limit.min(FOUND_MAX);
        let mut all = FoundAll::default();
        for connection in self.connections().into_iter().rev() {
            let Some(found) = connection.with_session(|session| self.found(session, wanted)) else {
                continue;
            };
            if let Some(found) = found {
                if all.sessions.len() == limit {
                    all.more = true;
                    break;
                }
                all.sessions.push(found);
            }
        }
        all
    }

    fn found(&self, session: &Session, wanted: &Wanted) -> Option<Found> {
        let user = session.identity.user.as_ref().map(Name::as_str);
        let of_user = wanted.user.as_deref().is_none_or(|wished| {
            user.is_some_and(|user| {
                if wanted.exact {
                    user == wished
                } else {
                    user.starts_with(wished)
                }
            })
        });
        let of_id = wanted.session.as_deref();
        let of_id = of_id.is_none_or(|wished| session.id.0.starts_with(wished));
        (of_user && of_id).then(|| Found {
            session: session.id.0.to_string(),
            user: user.map(str::to_owned),
            node: self.node.to_string(),
            since: session.since_ms(),
            subscriptions: session.len(),
            lag: session.lag(),
        })
    }

    /// What this node holds of a channel; none: it does not follow it.
    pub fn followed(&self, channel: &ChannelName) -> Option<Followed> {
        let channel = self.feed.logs().get(channel)?;
        let told = channel.told();
        Some(Followed {
            node: self.node.to_string(),
            subscribers: channel.readers(),
            tail_bytes: channel.frame_bytes(),
            gaps: told.gaps,
            rewinds: told.rewinds,
        })
    }

    /// Answers another node's question, beside whatever else is to be done.
    pub(super) fn answer_to(self: &Arc<Self>, by: String, n: u64, question: Question) {
        let Ok(turn) = Arc::clone(&self.questions).try_acquire_owned() else {
            tracing::debug!("too many questions at once: one is not answered");
            return;
        };
        let gateway = Arc::clone(self);
        self.tasks.spawn(async move {
            let said = gateway.answer(&question);
            gateway.control.answer(&by, n, said).await;
            drop(turn);
        });
    }
}

fn subscription(sub: &Sub) -> Subscription {
    let phase = match sub.progress.phase {
        Phase::Snapshot { .. } => "snapshot",
        Phase::Replay => "replay",
        Phase::Live => "live",
    };
    Subscription {
        channel: sub.channel.name().to_string(),
        mode: mode_name(sub.wishes.mode).to_owned(),
        phase: Some(phase.to_owned()),
        epoch: (sub.channel.epoch_at(sub.progress.place())).map(|epoch| epoch.to_string()),
        cursor: Some(sub.progress.cursor),
        floor: sub.floor,
        head: sub.channel.head().position.into(),
    }
}
