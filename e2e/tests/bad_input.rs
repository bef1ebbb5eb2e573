//! Mistakes: the status names the object and the cure, once, without a hot loop, and the cure is enough.

use std::time::Duration;

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::kstatus::{Kstatus, kstatus};
use e2e::namespace::Namespace;
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::{system, wait};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use operator::api::registry::Registry;
use operator::names;
use serde_json::{Value, json};

/// Waits until the Registry is stalled for `reason`, in words that contain all of `words`, having said so in one Event.
async fn is_stalled(namespace: &Namespace, reason: &str, words: &[&str]) -> anyhow::Result<()> {
    let message = registry::unready(namespace, NAME, reason).await?;
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in {message:?}");
    }
    let registry = serde_json::to_value(namespace.api::<Registry>().get(NAME).await?)?;
    assert_eq!(kstatus(&registry), Kstatus::Failed, "{registry}");
    stays_calm(namespace, reason).await
}

/// Waits until the status holds all that can be said, such as the address that the Service has got meanwhile.
async fn comes_to_rest(namespace: &Namespace) -> anyhow::Result<()> {
    let registries = namespace.api::<Registry>();
    wait::eventually("the status to come to rest", async || {
        let before = registries.get(NAME).await?.resource_version();
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(registries.get(NAME).await?.resource_version() == before, "it is still written");
        Ok(())
    })
    .await
}

/// While nothing changes, the operator hardly looks, writes nothing, and repeats nothing.
async fn stays_calm(namespace: &Namespace, reason: &str) -> anyhow::Result<()> {
    comes_to_rest(namespace).await?;
    let failures = format!("windlass_operator_reconcile_failures_total{{reason=\"{reason}\"}}");
    let registries = namespace.api::<Registry>();
    let (count, version) = (
        system::counter(&namespace.client, &failures).await?,
        registries.get(NAME).await?.resource_version(),
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let looks = system::counter(&namespace.client, &failures).await? - count;
    ensure!(looks < 6.0, "{looks} reconciles in three seconds");
    assert_eq!(registries.get(NAME).await?.resource_version(), version, "the status is written again");
    let events = events(namespace, reason).await?;
    assert_eq!(events.len(), 1, "{events:?}");
    ensure!(events.iter().all(|event| event.series.is_none()), "{events:?}");
    Ok(())
}

async fn events(namespace: &Namespace, reason: &str) -> anyhow::Result<Vec<Event>> {
    let mut events = namespace.api::<Event>().list(&ListParams::default()).await?.items;
    events.retain(|event| {
        let object = event.regarding.as_ref();
        event.reason.as_deref() == Some(reason)
            && object.is_some_and(|object| object.kind.as_deref() == Some("Registry"))
    });
    Ok(events)
}

async fn users(namespace: &Namespace) -> anyhow::Result<()> {
    registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await
}

#[tokio::test]
async fn a_missing_password_file_is_waited_for() -> Outcome {
    with_namespace("no-users", async |namespace| {
        registry::apply(namespace, NAME, registry::spec()).await?;
        is_stalled(namespace, "SecretNotFound", &[USERS, "create it"]).await?;
        registry::apply_secret(namespace, USERS, &json!({"users": "ada"})).await?;
        is_stalled(namespace, "SecretKeyMissing", &[USERS, "htpasswd", "add it"]).await?;
        users(namespace).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_malformed_password_file_is_named_with_its_line() -> Outcome {
    with_namespace("bad-users", async |namespace| {
        let file = format!("ada:{}\nbob:secret\n", bcrypt::hash(PASSWORD, 4)?);
        registry::apply_secret(namespace, USERS, &json!({"htpasswd": file})).await?;
        registry::apply(namespace, NAME, registry::spec()).await?;
        is_stalled(namespace, "HtpasswdMalformed", &[USERS, "line 2", "htpasswd -B"]).await?;
        users(namespace).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_certificate_that_cannot_serve_is_named() -> Outcome {
    with_namespace("bad-tls", async |namespace| {
        let mut spec = registry::spec();
        spec["tls"] = json!({"secretRef": {"name": "mine"}});
        users(namespace).await?;
        registry::apply(namespace, NAME, spec).await?;
        is_stalled(namespace, "SecretNotFound", &["mine", "spec.tls.secretRef"]).await?;

        let good = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = good.signing_key.serialize_pem();
        registry::apply_secret(namespace, "mine", &json!({"tls.key": key})).await?;
        is_stalled(namespace, "SecretKeyMissing", &["mine", "tls.crt"]).await?;
        registry::apply_secret(namespace, "mine", &json!({"tls.key": key, "tls.crt": other.cert.pem()}))
            .await?;
        is_stalled(namespace, "CertificateMalformed", &["mine", "does not belong"]).await?;
        registry::apply_secret(namespace, "mine", &json!({"tls.key": key, "tls.crt": good.cert.pem()}))
            .await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_claim_that_another_registry_uses_is_not_shared() -> Outcome {
    with_namespace("taken", async |namespace| {
        users(namespace).await?;
        registry::apply(namespace, "first", registry::spec()).await?;
        registry::ready(namespace, "first").await?;
        let mut spec = registry::spec();
        spec["storage"]["filesystem"] = json!({"existingClaim": names::claim("first")});
        registry::apply(namespace, NAME, spec).await?;
        is_stalled(namespace, "ClaimTaken", &["first-data", "Registry first"]).await?;
        namespace.api::<Registry>().delete("first", &DeleteParams::background()).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_claim_that_does_not_exist_is_waited_for() -> Outcome {
    with_namespace("no-claim", async |namespace| {
        users(namespace).await?;
        let mut spec = registry::spec();
        spec["storage"]["filesystem"] = json!({"existingClaim": "mine"});
        registry::apply(namespace, NAME, spec).await?;
        is_stalled(namespace, "ClaimNotFound", &["mine", "create it"]).await?;
        namespace.apply(claim("mine", &json!({}), "64Mi")).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

fn claim(name: &str, labels: &Value, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "labels": labels},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    })
}

#[tokio::test]
async fn a_volume_that_was_kept_does_not_shrink() -> Outcome {
    with_namespace("shrink", async |namespace| {
        users(namespace).await?;
        let kept = json!({names::REGISTRY_LABEL: NAME});
        namespace.apply(claim(&names::claim(NAME), &kept, "128Mi")).await?;
        registry::apply(namespace, NAME, registry::spec()).await?;
        is_stalled(namespace, "ShrinkImpossible", &["registry-data", "set size to 128Mi"]).await?;
        let grown = json!({"spec": {"storage": {"filesystem": {"size": "128Mi"}}}});
        namespace.merge::<Registry>(NAME, grown).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

/// Makes a storage class that provisions like the default one, and goes with the namespace.
async fn storage_class(namespace: &Namespace, name: &str, grows: bool) -> anyhow::Result<()> {
    let classes: Api<StorageClass> = namespace.all();
    let default = |class: &StorageClass| {
        class.annotations().get(names::DEFAULT_CLASS_ANNOTATION).is_some_and(|value| value == "true")
    };
    let all = classes.list(&ListParams::default()).await?;
    let mut class = all.into_iter().find(default).ok_or_else(|| anyhow::anyhow!("no default class"))?;
    let owner = namespace.all::<k8s_openapi::api::core::v1::Namespace>().get(&namespace.name).await?;
    let mut annotations = std::mem::take(class.annotations_mut());
    annotations.retain(|key, _| !key.contains("is-default-class") && !key.contains("kubectl"));
    class.metadata = kube::core::ObjectMeta {
        name: Some(name.to_owned()),
        annotations: Some(annotations),
        owner_references: kube::Resource::owner_ref(&owner, &()).map(|owner| vec![owner]),
        ..kube::core::ObjectMeta::default()
    };
    class.allow_volume_expansion = Some(grows);
    classes.create(&PostParams::default(), &class).await?;
    Ok(())
}

fn with_class(class: &str) -> Value {
    let mut spec = registry::spec();
    spec["storage"]["filesystem"]["storageClassName"] = json!(class);
    spec
}

#[tokio::test]
async fn an_unknown_storage_class_is_named() -> Outcome {
    with_namespace("no-class", async |namespace| {
        users(namespace).await?;
        registry::apply(namespace, NAME, with_class(&namespace.name)).await?;
        is_stalled(namespace, "StorageClassNotFound", &[&namespace.name, "create it"]).await?;
        storage_class(namespace, &namespace.name, true).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_volume_whose_class_does_not_grow_is_named() -> Outcome {
    with_namespace("no-growth", async |namespace| {
        users(namespace).await?;
        storage_class(namespace, &namespace.name, false).await?;
        registry::apply(namespace, NAME, with_class(&namespace.name)).await?;
        registry::ready(namespace, NAME).await?;
        let grown = json!({"spec": {"storage": {"filesystem": {"size": "128Mi"}}}});
        namespace.merge::<Registry>(NAME, grown).await?;
        is_stalled(namespace, "ExpansionUnsupported", &[&namespace.name, "allowVolumeExpansion"]).await?;
        // The server goes on all the while.
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        client.get("/v2/").await?.expect(http::StatusCode::OK)?;

        let allow = Patch::Merge(json!({"allowVolumeExpansion": true}));
        namespace.all::<StorageClass>().patch(&namespace.name, &PatchParams::default(), &allow).await?;
        let no_longer =
            |status: &operator::api::status::RegistryStatus| registry::is(status, "Stalled", "False");
        registry::observed(namespace, NAME, "it not to be stalled", no_longer).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_object_of_somebody_elses_is_not_taken_over() -> Outcome {
    with_namespace("name-taken", async |namespace| {
        users(namespace).await?;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "other"}},
        });
        namespace.apply(service).await?;
        registry::apply(namespace, NAME, registry::spec()).await?;
        is_stalled(namespace, "NameTaken", &["Service registry", "choose another name"]).await?;
        let services = namespace.api::<Service>();
        let untouched = services.get(NAME).await?.spec.unwrap_or_default().selector.unwrap_or_default();
        assert_eq!(untouched.get("app").map(String::as_str), Some("other"));
        services.delete(NAME, &DeleteParams::default()).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_configuration_that_the_server_would_refuse_never_reaches_it() -> Outcome {
    with_namespace("bad-config", async |namespace| {
        users(namespace).await?;
        let mut spec = registry::spec();
        spec["config"] = json!({"http": {"draintimeout": "soon"}});
        registry::apply(namespace, NAME, spec.clone()).await?;
        is_stalled(namespace, "InvalidConfig", &["spec.config", "draintimeout"]).await?;
        spec["config"] = json!({"http": {"draintimeout": "5s"}});
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named() -> Outcome {
    with_namespace("no-image", async |namespace| {
        users(namespace).await?;
        let mut spec = registry::spec();
        spec["image"] = json!("registry.local/nothing:1");
        registry::apply(namespace, NAME, spec).await?;
        let message = registry::unready(namespace, NAME, "ImagePullFailed").await?;
        ensure!(message.contains("registry.local/nothing:1"), "{message}");
        registry::apply(namespace, NAME, registry::spec()).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_named() -> Outcome {
    with_namespace("no-start", async |namespace| {
        users(namespace).await?;
        let with = |field: &str, value: Value| {
            let mut spec = registry::spec();
            spec[field] = value;
            spec
        };
        let crash = json!({"deployment": {"spec": {"template": {"spec": {"containers": [
            {"name": "registry", "args": ["serve", "/nowhere.yml"]}]}}}}});
        for (spec, reason, words) in [
            (with("nodeSelector", json!({"e2e": "nowhere"})), "Unschedulable", "nodes are available"),
            (with("priorityClassName", json!("nothing")), "PodsRefused", "nothing"),
            (with("overrides", crash), "CrashLooping", "/nowhere.yml"),
        ] {
            registry::apply(namespace, NAME, spec).await?;
            let message = registry::unready(namespace, NAME, reason).await?;
            ensure!(message.contains(words), "{words:?} is not in {message:?}");
        }
        registry::apply(namespace, NAME, registry::spec()).await?;
        registry::ready(namespace, NAME).await.map(|_| ())
    })
    .await
}
