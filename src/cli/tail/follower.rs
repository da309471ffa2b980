//! What `tail` has seen of each channel, and what a frame of the node changes.
//!
//! Owns the cursors and the session; no socket, no clock.

use std::{io::Write, time::Duration};

use tidewire_protocol::{
    ChannelName, CloseCode, Command, ErrorCode, Frame, Position,
    command::{Fallback, Hello, Mode, ResumeKey, Sub},
    frame::Recovery,
};

use super::print::Printer;

/// How long the node may be silent before its heartbeat is known.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// What to do after a frame.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Read on.
    Go,
    /// Send this.
    Answer(Command),
    /// The node closes with this code and says when to come back.
    Closed(CloseCode, Option<Duration>),
    /// Every channel was refused.
    NothingLeft,
}

#[derive(Debug)]
struct Followed {
    channel: ChannelName,
    /// The last position printed, or where the delivery began.
    cursor: Option<Position>,
    /// Pages of the state are still to come: without them the position says too much.
    snapshot: bool,
}

impl Followed {
    /// Where to go on, if everything up to there was printed.
    fn position(&self) -> Option<Position> {
        self.cursor.clone().filter(|_| !self.snapshot)
    }
}

/// One run of `tail`.
#[derive(Debug)]
pub(super) struct Follower {
    token: Option<String>,
    channels: Vec<Followed>,
    fallback: Fallback,
    session: Option<ResumeKey>,
    attempt: u64,
    patience: Duration,
}

impl Follower {
    pub(super) fn new(token: Option<String>, channels: &[ChannelName], fallback: Fallback) -> Self {
        let mut followed: Vec<Followed> = Vec::with_capacity(channels.len());
        for channel in channels {
            if !followed.iter().any(|other| other.channel == *channel) {
                followed.push(Followed {
                    channel: channel.clone(),
                    cursor: None,
                    snapshot: false,
                });
            }
        }
        Self {
            token,
            channels: followed,
            fallback,
            session: None,
            attempt: 0,
            patience: FIRST_PATIENCE,
        }
    }

    /// How long the node may be silent.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Begins a session of its own at the next connection; positions are kept.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    /// The first frame of a connection. The session's number is fixed here, before it is sent.
    pub(super) fn hello(&mut self, now_ms: u64) -> Command {
        self.attempt = now_ms.max(self.attempt + 1);
        let attempt = self.attempt;
        let session = self
            .session
            .clone()
            .map(|session| ResumeKey { attempt, ..session });
        let subs = self.channels.iter().map(|followed| Sub {
            i: None,
            channel: followed.channel.clone(),
            position: followed.position(),
            fallback: self.fallback,
            mode: Mode::Every,
            hz: None,
            me: None,
        });
        Command::Hello(Hello {
            token: self.token.clone(),
            session,
            subs: Some(subs.collect()),
            heartbeat: None,
            sdk: Some(concat!("tidewire-cli/", env!("CARGO_PKG_VERSION")).to_owned()),
        })
    }

    fn followed(&mut self, channel: &ChannelName) -> Option<&mut Followed> {
        self.channels
            .iter_mut()
            .find(|followed| followed.channel == *channel)
    }

    fn cursor(&mut self, channel: &ChannelName) -> Option<&mut Position> {
        self.followed(channel)?.cursor.as_mut()
    }

    fn positions(&self) -> Vec<(ChannelName, Position)> {
        let known = |followed: &Followed| Some((followed.channel.clone(), followed.position()?));
        self.channels.iter().filter_map(known).collect()
    }

    /// Takes one frame: prints what it brings and moves the cursors.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn take<W: Write>(
        &mut self,
        frame: Frame,
        printer: &mut Printer<'_, W>,
    ) -> anyhow::Result<Next> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "take_rare names every other frame"
        )]
        match frame {
            Frame::Welcome(welcome) => {
                self.patience = Duration::from_secs(welcome.heartbeat.max(1)) * 2;
                self.session = Some(ResumeKey {
                    id: welcome.session,
                    key: welcome.key,
                    attempt: self.attempt,
                });
            }
            Frame::Msg {
                channel,
                publication,
            } => {
                if let Some(cursor) = self.cursor(&channel)
                    && publication.offset > cursor.offset
                {
                    cursor.offset = publication.offset;
                    printer.publication(&channel, &cursor.epoch, &publication)?;
                }
            }
            Frame::State {
                channel,
                items,
                more,
            } => {
                for item in items {
                    printer.publication(&channel, &item.epoch, &item.publication)?;
                }
                if let Some(followed) = self.followed(&channel) {
                    followed.snapshot = more;
                }
            }
            Frame::Ping => return Ok(Next::Answer(Command::Pong(self.positions()))),
            Frame::Bye { code, retry_ms, .. } => {
                return Ok(Next::Closed(code, retry_ms.map(Duration::from_millis)));
            }
            other => return Ok(self.take_rare(other, printer)),
        }
        Ok(Next::Go)
    }

    /// Takes what changes where a channel stands, and what only people need to know.
    fn take_rare<W: Write>(&mut self, frame: Frame, printer: &Printer<'_, W>) -> Next {
        match frame {
            Frame::Subscribed {
                channel,
                position,
                recovery,
                ..
            } => self.begin(&channel, position, recovery, printer),
            Frame::Gap {
                channel,
                from,
                to,
                reason,
            } => {
                printer.note(&format!(
                    "{channel}: {from} to {to} are gone ({})",
                    reason.name()
                ));
                if let Some(cursor) = self.cursor(&channel) {
                    cursor.offset = cursor.offset.max(to);
                }
            }
            Frame::Rewind {
                channel,
                epoch,
                to,
                lost,
            } => {
                if let Some(cursor) = self.cursor(&channel)
                    && cursor.epoch != epoch
                {
                    if lost > 0 {
                        printer.note(&format!(
                            "{channel}: the log lost its last {lost} and goes on after {to}"
                        ));
                    }
                    *cursor = Position { epoch, offset: to };
                }
            }
            Frame::Unsubscribed { channel, code } => return self.refused(&channel, code, printer),
            Frame::Live { channel, .. } => {
                if let Some(followed) = self.followed(&channel) {
                    followed.snapshot = false;
                }
            }
            Frame::Stale { since: 0, .. } => printer.note("the node has caught up"),
            Frame::Stale { .. } => {
                printer.note("the node cannot reach its broker; what is shown may be old")
            }
            Frame::Auth { .. } => {
                printer.note("the token expires soon; start again with a fresh one")
            }
            Frame::Error { code, text, .. } => printer.note(&format!("{}: {text}", code.name())),
            // The old connection delivers on until it is closed; then the next one resumes.
            Frame::Move { .. }
            | Frame::Done { .. }
            | Frame::Published { .. }
            | Frame::HistoryPage { .. }
            | Frame::StatePage { .. }
            | Frame::Welcome(_)
            | Frame::Msg { .. }
            | Frame::State { .. }
            | Frame::Ping
            | Frame::Bye { .. } => {}
        }
        Next::Go
    }

    fn begin<W: Write>(
        &mut self,
        channel: &ChannelName,
        position: Position,
        recovery: Recovery,
        printer: &Printer<'_, W>,
    ) {
        let snapshot = self.fallback == Fallback::State && recovery != Recovery::Full;
        if let Some(followed) = self.followed(channel) {
            // Of a log in which nothing was seen, nothing can be missed.
            let seen = followed
                .cursor
                .as_ref()
                .is_some_and(|cursor| cursor.offset > 0);
            if recovery == Recovery::Reset && seen {
                printer.note(&format!(
                    "{channel}: could not go on where it was; starting over"
                ));
            }
            followed.cursor = Some(position);
            followed.snapshot = snapshot;
        }
    }

    fn refused<W: Write>(
        &mut self,
        channel: &ChannelName,
        code: ErrorCode,
        printer: &Printer<'_, W>,
    ) -> Next {
        printer.note(&format!("{channel}: refused: {}", code.name()));
        self.channels
            .retain(|followed| followed.channel != *channel);
        if self.channels.is_empty() {
            Next::NothingLeft
        } else {
            Next::Go
        }
    }
}
