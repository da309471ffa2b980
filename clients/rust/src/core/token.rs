//! The user's token: asked for once at a time, kept until it is stale.
//!
//! Part of the engine, beside `link`, which needs one for each hello. It never logs a token.

use tidewire_protocol::{CloseCode, Command};

use super::{Effect, Engine, Now, link::Link, requests::Purpose};
use crate::{Loss, TokenError};

/// The least wait before a fresh token is fetched, ms: a source may give an old one again.
const REFRESH_LEAST_MS: u64 = 5_000;

/// Why a token is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenReason {
    /// For the first connection.
    Connect,
    /// The present one nears its end.
    Expiring,
    /// The node did not take the present one.
    Unauthenticated,
    /// The machine woke, or the network changed.
    Wake,
}

/// The token and what is wrong with it.
pub(crate) struct Tokens {
    /// None: anonymous, or never asked.
    token: Option<String>,
    stale: Option<TokenReason>,
    fetching: bool,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("stale", &self.stale)
            .field("fetching", &self.fetching)
            .finish_non_exhaustive()
    }
}

/// What a wish for a token comes to.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// This one is fresh; none: anonymous.
    Have(Option<String>),
    /// It has to be fetched.
    Fetch(TokenReason),
    /// It is being fetched.
    Wait,
}

impl Tokens {
    pub(crate) const fn new() -> Self {
        Self {
            token: None,
            stale: Some(TokenReason::Connect),
            fetching: false,
        }
    }

    /// The next wish fetches a fresh one. The first reason stays.
    pub(crate) fn expire(&mut self, reason: TokenReason) {
        self.stale.get_or_insert(reason);
    }

    pub(crate) fn want(&mut self) -> Wanted {
        match (self.fetching, self.stale) {
            (true, _) => Wanted::Wait,
            (false, None) => Wanted::Have(self.token.clone()),
            (false, Some(reason)) => {
                self.fetching = true;
                Wanted::Fetch(reason)
            }
        }
    }

    pub(crate) fn fetched(&mut self, token: Option<String>) {
        self.fetching = false;
        self.stale = None;
        self.token = token;
    }

    pub(crate) const fn failed(&mut self) {
        self.fetching = false;
    }
}

/// What the link does with tokens.
impl Engine {
    /// The token source answered.
    pub(crate) fn handle_token(&mut self, answer: Result<Option<String>, TokenError>, now: Now) {
        match answer {
            Ok(token) => {
                self.link.tokens.fetched(token.clone());
                self.token_ready(token, now);
            }
            Err(error) => {
                self.link.tokens.failed();
                self.token_failed(error, now);
            }
        }
        self.ask_due();
    }

    pub(super) fn want_token(&mut self, now: Now) {
        match self.link.tokens.want() {
            Wanted::Have(token) => self.token_ready(token, now),
            Wanted::Fetch(reason) => self.effect(Effect::FetchToken(reason)),
            Wanted::Wait => {}
        }
    }

    fn token_ready(&mut self, token: Option<String>, now: Now) {
        if let Some(id) = self.link.refreshing.take()
            && Link::holds(self.link.living.as_ref(), id)
            && let Some(token) = token.clone()
        {
            self.link.refresh.failures = 0;
            self.link.token = Some(token.clone());
            let i = self.requests.once(Purpose::Auth);
            self.send(Command::Auth { i, token });
        }
        if std::mem::take(&mut self.link.opening) && self.link.stopped.is_none() {
            if self.link.token.is_some() && self.link.token != token {
                self.channels.renewed();
            }
            self.link.token = token;
            self.dial(now);
        }
    }

    fn token_failed(&mut self, error: TokenError, now: Now) {
        let opening = std::mem::take(&mut self.link.opening);
        let refreshing = self.link.refreshing.take();
        match error {
            _ if !opening && refreshing.is_none() => {}
            // Where the node has just refused the last token, that is what the application hears.
            TokenError::Forbidden if self.link.unauthenticated > 0 => {
                self.block(CloseCode::Unauthenticated);
            }
            TokenError::Forbidden => self.block(CloseCode::Forbidden),
            TokenError::Unavailable => {
                if refreshing.is_some() {
                    self.refresh_again(now);
                }
                if opening {
                    self.retry(0, Loss::NoToken, now);
                }
            }
        }
    }

    /// The node asks at 90 % of the token's life; this stands in where it does not.
    pub(super) fn expires(&mut self, expires: Option<u64>, now: Now) {
        let Some(expires) = expires else {
            return self.link.refresh.stop();
        };
        let broker_now = now.unix_ms.saturating_add_signed(self.link.clock_offset);
        let life = expires.saturating_sub(broker_now);
        let wait = (life - life / 10).max(REFRESH_LEAST_MS);
        self.link.refresh.start(now.ms.saturating_add(wait));
    }

    pub(super) fn refresh(&mut self, now: Now) {
        self.link.refresh.stop();
        self.link.refreshing = self.link.living.as_ref().map(|living| living.id);
        self.link.tokens.expire(TokenReason::Expiring);
        self.want_token(now);
    }

    pub(super) fn refresh_again(&mut self, now: Now) {
        let random = self.random();
        self.link.refresh.again(now.ms, random, 0);
    }

    /// The fresh token was taken.
    pub(super) fn renewed_until(&mut self, expires: Option<u64>, now: Now) {
        self.channels.renewed();
        self.expires(expires, now);
    }
}
