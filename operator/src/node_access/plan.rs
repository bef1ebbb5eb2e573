//! What the nodes are to know: written by the operator into one `ConfigMap`, read by the agent of each node.

use serde::{Deserialize, Serialize};

use crate::fingerprint::fingerprint;

/// All that an agent is to put on its node, and nothing else of ours may lie there.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The Registries that ask for access, in the order of their names.
    pub registries: Vec<PlannedRegistry>,
}

/// How the nodes reach one Registry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRegistry {
    /// Namespace and name, such as `team-a/registry`.
    pub name: String,
    /// Under which names images refer to it.
    pub hosts: Vec<PlannedHost>,
    /// Where it answers: the addresses of its Service, such as `https://10.96.0.20:5000`, in the order in which they are tried.
    pub endpoints: Vec<String>,
    /// Certificates of the authorities to trust, as PEM; nothing for plain HTTP, or when the node's own authorities do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
}

/// A name under which images refer to a Registry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedHost {
    /// Host and port as they stand in an image's name, such as `registry.team-a.svc:5000` or `images.example`.
    pub name: String,
    /// Whether the name itself is tried when no endpoint answers: true for names of `spec.hostnames`, which the nodes'
    /// resolver may know; false for the names of the Service, which it does not.
    #[serde(default)]
    pub fallback: bool,
}

impl PlannedRegistry {
    /// A short text that changes when anything here changes.
    #[must_use]
    pub fn revision(&self) -> String {
        // Texts, flags and lists of them always have a JSON form.
        fingerprint(&serde_json::to_string(self).unwrap_or_default()).chars().take(12).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;
    use serde_json::json;

    #[test]
    fn a_revision_changes_with_its_registry_alone() {
        let plan = |authorities: &str| -> Plan {
            let host = json!({"name": "hub.team-a.svc:5000"});
            let hub = json!({"name": "team-a/hub", "hosts": [host], "endpoints": ["https://10.0.0.1:5000"],
                "authorities": authorities});
            serde_json::from_value(json!({"registries": [hub]})).unwrap()
        };
        assert_eq!(plan("a").registries[0].revision(), plan("a").registries[0].revision());
        assert_ne!(plan("a").registries[0].revision(), plan("b").registries[0].revision());
        assert_eq!(plan("a").registries[0].revision().len(), 12);
    }
}
