//! Which of the images that workloads use are a registry's, and so are kept whatever the rules say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use registry_server::config::{ProtectedImage, Protection};
use registry_server::types::{Digest, RepositoryName, Tag};

use super::dereference::Collected;
use super::workloads::Workloads;
use crate::api::garbage_collection_policy::Protect;
use crate::names;
use crate::registry::validate::server_config::PORT;

/// The names by which images of one registry begin.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hosts {
    /// With the port, if it is given.
    names: BTreeSet<String>,
    /// Port under which every node, by whatever name, leads to the registry.
    node_port: Option<i32>,
}

impl Hosts {
    /// All names of the registry: those of its Service, those that it is given, those of the Ingresses that lead there,
    /// and those that the policy adds.
    #[must_use]
    pub fn of(collected: &Collected, cluster_domain: &str, protect: &Protect, workloads: &Workloads) -> Self {
        let registry = &collected.registry;
        let (name, namespace) = (registry.name_any(), registry.namespace().unwrap_or_default());
        let mut hosts = names::hosts(&name, &namespace, cluster_domain, &registry.spec.hostnames);
        hosts.extend(collected.service.as_ref().map(addresses).unwrap_or_default());
        let leads_here =
            |(_, from, service): &&(String, String, String)| *from == namespace && *service == name;
        hosts.extend(workloads.ingresses.iter().filter(leads_here).map(|(host, ..)| host.clone()));
        let with_ports = |host: &String| {
            [host.clone(), format!("{host}:{PORT}"), format!("{host}:443"), format!("{host}:80")]
        };
        let mut names: BTreeSet<String> = hosts.iter().flat_map(with_ports).collect();
        // Without a dot or a port, it is part of a name on Docker Hub.
        names.retain(|host| host.contains(['.', ':']));
        names.extend(protect.hosts.iter().map(|host| host.to_lowercase()));
        let ports = collected.service.as_ref().and_then(|service| service.spec.as_ref()?.ports.as_ref());
        let node_port = ports.and_then(|ports| ports.iter().find_map(|port| port.node_port));
        Self { names, node_port }
    }

    /// The image without its host, in the form that the server reads, if it is one of this registry.
    fn strip(&self, image: &str) -> Option<String> {
        let image = image.split_once("://").map_or(image, |(_, image)| image);
        let (host, rest) = image.split_once('/')?;
        let host = host.to_lowercase();
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let is_ours = self.names.contains(&host) || (port.is_some() && port == self.node_port);
        (is_ours && is_readable(rest)).then(|| rest.to_owned())
    }
}

/// The addresses of a Service inside the cluster and at its load balancer.
fn addresses(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let inside = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    let outside = spec.and_then(|spec| spec.external_ips.clone()).unwrap_or_default();
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let balancer =
        balancer.into_iter().flatten().flat_map(|entry| [entry.ip.clone(), entry.hostname.clone()]);
    let bracketed = |address: String| {
        let is_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
        if is_v6 { format!("[{address}]") } else { address }
    };
    inside.into_iter().chain(outside).chain(balancer.flatten()).map(bracketed).collect()
}

/// Whether `image` is a name that a registry can have: users may write anything into a Pod, and the server refuses a file
/// with a name that it cannot read.
fn is_readable(image: &str) -> bool {
    let (image, digest) =
        image.split_once('@').map_or((image, None), |(image, digest)| (image, Some(digest)));
    let (name, tag) = image.split_once(':').map_or((image, None), |(name, tag)| (name, Some(tag)));
    name.parse::<RepositoryName>().is_ok()
        && tag.is_none_or(|tag| tag.parse::<Tag>().is_ok())
        && digest.is_none_or(|digest| digest.parse::<Digest>().is_ok())
}

/// What a run over the registry with these `hosts` must keep.
#[must_use]
pub fn protection(protect: &Protect, workloads: &Workloads, hosts: &Hosts) -> Protection {
    let mut images = BTreeMap::new();
    for (image, by) in &workloads.images {
        if let Some(image) = hosts.strip(image) {
            images.entry(image).or_insert_with(|| by.clone());
        }
    }
    Protection {
        complete: workloads.failures.is_empty(),
        images: images.into_iter().map(|(image, by)| ProtectedImage { image, by }).collect(),
        tags: protect.tags.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Hosts, protection};
    use crate::api::garbage_collection_policy::Protect;
    use crate::garbage_collection_policy::dereference::Collected;
    use crate::garbage_collection_policy::workloads::Workloads;
    use serde_json::json;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn collected() -> Collected {
        let registry = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "hub", "namespace": "team-a"},
            "spec": {"storage": {"filesystem": {"size": "1Gi"}}, "hostnames": ["known.example", "images"]}});
        let service = json!({"spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
                "ports": [{"port": 5000, "nodePort": 30500}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}});
        Collected {
            registry: serde_json::from_value(registry).unwrap(),
            deployment: None,
            claim: None,
            service: Some(serde_json::from_value(service).unwrap()),
            taken_by: None,
        }
    }

    fn protect() -> Protect {
        Protect { hosts: vec!["Images.Example:8443".to_owned()], ..Protect::default() }
    }

    fn using(images: &[&str]) -> Workloads {
        let images = images.iter().map(|image| ((*image).to_owned(), "Pod n/p".to_owned())).collect();
        let route = |host: &str, namespace: &str, service: &str| {
            (host.to_owned(), namespace.to_owned(), service.to_owned())
        };
        Workloads {
            images,
            ingresses: vec![
                route("ingress.example", "team-a", "hub"),
                route("other.example", "team-a", "web"),
                route("foreign.example", "team-b", "hub"),
            ],
            failures: Vec::new(),
        }
    }

    fn kept(image: &str) -> Option<String> {
        let workloads = using(&[image]);
        let hosts = Hosts::of(&collected(), "cluster.local", &protect(), &workloads);
        protection(&protect(), &workloads, &hosts).images.pop().map(|image| image.image)
    }

    #[test]
    fn an_image_is_known_by_every_name_of_the_registry() {
        for host in [
            "hub:5000",
            "hub.team-a",
            "hub.team-a:5000",
            "hub.team-a.svc",
            "hub.team-a.svc:5000",
            "hub.team-a.svc.cluster.local:5000",
            "10.96.0.7:5000",
            "[fd00::7]:5000",
            "lb.example",
            "lb.example:443",
            "known.example",
            "known.example:5000",
            "Known.Example:443",
            "images:5000",
            "ingress.example",
            "images.example:8443",
            "localhost:30500",
            "node-1:30500",
            "HUB.team-a.svc:5000",
        ] {
            assert_eq!(kept(&format!("{host}/team/app:v1")).as_deref(), Some("team/app:v1"), "{host}");
        }
    }

    #[test]
    fn an_image_of_elsewhere_is_not_kept() {
        for image in [
            "nginx",
            "hub/app",
            "images/app",
            "known.example:5001/app",
            "not.known.example/app",
            "docker.io/library/nginx:1",
            "hub.team-b.svc:5000/app",
            "hub.team-a.svc:5001/app",
            "other.example/app",
            "foreign.example/app",
            "images.example/app",
            "",
        ] {
            assert_eq!(kept(image), None, "{image}");
        }
    }

    #[test]
    fn tag_and_digest_are_handed_on() {
        for (image, expected) in [
            ("app".to_owned(), "app".to_owned()),
            ("a/b/c:v1".to_owned(), "a/b/c:v1".to_owned()),
            (format!("app@{DIGEST}"), format!("app@{DIGEST}")),
            (format!("app:v1@{DIGEST}"), format!("app:v1@{DIGEST}")),
        ] {
            assert_eq!(kept(&format!("hub.team-a.svc:5000/{image}")), Some(expected));
        }
        let pulled = kept(&format!("docker-pullable://hub.team-a.svc:5000/app@{DIGEST}"));
        assert_eq!(pulled, Some(format!("app@{DIGEST}")));
    }

    #[test]
    fn what_no_registry_could_have_does_not_reach_the_server() {
        for image in ["App", "app:", "app:${TAG}", "app@sha256:12", "a//b", ""] {
            assert_eq!(kept(&format!("hub.team-a.svc:5000/{image}")), None, "{image}");
        }
    }

    #[test]
    fn one_image_under_two_names_is_handed_over_once_and_a_failure_is_told() {
        let mut workloads = using(&["hub.team-a.svc:5000/app:v1", "hub.team-a:5000/app:v1"]);
        let hosts = Hosts::of(&collected(), "cluster.local", &protect(), &workloads);
        let found = protection(&protect(), &workloads, &hosts);
        assert_eq!((found.images.len(), found.complete), (1, true));
        workloads.failures.push("pods: forbidden".to_owned());
        assert!(!protection(&protect(), &workloads, &hosts).complete);
    }
}
