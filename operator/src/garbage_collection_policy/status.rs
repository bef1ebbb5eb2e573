//! Fifth step: what the policy's status says, by the rules of kstatus. Pure, but for [`write()`].
//!
//! `Ready` is about the policy: it can be followed, for all its registries. How runs end is told by conditions of their
//! own, so that a deployment tool does not wait for the next night.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::dereference::Found;
use super::plan::{Plan, Turn};
use super::problem::Problem;
use super::runs;
use super::validate::Valid;
use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
use crate::api::garbage_collection_status::{
    CollectedRegistry, GarbageCollectionPolicyStatus, GarbageCollectionReason as Reason, LAST_RUN_SUCCEEDED,
    LastRun, WORKLOADS_PROTECTED,
};
use crate::api::status::{READY, RECONCILING, STALLED};
use crate::{apply, conditions, names};

/// What one reconcile came to.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The policy is followed, as was planned.
    Followed(&'a Valid<'a>, &'a Plan<'a>),
    /// Nothing could be collected.
    Refused(&'a Problem),
}

/// What a run that has just begun knows of the images that workloads use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Knowledge {
    /// All of them.
    Listed,
    /// Not all, because of this.
    Unknown(String),
    /// All of them, but they do not fit into a `ConfigMap`.
    TooMany {
        /// The registry that they are of.
        registry: String,
        /// How many they are.
        images: usize,
    },
}

/// A status, and the runs that it tells of for the first time.
#[derive(Clone, Debug)]
pub struct Report {
    /// The status.
    pub status: GarbageCollectionPolicyStatus,
    /// The runs, with the name of the registry.
    pub ended: Vec<(String, LastRun)>,
}

type Verdict = conditions::Verdict<Reason>;

impl Verdict {
    fn of(problem: &Problem) -> Self {
        Self::new(false, problem.reason(), problem.to_string())
    }
}

/// The status of `policy` after `outcome`, in which runs with this `knowledge` have begun.
#[must_use]
pub fn report(
    policy: &GarbageCollectionPolicy,
    outcome: Outcome<'_>,
    knowledge: Option<&Knowledge>,
    found: &Found,
    now: Timestamp,
) -> Report {
    let mut status = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation.unwrap_or_default();
    let (registries, ended) = registries(policy, outcome, found, &status);
    for (_, run) in &ended {
        runs::add(&mut status.totals, run);
    }
    status.registry = match (&policy.spec.registry_ref, registries.as_slice()) {
        (Some(reference), _) => reference.name.clone(),
        (None, [one]) => one.name.clone(),
        (None, all) => format!("{} registries", all.len()),
    };
    status.registries = registries;
    status.next_run = status.registries.iter().filter_map(|registry| registry.next_run.clone()).min();
    let finished = status.registries.iter().filter_map(|registry| registry.last_run.as_ref());
    status.last_run = finished.map(|run| run.finished.clone()).max().or(status.last_run);
    if matches!(outcome, Outcome::Followed(_, plan) if plan.is_requested) {
        status.last_request = requested(policy);
    }
    let verdicts = verdicts(policy, outcome, knowledge, &status);
    status.conditions = verdicts
        .into_iter()
        .map(|(type_, verdict)| verdict.condition(type_, &status.conditions, generation, now))
        .collect();
    status.observed_generation = generation;
    Report { status, ended }
}

/// The run that is asked for.
#[must_use]
pub fn requested(policy: &GarbageCollectionPolicy) -> Option<String> {
    policy.annotations().get(names::REQUEST_ANNOTATION).filter(|value| !value.is_empty()).cloned()
}

/// The status of an object that cannot be read as a policy, so that nothing else can be said of it.
#[must_use]
pub fn unreadable(metadata: &ObjectMeta, problem: &Problem, now: Timestamp) -> GarbageCollectionPolicyStatus {
    let generation = metadata.generation.unwrap_or_default();
    let stalled = Verdict { status: "True", ..Verdict::of(problem) };
    let conditions = [(READY, Verdict::of(problem)), (STALLED, stalled)]
        .map(|(type_, verdict)| verdict.condition(type_, &[], generation, now));
    GarbageCollectionPolicyStatus {
        observed_generation: generation,
        conditions: conditions.into(),
        ..GarbageCollectionPolicyStatus::default()
    }
}

/// Writes `status` to the policy that has `metadata`.
///
/// # Errors
/// The API server's.
pub async fn write(
    client: &Client,
    metadata: &ObjectMeta,
    status: &GarbageCollectionPolicyStatus,
) -> Result<(), kube::Error> {
    apply::status::<GarbageCollectionPolicy>(client, metadata, &json!(status), names::FIELD_MANAGER).await
}

/// What is known of each registry that the policy looks after, and the runs over it that have ended since.
fn registries(
    policy: &GarbageCollectionPolicy,
    outcome: Outcome<'_>,
    found: &Found,
    previous: &GarbageCollectionPolicyStatus,
) -> (Vec<CollectedRegistry>, Vec<(String, LastRun)>) {
    let (mut registries, mut ended) = (Vec::new(), Vec::new());
    for collected in found.registries.iter().filter(|collected| collected.taken_by.is_none()) {
        let name = collected.registry.name_any();
        let known = previous.registry(&name).cloned().unwrap_or_default();
        let news = runs::news(found, &policy.name_any(), &name, known.last_run.as_ref());
        ended.extend(news.iter().map(|run| (name.clone(), run.clone())));
        let known = CollectedRegistry {
            last_run: news.into_iter().next_back().or_else(|| known.last_run.clone()),
            name,
            ..known
        };
        registries.push(match outcome {
            Outcome::Followed(_, plan) => with_turn(known, plan),
            Outcome::Refused(_) => known,
        });
    }
    registries.truncate(super::validate::MOST_REGISTRIES);
    (registries, ended)
}

fn with_turn(known: CollectedRegistry, plan: &Plan<'_>) -> CollectedRegistry {
    let turn = plan.turns.iter().find(|turn| turn.target.name == known.name);
    let active = |turn: &Turn<'_>| {
        let begun = turn.begin.as_ref().map(|(job, _)| job.clone());
        begun.or_else(|| turn.active.map(ResourceExt::name_any))
    };
    CollectedRegistry {
        next_run: turn.and_then(|turn| turn.next).map(Time),
        requested: turn.is_some_and(|turn| turn.is_requested),
        active_job: turn.and_then(active),
        ..known
    }
}

fn verdicts(
    policy: &GarbageCollectionPolicy,
    outcome: Outcome<'_>,
    knowledge: Option<&Knowledge>,
    status: &GarbageCollectionPolicyStatus,
) -> [(&'static str, Verdict); 5] {
    let problem = match outcome {
        Outcome::Followed(valid, _) => valid.problems.first(),
        Outcome::Refused(problem) => Some(problem),
    };
    let idle = |message| Verdict::new(false, Reason::UpToDate, message);
    let (ready, reconciling, stalled) = match problem {
        Some(problem) => {
            let word = Verdict { status: "True", ..Verdict::of(problem) };
            let is_pending = problem.reason() == Reason::RegistryPending;
            let reconciling = if is_pending { word.clone() } else { idle("there is nothing left to do") };
            let stalled = if problem.passes() { idle("nothing is in the way") } else { word };
            (Verdict::of(problem), reconciling, stalled)
        }
        None => (ready(policy), idle("there is nothing left to do"), idle("nothing is in the way")),
    };
    [
        (READY, ready),
        (RECONCILING, reconciling),
        (STALLED, stalled),
        (LAST_RUN_SUCCEEDED, last_run(status)),
        (WORKLOADS_PROTECTED, workloads(policy, knowledge, status)),
    ]
}

fn ready(policy: &GarbageCollectionPolicy) -> Verdict {
    if policy.spec.suspend {
        return Verdict::new(true, Reason::Suspended, "spec.suspend is set: runs begin only when asked for");
    }
    let spec = &policy.spec;
    let message = format!("runs begin by the schedule {:?} in {}", spec.schedule, spec.time_zone);
    Verdict::new(true, Reason::Scheduled, message)
}

fn last_run(status: &GarbageCollectionPolicyStatus) -> Verdict {
    let mut runs = status
        .registries
        .iter()
        .filter_map(|registry| Some((&registry.name, registry.last_run.as_ref()?)))
        .peekable();
    if runs.peek().is_none() {
        return Verdict::unknown(Reason::NoRunYet, "no run has ended yet");
    }
    match runs.find(|(_, run)| !run.succeeded) {
        Some((registry, run)) => {
            let message = format!("Job {} over Registry {registry} failed: {}", run.job, run.message);
            Verdict::new(false, Reason::RunFailed, message)
        }
        None => Verdict::new(true, Reason::RunSucceeded, "the last run of every registry came to a good end"),
    }
}

fn workloads(
    policy: &GarbageCollectionPolicy,
    knowledge: Option<&Knowledge>,
    status: &GarbageCollectionPolicyStatus,
) -> Verdict {
    if !policy.spec.protect.workloads {
        let message = "spec.protect.workloads is false: images may go that workloads use";
        return Verdict::new(false, Reason::WorkloadsIgnored, message);
    }
    match knowledge {
        Some(knowledge) => knowledge.verdict(),
        None => {
            known_before(status).unwrap_or_else(|| Verdict::unknown(Reason::NoRunYet, "no run has begun yet"))
        }
    }
}

/// What the last run knew; nothing if it was told not to look.
fn known_before(status: &GarbageCollectionPolicyStatus) -> Option<Verdict> {
    let known = status.condition(WORKLOADS_PROTECTED)?;
    let reasons = [Reason::WorkloadsListed, Reason::WorkloadsUnknown, Reason::TooManyImages];
    let reason = reasons.into_iter().find(|reason| reason.to_string() == known.reason)?;
    Some(Verdict::new(known.status == "True", reason, known.message.clone()))
}

impl Knowledge {
    /// What the condition says of it.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Listed => {
                let message = "the last run keeps all images that workloads use";
                Verdict::new(true, Reason::WorkloadsListed, message)
            }
            Self::Unknown(failures) => {
                let message = format!(
                    "the last run touches nothing tagged, for workloads cannot be listed: {failures}"
                );
                Verdict::new(false, Reason::WorkloadsUnknown, message)
            }
            Self::TooMany { registry, images } => {
                let message = format!(
                    "the last run touches nothing tagged: the {images} images of Registry {registry} that workloads use \
                     do not fit into a ConfigMap"
                );
                Verdict::new(false, Reason::TooManyImages, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Knowledge, Outcome, report, unreadable};
    use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
    use crate::api::garbage_collection_status::GarbageCollectionPolicyStatus;
    use crate::garbage_collection_policy::dereference::Found;
    use crate::garbage_collection_policy::problem::Problem;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn policy(fields: &Value, status: &Value) -> GarbageCollectionPolicy {
        let mut spec = json!({"registryRef": {"name": "hub"}, "schedule": "@daily"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1",
            "kind": "GarbageCollectionPolicy", "spec": spec, "status": status,
            "metadata": {"name": "nightly", "namespace": "n", "generation": 7}}))
        .unwrap()
    }

    /// Type, status and reason of each condition.
    fn said(status: &GarbageCollectionPolicyStatus) -> Vec<String> {
        let conditions = status.conditions.iter();
        conditions.map(|one| format!("{} {} {}", one.type_, one.status, one.reason)).collect()
    }

    #[test]
    fn a_problem_stalls_unless_it_passes() {
        let registry = || "hub".to_owned();
        for (problem, expected) in [
            (
                Problem::RegistryNotFound { name: registry() },
                [
                    "Ready False RegistryNotFound",
                    "Reconciling False UpToDate",
                    "Stalled True RegistryNotFound",
                ],
            ),
            (
                Problem::RegistryPending { registry: registry() },
                ["Ready False RegistryPending", "Reconciling True RegistryPending", "Stalled False UpToDate"],
            ),
            (
                Problem::RegistryPaused { registry: registry() },
                ["Ready False RegistryPaused", "Reconciling False UpToDate", "Stalled False UpToDate"],
            ),
        ] {
            let policy = policy(&json!({}), &json!({}));
            let status = report(&policy, Outcome::Refused(&problem), None, &Found::default(), now()).status;
            assert_eq!(said(&status)[..3], expected);
            assert_eq!(status.observed_generation, 7);
        }
    }

    #[test]
    fn what_a_run_knows_of_workloads_is_remembered() {
        let problem = Problem::RegistryPaused { registry: "hub".to_owned() };
        let told = |policy: &GarbageCollectionPolicy, knowledge: Option<Knowledge>| {
            let outcome = Outcome::Refused(&problem);
            report(policy, outcome, knowledge.as_ref(), &Found::default(), now()).status
        };
        for (knowledge, expected) in [
            (None, "Unknown NoRunYet"),
            (Some(Knowledge::Listed), "True WorkloadsListed"),
            (Some(Knowledge::Unknown("pods: forbidden".to_owned())), "False WorkloadsUnknown"),
            (Some(Knowledge::TooMany { registry: "hub".to_owned(), images: 9 }), "False TooManyImages"),
        ] {
            let first = told(&policy(&json!({}), &json!({})), knowledge);
            assert_eq!(said(&first)[4], format!("WorkloadsProtected {expected}"));
            let again = told(&policy(&json!({}), &json!(first)), None);
            assert_eq!(again, first);
        }
        let ignoring = policy(&json!({"protect": {"workloads": false}}), &json!({}));
        assert_eq!(said(&told(&ignoring, None))[4], "WorkloadsProtected False WorkloadsIgnored");
    }

    #[test]
    fn an_object_that_cannot_be_read_is_stalled() {
        let metadata = policy(&json!({}), &json!({})).metadata;
        let status = unreadable(&metadata, &Problem::InvalidSpec { message: "x".to_owned() }, now());
        assert_eq!(said(&status), ["Ready False InvalidSpec", "Stalled True InvalidSpec"]);
    }
}
