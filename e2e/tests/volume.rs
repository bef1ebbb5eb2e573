//! A volume grows with its Registry, which goes on meanwhile.

use anyhow::Context as _;
use e2e::namespace::{Outcome, with_namespace};
use e2e::registry::{self, NAME};
use e2e::wait;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
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
