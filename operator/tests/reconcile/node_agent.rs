//! The agent of a node as a whole: a plan from the cluster, a registry over real TLS, files in a directory, and what is
//! reported.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use operator::api::node_access::NodeReason;
use operator::node_agent::layout::Target;
use operator::node_agent::{Options, probe, run};
use operator::tls::{Existing, Material, SubjectNames, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;

const PLAN: &str = "configmaps/windlass-node-access";
const AGENTS: &str = "daemonsets/windlass-node-agent";
const REPORT: &str = "nodeaccesses/node-1";

fn material() -> Material {
    let names = SubjectNames { addresses: ["127.0.0.1".parse().unwrap()].into(), ..SubjectNames::default() };
    ensure(&Existing::default(), "hub", &names, Timestamp::now()).unwrap()
}

/// Answers every request over TLS with `answer`, such as `401 Unauthorized`.
async fn serve(material: &Material, answer: &'static str) -> SocketAddr {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chain = CertificateDer::pem_slice_iter(material.leaf.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(material.leaf.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /v2/?ns=hub.team-a.svc:5000 HTTP/1.1"));
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn what_answers_is_told_from_what_does_not_with_the_cause() {
    let (ours, theirs) = (material(), material());
    let target = |address: SocketAddr, authorities: &str| Target {
        url: format!("https://{address}"),
        authorities: Some(authorities.to_owned()),
    };
    let asking = serve(&ours, "401 Unauthorized").await;
    let open = serve(&ours, "200 OK").await;
    let broken = serve(&ours, "503 Service Unavailable").await;
    let silent = nobody().await;
    let rotating = format!("{}{}", theirs.bundle, ours.bundle);
    for (targets, reason, told) in [
        (vec![target(asking, &ours.bundle)], NodeReason::Reached, "answers"),
        (vec![target(open, &rotating)], NodeReason::Reached, "answers"),
        (vec![target(open, &theirs.bundle)], NodeReason::CertificateNotTrusted, "not trusted"),
        (vec![target(open, "")], NodeReason::CertificateNotTrusted, "not trusted"),
        (vec![target(open, "-----BEGIN NONSENSE")], NodeReason::CertificateNotTrusted, "127.0.0.1"),
        (vec![target(broken, &ours.bundle)], NodeReason::UnexpectedAnswer, "503"),
        (vec![target(silent, &ours.bundle)], NodeReason::Unreachable, "refused"),
        // The runtime goes on to the next one, so one that answers is enough.
        (vec![target(silent, &ours.bundle), target(open, &ours.bundle)], NodeReason::Reached, "refused"),
        (vec![], NodeReason::Unreachable, ""),
    ] {
        let answer = probe::ask(&targets, "hub.team-a.svc:5000").await;
        assert_eq!(answer.reason, reason, "{answer:?}");
        assert!(answer.message.contains(told), "{answer:?}");
    }
}

/// A node with containerd, in a cluster with agents.
struct Stage {
    cluster: Cluster,
    node: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { cluster: Cluster::default(), node: tempfile::tempdir().unwrap() };
        stage.cluster.set_clock("2026-01-01T00:00:00Z");
        fs::create_dir_all(stage.hosts()).unwrap();
        let configuration = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n\
                             config_path = \"/etc/containerd/certs.d\"\n";
        fs::write(stage.node.path().join("etc/containerd/config.toml"), configuration).unwrap();
        fs::create_dir_all(stage.node.path().join("opt/bin")).unwrap();
        let metadata = json!({"name": "windlass-node-agent", "namespace": "team-a", "uid": "7"});
        stage
            .cluster
            .put(AGENTS, json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata}));
        stage
    }

    fn hosts(&self) -> PathBuf {
        self.node.path().join("etc/containerd/certs.d")
    }

    fn plan(&self, text: &str) {
        let metadata = json!({"name": "windlass-node-access", "namespace": "team-a", "uid": "8"});
        let plan = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"plan.json": text}});
        self.cluster.put(PLAN, plan);
    }

    /// Lets an agent run until the report satisfies `is_done`, and then stop.
    async fn run_until(&self, is_done: impl Fn(&Value) -> bool) -> Value {
        let options = Options {
            node: "node-1".to_owned(),
            namespace: "team-a".to_owned(),
            mount: self.node.path().to_owned(),
            provider_directory: Some("/opt/bin".to_owned()),
            resync: Duration::from_millis(200),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = stopped.map(|_| ()).boxed().shared();
        let client = self.cluster.client();
        let watching = async {
            loop {
                let report = self.cluster.get(REPORT).unwrap_or_default();
                if is_done(&report) {
                    let _ = stop.send(());
                    return report;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let both = futures::future::join(run(&client, &options, shutdown), watching);
        timeout(Duration::from_secs(60), both).await.unwrap().1
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.hosts()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn plan(endpoint: SocketAddr, authorities: &str) -> String {
    let hub = json!({"name": "team-a/hub", "hosts": [{"name": "hub.team-a.svc:5000"}],
        "endpoints": [format!("https://{endpoint}")], "authorities": authorities});
    json!({"registries": [hub]}).to_string()
}

fn has(type_: &str, reason: &str) -> impl Fn(&Value) -> bool {
    let (type_, reason) = (type_.to_owned(), reason.to_owned());
    move |report| {
        let conditions = report["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|one| one["type"] == type_.as_str() && one["reason"] == reason.as_str())
    }
}

#[tokio::test]
async fn an_agent_writes_tests_and_reports_and_leaves_nothing_when_it_goes_for_good() {
    let stage = Stage::new();
    let material = material();
    let address = serve(&material, "401 Unauthorized").await;
    stage.plan(&plan(address, &material.bundle));
    let report = stage.run_until(|report| report["status"]["registries"][0]["ready"] == json!(true)).await;
    assert_eq!(report["metadata"]["ownerReferences"][0]["uid"], "7");
    let status = &report["status"];
    assert_eq!(
        (&status["runtime"], &status["directory"]),
        (&json!("containerd"), &json!("/etc/containerd/certs.d"))
    );
    assert!(has("Ready", "Configured")(&report) && has("CredentialProviderInstalled", "Installed")(&report));
    assert_eq!(status["registries"][0]["reason"], "Reached");
    assert_eq!(status["registries"][0]["revision"].as_str().unwrap().len(), 12);

    // It was told to stop, but the agents are there: it is to come back.
    assert_eq!(stage.entries(), ["hub.team-a.svc:5000"]);
    assert!(stage.node.path().join("opt/bin/windlass-credential-provider").exists());
    stage.cluster.take_writes();
    stage.run_until(|_| true).await;
    assert_eq!(stage.cluster.take_writes(), [""; 0]);

    // The plan is gone, which says nothing of what is to be on the node.
    stage.cluster.remove(PLAN);
    stage.cluster.remove(REPORT);
    stage.run_until(has("Ready", "Configured")).await;
    assert_eq!(stage.entries(), ["hub.team-a.svc:5000"]);

    stage.plan("{");
    stage.run_until(has("Ready", "PlanUnreadable")).await;
    assert_eq!(stage.entries(), ["hub.team-a.svc:5000"]);

    stage.cluster.remove(AGENTS);
    stage.run_until(|_| true).await;
    assert_eq!(stage.entries(), [""; 0]);
    assert_eq!(fs::read_dir(stage.node.path().join("opt/bin")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_registry_that_is_down_is_no_fault_of_the_node_and_one_that_leaves_the_plan_goes() {
    let stage = Stage::new();
    stage.plan(&plan(nobody().await, &material().bundle));
    let report = stage.run_until(|report| report["status"]["registries"][0]["reason"] == "Unreachable").await;
    assert!(has("Ready", "Configured")(&report));
    stage.plan("{\"registries\": []}");
    let report = stage.run_until(|report| report["status"].get("registries").is_none()).await;
    assert!(has("Ready", "Configured")(&report));
    assert_eq!(stage.entries(), [""; 0]);
}

#[tokio::test]
async fn agents_that_are_being_deleted_clean_up_and_others_do_not() {
    for is_deleted in [true, false] {
        let stage = Stage::new();
        stage.plan(&plan(nobody().await, &material().bundle));
        stage.run_until(|report| report["status"]["registries"][0]["ready"] == json!(false)).await;
        assert_eq!(stage.entries(), ["hub.team-a.svc:5000"]);
        if is_deleted {
            stage.cluster.edit(AGENTS, |agents| {
                agents["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            });
        }
        stage.run_until(|_| true).await;
        assert_eq!(stage.entries().is_empty(), is_deleted);
    }
}
