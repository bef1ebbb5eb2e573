//! TLS: what is negotiated, who is let in, and certificates that change while clients are at work.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Version;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::client::{Answer, Request, get, head, post};
use crate::harness::content::{noise, sha256};
use crate::harness::raw;
use crate::harness::server::{TestServer, eventually};

const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

#[tokio::test]
async fn http_2_is_chosen_by_those_who_offer_it() {
    let (server, authority) = server_with_tls(&json!({}));
    let rows = [
        (vec![H2.to_vec(), HTTP1.to_vec()], Version::HTTP_2),
        (vec![H2.to_vec()], Version::HTTP_2),
        (vec![HTTP1.to_vec()], Version::HTTP_11),
        (vec![], Version::HTTP_11),
    ];
    for (offered, expected) in rows {
        let mut config = authority.trusting();
        config.alpn_protocols = offered;
        let blob = noise(1, 3 << 20);
        let push =
            post("/v2/operations/tls/blobs/uploads/").query("digest", &sha256(&blob)).sends(blob.clone());
        let (answer, version) = exchange(server.address(), &config, push).await.unwrap();
        assert_eq!((answer.status, version), (201, expected), "{answer}");
        let pull = get(answer.location().unwrap());
        let (answer, _) = exchange(server.address(), &config, pull).await.unwrap();
        assert_eq!((answer.status, answer.body), (200, blob));
    }
}

/// hyper drops such a body over HTTP/1; over HTTP/2 clients take one for a broken connection.
#[tokio::test]
async fn an_answer_to_head_has_no_body_in_either_version() {
    let (server, authority) = server_with_tls(&json!({}));
    for offered in [H2, HTTP1] {
        let mut config = authority.trusting();
        config.alpn_protocols = vec![offered.to_vec()];
        for (path, status) in [("/v2/", 200), ("/v2/operations/tls/manifests/none", 404)] {
            let (answer, _) = exchange(server.address(), &config, head(path)).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{answer}");
            assert!(answer.header("content-length").is_some_and(|length| length != "0"), "{answer}");
        }
    }
}

#[tokio::test]
async fn http_2_can_be_switched_off() {
    let (server, authority) = server_with_tls(&json!({"http2": {"disabled": true}}));
    let mut config = authority.trusting();
    config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    let (answer, version) = exchange(server.address(), &config, get("/v2/")).await.unwrap();
    assert_eq!((answer.status, version), (200, Version::HTTP_11));
}

#[tokio::test]
async fn the_oldest_version_of_tls_is_a_setting() {
    for (minimum, tls12_is_spoken) in [("tls1.2", true), ("tls1.3", false)] {
        let (server, authority) = server_with_tls(&json!({"tls": {"minimumtls": minimum}}));
        for (version, spoken) in [(&rustls::version::TLS12, tls12_is_spoken), (&rustls::version::TLS13, true)]
        {
            let config = ClientConfig::builder_with_protocol_versions(&[version]);
            let config = config.with_root_certificates(authority.roots()).with_no_client_auth();
            let connected = connect(server.address(), &config).await;
            assert_eq!(connected.is_ok(), spoken, "{minimum}: {version:?}");
            let negotiated = connected.ok().and_then(|stream| stream.get_ref().1.protocol_version());
            assert!(negotiated.is_none_or(|negotiated: ProtocolVersion| negotiated == version.version));
        }
    }
}

#[tokio::test]
async fn only_clients_with_a_certificate_are_let_in_where_one_is_asked_for() {
    let (stranger, friends) = (Authority::new(), Authority::new());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("clients.pem");
    fs::write(&file, friends.issuer.pem()).unwrap();
    let (server, authority) = server_with_tls(&json!({"tls": {"clientcas": [file]}}));
    let no_certificate = exchange(server.address(), &authority.trusting(), get("/v2/")).await;
    assert!(no_certificate.is_err(), "{no_certificate:?}");
    for (from, let_in) in [(&friends, true), (&stranger, false)] {
        let (certificate, key) = from.issue("client");
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(authority.roots());
        let config = config.with_client_auth_cert(vec![certificate], key).unwrap();
        let answer = exchange(server.address(), &config, get("/v2/")).await;
        assert_eq!(answer.is_ok_and(|(answer, _)| answer.status == 200), let_in);
    }
}

/// As cert-manager and the operator do it: another pair of files, taken up with no request lost.
#[tokio::test]
async fn a_certificate_is_renewed_while_clients_are_at_work() {
    let (server, authority) = server_with_tls(&json!({}));
    let address = server.address();
    let config = authority.trusting();
    let old = certificate_of(address, &config).await;
    let mut long_lived = http1_client(address, &config).await;

    let stopped = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients = [0, 1].map(|_| {
        let (config, stopped, answered) = (config.clone(), Arc::clone(&stopped), Arc::clone(&answered));
        tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let (answer, _) = exchange(address, &config, get("/v2/")).await.expect("no request fails");
                assert_eq!(answer.status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    authority.install(server.directory().path());
    eventually("the new certificate is shown", || async { certificate_of(address, &config).await != old })
        .await;
    let before = answered.load(Ordering::Relaxed);
    eventually("requests go on", || async { answered.load(Ordering::Relaxed) > before + 20 }).await;
    stopped.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let answer = long_lived.send_request(get("/v2/").into_http("localhost")).await.unwrap();
    assert_eq!(answer.status(), 200, "a connection from before goes on");
}

#[tokio::test]
async fn a_broken_certificate_leaves_the_old_one_in_place() {
    let (server, authority) = server_with_tls(&json!({}));
    let config = authority.trusting();
    let old = certificate_of(server.address(), &config).await;
    fs::write(server.directory().path().join("tls.crt"), "this is no certificate").unwrap();
    eventually("it is told", || async { server.log().contains("cannot be used") }).await;
    assert!(certificate_of(server.address(), &config).await == old);

    authority.install(server.directory().path());
    eventually("a good one is taken up", || async { certificate_of(server.address(), &config).await != old })
        .await;
}

#[tokio::test]
async fn those_who_speak_no_tls_harm_nobody() {
    let (server, authority) = server_with_tls(&json!({}));
    raw::send_and_vanish(server.address(), b"");
    raw::send_and_vanish(server.address(), &[0x16, 3, 1, 2, 0, 1]);
    let answer = raw::send_and_read(server.address(), &raw::request("GET /v2/", &["Connection: close"], b""));
    assert!(!answer.contains(" 200 "), "{answer}");
    // One that never says a word is waited for without anybody else noticing.
    let _silent = std::net::TcpStream::connect(server.address()).unwrap();
    let (answer, _) = exchange(server.address(), &authority.trusting(), get("/v2/")).await.unwrap();
    assert_eq!(answer.status, 200);
}

/// A certificate authority.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// A new certificate for the name and its key, as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a new pair for `localhost`: the certificate, a moment without its key, then the key.
    fn install(&self, directory: &Path) {
        let (certificate, key) = self.issue("localhost");
        for (name, pem) in [("tls.crt", certificate), ("tls.key", key)] {
            let new = directory.join("new");
            fs::write(&new, pem).unwrap();
            fs::rename(new, directory.join(name)).unwrap();
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// A client that trusts it.
    fn trusting(&self) -> ClientConfig {
        let mut config = ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth();
        // A resumed session would show the certificate of the one before.
        config.resumption = Resumption::disabled();
        config
    }
}

/// A server with a certificate for `localhost`, and further settings under `http`.
fn server_with_tls(http: &Value) -> (TestServer, Authority) {
    let authority = Authority::new();
    let directory = Arc::new(TempDir::new().unwrap());
    authority.install(directory.path());
    let mut http = http.clone();
    http["tls"]["certificate"] = json!(directory.path().join("tls.crt"));
    http["tls"]["key"] = json!(directory.path().join("tls.key"));
    (TestServer::start_in(&directory, json!({"http": http})), authority)
}

async fn connect(server: SocketAddr, config: &ClientConfig) -> anyhow::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(server).await?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config.clone())).connect(name, socket).await?)
}

/// The certificate that a new connection is shown.
async fn certificate_of(server: SocketAddr, config: &ClientConfig) -> Vec<u8> {
    let stream = connect(server, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn http1_client(
    server: SocketAddr,
    config: &ClientConfig,
) -> http1::SendRequest<crate::harness::client::Body> {
    let stream = connect(server, config).await.unwrap();
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// One exchange on a connection of its own, by the version of HTTP that was negotiated.
async fn exchange(
    server: SocketAddr,
    config: &ClientConfig,
    request: Request,
) -> anyhow::Result<(Answer, Version)> {
    let stream = connect(server, config).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
    let stream = TokioIo::new(stream);
    let answer = if is_http2 {
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        let mut request = request.into_http("localhost");
        request.headers_mut().remove("host");
        *request.uri_mut() = format!("https://localhost{}", request.uri()).parse()?;
        client.send_request(request).await?
    } else {
        let (mut client, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        client.send_request(request.into_http("localhost")).await?
    };
    let version = answer.version();
    Ok((Answer::read(answer).await?, version))
}
