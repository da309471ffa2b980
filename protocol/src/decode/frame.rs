//! What each frame from a node means: from the fields of a map to [`Frame`].
//!
//! Called by programs that are clients. A node speaks by the rules, so one error for each kind
//! of frame is enough.

use std::sync::Arc;

use super::{
    DecodeError,
    fields::{Fields, Key},
    value::Value,
};
use crate::{
    CloseCode, ErrorCode, Frame, Payload, Position, Publication,
    frame::{Acknowledge, GapReason, Maxima, Recovery, StateItem, Welcome},
};

/// Most bytes of an id or text in a frame: a whole message, since the node is trusted.
const TEXT_BYTES_MAX: usize = crate::limits::MESSAGE_BYTES_MAX;

/// Reads one frame; none when its type is not known.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Frame>, DecodeError> {
    let kind = fields
        .get(Key::Type)
        .and_then(Value::text)
        .ok_or(DecodeError::NoType)?;
    let read: fn(&Fields<'_>) -> Option<Frame> = match &*kind {
        "welcome" => welcome,
        "ok" => ok,
        "error" => error,
        "msg" => msg,
        "state" => state,
        "live" => live,
        "gap" => gap,
        "rewind" => rewind,
        "stale" => stale,
        "unsub" => unsubscribed,
        "auth" => auth,
        "move" => move_on,
        "ping" => |_| Some(Frame::Ping),
        "bye" => bye,
        _ => return Ok(None),
    };
    read(fields).map(Some).ok_or(DecodeError::Field {
        text: "a field of a frame is missing or breaks a rule",
    })
}

/// None when the value is there and `read` refuses it.
#[allow(
    clippy::option_option,
    reason = "the outer tells refused, the inner absent"
)]
fn optional<'a, T>(
    fields: &Fields<'a>,
    key: Key,
    read: impl FnOnce(Value<'a>) -> Option<T>,
) -> Option<Option<T>> {
    fields
        .get(key)
        .map_or(Some(None), |value| read(value).map(Some))
}

fn integer(fields: &Fields<'_>, key: Key) -> Option<u64> {
    fields.get(key)?.integer()
}

fn string(fields: &Fields<'_>, key: Key) -> Option<String> {
    fields.get(key)?.string(TEXT_BYTES_MAX)
}

fn flag(fields: &Fields<'_>, key: Key) -> Option<bool> {
    optional(fields, key, Value::boolean).map(Option::unwrap_or_default)
}

fn position(fields: &Fields<'_>) -> Option<Position> {
    Some(Position {
        epoch: fields.get(Key::Epoch)?.epoch()?,
        offset: integer(fields, Key::Offset)?,
    })
}

fn welcome(fields: &Fields<'_>) -> Option<Frame> {
    let session = Fields::of(fields.get(Key::Session)?)?;
    let max = Fields::of(fields.get(Key::Max)?)?;
    Some(Frame::Welcome(Box::new(Welcome {
        session: string(&session, Key::Id)?,
        key: string(&session, Key::Signature)?,
        ttl_ms: integer(&session, Key::Ttl)?,
        resumed: fields.get(Key::Resumed)?.boolean()?,
        user: optional(fields, Key::User, Value::name)?,
        heartbeat: integer(fields, Key::Heartbeat)?,
        ts: integer(fields, Key::Ts)?,
        max: Maxima {
            frame: integer(&max, Key::FrameMax)?,
            data: integer(&max, Key::DataMax)?,
            subs: integer(&max, Key::Subs)?,
        },
        expires: optional(fields, Key::Expires, Value::integer)?,
        node: string(fields, Key::Node)?,
    })))
}

fn ok(fields: &Fields<'_>) -> Option<Frame> {
    if fields.has(Key::Rec) {
        return subscribed(fields);
    }
    let i = integer(fields, Key::I)?;
    if fields.has(Key::Items) {
        return page(i, fields);
    }
    if fields.has(Key::Offset) {
        return Some(Frame::Published {
            i,
            position: position(fields)?,
            duplicate: flag(fields, Key::Duplicate)?,
            acknowledged: acknowledged(fields)?,
        });
    }
    Some(Frame::Done {
        i,
        expires: optional(fields, Key::Expires, Value::integer)?,
    })
}

/// A class this version does not know promises at least the weakest.
fn acknowledged(fields: &Fields<'_>) -> Option<Acknowledge> {
    let name = optional(fields, Key::Ack, |value| value.string(TEXT_BYTES_MAX))?;
    let known = |class: &Acknowledge| name.as_deref() == Some(class.name());
    Some(Acknowledge::ALL.into_iter().find(known).unwrap_or_default())
}

fn subscribed(fields: &Fields<'_>) -> Option<Frame> {
    let name = fields.get(Key::Rec)?.text()?;
    Some(Frame::Subscribed {
        i: optional(fields, Key::I, Value::integer)?,
        channel: fields.get(Key::Channel)?.channel()?,
        position: position(fields)?,
        recovery: Recovery::ALL
            .into_iter()
            .find(|recovery| recovery.name() == name)?,
    })
}

fn page(i: u64, fields: &Fields<'_>) -> Option<Frame> {
    let position = position(fields)?;
    let more = fields.get(Key::More)?.boolean()?;
    let items = fields.get(Key::Items)?;
    let first = items
        .elements(usize::MAX, Some)?
        .first()
        .copied()
        .and_then(Fields::of);
    if first.is_some_and(|first| first.has(Key::Epoch)) {
        let items = items.elements(usize::MAX, state_item)?;
        return Some(Frame::StatePage {
            i,
            position,
            items,
            more,
        });
    }
    let items = items.elements(usize::MAX, |item| publication(&Fields::of(item)?))?;
    Some(Frame::HistoryPage {
        i,
        position,
        items,
        more,
    })
}

fn state_item(value: Value<'_>) -> Option<StateItem> {
    let fields = Fields::of(value)?;
    Some(StateItem {
        epoch: fields.get(Key::Epoch)?.epoch()?,
        publication: publication(&fields)?,
    })
}

fn publication(fields: &Fields<'_>) -> Option<Arc<Publication>> {
    let name = |key| optional(fields, key, Value::name);
    Some(Arc::new(Publication {
        offset: integer(fields, Key::Offset)?,
        ts: integer(fields, Key::Ts)?,
        payload: payload(fields)?,
        key: name(Key::Entry)?,
        event: name(Key::Event)?,
        id: name(Key::Id)?,
        by: name(Key::By)?,
        deleted: flag(fields, Key::Deleted)?,
        expires: optional(fields, Key::Expires, Value::integer)?,
    }))
}

#[allow(
    clippy::option_option,
    reason = "the outer tells refused, the inner absent"
)]
fn payload(fields: &Fields<'_>) -> Option<Option<Payload>> {
    match (fields.get(Key::Data), fields.get(Key::Bytes)) {
        (None, None) => flag(fields, Key::Deleted)?.then_some(None),
        (Some(data), None) => data.data().ok().map(Some),
        (None, Some(bytes)) => bytes.bytes().map(Some),
        (Some(_), Some(_)) => None,
    }
}

fn error(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Error {
        i: optional(fields, Key::I, Value::integer)?,
        code: error_code(fields)?,
        text: string(fields, Key::Text)?,
        retry_ms: optional(fields, Key::Retry, Value::integer)?,
        position: if fields.has(Key::Offset) {
            Some(position(fields)?)
        } else {
            None
        },
    })
}

fn error_code(fields: &Fields<'_>) -> Option<ErrorCode> {
    let name = fields.get(Key::Name)?.text()?;
    Some(ErrorCode::from_wire(integer(fields, Key::Code)?, &name))
}

fn msg(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Msg {
        channel: fields.get(Key::Channel)?.channel()?,
        publication: publication(fields)?,
    })
}

fn state(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::State {
        channel: fields.get(Key::Channel)?.channel()?,
        items: fields.get(Key::Items)?.elements(usize::MAX, state_item)?,
        more: fields.get(Key::More)?.boolean()?,
    })
}

fn live(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Live {
        channel: fields.get(Key::Channel)?.channel()?,
        offset: integer(fields, Key::Offset)?,
        replayed: integer(fields, Key::N)?,
    })
}

fn gap(fields: &Fields<'_>) -> Option<Frame> {
    let name = fields.get(Key::Reason)?.text()?;
    Some(Frame::Gap {
        channel: fields.get(Key::Channel)?.channel()?,
        from: integer(fields, Key::From)?,
        to: integer(fields, Key::To)?,
        reason: GapReason::ALL
            .into_iter()
            .find(|reason| reason.name() == name)?,
    })
}

fn rewind(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Rewind {
        channel: fields.get(Key::Channel)?.channel()?,
        epoch: fields.get(Key::Epoch)?.epoch()?,
        to: integer(fields, Key::To)?,
        lost: integer(fields, Key::Lost)?,
    })
}

fn stale(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Stale {
        channel: optional(fields, Key::Channel, Value::channel)?,
        since: integer(fields, Key::Since)?,
    })
}

fn unsubscribed(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Unsubscribed {
        channel: fields.get(Key::Channel)?.channel()?,
        code: error_code(fields)?,
    })
}

fn auth(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Auth {
        expires: integer(fields, Key::Expires)?,
    })
}

fn move_on(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Move {
        in_ms: integer(fields, Key::In)?,
        by_ms: integer(fields, Key::By)?,
    })
}

fn bye(fields: &Fields<'_>) -> Option<Frame> {
    Some(Frame::Bye {
        code: CloseCode::from_wire(integer(fields, Key::Code)?),
        retry_ms: optional(fields, Key::Retry, Value::integer)?,
        attempt: optional(fields, Key::Attempt, Value::integer)?,
    })
}
