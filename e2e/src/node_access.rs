//! Nodes that are told of Registries, and what lies on them.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::ListParams;
use operator::api::registry::Registry;
use operator::api::status::{NODE_ACCESS_READY, RegistryStatus};
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::{cluster, pod, registry};

/// The directory of a node with all that is configured there.
const CONFIGURATION: &str = "/etc";
/// Where the container runtime of a node looks for hosts, as [`run_on`] shows it.
pub const HOSTS: &str = "/node/containerd/certs.d";
/// Where it has its configuration.
pub const RUNTIME: &str = "/node/containerd/config.toml";

static PODS: AtomicUsize = AtomicUsize::new(0);

/// The part of a spec that asks for access.
#[must_use]
pub fn asked() -> Value {
    json!({"mode": "HostsFile"})
}

/// Asks that the nodes be told of the Registry `name`, and waits until each of them pulls from it.
///
/// # Errors
/// When that does not happen.
pub async fn grant(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let patch = json!({"spec": {"nodeAccess": asked()}});
    namespace.merge::<Registry>(name, patch).await?;
    granted(namespace, name).await
}

/// Waits until each node says that it pulls from the Registry `name`.
///
/// # Errors
/// When that does not happen.
pub async fn granted(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let is_granted = |status: &RegistryStatus| registry::is(status, NODE_ACCESS_READY, "True");
    registry::observed(namespace, name, "every node to pull from it", is_granted).await.map(|_| ())
}

/// Names of the cluster's nodes.
///
/// # Errors
/// The API server's.
pub async fn nodes(namespace: &Namespace) -> anyhow::Result<Vec<String>> {
    let nodes = namespace.all::<Node>().list(&ListParams::default()).await?;
    Ok(nodes.iter().map(ResourceExt::name_any).collect())
}

/// The paths below which the runtime of `node` looks for hosts and that are about this namespace, and what stands in them.
///
/// # Errors
/// When they cannot be read.
pub async fn files(namespace: &Namespace, node: &str) -> anyhow::Result<String> {
    let script =
        format!("{{ find {HOSTS}; grep -r '' {HOSTS}; }} | grep -F -e '.{}' || true", namespace.name);
    run_on(namespace, node, &script).await
}

/// What `script` writes on `node`, run as root among the node's processes, with its `/etc` as `/node`.
///
/// # Errors
/// When it fails.
pub async fn run_on(namespace: &Namespace, node: &str, script: &str) -> anyhow::Result<String> {
    let name = format!("on-node-{}", PODS.fetch_add(1, Ordering::Relaxed));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "hostPID": true,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "script", "image": cluster::busybox_image(), "command": ["sh", "-euc", script],
                "volumeMounts": [{"name": "node", "mountPath": "/node"}],
            }],
            "volumes": [{"name": "node", "hostPath": {"path": CONFIGURATION}}],
        },
    });
    pod::run(namespace, pod).await.with_context(|| format!("{script:?} failed on {node}"))
}
