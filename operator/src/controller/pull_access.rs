//! Wiring of pull access: any change of a Registry, a namespace, a `ServiceAccount` or a Secret of ours leads to a round over
//! all of them. There is no object that a round is about, so this is a loop and no `Controller`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::{BoxStream, select_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::{DEBOUNCE, Shutdown, chain, metadata};
use crate::api::registry::Registry;
use crate::context::Context;
use crate::names;
use crate::pull_access;

/// Under which failures in a row are counted.
const ROUND: &str = "pull-access";

/// Works in the namespaces of `watched`, or in all if there are none, until `shutdown`; then lets a round end.
pub(super) async fn control(context: Arc<Context>, watched: &[String], shutdown: Shutdown) {
    let changed = Notify::new();
    let watching = changes(&context.client, watched).for_each(|()| {
        changed.notify_one();
        std::future::ready(())
    });
    let working = work(&context, watched, &changed, shutdown);
    match select(Box::pin(working), watching).await {
        Either::Left(((), _)) => {}
        Either::Right(((), working)) => working.await,
    }
}

async fn work(context: &Context, watched: &[String], changed: &Notify, shutdown: Shutdown) {
    loop {
        let wait = round(context, watched).await;
        tokio::select! {
            () = shutdown.clone() => return,
            () = changed.notified() => tokio::time::sleep(DEBOUNCE).await,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Returns how long to wait for the next one if nothing changes.
async fn round(context: &Context, watched: &[String]) -> Duration {
    let started = Instant::now();
    let outcome = pull_access::reconcile(context, watched, Timestamp::now()).await;
    context.metrics.reconciled(started.elapsed());
    match outcome {
        Ok(wait) => {
            context.failures.forget(ROUND);
            wait
        }
        Err(error) => {
            context.metrics.failed(error.reason());
            let wait = context.failures.count(ROUND);
            let error = chain(&error);
            tracing::warn!(%error, ?wait, "giving pull access failed and will be tried again");
            wait
        }
    }
}

/// An item for each change that may matter. A watch that is refused is tried again and holds up no other.
fn changes(client: &Client, watched: &[String]) -> impl futures::Stream<Item = ()> {
    let ours = watcher::Config::default().labels(names::PULL_REGISTRY_LABEL);
    let every = watcher::Config::default;
    let scopes: Vec<Option<&str>> = if watched.is_empty() {
        vec![None]
    } else {
        watched.iter().map(|name| Some(name.as_str())).collect()
    };
    let mut streams = vec![events(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), every())];
    for scope in scopes {
        streams.push(events(metadata::<Registry>(client, scope), every()));
        streams.push(events(metadata::<ServiceAccount>(client, scope), every()));
        streams.push(events(metadata::<Secret>(client, scope), ours.clone()));
    }
    select_all(streams)
}

fn events<K>(api: Api<PartialObjectMeta<K>>, config: watcher::Config) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send,
{
    let events = watcher(api, config).default_backoff().touched_objects();
    events.filter_map(|event| std::future::ready(event.ok().map(drop))).boxed()
}
