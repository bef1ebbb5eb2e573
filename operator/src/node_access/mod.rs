//! Telling the nodes of the cluster how to reach the Registries that ask for it, in five steps: dereference (reads),
//! validate (pure), build (pure, cannot fail), apply (writes children), status (writes to each Registry).
//!
//! There is one plan for the cluster, and one `DaemonSet` whose agents put it on their nodes (`operator node-agent`) and
//! report in objects of their own. Both are made only while a Registry asks. When none does any more, the plan is emptied
//! first, and the agents go when they have cleaned up. What is reported is counted for each Registry.

pub mod build;
pub mod dereference;
pub mod distribution;
pub mod plan;
pub mod problem;
pub mod settings;
pub mod status;
pub mod validate;

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{Resource, ResourceExt};

use crate::api::node_access::NodeAccess;
use crate::api::registry::{NodeAccessMode, Registry};
use crate::api::status::{NODE_ACCESS_READY, Reason, RegistryStatus};
use crate::apply::{self, Owner};
use crate::children::Kind;
use crate::context::Context;
use crate::names;
use crate::registry::{self, Error};
use dereference::Found;
use problem::Problem;
use status::View;
use validate::{Stage, Valid};

/// Requests about single Registries that are under way at the same time.
const CONCURRENCY: usize = 16;

/// How long a refused `DaemonSet` is left alone, should no watch have told of the cure.
const REFUSED_RECHECK: Duration = Duration::from_secs(60);

/// What the watches know.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// The Registries of all watched namespaces.
    pub registries: Vec<&'a Registry>,
    /// Namespace and name of objects that cannot be read as a Registry.
    pub unreadable: Vec<String>,
    /// The nodes of the cluster.
    pub nodes: Vec<&'a Node>,
    /// What their agents report.
    pub reports: Vec<&'a NodeAccess>,
}

/// Whether `registry` asks that nodes be told of it.
#[must_use]
pub fn asks(registry: &Registry) -> bool {
    registry.spec.node_access.mode == NodeAccessMode::HostsFile
        && registry.metadata.deletion_timestamp.is_none()
}

/// Namespace and name of `registry`, by which the plan and the reports call it.
#[must_use]
pub fn name_of(registry: &Registry) -> String {
    format!("{}/{}", registry.namespace().unwrap_or_default(), registry.name_any())
}

/// Brings what the nodes are told, and what the Registries say of it, in line with what is `known`, and returns when to
/// look again at the latest.
///
/// # Errors
/// The first [`Error`], after all else has been done; the caller tries again after a growing while.
pub async fn reconcile(known: &Known<'_>, context: &Context, now: Timestamp) -> Result<Duration, Error> {
    let mut found = dereference::dereference(known, context).await?;
    let mut valid = validate::validate(known, &found, context, now);
    let refused = match apply(&valid, &mut found, context).await {
        Ok(()) => None,
        Err(error) if apply::is_refusal(&error.source) => {
            valid.refuse(&Problem::of_refusal(&error), &known.registries);
            Some(error)
        }
        Err(error) => return Err(error.into()),
    };
    publish(known, &valid, context, now).await?;
    forget(known, &valid, &found, context).await?;
    let unread = found.asking.into_iter().find_map(|asking| asking.parts.err());
    match (unread, refused) {
        (Some(error), _) => Err(error.into()),
        (None, Some(error)) => {
            context.metrics.failed(&Reason::Rejected.to_string());
            tracing::warn!(%error, "the agents of the nodes are refused");
            Ok(REFUSED_RECHECK)
        }
        (None, None) => Ok(next_look(valid.stage, context.resync)),
    }
}

/// Steps three and four.
async fn apply(valid: &Valid<'_>, found: &mut Found<'_>, context: &Context) -> Result<(), apply::Error> {
    let Some(owner) = &valid.owner else { return Ok(()) };
    let built = build::build(valid, owner);
    let owner = Owner { namespace: &valid.settings.namespace, name: &owner.name, uid: &owner.uid };
    for (kind, change) in apply::apply(&context.client, owner, &built, &mut found.live).await? {
        context.metrics.applied(kind, change);
        tracing::info!(kind = kind.name(), change = change.name(), "what the nodes are told was written");
    }
    Ok(())
}

/// Step five, for each Registry by itself.
async fn publish(
    known: &Known<'_>,
    valid: &Valid<'_>,
    context: &Context,
    now: Timestamp,
) -> Result<(), Error> {
    let nodes = status::Nodes::new(known, valid);
    let news = known.registries.iter().filter_map(|registry| {
        let view = asks(registry).then(|| nodes.view(&name_of(registry), valid));
        let before = registry.status.as_ref();
        status::news(before, view.as_ref(), now).is_some().then_some((*registry, view))
    });
    let told: Vec<Result<(), Error>> = stream::iter(news)
        .map(|(registry, view)| tell(registry, view, context, now))
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    told.into_iter().collect()
}

/// Writes to `registry` what is to be seen of the nodes, and an Event if that has turned. The watch may lag behind what
/// was written last: from an old status, old news would be told anew.
async fn tell(
    registry: &Registry,
    view: Option<View>,
    context: &Context,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(fresh) = registry::read(&registry.metadata, context).await? else { return Ok(()) };
    let Ok(fresh) = fresh.0 else { return Ok(()) };
    let Some(news) = status::news(fresh.status.as_ref(), view.as_ref(), now) else { return Ok(()) };
    if fresh.uid() != registry.uid() || asks(&fresh) != view.is_some() {
        return Ok(());
    }
    status::write(&context.client, &fresh.metadata, &news).await.map_err(Error::Status)?;
    let Some(View { verdict, .. }) = view.filter(|view| has_turned(fresh.status.as_ref(), view)) else {
        return Ok(());
    };
    // What passes by itself is not worth an Event.
    if verdict.reason != Reason::NodesPending && verdict.reason != Reason::AddressPending {
        let is_bad = verdict.status != "True";
        let (reason, message) = (verdict.reason.to_string(), verdict.message);
        context.publish(&fresh.object_ref(&()), is_bad, &reason, &message).await;
    }
    Ok(())
}

fn has_turned(before: Option<&RegistryStatus>, view: &View) -> bool {
    let before = before.and_then(|status| status.condition(NODE_ACCESS_READY));
    before.is_none_or(|before| before.reason != view.verdict.reason.to_string())
}

/// Removes the reports of nodes that are gone, and once there are no agents, all of them.
async fn forget(
    known: &Known<'_>,
    valid: &Valid<'_>,
    found: &Found<'_>,
    context: &Context,
) -> Result<(), Error> {
    let agents = found.live.get(&(Kind::DaemonSet, names::NODE_AGENT.to_owned()));
    let is_over = valid.stage == Stage::Idle && agents.is_none();
    let is_gone = |report: &&&NodeAccess| {
        is_over || !known.nodes.iter().any(|node| node.metadata.name == report.metadata.name)
    };
    for report in known.reports.iter().filter(is_gone) {
        let key = (Kind::NodeAccess, report.name_any());
        apply::delete(&context.client, &valid.settings.namespace, &key, report.uid()).await?;
        context.metrics.applied(Kind::NodeAccess, apply::Change::Deleted);
    }
    Ok(())
}

fn next_look(stage: Stage, resync: Duration) -> Duration {
    match stage {
        Stage::Draining { left } => resync.min(left),
        Stage::Working | Stage::Idle => resync,
    }
}
