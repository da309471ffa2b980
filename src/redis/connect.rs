//! Connections to one server: TCP or TLS, password, RESP3, and what every connection is set to.
//!
//! Called by `link` and the topologies. Never judges what is behind the address.

use std::{path::Path, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, TlsCertificates, aio::MultiplexedConnection, io::tcp::TcpSettings,
};

use super::{
    address::{Address, ServerAddress},
    error::RedisError,
};

/// How long a connection may take, with TLS, password and protocol.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(1);
/// After this long without an acknowledgement of what was sent, the system ends a connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// Commands that may wait for the driver of a connection; more make their senders wait.
const PIPELINE_MAX: usize = 4_096;

/// Whom a connection belongs to: Sentinels know no password of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Redis,
    Sentinel,
}

/// Makes connections as the configuration says.
#[derive(Debug)]
pub(super) struct Dialer {
    address: Address,
    ca: Option<Vec<u8>>,
}

impl Dialer {
    /// Reads the file of certificates, if there is one.
    pub(super) fn new(address: Address, ca: Option<&Path>) -> Result<Self, RedisError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| RedisError::Ca {
                path: path.to_owned(),
                source,
            })
        };
        let ca = ca.map(read).transpose()?;
        Ok(Self { address, ca })
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Connects; `heard` is called by the connection's driver and must not wait.
    pub(super) async fn connect(
        &self,
        server: &ServerAddress,
        kind: Kind,
        heard: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, RedisError> {
        let failed = |source| RedisError::Connect {
            server: server.clone(),
            source,
        };
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            // Every call has a deadline of its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_MAX)
            .set_push_sender(move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                heard(push);
                Ok(())
            });
        let client = self.client(server, kind).map_err(failed)?;
        let connection = client.get_multiplexed_async_connection_with_config(&settings);
        match tokio::time::timeout(CONNECT_MAX, connection).await {
            Ok(connection) => connection.map_err(failed),
            Err(_elapsed) => Err(RedisError::Silent {
                server: server.clone(),
                within: CONNECT_MAX,
            }),
        }
    }

    fn client(&self, server: &ServerAddress, kind: Kind) -> redis::RedisResult<Client> {
        let (host, port) = (server.host.clone(), server.port);
        let place = if self.address.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("tidewire", env!("CARGO_PKG_VERSION"));
        if kind == Kind::Redis {
            settings = settings.set_db(i64::from(self.address.database));
            if let Some(user) = &self.address.user {
                settings = settings.set_username(user);
            }
            if let Some(password) = &self.address.password {
                settings = settings.set_password(password.expose());
            }
        }
        let socket = TcpSettings::default()
            .set_nodelay(true)
            .set_user_timeout(UNACKNOWLEDGED_MAX);
        let connection = place
            .into_connection_info()?
            .set_redis_settings(settings)
            .set_tcp_settings(socket);
        match &self.ca {
            Some(ca) if self.address.tls => Client::build_with_tls(
                connection,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(ca.clone()),
                },
            ),
            Some(_) | None => Client::open(connection),
        }
    }
}
