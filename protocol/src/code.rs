//! Error and close codes: numbered reasons whose range says what a client does next.

/// Why a request was refused. The name is the contract, the text beside it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is malformed or breaks a rule of the protocol.
    BadRequest,
    /// No valid token.
    Unauthenticated,
    /// The token does not allow it.
    Forbidden,
    /// The channel's namespace is not configured.
    UnknownChannel,
    /// The frame type is not known.
    UnknownType,
    /// The publication id was used with another body.
    IdConflict,
    /// The position is not on the surviving log.
    HistoryGone,
    /// The guard does not hold.
    PreconditionFailed,
    /// The payload or frame is over its limit.
    TooLarge,
    /// The channel's state holds as many keys as it may.
    StateFull,
    /// Too many requests.
    RateLimited,
    /// A fault of the node.
    Internal,
    /// Broker or store cannot be reached.
    Unavailable,
}

impl ErrorCode {
    /// Every code, the one that stands for its number first among those of one number.
    pub const ALL: [Self; 13] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::UnknownChannel,
        Self::UnknownType,
        Self::IdConflict,
        Self::HistoryGone,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::StateFull,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
    ];

    /// The code a node meant: by its name, else by its number, else by its band.
    #[must_use]
    pub fn from_wire(number: u64, name: &str) -> Self {
        let find = |wanted: &dyn Fn(Self) -> bool| Self::ALL.into_iter().find(|code| wanted(*code));
        find(&|code| code.name() == name)
            .or_else(|| find(&|code| u64::from(code.number()) == number))
            .unwrap_or(if number < 500 {
                Self::BadRequest
            } else {
                Self::Internal
            })
    }

    /// The number on the wire, in HTTP's sense.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::UnknownChannel | Self::UnknownType => 404,
            Self::IdConflict => 409,
            Self::HistoryGone => 410,
            Self::PreconditionFailed => 412,
            Self::TooLarge | Self::StateFull => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// The stable name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::UnknownChannel => "unknown_channel",
            Self::UnknownType => "unknown_type",
            Self::IdConflict => "id_conflict",
            Self::HistoryGone => "history_gone",
            Self::PreconditionFailed => "precondition_failed",
            Self::TooLarge => "too_large",
            Self::StateFull => "state_full",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn temporary(self) -> bool {
        matches!(self, Self::RateLimited | Self::Internal | Self::Unavailable)
    }
}

/// Why a connection ends: 44xx change something, 45xx come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The client left; nothing to resume.
    Normal,
    /// A frame that is not of this protocol.
    BadRequest,
    /// No valid token, or it expired.
    Unauthenticated,
    /// The origin or the token does not allow a connection.
    Forbidden,
    /// No subprotocol both sides speak.
    Version,
    /// No hello within its time.
    HelloTimeout,
    /// A newer connection holds the session.
    Replaced,
    /// A message over the frame limit.
    TooLarge,
    /// Too many requests.
    RateLimited,
    /// A fault of the node.
    Internal,
    /// The node takes no more connections.
    Overloaded,
    /// The client took no byte for a minute; its session is kept.
    SlowConsumer,
    /// The node is leaving.
    Draining,
}

impl CloseCode {
    /// Every code of this protocol.
    pub const ALL: [Self; 13] = [
        Self::Normal,
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Version,
        Self::HelloTimeout,
        Self::Replaced,
        Self::TooLarge,
        Self::RateLimited,
        Self::Internal,
        Self::Overloaded,
        Self::SlowConsumer,
        Self::Draining,
    ];

    /// The code a node meant: by its number, else by its band. Codes of WebSocket itself other
    /// than 1000 mean that the connection was lost, which is to come back.
    #[must_use]
    pub fn from_wire(number: u64) -> Self {
        let known = Self::ALL
            .into_iter()
            .find(|code| u64::from(code.number()) == number);
        let band = if (4400..4500).contains(&number) {
            Self::BadRequest
        } else {
            Self::Internal
        };
        known.unwrap_or(band)
    }

    /// Whether a client has to stop until something changes. The others let it come back, with a
    /// fresh token (4401) or a claim or session of its own (4409).
    #[must_use]
    pub const fn blocks(self) -> bool {
        matches!(
            self,
            Self::BadRequest | Self::Forbidden | Self::Version | Self::TooLarge
        )
    }

    /// The WebSocket close code.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::BadRequest => 4400,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::Version => 4406,
            Self::HelloTimeout => 4408,
            Self::Replaced => 4409,
            Self::TooLarge => 4413,
            Self::RateLimited => 4429,
            Self::Internal => 4500,
            Self::Overloaded => 4503,
            Self::SlowConsumer => 4507,
            Self::Draining => 4512,
        }
    }

    /// The stable name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Version => "version",
            Self::HelloTimeout => "hello_timeout",
            Self::Replaced => "replaced",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::SlowConsumer => "slow_consumer",
            Self::Draining => "draining",
        }
    }
}
