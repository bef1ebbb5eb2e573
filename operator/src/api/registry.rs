//! The `Registry` resource: what a user may ask for.
//!
//! Every rule that the API server can check is a CEL rule beside its field, with a message that says what to do.
//! A field that does nothing yet is left out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::{CustomResource, KubeSchema};
use registry_server::config::AccessRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pull_access::PullAccess;
use super::shared::{Fragment, HtpasswdReference, Resources, SecretReference, fragment};
use super::status::RegistryStatus;

/// An OCI registry of this namespace: a server, its volume, its certificate and its Service.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "windlass.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    shortname = "reg",
    category = "oci",
    namespaced,
    status = "RegistryStatus",
    derive = "PartialEq",
    doc = "An OCI registry: a server, its volume, its certificate and its Service.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.storage.used"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(
        name = "Cert expires",
        type_ = "string",
        json_path = ".status.certificate.notAfter",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new(
        "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    )
    .message("the name becomes a Service: use at most 63 lower-case letters, digits and '-', starting with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.replicas) || self.replicas <= 1 || has(self.storage.filesystem.existingClaim) || \
         (has(self.storage.filesystem.accessModes) && 'ReadWriteMany' in self.storage.filesystem.accessModes)"
    )
    .message("more than one replica needs a volume with access mode ReadWriteMany; use one replica otherwise")
    .field_path(".replicas"),
    validation = Rule::new("!has(self.pullAccess) || has(self.auth)")
        .message("pullAccess needs auth: without, everybody pulls and no secret is needed; set auth or leave pullAccess out")
        .field_path(".pullAccess")
)]
pub struct RegistrySpec {
    /// Number of servers. More than one needs a volume that many nodes can write to (`ReadWriteMany`).
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 64))]
    pub replicas: i32,
    /// Image of the server. Default: the registry-server of the operator's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// Secrets with which the nodes pull `image`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretReference>,
    /// Leaves all children as they are until it is false again; the status is still kept up to date.
    #[serde(default)]
    pub paused: bool,
    /// Refuses pushes and deletes; pulls go on. A change restarts the server.
    #[serde(default)]
    pub read_only: bool,
    /// Where the images are kept.
    pub storage: Storage,
    /// Who proves to clients that this is the registry they meant. Default: `selfSigned`.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new(
            "[has(self.selfSigned), has(self.secretRef), has(self.disabled)].filter(set, set).size() == 1"
        )
        .message("set exactly one of selfSigned, secretRef and disabled")
    )]
    pub tls: Tls,
    /// Who may pull and push. Left out: everybody who can reach the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How the registry is reached.
    #[serde(default)]
    pub service: Service,
    /// Further host names under which clients know the registry, such as that of a load balancer or a proxy. The
    /// certificate of `tls.selfSigned` names them, and images that workloads refer to by them are kept by garbage
    /// collections. That they resolve is up to you.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(
            "self.all(host, host.matches(\
             '^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$'))"
        )
        .message(
            "hostnames are DNS names in lower case, such as registry.example.com: \
             without scheme, port, path or wildcard, and no addresses"
        )
    )]
    pub hostnames: Vec<String>,
    /// How the cluster's nodes find the registry, so that Pods run images from it.
    #[serde(default)]
    pub node_access: NodeAccessSettings,
    /// Pull secrets in the namespaces whose Pods are to run images of this registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_access: Option<PullAccess>,
    /// Makes this the registry of the cluster which development tools find by themselves (KEP-1755): it is told of in the
    /// `ConfigMap` `local-registry-hosting` of the namespace `kube-public`. There is place for one: of those that ask, the
    /// oldest. It takes `rbac.advertise` of the operator's chart.
    #[serde(default)]
    pub advertise: bool,
    /// CPU and memory of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must have to run the server.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the server tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Which nodes and neighbours the server prefers or avoids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How replicas are spread over nodes and zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the server's Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// Escape hatch: merged last into the server's config.yml. A wrong key or value stalls the Registry and is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fragment")]
    pub config: Option<Fragment>,
    /// Escape hatch: merged last into the objects that the operator makes; reported in `status.overridden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Overrides>,
}

/// Where the images are kept.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// A volume, with CNCF distribution's tree on it.
    #[x_kube(
        validation = Rule::new("has(self.size) != has(self.existingClaim)")
            .message("set either size, for a volume of its own, or existingClaim"),
        validation = Rule::new(
            "!has(self.existingClaim) || (!has(self.storageClassName) && !has(self.accessModes) && \
             self.deletionPolicy == 'Retain')"
        )
        .message("existingClaim excludes storageClassName, accessModes and deletionPolicy Delete: the claim is yours")
        .field_path(".existingClaim"),
        validation = Rule::new(
            "has(self.existingClaim) == has(oldSelf.existingClaim) && \
             (!has(self.existingClaim) || self.existingClaim == oldSelf.existingClaim)"
        )
        .message("the volume cannot be exchanged; create a new Registry that names the other claim")
        .field_path(".existingClaim"),
        validation = Rule::new(
            "has(self.storageClassName) == has(oldSelf.storageClassName) && \
             (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
        )
        .message("storageClassName cannot change; create a new Registry with the other class")
        .field_path(".storageClassName"),
        validation = Rule::new(
            "(has(self.accessModes) ? self.accessModes : ['ReadWriteOnce']) == \
             (has(oldSelf.accessModes) ? oldSelf.accessModes : ['ReadWriteOnce'])"
        )
        .message("accessModes cannot change; create a new Registry with other access modes")
        .field_path(".accessModes")
    )]
    pub filesystem: Filesystem,
}

/// A volume for the registry's data: one of its own (`size`), or one that exists (`existingClaim`).
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filesystem {
    /// Size of the volume, such as `20Gi`. It can grow, if the storage class allows it, but never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
            .message("size must be a quantity above zero, such as 20Gi"),
        validation = Rule::new(
            "!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0"
        )
        .message("a volume cannot shrink; set size to at least its present value")
    )]
    pub size: Option<String>,
    /// Storage class of the volume. Default: the cluster's default class. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
    /// Access modes of the volume. Default: `ReadWriteOnce`. Cannot change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub access_modes: Vec<AccessMode>,
    /// An existing claim of this namespace, used as it is and never changed or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub existing_claim: Option<String>,
    /// What happens to the volume when the Registry is deleted. `Retain` keeps it, and a new Registry of the same name
    /// takes it over.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// How many nodes or Pods may use a volume at once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AccessMode {
    /// One node.
    ReadWriteOnce,
    /// One Pod.
    ReadWriteOncePod,
    /// Many nodes.
    ReadWriteMany,
}

/// What becomes of a volume when its Registry is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// It is kept.
    #[default]
    Retain,
    /// It is deleted with its data.
    Delete,
}

/// Where the server's certificate comes from. Exactly one is set.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A certificate authority of the Registry's own, renewed by the operator. Clients find the CA in the key `ca.crt`
    /// of the Secret `<name>-tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
    /// A Secret of type `kubernetes.io/tls`; followed without a restart when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { self_signed: Some(SelfSigned {}), secret_ref: None, disabled: None }
    }
}

/// A certificate authority of the Registry's own. It has no settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SelfSigned {}

/// No TLS. It has no settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Disabled {}

impl RegistrySpec {
    /// Whether the server is to ask the API server who may do what.
    #[must_use]
    pub fn asks_for_reviews(&self) -> bool {
        let kubernetes = self.auth.as_ref().and_then(|auth| auth.kubernetes.as_ref());
        kubernetes.is_some_and(|kubernetes| kubernetes.subject_access_review)
    }
}

/// Who may pull and push.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.htpasswdSecretRef) || has(self.kubernetes)")
        .message("auth needs htpasswdSecretRef or kubernetes; leave auth out to let everybody pull and push"),
    validation = Rule::new(
        "!has(self.kubernetes) || self.kubernetes.subjectAccessReview || (has(self.rules) && self.rules.size() > 0)"
    )
        .message(
            "kubernetes needs rules or subjectAccessReview: without, all that runs in the cluster could delete everything"
        )
        .field_path(".rules")
)]
pub struct Auth {
    /// What clients without credentials may do.
    #[serde(default)]
    pub anonymous: Anonymous,
    /// Users and their bcrypt hashes, as written by `htpasswd -B` or `registry-server htpasswd`; followed without a
    /// restart when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd_secret_ref: Option<HtpasswdReference>,
    /// Tokens of `ServiceAccount`s are credentials, as a password with any user name. The registry verifies them by the
    /// cluster's public keys, which the operator brings it, and asks nobody who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAuth>,
    /// Who may do what in which repositories. Without any rule, every user may do everything; with one or more, or with
    /// `kubernetes.subjectAccessReview`, nothing is allowed but what a rule or `anonymous` grants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new(
            "self.all(rule, rule.subjects.all(subject, \
             subject.kind in ['User', 'Group', 'Claim'] ? has(subject.name) && !has(subject.namespace) : \
             subject.kind == 'ServiceAccount' || (!has(subject.name) && !has(subject.namespace))))"
        )
        .message(
            "a subject of kind User, Group or Claim needs a name and has no namespace; Authenticated and Anonymous have neither"
        ),
        validation = Rule::new(
            "self.all(rule, rule.subjects.all(subject, \
             subject.kind == 'Claim' ? has(subject.name) && subject.name.startsWith('/') && has(subject.value) : \
             !has(subject.value)))"
        )
        .message(
            "a subject of kind Claim needs a value and a name that is a JSON Pointer, such as /kubernetes.io/node/name; \
             the others have no value"
        )
    )]
    pub rules: Vec<AccessRule>,
}

/// Tokens of `ServiceAccount`s as credentials.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Whom tokens must be meant for. Default: `<name>.<namespace>.svc`. Those for the API server are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub audience: Option<String>,
    /// The rules of the cluster (RBAC) grant rights to `ServiceAccount`s as well, by the verbs `pull`, `push`, `delete` and
    /// `list` of the resource `repositories` in the API group `windlass.dev` and the Registry's namespace, with names such
    /// as `<registry>/team/app`. What neither they nor `rules` nor `anonymous` grant is refused. It takes
    /// `rbac.subjectAccessReview` of the chart.
    #[serde(default)]
    pub subject_access_review: bool,
}

/// What clients without credentials may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// Pull.
    Pull,
}

/// How the registry is reached.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.nodePort) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])")
        .message("nodePort needs type NodePort or LoadBalancer")
        .field_path(".nodePort")
)]
pub struct Service {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port on every node. Default: Kubernetes picks one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Annotations of the Service, for load balancers and DNS.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Type of a Service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    /// An address inside the cluster.
    #[default]
    ClusterIP,
    /// The same, and a port on every node.
    NodePort,
    /// The same, and a load balancer outside the cluster.
    LoadBalancer,
}

/// How the cluster's nodes find the registry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NodeAccessSettings {
    /// What the nodes are told.
    #[serde(default)]
    pub mode: NodeAccessMode,
}

/// What the nodes are told of a registry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum NodeAccessMode {
    /// Nothing: its name must resolve on the nodes, and their own authorities must have signed its certificate.
    #[default]
    None,
    /// Under its names, where it is and whom to trust, in a file that the container runtime reads at each pull.
    HostsFile,
}

/// Fragments that are merged last into the objects that the operator makes. Objects are merged field by field, lists of
/// named things by name, other lists are replaced, and null removes a field.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overrides {
    /// Merged into the Deployment: `metadata.labels`, `metadata.annotations` and `spec` except its selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fragment")]
    pub deployment: Option<Fragment>,
    /// Merged into the Service: `metadata.labels`, `metadata.annotations` and `spec` except its selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fragment")]
    pub service: Option<Fragment>,
}

fn one() -> i32 {
    1
}
