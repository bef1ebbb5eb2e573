//! Wiring: what is watched, which object each event concerns, and how often things are tried. Here it is that of the
//! Registries; that of the policies is in `garbage_collection_policy.rs`, that of what is about all Registries at once in
//! `rounds.rs` and beside it.

mod advertise;
mod garbage_collection_policy;
mod node_access;
mod pull_access;
mod rounds;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{BoxFuture, Shared, join, join_all, join4};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, predicates, watcher};
use kube::{Client, Resource, ResourceExt};

use crate::api::registry::Registry;
use crate::api::status::{READY, Reason, STORAGE_READY};
use crate::apply::server_message;
use crate::context::Context;
use crate::names;
use crate::registry::dereference::claim_name;
use crate::registry::{self, Error};
use rounds::Rounds;

/// Time in which events about one Registry are gathered into one reconcile. A Deployment alone sends several at each
/// step of its roll-out.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// A Registry as it arrives: one that cannot be read must not stop the watch of the others.
type Guarded = DeserializeGuard<Registry>;

/// Resolves when the operator is to stop.
pub type Shutdown = Shared<BoxFuture<'static, ()>>;

/// Reconciles the Registries and policies of `namespaces`, or of all if there are none, until `shutdown`; then lets what runs end.
pub async fn run(context: Arc<Context>, namespaces: &[String], concurrency: u16, shutdown: Shutdown) {
    let scopes: Vec<Option<&str>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(|name| Some(name.as_str())).collect()
    };
    let (readers, writers): (Vec<_>, Vec<_>) = scopes.iter().map(|_| store::<Guarded>()).unzip();
    let rounds =
        Rounds { context: Arc::clone(&context), registries: readers.clone(), shutdown: shutdown.clone() };
    let controllers = scopes.iter().zip(readers).zip(writers).map(|((scope, reader), writer)| {
        let store = (reader, writer);
        let registries = control(Arc::clone(&context), *scope, store, concurrency, shutdown.clone());
        let policies =
            garbage_collection_policy::control(Arc::clone(&context), *scope, concurrency, shutdown.clone());
        join(registries, policies)
    });
    let nodes = node_access::control(&rounds);
    let pull_access = pull_access::control(&rounds, namespaces, &scopes);
    let advertise = advertise::control(&rounds, namespaces);
    // On the heap: all the watches together make a large future.
    Box::pin(join4(join_all(controllers), nodes, pull_access, advertise)).await;
}

/// Children are watched by label, and as metadata only: an event just says whose Registry to look at.
async fn control(
    context: Arc<Context>,
    scope: Option<&str>,
    (reader, writer): (Store<Guarded>, Writer<Guarded>),
    concurrency: u16,
    shutdown: Shutdown,
) {
    let client = &context.client;
    context.metrics.report(reader.clone());
    let of_rounds = Arc::clone(&context);
    let registries = watcher(api::<Guarded>(client, scope), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        // After the store: who is woken finds there what has happened.
        .inspect(move |_| of_rounds.registries_changed.send_replace(()))
        .applied_objects()
        .predicate_filter(predicates::generation, kube::runtime::PredicateConfig::default());
    let labelled = || watcher::Config::default().labels(names::REGISTRY_LABEL);
    let every = watcher::Config::default;
    let of_secrets = reader.clone();
    let of_claims = reader.clone();
    let of_rivals = reader.clone();
    let of_classes = reader.clone();
    let controller = Controller::for_stream(registries, reader.clone())
        .with_config(Config::default().concurrency(concurrency).debounce(DEBOUNCE))
        .watches(metadata::<Deployment>(client, scope), labelled(), |object| by_child(&object))
        .watches(metadata::<Service>(client, scope), labelled(), |object| by_child(&object))
        .watches(metadata::<ConfigMap>(client, scope), labelled(), |object| by_child(&object))
        .watches(metadata::<ServiceAccount>(client, scope), labelled(), |object| by_child(&object))
        .watches(metadata::<Pod>(client, scope), labelled(), |object| by_child(&object))
        .watches(metadata::<EndpointSlice>(client, scope), labelled(), |object| by_child(&object))
        .watches(metadata::<Secret>(client, scope), every(), move |secret| by_secret(&of_secrets, &secret))
        .watches(metadata::<Registry>(client, scope), every(), move |rival| by_rival(&of_rivals, &rival))
        .watches(metadata::<PersistentVolumeClaim>(client, scope), every(), move |claim| {
            by_claim(&of_claims, &claim)
        });
    // Watches without the right to them would fail for ever and hold up the others.
    let controller = match context.defaults.access_review_role {
        Some(_) => {
            controller.watches(metadata::<RoleBinding>(client, scope), labelled(), |object| by_child(&object))
        }
        None => controller,
    };
    let controller = match scope {
        Some(_) => controller,
        None => controller.watches(
            Api::<PartialObjectMeta<StorageClass>>::all(client.clone()),
            every(),
            move |_| unready(&of_classes),
        ),
    };
    controller
        .graceful_shutdown_on(shutdown)
        .run(
            move |guarded, context| {
                let reader = reader.clone();
                async move { reconcile(&guarded, &reader, &context).await }
            },
            |guarded, error, context| retry(guarded.as_ref(), error, &context),
            Arc::clone(&context),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn metadata<K>(client: &Client, namespace: Option<&str>) -> Api<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    api(client, namespace)
}

/// The Registries that an object is labelled for or owned by. It takes both: either may be what somebody has changed.
fn by_child<K>(object: &PartialObjectMeta<K>) -> Vec<ObjectRef<Guarded>> {
    let Some(namespace) = &object.metadata.namespace else { return Vec::new() };
    let label = object.metadata.labels.iter().filter_map(|labels| labels.get(names::REGISTRY_LABEL));
    let owners = object.metadata.owner_references.iter().flatten();
    let owners = owners.filter(|owner| owner.kind == Registry::kind(&())).map(|owner| &owner.name);
    let registries: BTreeSet<&String> = label.chain(owners).collect();
    registries.into_iter().map(|registry| ObjectRef::new(registry).within(namespace)).collect()
}

/// The Registries whose child a Secret is, and those that name it.
fn by_secret(registries: &Store<Guarded>, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let name = secret.name_any();
    let named = registries_where(registries, |registry| {
        let auth = registry.spec.auth.as_ref().and_then(|auth| auth.htpasswd_secret_ref.as_ref());
        registry.namespace() == secret.namespace()
            && (auth.is_some_and(|reference| reference.name == name)
                || registry.spec.tls.secret_ref.as_ref().is_some_and(|reference| reference.name == name))
    });
    by_child(secret).into_iter().chain(named).collect()
}

/// The Registries that mount a claim.
fn by_claim(
    registries: &Store<Guarded>,
    claim: &PartialObjectMeta<PersistentVolumeClaim>,
) -> Vec<ObjectRef<Guarded>> {
    let name = claim.name_any();
    registries_where(registries, |registry| {
        registry.namespace() == claim.namespace() && claim_name(registry) == name
    })
}

/// The Registries that wait for a claim which a Registry of their namespace may have just given up.
fn by_rival(registries: &Store<Guarded>, rival: &PartialObjectMeta<Registry>) -> Vec<ObjectRef<Guarded>> {
    registries_where(registries, |registry| {
        let ready = registry.status.as_ref().and_then(|status| status.condition(READY));
        let is_waiting = ready.is_some_and(|ready| ready.reason == Reason::ClaimTaken.to_string());
        is_waiting && registry.namespace() == rival.namespace() && registry.name_any() != rival.name_any()
    })
}

/// The Registries that a new storage class might help.
fn unready(registries: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    registries_where(registries, |registry| {
        let storage = registry.status.as_ref().and_then(|status| status.condition(STORAGE_READY));
        storage.is_none_or(|storage| storage.status != "True")
    })
}

fn registries_where(
    registries: &Store<Guarded>,
    matches: impl Fn(&Registry) -> bool,
) -> Vec<ObjectRef<Guarded>> {
    let state = registries.state();
    state
        .iter()
        .filter(|guarded| guarded.0.as_ref().is_ok_and(&matches))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

async fn reconcile(
    guarded: &Guarded,
    registries: &Store<Guarded>,
    context: &Context,
) -> Result<Action, Error> {
    let started = Instant::now();
    // The watch may lag behind the operator's own last write of the status; from an old one, old news would be told anew.
    let Some(fresh) = registry::read(guarded.meta(), context).await? else {
        return Ok(Action::await_change());
    };
    let outcome = match &fresh.0 {
        Ok(registry) => {
            let state = registries.state();
            let all: Vec<&Registry> = state.iter().filter_map(|other| other.0.as_ref().ok()).collect();
            registry::reconcile(registry, &all, context).await.map(Action::requeue)
        }
        Err(invalid) => {
            registry::report_unreadable(&invalid.metadata, &invalid.error, context).await?;
            Ok(Action::await_change())
        }
    };
    // Whatever it was about, the nodes may have to know: an address, a certificate.
    context.reconciled.send_replace(());
    context.metrics.reconciled(started.elapsed());
    if outcome.is_ok() {
        context.failures.forget(guarded.meta().uid.as_deref().unwrap_or_default());
    }
    outcome
}

fn retry<K>(guarded: &K, error: &Error, context: &Context) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let wait = context.failures.count(guarded.meta().uid.as_deref().unwrap_or_default());
    context.metrics.failed(&error.reason());
    let (namespace, kind, name) = (guarded.namespace().unwrap_or_default(), K::kind(&()), guarded.name_any());
    let error = chain(error);
    tracing::warn!(%namespace, %kind, %name, %error, ?wait, "a reconcile failed and will be tried again");
    Action::requeue(wait)
}

/// An error with its causes, in one line. What the API server said ends it: the client's own words repeat it at length.
fn chain(first: &(dyn std::error::Error + 'static)) -> String {
    let mut words = Vec::new();
    for error in std::iter::successors(Some(first), |error| error.source()) {
        match error.downcast_ref::<kube::Error>() {
            Some(error) => {
                words.push(server_message(error));
                break;
            }
            None => words.push(error.to_string()),
        }
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::{Guarded, by_child, by_claim, by_rival, by_secret, chain, unready};
    use crate::registry::{Error, dereference};
    use kube::core::PartialObjectMeta;
    use kube::runtime::reflector::{ObjectRef, Store, store};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    fn known(registries: &[(&str, Value)]) -> Store<Guarded> {
        let (reader, mut writer) = store();
        for (name, spec) in registries {
            let object = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": name, "namespace": "n"}, "spec": spec});
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        }
        reader
    }

    fn object<K>(name: &str, namespace: &str, labels: &Value) -> PartialObjectMeta<K> {
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn names(found: impl IntoIterator<Item = ObjectRef<Guarded>>) -> Vec<String> {
        let mut names: Vec<String> = found.into_iter().map(|found| found.name).collect();
        names.sort();
        names
    }

    #[test]
    fn an_event_concerns_the_registry_of_the_label_and_the_owner() {
        let owned = |labels: &Value, owner: &str| {
            let mut child = object::<k8s_openapi::api::core::v1::Pod>("p", "n", labels);
            let owner = json!([{"apiVersion": "v", "kind": owner, "name": "hub", "uid": "1"}]);
            child.metadata.owner_references = Some(serde_json::from_value(owner).unwrap());
            names(by_child(&child))
        };
        let label = |name: &str| json!({"windlass.dev/registry": name});
        assert_eq!(owned(&label("hub"), "Registry"), ["hub"]);
        assert_eq!(owned(&label("hub"), "ReplicaSet"), ["hub"]);
        assert_eq!(owned(&json!({}), "Registry"), ["hub"]);
        assert_eq!(owned(&label("other"), "Registry"), ["hub", "other"]);
        assert_eq!(owned(&json!({}), "ReplicaSet"), [""; 0]);
    }

    #[test]
    fn a_registry_that_goes_concerns_those_that_wait_for_its_claim() {
        let filesystem = json!({"filesystem": {"existingClaim": "c"}});
        let (reader, mut writer) = store();
        for (name, reason) in [("hub", "ClaimTaken"), ("calm", "Available"), ("first", "ClaimTaken")] {
            let condition = json!({"type": "Ready", "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let object = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": name, "namespace": "n"}, "spec": {"storage": filesystem},
                "status": {"conditions": [condition]}});
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        }
        assert_eq!(names(by_rival(&reader, &object("first", "n", &json!({})))), ["hub"]);
        assert_eq!(names(by_rival(&reader, &object("first", "m", &json!({})))), [""; 0]);
    }

    #[test]
    fn a_secret_concerns_all_that_name_it() {
        let filesystem = json!({"filesystem": {"size": "1Gi"}});
        let registries = known(&[
            ("auth", json!({"storage": filesystem, "auth": {"htpasswdSecretRef": {"name": "s"}}})),
            ("tls", json!({"storage": filesystem, "tls": {"secretRef": {"name": "s"}}})),
            ("other", json!({"storage": filesystem, "tls": {"secretRef": {"name": "t"}}})),
            ("broken", json!({"storage": 1})),
        ]);
        assert_eq!(names(by_secret(&registries, &object("s", "n", &json!({})))), ["auth", "tls"]);
        assert_eq!(names(by_secret(&registries, &object("s", "m", &json!({})))), [""; 0]);
        let labelled = object("x", "n", &json!({"windlass.dev/registry": "hub"}));
        assert_eq!(names(by_secret(&registries, &labelled)), ["hub"]);
    }

    #[test]
    fn a_claim_concerns_all_that_mount_it() {
        let registries = known(&[
            ("hub", json!({"storage": {"filesystem": {"size": "1Gi"}}})),
            ("guest", json!({"storage": {"filesystem": {"existingClaim": "hub-data"}}})),
        ]);
        assert_eq!(names(by_claim(&registries, &object("hub-data", "n", &json!({})))), ["guest", "hub"]);
        assert_eq!(names(by_claim(&registries, &object("other", "n", &json!({})))), [""; 0]);
    }

    #[test]
    fn a_storage_class_concerns_those_without_a_volume() {
        let registries = known(&[("hub", json!({"storage": {"filesystem": {"size": "1Gi"}}}))]);
        assert_eq!(names(unready(&registries)), ["hub"]);
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_the_servers_own_words() {
        let status = kube::core::Status::failure("no such thing", "NotFound").with_code(404).boxed();
        let source = kube::Error::Api(status);
        let error = Error::Dereference(dereference::Error { what: "Pods".to_owned(), source });
        assert_eq!(chain(&error), "dereference: read Pods: no such thing");
    }
}
