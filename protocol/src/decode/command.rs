//! What each command means: from the fields of a map to [`Command`], rule by rule.

use super::{
    DecodeError,
    fields::{Fields, Key},
    value::Value,
};
use crate::{
    ChannelName, Command, ErrorCode, Name, Payload, Position, TraceParent,
    command::{Fallback, Guard, Hello, History, Mode, Pub, Range, RequestId, ResumeKey, Sub},
    limits::{HZ_MAX, MEMBER_BYTES_MAX, NAME_BYTES_MAX, SUBSCRIPTIONS_MAX, TOKEN_BYTES_MAX},
};

/// A rule a command breaks.
struct Flaw {
    code: ErrorCode,
    text: &'static str,
}

const fn bad(text: &'static str) -> Flaw {
    Flaw {
        code: ErrorCode::BadRequest,
        text,
    }
}

const fn too_large(text: &'static str) -> Flaw {
    Flaw {
        code: ErrorCode::TooLarge,
        text,
    }
}

/// Reads one command.
pub(super) fn read(fields: &Fields<'_>) -> Result<Command, DecodeError> {
    let kind = fields
        .get(Key::Type)
        .and_then(Value::text)
        .ok_or(DecodeError::NoType)?;
    let i = match optional(
        fields,
        Key::I,
        Value::integer,
        "`i` is not an integer of 0 to 2^53 - 1",
    ) {
        Ok(i) => i,
        Err(Flaw { code, text }) => {
            return Ok(Command::Invalid {
                i: None,
                code,
                text,
            });
        }
    };
    let command = match &*kind {
        "hello" => hello(fields).map(Command::Hello),
        "sub" => sub(i, fields).map(Command::Sub),
        "unsub" => channel(fields).map(|channel| Command::Unsub { i, channel }),
        "pub" => publication(i, fields).map(Command::Pub),
        "history" => history(i, fields).map(Command::History),
        "state" => state(i, fields),
        "ack" => match cursors(fields) {
            Ok(Some(cursors)) => Ok(Command::Ack(cursors)),
            Ok(None) => Err(bad("`c` is missing")),
            Err(flaw) => Err(flaw),
        },
        "auth" => token(fields)
            .and_then(|token| token.ok_or(bad("`token` is missing")))
            .map(|token| Command::Auth { i, token }),
        "pong" => cursors(fields).map(|cursors| Command::Pong(cursors.unwrap_or_default())),
        "leave" => Ok(Command::Leave),
        _ => Ok(Command::Unknown { i }),
    };
    Ok(command.unwrap_or_else(|Flaw { code, text }| Command::Invalid { i, code, text }))
}

/// The value under `key`, if there is one; it must be what `read` wants.
fn optional<'a, T>(
    fields: &Fields<'a>,
    key: Key,
    read: impl FnOnce(Value<'a>) -> Option<T>,
    text: &'static str,
) -> Result<Option<T>, Flaw> {
    fields
        .get(key)
        .map(|value| read(value).ok_or(bad(text)))
        .transpose()
}

fn channel(fields: &Fields<'_>) -> Result<ChannelName, Flaw> {
    let channel = optional(
        fields,
        Key::Channel,
        Value::channel,
        "`ch` is not 1 to 200 bytes of text without control characters or outer spaces",
    )?;
    channel.ok_or(bad("`ch` is missing"))
}

fn name(fields: &Fields<'_>, key: Key) -> Result<Option<Name>, Flaw> {
    let rule = "a name (`k`, `ev`, `id`) is not 1 to 128 bytes of text without control characters \
                or outer spaces";
    optional(fields, key, Value::name, rule)
}

fn flag(fields: &Fields<'_>, key: Key) -> Result<bool, Flaw> {
    let flag = optional(
        fields,
        key,
        Value::boolean,
        "`state` and `del` are true or false",
    )?;
    Ok(flag.unwrap_or_default())
}

fn token(fields: &Fields<'_>) -> Result<Option<String>, Flaw> {
    let rule = "`token` is not a text of at most 8 KiB";
    optional(
        fields,
        Key::Token,
        |value| value.string(TOKEN_BYTES_MAX),
        rule,
    )
}

fn hello(fields: &Fields<'_>) -> Result<Hello, Flaw> {
    Ok(Hello {
        token: token(fields)?,
        session: optional(
            fields,
            Key::Session,
            resume_key,
            "`session` is not {id, key, attempt}",
        )?,
        subs: fields.get(Key::Subs).map(subs).transpose()?,
        heartbeat: optional(
            fields,
            Key::Heartbeat,
            Value::integer,
            "`hb` is not an integer",
        )?,
        sdk: optional(
            fields,
            Key::Sdk,
            |value| value.string(NAME_BYTES_MAX),
            "`sdk` is not a text of at most 128 bytes",
        )?,
    })
}

fn resume_key(value: Value<'_>) -> Option<ResumeKey> {
    let fields = Fields::of(value)?;
    Some(ResumeKey {
        id: fields.get(Key::Id)?.string(NAME_BYTES_MAX)?,
        key: fields.get(Key::Signature)?.string(TOKEN_BYTES_MAX)?,
        attempt: fields.get(Key::Attempt)?.integer()?,
    })
}

fn subs(value: Value<'_>) -> Result<Vec<Sub>, Flaw> {
    let mut flaw = bad("`subs` is not an array of at most 256 subscriptions");
    let subs = value.elements(SUBSCRIPTIONS_MAX, |value| {
        let entry = Fields::of(value).ok_or(bad("an entry of `subs` is not a map of its own keys"));
        entry
            .and_then(|fields| sub(None, &fields))
            .map_err(|found| flaw = found)
            .ok()
    });
    subs.ok_or(flaw)
}

fn sub(i: RequestId, fields: &Fields<'_>) -> Result<Sub, Flaw> {
    let last = optional(fields, Key::Last, Value::count, "`last` is not an integer")?;
    let fallback = match (flag(fields, Key::State)?, last) {
        (false, None) => Fallback::Now,
        (true, None) => Fallback::State,
        (false, Some(last)) => Fallback::Last(last),
        (true, Some(_)) => return Err(bad("`state` and `last` exclude each other")),
    };
    Ok(Sub {
        i,
        channel: channel(fields)?,
        position: position(fields)?,
        fallback,
        mode: optional(
            fields,
            Key::Mode,
            mode,
            "`mode` is neither `every` nor `latest`",
        )?
        .unwrap_or_default(),
        hz: optional(fields, Key::Hz, hz, "`hz` is not an integer of 1 to 1000")?,
        me: fields.get(Key::Me).map(me).transpose()?,
    })
}

fn mode(value: Value<'_>) -> Option<Mode> {
    match &*value.text()? {
        "every" => Some(Mode::Every),
        "latest" => Some(Mode::Latest),
        _ => None,
    }
}

fn hz(value: Value<'_>) -> Option<u32> {
    value.count().filter(|hz| (1..=HZ_MAX).contains(hz))
}

fn me(value: Value<'_>) -> Result<bytes::Bytes, Flaw> {
    match value.data() {
        Ok(Payload::Json(text)) if text.len() <= MEMBER_BYTES_MAX => Ok(text),
        Ok(_) => Err(too_large("`me` is longer than 1 KiB")),
        Err(_) => Err(bad("`me` breaks a rule of `d`")),
    }
}

const POSITION: &str = "`e` is not 1 to 48 bytes of text, or `o` not an integer of 0 to 2^53 - 1";

fn position(fields: &Fields<'_>) -> Result<Option<Position>, Flaw> {
    let epoch = optional(fields, Key::Epoch, Value::epoch, POSITION)?;
    let offset = optional(fields, Key::Offset, Value::integer, POSITION)?;
    match (epoch, offset) {
        (Some(epoch), Some(offset)) => Ok(Some(Position { epoch, offset })),
        (None, None) => Ok(None),
        _ => Err(bad("`e` and `o` go together")),
    }
}

fn publication(i: RequestId, fields: &Fields<'_>) -> Result<Pub, Flaw> {
    let delete = flag(fields, Key::Deleted)?;
    let payload = payload(fields)?;
    let key = name(fields, Key::Entry)?;
    if payload.is_none() && !delete {
        return Err(bad("neither `d` nor `b`"));
    }
    if delete && key.is_none() {
        return Err(bad("`del` removes a key: `k` is missing"));
    }
    let ttl = |value: Value<'_>| value.integer().filter(|ttl| *ttl > 0);
    Ok(Pub {
        i,
        channel: channel(fields)?,
        payload,
        key,
        event: name(fields, Key::Event)?,
        id: name(fields, Key::Id)?,
        delete,
        ttl_ms: optional(fields, Key::Ttl, ttl, "`ttl` is not an integer above 0")?,
        guard: optional(fields, Key::Guard, guard, "`if` is not {e, o}")?,
        trace: (fields.get(Key::TraceParent))
            .and_then(|value| TraceParent::parse(&value.text()?))
            .map(Box::new),
    })
}

fn payload(fields: &Fields<'_>) -> Result<Option<Payload>, Flaw> {
    match (fields.get(Key::Data), fields.get(Key::Bytes)) {
        (None, None) => Ok(None),
        (Some(data), None) => data.data().map(Some).map_err(|error| bad(error.text())),
        (None, Some(bytes)) => bytes
            .bytes()
            .map(Some)
            .ok_or(bad("`b` is not bytes (in JSON: base64 with padding)")),
        (Some(_), Some(_)) => Err(bad("`d` and `b` exclude each other")),
    }
}

fn guard(value: Value<'_>) -> Option<Guard> {
    let fields = Fields::of(value)?;
    match fields.get(Key::Offset)?.integer()? {
        0 => Some(Guard::Absent),
        offset => Some(Guard::At(Position {
            epoch: fields.get(Key::Epoch)?.epoch()?,
            offset,
        })),
    }
}

fn history(i: RequestId, fields: &Fields<'_>) -> Result<History, Flaw> {
    let rule = "`before` and `after` are integers of 0 to 2^53 - 1";
    let before = optional(fields, Key::Before, Value::integer, rule)?;
    let after = optional(fields, Key::After, Value::integer, rule)?;
    let range = match (before, after) {
        (before, None) => Range::Before(before),
        (None, Some(after)) => Range::After(after),
        (Some(_), Some(_)) => return Err(bad("`before` and `after` exclude each other")),
    };
    Ok(History {
        i,
        channel: channel(fields)?,
        epoch: optional(fields, Key::Epoch, Value::epoch, POSITION)?,
        range,
        limit: optional(fields, Key::N, Value::count, "`n` is not an integer")?.unwrap_or(u32::MAX),
    })
}

fn state(i: RequestId, fields: &Fields<'_>) -> Result<Command, Flaw> {
    let from = optional(
        fields,
        Key::From,
        Value::integer,
        "`from` is not an integer",
    )?;
    Ok(Command::State {
        i,
        channel: channel(fields)?,
        from: from.unwrap_or_default(),
    })
}

fn cursors(fields: &Fields<'_>) -> Result<Option<Vec<(ChannelName, Position)>>, Flaw> {
    let rule = "`c` is not a map of at most 256 channels to [e, o]";
    optional(fields, Key::Cursors, read_cursors, rule)
}

fn read_cursors(value: Value<'_>) -> Option<Vec<(ChannelName, Position)>> {
    let mut cursors = Vec::new();
    value.each_pair(|channel, value| {
        if cursors.len() == SUBSCRIPTIONS_MAX {
            return None;
        }
        let mut pair = value.elements(2, Some)?.into_iter();
        let position = Position {
            epoch: pair.next()?.epoch()?,
            offset: pair.next()?.integer()?,
        };
        cursors.push((ChannelName::new(channel).ok()?, position));
        Some(())
    })?;
    Some(cursors)
}
