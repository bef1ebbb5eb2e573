//! What the nodes are told, and what the Registries say of them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::events::{Recorder, Reporter};
use operator::api::node_access::NodeAccess;
use operator::api::registry::Registry;
use operator::context::Context;
use operator::node_access::plan::Plan;
use operator::node_access::settings::{Agent, Settings};
use operator::node_access::{Known, reconcile};
use operator::registries::Registries;
use operator::registry::Error;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::context;

const PLAN: &str = "configmaps/windlass-node-access";
const AGENTS: &str = "daemonsets/windlass-node-agent";
const ACCOUNT: &str = "serviceaccounts/windlass-node-agent";

/// A cluster of two nodes, in which the Registry `hub` asks for access.
struct Stage {
    cluster: Cluster,
    context: Context,
    clock: Timestamp,
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::default();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "windlass-node-agent", "namespace": "team-a", "uid": "account"}});
        cluster.put(ACCOUNT, account);
        for name in ["node-1", "node-2"] {
            cluster.put(&format!("nodes/{name}"), node(name));
        }
        let agent = Agent { hostnames: vec!["*.example".to_owned()], ..Agent::default() };
        let settings =
            Settings { namespace: "team-a".to_owned(), image: Some("operator:1".to_owned()), agent };
        let context = Context { node_access: settings, ..context(&cluster) };
        let stage = Self { cluster, context, clock: "2026-01-01T00:00:00Z".parse().unwrap() };
        stage.registry("hub", &json!({}));
        stage
    }

    /// A Registry whose plan both nodes have put in place.
    async fn settled() -> Self {
        let stage = Self::new();
        stage.pass().await.unwrap();
        stage.obey();
        stage.pass().await.unwrap();
        stage.cluster.take_writes();
        stage.cluster.take_events();
        stage
    }

    /// Makes a Registry that asks for access, with its Service and its certificate.
    fn registry(&self, name: &str, fields: &Value) {
        let mut spec =
            json!({"storage": {"filesystem": {"size": "1Gi"}}, "nodeAccess": {"mode": "HostsFile"}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let created = format!("2026-01-01T00:00:{:02}Z", self.cluster.paths().len());
        let metadata = json!({"name": name, "namespace": "team-a", "uid": name, "generation": 1,
            "creationTimestamp": created});
        let registry = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": metadata,
            "spec": spec, "status": {"conditions": [condition("True", "Available")]}});
        self.cluster.put(&format!("registries/{name}"), registry);
        self.address(name, "10.96.0.7");
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"ca.crt": "Q0E="},
            "metadata": {"name": format!("{name}-tls"), "namespace": "team-a", "ownerReferences": owners(name)}});
        self.cluster.put(&format!("secrets/{name}-tls"), secret);
    }

    fn address(&self, name: &str, address: &str) {
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "team-a", "ownerReferences": owners(name)},
            "spec": {"clusterIP": address, "clusterIPs": [address, "fd00::7"]}});
        self.cluster.put(&format!("services/{name}"), service);
    }

    /// Lets the agents of both nodes do what the plan says.
    fn obey(&self) {
        for node in ["node-1", "node-2"] {
            self.report(node, |_| json!({"ready": true, "reason": "Available"}));
        }
    }

    /// Lets the agent of `node` report of each Registry of the plan as `say` says.
    fn report(&self, node: &str, say: impl Fn(&str) -> Value) {
        let entries = self.plan().registries.into_iter().map(|planned| {
            let mut entry = json!({"name": planned.name, "revision": planned.revision()});
            entry.as_object_mut().unwrap().extend(say(&planned.name).as_object().unwrap().clone());
            entry
        });
        let registries: Vec<Value> = entries.collect();
        self.tell(node, "True", "Available", &json!(registries));
    }

    fn tell(&self, node: &str, ready: &str, reason: &str, registries: &Value) {
        let condition = condition(ready, reason);
        let report = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "NodeAccess", "spec": {},
            "metadata": {"name": node, "namespace": "team-a", "uid": node},
            "status": {"conditions": [condition], "registries": registries}});
        self.cluster.put(&format!("nodeaccesses/{node}"), report);
    }

    fn plan(&self) -> Plan {
        let config_map = self.cluster.get(PLAN).unwrap();
        serde_json::from_str(config_map["data"]["plan.json"].as_str().unwrap()).unwrap()
    }

    fn all<K: serde::de::DeserializeOwned>(&self, kind: &str) -> Vec<K> {
        let paths = self.cluster.paths().into_iter().filter(|path| path.starts_with(&format!("{kind}/")));
        paths.filter_map(|path| serde_json::from_value(self.cluster.get(&path).unwrap()).ok()).collect()
    }

    async fn pass(&self) -> Result<(), Error> {
        self.pass_with(&[]).await
    }

    async fn pass_with(&self, unreadable: &[&str]) -> Result<(), Error> {
        let registries: Vec<Registry> = self.all("registries");
        let nodes: Vec<Node> = self.all("nodes");
        let reports: Vec<NodeAccess> = self.all("nodeaccesses");
        let known = Known {
            registries: Registries {
                readable: registries.iter().collect(),
                unreadable: unreadable.iter().map(|name| (*name).to_owned()).collect(),
            },
            nodes: nodes.iter().collect(),
            reports: reports.iter().collect(),
        };
        reconcile(&known, &self.context, self.clock).await.map(|_| ())
    }

    /// The condition `NodeAccessReady` of a Registry as `True/Reason: message`.
    fn said(&self, registry: &str) -> String {
        let object = self.cluster.get(&format!("registries/{registry}")).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition["type"] == "NodeAccessReady");
        let Some(condition) = condition else { return String::new() };
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        format!("{}/{}: {}", text("status"), text("reason"), text("message"))
    }

    fn change(&self, registry: &str, fields: &Value) {
        self.cluster.edit(&format!("registries/{registry}"), |object| {
            object["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        });
    }
}

fn node(name: &str) -> Value {
    let system = json!({"containerRuntimeVersion": "containerd://2.1.4", "kubeletVersion": "v1.34.1",
        "osImage": "Debian", "architecture": "amd64", "bootID": "", "kernelVersion": "",
        "kubeProxyVersion": "", "machineID": "", "operatingSystem": "linux", "systemUUID": ""});
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}, "status": {"nodeInfo": system}})
}

fn condition(ready: &str, reason: &str) -> Value {
    json!({"type": "Ready", "status": ready, "reason": reason, "message": "words",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn owners(registry: &str) -> Value {
    json!([{"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "name": registry, "uid": registry}])
}

#[tokio::test]
async fn agents_are_made_when_a_registry_asks_and_not_before() {
    let stage = Stage::new();
    stage.change("hub", &json!({"nodeAccess": {"mode": "None"}}));
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
    stage.change("hub", &json!({"nodeAccess": {"mode": "HostsFile"}}));
    stage.pass().await.unwrap();
    let written =
        [format!("PATCH {PLAN}"), format!("PATCH {AGENTS}"), "PATCH registries/hub/status".to_owned()];
    assert_eq!(stage.cluster.take_writes(), written);
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
}

#[tokio::test]
async fn the_plan_says_where_a_registry_is_under_which_names_and_whom_to_trust() {
    let stage = Stage::new();
    stage.change("hub", &json!({"hostnames": ["images.example", "docker.io"]}));
    stage.pass().await.unwrap();
    let host = |name: &str, fallback: bool| json!({"name": name, "fallback": fallback});
    let expected = json!({"registries": [{
        "name": "team-a/hub",
        "hosts": [
            host("hub.team-a:5000", false),
            host("hub.team-a.svc:5000", false),
            host("hub.team-a.svc.cluster.local:5000", false),
            host("images.example", true),
            host("images.example:5000", true),
        ],
        "endpoints": ["https://10.96.0.7:5000", "https://[fd00::7]:5000"],
        "authorities": "CA",
    }]});
    assert_eq!(json!(stage.plan()), expected);
    stage.obey();
    stage.pass().await.unwrap();
    let said = stage.said("hub");
    assert!(said.starts_with("True/NodesReady: 2 of 2 nodes pull from it"), "{said}");
    assert!(said.contains("do not know docker.io, which nodeAgent.hostnames"), "{said}");
}

#[tokio::test]
async fn what_a_registry_lacks_is_not_in_the_plan() {
    let stage = Stage::new();
    stage.change("hub", &json!({"tls": {"disabled": {}}}));
    stage.pass().await.unwrap();
    let hub = &stage.plan().registries[0];
    assert_eq!((hub.endpoints[0].as_str(), &hub.authorities), ("http://10.96.0.7:5000", &None));

    // The user's certificate, signed by an authority that nodes trust anyhow.
    stage
        .cluster
        .put("secrets/own", json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}}));
    stage.change("hub", &json!({"tls": {"secretRef": {"name": "own"}}}));
    stage.pass().await.unwrap();
    let hub = &stage.plan().registries[0];
    assert_eq!((hub.endpoints[0].as_str(), &hub.authorities), ("https://10.96.0.7:5000", &None));

    // A Service of somebody else's leads elsewhere.
    stage.cluster.edit("services/hub", |service| service["metadata"]["ownerReferences"] = json!([]));
    stage.pass().await.unwrap();
    assert_eq!(stage.plan().registries, []);
    assert_eq!(stage.said("hub"), "False/AddressPending: Service hub has no address yet");
}

#[tokio::test]
async fn nodes_are_counted_and_the_first_that_fails_is_named() {
    let stage = Stage::new();
    stage.pass().await.unwrap();
    let said = stage.said("hub");
    assert!(
        said.starts_with("False/NodesPending: 0 of 2 nodes pull from it; node-1: its agent has not"),
        "{said}"
    );
    stage.obey();
    stage.report("node-2", |_| json!({"ready": false, "reason": "Conflict", "message": "a foreign file"}));
    stage.pass().await.unwrap();
    assert_eq!(
        stage.said("hub"),
        "False/NodesFailing: 1 of 2 nodes pull from it; node-2: a foreign file (Conflict)"
    );
    stage.tell("node-1", "False", "ConfigPathMissing", &json!([]));
    stage.pass().await.unwrap();
    let status = stage.cluster.get("registries/hub").unwrap()["status"]["nodeAccess"].clone();
    let failing = json!([{"node": "node-1", "reason": "ConfigPathMissing", "message": "words"},
        {"node": "node-2", "reason": "Conflict", "message": "a foreign file"}]);
    assert_eq!(status, json!({"ready": 0, "desired": 2, "failing": failing}));
    stage.obey();
    stage.pass().await.unwrap();
    assert_eq!(stage.said("hub"), "True/NodesReady: 2 of 2 nodes pull from it");
    assert_eq!(stage.cluster.take_events(), ["NodesFailing", "NodesReady"]);
}

#[tokio::test]
async fn nodes_are_told_of_a_registry_once_it_has_answered() {
    let stage = Stage::new();
    let ready = |status: &str| {
        let condition = condition(status, "Progressing");
        stage.cluster.edit("registries/hub", |hub| hub["status"]["conditions"] = json!([condition]));
    };
    for (status, expected) in [("False", 0), ("True", 1), ("False", 1)] {
        ready(status);
        stage.pass().await.unwrap();
        assert_eq!(stage.plan().registries.len(), expected, "{status}");
    }
    assert!(stage.said("hub").starts_with("False/NodesPending"), "{}", stage.said("hub"));
}

#[tokio::test]
async fn a_certificate_that_is_made_anew_leaves_no_node_without_authorities() {
    let stage = Stage::settled().await;
    stage.cluster.remove("secrets/hub-tls");
    stage.pass().await.unwrap();
    assert_eq!(stage.plan().registries[0].authorities.as_deref(), Some("CA"));
}

#[tokio::test]
async fn what_cannot_be_written_is_told() {
    let stage = Stage::settled().await;
    let entry = json!({"name": "team-a/hub", "revision": "", "ready": false, "reason": "WriteFailed", "message": "full"});
    stage.tell("node-2", "True", "Configured", &json!([entry]));
    stage.pass().await.unwrap();
    assert!(stage.said("hub").ends_with("node-2: full (WriteFailed)"), "{}", stage.said("hub"));
}

#[tokio::test]
async fn a_new_address_is_pending_until_nodes_have_it() {
    let stage = Stage::settled().await;
    stage.address("hub", "10.96.0.8");
    stage.pass().await.unwrap();
    let said = stage.said("hub");
    assert!(said.contains("node-1: its agent has not taken up the last change yet (Pending)"), "{said}");
    stage.obey();
    stage.pass().await.unwrap();
    assert!(stage.said("hub").starts_with("True/NodesReady"));
}

#[tokio::test]
async fn nothing_is_written_while_nothing_happens() {
    let stage = Stage::settled().await;
    for _ in 0..2 {
        stage.pass().await.unwrap();
    }
    assert_eq!((stage.cluster.take_writes(), stage.cluster.take_events()), (vec![], vec![]));
}

#[tokio::test]
async fn of_two_that_claim_a_name_the_older_has_it() {
    let stage = Stage::new();
    let claim = json!({"hostnames": ["images.example"]});
    stage.change("hub", &claim);
    stage.registry("younger", &claim);
    stage.pass().await.unwrap();
    let hosts = |number: usize| stage.plan().registries[number].hosts.len();
    assert_eq!((hosts(0), hosts(1)), (5, 3));
    assert_eq!(
        stage.said("younger"),
        "False/HostnameTaken: spec.hostnames: images.example is a name of Registry team-a/hub, which is older; \
         let one of them have it only"
    );
}

#[tokio::test]
async fn a_plan_that_is_full_keeps_those_that_work() {
    let stage = Stage::new();
    stage.registry("large", &json!({}));
    stage
        .cluster
        .edit("secrets/large-tls", |secret| secret["data"]["ca.crt"] = json!("QUFB".repeat(310_000)));
    stage.registry("small", &json!({}));
    stage.pass().await.unwrap();
    let planned: Vec<String> = stage.plan().registries.into_iter().map(|planned| planned.name).collect();
    assert_eq!(planned, ["team-a/hub", "team-a/small"]);
    assert!(stage.said("large").starts_with("False/PlanTooLarge"), "{}", stage.said("large"));
    assert!(stage.said("small").starts_with("False/NodesPending"));
}

#[tokio::test]
async fn what_cannot_be_read_stays_as_it_was() {
    let stage = Stage::settled().await;
    let before = stage.plan();
    stage.cluster.remove("registries/hub");
    stage.pass_with(&["team-a/hub"]).await.unwrap();
    assert_eq!(stage.plan(), before);
}

#[tokio::test]
async fn when_nobody_asks_any_more_nodes_are_cleaned_before_their_agents_go() {
    let stage = Stage::settled().await;
    stage.change("hub", &json!({"nodeAccess": {"mode": "None"}}));
    stage.pass().await.unwrap();
    assert_eq!(stage.plan().registries, []);
    assert_eq!(stage.said("hub"), "");
    assert!(stage.cluster.get("registries/hub").unwrap()["status"].get("nodeAccess").is_none());
    stage.report("node-1", |_| json!({}));
    stage.pass().await.unwrap();
    assert!(stage.cluster.get(AGENTS).is_some(), "node-2 has not said that it is clean");
    stage.report("node-2", |_| json!({}));
    stage.pass().await.unwrap();
    assert_eq!((stage.cluster.get(AGENTS), stage.cluster.get(PLAN)), (None, None));
    stage.pass().await.unwrap();
    assert!(!stage.cluster.paths().iter().any(|path| path.starts_with("nodeaccesses/")));
}

#[tokio::test]
async fn a_node_that_never_answers_keeps_the_agents_for_five_minutes() {
    let mut stage = Stage::settled().await;
    stage.cluster.remove("registries/hub");
    stage.pass().await.unwrap();
    let written = json!([{"manager": "windlass", "operation": "Apply", "time": "2026-01-01T00:00:00Z"}]);
    stage.cluster.edit(PLAN, |plan| plan["metadata"]["managedFields"] = written);
    for (time, expected) in [("2026-01-01T00:04:59Z", true), ("2026-01-01T00:05:01Z", false)] {
        stage.clock = time.parse().unwrap();
        stage.pass().await.unwrap();
        assert_eq!(stage.cluster.get(AGENTS).is_some(), expected, "{time}");
    }
}

#[tokio::test]
async fn a_node_that_is_gone_leaves_no_report_and_holds_nobody_up() {
    let stage = Stage::settled().await;
    stage.cluster.remove("nodes/node-2");
    stage.pass().await.unwrap();
    assert_eq!(stage.said("hub"), "True/NodesReady: 1 of 1 nodes pull from it");
    assert!(stage.cluster.get("nodeaccesses/node-2").is_none());
}

#[tokio::test]
async fn without_agents_a_registry_that_asks_is_told_what_to_do() {
    let mut stage = Stage::new();
    stage.cluster.remove(ACCOUNT);
    stage.pass().await.unwrap();
    let said = stage.said("hub");
    assert!(
        said.starts_with("False/NodeAgentMissing: ServiceAccount windlass-node-agent does not exist"),
        "{said}"
    );
    stage.context.node_access.image = None;
    stage.pass().await.unwrap();
    assert!(stage.said("hub").contains("set nodeAgent.enabled=true in the chart's values"));
    assert!(stage.cluster.get(AGENTS).is_none());
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone() {
    for child in [PLAN, AGENTS] {
        let stage = Stage::new();
        let (kind, name) = child.split_once('/').unwrap();
        stage.cluster.put(child, json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}));
        stage.pass().await.unwrap();
        assert_eq!(stage.cluster.take_writes(), ["PATCH registries/hub/status"], "{child}");
        assert!(stage.said("hub").starts_with("False/NameTaken"), "{}", stage.said("hub"));
    }
}

#[tokio::test]
async fn a_refusal_of_the_api_server_is_told() {
    let stage = Stage::new();
    stage.cluster.fail(AGENTS, 403);
    stage.pass().await.unwrap();
    let expected =
        "False/Rejected: DaemonSet windlass-node-agent is refused by the API server: refused with 403";
    assert_eq!(stage.said("hub"), expected);
}

#[tokio::test]
async fn one_registry_that_cannot_be_written_holds_up_no_other() {
    let stage = Stage::new();
    stage.registry("other", &json!({}));
    stage.cluster.fail("registries/hub/status", 500);
    assert_eq!(stage.pass().await.unwrap_err().reason(), "StatusFailed");
    assert!(stage.said("other").starts_with("False/NodesPending"));
}

#[tokio::test]
async fn the_rest_of_the_status_is_not_touched() {
    let stage = super::Stage::settled(&json!({"nodeAccess": {"mode": "HostsFile"}})).await;
    let nodes = Stage { cluster: stage.cluster.clone(), ..Stage::new() };
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    let client = stage.cluster.client();
    let recorder = Recorder::new(client.clone(), reporter);
    let nodes = Stage { context: Context { client, recorder, ..nodes.context }, ..nodes };
    nodes.pass().await.unwrap();
    assert!(nodes.said("hub").starts_with("False/NodeAgentMissing"), "{}", nodes.said("hub"));
    stage.cluster.take_writes();
    stage.pass().await.unwrap();
    nodes.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
    assert_eq!(stage.reason(), "Progressing");
}
