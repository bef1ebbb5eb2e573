//! The loop of what is about all Registries at once. There is no object that it is about, so it is no controller with a
//! queue but a round over all of them, which whatever may matter to any of them leads to.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, select_all, unfold};
use futures::{Stream, StreamExt};
use kube::Resource;
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::{Guarded, Shutdown, chain};
use crate::context::Context;
use crate::registries::Registries;
use crate::registry::Error;

/// Time in which events are gathered into one round. It is longer than that of a Registry: one round is about all.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// What all rounds share.
pub(super) struct Rounds {
    /// What every reconcile shares.
    pub context: Arc<Context>,
    /// The Registries, a store for each watched namespace.
    pub registries: Vec<Store<Guarded>>,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Rounds {
    /// Calls `round` at once, after each change of a Registry or item of `news`, and after the time that it returns, until
    /// the shutdown; then lets it end. Failures in a row are counted under `name`.
    pub(super) async fn run(
        &self,
        name: &'static str,
        mut news: Vec<BoxStream<'static, ()>>,
        round: impl AsyncFn(Registries<'_>) -> Result<Duration, Error>,
    ) {
        let concerned = Notify::new();
        news.push(signals(&self.context.registries_changed));
        let watching = select_all(news).for_each(|()| {
            concerned.notify_one();
            std::future::ready(())
        });
        tokio::select! {
            () = Box::pin(self.work(name, &concerned, round)) => {}
            // It does not end while the context is there.
            () = watching => {}
        }
    }

    async fn work(
        &self,
        name: &str,
        concerned: &Notify,
        round: impl AsyncFn(Registries<'_>) -> Result<Duration, Error>,
    ) {
        tokio::select! {
            () = self.ready() => {}
            () = self.shutdown.clone() => return,
        }
        loop {
            let wait = self.once(name, &round).await;
            tokio::select! {
                () = concerned.notified() => sleep(DEBOUNCE).await,
                () = sleep(wait) => {}
                () = self.shutdown.clone() => return,
            }
        }
    }

    /// Returns when all Registries are known: what one that is not known yet has would be taken for nobody's. A watch that
    /// ends before, as at the shutdown, makes none known.
    async fn ready(&self) {
        for registries in &self.registries {
            if registries.wait_until_ready().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Goes round once, and returns how long to wait for the next time.
    async fn once(
        &self,
        name: &str,
        round: impl AsyncFn(Registries<'_>) -> Result<Duration, Error>,
    ) -> Duration {
        let (context, started) = (&self.context, Instant::now());
        let known: Vec<Arc<Guarded>> = self.registries.iter().flat_map(Store::state).collect();
        let outcome = round(Registries::of(known.iter().map(AsRef::as_ref))).await;
        context.metrics.reconciled(started.elapsed());
        match outcome {
            Ok(wait) => {
                context.failures.forget(name);
                wait
            }
            Err(error) => {
                let wait = context.failures.count(name);
                context.metrics.failed(&error.reason());
                let error = chain(&error);
                tracing::warn!(round = name, %error, ?wait, "a round failed and will be tried again");
                wait
            }
        }
    }
}

/// An item for each value that is sent.
pub(super) fn signals(sender: &watch::Sender<()>) -> BoxStream<'static, ()> {
    let next =
        async |mut receiver: watch::Receiver<()>| receiver.changed().await.ok().map(|()| ((), receiver));
    unfold(sender.subscribe(), next).boxed()
}

/// An item for each event about objects of one kind. A watch that is refused is tried again and holds up no other.
pub(super) fn events<K>(api: Api<K>, config: watcher::Config) -> BoxStream<'static, ()>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    items(watcher(api, config).default_backoff())
}

/// An item for each event of a watch.
pub(super) fn items<T>(
    events: impl Stream<Item = watcher::Result<T>> + Send + 'static,
) -> BoxStream<'static, ()> {
    events.filter_map(|event| std::future::ready(event.ok().map(drop))).boxed()
}

#[cfg(test)]
mod tests {
    use super::{Guarded, Rounds, Shutdown};
    use crate::context::{Context, Failures};
    use crate::metrics::Metrics;
    use crate::node_access::settings::Settings;
    use crate::registry::Error;
    use crate::registry::validate::Defaults;
    use futures::FutureExt;
    use futures::channel::oneshot::{Sender, channel};
    use kube::client::Body;
    use kube::runtime::events::{Recorder, Reporter};
    use kube::runtime::reflector::store;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::watch;
    use tokio::task::yield_now;

    const LONG: Duration = Duration::from_secs(3600);

    fn context() -> Context {
        let answer =
            |_: http::Request<Body>| async { Ok::<_, Infallible>(http::Response::new(Body::empty())) };
        let client = kube::Client::new(tower::service_fn(answer), "n");
        let reporter = Reporter { controller: "test".to_owned(), instance: None };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            defaults: Defaults::default(),
            resync: LONG,
            node_access: Settings::default(),
            advertises: false,
            registries_changed: watch::Sender::default(),
            reconciled: watch::Sender::default(),
            metrics: Metrics::default(),
            failures: Failures::default(),
        }
    }

    /// Rounds over one store, who fills it, and who ends them.
    fn rounds() -> (Rounds, Writer<Guarded>, Sender<()>) {
        let (reader, writer) = store();
        let (stop, stopped) = channel();
        let shutdown: Shutdown = stopped.map(drop).boxed().shared();
        (Rounds { context: Arc::new(context()), registries: vec![reader], shutdown }, writer, stop)
    }

    #[tokio::test]
    async fn no_round_begins_before_all_registries_are_known() {
        for ends in [false, true] {
            let (rounds, writer, stop) = rounds();
            let writer = Some(writer).filter(|_| !ends);
            let count = Cell::new(0);
            let round = async |_: crate::registries::Registries<'_>| {
                count.set(count.get() + 1);
                Ok(LONG)
            };
            let meanwhile = async {
                for _ in 0..10 {
                    yield_now().await;
                }
                stop.send(()).unwrap();
            };
            futures::join!(rounds.run("test", Vec::new(), round), meanwhile);
            assert_eq!(count.get(), 0);
            drop(writer);
        }
    }

    #[tokio::test]
    async fn a_change_or_a_failure_leads_to_another_round() {
        let (rounds, mut writer, stop) = rounds();
        let hub = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "hub", "namespace": "n"}, "spec": {"storage": {"filesystem": {"size": "1Gi"}}}});
        for event in [Event::Init, Event::InitApply(serde_json::from_value(hub).unwrap()), Event::InitDone] {
            writer.apply_watcher_event(&event);
        }
        let (count, stop) = (Cell::new(0), Cell::new(Some(stop)));
        let round = async |registries: crate::registries::Registries<'_>| {
            assert_eq!(registries.readable.len(), 1);
            count.set(count.get() + 1);
            match count.get() {
                1 => drop(rounds.context.registries_changed.send(())),
                2 => return Err(Error::NoRandomNumbers),
                _ => stop.take().unwrap().send(()).unwrap(),
            }
            Ok(LONG)
        };
        rounds.run("test", Vec::new(), round).await;
        assert_eq!(count.get(), 3);
    }
}
