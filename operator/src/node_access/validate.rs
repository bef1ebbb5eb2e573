//! Second step: from what Registries ask and what was found, what the nodes are to be told. Pure.
//!
//! What is wrong with one Registry is kept beside the plan and told there: the others are in it none the less.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::Known;
use super::dereference::{Asking, Found, Parts};
use super::distribution::Distribution;
use super::plan::{Plan, PlannedHost, PlannedRegistry};
use super::problem::Problem;
use super::settings::Settings;
use crate::api::registry::Registry;
use crate::api::status::READY;
use crate::children::{Kind, Ownership, ownership};
use crate::context::Context;
use crate::names;
use crate::registries::{age, name_of};
use crate::registry::validate::server_config::PORT;

/// The most that a `ConfigMap` holds is 1 MiB; a part of it is left for the rest of the object.
const MOST_BYTES: usize = 900 * 1024;

/// How long agents may take to clean up before they go all the same.
const DRAIN: Duration = Duration::from_secs(300);

/// What is to be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The plan and the agents.
    Working,
    /// An empty plan, and the agents that clean up by it, for at most the time that is left.
    Draining {
        /// That time.
        left: Duration,
    },
    /// Nothing.
    Idle,
}

/// What can be built.
#[derive(Clone, Debug)]
pub struct Valid<'a> {
    /// The operator's settings.
    pub settings: &'a Settings,
    /// To whom the children belong; `None` if none can be made, which is a problem of all Registries.
    pub owner: Option<OwnerReference>,
    /// What is to be there.
    pub stage: Stage,
    /// What the nodes are to know.
    pub plan: Plan,
    /// How the nodes are set up.
    pub distributions: BTreeSet<Distribution>,
    /// What is wrong, by namespace and name of the Registry.
    pub problems: BTreeMap<String, Problem>,
    /// Names of `spec.hostnames` that no administrator lets the nodes be told of, by the same.
    pub withheld: BTreeMap<String, Vec<String>>,
}

impl Valid<'_> {
    /// Says of every Registry that `problem` is in the way.
    pub fn refuse(&mut self, problem: &Problem, registries: &[&Registry]) {
        self.problems = registries.iter().map(|registry| (name_of(registry), problem.clone())).collect();
    }
}

/// Decides what the nodes are to be told.
#[must_use]
pub fn validate<'a>(known: &Known<'_>, found: &Found<'_>, context: &'a Context, now: Timestamp) -> Valid<'a> {
    let settings = &context.node_access;
    let former = former(found);
    let draft = draft(known, found, &former, context);
    let nodes = known.nodes.iter().filter(|node| settings.agent.suits(node));
    let systems = nodes.filter_map(|node| node.status.as_ref()?.node_info.as_ref());
    let mut valid = Valid {
        settings,
        owner: None,
        stage: stage(known, found, &former, &draft.plan, settings.agent.is_needed(), now),
        plan: draft.plan,
        distributions: systems.filter_map(Distribution::of).collect(),
        problems: draft.problems,
        withheld: draft.withheld,
    };
    match owner(found, settings) {
        Ok(owner) => valid.owner = Some(owner),
        Err(problem) => {
            let asking: Vec<&Registry> = found.asking.iter().map(|asking| asking.registry).collect();
            valid.refuse(&problem, &asking);
        }
    }
    valid
}

/// What the nodes are told now.
fn former(found: &Found<'_>) -> Plan {
    let config_map: Option<ConfigMap> = found.live.typed(Kind::ConfigMap, names::NODE_ACCESS_PLAN);
    let data = config_map.and_then(|config_map| config_map.data).unwrap_or_default();
    let text = data.get(names::NODE_ACCESS_PLAN_KEY);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// To whom the children belong. Server-side apply would take over objects of somebody else's.
fn owner(found: &Found<'_>, settings: &Settings) -> Result<OwnerReference, Problem> {
    let namespace = || settings.namespace.clone();
    if settings.image.is_none() {
        return Err(Problem::AgentDisabled);
    }
    let Some(uid) = found.account.clone() else {
        return Err(Problem::AccountMissing { namespace: namespace() });
    };
    for (key, object) in found.live.iter() {
        if ownership(object, names::NODE_AGENT, &uid) != Ownership::Ours {
            let (kind, name) = (key.0.name(), key.1.clone());
            return Err(Problem::NameTaken { kind, name, namespace: namespace() });
        }
    }
    Ok(OwnerReference {
        api_version: "v1".to_owned(),
        kind: Kind::ServiceAccount.name().to_owned(),
        name: names::NODE_AGENT.to_owned(),
        uid,
        controller: Some(true),
        ..OwnerReference::default()
    })
}

/// Agents are there for Registries, or because nodes need them anyhow. They stay until all that are alive have said that nothing is left on their nodes. They can say so of an empty plan
/// only, so it must have been written before.
fn stage(
    known: &Known<'_>,
    found: &Found<'_>,
    former: &Plan,
    plan: &Plan,
    is_needed: bool,
    now: Timestamp,
) -> Stage {
    if is_needed || !found.asking.is_empty() || !plan.registries.is_empty() {
        return Stage::Working;
    }
    let config_map: Option<ConfigMap> = found.live.typed(Kind::ConfigMap, names::NODE_ACCESS_PLAN);
    let Some(config_map) = config_map else { return Stage::Idle };
    if !former.registries.is_empty() {
        return Stage::Draining { left: DRAIN };
    }
    let is_alive = |name: &str| known.nodes.iter().any(|node| node.name_any() == name);
    let is_clean = known
        .reports
        .iter()
        .filter(|report| is_alive(&report.name_any()))
        .all(|report| report.status.as_ref().is_none_or(|status| status.registries.is_empty()));
    let emptied = written(&config_map).unwrap_or(now);
    let waited = Duration::try_from(now.duration_since(emptied)).unwrap_or_default();
    match DRAIN.checked_sub(waited) {
        Some(left) if !is_clean => Stage::Draining { left },
        _ => Stage::Idle,
    }
}

/// When the operator last wrote the plan.
fn written(config_map: &ConfigMap) -> Option<Timestamp> {
    let managers = config_map.metadata.managed_fields.iter().flatten();
    let own = managers.filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
    own.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max()
}

/// A plan while it is made.
#[derive(Default)]
struct Draft {
    plan: Plan,
    bytes: usize,
    /// Who has which name.
    hosts: BTreeMap<String, String>,
    problems: BTreeMap<String, Problem>,
    withheld: BTreeMap<String, Vec<String>>,
}

/// The older a Registry, the earlier its turn, so that no new one takes anything from those that work.
fn draft(known: &Known<'_>, found: &Found<'_>, former: &Plan, context: &Context) -> Draft {
    let mut draft = Draft::default();
    let mut asking: Vec<&Asking<'_>> = found.asking.iter().collect();
    asking.sort_by_key(|asking| age(asking.registry));
    let as_before = |name: &str| former.registries.iter().find(|registry| registry.name == name).cloned();
    for entry in known.registries.unreadable.iter().filter_map(|name| as_before(name)) {
        draft.add(entry);
    }
    for Asking { registry, parts } in asking {
        let entry = match parts {
            Ok(parts) => draft.entry(registry, parts, as_before(&name_of(registry)), context),
            Err(_) => as_before(&name_of(registry)),
        };
        if let Some(entry) = entry {
            draft.add(entry);
        }
    }
    draft.plan.registries.sort_by(|one, other| one.name.cmp(&other.name));
    draft
}

impl Draft {
    /// What the nodes are to know of `registry`; `None` if it has no address, or has never answered: an agent that asks it
    /// too early would ask again only after a while.
    fn entry(
        &mut self,
        registry: &Registry,
        parts: &Parts,
        former: Option<PlannedRegistry>,
        context: &Context,
    ) -> Option<PlannedRegistry> {
        let name = name_of(registry);
        let endpoints = endpoints(registry, parts.service.as_ref());
        if endpoints.is_empty() {
            let service = registry.name_any();
            self.problems.insert(name, Problem::AddressPending { service });
            return None;
        }
        if former.is_none() && !is_ready(registry) {
            self.problems.insert(name, Problem::NotReady);
            return None;
        }
        let hosts = self.hosts(&name, registry, context);
        let authorities = authorities(registry, parts).or_else(|| {
            // Its Secret has been deleted and is about to be made anew, by the same authority.
            former.filter(|_| registry.spec.tls.self_signed.is_some())?.authorities
        });
        Some(PlannedRegistry { name, hosts, endpoints, authorities })
    }

    /// Under which names the nodes are to know `registry`. Its own name alone is none of them: on a node, which belongs to
    /// no namespace, it could mean any Registry.
    fn hosts(&mut self, name: &str, registry: &Registry, context: &Context) -> Vec<PlannedHost> {
        let own = registry.name_any();
        let namespace = registry.namespace().unwrap_or_default();
        let service = names::hosts(&own, &namespace, &context.defaults.cluster_domain, &[]);
        let mut hosts: Vec<PlannedHost> = service
            .iter()
            .filter(|host| **host != own)
            .map(|host| PlannedHost { name: format!("{host}:{PORT}"), fallback: false })
            .collect();
        for host in &registry.spec.hostnames {
            if !context.node_access.agent.admits(host) {
                self.withheld.entry(name.to_owned()).or_default().push(host.clone());
            } else if let Some(by) = self.hosts.get(host) {
                let problem = Problem::HostnameTaken { host: host.clone(), by: by.clone() };
                self.problems.insert(name.to_owned(), problem);
            } else {
                let names = [host.clone(), format!("{host}:{PORT}")];
                hosts.extend(names.map(|name| PlannedHost { name, fallback: true }));
                self.hosts.insert(host.clone(), name.to_owned());
            }
        }
        hosts
    }

    /// Adds an entry, if there is room for it.
    fn add(&mut self, entry: PlannedRegistry) {
        let bytes = serde_json::to_string(&entry).unwrap_or_default().len();
        if self.bytes + bytes > MOST_BYTES {
            self.problems.insert(entry.name, Problem::PlanTooLarge);
            return;
        }
        self.bytes += bytes;
        self.plan.registries.push(entry);
    }
}

fn is_ready(registry: &Registry) -> bool {
    let ready = registry.status.as_ref().and_then(|status| status.condition(READY));
    ready.is_some_and(|ready| ready.status == "True")
}

/// Where `registry` answers. A Service that is not its own leads elsewhere.
fn endpoints(registry: &Registry, service: Option<&Service>) -> Vec<String> {
    let scheme = if registry.spec.tls.disabled.is_some() { "http" } else { "https" };
    let own = service.filter(|service| belongs_to(*service, registry));
    let spec = own.and_then(|service| service.spec.as_ref());
    let addresses = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
    let addresses = addresses.iter().filter(|address| *address != "None");
    addresses
        .map(|address| {
            let brackets = if address.contains(':') { ("[", "]") } else { ("", "") };
            format!("{scheme}://{}{address}{}:{PORT}", brackets.0, brackets.1)
        })
        .collect()
}

/// Whom clients of `registry` are to trust; `None` if the authorities that nodes have must do.
fn authorities(registry: &Registry, parts: &Parts) -> Option<String> {
    let tls = &registry.spec.tls;
    let secret = parts.certificate.as_ref()?;
    if tls.disabled.is_some() || (tls.secret_ref.is_none() && !belongs_to(secret, registry)) {
        return None;
    }
    let bundle = secret.data.as_ref()?.get("ca.crt")?;
    String::from_utf8(bundle.0.clone()).ok().filter(|bundle| !bundle.trim().is_empty())
}

fn belongs_to(object: &impl Resource, registry: &Registry) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == registry.metadata.uid.as_ref())
}
