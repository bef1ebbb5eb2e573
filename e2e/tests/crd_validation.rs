//! The rules of the CRD, as the real API server applies them: each mistake is refused with words that help.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::kstatus::{Kstatus, kstatus};
use e2e::namespace::Namespace;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use operator::api::registry::Registry;
use serde_json::{Value, json};

/// What the API server says to one object.
enum Verdict {
    Accepted,
    /// With these words in its answer.
    Refused(&'static str),
}
use Verdict::{Accepted, Refused};

fn registry(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec})
}

fn api(namespace: &Namespace) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<Registry>(&());
    Api::namespaced_with(namespace.client.clone(), &namespace.name, &resource)
}

fn check(what: &Value, answer: kube::Result<DynamicObject>, expected: &Verdict) -> anyhow::Result<()> {
    match (answer, expected) {
        (Ok(_), Accepted) => Ok(()),
        (Ok(_), Refused(words)) => anyhow::bail!("{what} was accepted and should be refused: {words}"),
        (Err(error), Accepted) => anyhow::bail!("{what} was refused: {error}"),
        (Err(error), Refused(words)) => {
            ensure!(error.to_string().contains(words), "{what} was refused without {words:?}: {error}");
            Ok(())
        }
    }
}

/// Creates nothing: the API server only says what it would do.
async fn create(namespace: &Namespace, object: &Value) -> kube::Result<DynamicObject> {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    api(namespace).create(&params, &object).await
}

#[tokio::test]
async fn a_new_registry_is_accepted_or_refused_by_its_spec() -> Outcome {
    with_namespace("crd-create", async |namespace| {
        for (spec, expected) in specs() {
            check(&spec, create(namespace, &registry("hub", &spec)).await, &expected)?;
        }
        Ok(())
    })
    .await
}

fn specs() -> Vec<(Value, Verdict)> {
    let mut specs = vec![
        (json!({"storage": {"filesystem": {"size": "1Gi"}}}), Accepted),
        (json!({}), Refused("spec.storage: Required value")),
        (json!({"storage": {}}), Refused("spec.storage.filesystem: Required value")),
    ];
    specs.extend(
        filesystems()
            .map(|(filesystem, expected)| (json!({"storage": {"filesystem": filesystem}}), expected)),
    );
    let auths = auths().map(|(auth, expected)| ("auth", auth, expected));
    specs.extend(fields().chain(auths).map(|(field, value, expected)| {
        let mut spec = json!({"storage": {"filesystem": {"size": "1Gi"}}});
        spec[field] = value;
        (spec, expected)
    }));
    specs
}

fn filesystems() -> impl Iterator<Item = (Value, Verdict)> {
    const ONE_OF: &str = "set either size, for a volume of its own, or existingClaim";
    const YOURS: &str = "existingClaim excludes storageClassName, accessModes and deletionPolicy Delete";
    [
        (json!({}), Refused(ONE_OF)),
        (json!({"size": "1Gi", "existingClaim": "mine"}), Refused(ONE_OF)),
        (json!({"existingClaim": "mine"}), Accepted),
        (json!({"existingClaim": "Mine"}), Refused("spec.storage.filesystem.existingClaim")),
        (json!({"existingClaim": "mine", "storageClassName": "fast"}), Refused(YOURS)),
        (json!({"existingClaim": "mine", "accessModes": ["ReadWriteOnce"]}), Refused(YOURS)),
        (json!({"existingClaim": "mine", "deletionPolicy": "Delete"}), Refused(YOURS)),
        (json!({"size": "lots"}), Refused("size must be a quantity above zero, such as 20Gi")),
        (json!({"size": "0"}), Refused("size must be a quantity above zero")),
        (json!({"size": "-1Gi"}), Refused("size must be a quantity above zero")),
        (json!({"size": "1Gi", "deletionPolicy": "Keep"}), Refused("Unsupported value: \"Keep\"")),
        (
            json!({"size": "1Gi", "accessModes": ["ReadOnlyMany"]}),
            Refused("Unsupported value: \"ReadOnlyMany\""),
        ),
        (
            json!({"size": "1Gi", "accessModes": ["ReadWriteMany", "ReadWriteMany"]}),
            Refused("Duplicate value"),
        ),
        (json!({"size": "1Gi", "storageClassName": "Fast Disk"}), Refused("storageClassName")),
    ]
    .into_iter()
}

fn auths() -> impl Iterator<Item = (Value, Verdict)> {
    [
        (json!({}), Refused("auth needs htpasswdSecretRef")),
        (json!({"kubernetes": {}}), Refused("kubernetes needs rules")),
        (json!({"kubernetes": {}, "rules": []}), Refused("kubernetes needs rules")),
        (json!({"kubernetes": {"subjectAccessReview": false}}), Refused("kubernetes needs rules")),
        (json!({"kubernetes": {"subjectAccessReview": true}}), Accepted),
        (json!({"anonymous": "Pull"}), Refused("auth needs htpasswdSecretRef")),
        (json!({"htpasswdSecretRef": {"name": "users"}, "anonymous": "Pull"}), Accepted),
        (
            json!({"htpasswdSecretRef": {"name": "users"}, "anonymous": "Push"}),
            Refused("Unsupported value: \"Push\""),
        ),
        (users_with_rule(&json!({"kind": "User", "name": "ann"}), "pull"), Accepted),
        (users_with_rule(&json!({"kind": "ServiceAccount"}), "list"), Accepted),
        (users_with_rule(&json!({"kind": "Group"}), "pull"), Refused("needs a name")),
        (users_with_rule(&json!({"kind": "Anonymous", "name": "a"}), "pull"), Refused("needs a name")),
        (
            users_with_rule(&json!({"kind": "User", "name": "a", "namespace": "b"}), "pull"),
            Refused("has no namespace"),
        ),
        (users_with_rule(&json!({"kind": "Claim", "name": "/a", "value": "b"}), "pull"), Accepted),
        (users_with_rule(&json!({"kind": "Claim", "value": "b"}), "pull"), Refused("needs a name")),
        (users_with_rule(&json!({"kind": "Claim", "name": "/a"}), "pull"), Refused("needs a value")),
        (
            users_with_rule(&json!({"kind": "Claim", "name": "a", "value": "b"}), "pull"),
            Refused("JSON Pointer"),
        ),
        (
            users_with_rule(&json!({"kind": "User", "name": "a", "value": "b"}), "pull"),
            Refused("the others have no value"),
        ),
        (users_with_rule(&json!({"kind": "Robot"}), "pull"), Refused("Unsupported value: \"Robot\"")),
        (users_with_rule(&json!({"kind": "Anonymous"}), "write"), Refused("Unsupported value: \"write\"")),
    ]
    .into_iter()
}

fn fields() -> impl Iterator<Item = (&'static str, Value, Verdict)> {
    const ONE_TLS: &str = "set exactly one of selfSigned, secretRef and disabled";
    const DNS_NAMES: &str = "hostnames are DNS names in lower case";
    [
        ("replicas", json!(0), Accepted),
        ("replicas", json!(-1), Refused("spec.replicas")),
        ("replicas", json!(65), Refused("spec.replicas")),
        (
            "replicas",
            json!(2),
            Refused("more than one replica needs a volume with access mode ReadWriteMany"),
        ),
        ("image", json!(""), Refused("spec.image")),
        ("image", json!("a b"), Refused("spec.image")),
        ("tls", json!({}), Refused(ONE_TLS)),
        ("tls", json!({"selfSigned": {}, "disabled": {}}), Refused(ONE_TLS)),
        ("tls", json!({"disabled": {}}), Accepted),
        ("tls", json!({"secretRef": {"name": "mine"}}), Accepted),
        ("tls", json!({"secretRef": {}}), Refused("spec.tls.secretRef.name: Required value")),
        ("hostnames", json!(["registry.example.com", "hub", "xn--bcher-kva.example"]), Accepted),
        ("hostnames", json!(vec!["a.example"; 2]), Refused("Duplicate value")),
        (
            "hostnames",
            json!((0..33).map(|n| format!("h{n}.example")).collect::<Vec<_>>()),
            Refused("at most 32"),
        ),
        ("hostnames", json!(["Registry.example.com"]), Refused(DNS_NAMES)),
        ("hostnames", json!(["*.example.com"]), Refused(DNS_NAMES)),
        ("hostnames", json!(["registry.example.com:443"]), Refused(DNS_NAMES)),
        ("hostnames", json!(["https://registry.example.com"]), Refused(DNS_NAMES)),
        ("hostnames", json!(["registry.example.com."]), Refused(DNS_NAMES)),
        ("hostnames", json!(["10.96.0.7"]), Refused(DNS_NAMES)),
        ("hostnames", json!(["a".repeat(64)]), Refused(DNS_NAMES)),
        ("service", json!({"nodePort": 30500}), Refused("nodePort needs type NodePort or LoadBalancer")),
        ("service", json!({"type": "NodePort", "nodePort": 30500}), Accepted),
        ("service", json!({"type": "ExternalName"}), Refused("Unsupported value: \"ExternalName\"")),
        ("resources", json!({"limits": {"memory": "64Mi", "cpu": 1}}), Accepted),
        ("resources", json!({"limits": {"memory": "much"}}), Refused("spec.resources.limits.memory")),
        ("config", json!({"log": {"level": "debug"}}), Accepted),
        ("config", json!("log: {}"), Refused("spec.config")),
        ("overrides", json!({"deployment": {"spec": {"minReadySeconds": 1}}}), Accepted),
    ]
    .into_iter()
}

#[tokio::test]
async fn a_name_that_cannot_be_a_service_is_refused() -> Outcome {
    with_namespace("crd-name", async |namespace| {
        let spec = json!({"storage": {"filesystem": {"size": "1Gi"}}});
        for (name, expected) in [
            ("hub-2", Accepted),
            ("2hub", Refused("the name becomes a Service")),
            ("hub.2", Refused("the name becomes a Service")),
            (&"h".repeat(64), Refused("the name becomes a Service")),
        ] {
            check(&json!(name), create(namespace, &registry(name, &spec)).await, &expected)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn more_replicas_are_accepted_where_many_can_write() -> Outcome {
    with_namespace("crd-many", async |namespace| {
        for filesystem in
            [json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]}), json!({"existingClaim": "mine"})]
        {
            let spec = json!({"replicas": 3, "storage": {"filesystem": filesystem}});
            check(&spec, create(namespace, &registry("hub", &spec)).await, &Accepted)?;
        }
        Ok(())
    })
    .await
}

/// A Registry that the operator leaves alone.
async fn paused(namespace: &Namespace, filesystem: Value) -> anyhow::Result<()> {
    let spec = json!({"paused": true, "storage": {"filesystem": filesystem}});
    let object = serde_json::from_value(registry("hub", &spec))?;
    api(namespace).create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn change(namespace: &Namespace, filesystem: &Value) -> kube::Result<DynamicObject> {
    let patch = json!({"spec": {"storage": {"filesystem": filesystem}}});
    api(namespace).patch("hub", &PatchParams::default().dry_run(), &Patch::Merge(patch)).await
}

#[tokio::test]
async fn a_volume_can_only_grow() -> Outcome {
    with_namespace("crd-grow", async |namespace| {
        paused(namespace, json!({"size": "10Gi", "storageClassName": "fast"})).await?;
        for (filesystem, expected) in [
            (json!({"size": "20Gi"}), Accepted),
            (json!({"size": "10240Mi"}), Accepted),
            (
                json!({"size": "5Gi"}),
                Refused("a volume cannot shrink; set size to at least its present value"),
            ),
            (
                json!({"size": null, "existingClaim": "mine", "storageClassName": null}),
                Refused("cannot be exchanged"),
            ),
            (json!({"storageClassName": "slow"}), Refused("storageClassName cannot change")),
            (json!({"storageClassName": null}), Refused("storageClassName cannot change")),
            (json!({"accessModes": ["ReadWriteOnce"]}), Accepted),
            (json!({"accessModes": ["ReadWriteMany"]}), Refused("accessModes cannot change")),
            (json!({"deletionPolicy": "Delete"}), Accepted),
        ] {
            check(&filesystem, change(namespace, &filesystem).await, &expected)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_claim_of_the_users_cannot_be_exchanged() -> Outcome {
    with_namespace("crd-claim", async |namespace| {
        paused(namespace, json!({"existingClaim": "mine"})).await?;
        for filesystem in [json!({"existingClaim": "other"}), json!({"existingClaim": null, "size": "1Gi"})] {
            let answer = change(namespace, &filesystem).await;
            check(&filesystem, answer, &Refused("the volume cannot be exchanged"))?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn scaling_follows_the_same_rule_as_the_spec() -> Outcome {
    with_namespace("crd-scale", async |namespace| {
        paused(namespace, json!({"size": "1Gi"})).await?;
        let scale = async |replicas: u32| {
            let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            api(namespace).patch_scale("hub", &PatchParams::default().dry_run(), &patch).await
        };
        scale(0).await?;
        let error = scale(3).await.err().context("three replicas were accepted")?.to_string();
        ensure!(error.contains("more than one replica needs"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unknown_field_is_refused_where_the_client_asks_for_it() -> Outcome {
    with_namespace("crd-unknown", async |namespace| {
        let spec = json!({"storage": {"filesystem": {"size": "1Gi"}}, "replica": 1});
        let strict = PatchParams::apply("e2e").dry_run().validation_strict();
        let patch = Patch::Apply(registry("hub", &spec));
        let error = api(namespace).patch("hub", &strict, &patch).await.err().context("it was accepted")?;
        ensure!(error.to_string().contains("spec.replica"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_fresh_object_is_not_taken_for_a_finished_one() -> Outcome {
    with_namespace("crd-fresh", async |namespace| {
        let spec = json!({"storage": {"filesystem": {"size": "1Gi"}}});
        let fresh = serde_json::to_value(create(namespace, &registry("hub", &spec)).await?)?;
        assert_eq!(fresh["status"]["observedGeneration"], -1, "{fresh}");
        assert_eq!(fresh["spec"]["tls"], json!({"selfSigned": {}}), "{fresh}");
        assert_eq!(kstatus(&fresh), Kstatus::InProgress, "{fresh}");
        Ok(())
    })
    .await
}

/// Users, and a rule that lets a subject do something.
fn users_with_rule(subject: &Value, action: &str) -> Value {
    let rule = json!({"subjects": [subject], "repositories": ["**"], "actions": [action]});
    json!({"htpasswdSecretRef": {"name": "users"}, "rules": [rule]})
}
