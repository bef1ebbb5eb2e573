//! Read-only and paused: what stops, and what goes on.

use std::time::Duration;

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::registry::{self, NAME};
use e2e::{oci, wait};
use k8s_openapi::api::core::v1::Service;
use operator::api::registry::Registry;
use operator::api::status::{RECONCILING, RegistryStatus};
use serde_json::json;

#[tokio::test]
async fn a_read_only_registry_is_pulled_from_and_not_pushed_to() -> Outcome {
    with_namespace("read-only", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        let digest = oci::push(&client, "team/app", "v1", "layer").await?;
        for (read_only, tag) in [(true, "v2"), (false, "v3")] {
            namespace.merge::<Registry>(NAME, json!({"spec": {"readOnly": read_only}})).await?;
            registry::ready(namespace, NAME).await?;
            let pulled =
                wait::eventually("a pull", async || oci::pull(&client, "team/app", "v1").await).await?;
            assert_eq!(pulled, digest);
            let pushed = oci::push(&client, "team/app", tag, "other").await;
            ensure!(pushed.is_err() == read_only, "read-only is {read_only}, the push gave {pushed:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_paused_registry_is_left_as_it_is() -> Outcome {
    with_namespace("paused", async |namespace| {
        registry::quick(namespace).await?;
        namespace.merge::<Registry>(NAME, json!({"spec": {"paused": true}})).await?;
        let observed = |status: &RegistryStatus| status.condition(RECONCILING).is_some();
        registry::observed(namespace, NAME, "it to be paused", observed).await?;

        let services = namespace.api::<Service>();
        let port = |service: &Service| {
            serde_json::to_value(service)
                .ok()
                .and_then(|service| service["spec"]["ports"][0]["port"].as_i64())
        };
        let other = json!({"spec": {"ports": [{"name": "registry", "port": 80}]}});
        namespace.merge::<Service>(NAME, other).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(port(&services.get(NAME).await?), Some(80), "it was put right");

        namespace.merge::<Registry>(NAME, json!({"spec": {"paused": false}})).await?;
        wait::until(&services, NAME, "it to be put right", |service| port(service) == Some(5000)).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}
