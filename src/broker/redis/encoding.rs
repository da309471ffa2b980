//! The data of a publication as the stream, the state and announcements hold it: made once, by
//! the node that publishes.
//!
//! ```text
//! version (1) · flags · …
//! version (2) · trace, 16 bytes · span, 8 bytes · flags · …
//! … [lifetime, 8 bytes little-endian] · [key] · [event] · [id] · [by] · payload
//! ```
//!
//! A name is its length in one byte and its text. Offset and time are not in it: the script adds
//! them. `publish.lua` does not look inside; `blank.lua` writes the form of a blanked entry.

use bytes::{Buf, Bytes};
use tidewire_protocol::{Name, Payload, Publication, TraceParent, limits::INTEGER_MAX};

use super::decode::Damaged;
use crate::broker::Publish;

const VERSION: u8 = 1;
/// The same with the trace it belongs to, where it belongs to one.
const TRACED: u8 = 2;
const TRACE_BYTES: usize = 24;

const JSON: u8 = 1;
const BYTES: u8 = 2;
const DELETED: u8 = 4;
const LIFETIME: u8 = 8;
const KEY: u8 = 16;
const EVENT: u8 = 32;
const ID: u8 = 64;
const BY: u8 = 128;

/// The data of a publication that is to be made; it lives `lifetime_ms` from then on.
pub(super) fn encode(item: &Publish, lifetime_ms: Option<u64>) -> Vec<u8> {
    let names = [
        (KEY, &item.key),
        (EVENT, &item.event),
        (ID, &item.id),
        (BY, &item.by),
    ];
    let (mut flags, payload): (u8, &[u8]) = match &item.payload {
        None => (0, &[]),
        Some(Payload::Json(data)) => (JSON, data),
        Some(Payload::Bytes(data)) => (BYTES, data),
    };
    if item.delete {
        flags |= DELETED;
    }
    if lifetime_ms.is_some() {
        flags |= LIFETIME;
    }
    let mut size = 10 + TRACE_BYTES + payload.len();
    for (flag, name) in &names {
        if let Some(name) = name {
            flags |= flag;
            size += 1 + name.as_str().len();
        }
    }
    let mut out = Vec::with_capacity(size);
    match &item.trace {
        None => out.push(VERSION),
        Some(trace) => {
            out.push(TRACED);
            out.extend(trace.trace);
            out.extend(trace.span);
        }
    }
    out.push(flags);
    if let Some(lifetime) = lifetime_ms {
        out.extend(lifetime.to_le_bytes());
    }
    for name in names.iter().filter_map(|(_, name)| name.as_ref()) {
        let text = name.as_str().as_bytes();
        // A name has at most NAME_BYTES_MAX bytes.
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend(text);
    }
    out.extend(payload);
    out
}

/// The trace that data belongs to.
pub(super) fn trace_of(data: &[u8]) -> Option<TraceParent> {
    let (version, rest) = data.split_first()?;
    let (trace, rest) = rest.split_first_chunk()?;
    let (span, _rest) = rest.split_first_chunk()?;
    (*version == TRACED).then_some(TraceParent {
        trace: *trace,
        span: *span,
        sampled: true,
    })
}

/// The publication at this offset. Never copies the payload.
pub(super) fn decode(offset: u64, ts: u64, mut data: Bytes) -> Result<Publication, Damaged> {
    let version = data.try_get_u8().map_err(|_short| Damaged("data"))?;
    match version {
        VERSION => {}
        TRACED if data.len() >= TRACE_BYTES => data.advance(TRACE_BYTES),
        _other => return Err(Damaged("the version of the data")),
    }
    let flags = data.try_get_u8().map_err(|_short| Damaged("data"))?;
    let has = |flag: u8| flags & flag != 0;
    let expires = if has(LIFETIME) {
        let lifetime = data.try_get_u64_le().map_err(|_short| Damaged("data"))?;
        Some(ts.saturating_add(lifetime).min(INTEGER_MAX))
    } else {
        None
    };
    let mut name = |flag: u8| {
        if has(flag) {
            take_name(&mut data).map(Some)
        } else {
            Ok(None)
        }
    };
    let (key, event, id, by) = (name(KEY)?, name(EVENT)?, name(ID)?, name(BY)?);
    let payload = match (has(JSON), has(BYTES)) {
        (true, false) => Some(Payload::Json(data)),
        (false, true) => Some(Payload::Bytes(data)),
        (false, false) if data.is_empty() => None,
        (false | true, _) => return Err(Damaged("the kind of the data")),
    };
    Ok(Publication {
        offset,
        ts,
        payload,
        key,
        event,
        id,
        by,
        deleted: has(DELETED),
        expires,
    })
}

fn take_name(data: &mut Bytes) -> Result<Name, Damaged> {
    let len = usize::from(data.try_get_u8().map_err(|_short| Damaged("a name"))?);
    if data.len() < len {
        return Err(Damaged("a name"));
    }
    let text = data.split_to(len);
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| Name::new(text).ok())
        .ok_or(Damaged("a name"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::contract::{channel, name, publish};

    fn payload() -> impl Strategy<Value = Option<Payload>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            Just(None),
            bytes().prop_map(|data| Some(Payload::Json(data.into()))),
            bytes().prop_map(|data| Some(Payload::Bytes(data.into()))),
        ]
    }

    fn names() -> impl Strategy<Value = [Option<Name>; 4]> {
        let one = || prop::option::of("[a-zäß]{1,40}".prop_map(|text| name(&text)));
        [one(), one(), one(), one()]
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            payload in payload(), names in names(), delete: bool, lifetime in prop::option::of(0..1u64 << 40),
            trace in prop::option::of((any::<[u8; 16]>(), any::<[u8; 8]>())),
        ) {
            let trace = trace.map(|(trace, span)| TraceParent { trace, span, sampled: true });
            let [key, event, id, by] = names;
            let item = Publish { payload, key, event, id, by, delete, trace, ..publish(&channel("a"), "") };
            let data = encode(&item, lifetime);
            prop_assert_eq!(trace_of(&data), trace);
            let got = decode(7, 1_000, data.into()).unwrap();
            prop_assert_eq!(got, Publication {
                offset: 7,
                ts: 1_000,
                payload: item.payload,
                key: item.key,
                event: item.event,
                id: item.id,
                by: item.by,
                deleted: delete,
                expires: lifetime.map(|lifetime| lifetime + 1_000),
            });
        }

        #[test]
        fn damaged_data_is_an_error(data in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut versioned = data.clone();
            versioned.splice(..0, [VERSION]);
            drop(decode(1, 1, versioned.clone().into()));
            versioned[0] = TRACED;
            let _any = trace_of(&versioned);
            drop(decode(1, 1, versioned.into()));
            drop(decode(1, 1, data.into()));
        }
    }

    #[test]
    fn a_blanked_entry_is_read_as_the_script_writes_it() {
        let blank = decode(3, 5, Bytes::from_static(b"\x01\x04")).unwrap();
        assert!(blank.deleted && blank.payload.is_none() && blank.key.is_none());
        let keyed = decode(3, 5, Bytes::from_static(b"\x01\x14\x02k1")).unwrap();
        assert!(keyed.deleted && keyed.payload.is_none());
        assert_eq!(keyed.key, Some(name("k1")));
    }
}
