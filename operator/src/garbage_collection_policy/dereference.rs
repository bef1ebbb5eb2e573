//! First step: reads everything that the other steps decide upon, and decides nothing itself but which registries a
//! policy is about.

use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope, Selector, SelectorExt as _};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
use crate::api::registry::Registry;
use crate::names;
use crate::registry::dereference::{Error, claim_name};

/// What the cluster holds that matters to one policy.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The registries that the policy is about, by name.
    pub registries: Vec<Collected>,
    /// The Jobs of all runs in the namespace, whichever policy they are of.
    pub jobs: Vec<Job>,
    /// Their Pods.
    pub pods: Vec<Pod>,
    /// The names of the `ConfigMap`s of runs.
    pub config_maps: Vec<String>,
}

/// A registry that the policy is about.
#[derive(Clone, Debug)]
pub struct Collected {
    /// It.
    pub registry: Registry,
    /// Its server.
    pub deployment: Option<Deployment>,
    /// Its volume.
    pub claim: Option<PersistentVolumeClaim>,
    /// Its address.
    pub service: Option<Service>,
    /// Another policy that is about it and came first.
    pub taken_by: Option<String>,
}

/// Reads all that `policy` depends on.
///
/// # Errors
/// [`Error`] when the API server does not answer, or refuses what the operator needs.
pub async fn dereference(client: &Client, policy: &GarbageCollectionPolicy) -> Result<Found, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let of_runs = ListParams::default().labels(names::COLLECTED_LABEL);
    let (registries, policies, jobs, pods, config_maps) = try_join!(
        readable::<Registry>(client, &namespace),
        readable::<GarbageCollectionPolicy>(client, &namespace),
        list::<Job>(client, &namespace, &of_runs),
        list::<Pod>(client, &namespace, &of_runs),
        config_maps(client, &namespace, &of_runs),
    )?;
    let selected = registries.into_iter().filter(|registry| is_about(policy, registry));
    let registries = try_join_all(selected.map(|registry| collected(client, policy, registry, &policies)));
    let mut registries = registries.await?;
    registries.sort_by_key(|collected| collected.registry.name_any());
    Ok(Found { registries, jobs, pods, config_maps })
}

/// Whether `policy` is about `registry`. A selector that cannot be read is about none.
#[must_use]
pub fn is_about(policy: &GarbageCollectionPolicy, registry: &Registry) -> bool {
    if registry.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match (&policy.spec.registry_ref, &policy.spec.registry_selector) {
        (Some(reference), _) => reference.name == registry.name_any(),
        (None, Some(selector)) => {
            Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(registry.labels()))
        }
        (None, None) => false,
    }
}

/// The first policy that is about `registry` and comes before `policy`: the older one, so that of two exactly one gives
/// way.
fn taken_by(
    policy: &GarbageCollectionPolicy,
    registry: &Registry,
    policies: &[GarbageCollectionPolicy],
) -> Option<String> {
    let rank = |policy: &GarbageCollectionPolicy| {
        (policy.creation_timestamp().map(|time| time.0), policy.name_any())
    };
    policies
        .iter()
        .filter(|other| other.metadata.deletion_timestamp.is_none() && is_about(other, registry))
        .filter(|other| rank(other) < rank(policy))
        .min_by_key(|other| rank(other))
        .map(ResourceExt::name_any)
}

async fn collected(
    client: &Client,
    policy: &GarbageCollectionPolicy,
    registry: Registry,
    policies: &[GarbageCollectionPolicy],
) -> Result<Collected, Error> {
    let (namespace, name) = (registry.namespace().unwrap_or_default(), registry.name_any());
    let claim = claim_name(&registry);
    let (deployment, claim, service) = try_join!(
        optional::<Deployment>(client, &namespace, &name),
        optional::<PersistentVolumeClaim>(client, &namespace, &claim),
        optional::<Service>(client, &namespace, &name),
    )?;
    let taken_by = taken_by(policy, &registry, policies);
    Ok(Collected { registry, deployment, claim, service, taken_by })
}

/// All objects of a custom resource that can be read; one that cannot must not be in the way of the others.
async fn readable<K>(client: &Client, namespace: &str) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + 'static,
{
    let all = list::<DeserializeGuard<K>>(client, namespace, &ListParams::default()).await?;
    Ok(all.into_iter().filter_map(|guarded| guarded.0.ok()).collect())
}

async fn list<K>(client: &Client, namespace: &str, params: &ListParams) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let listed = Api::<K>::namespaced(client.clone(), namespace).list(params).await;
    Ok(listed.map_err(|source| Error { what: format!("{}s", K::kind(&())), source })?.items)
}

/// Only the names: what they hold is large, and was written to be read by a run.
async fn config_maps(client: &Client, namespace: &str, params: &ListParams) -> Result<Vec<String>, Error> {
    let listed = Api::<ConfigMap>::namespaced(client.clone(), namespace).list_metadata(params).await;
    let listed = listed.map_err(|source| Error { what: "ConfigMaps of runs".to_owned(), source })?;
    Ok(listed.items.iter().map(ResourceExt::name_any).collect())
}

async fn optional<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let found = Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await;
    found.map_err(|source| Error { what: format!("{} {name}", K::kind(&())), source })
}

#[cfg(test)]
mod tests {
    use super::{is_about, taken_by};
    use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
    use crate::api::registry::Registry;
    use serde_json::{Value, json};

    fn registry(name: &str, labels: &Value) -> Registry {
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": name, "namespace": "n", "labels": labels},
            "spec": {"storage": {"filesystem": {"size": "1Gi"}}}}))
        .unwrap()
    }

    fn policy(name: &str, created: &str, target: &Value) -> GarbageCollectionPolicy {
        let mut spec = json!({"schedule": "@daily"});
        spec.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1",
            "kind": "GarbageCollectionPolicy", "spec": spec,
            "metadata": {"name": name, "namespace": "n", "creationTimestamp": created}}))
        .unwrap()
    }

    #[test]
    fn a_policy_is_about_the_registry_that_it_names_or_selects() {
        let hub = registry("hub", &json!({"tier": "prod"}));
        for (target, expected) in [
            (json!({"registryRef": {"name": "hub"}}), true),
            (json!({"registryRef": {"name": "other"}}), false),
            (json!({"registrySelector": {}}), true),
            (json!({"registrySelector": {"matchLabels": {"tier": "prod"}}}), true),
            (json!({"registrySelector": {"matchLabels": {"tier": "test"}}}), false),
            (json!({"registrySelector": {"matchExpressions": [{"key": "tier", "operator": "Near"}]}}), false),
            (json!({}), false),
        ] {
            assert_eq!(is_about(&policy("p", "2026-01-01T00:00:00Z", &target), &hub), expected, "{target}");
        }
    }

    #[test]
    fn of_two_policies_for_one_registry_the_younger_gives_way() {
        let hub = registry("hub", &json!({}));
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let (named, all) = (json!({"registryRef": {"name": "hub"}}), json!({"registrySelector": {}}));
        let other = json!({"registryRef": {"name": "other"}});
        for (first, second, gives_way) in [
            (policy("a", early, &named), policy("b", late, &named), Some("b")),
            (policy("a", late, &all), policy("b", early, &named), Some("a")),
            (policy("a", early, &named), policy("b", early, &named), Some("b")),
            (policy("a", early, &other), policy("b", late, &named), None),
        ] {
            let both = [first, second];
            let losers =
                both.iter().filter(|one| is_about(one, &hub) && taken_by(one, &hub, &both).is_some());
            let losers: Vec<&str> = losers.filter_map(|one| one.metadata.name.as_deref()).collect();
            assert_eq!(losers, gives_way.into_iter().collect::<Vec<_>>());
        }
    }
}
