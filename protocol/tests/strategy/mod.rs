//! Random commands, frames and payloads for the property tests, all of them valid.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use tidewire_protocol::{
    ChannelName, CloseCode, Command, Epoch, ErrorCode, Frame, Name, Payload, Position, Publication,
    TraceParent,
    command::{Fallback, Guard, Hello, History, Mode, Pub, Range, ResumeKey, Sub},
    frame::{Acknowledge, GapReason, Maxima, Recovery, StateItem, Welcome},
    limits::INTEGER_MAX,
};

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..=INTEGER_MAX, Just(INTEGER_MAX)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9:{}*$\"\\\\/ ]{0,30}",
        "\\PC{0,12}",
        "[\u{0}-\u{2f}\u{7f}-\u{a0}]{0,8}"
    ]
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}(:[a-z0-9_.{}-]{1,20})?",
        "[a-zé€𝄞{}\"\\\\/]([a-zé€𝄞{}\"\\\\/ ]{0,10}[!-~])?",
    ]
}

fn channel() -> impl Strategy<Value = ChannelName> {
    label().prop_map(|label| ChannelName::new(&label).unwrap())
}

fn name() -> impl Strategy<Value = Name> {
    label().prop_map(|label| Name::new(&label).unwrap())
}

fn epoch() -> impl Strategy<Value = Epoch> {
    "[a-zA-Z0-9._-]{1,48}".prop_map(|epoch| Epoch::new(&epoch).unwrap())
}

fn position() -> impl Strategy<Value = Position> {
    (epoch(), integer()).prop_map(|(epoch, offset)| Position { epoch, offset })
}

/// Any JSON value the protocol carries.
pub(crate) fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-100_i64..100).prop_map(Into::into),
        any::<f64>()
            .prop_filter("finite", |float| float.is_finite())
            .prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Into::into),
            vec((text(), inner), 0..20)
                .prop_map(|pairs| pairs.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        json().prop_map(|value| Payload::from_json_text(value.to_string().as_bytes()).unwrap()),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Payload::bytes(bytes.into())),
    ]
}

fn sub(i: Option<u64>) -> impl Strategy<Value = Sub> {
    let fallback = prop_oneof![
        Just(Fallback::Now),
        Just(Fallback::State),
        any::<u32>().prop_map(Fallback::Last),
    ];
    let me = json().prop_map(|value| bytes::Bytes::from(value.to_string()));
    (
        channel(),
        option::of(position()),
        fallback,
        select(vec![Mode::Every, Mode::Latest]),
        option::of(1..=1000_u32),
        option::of(me.prop_filter("at most 1 KiB", |me| me.len() <= 300)),
    )
        .prop_map(move |(channel, position, fallback, mode, hz, me)| Sub {
            i,
            channel,
            position,
            fallback,
            mode,
            hz,
            me,
        })
}

fn hello() -> impl Strategy<Value = Command> {
    let session = ("[a-z0-9-]{1,40}", text(), integer()).prop_map(|(id, key, attempt)| ResumeKey {
        id,
        key,
        attempt,
    });
    (
        option::of(text()),
        option::of(session),
        option::of(vec(sub(None), 0..4)),
        option::of(integer()),
        option::of(text()),
    )
        .prop_map(|(token, session, subs, heartbeat, sdk)| {
            Command::Hello(Hello {
                token,
                session,
                subs,
                heartbeat,
                sdk,
            })
        })
}

fn publication_command() -> impl Strategy<Value = Command> {
    let guard = prop_oneof![
        Just(Guard::Absent),
        (epoch(), 1..=INTEGER_MAX)
            .prop_map(|(epoch, offset)| Guard::At(Position { epoch, offset })),
    ];
    (
        (
            option::of(integer()),
            channel(),
            payload(),
            option::of(name()),
        ),
        (option::of(name()), option::of(name()), any::<bool>()),
        (
            option::of(1..=INTEGER_MAX),
            option::of(guard),
            option::of(trace()),
        ),
    )
        .prop_map(
            |((i, channel, payload, key), (event, id, delete), (ttl_ms, guard, trace))| {
                let delete = delete && key.is_some();
                Command::Pub(Pub {
                    i,
                    channel,
                    payload: (!delete).then_some(payload),
                    key,
                    event,
                    id,
                    delete,
                    ttl_ms,
                    guard,
                    trace: trace.map(Box::new),
                })
            },
        )
}

fn trace() -> impl Strategy<Value = TraceParent> {
    (1..=u128::MAX, 1..=u64::MAX, any::<bool>()).prop_map(|(trace, span, sampled)| TraceParent {
        trace: trace.to_be_bytes(),
        span: span.to_be_bytes(),
        sampled,
    })
}

fn history() -> impl Strategy<Value = Command> {
    let range = prop_oneof![
        option::of(integer()).prop_map(Range::Before),
        integer().prop_map(Range::After),
    ];
    (
        option::of(integer()),
        channel(),
        option::of(epoch()),
        range,
        any::<u32>(),
    )
        .prop_map(|(i, channel, epoch, range, limit)| {
            Command::History(History {
                i,
                channel,
                epoch,
                range,
                limit,
            })
        })
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let i = || option::of(integer());
    let cursors = || vec((channel(), position()), 0..20);
    prop_oneof![
        hello(),
        i().prop_flat_map(|i| sub(i).prop_map(Command::Sub)),
        (i(), channel()).prop_map(|(i, channel)| Command::Unsub { i, channel }),
        publication_command(),
        history(),
        (i(), channel(), integer()).prop_map(|(i, channel, from)| Command::State {
            i,
            channel,
            from
        }),
        cursors().prop_map(Command::Ack),
        (i(), text()).prop_map(|(i, token)| Command::Auth { i, token }),
        cursors().prop_map(Command::Pong),
        Just(Command::Leave),
    ]
}

fn publication() -> impl Strategy<Value = Arc<Publication>> {
    (
        (integer(), integer(), option::of(payload())),
        (
            option::of(name()),
            option::of(name()),
            option::of(name()),
            option::of(name()),
        ),
        option::of(integer()),
    )
        .prop_map(|((offset, ts, payload), (key, event, id, by), expires)| {
            Arc::new(Publication {
                offset,
                ts,
                deleted: payload.is_none(),
                payload,
                key,
                event,
                id,
                by,
                expires,
            })
        })
}

fn items() -> impl Strategy<Value = Vec<StateItem>> {
    let item =
        (epoch(), publication()).prop_map(|(epoch, publication)| StateItem { epoch, publication });
    vec(item, 1..20)
}

fn welcome() -> impl Strategy<Value = Frame> {
    (
        (
            "[a-z0-9-]{1,40}",
            text(),
            integer(),
            any::<bool>(),
            option::of(name()),
        ),
        (
            1..100_u64,
            integer(),
            option::of(integer()),
            "[a-z0-9-]{1,20}",
        ),
        (integer(), integer(), integer()),
    )
        .prop_map(
            |((session, key, ttl_ms, resumed, user), (heartbeat, ts, expires, node), max)| {
                Frame::Welcome(Box::new(Welcome {
                    session,
                    key,
                    ttl_ms,
                    resumed,
                    user,
                    heartbeat,
                    ts,
                    max: Maxima {
                        frame: max.0,
                        data: max.1,
                        subs: max.2,
                    },
                    expires,
                    node,
                }))
            },
        )
}

fn reply() -> impl Strategy<Value = Frame> {
    let recovery = select(Recovery::ALL.to_vec());
    let error = (
        option::of(integer()),
        select(ErrorCode::ALL.to_vec()),
        text(),
        option::of(integer()),
        option::of(position()),
    );
    prop_oneof![
        (option::of(integer()), channel(), position(), recovery).prop_map(
            |(i, channel, position, recovery)| Frame::Subscribed {
                i,
                channel,
                position,
                recovery
            }
        ),
        (integer(), option::of(integer())).prop_map(|(i, expires)| Frame::Done { i, expires }),
        (
            integer(),
            position(),
            any::<bool>(),
            select(Acknowledge::ALL.to_vec())
        )
            .prop_map(|(i, position, duplicate, acknowledged)| Frame::Published {
                i,
                position,
                duplicate,
                acknowledged,
            }),
        (
            integer(),
            position(),
            vec(publication(), 0..20),
            any::<bool>()
        )
            .prop_map(|(i, position, items, more)| Frame::HistoryPage {
                i,
                position,
                items,
                more
            }),
        (integer(), position(), items(), any::<bool>()).prop_map(|(i, position, items, more)| {
            Frame::StatePage {
                i,
                position,
                items,
                more,
            }
        }),
        error.prop_map(|(i, code, text, retry_ms, position)| Frame::Error {
            i,
            code,
            text,
            retry_ms,
            position
        }),
    ]
}

fn push() -> impl Strategy<Value = Frame> {
    let codes = || select(ErrorCode::ALL.to_vec());
    prop_oneof![
        (channel(), publication()).prop_map(|(channel, publication)| Frame::Msg {
            channel,
            publication
        }),
        (channel(), items(), any::<bool>()).prop_map(|(channel, items, more)| Frame::State {
            channel,
            items,
            more
        }),
        (channel(), integer(), integer()).prop_map(|(channel, offset, replayed)| Frame::Live {
            channel,
            offset,
            replayed
        }),
        (
            channel(),
            integer(),
            integer(),
            select(GapReason::ALL.to_vec())
        )
            .prop_map(|(channel, from, to, reason)| Frame::Gap {
                channel,
                from,
                to,
                reason
            }),
        (channel(), epoch(), integer(), integer()).prop_map(|(channel, epoch, to, lost)| {
            Frame::Rewind {
                channel,
                epoch,
                to,
                lost,
            }
        }),
        (option::of(channel()), integer())
            .prop_map(|(channel, since)| Frame::Stale { channel, since }),
        (channel(), codes()).prop_map(|(channel, code)| Frame::Unsubscribed { channel, code }),
        integer().prop_map(|expires| Frame::Auth { expires }),
        (integer(), integer()).prop_map(|(in_ms, by_ms)| Frame::Move { in_ms, by_ms }),
        Just(Frame::Ping),
        (
            select(CloseCode::ALL.to_vec()),
            option::of(integer()),
            option::of(integer())
        )
            .prop_map(|(code, retry_ms, attempt)| Frame::Bye {
                code,
                retry_ms,
                attempt
            }),
    ]
}

pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![welcome(), reply(), push()]
}
