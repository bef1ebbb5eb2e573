//! The oldest Registry that asks is where tools look for that of the cluster. There is one such place, so this is one test.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::{registry, wait};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use operator::api::registry::Registry;
use operator::api::status::ADVERTISED;
use operator::names::{ADVERTISING_CONFIG_MAP, ADVERTISING_KEY, ADVERTISING_NAMESPACE};
use serde_json::{Value, json};

/// Of the same second the first by name counts as the older.
const OLDER: &str = "older";
const YOUNGER: &str = "younger";

/// Makes a Registry that asks. No server is needed for it.
async fn apply(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let spec = json!({"storage": {"filesystem": {"size": "64Mi"}}, "replicas": 0, "advertise": true,
        "hostnames": [format!("{name}.images.example")]});
    registry::apply(namespace, name, spec).await.map(drop)
}

/// Waits until a Registry is told this, and returns the words.
async fn told(namespace: &Namespace, name: &str, status: &str, reason: &str) -> anyhow::Result<String> {
    let what = format!("it to be told {reason}");
    let registry = registry::observed(namespace, name, &what, |found| {
        let condition = found.condition(ADVERTISED);
        condition.is_some_and(|condition| condition.status == status && condition.reason == reason)
    });
    let status = registry.await?.status.context("no status")?;
    Ok(status.condition(ADVERTISED).context("no condition")?.message.clone())
}

/// Waits until tools are told of a Registry.
async fn is_advertised(namespace: &Namespace, place: &Api<ConfigMap>, name: &str) -> anyhow::Result<()> {
    told(namespace, name, "True", "Available").await?;
    let document = |config_map: &ConfigMap| -> Option<Value> {
        serde_yaml::from_str(config_map.data.as_ref()?.get(ADVERTISING_KEY)?).ok()
    };
    let in_cluster = format!("{name}.{}.svc:5000", namespace.name);
    let what = format!("it to tell of {name}");
    let found = wait::until(place, ADVERTISING_CONFIG_MAP, &what, |config_map| {
        document(config_map).is_some_and(|document| document["hostFromClusterNetwork"] == in_cluster)
    });
    let document = document(&found.await?).context("no document")?;
    ensure!(document["host"] == format!("{name}.images.example"), "{document}");
    ensure!(document["help"].as_str().is_some_and(|help| help.starts_with("https://")), "{document}");
    Ok(())
}

async fn the_older_is_advertised_then_the_other_then_none(
    namespace: &Namespace,
    place: &Api<ConfigMap>,
) -> anyhow::Result<()> {
    apply(namespace, OLDER).await?;
    is_advertised(namespace, place, OLDER).await?;
    apply(namespace, YOUNGER).await?;
    let message = told(namespace, YOUNGER, "False", "AnotherAdvertised").await?;
    ensure!(message.contains(&format!("{}/{OLDER}", namespace.name)), "{message}");

    // What somebody deletes is back.
    place.delete(ADVERTISING_CONFIG_MAP, &DeleteParams::default()).await?;
    is_advertised(namespace, place, OLDER).await?;

    namespace.api::<Registry>().delete(OLDER, &DeleteParams::default()).await?;
    is_advertised(namespace, place, YOUNGER).await?;

    namespace.merge::<Registry>(YOUNGER, json!({"spec": {"advertise": false}})).await?;
    wait::gone(place, ADVERTISING_CONFIG_MAP).await?;
    let is_silent = |status: &operator::api::status::RegistryStatus| status.condition(ADVERTISED).is_none();
    registry::observed(namespace, YOUNGER, "it to be told nothing", is_silent).await?;
    Ok(())
}

async fn what_somebody_else_has_put_there_is_left_alone(
    namespace: &Namespace,
    place: &Api<ConfigMap>,
) -> anyhow::Result<()> {
    let data = json!({ADVERTISING_KEY: "host: localhost:5001\n"});
    let theirs = json!({"metadata": {"name": ADVERTISING_CONFIG_MAP}, "data": data});
    let theirs = place.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    let outcome = async {
        namespace.merge::<Registry>(YOUNGER, json!({"spec": {"advertise": true}})).await?;
        let message = told(namespace, YOUNGER, "False", "NameTaken").await?;
        ensure!(message.contains(ADVERTISING_CONFIG_MAP), "{message}");
        let now = place.get(ADVERTISING_CONFIG_MAP).await?;
        ensure!(now.resource_version() == theirs.resource_version(), "it was written: {now:?}");
        Ok(())
    };
    let outcome = outcome.await;
    place.delete(ADVERTISING_CONFIG_MAP, &DeleteParams::default()).await?;
    outcome?;
    is_advertised(namespace, place, YOUNGER).await
}

#[tokio::test]
async fn tools_find_the_oldest_registry_that_asks() -> Outcome {
    with_namespace("advertise", async |namespace| {
        let place: Api<ConfigMap> = Api::namespaced(namespace.client.clone(), ADVERTISING_NAMESPACE);
        let before = place.get_opt(ADVERTISING_CONFIG_MAP).await?;
        ensure!(before.is_none(), "the cluster has a registry of its own: {before:?}");
        the_older_is_advertised_then_the_other_then_none(namespace, &place).await?;
        what_somebody_else_has_put_there_is_left_alone(namespace, &place).await?;
        namespace.api::<Registry>().delete(YOUNGER, &DeleteParams::default()).await?;
        wait::gone(&place, ADVERTISING_CONFIG_MAP).await
    })
    .await
}
