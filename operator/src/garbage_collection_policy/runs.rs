//! What the Jobs of a namespace say about runs: whose they are, whether they have ended, and how. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use registry_server::maintenance::Summary;

use super::dereference::Found;
use crate::api::garbage_collection_status::{LastRun, Totals};
use crate::api::status::StorageStatus;
use crate::{names, quantity};

/// Characters of a failed run's own words that are kept.
const MOST_WORDS: usize = 500;

/// How a Job has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Whether well.
    pub succeeded: bool,
    /// When.
    pub at: Timestamp,
    /// What Kubernetes says about it.
    pub message: String,
}

/// How `job` has ended; `None` while it has not.
#[must_use]
pub fn ended(job: &Job) -> Option<Ended> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let last = conditions.iter().find(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    })?;
    let at = last.last_transition_time.as_ref().map_or_else(|| created(job), |time| time.0);
    Some(Ended { succeeded: last.type_ == "Complete", at, message: last.message.clone().unwrap_or_default() })
}

/// The Registry that `job` is a run over.
#[must_use]
pub fn registry_of(job: &Job) -> &str {
    job.labels().get(names::COLLECTED_LABEL).map(String::as_str).unwrap_or_default()
}

/// Whether `job` is a run of the policy `policy`.
#[must_use]
pub fn is_of(job: &Job, policy: &str) -> bool {
    job.labels().get(names::POLICY_LABEL).is_some_and(|value| value == policy)
}

/// When `job` was made.
#[must_use]
pub fn created(job: &Job) -> Timestamp {
    job.creation_timestamp().map(|time| time.0).unwrap_or_default()
}

/// Whether `known`, the last run that was recorded, is earlier than that of `job`. Runs over one registry follow each
/// other, so all before it have been recorded as well.
#[must_use]
pub fn is_news(job: &Job, known: Option<&LastRun>) -> bool {
    known.is_none_or(|known| created(job) >= known.started.0 && job.name_any() != known.job)
}

/// The runs of `policy` over `registry` that have ended since `known`, oldest first.
#[must_use]
pub fn news(found: &Found, policy: &str, registry: &str, known: Option<&LastRun>) -> Vec<LastRun> {
    let mut jobs: Vec<&Job> = found
        .jobs
        .iter()
        .filter(|job| is_of(job, policy) && registry_of(job) == registry && is_news(job, known))
        .collect();
    jobs.sort_by_key(|job| created(job));
    jobs.into_iter().filter_map(|job| Some(run(job, &ended(job)?, &found.pods))).collect()
}

/// What `run` has counted in its registry; `None` if it has not come to its end.
#[must_use]
pub fn storage(run: &LastRun) -> Option<StorageStatus> {
    let used = quantity::of_bytes(run.bytes.saturating_add(run.bytes_quarantined));
    (run.succeeded && run.complete).then(|| StorageStatus { used, counted: run.finished.clone() })
}

/// Adds `run` to `totals`.
pub fn add(totals: &mut Totals, run: &LastRun) {
    *if run.succeeded { &mut totals.succeeded } else { &mut totals.failed } += 1;
    if !run.dry_run {
        totals.tags_deleted = totals.tags_deleted.saturating_add(run.tags_deleted);
        totals.manifests_deleted = totals.manifests_deleted.saturating_add(run.manifests_deleted);
        totals.blobs_deleted = totals.blobs_deleted.saturating_add(run.blobs_deleted);
        totals.bytes_reclaimed = totals.bytes_reclaimed.saturating_add(run.bytes_reclaimed);
        totals.reclaimed = quantity::of_bytes(totals.bytes_reclaimed);
    }
}

fn run(job: &Job, ended: &Ended, pods: &[Pod]) -> LastRun {
    let last = last_words(job, pods);
    let words = last.and_then(|last| last.message.as_deref()).unwrap_or_default();
    let reported = serde_json::from_str::<Summary>(words);
    let message = match (&reported, words.trim()) {
        (Ok(summary), _) => summary.error.as_ref().or_else(|| summary.messages.first()).cloned(),
        (Err(_), "") => None,
        (Err(_), words) => {
            Some(words.chars().rev().take(MOST_WORDS).collect::<Vec<_>>().iter().rev().collect())
        }
    };
    let message = if ended.succeeded { message } else { message.or_else(|| Some(ended.message.clone())) };
    let summary = reported.unwrap_or_default();
    let figure = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    LastRun {
        job: job.name_any(),
        succeeded: ended.succeeded,
        message: message.unwrap_or_default(),
        started: Time(created(job)),
        finished: Time(ended.at),
        dry_run: summary.dry_run,
        complete: summary.complete,
        tags_deleted: figure(summary.tags_deleted),
        manifests_deleted: figure(summary.manifests_deleted),
        blobs_deleted: figure(summary.blobs_deleted),
        bytes_reclaimed: figure(summary.bytes_reclaimed),
        quarantined: figure(summary.blobs_quarantined),
        bytes_quarantined: figure(summary.bytes_quarantined),
        bytes: figure(summary.bytes),
        protected_by_workloads: figure(summary.protected_by_workloads),
        warnings: figure(summary.warnings),
        run: summary.run,
    }
}

/// How the server ended in the last Pod of `job` in which it did.
fn last_words<'a>(job: &Job, pods: &'a [Pod]) -> Option<&'a ContainerStateTerminated> {
    let name = job.name_any();
    let is_of_job = |pod: &&Pod| pod.labels().get(names::JOB_NAME_LABEL) == Some(&name);
    let ends = pods.iter().filter(is_of_job).filter_map(|pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
        let server = containers.iter().find(|container| container.name == names::CONTAINER)?;
        server.state.as_ref()?.terminated.as_ref()
    });
    // A Pod that came to a good end outweighs those that were sent away.
    ends.max_by_key(|end| (end.exit_code == 0, end.finished_at.as_ref().map(|time| time.0)))
}

#[cfg(test)]
mod tests {
    use super::{add, ended, news, storage};
    use crate::api::garbage_collection_status::Totals;
    use crate::garbage_collection_policy::dereference::Found;
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn job(name: &str, created: &str, policy: &str, conditions: &Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": created,
                "labels": {"windlass.dev/collected-registry": "hub",
                    "windlass.dev/garbage-collection-policy": policy}},
            "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn condition(type_: &str, message: &str) -> Value {
        json!([{"type": "SuccessCriteriaMet", "status": "True"},
            {"type": type_, "status": "True", "message": message, "lastTransitionTime": "2026-01-01T00:05:00Z"}])
    }

    fn pod(job: &str, exit_code: i32, message: &str) -> Pod {
        let end = json!({"exitCode": exit_code, "message": message, "finishedAt": "2026-01-01T00:05:00Z"});
        serde_json::from_value(json!({"metadata": {"labels": {"batch.kubernetes.io/job-name": job}},
            "status": {"containerStatuses": [{"name": "registry", "image": "i", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": end}}]}}))
        .unwrap()
    }

    const CREATED: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn a_job_has_ended_when_it_is_complete_or_failed() {
        let met = json!([{"type": "SuccessCriteriaMet", "status": "True"}]);
        assert_eq!(ended(&job("a", CREATED, "p", &json!([]))), None);
        assert_eq!(ended(&job("a", CREATED, "p", &met)), None);
        let outcome = |type_| ended(&job("a", CREATED, "p", &condition(type_, ""))).map(|end| end.succeeded);
        assert_eq!((outcome("Complete"), outcome("Failed")), (Some(true), Some(false)));
    }

    #[test]
    fn the_figures_are_those_of_the_servers_report() {
        let report = json!({"run": "r", "dryRun": false, "complete": true, "bytesReclaimed": 5, "blobsDeleted": 2,
            "blobsQuarantined": 3, "messages": ["team/app: unreadable"], "warnings": 1});
        let jobs = vec![job("a", CREATED, "p", &condition("Complete", ""))];
        let pods = vec![pod("a", 0, &report.to_string()), pod("a", 1, "sent away"), pod("b", 0, "{}")];
        let found = Found { jobs, pods, ..Found::default() };
        let runs = news(&found, "p", "hub", None);
        let run = &runs[0];
        assert_eq!((run.bytes_reclaimed, run.blobs_deleted, run.quarantined, run.warnings), (5, 2, 3, 1));
        assert_eq!(
            (run.run.as_str(), run.message.as_str(), run.succeeded),
            ("r", "team/app: unreadable", true)
        );
        assert_eq!(run.finished.0.to_string(), "2026-01-01T00:05:00Z");
    }

    #[test]
    fn a_failure_is_told_in_the_servers_words_else_in_those_of_kubernetes() {
        for (pods, expected) in [
            (vec![pod("a", 1, "error: no such volume\n")], "error: no such volume"),
            (vec![pod("a", 137, "")], "too many retries"),
            (vec![], "too many retries"),
            (vec![pod("a", 1, r#"{"messages": ["odd"], "error": "held by x"}"#)], "held by x"),
            (vec![pod("a", 1, r#"{"messages": []}"#)], "too many retries"),
        ] {
            let jobs = vec![job("a", CREATED, "p", &condition("Failed", "too many retries"))];
            let found = Found { jobs, pods, ..Found::default() };
            let runs = news(&found, "p", "hub", None);
            assert_eq!((runs[0].message.as_str(), runs[0].succeeded), (expected, false));
        }
    }

    #[test]
    fn each_run_is_news_once() {
        let done = condition("Complete", "");
        let jobs = vec![
            job("b", "2026-01-02T00:00:00Z", "p", &done),
            job("a", CREATED, "p", &done),
            job("other", CREATED, "q", &done),
            job("running", "2026-01-03T00:00:00Z", "p", &json!([])),
        ];
        let found = Found { jobs, ..Found::default() };
        let names = |known: Option<&_>| {
            news(&found, "p", "hub", known).into_iter().map(|run| run.job).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["a", "b"]);
        let runs = news(&found, "p", "hub", None);
        assert_eq!(names(Some(&runs[0])), ["b"]);
        assert_eq!(names(Some(&runs[1])), [""; 0]);
    }

    #[test]
    fn a_run_that_came_to_its_end_has_counted_the_storage() {
        for (outcome, complete, expected) in
            [("Complete", true, Some("3.5Ki")), ("Complete", false, None), ("Failed", true, None)]
        {
            let jobs = vec![job("a", CREATED, "p", &condition(outcome, ""))];
            let report = json!({"complete": complete, "bytes": 3000, "bytesQuarantined": 600}).to_string();
            let found = Found { jobs, pods: vec![pod("a", 0, &report)], ..Found::default() };
            let counted = storage(&news(&found, "p", "hub", None)[0]);
            assert_eq!(counted.map(|storage| storage.used).as_deref(), expected);
        }
    }

    #[test]
    fn totals_leave_out_dry_runs() {
        let jobs = vec![job("a", CREATED, "p", &condition("Complete", ""))];
        let mut totals = Totals::default();
        for (dry, expected) in [(true, 0), (false, 2048)] {
            let report = json!({"dryRun": dry, "bytesReclaimed": 2048}).to_string();
            let found = Found { jobs: jobs.clone(), pods: vec![pod("a", 0, &report)], ..Found::default() };
            add(&mut totals, &news(&found, "p", "hub", None)[0]);
            assert_eq!(totals.bytes_reclaimed, expected);
        }
        assert_eq!((totals.succeeded, totals.reclaimed.as_str()), (2, "2Ki"));
    }
}
