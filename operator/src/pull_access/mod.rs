//! Pull secrets in other namespaces, in five steps: dereference (reads), validate (pure), build (pure, cannot fail), apply
//! (writes), status (writes).
//!
//! One round looks at all Registries and all namespaces at once, because `ServiceAccount`s are shared and because what
//! belongs to a Registry that is gone has to be found by its label: what lies in another namespace cannot be owned by it.
//! There is no finalizer, so that a Registry can be deleted while the operator is away.
//!
//! # Expected flow
//! The server learns of a password before anybody is given it, and a `ServiceAccount` names a Secret only after that is
//! there. What goes, goes in the opposite order.

pub mod build;
pub mod dereference;
mod policy;
pub mod seeds;
pub mod status;
#[cfg(test)]
mod tests;
pub mod validate;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::api::pull_access::{Attach, FailingNamespace};
use crate::api::status::Reason;
use crate::apply;
use crate::children::{Child, Kind};
use crate::context::Context;
use crate::names;
use crate::registries::{OF_PULL_SECRETS, Registries};
use crate::registry::Error;
use build::{Amendment, Built};
use dereference::Found;
use status::Outcome;
use validate::{Access, Problem, Valid};

/// Brings all namespaces in line with what the `registries` of the `watched` ones ask for, of all if there are none, and
/// returns when to look again at the latest.
///
/// # Errors
/// [`Error`] of the first thing that failed; the rest was done all the same. A refusal is told in the status.
pub async fn reconcile(
    registries: &Registries<'_>,
    context: &Context,
    watched: &[String],
    now: Timestamp,
) -> Result<Duration, Error> {
    let found = Box::pin(dereference::dereference(&context.client, registries, watched)).await?;
    let valid = validate::validate(registries, &found, watched, &context.defaults.cluster_domain, now)?;
    let built: Vec<Built> = valid.accesses.iter().map(|access| build::build(access, &found, now)).collect();
    let is_left_alone = |namespace: &str, registry: &str| {
        (!watched.is_empty() && !watched.iter().any(|name| name == namespace))
            || valid.leaves_alone(namespace, registry)
    };
    let mut round = Round { context, found: &found, failure: None, refusal: None };
    let mut outcomes = Vec::new();
    for (access, built) in valid.accesses.iter().zip(&built) {
        outcomes.push(round.give(access, built).await);
    }
    round.attach(&valid, &mut outcomes, &is_left_alone).await;
    for (key, object) in build::orphans(&found, &valid, &built, is_left_alone) {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let deleted = apply::delete(&context.client, namespace, &key, object.uid()).await;
        round.note(deleted);
    }
    let Round { failure, refusal, .. } = round;
    // Of what was cut short there is nothing to tell.
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    OF_PULL_SECRETS.publish(status::news(registries, &valid, &outcomes), context, now).await?;
    refusal.map_or_else(|| Ok(next_look(&valid, context.resync, now)), |refusal| Err(refusal.into()))
}

/// The fourth step of one round.
struct Round<'a> {
    context: &'a Context,
    found: &'a Found,
    /// The first failure that passes by itself.
    failure: Option<apply::Error>,
    /// The first that passes when somebody changes something.
    refusal: Option<apply::Error>,
}

impl Round<'_> {
    /// Writes what one Registry leads to, but for `ServiceAccount`s.
    async fn give(&mut self, access: &Access<'_>, built: &Built) -> Outcome {
        let mut outcome = Outcome { problem: access.problem.clone(), ..Outcome::default() };
        for child in &built.own {
            let kept = self.keep(&access.namespace, child).await;
            if let Err(reason) = self.judge(child, kept) {
                outcome.problem = Some(reason);
                return outcome;
            }
        }
        let (pods, hash) = &built.outdated;
        for pod in pods {
            let told = apply::annotate_pod(
                &self.context.client,
                &access.namespace,
                pod,
                names::PULL_CREDENTIALS_ANNOTATION,
                hash,
            );
            // The kubelet brings the file up to date by itself, if later.
            if let Err(error) = told.await {
                tracing::debug!(%error, pod, "a server could not be told of its pull secrets");
            }
        }
        for (namespace, child) in &built.secrets {
            let kept = self.keep(namespace, child).await;
            match self.judge(child, kept) {
                Ok(()) => drop(outcome.written.insert(namespace.clone())),
                Err(problem) => outcome.fail(namespace, problem.reason(), problem.to_string()),
            }
        }
        for child in &built.policies {
            let kept = self.keep("", child).await;
            if let Err(problem) = self.judge(child, kept) {
                outcome.problem = Some(problem);
            }
        }
        for namespace in &access.unwatched {
            outcome.fail(namespace, Reason::NamespaceUnwatched, UNWATCHED.to_owned());
        }
        outcome
    }

    /// Makes `child`, or brings it up to date if it is ours; false if another's has its name.
    async fn keep(&self, namespace: &str, child: &Child) -> Result<bool, apply::Error> {
        let Context { client, metrics, .. } = self.context;
        apply::keep(client, metrics, namespace, child, self.existing(namespace, child)).await
    }

    fn existing(&self, namespace: &str, child: &Child) -> Option<&DynamicObject> {
        let (kind, name) = &child.key;
        if *kind == Kind::Secret {
            return self.found.secret(namespace, name);
        }
        let mut policies = self.found.policies.iter().flatten();
        policies.find(|(of, object)| of == kind && object.name_any() == *name).map(|(_, object)| object)
    }

    /// What to tell of a write. What failed is tried again.
    fn judge(&mut self, child: &Child, kept: Result<bool, apply::Error>) -> Result<(), Problem> {
        let (kind, name) = &child.key;
        let message = match kept {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(Problem::NameTaken { name: name.clone() }),
            Err(error) => {
                let message = apply::server_message(&error.source);
                self.note(Err(error));
                message
            }
        };
        Err(Problem::Rejected { object: format!("{} {name}", kind.name()), message })
    }

    /// Makes `ServiceAccount`s name what they should.
    async fn attach(
        &mut self,
        valid: &Valid<'_>,
        outcomes: &mut [Outcome],
        is_left_alone: impl Fn(&str, &str) -> bool,
    ) {
        let mut named: BTreeSet<(String, String)> = BTreeSet::new();
        for (access, outcome) in valid.accesses.iter().zip(&*outcomes) {
            if access.attach == Attach::ServiceAccounts {
                let name = names::pull_secret(&access.name, &access.namespace);
                named.extend(outcome.written.iter().map(|namespace| (namespace.clone(), name.clone())));
            }
        }
        for amendment in build::amendments(&self.found.accounts, &named, is_left_alone) {
            let Amendment { namespace, account, version, fields } = amendment;
            let key = (Kind::ServiceAccount, account);
            let amended = apply::amend(&self.context.client, &namespace, &key, &version, fields).await;
            let Err(error) = amended else { continue };
            let message = format!("ServiceAccount {}: {}", key.1, apply::server_message(&error.source));
            for (access, outcome) in valid.accesses.iter().zip(&mut *outcomes) {
                if access.attach == Attach::ServiceAccounts && outcome.written.contains(&namespace) {
                    outcome.fail(&namespace, Reason::Rejected, message.clone());
                }
            }
            self.note(Err(error));
        }
    }

    fn note(&mut self, result: Result<(), apply::Error>) {
        if let Err(error) = result {
            let first = if apply::is_refusal(&error.source) { &mut self.refusal } else { &mut self.failure };
            first.get_or_insert(error);
        }
    }
}

impl Outcome {
    fn fail(&mut self, namespace: &str, reason: Reason, message: String) {
        self.failing.push(FailingNamespace {
            namespace: namespace.to_owned(),
            reason: reason.to_string(),
            message,
        });
    }
}

const UNWATCHED: &str =
    "the operator looks after other namespaces only; add it to watchNamespaces of its chart";

fn next_look(valid: &Valid<'_>, resync: Duration, now: Timestamp) -> Duration {
    let due = valid.accesses.iter().filter_map(|access| access.seeds.due(now)).min();
    due.map_or(resync, |due| {
        let left = u64::try_from(due.as_second().saturating_sub(now.as_second())).unwrap_or_default();
        // One second later, so that what is due is due then.
        resync.min(Duration::from_secs(left.saturating_add(1)))
    })
}
