//! What needs the whole cluster: run after all other tests, when none of their Registries is left.

use anyhow::ensure;
use e2e::cluster::SYSTEM_NAMESPACE;
use e2e::namespace::{Outcome, with_namespace};
use e2e::node_access::{files, grant, nodes};
use e2e::registry::{self, NAME};
use e2e::wait;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams};
use operator::api::node_access::NodeAccess;
use operator::api::registry::Registry;
use operator::names;

#[tokio::test]
async fn when_no_registry_asks_any_more_the_agents_leave_and_take_everything_along() -> Outcome {
    with_namespace("alone", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        let sets: Api<DaemonSet> = Api::namespaced(namespace.client.clone(), SYSTEM_NAMESPACE);
        let plans: Api<ConfigMap> = Api::namespaced(namespace.client.clone(), SYSTEM_NAMESPACE);
        let reports: Api<NodeAccess> = Api::namespaced(namespace.client.clone(), SYSTEM_NAMESPACE);
        ensure!(sets.get_opt(names::NODE_AGENT).await?.is_some(), "there are no agents");
        namespace.api::<Registry>().delete(NAME, &DeleteParams::default()).await?;
        wait::gone(&sets, names::NODE_AGENT).await?;
        wait::gone(&plans, names::NODE_ACCESS_PLAN).await?;
        wait::eventually("the reports to be gone", async || {
            let left = reports.list(&ListParams::default()).await?.items;
            ensure!(left.is_empty(), "there are {} reports", left.len());
            Ok(())
        })
        .await?;
        for node in nodes(namespace).await? {
            let left = files(namespace, &node).await?;
            ensure!(left.is_empty(), "on {node} there is:\n{left}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_their_service_account_a_registry_is_told_what_to_do() -> Outcome {
    with_namespace("no-account", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(namespace.client.clone(), SYSTEM_NAMESPACE);
        let mut account = accounts.get(names::NODE_AGENT).await?;
        accounts.delete(names::NODE_AGENT, &DeleteParams::default()).await?;
        let is_told = |status: &operator::api::status::RegistryStatus| {
            let condition = status.condition(operator::api::status::NODE_ACCESS_READY);
            condition.is_some_and(|condition| condition.reason == "NodeAgentMissing")
        };
        let told = registry::observed(namespace, NAME, "it to be told", is_told).await;
        let sets: Api<DaemonSet> = Api::namespaced(namespace.client.clone(), SYSTEM_NAMESPACE);
        // What `helm uninstall` does: all that belongs to the account goes with it.
        let gone = wait::gone(&sets, names::NODE_AGENT).await;
        account.metadata.resource_version = None;
        account.metadata.uid = None;
        accounts.create(&kube::api::PostParams::default(), &account).await?;
        told?;
        gone?;
        grant(namespace, NAME).await
    })
    .await
}
