//! The Deployment: the servers, with no more rights than they need.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort,
    DownwardAPIProjection, DownwardAPIVolumeFile, HTTPGetAction, KeyToPath, LocalObjectReference,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
    Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{filled, metadata, overridden};
use crate::api::shared::Resources;
use crate::children::{Child, Kind};
use crate::fingerprint::fingerprint;
use crate::names;
use crate::registry::validate::Valid;
use crate::registry::validate::server_config::{
    AUTH_DIRECTORY, CONFIG_DIRECTORY, DATA_DIRECTORY, DEBUG_PORT, HTPASSWD_FILE, PORT, PULL_DIRECTORY,
    PULL_FILE, TLS_DIRECTORY,
};

/// User and group of the server, and group of the files it mounts.
const USER: i64 = 65532;

/// Readable by the owner and the group of the Pod.
const GROUP_READABLE: i32 = 0o440;

/// Where clients of the API server look for what Kubernetes mounts for them.
const API_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Seconds that a token for the API server lives; the kubelet brings a new one in time.
const TOKEN_SECONDS: i64 = 3600;

/// Seconds that the kubelet waits beyond the server's own time to drain.
const GRACE_SECONDS: u64 = 5;

pub(super) fn build(valid: &Valid<'_>) -> Child {
    let deployment = Deployment {
        metadata: metadata(valid, valid.name.clone()),
        spec: Some(DeploymentSpec {
            replicas: Some(valid.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(names::selector(&valid.name)),
                ..LabelSelector::default()
            },
            strategy: Some(strategy(valid.claim.single_writer)),
            revision_history_limit: Some(2),
            template: PodTemplateSpec { metadata: Some(pod_metadata(valid)), spec: Some(pod(valid)) },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    let fragment = valid.spec.overrides.as_ref().and_then(|overrides| overrides.deployment.as_ref());
    overridden(Kind::Deployment, valid.name.clone(), &deployment, fragment)
}

/// A volume with one writer cannot be attached to the new Pod before the old one has gone: rolling over it would wait
/// for ever.
fn strategy(single_writer: bool) -> DeploymentStrategy {
    if single_writer {
        return DeploymentStrategy { type_: Some("Recreate".to_owned()), ..DeploymentStrategy::default() };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::Int(1)),
        }),
    }
}

/// The hash of config.yml restarts the server when it changes. Certificates and passwords are left out of it: the server
/// reads those again by itself.
fn pod_metadata(valid: &Valid<'_>) -> ObjectMeta {
    ObjectMeta {
        labels: Some(names::labels(&valid.name)),
        annotations: Some(BTreeMap::from([(
            names::CONFIG_ANNOTATION.to_owned(),
            fingerprint(&valid.config.yaml),
        )])),
        ..ObjectMeta::default()
    }
}

fn pod(valid: &Valid<'_>) -> PodSpec {
    let spec = valid.spec;
    let grace = valid.config.drain.as_secs().saturating_add(GRACE_SECONDS);
    let pull_secrets: Vec<LocalObjectReference> = spec
        .image_pull_secrets
        .iter()
        .map(|secret| LocalObjectReference { name: secret.name.clone() })
        .collect();
    PodSpec {
        service_account_name: Some(valid.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: filled(pull_secrets),
        termination_grace_period_seconds: Some(i64::try_from(grace).unwrap_or(i64::MAX)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // Otherwise each start walks the whole tree of blobs.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(valid)],
        volumes: Some(volumes(valid)),
        node_selector: filled(spec.node_selector.clone()),
        tolerations: filled(spec.tolerations.clone()),
        affinity: spec.affinity.clone(),
        topology_spread_constraints: filled(spec.topology_spread_constraints.clone()),
        priority_class_name: spec.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

fn container(valid: &Valid<'_>) -> Container {
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(valid.image.clone()),
        args: Some(vec!["serve".to_owned(), format!("{CONFIG_DIRECTORY}/config.yml")]),
        ports: Some(vec![port(names::PORT, PORT), port("debug", DEBUG_PORT)]),
        // Asked every second, so that a registry is known to be ready, or draining, within one.
        readiness_probe: Some(probe("/readyz", 1, 3)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        // A server that still checks its storage is not restarted for it: two minutes are left for the start.
        startup_probe: Some(probe("/livez", 1, 120)),
        resources: valid.spec.resources.as_ref().map(resources),
        security_context: Some(confined()),
        // A message on the way out is shown in the Pod's status, and from there in the Registry's.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volumes(valid).into_iter().map(mount).collect()),
        ..Container::default()
    }
}

/// What no container of ours may: gain rights, write to its image, or use what the kernel grants to root.
pub(crate) fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        ..SecurityContext::default()
    }
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Probes ask the debug port, which needs neither a certificate nor a password. `/readyz` is true only while the storage
/// can be read and written and the server is not draining.
fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("debug".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// The amounts of a spec in the words of Kubernetes.
pub(crate) fn resources(resources: &Resources) -> ResourceRequirements {
    let quantities = |amounts: &BTreeMap<String, IntOrString>| {
        let quantity = |amount: &IntOrString| match amount {
            IntOrString::Int(number) => Quantity(number.to_string()),
            IntOrString::String(text) => Quantity(text.clone()),
        };
        filled(
            amounts.iter().map(|(name, amount)| (name.clone(), quantity(amount))).collect::<BTreeMap<_, _>>(),
        )
    };
    ResourceRequirements {
        limits: quantities(&resources.limits),
        requests: quantities(&resources.requests),
        ..ResourceRequirements::default()
    }
}

/// Volumes are whole directories: what is mounted by `subPath` never changes in a running Pod.
fn volumes(valid: &Valid<'_>) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(&valid.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: valid.claim.name.clone(),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    if let Some(secret) = valid.certificate.secret(&valid.name) {
        volumes.push(secret_volume("tls", secret, &[("tls.crt", "tls.crt"), ("tls.key", "tls.key")]));
    }
    if let Some(htpasswd) = valid.spec.auth.as_ref().and_then(|auth| auth.htpasswd_secret_ref.as_ref()) {
        volumes.push(secret_volume("auth", htpasswd.name.clone(), &[(&htpasswd.key, HTPASSWD_FILE)]));
    }
    if valid.spec.pull_access.is_some() {
        let secret = names::pull_credentials(&valid.name);
        volumes.push(secret_volume("pull-secrets", secret, &[(PULL_FILE, PULL_FILE)]));
    }
    if valid.access_review_role.is_some() {
        volumes.push(api_volume());
    }
    volumes
}

/// What every client of the API server looks for in its Pod, as Kubernetes itself would mount it.
fn api_volume() -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        audience: None,
    };
    let authority = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![item(&("ca.crt", "ca.crt"))]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.namespace".to_owned(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let namespace = DownwardAPIProjection { items: Some(vec![namespace]) };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
        VolumeProjection { downward_api: Some(namespace), ..VolumeProjection::default() },
    ];
    Volume {
        name: names::API_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(GROUP_READABLE), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn secret_volume(volume: &str, secret: String, items: &[(&str, &str)]) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: Some(items.iter().map(item).collect()),
            default_mode: Some(GROUP_READABLE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn item((key, path): &(&str, &str)) -> KeyToPath {
    KeyToPath { key: (*key).to_owned(), path: (*path).to_owned(), mode: None }
}

fn mount(volume: Volume) -> VolumeMount {
    let (path, read_only) = match volume.name.as_str() {
        "config" => (CONFIG_DIRECTORY, true),
        "tls" => (TLS_DIRECTORY, true),
        "auth" => (AUTH_DIRECTORY, true),
        "pull-secrets" => (PULL_DIRECTORY, true),
        names::API_VOLUME => (API_DIRECTORY, true),
        _ => (DATA_DIRECTORY, false),
    };
    VolumeMount {
        name: volume.name,
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
