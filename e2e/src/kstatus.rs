//! kstatus, by which Flux and others read the state of any object.
//!
//! The rules are those of `pkg/kstatus/status` in kubernetes-sigs/cli-utils.

use serde_json::Value;

/// What tools take an object for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kstatus {
    /// It is as its spec says.
    Current,
    /// Somebody is at work on it.
    InProgress,
    /// It will not get better by itself.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// The state of a custom resource, as kstatus reads it.
#[must_use]
pub fn kstatus(object: &Value) -> Kstatus {
    let is = |type_, expected| condition(object, type_).is_some_and(|found| found["status"] == expected);
    let observed = &object["status"]["observedGeneration"];
    let is_late = !observed.is_null() && *observed != object["metadata"]["generation"];
    if !object["metadata"]["deletionTimestamp"].is_null() {
        Kstatus::Terminating
    } else if is_late || is("Reconciling", "True") {
        Kstatus::InProgress
    } else if is("Stalled", "True") {
        Kstatus::Failed
    } else if condition(object, "Ready").is_some() && !is("Ready", "True") {
        Kstatus::InProgress
    } else {
        Kstatus::Current
    }
}

/// Its conditions.
pub(crate) fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// Its condition of this type.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    conditions(object).find(|condition| condition["type"] == type_)
}

#[cfg(test)]
mod tests {
    use super::{Kstatus, kstatus};
    use serde_json::{Value, json};

    fn state(observed: i64, conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|(type_, status)| json!({"type": type_, "status": status})).collect();
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}})
    }

    #[test]
    fn objects_are_read_as_tools_read_them() {
        for (object, expected) in [
            (json!({"metadata": {"generation": 1}}), Kstatus::Current),
            (json!({"metadata": {"generation": 1, "deletionTimestamp": "now"}}), Kstatus::Terminating),
            (state(-1, &[]), Kstatus::InProgress),
            (state(1, &[("Ready", "True")]), Kstatus::InProgress),
            (state(2, &[("Ready", "True")]), Kstatus::Current),
            (state(2, &[("Ready", "False")]), Kstatus::InProgress),
            (state(2, &[("Ready", "False"), ("Stalled", "True")]), Kstatus::Failed),
            (state(2, &[("Ready", "False"), ("Reconciling", "True")]), Kstatus::InProgress),
        ] {
            assert_eq!(kstatus(&object), expected, "{object}");
        }
    }
}
