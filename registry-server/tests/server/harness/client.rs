//! An HTTP client over one connection, with the caller in control of every header and of how a body is sent.
//! It keeps the last `Location`, as a pushing client does. It follows no redirect and retries nothing.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// As the target of a request: wherever the last `Location` header pointed.
pub(crate) const LOCATION: &str = "{location}";

/// No exchange of these tests takes longer on a sound server, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The type of all bodies that are sent.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A request as it goes over the wire; built with [`get`], [`put`] and their like.
pub(crate) struct Request {
    method: Method,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
}

pub(crate) fn get(target: &str) -> Request {
    Request::new(Method::GET, target)
}

pub(crate) fn head(target: &str) -> Request {
    Request::new(Method::HEAD, target)
}

pub(crate) fn delete(target: &str) -> Request {
    Request::new(Method::DELETE, target)
}

pub(crate) fn post(target: &str) -> Request {
    Request::new(Method::POST, target).with("content-length", "0")
}

pub(crate) fn patch(target: &str) -> Request {
    Request::new(Method::PATCH, target).with("content-length", "0")
}

pub(crate) fn put(target: &str) -> Request {
    Request::new(Method::PUT, target).with("content-length", "0")
}

impl Request {
    pub(crate) fn new(method: Method, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: Vec::new(), body: BoxBody::default() }
    }

    /// Sets the header, in place of one of the same name.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// Appends a query parameter to whatever target the request has in the end.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target = format!("{}{separator}{name}={value}", self.target);
        self
    }

    /// A body in one piece, with its `Content-Length`.
    pub(crate) fn sends(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut request = self.with("content-length", body.len().to_string());
        request.body = Full::new(body).boxed();
        request
    }

    /// A body in chunked transfer coding, whose length the server learns only at its end.
    pub(crate) fn streams(self, chunks: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Self {
        let mut request = self.without("content-length");
        request.body = BodyExt::boxed(StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))));
        request
    }

    pub(crate) fn basic(self, user: &str, password: &str) -> Self {
        use base64::Engine as _;
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.with("authorization", format!("Basic {credentials}"))
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    fn resolve(mut self, location: Option<&str>) -> Self {
        if let Some(query) = self.target.strip_prefix(LOCATION) {
            let location = location.expect("an answer with a Location came before");
            let query = if location.contains('?') { query.replacen('?', "&", 1) } else { query.to_owned() };
            self.target = format!("{location}{query}");
        }
        self
    }

    /// The request as `hyper` sends it to `authority`.
    pub(crate) fn into_http(self, authority: &str) -> http::Request<Body> {
        let mut request = http::Request::builder().method(self.method).uri(&self.target);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", authority);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body).expect("a request that can be sent")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.target)?;
        self.headers.iter().try_for_each(|(name, value)| write!(formatter, "\n      > {name}: {value}"))
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The header's value; absent or unreadable is `None`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("a JSON body ({error}), not {:?}", self.body))
    }

    /// The codes of an error body, in their order.
    pub(crate) fn codes(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["code"].as_str().map(str::to_owned)).collect()
    }

    /// The path of the `Location`, whether it was sent relative or absolute.
    pub(crate) fn location(&self) -> Option<&str> {
        let location = self.header("location")?;
        match location.split_once("://") {
            Some((_, absolute)) => absolute.find('/').map(|start| &absolute[start..]),
            None => Some(location),
        }
    }

    pub(crate) async fn read(answer: http::Response<hyper::body::Incoming>) -> hyper::Result<Self> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.status)?;
        for (name, value) in &self.headers {
            write!(formatter, "\n      < {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let shown = String::from_utf8_lossy(&self.body[..self.body.len().min(600)]);
        write!(formatter, "\n      < {shown:?}")
    }
}

/// One client on one connection, made anew whenever the server has closed it.
pub(crate) struct Client {
    server: SocketAddr,
    connection: Option<SendRequest<Body>>,
    connections_made: usize,
    location: Option<String>,
}

impl Client {
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self { server, connection: None, connections_made: 0, location: None }
    }

    /// Sends and reads the whole answer; a broken connection is a failed test.
    pub(crate) async fn send(&mut self, request: Request) -> Answer {
        let shown = request.to_string();
        self.try_send(request).await.unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    /// As [`Client::send`], where the connection may well break.
    pub(crate) async fn try_send(&mut self, request: Request) -> anyhow::Result<Answer> {
        let request = request.resolve(self.location.as_deref());
        let answer = tokio::time::timeout(PATIENCE, self.exchange(request)).await??;
        if let Some(location) = answer.location() {
            self.location = Some(location.to_owned());
        }
        Ok(answer)
    }

    /// The path at which the last answer pointed.
    pub(crate) fn location(&self) -> &str {
        self.location.as_deref().expect("an answer with a Location came before")
    }

    /// How often the server made it connect.
    pub(crate) fn connections_made(&self) -> usize {
        self.connections_made
    }

    /// Goes on where another client was sent.
    pub(crate) fn continue_at(&mut self, location: &str) {
        self.location = Some(location.to_owned());
    }

    async fn exchange(&mut self, request: Request) -> anyhow::Result<Answer> {
        let request = request.into_http(&self.server.to_string());
        let answer = self.connection().await?.send_request(request).await?;
        Ok(Answer::read(answer).await?)
    }

    async fn connection(&mut self) -> anyhow::Result<&mut SendRequest<Body>> {
        let alive = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            let socket = TcpStream::connect(self.server).await?;
            socket.set_nodelay(true)?;
            let (connection, driver) = http1::handshake(TokioIo::new(socket)).await?;
            tokio::spawn(driver);
            self.connection = Some(connection);
            self.connections_made += 1;
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }
}
