//! The `NodeAccess` resource: what the agent of one node reports. Users read it and never write it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition: the kubelet's credential provider lies in the directory that was named for it. Absent when none was.
pub const CREDENTIAL_PROVIDER_INSTALLED: &str = "CredentialProviderInstalled";

/// What one node knows of the registries that ask for access; it has the node's name.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "windlass.dev",
    version = "v1alpha1",
    kind = "NodeAccess",
    plural = "nodeaccesses",
    category = "oci",
    namespaced,
    status = "NodeAccessStatus",
    derive = "PartialEq",
    doc = "What one node knows of the registries that ask for access.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".status.runtime"),
    printcolumn(name = "Directory", type_ = "string", json_path = ".status.directory"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct NodeAccessSpec {}

/// What the node's agent has done and seen. It holds no value that changes by itself.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAccessStatus {
    /// Generation of the object that this status is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Ready`: the node's runtime reads the files that the agent writes. Whether each registry works is told in
    /// `registries`. `CredentialProviderInstalled`, if it is to be installed: it is.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The node's container runtime and what configures it, such as `containerd` or `k3s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Directory of the node in which the runtime looks for hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The registries of which something lies on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub registries: Vec<NodeRegistry>,
}

/// What a node knows of one Registry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRegistry {
    /// Namespace and name of the Registry, such as `team-a/registry`.
    pub name: String,
    /// The form of the plan's entry that is in effect on the node.
    pub revision: String,
    /// Whether the node reaches the registry through what was written.
    pub ready: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people: it names the file and says what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Why a node or a registry on it is as it is: one word for the condition and for the entry of the registry.
#[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd)]
pub enum NodeReason {
    /// The runtime reads the files that the agent writes.
    Configured,
    /// The node has no runtime that the agent knows, or none of its directories is mounted.
    UnsupportedRuntime,
    /// The configuration of the runtime cannot be read.
    ConfigUnreadable,
    /// The configuration of containerd has no `config_path`.
    ConfigPathMissing,
    /// The `config_path` of containerd is not the directory that the agent writes to, or not that one alone.
    ConfigPathElsewhere,
    /// CRI-O has not been told to read changes by itself.
    ReloadNeeded,
    /// What the operator has written for the nodes cannot be read; all stays as it was.
    PlanUnreadable,
    /// The registry answers through the files that the agent has written.
    Reached,
    /// Somebody else has configured the same host, which is left as it is.
    Conflict,
    /// A host or an endpoint has a name that no file can be written for.
    InvalidName,
    /// A file cannot be written or removed.
    WriteFailed,
    /// The registry does not answer; the node may be in order.
    Unreachable,
    /// The registry shows a certificate that the authorities in the file do not vouch for.
    CertificateNotTrusted,
    /// Something answers that is no registry, or a registry that is in trouble.
    UnexpectedAnswer,
    /// The credential provider lies where it should.
    Installed,
}

impl fmt::Display for NodeReason {
    /// The name of the variant is the text of the API.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
