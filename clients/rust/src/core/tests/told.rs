//! What the application saw and how the client stands, as the scripts write it.
//!
//! Used by `scripts`.

use serde_json::{Value, json};
use tidewire_protocol::{Name, Payload};

use crate::{Event, Message, Status};

/// The event of the script; none for what scripts do not speak of.
pub(super) fn event(channel: &str, event: &Event) -> Option<Value> {
    let told = match event {
        Event::Message(told) => message(channel, told),
        Event::Live {
            recovery, replayed, ..
        } => json!({"recovered": {"channel": channel, "outcome": recovery.name(), "n": replayed}}),
        Event::Reset(at) => {
            let position = json!({"epoch": at.epoch.as_str(), "offset": at.offset});
            json!({"reset": {"channel": channel, "position": position}})
        }
        Event::Gap { from, to, reason } => {
            json!({"gap": {"channel": channel, "from": from, "to": to, "reason": reason.name()}})
        }
        Event::Rewind { epoch, to, lost } => {
            json!({"rewind": {"channel": channel, "epoch": epoch.as_str(), "to": to, "lost": lost}})
        }
        Event::Refused { code, .. } => {
            json!({"refused": {"channel": channel, "code": code.number(), "name": code.name()}})
        }
        Event::Fresh(_) | Event::State { .. } | Event::Stale(_) => return None,
    };
    Some(told)
}

/// The data as a JSON value.
pub(super) fn data(payload: Option<&Payload>) -> Value {
    match payload {
        Some(Payload::Json(text)) => serde_json::from_slice(text).unwrap(),
        Some(Payload::Bytes(_)) | None => Value::Null,
    }
}

fn message(channel: &str, message: &Message) -> Value {
    json!({"message": {
        "channel": channel,
        "epoch": message.epoch.as_str(),
        "offset": message.publication.offset,
        "data": data(message.publication.payload.as_ref()),
        "replayed": message.replayed,
    }})
}

/// The client's status.
pub(super) fn status(status: &Status) -> Value {
    match status {
        Status::Connecting => json!({"state": "connecting"}),
        Status::Online(online) => json!({
            "state": "online",
            "user": online.user.as_ref().map(Name::as_str),
            "session": online.session,
            "resumed": online.resumed,
            "node": online.node,
        }),
        Status::Offline { .. } | Status::Suspended => json!({"state": "offline"}),
        Status::Blocked(code) => {
            json!({"state": "blocked", "code": code.number(), "name": code.name()})
        }
        Status::Closed => json!({"state": "closed"}),
    }
}
