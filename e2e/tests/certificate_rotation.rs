//! Certificates are exchanged while clients and kubelets use the registry, and none of them notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::case::{Outcome, with_namespace};
use e2e::http::Client;
use e2e::namespace::Namespace;
use e2e::node_access::{self, HOSTS, nodes, run_on};
use e2e::registry::{self, NAME, PASSWORD};
use e2e::{oci, wait};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use operator::names;
use serde_json::json;

use crate::pull::{self, Image};
use crate::pull_access;

/// Pods and how often their containers were started again.
async fn servers(namespace: &Namespace) -> anyhow::Result<Vec<(Option<String>, i32)>> {
    let selector = ListParams::default().labels(&names::selector_text(NAME));
    let pods = namespace.api::<Pod>().list(&selector).await?;
    let restarts = |pod: &Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
        containers.unwrap_or_default().iter().map(|container| container.restart_count).sum()
    };
    Ok(pods.iter().map(|pod| (pod.uid(), restarts(pod))).collect())
}

/// Pulls in a loop until `stop`, and returns how often that went well.
async fn pull_until(client: Client, stop: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let pulls = AtomicUsize::new(0);
    while !stop.load(Ordering::Relaxed) {
        oci::pull(&client, "team/app", "v1").await?;
        pulls.fetch_add(1, Ordering::Relaxed);
    }
    Ok(pulls.into_inner())
}

/// Waits until the server presents a certificate other than `former`.
async fn presents_another_than(client: &Client, former: &str) -> anyhow::Result<()> {
    wait::eventually("another certificate", async || {
        let answer = client.get("/v2/").await?.expect(StatusCode::OK)?;
        ensure!(answer.serial != former, "the server still presents {former}");
        Ok(())
    })
    .await
}

/// Makes a new authority and returns what clients are to trust from then on: both.
async fn renew_authority(namespace: &Namespace) -> anyhow::Result<String> {
    let before = registry::authorities(namespace, NAME).await?;
    let secrets = namespace.api::<Secret>();
    secrets.delete(&names::authority_secret(NAME), &DeleteParams::default()).await?;
    let both = |secret: &Secret| {
        let bundle = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
        bundle.is_some_and(|bundle| {
            let text = String::from_utf8_lossy(&bundle.0);
            text.contains(before.trim()) && text.matches("BEGIN CERTIFICATE").count() == 2
        })
    };
    wait::until(&secrets, &names::tls_secret(NAME), "both authorities", both).await?;
    registry::authorities(namespace, NAME).await
}

#[tokio::test]
async fn no_request_fails_while_certificate_and_authority_are_exchanged() -> Outcome {
    with_namespace("rotation", async |namespace| {
        registry::quick(namespace).await?;
        let (forward, client) = registry::reach_as_user(namespace).await?;
        oci::push(&client, "team/app", "v1", "layer").await?;
        let before = servers(namespace).await?;
        let first = client.get("/v2/").await?.serial;

        // The new authority alone changes nothing for clients: the server's certificate is still good.
        let bundle = renew_authority(namespace).await?;
        let client = Client::trusting(forward.port, &bundle)?.with_user(registry::USER, registry::PASSWORD);
        assert_eq!(client.get("/v2/").await?.serial, first);

        let stop = Arc::new(AtomicBool::new(false));
        let pulling = tokio::spawn(pull_until(client.clone(), Arc::clone(&stop)));
        // A certificate that cannot be read is due at once, like one whose time has come.
        let broken = json!({"stringData": {"tls.crt": ""}});
        namespace.merge::<Secret>(&names::tls_secret(NAME), broken).await?;
        presents_another_than(&client, &first).await?;
        oci::pull(&client, "team/app", "v1").await?;
        stop.store(true, Ordering::Relaxed);

        let pulls = pulling.await??;
        println!("{pulls} pulls went well meanwhile");
        ensure!(pulls > 0, "nothing was pulled meanwhile");
        assert_eq!(servers(namespace).await?, before, "the server was started again");
        Ok(())
    })
    .await
}

/// Runs Pods, each on the next node, until `stop`, and returns how many.
async fn run_pods_until(namespace: &Namespace, repository: &str, stop: &AtomicBool) -> anyhow::Result<usize> {
    let mut pods = 0;
    for node in nodes(namespace).await?.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let pod = format!("pod-{pods}");
        let image = Image { repository: Some(repository), node: Some(node), ..Image::default() };
        pull::start_image(namespace, &pod, image, &[]).await?;
        pull::ends_well(namespace, &pod).await.with_context(|| format!("after {pods} Pods"))?;
        pods += 1;
    }
    Ok(pods)
}

/// Exchanges the authority, the certificate and, by waiting, the passwords of pull secrets.
async fn exchange_all(namespace: &Namespace) -> anyhow::Result<()> {
    let password = pull_access::password(namespace, namespace).await?;
    renew_authority(namespace).await?;
    let count = format!("grep -c BEGIN {HOSTS}/{NAME}.{}.svc:5000/ca.crt", namespace.name);
    for node in nodes(namespace).await? {
        wait::eventually("the node to trust both authorities", async || {
            let found = run_on(namespace, &node, &count).await?;
            ensure!(found.trim() == "2", "there are {found}");
            Ok(())
        })
        .await?;
    }
    let (_forward, client) = registry::reach(namespace, NAME).await?;
    let former = client.with_user("any", &password);
    let first = former.get("/v2/").await?.expect(StatusCode::OK)?.serial;
    let broken = json!({"stringData": {"tls.crt": ""}});
    namespace.merge::<Secret>(&names::tls_secret(NAME), broken).await?;
    presents_another_than(&former, &first).await?;
    // The exchange of passwords is over when the former is worth nothing.
    while former.get("/v2/").await?.expect(StatusCode::OK).is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn no_pod_fails_to_pull_while_authority_certificate_and_passwords_are_exchanged() -> Outcome {
    with_namespace("pod-rotation", async |namespace| {
        pull_access::hub(namespace, &json!({"rotateEvery": "1m"})).await?;
        pull_access::select(namespace, namespace, true).await?;
        let repository = format!("{}/hello", namespace.name);
        pull::push_hello(namespace, &repository, PASSWORD).await?;
        node_access::grant(namespace, NAME).await?;
        pull_access::lists(namespace, "default", &[&pull_access::secret_name(namespace)]).await?;

        let stop = AtomicBool::new(false);
        let exchange = async {
            let outcome = exchange_all(namespace).await;
            stop.store(true, Ordering::Relaxed);
            outcome
        };
        let (pods, exchanged) = tokio::join!(run_pods_until(namespace, &repository, &stop), exchange);
        exchanged?;
        println!("{} Pods ran meanwhile", pods?);
        let events = namespace.api::<Event>().list(&ListParams::default()).await?;
        let is_about_pulls = |event: &&Event| {
            event.involved_object.name.as_deref().is_some_and(|name| name.starts_with("pod-"))
                && event.type_.as_deref() == Some("Warning")
        };
        let failures: Vec<_> = events.iter().filter(is_about_pulls).map(|event| &event.message).collect();
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_certificate_is_made_again_by_the_same_authority() -> Outcome {
    with_namespace("certificate", async |namespace| {
        registry::quick(namespace).await?;
        let (_forward, client) = registry::reach_as_user(namespace).await?;
        let first = client.get("/v2/").await?.serial;
        let secrets = namespace.api::<Secret>();
        secrets.delete(&names::tls_secret(NAME), &DeleteParams::default()).await?;
        presents_another_than(&client, &first).await
    })
    .await
}
