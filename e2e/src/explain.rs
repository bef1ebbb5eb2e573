//! What a failed test leaves to look at: everything in its namespace that may say why.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};
use operator::api::registry::Registry;

use crate::namespace::Namespace;
use crate::system;

/// Lines of a log that are shown.
const TAIL: i64 = 40;

/// The state of a namespace as text. What cannot be read is left out: the test's own failure matters more.
pub(crate) async fn explain(namespace: &Namespace) -> String {
    let mut text = format!("===== namespace {}\n", namespace.name);
    text += &registries(namespace).await;
    text += &claims(namespace).await;
    text += &pods(namespace).await;
    text += &events(namespace).await;
    text += "===== operator\n";
    text += &system::logs(&namespace.client, &namespace.name).await;
    text
}

async fn list<K>(api: Api<K>) -> Vec<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default()
}

async fn registries(namespace: &Namespace) -> String {
    let mut text = String::new();
    for registry in list::<Registry>(namespace.api()).await {
        let seen = serde_yaml::to_string(&(&registry.spec, &registry.status)).unwrap_or_default();
        let _ = write!(
            text,
            "--- Registry {}, generation {:?}\n{seen}",
            registry.name_any(),
            registry.metadata.generation
        );
    }
    text
}

async fn claims(namespace: &Namespace) -> String {
    let mut text = String::new();
    for claim in list::<PersistentVolumeClaim>(namespace.api()).await {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let _ = writeln!(text, "--- PersistentVolumeClaim {}: {phase}", claim.name_any());
    }
    text
}

async fn pods(namespace: &Namespace) -> String {
    let mut text = String::new();
    for pod in list::<Pod>(namespace.api()).await {
        let status = pod.status.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
        let phase = status.phase.unwrap_or_default();
        let _ = writeln!(text, "--- Pod {} on {node}: {phase}", pod.name_any());
        let containers =
            status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        for container in containers {
            let _ = writeln!(text, "container {}: {}", container.name, state(&container));
            text += &logs(&namespace.api(), &pod.name_any(), &container).await;
        }
    }
    text
}

fn state(container: &ContainerStatus) -> String {
    let state = container.state.clone().unwrap_or_default();
    let words = if let Some(waiting) = state.waiting {
        format!("waiting, {}: {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
    } else if let Some(ended) = state.terminated {
        format!("ended with {}: {}", ended.exit_code, ended.message.unwrap_or_default())
    } else {
        "running".to_owned()
    };
    format!("{words}; ready {}, {} restarts", container.ready, container.restart_count)
}

async fn logs(pods: &Api<Pod>, pod: &str, container: &ContainerStatus) -> String {
    let mut text = String::new();
    for previous in [container.restart_count > 0, false] {
        let container = Some(container.name.clone());
        let options = LogParams { container, previous, tail_lines: Some(TAIL), ..LogParams::default() };
        if let Ok(log) = pods.logs(pod, &options).await {
            text.extend(log.lines().map(|line| format!("    {line}\n")));
        }
        if !previous {
            break;
        }
    }
    text
}

async fn events(namespace: &Namespace) -> String {
    let mut events = list::<Event>(namespace.api()).await;
    events.sort_by_key(|event| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let mut text = "--- Events\n".to_owned();
    for event in events {
        let object = &event.involved_object;
        let _ = writeln!(
            text,
            "{} {} {}: {}",
            object.kind.as_deref().unwrap_or_default(),
            object.name.as_deref().unwrap_or_default(),
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default()
        );
    }
    text
}
