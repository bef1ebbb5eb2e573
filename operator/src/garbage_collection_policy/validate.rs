//! Second step: from what the user wrote and what was found, what can be collected. Pure.
//!
//! What comes out holds parsed values only. A mistake in the policy is an error. One that concerns a single registry is
//! kept beside the result: the other registries are still collected.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::Selector;
use kube::{Resource, ResourceExt};
use registry_server::config::{Protection, Retention};
use registry_server::maintenance::retention::Rules;
use serde_json::json;

use super::dereference::{Collected, Found};
use super::problem::Problem;
use super::schedule::Schedule;
use crate::api::garbage_collection_policy::{GarbageCollectionPolicy, GarbageCollectionPolicySpec};
use crate::registry::dereference::claim_name;

/// The most registries that one policy looks after.
pub const MOST_REGISTRIES: usize = 50;

/// A policy that can be followed.
#[derive(Clone, Debug)]
pub struct Valid<'a> {
    /// Name of the policy.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The reference by which Jobs say whose they are.
    pub owner: OwnerReference,
    /// The spec, for fields that are passed on as they are.
    pub spec: &'a GarbageCollectionPolicySpec,
    /// When runs begin.
    pub schedule: Schedule,
    /// How long a Job may take.
    pub deadline: Duration,
    /// The rules, as the server reads them.
    pub retention: Retention,
    /// The registries that can be collected, by name.
    pub targets: Vec<Target<'a>>,
    /// What is wrong with the others, the first being the one to report.
    pub problems: Vec<Problem>,
}

/// A registry that can be collected.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Name of the Registry.
    pub name: String,
    /// What was found of it.
    pub collected: &'a Collected,
    /// Its server's Pod.
    pub template: &'a PodTemplateSpec,
    /// Whether a run must be on the server's node, because the volume is.
    pub beside_server: bool,
}

/// Checks `policy` against what was `found`.
///
/// # Errors
/// The [`Problem`] that lets nothing be collected.
pub fn validate<'a>(
    policy: &'a GarbageCollectionPolicy,
    found: &'a Found,
    now: Timestamp,
) -> Result<Valid<'a>, Problem> {
    let spec = &policy.spec;
    let schedule = Schedule::parse(&spec.schedule, &spec.time_zone, now)?;
    duration("spec.gracePeriod", &spec.grace_period)?;
    duration("spec.uploads.olderThan", &spec.uploads.older_than)?;
    let deadline = duration("spec.deadline", &spec.deadline)?;
    let retention = retention(spec)?;
    selection(spec, found)?;
    let (mut targets, mut problems) = (Vec::new(), Vec::new());
    for collected in &found.registries {
        match target(collected) {
            Ok(target) => targets.push(target),
            Err(problem) => problems.push(problem),
        }
    }
    problems.sort_by_key(Problem::passes);
    Ok(Valid {
        name: policy.name_any(),
        namespace: policy.namespace().unwrap_or_default(),
        owner: policy.controller_owner_ref(&()).unwrap_or_default(),
        spec,
        schedule,
        deadline,
        retention,
        targets,
        problems,
    })
}

fn selection(spec: &GarbageCollectionPolicySpec, found: &Found) -> Result<(), Problem> {
    if let Some(selector) = &spec.registry_selector {
        Selector::try_from(selector.clone())
            .map_err(|error| Problem::InvalidSelector { message: error.to_string() })?;
    }
    match (found.registries.len(), &spec.registry_ref) {
        (0, Some(reference)) => Err(Problem::RegistryNotFound { name: reference.name.clone() }),
        (0, None) => Err(Problem::NothingSelected),
        (count, _) if count > MOST_REGISTRIES => {
            Err(Problem::TooManyRegistries { count, most: MOST_REGISTRIES })
        }
        _ => Ok(()),
    }
}

fn target(collected: &Collected) -> Result<Target<'_>, Problem> {
    let name = collected.registry.name_any();
    if let Some(by) = collected.taken_by.clone() {
        return Err(Problem::RegistryTaken { registry: name, by });
    }
    let modes = collected.claim.as_ref().map(access_modes).unwrap_or_default();
    if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        return Err(Problem::VolumeExclusive { registry: name, claim: claim_name(&collected.registry) });
    }
    if collected.registry.spec.paused {
        return Err(Problem::RegistryPaused { registry: name });
    }
    let deployment = collected.deployment.as_ref().and_then(|deployment| deployment.spec.as_ref());
    let (Some(deployment), false) = (deployment, modes.is_empty()) else {
        return Err(Problem::RegistryPending { registry: name });
    };
    let is_shared = modes.iter().any(|mode| mode == "ReadWriteMany");
    let beside_server = !is_shared && deployment.replicas != Some(0);
    Ok(Target { name, collected, template: &deployment.template, beside_server })
}

fn access_modes(claim: &PersistentVolumeClaim) -> &[String] {
    claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// The rules in the server's own words, after the server's own code has understood them.
fn retention(spec: &GarbageCollectionPolicySpec) -> Result<Retention, Problem> {
    for (index, keep) in
        spec.retention.iter().enumerate().filter_map(|(index, rule)| Some((index, rule.keep.as_ref()?)))
    {
        for (name, value) in [("pushedWithin", &keep.pushed_within), ("pulledWithin", &keep.pulled_within)] {
            let field = format!("spec.retention[{index}].keep.{name}");
            value.as_ref().map(|value| duration(&field, value)).transpose()?;
        }
    }
    let retention = serde_json::from_value::<Retention>(json!({ "policies": spec.retention }));
    let retention = retention.map_err(|error| Problem::InvalidPattern {
        field: "spec.retention".to_owned(),
        message: error.to_string(),
    })?;
    let protection = Protection { tags: spec.protect.tags.clone(), ..Protection::default() };
    Rules::compile(&retention, &protection).map_err(|error| {
        let field = match error.field.strip_prefix("policies") {
            Some(rest) => format!("spec.retention{rest}"),
            None => format!("spec.protect.{}", error.field),
        };
        Problem::InvalidPattern { field, message: error.reason }
    })?;
    Ok(retention)
}

fn duration(field: &str, text: &str) -> Result<Duration, Problem> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| Problem::InvalidDuration { field: field.to_owned(), value: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::validate;
    use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
    use crate::api::garbage_collection_status::GarbageCollectionReason as Reason;
    use crate::garbage_collection_policy::dereference::{Collected, Found};
    use serde_json::{Value, json};
    use std::time::Duration;

    fn policy(fields: &Value) -> GarbageCollectionPolicy {
        let mut spec = json!({"registryRef": {"name": "hub"}, "schedule": "@daily"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1",
            "kind": "GarbageCollectionPolicy", "metadata": {"name": "nightly", "namespace": "n"},
            "spec": spec}))
        .unwrap()
    }

    /// A registry with a server and a volume, changed by `change`.
    fn found(change: impl FnOnce(&mut Collected)) -> Found {
        let registry = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "hub", "namespace": "n"},
            "spec": {"storage": {"filesystem": {"size": "1Gi"}}}});
        let deployment = json!({"spec": {"replicas": 1, "selector": {}, "template": {}}});
        let mut collected = Collected {
            registry: serde_json::from_value(registry).unwrap(),
            deployment: Some(serde_json::from_value(deployment).unwrap()),
            claim: Some(serde_json::from_value(json!({"spec": {"accessModes": ["ReadWriteOnce"]}})).unwrap()),
            service: None,
            taken_by: None,
        };
        change(&mut collected);
        Found { registries: vec![collected], ..Found::default() }
    }

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        let rule = |fields: Value| {
            let mut rule = json!({"repositories": ["**"]});
            rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({ "retention": [rule] })
        };
        let in_berlin = json!({"timeZone": "Europe/Berlim"});
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
        for (fields, reason, start) in [
            (json!({"schedule": "61 * * * *"}), Reason::InvalidSchedule, "spec.schedule: "),
            (json!({"schedule": "0 0 31 6 *"}), Reason::InvalidSchedule, "spec.schedule: "),
            (in_berlin, Reason::InvalidTimeZone, "spec.timeZone: "),
            (json!({"gracePeriod": "a day"}), Reason::InvalidDuration, "spec.gracePeriod: "),
            (json!({"deadline": "-1h"}), Reason::InvalidDuration, "spec.deadline: "),
            (json!({"uploads": {"olderThan": "x"}}), Reason::InvalidDuration, "spec.uploads.olderThan: "),
            (json!({"protect": {"tags": ["v("]}}), Reason::InvalidPattern, "spec.protect.tags[0]: "),
            (
                rule(json!({"repositories": ["a["]})),
                Reason::InvalidPattern,
                "spec.retention[0].repositories[0]: ",
            ),
            (rule(json!({"tags": "*"})), Reason::InvalidPattern, "spec.retention[0].tags: "),
            (
                rule(json!({"keep": {"patterns": ["ok", "("]}})),
                Reason::InvalidPattern,
                "spec.retention[0].keep.patterns[1]: ",
            ),
            (
                rule(json!({"keep": {"pulledWithin": "soon"}})),
                Reason::InvalidDuration,
                "spec.retention[0].keep.pulledWithin: ",
            ),
            (
                json!({"registryRef": null, "registrySelector": bad}),
                Reason::InvalidSelector,
                "spec.registrySelector: ",
            ),
        ] {
            let problem = validate(&policy(&fields), &found(|_| ()), now()).unwrap_err();
            assert_eq!(problem.reason(), reason, "{fields}");
            assert!(problem.to_string().starts_with(start), "{fields} gave {problem}");
            assert!(!problem.passes() && !problem.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_policy_that_finds_no_registry_says_so() {
        let none = Found::default();
        for fields in [json!({}), json!({"registryRef": null, "registrySelector": {}})] {
            let policy = policy(&fields);
            let problem = validate(&policy, &none, now()).unwrap_err();
            assert_eq!(problem.reason(), Reason::RegistryNotFound, "{fields}");
        }
        let one = found(|_| ()).registries.remove(0);
        let many = Found { registries: vec![one; 51], ..Found::default() };
        let problem = validate(&policy(&json!({})), &many, now()).unwrap_err();
        assert_eq!(problem.reason(), Reason::TooManyRegistries);
    }

    #[test]
    fn a_registry_that_cannot_be_collected_is_told_apart() {
        let modes =
            |modes: &[&str]| Some(serde_json::from_value(json!({"spec": {"accessModes": modes}})).unwrap());
        for (found, reason, passes) in [
            (found(|hub| hub.taken_by = Some("older".to_owned())), Reason::RegistryTaken, false),
            (found(|hub| hub.claim = modes(&["ReadWriteOncePod"])), Reason::VolumeExclusive, false),
            (found(|hub| hub.registry.spec.paused = true), Reason::RegistryPaused, true),
            (found(|hub| hub.deployment = None), Reason::RegistryPending, true),
            (found(|hub| hub.claim = None), Reason::RegistryPending, true),
        ] {
            let policy = policy(&json!({}));
            let valid = validate(&policy, &found, now()).unwrap();
            assert!(valid.targets.is_empty());
            assert_eq!((valid.problems[0].reason(), valid.problems[0].passes()), (reason, passes));
        }
    }

    #[test]
    fn a_run_is_beside_the_server_if_the_volume_is_for_one_node_and_in_use() {
        for (mode, replicas, expected) in
            [("ReadWriteOnce", 1, true), ("ReadWriteOnce", 0, false), ("ReadWriteMany", 2, false)]
        {
            let found = found(|hub| {
                hub.deployment.as_mut().unwrap().spec.as_mut().unwrap().replicas = Some(replicas);
                let claim = json!({"spec": {"accessModes": [mode]}});
                hub.claim = Some(serde_json::from_value(claim).unwrap());
            });
            let policy = policy(&json!({}));
            let valid = validate(&policy, &found, now()).unwrap();
            assert_eq!(valid.targets[0].beside_server, expected, "{mode} {replicas}");
        }
    }

    #[test]
    fn rules_are_handed_over_as_the_server_reads_them() {
        let keep = json!({"mostRecentlyPushed": 10, "pushedWithin": "720h", "patterns": ["^v"]});
        let rule = json!({"repositories": ["team/**"], "tags": "^pr-", "keep": keep, "untagged": "Keep"});
        let policy = policy(&json!({"retention": [rule], "deadline": "1h30m"}));
        let found = found(|_| ());
        let valid = validate(&policy, &found, now()).unwrap();
        let keep = valid.retention.policies[0].keep.as_ref().unwrap();
        assert_eq!(keep.pushed_within, Some(Duration::from_secs(720 * 3600)));
        assert_eq!(keep.most_recently_pushed, Some(10));
        assert_eq!(valid.deadline, Duration::from_secs(5400));
        assert_eq!(valid.problems, []);
    }
}
