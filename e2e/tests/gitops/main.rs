//! What Flux makes of a Registry in Git, by its own controller. Run by `make e2e-gitops`; Argo CD's view is tested without
//! it, in `e2e/src/argocd.rs`.

mod flux;

use std::path::Path;

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::wait;
use flux::Flux;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service};
use kube::ResourceExt;
use kube::api::DeleteParams;
use operator::api::registry::Registry;
use operator::api::status::{READY, RegistryStatus};
use operator::names;
use serde::Deserialize as _;
use serde_json::{Value, json};

/// The Secret and the Registry of the quickstart.
fn example() -> anyhow::Result<(Value, Value)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/quickstart.yaml");
    let text = std::fs::read_to_string(file)?;
    let mut objects = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    let mut next = || anyhow::Ok(objects.next().context("an object")??);
    Ok((next()?, next()?))
}

fn is_ready(status: &RegistryStatus) -> bool {
    status.condition(READY).is_some_and(|ready| ready.status == "True")
}

#[tokio::test]
async fn flux_applies_waits_repairs_and_prunes() -> Outcome {
    with_namespace("flux", async |namespace| {
        let flux = Flux::start(namespace).await?;
        let told = async {
            fails_at_once_for_what_is_stuck(&flux).await?;
            waits_until_the_registry_answers(&flux, namespace).await?;
            repairs_what_somebody_changes(&flux, namespace).await?;
            stays_calm_while_the_operator_repairs_a_child(&flux, namespace).await?;
            takes_a_registry_for_ready_that_git_scales_to_zero(&flux, namespace).await?;
            prunes_the_registry_and_not_its_volume(&flux, namespace).await
        };
        let told = told.await.map_err(|error| error.context(flux.end_of_log()));
        let ended = flux.end().await;
        told.and(ended)
    })
    .await
}

/// Its users are missing. Flux does not wait for its time-out, which is minutes away.
async fn fails_at_once_for_what_is_stuck(flux: &Flux) -> anyhow::Result<()> {
    let (_, registry) = example()?;
    flux.publish(&[registry]).await?;
    let message = flux.becomes("False", "HealthCheckFailed").await?;
    ensure!(message.contains("Failed") && message.contains(NAME), "{message}");
    Ok(())
}

async fn waits_until_the_registry_answers(flux: &Flux, namespace: &Namespace) -> anyhow::Result<()> {
    let (users, registry) = example()?;
    flux.publish(&[users, registry]).await?;
    flux.becomes("True", "ReconciliationSucceeded").await?;
    let registry = namespace.api::<Registry>().get(NAME).await?;
    ensure!(registry.status.as_ref().is_some_and(is_ready), "Flux did not wait: {:?}", registry.status);
    Ok(())
}

async fn repairs_what_somebody_changes(flux: &Flux, namespace: &Namespace) -> anyhow::Result<()> {
    let other = json!({"spec": {"auth": {"htpasswdSecretRef": {"name": "others"}}}});
    namespace.merge::<Registry>(NAME, other).await?;
    registry::unready(namespace, NAME, "SecretNotFound").await?;
    flux.reconcile().await?;
    registry::ready(namespace, NAME).await?;
    flux.becomes("True", "ReconciliationSucceeded").await?;
    Ok(())
}

async fn stays_calm_while_the_operator_repairs_a_child(
    flux: &Flux,
    namespace: &Namespace,
) -> anyhow::Result<()> {
    let services = namespace.api::<Service>();
    let before = services.get(NAME).await?.uid();
    services.delete(NAME, &DeleteParams::background()).await?;
    wait::until(&services, NAME, "the Service to be made again", |service| service.uid() != before).await?;
    registry::ready(namespace, NAME).await?;

    // The operator may still be writing what it sees; that comes to an end.
    let registries = namespace.api::<Registry>();
    wait::eventually("three rounds in which nobody writes", async || {
        let version = registries.get(NAME).await?.resource_version();
        for _ in 0..3 {
            flux.reconcile().await?;
        }
        let now = registries.get(NAME).await?.resource_version();
        ensure!(version == now, "from {version:?} to {now:?}");
        Ok(())
    })
    .await
}

async fn takes_a_registry_for_ready_that_git_scales_to_zero(
    flux: &Flux,
    namespace: &Namespace,
) -> anyhow::Result<()> {
    let (users, mut registry) = example()?;
    registry["spec"]["replicas"] = json!(0);
    flux.publish(&[users, registry]).await?;
    flux.becomes("True", "ReconciliationSucceeded").await?;
    registry::unready(namespace, NAME, "ScaledToZero").await?;
    Ok(())
}

async fn prunes_the_registry_and_not_its_volume(flux: &Flux, namespace: &Namespace) -> anyhow::Result<()> {
    let (users, _) = example()?;
    flux.publish(&[users]).await?;
    wait::gone(&namespace.api::<Registry>(), NAME).await?;
    wait::gone(&namespace.api::<Deployment>(), NAME).await?;
    flux.becomes("True", "ReconciliationSucceeded").await?;
    namespace.api::<Secret>().get(registry::USERS).await?;
    let claim = namespace.api::<PersistentVolumeClaim>().get(&names::claim(NAME)).await?;
    ensure!(claim.metadata.deletion_timestamp.is_none(), "the volume is going");
    Ok(())
}
