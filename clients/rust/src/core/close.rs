//! What the end of a connection means, proved by `protocol/vectors/close.json`.
//!
//! Called by the link for every connection that ended. It decides and remembers nothing.

use tidewire_protocol::CloseCode;

/// Takeovers after which two programs fight for one session, and both would lose.
pub(crate) const REPLACED_MAX: usize = 3;
/// Within this time, ms.
pub(crate) const REPLACED_WINDOW_MS: u64 = 30_000;

/// Everything the decision rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// The code of the `bye` if one came, else of the close; none: the connection was lost.
    pub(crate) code: Option<CloseCode>,
    /// `welcome` had been read on this connection.
    pub(crate) welcomed: bool,
    /// Connections in a row that ended with 4401 before this one.
    pub(crate) unauthenticated: u32,
    /// The `attempt` of a `bye` 4409, where no other connection of the session lives.
    pub(crate) attempt: Option<u64>,
    /// The hello was already a second try above such an attempt.
    pub(crate) claimed: bool,
    /// Takeovers within the window, before this one.
    pub(crate) replaced: usize,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Back off and keep the session.
    Resume,
    /// At once, with a fresh token.
    Token,
    /// At once, above this attempt.
    Claim(u64),
    /// At once, in a new session with the same positions.
    Fresh,
    /// Stop.
    Blocked(CloseCode),
}

/// The code that the number of a WebSocket close stands for; none for a lost connection.
pub(crate) fn told(number: u64) -> Option<CloseCode> {
    (number >= 4400).then(|| CloseCode::from_wire(number))
}

/// Decides.
pub(crate) fn after_close(end: &Ending) -> Action {
    let Some(code) = end.code else {
        return Action::Resume;
    };
    match code {
        CloseCode::Unauthenticated if end.unauthenticated > 0 => Action::Blocked(code),
        CloseCode::Unauthenticated => Action::Token,
        CloseCode::Replaced => match end.attempt {
            Some(attempt) if !end.welcomed && !end.claimed => Action::Claim(attempt),
            Some(_) | None if end.replaced + 1 >= REPLACED_MAX => Action::Blocked(code),
            Some(_) | None => Action::Fresh,
        },
        CloseCode::BadRequest | CloseCode::Forbidden | CloseCode::Version | CloseCode::TooLarge => {
            Action::Blocked(code)
        }
        CloseCode::Normal
        | CloseCode::HelloTimeout
        | CloseCode::RateLimited
        | CloseCode::Internal
        | CloseCode::Overloaded
        | CloseCode::SlowConsumer
        | CloseCode::Draining => Action::Resume,
    }
}
