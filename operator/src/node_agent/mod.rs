//! The agent of one node: it puts what the plan says where the node's runtime reads it, and tells what it did and saw.
//!
//! Its rounds are made when the plan changes, and now and then: a [`runtime`] is looked for, [`apply`] makes the [`disk`]
//! hold the [`layout`] of the plan, [`probe`] asks each registry through what was written, [`report`] tells. It restarts
//! and signals nothing.
//!
//! # What it does not know, it leaves alone
//! A plan that is not there, or cannot be read, changes nothing on the node. Only when the agent is told to stop and its
//! `DaemonSet` is gone, or its own rights are, everything of ours is removed: a node that is restarted, or an agent that is
//! replaced, keeps its files, and pulls go on.
//!
//! # Rights
//! All in its own namespace, none in others:
//!
//! | group | resources | verbs |
//! | --- | --- | --- |
//! | core | `configmaps`, only `windlass-node-access` | list, watch |
//! | `windlass.dev` | `nodeaccesses` | get, create |
//! | `windlass.dev` | `nodeaccesses/status` | patch |
//! | `apps` | `daemonsets`, only `windlass-node-agent` | get |

pub mod apply;
pub mod containerd;
pub mod crio;
pub mod disk;
pub mod layout;
pub mod probe;
pub mod provider;
pub mod report;
pub mod runtime;

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::node_access::{NodeReason, NodeRegistry};
use crate::apply::server_message;
use crate::conditions::Verdict;
use crate::controller::Shutdown;
use crate::names;
use crate::node_access::distribution::Distribution;
use crate::node_access::plan::Plan;
use apply::{Node, Outcome};
use provider::Provider;
use report::Seen;

/// Wait after a round that did not end well; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait for the API server when the agent is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// How an agent is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of its node.
    pub node: String,
    /// Its own namespace, which is the name of the installation as well.
    pub namespace: String,
    /// Below which directory those of the node are mounted.
    pub mount: PathBuf,
    /// Directory of the node for the credential provider.
    pub provider_directory: Option<String>,
    /// How long a node in order is left alone.
    pub resync: Duration,
}

/// What is known of the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known {
    /// Nothing: it is not there, or has not been seen yet.
    #[default]
    Nothing,
    /// That it cannot be read, and why.
    Unreadable(String),
    /// What it says.
    Plan(Plan),
}

/// Follows the plan until `shutdown`, then cleans up if it is for good.
pub async fn run(client: &Client, options: &Options, shutdown: Shutdown) {
    let mut agent = Agent::new(client.clone(), options.clone());
    let fields = format!("metadata.name={}", names::NODE_ACCESS_PLAN);
    let plans = Api::<ConfigMap>::namespaced(client.clone(), &options.namespace);
    let mut events =
        pin!(watcher::watcher(plans, watcher::Config::default().fields(&fields)).default_backoff());
    let mut next = Instant::now() + options.resync;
    loop {
        let is_news = tokio::select! {
            () = shutdown.clone() => break,
            event = events.next() => agent.follow(event),
            () = sleep_until(next) => true,
        };
        if is_news {
            tokio::select! {
                () = shutdown.clone() => break,
                wait = agent.round() => next = Instant::now() + wait,
            }
        }
    }
    agent.leave().await;
}

/// The agent of one node, between two rounds.
pub struct Agent {
    client: Client,
    options: Options,
    provider: Option<Provider>,
    known: Known,
    /// What a list that is under way has brought so far.
    listed: Known,
    /// Rounds in a row that did not end well.
    failures: u32,
}

impl Agent {
    /// An agent that knows nothing yet.
    #[must_use]
    pub fn new(client: Client, options: Options) -> Self {
        let provider = options
            .provider_directory
            .as_ref()
            .map(|directory| Provider::new(&options.mount, directory, &options.namespace));
        Self { client, options, provider, known: Known::Nothing, listed: Known::Nothing, failures: 0 }
    }

    /// Learns from an event of the plan's object, and says whether a round is due.
    fn follow(&mut self, event: Option<Result<Event<ConfigMap>, watcher::Error>>) -> bool {
        let known = match event {
            Some(Ok(Event::Apply(plan))) => read(&plan),
            Some(Ok(Event::InitDone)) => std::mem::take(&mut self.listed),
            Some(Ok(Event::Delete(_))) => Known::Nothing,
            Some(Ok(Event::Init)) => {
                self.listed = Known::Nothing;
                return false;
            }
            Some(Ok(Event::InitApply(plan))) => {
                self.listed = read(&plan);
                return false;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the plan cannot be watched");
                return false;
            }
            None => return false,
        };
        if known == Known::Nothing {
            tracing::info!("there is no plan; all stays as it is");
        }
        self.failures = 0;
        self.known = known;
        true
    }

    /// Does all that is to be done and tells of it; returns how long to wait before the next time.
    pub async fn round(&mut self) -> Duration {
        let seen = self.work().await;
        let is_well =
            seen.ready.status == "True" && seen.registries.iter().flatten().all(|registry| registry.ready);
        let Options { namespace, node, .. } = &self.options;
        let reported = report::report(&self.client, namespace, node, &seen).await;
        if let Err(error) = &reported {
            tracing::warn!(error = server_message(error), "the status cannot be written");
        }
        if is_well && reported.is_ok() {
            self.failures = 0;
            return self.options.resync;
        }
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        wait.min(self.options.resync)
    }

    async fn work(&mut self) -> Seen {
        let distribution = runtime::find(&self.options.mount);
        let runtime = runtime::verdict(&self.options.mount, distribution);
        let provider = self.provider.as_mut().map(Provider::install);
        let (ready, registries) = match (&self.known, distribution) {
            (Known::Plan(plan), Some(distribution)) => (runtime, Some(self.access(distribution, plan).await)),
            (Known::Unreadable(message), Some(_)) => {
                (Verdict::new(false, NodeReason::PlanUnreadable, message.clone()), None)
            }
            (Known::Nothing, _) | (_, None) => (runtime, None),
        };
        Seen { distribution, ready, provider, registries }
    }

    /// Writes the plan and asks each registry through what was written.
    async fn access(&self, distribution: Distribution, plan: &Plan) -> Vec<NodeRegistry> {
        let outcomes = Node::new(&self.options.mount, distribution, &self.options.namespace).apply(plan);
        stream::iter(&outcomes).map(|outcome| self.test(distribution, outcome)).buffered(4).collect().await
    }

    async fn test(&self, distribution: Distribution, outcome: &Outcome) -> NodeRegistry {
        let Outcome { name, revision, problems, written } = outcome;
        let is_written = problems.iter().all(|(reason, _)| *reason != NodeReason::WriteFailed);
        let revision = revision.clone().filter(|_| is_written).unwrap_or_default();
        if let Some((reason, _)) = problems.first() {
            let messages: Vec<&str> = problems.iter().map(|(_, message)| message.as_str()).collect();
            let (reason, message) = (reason.to_string(), messages.join("; "));
            return NodeRegistry { name: name.clone(), revision, ready: false, reason, message };
        }
        // All hosts of a registry have the same endpoints. The name itself is not asked: it is tried only after them.
        let host = written.first().map(String::as_str).unwrap_or_default();
        let mut targets = layout::read_back(&self.options.mount, distribution, host);
        targets.retain(|target| target.url.split_once("://").is_none_or(|(_, authority)| authority != host));
        let answer = probe::ask(&targets, host).await;
        let ready = answer.reason == NodeReason::Reached;
        let reason = answer.reason.to_string();
        NodeRegistry { name: name.clone(), revision, ready, reason, message: answer.message }
    }

    /// Removes what is ours if the agents are gone for good, and leaves it otherwise.
    pub async fn leave(&self) {
        if !self.is_for_good().await {
            tracing::info!("the files stay, for the agent is to come back");
            return;
        }
        tracing::info!("the agents are gone for good; removing all that they wrote");
        if let Some(distribution) = runtime::find(&self.options.mount) {
            let node = Node::new(&self.options.mount, distribution, &self.options.namespace);
            for (_, message) in node.remove_all().into_iter().flat_map(|outcome| outcome.problems) {
                tracing::warn!(message, "a file stays");
            }
        }
        if let Some(Err(error)) = self.provider.as_ref().map(Provider::remove) {
            tracing::warn!(%error, "the credential provider stays");
        }
    }

    /// Whether there is to be no agent any more. No answer is no.
    async fn is_for_good(&self) -> bool {
        let agents = Api::<DaemonSet>::namespaced(self.client.clone(), &self.options.namespace);
        match timeout(FAREWELL, agents.get_opt(names::NODE_AGENT)).await {
            Ok(Ok(Some(agents))) => agents.metadata.deletion_timestamp.is_some(),
            Ok(Ok(None)) => true,
            Ok(Err(kube::Error::Api(status))) => matches!(status.code, 401 | 403),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

fn read(plan: &ConfigMap) -> Known {
    let Some(text) = plan.data.as_ref().and_then(|data| data.get(names::NODE_ACCESS_PLAN_KEY)) else {
        let message = format!("ConfigMap {} has no key {}", plan.name_any(), names::NODE_ACCESS_PLAN_KEY);
        return Known::Unreadable(message);
    };
    match serde_json::from_str(text) {
        Ok(plan) => Known::Plan(plan),
        Err(error) => {
            let (name, key) = (plan.name_any(), names::NODE_ACCESS_PLAN_KEY);
            Known::Unreadable(format!("{key} of ConfigMap {name} cannot be read: {error}"))
        }
    }
}
