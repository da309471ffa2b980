//! Where commands write: results to standard output, everything else to standard error.
//!
//! Called by the commands; the node itself only logs.

use std::io::{self, IsTerminal, Write};

/// Writes one line to standard output.
///
/// # Errors
/// The reader has gone, or the file cannot grow.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes one line for people to standard error; nobody there to read it is no failure.
pub(super) fn note(text: &str) {
    let _unread = writeln!(io::stderr().lock(), "{text}");
}

/// A line on standard error that is written over and over, where that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            shown: false,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Shows a text in place of the last.
    pub(super) fn show(&mut self, text: &str) {
        if self.terminal {
            self.shown = true;
            let _unread = write!(io::stderr().lock(), "\r\x1b[K{text}");
        }
    }

    /// Leaves the line, so that notes begin on one of their own.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _unread = writeln!(io::stderr().lock());
        }
    }
}
