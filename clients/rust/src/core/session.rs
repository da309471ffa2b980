//! The session's identity and the number of each attempt to claim it.
//!
//! Driven by the link. It never invents an id: ids and keys come from the node.

use tidewire_protocol::{command::ResumeKey, frame::Welcome};

use super::close::{REPLACED_MAX, REPLACED_WINDOW_MS};

/// The session this client holds, if any.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Id and key, with the last attempt used.
    held: Option<ResumeKey>,
    /// When programs took a session from this one, newest first, ms.
    takeovers: Vec<u64>,
}

impl Session {
    /// The session for the next hello, its attempt fixed: above every own one and the Unix ms.
    pub(crate) fn claim(&mut self, unix_ms: u64) -> Option<ResumeKey> {
        let held = self.held.as_mut()?;
        held.attempt = unix_ms.max(held.attempt + 1);
        Some(held.clone())
    }

    pub(crate) fn welcomed(&mut self, welcome: &Welcome) {
        let same = self.held.as_ref().filter(|held| held.id == welcome.session);
        self.held = Some(ResumeKey {
            id: welcome.session.clone(),
            key: welcome.key.clone(),
            attempt: same.map_or(0, |held| held.attempt),
        });
    }

    /// Another claim holds the session with this attempt: the next one goes above it.
    pub(crate) fn above(&mut self, attempt: u64) {
        if let Some(held) = &mut self.held {
            held.attempt = attempt;
        }
    }

    /// Another program goes on with this session; this one begins another.
    pub(crate) fn replaced(&mut self, now: u64) {
        self.takeovers.insert(0, now);
        self.takeovers.truncate(REPLACED_MAX);
        self.forget();
    }

    pub(crate) fn takeovers_before(&self, now: u64) -> usize {
        let recent = |at: &&u64| now.saturating_sub(**at) < REPLACED_WINDOW_MS;
        self.takeovers.iter().filter(recent).count()
    }

    pub(crate) fn forget(&mut self) {
        self.held = None;
    }
}
