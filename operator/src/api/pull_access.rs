//! What a `Registry` says of pull secrets in other namespaces, and what its status tells of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition: the selected namespaces can pull. It is there only while `spec.pullAccess` is.
pub const PULL_ACCESS_READY: &str = "PullAccessReady";

/// Pull secrets in other namespaces. Each namespace has a password of its own, which may do nothing but pull what `auth.rules`
/// grant a `ServiceAccount` of that namespace without a name; without rules, everything.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PullAccess {
    /// Labels of the namespaces that get a pull secret; `{}` stands for all. A namespace that is not selected any more
    /// loses it, and its password is refused.
    pub namespace_selector: LabelSelector,
    /// How Pods come to use the Secret, which is called `<name>.<namespace of the Registry>.pull`.
    #[serde(default)]
    pub attach: Attach,
    /// How often the passwords are exchanged. The old ones are good until some time after the new ones are in use. Below
    /// 10m a pull may fail on a node that is slow to learn of changed Secrets.
    #[serde(default = "month")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("rotateEvery must be at least 1m"))]
    pub rotate_every: String,
}

/// How Pods come to use a pull secret.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Attach {
    /// They name it in their `imagePullSecrets`.
    None,
    /// All `ServiceAccount`s of the namespace name it, beside what others have put there. Pods that were made before do
    /// not use it.
    #[default]
    ServiceAccounts,
    /// A `MutatingAdmissionPolicy` adds it to the Pods that use an image of the Registry. It needs Kubernetes 1.36 or newer.
    Pods,
}

/// Which namespaces can pull.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PullAccessStatus {
    /// Number of the namespaces that have a pull secret.
    pub namespaces: i32,
    /// The selected namespaces in which something is missing, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into()]))]
    pub failing: Vec<FailingNamespace>,
}

/// A namespace that cannot pull as was asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingNamespace {
    /// Name of the namespace.
    pub namespace: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

fn month() -> String {
    "720h".to_owned()
}
