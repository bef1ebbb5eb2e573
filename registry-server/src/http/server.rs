//! The running server: accepts connections, answers what comes in, and lets it end in peace.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Body, FRAME_SIZE};
use super::dispatch::Dispatcher;
use super::health::{Health, Operations};
use super::listener::{ListenError, Listener, Stream};
use super::sendfile::{FileStream, Segments};
use super::tls::{self, Tls};
use crate::app::App;
use crate::config::{Config, Http};

/// How long those may take to send a request's head who operate the server.
const OPERATIONS_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an upload over HTTP/2 may be under way: the default of 64 KiB waits for the client all the time.
const HTTP2_WINDOW: u32 = 4 * 1024 * 1024;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificates cannot be used.
    #[error("failed to set up TLS")]
    Tls(#[from] tls::Error),
    /// A header of the settings cannot be sent.
    #[error("http.headers: {name:?} is not a header with values that can be sent")]
    Header {
        /// The header's name.
        name: String,
    },
}

/// Serves until `stop` resolves, then lets running requests end within the drain time.
///
/// # Errors
/// When an address cannot be bound, or TLS or headers cannot be used. Once it serves, it does not fail.
pub async fn serve(app: Arc<App>, config: &Config, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let tls =
        config.http.tls.as_ref().map(|tls| Tls::load(tls, &config.http.http2)).transpose()?.map(Arc::new);
    let dispatcher = Arc::new(Dispatcher::new(Arc::clone(&app), extra_headers(&config.http)?));
    let health = Arc::new(Health::default());
    let listener = Listener::bind(&config.http).await?;
    let debug_listener = match &config.http.debug.addr {
        Some(address) => Some(Listener::bind_tcp(address).await?),
        None => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(addr = listener.address(), scheme, "listening");
    if let Some(listener) = &debug_listener {
        tracing::info!(addr = listener.address(), "listening for operations");
    }

    let prometheus = &config.http.debug.prometheus;
    let metrics = prometheus.enabled.then(|| (prometheus.path.clone(), Arc::clone(&app.metrics)));
    let operations = Operations { health: Arc::clone(&health), metrics };
    let connections = Connections::new(dispatcher, tls.clone(), config.http.clienttimeout);
    tokio::select! {
        () = stop => {}
        _ = accept(&listener, &connections) => {}
        _ = serve_operations(debug_listener.as_ref(), operations.clone()) => {}
        _ = health.watch_storage(&app.registry, &config.health.storagedriver) => {}
        _ = watch_tls(tls.as_ref()) => {}
    }
    health.drain();
    drop(listener);
    tracing::info!(seconds = config.http.draintimeout.as_secs(), "draining");
    // Readiness is told until the end: what is not ready gets no new clients.
    tokio::select! {
        () = connections.drain(config.http.draintimeout) => {}
        _ = serve_operations(debug_listener.as_ref(), operations) => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// The connections of clients.
struct Connections {
    dispatcher: Arc<Dispatcher>,
    tls: Option<Arc<Tls>>,
    protocol: auto::Builder<TokioExecutor>,
    graceful: GracefulShutdown,
    /// How long a client may let the server wait.
    timeout: Duration,
}

impl Connections {
    fn new(dispatcher: Arc<Dispatcher>, tls: Option<Arc<Tls>>, timeout: Duration) -> Self {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol.http1().timer(TokioTimer::new()).header_read_timeout(timeout);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_WINDOW)
            .initial_connection_window_size(HTTP2_WINDOW)
            .max_send_buf_size(FRAME_SIZE)
            .keep_alive_interval(timeout);
        Self { dispatcher, tls, protocol, graceful: GracefulShutdown::new(), timeout }
    }

    /// Serves one connection beside all others.
    fn spawn(&self, stream: Stream, peer: Option<SocketAddr>) {
        if let Stream::Tcp(stream) = &stream {
            // The system closes a connection whose client takes nothing for so long. Where it cannot, it stays open.
            let milliseconds = u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX);
            let _ = set_tcp_user_timeout(stream, milliseconds);
        }
        match (stream, &self.tls) {
            (Stream::Tcp(stream), None) => {
                let stream = FileStream::new(stream);
                let segments = stream.segments();
                self.spawn_plain(stream, Some(segments), peer);
            }
            (Stream::Unix(stream), None) => self.spawn_plain(stream, None, peer),
            (Stream::Tcp(stream), Some(tls)) => self.spawn_tls(tls, stream, peer),
            (Stream::Unix(stream), Some(tls)) => self.spawn_tls(tls, stream, peer),
        }
    }

    fn spawn_plain(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        segments: Option<Segments>,
        peer: Option<SocketAddr>,
    ) {
        // HTTP/2 needs TLS here: without ALPN nobody but a test would speak it.
        let protocol = self.protocol.clone().http1_only();
        let answers = Answers { dispatcher: Arc::clone(&self.dispatcher), segments, peer };
        tokio::spawn(run(protocol, stream, answers, self.graceful.watcher()));
    }

    fn spawn_tls(
        &self,
        tls: &Tls,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: Option<SocketAddr>,
    ) {
        let (acceptor, mut protocol) = (tls.acceptor(), self.protocol.clone());
        // One frame at a time is in memory. Without TLS none is, and uploads are read in larger pieces.
        protocol.http1().max_buf_size(FRAME_SIZE);
        let answers = Answers { dispatcher: Arc::clone(&self.dispatcher), segments: None, peer };
        let (watcher, timeout) = (self.graceful.watcher(), self.timeout);
        tokio::spawn(async move {
            match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let protocol = if is_http2 { protocol.http2_only() } else { protocol.http1_only() };
                    run(protocol, stream, answers, watcher).await;
                }
                Ok(Err(error)) => tracing::debug!(peer = ?peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(peer = ?peer, "a TLS handshake took too long"),
            }
        });
    }

    /// Lets running requests end; what still runs after `timeout` is cut off.
    async fn drain(self, timeout: Duration) {
        if tokio::time::timeout(timeout, self.graceful.shutdown()).await.is_err() {
            tracing::warn!("the drain time is over, running requests are cut off");
        }
    }
}

/// What answers the requests of one connection.
struct Answers {
    dispatcher: Arc<Dispatcher>,
    /// How the connection sends files by itself, if it can.
    segments: Option<Segments>,
    peer: Option<SocketAddr>,
}

impl Answers {
    async fn to(&self, request: Request<Incoming>) -> Response<Body> {
        let response = self.dispatcher.answer(request, self.peer).await;
        match &self.segments {
            // Nothing may touch the body any more from here on: see `sendfile`.
            Some(segments) => response.map(|body| body.sent_by(segments)),
            None => response,
        }
    }
}

async fn run(
    protocol: auto::Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    answers: Answers,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let peer = answers.peer;
    let answers = Arc::new(answers);
    let service = service_fn(move |request: Request<Incoming>| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.to(request).await) }
    });
    let connection = protocol.serve_connection(TokioIo::new(stream), service).into_owned();
    // A client that goes away is nothing to report.
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(peer = ?peer, error, "a connection broke off");
    }
}

async fn accept(listener: &Listener, connections: &Connections) -> Infallible {
    loop {
        let (stream, peer) = listener.accept().await;
        connections.spawn(stream, peer);
    }
}

async fn watch_tls(tls: Option<&Arc<Tls>>) -> Infallible {
    match tls {
        Some(tls) => tls.watch().await,
        None => std::future::pending().await,
    }
}

/// Answers the server's operators, when there is a listener for them.
async fn serve_operations(listener: Option<&Listener>, operations: Operations) -> Infallible {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        let (stream, _) = listener.accept().await;
        let Stream::Tcp(stream) = stream else { continue };
        let operations = operations.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let response = operations.answer(&request);
            async move { Ok::<Response<Body>, Infallible>(response) }
        });
        tokio::spawn(async move {
            let mut protocol = hyper::server::conn::http1::Builder::new();
            protocol.timer(TokioTimer::new()).header_read_timeout(OPERATIONS_TIMEOUT);
            let _ = protocol.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn extra_headers(settings: &Http) -> Result<HeaderMap, ServeError> {
    let mut headers = HeaderMap::new();
    for (name, values) in &settings.headers {
        let invalid = || ServeError::Header { name: name.clone() };
        let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
        for value in values {
            headers.append(parsed.clone(), HeaderValue::from_str(value).map_err(|_| invalid())?);
        }
    }
    Ok(headers)
}
