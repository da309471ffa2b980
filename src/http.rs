//! The listener: accepts, ends TLS, and speaks HTTP/1.1 until a request is served or upgraded.
//!
//! Owns the accept loop (axum's own hides the stream the gateway takes over) and its bounds. A
//! request that was begun when the node leaves is answered.

use std::{
    convert::Infallible, io, net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tower::Service;

use crate::{
    gateway::{ClientAddress, prepare},
    tasks::Tasks,
};

/// Connections waiting to be accepted: a deploy brings thousands at once, and what overflows is
/// tried again by the client's kernel only after a second.
const BACKLOG: i32 = 4096;
/// Connections that are neither upgraded nor done: each holds a buffer.
const HTTP_CONNECTIONS_MAX: u32 = 8192;
/// A client sends its TLS handshake, and the head of a request, within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What was begun when the node leaves is answered within this: a publication takes far less, and
/// the grace of an orchestrator is short.
const FINISH_MAX: Duration = Duration::from_secs(3);
/// Largest head of a request: tokens of 8 KiB fit.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Wait after a failed accept (out of files): the next try would fail at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why a listener could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// Certificate or key could not be used.
    #[error("cannot use the certificate or key in {path}")]
    Certificate {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Binds an address; port 0 picks a free one.
///
/// # Errors
/// `Bind`.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bound().map_err(|source| ListenError::Bind { address, source })
}

/// Reads certificate chain and key.
///
/// # Errors
/// `Certificate`.
pub fn tls(cert: &Path, key: &Path) -> Result<TlsAcceptor, ListenError> {
    let failed =
        |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| ListenError::Certificate {
            path: path.display().to_string(),
            source,
        };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| failed(cert, source.into()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| failed(key, source.into()))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| failed(cert, source.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts and serves until the node takes no more requests, then ends with those that were begun:
/// within [`FINISH_MAX`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    acceptor: Option<TlsAcceptor>,
    tasks: Tasks,
) {
    let all = usize::try_from(HTTP_CONNECTIONS_MAX).unwrap_or(usize::MAX);
    let slots = Arc::new(Semaphore::new(all));
    loop {
        let accepted = tokio::select! {
            () = tasks.stopped() => return,
            () = tasks.finishing() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let (router, acceptor) = (router.clone(), acceptor.clone());
        let (stopped, finishing) = (tasks.stopped(), tasks.finishing());
        tasks.spawn(async move {
            let connected = async {
                prepare(&stream)?;
                match acceptor {
                    None => speak(stream, router, address, finishing).await,
                    Some(acceptor) => {
                        let stream =
                            tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
                        speak(stream, router, address, finishing).await
                    }
                }
            };
            let outcome: io::Result<()> = tokio::select! {
                outcome = connected => outcome,
                () = stopped => Ok(()),
            };
            if let Err(error) = outcome {
                tracing::trace!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    let ended = slots.acquire_many(HTTP_CONNECTIONS_MAX);
    if tokio::time::timeout(FINISH_MAX, ended).await.is_err() {
        tracing::warn!("requests did not end in time; they are cut");
    }
}

/// Speaks HTTP until the connection ends, or the request that was begun when `finishing` resolves
/// was answered.
async fn speak<S, F>(stream: S, router: Router, address: SocketAddr, finishing: F) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = ()>,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request
            .extensions_mut()
            .insert(ConnectInfo(ClientAddress(address.ip())));
        let mut router = router.clone();
        async move {
            Ok::<_, Infallible>(
                Service::call(&mut router, request)
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return outcome.map_err(io::Error::other),
        () = finishing => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}
