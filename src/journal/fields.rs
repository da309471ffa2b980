//! The fields of the larger records: publications, channels, dedup entries. Called by `record`.

use super::record::{ChannelRecord, Data, Dedup, PublicationRecord, Reader, put, put_text};
use crate::broker::Retention;
use tidewire_protocol::frame::Acknowledge;

const HISTORY: u16 = 1;
const STATE: u16 = 1 << 1;
const DELETED: u16 = 1 << 2;
const BLANK: u16 = 1 << 3;
const EXPIRES: u16 = 1 << 4;
const KEY: u16 = 1 << 5;
const EVENT: u16 = 1 << 6;
const ID: u16 = 1 << 7;
const BY: u16 = 1 << 8;
const JSON: u16 = 1 << 9;
const BYTES: u16 = 1 << 10;
const DEDUP: u16 = 1 << 11;

impl<'a> PublicationRecord<'a> {
    fn flags(&self) -> u16 {
        let bit = |set: bool, flag: u16| if set { flag } else { 0 };
        bit(self.history, HISTORY)
            | bit(self.state, STATE)
            | bit(self.deleted, DELETED)
            | bit(self.blank, BLANK)
            | bit(self.expires.is_some(), EXPIRES)
            | bit(self.key.is_some(), KEY)
            | bit(self.event.is_some(), EVENT)
            | bit(self.id.is_some(), ID)
            | bit(self.by.is_some(), BY)
            | bit(matches!(self.data, Some(Data::Json(_))), JSON)
            | bit(matches!(self.data, Some(Data::Bytes(_))), BYTES)
            | bit(self.dedup.is_some(), DEDUP)
    }

    pub(super) fn write(&self, buf: &mut Vec<u8>) {
        put(buf, &[self.life, self.offset, self.ts]);
        buf.extend_from_slice(&self.flags().to_le_bytes());
        if let Some(expires) = self.expires {
            put(buf, &[expires]);
        }
        for text in [self.key, self.event, self.id, self.by]
            .into_iter()
            .flatten()
        {
            put_text(buf, text);
        }
        if let Some(dedup) = &self.dedup {
            dedup.write(buf);
        }
        if let Some(Data::Json(data) | Data::Bytes(data)) = self.data {
            buf.extend_from_slice(data);
        }
    }

    pub(super) fn read(mut from: Reader<'a>) -> Option<Self> {
        let (life, offset, ts) = (from.u64()?, from.u64()?, from.u64()?);
        let flags = u16::from_le_bytes(from.take()?);
        let has = |flag: u16| flags & flag != 0;
        let expires = if has(EXPIRES) {
            Some(from.u64()?)
        } else {
            None
        };
        let mut text = |flag: u16| {
            if has(flag) {
                from.text().map(Some)
            } else {
                Some(None)
            }
        };
        let (key, event, id, by) = (text(KEY)?, text(EVENT)?, text(ID)?, text(BY)?);
        let dedup = if has(DEDUP) {
            Some(Dedup::read(&mut from)?)
        } else {
            None
        };
        let data = match (has(JSON), has(BYTES)) {
            (true, _) => Some(Data::Json(from.0)),
            (_, true) => Some(Data::Bytes(from.0)),
            (false, false) if from.0.is_empty() => None,
            (false, false) => return None,
        };
        Some(Self {
            life,
            offset,
            ts,
            history: has(HISTORY),
            state: has(STATE),
            deleted: has(DELETED),
            blank: has(BLANK),
            expires,
            key,
            event,
            id,
            by,
            data,
            dedup,
        })
    }
}

impl<'a> ChannelRecord<'a> {
    pub(super) fn write(&self, buf: &mut Vec<u8>) {
        let kept = &self.kept;
        put(
            buf,
            &[
                self.life,
                self.head,
                self.last_ts,
                self.first,
                self.state_floor,
                kept.history_ttl_ms,
                kept.state_ttl_ms,
                kept.tombstone_ttl_ms,
                kept.dedup_ttl_ms,
            ],
        );
        buf.extend_from_slice(&kept.history_size.to_le_bytes());
        buf.extend_from_slice(&kept.state_keys.to_le_bytes());
        buf.push(u8::from(kept.state));
        put_text(buf, self.name);
        put_text(buf, self.epoch);
    }

    pub(super) fn read(from: &mut Reader<'a>) -> Option<Self> {
        let (life, head, last_ts) = (from.u64()?, from.u64()?, from.u64()?);
        let (first, state_floor) = (from.u64()?, from.u64()?);
        let kept = Retention {
            history_ttl_ms: from.u64()?,
            state_ttl_ms: from.u64()?,
            tombstone_ttl_ms: from.u64()?,
            dedup_ttl_ms: from.u64()?,
            history_size: u32::from_le_bytes(from.take()?),
            state_keys: u32::from_le_bytes(from.take()?),
            state: from.take::<1>()?[0] != 0,
            // There are no copies to wait for.
            acknowledge: Acknowledge::Log,
        };
        Some(Self {
            life,
            name: from.text()?,
            epoch: from.text()?,
            head,
            last_ts,
            first,
            state_floor,
            kept,
        })
    }
}

impl Dedup {
    pub(super) fn write(&self, buf: &mut Vec<u8>) {
        buf.extend_from_slice(&self.id);
        buf.extend_from_slice(&self.body);
        put(buf, &[self.until]);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: from.take()?,
            body: from.take()?,
            until: from.u64()?,
        })
    }
}
