//! The five steps together, against a cluster in memory: which requests each situation leads to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod advertise;
mod cluster;
mod garbage_collection;
mod node_access;
mod node_agent;

use std::time::Duration;

use cluster::Cluster;
use kube::runtime::events::{Recorder, Reporter};
use operator::api::registry::Registry;
use operator::context::{Context, Failures};
use operator::metrics::Metrics;
use operator::node_access::settings::Settings;
use operator::registry::validate::Defaults;
use operator::registry::{Error, reconcile};
use serde_json::{Value, json};
use tokio::sync::watch;

const REGISTRY: &str = "registries/hub";
const GOOD_USERS: &str =
    "YWRhOiQyeSQwNSRhYmNkZWZnaGlqa2xtbm9wcXJzdHV1RExxS3FPU3hPVFE1d0wzbEpqTWhCQllsOUo5bVhPSwo=";

/// A cluster with one Registry, and the operator's side of it.
struct Stage {
    cluster: Cluster,
    context: Context,
}

impl Stage {
    fn new(spec: &Value) -> Self {
        let cluster = Cluster::default();
        let mut whole = json!({"storage": {"filesystem": {"size": "1Gi"}}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata = json!({"name": "hub", "namespace": "team-a", "uid": "1", "generation": 1});
        let registry = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": metadata,
            "spec": whole});
        cluster.put(REGISTRY, registry);
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": "true"});
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "test",
            "metadata": {"name": "standard", "annotations": annotations}});
        cluster.put("storageclasses/standard", class);
        let context = context(&cluster);
        Self { cluster, context }
    }

    /// A Registry whose children have all been made.
    async fn settled(spec: &Value) -> Self {
        let stage = Self::new(spec);
        for _ in 0..3 {
            stage.pass().await.unwrap();
        }
        stage.cluster.take_writes();
        stage.cluster.take_events();
        stage
    }

    async fn pass(&self) -> Result<Duration, Error> {
        let registry: Registry = serde_json::from_value(self.cluster.get(REGISTRY).unwrap()).unwrap();
        reconcile(&registry, &[&registry], &self.context).await
    }

    /// The reason of the condition `Ready`.
    fn reason(&self) -> String {
        let status = self.cluster.get(REGISTRY).unwrap()["status"].clone();
        let conditions = status["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        ready["reason"].as_str().unwrap().to_owned()
    }

    fn change_spec(&self, fields: &Value) {
        self.cluster.edit(REGISTRY, |registry| {
            registry["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            registry["metadata"]["generation"] =
                json!(registry["metadata"]["generation"].as_i64().unwrap() + 1);
        });
    }
}

/// An operator of `cluster`.
fn context(cluster: &Cluster) -> Context {
    let client = cluster.client();
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        defaults: Defaults {
            server_image: "r/s:1".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            ..Defaults::default()
        },
        resync: Duration::from_secs(600),
        node_access: Settings::default(),
        advertises: true,
        registries_changed: watch::Sender::default(),
        reconciled: watch::Sender::default(),
        metrics: Metrics::default(),
        failures: Failures::default(),
    }
}

const CHILDREN: [&str; 7] = [
    "serviceaccounts/hub",
    "configmaps/hub-config",
    "secrets/hub-ca",
    "secrets/hub-tls",
    "persistentvolumeclaims/hub-data",
    "services/hub",
    "deployments/hub",
];

#[tokio::test]
async fn two_passes_make_everything_and_a_third_writes_nothing() {
    let stage = Stage::new(&json!({}));
    stage.pass().await.unwrap();
    assert_eq!(stage.reason(), "AddressPending");
    assert!(stage.cluster.get("deployments/hub").is_none());
    stage.pass().await.unwrap();
    assert_eq!(stage.reason(), "Progressing");
    for child in CHILDREN {
        assert!(stage.cluster.get(child).is_some(), "{child}");
    }
    stage.cluster.take_writes();
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
}

#[tokio::test]
async fn the_first_pass_writes_in_the_order_of_need() {
    let stage = Stage::new(&json!({"tls": {"disabled": {}}}));
    stage.pass().await.unwrap();
    let expected = [
        "PATCH serviceaccounts/hub",
        "PATCH configmaps/hub-config",
        "PATCH persistentvolumeclaims/hub-data",
        "PATCH services/hub",
        "PATCH deployments/hub",
        "PATCH registries/hub/status",
    ];
    assert_eq!(stage.cluster.take_writes(), expected);
}

#[tokio::test]
async fn a_child_that_is_deleted_is_back_after_the_next_pass() {
    for child in CHILDREN {
        let stage = Stage::settled(&json!({})).await;
        stage.cluster.remove(child);
        // Without the Service, the first pass makes it and the second what needs its address.
        stage.pass().await.unwrap();
        stage.pass().await.unwrap();
        assert!(stage.cluster.get(child).is_some(), "{child}");
    }
}

#[tokio::test]
async fn a_child_that_is_changed_is_restored() {
    for (child, pointer, changed) in [
        ("serviceaccounts/hub", "/automountServiceAccountToken", json!(true)),
        ("configmaps/hub-config", "/data/config.yml", json!("")),
        ("secrets/hub-tls", "/data/tls.crt", json!("eA==")),
        ("secrets/hub-ca", "/data/tls.key", json!("eA==")),
        ("services/hub", "/spec/ports/0/port", json!(81)),
        ("deployments/hub", "/spec/replicas", json!(7)),
        ("deployments/hub", "/spec/template/spec/containers/0/image", json!("evil")),
        ("deployments/hub", "/metadata/labels", json!({})),
        ("deployments/hub", "/metadata/ownerReferences/0/controller", json!(false)),
    ] {
        let stage = Stage::settled(&json!({})).await;
        stage.cluster.edit(child, |object| *object.pointer_mut(pointer).unwrap() = changed.clone());
        stage.pass().await.unwrap();
        let now = stage.cluster.get(child).unwrap();
        assert_ne!(now.pointer(pointer), Some(&changed), "{child} {pointer}");
        stage.pass().await.unwrap();
        stage.cluster.take_writes();
        stage.pass().await.unwrap();
        assert_eq!(stage.cluster.take_writes(), [""; 0], "{child} {pointer}");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_deleted_and_the_volume_is_not() {
    let stage = Stage::settled(&json!({})).await;
    stage.change_spec(&json!({"tls": {"disabled": {}}}));
    stage.pass().await.unwrap();
    let writes = stage.cluster.take_writes();
    let deletes: Vec<&String> = writes.iter().filter(|write| write.starts_with("DELETE")).collect();
    assert_eq!(deletes, ["DELETE secrets/hub-ca", "DELETE secrets/hub-tls"]);
    assert!(stage.cluster.get("persistentvolumeclaims/hub-data").is_some());
}

/// A Registry that leaves it to the cluster's rules who may do what, and an operator with such a role or without.
fn with_access_review(role: Option<&str>) -> Stage {
    let auth = json!({"kubernetes": {"subjectAccessReview": true}});
    let mut stage = Stage::new(&json!({"auth": auth, "tls": {"disabled": {}}}));
    stage.cluster.put("/.well-known/openid-configuration", json!({"issuer": "https://kubernetes"}));
    stage.cluster.put("/openid/v1/jwks", json!({"keys": []}));
    stage.context.defaults.access_review_role = role.map(str::to_owned);
    stage
}

#[tokio::test]
async fn servers_are_bound_to_the_role_while_they_are_to_ask_for_access_reviews() {
    let stage = with_access_review(Some("windlass-access-review"));
    stage.pass().await.unwrap();
    let writes = stage.cluster.take_writes();
    assert_eq!(writes[..2], ["PATCH serviceaccounts/hub", "PATCH rolebindings/hub-access-review"]);
    let binding = stage.cluster.get("rolebindings/hub-access-review").unwrap();
    assert_eq!(binding["roleRef"]["name"], "windlass-access-review");
    stage.pass().await.unwrap();
    stage.cluster.take_writes();
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
    let users = json!({"subjects": [{"kind": "Authenticated"}], "repositories": ["**"], "actions": ["pull"]});
    stage.change_spec(&json!({"auth": {"kubernetes": {}, "rules": [users]}}));
    stage.pass().await.unwrap();
    assert!(stage.cluster.take_writes().contains(&"DELETE rolebindings/hub-access-review".to_owned()));
}

#[tokio::test]
async fn without_the_role_access_reviews_are_refused_and_no_binding_is_looked_at() {
    let stage = with_access_review(None);
    stage.cluster.fail("rolebindings", 403);
    stage.pass().await.unwrap();
    assert_eq!(stage.reason(), "AccessReviewDisabled");
    assert_eq!(stage.cluster.take_writes(), ["PATCH registries/hub/status"]);
    assert_eq!(stage.cluster.take_events(), ["AccessReviewDisabled"]);
}

#[tokio::test]
async fn a_further_name_gives_a_new_certificate_and_restarts_nothing() {
    let stage = Stage::settled(&json!({})).await;
    stage.change_spec(&json!({"hostnames": ["images.example"]}));
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), ["PATCH secrets/hub-tls", "PATCH registries/hub/status"]);
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
}

#[tokio::test]
async fn the_volume_is_owned_only_if_it_is_to_go_with_the_registry() {
    let stage = Stage::settled(&json!({})).await;
    let owners = |stage: &Stage| {
        stage.cluster.get("persistentvolumeclaims/hub-data").unwrap()["metadata"]
            .get("ownerReferences")
            .cloned()
    };
    assert_eq!(owners(&stage), None);
    stage.change_spec(&json!({"storage": {"filesystem": {"size": "1Gi", "deletionPolicy": "Delete"}}}));
    stage.pass().await.unwrap();
    assert_eq!(owners(&stage).unwrap()[0]["uid"], "1");
}

#[tokio::test]
async fn a_retained_volume_is_adopted_and_a_strangers_is_not() {
    for (labels, expected) in
        [(json!({"windlass.dev/registry": "hub"}), "Progressing"), (json!({"app": "other"}), "NameTaken")]
    {
        let stage = Stage::new(&json!({"tls": {"disabled": {}}}));
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "hub-data", "namespace": "team-a", "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound"}});
        stage.cluster.put("persistentvolumeclaims/hub-data", claim);
        stage.pass().await.unwrap();
        assert_eq!(stage.reason(), expected);
    }
}

#[tokio::test]
async fn nothing_of_a_strangers_is_ever_written() {
    for child in CHILDREN {
        let stage = Stage::new(&json!({}));
        let (kind, name) = child.split_once('/').unwrap();
        let resource =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "team-a"}});
        stage.cluster.put(child, resource);
        stage.pass().await.unwrap();
        assert_eq!(stage.cluster.take_writes(), ["PATCH registries/hub/status"], "{child}");
        assert_eq!(stage.reason(), "NameTaken");
        assert_eq!(stage.cluster.take_events(), ["NameTaken"]);
    }
}

#[tokio::test]
async fn a_paused_registry_is_only_reported_on() {
    let stage = Stage::settled(&json!({})).await;
    stage.change_spec(&json!({"paused": true, "replicas": 0}));
    stage.cluster.remove("services/hub");
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), ["PATCH registries/hub/status"]);
}

#[tokio::test]
async fn a_first_start_waits_for_the_users_and_goes_on_by_itself() {
    let auth = json!({"auth": {"htpasswdSecretRef": {"name": "users"}}});
    let stage = Stage::settled(&auth).await;
    assert_eq!(stage.reason(), "SecretNotFound");
    assert!(stage.cluster.get("services/hub").is_some() && stage.cluster.get("deployments/hub").is_none());
    let users = |data: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": "team-a"},
            "data": {"htpasswd": data}})
    };
    stage.cluster.put("secrets/users", users("YWRhOnNlY3JldA=="));
    stage.pass().await.unwrap();
    assert_eq!(stage.reason(), "HtpasswdMalformed");
    stage.cluster.put("secrets/users", users(GOOD_USERS));
    stage.pass().await.unwrap();
    assert_eq!(stage.reason(), "Progressing");
    assert!(stage.cluster.get("deployments/hub").is_some());
    // From now on a broken file stalls the Registry, yet its children are still looked after.
    stage.cluster.remove("secrets/users");
    stage.cluster.remove("serviceaccounts/hub");
    stage.pass().await.unwrap();
    assert_eq!(stage.reason(), "SecretNotFound");
    assert!(
        stage.cluster.get("serviceaccounts/hub").is_some() && stage.cluster.get("deployments/hub").is_some()
    );
}

#[tokio::test]
async fn an_event_tells_of_a_change_once() {
    let stage = Stage::settled(&json!({"tls": {"disabled": {}}})).await;
    assert_eq!(stage.cluster.take_events(), [""; 0]);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "hub-1", "labels": {"kubernetes.io/service-name": "hub"}},
        "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": true}}]});
    stage.cluster.put("endpointslices/hub-1", slice);
    stage.cluster.edit("deployments/hub", |deployment| {
        deployment["status"] = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    });
    for _ in 0..3 {
        stage.pass().await.unwrap();
    }
    assert_eq!(stage.reason(), "Available");
    assert_eq!(stage.cluster.take_events(), ["Available"]);
    assert_eq!(stage.cluster.take_writes(), ["PATCH registries/hub/status"]);
}

#[tokio::test]
async fn a_refusal_of_the_api_server_is_told_and_tried_again() {
    let stage = Stage::new(&json!({}));
    stage.cluster.fail("services/hub", 422);
    let error = stage.pass().await.unwrap_err();
    assert_eq!((error.reason().as_str(), stage.reason().as_str()), ("Rejected", "Rejected"));
    let message = stage.cluster.get(REGISTRY).unwrap()["status"]["conditions"][0]["message"].clone();
    assert_eq!(message, "Service hub is refused by the API server: refused with 422");
    assert_eq!(stage.cluster.take_events(), ["Rejected"]);
}

#[tokio::test]
async fn a_failure_that_passes_leaves_the_status_alone() {
    for code in [409, 429, 500, 503] {
        let stage = Stage::new(&json!({}));
        stage.cluster.fail("services/hub", code);
        assert_eq!(stage.pass().await.unwrap_err().reason(), "ApplyFailed", "{code}");
        assert!(stage.cluster.get(REGISTRY).unwrap().get("status").is_none(), "{code}");
    }
}

#[tokio::test]
async fn a_reconcile_cut_off_after_any_write_is_finished_by_the_next() {
    for child in CHILDREN {
        let stage = Stage::new(&json!({}));
        stage.cluster.fail(child, 500);
        for _ in 0..2 {
            let _ = stage.pass().await;
        }
        stage.cluster.heal();
        for _ in 0..3 {
            stage.pass().await.unwrap();
        }
        let made = stage.cluster.paths();
        assert!(CHILDREN.iter().all(|child| made.iter().any(|path| path == child)), "{child}: {made:?}");
    }
}
