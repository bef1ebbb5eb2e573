//! The operator that is under test: its Pods, its log, its metrics.

use std::fmt::Write as _;

use anyhow::Context as _;
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, LogParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};

use crate::cluster::SYSTEM_NAMESPACE;
use crate::wait;

/// Name of the Helm release, and so of the Deployment, the `ServiceAccount` and the Lease.
pub const RELEASE: &str = "windlass";

const LABELS: &str = "app.kubernetes.io/name=windlass,app.kubernetes.io/component=operator";

/// The objects of one kind in its namespace.
#[must_use]
pub fn api<K>(client: &Client) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

/// The operator's Pods.
///
/// # Errors
/// The API server's.
pub async fn pods(client: &Client) -> anyhow::Result<Vec<Pod>> {
    Ok(api::<Pod>(client).list(&ListParams::default().labels(LABELS)).await?.items)
}

/// Name of the Pod that acts, which is the one that holds the lease.
///
/// # Errors
/// When nobody holds it.
pub async fn leader(client: &Client) -> anyhow::Result<String> {
    leader_other_than(client, "").await
}

/// Waits until a Pod other than `former` holds the lease, and returns its name.
///
/// # Errors
/// When that does not happen.
pub async fn leader_other_than(client: &Client, former: &str) -> anyhow::Result<String> {
    let leases = api::<Lease>(client);
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    let is_other = |lease: &Lease| holder(lease).is_some_and(|holder| !holder.is_empty() && holder != former);
    let lease = wait::until(&leases, RELEASE, "a leader", is_other).await?;
    holder(&lease).context("a lease without a holder")
}

/// Deletes one of the operator's Pods. With `grace` 0 it is killed.
///
/// # Errors
/// The API server's.
pub async fn delete_pod(client: &Client, pod: &str, grace: u32) -> anyhow::Result<()> {
    api::<Pod>(client).delete(pod, &DeleteParams::default().grace_period(grace)).await?;
    Ok(())
}

/// Sum of a counter over the operator's Pods. `metric` is the text before the value, with its labels.
///
/// # Errors
/// When a Pod does not answer.
pub async fn counter(client: &Client, metric: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for pod in pods(client).await?.iter().filter(|pod| crate::forward::is_ready(pod)) {
        sum += value(&metrics(client, &pod.name_any()).await?, metric);
    }
    Ok(sum)
}

/// The metrics of one of the operator's Pods, as text.
///
/// # Errors
/// When it does not answer.
pub async fn metrics(client: &Client, pod: &str) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{pod}:8080/proxy/metrics");
    Ok(client.request_text(Request::get(path).body(Vec::new())?).await?)
}

fn value(text: &str, metric: &str) -> f64 {
    let values =
        text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse::<f64>().ok());
    values.sum()
}

/// What the operator's Pods have logged lately about the namespace `about`.
pub async fn logs(client: &Client, about: &str) -> String {
    let mut text = String::new();
    for pod in pods(client).await.unwrap_or_default() {
        let name = pod.name_any();
        let options = LogParams { tail_lines: Some(2000), ..LogParams::default() };
        let log = api::<Pod>(client).logs(&name, &options).await.unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(about)).collect();
        let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        let _ = writeln!(text, "--- {name}\n{}", end.join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "a_total 1\na_total{reason=\"X\"} 2.5\na_total{reason=\"XY\"} 4\n";
        for (metric, expected) in [("a_total", 1.0), ("a_total{reason=\"X\"}", 2.5), ("b_total", 0.0)] {
            assert!((value(text, metric) - expected).abs() < f64::EPSILON, "{metric}");
        }
    }
}
