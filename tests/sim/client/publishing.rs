//! What a simulated client publishes: one publication at a time, sent again until it is answered.
//! The checker is told what was tried and what came of it.

use std::time::Duration;

use tidewire_check::Event;
use tidewire_protocol::{ChannelName, Command, Position, command::Pub};
use tokio::time::Instant;

use super::{super::app::position, SimClient};

/// An answer to a request is waited for this long.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Times a publication is sent before its publisher gives up.
const TRIES_MAX: u32 = 6;

/// A publication under way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) body: u64,
    pub(super) channel: ChannelName,
    pub(super) key: Option<&'static str>,
    pub(super) delete: bool,
    pub(super) tries: u32,
    /// Whether an earlier try may have been applied.
    pub(super) uncertain: bool,
    /// The request that carries it.
    pub(super) i: Option<u64>,
    pub(super) due: Instant,
}

impl SimClient {
    pub(super) fn make_publication(&mut self) {
        let Some(mean_ms) = self.nature.publishes_ms.filter(|_| !self.is_calm) else {
            self.publish_at = None;
            return;
        };
        self.publish_at = Some(Instant::now() + self.world.millis(1, 2 * mean_ms));
        if self.nature.targets.is_empty() {
            return;
        }
        let (targets, removes) = (&self.nature.targets, self.nature.removes);
        let ((channel, key), delete) = self
            .world
            .draw(|random| (random.pick(targets).clone(), random.chance(removes)));
        self.bodies += 1;
        let body = self.bodies;
        self.world.feed(&Event::Attempted {
            body,
            channel: self.world.channel(channel.as_str()),
        });
        self.outgoing = Some(Outgoing {
            body,
            channel,
            key,
            delete: delete && key.is_some(),
            tries: 0,
            uncertain: false,
            i: None,
            due: Instant::now(),
        });
        self.send_publication();
    }

    pub(super) fn send_publication(&mut self) {
        let is_open = self.is_open();
        let Some(outgoing) = &mut self.outgoing else {
            return;
        };
        if !is_open {
            outgoing.due = Instant::now() + ANSWER_MAX;
            return;
        }
        outgoing.tries += 1;
        if outgoing.tries > TRIES_MAX {
            self.outgoing = None;
            return;
        }
        self.next_i += 1;
        outgoing.i = Some(self.next_i);
        outgoing.due = Instant::now() + ANSWER_MAX;
        let data = outgoing.body.to_string();
        let publication = Pub {
            i: outgoing.i,
            channel: outgoing.channel.clone(),
            payload: (!outgoing.delete)
                .then(|| tidewire_protocol::Payload::from_json_text(data.as_bytes()).unwrap()),
            key: outgoing
                .key
                .map(|key| tidewire_protocol::Name::new(key).unwrap()),
            event: None,
            id: Some(tidewire_protocol::Name::new(&data).unwrap()),
            delete: outgoing.delete,
            ttl_ms: None,
            guard: None,
            trace: None,
        };
        if let Some(line) = self.lines.back_mut() {
            line.wire.send(&[Command::Pub(publication)]);
        }
    }

    pub(super) fn published(&mut self, i: u64, at: &Position) {
        let is_it = |outgoing: &mut Outgoing| outgoing.i == Some(i);
        if let Some(outgoing) = self.outgoing.take_if(is_it) {
            let body = outgoing.body;
            if outgoing.tries > 1 {
                self.world.saw("a publication retried");
            }
            if !outgoing.delete {
                let position = position(at);
                self.world.feed(&Event::Acknowledged { body, position });
            }
        }
    }

    pub(super) fn refused(&mut self, i: Option<u64>, temporary: bool) {
        if let Some(channel) = i.and_then(|i| self.subs.remove(&i)) {
            assert!(temporary, "{channel} was refused");
            self.owe(channel);
            return;
        }
        let wait = self.world.millis(50, 400);
        let Some(outgoing) = &mut self.outgoing else {
            return;
        };
        if outgoing.i != i || i.is_none() {
            return;
        }
        outgoing.i = None;
        if temporary {
            outgoing.uncertain = true;
            outgoing.due = Instant::now() + wait;
            return;
        }
        let (body, uncertain) = (outgoing.body, outgoing.uncertain || outgoing.tries > 1);
        self.outgoing = None;
        if !uncertain {
            self.world.feed(&Event::Refused { body });
        }
    }
}
