//! Second step: which namespaces each Registry reaches, and what is wrong with what it asks for. Pure, but for fresh
//! seeds where one is due.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::{PartialObjectMeta, Selector, SelectorExt as _};
use kube::{Resource as _, ResourceExt};

use super::dereference::Found;
use super::seeds::Seeds;
use crate::api::pull_access::{Attach, PullAccess};
use crate::api::registry::Registry;
use crate::api::status::Reason;
use crate::names;
use crate::registries::{Registries, name_of};
use crate::registry::Error;
use crate::registry::validate::server_config::PORT;

/// Key of the text of the seeds in their Secret.
pub const SEEDS_KEY: &str = "seeds";

/// What keeps a Registry as a whole from giving pull access.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant is its documentation")]
pub enum Problem {
    #[error("spec.pullAccess.namespaceSelector: {message}")]
    InvalidSelector { message: String },
    #[error(
        "the operator may not list namespaces; set rbac.pullAccess in its chart, or let it get, list and watch them"
    )]
    NamespacesUnreadable,
    #[error(
        "attach: Pods needs MutatingAdmissionPolicy of admissionregistration.k8s.io/v1 (Kubernetes 1.36) and rights to \
         write it; attach to ServiceAccounts instead"
    )]
    PolicyUnsupported,
    #[error("Secret {name} exists and is not this Registry's; rename it, or the Registry")]
    NameTaken { name: String },
    #[error("the API server refuses {object}: {message}")]
    Rejected { object: String, message: String },
}

impl Problem {
    /// The word for it in conditions and Events.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidSelector { .. } => Reason::InvalidSpec,
            Self::NamespacesUnreadable => Reason::NamespacesUnreadable,
            Self::PolicyUnsupported => Reason::PolicyUnsupported,
            Self::NameTaken { .. } => Reason::NameTaken,
            Self::Rejected { .. } => Reason::Rejected,
        }
    }
}

/// What one Registry asks for.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// The Registry.
    pub registry: &'a Registry,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whom a client may call, with and without a port: the keys of a pull secret.
    pub hosts: Vec<String>,
    /// The namespaces that are selected and can be written to; `None` while that is not known.
    pub selected: Option<Vec<String>>,
    /// Those that are selected and that the operator does not look after.
    pub unwatched: Vec<String>,
    /// What passwords are made from.
    pub seeds: Seeds,
    /// How Pods come to use the Secret.
    pub attach: Attach,
    /// What is wrong.
    pub problem: Option<Problem>,
}

/// What all Registries ask for.
#[derive(Clone, Debug, Default)]
pub struct Valid<'a> {
    /// What is to be kept up.
    pub accesses: Vec<Access<'a>>,
    /// Namespace and name of Registries for which all stays as it is.
    pub paused: BTreeSet<String>,
}

impl Valid<'_> {
    /// Whether what was given for the Registry `registry` of `namespace` must stay as it is, for nothing is known of what
    /// it asks for now.
    #[must_use]
    pub fn leaves_alone(&self, namespace: &str, registry: &str) -> bool {
        let mut accesses = self.accesses.iter();
        self.paused.contains(&format!("{namespace}/{registry}"))
            || accesses.any(|access| {
                access.selected.is_none() && access.namespace == namespace && access.name == registry
            })
    }
}

/// Checks what the `registries` ask for by what was `found`; the operator looks after the `watched` namespaces, or all if there are none.
///
/// # Errors
/// [`Error::NoRandomNumbers`] when a seed is due and cannot be made.
pub fn validate<'a>(
    registries: &Registries<'a>,
    found: &Found,
    watched: &[String],
    cluster_domain: &str,
    now: Timestamp,
) -> Result<Valid<'a>, Error> {
    let mut valid = Valid { paused: registries.unreadable.clone(), ..Valid::default() };
    for registry in registries.readable.iter().copied() {
        let Some(asked) = &registry.spec.pull_access else { continue };
        if registry.spec.paused {
            valid.paused.insert(name_of(registry));
        } else {
            valid.accesses.push(access(registry, asked, found, watched, cluster_domain, now)?);
        }
    }
    Ok(valid)
}

fn access<'a>(
    registry: &'a Registry,
    asked: &PullAccess,
    found: &Found,
    watched: &[String],
    cluster_domain: &str,
    now: Timestamp,
) -> Result<Access<'a>, Error> {
    let (name, namespace) = (registry.name_any(), registry.namespace().unwrap_or_default());
    let selected = selected(asked, found.namespaces.as_deref());
    let is_unsupported = asked.attach == Attach::Pods && found.policies.is_none();
    let problem = match &selected {
        Err(problem) => Some(problem.clone()),
        Ok(_) => is_unsupported.then_some(Problem::PolicyUnsupported),
    };
    let (selected, unwatched) = match selected {
        Ok(selected) => {
            let (mine, others) =
                selected.into_iter().partition(|namespace| watched.is_empty() || watched.contains(namespace));
            (Some(mine), others)
        }
        Err(_) => (None, Vec::new()),
    };
    let existing = seeds_text(found, &names::pull_seeds(&name), &namespace);
    Ok(Access {
        hosts: hosts(&names::hosts(&name, &namespace, cluster_domain, &[]), &registry.spec.hostnames),
        seeds: Seeds::ensure(existing.as_deref(), rotation(asked), now)
            .map_err(|_| Error::NoRandomNumbers)?,
        attach: asked.attach,
        registry,
        name,
        namespace,
        selected,
        unwatched,
        problem,
    })
}

/// The names of the selected namespaces, in order. One that is about to go takes nothing any more.
fn selected(
    asked: &PullAccess,
    namespaces: Option<&[PartialObjectMeta<Namespace>]>,
) -> Result<Vec<String>, Problem> {
    let selector = Selector::try_from(asked.namespace_selector.clone())
        .map_err(|error| Problem::InvalidSelector { message: error.to_string() })?;
    let namespaces = namespaces.ok_or(Problem::NamespacesUnreadable)?;
    let mut selected: Vec<String> = namespaces
        .iter()
        .filter(|namespace| namespace.meta().deletion_timestamp.is_none())
        .filter(|namespace| selector.matches(namespace.labels()))
        .map(ResourceExt::name_any)
        .collect();
    selected.sort();
    Ok(selected)
}

/// Those of the Service have its port; behind others may stand a load balancer with any.
fn hosts(of_service: &[String], hostnames: &[String]) -> Vec<String> {
    let with_port = of_service.iter().chain(hostnames).map(|host| format!("{host}:{PORT}"));
    with_port.chain(hostnames.iter().cloned()).collect()
}

/// The API server has checked the text.
fn rotation(asked: &PullAccess) -> Duration {
    let parsed = asked.rotate_every.parse::<SignedDuration>().ok();
    parsed.and_then(|every| Duration::try_from(every).ok()).unwrap_or(Duration::from_secs(720 * 3600))
}

fn seeds_text(found: &Found, name: &str, namespace: &str) -> Option<String> {
    let secret = found.secret(namespace, name)?.clone().try_parse::<Secret>().ok()?;
    let bytes = secret.data?.remove(SEEDS_KEY)?;
    String::from_utf8(bytes.0).ok()
}
