//! Second step: from what the user wrote and what was found, what can be built.
//!
//! Pure, but for fresh keys where a certificate is due. What comes out holds parsed values only, so that building has
//! nothing left to check. A problem that leaves nothing to build is an error. One that concerns a single part is kept
//! beside the result: the rest of the Registry is still looked after, and only a first start waits.

mod certificate;
mod overrides;
mod secrets;
pub mod server_config;
mod storage;

use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use registry_server::config;

use crate::api::registry::{Registry, RegistrySpec};
use crate::children::{Kind, Ownership, ownership};
use crate::names;
use crate::registry::dereference::{Found, expected};
use crate::registry::problem::Problem;

pub use certificate::Certificate;
pub use server_config::ServerConfig;
use server_config::{CONFIG_DIRECTORY, JWKS_FILE};
pub use storage::{Claim, OwnClaim};

/// What of the operator's own settings shapes a Registry.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Image of the server where the spec names none.
    pub server_image: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Name of the `ClusterRole` by which servers may ask for access reviews; `None` if the operator was installed without.
    pub access_review_role: Option<String>,
}

impl Defaults {
    /// The kinds of children that the operator may write.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let may_bind = self.access_review_role.is_some();
        Kind::OF_REGISTRY.into_iter().filter(|kind| may_bind || *kind != Kind::RoleBinding).collect()
    }
}

/// A Registry that can be built.
#[derive(Clone, Debug)]
pub struct Valid<'a> {
    /// Name of the Registry.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The reference by which children say whose they are.
    pub owner: OwnerReference,
    /// The spec, for fields that are passed on as they are.
    pub spec: &'a RegistrySpec,
    /// Image of the server.
    pub image: String,
    /// The server's configuration.
    pub config: ServerConfig,
    /// The public keys by which the server knows tokens of the cluster.
    pub jwks: Option<String>,
    /// Name of the `ClusterRole` by which the server may ask for access reviews, if it does.
    pub access_review_role: Option<String>,
    /// Where the data is.
    pub claim: Claim,
    /// What the server presents.
    pub certificate: Certificate,
    /// Whether the Deployment may be written: it exists, or all that a first start needs is there.
    pub start: bool,
    /// What is wrong with single parts, the first being the one to report.
    pub problems: Vec<Problem>,
}

impl Valid<'_> {
    /// Whether the Deployment or the certificate still waits for the Service to get an address.
    #[must_use]
    pub fn awaits_address(&self) -> bool {
        matches!(self.certificate, Certificate::AwaitsAddress)
    }
}

/// Checks `registry` against what was `found`.
///
/// # Errors
/// The [`Problem`] that leaves nothing to build.
pub fn validate<'a>(
    registry: &'a Registry,
    found: &Found,
    defaults: &Defaults,
    now: Timestamp,
) -> Result<Valid<'a>, Problem> {
    let spec = &registry.spec;
    let name = registry.name_any();
    let namespace = registry.namespace().unwrap_or_default();
    names_are_free(registry, found)?;
    overrides::check(spec.overrides.as_ref())?;
    let access_review_role = access_review_role(spec, defaults)?;
    let config = server_config::render(spec, cluster_tokens(&name, &namespace, spec, found))?;
    let (claim, storage_problem) = storage::claim(&name, spec, found);
    let (certificate, tls_problem) = certificate::certificate(&name, &namespace, spec, found, defaults, now)?;
    let htpasswd_problem = secrets::htpasswd(spec, found).err();
    let problems: Vec<Problem> =
        [storage_problem, htpasswd_problem, tls_problem].into_iter().flatten().collect();
    let is_running = found.live.get(&(Kind::Deployment, name.clone())).is_some();
    let is_complete = problems.is_empty() && !matches!(certificate, Certificate::AwaitsAddress);
    Ok(Valid {
        owner: registry.controller_owner_ref(&()).unwrap_or_default(),
        image: spec.image.clone().unwrap_or_else(|| defaults.server_image.clone()),
        start: is_running || is_complete,
        name,
        namespace,
        spec,
        config,
        jwks: found.token_issuer.as_ref().map(|issuer| issuer.jwks.clone()),
        access_review_role,
        claim,
        certificate,
        problems,
    })
}

/// The `ClusterRole` to bind the server to, if it is to ask for access reviews.
fn access_review_role(spec: &RegistrySpec, defaults: &Defaults) -> Result<Option<String>, Problem> {
    if !spec.asks_for_reviews() {
        return Ok(None);
    }
    defaults.access_review_role.clone().map(Some).ok_or(Problem::AccessReviewDisabled)
}

/// Which tokens of the cluster the server takes, if any.
fn cluster_tokens(
    name: &str,
    namespace: &str,
    spec: &RegistrySpec,
    found: &Found,
) -> Option<config::Kubernetes> {
    let asked = spec.auth.as_ref()?.kubernetes.as_ref()?;
    Some(config::Kubernetes {
        issuer: found.token_issuer.as_ref()?.issuer.clone(),
        audience: asked.audience.clone().unwrap_or_else(|| names::service_host(name, namespace)),
        jwks: PathBuf::from(CONFIG_DIRECTORY).join(JWKS_FILE),
        accessreview: asked
            .subject_access_review
            .then(|| config::AccessReview { namespace: namespace.to_owned(), registry: name.to_owned() }),
    })
}

/// Server-side apply would take over an object of somebody else's; a Registry never does.
fn names_are_free(registry: &Registry, found: &Found) -> Result<(), Problem> {
    let uid = registry.uid().unwrap_or_default();
    for (kind, child) in expected(&registry.name_any(), &registry.spec) {
        let Some(object) = found.live.get(&(kind, child.clone())) else { continue };
        match ownership(object, &registry.name_any(), &uid) {
            Ownership::Ours => {}
            Ownership::Predecessors => {
                return Err(Problem::PredecessorTerminating { kind: kind.name(), name: child });
            }
            Ownership::Foreign => return Err(Problem::NameTaken { kind: kind.name(), name: child }),
        }
    }
    Ok(())
}
