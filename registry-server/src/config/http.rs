//! Section `http`: the addresses listened on, TLS, and what is common to all answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::duration;

/// The listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Http {
    /// Address of the registry, `host:port`; without a host, all addresses. With `net: unix`, the socket's path.
    pub addr: String,
    /// Kind of `addr`.
    pub net: Net,
    /// URL under which clients reach the server, such as `https://registry.example.com`. It comes before the path in
    /// `Location`, unless `relativeurls` is on.
    pub host: Option<String>,
    /// Path before `/v2/`, for a server behind a path of a shared host. Begins and ends with a slash.
    #[serde(deserialize_with = "path_between_slashes")]
    pub prefix: String,
    /// Whether `Location` holds a path without scheme and host, which is right behind every proxy, even if `host` is
    /// set. (CNCF distribution has it off unless asked.)
    pub relativeurls: bool,
    /// Time that running requests get to end after a signal to stop; what still runs is then cut off. The default
    /// is less than the 30 seconds after which Kubernetes kills.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub draintimeout: Duration,
    /// Time that a client may let the server wait: for the head of a request, for the next bytes of a body, for taking
    /// the next bytes of an answer. Then its connection is closed; an upload can be gone on with on another one.
    #[serde(serialize_with = "duration::serialize", deserialize_with = "more_than_nothing")]
    #[schemars(schema_with = "duration::schema")]
    pub clienttimeout: Duration,
    /// Headers added to every answer of the API, a list of values for each name.
    #[serde(deserialize_with = "sendable_headers")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// Certificates. Without this section the server speaks plain HTTP.
    pub tls: Option<Tls>,
    /// The second listener, for operators of the server: metrics, `/livez` and `/readyz`, always plain HTTP.
    pub debug: Debug,
    /// HTTP/2, which TLS clients choose by ALPN.
    pub http2: Http2,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            addr: ":5000".to_owned(),
            net: Net::Tcp,
            host: None,
            prefix: "/".to_owned(),
            relativeurls: true,
            draintimeout: Duration::from_secs(25),
            clienttimeout: Duration::from_secs(60),
            headers: BTreeMap::new(),
            tls: None,
            debug: Debug::default(),
            http2: Http2::default(),
        }
    }
}

/// Kind of a listener's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// Host and port.
    #[default]
    Tcp,
    /// Path of a Unix socket.
    Unix,
}

/// The server's certificate, and what is asked of clients. All files are PEM and are read again when they change:
/// new connections get the new ones, running connections are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Tls {
    /// File with the server's certificate, followed by those of intermediate authorities.
    pub certificate: PathBuf,
    /// File with the certificate's private key.
    pub key: PathBuf,
    /// Files with the authorities that client certificates must come from. Without any, no client certificate is
    /// asked for.
    #[serde(default)]
    pub clientcas: Vec<PathBuf>,
    /// What is asked of clients when `clientcas` is set.
    #[serde(default)]
    pub clientauth: ClientAuth,
    /// Oldest version of TLS that is spoken. Distribution's `tls1.0` and `tls1.1` are read as `tls1.2`.
    #[serde(default)]
    pub minimumtls: TlsVersion,
    /// Cipher suites of TLS 1.2, by IANA's names; empty means all that are safe. Those of TLS 1.3 are always on.
    #[serde(default)]
    pub ciphersuites: Vec<String>,
}

/// Policy for client certificates, in the words of Go's `tls.ClientAuthType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A certificate is asked for; none, or any, will do.
    RequestClientCert,
    /// A certificate must be sent; any will do.
    RequireAnyClientCert,
    /// A certificate may be sent, and must then come from one of `clientcas`.
    VerifyClientCertIfGiven,
    /// A certificate must be sent and come from one of `clientcas`.
    #[default]
    RequireAndVerifyClientCert,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "tls1.2", alias = "tls1.0", alias = "tls1.1")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "tls1.3")]
    Tls13,
}

/// The listener for operators of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Debug {
    /// Its address, `host:port`. Without it there is no such listener. Keep it from the public.
    pub addr: Option<String>,
    /// Metrics for Prometheus.
    pub prometheus: Prometheus,
}

/// Metrics in Prometheus' text format.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Prometheus {
    /// Whether metrics are served on the listener for operators.
    pub enabled: bool,
    /// Their path.
    pub path: String,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self { enabled: false, path: "/metrics".to_owned() }
    }
}

/// HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Http2 {
    /// Whether only HTTP/1.1 is offered.
    pub disabled: bool,
}

fn path_between_slashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    if path.starts_with('/') && path.ends_with('/') {
        return Ok(path);
    }
    let found = serde::de::Unexpected::Str(&path);
    Err(D::Error::invalid_value(found, &"a path that begins and ends with a slash"))
}

fn more_than_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = duration::deserialize(deserializer)?;
    if time.is_zero() {
        Err(D::Error::custom("no client is that fast, give it some seconds"))
    } else {
        Ok(time)
    }
}

fn sendable_headers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let headers = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
    for (name, values) in &headers {
        if name.parse::<HeaderName>().is_err() {
            return Err(D::Error::custom(format_args!("{name:?} is not a name of a header")));
        }
        if let Some(value) = values.iter().find(|value| HeaderValue::from_str(value).is_err()) {
            return Err(D::Error::custom(format_args!(
                "{value:?} is not a value that the header {name} can have"
            )));
        }
    }
    Ok(headers)
}
