//! A volume grows with its Registry, which goes on meanwhile.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::registry::{self, NAME};
use e2e::wait;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use operator::api::registry::Registry;
use operator::api::status::{RegistryStatus, STORAGE_READY};
use operator::names;
use serde_json::json;

#[tokio::test]
async fn a_volume_grows_while_the_registry_is_ready() -> Outcome {
    with_namespace("grow", async |namespace| {
        registry::quick(namespace).await?;
        let grown = json!({"spec": {"storage": {"filesystem": {"size": "128Mi"}}}});
        namespace.merge::<Registry>(NAME, grown).await?;
        let storage = |reason: &str| {
            let reason = reason.to_owned();
            move |status: &RegistryStatus| {
                status.condition(STORAGE_READY).is_some_and(|storage| storage.reason == reason)
                    && registry::is(status, "Ready", "True")
            }
        };
        registry::observed(namespace, NAME, "its volume to be grown", storage("Resizing")).await?;

        // The test plays the part of the resizer, which not every cluster has.
        let name = names::claim(NAME);
        let claims = namespace.api::<PersistentVolumeClaim>();
        let asked = |claim: &PersistentVolumeClaim| {
            serde_json::to_value(claim)
                .is_ok_and(|claim| claim["spec"]["resources"]["requests"]["storage"] == "128Mi")
        };
        let claim = wait::until(&claims, &name, "more to be asked for", asked).await?;
        let volume = claim.spec.and_then(|spec| spec.volume_name).context("a claim without a volume")?;
        let params = PatchParams::default();
        let capacity = json!({"capacity": {"storage": "128Mi"}});
        let volumes = namespace.all::<PersistentVolume>();
        volumes.patch(&volume, &params, &Patch::Merge(json!({"spec": capacity}))).await?;
        claims.patch_status(&name, &params, &Patch::Merge(json!({"status": capacity}))).await?;
        registry::observed(namespace, NAME, "its volume to be as asked for", storage("Available")).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_volume_that_somebody_deletes_is_replaced_once_it_is_let_go() -> Outcome {
    with_namespace("volume-lost", async |namespace| {
        registry::quick(namespace).await?;
        let claims = namespace.api::<PersistentVolumeClaim>();
        let name = names::claim(NAME);
        let before = claims.get(&name).await?.metadata.uid;
        claims.delete(&name, &DeleteParams::default()).await?;
        let message = registry::unready(namespace, NAME, "ClaimTerminating").await?;
        ensure!(message.contains(&name), "{message}");
        // Kubernetes keeps it for as long as the server uses it.
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        client.get("/v2/").await?.expect(http::StatusCode::OK)?;

        let pods = namespace.api::<Pod>();
        let servers = ListParams::default().labels(&names::selector_text(NAME));
        pods.delete_collection(&DeleteParams::default(), &servers).await?;
        let another = |claim: &PersistentVolumeClaim| claim.metadata.uid != before;
        wait::until(&claims, &name, "another claim", another).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}
