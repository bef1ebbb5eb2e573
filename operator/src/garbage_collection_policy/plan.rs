//! What is to be done now: which runs begin, which wait, which finished Jobs go. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::dereference::Found;
use super::runs;
use super::validate::{Target, Valid};
use crate::api::garbage_collection_status::{CollectedRegistry, GarbageCollectionPolicyStatus};
use crate::names;

/// The most runs of one policy at a time, so that many registries do not load the cluster all at once.
const AT_ONCE: usize = 2;

/// What is to be done now.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// What each target gets, in the order of `Valid::targets`.
    pub turns: Vec<Turn<'a>>,
    /// Finished Jobs beyond the history.
    pub prune: Vec<&'a Job>,
    /// Whether a run was asked for that was not heard of before. Until a registry can be collected, it waits.
    pub is_requested: bool,
}

/// What one registry gets.
#[derive(Clone, Debug)]
pub struct Turn<'a> {
    /// The registry.
    pub target: &'a Target<'a>,
    /// The Job to be made, and the time at which it was to begin.
    pub begin: Option<(String, Timestamp)>,
    /// A Job of the policy that is under way.
    pub active: Option<&'a Job>,
    /// When the next run after it begins.
    pub next: Option<Timestamp>,
    /// Whether that one was asked for.
    pub is_requested: bool,
}

/// Plans what is to be done at `now`, given what the `status` promises and the run that is asked for by `request`.
#[must_use]
pub fn plan<'a>(
    valid: &'a Valid<'a>,
    found: &'a Found,
    status: &GarbageCollectionPolicyStatus,
    request: Option<&str>,
    now: Timestamp,
) -> Plan<'a> {
    let is_new = request.is_some() && request != status.last_request.as_deref();
    let is_requested = is_new && !valid.targets.is_empty();
    let mut turns: Vec<Turn<'_>> = valid
        .targets
        .iter()
        .map(|target| turn(valid, found, target, status.registry(&target.name), now))
        .collect();
    let active = found.jobs.iter().filter(|job| runs::is_of(job, &valid.name) && runs::ended(job).is_none());
    let mut slots = AT_ONCE.saturating_sub(active.count());
    let mut waiting: Vec<&mut Turn<'_>> = turns.iter_mut().filter(|turn| turn.begin.is_some()).collect();
    waiting.sort_by_key(|turn| turn.begin.as_ref().map(|(_, time)| *time));
    for turn in waiting {
        if slots == 0 {
            turn.begin = None;
        } else {
            slots -= 1;
            turn.is_requested = false;
            turn.next = if valid.spec.suspend { None } else { valid.schedule.next(now) };
        }
    }
    if is_requested {
        for turn in &mut turns {
            (turn.next, turn.is_requested) = (Some(now), true);
        }
    }
    Plan { turns, prune: prune(valid, found, status), is_requested }
}

/// What the registry would get if nothing else ran. A promise whose time has come stays until it is kept.
fn turn<'a>(
    valid: &Valid<'_>,
    found: &'a Found,
    target: &'a Target<'a>,
    known: Option<&CollectedRegistry>,
    now: Timestamp,
) -> Turn<'a> {
    let active =
        found.jobs.iter().find(|job| runs::registry_of(job) == target.name && runs::ended(job).is_none());
    let is_requested = known.is_some_and(|known| known.requested);
    let due = known
        .and_then(|known| known.next_run.as_ref())
        .map(|time| time.0)
        .filter(|time| *time <= now && (is_requested || !valid.spec.suspend));
    let due =
        due.map(|time| (names::garbage_collection_job(&target.name, &valid.name, &time.to_string()), time));
    // It has been begun, but the operator was stopped before the status could say so.
    let due = due.filter(|(job, _)| !found.jobs.iter().any(|known| known.name_any() == *job));
    let regular = if valid.spec.suspend { None } else { valid.schedule.next(now) };
    Turn {
        target,
        next: due.as_ref().map(|(_, time)| *time).or(regular),
        is_requested: due.is_some() && is_requested,
        begin: due.filter(|_| active.is_none()),
        active: active.filter(|job| runs::is_of(job, &valid.name)),
    }
}

/// Finished Jobs beyond the history, of each registry and outcome. One that the status does not know of is kept.
fn prune<'a>(valid: &Valid<'_>, found: &'a Found, status: &GarbageCollectionPolicyStatus) -> Vec<&'a Job> {
    let mut finished: Vec<(&Job, bool)> = found
        .jobs
        .iter()
        .filter(|job| runs::is_of(job, &valid.name))
        .filter_map(|job| Some((job, runs::ended(job)?.succeeded)))
        .filter(|(job, _)| {
            let known = status.registry(runs::registry_of(job));
            !known.is_some_and(|known| runs::is_news(job, known.last_run.as_ref()))
        })
        .collect();
    finished.sort_by_key(|(job, _)| std::cmp::Reverse(runs::created(job)));
    let newer = |index: usize, job: &Job, succeeded: bool| {
        let alike = |(other, outcome): &&(&Job, bool)| {
            runs::registry_of(other) == runs::registry_of(job) && *outcome == succeeded
        };
        finished.iter().take(index).filter(alike).count()
    };
    let limit = |succeeded: bool| {
        let history = valid.spec.history;
        usize::try_from(if succeeded { history.successful } else { history.failed }).unwrap_or_default()
    };
    let beyond = finished.iter().enumerate().filter(|(index, (job, succeeded))| {
        job.metadata.deletion_timestamp.is_none() && newer(*index, job, *succeeded) >= limit(*succeeded)
    });
    beyond.map(|(_, (job, _))| *job).collect()
}

#[cfg(test)]
mod tests {
    use super::{Plan, plan};
    use crate::api::garbage_collection_policy::GarbageCollectionPolicy;
    use crate::api::garbage_collection_status::GarbageCollectionPolicyStatus;
    use crate::garbage_collection_policy::dereference::{Collected, Found};
    use crate::garbage_collection_policy::validate::validate;
    use crate::names::garbage_collection_job;
    use jiff::Timestamp;
    use kube::ResourceExt;
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-05T12:00:00Z";
    const MISSED: &str = "2026-01-03T03:00:00Z";
    const NEXT: &str = "2026-01-06T03:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn policy(fields: &Value) -> GarbageCollectionPolicy {
        let mut spec = json!({"registrySelector": {}, "schedule": "0 3 * * *"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1",
            "kind": "GarbageCollectionPolicy", "metadata": {"name": "nightly", "namespace": "n"},
            "spec": spec}))
        .unwrap()
    }

    fn registries(names: &[&str]) -> Found {
        let collected = names.iter().map(|name| Collected {
            registry: serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1",
                "kind": "Registry", "metadata": {"name": name, "namespace": "n"},
                "spec": {"storage": {"filesystem": {"size": "1Gi"}}}}))
            .unwrap(),
            deployment: Some(
                serde_json::from_value(json!({"spec": {"selector": {}, "template": {}}})).unwrap(),
            ),
            claim: Some(serde_json::from_value(json!({"spec": {"accessModes": ["ReadWriteMany"]}})).unwrap()),
            service: None,
            taken_by: None,
        });
        Found { registries: collected.collect(), ..Found::default() }
    }

    fn add_job(
        found: &mut Found,
        name: &str,
        registry: &str,
        policy: &str,
        end: Option<&str>,
        created: &str,
    ) {
        let labels = json!({"windlass.dev/collected-registry": registry,
            "windlass.dev/garbage-collection-policy": policy});
        let conditions = end.map(|end| json!([{"type": end, "status": "True"}]));
        let job = json!({"metadata": {"name": name, "labels": labels, "creationTimestamp": created},
            "status": {"conditions": conditions}});
        found.jobs.push(serde_json::from_value(job).unwrap());
    }

    /// A status that promises the next run of each registry at a time, `requested` or not.
    fn promised(promises: &[(&str, &str)], requested: bool) -> GarbageCollectionPolicyStatus {
        let registries: Vec<Value> = promises
            .iter()
            .map(|(name, time)| json!({"name": name, "nextRun": time, "requested": requested}))
            .collect();
        serde_json::from_value(json!({ "registries": registries })).unwrap()
    }

    /// The registries whose run begins, and when the next of each begins, for short.
    fn said(plan: &Plan<'_>) -> Vec<(String, bool, Option<String>)> {
        let turns = plan.turns.iter();
        turns
            .map(|turn| {
                let next = turn.next.map(|next| next.to_string());
                (turn.target.name.clone(), turn.begin.is_some(), next)
            })
            .collect()
    }

    fn check(
        fields: &Value,
        found: &Found,
        status: &GarbageCollectionPolicyStatus,
        request: Option<&str>,
        expected: &[(&str, bool, Option<&str>)],
    ) {
        let policy = policy(fields);
        let valid = validate(&policy, found, at(NOW)).unwrap();
        let plan = plan(&valid, found, status, request, at(NOW));
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, begins, next)| ((*name).to_owned(), *begins, next.map(str::to_owned)))
            .collect();
        assert_eq!(said(&plan), expected, "{fields} {request:?}");
    }

    #[test]
    fn a_new_policy_promises_and_begins_nothing() {
        let none = GarbageCollectionPolicyStatus::default();
        check(&json!({}), &registries(&["hub"]), &none, None, &[("hub", false, Some(NEXT))]);
        check(&json!({"suspend": true}), &registries(&["hub"]), &none, None, &[("hub", false, None)]);
    }

    #[test]
    fn a_promise_is_kept_once_however_late() {
        let hub = registries(&["hub"]);
        for (time, begins) in [(MISSED, true), (NOW, true), (NEXT, false)] {
            let status = promised(&[("hub", time)], false);
            check(&json!({}), &hub, &status, None, &[("hub", begins, Some(NEXT))]);
        }
        // Its Job is there already: the operator was stopped before the status said so.
        for end in [None, Some("Complete")] {
            let mut found = registries(&["hub"]);
            let job = garbage_collection_job("hub", "nightly", MISSED);
            add_job(&mut found, &job, "hub", "nightly", end, MISSED);
            check(
                &json!({}),
                &found,
                &promised(&[("hub", MISSED)], false),
                None,
                &[("hub", false, Some(NEXT))],
            );
        }
    }

    #[test]
    fn a_changed_schedule_counts_from_now() {
        let status = promised(&[("hub", "2026-01-06T01:00:00Z")], false);
        check(
            &json!({"schedule": "0 11 * * *"}),
            &registries(&["hub"]),
            &status,
            None,
            &[("hub", false, Some("2026-01-06T11:00:00Z"))],
        );
    }

    #[test]
    fn what_is_missed_while_suspended_is_not_made_up_but_what_is_asked_for_is_done() {
        let hub = registries(&["hub"]);
        let suspended = json!({"suspend": true});
        check(&suspended, &hub, &promised(&[("hub", MISSED)], false), None, &[("hub", false, None)]);
        check(&suspended, &hub, &promised(&[("hub", MISSED)], true), None, &[("hub", true, None)]);
    }

    #[test]
    fn a_request_is_a_promise_for_now_and_heard_once() {
        let hub = registries(&["hub"]);
        let mut status = promised(&[("hub", NEXT)], false);
        check(&json!({}), &hub, &status, Some("1"), &[("hub", false, Some(NOW))]);
        status.last_request = Some("1".to_owned());
        check(&json!({}), &hub, &status, Some("1"), &[("hub", false, Some(NEXT))]);
        check(&json!({}), &hub, &status, Some("2"), &[("hub", false, Some(NOW))]);
    }

    #[test]
    fn a_registry_has_one_run_at_a_time_whosever_it_is() {
        for policy in ["nightly", "other"] {
            let mut found = registries(&["hub"]);
            add_job(&mut found, "running", "hub", policy, None, MISSED);
            let status = promised(&[("hub", MISSED)], false);
            check(&json!({}), &found, &status, None, &[("hub", false, Some(MISSED))]);
        }
    }

    #[test]
    fn many_registries_take_turns_in_the_order_of_their_times() {
        let mut found = registries(&["a", "b", "c"]);
        let earlier = "2026-01-02T03:00:00Z";
        let status = promised(&[("a", MISSED), ("b", MISSED), ("c", earlier)], false);
        let (waits, done) = (Some(MISSED), Some(NEXT));
        let expected = [("a", true, done), ("b", false, waits), ("c", true, done)];
        check(&json!({}), &found, &status, None, &expected);
        add_job(&mut found, "running", "d", "nightly", None, MISSED);
        let expected = [("a", false, waits), ("b", false, waits), ("c", true, done)];
        check(&json!({}), &found, &status, None, &expected);
    }

    #[test]
    fn finished_jobs_beyond_the_history_go_once_the_status_knows_them() {
        let mut found = registries(&["hub", "two"]);
        for (name, registry, end, day) in [
            ("old", "hub", "Complete", 1),
            ("mid", "hub", "Complete", 2),
            ("new", "hub", "Complete", 3),
            ("bad", "hub", "Failed", 1),
            ("unknown", "hub", "Complete", 4),
            ("two", "two", "Complete", 1),
        ] {
            let created = format!("2026-01-0{day}T00:00:00Z");
            add_job(&mut found, name, registry, "nightly", Some(end), &created);
        }
        add_job(&mut found, "foreign", "hub", "other", Some("Complete"), MISSED);
        let known =
            |job: &str, time: &str| json!({"job": job, "succeeded": true, "started": time, "finished": time});
        let status = json!({"registries": [
            {"name": "hub", "lastRun": known("new", "2026-01-03T00:00:00Z")},
            {"name": "two", "lastRun": known("two", "2026-01-01T00:00:00Z")},
        ]});
        let status: GarbageCollectionPolicyStatus = serde_json::from_value(status).unwrap();
        for (successful, failed, expected) in [
            (3, 3, &[][..]),
            (2, 1, &["old"]),
            (1, 0, &["mid", "bad", "old"]),
            (0, 1, &["new", "mid", "old", "two"]),
        ] {
            let policy = policy(&json!({"history": {"successful": successful, "failed": failed}}));
            let valid = validate(&policy, &found, at(NOW)).unwrap();
            let plan = plan(&valid, &found, &status, None, at(NOW));
            let mut pruned: Vec<String> = plan.prune.iter().map(|job| job.name_any()).collect();
            pruned.sort();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(pruned, expected);
        }
    }
}
