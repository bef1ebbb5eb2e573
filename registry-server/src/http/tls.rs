//! TLS: from PEM files to what a connection needs, again whenever the files change.
//!
//! A connection keeps what it began with. Files that cannot be used leave the ones before in force.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    ALL_VERSIONS, DigitallySignedStruct, DistinguishedName, InconsistentKeys, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientAuth, Http2, Tls as Settings, TlsVersion};

/// How often the files are looked at. The content is compared: Kubernetes changes a mounted Secret by turning a
/// symlink, which many ways of watching miss.
const INTERVAL: Duration = Duration::from_secs(5);

static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// Files that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not PEM", path.display())]
    Pem {
        /// Path of the file.
        path: PathBuf,
        /// What the reader says.
        source: pem::Error,
    },
    /// A file is PEM, but what is needed is not in it.
    #[error("{} holds no {expected}", path.display())]
    Empty {
        /// Path of the file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// A certificate or key is damaged or of a kind that is not supported.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// Path of the file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// Certificate and key are not a pair.
    #[error("the key {} is not that of the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// Path of the certificate.
        certificate: PathBuf,
        /// Path of the key.
        key: PathBuf,
    },
    /// No verifier of client certificates can be made of the authorities.
    #[error("the client authorities cannot be used")]
    ClientAuthorities(#[source] VerifierBuilderError),
    /// The rest of the settings does not fit together.
    #[error("the TLS settings do not fit together")]
    Settings(#[source] rustls::Error),
}

/// The server's side of TLS.
#[derive(Debug)]
pub(super) struct Tls {
    settings: Settings,
    protocols: Vec<Vec<u8>>,
    current: ArcSwap<Material>,
    interval: Duration,
}

impl Tls {
    /// Reads the files of the section `http.tls`.
    ///
    /// # Errors
    /// [`Error`] names the file and what is wrong with it.
    pub(super) fn load(settings: &Settings, http2: &Http2) -> Result<Self, Error> {
        let http2 = (!http2.disabled).then(|| b"h2".to_vec());
        let protocols: Vec<_> = http2.into_iter().chain([b"http/1.1".to_vec()]).collect();
        warn_of_unknown_suites(settings);
        let tickets = Ticketer::new().map_err(Error::Settings)?;
        let material = Material::build(settings, &protocols, Files::read(settings)?, tickets)?;
        let current = ArcSwap::from_pointee(material);
        Ok(Self { settings: settings.clone(), protocols, current, interval: INTERVAL })
    }

    /// What a new connection shakes hands with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.load().config).into()
    }

    /// Follows changes of the files for as long as the server runs.
    pub(super) async fn watch(&self) -> Infallible {
        let mut seen = Some(self.current.load().files.clone());
        loop {
            tokio::time::sleep(self.interval).await;
            let settings = self.settings.clone();
            if let Ok(files) = tokio::task::spawn_blocking(move || Files::read(&settings)).await {
                self.take(files, &mut seen);
            }
        }
    }

    /// Takes up what was read if it is not what was `seen` last, so that a broken file is told of once.
    fn take(&self, files: Result<Files, Error>, seen: &mut Option<Files>) {
        let now_seen = files.as_ref().ok().cloned();
        if now_seen == *seen {
            return;
        }
        *seen = now_seen;
        match files.and_then(|files| self.build_again(files)) {
            Ok(material) => {
                self.current.store(Arc::new(material));
                tracing::info!(certificate = %self.settings.certificate.display(), "read the TLS files again");
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the changed TLS files cannot be used, those before stay in force"
            ),
        }
    }

    fn build_again(&self, files: Files) -> Result<Material, Error> {
        let current = self.current.load();
        // A session ticket stands for a client certificate that was checked. It must not outlive its authority.
        let tickets = if current.files.client_authorities == files.client_authorities {
            Arc::clone(&current.config.ticketer)
        } else {
            Ticketer::new().map_err(Error::Settings)?
        };
        Material::build(&self.settings, &self.protocols, files, tickets)
    }
}

/// The content of the files.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Vec<Vec<u8>>,
}

impl Files {
    fn read(settings: &Settings) -> Result<Self, Error> {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|source| Error::Read { path: path.clone(), source });
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_authorities: settings.clientcas.iter().map(read).collect::<Result<_, _>>()?,
        })
    }
}

/// Files, and what was made of them.
struct Material {
    files: Files,
    config: Arc<ServerConfig>,
}

impl std::fmt::Debug for Material {
    /// The key is not for logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Material").finish_non_exhaustive()
    }
}

impl Material {
    fn build(
        settings: &Settings,
        protocols: &[Vec<u8>],
        files: Files,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Self, Error> {
        let provider = Arc::new(provider(settings));
        let identity = identity(settings, &files, &provider)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions(settings)).map_err(Error::Settings)?;
        let builder = match client_verifier(settings, &files, &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let resolver = rustls::sign::SingleCertAndKey::from(identity);
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = protocols.to_vec();
        config.ticketer = tickets;
        Ok(Self { files, config: Arc::new(config) })
    }
}

fn versions(settings: &Settings) -> &'static [&'static SupportedProtocolVersion] {
    match settings.minimumtls {
        TlsVersion::Tls12 => ALL_VERSIONS,
        TlsVersion::Tls13 => ONLY_TLS13,
    }
}

/// Cryptography with the cipher suites that the settings leave.
fn provider(settings: &Settings) -> CryptoProvider {
    let mut provider = default_provider();
    if !settings.ciphersuites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            let name = suite.suite().as_str().unwrap_or_default();
            suite.tls13().is_some() || settings.ciphersuites.iter().any(|listed| listed == name)
        });
    }
    provider
}

/// Lists made for CNCF distribution may hold suites that are not safe, which are not there at all here.
fn warn_of_unknown_suites(settings: &Settings) {
    let known = default_provider().cipher_suites;
    let is_known = |name: &str| {
        // Of TLS 1.3, rustls has `TLS13_AES_…` where IANA has `TLS_AES_…`.
        known
            .iter()
            .filter_map(|suite| suite.suite().as_str())
            .any(|one| one.replace("TLS13_", "TLS_") == name)
    };
    for suite in settings.ciphersuites.iter().filter(|name| !is_known(name)) {
        tracing::warn!(
            suite,
            "http.tls.ciphersuites: this cipher suite is unknown or not safe, it is not used"
        );
    }
}

fn identity(settings: &Settings, files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(&settings.certificate, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|source| match source {
        pem::Error::NoItemsFound => {
            Error::Empty { path: settings.key.clone(), expected: "unencrypted private key" }
        }
        source => Error::Pem { path: settings.key.clone(), source },
    })?;
    let unusable = |path: &PathBuf, source| Error::Unusable { path: path.clone(), source };
    let key =
        provider.key_provider.load_private_key(key).map_err(|source| unusable(&settings.key, source))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        // A key that does not tell its public part can still be right.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::Mismatch { certificate: settings.certificate.clone(), key: settings.key.clone() })
        }
        Err(source) => Err(unusable(&settings.certificate, source)),
    }
}

fn certificates(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
    match certificates.map_err(|source| Error::Pem { path: path.to_owned(), source })? {
        empty if empty.is_empty() => Err(Error::Empty { path: path.to_owned(), expected: "certificate" }),
        certificates => Ok(certificates),
    }
}

/// What checks the certificates of clients; nothing when none are asked for.
fn client_verifier(
    settings: &Settings,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Error> {
    if settings.clientcas.is_empty() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for (path, content) in settings.clientcas.iter().zip(&files.client_authorities) {
        for certificate in certificates(path, content)? {
            roots.add(certificate).map_err(|source| Error::Unusable { path: path.clone(), source })?;
        }
    }
    let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let webpki = match settings.clientauth {
        ClientAuth::RequireAndVerifyClientCert => webpki,
        ClientAuth::VerifyClientCertIfGiven => webpki.allow_unauthenticated(),
        ClientAuth::RequireAnyClientCert | ClientAuth::RequestClientCert => {
            let mandatory = settings.clientauth == ClientAuth::RequireAnyClientCert;
            return Ok(Some(Arc::new(AnyClient { mandatory, provider: Arc::clone(provider) })));
        }
    };
    let verifier =
        webpki.build().map_err(|error| Error::Settings(rustls::Error::General(error.to_string())))?;
    Ok(Some(verifier))
}

/// Takes every certificate of a client that holds its key.
#[derive(Debug)]
struct AnyClient {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ClientConfig;
    use rustls::client::Resumption;
    use rustls::pki_types::ServerName;
    use rustls::{HandshakeKind, ProtocolVersion};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate for `localhost` and its key, as PEM.
    fn leaf(authority: &Authority) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    }

    /// A server's files, signed by an authority that clients trust, which is also the one for clients.
    struct Setup {
        directory: TempDir,
        authority: Authority,
        settings: Settings,
    }

    fn setup() -> Setup {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let settings = Settings {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            clientcas: Vec::new(),
            clientauth: ClientAuth::default(),
            minimumtls: TlsVersion::Tls12,
            ciphersuites: Vec::new(),
        };
        let setup = Setup { authority: authority(), settings, directory };
        setup.renew();
        fs::write(setup.directory.path().join("ca.crt"), setup.authority.pem()).unwrap();
        setup
    }

    impl Setup {
        /// Writes another certificate and key, and returns the certificate.
        fn renew(&self) -> String {
            let (certificate, key) = leaf(&self.authority);
            fs::write(&self.settings.certificate, &certificate).unwrap();
            fs::write(&self.settings.key, key).unwrap();
            certificate
        }

        fn ask_clients(&mut self, clientauth: ClientAuth) {
            self.settings.clientcas = vec![self.directory.path().join("ca.crt")];
            self.settings.clientauth = clientauth;
        }

        fn load(&self) -> Result<Tls, Error> {
            Tls::load(&self.settings, &Http2 { disabled: false })
        }

        fn client(&self, identity: Option<&Authority>) -> ClientConfig {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
            let builder =
                builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
            let mut client = match identity.map(leaf) {
                Some((certificate, key)) => {
                    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                    builder
                        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                        .unwrap()
                }
                None => builder.with_no_client_auth(),
            };
            client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            client
        }
    }

    /// What a handshake led to, in the client's eyes.
    #[derive(Debug)]
    struct Session {
        certificate: CertificateDer<'static>,
        protocol: Vec<u8>,
        version: ProtocolVersion,
        kind: HandshakeKind,
    }

    async fn connect(tls: &Tls, client: &Arc<ClientConfig>) -> io::Result<Session> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let acceptor = tls.acceptor();
        let server = async {
            let mut stream = acceptor.accept(far).await?;
            stream.write_all(b"x").await?;
            stream.shutdown().await
        };
        let client = async {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await?;
            // With TLS 1.3, tickets and refusals of the client's certificate come after the handshake.
            stream.read_to_end(&mut Vec::new()).await?;
            let connection = stream.get_ref().1;
            Ok(Session {
                certificate: connection.peer_certificates().unwrap()[0].clone().into_owned(),
                protocol: connection.alpn_protocol().unwrap().to_vec(),
                version: connection.protocol_version().unwrap(),
                kind: connection.handshake_kind().unwrap(),
            })
        };
        let (accepted, session) = tokio::join!(server, client);
        accepted.and(session)
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn protocols_and_versions_are_those_of_the_settings() {
        let mut setup = setup();
        let rows = [
            (TlsVersion::Tls12, false, &b"h2"[..]),
            (TlsVersion::Tls12, true, b"http/1.1"),
            (TlsVersion::Tls13, false, b"h2"),
        ];
        for (minimum, disabled, protocol) in rows {
            setup.settings.minimumtls = minimum;
            let tls = Tls::load(&setup.settings, &Http2 { disabled }).unwrap();
            let session = connect(&tls, &Arc::new(setup.client(None))).await.unwrap();
            assert_eq!((session.version, &*session.protocol), (ProtocolVersion::TLSv1_3, protocol));

            let provider =
                CryptoProvider { cipher_suites: default_provider().cipher_suites, ..default_provider() };
            let old = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&rustls::version::TLS12])
                .unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(setup.authority.der().clone()).unwrap();
            let mut old = old.with_root_certificates(roots).with_no_client_auth();
            old.alpn_protocols = vec![protocol.to_vec()];
            let session = connect(&tls, &Arc::new(old)).await;
            assert_eq!(session.is_ok(), minimum == TlsVersion::Tls12, "{session:?}");
        }
    }

    #[test]
    fn cipher_suites_of_tls_1_2_can_be_chosen() {
        let mut setup = setup();
        let chosen = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        setup.settings.ciphersuites = vec![chosen.to_owned(), "TLS_RSA_WITH_RC4_128_SHA".to_owned()];
        setup.load().unwrap();
        let suites = provider(&setup.settings).cipher_suites;
        let old: Vec<_> = suites.iter().filter(|suite| suite.tls13().is_none()).collect();
        assert_eq!(old.len(), 1);
        assert_eq!(old[0].suite().as_str(), Some(chosen));
        assert_eq!(suites.len(), 4, "those of TLS 1.3 are always on");
    }

    #[tokio::test]
    async fn client_certificates_are_asked_for_as_set() {
        use ClientAuth::{
            RequestClientCert, RequireAndVerifyClientCert, RequireAnyClientCert, VerifyClientCertIfGiven,
        };
        let mut setup = setup();
        let stranger = authority();
        // Accepted without a certificate, with one of a stranger, with one of the authority.
        let rows = [
            (RequestClientCert, [true, true, true]),
            (RequireAnyClientCert, [false, true, true]),
            (VerifyClientCertIfGiven, [true, false, true]),
            (RequireAndVerifyClientCert, [false, false, true]),
        ];
        for (mode, expected) in rows {
            setup.ask_clients(mode);
            let tls = setup.load().unwrap();
            let clients =
                [setup.client(None), setup.client(Some(&stranger)), setup.client(Some(&setup.authority))];
            for (client, expected) in clients.into_iter().zip(expected) {
                let session = connect(&tls, &Arc::new(client)).await;
                assert_eq!(session.is_ok(), expected, "{mode:?} {session:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_renewed_certificate_serves_new_connections_and_a_broken_one_does_not() {
        let setup = setup();
        let tls = setup.load().unwrap();
        let mut seen = Some(tls.current.load().files.clone());
        let mut client = setup.client(None);
        client.resumption = Resumption::disabled();
        let client = Arc::new(client);

        let renewed = setup.renew();
        tls.take(Files::read(&setup.settings), &mut seen);
        assert_eq!(connect(&tls, &client).await.unwrap().certificate, der(&renewed));

        let breakages: [&dyn Fn(); 4] = [
            &|| fs::write(&setup.settings.key, leaf(&setup.authority).1).unwrap(),
            &|| fs::write(&setup.settings.certificate, "no PEM").unwrap(),
            &|| fs::write(&setup.settings.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap(),
            &|| fs::remove_file(&setup.settings.certificate).unwrap(),
        ];
        for break_it in breakages {
            break_it();
            tls.take(Files::read(&setup.settings), &mut seen);
            assert_eq!(connect(&tls, &client).await.unwrap().certificate, der(&renewed));
        }

        let mended = setup.renew();
        tls.take(Files::read(&setup.settings), &mut seen);
        assert_eq!(connect(&tls, &client).await.unwrap().certificate, der(&mended));
    }

    #[tokio::test]
    async fn the_files_are_watched() {
        let setup = setup();
        let mut tls = setup.load().unwrap();
        tls.interval = Duration::from_millis(1);
        let mut client = setup.client(None);
        client.resumption = Resumption::disabled();
        let client = Arc::new(client);
        let followed = async {
            let renewed = der(&setup.renew());
            while connect(&tls, &client).await.unwrap().certificate != renewed {
                tokio::time::sleep(tls.interval).await;
            }
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("not followed"),
            _ = tls.watch() => {}
            () = followed => {}
        }
    }

    #[tokio::test]
    async fn tickets_outlive_a_renewal_but_not_the_authorities_of_clients() {
        let mut setup = setup();
        setup.ask_clients(ClientAuth::RequireAndVerifyClientCert);
        let tls = setup.load().unwrap();
        let mut seen = Some(tls.current.load().files.clone());
        let client = Arc::new(setup.client(Some(&setup.authority)));
        assert_eq!(connect(&tls, &client).await.unwrap().kind, HandshakeKind::Full);
        assert_eq!(connect(&tls, &client).await.unwrap().kind, HandshakeKind::Resumed);

        setup.renew();
        tls.take(Files::read(&setup.settings), &mut seen);
        assert_eq!(connect(&tls, &client).await.unwrap().kind, HandshakeKind::Resumed);

        fs::write(&setup.settings.clientcas[0], authority().pem()).unwrap();
        tls.take(Files::read(&setup.settings), &mut seen);
        let refused = connect(&tls, &client).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData, "{refused}");
    }

    #[test]
    fn errors_say_which_file_is_wrong_and_how() {
        let mut setup = setup();
        setup.ask_clients(ClientAuth::default());
        let (other, encrypted) = (
            leaf(&setup.authority).1,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let rows = [
            ("tls.crt", None, "read tls.crt"),
            ("tls.crt", Some(""), "tls.crt holds no certificate"),
            ("tls.crt", Some("-----BEGIN CERTIFICATE-----\nAAAA"), "tls.crt is not PEM"),
            (
                "tls.crt",
                Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "tls.crt cannot be used",
            ),
            ("tls.key", Some(encrypted), "tls.key holds no unencrypted private key"),
            ("tls.key", Some(&other), "the key tls.key is not that of the certificate tls.crt"),
            ("ca.crt", None, "read ca.crt"),
            ("ca.crt", Some("nothing"), "ca.crt holds no certificate"),
        ];
        let directory = format!("{}/", setup.directory.path().display());
        for (name, content, expected) in rows {
            let path = setup.directory.path().join(name);
            let before = fs::read(&path).unwrap();
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let error = setup.load().unwrap_err().to_string().replace(&directory, "");
            assert_eq!(error, expected);
            fs::write(&path, before).unwrap();
        }
        setup.load().unwrap();
    }
}
