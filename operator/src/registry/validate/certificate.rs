//! Decides what the server presents to its clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, Service};

use crate::api::registry::RegistrySpec;
use crate::children::Kind;
use crate::names;
use crate::registry::dereference::Found;
use crate::registry::problem::{Problem, TLS_SECRET_FIELD};
use crate::registry::validate::{Defaults, secrets};
use crate::tls::{self, Existing, KeyPairPem, Material, SubjectNames};

/// What the server presents to its clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// Nothing: plain HTTP.
    Disabled,
    /// The certificate of a Secret of the user's.
    Provided {
        /// Name of the Secret.
        secret: String,
        /// When the certificate ends, if it can be read.
        not_after: Option<Timestamp>,
    },
    /// A certificate of the Registry's own authority.
    Own(Box<Material>),
    /// One of the Registry's own, once the Service has the address that must stand in it.
    AwaitsAddress,
}

impl Certificate {
    /// The Secret that the server mounts, if it speaks TLS.
    #[must_use]
    pub fn secret(&self, registry: &str) -> Option<String> {
        match self {
            Self::Disabled => None,
            Self::Provided { secret, .. } => Some(secret.clone()),
            Self::Own(_) | Self::AwaitsAddress => Some(names::tls_secret(registry)),
        }
    }

    /// When what the server presents ends, if that is known.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        match self {
            Self::Disabled | Self::AwaitsAddress => None,
            Self::Provided { not_after, .. } => *not_after,
            Self::Own(material) => Some(material.not_after),
        }
    }

    /// When it has to be looked at again.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Own(material) => Some(material.due),
            other => other.not_after(),
        }
    }
}

/// The certificate for `spec`, and what is wrong with one of the user's.
///
/// # Errors
/// [`Problem::Rejected`] if no certificate can be made, which only a failing cryptographic library can cause.
pub(super) fn certificate(
    name: &str,
    namespace: &str,
    spec: &RegistrySpec,
    found: &Found,
    defaults: &Defaults,
    now: Timestamp,
) -> Result<(Certificate, Option<Problem>), Problem> {
    if spec.tls.disabled.is_some() {
        return Ok((Certificate::Disabled, None));
    }
    if let Some(reference) = &spec.tls.secret_ref {
        return Ok(provided(&reference.name, found.certificate.as_ref(), now));
    }
    let Some(addresses) = cluster_addresses(name, found) else {
        return Ok((Certificate::AwaitsAddress, None));
    };
    let mut subject = SubjectNames {
        hosts: names::service_hosts(name, namespace, &defaults.cluster_domain).into_iter().collect(),
        addresses: addresses.into_iter().collect(),
    };
    subject.hosts.insert("localhost".to_owned());
    subject.addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
    let label = format!("{namespace}/{name}");
    let material = tls::ensure(&existing(name, found), &label, &subject, now).map_err(|error| {
        Problem::Rejected { object: "the certificate".to_owned(), message: error.to_string() }
    })?;
    Ok((Certificate::Own(Box::new(material)), None))
}

fn provided(name: &str, secret: Option<&Secret>, now: Timestamp) -> (Certificate, Option<Problem>) {
    let checked = secrets::key_pair(secret, name, TLS_SECRET_FIELD).and_then(|pair| {
        tls::inspect(&pair).map_err(|error| Problem::CertificateMalformed {
            name: name.to_owned(),
            message: error.to_string(),
        })
    });
    let not_after = checked.as_ref().ok().copied();
    let problem = match checked {
        Ok(end) if end <= now => {
            Some(Problem::CertificateExpired { name: name.to_owned(), end: end.to_string() })
        }
        Ok(_) => None,
        Err(problem) => Some(problem),
    };
    (Certificate::Provided { secret: name.to_owned(), not_after }, problem)
}

/// The addresses of the live Service: `None` until it has been given any, none if it is headless.
fn cluster_addresses(name: &str, found: &Found) -> Option<Vec<IpAddr>> {
    let service: Service = found.live.typed(Kind::Service, name)?;
    let addresses = service.spec?.cluster_ips.unwrap_or_default();
    (!addresses.is_empty()).then(|| addresses.iter().filter_map(|address| address.parse().ok()).collect())
}

fn existing(name: &str, found: &Found) -> Existing {
    let authority: Option<Secret> = found.live.typed(Kind::Secret, &names::authority_secret(name));
    let serving: Option<Secret> = found.live.typed(Kind::Secret, &names::tls_secret(name));
    let bundle = serving.as_ref().and_then(|secret| secret.data.as_ref()).and_then(|data| data.get("ca.crt"));
    Existing {
        authority: readable(authority.as_ref()),
        leaf: readable(serving.as_ref()),
        bundle: bundle.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()),
    }
}

fn readable(secret: Option<&Secret>) -> Option<KeyPairPem> {
    secrets::key_pair(secret, "", TLS_SECRET_FIELD).ok()
}
