//! Policies against a cluster in memory: which Jobs each situation leads to, and what the status says.

use std::time::Duration;

use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::context::Context;
use operator::garbage_collection_policy::reconcile;
use operator::registry::Error;
use registry_server::config::{Protection, Retention};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::context;

const POLICY: &str = "garbagecollectionpolicies/nightly";
const MORNING: &str = "2026-01-01T08:00:00Z";
const NIGHT: &str = "2026-01-02T03:00:00Z";
const NEXT_NIGHT: &str = "2026-01-03T03:00:00Z";

/// A cluster with one Registry that serves and one policy, and the operator's side of it.
struct Stage {
    cluster: Cluster,
    context: Context,
}

impl Stage {
    fn new(fields: &Value) -> Self {
        let cluster = Cluster::default();
        let mut spec = json!({"registryRef": {"name": "hub"}, "schedule": "0 3 * * *",
            "retention": [{"repositories": ["**"], "keep": {"mostRecentlyPushed": 1}}]});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        cluster.put(POLICY, policy("nightly", &spec));
        cluster.put(
            "registries/hub",
            json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": "hub", "namespace": "team-a", "uid": "1"},
                "spec": {"storage": {"filesystem": {"size": "1Gi"}}}}),
        );
        let container = json!({"name": "registry", "image": "r/s:1", "args": ["serve"]});
        cluster.put(
            "deployments/hub",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hub"},
                "spec": {"replicas": 1, "selector": {},
                    "template": {"spec": {"containers": [container]}}}}),
        );
        cluster.put(
            "persistentvolumeclaims/hub-data",
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "hub-data"},
                "spec": {"accessModes": ["ReadWriteOnce"]}}),
        );
        let context = context(&cluster);
        Self { cluster, context }
    }

    /// A policy that has promised its first run for the night.
    async fn promised(fields: &Value) -> Self {
        let stage = Self::new(fields);
        stage.pass(MORNING).await.unwrap();
        stage.cluster.take_writes();
        stage.cluster.take_events();
        stage
    }

    async fn pass(&self, now: &str) -> Result<Duration, Error> {
        self.cluster.set_clock(now);
        let policy: GarbageCollectionPolicy =
            serde_json::from_value(self.cluster.get(POLICY).unwrap()).unwrap();
        reconcile(&policy, &self.context, now.parse().unwrap()).await
    }

    fn status(&self) -> Value {
        self.cluster.get(POLICY).unwrap()["status"].clone()
    }

    /// Status and reason of the condition `type_`.
    fn condition(&self, type_: &str) -> String {
        let status = self.status();
        let conditions = status["conditions"].as_array().unwrap();
        let condition = conditions.iter().find(|condition| condition["type"] == type_).unwrap();
        format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
    }

    /// The Jobs that there are.
    fn jobs(&self) -> Vec<String> {
        self.cluster.paths().into_iter().filter(|path| path.starts_with("jobs/")).collect()
    }

    /// Lets the only Job end, with the server's `words`.
    fn finish(&self, end: &str, at: &str, words: &str) {
        let job = self.jobs().pop().unwrap();
        let condition = json!({"type": end, "status": "True", "lastTransitionTime": at});
        self.cluster.edit(&job, |job| job["status"] = json!({"conditions": [condition]}));
        let name = job.strip_prefix("jobs/").unwrap();
        let labels = json!({"batch.kubernetes.io/job-name": name, "windlass.dev/collected-registry": "hub"});
        let terminated = json!({"terminated": {"exitCode": i32::from(end != "Complete"), "message": words}});
        let server = json!({"name": "registry", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": terminated});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "status": {"containerStatuses": [server]}});
        self.cluster.put(&format!("pods/{name}"), pod);
    }
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "GarbageCollectionPolicy", "spec": spec,
        "metadata": {"name": name, "namespace": "team-a", "uid": "7", "generation": 1}})
}

fn report(reclaimed: u64) -> String {
    json!({"run": "r", "complete": true, "bytesReclaimed": reclaimed, "bytes": 10, "bytesQuarantined": 5})
        .to_string()
}

#[tokio::test]
async fn a_run_begins_at_its_time_and_is_told_of_when_it_ends() {
    let stage = Stage::promised(&json!({})).await;
    assert_eq!(stage.status()["nextRun"], NIGHT);
    assert_eq!(stage.pass("2026-01-02T02:59:00Z").await.unwrap(), Duration::from_secs(60));
    assert_eq!(stage.cluster.take_writes(), [""; 0]);

    stage.pass(NIGHT).await.unwrap();
    let job = stage.jobs().pop().unwrap();
    let rules = job.replace("jobs/", "configmaps/");
    assert_eq!(
        stage.cluster.take_writes(),
        [format!("POST {job}"), format!("POST {rules}"), format!("PATCH {POLICY}/status")]
    );
    assert_eq!(stage.cluster.take_events(), ["RunStarted"]);
    assert_eq!(stage.status()["nextRun"], NEXT_NIGHT);
    let owner = &stage.cluster.get(&rules).unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("Job"), &stage.cluster.get(&job).unwrap()["metadata"]["uid"])
    );
    stage.pass("2026-01-02T03:01:00Z").await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);

    stage.finish("Complete", "2026-01-02T03:02:00Z", &report(2048));
    stage.pass("2026-01-02T03:02:01Z").await.unwrap();
    let status = stage.status();
    assert_eq!(status["lastRun"], "2026-01-02T03:02:00Z");
    assert_eq!(status["totals"]["reclaimed"], "2Ki");
    assert_eq!(status["registries"][0]["lastRun"]["bytesReclaimed"], 2048);
    assert_eq!(status["registries"][0].get("activeJob"), None);
    assert_eq!(stage.condition("LastRunSucceeded"), "True RunSucceeded");
    assert_eq!(stage.condition("WorkloadsProtected"), "True WorkloadsListed");
    assert_eq!(stage.cluster.take_events(), ["RunSucceeded"]);
    stage.cluster.take_writes();
    stage.pass("2026-01-02T03:03:00Z").await.unwrap();
    assert_eq!(stage.cluster.take_writes(), [""; 0]);
}

#[tokio::test]
async fn a_missed_run_is_made_up_once() {
    let stage = Stage::promised(&json!({})).await;
    stage.pass("2026-01-09T12:00:00Z").await.unwrap();
    assert_eq!(stage.jobs().len(), 1);
    assert_eq!(stage.status()["nextRun"], "2026-01-10T03:00:00Z");
    stage.finish("Complete", "2026-01-09T12:01:00Z", &report(0));
    stage.pass("2026-01-09T12:02:00Z").await.unwrap();
    assert_eq!(stage.jobs().len(), 1);
}

#[tokio::test]
async fn a_start_that_is_cut_off_anywhere_is_finished_and_not_repeated() {
    let whole = Stage::promised(&json!({})).await;
    whole.pass(NIGHT).await.unwrap();
    let job = whole.jobs().pop().unwrap();
    for cut in [job.clone(), job.replace("jobs/", "configmaps/"), format!("{POLICY}/status")] {
        let stage = Stage::promised(&json!({})).await;
        stage.cluster.fail(&cut, 500);
        stage.pass(NIGHT).await.unwrap_err();
        stage.cluster.heal();
        stage.pass("2026-01-02T03:00:05Z").await.unwrap();
        assert_eq!(stage.jobs(), std::slice::from_ref(&job), "{cut}");
        assert!(stage.cluster.get(&job.replace("jobs/", "configmaps/")).is_some(), "{cut}");
        assert_eq!(stage.status()["nextRun"], NEXT_NIGHT, "{cut}");
    }
}

#[tokio::test]
async fn what_workloads_use_is_handed_over_whatever_runs_of_them() {
    let image = |tag: &str| json!([{"image": format!("hub.team-a.svc:5000/shop/web:{tag}")}]);
    let template = |tag: &str| json!({"replicas": 0, "template": {"spec": {"containers": image(tag)}}});
    let stage = Stage::promised(&json!({"protect": {"tags": ["^v"]}})).await;
    for (path, kind, spec) in [
        ("deployments/web", "Deployment", template("scaled-to-zero")),
        ("replicasets/web-1", "ReplicaSet", template("former")),
        ("cronjobs/report", "CronJob", json!({"jobTemplate": {"spec": template("at-night")}})),
        ("pods/web-2", "Pod", json!({"containers": image("running")})),
    ] {
        let (_, name) = path.split_once('/').unwrap();
        let metadata = json!({"name": name, "namespace": "shop"});
        stage
            .cluster
            .put(path, json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}));
    }
    stage.pass(NIGHT).await.unwrap();
    let rules = stage.jobs().pop().unwrap().replace("jobs/", "configmaps/");
    let data = &stage.cluster.get(&rules).unwrap()["data"];
    let protection: Protection = serde_yaml::from_str(data["protect.yml"].as_str().unwrap()).unwrap();
    let by: Vec<&str> = protection.images.iter().map(|image| image.by.as_str()).collect();
    assert_eq!(by, ["CronJob shop/report", "ReplicaSet shop/web-1", "Pod shop/web-2", "Deployment shop/web"]);
    assert_eq!(protection.images[0].image, "shop/web:at-night");
    assert!(protection.complete && protection.tags == ["^v"]);
    let retention: Retention = serde_yaml::from_str(data["retention.yml"].as_str().unwrap()).unwrap();
    assert_eq!(retention.policies.len(), 1);
}

#[tokio::test]
async fn a_list_that_fails_lets_the_run_touch_nothing_tagged() {
    let stage = Stage::promised(&json!({})).await;
    stage.cluster.fail("/apis/batch/v1/cronjobs", 403);
    stage.pass(NIGHT).await.unwrap();
    let rules = stage.jobs().pop().unwrap().replace("jobs/", "configmaps/");
    let text = stage.cluster.get(&rules).unwrap()["data"]["protect.yml"].as_str().unwrap().to_owned();
    assert!(!serde_yaml::from_str::<Protection>(&text).unwrap().complete);
    assert_eq!(stage.condition("WorkloadsProtected"), "False WorkloadsUnknown");
    assert_eq!(stage.condition("Ready"), "True Scheduled");
    assert_eq!(stage.cluster.take_events(), ["RunStarted", "WorkloadsUnknown"]);
}

#[tokio::test]
async fn a_failed_run_is_told_in_its_own_words_and_kept() {
    let stage = Stage::promised(&json!({"history": {"successful": 0, "failed": 1}})).await;
    stage.pass(NIGHT).await.unwrap();
    stage.finish("Failed", "2026-01-02T03:01:00Z", "error: the volume is full\n");
    for _ in 0..2 {
        stage.pass("2026-01-02T03:02:00Z").await.unwrap();
    }
    assert_eq!(stage.condition("LastRunSucceeded"), "False RunFailed");
    assert_eq!(stage.condition("Ready"), "True Scheduled");
    assert_eq!(stage.status()["registries"][0]["lastRun"]["message"], "error: the volume is full");
    assert_eq!(stage.cluster.take_events(), ["RunStarted", "RunFailed"]);
    assert_eq!(stage.jobs().len(), 1);
}

#[tokio::test]
async fn a_finished_job_beyond_the_history_goes_after_it_has_been_told_of() {
    let stage = Stage::promised(&json!({"history": {"successful": 0, "failed": 0}})).await;
    stage.pass(NIGHT).await.unwrap();
    stage.finish("Complete", "2026-01-02T03:01:00Z", &report(7));
    stage.pass("2026-01-02T03:02:00Z").await.unwrap();
    assert_eq!((stage.jobs().len(), &stage.status()["totals"]["bytesReclaimed"]), (1, &json!(7)));
    stage.pass("2026-01-02T03:02:00Z").await.unwrap();
    assert_eq!(stage.jobs().len(), 0);
    stage.pass("2026-01-02T03:02:00Z").await.unwrap();
    assert_eq!(stage.status()["totals"]["bytesReclaimed"], 7);
}

#[tokio::test]
async fn a_run_that_is_asked_for_begins_at_once_and_once_even_if_suspended() {
    let stage = Stage::promised(&json!({"suspend": true})).await;
    assert_eq!(stage.condition("Ready"), "True Suspended");
    stage.pass(NIGHT).await.unwrap();
    assert_eq!(stage.jobs().len(), 0);
    stage.cluster.edit(POLICY, |policy| {
        policy["metadata"]["annotations"] = json!({"windlass.dev/run-requested-at": "now"});
    });
    assert_eq!(stage.pass(NIGHT).await.unwrap(), Duration::ZERO);
    stage.pass(NIGHT).await.unwrap();
    assert_eq!((stage.jobs().len(), &stage.status()["lastRequest"]), (1, &json!("now")));
    stage.finish("Complete", "2026-01-02T03:01:00Z", &report(0));
    for _ in 0..2 {
        stage.pass("2026-01-02T03:02:00Z").await.unwrap();
    }
    assert_eq!(stage.jobs().len(), 1);
}

#[tokio::test]
async fn a_request_waits_for_the_registry_to_have_a_server() {
    let stage = Stage::new(&json!({}));
    let server = stage.cluster.get("deployments/hub").unwrap();
    stage.cluster.remove("deployments/hub");
    stage.cluster.edit(POLICY, |policy| {
        policy["metadata"]["annotations"] = json!({"windlass.dev/run-requested-at": "first"});
    });
    stage.pass(MORNING).await.unwrap();
    assert_eq!(stage.condition("Reconciling"), "True RegistryPending");
    assert_eq!(stage.cluster.take_events(), [""; 0]);
    stage.cluster.put("deployments/hub", server);
    for _ in 0..2 {
        stage.pass(MORNING).await.unwrap();
    }
    assert_eq!((stage.jobs().len(), &stage.status()["lastRequest"]), (1, &json!("first")));
}

#[tokio::test]
async fn what_cannot_be_followed_is_stalled_and_makes_no_job() {
    for (fields, reason) in [
        (json!({"registryRef": {"name": "hob"}}), "RegistryNotFound"),
        (json!({"timeZone": "Europe/Berlim"}), "InvalidTimeZone"),
        (json!({"schedule": "0 0 30 2 *"}), "InvalidSchedule"),
        (json!({"protect": {"tags": ["("]}}), "InvalidPattern"),
    ] {
        let stage = Stage::new(&fields);
        for now in [MORNING, NIGHT, NEXT_NIGHT] {
            stage.pass(now).await.unwrap();
        }
        assert_eq!(stage.condition("Stalled"), format!("True {reason}"));
        assert_eq!(stage.cluster.take_events(), [reason]);
        assert_eq!(stage.cluster.take_writes(), [format!("PATCH {POLICY}/status")]);
    }
}

#[tokio::test]
async fn the_younger_of_two_policies_for_a_registry_makes_no_job() {
    let stage = Stage::new(&json!({}));
    let mut older = policy("older", &json!({"registrySelector": {}, "schedule": "@daily"}));
    older["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z");
    stage.cluster.put("garbagecollectionpolicies/older", older);
    stage.cluster.edit(POLICY, |policy| policy["metadata"]["creationTimestamp"] = json!(MORNING));
    for now in [MORNING, NIGHT, NEXT_NIGHT] {
        stage.pass(now).await.unwrap();
    }
    assert_eq!(stage.condition("Stalled"), "True RegistryTaken");
    assert_eq!(stage.jobs().len(), 0);
    stage.cluster.remove("garbagecollectionpolicies/older");
    stage.pass("2026-01-03T04:00:00Z").await.unwrap();
    assert_eq!(stage.condition("Ready"), "True Scheduled");
    assert_eq!(stage.jobs().len(), 0);
}

#[tokio::test]
async fn a_paused_registry_is_left_alone() {
    let stage = Stage::promised(&json!({})).await;
    stage.cluster.edit("registries/hub", |registry| registry["spec"]["paused"] = json!(true));
    stage.pass(NIGHT).await.unwrap();
    assert_eq!((stage.condition("Ready"), stage.jobs().len()), ("False RegistryPaused".to_owned(), 0));
    assert_eq!(stage.condition("Stalled"), "False UpToDate");
}

#[tokio::test]
async fn a_refusal_of_the_job_is_told_and_tried_again() {
    let probe = Stage::promised(&json!({})).await;
    probe.pass(NIGHT).await.unwrap();
    let job = probe.jobs().pop().unwrap();
    let stage = Stage::promised(&json!({})).await;
    stage.cluster.fail(&job, 403);
    assert_eq!(stage.pass(NIGHT).await.unwrap_err().reason(), "Rejected");
    assert_eq!(stage.condition("Stalled"), "True Rejected");
    assert_eq!(stage.status()["nextRun"], NIGHT);
    stage.cluster.heal();
    stage.pass("2026-01-02T03:00:09Z").await.unwrap();
    assert_eq!((stage.jobs(), stage.condition("Ready")), (vec![job], "True Scheduled".to_owned()));
}
