//! What the spec has no field for can still be had, and shows in the status.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use operator::api::registry::Registry;
use serde_json::{Value, json};

#[tokio::test]
async fn overrides_and_config_are_merged_last_and_reported() -> Outcome {
    with_namespace("overrides", async |namespace| {
        let mut spec = registry::spec();
        spec["config"] = json!({"http": {"headers": {"X-Windlass-Test": ["merged"]}}});
        spec["overrides"] = json!({
            "deployment": {"metadata": {"annotations": {"e2e": "merged"}}, "spec": {"minReadySeconds": 1,
                "template": {"spec": {"containers": [{"name": "registry", "env": [{"name": "E2E", "value": "merged"}]}]}}}},
            "service": {"spec": {"sessionAffinity": "ClientIP"}},
        });
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        let status = registry::ready(namespace, NAME).await?.status.unwrap_or_default();
        assert_eq!(status.overridden, ["config.yml", "Deployment", "Service"]);

        let deployment = serde_json::to_value(namespace.api::<Deployment>().get(NAME).await?)?;
        assert_eq!(deployment["spec"]["minReadySeconds"], 1);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["env"][0]["value"], "merged", "{container}");
        ensure!(!container["image"].is_null(), "the rest of the container is gone: {container}");
        let service = serde_json::to_value(namespace.api::<Service>().get(NAME).await?)?;
        assert_eq!(service["spec"]["sessionAffinity"], "ClientIP");

        let (_forward, client) = registry::reach_as_user(namespace).await?;
        assert_eq!(client.get("/v2/").await?.header("x-windlass-test"), "merged");
        taken_back(namespace).await
    })
    .await
}

/// What is taken out of the spec goes from the objects.
async fn taken_back(namespace: &e2e::namespace::Namespace) -> anyhow::Result<()> {
    namespace.merge::<Registry>(NAME, json!({"spec": {"overrides": null, "config": null}})).await?;
    let status = registry::ready(namespace, NAME).await?.status.unwrap_or_default();
    ensure!(status.overridden.is_empty(), "{:?}", status.overridden);
    let deployment = serde_json::to_value(namespace.api::<Deployment>().get(NAME).await?)?;
    assert_eq!(deployment["spec"]["minReadySeconds"], Value::Null);
    let service = serde_json::to_value(namespace.api::<Service>().get(NAME).await?)?;
    assert_eq!(service["spec"]["sessionAffinity"], "None");
    Ok(())
}

#[tokio::test]
async fn an_override_that_would_break_the_registry_is_refused() -> Outcome {
    with_namespace("bad-override", async |namespace| {
        let mut spec = registry::spec();
        spec["overrides"] = json!({"deployment": {"spec": {"selector": {"matchLabels": {"app": "other"}}}}});
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        let message = registry::unready(namespace, NAME, "InvalidOverride").await?;
        ensure!(message.contains("spec.overrides.deployment"), "{message}");
        registry::apply(namespace, NAME, registry::spec()).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}
