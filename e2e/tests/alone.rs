//! What needs the whole cluster: run after all other tests, when none of their Registries is left.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::node_access::{files, grant, nodes};
use e2e::registry::{self, NAME};
use e2e::{system, wait};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use operator::api::node_access::NodeAccess;
use operator::api::registry::Registry;
use operator::api::status::{NODE_ACCESS_READY, RegistryStatus};
use operator::names;

#[tokio::test]
async fn when_no_registry_asks_any_more_the_agents_leave_and_take_everything_along() -> Outcome {
    with_namespace("alone", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        let sets = system::api::<DaemonSet>(&namespace.client);
        let plans = system::api::<ConfigMap>(&namespace.client);
        let reports = system::api::<NodeAccess>(&namespace.client);
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
        let accounts = system::api::<ServiceAccount>(&namespace.client);
        let mut account = accounts.get(names::NODE_AGENT).await?;
        accounts.delete(names::NODE_AGENT, &DeleteParams::default()).await?;
        let is_told = |status: &RegistryStatus| {
            let condition = status.condition(NODE_ACCESS_READY);
            condition.is_some_and(|condition| condition.reason == "NodeAgentMissing")
        };
        let told = registry::observed(namespace, NAME, "it to be told", is_told).await;
        let sets = system::api::<DaemonSet>(&namespace.client);
        // What `helm uninstall` does: all that belongs to the account goes with it.
        let gone = wait::gone(&sets, names::NODE_AGENT).await;
        account.metadata.resource_version = None;
        account.metadata.uid = None;
        accounts.create(&PostParams::default(), &account).await?;
        told?;
        gone?;
        grant(namespace, NAME).await
    })
    .await
}
