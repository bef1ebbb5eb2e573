//! Files that are made from the types: `UPDATE_GENERATED=1 cargo test` rewrites them, a plain test run compares.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::api::garbage_collection_status::GarbageCollectionReason;
use operator::api::registry::Registry;
use operator::api::status::Reason;
use schemars::JsonSchema;
use serde_json::Value;

/// Fields that are as in a Pod; their own fields are left to Kubernetes' documentation.
const OF_PODS: [&str; 3] = ["spec.affinity", "spec.tolerations", "spec.topologySpreadConstraints"];

const REGISTRY_INTRODUCTION: &str = "\
# Registry

<!-- Generated from operator/src/api by `make generate`; do not edit. -->

A `Registry` (`windlass.dev/v1alpha1`, short name `reg`) is an OCI registry of its namespace: a server, its volume, its
certificate and its Service. This is the smallest one; [the quickstart](quickstart.md) uses a larger one.

```yaml
apiVersion: windlass.dev/v1alpha1
kind: Registry
metadata:
  name: registry
spec:
  storage:
    filesystem:
      size: 20Gi
```

The operator never writes the spec. A field that is not set has the default given here; a rule that is broken is told by
the API server at once. `kubectl explain registry.spec` shows the same fields.
";

const REGISTRY_STATUS: &str = "
## Status

The status follows kstatus, so `kubectl wait --for=condition=Ready registry/NAME`, Flux and others understand it. It holds
no value that changes by itself.

- `Ready`: the whole spec is in effect and the registry answers.
- `Reconciling`: work is under way.
- `Stalled`: nothing will get better until somebody changes something; the message says what.
- `StorageReady`: the volume is there.
- `TLSReady`: the certificate is there and valid.
- `NodeAccessReady`, only where `spec.nodeAccess` asks for it: every node of the cluster pulls from the registry. `Ready`
  does not wait for it: a broken node is no fault of the Registry's. See [node access](node-access.md).
- `PullAccessReady`: all selected namespaces have their pull secret. It is there only while `spec.pullAccess` is.
- `Advertised`, only where `spec.advertise` asks for it: tools find the registry as [that of the
  cluster](node-access.md#tools-that-look-for-the-registry-of-the-cluster). There is place for one, so `Ready` does not wait for it either.

";

const REASONS: &str = "
## Reasons

The reason of a condition is one of these words. They are part of the API: tools may match them. The same word is the
reason of the Event that tells of a change.

| reason | meaning |
| --- | --- |
";

const REGISTRY_OBJECTS: &str = "
## Objects

For a Registry `NAME` the operator keeps these objects in its namespace. What it sets in them is restored within seconds
when somebody changes it; use `spec.overrides` to change it for good.

| object | what it is |
| --- | --- |
| Deployment `NAME` | the servers |
| Service `NAME` | port 5000 |
| ServiceAccount `NAME` | an identity without rights |
| RoleBinding `NAME-access-review` | with `auth.kubernetes.subjectAccessReview`: lets the servers ask who may do what in the namespace, the one right that they have |
| ConfigMap `NAME-config` | the server's `config.yml` |
| PersistentVolumeClaim `NAME-data` | the images; kept when the Registry is deleted, unless `deletionPolicy` is `Delete` |
| Secret `NAME-tls` | with `tls.selfSigned`: certificate, key, and in `ca.crt` what clients have to trust. Delete it to get a new certificate |
| Secret `NAME-ca` | with `tls.selfSigned`: the key of the certificate authority. Delete it to get a new authority; the old one stays in `ca.crt` until it ends |
| Secret `NAME-pull-seeds` | with `pullAccess`: what the passwords of pull secrets are made from. Delete it to exchange them all at once |
| Secret `NAME-pull-credentials` | with `pullAccess`: hashes of these passwords; [what lies in other namespaces](access.md#what-is-written-where) |
";

const POLICY_INTRODUCTION: &str = "\
# GarbageCollectionPolicy

<!-- Generated from operator/src/api by `make generate`; do not edit. -->

A `GarbageCollectionPolicy` (`windlass.dev/v1alpha1`, short name `gcpol`) says when the registries of its namespace are
collected, and what is kept. [Garbage collection](garbage-collection.md) explains how to use it. This is the smallest one:

```yaml
apiVersion: windlass.dev/v1alpha1
kind: GarbageCollectionPolicy
metadata:
  name: nightly
spec:
  registryRef:
    name: registry
  schedule: 0 3 * * *
```

The operator never writes the spec. A field that is not set has the default given here; a rule that is broken is told by
the API server at once, a time zone or a pattern that cannot be read by the condition `Stalled`.
`kubectl explain gcpol.spec` shows the same fields.

The annotation `windlass.dev/run-requested-at` asks for a run now. Each new value gives one:
`kubectl annotate --overwrite gcpol NAME windlass.dev/run-requested-at=\"$(date)\"`.
";

const POLICY_STATUS: &str = "
## Status

The status follows kstatus. It holds no value that changes by itself.

- `Ready`: the policy can be followed, for all its registries.
- `Reconciling`: a registry has no server yet.
- `Stalled`: nothing will get better until somebody changes something; the message says what.
- `LastRunSucceeded`: the last run of every registry came to a good end; the message of a failure says why.
- `WorkloadsProtected`: the last run knew all images that workloads use. Without, it touched nothing tagged.

";

const POLICY_OBJECTS: &str = "
## Objects

For each run of a policy over a Registry `NAME` the operator makes, in the same namespace:

| object | what it is |
| --- | --- |
| Job `NAME-gc-HASH` | the run. It has no rights in the cluster; the same run has the same name, so that none begins twice. `spec.history` says how many are kept |
| ConfigMap `NAME-gc-HASH` | `protect.yml`, the images that workloads used when the run began, and `retention.yml`, the rules; it goes with the Job |
";

fn check(file: &str, expected: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is out of date; run: make generate");
}

#[test]
fn the_crds_are_those_of_the_types() {
    for crd in operator::api::crds() {
        let names = &crd.spec.names;
        let yaml = serde_yaml::to_string(&crd).unwrap();
        check(&format!("crds/{}_{}.yaml", crd.spec.group, names.plural), &yaml);
    }
}

#[test]
fn the_page_of_the_registry_is_that_of_the_types() {
    let texts = [REGISTRY_INTRODUCTION, REGISTRY_STATUS, REGISTRY_OBJECTS];
    check("docs/registry.md", &page::<Reason>(&Registry::crd(), texts));
}

#[test]
fn the_page_of_the_policy_is_that_of_the_types() {
    let texts = [POLICY_INTRODUCTION, POLICY_STATUS, POLICY_OBJECTS];
    let page = page::<GarbageCollectionReason>(&GarbageCollectionPolicy::crd(), texts);
    check("docs/garbage-collection-policy.md", &page);
}

/// The reference page of a resource: what a spec and a status may hold, the reasons, and the texts between them.
fn page<Reasons: JsonSchema>(crd: &CustomResourceDefinition, texts: [&str; 3]) -> String {
    let [introduction, about_status, objects] = texts;
    let crd = serde_json::to_value(crd).unwrap();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
    let mut page = format!("{introduction}\n## Spec\n\n");
    fields(&mut page, "spec", &schema["spec"]);
    page += about_status;
    fields(&mut page, "status", &schema["status"]);
    page += REASONS;
    for reason in schemars::schema_for!(Reasons).get("oneOf").unwrap().as_array().unwrap() {
        let meaning = one_line(reason["description"].as_str().unwrap());
        writeln!(page, "| `{}` | {meaning} |", reason["const"].as_str().unwrap()).unwrap();
    }
    page + objects
}

/// A table of the fields of `schema`, then one of each field's own.
fn fields(page: &mut String, path: &str, schema: &Value) {
    let properties = schema["properties"].as_object().unwrap();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    page.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
    for (name, field) in properties {
        let need = if required.contains(&name.as_str()) { " Required." } else { "" };
        let (kind, meaning) = (kind(field), meaning(field));
        writeln!(page, "| `{name}` | {kind} | {meaning}{need} |").unwrap();
    }
    let rules = rules(schema);
    if !rules.is_empty() {
        page.push_str("\nRules:\n\n");
    }
    for rule in rules {
        writeln!(page, "- {rule}").unwrap();
    }
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        let is_list = field["type"] == "array";
        let inner = if is_list { &field["items"] } else { field };
        if inner
            .get("properties")
            .is_some_and(|inner| inner.as_object().is_some_and(|inner| !inner.is_empty()))
            && !OF_PODS.contains(&path.as_str())
            && path != "status.conditions"
        {
            let path = if is_list { format!("{path}[]") } else { path };
            writeln!(page, "\n### {path}\n").unwrap();
            fields(page, &path, inner);
        }
    }
}

fn kind(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        let values = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`"));
        return values.collect::<Vec<_>>().join(" or ");
    }
    match field["type"].as_str().unwrap_or("value") {
        "array" => format!("list of {}", kind(&field["items"])),
        "object" if field.get("additionalProperties").is_some() => "map".to_owned(),
        other => other.to_owned(),
    }
}

fn meaning(field: &Value) -> String {
    let mut meaning = one_line(field["description"].as_str().unwrap_or_default());
    if let Some(default) = field.get("default").filter(|default| !default.is_null()) {
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        if !meaning.contains("Default: ") {
            write!(meaning, " Default: `{default}`.").unwrap();
        }
    }
    for (key, words) in [("minimum", "at least"), ("maximum", "at most")] {
        if let Some(bound) = field[key].as_f64() {
            write!(meaning, " Must be {words} {bound}.").unwrap();
        }
    }
    let is_leaf = field.get("properties").is_none();
    for rule in rules(field).iter().filter(|_| is_leaf) {
        write!(meaning, " Rule: {rule}.").unwrap();
    }
    meaning
}

/// The messages of the rules of `schema`.
fn rules(schema: &Value) -> Vec<&str> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["message"].as_str()).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
