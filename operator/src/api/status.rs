//! The status of a `Registry` and the reasons in its conditions. Reasons are part of the API: tools may match them.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pull_access::PullAccessStatus;

/// Condition: the whole spec is in effect and the registry answers.
pub const READY: &str = "Ready";
/// Condition: the operator or Kubernetes is still at work (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// How many failing nodes, or namespaces, a status names.
pub const MOST_FAILING: usize = 10;
/// Condition: nothing will get better until somebody changes something (kstatus).
pub const STALLED: &str = "Stalled";
/// Condition: the volume is there and has the size that was asked for.
pub const STORAGE_READY: &str = "StorageReady";
/// Condition: the server's certificate is there and valid.
pub const TLS_READY: &str = "TLSReady";
/// Condition, only where `spec.nodeAccess` asks for it: every node of the cluster pulls from the registry. It counts for
/// none of the others, for a broken node is no fault of the Registry's.
pub const NODE_ACCESS_READY: &str = "NodeAccessReady";

/// Condition, only where `spec.advertise` asks for it: tools find the registry as that of the cluster. It counts for none of
/// the others either: there is place for one.
pub const ADVERTISED: &str = "Advertised";

/// What the operator has seen of a Registry. It holds no value that changes by itself, so that nothing is written
/// while nothing happens.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// Generation of the spec that this status is about; -1 until the operator has seen the object.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// `Ready`, `Reconciling`, `Stalled`, `StorageReady` and `TLSReady`; `NodeAccessReady`, `PullAccessReady` and `Advertised`
    /// where they are asked for.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Address of the registry inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of an image for Pods, such as `registry.team-a.svc:5000/team/app:v1`; put your own repository and tag into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_example: Option<String>,
    /// Address of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// Number of servers that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Label query for the servers' Pods, for autoscalers.
    #[serde(default)]
    pub selector: String,
    /// Version of the server: the tag or digest of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The certificate that the server presents; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// What lies in the volume; absent until a garbage collection has counted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// How many nodes pull from the registry; absent unless `spec.nodeAccess` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_access: Option<NodeAccessSummary>,
    /// Which namespaces can pull by `spec.pullAccess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_access: Option<PullAccessStatus>,
    /// Objects that `spec.overrides` and `spec.config` change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
}

impl Default for RegistryStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            url: None,
            pull_example: None,
            cluster_ip: None,
            replicas: 0,
            selector: String::new(),
            version: None,
            certificate: None,
            storage: None,
            node_access: None,
            pull_access: None,
            overridden: Vec::new(),
        }
    }
}

impl RegistryStatus {
    /// The condition of type `type_`, if it has been set.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }
}

/// The certificate that the server presents.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it ends.
    pub not_after: Time,
}

/// What lies in the volume, as a garbage collection has counted it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Size of all blobs, those that can still be restored included, such as `1.5Gi`.
    pub used: String,
    /// When they were counted.
    pub counted: Time,
}

/// What the nodes make of a registry.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAccessSummary {
    /// Number of nodes that reach the registry through what was written.
    pub ready: i32,
    /// Number of nodes that should.
    pub desired: i32,
    /// The first ten nodes that do not, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingNode>,
}

/// A node that does not reach a registry.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingNode {
    /// Name of the node.
    pub node: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// Why a condition is as it is: one word for the condition, the Event and the metric.
#[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The registry answers, or the part that the condition is about is in order.
    Available,
    /// There is nothing left to do.
    UpToDate,
    /// `spec.paused` is set: children are left as they are.
    Paused,
    /// `spec.replicas` is 0: nothing answers, and nothing is wrong.
    ScaledToZero,
    /// Servers are being started or replaced.
    Progressing,
    /// The Service has no address yet, so no certificate can be made for it.
    AddressPending,
    /// Objects of a deleted Registry of the same name are still going away.
    PredecessorTerminating,
    /// No node suits the server's Pod.
    Unschedulable,
    /// A node cannot pull the server's image.
    ImagePullFailed,
    /// The server ends as soon as it starts.
    CrashLooping,
    /// A Pod cannot be made from what it refers to.
    PodConfigurationFailed,
    /// The API server lets no Pods be made: a quota, a policy or an unknown priority class is in the way.
    PodsRefused,
    /// The servers were not ready within the Deployment's progress deadline.
    ProgressDeadlineExceeded,
    /// The volume is not there yet.
    VolumePending,
    /// The volume is growing; the registry works meanwhile.
    Resizing,
    /// The claim is being deleted.
    ClaimTerminating,
    /// The object cannot be read as a Registry.
    InvalidSpec,
    /// `spec.config` does not lead to a valid config.yml.
    InvalidConfig,
    /// A rule of `spec.auth.rules` cannot be meant.
    InvalidAccessRule,
    /// The operator was installed without what `spec.auth.kubernetes.subjectAccessReview` takes.
    AccessReviewDisabled,
    /// `spec.overrides` does not fit the object, or touches what the operator needs.
    InvalidOverride,
    /// The API server refuses an object that the spec leads to.
    Rejected,
    /// An object of this name exists and belongs to somebody else.
    NameTaken,
    /// A Secret that the spec names does not exist.
    SecretNotFound,
    /// A Secret that the spec names lacks a key.
    SecretKeyMissing,
    /// A line of the htpasswd file is not `user:bcrypt-hash`.
    HtpasswdMalformed,
    /// A certificate or key cannot be read, or they do not belong together.
    CertificateMalformed,
    /// The certificate that the spec names has ended.
    CertificateExpired,
    /// The claim that the spec names does not exist.
    ClaimNotFound,
    /// The claim belongs to another Registry.
    ClaimTaken,
    /// The claim that exists differs from the spec in a way that cannot change.
    ClaimMismatch,
    /// The volume is larger than the spec asks for, and volumes cannot shrink.
    ShrinkImpossible,
    /// The storage class does not let volumes grow.
    ExpansionUnsupported,
    /// The storage class does not exist.
    StorageClassNotFound,
    /// TLS is disabled.
    Disabled,
    /// Every node pulls from the registry.
    NodesReady,
    /// Nodes have not reported yet.
    NodesPending,
    /// Nodes cannot pull from the registry; `status.nodeAccess.failing` says which.
    NodesFailing,
    /// The operator was installed without the agent that looks after nodes.
    NodeAgentMissing,
    /// An older Registry has the same name in `spec.hostnames`.
    HostnameTaken,
    /// The nodes are told of so many registries already that one more does not fit.
    PlanTooLarge,
    /// The operator may not list the namespaces of the cluster.
    NamespacesUnreadable,
    /// The operator was told to look after other namespaces only.
    NamespaceUnwatched,
    /// The API server has no `MutatingAdmissionPolicy`.
    PolicyUnsupported,
    /// Another Registry of the cluster is advertised; the oldest that asks is.
    AnotherAdvertised,
    /// The operator was installed without the right to advertise a Registry.
    AdvertisingDisabled,
}

impl fmt::Display for Reason {
    /// The name of the variant is the text of the API.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

fn unobserved() -> i64 {
    -1
}
