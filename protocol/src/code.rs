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
