//! Where connections come from: a TCP port or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::listen;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{Http, Net};

/// How long accepting pauses when the process is out of file descriptors, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections may wait to be accepted, if the system allows as many. The 128 of the standard library are as
/// many as a few nodes open at once, and a client for whose connection there is no room tries again after a second.
const MOST_WAITING: i32 = 4096;

/// A stream of bytes to a client.
pub(super) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}")]
pub struct ListenError {
    /// The address, as the settings have it.
    pub address: String,
    /// The operating system's error.
    #[source]
    pub source: io::Error,
}

impl Listener {
    /// Binds the address of the section `http`.
    ///
    /// # Errors
    /// When the address cannot be bound, for instance because it is in use.
    pub async fn bind(settings: &Http) -> Result<Self, ListenError> {
        match settings.net {
            Net::Tcp => Self::bind_tcp(&settings.addr).await,
            Net::Unix => {
                let path = Path::new(&settings.addr);
                // The socket of a server that was killed is still there, and nobody listens on it.
                if std::os::unix::net::UnixStream::connect(path).is_err() {
                    let _ = std::fs::remove_file(path);
                }
                let bound = UnixListener::bind(path).and_then(with_room).map(Self::Unix);
                bound.map_err(|source| ListenError { address: settings.addr.clone(), source })
            }
        }
    }

    /// Binds `host:port`; without a host, the port on all addresses, IPv6 and IPv4, as Go does.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind_tcp(address: &str) -> Result<Self, ListenError> {
        let bound = match address.strip_prefix(':') {
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                // A kernel without IPv6.
                Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
                bound => bound,
            },
            None => TcpListener::bind(address).await,
        };
        bound
            .and_then(with_room)
            .map(Self::Tcp)
            .map_err(|source| ListenError { address: address.to_owned(), source })
    }

    /// The bound address for people, with the port that the system chose when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
            }
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                address
                    .and_then(|address| Some(address.as_pathname()?.display().to_string()))
                    .unwrap_or_default()
            }
        }
    }

    /// The next connection. Failures of single connections and a full table of file descriptors pass by.
    pub(super) async fn accept(&self) -> (Stream, Option<SocketAddr>) {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    // Answers are written in whole; waiting for more to send only delays them.
                    let _ = stream.set_nodelay(true);
                    (Stream::Tcp(stream), Some(peer))
                }),
                Self::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None))
                }
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a connection could not be accepted"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Makes room for those that wait: to listen again changes nothing else.
fn with_room<L: AsFd>(listener: L) -> io::Result<L> {
    listen(&listener, MOST_WAITING)?;
    Ok(listener)
}
