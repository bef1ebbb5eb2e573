//! Nodes are told where Registries are: Pods run images from them under names that no node resolves, and nothing of it is
//! left behind.

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::cluster::SYSTEM_NAMESPACE;
use e2e::namespace::Namespace;
use e2e::node_access::{HOSTS, asked, files, grant, granted, nodes, run_on};
use e2e::registry::{self, NAME, PASSWORD, USER, USERS};
use e2e::{system, wait};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, ResourceExt};
use operator::api::node_access::{NodeAccess, NodeAccessSpec};
use operator::api::registry::Registry;
use operator::api::status::{NODE_ACCESS_READY, RegistryStatus};
use operator::names;
use serde_json::json;

use crate::pull::{self, Image};

fn agents(namespace: &Namespace) -> Api<Pod> {
    system::api(&namespace.client)
}

async fn agent_pods(namespace: &Namespace) -> anyhow::Result<Vec<Pod>> {
    let selector = ListParams::default().labels(&format!("{}={}", names::NAME_LABEL, names::NODE_AGENT));
    Ok(agents(namespace).list(&selector).await?.items)
}

/// Waits until no node has a file about the namespace.
async fn nothing_is_left(namespace: &Namespace) -> anyhow::Result<()> {
    for node in nodes(namespace).await? {
        wait::eventually("nothing to be left on the node", async || {
            let left = files(namespace, &node).await?;
            ensure!(left.is_empty(), "on {node} there is:\n{left}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn pods_on_every_node_pull_by_the_services_name_and_by_a_further_one() -> Outcome {
    with_namespace("nodes", async |namespace| {
        let mut spec = registry::spec();
        let alias = format!("{}.images.example", namespace.name);
        spec["hostnames"] = json!([alias]);
        spec["nodeAccess"] = asked();
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        pull::push_hello(namespace, pull::REPOSITORY, PASSWORD).await?;
        granted(namespace, NAME).await?;
        let service = format!("{NAME}.{}.svc:5000", namespace.name);
        let hosts = [service, alias.clone(), format!("{alias}:5000")];
        pull::secret_for(namespace, &hosts, PASSWORD).await?;

        for (number, node) in nodes(namespace).await?.iter().enumerate() {
            for (kind, host) in ["service", "alias", "port"].iter().zip(&hosts) {
                let pod = format!("{kind}-{number}");
                let image = Image { host: Some(host), node: Some(node), ..Image::default() };
                pull::start_image(namespace, &pod, image, &[pull::PULL_SECRET]).await?;
                pull::ends_well(namespace, &pod).await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_registry_without_tls_is_pulled_from() -> Outcome {
    with_namespace("plain", async |namespace| {
        let mut spec = registry::spec();
        spec["tls"] = json!({"disabled": {}});
        spec["auth"]["anonymous"] = json!("Pull");
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        pull::push_hello_plainly(namespace, pull::REPOSITORY, PASSWORD).await?;
        grant(namespace, NAME).await?;
        pull::start(namespace, "pod", &[]).await?;
        pull::ends_well(namespace, "pod").await
    })
    .await
}

#[tokio::test]
async fn what_somebody_else_has_put_on_a_node_stays_and_is_named() -> Outcome {
    with_namespace("foreign", async |namespace| {
        registry::quick(namespace).await?;
        let node = nodes(namespace).await?.pop().context("no node")?;
        let directory = format!("{HOSTS}/{NAME}.{}.svc:5000", namespace.name);
        let foreign = "server = \"https://elsewhere.example\"";
        let write = format!("mkdir -p {directory}; echo '{foreign}' > {directory}/hosts.toml");
        run_on(namespace, &node, &write).await?;

        let patch = json!({"spec": {"nodeAccess": asked()}});
        namespace.merge::<Registry>(NAME, patch).await?;
        let fails = |status: &RegistryStatus| {
            let condition = status.condition(NODE_ACCESS_READY);
            condition.is_some_and(|condition| condition.reason == "NodesFailing")
        };
        let told = registry::observed(namespace, NAME, "a node to be in the way", fails).await?;
        let status = told.status.unwrap_or_default();
        let summary = status.node_access.clone().context("no status.nodeAccess")?;
        println!("{summary:?}");
        ensure!(summary.failing.iter().any(|failing| failing.node == node), "{summary:?}");
        ensure!(registry::is(&status, "Ready", "True"), "a node that fails is no fault of the Registry's");
        let found =
            run_on(namespace, &node, &format!("cat {directory}/hosts.toml; ls -A {directory}")).await?;
        assert_eq!(found.trim(), format!("{foreign}\nhosts.toml"));

        run_on(namespace, &node, &format!("rm -r {directory}")).await?;
        granted(namespace, NAME).await
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_of_a_registry_that_goes_or_asks_no_more() -> Outcome {
    with_namespace("leftovers", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        for node in nodes(namespace).await? {
            let found = files(namespace, &node).await?;
            ensure!(found.contains("hosts.toml"), "on {node} there is only:\n{found}");
        }
        namespace.merge::<Registry>(NAME, json!({"spec": {"nodeAccess": {"mode": "None"}}})).await?;
        nothing_is_left(namespace).await?;
        let forgotten = |status: &RegistryStatus| {
            status.node_access.is_none() && status.condition(NODE_ACCESS_READY).is_none()
        };
        registry::observed(namespace, NAME, "the nodes to be forgotten", forgotten).await?;

        grant(namespace, NAME).await?;
        namespace.api::<Registry>().delete(NAME, &DeleteParams::default()).await?;
        nothing_is_left(namespace).await
    })
    .await
}

#[tokio::test]
async fn a_service_with_another_address_is_found_again() -> Outcome {
    with_namespace("address", async |namespace| {
        registry::quick(namespace).await?;
        pull::ready_for_pods(namespace).await?;
        pull::a_pod_runs(namespace, "before").await?;
        let services = namespace.api::<Service>();
        let address = |service: &Service| service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
        let before = services.get(NAME).await?;
        services.delete(NAME, &DeleteParams::default()).await?;
        let is_other = |service: &Service| service.uid() != before.uid() && address(service).is_some();
        let after = wait::until(&services, NAME, "another Service", is_other).await?;
        let after = address(&after).unwrap_or_default();
        for node in nodes(namespace).await? {
            wait::eventually("the node to know the address", async || {
                let found = files(namespace, &node).await?;
                ensure!(found.contains(&format!("https://{after}:5000")), "on {node} there is:\n{found}");
                Ok(())
            })
            .await?;
        }
        granted(namespace, NAME).await?;
        pull::a_pod_runs(namespace, "after").await
    })
    .await
}

#[tokio::test]
async fn agents_may_be_killed_at_any_time() -> Outcome {
    with_namespace("killed", async |namespace| {
        registry::apply_users(namespace, USERS, &[(USER, PASSWORD)]).await?;
        let mut spec = registry::spec();
        spec["nodeAccess"] = asked();
        registry::apply(namespace, NAME, spec.clone()).await?;
        registry::ready(namespace, NAME).await?;
        granted(namespace, NAME).await?;
        for round in 0..4 {
            let passing = format!("passing-{round}");
            registry::apply(namespace, &passing, spec.clone()).await?;
            for pod in agent_pods(namespace).await? {
                let killed = DeleteParams::default().grace_period(0);
                let _ = agents(namespace).delete(&pod.name_any(), &killed).await;
            }
            namespace.api::<Registry>().delete(&passing, &DeleteParams::default()).await?;
        }
        for node in nodes(namespace).await? {
            wait::eventually("the node to be in order", async || {
                let found = files(namespace, &node).await?;
                ensure!(found.contains(NAME) && !found.contains("passing-"), "on {node} there is:\n{found}");
                Ok(())
            })
            .await?;
        }
        granted(namespace, NAME).await
    })
    .await
}

#[tokio::test]
async fn an_agent_that_is_replaced_leaves_the_files_as_they_are() -> Outcome {
    with_namespace("replaced", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        let node = nodes(namespace).await?.pop().context("no node")?;
        let file = format!("{HOSTS}/{NAME}.{}.svc:5000/hosts.toml", namespace.name);
        let inode = async || run_on(namespace, &node, &format!("stat -c %i {file}")).await;
        let before = inode().await?;
        let pods = agent_pods(namespace).await?;
        for pod in &pods {
            agents(namespace).delete(&pod.name_any(), &DeleteParams::default()).await?;
        }
        for pod in &pods {
            wait::gone(&agents(namespace), &pod.name_any()).await?;
        }
        granted(namespace, NAME).await?;
        assert_eq!(inode().await?, before, "the file was written anew");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_report_of_a_node_that_is_gone_goes_too() -> Outcome {
    with_namespace("gone", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        let reports = system::api::<NodeAccess>(&namespace.client);
        let report = NodeAccess::new(&namespace.name, NodeAccessSpec::default());
        reports.create(&PostParams::default(), &report).await?;
        wait::gone(&reports, &namespace.name).await
    })
    .await
}

#[tokio::test]
async fn an_agent_may_report_of_its_own_node_only() -> Outcome {
    with_namespace("impostor", async |namespace| {
        registry::quick(namespace).await?;
        grant(namespace, NAME).await?;
        let reports = system::api::<NodeAccess>(&namespace.client);
        let all = nodes(namespace).await?;
        for node in &all {
            ensure!(reports.get_opt(node).await?.is_some(), "{node} has reported nothing");
        }
        // Somebody with the rights of the agents, but on no node.
        let mut config = Config::infer().await?;
        let account = format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", names::NODE_AGENT);
        config.auth_info.impersonate = Some(account);
        let impostor = system::api::<NodeAccess>(&Client::try_from(config)?);
        let lie = Patch::Merge(json!({"status": {"runtime": "x"}}));
        let refused = impostor.patch_status(&all[0], &PatchParams::default(), &lie).await;
        let words = format!("{refused:?}");
        ensure!(words.contains("an agent reports of its own node only"), "{words}");
        Ok(())
    })
    .await
}
