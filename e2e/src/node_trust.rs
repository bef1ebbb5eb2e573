//! Telling the cluster's nodes where a Registry is and which certificate to trust, by `e2e/cluster/node-trust.yaml`.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Secret, Service};
use operator::names;

use crate::namespace::Namespace;
use crate::{cluster, wait};

const TEMPLATE: &str = include_str!("../cluster/node-trust.yaml");

/// Makes all nodes trust the Registry `name`, until the namespace goes.
///
/// # Errors
/// When the Registry is not ready, or the nodes are not told.
pub async fn apply(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let service: Service = namespace.api().get(name).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let secret: Secret = namespace.api().get(&names::tls_secret(name)).await?;
    let authority = serde_json::to_value(secret.data.unwrap_or_default().get("ca.crt"))?;
    let yaml = TEMPLATE
        .replace("@name@", name)
        .replace("@namespace@", &namespace.name)
        .replace("@cluster_ip@", &address)
        .replace("@ca@", authority.as_str().unwrap_or_default())
        .replace("@image@", &cluster::busybox_image());
    namespace.apply_yaml(&yaml).await?;
    let told = |set: &DaemonSet| {
        let status = set.status.clone().unwrap_or_default();
        status.desired_number_scheduled > 0 && status.number_ready == status.desired_number_scheduled
    };
    wait::until(&namespace.api(), &format!("{name}-node-trust"), "every node to be told", told).await?;
    Ok(())
}
