//! What a Registry becomes, as reviewable text: each `tests/golden/<case>.yaml` is a Registry, each `<case>.out.yaml` the
//! objects that it leads to. `tests/golden/policies/<case>.yaml` is a policy for the Registry `<case>`, its `.out.yaml` a
//! run. `UPDATE_GENERATED=1 cargo test` rewrites the outputs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use operator::api::garbage_collection_policy::GarbageCollectionPolicy;
use operator::api::registry::Registry;
use operator::children::{Child, Kind};
use operator::garbage_collection_policy;
use operator::garbage_collection_policy::dereference::{self as garbage_collection, Collected};
use operator::node_access;
use operator::node_access::distribution::Distribution;
use operator::node_access::settings::{Agent, Settings};
use operator::node_access::validate::Stage;
use operator::registry::build::{Built, build};
use operator::registry::dereference::{Found, TokenIssuer};
use operator::registry::validate::{Defaults, validate};
use registry_server::cli::Cli;
use registry_server::config::{ProtectedImage, Protection};
use serde_json::json;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn defaults() -> Defaults {
    Defaults {
        server_image: "registry.local/server:1".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        access_review_role: Some("windlass-access-review".to_owned()),
    }
}

/// A cluster in which the Service has an address and all Secrets and claims that the Registry names are in order.
fn cluster(registry: &Registry) -> Found {
    let mut found = Found::default();
    let owner =
        json!([{"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "name": "hub", "uid": "1"}]);
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "hub", "namespace": "team-a", "ownerReferences": owner},
        "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}});
    found.live.insert(Kind::Service, serde_json::from_value(service).unwrap());
    if registry.spec.storage.filesystem.existing_claim.is_some() {
        let claim = json!({"metadata": {"name": "images"}, "spec": {"accessModes": ["ReadWriteMany"]}});
        found.existing_claim = Some(serde_json::from_value(claim).unwrap());
    }
    let users = "YWRhOiQyeSQwNSRhYmNkZWZnaGlqa2xtbm9wcXJzdHV1RExxS3FPU3hPVFE1d0wzbEpqTWhCQll" // ada
        .to_owned()
        + "sOUo5bVhPSwo=";
    let htpasswd = json!({"metadata": {"name": "users"}, "data": {"htpasswd": users}});
    found.htpasswd = Some(serde_json::from_value(htpasswd).unwrap());
    if registry.spec.auth.as_ref().is_some_and(|auth| auth.kubernetes.is_some()) {
        let (issuer, jwks) = ("https://kubernetes.default.svc".to_owned(), r#"{"keys":[]}"#.to_owned());
        found.token_issuer = Some(TokenIssuer { issuer, jwks });
    }
    found
}

fn cases() -> Vec<PathBuf> {
    cases_in("tests/golden")
}

fn cases_in(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> =
        files.filter(|path| path.is_file() && !path.to_str().unwrap().ends_with(".out.yaml")).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn read(case: &Path) -> Registry {
    serde_yaml::from_str(&fs::read_to_string(case).unwrap()).unwrap()
}

/// The objects as YAML; keys and certificates, which are new in each run, are left out.
fn text(built: &Built) -> String {
    let documents = built.children.iter().map(|Child { key, object }| {
        let mut object = object.clone();
        if key.0 == Kind::Secret {
            for value in object["data"].as_object_mut().unwrap().values_mut() {
                *value = json!("...");
            }
        }
        format!("---\n{}", serde_yaml::to_string(&object).unwrap())
    });
    documents.collect()
}

#[test]
fn each_registry_becomes_the_objects_of_its_golden_file() {
    for case in cases() {
        let registry = read(&case);
        let found = cluster(&registry);
        let valid = validate(&registry, &found, &defaults(), now()).unwrap();
        assert_eq!(valid.problems, [], "{}", case.display());
        check(&case, &text(&build(&valid)));
    }
}

fn check(case: &Path, built: &str) {
    let golden = case.with_extension("out.yaml");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&golden, built).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert!(built == expected, "{} is out of date; run: UPDATE_GENERATED=1 cargo test", golden.display());
}

/// The Job and the `ConfigMap` of the run that the policy `case` begins over the Registry of the same name.
fn run(case: &Path) -> Built {
    let registry = read(&case.parent().unwrap().with_file_name(case.file_name().unwrap()));
    let children = build(&validate(&registry, &cluster(&registry), &defaults(), now()).unwrap()).children;
    let child =
        |kind: Kind| children.iter().find(|child| child.key.0 == kind).map(|child| child.object.clone());
    let claim = json!({"spec": {"accessModes": ["ReadWriteMany"]}});
    let collected = Collected {
        registry,
        deployment: Some(serde_json::from_value(child(Kind::Deployment).unwrap()).unwrap()),
        claim: Some(serde_json::from_value(child(Kind::PersistentVolumeClaim).unwrap_or(claim)).unwrap()),
        service: None,
        taken_by: None,
    };
    let found = garbage_collection::Found { registries: vec![collected], ..Default::default() };
    let policy: GarbageCollectionPolicy = serde_yaml::from_str(&fs::read_to_string(case).unwrap()).unwrap();
    let valid = garbage_collection_policy::validate::validate(&policy, &found, now()).unwrap();
    assert_eq!(valid.problems, [], "{}", case.display());
    let job = garbage_collection_policy::build::job(&valid, &valid.targets[0], "hub-gc-1", now());
    let owner = OwnerReference {
        kind: "Job".to_owned(),
        name: "hub-gc-1".to_owned(),
        uid: "8".to_owned(),
        ..Default::default()
    };
    let used = ProtectedImage { image: "team/app:v1".to_owned(), by: "Deployment shop/web".to_owned() };
    let protection =
        Protection { images: vec![used], tags: policy.spec.protect.tags.clone(), ..Protection::default() };
    let (config_map, fits) =
        garbage_collection_policy::build::config_map(&valid, &valid.targets[0], owner, &protection);
    assert!(fits);
    Built { children: vec![job, config_map], complete: true }
}

fn policies() -> Vec<PathBuf> {
    cases_in("tests/golden/policies")
}

#[test]
fn each_policy_becomes_the_run_of_its_golden_file() {
    for case in policies() {
        check(&case, &text(&run(&case)));
    }
}

#[test]
fn a_run_has_the_servers_pod_without_what_would_keep_it_from_ending() {
    for case in policies() {
        let job = run(&case).children.remove(0).object;
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        for absent in ["livenessProbe", "readinessProbe", "startupProbe", "ports"] {
            assert_eq!(container.get(absent), None, "{absent}");
        }
        // The Service must not send pulls to it.
        assert_ne!(
            job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"],
            "windlass-registry"
        );
    }
}

#[test]
fn the_server_understands_the_command_line_of_every_run() {
    for case in policies() {
        let job = run(&case).children.remove(0).object;
        let arguments = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        let parsed = Cli::try_parse_from(std::iter::once("registry-server").chain(arguments));
        let parsed = format!("{:?}", parsed.unwrap());
        let is_dry = serde_yaml::from_str::<GarbageCollectionPolicy>(&fs::read_to_string(&case).unwrap());
        let expected = format!("dry_run: {}", is_dry.unwrap().spec.dry_run);
        assert!(parsed.contains("GarbageCollect") && parsed.contains(&expected), "{parsed}");
    }
}

#[test]
fn images_that_do_not_fit_are_not_cut_off_but_declared_unknown() {
    let case = policies().remove(0);
    let registry = read(&case.parent().unwrap().with_file_name(case.file_name().unwrap()));
    let collected = Collected {
        registry,
        deployment: Some(serde_json::from_value(json!({"spec": {"selector": {}, "template": {}}})).unwrap()),
        claim: Some(serde_json::from_value(json!({"spec": {"accessModes": ["ReadWriteMany"]}})).unwrap()),
        service: None,
        taken_by: None,
    };
    let found = garbage_collection::Found { registries: vec![collected], ..Default::default() };
    let policy: GarbageCollectionPolicy = serde_yaml::from_str(&fs::read_to_string(&case).unwrap()).unwrap();
    let valid = garbage_collection_policy::validate::validate(&policy, &found, now()).unwrap();
    let image = |number: usize| ProtectedImage {
        image: format!("team/app-{number}:{}", "v".repeat(100)),
        by: "Deployment shop/web".to_owned(),
    };
    for (count, expected) in [(1000, true), (10_000, false)] {
        let protection = Protection { images: (0..count).map(image).collect(), ..Protection::default() };
        let owner = OwnerReference { name: "hub-gc-1".to_owned(), ..Default::default() };
        let (child, fits) =
            garbage_collection_policy::build::config_map(&valid, &valid.targets[0], owner, &protection);
        let written: Protection =
            serde_yaml::from_str(child.object["data"]["protect.yml"].as_str().unwrap()).unwrap();
        assert_eq!((fits, written.complete), (expected, expected));
        assert_eq!(written.images.len(), if expected { count } else { 0 });
        assert!(child.object.to_string().len() < 1024 * 1024);
    }
}

/// What the nodes of a cluster with k3s and plain containerd are told of the Registry `hub`.
fn nodes() -> Built {
    let settings = json!({
        "hostnames": ["*"], "credentialProviderDirectory": "/opt/kubelet", "nodeSelector": {"pool": "workers"},
        "tolerations": [{"operator": "Exists"}], "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "5m"}}, "imagePullSecrets": [{"name": "pull"}],
    });
    let settings = Settings {
        namespace: "windlass-system".to_owned(),
        image: Some("registry.local/operator:1".to_owned()),
        agent: Agent::parse(&settings.to_string()).unwrap(),
    };
    let plan = json!({"registries": [{"name": "team-a/hub", "hosts": [{"name": "hub.team-a.svc:5000"}],
        "endpoints": ["https://10.96.0.7:5000"], "authorities": "..."}]});
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: "windlass-node-agent".to_owned(),
        uid: "9".to_owned(),
        ..OwnerReference::default()
    };
    let valid = node_access::validate::Valid {
        settings: &settings,
        owner: Some(owner.clone()),
        stage: Stage::Working,
        plan: serde_json::from_value(plan).unwrap(),
        distributions: [Distribution::K3s, Distribution::Containerd].into(),
        problems: BTreeMap::new(),
        withheld: BTreeMap::new(),
    };
    node_access::build::build(&valid, &owner)
}

#[test]
fn the_nodes_get_the_plan_and_the_agents_of_their_golden_file() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nodes/agents.yaml");
    check(&case, &text(&nodes()));
}

#[test]
fn an_agent_sees_no_more_of_its_node_than_the_runtimes_configuration() {
    let pod = &nodes().children[1].object["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for absent in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(pod.get(absent), None, "{absent}");
    }
    let security = &container["securityContext"];
    assert_eq!(security.get("privileged"), None);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    let writable = container["volumeMounts"].as_array().unwrap().iter();
    let writable: Vec<_> = writable.filter(|mount| mount.get("readOnly").is_none()).collect();
    let paths: Vec<_> = writable.iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
    let certs = "/host/var/lib/rancher/k3s/agent/etc/containerd/certs.d";
    assert_eq!(paths, ["/host/etc/containerd/certs.d", certs, "/host/opt/kubelet"]);
}

#[test]
fn the_operator_understands_the_command_line_of_the_agents() {
    let pod = &nodes().children[1].object["spec"]["template"]["spec"];
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    let known = ["node-agent", "--host=/host", "--credential-provider-directory=/opt/kubelet"];
    assert_eq!(*arguments, known);
}

#[test]
fn what_was_built_and_written_builds_the_same_again_byte_for_byte() {
    for case in cases() {
        let registry = read(&case);
        let mut found = cluster(&registry);
        let first = build(&validate(&registry, &found, &defaults(), now()).unwrap());
        for child in &first.children {
            let mut object = child.object.clone();
            // What the API server would add.
            if child.key.0 == Kind::Service {
                object["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
            }
            found.live.insert(child.key.0, serde_json::from_value(object).unwrap());
        }
        let second = build(&validate(&registry, &found, &defaults(), now()).unwrap());
        assert_eq!(serialised(&first), serialised(&second), "{}", case.display());
    }
}

fn serialised(built: &Built) -> Vec<String> {
    built.children.iter().map(|child| child.object.to_string()).collect()
}

#[test]
fn every_pod_keeps_to_the_restricted_standard() {
    for case in cases() {
        let registry = read(&case);
        let built = build(&validate(&registry, &cluster(&registry), &defaults(), now()).unwrap());
        let deployment = built.children.iter().find(|child| child.key.0 == Kind::Deployment).unwrap();
        let pod = &deployment.object["spec"]["template"]["spec"];
        let container = &pod["containers"][0]["securityContext"];
        for (value, expected) in [
            (&pod["securityContext"]["runAsNonRoot"], json!(true)),
            (&pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault")),
            (&pod["automountServiceAccountToken"], json!(false)),
            (&container["allowPrivilegeEscalation"], json!(false)),
            (&container["readOnlyRootFilesystem"], json!(true)),
            (&container["capabilities"]["drop"], json!(["ALL"])),
        ] {
            assert_eq!(*value, expected, "{}", case.display());
        }
    }
}

#[test]
fn nothing_is_mounted_by_sub_path_and_no_pod_sees_the_authoritys_key() {
    for case in cases() {
        let registry = read(&case);
        let built = build(&validate(&registry, &cluster(&registry), &defaults(), now()).unwrap());
        let deployment = built.children.iter().find(|child| child.key.0 == Kind::Deployment).unwrap();
        let text = deployment.object.to_string();
        assert!(!text.contains("subPath") && !text.contains("hub-ca"), "{}", case.display());
    }
}

#[test]
fn until_the_service_has_an_address_no_certificate_is_made_and_no_server_started() {
    let registry = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minimal.yaml"));
    let valid = validate(&registry, &Found::default(), &defaults(), now()).unwrap();
    let built = build(&valid);
    assert!(!built.complete);
    let kinds: Vec<Kind> = built.children.iter().map(|child| child.key.0).collect();
    assert!(
        kinds.contains(&Kind::Service)
            && !kinds.contains(&Kind::Deployment)
            && !kinds.contains(&Kind::Secret)
    );
}

#[test]
fn children_are_built_in_the_order_in_which_they_are_written() {
    for case in cases() {
        let registry = read(&case);
        let built = build(&validate(&registry, &cluster(&registry), &defaults(), now()).unwrap());
        let kinds: Vec<Kind> = built.children.iter().map(|child| child.key.0).collect();
        assert!(kinds.is_sorted(), "{}: {kinds:?}", case.display());
        let names = built.children.iter().map(|child| &child.object["metadata"]["name"]);
        assert!(names.zip(&built.children).all(|(name, child)| name.as_str() == Some(child.key.1.as_str())));
    }
}
