//! Names and positions as they travel on the wire: channels, short names, epochs.
//!
//! Owns their validation; never knows which namespaces a node has configured.

use std::{fmt, sync::Arc};

use crate::limits::{CHANNEL_BYTES_MAX, EPOCH_BYTES_MAX, NAME_BYTES_MAX};

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("the name is empty")]
    Empty,
    /// The name has more bytes than its kind allows.
    #[error("the name is longer than {max} bytes")]
    TooLong {
        /// The bound in bytes.
        max: usize,
    },
    /// The name holds a control character.
    #[error("the name holds a control character")]
    Control,
    /// The name begins or ends with white space.
    #[error("the name begins or ends with white space")]
    OuterSpace,
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { max });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(NameError::OuterSpace);
    }
    Ok(())
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $max:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts a valid name.
            ///
            /// # Errors
            /// Says what is wrong with the text; nothing is repaired.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $max(text))?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_newtype!(
    /// The name of a channel: 1–200 bytes of UTF-8, no control characters, no outer spaces. The
    /// name of a presence channel is as much longer as its prefix is.
    ChannelName,
    channel_bytes_max
);
text_newtype!(
    /// A key, an event name, a publication id or a user: 1–128 bytes of UTF-8.
    Name,
    name_bytes_max
);
text_newtype!(
    /// One life of a channel's log; opaque to clients, 1–48 bytes.
    Epoch,
    epoch_bytes_max
);

impl Epoch {
    /// Stands for a log whose epoch is not known yet; no broker mints it.
    #[must_use]
    pub fn unknown() -> Self {
        Self(Arc::from("?"))
    }
}

/// What the names of a presence channel begin with.
const PRESENCE_PREFIX: &str = "$presence:";

fn channel_bytes_max(text: &str) -> usize {
    let prefix = if text.starts_with(PRESENCE_PREFIX) {
        PRESENCE_PREFIX.len()
    } else {
        0
    };
    CHANNEL_BYTES_MAX + prefix
}

const fn name_bytes_max(_: &str) -> usize {
    NAME_BYTES_MAX
}

const fn epoch_bytes_max(_: &str) -> usize {
    EPOCH_BYTES_MAX
}

impl ChannelName {
    /// The part before the first colon, or `default` for a name without one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once(':').map_or("default", |(space, _)| space)
    }

    /// Whether the name belongs to the hub (`$…`): clients never publish there.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }

    /// The channel whose members this presence channel lists.
    #[must_use]
    pub fn presence_of(&self) -> Option<Self> {
        Self::new(self.0.strip_prefix(PRESENCE_PREFIX)?).ok()
    }

    /// The presence channel of this channel.
    #[must_use]
    pub fn presence(&self) -> Self {
        Self(Arc::from(format!("{PRESENCE_PREFIX}{}", self.0)))
    }
}

/// A place in a channel's log: means nothing without its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log.
    pub epoch: Epoch,
    /// 1, 2, 3 … without holes inside one epoch; 0 is before the first.
    pub offset: u64,
}
