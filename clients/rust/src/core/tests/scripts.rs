//! The client half of every dialogue in `protocol/vectors/scripts`, in virtual time. The format is
//! described in `protocol/vectors/README.md`; the node half of the same files runs against a node.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tidewire_protocol::{
    Command, Name, Payload,
    command::{Fallback, Guard, Mode, Pub},
};

use super::{
    told,
    world::{Seen, World, command, vector},
};
use crate::{
    Error, Event, History, HistoryPage,
    core::{ReaderId, SocketEnd, Ticket, Wish},
    view::{Freshness, State},
};

/// Replaces `"$name"` by its value, wherever the whole text is one name.
fn bind(pattern: &Value, vars: &Value) -> Value {
    match pattern {
        Value::String(text) => {
            let named = text.strip_prefix('$').and_then(|name| vars.get(name));
            named.unwrap_or(pattern).clone()
        }
        Value::Array(items) => items.iter().map(|item| bind(item, vars)).collect(),
        Value::Object(keys) => {
            let bound = keys
                .iter()
                .map(|(key, value)| (key.clone(), bind(value, vars)));
            Value::Object(bound.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => pattern.clone(),
    }
}

struct Run {
    world: World,
    vars: Value,
    /// How many of the sockets the script has opened.
    opened: usize,
    events: Vec<Value>,
    named: BTreeMap<String, ReaderId>,
    /// Readers whose publications are no events of the script.
    silent: Vec<ReaderId>,
    views: BTreeMap<ReaderId, State>,
    ids: BTreeMap<Ticket, String>,
    asked: BTreeMap<Ticket, History>,
    page: Option<HistoryPage>,
}

impl Run {
    fn new(script: &Value) -> Self {
        let vars = script["vars"].clone();
        let tokens = script.get("tokens").cloned().unwrap_or(json!(["$token"]));
        let tokens = bind(&tokens, &vars);
        let tokens = tokens.as_array().unwrap().iter();
        let tokens = tokens
            .map(|token| token.as_str().unwrap_or("none").to_owned())
            .collect();
        Self {
            world: World::new(tokens),
            vars,
            opened: 0,
            events: Vec::new(),
            named: BTreeMap::new(),
            silent: Vec::new(),
            views: BTreeMap::new(),
            ids: BTreeMap::new(),
            asked: BTreeMap::new(),
            page: None,
        }
    }

    fn step(&mut self, step: &Value) {
        self.world.settle();
        self.look();
        let conn = step.get("conn").and_then(Value::as_u64);
        let at = conn.map_or(self.opened.wrapping_sub(1), |at| {
            usize::try_from(at).unwrap()
        });
        let (what, value) = step
            .as_object()
            .unwrap()
            .iter()
            .find(|(key, _)| *key != "conn")
            .unwrap();
        match what.as_str() {
            "api" => self.api(value),
            "connect" => {
                assert!(
                    self.opened < self.world.sockets.len(),
                    "no connection was opened"
                );
                self.world.open(self.opened);
                self.opened += 1;
            }
            "client" => self.expect_frame(at, value),
            "node" => {
                let frames = bind(value, &self.vars);
                let frames = frames.as_array().cloned().unwrap_or_else(|| vec![frames]);
                self.world.push(at, &frames);
            }
            "event" => self.expect_event(value),
            "advance" => self.world.advance(value.as_u64().unwrap()),
            "drop" => self.world.end(at, SocketEnd::Broken),
            "close" => {
                let code = u16::try_from(value.as_u64().unwrap()).unwrap();
                self.world.end(at, SocketEnd::Closed(code));
            }
            "ended" => {
                let code = self.world.sockets[at].closed_with.map(u64::from);
                assert_eq!(code, value.as_u64());
            }
            "quiet" => self.expect_quiet(),
            "backend" => {}
            other => panic!("unknown step {other}"),
        }
        self.world.settle();
        self.look();
    }

    /// Turns what the application saw into events of the script.
    fn look(&mut self) {
        while let Some(seen) = self.world.seen.pop_front() {
            match seen {
                Seen::Event(reader, event) => self.saw(reader, &event),
                Seen::Published(ticket, Ok(published)) => self.events.push(json!({"acked": {
                    "id": self.ids[&ticket],
                    "epoch": published.position.epoch.as_str(),
                    "offset": published.position.offset,
                    "duplicate": published.duplicate,
                    "acknowledged": published.acknowledged.name(),
                }})),
                Seen::Published(ticket, Err(Error::Refused { code, position, .. })) => {
                    let position =
                        position.map(|at| json!({"epoch": at.epoch.as_str(), "offset": at.offset}));
                    self.events.push(json!({"failed": {
                        "id": self.ids[&ticket],
                        "code": code.number(),
                        "name": code.name(),
                        "position": position,
                    }}));
                }
                // The client was closed at the end of the script.
                Seen::Published(_, Err(_)) | Seen::Page(_, Err(_)) => {}
                Seen::Page(ticket, Ok(page)) => {
                    let page = HistoryPage::new(&self.asked[&ticket], page);
                    let offsets: Vec<u64> = page.items.iter().map(|item| item.offset).collect();
                    self.events
                        .push(json!({"page": {"offsets": offsets, "more": page.next.is_some()}}));
                    self.page = Some(page);
                }
            }
        }
    }

    fn saw(&mut self, reader: ReaderId, event: &Event) {
        if let Some(view) = self.views.get_mut(&reader) {
            view.take(event);
        }
        let channel = self.world.readers[&reader].as_str();
        if let Event::Message(message) = event
            && message.skipped > 0
        {
            let conflated = json!({"channel": channel, "n": message.skipped});
            self.events.push(json!({ "conflated": conflated }));
        }
        let publication = matches!(event, Event::Message(_));
        if !publication || !self.silent.contains(&reader) {
            self.events.extend(told::event(channel, event));
        }
    }

    fn expect_frame(&mut self, at: usize, pattern: &Value) {
        let mut sent = self.world.sent(at);
        if let Some(Command::Hello(hello)) = &mut sent {
            assert_eq!(hello.sdk.take().as_deref(), Some("test/1"));
        }
        assert_eq!(sent, Some(command(&bind(pattern, &self.vars))));
    }

    fn expect_quiet(&self) {
        assert_eq!(
            self.world.sockets.len(),
            self.opened,
            "an unexpected connection"
        );
        for socket in &self.world.sockets {
            assert!(
                socket.sent.is_empty(),
                "unexpected frames: {:?}",
                socket.sent
            );
        }
    }

    fn expect_event(&mut self, event: &Value) {
        let event = bind(event, &self.vars);
        let (kind, expected) = event.as_object().unwrap().iter().next().unwrap();
        let expected = expected.as_object().unwrap();
        let got = match kind.as_str() {
            "status" => told::status(&self.world.status),
            "view" => {
                let reader = self.named[expected["as"].as_str().unwrap()];
                self.told_view(reader)
            }
            _ => {
                assert!(!self.events.is_empty(), "nothing happened");
                let got = self.events.remove(0);
                got.get(kind)
                    .unwrap_or_else(|| panic!("it was {got}"))
                    .clone()
            }
        };
        let keys = expected.iter().filter(|(key, _)| *key != "as");
        for (key, value) in keys {
            assert_eq!(
                got.get(key).unwrap_or(&Value::Null),
                value,
                "{key} of {got}"
            );
        }
    }

    fn told_view(&self, reader: ReaderId) -> Value {
        let view = &self.views[&reader];
        let offset = self.world.engine.clock_offset();
        let broker_now = self.world.now.saturating_add_signed(offset);
        let data: Map<String, Value> = view
            .entries(broker_now)
            .map(|(key, item)| {
                (
                    key.as_str().to_owned(),
                    told::data(item.publication.payload.as_ref()),
                )
            })
            .collect();
        let (freshness, since) = match view.freshness() {
            Freshness::Live => ("live", None),
            Freshness::CatchingUp => ("catching-up", None),
            Freshness::Stale(since) => ("stale", Some(since)),
        };
        json!({"data": data, "freshness": freshness, "since": since, "conflated": view.conflated()})
    }

    fn api(&mut self, call: &Value) {
        let channel = call["channel"].as_str().unwrap_or("none");
        let now = self.world.moment();
        match call["call"].as_str().unwrap() {
            "on" => {
                let last = call["last"]
                    .as_u64()
                    .map(|last| u32::try_from(last).unwrap());
                let fallback = last.map_or(Fallback::Now, Fallback::Last);
                let reader = self.world.subscribe(channel, wish(fallback, Mode::Every));
                self.name(call, reader);
            }
            "off" => self
                .world
                .engine
                .unsubscribe(self.named[call["as"].as_str().unwrap()], now),
            "latest" => self.view(call, channel),
            "members" => self.view(call, &format!("$presence:{channel}")),
            "enter" => {
                let mut wish = wish(Fallback::Now, Mode::Every);
                wish.me = Some(call["me"].to_string().into());
                let reader = self.world.subscribe(channel, wish);
                self.silent.push(reader);
            }
            // It connects by itself from the start.
            "connect" => {}
            "close" => self.world.engine.close(true),
            "lifecycle" => match call["event"].as_str().unwrap() {
                "freeze" => self.world.engine.suspend(),
                _ => self.world.engine.wake(now),
            },
            "history" => {
                let history = match call["before"].as_u64() {
                    Some(offset) => History::before_offset(offset),
                    None => History::newest(),
                };
                let limit = u32::try_from(call["limit"].as_u64().unwrap()).unwrap();
                self.read(channel, history.limit(limit));
            }
            "next" => {
                let next = self.page.as_ref().unwrap().next.clone().unwrap();
                self.read("chat:1", next);
            }
            "publish" => self.publish(channel, call),
            other => panic!("unknown call {other}"),
        }
    }

    fn name(&mut self, call: &Value, reader: ReaderId) {
        if let Some(name) = call["as"].as_str() {
            self.named.insert(name.to_owned(), reader);
        }
    }

    fn view(&mut self, call: &Value, channel: &str) {
        let reader = self
            .world
            .subscribe(channel, wish(Fallback::State, Mode::Latest));
        self.views.insert(reader, State::default());
        self.silent.push(reader);
        self.name(call, reader);
    }

    fn read(&mut self, channel: &str, history: History) {
        let ticket = Ticket(self.world.mint());
        let read = history.read(tidewire_protocol::ChannelName::new(channel).unwrap());
        self.asked.insert(ticket, history);
        let now = self.world.moment();
        self.world.engine.read(ticket, read, now);
    }

    fn publish(&mut self, channel: &str, call: &Value) {
        let options = call.get("options").cloned().unwrap_or_default();
        let name = |value: &Value| value.as_str().map(|text| Name::new(text).unwrap());
        let id = options["id"].as_str().unwrap().to_owned();
        let publication = Pub {
            i: None,
            channel: tidewire_protocol::ChannelName::new(channel).unwrap(),
            payload: Some(Payload::from_json_text(call["data"].to_string().as_bytes()).unwrap()),
            key: name(&options["key"]),
            event: name(&call["event"]),
            id: name(&options["id"]),
            delete: false,
            ttl_ms: None,
            guard: (options["guard"] == "absent").then_some(Guard::Absent),
            trace: None,
        };
        let ticket = Ticket(self.world.mint());
        self.ids.insert(ticket, id);
        let now = self.world.moment();
        self.world.engine.publish(ticket, publication, None, now);
    }

    fn finish(mut self) {
        self.expect_quiet();
        assert_eq!(self.events, Vec::<Value>::new(), "events nobody expected");
        self.world.engine.close(true);
        self.world.settle();
        assert_eq!(
            self.world.engine.poll_deadline(),
            None,
            "timers left behind"
        );
    }
}

fn wish(fallback: Fallback, mode: Mode) -> Wish {
    Wish {
        after: None,
        fallback,
        mode,
        hz: None,
        me: None,
    }
}

#[test]
fn every_dialogue_is_spoken_as_written() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../protocol/vectors/scripts"
    );
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut run = 0;
    for file in files {
        let script = vector(&format!("scripts/{file}"));
        let sides = script["sides"].as_array();
        if sides.is_some_and(|sides| !sides.contains(&json!("client"))) {
            continue;
        }
        let mut dialogue = Run::new(&script);
        for (at, step) in script["steps"].as_array().unwrap().iter().enumerate() {
            let said = format!("{file}, step {}: {step}", at + 1);
            let spoken =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dialogue.step(step)));
            assert!(spoken.is_ok(), "{said}");
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dialogue.finish()));
        assert!(ended.is_ok(), "{file}, at its end");
        run += 1;
    }
    assert!(run >= 40, "dialogues are missing: {run}");
}
