//! Telling the cluster: the node's own `NodeAccess` object, made once and written when something has changed.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::api::node_access::{
    CREDENTIAL_PROVIDER_INSTALLED, NodeAccess, NodeAccessSpec, NodeAccessStatus, NodeReason, NodeRegistry,
};
use crate::api::status::READY;
use crate::conditions::Verdict;
use crate::node_access::distribution::Distribution;
use crate::{apply, names};

/// What was done and seen in one round.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How the node is set up.
    pub distribution: Option<Distribution>,
    /// Whether its runtime reads what is written.
    pub ready: Verdict<NodeReason>,
    /// Whether the credential provider is there, if it is to be.
    pub provider: Option<Verdict<NodeReason>>,
    /// What is known of each registry; `None` if no plan was there to follow, so that nothing has changed.
    pub registries: Option<Vec<NodeRegistry>>,
}

/// Writes what was `seen` to the object of the node, if that says anything else.
///
/// # Errors
/// The API server's.
pub async fn report(client: &Client, namespace: &str, node: &str, seen: &Seen) -> Result<(), kube::Error> {
    let object = object(client, namespace, node).await?;
    let previous = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let status = status(&previous, generation, seen, Timestamp::now());
    if status == previous {
        return Ok(());
    }
    log(&previous, &status);
    apply::status::<NodeAccess>(client, &object.metadata, &json!(status), names::NODE_AGENT_FIELD_MANAGER)
        .await
}

/// The status after a round, given that before it.
#[must_use]
pub fn status(previous: &NodeAccessStatus, generation: i64, seen: &Seen, now: Timestamp) -> NodeAccessStatus {
    let condition = |type_: &str, verdict: &Verdict<NodeReason>| {
        verdict.condition(type_, &previous.conditions, generation, now)
    };
    let provider = seen.provider.as_ref().map(|verdict| condition(CREDENTIAL_PROVIDER_INSTALLED, verdict));
    let conditions: Vec<Condition> = [condition(READY, &seen.ready)].into_iter().chain(provider).collect();
    let mut registries = seen.registries.clone().unwrap_or_else(|| previous.registries.clone());
    for registry in registries.iter_mut().filter(|registry| registry.revision.is_empty()) {
        let known = previous.registries.iter().find(|known| known.name == registry.name);
        registry.revision = known.map(|known| known.revision.clone()).unwrap_or_default();
    }
    NodeAccessStatus {
        observed_generation: generation,
        conditions,
        runtime: seen.distribution.map(|distribution| distribution.name().to_owned()),
        directory: seen.distribution.map(|distribution| distribution.writable().to_owned()),
        registries,
    }
}

/// The object of the node, which is made if it is not there. It belongs to the agents and goes with them.
async fn object(client: &Client, namespace: &str, node: &str) -> Result<NodeAccess, kube::Error> {
    let api = Api::<NodeAccess>::namespaced(client.clone(), namespace);
    if let Some(object) = api.get_opt(node).await? {
        return Ok(object);
    }
    let agents = Api::<DaemonSet>::namespaced(client.clone(), namespace).get_opt(names::NODE_AGENT).await?;
    let mut object = NodeAccess::new(node, NodeAccessSpec::default());
    object.metadata.namespace = Some(namespace.to_owned());
    object.metadata.owner_references = agents.and_then(|agents| {
        let owner = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "DaemonSet".to_owned(),
            name: agents.name_any(),
            uid: agents.uid()?,
            ..OwnerReference::default()
        };
        Some(vec![owner])
    });
    object.metadata.labels =
        Some([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())].into());
    let params = PostParams {
        field_manager: Some(names::NODE_AGENT_FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    api.create(&params, &object).await
}

/// One line for each thing that has changed.
fn log(previous: &NodeAccessStatus, status: &NodeAccessStatus) {
    for condition in &status.conditions {
        let Condition { type_, status, reason, message, .. } = condition;
        let known = previous.conditions.iter().find(|known| known.type_ == *type_);
        if known.is_none_or(|known| (&known.reason, &known.message) != (reason, message)) {
            tracing::info!(reason, message, "{type_} is {status}");
        }
    }
    for registry in &status.registries {
        let NodeRegistry { name, reason, message, .. } = registry;
        let known = previous.registries.iter().find(|known| known.name == *name);
        if known.is_none_or(|known| (&known.reason, &known.message) != (reason, message)) {
            tracing::info!(registry = name, reason, message, "access has changed");
        }
    }
}
