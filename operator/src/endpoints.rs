//! The operator's own HTTP: `/metrics`, `/livez` and `/readyz`. Nothing else is served.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::context::Context;

/// Whether the operator can do its work: it has reached the API server and found its resources there.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Says that it can.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves on `address` for as long as it is polled.
///
/// # Errors
/// When `address` cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    context: Arc<Context>,
    readiness: Arc<Readiness>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        // A connection that ends before it is accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (context, readiness) = (Arc::clone(&context), Arc::clone(&readiness));
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let response = respond(request.uri().path(), &context, readiness.get());
                async move { Ok::<_, Infallible>(response) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%error, "a connection to the operator's endpoints broke");
            }
        });
    }
}

fn respond(path: &str, context: &Context, is_ready: bool) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, content_type, body) = match path {
        "/metrics" => (StatusCode::OK, OPEN_METRICS, context.metrics.text()),
        "/livez" => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" if is_ready => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => {
            (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the Registry resource is not there yet\n".to_owned())
        }
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
