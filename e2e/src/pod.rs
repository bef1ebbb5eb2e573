//! Pods that do one thing and end.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::wait;

/// Runs `pod`, of one container, to its end, removes it and returns what it wrote.
///
/// # Errors
/// When it fails, with what it wrote.
pub async fn run(namespace: &Namespace, pod: Value) -> anyhow::Result<String> {
    let name = namespace.apply(pod).await?.name_any();
    let pods = namespace.api::<Pod>();
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let has_ended = |pod: &Pod| ["Succeeded", "Failed"].contains(&phase(pod).as_str());
    let pod = wait::until(&pods, &name, "it to end", has_ended).await?;
    let log = pods.logs(&name, &LogParams::default()).await.context("read what a Pod wrote")?;
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    ensure!(phase(&pod) == "Succeeded", "Pod {name} failed: {log}");
    Ok(log)
}
