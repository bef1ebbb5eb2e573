//! Wiring of the policies: any change of a policy, of a Registry or of a run wakes the policies of its namespace. They are
//! few, and which of them a change concerns depends on selectors and on who came first.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::predicates;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{Predicate as _, WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};

use super::{DEBOUNCE, Shutdown, api, metadata, retry};
use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
use crate::api::registry::Registry;
use crate::context::Context;
use crate::garbage_collection_policy;
use crate::names;
use crate::registry::Error;

/// A policy as it arrives: one that cannot be read must not stop the watch of the others.
type Guarded = DeserializeGuard<GarbageCollectionPolicy>;

pub(super) async fn control(
    context: Arc<Context>,
    scope: Option<&str>,
    concurrency: u16,
    shutdown: Shutdown,
) {
    let client = &context.client;
    let (reader, writer) = store::<Guarded>();
    let policies = watcher(api::<Guarded>(client, scope), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations),
            kube::runtime::PredicateConfig::default(),
        );
    let every = watcher::Config::default;
    let of_runs = || every().labels(names::COLLECTED_LABEL);
    let of_servers = || every().labels(names::REGISTRY_LABEL);
    let readers = [(); 4].map(|()| reader.clone());
    let [of_jobs, of_deployments, of_registries, of_rivals] = readers;
    Controller::for_stream(policies, reader)
        .with_config(Config::default().concurrency(concurrency).debounce(DEBOUNCE))
        .watches(metadata::<Job>(client, scope), of_runs(), move |job| neighbours(&of_jobs, &job))
        .watches(metadata::<Deployment>(client, scope), of_servers(), move |server| {
            neighbours(&of_deployments, &server)
        })
        .watches(metadata::<Registry>(client, scope), every(), move |registry| {
            neighbours(&of_registries, &registry)
        })
        .watches(metadata::<GarbageCollectionPolicy>(client, scope), every(), move |rival| {
            neighbours(&of_rivals, &rival)
        })
        .graceful_shutdown_on(shutdown)
        .run(
            |guarded, context| async move { reconcile(&guarded, &context).await },
            |guarded, error, context| retry(guarded.as_ref(), error, &context),
            Arc::clone(&context),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

/// The policies of the namespace of `object`.
fn neighbours<K>(policies: &Store<Guarded>, object: &PartialObjectMeta<K>) -> Vec<ObjectRef<Guarded>> {
    let state = policies.state();
    state
        .iter()
        .filter(|policy| policy.namespace() == object.metadata.namespace)
        .map(|policy| ObjectRef::from_obj(policy.as_ref()))
        .collect()
}

async fn reconcile(guarded: &Guarded, context: &Context) -> Result<Action, Error> {
    let started = Instant::now();
    // From an old status, a run that has been begun would be begun anew.
    let Some(fresh) = garbage_collection_policy::read(guarded.meta(), context).await? else {
        return Ok(Action::await_change());
    };
    let outcome = match &fresh.0 {
        Ok(policy) => {
            garbage_collection_policy::reconcile(policy, context, Timestamp::now()).await.map(Action::requeue)
        }
        Err(invalid) => {
            garbage_collection_policy::report_unreadable(&invalid.metadata, &invalid.error, context).await?;
            Ok(Action::await_change())
        }
    };
    context.metrics.reconciled(started.elapsed());
    if outcome.is_ok() {
        context.failures.forget(guarded.meta().uid.as_deref().unwrap_or_default());
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::{Guarded, neighbours};
    use k8s_openapi::api::batch::v1::Job;
    use kube::core::PartialObjectMeta;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    #[test]
    fn a_change_wakes_the_policies_of_its_namespace() {
        let (reader, mut writer) = store::<Guarded>();
        for (name, namespace) in [("a", "n"), ("b", "n"), ("c", "m")] {
            let object = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "GarbageCollectionPolicy",
                "metadata": {"name": name, "namespace": namespace}, "spec": {"schedule": "@daily"}});
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        }
        let job = json!({"metadata": {"name": "j", "namespace": "n"}});
        let job: PartialObjectMeta<Job> = serde_json::from_value(job).unwrap();
        let mut woken: Vec<String> =
            neighbours(&reader, &job).into_iter().map(|policy| policy.name).collect();
        woken.sort();
        assert_eq!(woken, ["a", "b"]);
    }
}
