//! Every status that a test sees, and the rules that each must follow: what kstatus and the API conventions ask of it, and
//! that Argo CD reads the same there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use futures::StreamExt;
use futures::stream::select_all;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::api::registry::Registry;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::argocd;
use crate::kstatus::{Kstatus, condition, conditions, kstatus};
use crate::namespace::Namespace;

/// Every state of every Registry and policy of a namespace, in the order in which they came.
pub struct Recorder {
    states: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    /// Records from now on.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let resources =
            [ApiResource::erase::<Registry>(&()), ApiResource::erase::<GarbageCollectionPolicy>(&())];
        let apis = resources
            .map(|resource| Api::namespaced_with(namespace.client.clone(), &namespace.name, &resource));
        let states = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(record(apis.into(), Arc::clone(&states)));
        Self { states, task }
    }

    /// Whether all states so far follow the rules.
    ///
    /// # Errors
    /// The rules that were broken, each with the state that broke it.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = violations(&states);
        ensure!(broken.is_empty(), "the status breaks the rules of kstatus:\n{broken}");
        Ok(())
    }
}

async fn record(apis: Vec<Api<DynamicObject>>, states: Arc<Mutex<Vec<Value>>>) {
    let watches =
        apis.into_iter().map(|api| watcher(api, watcher::Config::default()).default_backoff().boxed());
    let mut events = pin!(select_all(watches));
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
            let state = serde_json::to_value(object).unwrap_or_default();
            states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        }
    }
}

/// The rules that `states` break, a paragraph each.
pub(crate) fn violations(states: &[Value]) -> String {
    let mut text = String::new();
    let mut previous = BTreeMap::new();
    for state in states {
        let before = previous.insert(state["metadata"]["uid"].to_string(), state);
        let of_change = before.map(|before| of_change(before, state)).unwrap_or_default();
        for rule in of_state(state).into_iter().chain(of_change) {
            let (metadata, seen) = (&state["metadata"], &state["status"]);
            let _ =
                writeln!(text, "{rule}: {}, generation {}: {seen}", metadata["name"], metadata["generation"]);
        }
    }
    text
}

/// The rules that one state breaks.
fn of_state(state: &Value) -> Vec<String> {
    let is = |type_, expected| condition(state, type_).is_some_and(|found| found["status"] == expected);
    let status = &state["status"];
    let observed = status["observedGeneration"].as_i64();
    let mut broken = Vec::new();
    let mut rule = |holds: bool, words: &str| {
        if !holds {
            broken.push(words.to_owned());
        }
    };
    rule(observed.is_some(), "observedGeneration is never missing");
    rule(observed <= state["metadata"]["generation"].as_i64(), "what is to come is not observed");
    rule(!(is("Reconciling", "True") && is("Stalled", "True")), "nobody is at work on what is stuck");
    rule(!is("Ready", "True") || !is("Stalled", "True"), "what is ready is not stuck");
    rule(!is("Ready", "True") || !is("Reconciling", "True"), "what is ready is finished");
    rule(observed == Some(-1) || condition(state, "Ready").is_some(), "what was seen is ready or not");
    rule(
        kstatus(state) != Kstatus::Current || is("Ready", "True"),
        "tools take for current only what is ready",
    );
    match argocd::health(state) {
        Ok(health) => rule(health.status.agrees(kstatus(state)), "Argo CD takes it for what kstatus does"),
        Err(error) => rule(false, &format!("{error:#}")),
    }
    for condition in conditions(state) {
        let type_ = condition["type"].as_str().unwrap_or_default();
        let reason = condition["reason"].as_str().unwrap_or_default();
        // A condition that is about something else than the spec, such as the nodes, is about no generation.
        let generation = &condition["observedGeneration"];
        rule(
            generation.is_null() || generation.as_i64() == observed,
            &format!("{type_} is about the generation that the status is about"),
        );
        rule(
            reason.starts_with(|first: char| first.is_ascii_uppercase())
                && reason.chars().all(char::is_alphanumeric),
            &format!("{type_} has a reason in one word"),
        );
        rule(condition["message"] != "", &format!("{type_} has a message"));
    }
    broken
}

/// The rules that the step from one state of an object to the next one breaks.
fn of_change(before: &Value, after: &Value) -> Vec<String> {
    let observed = |state: &Value| state["status"]["observedGeneration"].as_i64();
    let mut broken = Vec::new();
    // A watch that begins anew tells the same state again.
    let is_written = before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"];
    if is_written && content(before) == content(after) {
        broken.push("nothing is written while nothing changes".to_owned());
    }
    if observed(after) < observed(before) {
        broken.push("observedGeneration never goes back".to_owned());
    }
    for now in conditions(after) {
        let type_ = now["type"].as_str().unwrap_or_default();
        let Some(then) = condition(before, type_) else { continue };
        let moved = then["lastTransitionTime"] != now["lastTransitionTime"];
        if moved && then["status"] == now["status"] {
            broken.push(format!("{type_} keeps its time as long as it keeps its status"));
        }
    }
    broken
}

/// An object without what every write changes.
fn content(state: &Value) -> Value {
    let mut content = state.clone();
    if let Some(metadata) = content["metadata"].as_object_mut() {
        metadata.retain(|field, _| field != "resourceVersion" && field != "managedFields");
    }
    content
}

#[cfg(test)]
mod tests {
    use super::violations;
    use serde_json::{Value, json};

    fn state(observed: i64, conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(type_, status)| {
                json!({"type": type_, "status": status, "reason": "Available", "message": "words",
                       "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        json!({"metadata": {"name": "hub", "uid": "1", "generation": 2},
               "status": {"observedGeneration": observed, "conditions": conditions}})
    }

    #[test]
    fn a_good_life_breaks_no_rule() {
        let life = [
            state(-1, &[]),
            state(1, &[("Ready", "False"), ("Reconciling", "True"), ("Stalled", "False")]),
            state(2, &[("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False")]),
        ];
        assert_eq!(violations(&life), "");
    }

    #[test]
    fn each_broken_rule_is_named() {
        let mut late = state(2, &[("Ready", "True")]);
        late["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:01Z");
        let versioned = |version: &str| {
            let mut ready = state(2, &[("Ready", "True")]);
            ready["metadata"]["resourceVersion"] = json!(version);
            ready
        };
        let mut wordless = state(2, &[("Ready", "False")]);
        wordless["status"]["conditions"][0]["reason"] = json!("not one word");
        let mut stale = state(2, &[("Ready", "True")]);
        stale["status"]["conditions"][0]["observedGeneration"] = json!(1);
        for (states, rule) in [
            (vec![json!({"metadata": {"generation": 1}})], "never missing"),
            (vec![json!({"metadata": {"generation": 1}})], "Argo CD"),
            (vec![json!({})], "health.lua"),
            (vec![state(3, &[("Ready", "False")])], "what is to come"),
            (vec![state(2, &[("Ready", "False"), ("Reconciling", "True"), ("Stalled", "True")])], "at work"),
            (vec![state(2, &[("Ready", "True"), ("Stalled", "True")])], "is not stuck"),
            (vec![state(2, &[("Ready", "True"), ("Reconciling", "True")])], "is finished"),
            (vec![state(2, &[])], "ready or not"),
            (vec![wordless], "in one word"),
            (vec![stale], "about the generation"),
            (vec![state(2, &[("Ready", "True")]), state(1, &[("Ready", "True")])], "never goes back"),
            (vec![state(2, &[("Ready", "True")]), late], "keeps its time"),
            (vec![versioned("1"), versioned("2")], "nothing is written"),
        ] {
            let broken = violations(&states);
            assert!(broken.contains(rule), "{rule:?} is not in {broken:?}");
        }
    }
}
