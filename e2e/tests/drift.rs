//! What somebody changes behind the operator's back is put right, and what nobody changes is not touched.

use std::collections::BTreeMap;

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::{system, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use operator::api::registry::Registry;
use operator::children::Kind;
use operator::names;
use serde_json::{Value, json};

fn children() -> Vec<(Kind, String)> {
    vec![
        (Kind::ServiceAccount, NAME.to_owned()),
        (Kind::ConfigMap, names::config_map(NAME)),
        (Kind::Secret, names::tls_secret(NAME)),
        (Kind::Secret, names::authority_secret(NAME)),
        (Kind::PersistentVolumeClaim, names::claim(NAME)),
        (Kind::Service, NAME.to_owned()),
        (Kind::Deployment, NAME.to_owned()),
    ]
}

fn api(namespace: &Namespace, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(namespace.client.clone(), &namespace.name, resource)
}

/// Changes a field of a child and waits until it is as it was.
async fn is_put_right(
    namespace: &Namespace,
    kind: Kind,
    name: &str,
    pointer: &str,
    patch: Value,
) -> anyhow::Result<()> {
    let api = api(namespace, &kind.resource());
    let field = |object: &DynamicObject| json!(object).pointer(pointer).cloned();
    let before = field(&api.get(name).await?);
    let changed = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    ensure!(field(&changed) != before, "{pointer} of {name} was not changed, it is {before:?}");
    wait::until(&api, name, &format!("{pointer} to be {before:?} again"), |object| field(object) == before)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_child_is_put_right() -> Outcome {
    with_namespace("drift", async |namespace| {
        registry::quick(namespace).await?;
        let label = format!("/metadata/labels/{}", names::REGISTRY_LABEL.replace('/', "~1"));
        let unlabelled = json!({"metadata": {"labels": {names::REGISTRY_LABEL: "other"}}});

        is_put_right(namespace, Kind::Deployment, NAME, "/spec/replicas", json!({"spec": {"replicas": 0}}))
            .await?;
        let image = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "registry", "image": "registry.local/other:1"}]}}}});
        is_put_right(namespace, Kind::Deployment, NAME, "/spec/template/spec/containers/0/image", image)
            .await?;
        let port = json!({"spec": {"ports": [{"name": "registry", "port": 80}]}});
        is_put_right(namespace, Kind::Service, NAME, "/spec/ports", port).await?;
        let selector = json!({"spec": {"selector": {names::REGISTRY_LABEL: "other"}}});
        is_put_right(namespace, Kind::Service, NAME, "/spec/selector", selector).await?;
        let config = json!({"data": {"config.yml": "version: 0.1"}});
        is_put_right(namespace, Kind::ConfigMap, &names::config_map(NAME), "/data", config).await?;
        let bundle = json!({"data": {"ca.crt": null}});
        is_put_right(namespace, Kind::Secret, &names::tls_secret(NAME), "/data", bundle).await?;
        is_put_right(namespace, Kind::ServiceAccount, NAME, &label, unlabelled.clone()).await?;
        is_put_right(namespace, Kind::Service, NAME, &label, unlabelled.clone()).await?;
        let claim = names::claim(NAME);
        is_put_right(namespace, Kind::PersistentVolumeClaim, &claim, &label, unlabelled).await?;
        // The volume has no owner: it stays when the Registry goes.
        for (kind, name) in children().into_iter().filter(|(kind, _)| *kind != Kind::PersistentVolumeClaim) {
            let disowned = json!({"metadata": {"ownerReferences": null}});
            is_put_right(namespace, kind, &name, "/metadata/ownerReferences", disowned).await?;
        }
        registry::ready(namespace, NAME).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_child_is_made_again() -> Outcome {
    with_namespace("deleted", async |namespace| {
        registry::quick(namespace).await?;
        // A volume in use is not gone until its Pod is; that is a test of its own.
        for (kind, name) in children().into_iter().filter(|(kind, _)| *kind != Kind::PersistentVolumeClaim) {
            let api = api(namespace, &kind.resource());
            let before = api.get(&name).await?.uid();
            api.delete(&name, &DeleteParams::background()).await?;
            let what = format!("{} {name} to be made again", kind.name());
            wait::until(&api, &name, &what, |object| object.uid() != before).await?;
        }
        registry::ready(namespace, NAME).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        wait::eventually("an answer", async || client.get("/v2/").await?.expect(http::StatusCode::OK))
            .await?;
        Ok(())
    })
    .await
}

async fn versions(namespace: &Namespace) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let mut versions = BTreeMap::new();
    for (kind, name) in children() {
        let object = api(namespace, &kind.resource()).get(&name).await?;
        versions.insert(format!("{} {name}", kind.name()), object.resource_version());
    }
    Ok(versions)
}

/// Waits until the status of the Deployment has come to rest, so that nobody but the operator could write.
async fn at_rest(namespace: &Namespace) -> anyhow::Result<()> {
    registry::ready(namespace, NAME).await?;
    let progressed = |deployment: &Deployment| {
        let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref());
        conditions.unwrap_or_default().iter().any(|condition| {
            condition.reason.as_deref() == Some("NewReplicaSetAvailable") && condition.status == "True"
        })
    };
    wait::until(&namespace.api(), NAME, "the Deployment to be at rest", progressed).await?;
    Ok(())
}

#[tokio::test]
async fn a_resync_without_a_change_writes_nothing() -> Outcome {
    with_namespace("resync", async |namespace| {
        registry::quick(namespace).await?;
        at_rest(namespace).await?;
        let before = versions(namespace).await?;
        let registries = namespace.api::<Registry>();
        let known = registries.get(NAME).await?.resource_version();

        // The Secret with the users is watched; that it has another annotation makes no difference to the Registry.
        let reconciled = "windlass_operator_reconciliations_total";
        let count = system::counter(&namespace.client, reconciled).await?;
        let touch = json!({"metadata": {"annotations": {"e2e": "touched"}}});
        namespace.merge::<Secret>(registry::USERS, touch).await?;
        wait::eventually("a reconcile", async || {
            let now = system::counter(&namespace.client, reconciled).await?;
            ensure!(now > count, "{now} reconciles");
            Ok(())
        })
        .await?;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;

        assert_eq!(versions(namespace).await?, before);
        assert_eq!(registries.get(NAME).await?.resource_version(), known);
        Ok(())
    })
    .await
}
