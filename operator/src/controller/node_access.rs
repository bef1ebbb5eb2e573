//! Wiring of what concerns the nodes. There is one plan in the cluster, so this is no controller with a queue of objects
//! but a loop, which is woken by whatever happens to a Registry, a node, a report, or the agents and their plan.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join5;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, ServiceAccount};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{Guarded, Shutdown, chain, metadata};
use crate::api::node_access::NodeAccess;
use crate::context::Context;
use crate::names;
use crate::node_access::{self, Known};
use crate::registry::Error;

/// Time in which events are gathered into one look at all. It is longer than that of a Registry: one look is about all.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Under which name failures in a row are counted.
const FAILURES: &str = "node-access";

/// What the watches know.
struct Watched {
    registries: Vec<Store<Guarded>>,
    nodes: Store<Node>,
    reports: Store<NodeAccess>,
}

/// Keeps the nodes told of the `registries` until `shutdown`.
pub(super) async fn control(context: Arc<Context>, registries: Vec<Store<Guarded>>, shutdown: Shutdown) {
    let (nodes, node_writer) = store();
    let (reports, report_writer) = store();
    let watched = Watched { registries, nodes, reports };
    tokio::select! {
        () = watch(&context, node_writer, report_writer) => {}
        () = work(&context, &watched, shutdown) => {}
    }
}

/// Watches what the agents are about, for ever. Without agents, the operator has no right to.
async fn watch(context: &Context, nodes: Writer<Node>, reports: Writer<NodeAccess>) {
    if context.node_access.image.is_none() {
        return std::future::pending().await;
    }
    let (client, namespace) = (&context.client, context.node_access.namespace.as_str());
    let every = watcher::Config::default;
    let all_nodes = watcher(Api::<Node>::all(client.clone()), every()).default_backoff().modify(trim);
    let all_reports =
        watcher(Api::<NodeAccess>::namespaced(client.clone(), namespace), every()).default_backoff();
    Box::pin(join5(
        wake(context, all_nodes.reflect(nodes)),
        wake(context, all_reports.reflect(reports)),
        wake(context, one::<ConfigMap>(context, names::NODE_ACCESS_PLAN)),
        wake(context, one::<DaemonSet>(context, names::NODE_AGENT)),
        wake(context, one::<ServiceAccount>(context, names::NODE_AGENT)),
    ))
    .await;
}

/// Leaves out what is large and of no use here: the images of a node are most of it.
fn trim(node: &mut Node) {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}

/// What happens to one object of the operator's own namespace.
fn one<K>(
    context: &Context,
    name: &str,
) -> impl Stream<Item = watcher::Result<watcher::Event<impl Sized + use<K>>>> + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(metadata::<K>(&context.client, Some(&context.node_access.namespace)), config).default_backoff()
}

async fn wake<T>(context: &Context, events: impl Stream<Item = watcher::Result<T>>) {
    events
        .for_each(|event| {
            match event {
                Ok(_) => context.nodes_concerned.notify_one(),
                Err(error) => tracing::warn!(%error, "what concerns the nodes cannot be watched"),
            }
            std::future::ready(())
        })
        .await;
}

async fn work(context: &Context, watched: &Watched, shutdown: Shutdown) {
    tokio::select! {
        () = ready(context, watched) => {}
        () = shutdown.clone() => return,
    }
    loop {
        let wait = look(context, watched).await;
        tokio::select! {
            () = context.nodes_concerned.notified() => sleep(DEBOUNCE).await,
            () = sleep(wait) => {}
            () = shutdown.clone() => return,
        }
    }
}

/// Returns when all is known: what is not known yet would be taken from the nodes. A watch that has ended leaves nothing
/// to wait for.
async fn ready(context: &Context, watched: &Watched) {
    for registries in &watched.registries {
        let _ = registries.wait_until_ready().await;
    }
    if context.node_access.image.is_some() {
        let _ = watched.nodes.wait_until_ready().await;
        let _ = watched.reports.wait_until_ready().await;
    }
}

/// Looks at all once, and returns how long to wait for the next time.
async fn look(context: &Context, watched: &Watched) -> Duration {
    let started = Instant::now();
    let registries: Vec<Arc<Guarded>> = watched.registries.iter().flat_map(Store::state).collect();
    let (nodes, reports) = (watched.nodes.state(), watched.reports.state());
    let known = Known {
        registries: registries.iter().filter_map(|registry| registry.0.as_ref().ok()).collect(),
        unreadable: registries
            .iter()
            .filter(|registry| registry.0.is_err())
            .map(|one| full_name(one))
            .collect(),
        nodes: nodes.iter().map(AsRef::as_ref).collect(),
        reports: reports.iter().map(AsRef::as_ref).collect(),
    };
    let outcome = node_access::reconcile(&known, context, Timestamp::now()).await;
    context.metrics.reconciled(started.elapsed());
    match outcome {
        Ok(wait) => {
            context.failures.forget(FAILURES);
            wait
        }
        Err(error) => retry(&error, context),
    }
}

fn full_name(registry: &Guarded) -> String {
    format!("{}/{}", registry.namespace().unwrap_or_default(), registry.name_any())
}

fn retry(error: &Error, context: &Context) -> Duration {
    let wait = context.failures.count(FAILURES);
    context.metrics.failed(&error.reason());
    let error = chain(error);
    tracing::warn!(%error, ?wait, "looking after the nodes failed and will be tried again");
    wait
}
