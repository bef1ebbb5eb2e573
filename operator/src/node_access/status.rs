//! Fifth step: what is to be seen of the nodes in the status of a Registry. Pure; [`crate::registries`] writes it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::json;

use super::validate::Valid;
use super::{Known, asks};
use crate::api::node_access::{NodeAccess, NodeRegistry};
use crate::api::registry::Registry;
use crate::api::status::{FailingNode, MOST_FAILING, NodeAccessSummary, READY, Reason};
use crate::registries::{News, name_of};
use crate::{conditions, names};

/// Reason of a node whose agent has not said anything of the present plan yet.
const PENDING: &str = "Pending";

type Verdict = conditions::Verdict<Reason>;

/// What there is to tell each Registry, and that nothing is any more to those that do not ask.
pub fn news<'a>(
    known: &'a Known<'a>,
    valid: &'a Valid<'a>,
) -> impl Iterator<Item = (&'a Registry, Option<News>)> {
    let nodes = Nodes::new(known, valid);
    let registries = known.registries.readable.iter().copied();
    registries.map(move |registry| (registry, asks(registry).then(|| nodes.told(&name_of(registry), valid))))
}

/// What the nodes report, in an order in which it is quickly found.
#[derive(Debug)]
pub struct Nodes<'a> {
    namespace: &'a str,
    /// Those that are to have an agent, by name.
    reports: BTreeMap<String, Option<Reported<'a>>>,
}

/// What one node reports.
#[derive(Debug)]
struct Reported<'a> {
    /// Its condition `Ready`, if that is not true.
    trouble: Option<&'a Condition>,
    registries: BTreeMap<&'a str, &'a NodeRegistry>,
}

impl<'a> Nodes<'a> {
    /// Sorts what is `known`.
    #[must_use]
    pub fn new(known: &Known<'a>, valid: &Valid<'a>) -> Self {
        let by_name: BTreeMap<String, &'a NodeAccess> =
            known.reports.iter().map(|report| (report.name_any(), *report)).collect();
        let nodes = known.nodes.iter().filter(|node| valid.settings.agent.suits(node));
        let reports = nodes
            .map(|node| node.name_any())
            .map(|name| {
                let report = by_name.get(&name).and_then(|report| report.status.as_ref());
                let reported = report.filter(|status| !status.conditions.is_empty()).map(|status| Reported {
                    trouble: status
                        .conditions
                        .iter()
                        .find(|condition| condition.type_ == READY && condition.status != "True"),
                    registries: status.registries.iter().map(|one| (one.name.as_str(), one)).collect(),
                });
                (name, reported)
            })
            .collect();
        Self { namespace: &valid.settings.namespace, reports }
    }

    /// What is to be seen in the Registry with the namespace and name `registry`.
    #[must_use]
    pub fn told(&self, registry: &str, valid: &Valid<'_>) -> News {
        let planned = valid.plan.registries.iter().find(|planned| planned.name == registry);
        let revision = planned.map(super::plan::PlannedRegistry::revision).unwrap_or_default();
        let failing: Vec<FailingNode> = self
            .reports
            .iter()
            .filter_map(|(node, reported)| self.failing(node, reported.as_ref(), registry, &revision))
            .collect();
        let verdict = match valid.problems.get(registry) {
            Some(problem) => Verdict::new(false, problem.reason(), problem.to_string()),
            None => verdict(self.reports.len(), &failing, valid.withheld.get(registry)),
        };
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let summary = NodeAccessSummary {
            ready: count(self.reports.len().saturating_sub(failing.len())),
            desired: count(self.reports.len()),
            failing: failing.into_iter().take(MOST_FAILING).collect(),
        };
        News { verdict, field: json!(summary) }
    }

    /// Why `node` does not pull from `registry` as the plan's entry of this `revision` says; `None` if it does.
    fn failing(
        &self,
        node: &str,
        reported: Option<&Reported<'_>>,
        registry: &str,
        revision: &str,
    ) -> Option<FailingNode> {
        let failing = |reason: &str, message: String| {
            Some(FailingNode { node: node.to_owned(), reason: reason.to_owned(), message })
        };
        let Some(reported) = reported else {
            let message = format!(
                "its agent has not reported yet; see `kubectl --namespace {} get pods --output wide --selector {}={}`",
                self.namespace,
                names::NAME_LABEL,
                names::NODE_AGENT,
            );
            return failing(PENDING, message);
        };
        if let Some(trouble) = reported.trouble {
            return failing(&trouble.reason, trouble.message.clone());
        }
        match reported.registries.get(registry) {
            Some(entry) if entry.revision == revision && entry.ready => None,
            // What could not be written is in effect in no form at all.
            Some(entry) if entry.revision == revision || entry.revision.is_empty() => {
                failing(&entry.reason, entry.message.clone())
            }
            _ => failing(PENDING, "its agent has not taken up the last change yet".to_owned()),
        }
    }
}

/// The condition, which names the first node that somebody has to look at.
fn verdict(desired: usize, failing: &[FailingNode], withheld: Option<&Vec<String>>) -> Verdict {
    let ready = desired.saturating_sub(failing.len());
    let counted = format!("{ready} of {desired} nodes pull from it");
    let withheld = withheld.map(|hosts| {
        format!(
            "; of spec.hostnames they do not know {}, which nodeAgent.hostnames of the operator's chart does not allow",
            hosts.join(", ")
        )
    });
    let counted = counted + &withheld.unwrap_or_default();
    let worst = failing.iter().find(|node| node.reason != PENDING);
    let Some(node) = worst.or_else(|| failing.first()) else {
        return Verdict::new(true, Reason::NodesReady, counted);
    };
    let reason = if worst.is_some() { Reason::NodesFailing } else { Reason::NodesPending };
    Verdict::new(false, reason, format!("{counted}; {}: {} ({})", node.node, node.message, node.reason))
}
