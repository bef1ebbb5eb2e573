//! A deleted Registry leaves its images behind, unless it was told not to.

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::{oci, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::api::DeleteParams;
use operator::api::registry::Registry;
use operator::names;
use serde_json::json;

async fn delete(namespace: &Namespace) -> anyhow::Result<()> {
    namespace.api::<Registry>().delete(NAME, &DeleteParams::background()).await?;
    wait::gone(&namespace.api::<Registry>(), NAME).await?;
    wait::gone(&namespace.api::<Service>(), NAME).await?;
    wait::gone(&namespace.api::<Deployment>(), NAME).await
}

#[tokio::test]
async fn a_new_registry_of_the_same_name_serves_the_old_images() -> Outcome {
    with_namespace("retain", async |namespace| {
        registry::quick(namespace).await?;
        let (forward, client) = registry::reach_as_user(namespace).await?;
        let digest = oci::push(&client, "team/app", "v1", "layer").await?;
        drop(forward);
        delete(namespace).await?;
        let claims = namespace.api::<PersistentVolumeClaim>();
        let claim = claims.get(&names::claim(NAME)).await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "the volume is going");

        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        assert_eq!(oci::pull(&client, "team/app", "v1").await?, digest);
        assert_eq!(claims.get(&names::claim(NAME)).await?.metadata.uid, claim.metadata.uid);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_volume_goes_with_its_registry_where_that_is_asked_for() -> Outcome {
    with_namespace("delete", async |namespace| {
        let mut spec = registry::spec();
        spec["storage"]["filesystem"]["deletionPolicy"] = json!("Delete");
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        delete(namespace).await?;
        wait::gone(&namespace.api::<PersistentVolumeClaim>(), &names::claim(NAME)).await
    })
    .await
}

#[tokio::test]
async fn the_policy_can_be_changed_until_the_end() -> Outcome {
    with_namespace("policy", async |namespace| {
        let mut spec = registry::spec();
        spec["storage"]["filesystem"]["deletionPolicy"] = json!("Delete");
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        registry::apply(namespace, NAME, registry::spec()).await?;
        registry::ready(namespace, NAME).await?;
        delete(namespace).await?;
        let claim = namespace.api::<PersistentVolumeClaim>().get(&names::claim(NAME)).await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "the volume is going");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_registry_that_is_made_again_at_once_does_not_trip_over_the_old_one() -> Outcome {
    with_namespace("again", async |namespace| {
        let first = registry::quick(namespace).await?.metadata.uid;
        namespace.api::<Registry>().delete(NAME, &DeleteParams::background()).await?;
        registry::apply(namespace, NAME, registry::spec()).await?;
        let second = registry::ready(namespace, NAME).await?.metadata.uid;
        ensure!(first != second, "the old one was never gone");
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        wait::eventually("a push", async || oci::push(&client, "team/app", "v1", "layer").await).await?;
        Ok(())
    })
    .await
}
