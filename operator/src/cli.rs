//! The command line: `run`, `node-agent`, `crds` and `credential-provider`.

use std::io::{Write, read_to_string};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgAction, Args, Parser, Subcommand};
use futures::FutureExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
use crate::api::node_access::NodeAccess;
use crate::api::registry::Registry;
use crate::context::{Context, Failures};
use crate::controller::{self, Shutdown};
use crate::credential_provider;
use crate::endpoints::{self, Readiness};
use crate::leader::Election;
use crate::metrics::Metrics;
use crate::node_access::settings::{Agent, Settings};
use crate::registry::validate::Defaults;
use crate::telemetry::{self, LogFormat};
use crate::{api, names, node_agent};

/// The server of the operator's own release.
const SERVER_IMAGE: &str = concat!("ghcr.io/windlass-dev/registry-server:", env!("CARGO_PKG_VERSION"));

/// Kubernetes operator for Windlass registries.
#[derive(Debug, Parser)]
#[command(name = "operator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look after the Registries of the cluster.
    Run(Box<Run>),
    /// Look after one node: tell its container runtime how to reach the Registries that ask for it.
    NodeAgent(NodeAgent),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Answer a kubelet's request on standard input with the token that it holds: a credential provider plugin.
    CredentialProvider,
}

#[derive(Args, Debug)]
struct Run {
    /// Image of the server for Registries that name none.
    #[arg(long, env = "WINDLASS_SERVER_IMAGE", default_value = SERVER_IMAGE)]
    server_image: String,
    /// Image of the agents of the nodes, usually the operator's own; without, nodes are told nothing.
    #[arg(long, env = "WINDLASS_AGENT_IMAGE")]
    agent_image: Option<String>,
    /// What is set for the Pods of these agents, as JSON.
    #[arg(long, env = "WINDLASS_AGENT_SETTINGS", value_parser = Agent::parse)]
    agent_settings: Option<Agent>,
    /// Advertise one Registry of the cluster in kube-public, if one asks for it.
    #[arg(long, env = "WINDLASS_ADVERTISE")]
    advertise: bool,
    /// Namespaces to watch, separated by commas; all if left out.
    #[arg(long, env = "WINDLASS_NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,
    /// Wait until no other operator is at work.
    #[arg(long, env = "WINDLASS_LEADER_ELECTION", default_value_t = true, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_election: bool,
    /// Namespace of the lease and of the agents; the client configuration's own if left out.
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Name of the lease.
    #[arg(long, env = "WINDLASS_LEASE_NAME", default_value = "windlass-operator")]
    lease_name: String,
    /// Name of this process among the candidates for the lease; made up if left out.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Address of /metrics, /livez and /readyz.
    #[arg(long, env = "WINDLASS_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The cluster's DNS domain.
    #[arg(long, env = "WINDLASS_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Name of the cluster role by which servers may ask for access reviews; without, no Registry can have it so.
    #[arg(long, env = "WINDLASS_ACCESS_REVIEW_ROLE")]
    access_review_role: Option<String>,
    /// Registries worked on at the same time.
    #[arg(long, env = "WINDLASS_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Seconds after which a Registry in order is looked at again though nothing was heard of it.
    #[arg(long, env = "WINDLASS_RESYNC", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    resync: u64,
    /// Form of the log.
    #[arg(long, env = "WINDLASS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: a level such as info, or directives such as info,kube=debug.
    #[arg(long, env = "WINDLASS_LOG_FILTER", default_value = "info")]
    log_filter: String,
}

#[derive(Args, Debug)]
struct NodeAgent {
    /// Name of the node.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// Namespace of the plan and of what is reported.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Directory below which those of the node are mounted.
    #[arg(long, env = "WINDLASS_HOST", default_value = "/host")]
    host: PathBuf,
    /// Directory of the node into which the kubelet's credential provider is put; nowhere if left out.
    #[arg(long, env = "WINDLASS_CREDENTIAL_PROVIDER_DIRECTORY")]
    credential_provider_directory: Option<String>,
    /// Seconds after which a node in order is looked at again though nothing was heard.
    #[arg(long, env = "WINDLASS_RESYNC", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    resync: u64,
    /// Form of the log.
    #[arg(long, env = "WINDLASS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: a level such as info, or directives such as info,kube=debug.
    #[arg(long, env = "WINDLASS_LOG_FILTER", default_value = "info")]
    log_filter: String,
}

/// Runs the program.
///
/// # Errors
/// Whatever ends it before it is told to stop; the message says what.
pub fn run() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crds => print_crds(),
        Command::CredentialProvider => provide_credentials(),
        Command::Run(options) => {
            start(options.log_format, &options.log_filter)?;
            tokio::runtime::Runtime::new()?.block_on(operate(*options))
        }
        Command::NodeAgent(options) => {
            start(options.log_format, &options.log_filter)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(look_after_node(options))
        }
    }
}

fn provide_credentials() -> anyhow::Result<()> {
    let request = read_to_string(std::io::stdin()).context("read standard input")?;
    let answer = credential_provider::answer(&request)?;
    Ok(writeln!(std::io::stdout(), "{answer}")?)
}

fn print_crds() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for crd in api::crds() {
        writeln!(out, "---\n{}", serde_yaml::to_string(&crd)?)?;
    }
    Ok(())
}

/// What every program that stays needs.
fn start(log_format: LogFormat, log_filter: &str) -> anyhow::Result<()> {
    telemetry::start(log_format, log_filter)?;
    // Nothing is lost if a provider has been installed before: it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(())
}

async fn look_after_node(options: NodeAgent) -> anyhow::Result<()> {
    let client = Client::try_from(Config::infer().await.context("find a cluster")?)?;
    let options = node_agent::Options {
        node: options.node_name,
        namespace: options.namespace,
        mount: options.host,
        provider_directory: options.credential_provider_directory,
        resync: Duration::from_secs(options.resync),
    };
    node_agent::run(&client, &options, shutdown()?).await;
    Ok(())
}

async fn operate(options: Run) -> anyhow::Result<()> {
    let config = Config::infer().await.context("find a cluster")?;
    let lease_namespace = options.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    let identity = options.identity.clone().unwrap_or_else(|| format!("operator-{}", uuid::Uuid::new_v4()));
    let context = Arc::new(context(client.clone(), &options, &identity, &lease_namespace));
    let readiness = Arc::new(Readiness::default());
    let shutdown = shutdown()?;
    let serving = endpoints::serve(options.listen, Arc::clone(&context), Arc::clone(&readiness));
    tokio::select! {
        result = serving => result.with_context(|| format!("listen on {}", options.listen)),
        result = async {
            tokio::select! {
                () = resources_exist(&context, &options.namespace) => readiness.set(),
                () = shutdown.clone() => return Ok(()),
            }
            if options.leader_election {
                let leases = Api::<Lease>::namespaced(client.clone(), &lease_namespace);
                let election = Election::new(leases, options.lease_name.clone(), identity);
                lead(election, context, &options, shutdown).await
            } else {
                work(context, &options, shutdown).await;
                Ok(())
            }
        } => result,
    }
}

fn context(client: Client, options: &Run, identity: &str, namespace: &str) -> Context {
    let reporter = Reporter { controller: names::REPORTER.to_owned(), instance: Some(identity.to_owned()) };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        defaults: Defaults {
            server_image: options.server_image.clone(),
            cluster_domain: options.cluster_domain.clone(),
            access_review_role: options.access_review_role.clone(),
        },
        resync: Duration::from_secs(options.resync),
        node_access: Settings {
            namespace: namespace.to_owned(),
            image: options.agent_image.clone(),
            agent: options.agent_settings.clone().unwrap_or_default(),
        },
        advertises: options.advertise,
        registries_changed: watch::Sender::default(),
        reconciled: watch::Sender::default(),
        metrics: Metrics::default(),
        failures: Failures::default(),
    }
}

/// Resolves at SIGTERM or SIGINT.
fn shutdown() -> anyhow::Result<Shutdown> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    Ok(stop.boxed().shared())
}

/// Returns once all custom resources can be listed. A watch of one that does not exist would fail silently for ever.
async fn resources_exist(context: &Context, namespaces: &[String]) {
    let client = &context.client;
    let namespace = namespaces.first().map(String::as_str);
    listable::<Registry>(client, namespace).await;
    listable::<GarbageCollectionPolicy>(client, namespace).await;
    if context.node_access.image.is_some() {
        listable::<NodeAccess>(client, Some(&context.node_access.namespace)).await;
    }
}

async fn listable<K>(client: &Client, namespace: Option<&str>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        tracing::warn!(%error, "{} cannot be listed yet; has its definition been installed?", K::plural(&()));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Works while it leads. Losing the lead ends the process: a new one starts from nothing, which is simpler to trust than
/// one that stops everything halfway.
async fn lead(
    mut election: Election,
    context: Arc<Context>,
    options: &Run,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    tokio::select! {
        () = election.acquire() => tracing::info!("leading"),
        () = shutdown.clone() => return Ok(()),
    }
    tokio::select! {
        () = work(context, options, shutdown) => {}
        () = election.hold() => anyhow::bail!("the lead was lost"),
    }
    election.release().await.context("release the lease")
}

async fn work(context: Arc<Context>, options: &Run, shutdown: Shutdown) {
    context.metrics.set_leader(true);
    controller::run(context, &options.namespace, options.concurrency, shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn leader_election_can_be_switched_either_way() {
        for (arguments, expected) in [
            (&["operator", "run"][..], "leader_election: true"),
            (&["operator", "run", "--leader-election"], "leader_election: true"),
            (&["operator", "run", "--leader-election=false"], "leader_election: false"),
        ] {
            let parsed = format!("{:?}", Cli::try_parse_from(arguments).unwrap());
            assert!(parsed.contains(expected), "{arguments:?} gave {parsed}");
        }
    }

    #[test]
    fn namespaces_are_a_list() {
        let parsed = Cli::try_parse_from(["operator", "run", "--namespace", "a,b", "--namespace=c"]).unwrap();
        assert!(format!("{parsed:?}").contains(r#"namespace: ["a", "b", "c"]"#), "{parsed:?}");
    }
}
