//! How a client is made: addresses, tokens, encoding, certificates.
//!
//! Used once by applications; `connect` starts the driver's task.

use std::{future::Future, io, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tidewire_protocol::Encoding;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};

use crate::{
    BuildError, Client, Status, TokenError, TokenReason,
    driver::{CALLS_MAX, Dialer, Driver, Endpoint, Shared, Tls},
};

/// Longest text about the program a node takes.
const SDK_BYTES_MAX: usize = 128;

/// Where tokens come from.
#[derive(Clone)]
pub(crate) enum TokenSource {
    Anonymous,
    Fixed(String),
    Asked(Arc<dyn Fn(TokenReason) -> BoxFuture<'static, Result<String, TokenError>> + Send + Sync>),
}

impl TokenSource {
    pub(crate) fn fetch(
        &self,
        reason: TokenReason,
    ) -> impl Future<Output = Result<Option<String>, TokenError>> + Send + 'static {
        let source = self.clone();
        async move {
            match source {
                Self::Anonymous => Ok(None),
                Self::Fixed(token) => Ok(Some(token)),
                Self::Asked(ask) => ask(reason).await.map(Some),
            }
        }
    }
}

/// A client to be made; see [`Client::builder`].
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    tokens: TokenSource,
    encoding: Encoding,
    tls: Tls,
    dialer: Option<Dialer>,
    sdk: String,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither addresses nor tokens: both may hold secrets.
        f.debug_struct("Builder")
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            urls: vec![url],
            tokens: TokenSource::Anonymous,
            encoding: Encoding::Json,
            tls: Tls::Web,
            dialer: None,
            sdk: concat!("tidewire-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// One more address: of another node of the same cluster, where nothing balances between them.
    /// When a connection is lost or refused, the next try goes to the next address.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// This token, always. Without one, the client is anonymous.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.tokens = TokenSource::Fixed(token.into());
        self
    }

    /// Asks for a token whenever one is needed: at first, when it nears its end, when the node did
    /// not take it. An answer may take 30 s; [`TokenError::Forbidden`] stops the client.
    pub fn token_source<F, A>(mut self, source: F) -> Self
    where
        F: Fn(TokenReason) -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        self.tokens = TokenSource::Asked(Arc::new(move |reason| source(reason).boxed()));
        self
    }

    /// How frames are written; JSON unless said otherwise.
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Which certificates `wss` trusts, and which it shows; the roots of the web unless said
    /// otherwise.
    pub fn tls(mut self, config: Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.tls = Tls::Configured(config);
        self
    }

    /// How the TCP connection to `host:port` is made, where the plain way is not right: through a
    /// proxy, or from a local address of one's own. TLS and WebSocket come on top of it; an error
    /// counts as a node that cannot be reached.
    pub fn dialer<F, A>(mut self, dial: F) -> Self
    where
        F: Fn(String) -> A + Send + Sync + 'static,
        A: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        self.dialer = Some(Arc::new(move |address| dial(address).boxed()));
        self
    }

    /// Name and version of the program, for the eyes of the node's operator; at most 128 bytes.
    pub fn sdk(mut self, sdk: &str) -> Self {
        let end = sdk.floor_char_boundary(SDK_BYTES_MAX);
        self.sdk = sdk[..end].to_owned();
        self
    }

    /// Starts the client's task on the present tokio runtime. It connects at once and goes on
    /// until the client is closed, refused for good, or every handle and subscription is dropped.
    ///
    /// # Errors
    /// No address, or one that is none. Everything else is told by [`Client::status`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(self) -> Result<Client, BuildError> {
        let endpoints: Vec<Endpoint> = self
            .urls
            .iter()
            .map(|url| {
                Ok(Endpoint {
                    url: endpoint(url)?,
                    encoding: self.encoding,
                    tls: self.tls.clone(),
                    dialer: self.dialer.clone(),
                })
            })
            .collect::<Result<_, BuildError>>()?;
        let (calls, received) = mpsc::channel(CALLS_MAX);
        let shared = Arc::new(Shared {
            status: watch::Sender::new(Status::Connecting),
            clock_offset: 0.into(),
        });
        let driver = Driver::new(endpoints, self.tokens, self.sdk, Arc::clone(&shared));
        tokio::spawn(driver.run(received));
        Ok(Client::new(calls, shared))
    }
}

/// The address as the WebSocket library takes it; the path `/v1/connect` where none is given.
fn endpoint(url: &str) -> Result<String, BuildError> {
    let (scheme, rest) = url.split_once("://").ok_or(BuildError::Url)?;
    let scheme = match scheme {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err(BuildError::Url),
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.is_empty() {
        return Err(BuildError::Url);
    }
    let path = if path.is_empty() || path == "/" {
        "/v1/connect"
    } else {
        path
    };
    Ok(format!("{scheme}://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_the_scheme_and_path_it_needs() {
        for (given, made) in [
            ("ws://h:1", "ws://h:1/v1/connect"),
            ("http://h/", "ws://h/v1/connect"),
            ("https://h", "wss://h/v1/connect"),
            ("wss://[::1]:9/other?x=1", "wss://[::1]:9/other?x=1"),
        ] {
            assert_eq!(endpoint(given).as_deref(), Ok(made));
        }
        for wrong in ["h:1", "ftp://h", "ws://", "ws:///path"] {
            assert_eq!(endpoint(wrong), Err(BuildError::Url));
        }
    }
}
