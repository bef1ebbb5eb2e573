//! Reconciling a Registry, in five steps: dereference (reads), validate (pure), build (pure, cannot fail), apply (writes
//! children), status (writes the status).

pub mod build;
pub mod dereference;
pub mod problem;
pub mod status;
pub mod trouble;
pub mod validate;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};

use crate::api::registry::Registry;
use crate::api::status::{READY, Reason, RegistryStatus, STALLED};
use crate::apply::{self, Owner};
use crate::children::{Change, Kind};
use crate::context::Context;
use dereference::Found;
use problem::Problem;
use status::Outcome;
use validate::Valid;

/// How long a stalled Registry is left alone, should no watch have told of the cure.
const STALLED_RECHECK: Duration = Duration::from_secs(60);

/// A reconcile that has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first step failed.
    #[error("dereference")]
    Dereference(#[from] dereference::Error),
    /// The second step failed: a fresh password cannot be made.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
    /// The fourth step failed.
    #[error("apply")]
    Apply(#[from] apply::Error),
    /// The API server refuses an object; the status says so.
    #[error("apply: refused")]
    Refused(#[source] apply::Error),
    /// The fifth step failed.
    #[error("write the status")]
    Status(#[source] kube::Error),
}

impl Error {
    /// The word for it in metrics.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Dereference(_) => "DereferenceFailed".to_owned(),
            Self::NoRandomNumbers => "ValidateFailed".to_owned(),
            Self::Apply(_) => "ApplyFailed".to_owned(),
            Self::Refused(_) => Reason::Rejected.to_string(),
            Self::Status(_) => "StatusFailed".to_owned(),
        }
    }
}

/// Reads the Registry that `metadata` is of, as it is now; `None` if it is gone or about to go.
///
/// # Errors
/// [`Error::Dereference`].
pub async fn read(
    metadata: &ObjectMeta,
    context: &Context,
) -> Result<Option<DeserializeGuard<Registry>>, Error> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let found =
        Api::<DeserializeGuard<Registry>>::namespaced(context.client.clone(), namespace).get_opt(name).await;
    let found = found
        .map_err(|source| dereference::Error { what: format!("Registry {namespace}/{name}"), source })?;
    Ok(found.filter(|registry| registry.meta().deletion_timestamp.is_none()))
}

/// Brings the children and the status of `registry` in line with its spec, and returns when to look again at the latest.
/// `all` are the Registries that the operator knows of.
///
/// # Errors
/// [`Error`]; the caller tries again after a growing while.
pub async fn reconcile(registry: &Registry, all: &[&Registry], context: &Context) -> Result<Duration, Error> {
    let now = Timestamp::now();
    let kinds = context.defaults.kinds();
    // On the heap: all that is read at the same time makes a large future.
    let mut found = Box::pin(dereference::dereference(&context.client, registry, all, &kinds)).await?;
    let valid = match validate::validate(registry, &found, &context.defaults, now) {
        Ok(valid) => valid,
        Err(problem) => return refuse(registry, &problem, &found, context, now).await,
    };
    if !registry.spec.paused
        && let Err(error) = apply(registry, &valid, &mut found, context).await
    {
        return rejected(registry, error, &found, context, now).await;
    }
    let status = status::status(registry, Outcome::Applied(&valid), &found, now);
    publish(registry, &status, context).await?;
    if let Some(problem) = valid.problems.first() {
        context.metrics.failed(&problem.reason().to_string());
        return Ok(STALLED_RECHECK);
    }
    Ok(next_look(&valid, context.resync, now))
}

/// Says in the status of an object that it cannot be read as a Registry: an older or a newer CRD has let it in.
///
/// # Errors
/// [`Error::Status`].
pub async fn report_unreadable(metadata: &ObjectMeta, message: &str, context: &Context) -> Result<(), Error> {
    let problem = Problem::InvalidSpec { message: message.to_owned() };
    context.metrics.failed(&problem.reason().to_string());
    let (namespace, registry) = (&metadata.namespace, &metadata.name);
    tracing::warn!(?namespace, ?registry, %problem, "an object is left alone");
    let status = status::unreadable(metadata, &problem, Timestamp::now());
    status::write(&context.client, metadata, &status).await.map_err(Error::Status)
}

/// Writes the status of a Registry that `problem` keeps from being built.
async fn refuse(
    registry: &Registry,
    problem: &Problem,
    found: &Found,
    context: &Context,
    now: Timestamp,
) -> Result<Duration, Error> {
    context.metrics.failed(&problem.reason().to_string());
    let status = status::status(registry, Outcome::Refused(problem), found, now);
    publish(registry, &status, context).await?;
    Ok(STALLED_RECHECK)
}

/// Steps three and four.
async fn apply(
    registry: &Registry,
    valid: &Valid<'_>,
    found: &mut Found,
    context: &Context,
) -> Result<(), apply::Error> {
    let uid = registry.uid().unwrap_or_default();
    let owner = Owner { namespace: &valid.namespace, name: &valid.name, uid: &uid };
    let built = build::build(valid);
    let changes = apply::apply(&context.client, owner, &built, &mut found.live).await?;
    for (kind, change) in changes {
        context.metrics.applied(kind, change);
        log(valid, kind, change);
    }
    Ok(())
}

fn log(valid: &Valid<'_>, kind: Kind, change: Change) {
    let (namespace, registry) = (&valid.namespace, &valid.name);
    tracing::info!(%namespace, %registry, kind = kind.name(), change = change.name(), "child written");
}

/// Tells a refusal, which the user has to know of, from a failure that passes.
async fn rejected(
    registry: &Registry,
    error: apply::Error,
    found: &Found,
    context: &Context,
    now: Timestamp,
) -> Result<Duration, Error> {
    if !apply::is_refusal(&error.source) {
        return Err(error.into());
    }
    let (kind, name) = &error.key;
    let problem = Problem::Rejected {
        object: format!("{} {name}", kind.name()),
        message: apply::server_message(&error.source),
    };
    let status = status::status(registry, Outcome::Refused(&problem), found, now);
    publish(registry, &status, context).await?;
    Err(Error::Refused(error))
}

/// Writes the status and, if the Registry's state has changed, an Event.
async fn publish(registry: &Registry, status: &RegistryStatus, context: &Context) -> Result<(), Error> {
    if registry.status.as_ref().map(status::own) != Some(status::own(status)) {
        status::write(&context.client, &registry.metadata, status).await.map_err(Error::Status)?;
    }
    let state = |status: &RegistryStatus| {
        status.condition(READY).map(|ready| (ready.status.clone(), ready.reason.clone()))
    };
    let before = registry.status.as_ref().and_then(state);
    let Some(ready) = status.condition(READY).filter(|_| before != state(status)) else { return Ok(()) };
    let is_bad = status.condition(STALLED).is_some_and(|stalled| stalled.status == "True")
        || TROUBLES.iter().any(|trouble| trouble.to_string() == ready.reason);
    if is_bad || ready.status == "True" {
        context.publish(&registry.object_ref(&()), is_bad, &ready.reason, &ready.message).await;
    }
    Ok(())
}

/// Reasons that are worth a warning although the Registry is not stalled.
const TROUBLES: [Reason; 5] = [
    Reason::Unschedulable,
    Reason::ImagePullFailed,
    Reason::CrashLooping,
    Reason::PodConfigurationFailed,
    Reason::PodsRefused,
];

fn next_look(valid: &Valid<'_>, resync: Duration, now: Timestamp) -> Duration {
    let Some(due) = valid.certificate.due() else { return resync };
    let left = u64::try_from(due.as_second().saturating_sub(now.as_second())).unwrap_or_default();
    // One second later, so that what is due is due then.
    resync.min(Duration::from_secs(left.saturating_add(1)))
}
