//! More than one server works on a volume that many can write to.

use anyhow::Context as _;
use e2e::case::{Outcome, with_namespace};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::{cluster, oci, wait};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use operator::api::registry::Registry;
use serde_json::{Value, json};

const CLAIM: &str = "shared";

/// Makes a directory on one node that belongs to the server's user, until the namespace goes.
async fn directory(namespace: &Namespace, node: &str, path: &str) -> anyhow::Result<()> {
    let script = "trap 'rm -rf /parent/*; exit 0' TERM; mkdir /parent/data; chown 65532:65532 /parent/data; \
                  touch /tmp/made; while :; do sleep 3600 & wait $!; done";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "directory"},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "directory", "image": cluster::busybox_image(), "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-euc", script],
                "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/made"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "parent", "mountPath": "/parent"}],
            }],
            "volumes": [{"name": "parent", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}],
        },
    });
    namespace.apply(pod).await?;
    wait::until(&namespace.api::<Pod>(), "directory", "the directory", e2e::forward::is_ready).await?;
    Ok(())
}

/// Makes a claim that many can write to. Provisioners of such volumes are rare, so its volume is made by hand.
async fn shared_claim(namespace: &Namespace) -> anyhow::Result<()> {
    let nodes = namespace.all::<Node>().list(&ListParams::default()).await?;
    let node = nodes.items.first().context("a cluster without nodes")?.name_any();
    let path = format!("/var/lib/{}", namespace.name);
    directory(namespace, &node, &path).await?;
    let owner = namespace.all::<k8s_openapi::api::core::v1::Namespace>().get(&namespace.name).await?;
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    let shape = |mut spec: Value| {
        spec["accessModes"] = json!(["ReadWriteMany"]);
        spec["storageClassName"] = json!("");
        spec
    };
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": namespace.name, "ownerReferences": [owner.owner_ref(&())]},
        "spec": shape(json!({
            "capacity": {"storage": "64Mi"}, "local": {"path": format!("{path}/data")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        })),
    });
    namespace.apply_to_cluster(volume).await?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM},
        "spec": shape(json!({"volumeName": namespace.name, "resources": {"requests": {"storage": "64Mi"}}})),
    });
    namespace.apply(claim).await?;
    let bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    };
    wait::until(&namespace.api(), CLAIM, "it to be bound", bound).await?;
    Ok(())
}

#[tokio::test]
async fn two_servers_share_a_volume_and_are_replaced_one_by_one() -> Outcome {
    with_namespace("replicas", async |namespace| {
        shared_claim(namespace).await?;
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        let mut spec = registry::spec();
        spec["storage"]["filesystem"] = json!({"existingClaim": CLAIM});
        spec["replicas"] = json!(2);
        registry::apply(namespace, NAME, spec).await?;
        let status = registry::ready(namespace, NAME).await?.status.unwrap_or_default();
        assert_eq!(status.replicas, 2);

        let (_forward, client) = registry::reach_as_user(namespace).await?;
        let digest = oci::push(&client, "team/app", "v1", "layer").await?;
        namespace.merge::<Registry>(NAME, json!({"spec": {"readOnly": true}})).await?;
        registry::ready(namespace, NAME).await?;
        let pulled = wait::eventually("a pull", async || oci::pull(&client, "team/app", "v1").await).await?;
        assert_eq!(pulled, digest);

        namespace.merge::<Registry>(NAME, json!({"spec": {"replicas": 1}})).await?;
        let one = |status: &operator::api::status::RegistryStatus| status.replicas == 1;
        registry::observed(namespace, NAME, "it to have one server", one).await?;
        Ok(())
    })
    .await
}
