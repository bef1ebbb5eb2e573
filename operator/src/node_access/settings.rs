//! What of the operator's own settings shapes the agents of the nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, Node, ResourceRequirements, Taint, Toleration};
use serde::Deserialize;

use crate::names;

/// Taints that Kubernetes lets every `DaemonSet` tolerate begin with this.
const OF_KUBERNETES: &str = "node.kubernetes.io/";

/// What of the operator's own settings shapes the agents.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The operator's own namespace, in which the agents run.
    pub namespace: String,
    /// Image of the agents; `None` if the operator was installed without them.
    pub image: Option<String>,
    /// Their Pods.
    pub agent: Agent,
}

/// What an administrator sets for the Pods of the agents, as in a Pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agent {
    /// Which names of `spec.hostnames` may be written to nodes: whole names, `*.` and a domain, or `*`. A name of one's
    /// own would else turn the pulls of others to a registry of one's own.
    pub hostnames: Vec<String>,
    /// When the nodes pull the image.
    pub image_pull_policy: Option<String>,
    /// Secrets with which they do.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// CPU and memory of an agent.
    pub resources: ResourceRequirements,
    /// Labels of the nodes that get one.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of the nodes that get one none the less.
    pub tolerations: Vec<Toleration>,
    /// Priority class of the Pods; empty for the cluster's default.
    pub priority_class_name: String,
    /// Directory of the nodes into which the credential provider is put; empty: it is not. See
    /// [`crate::credential_provider`].
    pub credential_provider_directory: String,
    /// Annotations of the Pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Labels of the Pods.
    pub pod_labels: BTreeMap<String, String>,
}

impl Agent {
    /// Reads the JSON of a setting.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Whether nodes need an agent though no Registry asks for it: a kubelet does not start without a credential provider
    /// that it was told of.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.credential_provider_directory.is_empty()
    }

    /// Labels of the nodes that get an agent.
    #[must_use]
    pub fn selector(&self) -> BTreeMap<String, String> {
        let mut selector = BTreeMap::from([(names::OS_LABEL.to_owned(), "linux".to_owned())]);
        selector.extend(self.node_selector.clone());
        selector
    }

    /// Whether `node` is to have an agent.
    #[must_use]
    pub fn suits(&self, node: &Node) -> bool {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        self.selector().iter().all(|(label, value)| labels.get(label) == Some(value))
            && taints.iter().all(|taint| self.tolerates(taint))
    }

    /// Whether the host name `host` may be written to nodes.
    #[must_use]
    pub fn admits(&self, host: &str) -> bool {
        self.hostnames.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => host == pattern,
        })
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        taint.effect == "PreferNoSchedule"
            || taint.key.starts_with(OF_KUBERNETES)
            || self.tolerations.iter().any(|toleration| covers(toleration, taint))
    }
}

/// Whether `toleration` tolerates `taint`, by the rules of the scheduler.
fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let is_of = |wanted: &Option<String>, value: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == value)
    };
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default();
    is_of(&toleration.key, &taint.key)
        && is_of(&toleration.effect, &taint.effect)
        && (exists || value == taint.value.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::Agent;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    fn agent(settings: &Value) -> Agent {
        Agent::parse(&settings.to_string()).unwrap()
    }

    #[test]
    fn a_setting_that_does_not_exist_is_refused() {
        let error = Agent::parse(r#"{"nodeSelektor": {}}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `nodeSelektor`"), "{error}");
    }

    #[test]
    fn nodes_get_an_agent_by_their_labels_and_taints() {
        let node = |labels: Value, taints: Value| -> Node {
            serde_json::from_value(
                json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}}),
            )
            .unwrap()
        };
        let linux = || json!({"kubernetes.io/os": "linux"});
        let taint = |key: &str| json!([{"key": key, "value": "v", "effect": "NoSchedule"}]);
        for (settings, node, expected) in [
            (json!({}), node(linux(), json!([])), true),
            (json!({}), node(json!({"kubernetes.io/os": "windows"}), json!([])), false),
            (json!({"nodeSelector": {"a": "b"}}), node(linux(), json!([])), false),
            (json!({}), node(linux(), taint("gpu")), false),
            (json!({}), node(linux(), taint("node.kubernetes.io/unschedulable")), true),
            (json!({"tolerations": [{"operator": "Exists"}]}), node(linux(), taint("gpu")), true),
            (json!({"tolerations": [{"key": "gpu", "value": "v"}]}), node(linux(), taint("gpu")), true),
            (json!({"tolerations": [{"key": "gpu", "value": "w"}]}), node(linux(), taint("gpu")), false),
            (
                json!({"tolerations": [{"key": "cpu", "operator": "Exists"}]}),
                node(linux(), taint("gpu")),
                false,
            ),
        ] {
            assert_eq!(agent(&settings).suits(&node), expected, "{settings} {node:?}");
        }
    }

    #[test]
    fn hosts_are_admitted_by_name_by_domain_or_all() {
        for (patterns, host, expected) in [
            (json!([]), "docker.io", false),
            (json!(["*"]), "docker.io", true),
            (json!(["*.example.com"]), "images.example.com", true),
            (json!(["*.example.com"]), "example.com", false),
            (json!(["*.example.com"]), "evilexample.com", false),
            (json!(["images.example.com"]), "images.example.com", true),
            (json!(["images.example.com"]), "my.images.example.com", false),
        ] {
            assert_eq!(agent(&json!({ "hostnames": patterns })).admits(host), expected, "{patterns} {host}");
        }
    }
}
