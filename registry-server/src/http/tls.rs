//! TLS.

use std::convert::Infallible;

use crate::config::{Http2, Tls as Settings};

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS is not built in yet")]
pub struct Error;

/// The server's certificate.
#[derive(Debug)]
pub(super) struct Tls {
    config: std::sync::Arc<rustls::ServerConfig>,
}

impl Tls {
    pub(super) fn load(_tls: &Settings, _http2: &Http2) -> Result<Self, Error> {
        Err(Error)
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        std::sync::Arc::clone(&self.config).into()
    }

    pub(super) async fn watch(&self) -> Infallible {
        std::future::pending().await
    }
}
