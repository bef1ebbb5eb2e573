//! Advertising one Registry where tools look for that of the cluster (KEP-1755), in five steps: dereference (reads), validate
//! (pure), build (pure, cannot fail), apply (writes), status (writes).
//!
//! There is one place in the cluster, a `ConfigMap` in `kube-public`, and the oldest Registry that asks has it, whoever had
//! it before. Nothing can own what lies in another namespace, so whose it is stands in its labels: what a Registry leaves
//! behind that went while the operator was away is found by them.

pub mod build;
pub mod validate;

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use serde_json::Value;

use crate::api::registry::Registry;
use crate::api::status::Reason;
use crate::apply;
use crate::children::{Change, Kind};
use crate::conditions::Verdict;
use crate::context::Context;
use crate::names;
use crate::registries::{News, OF_ADVERTISING, Registries};
use crate::registry::Error;
use crate::registry::dereference::Error as ReadError;
use validate::{Place, Problem, Valid};

/// What the cluster holds where tools look.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The `ConfigMap`, whoever has made it.
    pub config_map: Option<DynamicObject>,
    /// Whether the operator may look there.
    pub is_allowed: bool,
}

/// Brings what is advertised in line with what the `registries` of the `watched` namespaces ask for, of all if there are none,
/// and returns when to look again at the latest.
///
/// # Errors
/// [`Error`] of the first thing that failed. A refusal is told in the status.
pub async fn reconcile(
    registries: &Registries<'_>,
    context: &Context,
    watched: &[String],
    now: Timestamp,
) -> Result<Duration, Error> {
    let found = dereference(context).await?;
    let has_agents = context.node_access.image.is_some();
    let mut valid = validate::validate(registries, &found, watched, has_agents);
    let refusal = match apply(&found, &valid, context).await {
        Ok(None) => None,
        Ok(Some(problem)) => {
            valid.refuse(&problem);
            None
        }
        Err(error) if apply::is_refusal(&error.source) => {
            valid.refuse(&Problem::Rejected { message: apply::server_message(&error.source) });
            Some(error)
        }
        Err(error) => return Err(error.into()),
    };
    OF_ADVERTISING.publish(status(registries, &valid), context, now).await?;
    refusal.map_or(Ok(context.resync), |refusal| Err(refusal.into()))
}

/// First step.
async fn dereference(context: &Context) -> Result<Found, Error> {
    if !context.advertises {
        return Ok(Found::default());
    }
    let config_maps: Api<DynamicObject> = Kind::ConfigMap.api(&context.client, names::ADVERTISING_NAMESPACE);
    match config_maps.get_opt(names::ADVERTISING_CONFIG_MAP).await {
        Ok(config_map) => Ok(Found { config_map, is_allowed: true }),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Found::default()),
        Err(source) => {
            let what = format!("ConfigMap {}", names::ADVERTISING_CONFIG_MAP);
            Err(ReadError { what, source }.into())
        }
    }
}

/// Fourth step; returns what turned out to be in the way.
async fn apply(found: &Found, valid: &Valid<'_>, context: &Context) -> Result<Option<Problem>, apply::Error> {
    let (Context { client, metrics, .. }, namespace) = (context, names::ADVERTISING_NAMESPACE);
    match (&valid.place, &found.config_map) {
        (Place::LeftAlone, _) | (Place::Free, None) => Ok(None),
        (Place::Free, Some(left)) => {
            let key = (Kind::ConfigMap, names::ADVERTISING_CONFIG_MAP.to_owned());
            apply::delete(client, namespace, &key, left.uid()).await?;
            metrics.applied(Kind::ConfigMap, Change::Deleted);
            Ok(None)
        }
        (Place::Of(registry, hosting), existing) => {
            let child = build::build(registry, hosting);
            let is_kept = apply::keep(client, metrics, namespace, &child, existing.as_ref()).await?;
            Ok((!is_kept).then_some(Problem::NameTaken))
        }
    }
}

/// Fifth step: what there is to tell each Registry, and that nothing is any more to those that do not ask. A paused one
/// keeps what it was told.
fn status<'a>(
    registries: &'a Registries<'_>,
    valid: &'a Valid<'_>,
) -> impl Iterator<Item = (&'a Registry, Option<News>)> {
    let asking = valid.verdicts.iter().map(|(registry, verdict)| (*registry, Some(news(verdict))));
    let silent = registries.readable.iter().copied().filter(|registry| !registry.spec.advertise);
    asking.chain(silent.map(|registry| (registry, None)))
}

fn news(verdict: &Result<(), Problem>) -> News {
    let verdict = match verdict {
        Ok(()) => {
            let (name, namespace) = (names::ADVERTISING_CONFIG_MAP, names::ADVERTISING_NAMESPACE);
            let message = format!("ConfigMap {name} in namespace {namespace} tells of it");
            Verdict::new(true, Reason::Available, message)
        }
        Err(problem) => Verdict::new(false, problem.reason(), problem.to_string()),
    };
    News { verdict, field: Value::Null }
}
