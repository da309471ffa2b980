//! What can go wrong between a node and Redis.
//!
//! [`RedisError`] ends an attempt to connect and is told to people; [`CallError`] ends one call
//! and is judged by `broker::redis` and `store::redis`. Neither ever holds a password.

use std::{io, path::PathBuf, time::Duration};

use super::address::ServerAddress;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The file of certificates cannot be read.
    #[error("redis.ca: {} cannot be read", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server cannot be reached, refuses the password, or speaks something else.
    #[error("{server}: no connection")]
    Connect {
        /// The server.
        server: ServerAddress,
        /// What the client said.
        #[source]
        source: redis::RedisError,
    },
    /// The server does not answer.
    #[error("{server}: no answer within {within:?}")]
    Silent {
        /// The server.
        server: ServerAddress,
        /// How long it was waited for.
        within: Duration,
    },
    /// The server answered what no Redis that is fit for this answers.
    #[error("{server}: the handshake was answered with {answer}")]
    Handshake {
        /// The server.
        server: ServerAddress,
        /// What it answered.
        answer: String,
    },
    /// The server is a replica.
    #[error("{server} is a replica; redis.url must name the primary, Sentinels or a Cluster")]
    Replica {
        /// The server.
        server: ServerAddress,
    },
    /// The server belongs to a Redis Cluster.
    #[error("{server} is a member of a Redis Cluster; write redis.url as redis+cluster://…")]
    Clustered {
        /// The server.
        server: ServerAddress,
    },
    /// The server takes no writes, so its generation cannot be stored.
    #[error(
        "{server} has fewer replicas than min-replicas-to-write and takes no writes: a primary that took over or began anew must store its generation before anybody may publish or read; bring a replica back, or set min-replicas-to-write to 0 until one is there"
    )]
    NoReplicas {
        /// The server.
        server: ServerAddress,
    },
    /// A newer primary was seen than this one.
    #[error("{server} was left behind by a failover")]
    LeftBehind {
        /// The server.
        server: ServerAddress,
    },
    /// Another node was configured with another number of partitions.
    #[error(
        "{server} holds data in {stored} partitions but redis.partitions is {configured}; set it to {stored}, or another redis.prefix"
    )]
    Partitions {
        /// The server.
        server: ServerAddress,
        /// The number that was stored by the first node.
        stored: String,
        /// Ours.
        configured: usize,
    },
    /// Nobody could say where the primaries are.
    #[error("no server of redis.url says where the primary is")]
    NoPrimary,
    /// Redis was not reached while the node started.
    #[error(
        "Redis at {url} was not reached within {within:?}; check redis.url, its password and the network, or raise redis.start_patience"
    )]
    Start {
        /// The URL without its password.
        url: String,
        /// How long it was tried.
        within: Duration,
        /// The last failure.
        #[source]
        source: Box<Self>,
    },
}

impl RedisError {
    /// Whether another attempt can end otherwise without anybody changing the configuration.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Handshake { .. }
            | Self::Replica { .. }
            | Self::NoReplicas { .. }
            | Self::LeftBehind { .. }
            | Self::NoPrimary => true,
            Self::Ca { .. }
            | Self::Clustered { .. }
            | Self::Partitions { .. }
            | Self::Start { .. } => false,
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server is out of reach: nothing was sent.
    #[error("the server is out of reach")]
    OutOfReach,
    /// No answer in time: the step may have been taken.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended: the step may have been taken.
    #[error("the connection ended before the answer")]
    Lost,
    /// The primary is not the one this node trusts: the step was not taken.
    #[error("the primary is distrusted")]
    Distrusted,
    /// No replica has it in time.
    #[error("no replica confirmed in time")]
    NotReplicated,
    /// The server refused the step.
    #[error("Redis answered {code} {detail}")]
    Refused {
        /// First word of the answer, such as `OOM`.
        code: String,
        /// The rest.
        detail: String,
    },
}

impl CallError {
    pub(super) fn of_server(error: &redis::ServerError) -> Self {
        Self::Refused {
            code: error.code().to_owned(),
            detail: error.details().unwrap_or_default().to_owned(),
        }
    }

    /// Whether a Redis Cluster serves the partition elsewhere, or is about to: nothing was done.
    pub(super) fn is_redirect(&self) -> bool {
        let codes = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"];
        codes.iter().any(|code| self.has_code(code))
    }

    /// Where `MOVED` and `ASK` point to.
    pub(super) fn target(&self) -> Option<ServerAddress> {
        let Self::Refused { detail, .. } = self else {
            return None;
        };
        ServerAddress::parse(detail.split_ascii_whitespace().nth(1)?, 0)
    }

    pub(super) fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }
}
