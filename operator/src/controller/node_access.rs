//! Wiring of what concerns the nodes: whatever happens to a Registry or what belongs to it, a node, a report, or the agents
//! and their plan leads to a round over all of them.

use std::fmt::Debug;

use futures::FutureExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, ServiceAccount};
use kube::Resource;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

use super::metadata;
use super::rounds::{Rounds, events, items, signals};
use crate::api::node_access::NodeAccess;
use crate::context::Context;
use crate::names;
use crate::node_access::{self, Known};
use crate::registries::Registries;

/// Keeps the nodes told of the Registries.
pub(super) async fn control(rounds: &Rounds) {
    let context = &rounds.context;
    let (nodes, node_writer) = store();
    let (reports, report_writer) = store();
    let mut news = vec![signals(&context.reconciled)];
    let has_agents = context.node_access.image.is_some();
    // Without agents, the operator has no right to watch.
    if has_agents {
        let (client, every) = (context.client.clone(), watcher::Config::default);
        let all_nodes = watcher(Api::<Node>::all(client.clone()), every()).default_backoff().modify(trim);
        let all_reports =
            watcher(Api::<NodeAccess>::namespaced(client, &context.node_access.namespace), every());
        news.push(items(all_nodes.reflect(node_writer)));
        news.push(items(all_reports.default_backoff().reflect(report_writer)));
        news.push(one::<ConfigMap>(context, names::NODE_ACCESS_PLAN));
        news.push(one::<DaemonSet>(context, names::NODE_AGENT));
        news.push(one::<ServiceAccount>(context, names::NODE_AGENT));
    }
    let round = async |registries: Registries<'_>| {
        // What is not known yet would be taken from the nodes. Whatever makes it known leads to the next round.
        if has_agents && !(is_known(&nodes) && is_known(&reports)) {
            return Ok(context.resync);
        }
        let (nodes, reports) = (nodes.state(), reports.state());
        let known = Known {
            registries,
            nodes: nodes.iter().map(AsRef::as_ref).collect(),
            reports: reports.iter().map(AsRef::as_ref).collect(),
        };
        node_access::reconcile(&known, context, Timestamp::now()).await
    };
    rounds.run("node-access", news, round).await;
}

/// Whether a store has been filled.
fn is_known<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> bool {
    store.wait_until_ready().now_or_never().is_some_and(|filled| filled.is_ok())
}

/// Leaves out what is large and of no use here: the images of a node are most of it.
fn trim(node: &mut Node) {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}

/// What happens to one object of the operator's own namespace.
fn one<K>(context: &Context, name: &str) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    events(metadata::<K>(&context.client, Some(&context.node_access.namespace)), config)
}
