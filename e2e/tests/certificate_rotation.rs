//! Certificates are exchanged while clients use the registry, and none of them notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::ensure;
use e2e::http::Client;
use e2e::namespace::{Namespace, Outcome, with_namespace};
use e2e::registry::{self, NAME};
use e2e::{oci, wait};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use operator::names;
use serde_json::json;

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
