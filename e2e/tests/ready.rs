//! A Registry that is applied becomes one that answers.

use std::time::Instant;

use anyhow::ensure;
use e2e::case::{Outcome, with_namespace};
use e2e::kstatus::{Kstatus, kstatus};
use e2e::{registry, tools};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use operator::api::status::{STORAGE_READY, TLS_READY};
use operator::names;

#[tokio::test]
async fn an_applied_registry_becomes_ready_and_answers() -> Outcome {
    with_namespace("ready", async |namespace| {
        let begin = Instant::now();
        let ready = registry::quick(namespace).await?;
        println!("ready {:.1} s after it was applied", begin.elapsed().as_secs_f32());
        assert_eq!(kstatus(&serde_json::to_value(&ready)?), Kstatus::Current);

        let status = ready.status.unwrap_or_default();
        assert_eq!(status.url, Some(format!("https://registry.{}.svc:5000", namespace.name)));
        let example = format!("registry.{}.svc:5000/team/app:v1", namespace.name);
        assert_eq!(status.pull_example, Some(example));
        assert_eq!(status.replicas, 1);
        ensure!(status.version.is_some_and(|version| !version.is_empty()), "it has no version");
        ensure!(status.certificate.is_some(), "it has no certificate");
        for condition in [STORAGE_READY, TLS_READY] {
            let status = ready_condition(namespace, condition).await?;
            assert_eq!(status, "True", "{condition}");
        }

        let (_forward, client) = registry::reach_as_user(namespace).await?;
        let answer = client.get("/v2/").await?.expect(http::StatusCode::OK)?;
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        Ok(())
    })
    .await
}

async fn ready_condition(namespace: &e2e::namespace::Namespace, type_: &str) -> anyhow::Result<String> {
    let status = registry::ready(namespace, registry::NAME).await?.status.unwrap_or_default();
    Ok(status.condition(type_).map(|condition| condition.status.clone()).unwrap_or_default())
}

#[tokio::test]
async fn kubectl_shows_what_matters() -> Outcome {
    with_namespace("columns", async |namespace| {
        registry::quick(namespace).await?;
        let get = async |arguments: &[&str]| {
            tools::run("kubectl", &[&["--namespace", &namespace.name, "get"], arguments].concat()).await
        };
        let shown = get(&["reg"]).await?;
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["NAME", "READY", "REASON", "URL", "REPLICAS", "USED", "AGE"], "{shown}");
        let url = format!("https://registry.{}.svc:5000", namespace.name);
        assert_eq!(rows[1][..5], ["registry", "True", "Available", &url, "1"], "{shown}");
        assert_eq!(get(&["oci", "--output", "name"]).await?.trim(), "registry.windlass.dev/registry");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn all_children_are_labelled_and_all_but_the_volume_owned() -> Outcome {
    with_namespace("children", async |namespace| {
        let uid = registry::quick(namespace).await?.metadata.uid;
        let owned = async |kind: &str, metadata: kube::core::ObjectMeta| -> anyhow::Result<()> {
            let labels = metadata.labels.unwrap_or_default();
            ensure!(
                labels.get(names::REGISTRY_LABEL).is_some_and(|name| name == "registry"),
                "{kind}: {labels:?}"
            );
            let owners = metadata.owner_references.unwrap_or_default();
            let is_owned = owners.iter().any(|owner| Some(&owner.uid) == uid.as_ref());
            ensure!(is_owned != (kind == "PersistentVolumeClaim"), "{kind}: {owners:?}");
            Ok(())
        };
        let name = registry::NAME;
        owned("Deployment", namespace.api::<Deployment>().get(name).await?.metadata).await?;
        owned("Service", namespace.api::<Service>().get(name).await?.metadata).await?;
        owned("ServiceAccount", namespace.api::<ServiceAccount>().get(name).await?.metadata).await?;
        let config = names::config_map(name);
        owned("ConfigMap", namespace.api::<ConfigMap>().get(&config).await?.metadata).await?;
        for secret in [names::tls_secret(name), names::authority_secret(name)] {
            owned("Secret", namespace.api::<Secret>().get(&secret).await?.metadata).await?;
        }
        let claim = names::claim(name);
        let claim = namespace.api::<PersistentVolumeClaim>().get(&claim).await?.metadata;
        owned("PersistentVolumeClaim", claim).await
    })
    .await
}
