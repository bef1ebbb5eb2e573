//! What changes the nodes themselves, and so is done to none but those of the local cluster: after all other tests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::cluster::{SYSTEM_NAMESPACE, busybox_image};
use e2e::namespace::Namespace;
use e2e::node_access::{RUNTIME, grant, granted, nodes, run_on};
use e2e::registry::{self, NAME, USER};
use e2e::tools::run_command;
use e2e::{hello, pod, system, wait};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::DeleteParams;
use operator::api::node_access::{CREDENTIAL_PROVIDER_INSTALLED, NodeAccess};
use operator::api::registry::Registry;
use operator::api::status::{NODE_ACCESS_READY, RegistryStatus};
use operator::names;
use serde_json::json;
use tokio::process::Command;

use crate::pull::{self, token};

/// Where the cluster's kubelets look for the credential provider.
const PROVIDER: &str = "/etc/kubernetes/windlass";
/// Whom they ask for tokens for.
const AUDIENCE: &str = "windlass.dev";

/// Changes the configuration of a node's runtime and has it started again, as its owner would.
async fn reconfigure(namespace: &Namespace, node: &str, expression: &str) -> anyhow::Result<()> {
    // It is to be there again when the script ends, to see how.
    let script = format!("sed -i '{expression}' {RUNTIME}; killall containerd; sleep 5");
    run_on(namespace, node, &script).await.map(drop)
}

#[tokio::test]
async fn a_node_whose_runtime_looks_for_no_hosts_names_the_setting_and_the_file() -> Outcome {
    with_namespace("no-config-path", async |namespace| {
        registry::quick(namespace).await?;
        pull::ready_for_pods(namespace).await?;
        let node = nodes(namespace).await?.pop().context("no node")?;
        let image = pull::Image { node: Some(&node), ..pull::Image::default() };
        let is_told = |status: &RegistryStatus| {
            let failing = status.node_access.iter().flat_map(|summary| &summary.failing);
            let names_all = |message: &str| {
                ["config_path", "/etc/containerd/config.toml"].iter().all(|word| message.contains(word))
            };
            registry::is(status, NODE_ACCESS_READY, "False")
                && failing.into_iter().any(|failing| failing.node == node && names_all(&failing.message))
        };
        let failed = async {
            reconfigure(namespace, &node, "s/config_path/#&/").await?;
            // A change of the plan makes the agents look.
            let patch = json!({"spec": {"hostnames": ["no-config-path.images.example"]}});
            namespace.merge::<Registry>(NAME, patch).await?;
            registry::observed(namespace, NAME, "the setting to be named", is_told).await?;
            pull::start_image(namespace, "pod", image, &[pull::PULL_SECRET]).await?;
            pull::fails(namespace, "pod").await
        };
        let failed = failed.await;
        reconfigure(namespace, &node, "s/#config_path/config_path/").await?;
        let words = failed?;
        ensure!(words.contains("lookup registry."), "{words}");
        granted(namespace, NAME).await?;
        pull::ends_well(namespace, "pod").await
    })
    .await
}

/// Has the agents put the credential provider into this directory of the nodes; into none if it is empty.
async fn credential_provider_in(directory: &str) -> anyhow::Result<()> {
    let mut upgrade = Command::new("helm");
    let chart = format!("{}/../charts/windlass", env!("CARGO_MANIFEST_DIR"));
    upgrade.args(["upgrade", "windlass", &chart, "--namespace", SYSTEM_NAMESPACE, "--reuse-values"]);
    upgrade.args(["--set", &format!("nodeAgent.credentialProviderDirectory={directory}"), "--wait"]);
    run_command(&mut upgrade).await.map(drop)
}

/// Pushes the image from a Pod of the `ServiceAccount` `builder`, with the token that is projected into it, as CI would.
async fn push_from_a_pod(namespace: &Namespace, repository: &str) -> anyhow::Result<()> {
    let host = format!("{NAME}.{}.svc:5000", namespace.name);
    let script = format!(
        "cd /programs; ./crane auth login {host} --username token --password-stdin </registry/token
         ./crane push /image {host}/{repository}:v1"
    );
    let token = json!({"serviceAccountToken": {"path": "token", "audience": AUDIENCE}});
    let authority =
        json!({"secret": {"name": names::tls_secret(NAME), "items": [{"key": "ca.crt", "path": "ca.crt"}]}});
    let mount = |name: &str| json!({"name": name, "mountPath": format!("/{name}")});
    // The nodes' disk is this machine's.
    let directory = |name: &str, path: &Path| json!({"name": name, "hostPath": {"path": path}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "builder"},
        "spec": {
            "serviceAccountName": "builder",
            "restartPolicy": "Never",
            "containers": [{
                "name": "crane", "image": busybox_image(), "command": ["sh", "-euc", script],
                "env": [{"name": "SSL_CERT_FILE", "value": "/registry/ca.crt"}, {"name": "HOME", "value": "/tmp"}],
                "volumeMounts": [mount("registry"), mount("programs"), mount("image")],
            }],
            "volumes": [
                {"name": "registry", "projected": {"sources": [token, authority]}},
                directory("programs", &directory_of("crane")?), directory("image", hello::layout().await?),
            ],
        },
    });
    pod::run(namespace, pod).await.map(drop)
}

/// Where on `PATH` a program is.
fn directory_of(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    let found = std::env::split_paths(&path).find(|directory| directory.join(program).exists());
    found.with_context(|| format!("{program} is not on PATH"))
}

#[tokio::test]
async fn a_service_account_pushes_with_its_token_and_pods_pull_with_nothing_else() -> Outcome {
    with_namespace("secretless", async |namespace| {
        // Kubelets do not start without it, so the agents come though no Registry asks for them.
        credential_provider_in(PROVIDER).await?;
        for node in nodes(namespace).await? {
            let is_installed = |report: &NodeAccess| {
                let conditions = report.status.iter().flat_map(|status| &status.conditions);
                conditions.into_iter().any(|condition| {
                    condition.type_ == CREDENTIAL_PROVIDER_INSTALLED && condition.status == "True"
                })
            };
            wait::until(&system::api::<NodeAccess>(&namespace.client), &node, "the credential provider to be installed", is_installed).await?;
        }

        let mut spec = registry::spec();
        spec["auth"] = json!({
            // What the kubelets ask for tokens for.
            "kubernetes": {"audience": AUDIENCE},
            "rules": [
                {"subjects": [{"kind": "ServiceAccount"}], "repositories": ["{namespace}/**"], "actions": ["pull", "push"]},
            ],
        });
        registry::apply(namespace, NAME, spec).await?;
        registry::ready(namespace, NAME).await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}});
        namespace.apply(account).await?;
        let own = format!("{}/hello", namespace.name);

        let (_forward, anybody) = registry::reach(namespace, NAME).await?;
        let for_others = token(namespace, "builder", "somebody.else").await?;
        let refused = e2e::oci::push(&anybody.with_user(USER, &for_others), &own, "v1", "layer").await;
        ensure!(format!("{refused:?}").contains("401 Unauthorized"), "{refused:?}");

        let token = token(namespace, "builder", AUDIENCE).await?;
        let (_forward, anybody) = registry::reach(namespace, NAME).await?;
        let refused = e2e::oci::push(&anybody.with_user(USER, &token), "elsewhere/hello", "v1", "layer").await;
        ensure!(format!("{refused:?}").contains("403 Forbidden"), "{refused:?}");
        push_from_a_pod(namespace, &own).await?;

        grant(namespace, NAME).await?;
        pull::start_from(namespace, &own, "pod", &[]).await?;
        pull::ends_well(namespace, "pod").await?;
        pull::start_from(namespace, "elsewhere/hello", "stranger", &[]).await?;
        pull::is_refused(namespace, "stranger", pull::Refusal::Forbidden).await?;

        namespace.api::<Registry>().delete(NAME, &DeleteParams::default()).await?;
        wait::gone(&namespace.api::<Registry>(), NAME).await?;
        credential_provider_in("").await?;
        wait::gone(&system::api::<DaemonSet>(&namespace.client), names::NODE_AGENT).await?;
        let look = format!("ls -A {}", PROVIDER.replace("/etc", "/node"));
        for node in nodes(namespace).await? {
            wait::eventually("the credential provider to be gone", async || {
                let left = run_on(namespace, &node, &look).await?;
                ensure!(left.is_empty(), "on {node} there is: {left}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}
