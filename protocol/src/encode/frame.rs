//! The keys of each frame from node to client.

use super::writer::{Map, Writer};
use crate::{
    ChannelName, Encoding, Frame, Publication,
    frame::{Acknowledge, StateItem, Welcome},
};

/// Appends the `msg` frame of a publication, as [`Frame::encode`] does, without a [`Frame`].
pub fn msg(
    encoding: Encoding,
    channel: &ChannelName,
    publication: &Publication,
    out: &mut Vec<u8>,
) {
    Writer::new(encoding, out).map(|map| write_msg(map, channel, publication));
}

impl Frame {
    /// Appends this one frame, without a separator.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) {
        Writer::new(encoding, out).map(|map| match self {
            Self::Welcome(welcome) => write_welcome(map, welcome),
            Self::Subscribed { .. }
            | Self::Done { .. }
            | Self::Published { .. }
            | Self::HistoryPage { .. }
            | Self::StatePage { .. } => self.write_ok(map),
            Self::Error { .. } | Self::Unsubscribed { .. } | Self::Bye { .. } => {
                self.write_refusal(map);
            }
            Self::Msg {
                channel,
                publication,
            } => write_msg(map, channel, publication),
            Self::State { .. } | Self::Live { .. } | Self::Gap { .. } | Self::Rewind { .. } => {
                self.write_delivery(map)
            }
            Self::Stale { channel, since } => {
                map.text("t", "stale");
                map.text_if("ch", channel.as_ref().map(ChannelName::as_str));
                map.integer("since", *since);
            }
            Self::Auth { expires } => {
                map.text("t", "auth");
                map.integer("exp", *expires);
            }
            Self::Move { in_ms, by_ms } => {
                map.text("t", "move");
                map.integer("in", *in_ms);
                map.integer("by", *by_ms);
            }
            Self::Ping => map.text("t", "ping"),
        });
    }

    fn write_ok(&self, map: &mut Map<'_, '_>) {
        map.text("t", "ok");
        if let Self::Subscribed {
            i,
            channel,
            position,
            recovery,
        } = self
        {
            map.integer_if("i", *i);
            map.text("ch", channel.as_str());
            map.position(position);
            map.text("rec", recovery.name());
        }
        if let Self::Done { i, expires } = self {
            map.integer("i", *i);
            map.integer_if("exp", *expires);
        }
        if let Self::Published {
            i,
            position,
            duplicate,
            acknowledged,
        } = self
        {
            map.integer("i", *i);
            map.position(position);
            map.flag("dup", *duplicate);
            if *acknowledged != Acknowledge::Log {
                map.text("ack", acknowledged.name());
            }
        }
        if let Self::HistoryPage {
            i,
            position,
            items,
            more,
        } = self
        {
            map.integer("i", *i);
            map.position(position);
            map.value("items").array(items, |writer, publication| {
                writer.map(|map| write_publication(map, publication));
            });
            map.boolean("more", *more);
        }
        if let Self::StatePage {
            i,
            position,
            items,
            more,
        } = self
        {
            map.integer("i", *i);
            map.position(position);
            write_items(map, items);
            map.boolean("more", *more);
        }
    }

    fn write_refusal(&self, map: &mut Map<'_, '_>) {
        if let Self::Error {
            i,
            code,
            text,
            retry_ms,
            position,
        } = self
        {
            map.text("t", "error");
            map.integer_if("i", *i);
            map.integer("code", code.number().into());
            map.text("name", code.name());
            map.text("text", text);
            map.integer_if("retry", *retry_ms);
            if let Some(position) = position {
                map.position(position);
            }
        }
        if let Self::Unsubscribed { channel, code } = self {
            map.text("t", "unsub");
            map.text("ch", channel.as_str());
            map.integer("code", code.number().into());
            map.text("name", code.name());
        }
        if let Self::Bye {
            code,
            retry_ms,
            attempt,
        } = self
        {
            map.text("t", "bye");
            map.integer("code", code.number().into());
            map.text("name", code.name());
            map.integer_if("retry", *retry_ms);
            map.integer_if("attempt", *attempt);
        }
    }

    fn write_delivery(&self, map: &mut Map<'_, '_>) {
        if let Self::State {
            channel,
            items,
            more,
        } = self
        {
            map.text("t", "state");
            map.text("ch", channel.as_str());
            write_items(map, items);
            map.boolean("more", *more);
        }
        if let Self::Live {
            channel,
            offset,
            replayed,
        } = self
        {
            map.text("t", "live");
            map.text("ch", channel.as_str());
            map.integer("o", *offset);
            map.integer("n", *replayed);
        }
        if let Self::Gap {
            channel,
            from,
            to,
            reason,
        } = self
        {
            map.text("t", "gap");
            map.text("ch", channel.as_str());
            map.integer("from", *from);
            map.integer("to", *to);
            map.text("reason", reason.name());
        }
        if let Self::Rewind {
            channel,
            epoch,
            to,
            lost,
        } = self
        {
            map.text("t", "rewind");
            map.text("ch", channel.as_str());
            map.text("e", epoch.as_str());
            map.integer("to", *to);
            map.integer("lost", *lost);
        }
    }
}

fn write_welcome(map: &mut Map<'_, '_>, welcome: &Welcome) {
    map.text("t", "welcome");
    map.value("session").map(|session| {
        session.text("id", &welcome.session);
        session.text("key", &welcome.key);
        session.integer("ttl", welcome.ttl_ms);
    });
    map.boolean("resumed", welcome.resumed);
    map.name_if("user", welcome.user.as_ref());
    map.integer("hb", welcome.heartbeat);
    map.integer("ts", welcome.ts);
    map.value("max").map(|max| {
        max.integer("frame", welcome.max.frame);
        max.integer("data", welcome.max.data);
        max.integer("subs", welcome.max.subs);
    });
    map.value("f").array(&[], |_, ()| {});
    map.integer_if("exp", welcome.expires);
    map.text("node", &welcome.node);
}

fn write_msg(map: &mut Map<'_, '_>, channel: &ChannelName, publication: &Publication) {
    map.text("t", "msg");
    map.text("ch", channel.as_str());
    write_publication(map, publication);
}

fn write_publication(map: &mut Map<'_, '_>, publication: &Publication) {
    map.integer("o", publication.offset);
    map.payload(publication.payload.as_ref());
    map.name_if("k", publication.key.as_ref());
    map.name_if("ev", publication.event.as_ref());
    map.name_if("id", publication.id.as_ref());
    map.integer("ts", publication.ts);
    map.name_if("by", publication.by.as_ref());
    map.flag("del", publication.deleted);
    map.integer_if("exp", publication.expires);
}

fn write_items(map: &mut Map<'_, '_>, items: &[StateItem]) {
    map.value("items").array(items, |writer, item| {
        writer.map(|map| {
            map.text("e", item.epoch.as_str());
            write_publication(map, &item.publication);
        });
    });
}
