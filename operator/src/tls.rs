//! A Registry's own certificates: making them, reading them back, and deciding when they are due.
//!
//! Nothing here talks to Kubernetes. Given what is there, the names to serve and the time, [`ensure`] returns what should
//! be there; as long as nothing is due that is exactly what was there, byte for byte.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Life of a server certificate.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Life of a certificate authority.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// How far back a new certificate begins, for clients whose clocks are slow.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// What can be wrong with a certificate and its key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text holds no readable certificate.
    #[error("it holds no readable PEM certificate")]
    Certificate,
    /// The text holds no readable private key, or one of a kind that TLS does not use.
    #[error("it holds no usable PEM private key")]
    Key,
    /// The key is not that of the certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A certificate could not be made.
    #[error("make a certificate")]
    Issue(#[from] rcgen::Error),
}

/// A certificate and its private key, as PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPairPem {
    /// The certificate, or a chain that begins with it.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Everything that a Registry with a certificate authority of its own needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Material {
    /// The authority, which signs the next server certificate.
    pub authority: KeyPairPem,
    /// What the server presents.
    pub leaf: KeyPairPem,
    /// What clients trust: the authority and, while they are valid, those before it.
    pub bundle: String,
    /// When the server certificate ends.
    pub not_after: Timestamp,
    /// When something must be made again.
    pub due: Timestamp,
}

/// What the cluster holds already. All of it is checked before it is used.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// The authority.
    pub authority: Option<KeyPairPem>,
    /// The server certificate.
    pub leaf: Option<KeyPairPem>,
    /// The authorities that clients trust.
    pub bundle: Option<String>,
}

/// The names of a server, as they stand in its certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SubjectNames {
    /// Host names.
    pub hosts: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Returns certificates that are valid at `now` for `names`, keeping of `existing` all that is still good.
///
/// An authority or a leaf is made again when two thirds of its life are over, when it cannot be read, or when its key is
/// not its own; a leaf also when its names differ or nothing in the bundle has signed it. A new authority does not by
/// itself replace the leaf: clients get the new bundle first, and the leaf when its own time comes.
///
/// # Errors
/// [`Error::Issue`] when the cryptographic library fails.
pub fn ensure(
    existing: &Existing,
    label: &str,
    names: &SubjectNames,
    now: Timestamp,
) -> Result<Material, Error> {
    let kept_authority = existing.authority.as_ref().and_then(|pair| usable_authority(pair, now));
    let (authority, authority_facts) = match kept_authority {
        Some(kept) => kept,
        None => with_facts(new_authority(label, now)?)?,
    };
    let trusted = trusted(&authority_facts, existing.bundle.as_deref(), now);
    let kept_leaf = existing.leaf.as_ref().and_then(|pair| usable_leaf(pair, names, &trusted, now));
    let (leaf, leaf_facts) = match kept_leaf {
        Some(kept) => kept,
        None => with_facts(new_leaf(&authority, names, now)?)?,
    };
    Ok(Material {
        bundle: trusted.iter().map(|der| pem(der)).collect(),
        not_after: leaf_facts.not_after,
        due: leaf_facts.due().min(authority_facts.due()),
        authority,
        leaf,
    })
}

/// Checks a certificate of the user's and returns when it ends.
///
/// # Errors
/// [`Error::Certificate`], [`Error::Key`] or [`Error::Mismatch`].
pub fn inspect(pair: &KeyPairPem) -> Result<Timestamp, Error> {
    Ok(facts(pair)?.not_after)
}

/// What a certificate says of itself.
struct Facts {
    der: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    is_authority: bool,
    names: SubjectNames,
}

impl Facts {
    /// When two thirds of the certificate's life are over.
    fn due(&self) -> Timestamp {
        let seconds = self.not_after.as_second() - self.not_before.as_second();
        Timestamp::from_second(self.not_before.as_second() + seconds / 3 * 2).unwrap_or(self.not_after)
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.due()
    }
}

/// Reads the first certificate of `pair` and makes sure that the key is its own.
fn facts(pair: &KeyPairPem) -> Result<Facts, Error> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Certificate)?;
    let facts = certificate_facts(chain.first().ok_or(Error::Certificate)?)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|_| Error::Key)?;
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(_) => Ok(facts),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Error::Mismatch),
        Err(_) => Err(Error::Key),
    }
}

fn certificate_facts(der: &CertificateDer<'_>) -> Result<Facts, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Certificate)?;
    let validity = certificate.validity();
    let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| Error::Certificate);
    Ok(Facts {
        der: der.to_vec(),
        not_before: instant(validity.not_before.timestamp())?,
        not_after: instant(validity.not_after.timestamp())?,
        is_authority: certificate.is_ca(),
        names: subject_names(&certificate),
    })
}

fn subject_names(certificate: &X509Certificate<'_>) -> SubjectNames {
    let mut names = SubjectNames::default();
    let extension = certificate.subject_alternative_name().ok().flatten();
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(host) => {
                names.hosts.insert((*host).to_owned());
            }
            GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn with_facts(pair: KeyPairPem) -> Result<(KeyPairPem, Facts), Error> {
    let facts = facts(&pair)?;
    Ok((pair, facts))
}

fn usable_authority(pair: &KeyPairPem, now: Timestamp) -> Option<(KeyPairPem, Facts)> {
    let facts = facts(pair).ok()?;
    (facts.is_authority && facts.is_fresh(now)).then(|| (pair.clone(), facts))
}

fn usable_leaf(
    pair: &KeyPairPem,
    names: &SubjectNames,
    trusted: &[Vec<u8>],
    now: Timestamp,
) -> Option<(KeyPairPem, Facts)> {
    let facts = facts(pair).ok()?;
    let good = facts.is_fresh(now) && facts.names == *names && is_signed_by_any(&facts.der, trusted);
    good.then(|| (pair.clone(), facts))
}

/// The present authority, then those of the old bundle that have not ended, each once.
fn trusted(authority: &Facts, bundle: Option<&str>, now: Timestamp) -> Vec<Vec<u8>> {
    let mut trusted = vec![authority.der.clone()];
    for der in CertificateDer::pem_slice_iter(bundle.unwrap_or_default().as_bytes()).filter_map(Result::ok) {
        let still_good =
            certificate_facts(&der).is_ok_and(|facts| facts.is_authority && now < facts.not_after);
        if still_good && !trusted.iter().any(|known| known.as_slice() == der.as_ref()) {
            trusted.push(der.to_vec());
        }
    }
    trusted
}

fn is_signed_by_any(leaf: &[u8], authorities: &[Vec<u8>]) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return false };
    authorities
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .any(|(_, authority)| leaf.verify_signature(Some(authority.public_key())).is_ok())
}

fn new_authority(label: &str, now: Timestamp) -> Result<KeyPairPem, Error> {
    let mut params = params(now, AUTHORITY_LIFE);
    // The date keeps the subjects of successive authorities apart; some clients look authorities up by subject only.
    let name = format!("Windlass CA {} {label}", now.strftime("%F"));
    params.distinguished_name.push(DnType::CommonName, shortened(&name));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    Ok(KeyPairPem { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn new_leaf(authority: &KeyPairPem, names: &SubjectNames, now: Timestamp) -> Result<KeyPairPem, Error> {
    let mut params = params(now, LEAF_LIFE);
    if let Some(host) = names.hosts.first() {
        params.distinguished_name.push(DnType::CommonName, shortened(host));
    }
    for host in &names.hosts {
        params.subject_alt_names.push(SanType::DnsName(host.as_str().try_into()?));
    }
    params.subject_alt_names.extend(names.addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate()?;
    Ok(KeyPairPem { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn params(now: Timestamp, life: SignedDuration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = (UNIX_EPOCH + since_epoch(now - BACKDATE)).into();
    params.not_after = (UNIX_EPOCH + since_epoch(now + life)).into();
    params
}

/// Whole seconds: certificates hold no finer time, and what is read back must equal what was meant.
fn since_epoch(instant: Timestamp) -> Duration {
    Duration::from_secs(instant.as_second().unsigned_abs())
}

/// A common name may have 64 characters.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

fn pem(der: &[u8]) -> String {
    let block = Pem::new("CERTIFICATE", der);
    pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF))
}
