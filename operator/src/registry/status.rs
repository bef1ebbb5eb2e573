//! Fifth step: what the Registry's status says, by the rules of kstatus. Pure, but for [`write()`]
//! and [`write_storage()`].
//!
//! `Ready` is true when the whole spec is in effect and the registry answers. It answers when its Deployment has as many
//! available Pods as were asked for and the Service has a ready address. A Pod is ready only while the server's own
//! `/readyz` says that it can read and write its storage. The operator does not ask the server itself: the kubelet does
//! so every second, from where it matters, and an operator outside the cluster or behind a network policy could not.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::dereference::{Found, claim_name};
use super::problem::{Concern, Problem};
use super::trouble::trouble;
use super::validate::server_config::PORT;
use super::validate::{Certificate, Valid};
use crate::api::pull_access::PULL_ACCESS_READY;
use crate::api::registry::Registry;
use crate::api::status::{
    ADVERTISED, CertificateStatus, NODE_ACCESS_READY, READY, RECONCILING, Reason, RegistryStatus, STALLED,
    STORAGE_READY, StorageStatus, TLS_READY,
};
use crate::children::Kind;
use crate::{apply, conditions, names, quantity};

/// What one reconcile came to.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The children are as they should be, apart from what `Valid::problems` says.
    Applied(&'a Valid<'a>),
    /// Nothing could be built or written.
    Refused(&'a Problem),
}

type Verdict = conditions::Verdict<Reason>;

impl Verdict {
    fn of(problem: &Problem) -> Self {
        Self::new(false, problem.reason(), problem.to_string())
    }
}

/// The status of `registry` after `outcome`.
#[must_use]
pub fn status(registry: &Registry, outcome: Outcome<'_>, found: &Found, now: Timestamp) -> RegistryStatus {
    let previous = registry.status.clone().unwrap_or_default();
    let generation = registry.metadata.generation.unwrap_or_default();
    let conditions = verdicts(registry, outcome, found, &previous);
    let mut status = RegistryStatus {
        observed_generation: generation,
        conditions: conditions
            .into_iter()
            .map(|(type_, verdict)| verdict.condition(type_, &previous.conditions, generation, now))
            .collect(),
        ..previous
    };
    observe(&mut status, registry, outcome, found);
    status
}

/// The status of an object that cannot be read as a Registry, so that nothing else can be said of it.
#[must_use]
pub fn unreadable(metadata: &ObjectMeta, problem: &Problem, now: Timestamp) -> RegistryStatus {
    let generation = metadata.generation.unwrap_or_default();
    let unknown = RegistryStatus::default();
    let stalled = Verdict { status: "True", ..Verdict::of(problem) };
    let conditions = [(READY, Verdict::of(problem)), (STALLED, stalled)]
        .map(|(type_, verdict)| verdict.condition(type_, &[], generation, now));
    RegistryStatus { observed_generation: generation, conditions: conditions.into(), ..unknown }
}

/// What of `status` is for this module to write. Whoever writes a field owns it: what a garbage collection has counted
/// and what is known of nodes, of other namespaces and of the cluster are others'.
#[must_use]
pub fn own(status: &RegistryStatus) -> RegistryStatus {
    let mut own = RegistryStatus { storage: None, node_access: None, pull_access: None, ..status.clone() };
    let of_others = [NODE_ACCESS_READY, PULL_ACCESS_READY, ADVERTISED];
    own.conditions.retain(|condition| !of_others.contains(&condition.type_.as_str()));
    own
}

/// Writes [`own`] of `status` to the object that has `metadata`.
///
/// # Errors
/// The API server's.
pub async fn write(
    client: &Client,
    metadata: &ObjectMeta,
    status: &RegistryStatus,
) -> Result<(), kube::Error> {
    apply::status::<Registry>(client, metadata, &json!(own(status)), names::FIELD_MANAGER).await
}

/// Writes what a garbage collection has counted to the Registry that has `metadata`.
///
/// # Errors
/// The API server's.
pub async fn write_storage(
    client: &Client,
    metadata: &ObjectMeta,
    storage: &StorageStatus,
) -> Result<(), kube::Error> {
    let counted = json!({ "storage": storage });
    apply::status::<Registry>(client, metadata, &counted, names::COUNTING_FIELD_MANAGER).await
}

fn verdicts(
    registry: &Registry,
    outcome: Outcome<'_>,
    found: &Found,
    previous: &RegistryStatus,
) -> [(&'static str, Verdict); 5] {
    let (ready, stalled) = match outcome {
        Outcome::Refused(problem) => (Verdict::of(problem), !problem.passes()),
        Outcome::Applied(valid) => readiness(registry, valid, found),
    };
    let is_settled = matches!(ready.reason, Reason::Available | Reason::ScaledToZero);
    let reconciling = if registry.spec.paused {
        Verdict::new(false, Reason::Paused, "spec.paused is set: children are left as they are")
    } else if stalled || is_settled {
        Verdict::new(false, Reason::UpToDate, "there is nothing left to do")
    } else {
        Verdict::new(true, ready.reason, ready.message.clone())
    };
    let stalled = if stalled {
        Verdict::new(true, ready.reason, ready.message.clone())
    } else {
        Verdict::new(false, Reason::UpToDate, "nothing is in the way")
    };
    let storage =
        part(outcome, Concern::Storage, previous.condition(STORAGE_READY), |_| storage(registry, found));
    let tls = part(outcome, Concern::Tls, previous.condition(TLS_READY), tls);
    [
        (READY, ready),
        (RECONCILING, reconciling),
        (STALLED, stalled),
        (STORAGE_READY, storage),
        (TLS_READY, tls),
    ]
}

/// Whether the registry answers as its spec says, and whether it is stuck.
fn readiness(registry: &Registry, valid: &Valid<'_>, found: &Found) -> (Verdict, bool) {
    if let Some(problem) = valid.problems.first() {
        return (Verdict::of(problem), !problem.passes());
    }
    if valid.awaits_address() {
        let message = format!("Service {} has no address yet", valid.name);
        return (Verdict::new(false, Reason::AddressPending, message), false);
    }
    if registry.spec.replicas == 0 {
        return (Verdict::new(false, Reason::ScaledToZero, "spec.replicas is 0"), false);
    }
    let deployment: Option<Deployment> = found.live.typed(Kind::Deployment, &valid.name);
    let available =
        deployment.as_ref().map_or(0, |deployment| rolled_out(deployment, registry.spec.replicas));
    if available == registry.spec.replicas && found.ready_endpoints > 0 {
        let message = format!("{available} of {available} servers answer at {}", url(valid));
        return (Verdict::new(true, Reason::Available, message), false);
    }
    let overdue = deployment.as_ref().is_some_and(is_overdue);
    let refused = deployment.as_ref().and_then(refused_pods);
    let (reason, message) = match (trouble(&found.pods), refused) {
        (Some(trouble), _) => (trouble.reason, trouble.message),
        (None, Some(message)) => (Reason::PodsRefused, message.to_owned()),
        (None, None) if overdue => {
            let message = format!("Deployment {} was not ready within its progress deadline", valid.name);
            (Reason::ProgressDeadlineExceeded, message)
        }
        _ => (Reason::Progressing, format!("{available} of {} servers are ready", registry.spec.replicas)),
    };
    (Verdict::new(false, reason, message), overdue)
}

/// The available Pods of a Deployment, none of them old; 0 while it is not known.
fn rolled_out(deployment: &Deployment, wanted: i32) -> i32 {
    let Some(status) = &deployment.status else { return 0 };
    let is_observed = status.observed_generation >= deployment.metadata.generation;
    let is_new = status.updated_replicas == Some(wanted) && status.replicas == Some(wanted);
    let available = status.available_replicas.unwrap_or_default();
    if is_observed && (is_new || available < wanted) { available } else { 0 }
}

fn is_overdue(deployment: &Deployment) -> bool {
    conditions(deployment).iter().any(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })
}

/// Why the API server lets no Pods be made: a quota, a policy, an unknown priority class.
fn refused_pods(deployment: &Deployment) -> Option<&str> {
    let is_refusal =
        |condition: &&DeploymentCondition| condition.type_ == "ReplicaFailure" && condition.status == "True";
    conditions(deployment).iter().find(is_refusal)?.message.as_deref()
}

fn conditions(deployment: &Deployment) -> &[DeploymentCondition] {
    deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// The verdict on one part: its own problem if it has one, else what `healthy` says; while nothing could be built, what
/// was known before.
fn part(
    outcome: Outcome<'_>,
    concern: Concern,
    previous: Option<&Condition>,
    healthy: impl FnOnce(&Valid<'_>) -> Verdict,
) -> Verdict {
    let problem = match outcome {
        Outcome::Applied(valid) => valid.problems.iter().find(|problem| problem.concern() == concern),
        Outcome::Refused(problem) => Some(problem).filter(|problem| problem.concern() == concern),
    };
    match (problem, outcome) {
        (Some(problem), _) => Verdict::of(problem),
        (None, Outcome::Applied(valid)) => healthy(valid),
        (None, Outcome::Refused(problem)) => match previous {
            Some(known) if known.status == "True" => {
                Verdict::new(true, Reason::Available, known.message.clone())
            }
            _ => Verdict { status: "Unknown", ..Verdict::of(problem) },
        },
    }
}

fn storage(registry: &Registry, found: &Found) -> Verdict {
    let name = claim_name(registry);
    let own: Option<PersistentVolumeClaim> = found.live.typed(Kind::PersistentVolumeClaim, &name);
    let Some(claim) = own.or_else(|| found.existing_claim.clone()) else {
        return Verdict::new(
            false,
            Reason::VolumePending,
            format!("PersistentVolumeClaim {name} is not made yet"),
        );
    };
    let status = claim.status.unwrap_or_default();
    if status.phase.as_deref() != Some("Bound") {
        return Verdict::new(
            false,
            Reason::VolumePending,
            format!("PersistentVolumeClaim {name} is not bound yet"),
        );
    }
    let size = status.capacity.unwrap_or_default().remove("storage").unwrap_or_default().0;
    let requested = claim.spec.and_then(|spec| spec.resources).and_then(|resources| resources.requests);
    let requested = requested.unwrap_or_default().remove("storage").unwrap_or_default().0;
    if quantity::compare(&requested, &size).is_some_and(std::cmp::Ordering::is_gt) {
        let message = format!("PersistentVolumeClaim {name} grows from {size} to {requested}");
        return Verdict::new(true, Reason::Resizing, message);
    }
    Verdict::new(true, Reason::Available, format!("PersistentVolumeClaim {name} is bound and has {size}"))
}

fn tls(valid: &Valid<'_>) -> Verdict {
    let secret = valid.certificate.secret(&valid.name).unwrap_or_default();
    match &valid.certificate {
        Certificate::Disabled => Verdict::new(true, Reason::Disabled, "TLS is disabled"),
        Certificate::AwaitsAddress => {
            let message = format!("the certificate waits for the address of Service {}", valid.name);
            Verdict::new(false, Reason::AddressPending, message)
        }
        certificate => {
            let end = certificate.not_after().map(|end| format!(" until {end}")).unwrap_or_default();
            let gap = gap(certificate);
            let message = format!("the certificate in Secret {secret} is valid{end}{gap}");
            Verdict::new(true, Reason::Available, message)
        }
    }
}

/// What to say of names that a certificate of the user's lacks. It is no problem of the Registry's, for a proxy may hold
/// another certificate for them.
fn gap(certificate: &Certificate) -> String {
    match certificate {
        Certificate::Provided { unnamed, .. } if !unnamed.is_empty() => {
            format!("; of spec.hostnames it does not name {}", unnamed.join(", "))
        }
        _ => String::new(),
    }
}

/// Fills in what is not a condition. What could not be observed keeps its last value.
fn observe(status: &mut RegistryStatus, registry: &Registry, outcome: Outcome<'_>, found: &Found) {
    let name = registry.name_any();
    let service: Option<Service> = found.live.typed(Kind::Service, &name);
    let deployment: Option<Deployment> = found.live.typed(Kind::Deployment, &name);
    status.selector = names::selector_text(&name);
    status.replicas = deployment.and_then(|deployment| deployment.status?.replicas).unwrap_or_default();
    status.cluster_ip =
        service.and_then(|service| service.spec?.cluster_ip).filter(|address| address != "None");
    if let Outcome::Applied(valid) = outcome {
        status.url = Some(url(valid));
        status.pull_example = Some(format!("{}/team/app:v1", address(valid)));
        status.version = Some(version(&valid.image).to_owned());
        status.certificate =
            valid.certificate.not_after().map(|end| CertificateStatus { not_after: Time(end) });
        status.overridden = overridden(valid);
    }
}

fn url(valid: &Valid<'_>) -> String {
    let scheme = if matches!(valid.certificate, Certificate::Disabled) { "http" } else { "https" };
    format!("{scheme}://{}", address(valid))
}

/// Host and port, as image references begin.
fn address(valid: &Valid<'_>) -> String {
    format!("{}:{PORT}", names::service_host(&valid.name, &valid.namespace))
}

/// The digest or tag of an image; `latest` if it names neither.
fn version(image: &str) -> &str {
    if let Some((_, digest)) = image.rsplit_once('@') {
        return digest;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn overridden(valid: &Valid<'_>) -> Vec<String> {
    let overrides = valid.spec.overrides.as_ref();
    [
        ("config.yml", valid.spec.config.as_ref()),
        ("Deployment", overrides.and_then(|overrides| overrides.deployment.as_ref())),
        ("Service", overrides.and_then(|overrides| overrides.service.as_ref())),
    ]
    .into_iter()
    .filter(|(_, fragment)| fragment.is_some_and(|fragment| !fragment.is_empty()))
    .map(|(object, _)| object.to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Outcome, status, version};
    use crate::api::registry::Registry;
    use crate::api::status::RegistryStatus;
    use crate::children::Kind;
    use crate::registry::dereference::Found;
    use crate::registry::problem::Problem;
    use crate::registry::validate::{Defaults, validate};
    use crate::tls::{self, Existing, SubjectNames};
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::ByteString;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn registry(spec: &Value) -> Registry {
        let mut whole = json!({"storage": {"filesystem": {"size": "1Gi"}}, "tls": {"disabled": {}}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata = json!({"name": "hub", "namespace": "team-a", "uid": "1", "generation": 4});
        serde_json::from_value(
            json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": metadata, "spec": whole}),
        )
        .unwrap()
    }

    /// A cluster in which one server of generation 4 is available and the claim is bound.
    fn healthy() -> Found {
        let mut found = Found { ready_endpoints: 1, ..Found::default() };
        let labels = json!({"windlass.dev/registry": "hub"});
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "hub-data", "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub", "labels": labels},
            "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}});
        found.live.insert(Kind::PersistentVolumeClaim, serde_json::from_value(claim).unwrap());
        found.live.insert(Kind::Service, serde_json::from_value(service).unwrap());
        deployed(&mut found, &json!({}));
        found
    }

    fn deployed(found: &mut Found, status: &Value) {
        let mut whole =
            json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        whole.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "hub", "generation": 2, "labels": {"windlass.dev/registry": "hub"}},
            "spec": {"selector": {}, "template": {}}, "status": whole});
        found.live.insert(Kind::Deployment, serde_json::from_value(deployment).unwrap());
    }

    fn of(registry: &Registry, found: &Found, now: Timestamp) -> RegistryStatus {
        let defaults = Defaults {
            server_image: "r/s:1.2".to_owned(),
            cluster_domain: "c".to_owned(),
            ..Defaults::default()
        };
        match validate(registry, found, &defaults, now) {
            Ok(valid) => status(registry, Outcome::Applied(&valid), found, now),
            Err(problem) => status(registry, Outcome::Refused(&problem), found, now),
        }
    }

    /// `Ready`, `Reconciling`, `Stalled`, `StorageReady`, `TLSReady` as `True/Reason`.
    fn summary(status: &RegistryStatus) -> String {
        let one = |condition: &super::Condition| format!("{}/{}", condition.status, condition.reason);
        status.conditions.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// The rules by which Flux and others read a status.
    fn kstatus(registry: &Registry, status: &RegistryStatus) -> &'static str {
        let is = |type_: &str| status.condition(type_).is_some_and(|condition| condition.status == "True");
        match () {
            () if Some(status.observed_generation) != registry.metadata.generation => "InProgress",
            () if is("Reconciling") => "InProgress",
            () if is("Stalled") => "Failed",
            () if is("Ready") => "Current",
            () => "InProgress",
        }
    }

    #[test]
    fn each_state_has_its_conditions_and_its_place_in_kstatus() {
        let stuck = json!({"availableReplicas": 0, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        let plain = json!({});
        for (spec, deployment, endpoints, expected, place) in [
            (&plain, &plain, 1, "True/Available False/UpToDate False/UpToDate", "Current"),
            (&plain, &plain, 0, "False/Progressing True/Progressing False/UpToDate", "InProgress"),
            (
                &plain,
                &json!({"availableReplicas": 0}),
                1,
                "False/Progressing True/Progressing False/UpToDate",
                "InProgress",
            ),
            (
                &plain,
                &json!({"observedGeneration": 1}),
                1,
                "False/Progressing True/Progressing False/UpToDate",
                "InProgress",
            ),
            (
                &plain,
                &json!({"replicas": 2}),
                1,
                "False/Progressing True/Progressing False/UpToDate",
                "InProgress",
            ),
            (
                &plain,
                &stuck,
                1,
                "False/ProgressDeadlineExceeded False/UpToDate True/ProgressDeadlineExceeded",
                "Failed",
            ),
            (
                &json!({"replicas": 0}),
                &plain,
                1,
                "False/ScaledToZero False/UpToDate False/UpToDate",
                "InProgress",
            ),
            (&json!({"paused": true}), &plain, 1, "True/Available False/Paused False/UpToDate", "Current"),
            (
                &json!({"auth": {"htpasswdSecretRef": {"name": "users"}}}),
                &plain,
                1,
                "False/SecretNotFound False/UpToDate True/SecretNotFound",
                "Failed",
            ),
        ] {
            let registry = registry(spec);
            let mut found = healthy();
            found.ready_endpoints = endpoints;
            deployed(&mut found, deployment);
            let status = of(&registry, &found, now());
            let expected = format!("{expected} True/Available True/Disabled");
            assert_eq!(summary(&status), expected, "{spec} {deployment}");
            assert_eq!(kstatus(&registry, &status), place, "{spec} {deployment}");
        }
    }

    #[test]
    fn what_the_api_server_says_of_refused_pods_is_passed_on() {
        let mut found = healthy();
        let refused = json!({"availableReplicas": 0, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]});
        deployed(&mut found, &refused);
        let registry = registry(&json!({}));
        let status = of(&registry, &found, now());
        let ready = status.condition("Ready").unwrap();
        assert_eq!((ready.reason.as_str(), ready.message.as_str()), ("PodsRefused", "exceeded quota"));
        assert_eq!(kstatus(&registry, &status), "InProgress");
    }

    #[test]
    fn a_status_changes_only_when_something_has_happened() {
        let mut registry = registry(&json!({}));
        let first = of(&registry, &healthy(), now());
        registry.status = Some(first.clone());
        let later = now() + SignedDuration::from_hours(1);
        assert_eq!(of(&registry, &healthy(), later), first);
        let mut broken = healthy();
        broken.ready_endpoints = 0;
        let second = of(&registry, &broken, later);
        let time = |status: &RegistryStatus, type_| status.condition(type_).unwrap().last_transition_time.0;
        assert_eq!(time(&second, "Ready"), later);
        assert_eq!(time(&second, "Stalled"), now());
    }

    #[test]
    fn what_is_observed_is_reported() {
        let spec = json!({"config": {"log": {"level": "debug"}}, "overrides": {"service": {"spec": {}}, "deployment": {}}});
        let status = of(&registry(&spec), &healthy(), now());
        assert_eq!(status.observed_generation, 4);
        assert_eq!(status.url.as_deref(), Some("http://hub.team-a.svc:5000"));
        assert_eq!(status.pull_example.as_deref(), Some("hub.team-a.svc:5000/team/app:v1"));
        assert_eq!(status.cluster_ip.as_deref(), Some("10.96.0.7"));
        assert_eq!((status.replicas, status.version.as_deref()), (1, Some("1.2")));
        assert_eq!(status.overridden, ["config.yml", "Service"]);
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(4)));
    }

    #[test]
    fn hostnames_that_a_certificate_of_the_users_lacks_are_named() {
        let names = SubjectNames { hosts: ["hub.example".to_owned()].into(), ..SubjectNames::default() };
        let material = tls::ensure(&Existing::default(), "x", &names, now()).unwrap();
        let data = json!({"tls.crt": ByteString(material.leaf.certificate.into()),
            "tls.key": ByteString(material.leaf.key.into())});
        let secret = serde_json::from_value(json!({"metadata": {"name": "mine"}, "data": data})).unwrap();
        let found = Found { certificate: Some(secret), ..healthy() };
        for (hostnames, expected) in [
            (json!([]), ""),
            (json!(["hub.example"]), ""),
            (
                json!(["a.example", "hub.example", "b.example"]),
                "; of spec.hostnames it does not name a.example, b.example",
            ),
        ] {
            let spec = json!({"tls": {"secretRef": {"name": "mine"}}, "hostnames": hostnames});
            let status = of(&registry(&spec), &found, now());
            let valid = format!("the certificate in Secret mine is valid until {}", material.not_after);
            let tls = status.condition("TLSReady").unwrap();
            assert_eq!((tls.status.as_str(), &tls.message), ("True", &format!("{valid}{expected}")));
        }
    }

    #[test]
    fn the_volume_is_reported_as_it_is() {
        let claim = |fields: &Value| {
            let mut found = healthy();
            let mut object =
                json!(found.live.get(&(Kind::PersistentVolumeClaim, "hub-data".to_owned())).unwrap());
            object["status"] = fields.clone();
            found.live.insert(Kind::PersistentVolumeClaim, serde_json::from_value(object).unwrap());
            of(&registry(&json!({})), &found, now()).condition("StorageReady").unwrap().clone()
        };
        let bound = |size: &str| json!({"phase": "Bound", "capacity": {"storage": size}});
        assert_eq!(claim(&bound("1Gi")).message, "PersistentVolumeClaim hub-data is bound and has 1Gi");
        assert_eq!(claim(&bound("512Mi")).reason, "Resizing");
        assert_eq!(claim(&json!({"phase": "Pending"})).reason, "VolumePending");
    }

    #[test]
    fn a_refusal_keeps_what_was_known_of_the_parts() {
        let mut registry = registry(&json!({}));
        registry.status = Some(of(&registry, &healthy(), now()));
        let problem = Problem::NameTaken { kind: "Service", name: "hub".to_owned() };
        let refused = status(&registry, Outcome::Refused(&problem), &healthy(), now());
        let expected = "False/NameTaken False/UpToDate True/NameTaken True/Available True/Available";
        assert_eq!(summary(&refused), expected);
        assert_eq!(refused.url.as_deref(), Some("http://hub.team-a.svc:5000"));
        let waiting = Problem::PredecessorTerminating { kind: "Service", name: "hub".to_owned() };
        let waiting = status(&registry, Outcome::Refused(&waiting), &healthy(), now());
        assert_eq!(kstatus(&registry, &waiting), "InProgress");
    }

    #[test]
    fn the_version_is_the_tag_or_digest_of_the_image() {
        for (image, expected) in [
            ("r.local:5000/a/b:v1", "v1"),
            ("r.local:5000/a/b", "latest"),
            ("a/b@sha256:00", "sha256:00"),
            ("a/b:v1@sha256:00", "sha256:00"),
        ] {
            assert_eq!(version(image), expected, "{image}");
        }
    }
}
