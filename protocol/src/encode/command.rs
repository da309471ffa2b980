//! The keys of each command from client to node.

use super::writer::{Map, Writer};
use crate::{
    ChannelName, Command, Encoding, Position,
    command::{Fallback, Guard, Hello, History, Mode, Pub, Range, Sub},
};

impl Command {
    /// Appends this one command, without a separator. [`Command::Unknown`] and
    /// [`Command::Invalid`] are what a decoder found, not what a client says: they append nothing.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        if matches!(self, Self::Unknown { .. } | Self::Invalid { .. }) {
            return;
        }
        Writer::new(encoding, out).map(|map| self.write(map));
    }

    fn write(&self, map: &mut Map<'_, '_>) {
        match self {
            Self::Hello(hello) => write_hello(map, hello),
            Self::Sub(sub) => {
                map.text("t", "sub");
                write_sub(map, sub);
            }
            Self::Unsub { i, channel } => {
                map.text("t", "unsub");
                map.integer_if("i", *i);
                map.text("ch", channel.as_str());
            }
            Self::Pub(publication) => write_pub(map, publication),
            Self::History(history) => write_history(map, history),
            Self::State { i, channel, from } => {
                map.text("t", "state");
                map.integer_if("i", *i);
                map.text("ch", channel.as_str());
                map.integer_if("from", (*from > 0).then_some(*from));
            }
            Self::Ack(cursors) => {
                map.text("t", "ack");
                write_cursors(map, cursors);
            }
            Self::Auth { i, token } => {
                map.text("t", "auth");
                map.integer_if("i", *i);
                map.text("token", token);
            }
            Self::Pong(cursors) => {
                map.text("t", "pong");
                if !cursors.is_empty() {
                    write_cursors(map, cursors);
                }
            }
            Self::Leave => map.text("t", "leave"),
            Self::Unknown { .. } | Self::Invalid { .. } => {}
        }
    }
}

fn write_hello(map: &mut Map<'_, '_>, hello: &Hello) {
    map.text("t", "hello");
    map.text_if("token", hello.token.as_deref());
    if let Some(session) = &hello.session {
        map.value("session").map(|map| {
            map.text("id", &session.id);
            map.text("key", &session.key);
            map.integer("attempt", session.attempt);
        });
    }
    if let Some(subs) = &hello.subs {
        map.value("subs")
            .array(subs, |writer, sub| writer.map(|map| write_sub(map, sub)));
    }
    map.integer_if("hb", hello.heartbeat);
    map.text_if("sdk", hello.sdk.as_deref());
}

fn write_sub(map: &mut Map<'_, '_>, sub: &Sub) {
    map.integer_if("i", sub.i);
    map.text("ch", sub.channel.as_str());
    if let Some(position) = &sub.position {
        map.position(position);
    }
    match sub.fallback {
        Fallback::Now => {}
        Fallback::State => map.boolean("state", true),
        Fallback::Last(last) => map.integer("last", last.into()),
    }
    match sub.mode {
        Mode::Every => {}
        Mode::Latest => map.text("mode", "latest"),
    }
    map.integer_if("hz", sub.hz.map(u64::from));
    if let Some(me) = &sub.me {
        map.json("me", me);
    }
}

fn write_pub(map: &mut Map<'_, '_>, publication: &Pub) {
    map.text("t", "pub");
    map.integer_if("i", publication.i);
    map.text("ch", publication.channel.as_str());
    map.payload(publication.payload.as_ref());
    map.name_if("k", publication.key.as_ref());
    map.name_if("ev", publication.event.as_ref());
    map.name_if("id", publication.id.as_ref());
    map.flag("del", publication.delete);
    map.integer_if("ttl", publication.ttl_ms);
    if let Some(trace) = &publication.trace {
        map.text("tp", &trace.to_string());
    }
    match &publication.guard {
        None => {}
        Some(Guard::Absent) => map.value("if").map(|map| map.integer("o", 0)),
        Some(Guard::At(position)) => map.value("if").map(|map| map.position(position)),
    }
}

fn write_history(map: &mut Map<'_, '_>, history: &History) {
    map.text("t", "history");
    map.integer_if("i", history.i);
    map.text("ch", history.channel.as_str());
    map.text_if("e", history.epoch.as_ref().map(crate::Epoch::as_str));
    match history.range {
        Range::Before(before) => map.integer_if("before", before),
        Range::After(after) => map.integer("after", after),
    }
    let bounded = history.limit < u32::MAX;
    map.integer_if("n", bounded.then_some(history.limit.into()));
}

fn write_cursors(map: &mut Map<'_, '_>, cursors: &[(ChannelName, Position)]) {
    map.value("c")
        .dictionary(cursors, |writer, (channel, position)| {
            writer.key(channel.as_str());
            writer.pair(position);
        });
}
