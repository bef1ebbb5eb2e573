//! Every name, label and annotation that the operator writes into the cluster, and nothing else.
//!
//! No label of a `Registry` is copied to its children: tools such as Argo CD track ownership by labels
//! and would take a copied one for their own.

use std::collections::BTreeMap;

use crate::fingerprint::fingerprint;

/// Field manager of every server-side apply, on children and on status.
pub const FIELD_MANAGER: &str = "windlass";

/// Field manager of what a garbage collection has counted in a Registry, which is written apart from the rest.
pub const COUNTING_FIELD_MANAGER: &str = "windlass-garbage-collection";

/// Field manager of what is told of nodes in a Registry, which is written apart from the rest as well.
pub const NODE_ACCESS_FIELD_MANAGER: &str = "windlass-node-access";

/// Field manager of what the agent of a node reports.
pub const NODE_AGENT_FIELD_MANAGER: &str = "windlass-node-agent";

/// The agents of the nodes: their `DaemonSet`, `ServiceAccount` and Role, all in the operator's own namespace.
pub const NODE_AGENT: &str = "windlass-node-agent";

/// `ConfigMap` beside the agents with what nodes are to know.
pub const NODE_ACCESS_PLAN: &str = "windlass-node-access";

/// Key of [`NODE_ACCESS_PLAN`] under which the plan stands as JSON.
pub const NODE_ACCESS_PLAN_KEY: &str = "plan.json";

/// Field manager of what is told of pull secrets in a Registry, which is written apart from the rest.
pub const PULL_ACCESS_FIELD_MANAGER: &str = "windlass-pull-access";

/// Namespace that everybody may read, in which tools look for the registry of the cluster.
pub const ADVERTISING_NAMESPACE: &str = "kube-public";

/// `ConfigMap` there, by KEP-1755.
pub const ADVERTISING_CONFIG_MAP: &str = "local-registry-hosting";

/// Its key.
pub const ADVERTISING_KEY: &str = "localRegistryHosting.v1";

/// Field manager of what is told of advertising in a Registry, which is written apart from the rest.
pub const ADVERTISING_FIELD_MANAGER: &str = "windlass-advertise";

/// Value of [`NAME_LABEL`] on what advertises a Registry.
pub const ADVERTISING: &str = "windlass-advertise";

/// Label that ties what advertises a Registry to the one of this name, across namespaces.
pub const ADVERTISED_REGISTRY_LABEL: &str = "windlass.dev/advertised-registry";

/// Label with the namespace of that Registry.
pub const ADVERTISED_NAMESPACE_LABEL: &str = "windlass.dev/advertised-registry-namespace";

/// Name under which Events are reported.
pub const REPORTER: &str = "windlass-operator";

/// Label that ties a child to its Registry of this name in the same namespace.
pub const REGISTRY_LABEL: &str = "windlass.dev/registry";

/// Label that says which program manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`] on every child.
pub const MANAGED_BY: &str = "windlass";

/// Label that says what an object is part of, the same for all Registries.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

/// Value of [`NAME_LABEL`] on every child.
pub const NAME: &str = "windlass-registry";

/// Value of [`NAME_LABEL`] on all that belongs to a run of the garbage collection. Its Pods must not be those that a
/// Registry's Service selects.
pub const GARBAGE_COLLECTION: &str = "windlass-garbage-collection";

/// Label that ties all that belongs to a run of the garbage collection to the Registry that is collected. It is not
/// [`REGISTRY_LABEL`]: a run is no child of the Registry.
pub const COLLECTED_LABEL: &str = "windlass.dev/collected-registry";

/// Value of [`NAME_LABEL`] on all that gives other namespaces pull access.
pub const PULL_ACCESS: &str = "windlass-pull-access";

/// Label that ties what gives pull access to the Registry of this name, across namespaces. It is not [`REGISTRY_LABEL`]:
/// it is no child that the Registry's own reconcile looks after.
pub const PULL_REGISTRY_LABEL: &str = "windlass.dev/pull-registry";

/// Label with the namespace of that Registry.
pub const PULL_NAMESPACE_LABEL: &str = "windlass.dev/pull-registry-namespace";

/// Annotation of a server's Pod with the hash of the pull secrets that it should know: its change makes the kubelet
/// bring the mounted file up to date at once.
pub const PULL_CREDENTIALS_ANNOTATION: &str = "windlass.dev/pull-credentials";

/// Annotation of a `ServiceAccount` with the pull secrets that the operator has added to its list, separated by commas:
/// what is not named here belongs to others, whatever it is called.
pub const ATTACHED_ANNOTATION: &str = "windlass.dev/attached-pull-secrets";

/// Label that ties all that belongs to a run of the garbage collection to its policy.
pub const POLICY_LABEL: &str = "windlass.dev/garbage-collection-policy";

/// Annotation of a policy that asks for a run now: each new value gives one.
pub const REQUEST_ANNOTATION: &str = "windlass.dev/run-requested-at";

/// Annotation of a Job with the time at which it was to begin.
pub const SCHEDULED_ANNOTATION: &str = "windlass.dev/scheduled-at";

/// Label that Kubernetes puts on the Pods of a Job.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// Label with the name of a node.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// Annotation with the hash of what was last applied, so that a field which is no longer wanted is noticed.
pub const APPLIED_ANNOTATION: &str = "windlass.dev/applied";

/// Pod annotation with the hash of config.yml: the only change of a mounted file that restarts the server.
pub const CONFIG_ANNOTATION: &str = "windlass.dev/config";

/// Label that Kubernetes puts on the `EndpointSlice`s of a Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Annotation that marks the cluster's default `StorageClass`.
pub const DEFAULT_CLASS_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";

/// Name of the container that runs the server.
pub const CONTAINER: &str = "registry";

/// Name of the one Service port.
pub const PORT: &str = "registry";

/// Name of the volume with the token by which the server asks the API server.
pub const API_VOLUME: &str = "kube-api-access";

/// Labels of every child of the Registry `registry`.
#[must_use]
pub fn labels(registry: &str) -> BTreeMap<String, String> {
    let mut labels = selector(registry);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// Labels by which a Service and a Deployment select the Pods of a Registry. They can never change:
/// a Deployment's selector is immutable.
#[must_use]
pub fn selector(registry: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME_LABEL.to_owned(), NAME.to_owned()),
        (REGISTRY_LABEL.to_owned(), registry.to_owned()),
    ])
}

/// [`selector`] as the text of a label query, for `status.selector` and list calls.
#[must_use]
pub fn selector_text(registry: &str) -> String {
    let pairs: Vec<String> =
        selector(registry).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Labels by which the `DaemonSet` of the agents selects their Pods. They can never change.
#[must_use]
pub fn node_agent_selector() -> BTreeMap<String, String> {
    BTreeMap::from([(NAME_LABEL.to_owned(), NODE_AGENT.to_owned())])
}

/// Labels of all that is kept for the nodes.
#[must_use]
pub fn node_agent_labels() -> BTreeMap<String, String> {
    let mut labels = node_agent_selector();
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// Label with the operating system of a node.
pub const OS_LABEL: &str = "kubernetes.io/os";

/// `ConfigMap` with config.yml.
#[must_use]
pub fn config_map(registry: &str) -> String {
    format!("{registry}-config")
}

/// Name of the `RoleBinding` by which the servers of `registry` may ask for access reviews.
#[must_use]
pub fn access_review_binding(registry: &str) -> String {
    format!("{registry}-access-review")
}

/// Secret with the serving certificate, its key and the CA bundle; mounted into the server.
#[must_use]
pub fn tls_secret(registry: &str) -> String {
    format!("{registry}-tls")
}

/// Secret with the key of the Registry's own certificate authority; never mounted into a Pod.
#[must_use]
pub fn authority_secret(registry: &str) -> String {
    format!("{registry}-ca")
}

/// Secret with what the passwords of pull secrets are made from; never mounted into a Pod.
#[must_use]
pub fn pull_seeds(registry: &str) -> String {
    format!("{registry}-pull-seeds")
}

/// Secret with the file by which the server knows pull secrets; mounted into it.
#[must_use]
pub fn pull_credentials(registry: &str) -> String {
    format!("{registry}-pull-credentials")
}

/// Pull secret in any namespace, for the Registry `registry` of `namespace`; at most 132 characters.
#[must_use]
pub fn pull_secret(registry: &str, namespace: &str) -> String {
    format!("{registry}.{namespace}.pull")
}

/// Name and namespace of the Registry whose [`pull_secret()`] this is the name of. Neither has dots.
#[must_use]
pub fn registry_of_pull_secret(name: &str) -> Option<(&str, &str)> {
    name.strip_suffix(".pull")?.split_once('.')
}

/// `MutatingAdmissionPolicy` and its binding that add [`pull_secret()`] to Pods.
#[must_use]
pub fn pull_policy(registry: &str, namespace: &str) -> String {
    format!("{registry}.{namespace}.pull.windlass.dev")
}

/// Labels of all that gives pull access to the Registry `registry` of `namespace`.
#[must_use]
pub fn pull_labels(registry: &str, namespace: &str) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, PULL_ACCESS),
        (MANAGED_BY_LABEL, MANAGED_BY),
        (PULL_REGISTRY_LABEL, registry),
        (PULL_NAMESPACE_LABEL, namespace),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into()
}

/// Labels of what advertises the Registry `registry` of `namespace`.
#[must_use]
pub fn advertising_labels(registry: &str, namespace: &str) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, ADVERTISING),
        (MANAGED_BY_LABEL, MANAGED_BY),
        (ADVERTISED_REGISTRY_LABEL, registry),
        (ADVERTISED_NAMESPACE_LABEL, namespace),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into()
}

/// Claim with the registry's data, unless `existingClaim` names another.
#[must_use]
pub fn claim(registry: &str) -> String {
    format!("{registry}-data")
}

/// Labels of all that belongs to a run of the `policy` over `registry`.
#[must_use]
pub fn garbage_collection_labels(policy: &str, registry: &str) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, GARBAGE_COLLECTION),
        (MANAGED_BY_LABEL, MANAGED_BY),
        (COLLECTED_LABEL, registry),
        (POLICY_LABEL, policy),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into()
}

/// Job of the run of `policy` over `registry` that was to begin at `time`, and its `ConfigMap`. The same run has the same
/// name whoever begins it, so that it cannot be begun twice; at most 54 characters.
#[must_use]
pub fn garbage_collection_job(registry: &str, policy: &str, time: &str) -> String {
    let registry_part: String = registry.chars().take(40).collect();
    let hash: String = fingerprint(&format!("{policy}/{registry}/{time}")).chars().take(10).collect();
    format!("{}-gc-{hash}", registry_part.trim_end_matches('-'))
}

/// Names under which clients know `registry`: those of its Service, shortest first, and its `hostnames`.
#[must_use]
pub fn hosts(registry: &str, namespace: &str, cluster_domain: &str, hostnames: &[String]) -> Vec<String> {
    let service = [
        registry.to_owned(),
        format!("{registry}.{namespace}"),
        service_host(registry, namespace),
        format!("{registry}.{namespace}.svc.{cluster_domain}"),
    ];
    [&service, hostnames].concat()
}

/// The name by which images are referred to: `name.namespace.svc`.
#[must_use]
pub fn service_host(registry: &str, namespace: &str) -> String {
    format!("{registry}.{namespace}.svc")
}

#[cfg(test)]
mod tests {
    use super::{
        garbage_collection_job, garbage_collection_labels, hosts, labels, pull_policy, pull_secret,
        registry_of_pull_secret, selector, selector_text,
    };

    #[test]
    fn the_selector_is_part_of_the_labels() {
        let labels = labels("hub");
        for (key, value) in selector("hub") {
            assert_eq!(labels.get(&key), Some(&value));
        }
    }

    #[test]
    fn the_instance_label_is_left_to_deployment_tools() {
        assert!(!labels("hub").contains_key("app.kubernetes.io/instance"));
    }

    #[test]
    fn a_run_has_one_name_which_fits() {
        let long = "r".repeat(63);
        let name = garbage_collection_job(&long, &long, "2026-01-01T00:00:00Z");
        assert_eq!(name.len(), 54);
        assert_eq!(name, garbage_collection_job(&long, &long, "2026-01-01T00:00:00Z"));
        for other in [
            garbage_collection_job(&long[1..], &long, "2026-01-01T00:00:00Z"),
            garbage_collection_job(&long, "p", "2026-01-01T00:00:00Z"),
            garbage_collection_job(&long, &long, "2026-01-01T00:01:00Z"),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn the_pods_of_a_run_are_not_those_of_the_service() {
        let labels = garbage_collection_labels("nightly", "hub");
        assert!(selector("hub").iter().any(|(label, value)| labels.get(label) != Some(value)));
    }

    #[test]
    fn a_pull_secret_says_whose_it_is_and_fits() {
        let long = "r".repeat(63);
        assert_eq!(registry_of_pull_secret(&pull_secret(&long, "team-a")), Some((long.as_str(), "team-a")));
        assert_eq!(registry_of_pull_secret("mine"), None);
        assert!(pull_policy(&long, &long).len() <= 253);
    }

    #[test]
    fn the_selector_text_is_a_label_query() {
        assert_eq!(
            selector_text("hub"),
            "app.kubernetes.io/name=windlass-registry,windlass.dev/registry=hub"
        );
    }

    #[test]
    fn a_registry_is_known_by_all_four_cluster_names_and_those_that_it_is_given() {
        assert_eq!(
            hosts("hub", "team-a", "cluster.local", &["images.example".to_owned()]),
            ["hub", "hub.team-a", "hub.team-a.svc", "hub.team-a.svc.cluster.local", "images.example"]
        );
    }
}
