//! Third step: the plan's `ConfigMap` and the agents' `DaemonSet`. Pure, and it cannot fail.
//!
//! An agent is root on its node only where it must be: in the directory that the container runtime reads. It sees nothing
//! else of the node but that runtime's configuration, and has none of root's capabilities.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, HostPathVolumeSource, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::distribution::Distribution;
use super::settings::Agent;
use super::validate::{Stage, Valid};
use crate::children::{Child, Kind};
use crate::names;
use crate::registry::build::{Built, confined, filled};

/// Where an agent finds the directories of its node.
const HOST: &str = "/host";

/// Builds the children, which belong to `owner`.
#[must_use]
pub fn build(valid: &Valid<'_>, owner: &OwnerReference) -> Built {
    let children = match valid.stage {
        Stage::Working | Stage::Draining { .. } => vec![config_map(valid, owner), daemon_set(valid, owner)],
        Stage::Idle => Vec::new(),
    };
    Built { children, complete: true }
}

fn metadata(valid: &Valid<'_>, owner: &OwnerReference, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(valid.settings.namespace.clone()),
        labels: Some(names::node_agent_labels()),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// A plan has text keys only, so turning it into JSON cannot fail.
fn config_map(valid: &Valid<'_>, owner: &OwnerReference) -> Child {
    let plan = json!(valid.plan).to_string();
    let config_map = ConfigMap {
        metadata: metadata(valid, owner, names::NODE_ACCESS_PLAN),
        data: Some(BTreeMap::from([(names::NODE_ACCESS_PLAN_KEY.to_owned(), plan)])),
        ..ConfigMap::default()
    };
    Child { key: (Kind::ConfigMap, names::NODE_ACCESS_PLAN.to_owned()), object: json!(config_map) }
}

fn daemon_set(valid: &Valid<'_>, owner: &OwnerReference) -> Child {
    let mut labels = valid.settings.agent.pod_labels.clone();
    labels.extend(names::node_agent_labels());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: filled(valid.settings.agent.pod_annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(valid)),
    };
    let daemon_set = DaemonSet {
        metadata: metadata(valid, owner, names::NODE_AGENT),
        spec: Some(DaemonSetSpec {
            selector: LabelSelector {
                match_labels: Some(names::node_agent_selector()),
                ..LabelSelector::default()
            },
            template,
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                // What is on the nodes stays there meanwhile.
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::String("10%".to_owned())),
                    max_surge: None,
                }),
            }),
            ..DaemonSetSpec::default()
        }),
        ..DaemonSet::default()
    };
    Child { key: (Kind::DaemonSet, names::NODE_AGENT.to_owned()), object: json!(daemon_set) }
}

fn pod(valid: &Valid<'_>) -> PodSpec {
    let agent = &valid.settings.agent;
    PodSpec {
        service_account_name: Some(names::NODE_AGENT.to_owned()),
        enable_service_links: Some(false),
        image_pull_secrets: filled(agent.image_pull_secrets.clone()),
        termination_grace_period_seconds: Some(30),
        security_context: Some(PodSecurityContext {
            // The directories of the runtime are root's.
            run_as_user: Some(0),
            run_as_group: Some(0),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(valid)],
        volumes: filled(directories(valid).into_iter().map(volume).collect::<Vec<_>>()),
        node_selector: Some(agent.selector()),
        tolerations: filled(agent.tolerations.clone()),
        priority_class_name: filled(agent.priority_class_name.clone()),
        ..PodSpec::default()
    }
}

fn container(valid: &Valid<'_>) -> Container {
    let agent = &valid.settings.agent;
    Container {
        name: "agent".to_owned(),
        image: valid.settings.image.clone(),
        image_pull_policy: agent.image_pull_policy.clone(),
        args: Some(arguments(agent)),
        env: Some(vec![field("NODE_NAME", "spec.nodeName"), field("POD_NAMESPACE", "metadata.namespace")]),
        resources: filled(agent.resources.clone()),
        security_context: Some(confined()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: filled(directories(valid).into_iter().map(mount).collect::<Vec<_>>()),
        ..Container::default()
    }
}

fn arguments(agent: &Agent) -> Vec<String> {
    let mut arguments = vec!["node-agent".to_owned(), format!("--host={HOST}")];
    if !agent.credential_provider_directory.is_empty() {
        let directory = &agent.credential_provider_directory;
        arguments.push(format!("--credential-provider-directory={directory}"));
    }
    arguments
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// A directory of the node that an agent sees.
struct Directory {
    volume: String,
    path: String,
    is_writable: bool,
}

/// The directories of the distributions that there are. What an agent writes may lie within what it reads: a directory
/// comes before those in it.
fn directories(valid: &Valid<'_>) -> Vec<Directory> {
    let of = |distribution: &Distribution| {
        let name = distribution.name().to_lowercase();
        let read = (format!("{name}-configuration"), distribution.configuration(), false);
        [read, (format!("{name}-hosts"), distribution.writable(), true)]
    };
    let provider = filled(valid.settings.agent.credential_provider_directory.as_str());
    let provider = provider.map(|path| ("credential-provider".to_owned(), path, true));
    let all = valid.distributions.iter().flat_map(of).chain(provider);
    all.map(|(volume, path, is_writable)| Directory { volume, path: path.to_owned(), is_writable }).collect()
}

/// Made if it is missing: before the first plan, a runtime has no directory for hosts, and a cluster of several
/// distributions has nodes without those of the others.
fn volume(directory: Directory) -> Volume {
    Volume {
        name: directory.volume,
        host_path: Some(HostPathVolumeSource {
            path: directory.path,
            type_: Some("DirectoryOrCreate".to_owned()),
        }),
        ..Volume::default()
    }
}

fn mount(directory: Directory) -> VolumeMount {
    VolumeMount {
        name: directory.volume,
        mount_path: format!("{HOST}{}", directory.path),
        read_only: (!directory.is_writable).then_some(true),
        ..VolumeMount::default()
    }
}
