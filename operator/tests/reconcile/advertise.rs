//! Which Registry of the cluster is advertised, and what the others are told.

use jiff::Timestamp;
use operator::advertise::reconcile;
use operator::api::registry::Registry;
use operator::context::Context;
use operator::registries::Registries;
use operator::registry::Error;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::context;

const PLACE: &str = "configmaps/local-registry-hosting";

struct Stage {
    cluster: Cluster,
    context: Context,
}

impl Stage {
    /// A cluster in which these Registries ask, the older first.
    fn new(asking: &[&str]) -> Self {
        let cluster = Cluster::default();
        for (second, name) in asking.iter().enumerate() {
            let created = format!("2026-01-01T00:00:{second:02}Z");
            let metadata = json!({"name": name, "namespace": "team-a", "uid": name, "generation": 1,
                "creationTimestamp": created});
            let spec = json!({"storage": {"filesystem": {"size": "1Gi"}}, "advertise": true});
            let url = format!("https://{name}.team-a.svc:5000");
            cluster.put(
                &format!("registries/{name}"),
                json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": metadata,
                    "spec": spec, "status": {"conditions": [], "url": url}}),
            );
        }
        Self::of(cluster)
    }

    fn of(cluster: Cluster) -> Self {
        cluster.set_clock("2026-01-01T00:01:00Z");
        Self { context: context(&cluster), cluster }
    }

    /// A cluster in which all has been done.
    async fn settled(asking: &[&str]) -> Self {
        let stage = Self::new(asking);
        stage.pass().await.unwrap();
        stage.cluster.take_writes();
        stage.cluster.take_events();
        stage
    }

    async fn pass(&self) -> Result<(), Error> {
        let paths = self.cluster.paths().into_iter().filter(|path| path.starts_with("registries/"));
        let registries: Vec<Registry> =
            paths.map(|path| serde_json::from_value(self.cluster.get(&path).unwrap()).unwrap()).collect();
        let known = Registries { readable: registries.iter().collect(), ..Registries::default() };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        reconcile(&known, &self.context, &[], now).await.map(|_| ())
    }

    fn change(&self, registry: &str, fields: &Value) {
        self.cluster.edit(&format!("registries/{registry}"), |object| {
            object["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        });
    }

    /// The condition of a Registry as `True/Reason: message`.
    fn said(&self, registry: &str) -> String {
        let object = self.cluster.get(&format!("registries/{registry}")).unwrap();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition["type"] == "Advertised");
        let Some(condition) = condition else { return String::new() };
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        format!("{}/{}: {}", text("status"), text("reason"), text("message"))
    }

    /// The host that Pods are told.
    fn advertised(&self) -> Option<String> {
        let config_map = self.cluster.get(PLACE)?;
        let text = config_map["data"]["localRegistryHosting.v1"].as_str()?;
        let (_, host) = text.split_once("hostFromClusterNetwork: ")?;
        host.lines().next().map(str::to_owned)
    }
}

#[tokio::test]
async fn of_two_that_ask_the_older_is_advertised_and_the_other_is_told() {
    let stage = Stage::new(&["old", "young"]);
    stage.pass().await.unwrap();
    assert_eq!(stage.advertised().unwrap(), "old.team-a.svc:5000");
    assert_eq!(
        stage.said("old"),
        "True/Available: ConfigMap local-registry-hosting in namespace kube-public tells of it"
    );
    let said = stage.said("young");
    assert!(said.starts_with("False/AnotherAdvertised: "), "{said}");
    assert!(said.contains("tells of Registry team-a/old"), "{said}");
    let mut events = stage.cluster.take_events();
    events.sort();
    assert_eq!(events, ["Advertised", "AnotherAdvertised"]);
}

#[tokio::test]
async fn nothing_is_written_while_nothing_happens() {
    let stage = Stage::settled(&["old", "young"]).await;
    stage.pass().await.unwrap();
    assert_eq!((stage.cluster.take_writes(), stage.cluster.take_events()), (vec![], vec![]));
}

#[tokio::test]
async fn what_somebody_changes_is_back() {
    let stage = Stage::settled(&["hub"]).await;
    let labels = stage.cluster.get(PLACE).unwrap()["metadata"]["labels"].clone();
    for change in [
        |place: &mut Value| place["data"]["localRegistryHosting.v1"] = json!("host: localhost:5000"),
        |place: &mut Value| place["metadata"]["labels"] = json!({}),
    ] {
        stage.cluster.edit(PLACE, change);
        stage.pass().await.unwrap();
        assert_eq!(stage.advertised().unwrap(), "hub.team-a.svc:5000");
        assert_eq!(stage.cluster.get(PLACE).unwrap()["metadata"]["labels"], labels);
    }
}

#[tokio::test]
async fn the_next_one_takes_over_and_the_last_one_leaves_nothing() {
    let stage = Stage::settled(&["old", "young"]).await;
    stage.cluster.remove("registries/old");
    stage.pass().await.unwrap();
    assert_eq!(stage.advertised().unwrap(), "young.team-a.svc:5000");
    assert!(stage.said("young").starts_with("True/Available"));
    stage.change("young", &json!({"advertise": false}));
    stage.pass().await.unwrap();
    assert_eq!((stage.advertised(), stage.said("young")), (None, String::new()));
    stage.cluster.take_writes();
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_left_alone_until_it_is_gone() {
    let stage = Stage::new(&["hub"]);
    let data = json!({"localRegistryHosting.v1": "host: localhost:5000"});
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"}});
    stage.cluster.put(PLACE, foreign);
    let before = stage.cluster.get(PLACE);
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.get(PLACE), before);
    assert!(stage.said("hub").starts_with("False/NameTaken: ConfigMap local-registry-hosting in namespace"));
    stage.change("hub", &json!({"advertise": false}));
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.get(PLACE), before);
    stage.change("hub", &json!({"advertise": true}));
    stage.cluster.remove(PLACE);
    stage.pass().await.unwrap();
    assert!(stage.said("hub").starts_with("True/Available"), "{}", stage.said("hub"));
}

#[tokio::test]
async fn a_paused_registry_keeps_the_place_that_it_has() {
    let stage = Stage::settled(&["old", "young"]).await;
    stage.change("old", &json!({"paused": true, "hostnames": ["images.example"]}));
    let before = stage.cluster.get(PLACE);
    stage.pass().await.unwrap();
    assert_eq!(stage.cluster.get(PLACE), before);
    assert!(stage.said("old").starts_with("True/Available"));
    assert!(stage.said("young").contains("tells of Registry team-a/old"));
}

#[tokio::test]
async fn what_the_operator_may_not_do_is_told() {
    let mut stage = Stage::new(&["hub"]);
    stage.cluster.fail(PLACE, 403);
    assert_eq!(stage.pass().await.unwrap_err().reason(), "ApplyFailed");
    let said = stage.said("hub");
    assert!(said.starts_with("False/Rejected: the API server refuses"), "{said}");
    assert!(said.contains("refused with 403; the right is granted by rbac.advertise=true"), "{said}");
    stage.cluster.heal();
    stage.context.advertises = false;
    stage.pass().await.unwrap();
    assert!(stage.said("hub").starts_with("False/AdvertisingDisabled: "), "{}", stage.said("hub"));
    assert_eq!(stage.advertised(), None);
}

#[tokio::test]
async fn one_that_was_made_meanwhile_is_not_taken() {
    let stage = Stage::new(&["hub"]);
    stage.cluster.fail(PLACE, 409);
    stage.pass().await.unwrap();
    assert!(stage.said("hub").starts_with("False/NameTaken"), "{}", stage.said("hub"));
}

#[tokio::test]
async fn the_rest_of_the_status_is_not_touched() {
    let stage = super::Stage::settled(&json!({"advertise": true})).await;
    let advertising = Stage::of(stage.cluster.clone());
    advertising.pass().await.unwrap();
    assert!(advertising.said("hub").starts_with("True/Available"), "{}", advertising.said("hub"));
    stage.cluster.take_writes();
    stage.pass().await.unwrap();
    advertising.pass().await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
    assert_eq!(stage.reason(), "Progressing");
}
