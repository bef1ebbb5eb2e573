//! A policy collects a registry that is in use: on schedule and on request, on the node of its volume, and never what
//! workloads use.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::http::Client;
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME};
use e2e::{oci, wait};
use http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::ResourceExt;
use kube::api::{EvictParams, ListParams, Patch, PatchParams};
use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::api::garbage_collection_status::{
    CollectedRegistry, GarbageCollectionPolicyStatus, GarbageCollectionReason as Reason, LAST_RUN_SUCCEEDED,
    LastRun, WORKLOADS_PROTECTED,
};
use operator::api::registry::Registry;
use operator::api::status::{READY, RECONCILING, STALLED};
use operator::names;
use serde_json::{Value, json};

const POLICY: &str = "nightly";

/// A policy that begins runs only when they are asked for, with `fields`.
async fn apply(namespace: &Namespace, name: &str, fields: &Value) -> anyhow::Result<()> {
    let mut spec = json!({"registryRef": {"name": NAME}, "schedule": "0 3 1 1 *", "suspend": true,
        "gracePeriod": "1s"});
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let policy = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "GarbageCollectionPolicy",
        "metadata": {"name": name}, "spec": spec});
    namespace.apply(policy).await?;
    Ok(())
}

/// Waits until the operator has seen the present spec of a policy and its status `holds`.
async fn observed(
    namespace: &Namespace,
    name: &str,
    what: &str,
    holds: impl Fn(&GarbageCollectionPolicyStatus) -> bool,
) -> anyhow::Result<GarbageCollectionPolicyStatus> {
    let policies = namespace.api();
    let seen = wait::until(&policies, name, what, |policy: &GarbageCollectionPolicy| {
        policy.status.as_ref().is_some_and(|status| {
            Some(status.observed_generation) == policy.metadata.generation && holds(status)
        })
    });
    seen.await?.status.context("a policy without a status")
}

fn says(status: &GarbageCollectionPolicyStatus, type_: &str, expected: &str, reason: Reason) -> bool {
    status
        .condition(type_)
        .is_some_and(|condition| condition.status == expected && condition.reason == reason.to_string())
}

/// Asks for a run and waits for its end.
async fn run(namespace: &Namespace, request: &str) -> anyhow::Result<LastRun> {
    ask(namespace, request).await?;
    let before = runs(&of(namespace).await?);
    let ended = |status: &GarbageCollectionPolicyStatus| {
        status.last_request.as_deref() == Some(request) && runs(status) > before
    };
    let status = observed(namespace, POLICY, "the run to end", ended).await?;
    last(&status).cloned()
}

async fn ask(namespace: &Namespace, request: &str) -> anyhow::Result<()> {
    let annotation = json!({"metadata": {"annotations": {names::REQUEST_ANNOTATION: request}}});
    namespace.merge::<GarbageCollectionPolicy>(POLICY, annotation).await?;
    Ok(())
}

async fn of(namespace: &Namespace) -> anyhow::Result<GarbageCollectionPolicyStatus> {
    Ok(namespace.api::<GarbageCollectionPolicy>().get(POLICY).await?.status.unwrap_or_default())
}

fn runs(status: &GarbageCollectionPolicyStatus) -> i64 {
    status.totals.succeeded + status.totals.failed
}

fn last(status: &GarbageCollectionPolicyStatus) -> anyhow::Result<&LastRun> {
    let run = status.registry(NAME).and_then(|registry| registry.last_run.as_ref());
    run.context("no run has ended")
}

async fn is_there(client: &Client, tag: &str) -> anyhow::Result<bool> {
    let answer = client.get(&format!("/v2/team/app/manifests/{tag}")).await?;
    Ok(answer.status == StatusCode::OK)
}

/// Waits for the Pod of the Job `job` that is none of `but`.
async fn pod_of(namespace: &Namespace, job: &str, but: &[String]) -> anyhow::Result<Pod> {
    let of_job = ListParams::default().labels(&format!("{}={job}", names::JOB_NAME_LABEL));
    wait::eventually("a Pod of the Job", async || {
        let pods = namespace.api::<Pod>().list(&of_job).await?;
        pods.into_iter().find(|pod| !but.contains(&pod.name_any())).context("there is none")
    })
    .await
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
}

async fn server_node(namespace: &Namespace) -> anyhow::Result<String> {
    let servers = ListParams::default().labels(&names::selector_text(NAME));
    let servers = namespace.api::<Pod>().list(&servers).await?;
    servers.iter().find_map(node_of).context("the server is on no node")
}

fn deployment(namespace: &Namespace, tag: &str) -> Value {
    let image = format!("{NAME}.{}.svc:5000/team/app:{tag}", namespace.name);
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]}}}})
}

/// A Deployment without Pods whose image is now `v2` and was `v1`.
async fn sleeping_deployment(namespace: &Namespace) -> anyhow::Result<()> {
    for (tag, revision) in [("v1", 1), ("v2", 2)] {
        namespace.apply(deployment(namespace, tag)).await?;
        let rolled_out = |deployment: &Deployment| {
            let status = deployment.status.as_ref().and_then(|status| status.observed_generation);
            let annotated = deployment.annotations().get("deployment.kubernetes.io/revision");
            status == deployment.metadata.generation && annotated == Some(&revision.to_string())
        };
        wait::until(&namespace.api(), "web", "it to be rolled out", rolled_out).await?;
    }
    Ok(())
}

/// The Registry tells what it uses, and goes on to do so when the rest of its status changes.
async fn used_is_told(namespace: &Namespace, run: &LastRun) -> anyhow::Result<()> {
    let registries = namespace.api::<Registry>();
    for (paused, reason) in [(true, "Paused"), (false, "UpToDate")] {
        namespace.merge::<Registry>(NAME, json!({"spec": {"paused": paused}})).await?;
        let seen = wait::until(&registries, NAME, reason, |registry: &Registry| {
            let reconciling = registry.status.as_ref().and_then(|status| status.condition(RECONCILING));
            reconciling.is_some_and(|condition| condition.reason == reason)
        });
        let storage = seen.await?.status.and_then(|status| status.storage);
        let storage = storage.context("the Registry does not tell what it uses")?;
        ensure!(storage.counted == run.finished, "{storage:?} {run:?}");
        ensure!(!storage.used.is_empty() && storage.used != "0", "{storage:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_workloads_use_survives_a_rule_that_lets_it_go_and_a_dry_run_touches_nothing() -> Outcome {
    with_namespace("gc-workloads", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        for tag in ["v1", "v2", "v3", "v4"] {
            oci::push(&client, "team/app", tag, format!("layer {tag}")).await?;
        }
        sleeping_deployment(namespace).await?;
        let rule = json!({"repositories": ["team/**"], "keep": {"patterns": ["^v4$"]}});
        let fields = json!({"retention": [rule], "dryRun": true, "history": {"successful": 1}});
        apply(namespace, POLICY, &fields).await?;
        observed(namespace, POLICY, "it to be suspended", |status| {
            says(status, READY, "True", Reason::Suspended) && status.next_run.is_none()
        })
        .await?;

        let preview = run(namespace, "preview").await?;
        ensure!(preview.succeeded && preview.dry_run && preview.tags_deleted == 1, "{preview:?}");
        ensure!(is_there(&client, "v3").await?, "a dry run has let v3 go");

        namespace.merge::<GarbageCollectionPolicy>(POLICY, json!({"spec": {"dryRun": false}})).await?;
        let real = run(namespace, "real").await?;
        ensure!(real.succeeded && !real.dry_run, "{real:?}");
        ensure!(real.tags_deleted == preview.tags_deleted, "{preview:?} {real:?}");
        ensure!(real.protected_by_workloads >= 2 && real.warnings == 0, "{real:?}");
        ensure!(!is_there(&client, "v3").await?, "v3 is still there");
        for tag in ["v1", "v2", "v4"] {
            oci::pull(&client, "team/app", tag).await.with_context(|| format!("{tag} is gone"))?;
        }
        let status = of(namespace).await?;
        ensure!(says(&status, LAST_RUN_SUCCEEDED, "True", Reason::RunSucceeded), "{status:?}");
        ensure!(says(&status, WORKLOADS_PROTECTED, "True", Reason::WorkloadsListed), "{status:?}");
        ensure!(status.totals.tags_deleted == 1 && status.totals.succeeded == 2, "{status:?}");

        used_is_told(namespace, &real).await?;

        let job = namespace.api::<Job>().get(&real.job).await?;
        let rules = namespace.api::<ConfigMap>().get(&real.job).await?;
        ensure!(rules.owner_references().first().map(|owner| &owner.uid) == job.metadata.uid.as_ref());
        let pod = pod_of(namespace, &real.job, &[]).await?;
        ensure!(node_of(&pod) == Some(server_node(namespace).await?), "it ran on another node");
        // Of the runs that ended well, only the last was to be kept.
        wait::gone(&namespace.api::<Job>(), &preview.job).await
    })
    .await
}

#[tokio::test]
async fn a_run_begins_on_schedule_while_a_pod_pulls_and_a_client_pushes() -> Outcome {
    with_namespace("gc-schedule", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        crate::pull::ready_for_pods(namespace).await?;
        apply(namespace, POLICY, &json!({"schedule": "* * * * *", "suspend": false})).await?;
        let status = observed(namespace, POLICY, "a next run", |status| status.next_run.is_some()).await?;
        let promised = status.next_run.context("no next run")?;

        let ended = observed(namespace, POLICY, "a run to end", |status| runs(status) > 0);
        let use_it = async {
            for number in 0.. {
                let digest = oci::push(&client, "team/app", "latest", format!("layer {number}")).await?;
                ensure!(oci::pull(&client, "team/app", "latest").await? == digest, "another image");
                crate::pull::a_pod_runs(namespace, &format!("pod-{number}")).await?;
            }
            anyhow::Ok(())
        };
        let status = tokio::select! {
            status = ended => status?,
            used = use_it => return used,
        };
        let run = last(&status)?;
        ensure!(run.succeeded && run.started >= promised && run.warnings == 0, "{promised:?} {run:?}");
        let job = namespace.api::<Job>().get(&run.job).await?;
        let scheduled = job.annotations().get(names::SCHEDULED_ANNOTATION);
        ensure!(scheduled == Some(&promised.0.to_string()), "{scheduled:?}");
        oci::pull(&client, "team/app", "latest").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missed_run_is_made_up_once() -> Outcome {
    with_namespace("gc-missed", async |namespace| {
        registry::quick(namespace).await?;
        apply(namespace, POLICY, &json!({"suspend": false})).await?;
        let status = observed(namespace, POLICY, "a next run", |status| status.next_run.is_some()).await?;
        // As an operator finds it that was away at the time.
        let missed = json!({"status": {"registries": [{"name": NAME, "nextRun": "2026-01-01T03:00:00Z"}]}});
        let policies = namespace.api::<GarbageCollectionPolicy>();
        policies.patch_status(POLICY, &PatchParams::default(), &Patch::Merge(missed)).await?;
        let made_up = |now: &GarbageCollectionPolicyStatus| {
            runs(now) == 1 && now.next_run == status.next_run && now.registries.iter().all(is_idle)
        };
        observed(namespace, POLICY, "the run to be made up", made_up).await?;
        let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
        ensure!(jobs.items.len() == 1, "{} Jobs were made", jobs.items.len());
        Ok(())
    })
    .await
}

fn is_idle(registry: &CollectedRegistry) -> bool {
    registry.active_job.is_none()
}

#[tokio::test]
async fn a_run_whose_pod_is_evicted_goes_on_in_another() -> Outcome {
    with_namespace("gc-drain", async |namespace| {
        registry::quick(namespace).await?;
        // No node has it until the test says so, so the Pod can be caught.
        let slot = format!("e2e.windlass.dev/{}", namespace.name);
        let resources = json!({"limits": {&slot: 1}, "requests": {&slot: 1}});
        apply(namespace, POLICY, &json!({ "resources": resources })).await?;
        ask(namespace, "now").await?;
        let active = |status: &GarbageCollectionPolicyStatus| !status.registries.iter().all(is_idle);
        let status = observed(namespace, POLICY, "a run to begin", active).await?;
        let job = status.registries[0].active_job.clone().context("no Job")?;

        let first = pod_of(namespace, &job, &[]).await?.name_any();
        namespace.api::<Pod>().evict(&first, &EvictParams::default()).await?;
        pod_of(namespace, &job, &[first]).await?;
        let node = server_node(namespace).await?;
        offer(namespace, &node, &slot, json!("1")).await?;
        let ended = observed(namespace, POLICY, "the run to end", |status| runs(status) > 0).await;
        offer(namespace, &node, &slot, Value::Null).await?;
        let run = last(&ended?)?.clone();
        ensure!(run.succeeded && run.job == job, "{run:?}");
        Ok(())
    })
    .await
}

/// Lets a node have `amount` of the resource `slot`.
async fn offer(namespace: &Namespace, node: &str, slot: &str, amount: Value) -> anyhow::Result<()> {
    let capacity = json!({"status": {"capacity": {slot: amount}, "allocatable": {slot: amount}}});
    let nodes = namespace.all::<Node>();
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(capacity)).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_followed_says_so_and_begins_no_run() -> Outcome {
    with_namespace("gc-bad-input", async |namespace| {
        registry::quick(namespace).await?;
        let rule = |fields: Value| {
            let mut rule = json!({"repositories": ["**"]});
            rule.as_object_mut()
                .into_iter()
                .for_each(|rule| rule.extend(fields.as_object().cloned().unwrap_or_default()));
            json!({ "retention": [rule] })
        };
        apply(namespace, POLICY, &json!({})).await?;
        observed(namespace, POLICY, "it to be ready", |status| {
            says(status, READY, "True", Reason::Suspended)
        })
        .await?;
        for (name, fields, reason, words) in [
            ("second", json!({}), Reason::RegistryTaken, "belongs to GarbageCollectionPolicy nightly"),
            ("lost", json!({"registryRef": {"name": "hob"}}), Reason::RegistryNotFound, "Registry hob"),
            ("zone", json!({"timeZone": "Europe/Berlim"}), Reason::InvalidTimeZone, "spec.timeZone"),
            ("never", json!({"schedule": "0 0 30 2 *"}), Reason::InvalidSchedule, "spec.schedule"),
            ("regex", rule(json!({"tags": "*"})), Reason::InvalidPattern, "spec.retention[0].tags"),
        ] {
            apply(namespace, name, &fields).await?;
            let stalled = |status: &GarbageCollectionPolicyStatus| says(status, STALLED, "True", reason);
            let status = observed(namespace, name, "it to be stalled", stalled).await?;
            let message = status.condition(READY).map(|ready| ready.message.clone()).unwrap_or_default();
            ensure!(message.contains(words), "{name}: {message}");
        }
        for (fields, words) in [
            (json!({"registrySelector": {}}), "set exactly one of registryRef and registrySelector"),
            (json!({"schedule": "0 3 * *"}), "use the five fields of cron"),
            (json!({"gracePeriod": "0s"}), "gracePeriod must be at least 1s"),
            (json!({"deadline": "30s"}), "deadline must be at least 1m"),
            (json!({"uploads": {"olderThan": "1m"}}), "olderThan must be at least 1h"),
            (rule(json!({"keep": {}})), "keep needs at least one reason"),
            (json!({"history": {"failed": 101}}), "should be less than or equal to 100"),
        ] {
            let refused = apply(namespace, "refused", &fields).await;
            let error = refused.err().with_context(|| format!("{fields} was accepted"))?;
            ensure!(format!("{error:#}").contains(words), "{fields} was refused with {error:#}");
        }
        let jobs = namespace.api::<Job>().list(&ListParams::default()).await?;
        ensure!(jobs.items.is_empty(), "{} Jobs were made", jobs.items.len());
        Ok(())
    })
    .await
}
