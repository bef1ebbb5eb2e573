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
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
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

/// Those of `hosts` for which clients refuse the certificate of `pair`; none if it cannot be read.
#[must_use]
pub fn unnamed(pair: &KeyPairPem, hosts: &[String]) -> Vec<String> {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
    let Ok(der) = der else { return Vec::new() };
    let Ok(certificate) = ParsedCertificate::try_from(&der) else { return Vec::new() };
    let is_named = |host: &String| {
        ServerName::try_from(host.as_str()).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    };
    hosts.iter().filter(|host| !is_named(host)).cloned().collect()
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

#[cfg(test)]
mod tests {
    use super::{
        Error, Existing, KeyPairPem, Material, SubjectNames, certificate_facts, ensure, facts, inspect,
        unnamed,
    };
    use jiff::{SignedDuration, Timestamp};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::FromDer;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(days * 24)
    }

    fn names(hosts: &[&str], addresses: &[&str]) -> SubjectNames {
        SubjectNames {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn hub() -> SubjectNames {
        names(&["hub", "hub.team-a.svc", "localhost"], &["10.96.0.7", "127.0.0.1", "::1"])
    }

    fn made(existing: &Existing, names: &SubjectNames, now: Timestamp) -> Material {
        ensure(existing, "team-a/hub", names, now).unwrap()
    }

    fn kept(material: &Material) -> Existing {
        Existing {
            authority: Some(material.authority.clone()),
            leaf: Some(material.leaf.clone()),
            bundle: Some(material.bundle.clone()),
        }
    }

    fn bundle(material: &Material) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(material.bundle.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    /// Whether a client that trusts the bundle accepts the leaf.
    fn is_trusted(material: &Material) -> bool {
        let leaf = CertificateDer::from_pem_slice(material.leaf.certificate.as_bytes()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        bundle(material).iter().any(|authority| {
            let (_, authority) = X509Certificate::from_der(authority).unwrap();
            leaf.verify_signature(Some(authority.public_key())).is_ok()
                && leaf.issuer() == authority.subject()
        })
    }

    #[test]
    fn fresh_certificates_serve_the_names_for_ninety_days() {
        let material = made(&Existing::default(), &hub(), start());
        let leaf = facts(&material.leaf).unwrap();
        assert_eq!(leaf.names, hub());
        assert!(!leaf.is_authority && leaf.is_fresh(start()));
        assert_eq!(material.not_after, start() + days(90));
        assert_eq!(facts(&material.authority).unwrap().not_after, start() + days(3650));
        assert!(is_trusted(&material));
    }

    #[test]
    fn a_leaf_may_serve_and_an_authority_may_sign_and_nothing_else() {
        let material = made(&Existing::default(), &hub(), start());
        let der = CertificateDer::from_pem_slice(material.leaf.certificate.as_bytes()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !leaf.is_ca());
        let authority = bundle(&material).remove(0);
        let (_, authority) = X509Certificate::from_der(&authority).unwrap();
        assert!(authority.is_ca() && authority.key_usage().unwrap().unwrap().value.key_cert_sign());
        let limits =
            authority.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(limits) => limits.path_len_constraint,
                _ => None,
            });
        assert_eq!(limits.collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn while_nothing_is_due_nothing_changes() {
        let first = made(&Existing::default(), &hub(), start());
        for later in [start(), start() + days(30), first.due - SignedDuration::from_secs(1)] {
            assert_eq!(made(&kept(&first), &hub(), later), first, "{later}");
        }
    }

    #[test]
    fn a_leaf_is_made_anew_at_two_thirds_of_its_life() {
        let first = made(&Existing::default(), &hub(), start());
        // Two thirds of ninety days and five minutes, the latter before the start.
        assert_eq!(first.due, start() + days(60) - SignedDuration::from_secs(100));
        let second = made(&kept(&first), &hub(), first.due);
        assert_ne!(second.leaf, first.leaf);
        assert_eq!((&second.authority, &second.bundle), (&first.authority, &first.bundle));
        assert!(second.due > first.due && is_trusted(&second));
    }

    #[test]
    fn a_leaf_is_made_anew_when_its_names_change() {
        let first = made(&Existing::default(), &hub(), start());
        let moved = names(&["hub", "hub.team-a.svc", "localhost"], &["10.96.0.8", "127.0.0.1", "::1"]);
        let second = made(&kept(&first), &moved, start());
        assert_eq!(facts(&second.leaf).unwrap().names, moved);
        assert_eq!(second.authority, first.authority);
    }

    #[test]
    fn hosts_that_a_certificate_does_not_name_are_found() {
        let leaf = made(&Existing::default(), &names(&["hub.example", "*.team.example"], &[]), start()).leaf;
        let hosts = ["hub.example", "a.team.example", "team.example", "b.a.team.example", "other.example"];
        let hosts = hosts.map(str::to_owned);
        assert_eq!(unnamed(&leaf, &hosts), hosts[2..]);
        let unreadable = KeyPairPem { certificate: "x".to_owned(), ..leaf };
        assert_eq!(unnamed(&unreadable, &hosts), [""; 0]);
    }

    #[test]
    fn a_new_authority_joins_the_bundle_and_leaves_the_leaf_alone() {
        let first = made(&Existing::default(), &hub(), start());
        let without_authority = Existing { authority: None, ..kept(&first) };
        let second = made(&without_authority, &hub(), start() + days(1));
        assert_ne!(second.authority, first.authority);
        assert_eq!(second.leaf, first.leaf);
        assert_eq!(bundle(&second).len(), 2);
        assert!(bundle(&second).contains(&bundle(&first)[0]) && is_trusted(&second));
        // The next leaf comes from the new authority, and the bundle still holds both.
        let third = made(&kept(&second), &hub(), second.due);
        assert_ne!(third.leaf, second.leaf);
        assert_eq!(third.bundle, second.bundle);
        assert!(is_trusted(&third));
    }

    #[test]
    fn an_authority_is_made_anew_at_two_thirds_of_its_life_and_forgotten_at_its_end() {
        let first = made(&Existing::default(), &hub(), start());
        let old_age = start() + days(2434);
        let second = made(&kept(&first), &hub(), old_age);
        assert_ne!(second.authority, first.authority);
        assert_eq!(bundle(&second).len(), 2);
        let third = made(&kept(&second), &hub(), start() + days(3651));
        assert_eq!(bundle(&third), [bundle(&second)[0].clone()]);
        assert!(is_trusted(&third));
    }

    #[test]
    fn what_is_broken_is_made_anew() {
        let good = made(&Existing::default(), &hub(), start());
        let other = made(&Existing::default(), &hub(), start());
        let pair = |certificate: &str, key: &str| {
            Some(KeyPairPem { certificate: certificate.to_owned(), key: key.to_owned() })
        };
        for existing in [
            Existing { leaf: pair("", ""), ..kept(&good) },
            Existing { leaf: pair(&good.leaf.certificate, "x"), ..kept(&good) },
            Existing { leaf: pair(&good.leaf.certificate, &other.leaf.key), ..kept(&good) },
            Existing { leaf: Some(other.leaf.clone()), ..kept(&good) },
            Existing { bundle: Some("x".to_owned()), authority: pair("x", "y"), ..kept(&good) },
            // An authority that is a mere leaf cannot sign.
            Existing { authority: Some(good.leaf.clone()), bundle: None, ..kept(&good) },
        ] {
            let mended = made(&existing, &hub(), start());
            assert!(is_trusted(&mended), "{existing:?}");
            assert_eq!(made(&kept(&mended), &hub(), start()), mended);
        }
    }

    #[test]
    fn a_certificate_of_the_users_is_checked_with_its_key() {
        let good = made(&Existing::default(), &hub(), start());
        let other = made(&Existing::default(), &hub(), start());
        assert_eq!(inspect(&good.leaf).unwrap(), good.not_after);
        let check = |certificate: &str, key: &str| {
            inspect(&KeyPairPem { certificate: certificate.to_owned(), key: key.to_owned() }).unwrap_err()
        };
        assert!(matches!(check("", &good.leaf.key), Error::Certificate));
        assert!(matches!(check(&good.leaf.certificate, ""), Error::Key));
        assert!(matches!(check(&good.leaf.certificate, &other.leaf.key), Error::Mismatch));
    }

    #[test]
    fn successive_authorities_have_different_subjects() {
        let first = made(&Existing::default(), &hub(), start());
        let second = made(&Existing::default(), &hub(), start() + days(1));
        let subject = |material: &Material| {
            let der = bundle(material).remove(0);
            certificate_facts(&der).unwrap();
            X509Certificate::from_der(&der).unwrap().1.subject().to_string()
        };
        assert_eq!(subject(&first), "CN=Windlass CA 2026-01-01 team-a/hub");
        assert_ne!(subject(&first), subject(&second));
    }
}
