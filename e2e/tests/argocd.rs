//! The actions that Argo CD offers do what they say.

use anyhow::{Context as _, ensure};
use e2e::argocd::{Word, act, actions, health};
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::wait;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::api::registry::Registry;
use serde_json::{Value, json};

fn api<K: Resource<DynamicType = ()>>(namespace: &Namespace) -> Api<DynamicObject> {
    Api::namespaced_with(namespace.client.clone(), &namespace.name, &ApiResource::erase::<K>(&()))
}

/// Performs an action as Argo CD does: it patches what the script has changed.
async fn click(api: &Api<DynamicObject>, name: &str, action: &str) -> anyhow::Result<Value> {
    let object = json!(api.get(name).await?);
    ensure!(actions(&object)?.iter().any(|offered| offered == action), "{action} is not offered: {object}");
    let changed = act(&object, action)?;
    let annotations = &changed["metadata"]["annotations"];
    let patch = json!({"spec": changed["spec"], "metadata": {"annotations": annotations}});
    Ok(json!(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?))
}

async fn becomes(api: &Api<DynamicObject>, name: &str, word: Word) -> anyhow::Result<()> {
    let is_such = |object: &DynamicObject| health(&json!(object)).is_ok_and(|health| health.status == word);
    wait::until(api, name, &format!("{word:?}"), is_such).await?;
    Ok(())
}

#[tokio::test]
async fn a_registry_is_paused_and_made_read_only_by_actions() -> Outcome {
    with_namespace("argocd", async |namespace| {
        registry::quick(namespace).await?;
        let api = api::<Registry>(namespace);
        for (action, word) in [
            ("pause", Word::Suspended),
            ("resume", Word::Healthy),
            ("make-read-only", Word::Healthy),
            ("make-writable", Word::Healthy),
        ] {
            click(&api, NAME, action).await?;
            becomes(&api, NAME, word).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_collection_runs_on_a_click_while_its_schedule_is_suspended() -> Outcome {
    with_namespace("argocd", async |namespace| {
        registry::quick(namespace).await?;
        let spec = json!({"registryRef": {"name": NAME}, "schedule": "@yearly"});
        let policy = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "GarbageCollectionPolicy",
            "metadata": {"name": "nightly"}, "spec": spec});
        namespace.apply(policy).await?;
        let api = api::<GarbageCollectionPolicy>(namespace);
        becomes(&api, "nightly", Word::Healthy).await?;
        click(&api, "nightly", "suspend").await?;
        let asked = click(&api, "nightly", "run").await?;
        let request = asked["metadata"]["annotations"]["windlass.dev/run-requested-at"].as_str();
        let request = request.context("a request")?;
        let has_run = |policy: &GarbageCollectionPolicy| {
            policy.status.as_ref().is_some_and(|status| {
                status.last_request.as_deref() == Some(request) && status.totals.succeeded == 1
            })
        };
        wait::until(&namespace.api(), "nightly", "the run that was asked for", has_run).await?;
        becomes(&api, "nightly", Word::Healthy).await
    })
    .await
}
