//! A simulated client's connections: opened, welcomed, taken leave of and lost.

use tidewire_protocol::{
    CloseCode, Command,
    command::{Hello, ResumeKey},
    frame::Welcome,
};
use tokio::time::Instant;

use super::{super::wire::Wire, Credentials, Nature, SimClient, line::Line};

/// Longest wait before a connection is tried again, ms.
const BACKOFF_MS_MAX: u64 = 1_000;

impl SimClient {
    pub(super) fn connect(&mut self) {
        let nodes = self.hub.len();
        let up: Vec<usize> = (0..nodes).filter(|node| self.hub.is_up(*node)).collect();
        if up.is_empty() {
            self.back_off();
            return;
        }
        let node = self.world.draw(|random| *random.pick(&up));
        let Nature {
            encoding,
            holds,
            takes,
            delay_ms,
            ..
        } = self.nature;
        let Some(pipe) = self.hub.connect(node, encoding, holds) else {
            self.back_off();
            return;
        };
        let mut wire = Wire::new(pipe, encoding, takes, delay_ms);
        self.attempt = (self.attempt + 1).max(self.world.now_ms());
        while self.app.is_partial() && !self.lines.is_empty() {
            // A channel that starts over is read by the new connection alone.
            self.close_first();
        }
        let session = self.session.lock().clone().map(|credentials| ResumeKey {
            id: credentials.id,
            key: credentials.key,
            attempt: self.attempt,
        });
        let subs = self.app.subs();
        let asked = subs
            .iter()
            .map(|sub| ((sub.channel.clone(), None), sub.position.clone()))
            .collect();
        self.world.note(|| {
            let (client, attempt) = (self.app.client.0, self.attempt);
            format!("client {client} connects to node {node}, attempt {attempt}, {asked:?}")
        });
        wire.send(&[Command::Hello(Hello {
            token: Some(self.nature.token.to_string()),
            session,
            subs: Some(subs),
            ..Hello::default()
        })]);
        self.lines.push_back(Line {
            wire,
            is_welcome: false,
            opened: Instant::now(),
            asked,
            attempt: self.attempt,
        });
        while self.lines.len() > 2 {
            self.close_first();
        }
    }

    pub(super) fn close_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            line.wire.pipe.break_off();
        }
    }

    pub(super) fn back_off(&mut self) {
        let most = if self.is_calm { 100 } else { BACKOFF_MS_MAX };
        self.connect_at = Some(Instant::now() + self.world.millis(1, most));
    }

    /// A connection is gone.
    pub(super) fn lose(&mut self, at: usize) {
        if let Some(line) = self.lines.remove(at) {
            line.wire.pipe.break_off();
        }
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.i = None;
        }
        if self.lines.is_empty() {
            self.leaving.clear();
            self.back_off();
        }
    }

    pub(super) fn welcome(&mut self, at: usize, welcome: &Welcome) {
        // The hello asked for all.
        self.owed.clear();
        for _ in 0..at {
            self.close_first();
        }
        self.connect_at = None;
        self.world.saw(if welcome.resumed {
            "a session resumed"
        } else {
            "a session begun"
        });
        self.app.renew();
        self.leaving.clear();
        self.lines[0].is_welcome = true;
        *self.session.lock() = Some(Credentials {
            id: welcome.session.clone(),
            key: welcome.key.clone(),
            attempt: self.lines[0].attempt,
            is_unsettled: !self.app.has_begun(),
        });
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.i = None;
            outgoing.due = Instant::now();
        }
    }

    pub(super) fn bye(&mut self, at: usize, code: CloseCode, retry_ms: Option<u64>) {
        let is_newest = at + 1 == self.lines.len();
        if code == CloseCode::Replaced && is_newest {
            // Somebody else has the session: on in a new one, from where this program is.
            self.world.saw("a session replaced");
            *self.session.lock() = None;
        }
        self.lose(at);
        if let (Some(retry_ms), Some(connect_at)) = (retry_ms, &mut self.connect_at) {
            let most = if self.is_calm { 100 } else { retry_ms };
            *connect_at = Instant::now() + self.world.millis(0, most);
        }
    }
}
