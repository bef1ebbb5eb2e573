//! Second step: who is advertised, and what is in the way of the others. Pure.

use kube::ResourceExt;
use kube::api::DynamicObject;

use super::Found;
use super::build::Hosting;
use crate::api::registry::{NodeAccessMode, Registry, ServiceType};
use crate::api::status::Reason;
use crate::names::{
    ADVERTISED_NAMESPACE_LABEL, ADVERTISED_REGISTRY_LABEL, ADVERTISING_CONFIG_MAP, ADVERTISING_NAMESPACE,
    APPLIED_ANNOTATION,
};
use crate::registries::{Registries, age, name_of};
use crate::registry::validate::server_config::PORT;

/// What keeps a Registry from being advertised. Each says what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant is its documentation")]
pub enum Problem {
    #[error("the operator may not advertise a Registry; set rbac.advertise=true in the values of its chart")]
    NotAllowed,
    #[error("its Service has not been made yet")]
    AddressPending,
    #[error(
        "ConfigMap {ADVERTISING_CONFIG_MAP} in namespace {ADVERTISING_NAMESPACE} tells of Registry {by}: there is place for one, \
         the oldest that asks; take spec.advertise out of one of the two"
    )]
    AnotherAdvertised { by: String },
    #[error(
        "ConfigMap {ADVERTISING_CONFIG_MAP} in namespace {ADVERTISING_NAMESPACE} tells of Registry {by}, whose namespace this \
         operator does not look after; delete the ConfigMap if no other operator does"
    )]
    OutOfReach { by: String },
    #[error(
        "ConfigMap {ADVERTISING_CONFIG_MAP} in namespace {ADVERTISING_NAMESPACE} exists and was not made by the operator; \
         delete it if what it tells of is not the registry of this cluster"
    )]
    NameTaken,
    #[error(
        "the API server refuses ConfigMap {ADVERTISING_CONFIG_MAP} in namespace {ADVERTISING_NAMESPACE}: {message}; the right is \
         granted by rbac.advertise=true in the values of the operator's chart"
    )]
    Rejected { message: String },
}

impl Problem {
    /// The word for it in conditions and Events.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotAllowed => Reason::AdvertisingDisabled,
            Self::AddressPending => Reason::AddressPending,
            Self::AnotherAdvertised { .. } | Self::OutOfReach { .. } => Reason::AnotherAdvertised,
            Self::NameTaken => Reason::NameTaken,
            Self::Rejected { .. } => Reason::Rejected,
        }
    }
}

/// What is to become of the one place that there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place<'a> {
    /// It stays as it is.
    LeftAlone,
    /// It is empty.
    Free,
    /// It is this Registry's.
    Of(&'a Registry, Hosting),
}

/// Who is advertised.
#[derive(Clone, Debug)]
pub struct Valid<'a> {
    /// What is to become of the place.
    pub place: Place<'a>,
    /// What is told to those that ask: one of them is advertised at most.
    pub verdicts: Vec<(&'a Registry, Result<(), Problem>)>,
}

impl Valid<'_> {
    /// Says that `problem` is in the way of the one that should be advertised.
    pub fn refuse(&mut self, problem: &Problem) {
        for (_, verdict) in self.verdicts.iter_mut().filter(|(_, verdict)| verdict.is_ok()) {
            *verdict = Err(problem.clone());
        }
    }
}

/// Decides who is advertised; the operator looks after the `watched` namespaces, or all if there are none, and has agents
/// on the nodes or not.
#[must_use]
pub fn validate<'a>(
    registries: &Registries<'a>,
    found: &Found,
    watched: &[String],
    has_agents: bool,
) -> Valid<'a> {
    let readable = registries.readable.iter().copied();
    let mut asking: Vec<&Registry> =
        readable.filter(|registry| registry.spec.advertise && !registry.spec.paused).collect();
    asking.sort_by_key(|registry| age(registry));
    let in_the_way = match &found.config_map {
        _ if !found.is_allowed => Some(Problem::NotAllowed),
        Some(config_map) => in_the_way(config_map, registries, watched),
        None => None,
    };
    if let Some(problem) = in_the_way {
        let verdicts = asking.into_iter().map(|registry| (registry, Err(problem.clone())));
        return Valid { place: Place::LeftAlone, verdicts: verdicts.collect() };
    }
    let mut place = Place::Free;
    let mut verdicts = Vec::new();
    for registry in asking {
        let verdict = match (&place, hosting(registry, has_agents)) {
            (Place::Of(winner, _), _) => Err(Problem::AnotherAdvertised { by: name_of(winner) }),
            (_, Some(hosting)) => {
                place = Place::Of(registry, hosting);
                Ok(())
            }
            (_, None) => Err(Problem::AddressPending),
        };
        verdicts.push((registry, verdict));
    }
    Valid { place, verdicts }
}

/// Why what is in the place has to stay there.
fn in_the_way(
    config_map: &DynamicObject,
    registries: &Registries<'_>,
    watched: &[String],
) -> Option<Problem> {
    let label = |label: &str| config_map.labels().get(label);
    let (Some(namespace), Some(name)) = (label(ADVERTISED_NAMESPACE_LABEL), label(ADVERTISED_REGISTRY_LABEL))
    else {
        let is_ours = config_map.annotations().contains_key(APPLIED_ANNOTATION);
        return (!is_ours).then_some(Problem::NameTaken);
    };
    let by = format!("{namespace}/{name}");
    if !watched.is_empty() && !watched.contains(namespace) {
        return Some(Problem::OutOfReach { by });
    }
    let is_paused =
        |registry: &&Registry| registry.spec.paused && registry.spec.advertise && name_of(registry) == by;
    let stays = registries.unreadable.contains(&by) || registries.readable.iter().any(is_paused);
    stays.then_some(Problem::AnotherAdvertised { by })
}

/// Where `registry` is found; `None` until its Service has been made, which nothing but its own reconcile does.
fn hosting(registry: &Registry, has_agents: bool) -> Option<Hosting> {
    let url = registry.status.as_ref()?.url.as_deref()?;
    let address = url.split_once("://").map_or(url, |(_, address)| address).to_owned();
    let is_told_to_nodes = has_agents && registry.spec.node_access.mode == NodeAccessMode::HostsFile;
    Some(Hosting {
        host: host(registry),
        host_from_container_runtime: is_told_to_nodes.then(|| address.clone()),
        host_from_cluster_network: address,
    })
}

/// The first of `spec.hostnames`, with the port under which it leads to the registry from outside the cluster. In front of
/// a Service that has no port there, it can only be the name of a proxy.
fn host(registry: &Registry) -> Option<String> {
    let name = registry.spec.hostnames.first()?;
    let service = &registry.spec.service;
    match service.type_ {
        ServiceType::ClusterIP => Some(name.clone()),
        ServiceType::NodePort => service.node_port.map(|port| format!("{name}:{port}")),
        ServiceType::LoadBalancer => Some(format!("{name}:{PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Found;
    use super::super::build::{Hosting, build};
    use super::{Place, Valid, validate};
    use crate::api::registry::Registry;
    use crate::registries::{Registries, name_of};
    use serde_json::{Value, json};

    /// A Registry that asks, made in this second.
    fn registry(name: &str, second: u8, fields: &Value) -> Registry {
        let mut spec = json!({"storage": {"filesystem": {"size": "1Gi"}}, "advertise": true});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let created = format!("2026-01-01T00:00:{second:02}Z");
        let metadata = json!({"name": name, "namespace": "n", "uid": name, "creationTimestamp": created});
        let url = format!("https://{name}.n.svc:5000");
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
            "metadata": metadata, "spec": spec, "status": {"url": url}}))
        .unwrap()
    }

    fn found(metadata: Option<&Value>) -> Found {
        let config_map = |metadata| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        Found {
            config_map: metadata.map(|metadata| serde_json::from_value(config_map(metadata)).unwrap()),
            is_allowed: true,
        }
    }

    fn labels(namespace: &str, name: &str) -> Value {
        json!({"labels": {"windlass.dev/advertised-registry": name,
            "windlass.dev/advertised-registry-namespace": namespace}})
    }

    fn known(registries: &[Registry]) -> Registries<'_> {
        Registries { readable: registries.iter().collect(), ..Registries::default() }
    }

    /// Who is advertised, and why the others are not.
    fn outcome(valid: &Valid<'_>) -> (String, Vec<String>) {
        let place = match &valid.place {
            Place::LeftAlone => "left alone".to_owned(),
            Place::Free => "free".to_owned(),
            Place::Of(registry, _) => name_of(registry),
        };
        let told = valid.verdicts.iter().map(|(registry, verdict)| {
            let reason =
                verdict.as_ref().map_or_else(|problem| problem.reason().to_string(), |()| "yes".into());
            format!("{} {reason}", name_of(registry))
        });
        (place, told.collect())
    }

    #[test]
    fn the_oldest_that_asks_is_advertised() {
        let silent = json!({"advertise": false});
        let paused = json!({"paused": true});
        let mut unmade = registry("unmade", 0, &json!({}));
        unmade.status = None;
        let young = || registry("young", 9, &json!({}));
        for (registries, place, told) in [
            (vec![], "free", vec![]),
            (vec![registry("hub", 1, &silent)], "free", vec![]),
            (vec![registry("hub", 1, &paused)], "free", vec![]),
            (vec![young()], "n/young", vec!["n/young yes"]),
            (
                vec![young(), registry("old", 1, &json!({}))],
                "n/old",
                vec!["n/old yes", "n/young AnotherAdvertised"],
            ),
            (
                vec![young(), registry("a", 9, &json!({}))],
                "n/a",
                vec!["n/a yes", "n/young AnotherAdvertised"],
            ),
            (vec![registry("old", 1, &silent), young()], "n/young", vec!["n/young yes"]),
            (vec![registry("old", 1, &paused), young()], "n/young", vec!["n/young yes"]),
            (vec![young(), unmade.clone()], "n/young", vec!["n/unmade AddressPending", "n/young yes"]),
            (vec![unmade], "free", vec!["n/unmade AddressPending"]),
        ] {
            // Whoever had the place before has no claim to it.
            for had in [None, Some(labels("n", "young")), Some(labels("n", "gone"))] {
                let found = found(had.as_ref());
                let (found_place, found_told) = outcome(&validate(&known(&registries), &found, &[], true));
                assert_eq!(
                    (found_place.as_str(), found_told),
                    (place, told.iter().map(|&one| one.to_owned()).collect())
                );
            }
        }
    }

    #[test]
    fn what_is_not_ours_to_decide_on_stays() {
        let paused = registry("paused", 5, &json!({"paused": true}));
        let registries = [registry("hub", 1, &json!({})), paused];
        let mut known = known(&registries);
        known.unreadable.insert("n/broken".to_owned());
        let stripped = json!({"annotations": {"windlass.dev/applied": "1"}});
        for (had, watched, place, told) in [
            (json!({}), &[][..], "left alone", "NameTaken"),
            (json!({"labels": {"app": "kind"}}), &[], "left alone", "NameTaken"),
            (stripped, &[], "n/hub", "yes"),
            (labels("n", "gone"), &[], "n/hub", "yes"),
            (labels("n", "paused"), &[], "left alone", "AnotherAdvertised"),
            (labels("n", "broken"), &[], "left alone", "AnotherAdvertised"),
            (labels("elsewhere", "gone"), &["n"], "left alone", "AnotherAdvertised"),
            (labels("elsewhere", "gone"), &[], "n/hub", "yes"),
        ] {
            let watched: Vec<String> = watched.iter().map(|&name: &&str| name.to_owned()).collect();
            let found = outcome(&validate(&known, &found(Some(&had)), &watched, true));
            assert_eq!(found, (place.to_owned(), vec![format!("n/hub {told}")]), "{had}");
        }
        let denied = Found { is_allowed: false, ..found(None) };
        let found = outcome(&validate(&known, &denied, &[], true));
        assert_eq!(found, ("left alone".to_owned(), vec!["n/hub AdvertisingDisabled".to_owned()]));
    }

    #[test]
    fn a_registry_has_the_hosts_by_which_it_can_be_reached() {
        let hosting = |host: Option<&str>, runtime: Option<&str>| Hosting {
            host: host.map(str::to_owned),
            host_from_container_runtime: runtime.map(str::to_owned),
            host_from_cluster_network: "hub.n.svc:5000".to_owned(),
        };
        let nodes = json!({"nodeAccess": {"mode": "HostsFile"}});
        let service = |type_: &str, port: Option<u16>| json!({"hostnames": ["a.example", "b.example"], "service": {"type": type_, "nodePort": port}});
        for (fields, has_agents, expected) in [
            (json!({}), true, hosting(None, None)),
            (nodes.clone(), true, hosting(None, Some("hub.n.svc:5000"))),
            (nodes, false, hosting(None, None)),
            (service("ClusterIP", None), true, hosting(Some("a.example"), None)),
            (service("LoadBalancer", Some(30500)), true, hosting(Some("a.example:5000"), None)),
            (service("NodePort", Some(30500)), true, hosting(Some("a.example:30500"), None)),
            (service("NodePort", None), true, hosting(None, None)),
            (json!({"service": {"type": "LoadBalancer"}}), true, hosting(None, None)),
        ] {
            let registries = [registry("hub", 1, &fields)];
            let valid = validate(&known(&registries), &found(None), &[], has_agents);
            assert_eq!(valid.place, Place::Of(&registries[0], expected), "{fields}");
        }
    }

    #[test]
    fn the_document_is_that_of_the_kep() {
        let hosting = Hosting {
            host: Some("a.example".to_owned()),
            host_from_container_runtime: None,
            host_from_cluster_network: "hub.n.svc:5000".to_owned(),
        };
        let object = build(&registry("hub", 1, &json!({})), &hosting).object;
        let text = object["data"]["localRegistryHosting.v1"].as_str().unwrap();
        let (hosts, help) = text.split_once("help: https://").unwrap();
        assert_eq!(hosts, "host: a.example\nhostFromClusterNetwork: hub.n.svc:5000\n");
        assert!(help.contains("/docs/node-access.md#"), "{help}");
        assert_eq!(object["metadata"]["namespace"], "kube-public");
        assert_eq!(object["metadata"]["labels"]["windlass.dev/advertised-registry-namespace"], "n");
    }
}
