//! Why a Pod of a Registry does not get ready, as far as Kubernetes says so. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use crate::api::status::Reason;

/// Why a Pod does not get ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The kind of trouble.
    pub reason: Reason,
    /// The Pod and what Kubernetes says about it.
    pub message: String,
}

/// The trouble of the first Pod that has any; `None` if all Pods are merely starting.
///
/// The kubelet alternates between words for one and the same trouble (`ErrImagePull`, `ImagePullBackOff`) and puts
/// growing waiting times into its messages. Neither must show, or the status would change while nothing happens.
#[must_use]
pub fn trouble(pods: &[Pod]) -> Option<Trouble> {
    let mut pods: Vec<&Pod> = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods.into_iter().find_map(of_pod)
}

fn of_pod(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let (reason, text) =
        containers.filter(|container| !container.ready).find_map(of_container).or_else(|| {
            let conditions = status.conditions.as_deref().unwrap_or_default();
            let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
            let message = scheduled.message.clone().unwrap_or_default();
            let waits_for_volume = message.contains("PersistentVolumeClaim");
            let reason = if waits_for_volume { Reason::VolumePending } else { Reason::Unschedulable };
            (scheduled.reason.as_deref() == Some("Unschedulable")).then_some((reason, message))
        })?;
    Some(Trouble { reason, message: format!("Pod {}: {text}", pod.name_any()) })
}

fn of_container(container: &ContainerStatus) -> Option<(Reason, String)> {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
            let cause = message.split_once("ErrImagePull: ").map_or(message.as_str(), |(_, cause)| cause);
            Some((Reason::ImagePullFailed, format!("image {}: {cause}", container.image)))
        }
        Some("CreateContainerConfigError" | "CreateContainerError") => {
            Some((Reason::PodConfigurationFailed, message))
        }
        Some("RunContainerError") => crash(container).or(Some((Reason::CrashLooping, message))),
        _ => crash(container),
    }
}

/// A container that has ended before and is not ready now is in trouble, whether it waits, runs or has just ended.
fn crash(container: &ContainerStatus) -> Option<(Reason, String)> {
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.clone())
    };
    let last = ended(&container.state).or_else(|| ended(&container.last_state))?;
    let words = last.message.as_deref().map(str::trim).filter(|words| !words.is_empty());
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    (last.exit_code != 0).then(|| {
        (
            Reason::CrashLooping,
            format!("container {} ended with code {}{words}", container.name, last.exit_code),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::trouble;
    use crate::api::status::Reason;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "hub-1"}, "status": status})).unwrap()
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"containerStatuses": [{"name": "registry", "image": "i:1", "imageID": "", "ready": false,
                "restartCount": 3, "state": state, "lastState": last}]})
    }

    fn check(status: &Value, expected: Option<(Reason, &str)>) {
        let found = trouble(&[pod(status)]).map(|trouble| (trouble.reason, trouble.message));
        assert_eq!(found, expected.map(|(reason, text)| (reason, format!("Pod hub-1: {text}"))), "{status}");
    }

    #[test]
    fn a_pod_that_merely_starts_is_in_no_trouble() {
        check(&json!({}), None);
        check(&container(&json!({"waiting": {"reason": "ContainerCreating"}}), &json!({})), None);
        check(&container(&json!({"running": {}}), &json!({})), None);
    }

    #[test]
    fn both_words_for_a_failed_pull_give_one_message() {
        let text = "image i:1: not found";
        for (reason, message) in [
            ("ErrImagePull", "not found"),
            ("ImagePullBackOff", "Back-off pulling image \"i:1\": ErrImagePull: not found"),
        ] {
            let state = json!({"waiting": {"reason": reason, "message": message}});
            check(&container(&state, &json!({})), Some((Reason::ImagePullFailed, text)));
        }
    }

    #[test]
    fn a_crash_loop_reads_the_same_in_each_of_its_states() {
        let ended = json!({"terminated": {"exitCode": 1, "message": "bad key\n"}});
        let waiting =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}});
        for (state, last) in [(&waiting, &ended), (&json!({"running": {}}), &ended), (&ended, &json!({}))] {
            let text = "container registry ended with code 1: bad key";
            check(&container(state, last), Some((Reason::CrashLooping, text)));
        }
    }

    #[test]
    fn the_scheduler_is_quoted() {
        let condition = |message: &str| {
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": message}]})
        };
        check(&condition("0/2 nodes: cpu"), Some((Reason::Unschedulable, "0/2 nodes: cpu")));
        let unbound = "pod has unbound immediate PersistentVolumeClaims";
        check(&condition(unbound), Some((Reason::VolumePending, unbound)));
    }

    #[test]
    fn a_pod_that_is_going_is_not_looked_at() {
        let mut going = pod(&container(&json!({"terminated": {"exitCode": 1}}), &json!({})));
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(trouble(&[going]), None);
    }
}
