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
        /// Those of `spec.hostnames` for which clients will refuse it.
        unnamed: Vec<String>,
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
        return Ok(provided(&reference.name, found.certificate.as_ref(), &spec.hostnames, now));
    }
    let Some(addresses) = cluster_addresses(name, found) else {
        return Ok((Certificate::AwaitsAddress, None));
    };
    let mut subject = SubjectNames {
        hosts: names::hosts(name, namespace, &defaults.cluster_domain, &spec.hostnames).into_iter().collect(),
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

fn provided(
    name: &str,
    secret: Option<&Secret>,
    hostnames: &[String],
    now: Timestamp,
) -> (Certificate, Option<Problem>) {
    let checked = secrets::key_pair(secret, name, TLS_SECRET_FIELD).and_then(|pair| {
        tls::inspect(&pair).map(|end| (end, tls::unnamed(&pair, hostnames))).map_err(|error| {
            Problem::CertificateMalformed { name: name.to_owned(), message: error.to_string() }
        })
    });
    let secret = name.to_owned();
    match checked {
        Ok((end, unnamed)) => {
            let problem = (end <= now)
                .then(|| Problem::CertificateExpired { name: name.to_owned(), end: end.to_string() });
            (Certificate::Provided { secret, not_after: Some(end), unnamed }, problem)
        }
        Err(problem) => {
            (Certificate::Provided { secret, not_after: None, unnamed: Vec::new() }, Some(problem))
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{Certificate, certificate};
    use crate::api::registry::RegistrySpec;
    use crate::children::Kind;
    use crate::registry::dereference::Found;
    use crate::registry::validate::Defaults;
    use crate::tls::{self, Existing, KeyPairPem, SubjectNames, inspect};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use jiff::{SignedDuration, Timestamp};
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn decide(tls: &Value, found: &Found, now: Timestamp) -> (Certificate, Option<String>) {
        let spec: RegistrySpec = serde_json::from_value(
            json!({"storage": {"filesystem": {"size": "1Gi"}}, "tls": tls, "hostnames": ["images.example"]}),
        )
        .unwrap();
        let defaults = Defaults { cluster_domain: "cluster.local".to_owned(), ..Defaults::default() };
        let (certificate, problem) = certificate("hub", "team-a", &spec, found, &defaults, now).unwrap();
        (certificate, problem.map(|problem| problem.reason().to_string()))
    }

    /// A cluster in which the Service has these addresses.
    fn with_service(addresses: &Value) -> Found {
        let mut found = Found::default();
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub"},
            "spec": {"clusterIPs": addresses}});
        found.live.insert(Kind::Service, serde_json::from_value(service).unwrap());
        found
    }

    #[test]
    fn the_certificate_names_the_registry_in_every_way_it_is_called() {
        let found = with_service(&json!(["10.96.0.7", "fd00::7"]));
        let (Certificate::Own(material), None) = decide(&json!({"selfSigned": {}}), &found, now()) else {
            panic!("no certificate");
        };
        // Made for exactly these names, it is kept when asked for them again.
        let names = SubjectNames {
            hosts: [
                "hub",
                "hub.team-a",
                "hub.team-a.svc",
                "hub.team-a.svc.cluster.local",
                "images.example",
                "localhost",
            ]
            .map(str::to_owned)
            .into(),
            addresses: ["10.96.0.7", "fd00::7", "127.0.0.1", "::1"]
                .map(|address| address.parse().unwrap())
                .into(),
        };
        let existing = Existing {
            authority: Some(material.authority.clone()),
            leaf: Some(material.leaf.clone()),
            bundle: Some(material.bundle.clone()),
        };
        assert_eq!(tls::ensure(&existing, "team-a/hub", &names, now()).unwrap(), *material);
    }

    #[test]
    fn a_certificate_waits_for_an_address_unless_there_will_be_none() {
        let own = json!({"selfSigned": {}});
        assert_eq!(decide(&own, &Found::default(), now()).0, Certificate::AwaitsAddress);
        assert_eq!(decide(&own, &with_service(&json!([])), now()).0, Certificate::AwaitsAddress);
        assert!(matches!(decide(&own, &with_service(&json!(["None"])), now()).0, Certificate::Own(_)));
    }

    #[test]
    fn a_secret_of_the_users_is_checked_before_it_is_mounted() {
        let names = SubjectNames { hosts: ["hub".to_owned()].into(), ..SubjectNames::default() };
        let made = || tls::ensure(&Existing::default(), "x", &names, now()).unwrap().leaf;
        let (good, other) = (made(), made());
        let end = inspect(&good).unwrap();
        let secret = |pair: &KeyPairPem| json!({"tls.crt": STANDARD.encode(&pair.certificate), "tls.key": STANDARD.encode(&pair.key)});
        let mixed = KeyPairPem { key: other.key.clone(), ..good.clone() };
        let later = end + SignedDuration::from_secs(1);
        for (data, now, not_after, problem) in [
            (secret(&good), now(), Some(end), None),
            (secret(&good), later, Some(end), Some("CertificateExpired")),
            (secret(&mixed), now(), None, Some("CertificateMalformed")),
            (
                json!({"tls.crt": STANDARD.encode("x"), "tls.key": ""}),
                now(),
                None,
                Some("CertificateMalformed"),
            ),
            (json!({"tls.crt": ""}), now(), None, Some("SecretKeyMissing")),
        ] {
            let object = json!({"metadata": {"name": "mine"}, "data": data});
            let found =
                Found { certificate: Some(serde_json::from_value(object).unwrap()), ..Found::default() };
            let unnamed = not_after.map(|_| "images.example".to_owned()).into_iter().collect();
            let certificate = Certificate::Provided { secret: "mine".to_owned(), not_after, unnamed };
            let expected = (certificate, problem.map(str::to_owned));
            assert_eq!(decide(&json!({"secretRef": {"name": "mine"}}), &found, now), expected);
        }
        let missing = decide(&json!({"secretRef": {"name": "mine"}}), &Found::default(), now());
        assert_eq!(missing.1.as_deref(), Some("SecretNotFound"));
    }

    #[test]
    fn without_tls_nothing_is_mounted() {
        let (certificate, problem) = decide(&json!({"disabled": {}}), &Found::default(), now());
        assert_eq!((certificate.secret("hub"), certificate.due(), problem), (None, None, None));
    }
}
