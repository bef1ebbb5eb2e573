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

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use crate::api::node_access::NodeAccess;
use crate::api::registry::{NodeAccessMode, Registry};
use crate::api::status::Reason;
use crate::apply::{self, Owner};
use crate::children::{Change, Kind};
use crate::context::Context;
use crate::names;
use crate::registries::{OF_NODES, Registries};
use crate::registry::Error;
use dereference::Found;
use problem::Problem;
use validate::{Stage, Valid};

/// How long a refused `DaemonSet` is left alone, should no watch have told of the cure.
const REFUSED_RECHECK: Duration = Duration::from_secs(60);

/// What the watches know.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// The Registries of all watched namespaces.
    pub registries: Registries<'a>,
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
            valid.refuse(&Problem::of_refusal(&error), &known.registries.readable);
            Some(error)
        }
        Err(error) => return Err(error.into()),
    };
    OF_NODES.publish(status::news(known, &valid), context, now).await?;
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
        context.metrics.applied(Kind::NodeAccess, Change::Deleted);
    }
    Ok(())
}

fn next_look(stage: Stage, resync: Duration) -> Duration {
    match stage {
        Stage::Draining { left } => resync.min(left),
        Stage::Working | Stage::Idle => resync,
    }
}
