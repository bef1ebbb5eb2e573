//! A small HTTP client: a new connection for each request, so that each sees the certificate of its moment, and nothing
//! is retried behind a test's back.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A client of the registry behind one local port.
#[derive(Clone)]
pub struct Client {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Serial number of the certificate that the server presented, in hexadecimal; empty without TLS.
    pub serial: String,
}

impl Client {
    /// A client that speaks plain HTTP to `port` of this machine.
    #[must_use]
    pub fn plain(port: u16) -> Self {
        Self { host: "localhost".to_owned(), port, tls: None, authorization: None }
    }

    /// A client that speaks TLS and trusts the certificates in `authorities` (PEM), and no others.
    ///
    /// # Errors
    /// When there is no certificate in `authorities`.
    pub fn trusting(port: u16, authorities: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(certificate?)?;
        }
        ensure!(!roots.is_empty(), "there is no certificate in {authorities:?}");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        // A session that is taken up again shows the certificate that it began with.
        config.resumption = Resumption::disabled();
        Ok(Self { tls: Some(Arc::new(config)), ..Self::plain(port) })
    }

    /// The same client, which knows the registry as `host`: the certificate must name it.
    #[must_use]
    pub fn knowing_it_as(&self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self.clone() }
    }

    /// The same client, with a user's name and password.
    #[must_use]
    pub fn with_user(&self, user: &str, password: &str) -> Self {
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Self { authorization: Some(authorization), ..self.clone() }
    }

    /// Sends a GET request without a body.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Request::get(path).body(Empty::<Bytes>::new())?).await
    }

    /// Sends a request whose URI is a path.
    ///
    /// # Errors
    /// When the connection, the handshake or the request fails. Any status is an answer.
    pub async fn send<B>(&self, request: Request<B>) -> anyhow::Result<Answer>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let Some(config) = &self.tls else {
            return self.exchange(stream, request, String::new()).await;
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let name = ServerName::try_from(self.host.clone())?;
        let stream = connector.connect(name, stream).await.context("handshake")?;
        let serial = serial(stream.get_ref().1.peer_certificates().unwrap_or_default())?;
        self.exchange(stream, request, serial).await
    }

    async fn exchange<B>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        mut request: Request<B>,
        serial: String,
    ) -> anyhow::Result<Answer>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let headers = request.headers_mut();
        headers.insert(header::HOST, format!("{}:{}", self.host, self.port).parse()?);
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.parse()?);
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        driver.abort();
        Ok(Answer { status: parts.status, headers: parts.headers, body, serial })
    }
}

impl Answer {
    /// The value of a header, or an empty text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text, for comparisons and messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer, if it has the status `expected`.
    ///
    /// # Errors
    /// When it has another one; the message holds the body.
    pub fn expect(self, expected: StatusCode) -> anyhow::Result<Self> {
        ensure!(self.status == expected, "expected {expected}, got {}: {}", self.status, self.text());
        Ok(self)
    }
}

fn serial(chain: &[CertificateDer<'_>]) -> anyhow::Result<String> {
    let leaf = chain.first().context("the server presented no certificate")?;
    let (_, certificate) = X509Certificate::from_der(leaf)?;
    Ok(certificate.raw_serial_as_string())
}
