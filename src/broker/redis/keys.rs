//! Every key in Redis and the channels of announcements. All of one channel begin with the hash
//! tag of its partition, so a Redis Cluster keeps them in one slot.
//!
//! | key after `{prefix:pNNN}:` | is | lives |
//! |---|---|---|
//! | `generation` | hash: generation, identity of the primary, seed (owned by `crate::redis`) | for ever |
//! | `meta:<channel>` | hash: life, counters, generations, what the channel keeps | while anything of it can matter |
//! | `log:<channel>` | stream: history, ids `<offset>-0`, fields `t` (Unix ms) and `d` (data) | history's lifetime |
//! | `blanks:<channel>` | hash: offset → Unix ms of entries that were blanked | as `log` |
//! | `state:<channel>` | hash: `=<key>` or `-` → offset, time, end, epoch, data | as `meta` |
//! | `live:<channel>` | sorted set: keys of the state by offset | as `meta` |
//! | `tombstones:<channel>` | sorted set: removed keys by offset | as `meta` |
//! | `due:<channel>` | sorted set: keys and tombstones by their end | as `meta` |
//! | `id:<hash>:<channel>` | string: digest of the body, offset, epoch of a publication id | the id's lifetime |
//! | `names`, `ends` | sorted sets: names of channels in order; until when each is listed | as the longest `meta` |
//! | `session:<session>` | string: attempt, nonce, node, line feed, body | the session's lifetime |
//! | `log:<channel>` as a channel of pub/sub, which has names of its own | what was appended is announced under it | |
//!
//! Names are escaped so that none can break out of its place. Never talks to Redis.

use std::fmt::Write;

/// What a key holds; see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Meta,
    Log,
    Blanks,
    State,
    Live,
    Tombstones,
    Due,
    Session,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Log => "log",
            Self::Blanks => "blanks",
            Self::State => "state",
            Self::Live => "live",
            Self::Tombstones => "tombstones",
            Self::Due => "due",
            Self::Session => "session",
        }
    }
}

/// The keys of one channel or session.
#[derive(Debug, Clone)]
pub(crate) struct Keys<'a> {
    tag: &'a str,
    name: String,
}

impl<'a> Keys<'a> {
    /// The keys of `name` in the partition with this hash tag.
    pub(crate) fn new(tag: &'a str, name: &str) -> Self {
        Self {
            tag,
            name: escaped(name),
        }
    }

    pub(crate) fn of(&self, kind: Kind) -> Vec<u8> {
        [self.tag, ":", kind.word(), ":", &self.name]
            .concat()
            .into_bytes()
    }

    /// The record of a publication id.
    pub(crate) fn of_id(&self, id: &[u8; 16]) -> Vec<u8> {
        [self.tag, ":id:", &hex(id), ":", &self.name]
            .concat()
            .into_bytes()
    }
}

/// The names of the partition's channels.
pub(crate) fn names(tag: &str) -> Vec<u8> {
    [tag, ":names"].concat().into_bytes()
}

/// Until when each of [`names`] is listed.
pub(crate) fn ends(tag: &str) -> Vec<u8> {
    [tag, ":ends"].concat().into_bytes()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        push_hex(&mut out, *byte);
    }
    out
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "{byte:02x}").unwrap_or_else(|_never| unreachable!("a string takes all text"));
}

/// The name without braces, controls and white space. Different names stay different.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut utf8 = [0; 4];
    for c in name.chars() {
        if matches!(c, '%' | '{' | '}') || c.is_control() || c.is_whitespace() {
            for byte in c.encode_utf8(&mut utf8).bytes() {
                out.push('%');
                push_hex(&mut out, byte);
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unescaped(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn keys_say_what_they_hold() {
        let keys = Keys::new("{tw:p017}", "chat:{42} %");
        assert_eq!(
            keys.of(Kind::Log),
            "{tw:p017}:log:chat:%7b42%7d%20%25".as_bytes()
        );
        assert_eq!(
            keys.of_id(&[0xab; 16]),
            "{tw:p017}:id:abababababababababababababababab:chat:%7b42%7d%20%25".as_bytes()
        );
        assert_eq!(names("{tw:p017}"), b"{tw:p017}:names");
    }

    proptest! {
        #[test]
        fn no_name_is_lost_or_breaks_out_of_its_place(name in "\\PC*|[{}%:\u{0}-\u{20}\u{85}a0-9]*") {
            let text = escaped(&name);
            prop_assert_eq!(unescaped(&text), name);
            let breaks_out = |c: char| matches!(c, '{' | '}') || c.is_control();
            prop_assert!(!text.contains(breaks_out));
        }
    }
}
