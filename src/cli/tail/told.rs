//! What is told of each event: publications to standard output, everything else to people.
//!
//! Used by `tail`. It keeps nothing of the channels but how far they were seen.

use std::{collections::BTreeMap, io::Write};

use tidewire_client::{ChannelName, Event};

use super::print::Printer;

/// What was told so far.
#[derive(Debug)]
pub(super) struct Told {
    /// The last offset printed of each channel.
    seen: BTreeMap<ChannelName, u64>,
    stale: bool,
    following: usize,
}

impl Told {
    pub(super) const fn new(following: usize) -> Self {
        Self {
            seen: BTreeMap::new(),
            stale: false,
            following,
        }
    }

    /// Every channel was refused.
    pub(super) const fn nothing_left(&self) -> bool {
        self.following == 0
    }

    /// Tells one event.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn take<W: Write>(
        &mut self,
        channel: &ChannelName,
        event: &Event,
        printer: &mut Printer<'_, W>,
    ) -> anyhow::Result<()> {
        match event {
            Event::Message(message) => {
                self.seen
                    .insert(channel.clone(), message.publication.offset);
                printer.publication(channel, &message.epoch, &message.publication)?;
            }
            Event::State { items, .. } => {
                for item in items {
                    printer.publication(channel, &item.epoch, &item.publication)?;
                }
            }
            Event::Gap { from, to, reason } => {
                let reason = reason.name();
                printer.note(&format!("{channel}: {from} to {to} are gone ({reason})"));
            }
            Event::Rewind { to, lost, .. } if *lost > 0 => printer.note(&format!(
                "{channel}: the log lost its last {lost} and goes on after {to}"
            )),
            // Of a log in which nothing was seen, nothing can be missed.
            Event::Reset(_) if self.seen.remove(channel).is_some() => printer.note(&format!(
                "{channel}: could not go on where it was; starting over"
            )),
            Event::Stale(since) => self.stale(since.is_some(), printer),
            Event::Refused { code, .. } => {
                printer.note(&format!("{channel}: refused: {}", code.name()));
                self.following = self.following.saturating_sub(1);
            }
            Event::Fresh(_) | Event::Reset(_) | Event::Rewind { .. } | Event::Live { .. } => {}
        }
        Ok(())
    }

    /// Of all channels at once it is told once.
    fn stale<W: Write>(&mut self, stale: bool, printer: &Printer<'_, W>) {
        if stale != self.stale {
            printer.note(if stale {
                "the node cannot reach its broker; what is shown may be old"
            } else {
                "the node has caught up"
            });
        }
        self.stale = stale;
    }
}
