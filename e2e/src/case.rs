//! A test in a namespace of its own, which explains the test's failure before it goes.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, anyhow};
use futures::FutureExt;
use k8s_openapi::api::core::v1;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::recorder::Recorder;
use crate::{cluster, explain};

/// What is wrong, and the state of the namespace in which it went wrong.
pub struct Failure(String);

impl fmt::Debug for Failure {
    /// The text as it is: this is what the test runner prints.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// Result of a test.
pub type Outcome = Result<(), Failure>;

/// Runs `body` in a new namespace and deletes that.
///
/// Every status that a Registry or a policy has there meanwhile must follow the rules of [`crate::recorder`].
///
/// # Errors
/// What `body` returns or panics with, together with the state of the namespace. With `WINDLASS_KEEP` set, the namespace
/// of a failed test is kept.
pub async fn with_namespace(test: &str, body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>) -> Outcome {
    with_labelled_namespace(test, json!({}), body).await
}

/// [`with_namespace`] with labels on the namespace.
///
/// # Errors
/// As there.
pub async fn with_labelled_namespace(
    test: &str,
    labels: Value,
    body: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
) -> Outcome {
    let namespace = create(cluster::connect().await?, test, labels).await?;
    let recorder = Recorder::start(&namespace);
    let outcome = match AssertUnwindSafe(Box::pin(body(&namespace))).catch_unwind().await {
        Ok(outcome) => outcome.and_then(|()| recorder.verdict()),
        Err(panic) => Err(anyhow!("the test panicked: {}", words(panic.as_ref()))),
    };
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => Err(Failure(format!("{error:#}\n\n{}", explain::explain(&namespace).await))),
    };
    if outcome.is_ok() || std::env::var_os("WINDLASS_KEEP").is_none() {
        let namespaces = Api::<v1::Namespace>::all(namespace.client.clone());
        let deleted = namespaces.delete(&namespace.name, &DeleteParams::background()).await;
        deleted.context("delete the namespace")?;
    }
    outcome
}

async fn create(client: Client, test: &str, mut labels: Value) -> anyhow::Result<Namespace> {
    labels["windlass.dev/made-by"] = json!("e2e");
    let wanted = json!({"metadata": {"generateName": format!("e2e-{test}-"), "labels": labels}});
    let namespaces = Api::<v1::Namespace>::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &serde_json::from_value(wanted)?).await;
    let name = made.context("make a namespace; is the cluster of KUBECONFIG up?")?.name_any();
    Ok(Namespace { client, name })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(without words)")
}
