//! A port of this machine that leads to a Service of the cluster.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::namespace::Namespace;

/// Port of the registry in its Pods.
const TARGET_PORT: u16 = 5000;

/// A listener on the loopback interface. Each connection goes to a Pod that is ready at that moment, so that it outlives
/// Pods; while none is ready, connections are closed at once. It ends when it is dropped.
pub struct Forward {
    /// The port on this machine.
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forward {
    /// Opens a port that leads to the registry behind the Service `service`.
    ///
    /// # Errors
    /// When the Service cannot be read.
    pub async fn open(namespace: &Namespace, service: &str) -> anyhow::Result<Self> {
        let selector = selector(&namespace.api(), service).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(accept(listener, namespace.api(), selector));
        Ok(Self { port, task })
    }

    /// Host and port, as they stand in the name of an image.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

async fn selector(services: &Api<Service>, name: &str) -> anyhow::Result<String> {
    let spec = services.get(name).await?.spec.unwrap_or_default();
    let pairs: Vec<String> =
        spec.selector.unwrap_or_default().iter().map(|(key, value)| format!("{key}={value}")).collect();
    ensure!(!pairs.is_empty(), "Service {name} selects no Pods");
    Ok(pairs.join(","))
}

async fn accept(listener: TcpListener, pods: Api<Pod>, selector: String) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // A client sees a broken connection as such; there is nobody else to tell.
        let (pods, selector) = (pods.clone(), selector.clone());
        connections.spawn(async move { connect(stream, &pods, &selector).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(mut stream: TcpStream, pods: &Api<Pod>, selector: &str) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let found = pods.list(&ListParams::default().labels(selector)).await?.items;
    let pod = found.iter().find(|pod| is_ready(pod)).context("no Pod is ready")?;
    let mut forward = pods.portforward(&pod.name_any(), &[TARGET_PORT]).await?;
    let mut remote = forward.take_stream(TARGET_PORT).context("no stream")?;
    copy_bidirectional(&mut stream, &mut remote).await?;
    Ok(())
}

/// Whether a Pod answers and is to stay.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
