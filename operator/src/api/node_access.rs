//! The `NodeAccess` resource: what the agent of one node reports. Users read it and never write it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// `registries`.
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
