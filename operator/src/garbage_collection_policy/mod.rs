//! Following a `GarbageCollectionPolicy`, in five steps: dereference (reads), validate (pure), build (pure, cannot fail),
//! apply (writes Jobs), status (writes the status).
//!
//! What is due is decided by [`plan`] from the status: it holds the time of each registry's next run, which is a promise
//! that is kept once. Only then, just before a Job is made, [`workloads`] are listed.

pub mod build;
pub mod dereference;
pub mod plan;
pub mod problem;
pub mod protection;
pub mod runs;
pub mod schedule;
pub mod status;
pub mod validate;
pub mod workloads;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DynamicObject};
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};

use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
use crate::api::garbage_collection_status::{
    GarbageCollectionPolicyStatus, GarbageCollectionReason as Reason, LastRun, WORKLOADS_PROTECTED,
};
use crate::api::status::STALLED;
use crate::apply;
use crate::children::{Change, Kind};
use crate::conditions::whole_seconds;
use crate::context::Context;
use crate::quantity;
use crate::registry::{self, Error, dereference::Error as ReadError};
use plan::{Plan, Turn};
use problem::Problem;
use protection::Hosts;
use status::{Knowledge, Outcome, Report};
use validate::{Target, Valid};
use workloads::Workloads;

/// How long a stalled policy is left alone, should no watch have told of the cure.
const STALLED_RECHECK: Duration = Duration::from_secs(60);

/// Reads the policy that `metadata` is of, as it is now; `None` if it is gone or about to go.
///
/// # Errors
/// [`Error::Dereference`].
pub async fn read(
    metadata: &ObjectMeta,
    context: &Context,
) -> Result<Option<DeserializeGuard<GarbageCollectionPolicy>>, Error> {
    type Guarded = DeserializeGuard<GarbageCollectionPolicy>;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let found = Api::<Guarded>::namespaced(context.client.clone(), namespace).get_opt(name).await;
    let found = found.map_err(|source| ReadError {
        what: format!("GarbageCollectionPolicy {namespace}/{name}"),
        source,
    })?;
    Ok(found.filter(|policy| policy.meta().deletion_timestamp.is_none()))
}

/// Makes the Jobs that `policy` asks for at `now`, tells in its status of those that have ended, and returns when to look
/// again at the latest.
///
/// # Errors
/// [`Error`]; the caller tries again after a growing while.
pub async fn reconcile(
    policy: &GarbageCollectionPolicy,
    context: &Context,
    now: Timestamp,
) -> Result<Duration, Error> {
    let now = whole_seconds(now);
    let found = dereference::dereference(&context.client, policy).await?;
    let valid = match validate::validate(policy, &found, now) {
        Ok(valid) => valid,
        Err(problem) => {
            let report = status::report(policy, Outcome::Refused(&problem), None, &found, now);
            context.metrics.failed(&problem.reason().to_string());
            publish(policy, &report, context).await?;
            return Ok(STALLED_RECHECK);
        }
    };
    let before = policy.status.clone().unwrap_or_default();
    let plan = plan::plan(&valid, &found, &before, status::requested(policy).as_deref(), now);
    let knowledge = match apply(&valid, &plan, &found.config_maps, policy, context).await {
        Ok(knowledge) => knowledge,
        Err(error) if apply::is_refusal(&error.source) => {
            let problem = Problem::Rejected {
                object: format!("{} {}", error.key.0.name(), error.key.1),
                message: apply::server_message(&error.source),
            };
            let report = status::report(policy, Outcome::Refused(&problem), None, &found, now);
            publish(policy, &report, context).await?;
            return Err(Error::Refused(error));
        }
        Err(error) => return Err(error.into()),
    };
    let outcome = Outcome::Followed(&valid, &plan);
    publish(policy, &status::report(policy, outcome, knowledge.as_ref(), &found, now), context).await?;
    if let Some(problem) = valid.problems.first() {
        context.metrics.failed(&problem.reason().to_string());
    }
    Ok(next_look(&valid, &plan, context.resync, now))
}

/// Says in the status of an object that it cannot be read as a policy: an older or a newer CRD has let it in.
///
/// # Errors
/// [`Error::Status`].
pub async fn report_unreadable(metadata: &ObjectMeta, message: &str, context: &Context) -> Result<(), Error> {
    let problem = Problem::InvalidSpec { message: message.to_owned() };
    context.metrics.failed(&problem.reason().to_string());
    let (namespace, policy) = (&metadata.namespace, &metadata.name);
    tracing::warn!(?namespace, ?policy, %problem, "an object is left alone");
    let status = status::unreadable(metadata, &problem, Timestamp::now());
    status::write(&context.client, metadata, &status).await.map_err(Error::Status)
}

/// Begins the runs that are due, gives those that were cut off what they lack, and removes old ones. Returns what the
/// runs that have begun know, if any has.
async fn apply(
    valid: &Valid<'_>,
    plan: &Plan<'_>,
    config_maps: &[String],
    policy: &GarbageCollectionPolicy,
    context: &Context,
) -> Result<Option<Knowledge>, apply::Error> {
    let lacks_rules =
        |turn: &&Turn<'_>| turn.active.is_some_and(|job| !config_maps.contains(&job.name_any()));
    let due: Vec<&Turn<'_>> =
        plan.turns.iter().filter(|turn| turn.begin.is_some() || lacks_rules(turn)).collect();
    let mut knowledge = None;
    if !due.is_empty() {
        let workloads = if valid.spec.protect.workloads {
            workloads::survey(&context.client).await
        } else {
            Workloads::default()
        };
        for turn in due {
            let known = begin(valid, turn, &workloads, policy, context).await?;
            knowledge = Some(worse(knowledge, known));
        }
    }
    for job in &plan.prune {
        let key = (Kind::Job, job.name_any());
        apply::delete(&context.client, &valid.namespace, &key, job.uid()).await?;
        context.metrics.applied(Kind::Job, Change::Deleted);
    }
    Ok(knowledge)
}

/// The first that is not in order.
fn worse(first: Option<Knowledge>, second: Knowledge) -> Knowledge {
    first.filter(|first| *first != Knowledge::Listed).unwrap_or(second)
}

/// Makes the Job, unless it is there already, and then its `ConfigMap`, which belongs to it and for which its Pod waits.
/// So nothing is left behind however this is cut off, and the list of images is never older than the Job.
async fn begin(
    valid: &Valid<'_>,
    turn: &Turn<'_>,
    workloads: &Workloads,
    policy: &GarbageCollectionPolicy,
    context: &Context,
) -> Result<Knowledge, apply::Error> {
    let made: Option<DynamicObject> = match &turn.begin {
        Some((name, time)) => {
            let child = build::job(valid, turn.target, name, *time);
            apply::create(&context.client, &valid.namespace, &child).await?
        }
        None => None,
    };
    if let Some(job) = &made {
        context.metrics.applied(Kind::Job, Change::Created);
        let message = format!("Job {} collects Registry {}", job.name_any(), turn.target.name);
        tell(policy, false, Reason::RunStarted, &message, context).await;
    }
    let owner =
        made.as_ref().map(owner_of).or_else(|| turn.active.and_then(|job| job.controller_owner_ref(&())));
    // Somebody else has made it in this very moment, and will see to the rest.
    let Some(owner) = owner else { return Ok(Knowledge::Listed) };
    rules(valid, turn.target, owner, workloads, context).await
}

async fn rules(
    valid: &Valid<'_>,
    target: &Target<'_>,
    job: OwnerReference,
    workloads: &Workloads,
    context: &Context,
) -> Result<Knowledge, apply::Error> {
    let protect = &valid.spec.protect;
    let hosts = Hosts::of(target.collected, &context.defaults.cluster_domain, protect, workloads);
    let protection = protection::protection(protect, workloads, &hosts);
    let (child, fits) = build::config_map(valid, target, job, &protection);
    if apply::create(&context.client, &valid.namespace, &child).await?.is_some() {
        context.metrics.applied(Kind::ConfigMap, Change::Created);
    }
    Ok(if !protection.complete {
        Knowledge::Unknown(workloads.failures.join("; "))
    } else if fits {
        Knowledge::Listed
    } else {
        Knowledge::TooMany { registry: target.name.clone(), images: protection.images.len() }
    })
}

/// What [`kube::Resource::controller_owner_ref`] says of a typed object.
fn owner_of(job: &DynamicObject) -> OwnerReference {
    let resource = Kind::Job.resource();
    OwnerReference {
        api_version: resource.api_version,
        kind: resource.kind,
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Writes the status if it has changed, and tells of what has happened by Events.
async fn publish(policy: &GarbageCollectionPolicy, report: &Report, context: &Context) -> Result<(), Error> {
    let Report { status, ended } = report;
    // First, for a run is news only until the policy's status tells of it.
    for (registry, run) in ended {
        count(policy, registry, run, context).await?;
    }
    if policy.status.as_ref() != Some(status) {
        status::write(&context.client, &policy.metadata, status).await.map_err(Error::Status)?;
    }
    for (registry, run) in ended {
        context.metrics.collected(run);
        let reason = if run.succeeded { Reason::RunSucceeded } else { Reason::RunFailed };
        tell(policy, !run.succeeded, reason, &words(registry, run), context).await;
    }
    for (type_, bad) in [(STALLED, "True"), (WORKLOADS_PROTECTED, "False")] {
        let reason = |status: &GarbageCollectionPolicyStatus| {
            status
                .condition(type_)
                .filter(|condition| condition.status == bad)
                .map(|condition| (condition.reason.clone(), condition.message.clone()))
        };
        let before = policy.status.as_ref().and_then(reason).map(|(reason, _)| reason);
        if let Some((reason, message)) = reason(status).filter(|(reason, _)| before.as_ref() != Some(reason))
        {
            context.publish(&policy.object_ref(&()), true, &reason, &message).await;
        }
    }
    Ok(())
}

/// Writes to a Registry what a run over it has counted. A run that has not come to its end has not counted all.
async fn count(
    policy: &GarbageCollectionPolicy,
    registry: &str,
    run: &LastRun,
    context: &Context,
) -> Result<(), Error> {
    let Some(storage) = runs::storage(run) else { return Ok(()) };
    let metadata = ObjectMeta {
        name: Some(registry.to_owned()),
        namespace: policy.namespace(),
        ..ObjectMeta::default()
    };
    match registry::status::write_storage(&context.client, &metadata, &storage).await {
        // It has been deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        written => written.map_err(Error::Status),
    }
}

fn words(registry: &str, run: &LastRun) -> String {
    if !run.succeeded {
        return format!("Job {} over Registry {registry} failed: {}", run.job, run.message);
    }
    format!(
        "Registry {registry}{}: {} tags and {} manifests let go, {} reclaimed, {} can be restored",
        if run.dry_run { " (dry run)" } else { "" },
        run.tags_deleted,
        run.manifests_deleted,
        quantity::of_bytes(run.bytes_reclaimed),
        quantity::of_bytes(run.bytes_quarantined),
    )
}

async fn tell(
    policy: &GarbageCollectionPolicy,
    is_warning: bool,
    reason: Reason,
    message: &str,
    context: &Context,
) {
    context.publish(&policy.object_ref(&()), is_warning, &reason.to_string(), message).await;
}

/// A new request is kept in the status first, so that it leads to one run only; the next look begins it.
fn next_look(valid: &Valid<'_>, plan: &Plan<'_>, resync: Duration, now: Timestamp) -> Duration {
    if plan.is_requested {
        return Duration::ZERO;
    }
    let resync = if valid.problems.is_empty() { resync } else { resync.min(STALLED_RECHECK) };
    // What waits for its turn is woken by the end of another Job.
    let next = plan.turns.iter().filter_map(|turn| turn.next).filter(|next| *next > now).min();
    let left = next.and_then(|next| u64::try_from(next.as_second().saturating_sub(now.as_second())).ok());
    left.map_or(resync, |left| resync.min(Duration::from_secs(left)))
}
