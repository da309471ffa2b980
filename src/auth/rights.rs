//! Rights: what a token grants, by channel name or by the beginning of one.
//!
//! Owns the rule of matching. Called for every subscription, publication and read; never knows
//! how the token was checked.

use tidewire_protocol::ChannelName;

use super::operator;
use crate::config::{Namespace, setting::words};

/// Most patterns of one token: each decision looks at all of them.
pub const PATTERNS_MAX: usize = 256;

/// The character that, at the end of a pattern, stands for any rest of a name.
const WILDCARD: char = '*';
/// Beside the bits of rights: the grant of an operator. No token of a client has it.
const OPERATOR: u8 = 16;

words! {
    /// One thing a client may do with a channel.
    pub enum Right ("\"sub\", \"pub\", \"history\" or \"presence\"") {
        /// Follow it, and read its state.
        Sub = "sub",
        /// Publish to it.
        Pub = "pub",
        /// Read its history.
        History = "history",
        /// See its members.
        Presence = "presence",
    }
}

impl Right {
    const fn bit(self) -> u8 {
        match self {
            Self::Sub => 1,
            Self::Pub => 2,
            Self::History => 4,
            Self::Presence => 8,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// The whole name, or with `open` its beginning.
    name: Box<str>,
    open: bool,
    rights: u8,
}

impl Grant {
    fn matches(&self, channel: &str) -> bool {
        if self.open {
            channel.starts_with(&*self.name)
        } else {
            channel == &*self.name
        }
    }
}

/// What one token grants. Small, since every session holds one; the default grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    grants: Box<[Grant]>,
}

impl Rights {
    /// Collects patterns with the rights each gives; none where there are more than
    /// [`PATTERNS_MAX`]. A pattern that begins with `$` grants nothing.
    pub fn new<'a, R: AsRef<[Right]>>(
        patterns: impl IntoIterator<Item = (&'a str, R)>,
    ) -> Option<Self> {
        let mut grants = Vec::new();
        for (count, (pattern, rights)) in patterns.into_iter().enumerate() {
            if count == PATTERNS_MAX {
                return None;
            }
            let (name, open) = match pattern.strip_suffix(WILDCARD) {
                Some(beginning) => (beginning, true),
                None => (pattern, false),
            };
            grants.push(Grant {
                name: Box::from(name),
                open,
                rights: rights
                    .as_ref()
                    .iter()
                    .fold(0, |bits, right| bits | right.bit()),
            });
        }
        Some(Self {
            grants: grants.into_boxed_slice(),
        })
    }

    /// Those of an operator: to read what nodes say of themselves, and nothing else.
    pub fn of_operator() -> Self {
        let grant = Grant {
            name: Box::from(""),
            open: false,
            rights: OPERATOR,
        };
        Self {
            grants: Box::from([grant]),
        }
    }

    /// Whether they are an operator's.
    pub fn are_of_operator(&self) -> bool {
        self.grants.iter().any(|grant| grant.rights == OPERATOR)
    }

    /// Whether the client may do this: its token says so, or the namespace allows it to everyone
    /// who was let in. `namespace` is that of the channel, as `Namespaces::resolve` gives it.
    ///
    /// A presence channel is read, not published to, with the right `presence` on the channel it
    /// is about. Nothing else that begins with `$` is for clients; operators read a part of it.
    pub fn allows(&self, namespace: &Namespace, channel: &ChannelName, right: Right) -> bool {
        if let Some(base) = channel.presence_of() {
            return match right {
                Right::Sub | Right::History => self.grants(namespace, &base, Right::Presence),
                Right::Pub | Right::Presence => false,
            };
        }
        if operator::may_read(channel) {
            return match right {
                Right::Sub | Right::History => self.are_of_operator(),
                Right::Pub | Right::Presence => false,
            };
        }
        self.grants(namespace, channel, right)
    }

    fn grants(&self, namespace: &Namespace, channel: &ChannelName, right: Right) -> bool {
        if channel.is_system() {
            return false;
        }
        let granted =
            |grant: &Grant| grant.rights & right.bit() != 0 && grant.matches(channel.as_str());
        namespace.allow.contains(&right) || self.grants.iter().any(granted)
    }
}
