//! The pure steps together: from what is found to what is written and told.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::DynamicObject;
use registry_server::auth::pull_secrets;
use serde_json::{Value, json};

use super::build::{Built, amendments, build, orphans};
use super::dereference::Found;
use super::status::{Outcome, told};
use super::validate::{Problem, Valid, validate};
use crate::api::pull_access::{FailingNamespace, PullAccessStatus};
use crate::api::registry::Registry;
use crate::children::Kind;
use crate::registries::{News, Registries};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn registry(pull_access: &Value) -> Registry {
    let spec = json!({"storage": {"filesystem": {"size": "1Gi"}}, "hostnames": ["images.example"],
        "auth": {"htpasswdSecretRef": {"name": "users"}}, "pullAccess": pull_access});
    let metadata = json!({"name": "hub", "namespace": "team-a", "uid": "1", "generation": 3});
    serde_json::from_value(json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry",
        "metadata": metadata, "spec": spec}))
    .unwrap()
}

fn everywhere() -> Value {
    json!({"namespaceSelector": {}})
}

struct Cluster {
    registries: Vec<Registry>,
    unreadable: BTreeSet<String>,
    found: Found,
}

/// A cluster with one Registry, namespaces `shop` and `bank`, and `old`, which is about to go.
fn cluster(pull_access: &Value) -> Cluster {
    let namespace = |name: &str, extra: Value| {
        let mut metadata = json!({"name": name, "labels": {"kubernetes.io/metadata.name": name}});
        metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    };
    let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    let found = Found {
        namespaces: Some(vec![
            namespace("shop", json!({})),
            namespace("bank", json!({})),
            namespace("old", gone),
        ]),
        policies: Some(Vec::new()),
        ..Found::default()
    };
    Cluster { registries: vec![registry(pull_access)], unreadable: BTreeSet::new(), found }
}

fn valid<'a>(cluster: &'a Cluster, watched: &[&str], now: Timestamp) -> Valid<'a> {
    let watched: Vec<String> = watched.iter().map(|name| (*name).to_owned()).collect();
    let readable = cluster.registries.iter().collect();
    let registries = Registries { readable, unreadable: cluster.unreadable.clone() };
    validate(&registries, &cluster.found, &watched, "cluster.local", now).unwrap()
}

fn built(cluster: &Cluster, now: Timestamp) -> Built {
    build(&valid(cluster, &[], now).accesses[0], &cluster.found, now)
}

/// The text under `key` of a Secret.
fn text(secret: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}

/// The hosts and the passwords of a pull secret.
fn credentials(secret: &Value) -> BTreeMap<String, String> {
    let config: Value = serde_json::from_str(&text(secret, ".dockerconfigjson")).unwrap();
    let entries = config["auths"].as_object().unwrap().iter();
    let password = |entry: &Value| {
        let both = String::from_utf8(STANDARD.decode(entry["auth"].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(both, format!("pull:{}", entry["password"].as_str().unwrap()));
        entry["password"].as_str().unwrap().to_owned()
    };
    entries.map(|(host, entry)| (host.clone(), password(entry))).collect()
}

#[test]
fn a_selector_chooses_namespaces_that_stay_and_that_are_watched() {
    let labelled =
        |name: &str| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    let not_shop = json!({"namespaceSelector": {"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["shop"]}]}});
    for (pull_access, watched, selected, unwatched) in [
        (everywhere(), &[][..], &["bank", "shop"][..], &[][..]),
        (labelled("shop"), &[], &["shop"], &[]),
        (labelled("old"), &[], &[], &[]),
        (not_shop, &[], &["bank"], &[]),
        (everywhere(), &["team-a", "shop"], &["shop"], &["bank"]),
    ] {
        let cluster = cluster(&pull_access);
        let access = valid(&cluster, watched, now()).accesses.remove(0);
        assert_eq!(access.selected.unwrap(), selected, "{pull_access}");
        assert_eq!(access.unwatched, unwatched, "{pull_access}");
        assert_eq!(access.problem, None);
    }
}

#[test]
fn what_cannot_be_done_is_told_and_leaves_what_is_there() {
    let unknown = json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}});
    let mut hidden = cluster(&everywhere());
    hidden.found.namespaces = None;
    for (cluster, expected) in [(hidden, "NamespacesUnreadable"), (cluster(&unknown), "InvalidSpec")] {
        let valid = valid(&cluster, &[], now());
        assert_eq!(valid.accesses[0].problem.as_ref().unwrap().reason().to_string(), expected);
        assert!(valid.leaves_alone("team-a", "hub"));
        // The server cannot start without its file; nobody is let in by it.
        let built = build(&valid.accesses[0], &cluster.found, now());
        assert_eq!(text(&built.own[1].object, "pull-secrets"), "");
        assert_eq!(built.secrets, []);
    }
    let pods = json!({"namespaceSelector": {}, "attach": "Pods"});
    let mut old = cluster(&pods);
    old.found.policies = None;
    let access = valid(&old, &[], now()).accesses.remove(0);
    assert_eq!(access.problem, Some(Problem::PolicyUnsupported));
    assert_eq!(build(&access, &old.found, now()).secrets.len(), 2, "the Secrets are of use without a policy");
}

#[test]
fn the_server_knows_the_password_of_each_secret() {
    let every_hour = json!({"namespaceSelector": {}, "rotateEvery": "1h"});
    let mut cluster = cluster(&every_hour);
    let mut passwords = BTreeSet::new();
    for minutes in [0, 61, 71, 81, 121] {
        let now = now() + SignedDuration::from_mins(minutes);
        let built = built(&cluster, now);
        let file = text(&built.own[1].object, "pull-secrets");
        let kept = built.own[0].object.clone();
        cluster.found.secrets = vec![serde_json::from_value(kept).unwrap()];
        for (namespace, child) in &built.secrets {
            let credentials = credentials(&child.object);
            let hosts: Vec<&str> = credentials.keys().map(String::as_str).collect();
            let expected = [
                "hub.team-a.svc.cluster.local:5000",
                "hub.team-a.svc:5000",
                "hub.team-a:5000",
                "hub:5000",
                "images.example",
                "images.example:5000",
            ];
            assert_eq!(hosts, expected);
            for password in credentials.values() {
                assert!(file.contains(&pull_secrets::line(namespace, password)), "{minutes} {namespace}");
                assert!(!file.contains(password));
                passwords.insert(password.clone());
            }
        }
    }
    assert_eq!(passwords.len(), 4, "two namespaces, and one exchange");
}

#[test]
fn a_server_that_has_not_been_told_of_the_file_is_told() {
    let mut cluster = cluster(&everywhere());
    cluster.found.secrets =
        vec![serde_json::from_value(built(&cluster, now()).own[0].object.clone()).unwrap()];
    let hash = built(&cluster, now()).outdated.1;
    let pod = |name: &str, registry: &str, known: &str| {
        let annotations = json!({"windlass.dev/pull-credentials": known});
        let metadata = json!({"name": name, "namespace": "team-a", "annotations": annotations,
            "labels": {"windlass.dev/registry": registry}});
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    };
    cluster.found.servers =
        vec![pod("knows", "hub", &hash), pod("waits", "hub", "0"), pod("other", "other", "0")];
    assert_eq!(built(&cluster, now()).outdated, (vec!["waits".to_owned()], hash));
}

/// What an account lists, and which of it is ours; what is wanted; what becomes of both, if anything.
type Row<'a> = (&'a [&'a str], Option<&'a str>, &'a [&'a str], Option<(&'a [&'a str], Option<&'a str>)>);

fn account(list: &[&str], mark: Option<&str>) -> ServiceAccount {
    let list: Vec<Value> = list.iter().map(|name| json!({ "name": name })).collect();
    let annotations = json!({"windlass.dev/attached-pull-secrets": mark, "other": "stays"});
    let annotations: Value = annotations
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let metadata =
        json!({"name": "default", "namespace": "shop", "resourceVersion": "7", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "imagePullSecrets": list})).unwrap()
}

#[test]
fn accounts_name_our_secrets_beside_those_of_others() {
    let (hub, two) = ("hub.team-a.pull", "two.team-a.pull");
    let frozen = "frozen.team-a.pull";
    let rows: [Row<'_>; 13] = [
        (&[], None, &[hub], Some((&[hub], Some(hub)))),
        (&["mine"], None, &[hub], Some((&["mine", hub], Some(hub)))),
        (&["mine", hub], Some(hub), &[hub], None),
        (&["mine", hub, "last"], Some(hub), &[], Some((&["mine", "last"], None))),
        (&[hub], Some(hub), &[], Some((&[], None))),
        // Two Registries, and one that goes.
        (&[hub], Some(hub), &[hub, two], Some((&[hub, two], Some("hub.team-a.pull,two.team-a.pull")))),
        (&[two, hub], Some("hub.team-a.pull,two.team-a.pull"), &[two], Some((&[two], Some(two)))),
        // Somebody has taken it out: it comes back.
        (&["mine"], Some(hub), &[hub], Some((&["mine", hub], Some(hub)))),
        // What a user has put there is the user's, whatever it is called.
        (&[hub], None, &[hub], None),
        (&[hub], None, &[], None),
        (&["gone.team-a.pull"], None, &[], None),
        // Nothing is known of what this one asks for.
        (&[frozen, hub], Some("frozen.team-a.pull,hub.team-a.pull"), &[], Some((&[frozen], Some(frozen)))),
        (&["mine"], None, &[], None),
    ];
    for (list, mark, wanted, expected) in rows {
        let written = wanted.iter().map(|name| ("shop".to_owned(), (*name).to_owned())).collect();
        let is_left_alone = |namespace: &str, registry: &str| (namespace, registry) == ("team-a", "frozen");
        let changes = amendments(&[account(list, mark)], &written, is_left_alone);
        let expected = expected.map(|(list, mark)| {
            let list: Vec<Value> = list.iter().map(|name| json!({ "name": name })).collect();
            let list = if list.is_empty() { Value::Null } else { list.into() };
            json!({"metadata": {"annotations": {"windlass.dev/attached-pull-secrets": mark}}, "imagePullSecrets": list})
        });
        let changes: Vec<Value> = changes.into_iter().map(|change| change.fields).collect();
        assert_eq!(changes, expected.into_iter().collect::<Vec<_>>(), "{list:?} {mark:?} {wanted:?}");
    }
    let elsewhere = BTreeSet::from([("bank".to_owned(), hub.to_owned())]);
    assert_eq!(amendments(&[account(&[], None)], &elsewhere, |_, _| false), []);
}

fn ours(name: &str, namespace: &str, registry: &str) -> DynamicObject {
    let labels =
        json!({"windlass.dev/pull-registry": registry, "windlass.dev/pull-registry-namespace": "team-a"});
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).unwrap()
}

#[test]
fn what_nobody_asks_for_any_more_goes() {
    let shop = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}});
    let mut cluster = cluster(&shop);
    cluster.found.secrets = vec![
        ours("hub-pull-seeds", "team-a", "hub"),
        ours("hub.team-a.pull", "shop", "hub"),
        ours("hub.team-a.pull", "bank", "hub"),
        ours("gone.team-a.pull", "shop", "gone"),
        ours("broken.team-a.pull", "shop", "broken"),
    ];
    cluster.unreadable = BTreeSet::from(["team-a/broken".to_owned()]);
    let removed = |cluster: &Cluster| {
        let (valid, found) = (valid(cluster, &[], now()), &cluster.found);
        let built: Vec<Built> = valid.accesses.iter().map(|access| build(access, found, now())).collect();
        let left_alone = |namespace: &str, registry: &str| valid.leaves_alone(namespace, registry);
        let orphans = orphans(found, &valid, &built, left_alone);
        let place = |object: &DynamicObject| object.metadata.namespace.clone().unwrap_or_default();
        orphans.iter().map(|((_, name), object)| format!("{} {name}", place(object))).collect::<Vec<_>>()
    };
    assert_eq!(removed(&cluster), ["bank hub.team-a.pull", "shop gone.team-a.pull"]);
    cluster.registries[0].spec.paused = true;
    assert_eq!(removed(&cluster), ["shop gone.team-a.pull"]);
    cluster.registries.clear();
    assert_eq!(removed(&cluster).len(), 4);
}

#[test]
fn a_policy_is_there_while_it_is_asked_for() {
    let pods = cluster(&json!({"namespaceSelector": {}, "attach": "Pods"}));
    let kinds: Vec<Kind> = built(&pods, now()).policies.iter().map(|child| child.key.0).collect();
    assert_eq!(kinds, Kind::OF_POLICY);
    assert!(built(&cluster(&everywhere()), now()).policies.is_empty());
}

#[test]
fn the_status_tells_how_many_can_pull_and_what_the_others_lack() {
    let failing = |count: usize| -> Vec<FailingNamespace> {
        let one = |number| FailingNamespace {
            namespace: format!("n{number:02}"),
            reason: "Rejected".to_owned(),
            message: "exceeded quota".to_owned(),
        };
        (0..count).rev().map(one).collect()
    };
    let written: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    let taken = Problem::NameTaken { name: "hub-pull-seeds".to_owned() };
    for (failures, problem, expected, shown) in [
        (0, None, "True Available: 2 namespaces have a pull secret", 0),
        (
            12,
            None,
            "False Rejected: 12 of the selected namespaces cannot pull as was asked for, the first is n00: exceeded quota",
            10,
        ),
        (1, Some(taken), "False NameTaken: Secret hub-pull-seeds exists and is not this Registry's", 1),
    ] {
        let outcome = Outcome { written: written.clone(), failing: failing(failures), problem };
        let News { verdict, field } = told(&outcome, 0);
        let words = format!("{} {}: {}", verdict.status, verdict.reason, verdict.message);
        assert!(words.starts_with(expected), "{words}");
        let part: PullAccessStatus = serde_json::from_value(field).unwrap();
        assert_eq!((part.namespaces, part.failing.len()), (2, shown));
    }
}
