//! Argo CD's view of our objects: the health checks and actions of `docs/gitops/argocd`, run by a Lua 5.1 in the sandbox
//! that Argo CD gives them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use mlua::serde::SerializeOptions;
use mlua::{Lua, LuaOptions, LuaSerdeExt as _, StdLib};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kstatus::Kstatus;

const HEALTH: &str = include_str!("../../docs/gitops/argocd/health.lua");

/// Of the libraries, Argo CD opens three; of `os` it leaves the clock, and that only by `require`.
const SANDBOX: &str = "package.loaded.os = { time = os.time, date = os.date }; os = nil";

/// What `health.lua` says of an object.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Health {
    /// The word that Argo CD shows and goes by.
    pub status: Word,
    /// Why, for people.
    pub message: String,
}

/// The words for health that ours may have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Word {
    /// It is as its spec says.
    Healthy,
    /// Somebody is at work on it.
    Progressing,
    /// It will not get better by itself.
    Degraded,
    /// Nothing is wrong, and nobody is at work on it.
    Suspended,
}

impl Word {
    /// Whether kstatus means the same.
    #[must_use]
    pub fn agrees(self, kstatus: Kstatus) -> bool {
        match kstatus {
            Kstatus::Current => matches!(self, Self::Healthy | Self::Suspended),
            Kstatus::InProgress => matches!(self, Self::Progressing | Self::Suspended),
            Kstatus::Failed => self == Self::Degraded,
            Kstatus::Terminating => self == Self::Progressing,
        }
    }
}

/// A button of Argo CD's.
#[derive(Debug, Deserialize)]
struct Button {
    #[serde(default)]
    disabled: bool,
}

/// The health of an object.
///
/// # Errors
/// When the script fails, or returns what Argo CD does not understand.
pub fn health(object: &Value) -> anyhow::Result<Health> {
    run("health.lua", HEALTH, object)
}

/// The actions that Argo CD offers for an object at present.
///
/// # Errors
/// As [`health`].
pub fn actions(object: &Value) -> anyhow::Result<Vec<String>> {
    let buttons: BTreeMap<String, Button> = run_file(object, "discovery")?;
    Ok(buttons.into_iter().filter(|(_, button)| !button.disabled).map(|(action, _)| action).collect())
}

/// The object as it is after an action; Argo CD patches what differs.
///
/// # Errors
/// As [`health`].
pub fn act(object: &Value, action: &str) -> anyhow::Result<Value> {
    run_file(object, action)
}

/// The directory with the scripts.
#[must_use]
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/gitops/argocd")
}

fn run_file<T: DeserializeOwned>(object: &Value, script: &str) -> anyhow::Result<T> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let path = directory().join(kind).join(format!("{script}.lua"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    run(script, &text, object)
}

fn run<T: DeserializeOwned>(name: &str, script: &str, object: &Value) -> anyhow::Result<T> {
    evaluate(script, object).map_err(|error| anyhow::anyhow!("{name}: {error}"))
}

/// What `script` returns for the global `obj`.
fn evaluate<T: DeserializeOwned>(script: &str, object: &Value) -> mlua::Result<T> {
    let lua = Lua::new_with(StdLib::PACKAGE | StdLib::TABLE | StdLib::OS, LuaOptions::default())?;
    lua.load(SANDBOX).exec()?;
    let as_absent = SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    lua.globals().set("obj", lua.to_value_with(object, as_absent)?)?;
    lua.from_value(lua.load(script).eval()?)
}

#[cfg(test)]
mod tests {
    use super::{Health, Word, act, actions, directory, health};
    use crate::kstatus::{Kstatus, kstatus};
    use crate::recorder::violations;
    use jiff::Timestamp;
    use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
    use operator::api::node_access::NodeAccessStatus;
    use operator::api::registry::Registry;
    use operator::api::status::READY;
    use operator::children::Kind;
    use operator::conditions::Verdict;
    use operator::garbage_collection_policy::dereference as collection;
    use operator::garbage_collection_policy::problem::Problem as PolicyProblem;
    use operator::garbage_collection_policy::status as policy_status;
    use operator::registry::dereference::Found;
    use operator::registry::problem::Problem;
    use operator::registry::status as registry_status;
    use operator::registry::validate::{Defaults, validate};
    use serde_json::{Value, json};
    use std::fmt::Write as _;
    use std::fs;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn merged(mut whole: Value, fields: &Value) -> Value {
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        whole
    }

    /// A Registry as the API server makes it of what a user applies.
    fn fresh_registry(spec: &Value) -> Value {
        let spec = merged(json!({"storage": {"filesystem": {"size": "1Gi"}}, "tls": {"disabled": {}}}), spec);
        json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "spec": spec,
            "metadata": {"name": "hub", "namespace": "team-a", "uid": "1", "generation": 4},
            "status": {"observedGeneration": -1}})
    }

    /// The same after a reconcile that found a Deployment with this status.
    fn registry(spec: &Value, deployment: &Value) -> Value {
        let labels = json!({"windlass.dev/registry": "hub"});
        let mut found = Found { ready_endpoints: 1, ..Found::default() };
        let status =
            json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        let live = [
            (
                Kind::Service,
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub", "labels": labels},
                    "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}}),
            ),
            (
                Kind::Deployment,
                json!({"apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": "hub", "generation": 2, "labels": labels},
                    "spec": {"selector": {}, "template": {}}, "status": merged(status, deployment)}),
            ),
        ];
        for (kind, object) in live {
            found.live.insert(kind, serde_json::from_value(object).unwrap());
        }
        let mut object = fresh_registry(spec);
        let typed: Registry = serde_json::from_value(object.clone()).unwrap();
        let defaults = Defaults {
            server_image: "r/s:1".to_owned(),
            cluster_domain: "c".to_owned(),
            ..Defaults::default()
        };
        let status = match validate(&typed, &found, &defaults, now()) {
            Ok(valid) => {
                let outcome = registry_status::Outcome::Applied(&valid);
                registry_status::status(&typed, outcome, &found, now())
            }
            Err(problem) => {
                let outcome = registry_status::Outcome::Refused(&problem);
                registry_status::status(&typed, outcome, &found, now())
            }
        };
        object["status"] = json!(status);
        object
    }

    /// A policy after a reconcile that came to `problem`.
    fn policy(spec: &Value, problem: Option<&PolicyProblem>) -> Value {
        let spec = merged(json!({"registryRef": {"name": "hub"}, "schedule": "@daily"}), spec);
        let mut object = json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "GarbageCollectionPolicy",
            "metadata": {"name": "nightly", "namespace": "team-a", "uid": "2", "generation": 7}, "spec": spec});
        let typed: GarbageCollectionPolicy = serde_json::from_value(object.clone()).unwrap();
        let found = collection::Found { registries: vec![collected()], ..Default::default() };
        let valid = operator::garbage_collection_policy::validate::validate(&typed, &found, now()).unwrap();
        let status = typed.status.clone().unwrap_or_default();
        let plan = operator::garbage_collection_policy::plan::plan(&valid, &found, &status, None, now());
        let outcome = match problem {
            Some(problem) => policy_status::Outcome::Refused(problem),
            None => policy_status::Outcome::Followed(&valid, &plan),
        };
        object["status"] = json!(policy_status::report(&typed, outcome, None, &found, now()).status);
        object
    }

    /// A Registry that can be collected.
    fn collected() -> collection::Collected {
        let object = |value: Value| serde_json::from_value(value).unwrap();
        collection::Collected {
            registry: serde_json::from_value(fresh_registry(&json!({}))).unwrap(),
            deployment: Some(
                serde_json::from_value(json!({"spec": {"selector": {}, "template": {}}})).unwrap(),
            ),
            claim: Some(object(json!({"spec": {"accessModes": ["ReadWriteMany"]}}))),
            service: None,
            taken_by: None,
        }
    }

    fn with(mut object: Value, pointer: &str, value: Value) -> Value {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        object
    }

    type State = (&'static str, Value, Word, Kstatus);

    /// Each state that the operator gives a Registry, and what Argo CD and kstatus are to take it for.
    fn registries() -> Vec<State> {
        use Word::{Degraded, Healthy, Progressing, Suspended};
        let (none, paused) = (json!({}), json!({"paused": true}));
        let unavailable = json!({"availableReplicas": 0});
        let overdue = json!({"availableReplicas": 0, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        let lost = json!({"auth": {"htpasswdSecretRef": {"name": "users"}}});
        let ready = registry(&none, &none);
        let changed = with(ready.clone(), "/metadata/generation", json!(5));
        let deleted = with(ready.clone(), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
        let metadata = serde_json::from_value(ready["metadata"].clone()).unwrap();
        let problem = Problem::InvalidSpec { message: "x".to_owned() };
        let unreadable = json!(registry_status::unreadable(&metadata, &problem, now()));
        let unreadable = with(ready.clone(), "/status", unreadable);
        let zero = registry(&json!({"replicas": 0}), &none);
        vec![
            ("fresh", fresh_registry(&none), Progressing, Kstatus::InProgress),
            ("starting", registry(&none, &unavailable), Progressing, Kstatus::InProgress),
            ("ready", ready, Healthy, Kstatus::Current),
            ("changed", changed, Progressing, Kstatus::InProgress),
            ("overdue", registry(&none, &overdue), Degraded, Kstatus::Failed),
            ("without its Secret", registry(&lost, &none), Degraded, Kstatus::Failed),
            ("scaled to zero", zero, Suspended, Kstatus::InProgress),
            ("paused", registry(&paused, &none), Suspended, Kstatus::Current),
            ("paused early", registry(&paused, &unavailable), Suspended, Kstatus::InProgress),
            ("paused and stuck", registry(&paused, &overdue), Degraded, Kstatus::Failed),
            ("read-only", registry(&json!({"readOnly": true}), &none), Healthy, Kstatus::Current),
            ("deleted", deleted, Progressing, Kstatus::Terminating),
            ("unreadable", unreadable, Degraded, Kstatus::Failed),
        ]
    }

    /// The same for a policy.
    fn policies() -> Vec<State> {
        use Word::{Degraded, Healthy, Progressing, Suspended};
        let about = |problem: PolicyProblem| policy(&json!({}), Some(&problem));
        let hub = || "hub".to_owned();
        let scheduled = policy(&json!({}), None);
        let metadata = serde_json::from_value(scheduled["metadata"].clone()).unwrap();
        let problem = PolicyProblem::InvalidSpec { message: "x".to_owned() };
        let unreadable = json!(policy_status::unreadable(&metadata, &problem, now()));
        let unreadable = with(scheduled.clone(), "/status", unreadable);
        let lost = about(PolicyProblem::RegistryNotFound { name: hub() });
        let early = about(PolicyProblem::RegistryPending { registry: hub() });
        let of_paused = about(PolicyProblem::RegistryPaused { registry: hub() });
        vec![
            ("scheduled", scheduled, Healthy, Kstatus::Current),
            // A schedule that is suspended in Git must not keep a later wave waiting for ever.
            ("suspended", policy(&json!({"suspend": true}), None), Healthy, Kstatus::Current),
            ("without its Registry", lost, Degraded, Kstatus::Failed),
            ("early", early, Progressing, Kstatus::InProgress),
            ("of a paused Registry", of_paused, Suspended, Kstatus::InProgress),
            ("unreadable", unreadable, Degraded, Kstatus::Failed),
        ]
    }

    /// The same for a node, of which its agent only says whether it is ready.
    fn nodes() -> Vec<State> {
        let node = |is_ready: bool| {
            let condition = Verdict::new(is_ready, "Configured", "words").condition(READY, &[], 1, now());
            let status = NodeAccessStatus {
                observed_generation: 1,
                conditions: vec![condition],
                ..Default::default()
            };
            json!({"kind": "NodeAccess", "metadata": {"name": "node-1", "generation": 1}, "status": status})
        };
        vec![
            ("a node", node(true), Word::Healthy, Kstatus::Current),
            ("a node in need", node(false), Word::Progressing, Kstatus::InProgress),
        ]
    }

    #[test]
    fn each_state_that_the_operator_gives_has_its_health() {
        for (name, object, expected, meaning) in [registries(), policies(), nodes()].concat() {
            let Health { status, message } = health(&object).unwrap();
            assert_eq!((status, kstatus(&object)), (expected, meaning), "{name}: {object}");
            assert!(status.agrees(meaning), "{name}");
            assert!(!message.is_empty(), "{name}");
            assert_eq!(violations(&[object]), "", "{name}");
        }
    }

    #[test]
    fn actions_are_offered_where_they_change_something() {
        let registry = |spec: Value| fresh_registry(&spec);
        let policy = |spec: Value| policy(&spec, None);
        for (object, expected) in [
            (registry(json!({})), vec!["make-read-only", "pause"]),
            (registry(json!({"paused": true})), vec!["make-read-only", "resume"]),
            (registry(json!({"readOnly": true})), vec!["make-writable", "pause"]),
            (policy(json!({})), vec!["run", "suspend"]),
            (policy(json!({"suspend": true})), vec!["resume", "run"]),
        ] {
            assert_eq!(actions(&object).unwrap(), expected, "{object}");
        }
    }

    #[test]
    fn each_action_changes_its_field_and_nothing_else() {
        let spec = json!({"readOnly": true, "paused": true, "hostnames": [], "overrides": {"service": {}}});
        let policy = policy(&json!({"suspend": true, "protect": {"tags": ["^v"]}}), None);
        for (object, action, pointer, expected) in [
            (fresh_registry(&json!({})), "pause", "/spec/paused", json!(true)),
            (fresh_registry(&spec), "resume", "/spec/paused", json!(false)),
            (fresh_registry(&json!({})), "make-read-only", "/spec/readOnly", json!(true)),
            (fresh_registry(&spec), "make-writable", "/spec/readOnly", json!(false)),
            (policy.clone(), "suspend", "/spec/suspend", json!(true)),
            (policy, "resume", "/spec/suspend", json!(false)),
        ] {
            assert_eq!(act(&object, action).unwrap(), with(object, pointer, expected), "{action}");
        }
    }

    #[test]
    fn each_click_asks_for_a_run_of_its_own() {
        let asked = |object: &Value| {
            let changed = act(object, "run").unwrap();
            let request = changed["metadata"]["annotations"]["windlass.dev/run-requested-at"].clone();
            let time: Timestamp = request.as_str().unwrap().parse().unwrap();
            assert!(time.duration_since(Timestamp::now()).abs().as_secs() < 60, "{time}");
            assert_eq!(changed["spec"], object["spec"]);
            changed
        };
        let annotated = with(policy(&json!({}), None), "/metadata/annotations", json!({"a": "b"}));
        assert_eq!(asked(&annotated)["metadata"]["annotations"]["a"], "b");
        asked(&policy(&json!({}), None));
    }

    #[test]
    fn the_config_map_holds_the_scripts() {
        let file = directory().join("argocd-cm.yaml");
        let expected = config_map();
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&file, &expected).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == expected, "{} is out of date; run: UPDATE_GENERATED=1 cargo test", file.display());
        let parsed: Value = serde_yaml::from_str(&found).unwrap();
        let data = parsed["data"].as_object().unwrap();
        assert_eq!(data.len(), 5);
        let actions = data["resource.customizations.actions.windlass.dev_Registry"].as_str().unwrap();
        let actions: Value = serde_yaml::from_str(actions).unwrap();
        assert_eq!(actions["definitions"][0]["name"], "make-read-only");
        let action = fs::read_to_string(directory().join("Registry/make-read-only.lua")).unwrap();
        assert_eq!(actions["definitions"][0]["action.lua"], action);
    }

    /// The scripts in the form in which Argo CD takes them.
    fn config_map() -> String {
        let read = |path: &str| fs::read_to_string(directory().join(path)).unwrap();
        let mut text = "\
# Generated from the scripts beside it by `make generate`; do not edit. Merge it into what is there:
# kubectl patch configmap argocd-cm --namespace argocd --patch-file argocd-cm.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
data:
"
        .to_owned();
        for kind in ["Registry", "GarbageCollectionPolicy", "NodeAccess"] {
            let health = indented(4, &read("health.lua"));
            let _ = write!(text, "  resource.customizations.health.windlass.dev_{kind}: |\n{health}");
        }
        for kind in ["Registry", "GarbageCollectionPolicy"] {
            let discovery = indented(6, &read(&format!("{kind}/discovery.lua")));
            let _ = writeln!(text, "  resource.customizations.actions.windlass.dev_{kind}: |");
            let _ = write!(text, "    discovery.lua: |\n{discovery}    definitions:\n");
            for action in scripts(kind) {
                let script = indented(8, &read(&format!("{kind}/{action}.lua")));
                let _ = write!(text, "    - name: {action}\n      action.lua: |\n{script}");
            }
        }
        text
    }

    fn scripts(kind: &str) -> Vec<String> {
        let files = fs::read_dir(directory().join(kind)).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> =
            files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.retain(|name| name != "discovery");
        names.sort();
        names
    }

    fn indented(width: usize, text: &str) -> String {
        text.lines().fold(String::new(), |mut whole, line| {
            let space = if line.is_empty() { 0 } else { width };
            let _ = writeln!(whole, "{:space$}{line}", "");
            whole
        })
    }
}
