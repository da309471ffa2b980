//! The one way a member leaves without having said so: its session's claim is looked at before
//! and after.
//!
//! Whoever resumes a session publishes its members again only where they are gone, guarded by the
//! broker. So a leave that crosses a resume is either seen by the resume, or the second look here
//! finds the newer claim and puts the member back.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tidewire_protocol::{ChannelName, Name, Position, command::Guard};

use super::Presence;
use crate::{
    broker::BrokerError,
    store::{SessionId, StoreError},
};

/// Sessions looked up at once.
const LOOKS_MAX: usize = 64;

/// A member that is to leave.
#[derive(Debug, Clone)]
pub struct Leaving {
    pub channel: ChannelName,
    pub key: Name,
    /// What it says of itself, to put it back.
    pub me: Option<Bytes>,
    pub session: SessionId,
    /// The claim it belongs to.
    pub attempt: u64,
    /// The publication that must still be the key's newest; none: whatever it is.
    pub at: Option<Position>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It left, or was gone before.
    Gone,
    /// Its session goes on under a higher attempt.
    Stays,
    /// Broker or store did not answer: to be tried again.
    Unknown,
}

impl Presence {
    /// Takes members off their channels, unless their session was claimed since.
    pub(super) async fn remove(&self, leaving: &[Leaving]) -> Vec<Left> {
        let mut outcomes = self.look(leaving).await;
        let mut asked = Vec::new();
        let mut publishes = Vec::new();
        for (at, member) in leaving.iter().enumerate() {
            if outcomes[at] != Left::Gone {
                continue;
            }
            let guard = member.at.clone().map(Guard::At);
            if let Some(publish) = self.said(&member.channel, &member.key, None, guard) {
                publishes.push(publish);
                asked.push(at);
            }
        }
        if asked.is_empty() {
            return outcomes;
        }
        let mut removed = Vec::new();
        for (at, result) in asked.into_iter().zip(self.broker.publish(publishes).await) {
            match result {
                Ok(_) => removed.push(at),
                // Somebody entered anew under the key, or it is gone.
                Err(BrokerError::PreconditionFailed(_)) => {}
                Err(error) => {
                    tracing::debug!(%error, "a leave was not published");
                    outcomes[at] = Left::Unknown;
                }
            }
        }
        let members: Vec<_> = removed.iter().map(|at| leaving[*at].clone()).collect();
        for (at, again) in removed.into_iter().zip(self.restore(&members).await) {
            outcomes[at] = again;
        }
        outcomes
    }

    /// Puts members back whose session was claimed while they left.
    async fn restore(&self, removed: &[Leaving]) -> Vec<Left> {
        let looked = self.look(removed).await;
        let back = removed.iter().zip(&looked).filter_map(|(member, left)| {
            let me = member.me.clone().filter(|_| *left == Left::Stays)?;
            self.said(&member.channel, &member.key, Some(me), Some(Guard::Absent))
        });
        let back: Vec<_> = back.collect();
        if !back.is_empty() {
            for error in self
                .broker
                .publish(back)
                .await
                .into_iter()
                .filter_map(Result::err)
            {
                if !matches!(error, BrokerError::PreconditionFailed(_)) {
                    tracing::warn!(%error, "a member who left too early was not put back");
                }
            }
        }
        looked
    }

    /// Whether each member's session goes on elsewhere (`Stays`) or not (`Gone`).
    pub(super) async fn look(&self, members: &[Leaving]) -> Vec<Left> {
        let mut outcomes = Vec::with_capacity(members.len());
        for chunk in members.chunks(LOOKS_MAX) {
            let looks = chunk.iter().map(|member| self.look_at(member));
            outcomes.extend(join_all(looks).await);
        }
        outcomes
    }

    async fn look_at(&self, member: &Leaving) -> Left {
        match self.store.read(&member.session).await {
            Ok(Some(held)) if held.checkpoint.fence.attempt > member.attempt => Left::Stays,
            Ok(Some(_) | None) => Left::Gone,
            Err(StoreError::Unavailable | StoreError::Fenced { .. }) => Left::Unknown,
        }
    }
}

/// The session of a roster's entry.
pub fn session(text: &str) -> SessionId {
    SessionId(Arc::from(text))
}
