//! Fifth step: what the status of each Registry tells of pull access. Pure, but for [`publish()`].
//!
//! It has a field manager of its own, so that the Registry's own reconcile and this one write without knowing of each
//! other.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use serde_json::json;

use super::dereference::Found;
use super::validate::{Access, Problem, Valid};
use crate::api::pull_access::{FailingNamespace, PULL_ACCESS_READY, PullAccessStatus};
use crate::api::registry::Registry;
use crate::api::status::{MOST_FAILING, Reason};
use crate::context::Context;
use crate::{apply, conditions, names};

/// What one round came to for one Registry.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The namespaces that have their pull secret.
    pub written: BTreeSet<String>,
    /// Those in which something is missing.
    pub failing: Vec<FailingNamespace>,
    /// What is wrong with the whole.
    pub problem: Option<Problem>,
}

type Verdict = conditions::Verdict<Reason>;

/// Writes what has changed, and an Event where the condition turns.
///
/// # Errors
/// The first of the API server's; the rest is written all the same.
pub async fn publish(
    found: &Found,
    valid: &Valid<'_>,
    outcomes: &[Outcome],
    context: &Context,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let mut result = Ok(());
    for (access, outcome) in valid.accesses.iter().zip(outcomes) {
        result = result.and(tell(access, outcome, context, now).await);
    }
    for registry in found.registries.iter().filter(|registry| registry.spec.pull_access.is_none()) {
        if before(registry) != (None, None) {
            result = result.and(write(registry, &json!({}), context).await);
        }
    }
    result
}

/// What is told of `outcome`: the part of the status, and the condition.
#[must_use]
pub fn status(
    registry: &Registry,
    outcome: &Outcome,
    unwatched: usize,
    now: Timestamp,
) -> (PullAccessStatus, Condition) {
    let mut failing = outcome.failing.clone();
    failing.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    failing.dedup_by(|one, other| one.namespace == other.namespace);
    let verdict = verdict(outcome, &failing, unwatched);
    let previous = registry.status.clone().unwrap_or_default();
    failing.truncate(MOST_FAILING);
    let namespaces = i32::try_from(outcome.written.len()).unwrap_or(i32::MAX);
    // It is about the namespaces as well as the spec, and so about no generation.
    let condition = verdict.condition(PULL_ACCESS_READY, &previous.conditions, None, now);
    (PullAccessStatus { namespaces, failing }, condition)
}

fn verdict(outcome: &Outcome, failing: &[FailingNamespace], unwatched: usize) -> Verdict {
    if let Some(problem) = &outcome.problem {
        return Verdict::new(false, problem.reason(), problem.to_string());
    }
    let Some(first) = failing.first() else {
        let message = format!("{} namespaces have a pull secret", outcome.written.len());
        return Verdict::new(true, Reason::Available, message);
    };
    let reason = if failing.len() == unwatched { Reason::NamespaceUnwatched } else { Reason::Rejected };
    let message = format!(
        "{} of the selected namespaces cannot pull as was asked for, the first is {}: {}",
        failing.len(),
        first.namespace,
        first.message
    );
    Verdict::new(false, reason, message)
}

fn before(registry: &Registry) -> (Option<&PullAccessStatus>, Option<&Condition>) {
    let status = registry.status.as_ref();
    let condition = status.and_then(|status| status.condition(PULL_ACCESS_READY));
    (status.and_then(|status| status.pull_access.as_ref()), condition)
}

async fn tell(
    access: &Access<'_>,
    outcome: &Outcome,
    context: &Context,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let (status, condition) = status(access.registry, outcome, access.unwatched.len(), now);
    let known = before(access.registry);
    if known == (Some(&status), Some(&condition)) {
        return Ok(());
    }
    let told = json!({ "conditions": [condition], "pullAccess": status });
    write(access.registry, &told, context).await?;
    let state = |condition: &Condition| (condition.status.clone(), condition.reason.clone());
    if known.1.map(state) != Some(state(&condition)) {
        let is_bad = condition.status != "True";
        let object = access.registry.object_ref(&());
        context.publish(&object, is_bad, &event(&condition), &condition.message).await;
    }
    Ok(())
}

/// `Available` alone would be taken for the registry's.
fn event(condition: &Condition) -> String {
    if condition.status == "True" { PULL_ACCESS_READY.to_owned() } else { condition.reason.clone() }
}

async fn write(registry: &Registry, told: &serde_json::Value, context: &Context) -> Result<(), kube::Error> {
    let manager = names::PULL_ACCESS_FIELD_MANAGER;
    apply::status::<Registry>(&context.client, &registry.metadata, told, manager).await
}
