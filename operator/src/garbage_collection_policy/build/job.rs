//! The Job of a run: the server's own Pod, with another command.
//!
//! It is made from the Deployment that serves, so that image, configuration, volumes and all that the user has overridden
//! are the same, whatever they are. It has no rights in the cluster, and none of the server's: what it must keep is handed to it as a file, and its
//! report is its termination message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Affinity, ConfigMapVolumeSource, Container, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::json;

use super::{PROTECT_FILE, RETENTION_FILE, RULES_DIRECTORY, labels, metadata};
use crate::children::{Child, Kind};
use crate::garbage_collection_policy::validate::{Target, Valid};
use crate::names;
use crate::registry::build::resources;
use crate::registry::validate::server_config::CONFIG_DIRECTORY;

/// How often a run that fails is tried again, before it counts as failed.
const RETRIES: i32 = 2;

/// Name of the volume with the rules.
const RULES: &str = "garbage-collection";

/// Builds the Job `name` of the run over `target` that was to begin at `time`.
#[must_use]
pub fn job(valid: &Valid<'_>, target: &Target<'_>, name: &str, time: Timestamp) -> Child {
    let mut metadata = metadata(valid, target, name, valid.owner.clone());
    metadata.annotations = Some(BTreeMap::from([(names::SCHEDULED_ANNOTATION.to_owned(), time.to_string())]));
    let job = Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(i64::try_from(valid.deadline.as_secs()).unwrap_or(i64::MAX)),
            // A Pod that is sent away, by a drain or for want of room, is no failure: the next one goes on.
            pod_failure_policy: Some(PodFailurePolicy { rules: vec![ignore_disruptions()] }),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels(valid, target)), ..ObjectMeta::default() }),
                spec: Some(pod(valid, target, name)),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    Child { key: (Kind::Job, name.to_owned()), object: json!(job) }
}

fn ignore_disruptions() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
        ..PodFailurePolicyRule::default()
    }
}

/// Sidecars and init containers, which overrides may have added, are left out: they would keep the Job from ending.
fn pod(valid: &Valid<'_>, target: &Target<'_>, name: &str) -> PodSpec {
    let server = target.template.spec.clone().unwrap_or_default();
    let container = server.containers.iter().find(|container| container.name == names::CONTAINER);
    let rules = Volume {
        name: RULES.to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: name.to_owned(), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    let volumes = server.volumes.clone().unwrap_or_default().into_iter();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        containers: container.map(|container| collector(valid, container)).into_iter().collect(),
        init_containers: None,
        volumes: Some(volumes.filter(|volume| volume.name != names::API_VOLUME).chain([rules]).collect()),
        affinity: affinity(target, server.affinity.clone()),
        topology_spread_constraints: None,
        ..server
    }
}

fn collector(valid: &Valid<'_>, server: &Container) -> Container {
    let rules = VolumeMount {
        name: RULES.to_owned(),
        mount_path: RULES_DIRECTORY.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mounts = server.volume_mounts.clone().unwrap_or_default().into_iter();
    Container {
        args: Some(arguments(valid)),
        ports: None,
        readiness_probe: None,
        liveness_probe: None,
        startup_probe: None,
        lifecycle: None,
        resources: valid.spec.resources.as_ref().map(resources),
        termination_message_path: None,
        volume_mounts: Some(mounts.filter(|mount| mount.name != names::API_VOLUME).chain([rules]).collect()),
        ..server.clone()
    }
}

/// The command line. A run is told to end a little before its Job would be ended.
fn arguments(valid: &Valid<'_>) -> Vec<String> {
    let spec = valid.spec;
    let budget = valid.deadline.as_secs().saturating_mul(9) / 10;
    let mut arguments = vec!["garbage-collect".to_owned()];
    if spec.dry_run {
        arguments.push("--dry-run".to_owned());
    }
    arguments.extend([
        format!("--delete-untagged={}", spec.delete_untagged),
        format!("--grace-period={}", spec.grace_period),
        format!("--uploads-older-than={}", spec.uploads.older_than),
        format!("--time-budget={budget}s"),
        format!("--protect-file={RULES_DIRECTORY}/{PROTECT_FILE}"),
        format!("--retention-file={RULES_DIRECTORY}/{RETENTION_FILE}"),
        "--report-file=/dev/termination-log".to_owned(),
        format!("{CONFIG_DIRECTORY}/config.yml"),
    ]);
    arguments
}

/// A volume that one node can mount at a time decides where the run goes: to the server, wherever that is. What the user
/// said about nodes still holds; what was said about neighbours was meant for the server.
fn affinity(target: &Target<'_>, of_server: Option<Affinity>) -> Option<Affinity> {
    let node_affinity = of_server.and_then(|affinity| affinity.node_affinity);
    let beside_server = PodAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
            label_selector: Some(LabelSelector {
                match_labels: Some(names::selector(&target.name)),
                ..LabelSelector::default()
            }),
            topology_key: names::HOSTNAME_LABEL.to_owned(),
            ..PodAffinityTerm::default()
        }]),
        ..PodAffinity::default()
    };
    let pod_affinity = target.beside_server.then_some(beside_server);
    (node_affinity.is_some() || pod_affinity.is_some()).then_some(Affinity {
        node_affinity,
        pod_affinity,
        pod_anti_affinity: None,
    })
}
