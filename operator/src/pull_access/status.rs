//! Fifth step: what the status of each Registry tells of pull access. Pure; [`crate::registries`] writes it.

use std::collections::BTreeSet;

use serde_json::json;

use super::validate::{Problem, Valid};
use crate::api::pull_access::{FailingNamespace, PullAccessStatus};
use crate::api::registry::Registry;
use crate::api::status::{MOST_FAILING, Reason};
use crate::conditions;
use crate::registries::{News, Registries};

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

/// What there is to tell each Registry, and that nothing is any more to those that do not ask.
pub fn news<'a>(
    registries: &'a Registries<'_>,
    valid: &'a Valid<'_>,
    outcomes: &'a [Outcome],
) -> impl Iterator<Item = (&'a Registry, Option<News>)> {
    let asking = valid.accesses.iter().zip(outcomes);
    let silent = registries.readable.iter().copied().filter(|registry| registry.spec.pull_access.is_none());
    asking
        .map(|(access, outcome)| (access.registry, Some(told(outcome, access.unwatched.len()))))
        .chain(silent.map(|registry| (registry, None)))
}

/// What is told of `outcome`.
#[must_use]
pub fn told(outcome: &Outcome, unwatched: usize) -> News {
    let mut failing = outcome.failing.clone();
    failing.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    failing.dedup_by(|one, other| one.namespace == other.namespace);
    let verdict = verdict(outcome, &failing, unwatched);
    failing.truncate(MOST_FAILING);
    let namespaces = i32::try_from(outcome.written.len()).unwrap_or(i32::MAX);
    News { verdict, field: json!(PullAccessStatus { namespaces, failing }) }
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
